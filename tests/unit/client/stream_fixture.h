/* SPDX-License-Identifier: Apache-2.0 */
/* stream_fixture - what the streams of tests hold. */
#ifndef PXARFS_TESTS_STREAM_FIXTURE_H
#define PXARFS_TESTS_STREAM_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes no two chunks of which are alike. */
static inline uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(offset * 7 + offset / 251 + (offset >> 12));
}

static inline bool is_right(const uint8_t *data, size_t size, uint64_t offset)
{
	for (size_t i = 0; i < size; i++) {
		if (data[i] != byte_at(offset + i))
			return false;
	}
	return true;
}

#endif
