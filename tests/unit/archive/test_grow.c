/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/grow.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void keeps_what_is_there(void **state)
{
	uint32_t *items = NULL;
	size_t capacity = 0;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(grow(&items, &capacity, i + 1, 1000, sizeof(*items)), 0);
		items[i] = i;
	}
	for (uint32_t i = 0; i < 1000; i++)
		assert_int_equal(items[i], i);
	assert_int_equal(capacity, 1000);
	free(items);
}

static void moves_nothing_while_there_is_room(void **state)
{
	char *items = NULL, *before;
	size_t capacity = 0;

	(void)state;
	assert_int_equal(grow(&items, &capacity, 100, SIZE_MAX, 1), 0);
	assert_int_equal(capacity, 128);
	before = items;
	assert_int_equal(grow(&items, &capacity, 128, SIZE_MAX, 1), 0);
	assert_ptr_equal(items, before);
	free(items);
}

static void refuses_more_than_the_maximum(void **state)
{
	uint64_t *items = NULL, *before;
	size_t capacity = 0;

	(void)state;
	assert_int_equal(grow(&items, &capacity, 5, 5, sizeof(*items)), 0);
	assert_int_equal(capacity, 5);
	before = items;
	assert_int_equal(grow(&items, &capacity, 6, 5, sizeof(*items)), -E2BIG);
	assert_int_equal(grow(&items, &capacity, SIZE_MAX, SIZE_MAX, sizeof(*items)), -E2BIG);
	assert_ptr_equal(items, before);
	assert_int_equal(capacity, 5);
	free(items);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_what_is_there),
		cmocka_unit_test(moves_nothing_while_there_is_room),
		cmocka_unit_test(refuses_more_than_the_maximum),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
