/* SPDX-License-Identifier: Apache-2.0 */
/* Every variant against a reference that takes byte by byte, as the definition does. */
#include "archive/chunker_simd.h"

#include "archive/base/cleanup.h"
#include "archive/chunker.h"
#include "archive/chunker_table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum {
	KIB = 1 << 10,
	WINDOW = CHUNKER_WINDOW_SIZE,
	/* a round of full stripes, one of shorter ones, some blocks, a rest */
	FIND_SIZE = 4 * KIB + 900,
	STREAM_SIZE = 40 * KIB,
	MASK_BITS_MAX = 23, /* of an average of 4 MiB */
};

static uint32_t rotate_by(uint32_t x, unsigned n)
{
	return n % 32 ? x << n % 32 | x >> (32 - n % 32) : x;
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void fill_random(uint8_t *data, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(next_random(&seed) >> 24);
}

static uint32_t window_hash(const uint8_t *begin)
{
	uint32_t hash = 0;

	for (unsigned i = 0; i < WINDOW; i++)
		hash ^= rotate_by(chunker_table[begin[i]], WINDOW - 1 - i);
	return hash;
}

/* --- windows made to have a hash --- */

/* XOR of some `words`, found by elimination: which[b] says of which. */
struct basis {
	uint32_t words[32];
	uint64_t which[32];
};

/* Take away what the basis can; *which: of what that was.  Returns what is left. */
static uint32_t reduce(const struct basis *b, uint32_t word, uint64_t *which)
{
	for (unsigned bit = 32; bit-- > 0;)
		if (word >> bit & 1 && b->words[bit]) {
			word ^= b->words[bit];
			*which ^= b->which[bit];
		}
	return word;
}

/* Two random values for each place; a choice among them gives the wanted hash. */
static void make_window(uint8_t window[WINDOW], uint32_t hash, uint64_t seed)
{
	struct basis b = { .words = { 0 } };
	uint8_t other[WINDOW];
	uint64_t choice = 0;

	fill_random(window, WINDOW, seed);
	fill_random(other, WINDOW, ~seed);
	for (unsigned i = 0; i < WINDOW; i++) {
		uint64_t which = (uint64_t)1 << i;
		uint32_t change = chunker_table[window[i]] ^ chunker_table[other[i]];
		uint32_t left = reduce(&b, rotate_by(change, WINDOW - 1 - i), &which);

		if (left) {
			unsigned bit = 31 - (unsigned)__builtin_clz(left);

			b.words[bit] = left;
			b.which[bit] = which;
		}
	}
	assert_int_equal(reduce(&b, hash ^ window_hash(window), &choice), 0);
	for (unsigned i = 0; i < WINDOW; i++)
		if (choice >> i & 1)
			window[i] = other[i];
	assert_int_equal(window_hash(window), hash);
}

/* --- find --- */

static size_t reference_find(const uint8_t *data, size_t size, uint32_t mask)
{
	for (size_t i = 0; i < size; i++)
		if ((window_hash(data + i + 1 - WINDOW) & mask) >= mask - 2)
			return i;
	return size;
}

static void check_find(const uint8_t *data, size_t size, uint32_t mask, size_t expected)
{
	for (size_t i = 0; i < CHUNKER_SIMD_COUNT; i++) {
		const struct chunker_simd *v = chunker_simd_variant(i);
		size_t found = v ? v->find(data, size, mask, mask - 2) : expected;

		if (found != expected)
			fail_msg("%s: %zu of %zu, mask %#x; not %zu", v->name, found, size, mask,
				 expected);
	}
}

static uint32_t mask_of_bits(unsigned bits)
{
	return ((uint32_t)1 << bits) - 1;
}

static void has_a_best_variant_on_any_processor(void **state)
{
	struct chunker c;

	(void)state;
	assert_non_null(chunker_simd_variant(0));
	assert_non_null(chunker_simd_variant(1));
	chunker_init(&c, CHUNKER_AVG_SIZE_DEFAULT);
	assert_ptr_equal(c.simd, chunker_simd_best());
	for (size_t i = 0; i < CHUNKER_SIMD_COUNT; i++)
		if (chunker_simd_variant(i))
			print_message("variant: %s\n", chunker_simd_variant(i)->name);
}

static void finds_a_window_at_every_place(void **state)
{
	const uint32_t mask = mask_of_bits(MASK_BITS_MAX);
	AUTO(free) uint8_t *buffer = calloc(1, WINDOW + FIND_SIZE);
	uint8_t window[WINDOW], *data = buffer + WINDOW;

	(void)state;
	make_window(window, UINT32_MAX, 1);
	check_find(data, FIND_SIZE, mask, FIND_SIZE);
	for (size_t at = 0; at < FIND_SIZE; at++) {
		memcpy(data + at + 1 - WINDOW, window, WINDOW);
		check_find(data, FIND_SIZE, mask, at);
		memset(data + at + 1 - WINDOW, 0, WINDOW);
	}
}

/* Of two in different stripes, pieces or blocks, looked at together or not. */
static void finds_the_first_of_two_windows(void **state)
{
	static const size_t places[] = { 63,   64,   79,   80,	 127,  128,  255,  256,	 319,
					 511,  512,  1023, 1024, 1087, 1200, 2047, 2048, 3071,
					 3072, 4095, 4096, 4159, 4160, 4300, 4995 };
	const size_t count = sizeof(places) / sizeof(places[0]);
	const uint32_t mask = mask_of_bits(MASK_BITS_MAX);
	AUTO(free) uint8_t *buffer = malloc(WINDOW + FIND_SIZE);
	uint8_t window[WINDOW], *data = buffer + WINDOW;

	(void)state;
	make_window(window, mask - 2, 2);
	for (size_t a = 0; a < count; a++)
		for (size_t b = 0; b < count; b++) {
			memset(buffer, 'x', WINDOW + FIND_SIZE);
			memcpy(data + places[a] + 1 - WINDOW, window, WINDOW);
			memcpy(data + places[b] + 1 - WINDOW, window, WINDOW);
			check_find(data, FIND_SIZE, mask, reference_find(data, FIND_SIZE, mask));
		}
}

/* With one bit off it is none, whatever the bits outside of the mask. */
static void tells_cuts_from_what_is_nearly_one(void **state)
{
	static const size_t places[] = { 0, 1, 255, 256, 1000, 4095, 4096, 4999 };
	AUTO(free) uint8_t *buffer = malloc(WINDOW + FIND_SIZE + WINDOW);
	uint64_t random = 3;

	(void)state;
	for (unsigned bits = 10; bits <= MASK_BITS_MAX; bits++)
		for (unsigned off = 0; off < bits + 2; off++) {
			/* low bits 3, 2 and 1 are cuts, 0 is none */
			uint32_t mask = mask_of_bits(bits);
			uint32_t missing = off < 4 ? off : (uint32_t)1 << (off - 2);
			uint32_t high = (uint32_t)next_random(&random) & ~mask;
			size_t at = places[(bits + off) % 8];
			uint8_t *data = buffer + WINDOW;

			memset(buffer, 0, WINDOW + FIND_SIZE);
			make_window(data + at + 1 - WINDOW, high | (mask & ~missing), random);
			assert_int_equal((window_hash(data + at + 1 - WINDOW) & mask) >= mask - 2,
					 off < 3);
			check_find(data, FIND_SIZE, mask, reference_find(data, FIND_SIZE, mask));
		}
}

/* In memory of exactly this size, where the address sanitizer sees a byte too far. */
static void agrees_at_every_size_on_random_bytes(void **state)
{
	uint64_t random = 4;

	(void)state;
	for (size_t size = 0; size < 1400; size++) {
		AUTO(free) uint8_t *buffer = malloc(WINDOW + size);
		uint32_t mask = mask_of_bits(10 + (unsigned)(size % 4));

		fill_random(buffer, WINDOW + size, next_random(&random));
		check_find(buffer + WINDOW, size, mask,
			   reference_find(buffer + WINDOW, size, mask));
	}
}

static void finds_nothing_in_constant_bytes(void **state)
{
	AUTO(free) uint8_t *buffer = malloc(WINDOW + FIND_SIZE);

	(void)state;
	for (int value = 0; value < 256; value++) {
		memset(buffer, value, WINDOW + FIND_SIZE);
		check_find(buffer + WINDOW, FIND_SIZE, mask_of_bits(10), FIND_SIZE);
	}
}

/* 64 bytes with all ones, over and over: all that leaves comes back, so every place is one. */
static void finds_the_first_byte_where_every_place_is_a_cut(void **state)
{
	AUTO(free) uint8_t *buffer = malloc(WINDOW + FIND_SIZE);

	(void)state;
	for (size_t at = 0; at < WINDOW + FIND_SIZE; at += WINDOW) {
		uint8_t window[WINDOW];
		size_t left = WINDOW + FIND_SIZE - at;

		make_window(window, UINT32_MAX, 5);
		memcpy(buffer + at, window, left < WINDOW ? left : WINDOW);
	}
	for (size_t begin = 0; begin < 2 * WINDOW; begin++)
		check_find(buffer + WINDOW + begin, FIND_SIZE - begin, mask_of_bits(MASK_BITS_MAX),
			   0);
}

/* --- whole streams --- */

/* The definition's scan of one byte: window, hash and size begin anew after a cut. */
struct reference {
	uint8_t window[WINDOW];
	size_t filled, size;
	uint32_t hash;
};

static bool reference_takes(struct reference *r, uint8_t byte, size_t avg)
{
	const uint32_t mask = (uint32_t)avg * 2 - 1;
	uint32_t leaving = r->filled < WINDOW ? 0 : chunker_table[r->window[r->size % WINDOW]];

	r->hash = rotate_by(r->hash, 1) ^ leaving ^ chunker_table[byte];
	r->window[r->size % WINDOW] = byte;
	r->filled += r->filled < WINDOW;
	r->size++;
	if (r->size < avg * 4 && (r->size < avg / 4 || (r->hash & mask) < mask - 2))
		return false;
	*r = (struct reference){ .size = 0 };
	return true;
}

/* ends[i]: a chunk ends before byte i + 1. */
static void reference_cuts(const uint8_t *data, size_t size, size_t avg, bool *ends)
{
	struct reference r = { .size = 0 };

	for (size_t i = 0; i < size; i++)
		ends[i] = reference_takes(&r, data[i], avg);
}

/* In memory of its own, unless large: bytes before and behind it are not to be touched. */
static size_t scan_alone(struct chunker *c, const uint8_t *data, size_t size)
{
	AUTO(free) uint8_t *copy = NULL;

	if (size > 8 * KIB)
		return chunker_scan(c, data, size);
	copy = malloc(size);
	memcpy(copy, data, size);
	return chunker_scan(c, copy, size);
}

/* Pieces of `piece` bytes; 0: of random sizes. */
static void check_pieces(const struct chunker_simd *simd, const uint8_t *data, size_t size,
			 size_t avg, size_t piece, const bool *ends)
{
	struct chunker c;
	uint64_t random = 6;
	size_t at = 0;

	chunker_init(&c, avg);
	c.simd = simd;
	while (at < size) {
		size_t n = piece ? piece : next_random(&random) % (3 * avg) + 1, cut, end;

		n = n < size - at ? n : size - at;
		cut = scan_alone(&c, data + at, n);
		assert_true(cut <= n);
		for (end = at + (cut ? cut - 1 : n); at < end; at++)
			if (ends[at])
				fail_msg("%s, avg %zu, pieces of %zu: no cut at %zu", simd->name,
					 avg, piece, at + 1);
		if (cut && !ends[at++])
			fail_msg("%s, avg %zu, pieces of %zu: cut at %zu", simd->name, avg, piece,
				 at);
	}
}

static void check_stream(const uint8_t *data, size_t size, size_t avg, const size_t *pieces,
			 size_t piece_count)
{
	AUTO(free) bool *ends = calloc(size, sizeof(*ends));

	reference_cuts(data, size, avg, ends);
	for (size_t i = 0; i < CHUNKER_SIMD_COUNT; i++)
		for (size_t k = 0; chunker_simd_variant(i) && k < piece_count; k++)
			check_pieces(chunker_simd_variant(i), data, size, avg, pieces[k], ends);
}

/* At each way to split it that might matter: windows, stripes, blocks, smallest and largest
 * chunks, and one more or less. */
static void check_all_splits(const uint8_t *data, size_t size)
{
	for (size_t avg = 512; avg <= 8 * KIB; avg *= 4) {
		const size_t pieces[] = {
			0,
			1,
			2,
			7,
			63,
			64,
			65,
			127,
			128,
			129,
			255,
			256,
			257,
			319,
			320,
			321,
			511,
			512,
			513,
			1023,
			1024,
			1025,
			1088,
			4095,
			4096,
			4097,
			4160,
			avg / 4 - 65,
			avg / 4 - 64,
			avg / 4 - 63,
			avg / 4 - 1,
			avg / 4,
			avg / 4 + 1,
			avg,
			avg * 4 - 1,
			avg * 4,
			avg * 4 + 1,
			avg * 4 - WINDOW,
			SIZE_MAX,
		};

		check_stream(data, size, avg, pieces, sizeof(pieces) / sizeof(pieces[0]));
	}
}

static void cuts_random_streams_alike(void **state)
{
	AUTO(free) uint8_t *data = malloc(STREAM_SIZE);

	(void)state;
	for (uint64_t seed = 10; seed < 12; seed++) {
		fill_random(data, STREAM_SIZE, seed);
		check_all_splits(data, STREAM_SIZE);
	}
}

static void repeat(uint8_t *data, size_t size, size_t period)
{
	for (size_t i = period; i < size; i++)
		data[i] = data[i - period];
}

static void cuts_repeating_streams_alike(void **state)
{
	static const size_t periods[] = { 1, 2, 3, 16, 31, 32, 63, 65, 100, 256, 257, 1000, 1024 };
	static const size_t pieces[] = { 0, 1, 65, 256, 1023, SIZE_MAX };
	AUTO(free) uint8_t *data = malloc(STREAM_SIZE);

	(void)state;
	for (size_t i = 0; i < sizeof(periods) / sizeof(periods[0]); i++) {
		fill_random(data, STREAM_SIZE, 20 + i);
		repeat(data, STREAM_SIZE, periods[i]);
		check_stream(data, STREAM_SIZE, 512, pieces, sizeof(pieces) / sizeof(pieces[0]));
		check_stream(data, STREAM_SIZE, 4 * KIB, pieces,
			     sizeof(pieces) / sizeof(pieces[0]));
	}
}

static void cuts_a_stream_of_nothing_but_cuts_alike(void **state)
{
	AUTO(free) uint8_t *data = malloc(STREAM_SIZE);

	(void)state;
	make_window(data, UINT32_MAX, 30);
	repeat(data, STREAM_SIZE, WINDOW);
	check_all_splits(data, STREAM_SIZE);
}

/* Cuts just before, at and behind the smallest chunk and the largest, in zeros elsewhere. */
static void cuts_at_the_limits_of_a_chunk_alike(void **state)
{
	enum { AVG = 2 * KIB, SPAN = 9 * AVG };
	static const size_t pieces[] = { 0, 1, 64, 255, 1000, SIZE_MAX };
	AUTO(free) uint8_t *data = malloc(SPAN);

	(void)state;
	for (int off = -70; off <= 70; off++) {
		memset(data, 0, SPAN);
		make_window(data + AVG / 4 + off - WINDOW, UINT32_MAX, 40);
		make_window(data + 4 * AVG + off - WINDOW, UINT32_MAX - 1, 41);
		make_window(data + 8 * AVG + off - WINDOW, UINT32_MAX - 2, 42);
		check_stream(data, SPAN, AVG, pieces, sizeof(pieces) / sizeof(pieces[0]));
	}
}

static void cuts_a_large_stream_alike(void **state)
{
	enum { SIZE = 6 << 20 };
	static const size_t pieces[] = { 0, 256 * KIB, 1000003 };
	AUTO(free) uint8_t *data = malloc(SIZE);

	(void)state;
	fill_random(data, SIZE, 50);
	check_stream(data, SIZE, CHUNKER_AVG_SIZE_MIN, pieces, 3);
	check_stream(data, SIZE, CHUNKER_AVG_SIZE_DEFAULT, pieces, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_a_best_variant_on_any_processor),
		cmocka_unit_test(finds_a_window_at_every_place),
		cmocka_unit_test(finds_the_first_of_two_windows),
		cmocka_unit_test(tells_cuts_from_what_is_nearly_one),
		cmocka_unit_test(agrees_at_every_size_on_random_bytes),
		cmocka_unit_test(finds_nothing_in_constant_bytes),
		cmocka_unit_test(finds_the_first_byte_where_every_place_is_a_cut),
		cmocka_unit_test(cuts_random_streams_alike),
		cmocka_unit_test(cuts_repeating_streams_alike),
		cmocka_unit_test(cuts_a_stream_of_nothing_but_cuts_alike),
		cmocka_unit_test(cuts_at_the_limits_of_a_chunk_alike),
		cmocka_unit_test(cuts_a_large_stream_alike),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
