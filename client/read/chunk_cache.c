/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chunk is in one of three states:
 *
 *	private   made by chunk_new(), refs >= 1, not linked: known to its maker only
 *	cached    linked in its shard's table and LRU, refs >= 1, one of which is the cache's
 *	idle      cached with refs == 1: nobody uses it, it may be evicted
 *
 * Invariants: a reference is taken from nothing only under the shard's lock (get, peek), so a
 * chunk seen idle under that lock stays idle while it is held; whoever brings refs to 0 frees.
 */
#include "client/read/chunk_cache.h"

#include "archive/base/ckd.h"

#include <assert.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

enum {
	SHARD_COUNT = 16, /* a power of two */
	BUCKET_COUNT_MIN = 64,
	/* Larger chunks get a mapping of their own: malloc's arenas would keep them when they are
	 * freed, and the bound would not be the process's. */
	MAPPED_SIZE_MIN = 128 << 10,
	/* A few mappings wait for the next chunk, which spares it the faults of fresh pages; not
	 * counted, so they have a bound of their own. */
	SPARE_COUNT_MAX = 8,
	SPARE_BYTES_MAX = 16 << 20,
	/* What x86 and most others have; where it is another size this is only of no use. */
	HUGE_PAGE_SIZE = 2 << 20,
	PAYLOAD_SHARE = 4, /* payload may keep 1/4 of the bound whatever metadata wants */
};

TAILQ_HEAD(lru, chunk); /* the longest unused one first */

struct shard {
	pthread_mutex_t lock; /* guards all below, and the links of its chunks */
	struct chunk **buckets;
	size_t bucket_count; /* a power of two */
	size_t count;
	struct lru lru[CHUNK_CLASS_COUNT];
	uint64_t hits, misses, evictions;
} __attribute__((aligned(64)));

struct mapping {
	uint8_t *data;
	size_t size;
};

struct chunk_cache {
	size_t bytes_max;
	uint64_t seed;
	struct digest mask;
	atomic_size_t bytes[CHUNK_CLASS_COUNT]; /* of all chunks alive */
	atomic_uint_fast64_t clock; /* ticks at each use */
	pthread_mutex_t trim_lock; /* one evicts at a time, or two would evict for one's need */
	pthread_mutex_t spare_lock; /* guards the spares */
	struct mapping spares[SPARE_COUNT_MAX];
	size_t spare_count, spare_bytes;
	struct shard shards[SHARD_COUNT];
};

/* All words count: those of plain files' keys are no digests.  The seed is secret: who makes
 * chunks to be mounted by others could choose them to meet in one bucket. */
static uint64_t key_hash(const struct chunk_cache *c, const struct digest *key)
{
	uint64_t word[4], hash = c->seed;

	static_assert(sizeof(word) == DIGEST_SIZE, "digest");
	memcpy(word, key->bytes, sizeof(word));
	for (int i = 0; i < 4; i++)
		hash = (hash ^ word[i]) * UINT64_C(0x9e3779b97f4a7c15);
	return hash ^ hash >> 32;
}

static struct shard *shard_of(struct chunk_cache *c, uint64_t hash)
{
	return &c->shards[hash >> 60 & (SHARD_COUNT - 1)];
}

static struct chunk **bucket_of(struct shard *s, uint64_t hash)
{
	return &s->buckets[hash & (s->bucket_count - 1)];
}

/* --- the table and the LRU; under the shard's lock --- */

static struct chunk *shard_find(struct shard *s, uint64_t hash, const struct digest *key)
{
	struct chunk *chunk = *bucket_of(s, hash);

	while (chunk && !digest_equal(&chunk->key, key))
		chunk = chunk->hash_next;
	return chunk;
}

