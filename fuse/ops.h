/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops - the operations the kernel asks for, over archive/tree.h.
 *
 * An operation copies its arguments into a request and runs; what it needs of the archive it
 * reads through views that never wait (request.h says what then happens).  Nothing is kept
 * between requests but what dir_cache, chunk_cache and nlink keep.
 *
 *	ops.c        lookup, getattr, readlink, statfs, open
 *	ops_dir.c    readdir, readdirplus
 *	ops_handle.c lookup of "." and "..", for file handles
 *	ops_read.c   read
 *	ops_repo.c   all of them, for a mount of many snapshots: what is not in an archive
 *	ops_xattr.c  getxattr, listxattr, ioctl (inode flags, project id)
 */
#ifndef PXARFS_OPS_H
#define PXARFS_OPS_H

#include "fuse/mount.h"

/* The session's user data: struct mount. */
extern const struct fuse_lowlevel_ops ops_table; /* of one archive */
extern const struct fuse_lowlevel_ops ops_repo_table; /* of mount->snaps */

/* --- for its siblings --- */

/* The archive's tree; -EAGAIN. */
int ops_tree(struct request *rq, const struct tree **tree);

/* Where the folder that the request's inode number means ends; -ESTALE: it means none. */
int ops_folder_end(struct request *rq, const struct tree *tree, uint64_t *end);

/* Whether an opened folder begins where it was shown (starts.h); -EBADMSG. */
int ops_check_start(struct request *rq, const struct tree_dir *dir);

/* Read the entry that the request's inode number means into rq->entry. */
int ops_read_entry(struct request *rq);

/* The inode number of an entry that the tree of the request's archive gave. */
uint64_t ops_number(const struct request *rq, const struct tree *tree,
		    const struct tree_entry *e);

/* Somebody goes on below the root of the archive: count its links. */
void ops_went_below(struct request *rq);

/* All that the kernel wants to know of an entry: rq->entry as `out`.  -EAGAIN: its count of
 * links will be known soon. */
int ops_describe(struct request *rq, const struct tree *tree, struct fuse_entry_param *out);

struct request *ops_request(fuse_req_t fuse, const char *what, request_run *run,
			    fuse_ino_t number, enum mount_count count);

/* Start a request that is about a name; it may be answered then. */
void ops_go_named(struct request *rq, const char *name);

/* The request of a look-up of "." or "..". */
int ops_run_handle(struct request *rq);

/* Append one row to a listing's answer, behind which it goes on with `cookie`; false: it is
 * full.  ops_put_dots(): "." (0) or ".." (1). */
bool ops_put_row(struct request *rq, const char *name, struct fuse_entry_param *e,
		 uint64_t cookie);
bool ops_put_dots(struct request *rq, uint64_t k);

/* Run a listing (NULL: there was no memory). */
void ops_list(struct request *rq, size_t size, off_t offset, bool plus);

enum { OPS_READ_SIZE_MAX = 4 << 20 }; /* more than the kernel ever asks for */

/* Answer a READ with bytes of a view.  -EAGAIN. */
int ops_reply_content(struct request *rq, struct stream_view *view, uint64_t from, size_t size);

void ops_readdir(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
		 struct fuse_file_info *fi);
void ops_readdirplus(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
		     struct fuse_file_info *fi);
void ops_read(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
	      struct fuse_file_info *fi);
void ops_getxattr(fuse_req_t fuse, fuse_ino_t number, const char *name, size_t size);
void ops_listxattr(fuse_req_t fuse, fuse_ino_t number, size_t size);
void ops_ioctl(fuse_req_t fuse, fuse_ino_t number, unsigned command, void *arg,
	       struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
	       size_t out_size);

/* The name under which a folder shows a member whose own name cannot be read or passed on:
 * a reader of the folder must notice that there is something. */
enum { OPS_STAND_IN_SIZE = 64 };
void ops_stand_in_name(uint64_t filename_offset, char out[OPS_STAND_IN_SIZE]);
bool ops_is_stand_in_name(const char *name);

#endif
