/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats - what a mount counts, as a line for the log and as Prometheus' text.
 *
 * One table (stats.c) has a row for each number: its name in the log, its metric; the manual,
 * fuse/mount.pxarfs.8, explains them.
 *
 * Threads: any number; numbers of different parts may be a moment apart.
 */
#ifndef PXARFS_STATS_H
#define PXARFS_STATS_H

#include "archive/base/wbuf.h"
#include "client/read/disk_cache.h"
#include "client/read/fetch.h"
#include "fuse/mount.h"

enum { STATS_TEXT_SIZE_MAX = 64 << 10 };

/* Where the numbers come from; lent. */
struct stats_sources {
	struct mount *mount;
	struct chunk_cache *cache;
	struct disk_cache *disk; /* NULL: none, its numbers are left out */
	struct fetch *fetch;
	struct idle_poll *idle_poll; /* NULL: none */
};

/* Append "name=number name=number" without a NUL.  0 or out->failed. */
int stats_line(const struct stats_sources *from, struct wbuf *out);

/* Append all metrics, each with the mount point as a label, so that the files of several
 * mounts can lie side by side; pxarfs_up says whether it is served.  0 or out->failed. */
int stats_metrics(const struct stats_sources *from, const char *mount_point, bool up,
		  struct wbuf *out);

#endif
