/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warm_memory - memory of chunks in stored form, used again while it is warm, and aligned: a
 * datastore directory writes it to the disk from where it is, as it does for a backup without a
 * server.
 *
 * Threads: any number.
 */
#ifndef PXARFS_TESTS_WARM_MEMORY_H
#define PXARFS_TESTS_WARM_MEMORY_H

#include "archive/base/wbuf.h"
#include "archive/blob.h"
#include "archive/chunker.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum {
	WARM_ALIGNMENT = 4096,
	WARM_SIZE = BLOB_ENCODED_SIZE_MAX(CHUNK_SIZE_MAX) / WARM_ALIGNMENT * WARM_ALIGNMENT +
		    WARM_ALIGNMENT,
	WARM_COUNT_MAX = 64, /* that wait for use */
};

struct warm_memory {
	pthread_mutex_t lock;
	void *pieces[WARM_COUNT_MAX];
	size_t count;
};

#define WARM_MEMORY_INIT                                                                           \
	{                                                                                          \
		.lock = PTHREAD_MUTEX_INITIALIZER                                                  \
	}

/* For a buffer that is empty. */
static inline int warm_memory_take(struct warm_memory *m, struct wbuf *b)
{
	void *piece = NULL;

	pthread_mutex_lock(&m->lock);
	if (m->count)
		piece = m->pieces[--m->count];
	pthread_mutex_unlock(&m->lock);
	if (!piece && posix_memalign(&piece, WARM_ALIGNMENT, WARM_SIZE) != 0)
		return -ENOMEM;
	b->data = piece;
	b->capacity = WARM_SIZE;
	return 0;
}

/* Release a buffer, whatever its memory is. */
static inline void warm_memory_give(struct warm_memory *m, struct wbuf *b)
{
	pthread_mutex_lock(&m->lock);
	if (b->capacity == WARM_SIZE && m->count < WARM_COUNT_MAX)
		m->pieces[m->count++] = steal(&b->data);
	pthread_mutex_unlock(&m->lock);
	wbuf_release(b);
}

#endif
