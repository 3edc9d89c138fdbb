/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue - a bounded first-in, first-out queue of pointers between threads.  Its fullness is
 * the back-pressure of the pipelines.
 *
 * States:  open -> closed (by the producer: no more comes, the rest is still delivered)
 *          open or closed -> aborted (by anyone: nothing is delivered any more)
 * Owner:   free with queue_free() when no thread is inside.  Items that were never delivered
 *          are the caller's: queue_drain() gives them back.
 * Threads: any number of producers and consumers.
 */
#ifndef PXARFS_QUEUE_H
#define PXARFS_QUEUE_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <stddef.h>

enum { QUEUE_FOREVER = -1 };

struct queue;

/* -ENOMEM. */
int queue_new(struct queue **out, size_t capacity, struct err *err);
void queue_free(struct queue *q);
DEFINE_AUTO_PTR(queue)

/* Add `item` (not NULL), waiting at most `timeout_ms` for room.  -ETIMEDOUT: still full;
 * -ECANCELED: aborted.  Not allowed after queue_close(). */
int queue_push(struct queue *q, void *item, int timeout_ms);

/* Take the oldest item, waiting for one.  1: closed and empty; -ECANCELED: aborted. */
int queue_pop(struct queue *q, void **item);

void queue_close(struct queue *q);
void queue_abort(struct queue *q);

/* An item left in the queue, in whatever state; NULL when there is none.  Never waits. */
void *queue_drain(struct queue *q);

#endif
