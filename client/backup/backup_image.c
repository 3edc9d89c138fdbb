/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/backup_image.h"

#include "archive/base/cleanup.h"
#include "client/base/clock.h"
#include "client/fs/content.h"
#include "client/fs/image_source.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum {
	CHUNK_SIZE = FIDX_CHUNK_SIZE,
	AHEAD_COUNT = 4, /* chunks that the kernel is asked for beyond those in work */
};

/* One chunk between the calling thread and the index. */
struct slot {
	struct upload_job job;
	struct run *run;
	uint64_t begin;
	size_t size;
	bool is_hole;
	struct digest digest; /* set by the worker */
	bool stored; /* lock */
};

struct run {
	const struct backup_image *image;
	struct upload_stats *stats;
	struct image_source source;
	struct repo_index *index; /* NULL: dry run, or closed */
	const uint8_t *zeros; /* a chunk of them */
	size_t reserved; /* of the pool's memory */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* lock: */
	struct slot *slots; /* ring of slot_count; [slot_begin, + slots_used) in order */
	size_t slot_begin, slots_used;
	uint8_t **buffers; /* free ones */
	size_t buffer_count;
	bool indexing; /* one thread adds to the index, without the lock */
	bool zero_known, zero_stored; /* the digest; the chunk */
	struct digest zero_digest;
	uint64_t lost_bytes, lost_begin; /* lowest offset */
	int lost_errno; /* 0: none */
	int failed; /* 0 or the first failure */
	struct err failure;

	size_t slot_count, buffers_made; /* immutable */
};

static const char *path_of(const struct run *r)
{
	return r->image->path;
}

