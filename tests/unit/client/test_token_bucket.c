/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/token_bucket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const uint64_t SECOND = 1000000000, BEGIN = 500000000000;

static void gives_what_is_in_it_at_once_and_the_rest_in_time(void **state)
{
	struct token_bucket b;

	(void)state;
	token_bucket_init(&b, 1000, 500, BEGIN);
	assert_true(token_bucket_take(&b, 300, BEGIN) <= BEGIN);
	assert_true(token_bucket_take(&b, 200, BEGIN) <= BEGIN);
	assert_int_equal(token_bucket_take(&b, 1000, BEGIN), BEGIN);
	assert_int_equal(token_bucket_take(&b, 100, BEGIN), BEGIN + SECOND);
	assert_int_equal(token_bucket_take(&b, 1, BEGIN), BEGIN + SECOND + SECOND / 10);
	token_bucket_release(&b);
}

static void fills_up_again_but_not_over(void **state)
{
	struct token_bucket b;
	uint64_t now = BEGIN;

	(void)state;
	token_bucket_init(&b, 1000, 500, now);
	token_bucket_take(&b, 500, now);
	now += SECOND / 4;
	assert_true(token_bucket_take(&b, 250, now) <= now);
	assert_int_equal(token_bucket_take(&b, 0, now), now);
	now += 100 * SECOND;
	assert_true(token_bucket_take(&b, 500, now) <= now);
	assert_int_equal(token_bucket_take(&b, 1, now), now);
	assert_true(token_bucket_take(&b, 1, now) > now);
	token_bucket_release(&b);
}

static void lends_what_is_larger_than_the_bucket(void **state)
{
	struct token_bucket b;

	(void)state;
	token_bucket_init(&b, 1000, 10, BEGIN);
	assert_true(token_bucket_take(&b, 5010, BEGIN) <= BEGIN);
	assert_int_equal(token_bucket_take(&b, 1, BEGIN), BEGIN + 5 * SECOND);
	token_bucket_release(&b);
}

static void survives_numbers_of_any_size(void **state)
{
	struct token_bucket b;

	(void)state;
	token_bucket_init(&b, 1, UINT64_MAX, BEGIN);
	token_bucket_take(&b, UINT64_MAX, BEGIN);
	token_bucket_take(&b, UINT64_MAX, BEGIN);
	token_bucket_take(&b, UINT64_MAX, BEGIN);
	assert_true(token_bucket_take(&b, 1, BEGIN) > BEGIN + SECOND);
	token_bucket_release(&b);
	token_bucket_init(&b, UINT64_MAX, 0, 0);
	assert_true(token_bucket_take(&b, UINT64_MAX, 0) == 0);
	assert_int_equal(token_bucket_take(&b, 0, 0), SECOND);
	token_bucket_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_what_is_in_it_at_once_and_the_rest_in_time),
		cmocka_unit_test(fills_up_again_but_not_over),
		cmocka_unit_test(lends_what_is_larger_than_the_bucket),
		cmocka_unit_test(survives_numbers_of_any_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
