/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idle_poll - while requests come in quick succession, have idle CPUs look for work instead of
 * halting.
 *
 * In a virtual machine the CPU of a thread that waits is halted, and who wakes it leaves the
 * guest twice: some 20 us for each request and each answer, several times what a request costs.
 * PM QoS ("/dev/cpu_dma_latency", where root can say how late a wake-up may be) set to 0 makes
 * idle CPUs poll, so that a wake-up is a store to memory.  But a CPU that polls is busy, as all
 * that are idle are then.  So it is said only
 *
 *	- while requests come: from the eighth within 10 ms until 10 ms have seen fewer;
 *	- where the idle driver is haltpoll, that of guests: other CPUs wake at a store (mwait);
 *	- up to 8 CPUs: a machine with more would pay more than the requests gain;
 *	- by who may: others go on as before.
 *
 * The kernel forgets it when the descriptor is closed, however the process ends.
 *
 * Owner:   free with idle_poll_free().
 * Threads: any number.  The lock is a leaf, held while a value is written, which waits for
 *          nothing.
 */
#ifndef PXARFS_IDLE_POLL_H
#define PXARFS_IDLE_POLL_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <stdint.h>

enum {
	IDLE_POLL_PERIOD_US = 10000,
	IDLE_POLL_REQUESTS_MIN = 8, /* in a period */
	IDLE_POLL_CPUS_MAX = 8,
};

struct idle_poll;

struct idle_poll_params {
	const char *driver_path; /* a file with the idle driver's name */
	const char *device_path;
	long cpu_count; /* online */
};

/* Nothing is opened before the first burst.  `params` NULL: this machine's. */
int idle_poll_new(struct idle_poll **out, const struct idle_poll_params *params,
		  struct err *err);
void idle_poll_free(struct idle_poll *p);
DEFINE_AUTO_PTR(idle_poll)

/* A request came.  Times are of one clock, and not before those of earlier calls by much. */
void idle_poll_request(struct idle_poll *p, uint64_t now_us);

/* None has come: CPUs may halt, when it is time.  How many milliseconds to wait for a request
 * before this is to be called again; -1: for ever. */
int idle_poll_wait_ms(struct idle_poll *p, uint64_t now_us);

struct idle_poll_stats {
	uint64_t bursts; /* how often idle CPUs were made to poll */
	uint64_t us; /* how long, bursts that are over */
};

/* `p` NULL: all 0. */
void idle_poll_stats(struct idle_poll *p, struct idle_poll_stats *out);

#endif
