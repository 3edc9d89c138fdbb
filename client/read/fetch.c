/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A load is in f->loads from the moment it is made until its result is known:
 *
 *	queued    in one lane, nobody works on it
 *	running   in no lane; one thread is inside source->load()
 *
 * Invariants, under f->lock: at most one load a key; a wait is in the list of exactly one load
 * or has load == NULL, and then its `done` was called, is about to be, or was cancelled; a
 * queued load without waits is a hint; source->pending counts the loads that go to the source
 * plus the waits that name it, so that a source with 0 is safe to free.
 *
 * A load enters the cache before it leaves f->loads, and who finds no load looks into the
 * cache once more under the lock: so nothing is loaded twice at a time.
 */
#include "client/read/fetch.h"

#include "archive/chunker.h"
#include "client/base/wait.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

enum {
	BUCKET_COUNT = 256,
	/* Buffers for stored chunks that wait for the next load, as their pages cost more than what
	 * is read into them.  The latest one is taken first.  Not counted by the cache. */
	SPARE_BUFFERS_MAX = 3,
	SPARE_BYTES_MAX = 12 << 20,
	SPARE_SECONDS = 1, /* for so long, when nothing happens */
	/* Loads at a time: any number that the threads can take while their chunks are no more
	 * than this part of the cache, for what they read them into is not counted there... */
	RUNNING_SHARE = 8,
	/* ...but so many always, so that one that hangs does not stop the others. */
	RUNNING_COUNT_MIN = 4,
};

enum lane_id { LANE_META, LANE_PAYLOAD, LANE_HINT, LANE_COUNT };

struct fetch_load {
	struct fetch_want want;
	bool running;
	enum lane_id lane; /* while queued */
	struct fetch_load *hash_next;
	TAILQ_ENTRY(fetch_load) link; /* in the lane */
	struct fetch_waits waits;
};

struct lane {
	TAILQ_HEAD(, fetch_load) loads;
	size_t count;
};

struct fetch {
	struct chunk_cache *cache;
	struct disk_cache *disk; /* NULL: none */
	unsigned thread_count_max;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t work; /* a lane got a load, or stopping */
	pthread_cond_t drained; /* a source's `pending` became 0 */
	bool stopping;
	struct lane lanes[LANE_COUNT];
	struct fetch_load *loads[BUCKET_COUNT];
	size_t queued, running;
	size_t running_bytes; /* of the chunks being loaded */
	struct wbuf spares[SPARE_BUFFERS_MAX];
	size_t spare_count, spare_bytes;
	unsigned thread_count, idle_count;
	pthread_t threads[FETCH_THREAD_COUNT_MAX];
	struct fetch_stats stats;
};

/* --- loads, lanes and waits; under f->lock --- */

static struct fetch_load **bucket_of(struct fetch *f, const struct digest *key)
{
	/* Keys of plain files differ in their last bytes, digests in all. */
	return &f->loads[key->bytes[0] ^ key->bytes[DIGEST_SIZE - 8]];
}

static struct fetch_load *load_find(struct fetch *f, const struct digest *key)
{
	struct fetch_load *load = *bucket_of(f, key);

	while (load && !digest_equal(&load->want.key, key))
		load = load->hash_next;
	return load;
}

static void load_unhash(struct fetch *f, struct fetch_load *load)
{
	struct fetch_load **link = bucket_of(f, &load->want.key);

	while (*link != load)
		link = &(*link)->hash_next;
	*link = load->hash_next;
}

static void lane_push(struct fetch *f, struct fetch_load *load, enum lane_id id)
{
	struct lane *lane = &f->lanes[id];

	load->lane = id;
	TAILQ_INSERT_TAIL(&lane->loads, load, link);
	lane->count++;
	f->queued++;
}

static void lane_remove(struct fetch *f, struct fetch_load *load)
{
	struct lane *lane = &f->lanes[load->lane];

	TAILQ_REMOVE(&lane->loads, load, link);
	lane->count--;
	f->queued--;
}

static void source_add(struct fetch_source *source)
{
	source->pending++;
}

static void source_sub(struct fetch *f, struct fetch_source *source)
{
	assert(source->pending > 0);
	if (--source->pending == 0)
		pthread_cond_broadcast(&f->drained);
}

