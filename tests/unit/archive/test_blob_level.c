/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/blob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { SIZE = 4 << 20 };

static uint8_t data[SIZE];

static void fill_noise(uint8_t *p, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		p[i] = (uint8_t)(seed >> 56);
	}
}

static void fill_text(uint8_t *p, size_t size, uint64_t seed)
{
	fill_noise(p, size, seed);
	for (size_t i = 0; i < size; i++)
		p[i] = (uint8_t)"etaoinshrdlucmfw"[p[i] & 15];
}

/* Words out of a thousand, in any order: the more is searched, the more is found. */
static void fill_words(uint8_t *p, size_t size)
{
	uint8_t words[8000];
	uint64_t seed = 1;

	fill_text(words, sizeof(words), 1);
	for (size_t i = 0; i + 8 <= size; i += 8) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		memcpy(p + i, words + (seed >> 33) % 1000 * 8, 8);
	}
}

/* Size of the stored form of `data`, which must decode to it. */
static size_t stored_size(int level, bool guess)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(SIZE));
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE);

	blob_codec_set_level(codec, level, guess);
	assert_int_equal(blob_encode(codec, data, SIZE, true, &stored, NULL), 0);
	assert_int_equal(blob_decode(codec, stored.data, stored.size, SIZE, &plain, NULL), 0);
	assert_int_equal(plain.size, SIZE);
	assert_memory_equal(plain.data, data, SIZE);
	return stored.size;
}

static void compresses_more_at_higher_levels_and_not_at_0(void **state)
{
	(void)state;
	fill_words(data, SIZE);
	assert_int_equal(stored_size(0, true), SIZE + BLOB_HEADER_SIZE);
	assert_true(stored_size(1, true) < SIZE / 2);
	assert_true(stored_size(BLOB_ZSTD_LEVEL_MAX, true) < stored_size(1, true));
}

static void leaves_noise_as_it_is(void **state)
{
	(void)state;
	fill_noise(data, SIZE, 1);
	assert_int_equal(stored_size(1, false), SIZE + BLOB_HEADER_SIZE);
	assert_int_equal(stored_size(1, true), SIZE + BLOB_HEADER_SIZE);
}

static void guesses_nothing_unless_it_is_told_to(void **state)
{
	(void)state;
	/* A hundredth and a bit less than that would be saved. */
	fill_noise(data, SIZE, 1);
	fill_text(data + 1000, SIZE / 100, 1);
	assert_true(stored_size(1, false) < SIZE);
}

static void compresses_whatever_a_sample_sees(void **state)
{
	(void)state;
	for (size_t i = 0; i < 8; i++) {
		fill_noise(data, SIZE, i);
		fill_text(data + i * SIZE / 8, SIZE / 8, i);
		assert_int_equal(stored_size(1, true), stored_size(1, false));
		assert_true(stored_size(1, true) < SIZE / 100 * 95);
	}
}

static void compresses_noise_that_comes_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < SIZE; i += SIZE / 32)
		fill_noise(data + i, SIZE / 32, 1);
	assert_int_equal(stored_size(1, true), stored_size(1, false));
	assert_true(stored_size(1, true) < SIZE / 10);
}

static void never_costs_more_than_a_hundredth_or_what_no_sample_saw(void **state)
{
	(void)state;
	/* Text in pieces that grow, anywhere between the samples. */
	for (size_t size = 1000; size < SIZE / 8; size = size * 3 / 2) {
		fill_noise(data, SIZE, size);
		fill_text(data + SIZE / 8 * 3 + (8 << 10), size, 1);
		assert_true(stored_size(1, true) - stored_size(1, false) <=
			    SIZE / 100 + size / 2 + BLOB_HEADER_SIZE);
	}
}

static void guesses_about_large_data_only(void **state)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(SIZE));

	(void)state;
	fill_noise(data, BLOB_GUESS_SIZE_MIN, 1);
	fill_text(data, 60000, 1);
	blob_codec_set_level(codec, 1, true);
	assert_int_equal(blob_encode(codec, data, BLOB_GUESS_SIZE_MIN - 1, true, &stored, NULL),
			 0);
	assert_true(stored.size < BLOB_GUESS_SIZE_MIN - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compresses_more_at_higher_levels_and_not_at_0),
		cmocka_unit_test(leaves_noise_as_it_is),
		cmocka_unit_test(guesses_nothing_unless_it_is_told_to),
		cmocka_unit_test(compresses_whatever_a_sample_sees),
		cmocka_unit_test(compresses_noise_that_comes_again),
		cmocka_unit_test(never_costs_more_than_a_hundredth_or_what_no_sample_saw),
		cmocka_unit_test(guesses_about_large_data_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
