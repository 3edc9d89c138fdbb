/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/upload.h"

#include "archive/chunker.h"
#include "archive/base/grow.h"
#include "client/backup/queue.h"
#include "client/backup/ring.h"
#include "client/base/clock.h"
#include "client/base/wait.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>

enum {
	STOP_POLL_MS = 100, /* how soon a waiting writer sees the stop flag */
	/* In the queue, with the writer, with the chunker and looked ahead to. */
	PIECE_COUNT = UPLOAD_QUEUE_COUNT + 3,
	INJECTED_MAX = 128, /* chunks with one piece */
};

/* Bytes that the writer handed over together, the suggestions it made up to their end, and the
 * chunks of older indexes that come behind them. */
struct piece {
	size_t size;
	uint64_t *cuts;
	size_t cut_count, cut_capacity;
	struct upload_chunk *injected; /* room for INJECTED_MAX, or NULL */
	size_t injected_count;
};

/* One chunk between the chunker and the index. */
struct slot {
	struct upload_job job;
	struct upload *upload;
	uint64_t begin; /* of its bytes, among those written */
	size_t written_size; /* of those: 0 when it is injected */
	size_t size;
	struct digest digest; /* set by the worker */
	bool stored; /* lock */
};

struct upload {
	struct upload_pool *pool;
	struct repo_writer *writer;
	struct repo_index *index; /* NULL: dry run, or closed */
	char *name;
	struct upload_stats *stats;
	const atomic_bool *stop;
	int64_t begun_ms;
	struct ring ring;
	size_t ring_reserved; /* of the pool's memory */

	/* Writer only: */
	uint64_t written;
	uint64_t room_end; /* written may get that far without asking */
	void *reserved; /* lent by upload_reserve(); NULL: nothing is */
	struct piece *piece; /* being filled; NULL: none yet */
	bool ended;
	atomic_bool failed_first;

	struct queue *pieces, *free_pieces;
	struct piece piece_store[PIECE_COUNT];

	/* Chunker thread only: */
	pthread_t chunker_thread;
	bool chunker_started; /* immutable once open */
	bool suggestions;
	struct chunker_suggest chunker; /* .plain alone without suggestions */
	uint64_t chunk_begin; /* among the bytes written */
	uint64_t injected; /* bytes of chunks before it that were not */
	size_t scanned, buffered; /* bytes of the current chunk */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* lock: */
	struct slot *slots; /* ring of slot_count; [slot_begin, + slots_used) in stream order */
	size_t slot_begin, slots_used;
	uint64_t released; /* bytes before it are no longer needed */
	bool indexing; /* one worker adds to the index, without the lock */
	bool aborted;
	int failed; /* 0 or the first failure */
	struct err failure;

	size_t slot_count; /* immutable */
};

/* --- failure --- */

/* Keep the first failure and stop everybody. */
static void fail(struct upload *u, int rc, const struct err *err)
{
	pthread_mutex_lock(&u->lock);
	if (!u->failed) {
		u->failed = rc;
		u->failure = *err;
		err_wrap(&u->failure, rc, "%s", u->name);
	}
	/* Whoever sees this stream's failure sees the pool's too. */
	upload_pool_fail(u->pool);
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
	queue_abort(u->pieces);
	queue_abort(u->free_pieces);
}

/* With the lock held: 0, the failure, or -ECANCELED. */
static int state_of(const struct upload *u, struct err *err)
{
	if (u->failed) {
		if (err)
			*err = u->failure;
		return u->failed;
	}
	return u->aborted ? err_set(err, ECANCELED, "%s: given up", u->name) : 0;
}

static bool is_over(struct upload *u)
{
	bool over;

	pthread_mutex_lock(&u->lock);
	over = u->failed || u->aborted;
	pthread_mutex_unlock(&u->lock);
	return over;
}

