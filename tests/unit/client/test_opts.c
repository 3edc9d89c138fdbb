/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/cmd.h"
#include "client/cmd/opts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ARGC_MAX = 16 };

static bool flag, json;
static const char *text, *ns;
static uint64_t number;
static struct opt_list list;

static const struct opt table[] = {
	{ "flag", 'f', OPT_FLAG, &flag, NULL, "a flag" },
	{ "text", 't', OPT_STRING, &text, "TEXT", "a text" },
	{ "number", 0, OPT_UINT, &number, "N", "a number" },
	{ "item", 0, OPT_LIST, &list, "ITEM", "an item" },
	{ "ns", 0, OPT_NS, &ns, "NAMESPACE", "a namespace" },
	{ "format", 0, OPT_FORMAT, &json, "FORMAT", "text or json" },
	{ 0 },
};

static const struct cmd command = { .name = "test",
				    .synopsis = "A [B]",
				    .summary = "Test options" };

static char **args;
static size_t count;

static int parse(size_t min, size_t max, const char *const *words)
{
	static char *argv[ARGC_MAX];
	int argc = 0;

	flag = json = false;
	text = ns = NULL;
	number = 0;
	opt_list_release(&list);
	argv[argc++] = (char *)"test";
	for (; *words; words++)
		argv[argc++] = (char *)*words;
	argv[argc] = NULL;
	return opts_parse(&command, table, argc, argv, min, max, &args, &count);
}

#define PARSE(min, max, ...) parse(min, max, (const char *const[]){ __VA_ARGS__, NULL })

static void takes_options_anywhere(void **state)
{
	(void)state;
	assert_int_equal(PARSE(1, 2, "a", "--flag", "b", "-t", "x", "--number=7"), -1);
	assert_true(flag);
	assert_string_equal(text, "x");
	assert_int_equal(number, 7);
	assert_int_equal(count, 2);
	assert_string_equal(args[0], "a");
	assert_string_equal(args[1], "b");
}

static void collects_a_list_in_order(void **state)
{
	(void)state;
	assert_int_equal(PARSE(0, 0, "--item", "one", "--item=two"), -1);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[0], "one");
	assert_string_equal(list.items[1], "two");
	opt_list_release(&list);
}

static void takes_a_flag_as_the_official_client_does(void **state)
{
	static const char *const yes[] = { "--flag", "--flag=1", "--flag=on", "--flag=YES", "--flag=true",
					   "--fl=True" };
	static const char *const no[] = { "--flag=0", "--flag=off", "--flag=no", "--flag=False" };

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		assert_int_equal(PARSE(0, 0, "--flag=0", yes[i]), -1);
		assert_true(flag);
	}
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++) {
		assert_int_equal(PARSE(0, 0, "-f", no[i]), -1);
		assert_false(flag);
	}
	/* A word of its own is an argument, whatever it says. */
	assert_int_equal(PARSE(1, 1, "--flag", "false"), -1);
	assert_true(flag);
	assert_string_equal(args[0], "false");
}

static void takes_a_format_and_a_namespace(void **state)
{
	(void)state;
	assert_int_equal(PARSE(0, 0, "--format", "json", "--ns", "a/b"), -1);
	assert_true(json);
	assert_string_equal(ns, "a/b");
	assert_int_equal(PARSE(0, 0, "--format=json-pretty", "--ns="), -1);
	assert_true(json);
	assert_int_equal(PARSE(0, 0, "--format=json", "--format=text"), -1);
	assert_false(json);
}

static void stops_at_two_dashes(void **state)
{
	(void)state;
	assert_int_equal(PARSE(1, 1, "--", "--flag"), -1);
	assert_false(flag);
	assert_string_equal(args[0], "--flag");
}

static void refuses_bad_usage(void **state)
{
	(void)state;
	assert_int_equal(PARSE(0, 0, "--unknown"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "-x"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--text"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "-t"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--flag=maybe"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--flag="), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--help=yes"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--format", "xml"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--ns", "a//b"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--number", "-1"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--number", "1x"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 0, "--number", "18446744073709551616"), EXIT_USAGE);
	assert_int_equal(PARSE(2, 2, "a"), EXIT_USAGE);
	assert_int_equal(PARSE(0, 1, "a", "b"), EXIT_USAGE);
}

static void prints_help_and_ends(void **state)
{
	(void)state;
	assert_int_equal(PARSE(2, 2, "--help"), EXIT_DONE);
	assert_int_equal(PARSE(2, 2, "-h"), EXIT_DONE);
}

static void formats_sizes_as_the_server_does(void **state)
{
	char out[32];

	(void)state;
	cmd_format_size(987, out, sizeof(out));
	assert_string_equal(out, "987 B");
	cmd_format_size(0, out, sizeof(out));
	assert_string_equal(out, "0 B");
	cmd_format_size((uint64_t)4 << 30, out, sizeof(out));
	assert_string_equal(out, "4 GiB");
	cmd_format_size(1294992, out, sizeof(out));
	assert_string_equal(out, "1.235 MiB");
	cmd_format_size(UINT64_MAX, out, sizeof(out));
	assert_string_equal(out, "16 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_options_anywhere),
		cmocka_unit_test(collects_a_list_in_order),
		cmocka_unit_test(takes_a_flag_as_the_official_client_does),
		cmocka_unit_test(takes_a_format_and_a_namespace),
		cmocka_unit_test(stops_at_two_dashes),
		cmocka_unit_test(refuses_bad_usage),
		cmocka_unit_test(prints_help_and_ends),
		cmocka_unit_test(formats_sizes_as_the_server_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
