/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/queue.h"

#include "client/base/wait.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t not_full, not_empty;

	/* lock: */
	size_t begin, count;
	bool closed, aborted;

	size_t capacity;
	void *items[];
};

int queue_new(struct queue **out, size_t capacity, struct err *err)
{
	struct queue *q;

	assert(capacity > 0);
	q = calloc(1, sizeof(*q) + capacity * sizeof(q->items[0]));
	if (!q)
		return err_set(err, ENOMEM, "out of memory");
	q->capacity = capacity;
	pthread_mutex_init(&q->lock, NULL);
	wait_cond_init(&q->not_full);
	wait_cond_init(&q->not_empty);
	*out = q;
	return 0;
}

void queue_free(struct queue *q)
{
	if (!q)
		return;
	pthread_cond_destroy(&q->not_full);
	pthread_cond_destroy(&q->not_empty);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* With the lock held: wait for room; 0 even when aborted meanwhile. */
static int wait_for_room(struct queue *q, int timeout_ms)
{
	struct timespec deadline = { 0 };

	if (timeout_ms != QUEUE_FOREVER)
		deadline = wait_until(CLOCK_MONOTONIC, (unsigned)timeout_ms);
	while (q->count == q->capacity && !q->aborted) {
		if (timeout_ms == QUEUE_FOREVER)
			pthread_cond_wait(&q->not_full, &q->lock);
		else if (pthread_cond_timedwait(&q->not_full, &q->lock, &deadline) == ETIMEDOUT)
			return q->count == q->capacity && !q->aborted ? -ETIMEDOUT : 0;
	}
	return 0;
}

int queue_push(struct queue *q, void *item, int timeout_ms)
{
	int rc;

	assert(item);
	pthread_mutex_lock(&q->lock);
	assert(!q->closed);
	rc = wait_for_room(q, timeout_ms);
	if (rc == 0 && q->aborted)
		rc = -ECANCELED;
	if (rc == 0) {
		q->items[(q->begin + q->count) % q->capacity] = item;
		q->count++;
		pthread_cond_signal(&q->not_empty);
	}
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/* With the lock held and the queue not empty. */
static void *take_first(struct queue *q)
{
	void *item = q->items[q->begin];

	q->begin = (q->begin + 1) % q->capacity;
	q->count--;
	pthread_cond_signal(&q->not_full);
	return item;
}

int queue_pop(struct queue *q, void **item)
{
	int rc = 0;

	pthread_mutex_lock(&q->lock);
	while (q->count == 0 && !q->closed && !q->aborted)
		pthread_cond_wait(&q->not_empty, &q->lock);
	if (q->aborted)
		rc = -ECANCELED;
	else if (q->count == 0)
		rc = 1;
	else
		*item = take_first(q);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

void queue_close(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->closed = true;
	pthread_cond_broadcast(&q->not_empty);
	pthread_mutex_unlock(&q->lock);
}

void queue_abort(struct queue *q)
{
	pthread_mutex_lock(&q->lock);
	q->aborted = true;
	pthread_cond_broadcast(&q->not_empty);
	pthread_cond_broadcast(&q->not_full);
	pthread_mutex_unlock(&q->lock);
}

void *queue_drain(struct queue *q)
{
	void *item;

	pthread_mutex_lock(&q->lock);
	item = q->count ? take_first(q) : NULL;
	pthread_mutex_unlock(&q->lock);
	return item;
}
