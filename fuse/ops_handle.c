/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Look-ups of "." and "..": with -o export the kernel takes inode numbers out of file handles,
 * which come from anybody and may be older than this process.  So a number is proved by going
 * down to it from the root, which gives its parent, too; one that leads nowhere is ESTALE.
 * That it is of this very archive the kernel sees by the generation that goes with it.
 */
#include "fuse/ops.h"

#include "fuse/descend.h"
#include "fuse/inode.h"
#include "fuse/reply.h"

#include <string.h>

static int stale(struct request *rq)
{
	return err_set(&rq->err, ESTALE, "no entry has that number");
}

/* The folder that the request's number is a member of, with a reference, and the member's own
 * entry.  The root of the mount is its own parent. */
static int find(struct request *rq, const struct tree *tree, struct folder **out)
{
	struct descend d = { .folders = rq->mount->folders,
			     .tree = tree,
			     .slot = rq->shown->slot,
			     .meta = &rq->meta,
			     .window = &rq->window,
			     .entry = &rq->entry };
	struct inode wanted = inode_decode(rq->number);
	size_t index;
	int rc;

	if (!wanted.is_folder || wanted.offset != 0 || wanted.slot != d.slot) {
		rc = descend_to(&d, rq->number, out, &index, &rq->err);
		return rc == -ENOENT ? stale(rq) : rc;
	}
	*out = dir_cache_get(d.folders, rq->number);
	rc = *out ? 0 : dir_cache_read(d.folders, rq->number, tree, d.meta, tree->meta_size, out,
				       &rq->err);
	return rc < 0 ? rc : tree_dir_entry(tree, &d.meta->base, &(*out)->dir, d.entry, &rq->err);
}

int ops_run_handle(struct request *rq)
{
	bool parent = strcmp((const char *)rq->name.data, "..") == 0;
	struct folder *folder = NULL;
	struct fuse_entry_param e;
	const struct tree *tree;
	int rc = ops_tree(rq, &tree);

	if (rc == 0)
		rc = find(rq, tree, &folder);
	if (rc == 0 && folder->dir.end != tree->meta_size)
		nlink_start(rq->shown->nlink, rq->mount, rq->shown->slot);
	if (rc == 0 && parent)
		rc = tree_dir_entry(tree, &rq->meta.base, &folder->dir, &rq->entry, &rq->err);
	if (rc == 0)
		rc = ops_describe(rq, tree, &e);
	folder_unref(folder);
	if (rc == 0)
		reply_entry(rq, &e);
	return rc;
}
