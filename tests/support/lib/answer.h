/* SPDX-License-Identifier: Apache-2.0 */
/*
 * answer - one who asks the fetcher for a chunk, and what came.
 *
 * Owner:   embedded; the chunk, if there is one, is the test's to give away.
 * Threads: the answer may come on any; all else is read after answer_await().
 */
#ifndef PXARFS_TESTS_ANSWER_H
#define PXARFS_TESTS_ANSWER_H

#include "client/read/fetch.h"

#include <pthread.h>

struct answer {
	struct fetch_wait wait; /* to be handed in */
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t came;
	unsigned count; /* how often it was given: must be 1 in the end */
	struct chunk *chunk;
	int rc;
	struct err err;
	pthread_t thread; /* that brought it */
};

void answer_init(struct answer *a);

/* Wait until it is there; its rc. */
int answer_await(struct answer *a);

/* How often it has come by now. */
unsigned answer_count(struct answer *a);

#endif
