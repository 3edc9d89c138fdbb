/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/answer.h"

static void done(void *arg, struct chunk *chunk, int rc, const struct err *err)
{
	struct answer *a = arg;

	pthread_mutex_lock(&a->lock);
	a->count++;
	a->chunk = chunk;
	a->rc = rc;
	a->err = *err;
	a->thread = pthread_self();
	pthread_cond_broadcast(&a->came);
	pthread_mutex_unlock(&a->lock);
}

void answer_init(struct answer *a)
{
	*a = (struct answer){
		.wait = { .done = done, .arg = a },
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.came = PTHREAD_COND_INITIALIZER,
	};
}

int answer_await(struct answer *a)
{
	pthread_mutex_lock(&a->lock);
	while (a->count == 0)
		pthread_cond_wait(&a->came, &a->lock);
	pthread_mutex_unlock(&a->lock);
	return a->rc;
}

unsigned answer_count(struct answer *a)
{
	unsigned n;

	pthread_mutex_lock(&a->lock);
	n = a->count;
	pthread_mutex_unlock(&a->lock);
	return n;
}