static enum lane_id lane_for(const struct fetch_want *want)
{
	return want->class_ == CHUNK_META ? LANE_META : LANE_PAYLOAD;
}

/* A load waits from now on, in the lane of its most urgent caller. */
static void wait_attach(struct fetch *f, struct fetch_load *load, struct fetch_wait *wait)
{
	enum lane_id lane = lane_for(&wait->want);

	wait->load = load;
	TAILQ_INSERT_TAIL(&load->waits, wait, link);
	source_add(wait->want.source);
	if (!load->running && lane < load->lane) {
		lane_remove(f, load);
		lane_push(f, load, lane);
	}
}

static void wait_detach(struct fetch *f, struct fetch_wait *wait)
{
	TAILQ_REMOVE(&wait->load->waits, wait, link);
	wait->load = NULL;
	source_sub(f, wait->want.source);
}

static struct fetch_load *load_new(struct fetch *f, const struct fetch_want *want,
				   enum lane_id lane)
{
	struct fetch_load *load = calloc(1, sizeof(*load));

	if (!load)
		return NULL;
	load->want = *want;
	TAILQ_INIT(&load->waits);
	load->hash_next = *bucket_of(f, &want->key);
	*bucket_of(f, &want->key) = load;
	source_add(want->source);
	lane_push(f, load, lane);
	return load;
}

/* Forget a queued load that nobody waits for. */
static void load_drop(struct fetch *f, struct fetch_load *load)
{
	assert(!load->running && TAILQ_EMPTY(&load->waits));
	lane_remove(f, load);
	load_unhash(f, load);
	source_sub(f, load->want.source);
	free(load);
}

/* --- results, without locks --- */

static int wrap_error(const struct fetch_want *want, int rc, struct err *err)
{
	return want->source->wrap ? want->source->wrap(want->source, want->index, rc, err) : rc;
}

/* Of a chunk that the cache had; gives it up if it is not of the size that is wanted. */
static int check_size(const struct fetch_want *want, struct chunk **chunk, struct err *err)
{
	size_t size = (*chunk)->size;

	if (size == want->size)
		return 0;
	chunk_unref(steal(chunk));
	return err_set(err, EBADMSG, "the chunk has %zu bytes, the index says %zu", size,
		       want->size);
}

static void deliver_error(struct fetch_wait *wait, int rc, const struct err *err)
{
	wait->done(wait->arg, NULL, rc, err);
}

/* Deliver to waits that were taken; the last reference is given up. */
static void deliver_all(struct fetch_waits *waits, struct chunk *chunk, int rc,
			const struct err *err)
{
	const struct err none = ERR_INIT;
	struct fetch_wait *wait;

	while ((wait = TAILQ_FIRST(waits))) {
		TAILQ_REMOVE(waits, wait, link); /* `done` may free it */
		if (chunk)
			wait->done(wait->arg, chunk_ref(chunk), 0, &none);
		else
			deliver_error(wait, rc, err);
	}
	chunk_unref(chunk);
}

static void deliver_stopped(struct fetch_waits *waits)
{
	struct err err = ERR_INIT;

	deliver_all(waits, NULL, err_set(&err, ECANCELED, "stopped"), &err);
}

/* --- the threads --- */

static bool same_want(const struct fetch_want *a, const struct fetch_want *b)
{
	return a->source == b->source && a->size == b->size;
}

/* Whether it gets what a load gave; NULL: an error, of which those alone hear that asked for the very
 * same. */
static bool gets(const struct fetch_wait *wait, const struct fetch_load *load,
		 const struct chunk *chunk)
{
	return chunk ? wait->want.size == chunk->size : same_want(&wait->want, &load->want);
}

static void take_wait(struct fetch *f, struct fetch_wait *wait, struct fetch_waits *taken)
{
	wait_detach(f, wait);
	TAILQ_INSERT_TAIL(taken, wait, link);
}

/* Move the waits of a load that get its result to `taken`.  Under f->lock. */
static void take_waits(struct fetch *f, struct fetch_load *load, const struct chunk *chunk,
		       struct fetch_waits *taken)
{
	for (struct fetch_wait *wait = TAILQ_FIRST(&load->waits), *next; wait; wait = next) {
		next = TAILQ_NEXT(wait, link);
		if (gets(wait, load, chunk))
			take_wait(f, wait, taken);
	}
}

