/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token_bucket - so many bytes a second, and so many more at once after a rest.
 *
 * Whoever takes is told when to go on, first come, first served.  A take may be larger than the
 * bucket: then the next ones wait the longer.
 *
 * Owner:   embedded, plain data.
 * Threads: any number of takers.
 */
#ifndef PXARFS_TOKEN_BUCKET_H
#define PXARFS_TOKEN_BUCKET_H

#include <pthread.h>
#include <stdint.h>

struct token_bucket {
	uint64_t rate; /* bytes a second, at least 1 */
	uint64_t burst_ns; /* how long it takes to fill the empty bucket */
	pthread_mutex_t lock;
	uint64_t free_at_ns; /* lock: when all that was taken is paid for */
};

/* A full bucket of `burst` bytes.  Times are nanoseconds of any clock that does not go back. */
void token_bucket_init(struct token_bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns);
void token_bucket_release(struct token_bucket *b);

/* Take `bytes`; the time to wait for before using them. */
uint64_t token_bucket_take(struct token_bucket *b, uint64_t bytes, uint64_t now_ns);

#endif
