/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of a mount of many snapshots.  What is in an archive has a slot in its number
 * and goes to ops_table's; the folders above the archives, images and blobs are here.
 *
 * Nothing here may be kept for ever but what is in a snapshot: names and attributes are good for
 * as long as the listing they come from, and a name that is not there is asked for again.
 *
 * Cookies: 0 is the start, 1 is behind ".", 2 behind "..", id + 2 behind the node of that id.
 */
#include "fuse/ops_repo.h"

#include "client/cmd/log.h"
#include "fuse/inode.h"
#include "fuse/reply.h"

#include <errno.h>
#include <string.h>

enum {
	FOLDER_MODE = S_IFDIR | 0555,
	FILE_MODE = S_IFREG | 0400, /* whole disks, and files that had their own owners */
	LINK_MODE = S_IFLNK | 0777,
	STATFS_BLOCK_SIZE = 4096,
	STAT_BLOCK_SIZE = 512,
	PATH_SIZE = 1024,
	/* How long an archive that cannot be opened is believed to be so. */
	BROKEN_SECONDS = 1,
};

static struct snaps *snaps_of(const struct request *rq)
{
	return rq->mount->snaps;
}

static struct repo_tree *tree_of(const struct request *rq)
{
	return snaps_tree(rq->mount->snaps);
}

/* --- nodes --- */

static bool is_folder(const struct node *node)
{
	return node->kind != NODE_IMAGE && node->kind != NODE_BLOB && node->kind != NODE_LINK;
}

static mode_t mode_of(const struct node *node)
{
	if (node->kind == NODE_LINK)
		return LINK_MODE;
	return is_folder(node) ? FOLDER_MODE : FILE_MODE;
}

/* An archive nobody has entered has none yet. */
static uint64_t number_of(const struct node *node)
{
	struct inode i = { .is_folder = is_folder(node), .offset = node->id };

	if (node->kind == NODE_ARCHIVE && !node->slot)
		return INODE_UNKNOWN;
	if (node->kind == NODE_ARCHIVE) {
		i.slot = node->slot;
		i.offset = 0;
	}
	return inode_encode(&i);
}

static int find_node(struct request *rq, struct node **out)
{
	struct inode i = inode_decode(rq->number);

	*out = i.slot ? NULL : repo_tree_node(tree_of(rq), i.offset);
	if (!*out || is_folder(*out) != i.is_folder)
		return err_set(&rq->err, ESTALE, "nobody has this number");
	return 0;
}

int ops_repo_or_fetch(struct request *rq, int rc)
{
	rq->wants_fetch = rc == -EAGAIN;
	return rc;
}

/* Whether a folder's children are known, as they are now. */
static int has_children(struct request *rq, struct node *node)
{
	int rc = repo_tree_has_children(tree_of(rq), node, &rq->want, &rq->err);

	if (rc == 0 && node->kind == NODE_SNAPSHOT)
		rc = snaps_has_files(snaps_of(rq), node, &rq->want, &rq->err);
	return ops_repo_or_fetch(rq, rc);
}

/* Whether all that stat() tells of a node is known; under the tree's lock. */
static bool is_known(const struct node *node)
{
	switch (node->kind) {
	case NODE_NS:
		return node->was_listed;
	case NODE_BLOB:
		return node->u.file.size != UINT64_MAX;
	default:
		return node->kind != NODE_ARCHIVE;
	}
}

void ops_repo_stat(struct request *rq, const struct node *node, struct fuse_entry_param *out)
{
	double timeout = repo_tree_timeout(tree_of(rq), node);
	const struct node *changes = node;
	struct stat *st = &out->attr;

	*out = (struct fuse_entry_param){ .ino = number_of(node),
					  .attr_timeout = timeout,
					  .entry_timeout = timeout };
	st->st_ino = out->ino;
	st->st_mode = mode_of(node);
	st->st_nlink = 1;
	st->st_uid = geteuid();
	st->st_gid = getegid();
	while (changes->kind == NODE_VERSIONS)
		changes = changes->parent;
	st->st_mtim.tv_sec = changes->mtime_ns / 1000000000;
	st->st_mtim.tv_nsec = changes->mtime_ns % 1000000000;
	st->st_atim = st->st_ctim = st->st_mtim;
	if (is_folder(node)) {
		st->st_blksize = SESSION_FOLDER_BLOCK_SIZE;
	} else if (node->kind == NODE_LINK) {
		st->st_size = (off_t)strlen(node->stored);
	} else if (is_known(node)) {
		st->st_size = (off_t)node->u.file.size;
		st->st_blocks = st->st_size / STAT_BLOCK_SIZE +
				(st->st_size % STAT_BLOCK_SIZE != 0);
	}
	guise_apply(&rq->mount->guise, st);
}

