/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wait - for a while: conditions on a clock that nobody sets, threads that may not end.
 */
#ifndef PXARFS_WAIT_H
#define PXARFS_WAIT_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

static inline struct timespec wait_until(clockid_t clock, unsigned ms)
{
	struct timespec t;

	clock_gettime(clock, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += ms % 1000 * 1000000L;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

/* A condition whose timed waits go by CLOCK_MONOTONIC. */
static inline void wait_cond_init(pthread_cond_t *cond)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

/* Whether the thread ended, and was joined, within `ms`. */
static inline bool wait_join(pthread_t thread, unsigned ms)
{
	struct timespec until = wait_until(CLOCK_REALTIME, ms);

	return pthread_timedjoin_np(thread, NULL, &until) == 0;
}

#endif
