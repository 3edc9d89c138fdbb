/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static size_t length(const char *text)
{
	return text_utf8_length((const unsigned char *)text);
}

static void finds_the_ends_of_characters(void **state)
{
	(void)state;
	assert_int_equal(length("a"), 1);
	assert_int_equal(length("\xc3\xa4"), 2);
	assert_int_equal(length("\xe2\x82\xac"), 3);
	assert_int_equal(length("\xf0\x9f\x92\xbe"), 4);
}

static void refuses_what_is_no_utf8(void **state)
{
	static const char *const bad[] = {
		"\x80", "\xc0\x80", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(length(bad[i]), 0);
}

static void blanks_what_a_terminal_would_obey(void **state)
{
	char text[] = "a\x1b[31m\xc2\x9b" "31m\n\x7f \xc2\xa0\xc3\x9b end\xc2";

	(void)state;
	text_blank_controls(text);
	assert_string_equal(text, "a?[31m??31m?? \xc2\xa0\xc3\x9b end\xc2");
}

static void blanks_what_is_no_utf8(void **state)
{
	char text[] = "\xff" "a\xc3\xa4\x1b\xed\xa0\x80\xe2\x82";

	(void)state;
	text_blank_non_utf8(text);
	assert_string_equal(text, "?a\xc3\xa4\x1b?????");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_ends_of_characters),
		cmocka_unit_test(refuses_what_is_no_utf8),
		cmocka_unit_test(blanks_what_a_terminal_would_obey),
		cmocka_unit_test(blanks_what_is_no_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
