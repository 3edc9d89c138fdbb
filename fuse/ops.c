/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/ops.h"

#include "client/cmd/log.h"
#include "fuse/inode.h"
#include "fuse/reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STAND_IN_PREFIX ".pxarfs-unreadable-"

enum {
	STATFS_BLOCK_SIZE = 4096,
	STATFS_NAME_MAX = 255,
	/* A root of more members is asked for while it is listed, in the order of the stream. */
	ROOT_AHEAD_COUNT = 64,
};

void ops_stand_in_name(uint64_t filename_offset, char out[OPS_STAND_IN_SIZE])
{
	snprintf(out, OPS_STAND_IN_SIZE, STAND_IN_PREFIX "%" PRIu64, filename_offset);
}

bool ops_is_stand_in_name(const char *name)
{
	size_t prefix = strlen(STAND_IN_PREFIX);

	return strncmp(name, STAND_IN_PREFIX, prefix) == 0 &&
	       strspn(name + prefix, "0123456789") == strlen(name + prefix) && name[prefix];
}

/* --- what all share --- */

struct request *ops_request(fuse_req_t fuse, const char *what, request_run *run,
			    fuse_ino_t number, enum mount_count count)
{
	struct mount *m = fuse_req_userdata(fuse);

	mount_count(m, count, 1);
	return request_new(m->requests, fuse, what, run, number);
}

void ops_go_named(struct request *rq, const char *name)
{
	if (wbuf_put(&rq->name, name, strlen(name) + 1) < 0)
		request_fail(rq, -ENOMEM);
	else
		request_go(rq);
}

int ops_tree(struct request *rq, const struct tree **tree)
{
	struct stream *meta = rq->meta.stream;
	int rc = archive_tree_try(rq->shown->archive, &rq->meta, tree, &rq->err);

	/* It needs both ends: ask for them together. */
	if (rc == -EAGAIN) {
		stream_hint(meta, 0, 1);
		stream_hint(meta, stream_size(meta) - 1, stream_size(meta));
	}
	return rc;
}

int ops_folder_end(struct request *rq, const struct tree *tree, uint64_t *end)
{
	struct inode i = inode_decode(rq->number);

	if (!i.is_folder || i.slot != rq->shown->slot)
		return err_set(&rq->err, ESTALE, "not a folder");
	*end = i.offset ? i.offset : tree->meta_size;
	return 0;
}

int ops_check_start(struct request *rq, const struct tree_dir *dir)
{
	uint64_t start = starts_get(&rq->mount->starts, rq->number);

	if (start && start != dir->entry_offset)
		return err_set(&rq->err, EBADMSG, "the folder shown at offset %" PRIu64
			       " begins at %" PRIu64, start, dir->entry_offset);
	return 0;
}

static int open_folder(struct request *rq, const struct tree *tree, struct tree_dir *out)
{
	uint64_t end = 0;
	int rc = ops_folder_end(rq, tree, &end);

	if (rc == 0)
		rc = tree_dir_open(tree, &rq->meta.base, end, out, &rq->err);
	return rc < 0 ? rc : ops_check_start(rq, out);
}

/* A folder's own entry does not need its table where its start is known. */
static int read_folder_entry(struct request *rq, const struct tree *tree)
{
	struct tree_dir dir = { 0 };
	int rc = ops_folder_end(rq, tree, &dir.end);

	if (rc < 0)
		return rc;
	dir.entry_offset = starts_get(&rq->mount->starts, rq->number);
	if (!dir.entry_offset)
		rc = open_folder(rq, tree, &dir);
	if (rc < 0)
		return rc;
	return tree_dir_entry(tree, &rq->meta.base, &dir, &rq->entry, &rq->err);
}

int ops_read_entry(struct request *rq)
{
	struct inode i = inode_decode(rq->number);
	const struct tree *tree;
	int rc = ops_tree(rq, &tree);

	if (rc < 0)
		return rc;
	if (!i.is_folder && i.slot == rq->shown->slot)
		return tree_entry_at(tree, &rq->meta.base, i.offset, &rq->entry, &rq->err);
	return read_folder_entry(rq, tree);
}

uint64_t ops_number(const struct request *rq, const struct tree *tree,
		    const struct tree_entry *e)
{
	struct inode i = { .slot = rq->shown->slot, .offset = e->entry_offset };

	if (metadata_is_directory(&e->meta)) {
		i.is_folder = true;
		i.offset = e->dir_end == tree->meta_size ? 0 : e->dir_end;
	}
	return inode_encode(&i);
}

