/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload - one stream on its way into a repository: 256 KiB buffer, bounded queue, chunker,
 * then digest, known?, compress and store on a shared pool of threads; order is restored at
 * the index.
 *
 * Two uploads (metadata and payload) share one pool and run in parallel; each has its own
 * queue of at most 10 pieces, its own chunker, index and statistics.  Memory is bounded in
 * bytes whatever the queue lengths.
 *
 * Threads: upload_write(), upload_suggest_cut() and upload_finish_*() from one thread each.
 */
#ifndef PXARFS_UPLOAD_H
#define PXARFS_UPLOAD_H

#include "archive/base/err.h"
#include "archive/encoder.h"
#include "client/repo/repo.h"

#include <stdatomic.h>

enum {
	UPLOAD_BUFFER_SIZE = 256 << 10,
	UPLOAD_QUEUE_COUNT = 10, /* pieces between writer and chunker; chunks after it */
};

/* Workers that digest, compress and store; shared by all uploads of a backup. */
struct upload_pool;
int upload_pool_new(struct upload_pool **out, unsigned thread_count, size_t bytes_max,
		    struct err *err);
void upload_pool_free(struct upload_pool *p);
DEFINE_AUTO_PTR(upload_pool)

struct upload_stats {
	atomic_uint_fast64_t bytes, chunks; /* of the whole stream */
	atomic_uint_fast64_t new_bytes, new_chunks; /* had to be stored */
	atomic_uint_fast64_t reused_bytes, reused_chunks; /* known before */
	atomic_uint_fast64_t stored_bytes; /* encoded size of the new ones */
	atomic_uint_fast64_t duplicates; /* put, but the repository had them */
	int64_t elapsed_ms; /* set at the end */
};

struct upload_params {
	struct repo_writer *writer; /* NULL: dry run, nothing is stored */
	const char *index_name; /* "root.mpxar.didx" */
	size_t chunk_size_avg;
	bool suggestions; /* a payload stream: prefer suggested cuts */
};

struct upload;
int upload_new(struct upload **out, struct upload_pool *pool,
	       const struct upload_params *params, struct err *err);

/* Stops the stream's threads; what is not finished is given up. */
void upload_free(struct upload *u);
DEFINE_AUTO_PTR(upload)

/* Chunks that the previous snapshot has: neither compressed nor sent. */
int upload_know_index(struct upload *u, const struct didx *previous, struct err *err);

/* Sinks for encoder_params; `arg` is the upload.  After a failure of the stream's own threads
 * the write returns that failure. */
int upload_write(void *upload, const void *data, size_t size, struct err *err);
void upload_suggest_cut(void *upload, uint64_t payload_offset);

/* No more data.  Does not wait. */
int upload_end(struct upload *u, struct err *err);

/* The producer failed: the stream ends without an index. */
void upload_abort(struct upload *u);

/* Wait for the end; then the index is closed and its size and checksum known. */
int upload_finish(struct upload *u, uint64_t *size, struct digest *csum, struct err *err);

const struct upload_stats *upload_stats(const struct upload *u);

#endif
