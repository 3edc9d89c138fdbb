/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/push_runs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { FILES = 10000, HEADER = 16 };

/* Files as they lie in a payload stream, and what a page cache has of them. */
struct trial {
	struct push_runs runs;
	struct push_file files[FILES];
	bool cached[FILES];
	unsigned reads, pushes;
	size_t window_bytes_max;
	unsigned window_max;
	bool in_order; /* of the last READ */
};

static struct trial t;

static void trial_init(uint64_t (*size_of)(unsigned i))
{
	uint64_t at = 1000, entry = 50;

	memset(&t, 0, sizeof(t));
	t.runs.window_max = 1024;
	for (unsigned i = 0; i < FILES; i++) {
		uint64_t size = size_of(i);

		t.files[i] = (struct push_file){ .entry_offset = entry,
						 .begin = at,
						 .end = at + HEADER + size,
						 .size = size };
		at += HEADER + size;
		entry += 100;
	}
}

static unsigned index_of(uint64_t entry_offset)
{
	return (unsigned)((entry_offset - 50) / 100);
}

/* What the pusher does with a run. */
static void push_all(struct push_run *run)
{
	size_t bytes = 0;
	unsigned count = 0;

	for (unsigned i = index_of(run->last_entry) + 1; i < FILES; i++) {
		enum push_verdict verdict = push_runs_next(run, &t.files[i]);

		if (verdict == PUSH_ENOUGH)
			break;
		if (verdict == PUSH_NOT)
			continue;
		assert_in_range(t.files[i].size, 1, PUSH_FILE_SIZE_MAX);
		t.cached[i] = true;
		bytes += t.files[i].size;
		count++;
	}
	t.pushes += count;
	if (bytes > t.window_bytes_max)
		t.window_bytes_max = bytes;
	if (count > t.window_max)
		t.window_max = count;
	push_runs_done(run);
}

static struct push_run *saw(unsigned i)
{
	t.reads++;
	t.cached[i] = true;
	return push_runs_saw(&t.runs, &t.files[i], &t.in_order);
}

static void read_file(unsigned i)
{
	struct push_run *run;

	if (t.cached[i] || t.files[i].size == 0)
		return;
	run = saw(i);
	if (run)
		push_all(run);
}

static uint64_t small(unsigned i)
{
	return i * 37 % 8192;
}

static uint64_t same(unsigned i)
{
	(void)i;
	return 4096;
}

static uint64_t some_large(unsigned i)
{
	return i % 10 == 3 ? 100000 : 4000;
}

static uint64_t some_huge(unsigned i)
{
	return i % 100 == 3 ? 5000000 : 4000;
}

static uint64_t just_fit(unsigned i)
{
	(void)i;
	return PUSH_FILE_SIZE_MAX;
}

static uint64_t hardly_any(unsigned i)
{
	return i % 1000 == 0 ? 10 : 0;
}

static void one_who_reads_in_order_gets_nearly_all_pushed(void **state)
{
	(void)state;
	trial_init(small);
	for (unsigned i = 0; i < FILES; i++)
		read_file(i);
	assert_true(t.reads < FILES / 200);
	assert_int_equal(t.window_max, 1024 - 1); /* one is left out */
	assert_true(t.window_bytes_max <= PUSH_WINDOW_BYTES_MAX);
}

static void the_first_file_pushes_nothing_the_second_does(void **state)
{
	struct push_run *run;

	(void)state;
	trial_init(same);
	assert_null(saw(10));
	assert_false(t.in_order);
	run = saw(11);
	assert_non_null(run);
	assert_true(t.in_order);
	push_all(run);
	assert_int_equal(t.pushes, PUSH_WINDOW_MIN);
	assert_true(t.cached[12] && t.cached[11 + PUSH_WINDOW_MIN]);
	assert_false(t.cached[12 + PUSH_WINDOW_MIN]);
}

static void random_reads_push_nothing(void **state)
{
	uint64_t seed = 7;
	unsigned jobs = 0, in_order = 0;

	(void)state;
	trial_init(same);
	for (int i = 0; i < 2000; i++) {
		seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
		/* as if each file were a hundred times as far from the next */
		struct push_file file = t.files[(seed >> 33) % FILES];

		file.begin *= 100;
		file.end = file.begin + HEADER + file.size;
		jobs += push_runs_saw(&t.runs, &file, &t.in_order) != NULL;
		in_order += t.in_order;
	}
	assert_true(jobs < 10 && in_order < 10);
}

static void reading_backwards_pushes_nothing(void **state)
{
	(void)state;
	trial_init(same);
	for (unsigned i = FILES; i-- > 0;)
		read_file(i);
	assert_int_equal(t.pushes, 0);
}

static void two_readers_are_told_apart(void **state)
{
	(void)state;
	trial_init(same);
	for (unsigned i = 0; i < FILES / 2; i++) {
		read_file(i);
		read_file(FILES / 2 + i);
	}
	assert_true(t.reads < FILES / 100);
}

