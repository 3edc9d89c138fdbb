/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_dir_host.h"
#include "archive/base/cleanup.h"
#include "tests/support/lib/store.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct store folder;
static char cfg[PATH_MAX], mount_dir[PATH_MAX];
static struct repo_dir_host host;

static int set_up(void **state)
{
	(void)state;
	store_folder(&folder);
	snprintf(cfg, sizeof(cfg), "%.4000s/datastore.cfg", folder.path);
	snprintf(mount_dir, sizeof(mount_dir), "%.4000s/mnt", folder.path);
	host = (struct repo_dir_host){ cfg, "/nonexistent", mount_dir, "backup" };
	store_mkdir(&folder, "store");
	store_mkdir(&folder, "other");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	store_remove(&folder);
	return 0;
}

/* The name that the folder "store" is registered under, or the error. */
static int find(const char *text, struct repo_dir_host_store *out, struct err *err)
{
	AUTO(fd) int fd = open(store_path(&folder, "store"), O_RDONLY | O_DIRECTORY);

	assert_true(fd >= 0);
	store_write(&folder, "datastore.cfg", text);
	return repo_dir_host_find(&host, fd, out, err);
}

static void finds_a_datastore_by_its_directory(void **state)
{
	char text[3 * PATH_MAX];
	struct repo_dir_host_store s;

	(void)state;
	snprintf(text, sizeof(text),
		 "# comment\n\ndatastore: first\n\tcomment x\n\tpath %s\n\n"
		 "datastore: second\n    gc-schedule daily\n    path  %s/   \n",
		 store_path(&folder, "other"), store_path(&folder, "other/../store"));
	assert_int_equal(find(text, &s, NULL), 0);
	assert_string_equal(s.name, "second");
	assert_false(s.is_s3 || s.is_in_maintenance || s.is_removable);
}

static void sees_through_links_and_relative_names(void **state)
{
	char text[PATH_MAX + 64];
	struct repo_dir_host_store s;

	(void)state;
	assert_int_equal(symlink("store", store_path(&folder, "link")), 0);
	snprintf(text, sizeof(text), "datastore: abc\n\tpath %s\n", store_path(&folder, "link"));
	assert_int_equal(find(text, &s, NULL), 0);
	assert_string_equal(s.name, "abc");
	assert_int_equal(find("datastore: abc\n\tpath store\n", &s, NULL), 0);
	assert_string_equal(s.name, ""); /* only absolute paths */
}

static void finds_a_datastore_on_a_removable_device(void **state)
{
	struct repo_dir_host_store s;

	(void)state;
	store_mkdir(&folder, "mnt/usb");
	assert_int_equal(rename(store_path(&folder, "store"), store_path(&folder, "mnt/usb/dir")),
			 0);
	assert_int_equal(symlink("mnt/usb/dir", store_path(&folder, "store")), 0);
	assert_int_equal(find("datastore: usb\n\tpath dir\n\tbacking-device 1234-abcd\n", &s, NULL),
			 0);
	assert_string_equal(s.name, "usb");
	assert_true(s.is_removable);
}

static void reads_what_forbids_writing(void **state)
{
	char text[2 * PATH_MAX];
	struct repo_dir_host_store s;

	(void)state;
	snprintf(text, sizeof(text),
		 "datastore: abc\n\tbackend type=s3,client=c,bucket=b\n"
		 "\tmaintenance-mode type=read-only\n\tpath %s\n",
		 store_path(&folder, "store"));
	assert_int_equal(find(text, &s, NULL), 0);
	assert_true(s.is_s3 && s.is_in_maintenance);
}

static void finds_nothing_in_other_sections_or_no_file(void **state)
{
	AUTO(fd) int fd = open(folder.path, O_RDONLY | O_DIRECTORY);
	char text[PATH_MAX + 64];
	struct repo_dir_host_store s;

	(void)state;
	assert_int_equal(repo_dir_host_find(&host, fd, &s, NULL), 0); /* no file */
	assert_string_equal(s.name, "");
	snprintf(text, sizeof(text), "remote: abc\n\tpath %s\n", store_path(&folder, "store"));
	assert_int_equal(find(text, &s, NULL), 0);
	assert_string_equal(s.name, "");
	assert_int_equal(find("", &s, NULL), 0);
	assert_int_equal(find("\n\n# only this\n", &s, NULL), 0);
	assert_int_equal(find("datastore: abc", &s, NULL), 0);
	assert_string_equal(s.name, "");
}

