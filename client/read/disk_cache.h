/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_cache - chunks as they came, in a folder: for repositories that are far away.
 *
 * What is kept is the stored form, so encrypted chunks stay encrypted, and nothing is believed:
 * who reads one back decodes it and compares its digest, as if it came from the repository
 * (client/read/stream.c).  So losing or damaging any of it costs time and nothing else.
 *
 *	DIR/			0700, of who mounts; otherwise it is refused
 *	    CACHEDIR.TAG	tells backups to leave it out
 *	    usage		bytes kept, as decimal text; its lock guards it
 *	    lock		of who makes room
 *	    5f/5f70bf18...	a chunk under its digest; mtime: when it was last used
 *	    5f/5f70...tmp_XXXXXX	one being written, or left by a crash: ages like the others
 *
 * Only files of such names are ever counted or removed.
 *
 * Bounds:  the files' sizes, in blocks of 4 KiB, together at most `bytes_max`; what several
 *          mounts are writing while one of them makes room may come on top.  Room is made a
 *          tenth at a time, the longest unused first, to a sixteenth of their age: so the
 *          work is a few file names for each chunk written, and needs no memory.
 * Threads: any number, and any number of processes.  A process that hangs holding a lock
 *          keeps others from writing, never from reading.
 * Crash:   nothing is synced; a file that is cut off or empty is a damaged one.
 */
#ifndef PXARFS_DISK_CACHE_H
#define PXARFS_DISK_CACHE_H

#include "archive/base/digest.h"
#include "archive/base/err.h"
#include "archive/base/wbuf.h"

struct disk_cache;

struct disk_cache_params {
	const char *path; /* made when it is missing, but not what it lies in */
	uint64_t bytes_max;
	/* Told when writing begins to fail, once until it works again; may be NULL.  On any
	 * thread. */
	void (*warn)(const char *text);
};

/* -EPERM: somebody else may enter the folder, or owns it. */
int disk_cache_open(struct disk_cache **out, const struct disk_cache_params *params,
		    struct err *err);
void disk_cache_free(struct disk_cache *d);
DEFINE_AUTO_PTR(disk_cache)

/* Append the stored form of a chunk, unproven.  -ENOENT: it is not there or cannot be read. */
int disk_cache_get(struct disk_cache *d, const struct digest *key, struct wbuf *encoded);

/* What disk_cache_get() gave is not the chunk: take it away. */
void disk_cache_drop(struct disk_cache *d, const struct digest *key);

/* Keep a chunk, if that is possible. */
void disk_cache_put(struct disk_cache *d, const struct digest *key, const void *encoded,
		    size_t size);

struct disk_cache_stats {
	uint64_t hits, misses;
	uint64_t damaged; /* hits that were none */
	uint64_t stored;
	uint64_t failures; /* chunks that could not be stored */
	uint64_t bytes; /* as this process last knew */
};
void disk_cache_stats(struct disk_cache *d, struct disk_cache_stats *out);

#endif
