/* SPDX-License-Identifier: Apache-2.0 */
/*
 * digest_set - which digests were seen, in some 20 bytes each.
 *
 * A digest is kept as 64 bits of a hash with a secret key: two that are taken for one are not to
 * be expected (one of 2^64 pairs), and nobody can look for them.
 *
 * Threads: one at a time.
 */
#ifndef PXARFS_DIGEST_SET_H
#define PXARFS_DIGEST_SET_H

#include "archive/base/digest.h"
#include "archive/base/err.h"

struct digest_set {
	uint64_t *slots; /* 0: free */
	size_t capacity, count; /* a power of two; of used slots */
	uint64_t secret[4];
};

int digest_set_init(struct digest_set *s, struct err *err);
void digest_set_release(struct digest_set *s);
DEFINE_AUTO_STRUCT(digest_set)

bool digest_set_has(const struct digest_set *s, const struct digest *d);

/* -ENOMEM. */
int digest_set_add(struct digest_set *s, const struct digest *d);

#endif