/* Without memory the table stays as it is: slower, not wrong. */
static void shard_grow(struct shard *s)
{
	size_t count = s->bucket_count * 2, old_count = s->bucket_count;
	struct chunk **buckets = calloc(count, sizeof(struct chunk *)), **old = s->buckets;

	if (!buckets)
		return;
	s->buckets = buckets;
	s->bucket_count = count;
	for (size_t i = 0; i < old_count; i++) {
		for (struct chunk *chunk = old[i], *next; chunk; chunk = next) {
			struct chunk **bucket = bucket_of(s, chunk->hash);

			next = chunk->hash_next;
			chunk->hash_next = *bucket;
			*bucket = chunk;
		}
	}
	free(old);
}

static void shard_use(struct chunk_cache *c, struct shard *s, struct chunk *chunk)
{
	struct lru *lru = &s->lru[chunk->class_];

	chunk->used = atomic_fetch_add_explicit(&c->clock, 1, memory_order_relaxed);
	if (TAILQ_LAST(lru, lru) == chunk)
		return;
	TAILQ_REMOVE(lru, chunk, lru);
	TAILQ_INSERT_TAIL(lru, chunk, lru);
}

static void shard_link(struct chunk_cache *c, struct shard *s, struct chunk *chunk)
{
	struct chunk **bucket;

	if (s->count >= s->bucket_count)
		shard_grow(s);
	bucket = bucket_of(s, chunk->hash);
	chunk->hash_next = *bucket;
	*bucket = chunk;
	TAILQ_INSERT_TAIL(&s->lru[chunk->class_], chunk, lru);
	chunk->used = atomic_fetch_add_explicit(&c->clock, 1, memory_order_relaxed);
	s->count++;
}

static void shard_unlink(struct shard *s, struct chunk *chunk)
{
	struct chunk **link = bucket_of(s, chunk->hash);

	while (*link != chunk)
		link = &(*link)->hash_next;
	*link = chunk->hash_next;
	TAILQ_REMOVE(&s->lru[chunk->class_], chunk, lru);
	s->count--;
}

/* The longest unused idle chunk.  Those in use on the way are as good as used now; moving
 * them keeps the next search short. */
static struct chunk *shard_oldest_idle(struct chunk_cache *c, struct shard *s,
				       enum chunk_class class_)
{
	struct lru *lru = &s->lru[class_];
	struct chunk *end = TAILQ_LAST(lru, lru), *chunk = TAILQ_FIRST(lru), *next;

	for (; chunk; chunk = next) {
		next = chunk == end ? NULL : TAILQ_NEXT(chunk, lru);
		if (atomic_load_explicit(&chunk->refs, memory_order_acquire) == 1)
			return chunk;
		shard_use(c, s, chunk);
	}
	return NULL;
}

/* --- memory --- */

static size_t cache_bytes(struct chunk_cache *c)
{
	return atomic_load_explicit(&c->bytes[CHUNK_PAYLOAD], memory_order_relaxed) +
	       atomic_load_explicit(&c->bytes[CHUNK_META], memory_order_relaxed);
}

static void cache_charge(struct chunk_cache *c, enum chunk_class class_, size_t cost)
{
	atomic_fetch_add_explicit(&c->bytes[class_], cost, memory_order_relaxed);
}

static void cache_uncharge(struct chunk_cache *c, enum chunk_class class_, size_t cost)
{
	atomic_fetch_sub_explicit(&c->bytes[class_], cost, memory_order_relaxed);
}

/* The smallest one that is large enough, else the largest.  There is one; under the lock. */
static struct mapping *best_spare(struct chunk_cache *c, size_t size)
{
	struct mapping *best = &c->spares[0];

	for (size_t i = 1; i < c->spare_count; i++) {
		struct mapping *m = &c->spares[i];
		bool fits = m->size >= size;

		if (best->size >= size ? fits && m->size < best->size : m->size > best->size)
			best = m;
	}
	return best;
}

/* A spare for `size` bytes, whatever its own size; one without data: there is none. */
static struct mapping spare_take(struct chunk_cache *c, size_t size)
{
	struct mapping spare = { .data = NULL };

	pthread_mutex_lock(&c->spare_lock);
	if (c->spare_count > 0) {
		struct mapping *best = best_spare(c, size);

		spare = *best;
		*best = c->spares[--c->spare_count];
		c->spare_bytes -= spare.size;
	}
	pthread_mutex_unlock(&c->spare_lock);
	return spare;
}

