/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/upload_pool.h"

#include "archive/chunker.h"
#include "archive/base/ckd.h"
#include "client/backup/queue.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

enum { OUTPUT_ALIGNMENT = 4096 };

static const size_t OUTPUT_SIZE_MAX = BLOB_ENCODED_SIZE_MAX(CHUNK_SIZE_MAX);

struct upload_pool {
	struct queue *jobs;
	struct known_set *known;
	struct journal *journal; /* immutable once there are jobs */
	atomic_bool failed;

	pthread_mutex_t lock;
	pthread_cond_t room;
	/* lock: */
	size_t bytes_used, bytes_peak;
	size_t output_bytes; /* part of bytes_used */

	/* Immutable: */
	size_t bytes_max;
	size_t warm_bytes; /* of each worker's output */
	unsigned thread_count; /* that were started */
	pthread_t threads[UPLOAD_POOL_THREADS_MAX];
	struct upload_worker workers[UPLOAD_POOL_THREADS_MAX];
};

static void *work(void *arg)
{
	struct upload_worker *w = arg;
	void *item;

	while (queue_pop(w->pool->jobs, &item) == 0) {
		struct upload_job *job = item;

		job->run(job, w);
	}
	return NULL;
}

static int start_worker(struct upload_pool *p, const struct crypt_key *key, struct err *err)
{
	struct upload_worker *w = &p->workers[p->thread_count];
	int rc;

	w->pool = p;
	w->key = key;
	w->digest = digest_ctx_new();
	w->codec = blob_codec_new();
	if (w->codec)
		blob_codec_set_key(w->codec, key);
	wbuf_init(&w->output, OUTPUT_SIZE_MAX);
	rc = w->digest && w->codec ? pthread_create(&p->threads[p->thread_count], NULL, work, w) :
				     ENOMEM;
	if (rc != 0) {
		digest_ctx_free(w->digest);
		blob_codec_free(w->codec);
		return err_sys(err, rc, "cannot start a thread");
	}
	p->thread_count++;
	return 0;
}

int upload_pool_new(struct upload_pool **out, unsigned thread_count, size_t bytes_max,
		    const struct crypt_key *key, struct err *err)
{
	AUTO(upload_pool) struct upload_pool *p = calloc(1, sizeof(*p));
	int rc;

	assert(thread_count > 0 && thread_count <= UPLOAD_POOL_THREADS_MAX);
	if (!p)
		return err_set(err, ENOMEM, "out of memory");
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->room, NULL);
	p->bytes_max = bytes_max;
	p->warm_bytes = CHUNK_SIZE_MAX / thread_count;
	rc = upload_pool_reserve(p, p->warm_bytes * thread_count, err);
	if (rc == 0)
		rc = queue_new(&p->jobs, UPLOAD_QUEUE_COUNT, err);
	if (rc == 0)
		rc = known_set_new(&p->known, err);
	for (unsigned i = 0; rc == 0 && i < thread_count; i++)
		rc = start_worker(p, key, err);
	if (rc < 0)
		return rc;
	*out = steal(&p);
	return 0;
}

