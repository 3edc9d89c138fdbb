/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/cmd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void reads_sizes_as_people_write_them(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "1", 1 },
		{ "4194304", 4194304 },
		{ "12 B", 12 },
		{ "4MiB", 4 << 20 },
		{ "4 mib", 4 << 20 },
		{ "4Mi", 4 << 20 },
		{ "4M", 4000000 },
		{ "4 MB", 4000000 },
		{ "1.5k", 1500 },
		{ "1.5 KiB", 1536 },
		{ "2g", 2000000000 },
		{ "3 TiB", 3ull << 40 },
		{ "1PB", 1000000000000000 },
	};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_true(cmd_parse_size(good[i].text, &bytes));
		assert_int_equal(bytes, good[i].bytes);
	}
}

static void refuses_what_is_no_size(void **state)
{
	static const char *const bad[] = { "", " ", "x", "-1", "+1", ".5", "1.", "1 x", "1 KiBx",
					   "1iB", "0x10", "1e3", "nan", "inf", "1 K B", "99999 PiB",
					   "1..5", "1,5", " 1" };
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cmd_parse_size(bad[i], &bytes))
			fail_msg("'%s' was taken", bad[i]);
}

static void reads_the_sizes_that_it_writes(void **state)
{
	char text[32];
	uint64_t back;

	(void)state;
	for (uint64_t bytes = 1; bytes < 1ull << 50; bytes *= 4) {
		cmd_format_size(bytes, text, sizeof(text));
		assert_true(cmd_parse_size(text, &back));
		assert_int_equal(back, bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_sizes_as_people_write_them),
		cmocka_unit_test(refuses_what_is_no_size),
		cmocka_unit_test(reads_the_sizes_that_it_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