static bool spare_give(struct chunk_cache *c, uint8_t *data, size_t size)
{
	bool taken;

	pthread_mutex_lock(&c->spare_lock);
	taken = c->spare_count < SPARE_COUNT_MAX && size <= SPARE_BYTES_MAX - c->spare_bytes;
	if (taken) {
		c->spares[c->spare_count++] = (struct mapping){ .data = data, .size = size };
		c->spare_bytes += size;
	}
	pthread_mutex_unlock(&c->spare_lock);
	return taken;
}

static size_t round_up(size_t size, size_t step)
{
	return (size + step - 1) / step * step;
}

/* Map, or remap, so that huge pages fit: the kernel puts what is a multiple of them where
 * they begin, and the rest is given back.  NULL: no memory; a spare is what it was. */
static uint8_t *map_huge(struct mapping spare, size_t size)
{
	size_t whole = round_up(size, HUGE_PAGE_SIZE);
	uint8_t *data = spare.data ? mremap(spare.data, spare.size, whole, MREMAP_MAYMOVE) :
				     mmap(NULL, whole, PROT_READ | PROT_WRITE,
					  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (data == MAP_FAILED)
		return NULL;
	if (whole > size)
		munmap(data + size, whole - size);
	/* With small pages the faults cost half as much as verifying what is put there. */
	if (!spare.data)
		madvise(data, size, MADV_HUGEPAGE);
	return data;
}

/* The contents are what they are: whoever loads a chunk fills all of it.  `size`: of whole pages. */
static uint8_t *map_bytes(struct chunk_cache *c, size_t size)
{
	struct mapping spare = spare_take(c, size);
	uint8_t *data;

	if (spare.size > size)
		munmap(spare.data + size, spare.size - size);
	if (spare.size >= size)
		return spare.data;
	data = map_huge(spare, size);
	if (!data && spare.data) {
		munmap(spare.data, spare.size);
		data = map_huge((struct mapping){ .data = NULL }, size);
	}
	return data;
}

static void unmap_bytes(struct chunk_cache *c, uint8_t *data, size_t size)
{
	if (!spare_give(c, data, size))
		munmap(data, size);
}

/* Bytes to map for a chunk. */
static size_t mapped_size(size_t chunk_size)
{
	return round_up(CHUNK_ROOM_BEFORE + chunk_size, (size_t)sysconf(_SC_PAGESIZE));
}

/* Its bytes follow the struct, or lie in a mapping of their own. */
static struct chunk *chunk_allocate(struct chunk_cache *c, size_t size)
{
	bool mapped = size >= MAPPED_SIZE_MIN;
	struct chunk *chunk = malloc(sizeof(*chunk) + (mapped ? 0 : CHUNK_ROOM_BEFORE + size));
	uint8_t *begin;

	if (!chunk)
		return NULL;
	*chunk = (struct chunk){ .size = size, .cache = c };
	begin = mapped ? map_bytes(c, mapped_size(size)) : (uint8_t *)(chunk + 1);
	if (!begin) {
		free(chunk);
		return NULL;
	}
	chunk->data = begin + CHUNK_ROOM_BEFORE;
	return chunk;
}

static void chunk_deallocate(struct chunk *chunk)
{
	if (chunk->size >= MAPPED_SIZE_MIN)
		unmap_bytes(chunk->cache, chunk->data - CHUNK_ROOM_BEFORE,
			    mapped_size(chunk->size));
	free(chunk);
}

/* --- eviction --- */

/* The shard whose oldest idle chunk of the class is the oldest of all; NULL: none is idle. */
static struct shard *oldest_shard(struct chunk_cache *c, enum chunk_class class_)
{
	struct shard *best = NULL;
	uint64_t best_used = 0;

	for (int i = 0; i < SHARD_COUNT; i++) {
		struct shard *s = &c->shards[i];
		struct chunk *chunk;

		pthread_mutex_lock(&s->lock);
		chunk = shard_oldest_idle(c, s, class_);
		if (chunk && (!best || chunk->used < best_used)) {
			best = s;
			best_used = chunk->used;
		}
		pthread_mutex_unlock(&s->lock);
	}
	return best;
}

/* Take one idle chunk out of the cache; it is the caller's then. */
static struct chunk *evict_one(struct chunk_cache *c, enum chunk_class class_)
{
	struct shard *s = oldest_shard(c, class_);
	struct chunk *chunk;

	if (!s)
		return NULL;
	pthread_mutex_lock(&s->lock);
	chunk = shard_oldest_idle(c, s, class_);
	if (chunk) {
		shard_unlink(s, chunk);
		s->evictions++;
	}
	pthread_mutex_unlock(&s->lock);
	return chunk;
}

static enum chunk_class victim_class(struct chunk_cache *c)
{
	size_t payload = atomic_load_explicit(&c->bytes[CHUNK_PAYLOAD], memory_order_relaxed);

	return payload > c->bytes_max / PAYLOAD_SHARE ? CHUNK_PAYLOAD : CHUNK_META;
}

/* Evict until the bound holds or nothing is idle. */
static void cache_trim(struct chunk_cache *c)
{
	struct chunk *evicted = NULL;

	pthread_mutex_lock(&c->trim_lock);
	while (cache_bytes(c) > c->bytes_max) {
		enum chunk_class first = victim_class(c);
		struct chunk *chunk = evict_one(c, first);

		if (!chunk)
			chunk = evict_one(c, first == CHUNK_META ? CHUNK_PAYLOAD : CHUNK_META);
		if (!chunk)
			break;
		cache_uncharge(c, chunk->class_, chunk->cost);
		chunk->hash_next = evicted;
		evicted = chunk;
	}
	pthread_mutex_unlock(&c->trim_lock);

	for (struct chunk *next; evicted; evicted = next) {
		next = evicted->hash_next;
		chunk_deallocate(evicted);
	}
}

/* --- the interface --- */

static bool shard_init(struct shard *s)
{
	pthread_mutex_init(&s->lock, NULL);
	for (int i = 0; i < CHUNK_CLASS_COUNT; i++)
		TAILQ_INIT(&s->lru[i]);
	s->bucket_count = BUCKET_COUNT_MIN;
	s->buckets = calloc(s->bucket_count, sizeof(struct chunk *));
	return s->buckets != NULL;
}

struct chunk_cache *chunk_cache_new(size_t bytes_max)
{
	AUTO(chunk_cache) struct chunk_cache *c =
		aligned_alloc(_Alignof(struct chunk_cache), sizeof(*c));
	bool ok = true;

	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->bytes_max = bytes_max;
	if (getrandom(&c->seed, sizeof(c->seed), GRND_NONBLOCK) < 0)
		c->seed = (uintptr_t)c;
	if (getrandom(&c->mask, sizeof(c->mask), GRND_NONBLOCK) < 0)
		memset(&c->mask, 0, sizeof(c->mask)); /* the machine has hardly been started */
	pthread_mutex_init(&c->trim_lock, NULL);
	pthread_mutex_init(&c->spare_lock, NULL);
	for (int i = 0; i < SHARD_COUNT; i++)
		ok = shard_init(&c->shards[i]) && ok;
	return ok ? steal(&c) : NULL;
}

static void shard_release(struct shard *s)
{
	for (int class_ = 0; class_ < CHUNK_CLASS_COUNT; class_++) {
		struct chunk *next = TAILQ_FIRST(&s->lru[class_]), *chunk;

		while ((chunk = next)) {
			next = TAILQ_NEXT(chunk, lru);
			assert(atomic_load(&chunk->refs) == 1);
			chunk_deallocate(chunk);
		}
	}
	free(s->buckets);
	pthread_mutex_destroy(&s->lock);
}

void chunk_cache_free(struct chunk_cache *c)
{
	if (!c)
		return;
	for (int i = 0; i < SHARD_COUNT; i++)
		shard_release(&c->shards[i]);
	while (c->spare_count > 0) {
		struct mapping m = spare_take(c, 0);

		munmap(m.data, m.size);
	}
	pthread_mutex_destroy(&c->trim_lock);
	pthread_mutex_destroy(&c->spare_lock);
	free(c);
}

const struct digest *chunk_cache_mask(const struct chunk_cache *c)
{
	return &c->mask;
}

size_t chunk_cache_bytes_max(const struct chunk_cache *c)
{
	return c->bytes_max;
}

struct chunk *chunk_cache_get(struct chunk_cache *c, const struct digest *key)
{
	uint64_t hash = key_hash(c, key);
	struct shard *s = shard_of(c, hash);
	struct chunk *chunk;

	pthread_mutex_lock(&s->lock);
	chunk = shard_find(s, hash, key);
	if (chunk) {
		shard_use(c, s, chunk_ref(chunk));
		s->hits++;
	} else {
		s->misses++;
	}
	pthread_mutex_unlock(&s->lock);
	return chunk;
}

struct chunk *chunk_cache_peek(struct chunk_cache *c, const struct digest *key)
{
	uint64_t hash = key_hash(c, key);
	struct shard *s = shard_of(c, hash);
	struct chunk *chunk;

	pthread_mutex_lock(&s->lock);
	chunk = shard_find(s, hash, key);
	if (chunk)
		chunk_ref(chunk);
	pthread_mutex_unlock(&s->lock);
	return chunk;
}

struct chunk *chunk_new(struct chunk_cache *c, const struct digest *key, size_t size,
			enum chunk_class class_)
{
	struct chunk *chunk;
	size_t cost;

	if (ckd_add(&cost, size, sizeof(*chunk) + CHUNK_ROOM_BEFORE))
		return NULL;
	cache_charge(c, class_, cost);
	if (cache_bytes(c) > c->bytes_max)
		cache_trim(c);
	chunk = chunk_allocate(c, size);
	if (!chunk) {
		cache_uncharge(c, class_, cost);
		return NULL;
	}
	chunk->key = *key;
	chunk->hash = key_hash(c, key);
	chunk->class_ = class_;
	chunk->cost = cost;
	atomic_init(&chunk->refs, 1);
	return chunk;
}

struct chunk *chunk_cache_insert(struct chunk_cache *c, struct chunk *fresh)
{
	struct shard *s = shard_of(c, fresh->hash);
	struct chunk *old;

	pthread_mutex_lock(&s->lock);
	old = shard_find(s, fresh->hash, &fresh->key);
	if (old)
		chunk_ref(old);
	else
		shard_link(c, s, chunk_ref(fresh));
	pthread_mutex_unlock(&s->lock);

	if (!old)
		return fresh;
	chunk_unref(fresh);
	return old;
}

struct chunk *chunk_ref(struct chunk *chunk)
{
	atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);
	return chunk;
}

void chunk_unref(struct chunk *chunk)
{
	struct chunk_cache *c;
	unsigned before;

	if (!chunk)
		return;
	c = chunk->cache; /* the chunk may be gone right after the count went down */
	before = atomic_fetch_sub_explicit(&chunk->refs, 1, memory_order_acq_rel);
	if (before == 1) {
		cache_uncharge(c, chunk->class_, chunk->cost);
		chunk_deallocate(chunk);
	} else if (before == 2 && cache_bytes(c) > c->bytes_max) {
		cache_trim(c);
	}
}

void chunk_cache_stats(struct chunk_cache *c, struct chunk_cache_stats *out)
{
	*out = (struct chunk_cache_stats){ .bytes = cache_bytes(c), .bytes_max = c->bytes_max };
	for (int i = 0; i < SHARD_COUNT; i++) {
		struct shard *s = &c->shards[i];

		pthread_mutex_lock(&s->lock);
		out->hits += s->hits;
		out->misses += s->misses;
		out->evictions += s->evictions;
		out->count += s->count;
		pthread_mutex_unlock(&s->lock);
	}
}
