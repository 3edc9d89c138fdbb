/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/snapshot.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static void fill(char *out, char c, size_t size)
{
	memset(out, c, size);
	out[size] = '\0';
}

static void accepts_safe_ids(void **state)
{
	static const char *const ids[] = { "a",    "_",	      "0",     "100", "web-1",
					   "a.b.", "A_b-c.d", "my..x", "_.",  "9-" };

	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++)
		assert_true(snapshot_is_safe_id(ids[i]));
}

static void refuses_ids_that_could_leave_a_directory(void **state)
{
	static const char *const ids[] = { "",	   ".",	    "..",   "-a",   ".a",    "a/b", "/",
					   "a b",  "a\n",   "a\t",  "\xc3\xa4", "a\xff", "a:b", "a\\",
					   "../x", "a\x01", "a\x7f", "*",    "a*",   "~" };

	(void)state;
	for (size_t i = 0; i < COUNT(ids); i++)
		assert_false(snapshot_is_safe_id(ids[i]));
}

static void accepts_namespaces(void **state)
{
	static const char *const list[] = { "", "a", "prod/eu", "a/b/c/d/e/f/g" };
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];
	char longest[SNAPSHOT_NS_SIZE_MAX + 1];

	(void)state;
	for (size_t i = 0; i < COUNT(list); i++) {
		assert_int_equal(snapshot_ns_parse(list[i], ns, NULL), 0);
		assert_string_equal(ns, list[i]);
	}
	fill(longest, 'n', SNAPSHOT_NS_SIZE_MAX);
	assert_int_equal(snapshot_ns_parse(longest, ns, NULL), 0);
	assert_string_equal(ns, longest);
}

static void refuses_namespaces_too_deep_long_or_unsafe(void **state)
{
	static const char *const list[] = { "/",	"a/",  "/a",  "a//b", "a/../b", ".", "..",
					    "a/b/c/d/e/f/g/h", "a b", "a/-b", "a/\xff", "ns/a/./b" };
	char ns[SNAPSHOT_NS_SIZE_MAX + 1] = "untouched";
	char too_long[SNAPSHOT_NS_SIZE_MAX + 2];

	(void)state;
	for (size_t i = 0; i < COUNT(list); i++)
		assert_int_equal(snapshot_ns_parse(list[i], ns, NULL), -EINVAL);
	fill(too_long, 'n', SNAPSHOT_NS_SIZE_MAX + 1);
	assert_int_equal(snapshot_ns_parse(too_long, ns, NULL), -EINVAL);
	assert_string_equal(ns, "untouched");
}

static void accepts_groups(void **state)
{
	struct snapshot_group g;
	char text[SNAPSHOT_ID_SIZE_MAX + 8] = "host/";

	(void)state;
	assert_int_equal(snapshot_group_parse("vm/100", "prod", &g, NULL), 0);
	assert_string_equal(g.type, "vm");
	assert_string_equal(g.id, "100");
	assert_string_equal(g.ns, "prod");
	assert_int_equal(snapshot_group_parse("ct/_x", NULL, &g, NULL), 0);
	assert_string_equal(g.ns, "");
	fill(text + 5, 'i', SNAPSHOT_ID_SIZE_MAX);
	assert_int_equal(snapshot_group_parse(text, "", &g, NULL), 0);
	assert_string_equal(g.id, text + 5);
}

static void refuses_other_groups(void **state)
{
	static const char *const list[] = { "",	      "host",	   "host/",	"/a",	    "hosts/a",
					    "Host/a", "lxc/1",	   "host/a/b",	"host//a",  "host/..",
					    "host/.", "host/a b",  "host/\xff", "host/-a",  "host/a/",
					    "vm",     "ns/a/vm/1", "host/a\n",	"hosthosthosthost/a" };
	struct snapshot_group g = { .type = "x" };
	struct err err = ERR_INIT;
	char text[SNAPSHOT_ID_SIZE_MAX + 8] = "host/";

	(void)state;
	for (size_t i = 0; i < COUNT(list); i++)
		assert_int_equal(snapshot_group_parse(list[i], "", &g, &err), -EINVAL);
	fill(text + 5, 'i', SNAPSHOT_ID_SIZE_MAX + 1);
	assert_int_equal(snapshot_group_parse(text, "", &g, &err), -EINVAL);
	assert_int_equal(snapshot_group_parse("host/a", "a//b", &g, &err), -EINVAL);
	assert_string_equal(g.type, "x");
	snapshot_group_parse("hosts/a", "", &g, &err);
	assert_string_equal(err.text, "'hosts' is no backup type: expected host, vm or ct");
}