/* What the writer is told when it cannot go on. */
static int writer_failure(struct upload *u, struct err *err)
{
	int rc;

	pthread_mutex_lock(&u->lock);
	rc = state_of(u, err);
	pthread_mutex_unlock(&u->lock);
	if (rc < 0 && rc != -ECANCELED)
		atomic_store(&u->failed_first, true);
	return rc ? rc : err_set(err, ECANCELED, "%s: given up", u->name);
}

static bool writer_should_stop(const struct upload *u)
{
	return (u->stop && atomic_load_explicit(u->stop, memory_order_relaxed)) ||
	       upload_pool_failed(u->pool);
}

/* --- store: a pool's thread --- */

/* With the lock held, given up over I/O: index what is stored, as far as the order allows.
 * One worker at a time does so; the others leave their chunk to it. */
static void index_stored(struct upload *u)
{
	if (u->indexing)
		return;
	u->indexing = true;
	while (u->slots_used && u->slots[u->slot_begin].stored) {
		struct slot *s = &u->slots[u->slot_begin];
		bool skip = u->failed || u->aborted;
		struct err err = ERR_INIT;
		int rc;

		pthread_mutex_unlock(&u->lock);
		rc = skip ? 0 : chunk_store_index(u->writer, u->index, s->size, &s->digest,
						  u->stats, &err);
		if (rc < 0)
			fail(u, rc, &err);
		pthread_mutex_lock(&u->lock);
		u->released = s->begin + s->written_size;
		s->stored = false;
		u->slot_begin = (u->slot_begin + 1) % u->slot_count;
		u->slots_used--;
		pthread_cond_broadcast(&u->changed);
	}
	u->indexing = false;
}

static void run_job(struct upload_job *job, struct upload_worker *w)
{
	struct slot *s = (struct slot *)((char *)job - offsetof(struct slot, job));
	struct upload *u = s->upload;
	struct err err = ERR_INIT;
	int rc = is_over(u) ? 0 : chunk_store(u->writer, w, ring_at(&u->ring, s->begin), s->size,
					      u->stats, &s->digest, &err);

	if (rc < 0)
		fail(u, rc, &err);
	pthread_mutex_lock(&u->lock);
	s->stored = true;
	index_stored(u);
	pthread_mutex_unlock(&u->lock);
}

/* --- cut: the chunker thread --- */

static int wait_for_slot(struct upload *u, struct slot **out)
{
	int rc;

	pthread_mutex_lock(&u->lock);
	while (u->slots_used == u->slot_count && !u->failed && !u->aborted)
		pthread_cond_wait(&u->changed, &u->lock);
	rc = state_of(u, NULL);
	if (rc == 0)
		*out = &u->slots[(u->slot_begin + u->slots_used++) % u->slot_count];
	pthread_mutex_unlock(&u->lock);
	return rc;
}

/* The first `size` buffered bytes are a chunk. */
static int emit_chunk(struct upload *u, size_t size)
{
	struct slot *s = NULL;
	int rc = wait_for_slot(u, &s);

	if (rc)
		return rc;
	s->begin = u->chunk_begin;
	s->size = s->written_size = size;
	u->chunk_begin += size;
	u->buffered -= size;
	u->scanned = 0;
	upload_pool_submit(u->pool, &s->job);
	return 0;
}

static enum chunker_cut scan_rest(struct upload *u, const uint64_t *boundary, size_t *chunk_size)
{
	const uint8_t *data = ring_at(&u->ring, u->chunk_begin + u->scanned);
	size_t size = u->buffered - u->scanned, cut;

	if (u->suggestions)
		return chunker_suggest_scan_forced(&u->chunker, u->chunk_begin + u->injected,
						   u->scanned, data, size, boundary, chunk_size);
	cut = chunker_scan(&u->chunker.plain, data, size);
	*chunk_size = u->scanned + cut;
	return cut ? CHUNKER_CUT_FOUND : CHUNKER_CUT_NONE;
}

