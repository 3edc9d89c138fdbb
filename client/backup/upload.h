/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload - one stream on its way into a repository: 256 KiB buffer, bounded queue, chunker,
 * then digest, known?, compress, encrypt and store on a shared pool of threads; order is
 * restored at the index.
 *
 *	writer --pieces--> chunker thread --chunks--> pool --slots, in order--> index
 *
 * Two uploads (metadata and payload) share one pool and run in parallel; each has its own
 * ring of bytes, queue of at most 10 pieces, chunker, index and statistics.  The bytes are
 * copied once, into the ring, or read into it in the first place, and stay there until their
 * chunk is stored; memory is bounded by the ring whatever the queue lengths (upload_pool.h has
 * the sum).
 *
 * Pieces:  archive/FORMAT.md, "Suggested boundaries": the buffer holds 256 KiB; a write that
 *          does not fit first ends the piece, one of 256 KiB or more is a piece of its own.
 *          A piece is scanned when the next one has come, so a suggestion for its very end is
 *          always known by then: the same stream is cut the same way whatever the timing.
 * Threads: upload_write(), upload_reserve(), upload_suggest_cut(), upload_inject() and
 *          upload_end() from one thread at a time; the rest from any.  Locks: upload, then pool; neither is held over I/O.
 * Errors:  the first failure of the stream's own threads is kept, named by the index, and is
 *          what every later call returns; -ECANCELED when the stream was given up.
 */
#ifndef PXARFS_UPLOAD_H
#define PXARFS_UPLOAD_H

#include "archive/didx.h"
#include "archive/base/err.h"
#include "client/backup/chunk_store.h"

enum {
	UPLOAD_BUFFER_SIZE = 256 << 10,
	UPLOAD_PIECE_SIZE_MAX = 4 << 20, /* larger writes are taken apart */
	UPLOAD_RESERVE_SIZE_MAX = UPLOAD_PIECE_SIZE_MAX + 1,
};

struct upload_params {
	struct repo_writer *writer; /* NULL: dry run, nothing is stored */
	const char *index_name; /* "root.mpxar.didx"; copied */
	size_t chunk_size_avg;
	bool suggestions; /* a payload stream: prefer suggested cuts */
	struct upload_stats *stats; /* zeroed; outlives the upload */
	const atomic_bool *stop; /* may be NULL; true makes writes fail with -ECANCELED */
};

struct upload;
int upload_new(struct upload **out, struct upload_pool *pool,
	       const struct upload_params *params, struct err *err);

/* Stops the stream's threads; what is not finished is given up. */
void upload_free(struct upload *u);
DEFINE_AUTO_PTR(upload)

/* Chunks that the previous snapshot has: neither compressed nor sent.  They must have been made
 * as the pool makes them: with the same key, or none. */
int upload_know_index(struct upload *u, const struct didx *previous, struct err *err);

/* Sinks for encoder_params; `arg` is the upload.  After a failure of the stream's own threads
 * the write returns that failure. */
int upload_write(void *upload, const void *data, size_t size, struct err *err);
void upload_suggest_cut(void *upload, uint64_t payload_offset);

/* Where the next write's bytes would be copied to: put there, they need not be.  `size` bytes at
 * most, until the next call of any kind; a write of some other bytes makes them void.  NULL:
 * there is no such place, for more than UPLOAD_RESERVE_SIZE_MAX or after a failure. */
void *upload_reserve(void *upload, size_t size);

/* A chunk of a previous index that is used again, unseen. */
struct upload_chunk {
	struct digest digest;
	size_t size; /* plain */
};

/* Whether it can be: then it is marked as in use.  -ENOENT: it is gone. */
int upload_reuse_chunk(struct upload *u, const struct digest *digest, struct err *err);

/* Such chunks go into the stream here, behind what was written; `suggestions` only.  What is
 * written next begins a chunk. */
int upload_inject(struct upload *u, const struct upload_chunk *chunks, size_t count,
		  struct err *err);

/* No more data.  Does not wait. */
int upload_end(struct upload *u, struct err *err);

/* The producer failed: the stream ends without an index. */
void upload_abort(struct upload *u);

/* Wait for the end; then the index is closed and its size and checksum known (a dry run's
 * checksum is zero). */
int upload_finish(struct upload *u, uint64_t *size, struct digest *csum, struct err *err);

/* Whether a write has returned the stream's own failure: then that is the cause of whatever
 * the producer reports. */
bool upload_failed_first(const struct upload *u);

#endif
