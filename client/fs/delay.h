/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delay - entries between a walk and the encoder: they pass at once until one is found
 * unchanged; from then on they wait, until enough are known to decide what is reused.
 *
 * Memory:  up to DELAY_COUNT_MAX entries and DELAY_BYTES_MAX for what belongs to them.
 */
#ifndef PXARFS_DELAY_H
#define PXARFS_DELAY_H

#include "client/fs/emit.h"

enum {
	DELAY_COUNT_MAX = 16384, /* a power of two */
	DELAY_BYTES_MAX = 16 << 20,
	/* What is to be read must not get too old. */
	DELAY_UNREAD_MAX = 256 << 20,
};

struct delay {
	struct emit *emit;
	struct entry *ring;
	size_t begin, count, capacity;
	size_t bytes;
	uint64_t unread; /* content of files that waits to be read */
};

/* `emit` is borrowed.  -ENOMEM. */
int delay_init(struct delay *d, struct emit *emit);
void delay_release(struct delay *d);

/* Where the next entry is to be filled in; NULL: no memory. */
struct entry *delay_next(struct delay *d);

/* It is filled in.  As emit_entry(); positive answers are given when it did not wait. */
int delay_push(struct delay *d, int dir_fd);

/* There will be no more. */
int delay_finish(struct delay *d);

#endif
