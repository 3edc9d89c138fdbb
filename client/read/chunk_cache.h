/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk_cache - verified, decoded chunks in memory: counted, bounded in bytes.
 *
 * One cache serves all archives of a process; a chunk is known by its digest (for plain files,
 * by a key of the same size that file and place make).  Every chunk alive counts against the
 * bound, with its bookkeeping.  Chunks in use are never evicted, so the bound can be exceeded
 * by what is held or being loaded at one moment; what is let go then is evicted at once.
 *
 * Who goes first: the payload chunk that was not used for longest, while payload takes more
 * than a quarter of the bound; else the metadata chunk that was not used for longest.  So
 * metadata is kept over payload without starving it.
 *
 * Threads: any number.  Sharded by key; client/README.md has the locks.
 */
#ifndef PXARFS_CHUNK_CACHE_H
#define PXARFS_CHUNK_CACHE_H

#include "archive/base/digest.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

enum {
	/* Bytes in front of a chunk's data that whoever loads it may use as he likes: what stands
	 * before it in its stored form can be read along with it. */
	CHUNK_ROOM_BEFORE = 64,
};

enum chunk_class { CHUNK_PAYLOAD, CHUNK_META, CHUNK_CLASS_COUNT };

/* A counted chunk: `data` stays valid until chunk_unref(), and does not change once the chunk
 * is in the cache. */
struct chunk {
	struct digest key;
	size_t size;
	uint8_t *data;
	/* the rest belongs to the cache */
	enum chunk_class class_;
	atomic_uint refs; /* users, and one of the cache's while it is linked */
	size_t cost; /* bytes it counts for */
	uint64_t hash; /* of the key */
	uint64_t used; /* when it was last asked for; the shard's lock */
	struct chunk *hash_next; /* the shard's lock */
	TAILQ_ENTRY(chunk) lru; /* the shard's lock */
	struct chunk_cache *cache;
};

struct chunk_cache;
struct chunk_cache *chunk_cache_new(size_t bytes_max);

/* No chunk may still be referenced, and no call on the cache or its chunks be under way. */
void chunk_cache_free(struct chunk_cache *c);
DEFINE_AUTO_PTR(chunk_cache)

size_t chunk_cache_bytes_max(const struct chunk_cache *c);

/* Random bytes of this cache's own, to lie over names that somebody else has chosen: else they
 * could be made to meet names that were made up here. */
const struct digest *chunk_cache_mask(const struct chunk_cache *c);

/* The chunk with one more reference, or NULL.  Counts as a use. */
struct chunk *chunk_cache_get(struct chunk_cache *c, const struct digest *key);

/* The same, but it is no use: neither counted nor a reason to keep the chunk for longer. */
struct chunk *chunk_cache_peek(struct chunk_cache *c, const struct digest *key);

/* A new chunk with room for `size` bytes and one reference, not yet in the cache; -> NULL
 * without memory.  Fill `data`, then insert it.  Evicts others to make room first. */
struct chunk *chunk_new(struct chunk_cache *c, const struct digest *key, size_t size,
			enum chunk_class class_);

/* Make it visible.  When the key is there already the old chunk wins: the reference of `fresh`
 * is given up and the old one returned with a reference. */
struct chunk *chunk_cache_insert(struct chunk_cache *c, struct chunk *fresh);

struct chunk *chunk_ref(struct chunk *chunk);
void chunk_unref(struct chunk *chunk); /* NULL is fine */

struct chunk_cache_stats {
	uint64_t hits, misses, evictions;
	size_t bytes, bytes_max; /* of all chunks alive */
	size_t count; /* of chunks in the cache */
};
void chunk_cache_stats(struct chunk_cache *c, struct chunk_cache_stats *out);

#endif
