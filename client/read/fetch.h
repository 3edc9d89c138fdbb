/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch - gets chunks that are not in memory: read, decode, verify, insert into the cache; one
 * request per chunk however many ask (single flight).
 *
 * A pool of threads does the work, so a caller never waits unless it wants to.
 *
 * Threads: any number of callers.  Callbacks run on a fetch thread (or on the caller's, when
 *          the chunk is in the cache already) without any lock held and must not block.
 */
#ifndef PXARFS_FETCH_H
#define PXARFS_FETCH_H

#include "archive/base/err.h"
#include "client/read/chunk_cache.h"

/* Where a chunk's bytes come from; embedded in what loads it (client/read/stream.c). */
struct fetch_source {
	/* Fill chunk->data (chunk->size bytes) with verified bytes.  Called on a fetch thread,
	 * several at once; may block.  `index` is the caller's. */
	int (*load)(struct fetch_source *self, uint64_t index, struct chunk *chunk,
		    struct err *err);
};

struct fetch;
struct fetch *fetch_new(struct chunk_cache *cache, unsigned thread_count);

/* Waits for loads in progress; queued ones end with -ECANCELED. */
void fetch_free(struct fetch *f);
DEFINE_AUTO_PTR(fetch)

/* The result: `chunk` with a reference that the callback owns, or NULL and a negative errno
 * with its message. */
typedef void fetch_done(void *arg, struct chunk *chunk, int rc, const struct err *err);

/* One waiting caller; embedded in the caller's request, must live until `done` was called. */
struct fetch_wait {
	fetch_done *done;
	void *arg;
	struct fetch_wait *next; /* fetch's */
};

/* Ask for the chunk `key`, whose plain size is `size`.  `done` is called exactly once. */
void fetch_get(struct fetch *f, struct fetch_source *source, uint64_t index,
	       const struct digest *key, size_t size, enum chunk_class class_,
	       struct fetch_wait *wait);

/* Fetch into the cache without anyone waiting (read-ahead). */
void fetch_hint(struct fetch *f, struct fetch_source *source, uint64_t index,
		const struct digest *key, size_t size, enum chunk_class class_);

/* Block until the chunk is there. */
int fetch_wait_for(struct fetch *f, struct fetch_source *source, uint64_t index,
		   const struct digest *key, size_t size, enum chunk_class class_,
		   struct chunk **out, struct err *err);

/* Forget a waiter that no longer wants an answer.  True: `done` will not be called any more;
 * false: it was or is being called. */
bool fetch_cancel(struct fetch *f, struct fetch_wait *wait);

/* Wait until no load of `source` is queued or running (before it is freed). */
void fetch_drain(struct fetch *f, struct fetch_source *source);

struct fetch_stats {
	uint64_t loads, load_errors; /* chunks fetched, by class */
	uint64_t meta_loads, payload_loads;
};
void fetch_stats(struct fetch *f, struct fetch_stats *out);

#endif
