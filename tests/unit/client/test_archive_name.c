/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/archive_name.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { FILE_COUNT_MAX = 8 };

static struct manifest_file files[FILE_COUNT_MAX];

/* A manifest of the names up to the first NULL. */
static struct manifest manifest_of(const char *const names[FILE_COUNT_MAX])
{
	struct manifest m = { .files = files };

	while (m.file_count < FILE_COUNT_MAX && names[m.file_count]) {
		files[m.file_count].name = (char *)names[m.file_count];
		m.file_count++;
	}
	return m;
}

#define MANIFEST(...) manifest_of((const char *const[FILE_COUNT_MAX]){ __VA_ARGS__ })

static void finds_a_single_stream_by_each_of_its_names(void **state)
{
	struct manifest m = MANIFEST("catalog.pcat1.didx", "root.pxar.didx", "a.conf.blob");
	static const char *const typed[] = { "root.pxar", "root.pxar.didx" };

	(void)state;
	for (size_t i = 0; i < COUNT(typed); i++) {
		struct archive_name n;

		assert_int_equal(archive_name_find(&m, typed[i], &n, NULL), 0);
		assert_string_equal(n.meta, "root.pxar.didx");
		assert_string_equal(n.payload, "");
	}
}

static void finds_a_pair_by_each_of_its_names(void **state)
{
	static const char *const typed[2][6] = {
		{ "root.pxar", "root.pxar.didx", "root.mpxar", "root.mpxar.didx", "root.ppxar",
		  "root.ppxar.didx" },
		{ "root.pxar", "root.pxar.didx", "root.pxar.meta", "root.pxar.meta.didx",
		  "root.pxar.pld", "root.pxar.pld.didx" },
	};

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct manifest m = MANIFEST("root.ppxar.didx", "root.mpxar.didx");
		struct archive_name n;

		assert_int_equal(archive_name_find(&m, typed[0][i], &n, NULL), 0);
		assert_string_equal(n.meta, "root.mpxar.didx");
		assert_string_equal(n.payload, "root.ppxar.didx");
		m = MANIFEST("root.pxar.meta.didx", "root.pxar.pld.didx");
		assert_int_equal(archive_name_find(&m, typed[1][i], &n, NULL), 0);
		assert_string_equal(n.meta, "root.pxar.meta.didx");
		assert_string_equal(n.payload, "root.pxar.pld.didx");
	}
}

static void finds_the_single_stream_before_a_pair(void **state)
{
	struct manifest m = MANIFEST("a.ppxar.didx", "a.mpxar.didx", "a.pxar.didx");
	struct archive_name n;

	(void)state;
	assert_int_equal(archive_name_find(&m, "a.pxar", &n, NULL), 0);
	assert_string_equal(n.meta, "a.pxar.didx");
	assert_int_equal(archive_name_find(&m, "a.mpxar", &n, NULL), 0);
	assert_string_equal(n.meta, "a.mpxar.didx");
}

static void prefers_a_complete_pair_to_half_of_another(void **state)
{
	struct manifest m = MANIFEST("a.mpxar.didx", "a.pxar.meta.didx", "a.pxar.pld.didx");
	struct archive_name n;

	(void)state;
	assert_int_equal(archive_name_find(&m, "a.pxar", &n, NULL), 0);
	assert_string_equal(n.payload, "a.pxar.pld.didx");
	assert_int_equal(archive_name_find(&m, "a.mpxar", &n, NULL), -EBADMSG);
}

static void refuses_a_half_and_names_the_other(void **state)
{
	static const char *const halves[][2] = {
		{ "r.mpxar.didx", "r.ppxar.didx" },
		{ "r.ppxar.didx", "r.mpxar.didx" },
		{ "r.pxar.meta.didx", "r.pxar.pld.didx" },
		{ "r.pxar.pld.didx", "r.pxar.meta.didx" },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(halves); i++) {
		struct manifest m = MANIFEST("x.pxar.didx", halves[i][0]);
		struct archive_name n = { .meta = "untouched" };
		struct err err = ERR_INIT;

		assert_int_equal(archive_name_find(&m, "r.pxar", &n, &err), -EBADMSG);
		assert_non_null(strstr(err.text, halves[i][0]));
		assert_non_null(strstr(err.text, halves[i][1]));
		assert_string_equal(n.meta, "untouched");
	}
}

static void refuses_what_is_not_there_or_no_archive(void **state)
{
	static const char *const typed[] = {
		"other.pxar", "ROOT.pxar", "root.mpxar",
	};
	struct manifest m = MANIFEST("root.pxar.didx", "catalog.pcat1.didx", "a.conf.blob");

	(void)state;
	for (size_t i = 0; i < COUNT(typed); i++) {
		struct archive_name n;

		assert_int_equal(archive_name_find(&m, typed[i], &n, NULL), -ENOENT);
	}
}

