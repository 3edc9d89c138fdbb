/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/readahead.h"

#include "archive/base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define MIB (UINT64_C(1) << 20)

static const struct readahead_params usual = {
	.bytes_max = 64 * MIB,
	.stream_size = 10240 * MIB,
	.chunk_size = 4 * MIB,
	.cpu_count = 2,
};

/* What was asked for so far, as one range that only grows at its end. */
struct trial {
	struct readahead ra;
	uint64_t asked_bytes, asked_end;
	unsigned asked_count, chunks; /* asks; chunk boundaries in them */
};

static void trial_init(struct trial *t, const struct readahead_params *params)
{
	const struct readahead_costs costs = { .wait_us = 1000, .work_us = 4000 };

	*t = (struct trial){ .asked_count = 0 };
	readahead_init(&t->ra, params);
	readahead_learn(&t->ra, &costs);
}

static void trial_release(struct trial *t)
{
	readahead_release(&t->ra);
}
DEFINE_AUTO_STRUCT(trial)

static bool note(struct trial *t, uint64_t begin, uint64_t end)
{
	struct readahead_range ask;

	if (!readahead_note(&t->ra, begin, end, &ask))
		return false;
	assert_true(ask.begin < ask.end);
	assert_true(ask.end <= t->ra.params.stream_size);
	t->asked_bytes += ask.end - ask.begin;
	t->asked_end = ask.end;
	t->asked_count++;
	t->chunks += (unsigned)((ask.end - 1) / t->ra.params.chunk_size -
				ask.begin / t->ra.params.chunk_size);
	return true;
}

static void reading_in_order_asks_ahead_up_to_the_depth(void **state)
{
	const struct readahead_costs costs = { .wait_us = 1000, .work_us = 4000 };
	uint64_t depth = readahead_depth(&usual, &costs), begin = 100 * MIB, ahead = 0;
	AUTO(trial) struct trial t;

	(void)state;
	trial_init(&t, &usual);
	assert_true(depth >= 8 * MIB && depth <= 32 * MIB);
	for (uint64_t at = begin; at < begin + 200 * MIB; at += MIB / 8) {
		note(&t, at, at + MIB / 8);
		ahead = t.asked_end > at ? t.asked_end - at : 0;
		assert_true(ahead <= depth + MIB / 8);
	}
	assert_true(ahead >= depth * 3 / 4);
	/* nothing twice, and in steps worth while */
	assert_true(t.asked_bytes <= 200 * MIB + depth);
	assert_true(t.asked_count < 100);
}

static void small_files_next_to_each_other_are_one_reader(void **state)
{
	AUTO(trial) struct trial t;
	uint64_t at = 7777;

	(void)state;
	trial_init(&t, &usual);
	for (int i = 0; i < 3000; i++) {
		uint64_t size = 16 + (uint64_t)i * 37 % 8192;

		note(&t, at, at + 16);
		note(&t, at + 16, at + size);
		at += size;
	}
	assert_true(t.asked_end > at + 4 * MIB);
}

static void the_first_reads_ask_for_little(void **state)
{
	AUTO(trial) struct trial t;

	(void)state;
	trial_init(&t, &usual);
	assert_false(note(&t, MIB, MIB + 4096));
	assert_false(note(&t, MIB + 4096, MIB + 8192));
	assert_true(note(&t, MIB + 8192, MIB + 12288));
	assert_true(t.asked_bytes <= 8 * 12288);
}

static void leaving_little_out_is_in_order(void **state)
{
	AUTO(trial) struct trial t;

	(void)state;
	trial_init(&t, &usual);
	for (uint64_t at = 0; at < 64 * MIB; at += MIB / 2)
		note(&t, at, at + MIB / 4);
	assert_true(t.asked_end > 64 * MIB);
}

