/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/report.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char said[8192];
static bool said_lost;

static void on_warning(void *arg, bool lost, const char *message)
{
	(void)arg;
	said_lost = lost;
	snprintf(said, sizeof(said), "%s", message);
}

static atomic_uint_fast64_t lost;

static struct report make(const char *source)
{
	struct report r = { .source = source, .warn = on_warning, .lost = &lost };

	lost = 0;
	report_init(&r);
	return r;
}

static void names_the_entry_below_its_source(void **state)
{
	struct report r = make("/srv//");

	(void)state;
	report_warn(&r, "/a/b", true, "left out: %s", "why");
	assert_string_equal(said, "/srv/a/b: left out: why");
	assert_true(said_lost && lost == 1);
	report_warn(&r, "", false, "empty");
	assert_string_equal(said, "/srv: empty");
	assert_true(!said_lost && lost == 1);
	report_release(&r);
}

static void a_root_is_a_slash(void **state)
{
	struct report r = make("/");

	(void)state;
	report_warn(&r, "", false, "empty");
	assert_string_equal(said, "/: empty");
	report_warn(&r, "/a", false, "full");
	assert_string_equal(said, "/a: full");
	report_release(&r);
}

/* Who passes a message on may have room for 1,280 bytes: it must end with file and reason. */
static void a_long_path_hides_neither_the_file_nor_the_reason(void **state)
{
	static char path[5000];
	struct report r = make("/srv");
	struct err err = ERR_INIT;

	(void)state;
	memset(path, 'x', sizeof(path) - 1);
	memcpy(path, "/", 1);
	memcpy(path + sizeof(path) - 6, "/file", 5);
	report_warn(&r, path, true, "left out: why");
	assert_true(strlen(said) < 700 && strncmp(said, "...xxx", 6) == 0);
	assert_string_equal(said + strlen(said) - strlen("x/file: left out: why"),
			    "x/file: left out: why");

	assert_int_equal(report_fatal(&r, path, err_set(&err, EIO, "why"), &err), -EIO);
	assert_true(strncmp(err.text, "...xxx", 6) == 0);
	assert_non_null(strstr(err.text, "x/file: why"));
	report_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_the_entry_below_its_source),
		cmocka_unit_test(a_root_is_a_slash),
		cmocka_unit_test(a_long_path_hides_neither_the_file_nor_the_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
