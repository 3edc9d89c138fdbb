/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk_cache - verified, decoded chunks in memory: counted, bounded in bytes.
 *
 * One cache serves all archives of a process; a chunk is known by its digest (for plain files,
 * by a key of the same size that file and place make).  Entries in use are never evicted, so
 * the bound can be exceeded by what is held at one moment.  Sharded; each shard has its lock
 * and an LRU of its own.  Metadata chunks are kept over payload chunks.
 *
 * Threads: any number.
 */
#ifndef PXARFS_CHUNK_CACHE_H
#define PXARFS_CHUNK_CACHE_H

#include "archive/base/digest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum chunk_class { CHUNK_PAYLOAD, CHUNK_META };

/* A counted chunk: `data` stays valid until chunk_unref(). */
struct chunk {
	struct digest key;
	size_t size;
	uint8_t *data;
	/* the rest belongs to the cache */
	enum chunk_class class_;
	unsigned refs; /* atomic */
	bool cached; /* linked in its shard; the shard's lock */
	struct chunk *hash_next;
	struct chunk *lru_next, *lru_prev;
	struct chunk_cache *cache;
};

struct chunk_cache;
struct chunk_cache *chunk_cache_new(size_t bytes_max);
void chunk_cache_free(struct chunk_cache *c); /* no chunk may still be referenced */
DEFINE_AUTO_PTR(chunk_cache)

/* The chunk with one more reference, or NULL. */
struct chunk *chunk_cache_get(struct chunk_cache *c, const struct digest *key);

/* A new chunk with room for `size` bytes and one reference, not yet in the cache; -> NULL
 * without memory.  Fill `data`, then insert it. */
struct chunk *chunk_new(struct chunk_cache *c, const struct digest *key, size_t size,
			enum chunk_class class_);

/* Make it visible.  When the key is there already the old chunk wins: the reference of `fresh`
 * is given up and the old one returned with a reference.  May evict others. */
struct chunk *chunk_cache_insert(struct chunk_cache *c, struct chunk *fresh);

struct chunk *chunk_ref(struct chunk *chunk);
void chunk_unref(struct chunk *chunk); /* NULL is fine */

struct chunk_cache_stats {
	uint64_t hits, misses, evictions;
	size_t bytes, bytes_max, count;
};
void chunk_cache_stats(struct chunk_cache *c, struct chunk_cache_stats *out);

#endif
