/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock - the time as one number.
 *
 * Without a name: of a clock that nobody sets and that stands still in suspend.  Signed, so that a
 * difference may be below 0.
 */
#ifndef PXARFS_CLOCK_H
#define PXARFS_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_ns_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t clock_now_ns(void)
{
	return clock_ns_of(CLOCK_MONOTONIC);
}

static inline int64_t clock_now_us(void)
{
	return clock_now_ns() / 1000;
}

static inline int64_t clock_now_ms(void)
{
	return clock_now_ns() / 1000000;
}

#endif
