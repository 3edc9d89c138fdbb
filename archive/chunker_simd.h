/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunker_simd - search bytes for the first place where the chunker's hash is a cut, several
 * places at once.  Private to the chunker, its tests and its benchmark.
 *
 * The hash of a window depends on its 64 bytes alone (archive/FORMAT.md, "Chunker"), so places
 * can be looked at in any order, as long as the first of the cuts wins.  Every variant gives
 * the same answers; they differ in what they need of the processor and in speed.
 *
 * Owner:   static and constant, variants and all.
 * Threads: any.
 * Cost:    `scripts/bench chunker`; at most 4 KiB behind a cut are hashed in vain.
 */
#ifndef PXARFS_CHUNKER_SIMD_H
#define PXARFS_CHUNKER_SIMD_H

#include <stddef.h>
#include <stdint.h>

struct chunker_simd {
	const char *name;

	/* The first i < size for which the hash h of the 64 bytes that end with data[i] has
	 * (h & mask) >= limit; `size` when there is none.  The 64 bytes before `data` are
	 * read, too.  0 < limit <= mask < 2^31. */
	size_t (*find)(const uint8_t *data, size_t size, uint32_t mask, uint32_t limit);
};

enum { CHUNKER_SIMD_COUNT = 4 };

/* Variant number `i` < CHUNKER_SIMD_COUNT, the plainest first; NULL: not on this processor. */
const struct chunker_simd *chunker_simd_variant(size_t i);

/* The fastest variant that this processor has. */
const struct chunker_simd *chunker_simd_best(void);

#endif
