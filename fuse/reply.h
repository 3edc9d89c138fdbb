/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply - from what the archive says to what the kernel hears; the only place where errors
 * become the kernel's.
 *
 * Each reply_...() of a request is its answer; it is the last thing an operation does.
 *
 * What is shown of an entry that the archive does not hold (fuse/README.md, and the manual):
 * atime and ctime are mtime; a folder has size 0, no blocks and 1 link; a symlink has the
 * length of its target as size and no blocks; a file has its size in blocks of 512 bytes,
 * rounded up; everything else has size 0.
 */
#ifndef PXARFS_REPLY_H
#define PXARFS_REPLY_H

#include "fuse/request.h"

#include <sys/stat.h>

/* stat() of an entry.  -EOVERFLOW: it has a device number that the kernel cannot hold. */
int reply_stat(const struct tree_entry *e, uint64_t number, nlink_t names, struct stat *out);

/* The positive errno that the kernel gets for ours: whatever is wrong with the archive or the
 * way to it is EIO. */
int reply_code(int rc);

/* What a request is about, for messages. */
const char *reply_subject(const struct request *rq);

/* Fail the request; logs rq->err when that is not the caller's own doing. */
void reply_error(struct request *rq, int rc);

void reply_entry(struct request *rq, const struct fuse_entry_param *e);
void reply_attr(struct request *rq, const struct stat *st, double timeout);
void reply_readlink(struct request *rq, const char *target);
void reply_bytes(struct request *rq, const void *data, size_t size);
void reply_pieces(struct request *rq, const struct iovec *iov, size_t count);
void reply_ioctl(struct request *rq, const void *data, size_t size);

/* The rule of getxattr and listxattr: `room` 0 asks for the size, too little is ERANGE. */
void reply_xattr(struct request *rq, const void *data, size_t size, size_t room);

#endif