static void refuses_hostile_archive_names(void **state)
{
	static const char *const typed[] = {
		"../a.pxar", "a/b.pxar", "-a.pxar", "a b.pxar", "..pxar", "\xff.pxar", "a\n.pxar",
		"/.pxar", "root", "root.img", "a.conf", "", ".pxar", ".didx", ".pxar.didx",
		"root.pxar.blob", "index.json", "root.didx", "catalog.pcat1.didx",
	};
	struct manifest m = MANIFEST("a.pxar.didx");
	char too_long[ARCHIVE_NAME_SIZE_MAX + 32];

	(void)state;
	for (size_t i = 0; i < COUNT(typed); i++) {
		struct archive_name n;

		assert_int_equal(archive_name_check(typed[i], NULL), -EINVAL);
		assert_int_equal(archive_name_find(&m, typed[i], &n, NULL), -EINVAL);
		assert_int_equal(archive_name_make(typed[i], true, ARCHIVE_NAMES_PBS, &n, NULL),
				 -EINVAL);
	}
	memset(too_long, 'a', sizeof(too_long));
	strcpy(too_long + 250, ".pxar");
	struct archive_name n;
	assert_int_equal(archive_name_check(too_long, NULL), -ENAMETOOLONG);
	assert_int_equal(archive_name_find(&m, too_long, &n, NULL), -ENAMETOOLONG);
	assert_int_equal(archive_name_make(too_long, true, ARCHIVE_NAMES_PBS, &n, NULL),
			 -ENAMETOOLONG);
}

static void makes_names_of_each_convention(void **state)
{
	struct archive_name n;

	(void)state;
	assert_int_equal(archive_name_make("a.pxar", false, ARCHIVE_NAMES_DESIGN, &n, NULL), 0);
	assert_string_equal(n.meta, "a.pxar.didx");
	assert_string_equal(n.payload, "");
	assert_int_equal(archive_name_make("a.pxar", true, ARCHIVE_NAMES_PBS, &n, NULL), 0);
	assert_string_equal(n.meta, "a.mpxar.didx");
	assert_string_equal(n.payload, "a.ppxar.didx");
	assert_int_equal(archive_name_make("a.pxar", true, ARCHIVE_NAMES_DESIGN, &n, NULL), 0);
	assert_string_equal(n.meta, "a.pxar.meta.didx");
	assert_string_equal(n.payload, "a.pxar.pld.didx");
}

static void refuses_to_make_names_of_other_kinds(void **state)
{
	static const char *const typed[] = { "a", "a.img", "a.mpxar", ".pxar", "a.pxar.didx", "" };

	(void)state;
	for (size_t i = 0; i < COUNT(typed); i++) {
		struct archive_name n;

		assert_int_equal(archive_name_make(typed[i], true, ARCHIVE_NAMES_PBS, &n, NULL),
				 -EINVAL);
	}
}

static void shows_an_archive_under_the_name_users_type(void **state)
{
	static const struct {
		const char *stored, *shown;
		bool is_row;
	} rows[] = {
		{ "root.pxar.didx", "root.pxar", true },
		{ "root.mpxar.didx", "root.pxar", true },
		{ "root.ppxar.didx", "root.pxar", false },
		{ "root.pxar.meta.didx", "root.pxar", true },
		{ "root.pxar.pld.didx", "root.pxar", false },
		{ "disk.img.fidx", "disk.img", true },
		{ "etc.conf.blob", "etc.conf", true },
		{ "catalog.pcat1.didx", "catalog.pcat1", true },
		{ "index.json.blob", "index.json", true },
		{ "odd", "odd", true },
		{ ".blob", ".blob", true },
		{ ".mpxar.didx", ".mpxar", true },
		{ "", "", true },
	};

	(void)state;
	for (size_t i = 0; i < COUNT(rows); i++) {
		char shown[ARCHIVE_NAME_SIZE_MAX + 1];

		assert_int_equal(archive_name_display(rows[i].stored, shown), rows[i].is_row);
		assert_string_equal(shown, rows[i].shown);
	}
}

static void tells_the_convention_of_a_manifest(void **state)
{
	enum archive_names c = ARCHIVE_NAMES_PBS;
	struct manifest m = MANIFEST("a.pxar.didx", "catalog.pcat1.didx");

	(void)state;
	assert_false(archive_name_convention(&m, &c));
	m = MANIFEST("x.conf.blob", "a.pxar.pld.didx", "a.pxar.meta.didx");
	assert_true(archive_name_convention(&m, &c));
	assert_int_equal(c, ARCHIVE_NAMES_DESIGN);
	m = MANIFEST("a.pxar.didx", "b.ppxar.didx", "b.mpxar.didx");
	assert_true(archive_name_convention(&m, &c));
	assert_int_equal(c, ARCHIVE_NAMES_PBS);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_a_single_stream_by_each_of_its_names),
		cmocka_unit_test(finds_a_pair_by_each_of_its_names),
		cmocka_unit_test(finds_the_single_stream_before_a_pair),
		cmocka_unit_test(prefers_a_complete_pair_to_half_of_another),
		cmocka_unit_test(refuses_a_half_and_names_the_other),
		cmocka_unit_test(refuses_what_is_not_there_or_no_archive),
		cmocka_unit_test(refuses_hostile_archive_names),
		cmocka_unit_test(makes_names_of_each_convention),
		cmocka_unit_test(refuses_to_make_names_of_other_kinds),
		cmocka_unit_test(shows_an_archive_under_the_name_users_type),
		cmocka_unit_test(tells_the_convention_of_a_manifest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
