/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve - the life of a mount in the process that serves it: set up, serve, tear down.
 */
#ifndef PXARFS_SERVE_H
#define PXARFS_SERVE_H

#include "archive/base/err.h"
#include "archive/crypt.h"
#include "fuse/mount_opts.h"

/* What to mount.  Either a plain file, or of a repository: a snapshot's archive, a snapshot
 * with all it has, or all snapshots of a namespace and those below it. */
struct serve_params {
	const char *file; /* NULL: of a repository */
	const char *repository, *ns, *snapshot, *archive; /* as typed; NULL: all */
	const char *mount_point; /* absolute */
	struct mount_opts opts;
	struct crypt_key *key; /* NULL: none given; taken over by serve() */
	/* Called once the mount can be used, before any request waits for it.  May close
	 * standard error. */
	void (*ready)(void *arg);
	void (*stopping)(void *arg); /* called when the end begins, if it ever was ready */
	/* Called if it never was ready, when nothing is mounted (any more): why. */
	void (*failed)(void *arg, int rc, const struct err *err);
	void *arg;
};

/* Mount and serve until someone unmounts, or SIGTERM or SIGINT comes: 0.  A negative errno: it
 * never was ready, params->failed was told.  Does not return when something hangs at the end, or
 * when one of these signals comes before it is mounted, but ends the process, with EXIT_FAILED
 * if it never was ready. */
int serve(const struct serve_params *params);

#endif