static void fail(struct run *r, int rc, const struct err *err)
{
	pthread_mutex_lock(&r->lock);
	if (!r->failed) {
		r->failed = rc;
		r->failure = *err;
	}
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static __attribute__((format(printf, 3, 4))) void warn(const struct run *r, bool lost,
							const char *format, ...)
{
	char reason[ERR_TEXT_SIZE], text[2 * ERR_TEXT_SIZE];
	va_list ap;

	if (!r->image->warn)
		return;
	va_start(ap, format);
	vsnprintf(reason, sizeof(reason), format, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "%s: %s", path_of(r), reason);
	r->image->warn(r->image->warn_arg, lost, text);
}

/* --- index: in order, by whoever has stored a chunk --- */

/* With the lock held, given up over I/O. */
static void index_stored(struct run *r)
{
	if (r->indexing)
		return;
	r->indexing = true;
	while (r->slots_used && r->slots[r->slot_begin].stored) {
		struct slot *s = &r->slots[r->slot_begin];
		bool skip = r->failed;
		struct err err = ERR_INIT;
		int rc;

		pthread_mutex_unlock(&r->lock);
		rc = skip ? 0 : chunk_store_index(r->image->target.writer, r->index, s->size,
						  &s->digest, r->stats, &err);
		if (rc < 0)
			fail(r, rc, &err);
		pthread_mutex_lock(&r->lock);
		s->stored = false;
		r->slot_begin = (r->slot_begin + 1) % r->slot_count;
		r->slots_used--;
		pthread_cond_broadcast(&r->changed);
	}
	r->indexing = false;
}

/* --- read and store: a pool's thread --- */

static bool is_all_zero(const uint8_t *data, size_t size)
{
	return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

static void note_loss(struct run *r, const struct content *c)
{
	if (!c->lost_errno)
		return;
	pthread_mutex_lock(&r->lock);
	if (!r->lost_errno || c->lost_begin < r->lost_begin) {
		r->lost_errno = c->lost_errno;
		r->lost_begin = c->lost_begin;
	}
	r->lost_bytes += c->lost_bytes;
	pthread_mutex_unlock(&r->lock);
}

static int read_chunk(struct run *r, const struct slot *s, uint8_t *data, struct err *err)
{
	struct content content;
	ssize_t n;

	content_init(&content, r->source.fd, &r->source.st, r->image->skip_read_errors);
	n = content_read(&content, s->begin, data, s->size, s->size, err);
	note_loss(r, &content);
	if (n < 0)
		return err_wrap(err, (int)n, "%s: at byte %" PRIu64, path_of(r), s->begin);
	if ((size_t)n < s->size)
		return err_set(err, EIO,
			       "%s: shrank while it was read: it ends at byte %" PRIu64 " of %" PRIu64,
			       path_of(r), s->begin + (uint64_t)n, r->source.size);
	return 0;
}

/* The digest of a whole chunk of zeros; others wait while the first one computes it. */
static struct digest zero_digest(struct run *r, struct upload_worker *w)
{
	struct digest digest;

	pthread_mutex_lock(&r->lock);
	if (!r->zero_known) {
		crypt_digest(w->digest, w->key, r->zeros, CHUNK_SIZE, &r->zero_digest);
		r->zero_known = true;
	}
	digest = r->zero_digest;
	pthread_mutex_unlock(&r->lock);
	return digest;
}

static int store_zeros(struct run *r, struct slot *s, struct upload_worker *w, struct err *err)
{
	struct repo_writer *writer = r->image->target.writer;
	int rc;

	if (s->size < CHUNK_SIZE)
		return chunk_store(writer, w, r->zeros, s->size, r->stats, &s->digest, err);
	s->digest = zero_digest(r, w);
	rc = chunk_store_digested(writer, w, r->zeros, s->size, r->stats, &s->digest, err);
	if (rc == 0) {
		pthread_mutex_lock(&r->lock);
		r->zero_stored = true;
		pthread_mutex_unlock(&r->lock);
	}
	return rc;
}

/* There are as many as workers can read at once; more of these wait. */
static uint8_t *take_buffer(struct run *r)
{
	uint8_t *buffer;

	pthread_mutex_lock(&r->lock);
	while (r->buffer_count == 0)
		pthread_cond_wait(&r->changed, &r->lock);
	buffer = r->buffers[--r->buffer_count];
	pthread_mutex_unlock(&r->lock);
	return buffer;
}

static void give_buffer(struct run *r, uint8_t *buffer)
{
	pthread_mutex_lock(&r->lock);
	r->buffers[r->buffer_count++] = buffer;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static int store_data(struct run *r, struct slot *s, struct upload_worker *w, struct err *err)
{
	uint8_t *data = take_buffer(r);
	int rc = read_chunk(r, s, data, err);

	if (rc == 0 && is_all_zero(data, s->size))
		rc = store_zeros(r, s, w, err);
	else if (rc == 0)
		rc = chunk_store(r->image->target.writer, w, data, s->size, r->stats, &s->digest,
				 err);
	give_buffer(r, data);
	return rc;
}

static bool has_failed(struct run *r)
{
	bool failed;

	pthread_mutex_lock(&r->lock);
	failed = r->failed;
	pthread_mutex_unlock(&r->lock);
	return failed;
}

static void run_job(struct upload_job *job, struct upload_worker *w)
{
	struct slot *s = (struct slot *)((char *)job - offsetof(struct slot, job));
	struct run *r = s->run;
	struct err err = ERR_INIT;
	int rc = 0;

	if (!has_failed(r))
		rc = s->is_hole ? store_zeros(r, s, w, &err) : store_data(r, s, w, &err);
	if (rc < 0)
		fail(r, rc, &err);
	pthread_mutex_lock(&r->lock);
	s->stored = true;
	index_stored(r);
	pthread_mutex_unlock(&r->lock);
}

/* --- the calling thread --- */

/* A slot for the next chunk; NULL: there was a failure. */
static struct slot *next_slot(struct run *r)
{
	struct slot *s = NULL;

	pthread_mutex_lock(&r->lock);
	while (r->slots_used == r->slot_count && !r->failed)
		pthread_cond_wait(&r->changed, &r->lock);
	if (!r->failed)
		s = &r->slots[(r->slot_begin + r->slots_used++) % r->slot_count];
	pthread_mutex_unlock(&r->lock);
	return s;
}

/* Once a chunk of zeros is stored, the next ones need no worker. */
static bool store_hole_at_once(struct run *r, struct slot *s)
{
	bool done;

	pthread_mutex_lock(&r->lock);
	done = s->is_hole && s->size == CHUNK_SIZE && r->zero_stored;
	if (done) {
		atomic_fetch_add(&r->stats->reused_chunks, 1);
		atomic_fetch_add(&r->stats->reused_bytes, s->size);
		s->digest = r->zero_digest;
		s->stored = true;
		index_stored(r);
	}
	pthread_mutex_unlock(&r->lock);
	return done;
}

static bool is_stopped(const struct run *r)
{
	const atomic_bool *stop = r->image->target.stop;

	return stop && atomic_load_explicit(stop, memory_order_relaxed);
}

static int hand_out_chunks(struct run *r, struct err *err)
{
	struct content content;

	content_init(&content, r->source.fd, &r->source.st, false);
	for (uint64_t at = 0; at < r->source.size; at += CHUNK_SIZE) {
		uint64_t left = r->source.size - at;
		struct slot *s;

		if (is_stopped(r))
			return err_set(err, ECANCELED, "stopped");
		s = next_slot(r);
		if (!s)
			return 0; /* the failure is kept */
		s->begin = at;
		s->size = left < CHUNK_SIZE ? (size_t)left : CHUNK_SIZE;
		s->is_hole = content_is_hole(&content, at, at + s->size);
		if (store_hole_at_once(r, s))
			continue;
		if (!s->is_hole)
			posix_fadvise(r->source.fd, (off_t)at, (off_t)s->size, POSIX_FADV_WILLNEED);
		upload_pool_submit(r->image->target.pool, &s->job);
	}
	return 0;
}

static void wait_for_workers(struct run *r)
{
	pthread_mutex_lock(&r->lock);
	while (r->slots_used || r->indexing)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static int know_previous(struct run *r, struct err *err)
{
	const struct fidx *previous = r->image->previous;
	struct known_set *set = upload_pool_known(r->image->target.pool);

	for (size_t i = 0; previous && i < previous->count; i++) {
		struct digest digest;
		uint64_t begin, end;

		fidx_chunk(previous, i, &begin, &end, &digest);
		if (known_add(set, &digest) < 0)
			return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

static int close_index(struct run *r, struct err *err)
{
	struct backup_stream *s = r->image->stream;
	struct digest csum = { 0 };
	uint64_t size = r->source.size;
	int rc = 0;

	if (r->index)
		rc = repo_index_close(r->image->target.writer, steal(&r->index), &size, &csum, err);
	if (rc == 0) {
		s->size = size;
		s->csum = csum;
	}
	return rc;
}

static void report(struct run *r)
{
	const struct image_source *s = &r->source;
	struct stat st;
	uint64_t size;

	if (r->lost_errno)
		warn(r, true, CONTENT_LOST_FORMAT, CONTENT_LOST_ARGUMENTS(r));
	if (image_source_size(s, &size, NULL) == 0 && size > s->size)
		warn(r, false, "grew while it was read; what came late is left out");
	else if (S_ISREG(s->st.st_mode) && fstat(s->fd, &st) == 0 && !content_is_same(&st, &s->st))
		warn(r, false, CONTENT_TORN_TEXT);
}

static int store_image(struct run *r, struct err *err)
{
	int rc = know_previous(r, err);

	if (rc == 0)
		rc = hand_out_chunks(r, err);
	wait_for_workers(r);
	if (rc == 0 && r->failed) {
		rc = r->failed;
		*err = r->failure;
	}
	if (rc == 0)
		rc = close_index(r, err);
	if (rc == 0)
		report(r);
	return rc;
}

/* --- begin and end --- */

static int make_buffers(struct run *r, unsigned count, struct err *err)
{
	void *zeros = mmap(NULL, CHUNK_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int rc;

	/* Reading it makes the kernel map its one page of zeros again and again. */
	if (zeros == MAP_FAILED)
		return err_sys(err, errno, "memory");
	r->zeros = zeros;
	rc = upload_pool_reserve(r->image->target.pool, (size_t)count * CHUNK_SIZE, err);
	if (rc < 0)
		return rc;
	r->reserved = (size_t)count * CHUNK_SIZE;
	r->buffers = calloc(count, sizeof(*r->buffers));
	while (r->buffers && r->buffers_made < count) {
		r->buffers[r->buffers_made] = malloc(CHUNK_SIZE);
		if (!r->buffers[r->buffers_made])
			break;
		r->buffer_count = ++r->buffers_made;
	}
	return r->buffers_made == count ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int make_slots(struct run *r, unsigned workers, struct err *err)
{
	r->slot_count = workers + AHEAD_COUNT;
	r->slots = calloc(r->slot_count, sizeof(*r->slots));
	if (!r->slots)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < r->slot_count; i++) {
		r->slots[i].job.run = run_job;
		r->slots[i].run = r;
	}
	return 0;
}

static int run_init(struct run *r, const struct backup_image *image, struct err *err)
{
	unsigned workers = upload_pool_threads(image->target.pool);
	int rc = image_source_open(image->path, &r->source, err);

	if (workers > BACKUP_IMAGE_BUFFERS_MAX)
		workers = BACKUP_IMAGE_BUFFERS_MAX;
	if (rc < 0)
		return err_wrap(err, rc, "%s", image->path);
	rc = make_buffers(r, workers, err);
	if (rc == 0)
		rc = make_slots(r, workers, err);
	if (rc == 0 && image->target.writer)
		rc = repo_writer_index_open_fixed(image->target.writer, image->stream->name,
						  r->source.size, &r->index, err);
	return rc;
}

static void run_release(struct run *r)
{
	for (size_t i = 0; i < r->buffers_made; i++)
		free(r->buffers[i]);
	free(r->buffers);
	free(r->slots);
	if (r->zeros)
		munmap((void *)r->zeros, CHUNK_SIZE);
	upload_pool_unreserve(r->image->target.pool, r->reserved);
	if (r->source.fd >= 0)
		close(r->source.fd);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
}

int backup_image_run(const struct backup_image *image, struct err *err)
{
	struct run r = { .image = image, .stats = &image->stream->stats, .source.fd = -1 };
	const int64_t begun_ms = clock_now_ms();
	int rc;

	pthread_mutex_init(&r.lock, NULL);
	pthread_cond_init(&r.changed, NULL);
	rc = run_init(&r, image, err);
	if (rc == 0)
		rc = store_image(&r, err);
	run_release(&r);
	atomic_store(&image->stream->stats.elapsed_ms, clock_now_ms() - begun_ms);
	return rc;
}