/* It is in the repository: straight to the index, behind those that are yet to get there. */
static int emit_injected(struct upload *u, const struct upload_chunk *c)
{
	struct slot *s = NULL;
	int rc = wait_for_slot(u, &s);

	if (rc < 0)
		return rc;
	atomic_fetch_add(&u->stats->reused_chunks, 1);
	atomic_fetch_add(&u->stats->reused_bytes, c->size);
	atomic_fetch_add(&u->stats->injected_chunks, 1);
	atomic_fetch_add(&u->stats->injected_bytes, c->size);
	u->injected += c->size;
	pthread_mutex_lock(&u->lock);
	s->begin = u->chunk_begin;
	s->written_size = 0;
	s->size = c->size;
	s->digest = c->digest;
	s->stored = true;
	index_stored(u);
	pthread_mutex_unlock(&u->lock);
	return 0;
}

static int inject(struct upload *u, const struct piece *p)
{
	int rc = 0;

	for (size_t i = 0; i < p->injected_count && rc == 0; i++)
		rc = emit_injected(u, &p->injected[i]);
	return rc;
}

static int scan_piece(struct upload *u, const struct piece *p)
{
	const uint64_t end = u->chunk_begin + u->injected + u->buffered + p->size;
	bool forced = p->injected_count > 0;
	int rc = 0;

	u->buffered += p->size;
	while (rc == 0 && (u->scanned < u->buffered || forced)) {
		size_t size = 0;
		enum chunker_cut cut = scan_rest(u, forced ? &end : NULL, &size);

		if (cut == CHUNKER_CUT_NONE)
			u->scanned = u->buffered;
		else if (size)
			rc = emit_chunk(u, size);
		if (cut == CHUNKER_CUT_FORCED)
			forced = false;
	}
	return rc == 0 ? inject(u, p) : rc;
}

static int take_suggestions(struct upload *u, const struct piece *p)
{
	int rc = 0;

	for (size_t i = 0; i < p->cut_count && rc == 0; i++)
		rc = chunker_suggest_add(&u->chunker, p->cuts[i]);
	return rc;
}

static void recycle(struct upload *u, struct piece *p)
{
	p->size = 0;
	p->cut_count = p->injected_count = 0;
	queue_push(u->free_pieces, p, QUEUE_FOREVER);
}

static int scan_and_recycle(struct upload *u, struct piece *p)
{
	int rc = scan_piece(u, p);

	if (rc == 0)
		recycle(u, p);
	return rc;
}

/* `*previous` is the piece before `p`, whose end may have been suggested with `p`: it is
 * scanned now and `p` waits in its place, unless it ends with a cut that is forced.  Without
 * suggestions nothing has to wait. */
static int take_piece(struct upload *u, struct piece *p, struct piece **previous)
{
	const bool waits = u->suggestions && !p->injected_count;
	int rc = u->suggestions ? take_suggestions(u, p) : 0;

	if (rc == 0 && *previous)
		rc = scan_and_recycle(u, *previous);
	*previous = waits ? p : NULL;
	return rc == 0 && !waits ? scan_and_recycle(u, p) : rc;
}

static int cut_stream(struct upload *u)
{
	struct piece *previous = NULL;
	void *item;
	int rc;

	while ((rc = queue_pop(u->pieces, &item)) == 0) {
		rc = take_piece(u, item, &previous);
		if (rc < 0)
			return rc;
	}
	if (rc == 1)
		rc = previous ? scan_piece(u, previous) : 0;
	if (rc == 0 && u->buffered)
		rc = emit_chunk(u, u->buffered);
	return rc;
}

static void *run_chunker(void *arg)
{
	struct upload *u = arg;
	struct err err = ERR_INIT;
	int rc = cut_stream(u);

	/* -ECANCELED: somebody else's failure, which is kept already, or an abort. */
	if (rc < 0 && rc != -ECANCELED)
		fail(u, rc, &err);
	return NULL;
}