/* --- an archive's root, seen from its snapshot --- */

int ops_repo_open(struct request *rq, struct node *archive, const struct tree **tree)
{
	struct shown *shown;

	if (!rq->shown) {
		int rc = snaps_enter(snaps_of(rq), archive, &shown, &rq->want, &rq->err);
		if (rc < 0)
			return ops_repo_or_fetch(rq, rc);
		request_show(rq, shown);
	}
	return ops_tree(rq, tree);
}

static int describe_root(struct request *rq, struct node *archive, struct fuse_entry_param *out)
{
	const struct tree *tree;
	struct tree_dir dir;
	int rc = ops_repo_open(rq, archive, &tree);

	if (rc == 0)
		rc = tree_dir_open(tree, &rq->meta.base, tree->meta_size, &dir, &rq->err);
	if (rc == 0)
		rc = tree_dir_entry(tree, &rq->meta.base, &dir, &rq->entry, &rq->err);
	return rc < 0 ? rc : ops_describe(rq, tree, out);
}

/* One that cannot be opened is a folder all the same: what is beside it must be usable, and who
 * goes into it gets the error. */
static int describe_broken(struct request *rq, struct node *archive,
			   struct fuse_entry_param *out)
{
	char path[PATH_SIZE];
	uint32_t slot;
	int rc = snaps_slot(snaps_of(rq), archive, 0, &slot, &rq->err);

	if (rc < 0)
		return rc;
	repo_tree_path(archive, path, sizeof(path));
	log_warn("%s cannot be opened: %s", path, err_text(&rq->err, rq->failure));
	repo_tree_lock(tree_of(rq));
	ops_repo_stat(rq, archive, out);
	repo_tree_unlock(tree_of(rq));
	out->attr_timeout = out->entry_timeout = BROKEN_SECONDS;
	return 0;
}

static int describe_archive(struct request *rq, struct node *archive,
			    struct fuse_entry_param *out)
{
	if (!rq->failure) {
		int rc;

		rq->takes_failure = true;
		rc = describe_root(rq, archive, out);
		if (rc == 0 || rc == -EAGAIN)
			return rc;
		rq->failure = rc;
	}
	if (rq->failure == -ESTALE || rq->failure == -ECANCELED || rq->failure == -ENOMEM ||
	    rq->failure == -ENFILE)
		return rq->failure;
	return describe_broken(rq, archive, out);
}

/* What stat() tells of a node that is known to be there. */
static int describe(struct request *rq, struct node *node, struct fuse_entry_param *out)
{
	uint64_t size;
	int rc = 0;

	if (node->kind == NODE_ARCHIVE)
		return describe_archive(rq, node, out);
	if (node->kind == NODE_NS)
		rc = repo_tree_has_children(tree_of(rq), node, &rq->want, &rq->err);
	if (node->kind == NODE_BLOB)
		rc = snaps_blob_size(snaps_of(rq), node, &size, &rq->want);
	if (rc < 0)
		return ops_repo_or_fetch(rq, rc);
	repo_tree_lock(tree_of(rq));
	ops_repo_stat(rq, node, out);
	repo_tree_unlock(tree_of(rq));
	return 0;
}

/* --- lookup, getattr, readlink --- */

static struct node *find_child(struct request *rq, struct node *folder, const char *name)
{
	struct node *child;

	repo_tree_lock(tree_of(rq));
	child = repo_tree_child(tree_of(rq), folder, name);
	if (!child && folder->kind == NODE_GROUP && strcmp(name, REPO_TREE_VERSIONS) == 0)
		child = repo_tree_add(tree_of(rq), folder, NODE_VERSIONS, name, NULL);
	if (folder->kind == NODE_NS && (!child || child->kind == NODE_LINK))
		child = repo_tree_alias(tree_of(rq), folder, name);
	repo_tree_unlock(tree_of(rq));
	return child;
}

static int run_lookup(struct request *rq)
{
	const char *name = (const char *)rq->name.data;
	struct fuse_entry_param e;
	struct node *node, *child;
	int rc = find_node(rq, &node);

	if (rc == 0)
		rc = has_children(rq, node);
	if (rc < 0)
		return rc;
	if (node->kind == NODE_VERSIONS)
		return ops_versions_lookup(rq, node);
	child = find_child(rq, node, name);
	if (!child)
		return -ENOENT;
	rc = describe(rq, child, &e);
	if (rc == 0)
		reply_entry(rq, &e);
	return rc;
}