static void parses_what_a_user_types(void **state)
{
	struct snapshot_name s;
	bool latest;

	(void)state;
	assert_int_equal(snapshot_parse("host/a/2027-01-15T08:00:02Z", "n", &s, &latest, NULL), 0);
	assert_int_equal(s.time, 1800000002);
	assert_false(latest);
	assert_string_equal(s.group.ns, "n");
	assert_int_equal(snapshot_parse("host/a/latest", "", &s, &latest, NULL), 0);
	assert_true(latest);
	assert_int_equal(s.time, 0);
	assert_int_equal(snapshot_parse("host/a", "", &s, &latest, NULL), 0);
	assert_true(latest);
}

static void refuses_other_snapshots(void **state)
{
	static const char *const list[] = { "",		   "host",
					    "host/a/",	   "host/a/Latest",
					    "host/a/1800000002", "host/a/2027-01-15T08:00:02Z/",
					    "host/a/2027-01-15T08:00:02Z/x", "host/a/latest/b",
					    "host/a/../b", "ns/a/host/b" };
	struct snapshot_name s;
	bool latest;

	(void)state;
	for (size_t i = 0; i < COUNT(list); i++)
		assert_int_equal(snapshot_parse(list[i], "", &s, &latest, NULL), -EINVAL);
}

static void formats_and_parses_times_alike(void **state)
{
	static const struct {
		int64_t time;
		const char *text;
	} rows[] = {
		{ 1, "1970-01-01T00:00:01Z" },	  { 951782400, "2000-02-29T00:00:00Z" },
		{ 1800000001, "2027-01-15T08:00:01Z" }, { 4107542399, "2100-02-28T23:59:59Z" },
		{ 253402300799, "9999-12-31T23:59:59Z" },
	};
	char text[SNAPSHOT_TIME_TEXT_SIZE];
	int64_t time;

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		assert_int_equal(snapshot_time_format(rows[i].time, text), 0);
		assert_string_equal(text, rows[i].text);
		assert_int_equal(snapshot_time_parse(rows[i].text, &time), 0);
		assert_int_equal(time, rows[i].time);
	}
}

static void refuses_times_outside_the_calendar(void **state)
{
	static const char *const list[] = {
		"",			 "1970-01-01T00:00:00Z",  "1969-12-31T23:59:59Z",
		"0000-01-01T00:00:00Z",	 "2027-02-29T00:00:00Z",  "2027-13-01T00:00:00Z",
		"2027-00-01T00:00:00Z",	 "2027-01-00T00:00:00Z",  "2027-01-32T00:00:00Z",
		"2027-01-15T24:00:00Z",	 "2027-01-15T08:60:00Z",  "2027-01-15T08:00:60Z",
		"2027-01-15T08:00:02",	 "2027-01-15T08:00:02z",  "2027-01-15T08:00:02Z ",
		"2027-01-15 08:00:02Z",	 "2027-1-15T08:00:02Z",	  "+027-01-15T08:00:02Z",
		"2027-01-15T08:00:02+00", "2027-01-15T08:00:0\xffZ", "latest",
	};
	char text[SNAPSHOT_TIME_TEXT_SIZE];
	int64_t time = 7;

	(void)state;
	for (size_t i = 0; i < COUNT(list); i++)
		assert_int_equal(snapshot_time_parse(list[i], &time), -EINVAL);
	assert_int_equal(time, 7);
	assert_int_equal(snapshot_time_format(0, text), -EINVAL);
	assert_int_equal(snapshot_time_format(-1, text), -EINVAL);
	assert_int_equal(snapshot_time_format(253402300800, text), -EINVAL);
	assert_int_equal(snapshot_time_format(INT64_MAX, text), -EINVAL);
	assert_int_equal(snapshot_time_format(INT64_MIN, text), -EINVAL);
}

static void refuses_a_time_cut_at_any_byte(void **state)
{
	const char *whole = "2027-01-15T08:00:02Z";
	char cut[SNAPSHOT_TIME_TEXT_SIZE];
	int64_t time;

	(void)state;
	for (size_t size = 0; size < strlen(whole); size++) {
		memcpy(cut, whole, size);
		cut[size] = '\0';
		assert_int_equal(snapshot_time_parse(cut, &time), -EINVAL);
	}
}