static void archives_are_told_apart(void **state)
{
	struct push_file other;

	(void)state;
	trial_init(same);
	saw(0);
	other = t.files[1];
	other.slot = 1;
	assert_null(push_runs_saw(&t.runs, &other, &t.in_order));
}

static void large_files_are_passed_over(void **state)
{
	(void)state;
	trial_init(some_large);
	for (unsigned i = 0; i < FILES; i++)
		read_file(i);
	assert_true(t.reads < FILES / 10 + FILES / 100);
}

static void a_large_file_is_not_in_order(void **state)
{
	(void)state;
	trial_init(some_huge);
	saw(1);
	saw(2);
	assert_true(t.in_order);
	saw(3);
	assert_false(t.in_order);
}

static void behind_huge_files_it_goes_on(void **state)
{
	(void)state;
	trial_init(some_huge);
	for (unsigned i = 0; i < FILES; i++)
		read_file(i);
	assert_true(t.reads < FILES / 20);
}

static void a_window_is_bounded_in_bytes(void **state)
{
	(void)state;
	trial_init(just_fit);
	for (unsigned i = 0; i < FILES; i++)
		read_file(i);
	assert_true(t.pushes > FILES / 2);
	assert_true(t.window_bytes_max <= PUSH_WINDOW_BYTES_MAX);
}

static void empty_files_are_no_gap_until_they_are_many(void **state)
{
	(void)state;
	trial_init(hardly_any);
	for (unsigned i = 0; i < FILES; i++)
		read_file(i);
	assert_true(t.reads <= 10);
}

static void a_window_of_one_file_is_fine(void **state)
{
	(void)state;
	trial_init(same);
	t.runs.window_max = 1;
	for (unsigned i = 0; i < 1000; i++)
		read_file(i);
	assert_int_equal(t.window_max, 1);
	assert_in_range(t.reads, 490, 510);
}

static void what_was_read_meanwhile_is_not_pushed(void **state)
{
	struct push_run *run;

	(void)state;
	trial_init(same);
	saw(0);
	run = saw(1);
	assert_non_null(run);
	/* the reader is quicker, and gets no second window while the first is being pushed */
	assert_null(saw(2));
	assert_null(saw(3));
	assert_int_equal(push_runs_next(run, &t.files[2]), PUSH_NOT);
	assert_int_equal(push_runs_next(run, &t.files[3]), PUSH_NOT);
	assert_int_equal(push_runs_next(run, &t.files[4]), PUSH_IT);
}

static void what_is_far_away_is_not_pushed(void **state)
{
	struct push_file far;
	struct push_run *run;

	(void)state;
	trial_init(same);
	saw(0);
	run = saw(1);
	far = t.files[2];
	far.begin += PUSH_NEAR_SIZE + 1;
	far.end += PUSH_NEAR_SIZE + 1;
	assert_int_equal(push_runs_next(run, &far), PUSH_ENOUGH);
}

static void a_pushed_file_that_is_read_all_the_same_changes_nothing(void **state)
{
	(void)state;
	trial_init(same);
	read_file(0);
	read_file(1);
	/* the kernel needed its memory for something else */
	for (unsigned i = 2; i < 1 + PUSH_WINDOW_MIN; i++)
		assert_null(saw(i));
	assert_non_null(saw(2 + PUSH_WINDOW_MIN));
}

static void busy_runs_keep_their_place(void **state)
{
	struct push_run *run;

	(void)state;
	trial_init(same);
	saw(0);
	run = saw(1);
	for (unsigned i = 100; i < 10000; i += 100)
		assert_null(saw(i));
	assert_true(run->busy && run->last_entry == t.files[1].entry_offset);
	push_runs_done(run);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_who_reads_in_order_gets_nearly_all_pushed),
		cmocka_unit_test(the_first_file_pushes_nothing_the_second_does),
		cmocka_unit_test(random_reads_push_nothing),
		cmocka_unit_test(reading_backwards_pushes_nothing),
		cmocka_unit_test(two_readers_are_told_apart),
		cmocka_unit_test(archives_are_told_apart),
		cmocka_unit_test(large_files_are_passed_over),
		cmocka_unit_test(a_large_file_is_not_in_order),
		cmocka_unit_test(behind_huge_files_it_goes_on),
		cmocka_unit_test(a_window_is_bounded_in_bytes),
		cmocka_unit_test(empty_files_are_no_gap_until_they_are_many),
		cmocka_unit_test(a_window_of_one_file_is_fine),
		cmocka_unit_test(what_was_read_meanwhile_is_not_pushed),
		cmocka_unit_test(what_is_far_away_is_not_pushed),
		cmocka_unit_test(a_pushed_file_that_is_read_all_the_same_changes_nothing),
		cmocka_unit_test(busy_runs_keep_their_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