static void op_lookup(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
	struct request *rq;

	if (inode_decode(parent).slot) {
		ops_table.lookup(fuse, parent, name);
		return;
	}
	rq = ops_request(fuse, "lookup", run_lookup, parent, MOUNT_LOOKUP);
	if (rq)
		ops_go_named(rq, name);
}

/* The root is there whatever the repository says: df, and who looks at the mount point from outside,
 * need not wait for its first listing. */
static bool describe_unlisted_root(struct request *rq, const struct node *node,
				   struct fuse_entry_param *out)
{
	bool unlisted;

	repo_tree_lock(tree_of(rq));
	unlisted = node->kind == NODE_NS && !node->parent && !node->was_listed;
	if (unlisted)
		ops_repo_stat(rq, node, out);
	repo_tree_unlock(tree_of(rq));
	out->attr_timeout = unlisted ? 0 : out->attr_timeout;
	return unlisted;
}

static int run_getattr(struct request *rq)
{
	struct fuse_entry_param e = { 0 };
	struct node *node;
	int rc = find_node(rq, &node);

	if (rc == 0 && describe_unlisted_root(rq, node, &e)) {
		reply_attr(rq, &e.attr, e.attr_timeout);
		return 0;
	}
	if (rc == 0)
		rc = ops_repo_or_fetch(rq, repo_tree_is_fresh(tree_of(rq), node, &rq->want, &rq->err));
	if (rc == 0)
		rc = describe(rq, node, &e);
	if (rc == 0)
		reply_attr(rq, &e.attr, e.attr_timeout);
	return rc;
}

static void op_getattr(fuse_req_t fuse, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct request *rq;

	if (inode_decode(number).slot) {
		ops_table.getattr(fuse, number, fi);
		return;
	}
	rq = ops_request(fuse, "getattr", run_getattr, number, MOUNT_GETATTR);
	if (rq)
		request_go(rq);
}

static int run_readlink(struct request *rq)
{
	struct node *node;
	int rc = find_node(rq, &node);

	if (rc < 0)
		return rc;
	if (node->kind != NODE_LINK)
		return -EINVAL;
	reply_readlink(rq, node->stored);
	return 0;
}

static void op_readlink(fuse_req_t fuse, fuse_ino_t number)
{
	struct request *rq;

	if (inode_decode(number).slot) {
		ops_table.readlink(fuse, number);
		return;
	}
	rq = ops_request(fuse, "readlink", run_readlink, number, MOUNT_READLINK);
	if (rq)
		request_go(rq);
}

/* --- listing --- */

/* False: the answer is full.  What is not known of a member is left to a look-up. */
static bool put_node(struct request *rq, const struct node *node)
{
	struct fuse_entry_param e;

	ops_repo_stat(rq, node, &e);
	if (!is_known(node))
		e.ino = 0;
	return ops_put_row(rq, node->name, &e, node->id + OPS_REPO_DOTS_COUNT);
}

static void fill(struct request *rq, const struct node *folder)
{
	struct node *node;

	for (; rq->offset < OPS_REPO_DOTS_COUNT; rq->offset++)
		if (!ops_put_dots(rq, rq->offset))
			return;
	repo_tree_lock(tree_of(rq));
	for (;;) {
		node = repo_tree_after(tree_of(rq), folder, rq->offset - OPS_REPO_DOTS_COUNT);
		if (!node || (!repo_tree_is_hidden(node) && !put_node(rq, node)))
			break;
		rq->offset = node->id + OPS_REPO_DOTS_COUNT;
	}
	repo_tree_unlock(tree_of(rq));
}

static int run_list(struct request *rq)
{
	struct node *node;
	int rc = find_node(rq, &node);

	if (rc == 0)
		rc = has_children(rq, node);
	if (rc == 0 && node->kind == NODE_VERSIONS)
		return ops_versions_list(rq, node);
	if (rc < 0)
		return rc;
	if (!wbuf_reserve(&rq->out, rq->size))
		return -ENOMEM;
	fill(rq, node);
	reply_bytes(rq, rq->out.data, rq->out.size);
	return 0;
}

static void op_readdir(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	if (inode_decode(number).slot)
		ops_readdir(fuse, number, size, offset, fi);
	else
		ops_list(ops_request(fuse, "readdir", run_list, number, MOUNT_READDIR), size,
			 offset, false);
}

static void op_readdirplus(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
			   struct fuse_file_info *fi)
{
	if (inode_decode(number).slot)
		ops_readdirplus(fuse, number, size, offset, fi);
	else
		ops_list(ops_request(fuse, "readdirplus", run_list, number, MOUNT_READDIRPLUS),
			 size, offset, true);
}