static void take_all_waits(struct fetch *f, struct fetch_load *load, struct fetch_waits *taken)
{
	while (!TAILQ_EMPTY(&load->waits))
		take_wait(f, TAILQ_FIRST(&load->waits), taken);
}

/* The load's own callers have their answer; the rest gets a try from their own source, which says what
 * is wrong if their index has another size: from here its words could not be had, as it may be freed
 * as soon as nothing of it waits. */
static void load_retry(struct fetch *f, struct fetch_load *load)
{
	source_sub(f, load->want.source);
	load->want = TAILQ_FIRST(&load->waits)->want;
	source_add(load->want.source);
	load->running = false;
	lane_push(f, load, lane_for(&load->want));
	pthread_cond_signal(&f->work);
}

/* A thread is free for the next load of so many bytes.  Under f->lock. */
static void run_over(struct fetch *f, size_t bytes)
{
	f->running--;
	f->running_bytes -= bytes;
	if (f->queued > 0)
		pthread_cond_signal(&f->work); /* it may have waited for this */
}

static void load_finish(struct fetch *f, struct fetch_load *load, struct chunk *chunk, int rc,
			bool goes_on, const struct err *err)
{
	struct fetch_waits waits = TAILQ_HEAD_INITIALIZER(waits);
	struct fetch_waits stopped = TAILQ_HEAD_INITIALIZER(stopped);

	pthread_mutex_lock(&f->lock);
	if (!goes_on)
		run_over(f, load->want.size);
	if (rc < 0)
		f->stats.errors++;
	take_waits(f, load, chunk, &waits);
	if (f->stopping)
		take_all_waits(f, load, &stopped);
	if (!TAILQ_EMPTY(&load->waits)) {
		load_retry(f, load);
	} else {
		load_unhash(f, load);
		source_sub(f, load->want.source);
		free(load);
	}
	pthread_mutex_unlock(&f->lock);
	deliver_all(&waits, chunk, rc, err);
	deliver_stopped(&stopped);
}

static struct wbuf buffer_none(void)
{
	return (struct wbuf)WBUF_INIT(BLOB_ENCODED_SIZE_MAX(CHUNK_SIZE_MAX));
}

/* Under f->lock. */
static struct wbuf buffer_take(struct fetch *f)
{
	if (f->spare_count == 0)
		return buffer_none();
	f->spare_bytes -= f->spares[--f->spare_count].capacity;
	return f->spares[f->spare_count];
}

static void buffer_give(struct fetch *f, struct wbuf *buffer)
{
	pthread_mutex_lock(&f->lock);
	if (f->spare_count < SPARE_BUFFERS_MAX &&
	    buffer->capacity <= SPARE_BYTES_MAX - f->spare_bytes) {
		f->spare_bytes += buffer->capacity;
		f->spares[f->spare_count++] = *buffer;
		*buffer = buffer_none();
	}
	pthread_mutex_unlock(&f->lock);
	wbuf_release(buffer);
	*buffer = buffer_none();
}

static int load_chunk(struct fetch *f, struct fetch_worker *worker,
		      const struct fetch_want *want, struct chunk **out, struct err *err)
{
	struct chunk *chunk;
	int rc;

	if (!worker->codec)
		worker->codec = blob_codec_new();
	chunk = worker->codec ? chunk_new(f->cache, &want->key, want->size, want->class_) : NULL;
	if (!chunk)
		return err_set(err, ENOMEM, "out of memory");
	worker->keep = false;
	rc = want->source->load(want->source, worker, want->index, chunk, err);
	if (rc < 0) {
		chunk_unref(chunk);
		return rc;
	}
	chunk = chunk_cache_insert(f->cache, chunk);
	rc = check_size(want, &chunk, err);
	*out = chunk;
	return rc;
}