static void long_strides_ask_for_nothing(void **state)
{
	AUTO(trial) struct trial t;

	(void)state;
	trial_init(&t, &usual);
	for (uint64_t at = 0; at < 2000 * MIB; at += 2 * MIB)
		assert_false(note(&t, at, at + 4096));
}

static void short_strides_with_little_read_soon_ask_for_nothing(void **state)
{
	AUTO(trial) struct trial t;

	(void)state;
	trial_init(&t, &usual);
	for (uint64_t at = 0; at < 500 * MIB; at += MIB / 2)
		note(&t, at, at + 4096);
	assert_true(t.asked_bytes < 20 * MIB);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

static void random_reads_ask_for_next_to_nothing(void **state)
{
	AUTO(trial) struct trial t;
	uint64_t seed = 1;

	(void)state;
	trial_init(&t, &usual);
	for (int i = 0; i < 100000; i++) {
		uint64_t at = next_random(&seed) % (usual.stream_size - 4096);

		note(&t, at, at + 16);
		note(&t, at + 16, at + 4096);
	}
	assert_true(t.chunks < 100);
}

static void two_readers_are_told_apart_and_share_the_depth(void **state)
{
	const struct readahead_costs costs = { .wait_us = 1000, .work_us = 4000 };
	uint64_t depth = readahead_depth(&usual, &costs), a = 0, b = 5000 * MIB;
	uint64_t ahead_a = 0, ahead_b = 0;
	AUTO(trial) struct trial t;

	(void)state;
	trial_init(&t, &usual);
	for (; a < 200 * MIB; a += MIB / 8, b += MIB / 8) {
		if (note(&t, a, a + MIB / 8))
			ahead_a = t.asked_end - a;
		if (note(&t, b, b + MIB / 8))
			ahead_b = t.asked_end - b;
	}
	assert_true(ahead_a >= depth / 4 && ahead_b >= depth / 4);
	assert_true(ahead_a + ahead_b <= depth + MIB);
}

static void random_reads_do_not_push_a_reader_out(void **state)
{
	AUTO(trial) struct trial t;
	uint64_t seed = 3, at = 0, asked = 0;

	(void)state;
	trial_init(&t, &usual);
	for (int i = 0; i < 400; i++, at += MIB / 8) {
		if (note(&t, at, at + MIB / 8))
			asked = t.asked_end;
		for (int k = 0; k < (i < 10 ? 20 : 100); k++) {
			uint64_t other = 5000 * MIB + next_random(&seed) % (5000 * MIB);

			note(&t, other, other + 4096);
		}
	}
	assert_true(asked > at + 4 * MIB);
}

static void requests_that_overtake_each_other_are_one_reader(void **state)
{
	AUTO(trial) struct trial t;

	(void)state;
	trial_init(&t, &usual);
	for (uint64_t at = 0; at < 100 * MIB; at += MIB / 2) {
		note(&t, at + MIB / 4, at + MIB / 2);
		note(&t, at, at + MIB / 4);
	}
	assert_true(t.asked_end > 100 * MIB && t.asked_end < 150 * MIB);
	assert_true(t.asked_bytes < 150 * MIB);
}

static void telling_it_again_changes_nothing(void **state)
{
	AUTO(trial) struct trial t;

	(void)state;
	trial_init(&t, &usual);
	for (int i = 0; i < 1000; i++)
		assert_false(note(&t, MIB, 2 * MIB));
}

static void never_asks_past_the_end(void **state)
{
	struct readahead_params params = usual;
	AUTO(trial) struct trial t;

	(void)state;
	params.stream_size = 10 * MIB + 1;
	trial_init(&t, &params);
	for (uint64_t at = 0; at < 10 * MIB; at += MIB / 8)
		note(&t, at, at + MIB / 8);
	assert_int_equal(t.asked_end, 10 * MIB + 1);
	assert_false(note(&t, 10 * MIB, 10 * MIB + 1));
	assert_false(note(&t, 10 * MIB, 10 * MIB + 2));
	assert_false(note(&t, 5, 5));
}

static void a_leap_ends_it(void **state)
{
	AUTO(trial) struct trial t;
	uint64_t before;

	(void)state;
	trial_init(&t, &usual);
	for (uint64_t at = 0; at < 10 * MIB; at += MIB / 8)
		note(&t, at, at + MIB / 8);
	before = t.asked_bytes;
	assert_false(note(&t, 900 * MIB, 901 * MIB));
	assert_int_equal(t.asked_bytes, before);
}

static void a_cache_that_holds_no_chunk_gets_no_read_ahead(void **state)
{
	struct readahead_params params = usual;
	AUTO(trial) struct trial t;

	(void)state;
	params.bytes_max = params.chunk_size - 1;
	trial_init(&t, &params);
	for (uint64_t at = 0; at < 50 * MIB; at += MIB / 8)
		assert_false(note(&t, at, at + MIB / 8));
}

static void a_small_cache_is_never_asked_too_much_of(void **state)
{
	struct readahead_params params = usual;
	AUTO(trial) struct trial t;

	(void)state;
	params.bytes_max = params.chunk_size + 5;
	trial_init(&t, &params);
	for (uint64_t at = 0; at < 50 * MIB; at += MIB / 8) {
		note(&t, at, at + MIB / 8);
		assert_true(t.asked_end <= at + MIB / 8 + params.bytes_max);
	}
	assert_true(t.asked_end > 50 * MIB);
}

static void zero_switches_it_off(void **state)
{
	struct readahead_params params = usual;
	AUTO(trial) struct trial t;

	(void)state;
	params.bytes_max = 0;
	trial_init(&t, &params);
	for (uint64_t at = 0; at < 50 * MIB; at += MIB / 8)
		assert_false(note(&t, at, at + MIB / 8));
}

static void depth_grows_with_the_wait_up_to_what_may_be(void **state)
{
	const struct readahead_costs local = { .wait_us = 0, .work_us = 4000 },
				     far = { .wait_us = 20000, .work_us = 4000 },
				     lost = { .wait_us = UINT64_MAX, .work_us = 1 }, none = { 0 };
	struct readahead_params params = usual;

	(void)state;
	assert_int_equal(readahead_depth(&params, &local), 4 * params.chunk_size);
	assert_int_equal(readahead_depth(&params, &far), params.bytes_max);
	params.bytes_max = 1000 * MIB;
	assert_int_equal(readahead_depth(&params, &far), 24 * params.chunk_size);
	assert_int_equal(readahead_depth(&params, &lost),
			 READAHEAD_CHUNKS_MAX * params.chunk_size);
	assert_int_equal(readahead_depth(&params, &none), 4 * params.chunk_size);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reading_in_order_asks_ahead_up_to_the_depth),
		cmocka_unit_test(small_files_next_to_each_other_are_one_reader),
		cmocka_unit_test(the_first_reads_ask_for_little),
		cmocka_unit_test(leaving_little_out_is_in_order),
		cmocka_unit_test(long_strides_ask_for_nothing),
		cmocka_unit_test(short_strides_with_little_read_soon_ask_for_nothing),
		cmocka_unit_test(random_reads_ask_for_next_to_nothing),
		cmocka_unit_test(two_readers_are_told_apart_and_share_the_depth),
		cmocka_unit_test(random_reads_do_not_push_a_reader_out),
		cmocka_unit_test(requests_that_overtake_each_other_are_one_reader),
		cmocka_unit_test(telling_it_again_changes_nothing),
		cmocka_unit_test(never_asks_past_the_end),
		cmocka_unit_test(a_leap_ends_it),
		cmocka_unit_test(a_cache_that_holds_no_chunk_gets_no_read_ahead),
		cmocka_unit_test(a_small_cache_is_never_asked_too_much_of),
		cmocka_unit_test(zero_switches_it_off),
		cmocka_unit_test(depth_grows_with_the_wait_up_to_what_may_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
