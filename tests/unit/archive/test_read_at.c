/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/read_at.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void reads_exactly_what_is_asked(void **state)
{
	struct read_at_memory m;
	char buf[4] = "....";

	(void)state;
	read_at_memory_init(&m, "0123456789", 10);
	assert_int_equal(m.base.size, 10);
	assert_int_equal(read_at_exact(&m.base, buf, 3, 7, NULL), 0);
	assert_memory_equal(buf, "789.", 4);
	assert_int_equal(read_at_exact(&m.base, buf, 0, 10, NULL), 0);
}

static void refuses_range_past_the_end(void **state)
{
	struct read_at_memory m;
	struct err err = ERR_INIT;
	char buf[16];

	(void)state;
	read_at_memory_init(&m, "0123456789", 10);
	assert_int_equal(read_at_exact(&m.base, buf, 4, 7, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "offset 7"));
	assert_int_equal(read_at_exact(&m.base, buf, 1, 10, NULL), -EBADMSG);
	assert_int_equal(read_at_exact(&m.base, buf, 0, 11, NULL), -EBADMSG);
	assert_int_equal(read_at_exact(&m.base, buf, 2, UINT64_MAX, NULL), -EBADMSG);
	assert_int_equal(read_at_exact(&m.base, buf, SIZE_MAX, 1, NULL), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_exactly_what_is_asked),
		cmocka_unit_test(refuses_range_past_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