/* Of an inode number, for file handles: other archives have the same numbers.  The root of the
 * mount has none, as the kernel knows it before we do. */
static uint64_t generation(const struct request *rq, uint64_t number)
{
	return number == INODE_ROOT ? 0 : stream_fingerprint(rq->meta.stream);
}

int ops_describe(struct request *rq, const struct tree *tree, struct fuse_entry_param *out)
{
	const struct tree_entry *e = &rq->entry;
	struct nlink_answer links = { .names = 1, .timeout = SESSION_ENDLESS };
	uint64_t number = ops_number(rq, tree, e);
	int rc;

	if ((e->meta.mode & PXAR_MODE_TYPE) == PXAR_MODE_REGULAR)
		links = nlink_get(rq->shown->nlink, e->entry_offset);
	if (links.wait) {
		rq->wants_links = true;
		return -EAGAIN;
	}
	*out = (struct fuse_entry_param){ .ino = number,
					  .generation = generation(rq, number),
					  .attr_timeout = links.timeout,
					  .entry_timeout = SESSION_ENDLESS };
	rc = reply_stat(e, number, links.names, &out->attr);
	if (rc < 0)
		return err_set(&rq->err, -rc, "device %" PRIu64 ":%" PRIu64
			       " is beyond what the kernel knows",
			       e->device_major, e->device_minor);
	guise_apply(&rq->mount->guise, &out->attr);
	if (e->dir_end)
		starts_set(&rq->mount->starts, number, e->entry_offset);
	return 0;
}

void ops_went_below(struct request *rq)
{
	if (inode_decode(rq->number).offset != 0)
		nlink_start(rq->shown->nlink, rq->mount, rq->shown->slot);
}

/* --- lookup, getattr, readlink --- */

static int run_lookup(struct request *rq)
{
	struct fuse_entry_param e = { .entry_timeout = SESSION_ENDLESS };
	const char *name = (const char *)rq->name.data;
	const struct tree *tree;
	struct tree_dir dir;
	int rc = ops_tree(rq, &tree);

	ops_went_below(rq);
	if (rc == 0)
		rc = open_folder(rq, tree, &dir);
	if (rc)
		return rc;
	plus_looked_up(&rq->mount->plus, dir.member_count);
	rc = tree_lookup(tree, &rq->meta.base, &dir, name, rq->name.size - 1, &rq->entry,
			 &rq->err);
	if (rc == -ENOENT && ops_is_stand_in_name(name))
		return err_set(&rq->err, EIO, "a member that cannot be read");
	if (rc == 0)
		rc = ops_describe(rq, tree, &e);
	else if (rc == -ENOENT)
		rc = 0; /* inode 0: there is none, and that may be remembered */
	if (rc == 0)
		reply_entry(rq, &e);
	return rc;
}

static void op_lookup(fuse_req_t fuse, fuse_ino_t parent, const char *name)
{
	bool is_dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
	struct request *rq = ops_request(fuse, "lookup", is_dots ? ops_run_handle : run_lookup,
					 parent, MOUNT_LOOKUP);

	if (rq)
		ops_go_named(rq, name);
}

/* Who asks for the root's attributes lists it next: as soon as the end of the stream has come,
 * its table says what that will read, while the stream's begin is still being decoded.  That end,
 * when it is missing, is what the request waits for first. */
static void hint_root_members(struct request *rq)
{
	uint64_t offsets[ROOT_AHEAD_COUNT];
	size_t count = 0;

	if (atomic_load_explicit(&rq->mount->root_was_hinted, memory_order_relaxed))
		return;
	if (tree_peek_members(&rq->meta.base, offsets, ROOT_AHEAD_COUNT, &count, NULL) < 0)
		return; /* what is wrong is told when the tree is opened */
	atomic_store_explicit(&rq->mount->root_was_hinted, true, memory_order_relaxed);
	for (size_t i = 0; i < count; i++)
		stream_hint(rq->meta.stream, offsets[i], offsets[i] + 1);
}