/* --- write: the producer's thread --- */

/* Wait until `size` more bytes fit into the ring. */
static int wait_for_room(struct upload *u, size_t size)
{
	int rc;

	if (u->written + size <= u->room_end)
		return 0;
	pthread_mutex_lock(&u->lock);
	while ((rc = state_of(u, NULL)) == 0 && u->written + size - u->released > u->ring.size) {
		struct timespec deadline = wait_until(CLOCK_MONOTONIC, STOP_POLL_MS);

		if (writer_should_stop(u)) {
			rc = -ECANCELED;
			break;
		}
		pthread_cond_timedwait(&u->changed, &u->lock, &deadline);
	}
	u->room_end = u->released + u->ring.size;
	pthread_mutex_unlock(&u->lock);
	return rc;
}

/* End the piece and hand it to the chunker. */
static int flush_piece(struct upload *u)
{
	int rc;

	if (!u->piece ||
	    (u->piece->size == 0 && u->piece->cut_count == 0 && u->piece->injected_count == 0))
		return 0;
	while ((rc = queue_push(u->pieces, u->piece, STOP_POLL_MS)) == -ETIMEDOUT) {
		if (writer_should_stop(u))
			return -ECANCELED;
	}
	if (rc == 0)
		u->piece = NULL;
	return rc;
}

/* There are more pieces than can be anywhere else, so this does not wait long. */
static int ensure_piece(struct upload *u)
{
	void *item;
	int rc = u->piece ? 0 : queue_pop(u->free_pieces, &item);

	if (rc == 0 && !u->piece)
		u->piece = item;
	return rc;
}

static int append(struct upload *u, const void *data, size_t size)
{
	int rc = ensure_piece(u);

	if (rc == 0)
		rc = wait_for_room(u, size);
	if (rc)
		return rc;
	if (data != u->reserved)
		memcpy(ring_at(&u->ring, u->written), data, size);
	u->reserved = NULL;
	u->written += size;
	u->piece->size += size;
	return 0;
}

static int write_part(struct upload *u, const void *data, size_t size)
{
	const bool own_piece = size >= UPLOAD_BUFFER_SIZE;
	int rc = 0;

	if (u->piece && size > UPLOAD_BUFFER_SIZE - u->piece->size)
		rc = flush_piece(u);
	if (rc == 0)
		rc = append(u, data, size);
	if (rc == 0 && own_piece)
		rc = flush_piece(u);
	return rc;
}

void *upload_reserve(void *upload, size_t size)
{
	struct upload *u = upload;

	if (size > UPLOAD_RESERVE_SIZE_MAX || wait_for_room(u, size) < 0)
		return NULL; /* a failure is reported by the write that follows */
	u->reserved = ring_at(&u->ring, u->written);
	return u->reserved;
}

int upload_write(void *upload, const void *data, size_t size, struct err *err)
{
	struct upload *u = upload;
	const uint8_t *p = data;

	assert(!u->ended);
	if (writer_should_stop(u))
		return writer_failure(u, err);
	while (size > 0) {
		size_t part = size < UPLOAD_PIECE_SIZE_MAX ? size : UPLOAD_PIECE_SIZE_MAX;

		if (write_part(u, p, part) < 0)
			return writer_failure(u, err);
		p += part;
		size -= part;
	}
	return 0;
}

void upload_suggest_cut(void *upload, uint64_t payload_offset)
{
	struct upload *u = upload;
	struct piece *p;

	/* A failure is reported by the write that follows. */
	if (ensure_piece(u) != 0)
		return;
	p = u->piece;
	/* Saying it twice changes nothing. */
	if (p->cut_count && p->cuts[p->cut_count - 1] == payload_offset)
		return;
	/* Without memory only a good place for a cut is lost. */
	if (grow(&p->cuts, &p->cut_capacity, p->cut_count + 1, SIZE_MAX, sizeof(*p->cuts)) == 0)
		p->cuts[p->cut_count++] = payload_offset;
}

