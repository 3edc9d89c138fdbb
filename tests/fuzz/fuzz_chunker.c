/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts of every variant against the definition, each window hashed anew, however the stream is
 * split.
 *
 * Input: a byte for the average size, 16 bytes of piece sizes, taken in turn, then the stream,
 * which is repeated until there is enough of it for many chunks.
 */
#include "archive/chunker.h"

#include "archive/chunker_simd.h"
#include "archive/chunker_table.h"
#include "tests/fuzz/must.h"

#include <string.h>

enum {
	HEAD_SIZE = 17,
	STREAM_SIZE = 16 << 10,
	CUT_COUNT_MAX = STREAM_SIZE / 128 + 1, /* smallest chunks, and what ends the list */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t window_hash(const uint8_t *end)
{
	uint32_t hash = 0;

	for (const uint8_t *p = end - CHUNKER_WINDOW_SIZE; p < end; p++)
		hash = (hash << 1 | hash >> 31) ^ chunker_table[*p];
	return hash;
}

/* The size of the chunk that begins at `data`; 0: no cut in `size` bytes. */
static size_t defined_cut(const uint8_t *data, size_t size, size_t avg)
{
	uint32_t mask = (uint32_t)avg * 2 - 1;

	for (size_t n = avg / 4; n <= size; n++)
		if (n == avg * 4 || (window_hash(data + n) & mask) >= mask - 2)
			return n;
	return 0;
}

/* Where chunks end, the last one at most where the stream does. */
static void define_cuts(const uint8_t *stream, size_t avg, size_t ends[CUT_COUNT_MAX])
{
	size_t begin = 0, count = 0, cut;

	while ((cut = defined_cut(stream + begin, STREAM_SIZE - begin, avg)) > 0) {
		begin += cut;
		ends[count++] = begin;
	}
	ends[count] = SIZE_MAX;
}

static void check_stream(const struct chunker_simd *simd, const uint8_t *stream, size_t avg,
			 const uint8_t *pieces, const size_t *ends)
{
	struct chunker c;
	size_t at = 0;

	chunker_init(&c, avg);
	c.simd = simd;
	for (size_t turn = 0; at < STREAM_SIZE; turn++) {
		size_t piece = (size_t)pieces[turn % 16] * (turn % 3 ? 1 : 17) + 1, cut;

		if (piece > STREAM_SIZE - at)
			piece = STREAM_SIZE - at;
		cut = chunker_scan(&c, stream + at, piece);
		must(cut <= piece);
		at += cut ? cut : piece;
		must(at <= *ends);
		must((cut > 0) == (at == *ends));
		ends += cut > 0;
	}
}

static void check_variants(const uint8_t *stream, size_t avg, const uint8_t *pieces)
{
	size_t ends[CUT_COUNT_MAX];

	define_cuts(stream, avg, ends);
	for (size_t i = 0; i < CHUNKER_SIMD_COUNT; i++)
		if (chunker_simd_variant(i))
			check_stream(chunker_simd_variant(i), stream, avg, pieces, ends);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t stream[STREAM_SIZE];

	if (size <= HEAD_SIZE)
		return 0;
	for (size_t at = 0; at < STREAM_SIZE; at += size - HEAD_SIZE) {
		size_t left = STREAM_SIZE - at, n = size - HEAD_SIZE;

		memcpy(stream + at, data + HEAD_SIZE, n < left ? n : left);
	}
	check_variants(stream, (size_t)512 << data[0] % 3, data + 1);
	return 0;
}