static void load_run(struct fetch *f, struct fetch_worker *worker, struct fetch_load *load)
{
	struct fetch_want want = load->want; /* constant while it runs */
	struct chunk *chunk = NULL;
	struct err err = ERR_INIT;
	int rc = load_chunk(f, worker, &want, &chunk, &err);
	bool keep = rc == 0 && worker->keep;

	if (!keep)
		buffer_give(f, &worker->encoded);
	if (rc < 0)
		rc = wrap_error(&want, rc, &err);
	load_finish(f, load, chunk, rc, keep, &err);
	if (!keep)
		return;
	/* Nobody waits for that, but it counts as running: a slow disk must not fill memory. */
	disk_cache_put(f->disk, &worker->digest, worker->encoded.data, worker->encoded.size);
	buffer_give(f, &worker->encoded);
	pthread_mutex_lock(&f->lock);
	run_over(f, want.size);
	pthread_mutex_unlock(&f->lock);
}

static bool may_run(const struct fetch *f, const struct fetch_load *load)
{
	return f->running < RUNNING_COUNT_MIN ||
	       f->running_bytes + load->want.size <=
		       chunk_cache_bytes_max(f->cache) / RUNNING_SHARE;
}

/* The most urgent load, now running; NULL: none, or not now.  Under f->lock. */
static struct fetch_load *next_load(struct fetch *f)
{
	struct fetch_load *load = NULL;

	for (int i = 0; i < LANE_COUNT && !load; i++)
		load = TAILQ_FIRST(&f->lanes[i].loads);
	if (!load || !may_run(f, load))
		return NULL;
	lane_remove(f, load);
	load->running = true;
	f->running++;
	f->running_bytes += load->want.size;
	if (TAILQ_EMPTY(&load->waits))
		f->stats.hints++;
	if (load->want.size > 0 && load->want.class_ == CHUNK_META)
		f->stats.meta_loads++;
	else if (load->want.size > 0)
		f->stats.payload_loads++;
	return load;
}

/* Wait for work.  After a moment without any the spare buffers go. */
static void worker_idle(struct fetch *f)
{
	struct wbuf buffer = buffer_none();
	struct timespec until;
	int rc = 0;

	f->idle_count++;
	if (f->spare_count > 0) {
		until = wait_until(CLOCK_MONOTONIC, SPARE_SECONDS * 1000);
		rc = pthread_cond_timedwait(&f->work, &f->lock, &until);
	} else {
		pthread_cond_wait(&f->work, &f->lock);
	}
	f->idle_count--;
	if (rc != ETIMEDOUT || f->running > 0)
		return;
	buffer = buffer_take(f);
	pthread_mutex_unlock(&f->lock);
	wbuf_release(&buffer);
	pthread_mutex_lock(&f->lock);
}

static void *worker_main(void *arg)
{
	struct fetch_worker worker = {
		.encoded = buffer_none(),
		.disk = ((struct fetch *)arg)->disk,
	};
	struct fetch *f = arg;

	pthread_setname_np(pthread_self(), "fetch");
	pthread_mutex_lock(&f->lock);
	while (!f->stopping) {
		struct fetch_load *load = next_load(f);

		if (!load) {
			worker_idle(f);
			continue;
		}
		worker.encoded = buffer_take(f);
		pthread_mutex_unlock(&f->lock);
		load_run(f, &worker, load);
		pthread_mutex_lock(&f->lock);
	}
	pthread_mutex_unlock(&f->lock);
	blob_codec_free(worker.codec);
	return NULL;
}

/* Wake a thread for a load just queued, or start one.  Signals stay with the threads of the
 * program that expect them.  Under f->lock.  False: nobody will ever run it. */
static bool wake_worker(struct fetch *f)
{
	sigset_t all, old;
	int rc;

	if (f->idle_count >= f->queued || f->thread_count == f->thread_count_max) {
		pthread_cond_signal(&f->work);
		return true;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&f->threads[f->thread_count], NULL, worker_main, f);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		f->thread_count++;
	else
		pthread_cond_signal(&f->work);
	return f->thread_count > 0;
}

/* --- the interface --- */