int upload_reuse_chunk(struct upload *u, const struct digest *digest, struct err *err)
{
	return chunk_store_reuse(u->writer, upload_pool_known(u->pool), digest, err);
}

static int inject_piece(struct upload *u, const struct upload_chunk *chunks, size_t count)
{
	int rc = ensure_piece(u);
	struct piece *p = u->piece;

	if (rc != 0)
		return rc;
	if (!p->injected)
		p->injected = calloc(INJECTED_MAX, sizeof(*p->injected));
	if (!p->injected)
		return -ENOMEM;
	memcpy(p->injected, chunks, count * sizeof(*chunks));
	p->injected_count = count;
	return flush_piece(u);
}

int upload_inject(struct upload *u, const struct upload_chunk *chunks, size_t count,
		  struct err *err)
{
	assert(!u->ended && u->suggestions);
	if (writer_should_stop(u))
		return writer_failure(u, err);
	while (count > 0) {
		size_t part = count < INJECTED_MAX ? count : INJECTED_MAX;
		int rc = inject_piece(u, chunks, part);

		if (rc == -ENOMEM)
			return err_set(err, ENOMEM, "%s: out of memory", u->name);
		if (rc != 0)
			return writer_failure(u, err);
		chunks += part;
		count -= part;
	}
	return 0;
}

int upload_end(struct upload *u, struct err *err)
{
	if (flush_piece(u) < 0)
		return writer_failure(u, err);
	u->ended = true;
	queue_close(u->pieces);
	return 0;
}

void upload_abort(struct upload *u)
{
	pthread_mutex_lock(&u->lock);
	u->aborted = true;
	pthread_cond_broadcast(&u->changed);
	pthread_mutex_unlock(&u->lock);
	queue_abort(u->pieces);
	queue_abort(u->free_pieces);
}

/* --- begin and end --- */

/* Wait until neither the chunker nor the pool has anything of this stream. */
static void wait_for_threads(struct upload *u)
{
	if (u->chunker_started)
		pthread_join(u->chunker_thread, NULL);
	u->chunker_started = false;
	pthread_mutex_lock(&u->lock);
	while (u->slots_used || u->indexing)
		pthread_cond_wait(&u->changed, &u->lock);
	pthread_mutex_unlock(&u->lock);
}

int upload_finish(struct upload *u, uint64_t *size, struct digest *csum, struct err *err)
{
	struct digest sum = { 0 };
	struct err why = ERR_INIT;
	uint64_t total;
	int rc;

	wait_for_threads(u);
	pthread_mutex_lock(&u->lock);
	rc = state_of(u, err);
	pthread_mutex_unlock(&u->lock);
	if (rc < 0)
		return rc;
	assert(u->ended);
	total = u->written + u->injected;
	if (u->index)
		rc = repo_index_close(u->writer, steal(&u->index), &total, &sum, &why);
	if (rc < 0) {
		fail(u, rc, &why);
		return writer_failure(u, err);
	}
	atomic_store(&u->stats->elapsed_ms, clock_now_ms() - u->begun_ms);
	*size = total;
	*csum = sum;
	return 0;
}

bool upload_failed_first(const struct upload *u)
{
	return atomic_load(&u->failed_first);
}

int upload_know_index(struct upload *u, const struct didx *previous, struct err *err)
{
	struct known_set *set = upload_pool_known(u->pool);

	for (size_t i = 0; i < previous->count; i++) {
		struct digest digest;
		uint64_t begin, end;
		int rc;

		didx_chunk(previous, i, &begin, &end, &digest);
		rc = known_add(set, &digest);
		if (rc < 0)
			return err_set(err, -rc, "%s: out of memory", u->name);
	}
	return 0;
}

