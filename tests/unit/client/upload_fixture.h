/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload_fixture - uploads into a writer session that keeps digests, and fails when it is told to.
 */
#ifndef PXARFS_TESTS_UPLOAD_FIXTURE_H
#define PXARFS_TESTS_UPLOAD_FIXTURE_H

#include "client/backup/upload.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { BYTES_MAX = 96 << 20, AVG = 64 << 10 };

/* --- a writer session that keeps digests, and fails when told to --- */

struct entry {
	struct digest digest;
	uint64_t size;
};

/* The tests' own assertions must not be used on other threads. */
static inline void must(bool condition)
{
	if (!condition)
		abort();
}

struct repo_index {
	struct fake *writer;
	struct entry *entries;
	size_t count;
};

struct fake {
	struct repo_writer base;
	pthread_mutex_t lock;
	/* lock: */
	struct digest *stored;
	size_t stored_count, reused_count;
	struct repo_index *open[2]; /* indexes that were not closed go with the session */
	/* Script: */
	size_t fail_put_at; /* the n-th put; 0: never */
	bool fail_add;	    /* the second add of an index */
	bool nothing_there; /* reuse finds no chunk */
	bool slow;	    /* puts take a while */
	atomic_bool hang;   /* puts wait until this is false */
};

static inline bool is_stored(const struct fake *w, const struct digest *digest)
{
	for (size_t i = 0; i < w->stored_count; i++)
		if (digest_equal(&w->stored[i], digest))
			return true;
	return false;
}

static inline void keep(struct fake *w, const struct digest *digest)
{
	w->stored = reallocarray(w->stored, w->stored_count + 1, sizeof(*w->stored));
	w->stored[w->stored_count++] = *digest;
}

static inline int fake_reuse(struct repo_writer *base, const struct digest *digest, struct err *err)
{
	struct fake *w = (struct fake *)base;

	if (w->nothing_there)
		return err_set(err, ENOENT, "no such chunk");
	pthread_mutex_lock(&w->lock);
	must(!is_stored(w, digest));
	keep(w, digest);
	w->reused_count++;
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static inline int fake_put(struct repo_writer *base, const struct digest *digest, const void *data,
			   size_t size, size_t plain_size, bool *duplicate, struct err *err)
{
	struct fake *w = (struct fake *)base;
	bool failed;

	(void)plain_size;
	while (atomic_load(&w->hang))
		usleep(1000);
	if (w->slow)
		usleep(500);
	if (blob_verify_crc(data, size, err) < 0)
		return -EBADMSG;
	pthread_mutex_lock(&w->lock);
	must(!is_stored(w, digest)); /* each chunk once */
	keep(w, digest);
	failed = w->stored_count == w->fail_put_at;
	pthread_mutex_unlock(&w->lock);
	*duplicate = false;
	return failed ? err_set(err, ENOSPC, "disk full") : 0;
}

static inline int fake_index_open(struct repo_writer *base, const char *name, uint64_t image_size,
				  struct repo_index **out, struct err *err)
{
	struct fake *w = (struct fake *)base;

	must(image_size == 0);
	if (strcmp(name, "unopenable") == 0)
		return err_set(err, EACCES, "not today");
	*out = calloc(1, sizeof(**out));
	(*out)->writer = w;
	w->open[w->open[0] ? 1 : 0] = *out;
	return 0;
}

static inline int fake_index_add(struct repo_index *ix, uint64_t chunk_size,
				 const struct digest *digest, struct err *err)
{
	struct fake *w = ix->writer;

	pthread_mutex_lock(&w->lock);
	must(is_stored(w, digest)); /* put or reused before */
	pthread_mutex_unlock(&w->lock);
	if (w->fail_add && ix->count == 1)
		return err_set(err, EIO, "index broken");
	ix->entries = reallocarray(ix->entries, ix->count + 1, sizeof(*ix->entries));
	ix->entries[ix->count].digest = *digest;
	ix->entries[ix->count++].size = chunk_size;
	return 0;
}

/* Closed indexes end up here for the tests to look at. */
static struct repo_index last_closed;

static inline void forget_last(void)
{
	free(last_closed.entries);
	last_closed = (struct repo_index){ 0 };
}

static inline int fake_index_close(struct repo_index *ix, uint64_t *size, struct digest *csum,
				   struct err *err)
{
	struct fake *w = ix->writer;

	(void)err;
	*size = 0;
	w->open[w->open[0] == ix ? 0 : 1] = NULL;
	for (size_t i = 0; i < ix->count; i++)
		*size += ix->entries[i].size;
	*csum = (struct digest){ .bytes = { 1 } };
	forget_last();
	last_closed = *ix;
	free(ix);
	return 0;
}

static const struct repo_writer_ops fake_ops = {
	.reuse_chunk = fake_reuse,
	.put_chunk = fake_put,
	.index_open = fake_index_open,
	.index_add = fake_index_add,
	.index_close = fake_index_close,
};

static inline void fake_init(struct fake *w)
{
	*w = (struct fake){ .base.ops = &fake_ops };
	pthread_mutex_init(&w->lock, NULL);
}

static inline void fake_release(struct fake *w)
{
	for (size_t i = 0; i < 2; i++) {
		if (w->open[i])
			free(w->open[i]->entries);
		free(w->open[i]);
	}
	free(w->stored);
	pthread_mutex_destroy(&w->lock);
}
DEFINE_AUTO_STRUCT(fake)

/* --- streams --- */

/* Bytes that look random, the same every time. */
static inline uint8_t *noise(size_t size, uint64_t seed)
{
	uint8_t *data = malloc(size + 8);

	must(data);
	for (size_t i = 0; i < size; i += 8) {
		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		memcpy(data + i, &seed, 8);
	}
	return data;
}

static inline struct upload_pool *new_pool(unsigned threads)
{
	struct upload_pool *p = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(upload_pool_new(&p, threads, BYTES_MAX, NULL, &err), 0);
	return p;
}

static inline struct upload *new_upload(struct upload_pool *pool, struct fake *w, const char *name,
					struct upload_stats *stats)
{
	const struct upload_params params = { .writer = w ? &w->base : NULL,
					      .index_name = name,
					      .chunk_size_avg = AVG,
					      .stats = stats };
	struct upload *u = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(upload_new(&u, pool, &params, &err), 0);
	return u;
}

/* Write `data` in steps of `step` bytes, end, finish. */
static inline int send(struct upload *u, const uint8_t *data, size_t size, size_t step,
		       struct err *err)
{
	struct digest csum;
	uint64_t total;
	int rc = 0;

	for (size_t at = 0; at < size && rc == 0; at += step)
		rc = upload_write(u, data + at, size - at < step ? size - at : step, err);
	if (rc == 0)
		rc = upload_end(u, err);
	if (rc == 0)
		rc = upload_finish(u, &total, &csum, err);
	if (rc == 0)
		assert_int_equal(total, size);
	return rc;
}

#endif
