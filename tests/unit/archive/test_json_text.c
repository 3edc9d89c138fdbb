/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/json_text.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

enum { TEXT_SIZE_MAX = 1 << 20 };

static int decode(const char *text, json_t **out, struct err *err)
{
	return json_text_decode(text, strlen(text), out, err);
}

static void check_pretty(const char *text, const char *expected)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(TEXT_SIZE_MAX);
	AUTO(json) json_t *value = NULL;

	assert_int_equal(decode(text, &value, NULL), 0);
	assert_int_equal(json_text_pretty(value, &out), 0);
	wbuf_put_u8(&out, 0);
	assert_string_equal((const char *)out.data, expected);
}

static void writes_nested_values_sorted(void **state)
{
	(void)state;
	check_pretty("{\"b\":[1,{\"z\":null,\"a\":true}],\"B\":{},\"a\":[],\"\\u00e9\":false}",
		     "{\n"
		     "  \"B\": {},\n"
		     "  \"a\": [],\n"
		     "  \"b\": [\n"
		     "    1,\n"
		     "    {\n"
		     "      \"a\": true,\n"
		     "      \"z\": null\n"
		     "    }\n"
		     "  ],\n"
		     "  \"\xc3\xa9\": false\n"
		     "}");
}

static void escapes_strings_as_little_as_needed(void **state)
{
	(void)state;
	check_pretty("[\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\\\/\\u007f\\u00fc\"]",
		     "[\n  \"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\\\"\\\\/\x7f\xc3\xbc\"\n]");
}

static void check_number(const char *text, const char *expected)
{
	char array[64], lines[64];

	snprintf(array, sizeof(array), "[%s]", text);
	snprintf(lines, sizeof(lines), "[\n  %s\n]", expected);
	check_pretty(array, lines);
}

static void writes_numbers_as_the_server_does(void **state)
{
	(void)state;
	check_number("0", "0");
	check_number("-9223372036854775808", "-9223372036854775808");
	check_number("9223372036854775807", "9223372036854775807");
	check_number("0.0", "0.0");
	check_number("-0.0", "-0.0");
	check_number("1.0", "1.0");
	check_number("0.1", "0.1");
	check_number("-12.5", "-12.5");
	check_number("123456.789", "123456.789");
	check_number("1e2", "100.0");
	check_number("1e15", "1000000000000000.0");
	check_number("1.5e15", "1500000000000000.0");
	check_number("1e16", "1e16");
	check_number("1.25e16", "1.25e16");
	check_number("0.00001", "0.00001");
	check_number("0.000012", "0.000012");
	check_number("0.000001", "1e-6");
	check_number("1.7976931348623157e308", "1.7976931348623157e308");
	check_number("5e-324", "5e-324");
	check_number("0.30000000000000004", "0.30000000000000004");
}

static void refuses_members_given_twice(void **state)
{
	AUTO(json) json_t *value = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(decode("{\"a\":1,\"a\":1}", &value, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "duplicate"));
	assert_null(value);
}

static void refuses_what_is_no_json(void **state)
{
	static const char *const bad[] = {
		"", "{", "[1,]", "nul", "{\"a\"}", "[] []", "\"\xff\"", "\"\\ud800\"",
		"{\"\\u0000\":1}", "[1e999]", "[99999999999999999999]", "'a'", "}", "]]]]",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		AUTO(json) json_t *value = NULL;
		struct err err = ERR_INIT;

		assert_int_equal(decode(bad[i], &value, &err), -EBADMSG);
		assert_true(err.text[0] != '\0');
	}
}

static char *nested(size_t depth)
{
	char *text = malloc(2 * depth + 1);

	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	text[2 * depth] = '\0';
	return text;
}

static void bounds_the_nesting(void **state)
{
	AUTO(free) char *good = nested(JSON_TEXT_DEPTH_MAX);
	AUTO(free) char *bad = nested(JSON_TEXT_DEPTH_MAX + 1);
	AUTO(json) json_t *value = NULL;
	AUTO(json) json_t *none = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(decode(good, &value, &err), 0);
	assert_int_equal(decode(bad, &none, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "nested too deep"));
}

static void does_not_count_brackets_in_strings(void **state)
{
	AUTO(free) char *brackets = nested(1000);
	AUTO(free) char *text = NULL;
	AUTO(json) json_t *value = NULL;

	(void)state;
	assert_true(asprintf(&text, "[\"\\\"%s\\\\\"]", brackets) > 0);
	assert_int_equal(decode(text, &value, NULL), 0);
}

static void bounds_the_count_of_values(void **state)
{
	size_t size = 2 * (size_t)JSON_TEXT_VALUE_COUNT_MAX + 4;
	AUTO(free) char *text = malloc(size);
	AUTO(json) json_t *value = NULL;
	struct err err = ERR_INIT;

	(void)state;
	memset(text, ',', size);
	for (size_t i = 1; i < size; i += 2)
		text[i] = '1';
	text[0] = '[';
	text[size - 2] = ']';
	assert_int_equal(json_text_decode(text, size - 1, &value, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "too many values"));
}

static void refuses_output_over_the_buffers_limit(void **state)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(10);
	AUTO(json) json_t *value = NULL;

	(void)state;
	assert_int_equal(decode("[1,2,3]", &value, NULL), 0);
	assert_int_equal(json_text_pretty(value, &out), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_nested_values_sorted),
		cmocka_unit_test(escapes_strings_as_little_as_needed),
		cmocka_unit_test(writes_numbers_as_the_server_does),
		cmocka_unit_test(refuses_members_given_twice),
		cmocka_unit_test(refuses_what_is_no_json),
		cmocka_unit_test(bounds_the_nesting),
		cmocka_unit_test(does_not_count_brackets_in_strings),
		cmocka_unit_test(bounds_the_count_of_values),
		cmocka_unit_test(refuses_output_over_the_buffers_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