static void init_chunker(struct upload *u, const struct upload_params *params)
{
	u->suggestions = params->suggestions;
	if (u->suggestions)
		chunker_suggest_init(&u->chunker, params->chunk_size_avg);
	else
		chunker_init(&u->chunker.plain, params->chunk_size_avg);
}

/* The ring holds the chunk being collected, a piece being scanned, one that is not full and one
 * being written, and beyond that one largest chunk, or some average ones, in work. */
static int init_ring(struct upload *u, struct err *err)
{
	const size_t chunk_size_max = u->chunker.plain.size_max;
	const size_t span = chunk_size_max > UPLOAD_RESERVE_SIZE_MAX ? chunk_size_max :
									UPLOAD_RESERVE_SIZE_MAX;
	const size_t size = 2 * chunk_size_max + UPLOAD_PIECE_SIZE_MAX +
			    UPLOAD_RESERVE_SIZE_MAX + UPLOAD_BUFFER_SIZE;
	int rc = upload_pool_reserve(u->pool, size, err);

	if (rc < 0)
		return rc;
	u->ring_reserved = size;
	return ring_init(&u->ring, size, span, err);
}

static int init_slots(struct upload *u, struct err *err)
{
	u->slot_count = UPLOAD_QUEUE_COUNT + upload_pool_threads(u->pool);
	u->slots = calloc(u->slot_count, sizeof(*u->slots));
	if (!u->slots)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < u->slot_count; i++) {
		u->slots[i].job.run = run_job;
		u->slots[i].upload = u;
	}
	return 0;
}

static int init_queues(struct upload *u, struct err *err)
{
	int rc = queue_new(&u->pieces, UPLOAD_QUEUE_COUNT, err);

	if (rc == 0)
		rc = queue_new(&u->free_pieces, PIECE_COUNT, err);
	for (size_t i = 0; rc == 0 && i < PIECE_COUNT; i++)
		rc = queue_push(u->free_pieces, &u->piece_store[i], 0);
	return rc;
}

static void init_locks(struct upload *u)
{
	pthread_mutex_init(&u->lock, NULL);
	wait_cond_init(&u->changed);
}

int upload_new(struct upload **out, struct upload_pool *pool,
	       const struct upload_params *params, struct err *err)
{
	AUTO(upload) struct upload *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return err_set(err, ENOMEM, "out of memory");
	u->pool = pool;
	u->writer = params->writer;
	u->stats = params->stats;
	u->stop = params->stop;
	u->begun_ms = clock_now_ms();
	init_locks(u);
	init_chunker(u, params);
	u->name = strdup(params->index_name);
	rc = u->name ? init_queues(u, err) : err_set(err, ENOMEM, "out of memory");
	if (rc == 0)
		rc = init_slots(u, err);
	if (rc == 0)
		rc = init_ring(u, err);
	if (rc == 0 && u->writer)
		rc = repo_writer_index_open(u->writer, u->name, &u->index, err);
	if (rc < 0)
		return rc;
	rc = pthread_create(&u->chunker_thread, NULL, run_chunker, u);
	if (rc != 0)
		return err_sys(err, rc, "cannot start a thread");
	u->chunker_started = true;
	*out = steal(&u);
	return 0;
}

static void free_piece(struct piece *p)
{
	free(p->cuts);
	free(p->injected);
}

void upload_free(struct upload *u)
{
	if (!u)
		return;
	if (u->pieces && u->free_pieces)
		upload_abort(u);
	wait_for_threads(u);
	if (u->suggestions)
		chunker_suggest_release(&u->chunker);
	for (size_t i = 0; i < PIECE_COUNT; i++)
		free_piece(&u->piece_store[i]);
	ring_release(&u->ring);
	upload_pool_unreserve(u->pool, u->ring_reserved);
	queue_free(u->pieces);
	queue_free(u->free_pieces);
	free(u->slots);
	free(u->name);
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->lock);
	free(u);
}
