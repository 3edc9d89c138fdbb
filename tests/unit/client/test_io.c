/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/io.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { SIZE = 3 * IO_PIECE_SIZE + 17 };

static uint8_t pattern[SIZE];

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		pattern[i] = (uint8_t)(i * 31 + i / 251);
	return 0;
}

static void *write_pattern(void *arg)
{
	int *fd = arg;
	int rc = io_write(*fd, pattern, SIZE);

	close(*fd);
	return (void *)(intptr_t)rc;
}

/* A pipe takes and gives pieces of its own size. */
static void what_goes_through_a_pipe_is_whole(void **state)
{
	AUTO(wbuf) struct wbuf got = WBUF_INIT(SIZE + IO_PIECE_SIZE);
	pthread_t thread;
	void *rc;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_pattern, &ends[1]), 0);
	assert_int_equal(io_read_all(ends[0], &got), 0);
	pthread_join(thread, &rc);
	assert_null(rc);
	assert_int_equal(got.size, SIZE);
	assert_memory_equal(got.data, pattern, SIZE);
	close(ends[0]);
}

static void refuses_more_than_the_buffer_may_hold(void **state)
{
	AUTO(wbuf) struct wbuf got = WBUF_INIT(SIZE + IO_PIECE_SIZE - 1);
	AUTO(fd) int fd = memfd_create("io", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(io_write(fd, pattern, SIZE), 0);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(io_read_all(fd, &got), -E2BIG);
}

static void says_how_much_there_is(void **state)
{
	AUTO(fd) int fd = memfd_create("io", MFD_CLOEXEC);
	uint8_t got[100];

	(void)state;
	assert_int_equal(io_write(fd, pattern, SIZE), 0);
	assert_int_equal(io_pread(fd, got, sizeof(got), 1000), sizeof(got));
	assert_memory_equal(got, pattern + 1000, sizeof(got));
	assert_int_equal(io_pread(fd, got, sizeof(got), SIZE - 30), 30);
	assert_memory_equal(got, pattern + SIZE - 30, 30);
	assert_int_equal(io_pread(fd, got, sizeof(got), SIZE), 0);
}

static void failures_are_given_on(void **state)
{
	AUTO(wbuf) struct wbuf got = WBUF_INIT(SIZE);
	uint8_t byte = 0;

	(void)state;
	assert_int_equal(io_read_all(-1, &got), -EBADF);
	assert_int_equal(io_pread(-1, &byte, 1, 0), -EBADF);
	assert_int_equal(io_write(-1, &byte, 1), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_through_a_pipe_is_whole),
		cmocka_unit_test(refuses_more_than_the_buffer_may_hold),
		cmocka_unit_test(says_how_much_there_is),
		cmocka_unit_test(failures_are_given_on),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