static void refuses_malformed_text_and_names_the_line(void **state)
{
	static const char *const texts[] = {
		"\tpath /x\n",			"nonsense\n",
		"datastore:\n",			"datastore: \n",
		": abc\n",			"datastore: ../etc\n",
		"datastore: a b\n",		"datastore: -abc\n",
		"datastore: \xff\xff\xff\n",	"datastore: abcdefghijklmnopqrstuvwxyz0123456\n",
		"datastore: a\x1b[31m\n",
	};
	struct repo_dir_host_store s;
	struct err err = ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(find(texts[i], &s, NULL), -EBADMSG);
	assert_int_equal(find("datastore: a\n\n\nnonsense\n", &s, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "line 4"));
}

static void refuses_hostile_bytes_without_reading_past_them(void **state)
{
	static const char text[] = "datastore: ab\0c\n\tpath /x\0y\n";
	struct repo_dir_host_store s;
	size_t position = 0;
	char *path_line;

	(void)state;
	assert_int_equal(repo_dir_host_next(text, sizeof(text) - 1, &position, &s, NULL), -EBADMSG);
	position = 0;
	assert_int_equal(repo_dir_host_next("datastore: abc\n\tpath /x\0y\n", 25, &position, &s,
					    NULL),
			 -EBADMSG);
	path_line = malloc(2 * PATH_MAX);
	assert_non_null(path_line);
	int n = sprintf(path_line, "datastore: abc\n\tpath /");
	memset(path_line + n, 'x', PATH_MAX);
	position = 0;
	assert_int_equal(repo_dir_host_next(path_line, (size_t)n + PATH_MAX, &position, &s, NULL),
			 -EBADMSG);
	free(path_line);
}

/* Whatever is cut off, the parser ends and stays inside (the sanitizers watch). */
static void takes_text_cut_at_every_byte(void **state)
{
	static const char text[] = "# c\ndatastore: abc\n\tbackend type=s3,x\n\tpath /srv/a b\n\n"
				   "other: x\n\tpath /y\n\ndatastore: d-e.f\n path /z\n";

	(void)state;
	for (size_t size = 0; size < sizeof(text); size++) {
		AUTO(free) char *cut = malloc(size ? size : 1);
		struct repo_dir_host_store s;
		size_t position = 0;
		int rc, count = 0;

		assert_non_null(cut);
		memcpy(cut, text, size);
		while ((rc = repo_dir_host_next(cut, size, &position, &s, NULL)) == 0)
			assert_true(++count <= 2);
		assert_true(rc == 1 || rc == -EBADMSG);
		assert_true(size < sizeof(text) - 1 || rc == -EBADMSG || count == 2);
	}
}

static void refuses_a_file_over_the_limit_or_no_file(void **state)
{
	AUTO(fd) int fd = open(folder.path, O_RDONLY | O_DIRECTORY);
	struct repo_dir_host_store s;

	(void)state;
	store_write(&folder, "datastore.cfg", "");
	assert_int_equal(truncate(cfg, REPO_DIR_HOST_CFG_SIZE_MAX + 1), 0);
	assert_int_equal(repo_dir_host_find(&host, fd, &s, NULL), -E2BIG);
	assert_int_equal(unlink(cfg), 0);
	assert_int_equal(mkdir(cfg, 0755), 0);
	assert_int_equal(repo_dir_host_find(&host, fd, &s, NULL), -EBADMSG);
}

static void knows_the_servers_user(void **state)
{
	struct repo_dir_owner o = { .set = false };
	struct err err = ERR_INIT;

	(void)state;
	host.user = "root";
	assert_int_equal(repo_dir_host_owner(&host, &o, NULL), 0);
	assert_true(o.set && o.uid == 0 && o.gid == 0);
	host.user = "no-such-user-here";
	assert_int_equal(repo_dir_host_owner(&host, &o, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no-such-user-here"));
}

#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH_FOLDER(finds_a_datastore_by_its_directory),
		WITH_FOLDER(sees_through_links_and_relative_names),
		WITH_FOLDER(finds_a_datastore_on_a_removable_device),
		WITH_FOLDER(reads_what_forbids_writing),
		WITH_FOLDER(finds_nothing_in_other_sections_or_no_file),
		WITH_FOLDER(refuses_malformed_text_and_names_the_line),
		WITH_FOLDER(refuses_hostile_bytes_without_reading_past_them),
		WITH_FOLDER(takes_text_cut_at_every_byte),
		WITH_FOLDER(refuses_a_file_over_the_limit_or_no_file),
		WITH_FOLDER(knows_the_servers_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