struct fetch *fetch_new(struct chunk_cache *cache, unsigned thread_count)
{
	struct fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->cache = cache;
	f->thread_count_max = thread_count;
	if (f->thread_count_max < 1)
		f->thread_count_max = 1;
	if (f->thread_count_max > FETCH_THREAD_COUNT_MAX)
		f->thread_count_max = FETCH_THREAD_COUNT_MAX;
	pthread_mutex_init(&f->lock, NULL);
	for (int i = 0; i < LANE_COUNT; i++)
		TAILQ_INIT(&f->lanes[i].loads);
	wait_cond_init(&f->work);
	pthread_cond_init(&f->drained, NULL);
	return f;
}

void fetch_set_disk_cache(struct fetch *f, struct disk_cache *disk)
{
	f->disk = disk;
}

/* All waits of all queued loads, which are forgotten.  Under f->lock. */
static void take_queued(struct fetch *f, struct fetch_waits *taken)
{
	struct fetch_load *load;

	for (int i = 0; i < LANE_COUNT; i++) {
		while ((load = TAILQ_FIRST(&f->lanes[i].loads))) {
			take_all_waits(f, load, taken);
			load_drop(f, load);
		}
	}
}

void fetch_stop(struct fetch *f)
{
	struct fetch_waits waits = TAILQ_HEAD_INITIALIZER(waits);

	pthread_mutex_lock(&f->lock);
	f->stopping = true;
	take_queued(f, &waits);
	pthread_cond_broadcast(&f->work);
	pthread_mutex_unlock(&f->lock);
	deliver_stopped(&waits);
}

void fetch_free(struct fetch *f)
{
	if (!f)
		return;
	fetch_stop(f);
	for (unsigned i = 0; i < f->thread_count; i++)
		pthread_join(f->threads[i], NULL);
	while (f->spare_count > 0)
		wbuf_release(&f->spares[--f->spare_count]);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->work);
	pthread_cond_destroy(&f->drained);
	free(f);
}

/* A new load with somebody to run it.  Under f->lock. */
static int queue_load(struct fetch *f, const struct fetch_want *want, enum lane_id lane,
		      struct fetch_load **out, struct err *err)
{
	struct fetch_load *load = load_new(f, want, lane);

	if (!load)
		return err_set(err, ENOMEM, "out of memory");
	if (!wake_worker(f)) {
		load_drop(f, load);
		return err_set(err, ENOMEM, "cannot start a thread");
	}
	*out = load;
	return 0;
}

/* The load to wait for, or the chunk that came meanwhile.  Under f->lock. */
static int join_load(struct fetch *f, const struct fetch_want *want, enum lane_id lane,
		     struct fetch_load **load, struct chunk **chunk, struct err *err)
{
	if (f->stopping)
		return err_set(err, ECANCELED, "stopped");
	*load = load_find(f, &want->key);
	if (*load)
		return 0;
	*chunk = chunk_cache_peek(f->cache, &want->key);
	return *chunk ? 0 : queue_load(f, want, lane, load, err);
}

/* A chunk that was in the cache, with a reference that goes to the waiter. */
static void deliver_cached(struct fetch_wait *wait, struct chunk *chunk)
{
	struct err err = ERR_INIT;
	int rc = check_size(&wait->want, &chunk, &err);

	if (rc == 0)
		wait->done(wait->arg, chunk, 0, &err);
	else
		deliver_error(wait, wrap_error(&wait->want, rc, &err), &err);
}

void fetch_get(struct fetch *f, const struct fetch_want *want, struct fetch_wait *wait)
{
	struct chunk *chunk = NULL;
	struct fetch_load *load = NULL;
	struct err err = ERR_INIT;
	int rc;

	pthread_mutex_lock(&f->lock);
	wait->want = *want;
	wait->load = NULL;
	rc = join_load(f, want, lane_for(want), &load, &chunk, &err);
	if (load)
		wait_attach(f, load, wait);
	pthread_mutex_unlock(&f->lock);

	if (chunk)
		deliver_cached(wait, chunk);
	else if (rc < 0)
		deliver_error(wait, wrap_error(want, rc, &err), &err);
}

void fetch_hint(struct fetch *f, const struct fetch_want *want)
{
	struct chunk *chunk = NULL;
	struct fetch_load *load;

	pthread_mutex_lock(&f->lock);
	if (f->lanes[LANE_HINT].count < FETCH_HINT_COUNT_MAX)
		join_load(f, want, LANE_HINT, &load, &chunk, NULL);
	pthread_mutex_unlock(&f->lock);
	chunk_unref(chunk);
}

