/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir_cache - folders that have been located and sorted: a bounded LRU shared by all requests.
 *
 * No folder is ever open (fuse/README.md), so each READDIR would have to find the goodbye
 * table and bring its slots into stream order again, and there is one for every 32 KiB of
 * names and one more for the end.  What is kept is that order, 32 bytes a member; the members
 * themselves are parsed where they stand in the chunk, for the answer at hand only: the kernel
 * keeps what it is told, so nobody asks twice, and a folder of a million members costs 32 MB
 * here, not 200.
 *
 * A member's place in the order never changes, so it is its cookie for READDIR too.
 *
 * Owner:   a folder is counted; release it with folder_unref().
 * Threads: any number.  A folder is immutable.
 * Bounds:  `bytes_max` for all folders that are kept.  One that is in use may be over it, up to
 *          `folder_bytes_max`: a table of millions of slots costs who makes it next to nothing.
 */
#ifndef PXARFS_DIR_CACHE_H
#define PXARFS_DIR_CACHE_H

#include "archive/base/cleanup.h"
#include "archive/tree.h"
#include "client/read/stream.h"

#include <stdatomic.h>
#include <sys/queue.h>

struct folder {
	uint64_t number; /* its inode number */
	struct tree_dir dir;
	/* the rest of the head is the cache's */
	atomic_uint refs;
	struct folder *hash_next; /* the cache's lock */
	TAILQ_ENTRY(folder) lru; /* the same */
	struct tree_slot slots[]; /* dir.member_count, in stream order */
};

void folder_unref(struct folder *f); /* NULL is fine */

struct dir_cache;
struct dir_cache *dir_cache_new(size_t bytes_max, size_t folder_bytes_max);
void dir_cache_free(struct dir_cache *c); /* folders in use stay good */
DEFINE_AUTO_PTR(dir_cache)

/* The folder with one more reference, or NULL. */
struct folder *dir_cache_get(struct dir_cache *c, uint64_t number);

/* Read the folder that ends at `dir_end` and keep it under `number`; *out has a reference.
 * -EAGAIN as in read_at.h, before anything large is allocated; -EBADMSG; -E2BIG: over
 * folder_bytes_max. */
int dir_cache_read(struct dir_cache *c, uint64_t number, const struct tree *tree,
		   struct stream_view *meta, uint64_t dir_end, struct folder **out,
		   struct err *err);

struct dir_cache_stats {
	uint64_t hits, misses;
	size_t bytes, count;
};
void dir_cache_stats(struct dir_cache *c, struct dir_cache_stats *out);

#endif
