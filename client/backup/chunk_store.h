/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk_store - one chunk into a repository: digest, known?, compress, encrypt, put; counted.
 *
 * Threads: called by the workers of a pool, each with its own chunk.
 */
#ifndef PXARFS_CHUNK_STORE_H
#define PXARFS_CHUNK_STORE_H

#include "client/backup/upload_pool.h"
#include "client/repo/repo.h"

#include <stdatomic.h>

/* Counters of one stream or image; may be read while it is on its way. */
struct upload_stats {
	atomic_uint_fast64_t bytes, chunks; /* as far as it is in the index */
	atomic_uint_fast64_t new_bytes, new_chunks; /* had to be stored */
	atomic_uint_fast64_t reused_bytes, reused_chunks; /* known before */
	atomic_uint_fast64_t injected_bytes, injected_chunks; /* of those: never read nor hashed */
	atomic_uint_fast64_t stored_bytes; /* encoded size of the new ones; 0 in a dry run */
	atomic_uint_fast64_t duplicates; /* put, but the repository had them */
	atomic_uint_fast64_t elapsed_ms; /* set at the end */
};

/* Afterwards the chunk is in the repository (writer NULL: a dry run, nothing is stored) and may
 * be added to an index. */
int chunk_store(struct repo_writer *writer, struct upload_worker *worker, const void *data,
		size_t size, struct upload_stats *stats, struct digest *digest, struct err *err);

/* The same when the digest is at hand already. */
int chunk_store_digested(struct repo_writer *writer, struct upload_worker *worker,
			 const void *data, size_t size, struct upload_stats *stats,
			 const struct digest *digest, struct err *err);

/* It is the next one of an index (NULL: a dry run, or it is closed), and counted. */
int chunk_store_index(struct repo_writer *writer, struct repo_index *index, size_t size,
		      const struct digest *digest, struct upload_stats *stats, struct err *err);

/* A chunk that a previous index has is to be used again, unseen: mark it.  -ENOENT: it is not
 * there any more, and counts as unknown from now on. */
int chunk_store_reuse(struct repo_writer *writer, struct known_set *known,
		      const struct digest *digest, struct err *err);

#endif