static void makes_paths(void **state)
{
	struct snapshot_name s = { .time = 1651479093 };
	char path[SNAPSHOT_PATH_SIZE];

	(void)state;
	assert_int_equal(snapshot_group_parse("vm/100", "a/b", &s.group, NULL), 0);
	snapshot_ns_path("", path, sizeof(path));
	assert_string_equal(path, "");
	snapshot_ns_path("a/b/c", path, sizeof(path));
	assert_string_equal(path, "ns/a/ns/b/ns/c");
	snapshot_group_path(&s.group, path, sizeof(path));
	assert_string_equal(path, "ns/a/ns/b/vm/100");
	snapshot_path(&s, path, sizeof(path));
	assert_string_equal(path, "ns/a/ns/b/vm/100/2022-05-02T08:11:33Z");
	s.group.ns[0] = '\0';
	snapshot_path(&s, path, sizeof(path));
	assert_string_equal(path, "vm/100/2022-05-02T08:11:33Z");
}

static void holds_the_longest_path(void **state)
{
	struct snapshot_name s = { .time = 1 };
	char path[SNAPSHOT_PATH_SIZE];
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];
	size_t expected;

	(void)state;
	fill(ns, 'n', SNAPSHOT_NS_SIZE_MAX);
	for (size_t i = 1; i <= 6; i++)
		ns[2 * i] = '/';
	strcpy(s.group.type, "host");
	fill(s.group.id, 'i', SNAPSHOT_ID_SIZE_MAX);
	assert_int_equal(snapshot_ns_parse(ns, s.group.ns, NULL), 0);
	snapshot_path(&s, path, sizeof(path));
	expected = SNAPSHOT_NS_SIZE_MAX + 7 * 3 + 1 + 5 + SNAPSHOT_ID_SIZE_MAX + 1 + 20;
	assert_int_equal(strlen(path), expected);
	assert_string_equal(path + expected - 21, "/1970-01-01T00:00:01Z");
}

static void orders_groups_as_the_server_lists_them(void **state)
{
	static const char *const sorted[] = {
		"ct/5", "ct/9", "ct/010", "ct/10", "ct/18446744073709551615",
		"ct/18446744073709551616", "ct/a", "host/1", "host/A", "host/_", "host/a", "vm/0",
	};
	struct snapshot_group a, b;

	(void)state;
	for (size_t i = 0; i < COUNT(sorted); i++) {
		for (size_t k = 0; k < COUNT(sorted); k++) {
			int order, expected = (i > k) - (i < k);

			snapshot_group_parse(sorted[i], "", &a, NULL);
			snapshot_group_parse(sorted[k], "", &b, NULL);
			order = snapshot_group_compare(&a, &b);
			order = (order > 0) - (order < 0);
			assert_int_equal(order, expected);
		}
	}
}

static void orders_snapshots_by_group_then_time(void **state)
{
	struct snapshot_name a = { .group = { "", "vm", "1" }, .time = 5 };
	struct snapshot_name b = a;

	(void)state;
	assert_int_equal(snapshot_compare(&a, &b), 0);
	b.time = 6;
	assert_true(snapshot_compare(&a, &b) < 0);
	b.group = (struct snapshot_group){ "", "host", "1" };
	assert_true(snapshot_compare(&a, &b) > 0);
	b.group = (struct snapshot_group){ "x", "vm", "1" };
	assert_true(snapshot_compare(&a, &b) < 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_safe_ids),
		cmocka_unit_test(refuses_ids_that_could_leave_a_directory),
		cmocka_unit_test(accepts_namespaces),
		cmocka_unit_test(refuses_namespaces_too_deep_long_or_unsafe),
		cmocka_unit_test(accepts_groups),
		cmocka_unit_test(refuses_other_groups),
		cmocka_unit_test(parses_what_a_user_types),
		cmocka_unit_test(refuses_other_snapshots),
		cmocka_unit_test(formats_and_parses_times_alike),
		cmocka_unit_test(refuses_times_outside_the_calendar),
		cmocka_unit_test(refuses_a_time_cut_at_any_byte),
		cmocka_unit_test(makes_paths),
		cmocka_unit_test(holds_the_longest_path),
		cmocka_unit_test(orders_groups_as_the_server_lists_them),
		cmocka_unit_test(orders_snapshots_by_group_then_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