void upload_pool_free(struct upload_pool *p)
{
	if (!p)
		return;
	if (p->jobs)
		queue_close(p->jobs);
	for (unsigned i = 0; i < p->thread_count; i++) {
		pthread_join(p->threads[i], NULL);
		digest_ctx_free(p->workers[i].digest);
		blob_codec_free(p->workers[i].codec);
		wbuf_release(&p->workers[i].output);
	}
	queue_free(p->jobs);
	known_set_free(p->known);
	pthread_cond_destroy(&p->room);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void upload_pool_set_level(struct upload_pool *p, int level)
{
	for (unsigned i = 0; i < p->thread_count; i++)
		blob_codec_set_level(p->workers[i].codec, level, true);
}

void upload_pool_set_journal(struct upload_pool *p, struct journal *journal)
{
	p->journal = journal;
}

struct journal *upload_pool_journal(const struct upload_pool *p)
{
	return p->journal;
}

unsigned upload_pool_threads(const struct upload_pool *p)
{
	return p->thread_count;
}

struct known_set *upload_pool_known(struct upload_pool *p)
{
	return p->known;
}

void upload_pool_submit(struct upload_pool *p, struct upload_job *job)
{
	int rc = queue_push(p->jobs, job, QUEUE_FOREVER);

	assert(rc == 0); /* this queue is never aborted */
	(void)rc;
}

/* With the lock held. */
static void take_bytes(struct upload_pool *p, size_t bytes)
{
	p->bytes_used += bytes;
	if (p->bytes_used > p->bytes_peak)
		p->bytes_peak = p->bytes_used;
}

int upload_pool_reserve(struct upload_pool *p, size_t bytes, struct err *err)
{
	size_t fixed;
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	fixed = p->bytes_used - p->output_bytes;
	if (ckd_add(&fixed, fixed, bytes) || ckd_add(&fixed, fixed, OUTPUT_SIZE_MAX) ||
	    fixed > p->bytes_max)
		rc = err_set(err, E2BIG, "%zu MiB of memory are too little for a backup",
			     p->bytes_max >> 20);
	while (rc == 0 && bytes > p->bytes_max - p->bytes_used)
		pthread_cond_wait(&p->room, &p->lock);
	if (rc == 0)
		take_bytes(p, bytes);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void upload_pool_unreserve(struct upload_pool *p, size_t bytes)
{
	pthread_mutex_lock(&p->lock);
	p->bytes_used -= bytes;
	pthread_cond_broadcast(&p->room);
	pthread_mutex_unlock(&p->lock);
}

static size_t beyond_warm(const struct upload_pool *p, size_t bytes)
{
	return bytes > p->warm_bytes ? bytes - p->warm_bytes : 0;
}

/* All the address space at once: the buffer is never moved, and pages that no chunk needs are
 * never touched.  It begins with a page, as what goes past the page cache must. */
static int make_output(struct upload_worker *w)
{
	if (w->output.data)
		return 0;
	w->output.data = aligned_alloc(OUTPUT_ALIGNMENT,
				       (OUTPUT_SIZE_MAX + OUTPUT_ALIGNMENT - 1) /
					       OUTPUT_ALIGNMENT * OUTPUT_ALIGNMENT);
	if (!w->output.data)
		return -ENOMEM;
	w->output.capacity = OUTPUT_SIZE_MAX;
	return 0;
}

int upload_pool_output_begin(struct upload_worker *w, size_t bytes)
{
	struct upload_pool *p = w->pool;
	size_t extra = beyond_warm(p, bytes);

	pthread_mutex_lock(&p->lock);
	while (extra && p->output_bytes && extra > p->bytes_max - p->bytes_used)
		pthread_cond_wait(&p->room, &p->lock);
	take_bytes(p, extra);
	p->output_bytes += extra;
	pthread_mutex_unlock(&p->lock);

	wbuf_clear(&w->output);
	return make_output(w);
}

/* Give the pages behind the warm part back to the kernel. */
static void cool_down(struct upload_worker *w)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t begin = (uintptr_t)w->output.data + w->pool->warm_bytes;
	uintptr_t end = (uintptr_t)w->output.data + w->output.size;

	begin = (begin + page - 1) / page * page;
	end = (end + page - 1) / page * page;
	if (end > (uintptr_t)w->output.data + w->output.capacity)
		end -= page;
	if (begin < end)
		madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void upload_pool_output_end(struct upload_worker *w, size_t bytes)
{
	struct upload_pool *p = w->pool;
	size_t extra = beyond_warm(p, bytes);

	if (!extra)
		return;
	if (w->output.data)
		cool_down(w);
	pthread_mutex_lock(&p->lock);
	p->output_bytes -= extra;
	p->bytes_used -= extra;
	pthread_cond_broadcast(&p->room);
	pthread_mutex_unlock(&p->lock);
}

size_t upload_pool_bytes_peak(struct upload_pool *p)
{
	size_t bytes;

	pthread_mutex_lock(&p->lock);
	bytes = p->bytes_peak;
	pthread_mutex_unlock(&p->lock);
	return bytes;
}

void upload_pool_fail(struct upload_pool *p)
{
	atomic_store(&p->failed, true);
}

bool upload_pool_failed(const struct upload_pool *p)
{
	return atomic_load(&p->failed);
}
