/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/content.h"

#include "archive/base/cleanup.h"
#include "client/fs/image_source.h"
#include "tests/support/lib/store.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096, FILE_SIZE = 4 << 20, DATA_BEGIN = 1 << 20, DATA_SIZE = 64 << 10 };

static struct store store;

static int set_up(void **state)
{
	(void)state;
	store_folder(&store);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	store_remove(&store);
	return 0;
}

/* What this process has read so far, of files. */
static uint64_t bytes_read(void)
{
	FILE *f = fopen("/proc/self/io", "r");
	unsigned long long n = 0;

	assert_non_null(f);
	assert_int_equal(fscanf(f, "rchar: %llu", &n), 1);
	fclose(f);
	return n;
}

/* FILE_SIZE bytes, data in the middle, holes around it. */
static int make_sparse_file(struct stat *st)
{
	AUTO(free) uint8_t *data = malloc(DATA_SIZE);
	int fd = open(store_path(&store, "sparse"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	memset(data, 'x', DATA_SIZE);
	assert_int_equal(ftruncate(fd, FILE_SIZE), 0);
	assert_int_equal(pwrite(fd, data, DATA_SIZE, DATA_BEGIN), DATA_SIZE);
	assert_int_equal(fstat(fd, st), 0);
	return fd;
}

static void reads_data_and_no_holes(void **state)
{
	AUTO(free) uint8_t *data = malloc(FILE_SIZE), *expected = calloc(1, FILE_SIZE);
	struct content c;
	struct stat st;
	AUTO(fd) int fd = make_sparse_file(&st);
	uint64_t before;

	(void)state;
	memset(data, 0xff, FILE_SIZE);
	memset(expected + DATA_BEGIN, 'x', DATA_SIZE);
	content_init(&c, fd, &st, false);
	assert_true(c.has_holes);
	before = bytes_read();
	assert_int_equal(content_read(&c, 0, data, FILE_SIZE, FILE_SIZE, NULL), FILE_SIZE);
	assert_true(bytes_read() - before < DATA_SIZE + PAGE);
	assert_memory_equal(data, expected, FILE_SIZE);
	/* Backwards and across the edges. */
	memset(data, 0xff, FILE_SIZE);
	for (size_t at = FILE_SIZE; at > 0; at -= 10000) {
		size_t begin = at < 10000 ? 0 : at - 10000;

		assert_int_equal(content_read(&c, begin, data + begin, at - begin, at - begin, NULL),
				 at - begin);
		if (begin == 0)
			break;
	}
	assert_memory_equal(data, expected, FILE_SIZE);
}

static void tells_holes(void **state)
{
	struct content c;
	struct stat st;
	AUTO(fd) int fd = make_sparse_file(&st);

	(void)state;
	content_init(&c, fd, &st, false);
	assert_true(content_is_hole(&c, 0, DATA_BEGIN));
	assert_false(content_is_hole(&c, 0, DATA_BEGIN + 1));
	assert_false(content_is_hole(&c, DATA_BEGIN, DATA_BEGIN + DATA_SIZE));
	assert_true(content_is_hole(&c, DATA_BEGIN + DATA_SIZE, FILE_SIZE));
	assert_false(content_is_hole(&c, FILE_SIZE, FILE_SIZE + 1)); /* behind the end */
	assert_true(content_is_hole(&c, 5, 6));
}

static void ends_where_the_file_ends(void **state)
{
	AUTO(free) uint8_t *data = malloc(FILE_SIZE + 10);
	struct content c;
	struct stat st;
	AUTO(fd) int fd = make_sparse_file(&st);

	(void)state;
	content_init(&c, fd, &st, false);
	assert_int_equal(content_read(&c, 0, data, FILE_SIZE + 1, FILE_SIZE + 1, NULL), FILE_SIZE);
	assert_int_equal(content_read(&c, FILE_SIZE, data, 1, 1, NULL), 0);
	assert_int_equal(ftruncate(fd, FILE_SIZE / 2), 0); /* inside the hole at the end */
	content_init(&c, fd, &st, false);
	assert_int_equal(content_read(&c, 0, data, FILE_SIZE, FILE_SIZE, NULL), FILE_SIZE / 2);
}

static void reads_more_only_if_it_comes_along(void **state)
{
	char data[20];
	struct content c;
	struct stat st;

	(void)state;
	store_write(&store, "file", "0123456789");
	AUTO(fd) int fd = open(store_path(&store, "file"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	content_init(&c, fd, &st, false);
	assert_int_equal(content_read(&c, 0, data, 5, 6, NULL), 6);
	assert_int_equal(content_read(&c, 0, data, 10, 11, NULL), 10);
}

/* Our own memory, with nothing where `gap_count` pages were: reading there is EIO. */
struct holed {
	uint8_t *pages;
	size_t size;
	int fd;
	struct stat st;
};

static struct holed make_gap(size_t page_count, size_t gap, size_t gap_count)
{
	struct holed h = { .size = page_count * PAGE };

	h.pages = mmap(NULL, h.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(h.pages != MAP_FAILED);
	memset(h.pages, 'm', h.size);
	assert_int_equal(munmap(h.pages + gap * PAGE, gap_count * PAGE), 0);
	h.fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	assert_true(h.fd >= 0);
	assert_int_equal(fstat(h.fd, &h.st), 0);
	return h;
}

static void fails_at_what_cannot_be_read(void **state)
{
	struct holed h = make_gap(4, 1, 1);
	AUTO(free) uint8_t *data = malloc(h.size);
	struct err err = ERR_INIT;
	struct content c;

	(void)state;
	content_init(&c, h.fd, &h.st, false);
	assert_int_equal(content_read(&c, (uintptr_t)h.pages, data, PAGE, PAGE, &err), PAGE);
	assert_int_equal(content_read(&c, (uintptr_t)h.pages, data, h.size, h.size, &err), -EIO);
	assert_non_null(strstr(err.text, "Input/output error"));
	assert_int_equal(c.lost_errno, 0);
	close(h.fd);
	munmap(h.pages, h.size);
}

static void passes_over_what_cannot_be_read(void **state)
{
	struct holed h = make_gap(4, 1, 1);
	AUTO(free) uint8_t *data = malloc(h.size);
	struct content c;

	(void)state;
	content_init(&c, h.fd, &h.st, true);
	memset(data, 0xff, h.size);
	assert_int_equal(content_read(&c, (uintptr_t)h.pages, data, h.size, h.size, NULL), h.size);
	for (size_t i = 0; i < h.size; i++)
		assert_int_equal(data[i], i / PAGE == 1 ? 0 : 'm');
	assert_int_equal(c.lost_errno, EIO);
	assert_int_equal(c.lost_bytes, PAGE);
	assert_int_equal(c.lost_begin, (uintptr_t)h.pages + PAGE);
	close(h.fd);
	munmap(h.pages, h.size);
}

/* 1, 2, 4 and 8 pages are given up; the last of them were readable. */
static void gives_up_more_at_a_time_when_nothing_else_comes(void **state)
{
	struct holed h = make_gap(32, 2, 10);
	AUTO(free) uint8_t *data = malloc(h.size);
	struct content c;

	(void)state;
	content_init(&c, h.fd, &h.st, true);
	assert_int_equal(content_read(&c, (uintptr_t)h.pages, data, h.size, h.size, NULL), h.size);
	assert_int_equal(c.lost_bytes, 15 * PAGE);
	assert_int_equal(data[16 * PAGE], 0);
	assert_int_equal(data[17 * PAGE], 'm');
	close(h.fd);
	munmap(h.pages, h.size);
}

static void opens_files_as_images_and_nothing_else(void **state)
{
	struct image_source s;
	struct err err = ERR_INIT;
	uint64_t size;

	(void)state;
	store_write(&store, "file", "0123456789");
	store_write(&store, "empty", "");
	store_mkdir(&store, "folder");
	assert_int_equal(image_source_open(store_path(&store, "file"), &s, &err), 0);
	assert_int_equal(s.size, 10);
	assert_int_equal(truncate(store_path(&store, "file"), 20), 0);
	assert_int_equal(image_source_size(&s, &size, &err), 0);
	assert_int_equal(size, 20);
	close(s.fd);
	assert_int_equal(image_source_open(store_path(&store, "empty"), &s, &err), -EINVAL);
	assert_int_equal(image_source_open(store_path(&store, "folder"), &s, &err), -EINVAL);
	assert_int_equal(image_source_open(store_path(&store, "none"), &s, &err), -ENOENT);
	assert_int_equal(image_source_open("/dev/null", &s, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(reads_data_and_no_holes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(tells_holes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(ends_where_the_file_ends, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reads_more_only_if_it_comes_along, set_up, tear_down),
		cmocka_unit_test(fails_at_what_cannot_be_read),
		cmocka_unit_test(passes_over_what_cannot_be_read),
		cmocka_unit_test(gives_up_more_at_a_time_when_nothing_else_comes),
		cmocka_unit_test_setup_teardown(opens_files_as_images_and_nothing_else, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
