/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/shell_words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void cuts_words_as_a_shell_does(void **state)
{
	static const struct {
		const char *text;
		const char *words[5];
	} rows[] = {
		{ "", { NULL } },
		{ " \t\n ", { NULL } },
		{ "pass show backup", { "pass", "show", "backup" } },
		{ "  a\tb\nc  ", { "a", "b", "c" } },
		{ "cat '/a b/c'", { "cat", "/a b/c" } },
		{ "a\"b c\"'d e'f", { "ab cd ef" } },
		{ "'' \"\"", { "", "" } },
		{ "a\\ b \\\"c", { "a b", "\"c" } },
		{ "'a\\b'", { "a\\b" } },
		{ "\"a\\b\\\"\\\\\\$\"", { "a\\b\"\\$" } },
		{ "a\\\nb \"c\\\nd\"", { "ab", "cd" } },
		{ "a#b # c d\ne", { "a#b", "e" } },
		/* none of it means anything here */
		{ "a|b; c>d&", { "a|b;", "c>d&" } },
		{ "$A `b` *", { "$A", "`b`", "*" } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		AUTO(shell_words) struct shell_words w = { .count = 0 };
		size_t count = 0;

		assert_int_equal(shell_words_split(&w, rows[i].text, NULL), 0);
		for (; rows[i].words[count]; count++) {
			assert_true(count < w.count);
			assert_string_equal(w.items[count], rows[i].words[count]);
		}
		assert_int_equal(w.count, count);
		assert_null(w.items[count]);
	}
}

static void refuses_open_quotes(void **state)
{
	static const char *const rows[] = { "'", "\"", "a 'b", "a \"b\\\"", "\"\\" };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		AUTO(shell_words) struct shell_words w = { .count = 0 };
		struct err err = ERR_INIT;

		assert_int_equal(shell_words_split(&w, rows[i], &err), -EINVAL);
		assert_non_null(strstr(err.text, "quote"));
		assert_null(w.items);
	}
}

/* Each of these has as many words, or as much text, as its size allows. */
static void fits_whatever_comes(void **state)
{
	static const char alphabet[] = "a '\"\\#\n";
	enum { SIZE = 6, LETTERS = sizeof(alphabet) - 1 };
	char text[SIZE + 1] = "";

	(void)state;
	for (unsigned number = 0; number < 7 * 7 * 7 * 7 * 7 * 7; number++) {
		AUTO(shell_words) struct shell_words w = { .count = 0 };
		unsigned rest = number;
		size_t used = 0;

		for (size_t i = 0; i < SIZE; i++, rest /= LETTERS)
			text[i] = alphabet[rest % LETTERS];
		if (shell_words_split(&w, text, NULL) < 0)
			continue;
		for (size_t i = 0; i < w.count; i++)
			used += strlen(w.items[i]) + 1;
		assert_true(used <= SIZE + 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cuts_words_as_a_shell_does),
		cmocka_unit_test(refuses_open_quotes),
		cmocka_unit_test(fits_whatever_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
