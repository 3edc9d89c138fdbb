/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/token_bucket.h"

#include <assert.h>

static const uint64_t SECOND_NS = 1000000000;

/* Rounded up, and never more than a thousand years. */
static uint64_t duration_ns(uint64_t bytes, uint64_t rate)
{
	unsigned __int128 ns = ((unsigned __int128)bytes * SECOND_NS + rate - 1) / rate;
	const uint64_t most = UINT64_MAX >> 1;

	return ns < most ? (uint64_t)ns : most;
}

void token_bucket_init(struct token_bucket *b, uint64_t rate, uint64_t burst, uint64_t now_ns)
{
	assert(rate > 0);
	*b = (struct token_bucket){ .rate = rate, .burst_ns = duration_ns(burst, rate) };
	pthread_mutex_init(&b->lock, NULL);
	b->free_at_ns = now_ns > b->burst_ns ? now_ns - b->burst_ns : 0;
}

void token_bucket_release(struct token_bucket *b)
{
	pthread_mutex_destroy(&b->lock);
}

uint64_t token_bucket_take(struct token_bucket *b, uint64_t bytes, uint64_t now_ns)
{
	uint64_t full = now_ns > b->burst_ns ? now_ns - b->burst_ns : 0, until;

	pthread_mutex_lock(&b->lock);
	if (b->free_at_ns < full)
		b->free_at_ns = full;
	until = b->free_at_ns;
	if (__builtin_add_overflow(b->free_at_ns, duration_ns(bytes, b->rate), &b->free_at_ns))
		b->free_at_ns = UINT64_MAX;
	pthread_mutex_unlock(&b->lock);
	return until;
}