static int run_getattr(struct request *rq)
{
	struct fuse_entry_param e;
	const struct tree *tree;
	int rc = ops_tree(rq, &tree);

	if (rq->number == INODE_ROOT && (rc == 0 || rc == -EAGAIN))
		hint_root_members(rq);
	/* A file of the archive's root was told "2 links, for a second" if somebody asks again. */
	if (!inode_decode(rq->number).is_folder)
		ops_went_below(rq);
	if (rc == 0)
		rc = ops_read_entry(rq);
	if (rc == 0)
		rc = ops_describe(rq, tree, &e);
	if (rc)
		return rc;
	reply_attr(rq, &e.attr, e.attr_timeout);
	return 0;
}

static void op_getattr(fuse_req_t fuse, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct request *rq = ops_request(fuse, "getattr", run_getattr, number, MOUNT_GETATTR);

	(void)fi;
	if (rq)
		request_go(rq);
}

static int run_readlink(struct request *rq)
{
	int rc = ops_read_entry(rq);

	if (rc < 0)
		return rc;
	if ((rq->entry.meta.mode & PXAR_MODE_TYPE) != PXAR_MODE_SYMLINK)
		return -EINVAL;
	if (rq->entry.text.size - 1 > SESSION_TARGET_SIZE_MAX)
		return -ENAMETOOLONG;
	reply_readlink(rq, tree_entry_target(&rq->entry));
	return 0;
}

static void op_readlink(fuse_req_t fuse, fuse_ino_t number)
{
	struct request *rq = ops_request(fuse, "readlink", run_readlink, number, MOUNT_READLINK);

	if (rq)
		request_go(rq);
}

/* --- what never leaves the process --- */

static void op_init(void *user, struct fuse_conn_info *conn)
{
	struct mount *m = user;

	session_want(conn);
	if (m->exported && !(conn->capable & FUSE_CAP_EXPORT_SUPPORT))
		log_warn("the kernel does not export this mount");
	else if (m->exported)
		conn->want |= FUSE_CAP_EXPORT_SUPPORT;
	m->can_skip_open = conn->capable & FUSE_CAP_NO_OPEN_SUPPORT;
	m->can_skip_opendir = conn->capable & FUSE_CAP_NO_OPENDIR_SUPPORT;
	if (!(conn->want & FUSE_CAP_POSIX_ACL))
		log_warn("the kernel does not enforce ACLs on this mount");
	sem_post(&m->ready);
}

static void op_statfs(fuse_req_t fuse, fuse_ino_t number)
{
	struct mount *m = fuse_req_userdata(fuse);
	struct statvfs st = { .f_bsize = STATFS_BLOCK_SIZE,
			      .f_frsize = STATFS_BLOCK_SIZE,
			      .f_flag = ST_RDONLY,
			      .f_namemax = STATFS_NAME_MAX };
	struct stream *meta = archive_meta(m->single.archive), *payload;
	uint64_t bytes = stream_size(meta);

	(void)number;
	mount_count(m, MOUNT_STATFS, 1);
	if (archive_payload_try(m->single.archive, &payload, NULL) == 0 && payload != meta)
		bytes += stream_size(payload);
	st.f_blocks = bytes / STATFS_BLOCK_SIZE + 1;
	fuse_reply_statfs(fuse, &st);
}

/* ENOSYS, once: the kernel then opens by itself and keeps pages and listings for ever. */
static void op_open(fuse_req_t fuse, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct mount *m = fuse_req_userdata(fuse);

	(void)number;
	mount_count(m, MOUNT_OPEN, 1);
	if (m->can_skip_open) {
		fuse_reply_err(fuse, ENOSYS);
		return;
	}
	fi->keep_cache = 1;
	fi->noflush = 1;
	fuse_reply_open(fuse, fi);
}

static void op_opendir(fuse_req_t fuse, fuse_ino_t number, struct fuse_file_info *fi)
{
	struct mount *m = fuse_req_userdata(fuse);

	(void)number;
	mount_count(m, MOUNT_OPENDIR, 1);
	if (m->can_skip_opendir) {
		fuse_reply_err(fuse, ENOSYS);
		return;
	}
	fi->keep_cache = 1;
	fi->cache_readdir = 1;
	fuse_reply_open(fuse, fi);
}

const struct fuse_lowlevel_ops ops_table = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.open = op_open,
	.opendir = op_opendir,
	.statfs = op_statfs,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.read = ops_read,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.ioctl = ops_ioctl,
};
