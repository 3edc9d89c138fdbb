/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_known - the chunks that may be used in one backup session, and their sizes.
 *
 * Threads: one at a time.
 */
#ifndef PXARFS_TESTS_PBS_KNOWN_H
#define PXARFS_TESTS_PBS_KNOWN_H

#include "archive/base/digest.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { KNOWN_CAPACITY_MIN = 1 << 12 };

struct known {
	struct digest digest;
	uint32_t size; /* plain; 0: the slot is free */
	bool is_new;   /* was put in this session, so it need not be marked as used */
};

/* A table with free slots, at least as many as others.  All zero: empty. */
struct known_chunks {
	struct known *slots;
	size_t count, capacity;
};

static inline struct known *known_slot(const struct known_chunks *all, const struct digest *d)
{
	uint64_t at;

	memcpy(&at, d->bytes, sizeof(at));
	for (;; at++) {
		struct known *k = &all->slots[at & (all->capacity - 1)];

		if (k->size == 0 || digest_equal(&k->digest, d))
			return k;
	}
}

/* Size 0: it is not known. */
static inline struct known known_of(const struct known_chunks *all, const struct digest *d)
{
	return all->count ? *known_slot(all, d) : (struct known){ .size = 0 };
}

static inline int known_grow(struct known_chunks *all)
{
	struct known_chunks larger = { .count = all->count,
				       .capacity = all->capacity ? 2 * all->capacity
								 : KNOWN_CAPACITY_MIN };

	larger.slots = calloc(larger.capacity, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; i < all->capacity; i++)
		if (all->slots[i].size)
			*known_slot(&larger, &all->slots[i].digest) = all->slots[i];
	free(all->slots);
	*all = larger;
	return 0;
}

static inline int know(struct known_chunks *all, const struct digest *d, size_t size, bool is_new)
{
	struct known *k;

	if (2 * all->count >= all->capacity && known_grow(all) < 0)
		return -ENOMEM;
	k = known_slot(all, d);
	all->count += k->size == 0;
	*k = (struct known){ .digest = *d, .size = (uint32_t)size, .is_new = is_new || k->is_new };
	return 0;
}

static inline void known_chunks_release(struct known_chunks *all)
{
	free(all->slots);
}

#endif
