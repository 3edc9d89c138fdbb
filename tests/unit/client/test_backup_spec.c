/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/backup_spec.h"
#include "tests/support/lib/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

static void takes_names_types_and_paths_apart(void **state)
{
	struct backup_spec s;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(backup_spec_parse("root.pxar:/", &s, &err), 0);
	assert_int_equal(s.type, BACKUP_SPEC_ARCHIVE);
	assert_string_equal(s.name, "root.pxar");
	assert_string_equal(s.path, "/");
	assert_int_equal(backup_spec_parse("A-b_9.conf:a:b.pxar:c", &s, &err), 0);
	assert_int_equal(s.type, BACKUP_SPEC_BLOB);
	assert_string_equal(s.name, "A-b_9.conf");
	assert_string_equal(s.path, "a:b.pxar:c");
	assert_int_equal(backup_spec_parse("x.log:.", &s, &err), 0);
	assert_int_equal(s.type, BACKUP_SPEC_BLOB);
	assert_int_equal(backup_spec_parse("disk.img:/dev/sda", &s, &err), 0);
	assert_int_equal(s.type, BACKUP_SPEC_IMAGE);
}

static void refuses_what_is_not_a_spec(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"root",
		"root.pxar",
		"root.pxar:",
		"root.tar:/etc",
		".pxar:/",
		"a.b.pxar:/",
		"a/b.pxar:/",
		"a b.pxar:/",
		"ä.pxar:/",
		"root.PXAR:/",
		"root.:/",
		"root.pxar:/a\nb",
		"root.pxar /:",
		"../x.pxar:/",
		"root.pxars:/",
		"root.px:/",
		"root..pxar:/",
	};
	struct backup_spec s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = ERR_INIT;

		assert_int_equal(backup_spec_parse(bad[i], &s, &err), -EINVAL);
		assert_true(err.text[0] != '\0');
	}
}

static void refuses_a_name_that_no_file_could_have(void **state)
{
	char text[400];
	struct backup_spec s;
	struct err err = ERR_INIT;

	(void)state;
	memset(text, 'a', sizeof(text));
	strcpy(text + BACKUP_SPEC_NAME_SIZE_MAX - 5, ".pxar:/");
	assert_int_equal(backup_spec_parse(text, &s, &err), 0);
	memset(text, 'a', sizeof(text));
	strcpy(text + BACKUP_SPEC_NAME_SIZE_MAX - 4, ".pxar:/");
	assert_int_equal(backup_spec_parse(text, &s, &err), -EINVAL);
}

/* Parse and check one spec of "NAME.TYPE" and a path in the store. */
static int check(const struct store *store, const char *name, const char *path, struct err *err)
{
	char text[PATH_MAX + 64];
	struct backup_spec s;

	snprintf(text, sizeof(text), "%s:%s", name, store_path(store, "%s", path));
	assert_int_equal(backup_spec_parse(text, &s, err), 0);
	return backup_spec_check(&s, 1, err);
}

static void checks_the_kind_of_each_source(void **state)
{
	struct store store;
	struct err err = ERR_INIT;

	(void)state;
	store_folder(&store);
	store_mkdir(&store, "dir");
	store_write(&store, "file", "text");
	assert_int_equal(check(&store, "a.pxar", "dir", &err), 0);
	assert_int_equal(check(&store, "a.conf", "file", &err), 0);

	assert_int_equal(check(&store, "a.pxar", "file", &err), -ENOTDIR);
	assert_non_null(strstr(err.text, "a.pxar"));
	assert_int_equal(check(&store, "a.pxar", "none", &err), -ENOENT);
	assert_non_null(strstr(err.text, "/none"));
	assert_int_equal(check(&store, "a.conf", "dir", &err), -EINVAL);
	assert_non_null(strstr(err.text, "not a regular file"));
	assert_int_equal(check(&store, "a.log", "none", &err), -ENOENT);
	store_remove(&store);
}

static void refuses_images_of_folders_and_of_nothing(void **state)
{
	struct store store;
	struct err err = ERR_INIT;

	(void)state;
	store_folder(&store);
	store_mkdir(&store, "dir");
	store_write(&store, "file", "text");
	assert_int_equal(check(&store, "disk.img", "dir", &err), -EINVAL);
	assert_string_equal(err.text, "cannot backup directory with fixed chunk size");
	assert_int_equal(check(&store, "disk.img", "file", &err), 0);
	store_write(&store, "empty", "");
	assert_int_equal(check(&store, "disk.img", "empty", &err), -EINVAL);
	assert_non_null(strstr(err.text, "disk.img"));
	assert_non_null(strstr(err.text, "is empty"));
	assert_int_equal(mkfifo(store_path(&store, "pipe"), 0600), 0);
	assert_int_equal(check(&store, "disk.img", "pipe", &err), -EINVAL);
	assert_non_null(strstr(err.text, "neither a regular file nor a block device"));
	store_remove(&store);
}

static void refuses_one_name_twice_but_not_two_types(void **state)
{
	struct backup_spec s[2];
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(backup_spec_parse("a.pxar:/etc", &s[0], &err), 0);
	assert_int_equal(backup_spec_parse("a.pxar:/dev", &s[1], &err), 0);
	assert_int_equal(backup_spec_distinct(s, 2, &err), -EINVAL);
	assert_string_equal(err.text, "a.pxar is given twice");
	assert_int_equal(backup_spec_parse("a.conf:/etc/passwd", &s[1], &err), 0);
	assert_int_equal(backup_spec_distinct(s, 2, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_names_types_and_paths_apart),
		cmocka_unit_test(refuses_what_is_not_a_spec),
		cmocka_unit_test(refuses_a_name_that_no_file_could_have),
		cmocka_unit_test(checks_the_kind_of_each_source),
		cmocka_unit_test(refuses_images_of_folders_and_of_nothing),
		cmocka_unit_test(refuses_one_name_twice_but_not_two_types),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
