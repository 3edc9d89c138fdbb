/* SPDX-License-Identifier: Apache-2.0 */
/* A file that goes past the page cache is what was given, wherever that lies and however it ends. */
#include "client/repo/repo_dir_file.h"
#include "archive/base/cleanup.h"
#include "tests/support/lib/store.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { BLOCK = 4096, DATA_SIZE = 3 << 20 };

static struct store folder;
static int folder_fd;
static uint8_t *data; /* begins with a page */

static int set_up(void **state)
{
	(void)state;
	store_folder(&folder);
	folder_fd = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(folder_fd >= 0);
	data = aligned_alloc(BLOCK, DATA_SIZE);
	assert_non_null(data);
	for (size_t i = 0; i < DATA_SIZE; i++)
		data[i] = (uint8_t)(i * 2654435761 >> 13);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	free(data);
	close(folder_fd);
	store_remove(&folder);
	return 0;
}

static int write_file(const char *name, size_t begin, size_t size, struct err *err)
{
	static const struct repo_dir_owner nobody;
	AUTO(repo_dir_file_tmp) struct repo_dir_file_tmp t = REPO_DIR_FILE_TMP_INIT;
	int rc = repo_dir_file_tmp_open(&t, folder_fd, name, &nobody, err);

	if (rc == 0)
		rc = repo_dir_file_tmp_write_through(&t, data + begin, size, err);
	return rc < 0 ? rc : repo_dir_file_tmp_commit(&t, name, false, err);
}

static void check_file(size_t begin, size_t size)
{
	AUTO(wbuf) struct wbuf found = WBUF_INIT(DATA_SIZE);
	struct err err = ERR_INIT;

	assert_int_equal(write_file("file", begin, size, &err), 0);
	assert_int_equal(repo_dir_file_read(folder_fd, "file", DATA_SIZE, &found, &err), 0);
	assert_int_equal(found.size, size);
	if (size)
		assert_memory_equal(found.data, data + begin, size);
}

static void keeps_every_size(void **state)
{
	static const size_t sizes[] = { 0,
					1,
					BLOCK,
					(64 << 10) - 1,
					64 << 10,
					(64 << 10) + 1,
					(1 << 20) + 511,
					(1 << 20) + 512,
					(1 << 20) + BLOCK - 1,
					DATA_SIZE };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		check_file(0, sizes[i]);
}

static void keeps_what_lies_anywhere(void **state)
{
	static const size_t begins[] = { 1, 12, 16, 512, BLOCK - 4, BLOCK };

	(void)state;
	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		check_file(begins[i], (1 << 20) + 77);
}

/* A short write is no success, and no file is left. */
static void tells_when_the_file_cannot_grow(void **state)
{
	struct err err = ERR_INIT;
	struct rlimit before, limit;
	int rc;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = (1 << 20) + 100;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	rc = write_file("large", 0, 2 << 20, &err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(rc, -EFBIG);
	assert_int_equal(faccessat(folder_fd, "large", F_OK, 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keeps_every_size),
		cmocka_unit_test(keeps_what_lies_anywhere),
		cmocka_unit_test(tells_when_the_file_cannot_grow),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
