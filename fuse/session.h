/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session - the connection to the kernel: which features we ask of it, and how it is mounted.
 *
 * Every file here that speaks libfuse includes this header and not libfuse's own, so that one
 * FUSE_USE_VERSION holds for all.
 *
 * Owner:   a session is released with session_release(), after its loop was freed.
 * Threads: one owner at a time; session_abort() from any, while that one neither makes nor releases
 *          it.
 */
#ifndef PXARFS_SESSION_H
#define PXARFS_SESSION_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 312
#endif

#include "archive/base/err.h"
#include "fuse/mount_opts.h"

#include <fuse_lowlevel.h>

#include <stdbool.h>
#include <sys/types.h>

/* The timeout of what never changes, in seconds. */
#define SESSION_ENDLESS 1e9

enum {
	/* The longest name every kernel takes in a listing (newer ones would take 4095): a
	 * longer one makes it refuse the whole answer. */
	SESSION_NAME_SIZE_MAX = 1024,
	/* readlink() has a page for the target and its NUL. */
	SESSION_TARGET_SIZE_MAX = 4095,
	/* st_blksize of folders: the size of opendir()'s buffer, and so (since Linux 6.16) of a
	 * READDIR: a large folder is listed in a quarter of the requests. */
	SESSION_FOLDER_BLOCK_SIZE = 128 << 10,
};

struct session {
	struct fuse_session *fuse; /* NULL: none */
	bool mounted;
	const char *mount_point; /* lent; from session_mount() on, as the next */
	dev_t device; /* of the mount; 0: not known */
};

/* To be called from the init operation: asks for what an unchanging, read-only tree needs. */
void session_want(struct fuse_conn_info *conn);

/* A session over `ops` that is not mounted yet.  `source` and `subtype` are what /proc/mounts
 * shows. */
int session_new(struct session *s, const struct mount_opts *opts, const char *source,
		const char *subtype, const struct fuse_lowlevel_ops *ops, void *user,
		struct err *err);

/* Mount it; an ordinary user goes through fusermount3, which libfuse runs.  `mount_point` is
 * absolute, without symbolic links, and outlives the session. */
int session_mount(struct session *s, const char *mount_point, struct err *err);

/* End every request that is in the kernel, and with them what waits for one.  The descriptor need
 * not be free for that, and the mount need not be idle; it is detached.  -EPERM: an ordinary user,
 * where there is no fusectl file system. */
int session_abort(const struct session *s);

/* Take away mounts of ours on `mount_point` whose connection has ended.  0, or a negative errno. */
int session_clear_dead(const char *mount_point);

/* Close the connection (every request in the kernel ends) and unmount lazily unless somebody else
 * unmounted already.  Nobody may be telling the kernel something: it waits for them. */
void session_unmount(struct session *s);

/* Unmount, free.  Nothing may use the session any more. */
void session_release(struct session *s);

#endif
