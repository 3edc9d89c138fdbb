/* SPDX-License-Identifier: Apache-2.0 */
/*
 * losses - what a backup could not store, or not wholly, to be said again at its end: in hours
 * of messages one is overlooked.
 *
 * Owner:   embedded; release with losses_release().
 * Threads: losses_add() from any.
 */
#ifndef PXARFS_LOSSES_H
#define PXARFS_LOSSES_H

#include "archive/base/cleanup.h"

#include <pthread.h>
#include <stddef.h>

enum { LOSSES_LISTED_MAX = 1000 };

struct losses {
	pthread_mutex_t lock;
	char **texts; /* "PATH: why" */
	size_t listed, total;
};

#define LOSSES_INIT { .lock = PTHREAD_MUTEX_INITIALIZER }

void losses_release(struct losses *l);
DEFINE_AUTO_STRUCT(losses)

/* Without memory it is counted all the same. */
void losses_add(struct losses *l, const char *text);

/* As warnings; nothing when there was none. */
void losses_print(struct losses *l);

#endif