struct blocking_wait {
	struct fetch_wait wait;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t over;
	bool is_over;
	struct chunk *chunk;
	int rc;
	struct err err;
};

static void blocking_done(void *arg, struct chunk *chunk, int rc, const struct err *err)
{
	struct blocking_wait *b = arg;

	pthread_mutex_lock(&b->lock);
	b->chunk = chunk;
	b->rc = rc;
	if (rc < 0)
		b->err = *err;
	b->is_over = true;
	pthread_cond_signal(&b->over);
	pthread_mutex_unlock(&b->lock);
}

/* Until it is over, or (`until` NULL: never) so long; whether it is. */
static bool await_over(struct blocking_wait *b, const struct timespec *until)
{
	bool is_over;

	pthread_mutex_lock(&b->lock);
	while (!b->is_over)
		if (!until)
			pthread_cond_wait(&b->over, &b->lock);
		else if (pthread_cond_timedwait(&b->over, &b->lock, until) == ETIMEDOUT)
			break;
	is_over = b->is_over;
	pthread_mutex_unlock(&b->lock);
	return is_over;
}

static int wait_for(struct fetch *f, const struct fetch_want *want, const struct timespec *until,
		    struct chunk **out, struct err *err)
{
	struct blocking_wait b = {
		.wait = { .done = blocking_done, .arg = &b },
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};

	wait_cond_init(&b.over);
	fetch_get(f, want, &b.wait);
	if (!await_over(&b, until)) {
		if (fetch_cancel(f, &b.wait))
			b.rc = err_set(&b.err, EAGAIN, "no answer yet");
		else
			await_over(&b, NULL); /* it is just coming */
	}
	pthread_mutex_destroy(&b.lock);
	pthread_cond_destroy(&b.over);
	if (b.rc < 0) {
		if (err)
			*err = b.err;
		return b.rc;
	}
	*out = b.chunk;
	return 0;
}

int fetch_wait_for(struct fetch *f, const struct fetch_want *want, struct chunk **out,
		   struct err *err)
{
	return wait_for(f, want, NULL, out, err);
}

int fetch_wait_within(struct fetch *f, const struct fetch_want *want, unsigned wait_ms,
		      struct chunk **out, struct err *err)
{
	struct timespec until = wait_until(CLOCK_MONOTONIC, wait_ms);

	return wait_for(f, want, &until, out, err);
}

bool fetch_cancel(struct fetch *f, struct fetch_wait *wait)
{
	struct fetch_load *load;

	pthread_mutex_lock(&f->lock);
	load = wait->load;
	if (load) {
		wait_detach(f, wait);
		if (!load->running && TAILQ_EMPTY(&load->waits))
			load_drop(f, load);
	}
	pthread_mutex_unlock(&f->lock);
	return load != NULL;
}

/* Under f->lock. */
static void drop_hints(struct fetch *f, struct fetch_source *source)
{
	for (int i = 0; i < LANE_COUNT; i++) {
		struct fetch_load *next = TAILQ_FIRST(&f->lanes[i].loads), *load;

		while ((load = next)) {
			next = TAILQ_NEXT(load, link);
			if (load->want.source == source && TAILQ_EMPTY(&load->waits))
				load_drop(f, load);
		}
	}
}

void fetch_drain(struct fetch *f, struct fetch_source *source)
{
	pthread_mutex_lock(&f->lock);
	drop_hints(f, source);
	while (source->pending > 0)
		pthread_cond_wait(&f->drained, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

bool fetch_is_idle(struct fetch *f, const struct fetch_source *source)
{
	bool idle;

	pthread_mutex_lock(&f->lock);
	idle = source->pending == 0;
	pthread_mutex_unlock(&f->lock);
	return idle;
}

void fetch_stats(struct fetch *f, struct fetch_stats *out)
{
	pthread_mutex_lock(&f->lock);
	*out = f->stats;
	out->queued = f->queued;
	out->running = f->running;
	out->threads = f->thread_count;
	pthread_mutex_unlock(&f->lock);
}

struct chunk_cache *fetch_cache(struct fetch *f)
{
	return f->cache;
}
