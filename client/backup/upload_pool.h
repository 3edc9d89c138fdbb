/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload_pool - the threads that digest, compress, encrypt and store chunks, and the memory they
 * and the streams may use.  Shared by all uploads of a backup.
 *
 * Memory, all of it counted against `bytes_max`:
 *	streams   what upload_pool_reserve() gave them, for their whole life; enough for each to
 *	          finish its current chunk alone, so no stream ever waits for another's
 *	warm      what each worker's output buffer keeps between two chunks
 *	outputs   the stored form of the chunks in work, beyond that; a worker waits for room,
 *	          and there is always room for one
 *
 * Owner:   free with upload_pool_free() after its uploads.
 * Threads: any number of callers.  Locks: the pool's own, taken last, never held over I/O.
 */
#ifndef PXARFS_UPLOAD_POOL_H
#define PXARFS_UPLOAD_POOL_H

#include "archive/blob.h"
#include "archive/base/digest.h"
#include "client/backup/journal.h"
#include "client/backup/known.h"

#include <stdbool.h>

enum {
	UPLOAD_QUEUE_COUNT = 10, /* pieces between writer and chunker; chunks after it */
	UPLOAD_POOL_THREADS_MAX = 64,
};

struct upload_pool;

/* What a worker brings to a job. */
struct upload_worker {
	struct upload_pool *pool;
	const struct crypt_key *key; /* of digests, and set in the codec; NULL: none */
	struct digest_ctx *digest;
	struct blob_codec *codec;
	struct wbuf output;
};

/* Embedded in what is to be done. */
struct upload_job {
	void (*run)(struct upload_job *job, struct upload_worker *worker);
};

/* All chunks are encrypted with `key`, which outlives the pool; NULL: none is.  -E2BIG when
 * bytes_max is too little for even one output. */
int upload_pool_new(struct upload_pool **out, unsigned thread_count, size_t bytes_max,
		    const struct crypt_key *key, struct err *err);
void upload_pool_free(struct upload_pool *p);
DEFINE_AUTO_PTR(upload_pool)

/* How chunks are compressed: a level of zstd (archive/blob.h); before the first job. */
void upload_pool_set_level(struct upload_pool *p, int level);

/* Where to note what was stored; lent, before the first job.  NULL: nowhere. */
void upload_pool_set_journal(struct upload_pool *p, struct journal *journal);
struct journal *upload_pool_journal(const struct upload_pool *p);

unsigned upload_pool_threads(const struct upload_pool *p);
struct known_set *upload_pool_known(struct upload_pool *p);

/* Hand a job to the workers, waiting while UPLOAD_QUEUE_COUNT others wait. */
void upload_pool_submit(struct upload_pool *p, struct upload_job *job);

/* Memory of a stream.  -E2BIG: not within bytes_max. */
int upload_pool_reserve(struct upload_pool *p, size_t bytes, struct err *err);
void upload_pool_unreserve(struct upload_pool *p, size_t bytes);

/* Around the use of `output` for up to `bytes`: begin waits for room, empties the buffer and
 * makes the room in it (-ENOMEM); end is to be called in any case. */
int upload_pool_output_begin(struct upload_worker *w, size_t bytes);
void upload_pool_output_end(struct upload_worker *w, size_t bytes);

/* The most that was ever in use. */
size_t upload_pool_bytes_peak(struct upload_pool *p);

/* One upload has failed: the others need not go on. */
void upload_pool_fail(struct upload_pool *p);
bool upload_pool_failed(const struct upload_pool *p);

#endif
