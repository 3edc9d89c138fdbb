/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over plain files. */
#include "client/read/stream.h"

#include "tests/unit/client/stream_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>

#include <cmocka.h>

struct plain {
	char path[40];
};

static void plain_init(struct plain *f, size_t size)
{
	AUTO(free) uint8_t *data = malloc(size ? size : 1);
	int fd;

	strcpy(f->path, "/tmp/test_stream.XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	for (size_t i = 0; i < size; i++)
		data[i] = byte_at(i);
	assert_int_equal(write(fd, data, size), size);
	close(fd);
}

static void plain_release(struct plain *f)
{
	unlink(f->path);
}
DEFINE_AUTO_STRUCT(plain)

struct bench {
	struct chunk_cache *cache;
	struct fetch *fetch;
};

static void bench_init(struct bench *b)
{
	b->cache = chunk_cache_new(4 << 20);
	b->fetch = fetch_new(b->cache, 2);
}

static void bench_release(struct bench *b)
{
	fetch_free(b->fetch);
	chunk_cache_free(b->cache);
}
DEFINE_AUTO_STRUCT(bench)

static int open_file(struct bench *b, const struct plain *f, struct stream **out)
{
	return stream_new_file(out, b->fetch, open(f->path, O_RDONLY | O_CLOEXEC), CHUNK_PAYLOAD,
			       "plain", NULL);
}

static void reads_a_plain_file(void **state)
{
	enum { FILE_SIZE = 2 * STREAM_FILE_PIECE_SIZE + 12345 };
	AUTO(bench) struct bench b;
	AUTO(plain) struct plain f;
	AUTO(stream) struct stream *s = NULL;
	AUTO(free) uint8_t *buf = malloc(FILE_SIZE);

	(void)state;
	bench_init(&b);
	plain_init(&f, FILE_SIZE);
	assert_int_equal(open_file(&b, &f, &s), 0);
	assert_int_equal(stream_size(s), FILE_SIZE);
	assert_int_equal(read_at_exact(stream_read_at(s), buf, FILE_SIZE, 0, NULL), 0);
	assert_true(is_right(buf, FILE_SIZE, 0));
	assert_int_equal(read_at_exact(stream_read_at(s), buf, 100, FILE_SIZE - 100, NULL), 0);
	assert_true(is_right(buf, 100, FILE_SIZE - 100));
}

static void reads_an_empty_file(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(plain) struct plain f;
	AUTO(stream) struct stream *s = NULL;
	AUTO(stream_view) struct stream_view v;
	struct iovec iov[1];
	size_t count = 1;
	uint8_t byte;

	(void)state;
	bench_init(&b);
	plain_init(&f, 0);
	assert_int_equal(open_file(&b, &f, &s), 0);
	stream_view_init(&v, s);
	assert_int_equal(stream_size(s), 0);
	assert_int_equal(read_at_exact(&v.base, &byte, 0, 0, NULL), 0);
	assert_int_equal(read_at_exact(&v.base, &byte, 1, 0, NULL), -EBADMSG);
	assert_int_equal(stream_view_map(&v, 0, 0, iov, &count, NULL), 0);
	assert_int_equal(count, 0);
	stream_hint(s, 0, 1);
}

static void refuses_a_folder(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(fd) int fd = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stream *s;

	(void)state;
	bench_init(&b);
	assert_int_equal(stream_new_file(&s, b.fetch, fd, CHUNK_META, "tmp", NULL), -EINVAL);
}

static void refuses_a_file_that_was_cut_off(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(plain) struct plain f;
	AUTO(stream) struct stream *s = NULL;
	struct err err = ERR_INIT;
	uint8_t byte;

	(void)state;
	bench_init(&b);
	plain_init(&f, 2 * STREAM_FILE_PIECE_SIZE);
	assert_int_equal(open_file(&b, &f, &s), 0);
	assert_int_equal(truncate(f.path, STREAM_FILE_PIECE_SIZE + 10), 0);
	assert_int_equal(read_at_exact(stream_read_at(s), &byte, 1, STREAM_FILE_PIECE_SIZE, &err),
			 -EIO);
	assert_string_equal(err.text, "plain: bytes 262144 to 524288: "
				      "the file was cut off while it was open");
}

static void refuses_a_file_that_changed(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(plain) struct plain f;
	AUTO(stream) struct stream *s = NULL;
	struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct err err = ERR_INIT;
	uint8_t byte;

	(void)state;
	bench_init(&b);
	plain_init(&f, 10);
	assert_int_equal(open_file(&b, &f, &s), 0);
	assert_int_equal(utimensat(AT_FDCWD, f.path, times, 0), 0);
	assert_int_equal(read_at_exact(stream_read_at(s), &byte, 1, 0, &err), -EIO);
	assert_non_null(strstr(err.text, "changed while it was open"));
}

static void shares_pieces_with_who_opened_it_too(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(plain) struct plain f;
	AUTO(stream) struct stream *s = NULL;
	AUTO(stream) struct stream *other = NULL;
	struct fetch_stats stats;
	uint8_t byte;

	(void)state;
	bench_init(&b);
	plain_init(&f, 10);
	assert_int_equal(open_file(&b, &f, &s), 0);
	assert_int_equal(open_file(&b, &f, &other), 0);
	assert_int_equal(read_at_exact(stream_read_at(s), &byte, 1, 0, NULL), 0);
	assert_int_equal(read_at_exact(stream_read_at(other), &byte, 1, 0, NULL), 0);
	fetch_stats(b.fetch, &stats);
	assert_int_equal(stats.payload_loads, 1);
}

static void keeps_two_files_apart(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(plain) struct plain f;
	AUTO(plain) struct plain g;
	AUTO(stream) struct stream *s = NULL;
	AUTO(stream) struct stream *other = NULL;
	AUTO(fd) int fd = -1;
	uint8_t byte;

	(void)state;
	bench_init(&b);
	plain_init(&f, 1);
	plain_init(&g, 1);
	fd = open(g.path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "x", 1), 1);
	assert_int_equal(open_file(&b, &f, &s), 0);
	assert_int_equal(open_file(&b, &g, &other), 0);
	assert_int_equal(read_at_exact(stream_read_at(s), &byte, 1, 0, NULL), 0);
	assert_int_equal(byte, byte_at(0));
	assert_int_equal(read_at_exact(stream_read_at(other), &byte, 1, 0, NULL), 0);
	assert_int_equal(byte, 'x');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_a_plain_file),
		cmocka_unit_test(reads_an_empty_file),
		cmocka_unit_test(refuses_a_folder),
		cmocka_unit_test(refuses_a_file_that_was_cut_off),
		cmocka_unit_test(refuses_a_file_that_changed),
		cmocka_unit_test(shares_pieces_with_who_opened_it_too),
		cmocka_unit_test(keeps_two_files_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
