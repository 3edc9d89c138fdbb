/* SPDX-License-Identifier: Apache-2.0 */
/*
 * other - another process for tests of locks: it does one thing and then stays until told to
 * go, by kill -9, so that nothing of it is cleaned up but by the kernel.
 */
#ifndef PXARFS_TESTS_OTHER_H
#define PXARFS_TESTS_OTHER_H

#include <sys/types.h>

struct other {
	pid_t pid;
	int rc; /* what its function returned */
};

/* Runs `act` in a child that then waits; returns when `act` has. */
struct other other_start(int (*act)(void *arg), void *arg);
void other_kill(struct other *o);

/* Runs `act` in a child that ends; gives its result. */
int other_run(int (*act)(void *arg), void *arg);

#endif