/* --- read --- */

static int read_blob(struct request *rq, struct node *blob, size_t size)
{
	if (!rq->held || rq->held->size == 0) {
		snaps_blob_want(snaps_of(rq), blob, &rq->want);
		return ops_repo_or_fetch(rq, -EAGAIN);
	}
	reply_bytes(rq, rq->held->data + rq->offset, size);
	return 0;
}

static int read_image(struct request *rq, struct node *image, size_t size)
{
	struct shown *shown;

	if (!rq->shown) {
		int rc = snaps_enter(snaps_of(rq), image, &shown, &rq->want, &rq->err);

		if (rc < 0)
			return ops_repo_or_fetch(rq, rc);
		request_show(rq, shown);
		stream_view_init(&rq->payload, snaps_image(shown));
		rq->has_payload = true;
	}
	return ops_reply_content(rq, &rq->payload, rq->offset, size);
}

static int run_read(struct request *rq)
{
	uint64_t size = 0, left;
	struct node *node;
	int rc = find_node(rq, &node);

	if (rc == 0 && (is_folder(node) || node->kind == NODE_LINK))
		return -EINVAL;
	if (rc == 0)
		rc = ops_repo_or_fetch(rq, snaps_blob_size(snaps_of(rq), node, &size, &rq->want));
	if (rc < 0)
		return rc;
	left = rq->offset < size ? size - rq->offset : 0;
	if (left > rq->size)
		left = rq->size;
	if (left == 0)
		reply_bytes(rq, NULL, 0);
	else
		rc = node->kind == NODE_BLOB ? read_blob(rq, node, left) :
					       read_image(rq, node, left);
	if (rc == 0)
		mount_count(rq->mount, MOUNT_READ_BYTES, left);
	return rc;
}

static void op_read(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	struct request *rq;

	if (inode_decode(number).slot) {
		ops_read(fuse, number, size, offset, fi);
		return;
	}
	rq = ops_request(fuse, "read", run_read, number, MOUNT_READ);
	if (!rq)
		return;
	rq->size = size < OPS_READ_SIZE_MAX ? size : OPS_READ_SIZE_MAX;
	rq->offset = (uint64_t)offset;
	request_go(rq);
}

/* --- what never leaves the process --- */

/* Listings of folders that change are kept while their mtime stays the same. */
static void op_init(void *user, struct fuse_conn_info *conn)
{
	ops_table.init(user, conn);
	conn->want |= conn->capable & FUSE_CAP_AUTO_INVAL_DATA;
}

static void op_statfs(fuse_req_t fuse, fuse_ino_t number)
{
	struct statvfs st = { .f_bsize = STATFS_BLOCK_SIZE,
			      .f_frsize = STATFS_BLOCK_SIZE,
			      .f_blocks = 1, /* df leaves out what has none */
			      .f_flag = ST_RDONLY,
			      .f_namemax = 255 };

	(void)number;
	mount_count(fuse_req_userdata(fuse), MOUNT_STATFS, 1);
	fuse_reply_statfs(fuse, &st);
}

static void op_open(fuse_req_t fuse, fuse_ino_t number, struct fuse_file_info *fi)
{
	ops_table.open(fuse, number, fi);
}

static void op_opendir(fuse_req_t fuse, fuse_ino_t number, struct fuse_file_info *fi)
{
	ops_table.opendir(fuse, number, fi);
}

static void op_getxattr(fuse_req_t fuse, fuse_ino_t number, const char *name, size_t size)
{
	if (inode_decode(number).slot)
		ops_getxattr(fuse, number, name, size);
	else
		fuse_reply_err(fuse, ENODATA);
}

static void op_listxattr(fuse_req_t fuse, fuse_ino_t number, size_t size)
{
	if (inode_decode(number).slot)
		ops_listxattr(fuse, number, size);
	else if (size == 0)
		fuse_reply_xattr(fuse, 0);
	else
		fuse_reply_buf(fuse, NULL, 0);
}

static void op_ioctl(fuse_req_t fuse, fuse_ino_t number, unsigned command, void *arg,
		     struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
		     size_t out_size)
{
	if (inode_decode(number).slot)
		ops_ioctl(fuse, number, command, arg, fi, flags, in, in_size, out_size);
	else
		fuse_reply_err(fuse, ENOTTY);
}

const struct fuse_lowlevel_ops ops_repo_table = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.open = op_open,
	.opendir = op_opendir,
	.statfs = op_statfs,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.read = op_read,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.ioctl = op_ioctl,
};
