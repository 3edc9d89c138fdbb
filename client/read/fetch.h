/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch - gets chunks that are not in memory: read, decode, verify, insert into the cache; one
 * load per chunk however many ask (single flight).
 *
 * A pool of threads does the work, so a caller never waits unless it wants to.  Threads start
 * when there is work for them.  Metadata goes before payload, both before hints.  A load that
 * failed is not remembered: who asks later tries again.  When a load fails that callers of
 * several sources wait for, those of the other sources get a try of their own; so do those whose
 * index gives the chunk another size, and theirs fails.
 *
 * Threads: any number of callers.  Callbacks run on a fetch thread (or on the caller's, when
 *          the chunk is in the cache already) without any lock held and must not block.
 */
#ifndef PXARFS_FETCH_H
#define PXARFS_FETCH_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"
#include "archive/blob.h"
#include "client/read/chunk_cache.h"
#include "client/read/disk_cache.h"

enum {
	FETCH_THREAD_COUNT_MAX = 64,
	FETCH_HINT_COUNT_MAX = 256, /* hints queued at a time; more are dropped */
};

/* What each fetch thread owns, for the loads that run on it. */
struct fetch_worker {
	struct blob_codec *codec;
	struct wbuf encoded; /* a chunk in its stored form; clear it before use */
	struct digest digest; /* of that chunk */
	struct disk_cache *disk; /* NULL: none; lent */
	/* Set by a load: `encoded` came from the repository and is what it should be.  It goes
	 * to disk when the load's callers have got their chunk. */
	bool keep;
};

/* Where a chunk's bytes come from; embedded in what loads it (client/read/stream.c). */
struct fetch_source {
	/* Fill chunk->data (chunk->size bytes) with verified bytes.  Called on a fetch thread,
	 * several at once; may block.  `index` is the caller's. */
	int (*load)(struct fetch_source *self, struct fetch_worker *worker, uint64_t index,
		    struct chunk *chunk, struct err *err);

	/* Put what cannot be had before the message of an error; returns rc.  Called once for
	 * each error, on any thread. */
	int (*wrap)(struct fetch_source *self, uint64_t index, int rc, struct err *err);

	size_t pending; /* fetch's: loads and waiters of this source; its lock */
};

/* A chunk that somebody wants. */
struct fetch_want {
	struct fetch_source *source;
	uint64_t index; /* for the source */
	struct digest key;
	size_t size; /* plain; 0: no chunk, but something that is loaded the same way */
	enum chunk_class class_;
};

struct fetch;
struct fetch *fetch_new(struct chunk_cache *cache, unsigned thread_count);

/* Keep the stored form of chunks on disk, too.  Lent; before the first load. */
void fetch_set_disk_cache(struct fetch *f, struct disk_cache *disk);

/* Queued loads end with -ECANCELED, and so does what is asked for from now on.  Does not wait.
 * Loads in progress go on: abort their repository session to make them end. */
void fetch_stop(struct fetch *f);

/* fetch_stop(), then waits for loads in progress.  Their callbacks are called. */
void fetch_free(struct fetch *f);
DEFINE_AUTO_PTR(fetch)

/* The result: `chunk` with a reference that the callback owns, or NULL and a negative errno
 * with its message. */
typedef void fetch_done(void *arg, struct chunk *chunk, int rc, const struct err *err);

/* One waiting caller; embedded in the caller's request, must live until `done` was called. */
struct fetch_wait {
	fetch_done *done;
	void *arg;
	/* the rest is fetch's, zero at first; its lock */
	struct fetch_want want;
	struct fetch_load *load; /* waits for it; NULL: not (any more) waiting */
	TAILQ_ENTRY(fetch_wait) link; /* or of who answers in its place */
};
TAILQ_HEAD(fetch_waits, fetch_wait);

/* Ask for a chunk.  `wait->done` is called exactly once, perhaps before this returns. */
void fetch_get(struct fetch *f, const struct fetch_want *want, struct fetch_wait *wait);

/* Fetch into the cache without anyone waiting (read-ahead).  Dropped when too many are. */
void fetch_hint(struct fetch *f, const struct fetch_want *want);

/* Block until the chunk is there. */
int fetch_wait_for(struct fetch *f, const struct fetch_want *want, struct chunk **out,
		   struct err *err);

/* The same, for `wait_ms` at most.  -EAGAIN: it was not there by then; its load goes on. */
int fetch_wait_within(struct fetch *f, const struct fetch_want *want, unsigned wait_ms,
		      struct chunk **out, struct err *err);

/* Forget a waiter that no longer wants an answer.  True: `done` will not be called any more;
 * false: it was, is being or (fetch_get() has not got there yet) will be called. */
bool fetch_cancel(struct fetch *f, struct fetch_wait *wait);

/* Before `source` is freed: drop its hints, and wait until nothing of it is queued, running or
 * waited for. */
void fetch_drain(struct fetch *f, struct fetch_source *source);

/* Whether nothing of it is queued, running or waited for; drops no hints. */
bool fetch_is_idle(struct fetch *f, const struct fetch_source *source);

struct fetch_stats {
	uint64_t meta_loads, payload_loads; /* chunks with bytes, hints included */
	uint64_t hints; /* loads nobody had asked for when they began */
	uint64_t errors; /* loads that failed */
	size_t queued, running, threads; /* now */
};
void fetch_stats(struct fetch *f, struct fetch_stats *out);

struct chunk_cache *fetch_cache(struct fetch *f);

#endif
