/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/dir_cache.h"

#include "archive/base/ckd.h"
#include "fuse/loop.h"

#include <pthread.h>

enum {
	BUCKET_BITS = 12,
	BUCKET_COUNT = 1 << BUCKET_BITS,
	/* Pieces of a table that are looked for ahead; a larger one is asked for in steps. */
	TABLE_PIECES_MAX = 64,
	/* Sorting more slots than this takes longer than a reader should be away. */
	BUSY_MEMBER_COUNT = 20000,
};

struct dir_cache {
	size_t bytes_max, folder_bytes_max;
	pthread_mutex_t lock; /* guards all below and the links of folders */
	struct folder *buckets[BUCKET_COUNT];
	TAILQ_HEAD(lru, folder) lru; /* the longest unused one first */
	struct dir_cache_stats stats;
};

static size_t folder_bytes(const struct folder *f)
{
	return sizeof(*f) + (size_t)f->dir.member_count * sizeof(f->slots[0]);
}

static struct folder *folder_ref(struct folder *f)
{
	atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
	return f;
}

void folder_unref(struct folder *f)
{
	if (f && atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) == 1)
		free(f);
}

struct dir_cache *dir_cache_new(size_t bytes_max, size_t folder_bytes_max)
{
	struct dir_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->bytes_max = bytes_max;
	c->folder_bytes_max = folder_bytes_max;
	TAILQ_INIT(&c->lru);
	pthread_mutex_init(&c->lock, NULL);
	return c;
}

/* --- under the lock --- */

static struct folder **bucket_of(struct dir_cache *c, uint64_t number)
{
	return &c->buckets[number * UINT64_C(0x9e3779b97f4a7c15) >> (64 - BUCKET_BITS)];
}

static struct folder *find(struct dir_cache *c, uint64_t number)
{
	struct folder *f = *bucket_of(c, number);

	while (f && f->number != number)
		f = f->hash_next;
	return f;
}

static void evict_oldest(struct dir_cache *c)
{
	struct folder *f = TAILQ_FIRST(&c->lru), **link = bucket_of(c, f->number);

	while (*link != f)
		link = &(*link)->hash_next;
	*link = f->hash_next;
	TAILQ_REMOVE(&c->lru, f, lru);
	c->stats.bytes -= folder_bytes(f);
	c->stats.count--;
	folder_unref(f);
}

static void insert(struct dir_cache *c, struct folder *f)
{
	struct folder **bucket = bucket_of(c, f->number);

	folder_ref(f);
	f->hash_next = *bucket;
	*bucket = f;
	TAILQ_INSERT_TAIL(&c->lru, f, lru);
	c->stats.bytes += folder_bytes(f);
	c->stats.count++;
	/* The newest one stays, however large: it is being listed. */
	while (c->stats.bytes > c->bytes_max && TAILQ_FIRST(&c->lru) != f)
		evict_oldest(c);
}

/* --- the interface --- */

void dir_cache_free(struct dir_cache *c)
{
	if (!c)
		return;
	while (!TAILQ_EMPTY(&c->lru))
		evict_oldest(c);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

struct folder *dir_cache_get(struct dir_cache *c, uint64_t number)
{
	struct folder *f;

	pthread_mutex_lock(&c->lock);
	f = find(c, number);
	if (f) {
		c->stats.hits++;
		TAILQ_REMOVE(&c->lru, f, lru);
		TAILQ_INSERT_TAIL(&c->lru, f, lru);
		folder_ref(f);
	} else {
		c->stats.misses++;
	}
	pthread_mutex_unlock(&c->lock);
	return f;
}

/* Have the whole table in memory before there is a place for its slots: on a miss the work
 * starts over, and all its chunks are asked for at once. */
static int want_table(struct stream_view *meta, const struct tree_dir *dir, struct err *err)
{
	struct iovec pieces[TABLE_PIECES_MAX];
	size_t count = TABLE_PIECES_MAX;
	uint64_t size = dir->end - dir->goodbye_offset;
	int rc = stream_view_map(meta, dir->goodbye_offset, (size_t)size, pieces, &count, err);

	return rc == -E2BIG ? 0 : rc;
}

static int folder_size(const struct dir_cache *c, const struct tree_dir *dir, size_t *size,
		       struct err *err)
{
	if (!ckd_mul(size, dir->member_count, sizeof(struct tree_slot)) &&
	    !ckd_add(size, *size, sizeof(struct folder)) && *size <= c->folder_bytes_max)
		return 0;
	return err_set(err, E2BIG, "a folder of %llu members: to list it takes more than %zu MiB of "
		       "memory (-o cache=)", (unsigned long long)dir->member_count,
		       c->folder_bytes_max >> 20);
}

static int folder_read(struct dir_cache *c, uint64_t number, const struct tree *tree,
		       struct stream_view *meta, uint64_t dir_end, struct folder **out,
		       struct err *err)
{
	AUTO(free) struct folder *f = NULL;
	struct tree_dir dir;
	size_t size = 0;
	int rc = tree_dir_open(tree, &meta->base, dir_end, &dir, err);

	if (rc == 0)
		rc = folder_size(c, &dir, &size, err);
	if (rc == 0)
		rc = want_table(meta, &dir, err);
	if (rc)
		return rc;
	f = malloc(size);
	if (!f)
		return err_set(err, ENOMEM, "out of memory");
	f->number = number;
	f->dir = dir;
	atomic_init(&f->refs, 1);
	if (dir.member_count > BUSY_MEMBER_COUNT)
		loop_busy();
	rc = tree_dir_slots(tree, &meta->base, &f->dir, f->slots, err);
	if (rc < 0)
		return rc;
	*out = steal(&f);
	return 0;
}

int dir_cache_read(struct dir_cache *c, uint64_t number, const struct tree *tree,
		   struct stream_view *meta, uint64_t dir_end, struct folder **out,
		   struct err *err)
{
	struct folder *f = NULL, *other;
	int rc = folder_read(c, number, tree, meta, dir_end, &f, err);

	if (rc)
		return rc;
	pthread_mutex_lock(&c->lock);
	other = find(c, number); /* somebody may have been quicker */
	if (other)
		folder_ref(other);
	else
		insert(c, f);
	pthread_mutex_unlock(&c->lock);
	if (other)
		folder_unref(f);
	*out = other ? other : f;
	return 0;
}

void dir_cache_stats(struct dir_cache *c, struct dir_cache_stats *out)
{
	pthread_mutex_lock(&c->lock);
	*out = c->stats;
	pthread_mutex_unlock(&c->lock);
}
