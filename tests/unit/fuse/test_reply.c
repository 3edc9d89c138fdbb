/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/reply.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

static struct stat shown(struct tree_entry *e, nlink_t names)
{
	struct stat st;

	e->meta.mtime_sec = -2;
	e->meta.mtime_nsec = 500000000;
	e->meta.uid = 3000000000;
	e->meta.gid = 4000000000;
	assert_int_equal(reply_stat(e, 77, names, &st), 0);
	assert_int_equal(st.st_ino, 77);
	assert_int_equal(st.st_uid, 3000000000);
	assert_int_equal(st.st_gid, 4000000000);
	assert_int_equal(st.st_mtim.tv_sec, -2);
	assert_int_equal(st.st_mtim.tv_nsec, 500000000);
	assert_memory_equal(&st.st_atim, &st.st_mtim, sizeof(st.st_mtim));
	assert_memory_equal(&st.st_ctim, &st.st_mtim, sizeof(st.st_mtim));
	return st;
}

static void files_have_size_blocks_and_links(void **state)
{
	static const struct {
		uint64_t size;
		blkcnt_t blocks;
	} rows[] = { { 0, 0 }, { 1, 1 }, { 512, 1 }, { 513, 2 }, { 1 << 30, 1 << 21 },
		     { INT64_MAX, (INT64_MAX >> 9) + 1 } };
	AUTO(tree_entry) struct tree_entry e;

	(void)state;
	tree_entry_init(&e);
	e.meta.mode = PXAR_MODE_REGULAR | 04755;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct stat st;

		e.content_size = rows[i].size;
		st = shown(&e, 3);
		assert_true((uint64_t)st.st_size == rows[i].size);
		assert_true(st.st_blocks == rows[i].blocks);
		assert_int_equal(st.st_nlink, 3);
		assert_int_equal(st.st_mode, S_IFREG | 04755);
	}
}

static void folders_have_no_size_and_one_link(void **state)
{
	AUTO(tree_entry) struct tree_entry e;
	struct stat st;

	(void)state;
	tree_entry_init(&e);
	e.meta.mode = PXAR_MODE_DIRECTORY | 01777;
	st = shown(&e, 5);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_blocks, 0);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(st.st_mode, S_IFDIR | 01777);
}

static void symlinks_are_as_long_as_their_target(void **state)
{
	AUTO(tree_entry) struct tree_entry e;

	(void)state;
	tree_entry_init(&e);
	e.meta.mode = PXAR_MODE_SYMLINK | 0777;
	wbuf_put(&e.text, "target", 7);
	assert_int_equal(shown(&e, 1).st_size, 6);
	wbuf_clear(&e.text);
	wbuf_put(&e.text, "", 1);
	assert_int_equal(shown(&e, 1).st_size, 0);
}

static void devices_keep_their_numbers(void **state)
{
	AUTO(tree_entry) struct tree_entry e;

	(void)state;
	tree_entry_init(&e);
	e.meta.mode = PXAR_MODE_BLOCK | 0600;
	e.device_major = 0xfff;
	e.device_minor = 0xfffff;
	assert_true(shown(&e, 1).st_rdev == makedev(0xfff, 0xfffff));
}

static void refuses_devices_beyond_the_kernel(void **state)
{
	AUTO(tree_entry) struct tree_entry e;
	struct stat st;

	(void)state;
	tree_entry_init(&e);
	e.meta.mode = PXAR_MODE_CHAR | 0600;
	e.device_major = 0x1000;
	assert_int_equal(reply_stat(&e, 1, 1, &st), -EOVERFLOW);
	e.device_major = 1;
	e.device_minor = 0x100000;
	assert_int_equal(reply_stat(&e, 1, 1, &st), -EOVERFLOW);
	e.device_minor = UINT64_MAX;
	assert_int_equal(reply_stat(&e, 1, 1, &st), -EOVERFLOW);
}

static void what_is_wrong_with_the_archive_is_an_input_error(void **state)
{
	static const int internal[] = { EBADMSG,    EIO,       EOPNOTSUPP, EPROTO,
					EACCES,	    ETIMEDOUT, ECANCELED,  E2BIG };
	static const int passed[] = { ENOENT, ENODATA, ERANGE, ENOTTY, EINTR,
				      ENOMEM, ESTALE,  EINVAL, ENAMETOOLONG };

	(void)state;
	for (size_t i = 0; i < sizeof(internal) / sizeof(internal[0]); i++)
		assert_int_equal(reply_code(-internal[i]), EIO);
	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++)
		assert_int_equal(reply_code(-passed[i]), passed[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(files_have_size_blocks_and_links),
		cmocka_unit_test(folders_have_no_size_and_one_link),
		cmocka_unit_test(symlinks_are_as_long_as_their_target),
		cmocka_unit_test(devices_keep_their_numbers),
		cmocka_unit_test(refuses_devices_beyond_the_kernel),
		cmocka_unit_test(what_is_wrong_with_the_archive_is_an_input_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
