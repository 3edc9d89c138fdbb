/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void says_how_far_and_how_fast(void **state)
{
	struct backup_progress now = { .bytes = 3 << 20, .files = 12 };
	char line[256];

	(void)state;
	progress_format(&now, 0, line, sizeof(line));
	assert_string_equal(line, "3.0 MiB, 12 files");
	progress_format(&now, 1500, line, sizeof(line));
	assert_string_equal(line, "3.0 MiB, 12 files, 2.0 MiB/s");
	now.reused_bytes = 2 << 20;
	now.new_bytes = 2 << 20;
	now.skipped = 2;
	progress_format(&now, 1500, line, sizeof(line));
	assert_string_equal(line, "3.0 MiB, 12 files, 2.0 MiB/s, 50% reused, 2 skipped");
	now.files = 1;
	progress_format(&now, 1500, line, sizeof(line));
	assert_non_null(strstr(line, ", 1 file, "));
}

static void guesses_the_end_only_when_it_can(void **state)
{
	struct backup_progress now = { .bytes = 1 << 20, .bytes_expected = 10 << 20 };
	char line[256];

	(void)state;
	progress_format(&now, 1000, line, sizeof(line));
	assert_string_equal(line, "1.0 MiB of about 10.0 MiB, 0 files, 1.0 MiB/s");
	progress_format(&now, 8000, line, sizeof(line));
	assert_string_equal(line, "1.0 MiB of about 10.0 MiB, 0 files, 128.0 KiB/s, 1:12 left");
	progress_format(&now, 800000, line, sizeof(line));
	assert_non_null(strstr(line, "2:00:00 left"));
	now.bytes = now.bytes_expected;
	progress_format(&now, 8000, line, sizeof(line));
	assert_null(strstr(line, "left"));
	now.bytes = 0;
	progress_format(&now, 8000, line, sizeof(line));
	assert_null(strstr(line, "left"));
}

static void never_writes_past_its_buffer(void **state)
{
	struct backup_progress now = { .bytes = UINT64_MAX,
				       .files = UINT64_MAX,
				       .reused_bytes = 1,
				       .skipped = UINT64_MAX };
	char whole[256], line[256];

	(void)state;
	progress_format(&now, 1, whole, sizeof(whole));
	for (size_t size = 1; size < sizeof(line); size++) {
		memset(line, 'x', sizeof(line));
		progress_format(&now, 1, line, size);
		assert_true(strlen(line) < size);
		assert_memory_equal(line, whole, strlen(line));
		assert_int_equal(line[size], 'x');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_how_far_and_how_fast),
		cmocka_unit_test(guesses_the_end_only_when_it_can),
		cmocka_unit_test(never_writes_past_its_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
