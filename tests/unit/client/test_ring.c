/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void ranges_over_the_end_are_contiguous(void **state)
{
	AUTO(ring) struct ring r = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(ring_init(&r, 65536, 8192, &err), 0);
	memcpy(ring_at(&r, 3 * 65536 - 3), "abcdef", 6);
	assert_memory_equal(r.data, "def", 3);
	assert_memory_equal(r.data + 65536 - 3, "abcdef", 6);
	memcpy(r.data, "DEF", 3);
	assert_memory_equal(ring_at(&r, 65536 - 3), "abcDEF", 6);
	memset(ring_at(&r, 65535), 'x', 8192);
	assert_int_equal(r.data[8190], 'x');
	assert_int_equal(r.data[8191], 0);
}

static void sizes_are_rounded_up_to_pages(void **state)
{
	AUTO(ring) struct ring r = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(ring_init(&r, 5000, 1, &err), 0);
	assert_int_equal(r.size % 4096, 0);
	assert_true(r.size >= 5000);
	ring_at(&r, r.size - 1)[0] = 1;
	assert_int_equal(ring_at(&r, 2 * r.size - 1)[0], 1);
}

static void refuses_what_the_kernel_cannot_give(void **state)
{
	struct ring r = { 0 };
	struct err err = ERR_INIT;

	(void)state;
	assert_true(ring_init(&r, SIZE_MAX / 2, 4096, &err) < 0);
	assert_non_null(strstr(err.text, "memory"));
	assert_null(r.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges_over_the_end_are_contiguous),
		cmocka_unit_test(sizes_are_rounded_up_to_pages),
		cmocka_unit_test(refuses_what_the_kernel_cannot_give),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
