/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/stream.h"

#include "archive/chunker.h"
#include "archive/didx_writer.h"
#include "tests/support/lib/answer.h"
#include "tests/support/lib/repo_fill.h"
#include "tests/support/lib/repo_memory.h"
#include "tests/unit/client/stream_fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

enum { SIZE = 100000, CHUNK = 1000, COUNT = SIZE / CHUNK };

/* A stream of COUNT chunks in a repository in memory. */
struct bench {
	struct repo *repo;
	struct snapshot_name name;
	struct repo_reader *reader;
	struct chunk_cache *cache;
	struct fetch *fetch;
	struct stream *stream;
	struct didx didx;
};

static int open_stream(struct bench *b, struct stream **out)
{
	struct repo_file file = { 0 };
	struct didx didx;
	int rc;

	assert_int_equal(repo_reader_get_file(b->reader, "root.pxar.didx", &file, NULL), 0);
	assert_int_equal(didx_open(&didx, file.data, file.size, NULL), 0);
	b->didx = didx;
	rc = stream_new_didx(out, b->fetch, b->reader, &file, &didx, NULL, CHUNK_META, "root.pxar.didx",
			     NULL);
	assert_null(file.data);
	return rc;
}

static void bench_open(struct bench *b, size_t cache_bytes)
{
	assert_int_equal(repo_read(b->repo, &b->name, &b->reader, NULL), 0);
	b->cache = chunk_cache_new(cache_bytes);
	b->fetch = fetch_new(b->cache, 3);
	assert_int_equal(open_stream(b, &b->stream), 0);
}

static void bench_init(struct bench *b, size_t cache_bytes)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "test", 1800000000);
	AUTO(free) uint8_t *data = malloc(SIZE);

	for (size_t i = 0; i < SIZE; i++)
		data[i] = byte_at(i);
	b->repo = repo_memory_new();
	b->name = repo_fill_name();
	repo_fill_stream(b->repo, &b->name, m, "root.pxar.didx", data, SIZE, CHUNK);
	repo_fill_manifest(b->repo, &b->name, m);
	bench_open(b, cache_bytes);
}

static void bench_release(struct bench *b)
{
	stream_free(b->stream);
	fetch_free(b->fetch);
	chunk_cache_free(b->cache);
	repo_reader_free(b->reader);
	repo_free(b->repo);
}
DEFINE_AUTO_STRUCT(bench)

static struct digest chunk_digest(struct bench *b, size_t i)
{
	struct digest digest;
	uint64_t begin, end;

	didx_chunk(&b->didx, i, &begin, &end, &digest);
	return digest;
}

static const struct repo_memory_match any_chunk = { .call = REPO_MEMORY_GET_CHUNK };

/* Bring what the view misses and give it to the view. */
static int bring(struct stream_view *v, struct err *err)
{
	struct answer a;

	answer_init(&a);
	stream_view_wait(v, &a.wait);
	answer_await(&a);
	if (a.rc < 0) {
		*err = a.err;
		return a.rc;
	}
	return stream_view_hold(v, a.chunk);
}

/* --- blocking --- */

static void reads_at_any_place(void **state)
{
	AUTO(bench) struct bench b;
	struct read_at *r;
	uint8_t buf[5000];

	(void)state;
	bench_init(&b, 1 << 20);
	r = stream_read_at(b.stream);
	assert_int_equal(stream_size(b.stream), SIZE);
	for (uint64_t offset = 0; offset <= SIZE; offset += 613) {
		size_t size = SIZE - offset < sizeof(buf) ? SIZE - offset : sizeof(buf);

		assert_int_equal(read_at_exact(r, buf, size, offset, NULL), 0);
		assert_true(is_right(buf, size, offset));
	}
	assert_int_equal(read_at_exact(r, buf, 1, SIZE, NULL), -EBADMSG);
}

static void fetches_only_what_is_read(void **state)
{
	AUTO(bench) struct bench b;
	uint8_t buf[CHUNK + 1];

	(void)state;
	bench_init(&b, 1 << 20);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 0);
	read_at_exact(stream_read_at(b.stream), buf, 1, 5 * CHUNK, NULL);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 1);
	read_at_exact(stream_read_at(b.stream), buf, CHUNK + 1, 5 * CHUNK, NULL);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 2);
	read_at_exact(stream_read_at(b.stream), buf, CHUNK, 5 * CHUNK + 1, NULL);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 2);
}

static void two_streams_share_chunks_by_digest(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream) struct stream *other = NULL;
	uint8_t buf[CHUNK];

	(void)state;
	bench_init(&b, 1 << 20);
	assert_int_equal(open_stream(&b, &other), 0);
	assert_int_equal(read_at_exact(stream_read_at(b.stream), buf, CHUNK, 0, NULL), 0);
	assert_int_equal(read_at_exact(stream_read_at(other), buf, CHUNK, 0, NULL), 0);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 1);
}

static void a_hint_brings_chunks_without_asking(void **state)
{
	AUTO(bench) struct bench b;
	uint8_t buf[4 * CHUNK];

	(void)state;
	bench_init(&b, 1 << 20);
	stream_hint(b.stream, 10 * CHUNK + 1, 14 * CHUNK);
	repo_memory_await(b.repo, &any_chunk, 4);
	assert_int_equal(read_at_exact(stream_read_at(b.stream), buf, sizeof(buf), 10 * CHUNK,
				       NULL), 0);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 4);
	stream_hint(b.stream, SIZE, SIZE + 1);
	stream_hint(b.stream, SIZE - 1, UINT64_MAX);
	repo_memory_await(b.repo, &any_chunk, 5);
}

static uint64_t hints_of(struct bench *b)
{
	struct fetch_stats stats;

	fetch_stats(b->fetch, &stats);
	return stats.hints;
}

static void read_in_order(struct bench *b, uint64_t begin, uint64_t end)
{
	uint8_t buf[100];

	for (uint64_t offset = begin; offset < end; offset += sizeof(buf)) {
		assert_int_equal(read_at_exact(stream_read_at(b->stream), buf, sizeof(buf), offset,
					       NULL), 0);
		assert_true(is_right(buf, sizeof(buf), offset));
	}
}

static void who_reads_in_order_is_read_ahead_of(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 1 << 20);
	stream_set_readahead(b.stream, 1 << 20);
	read_in_order(&b, 0, 20 * CHUNK);
	repo_memory_await(b.repo, &any_chunk, 21); /* nobody has asked for that one */
	read_in_order(&b, 20 * CHUNK, SIZE);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), COUNT);
	assert_true(hints_of(&b) > 0);
}

static void without_read_ahead_nobody_is_read_ahead_of(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 1 << 20);
	read_in_order(&b, 0, SIZE);
	assert_int_equal(hints_of(&b), 0);
}

static void a_cache_of_no_whole_chunk_gets_no_read_ahead(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, CHUNK / 2);
	stream_set_readahead(b.stream, 1 << 20);
	read_in_order(&b, 0, SIZE);
	assert_int_equal(hints_of(&b), 0);
}

/* --- damage --- */

static void expect_failure(struct bench *b, int rc, const char *what)
{
	struct digest digest = chunk_digest(b, 3);
	struct err err = ERR_INIT;
	char hex[DIGEST_HEX_SIZE];
	char where[200];
	uint8_t buf[1];

	digest_to_hex(&digest, hex);
	snprintf(where, sizeof(where), "root.pxar.didx: chunk 3 at offset 3000, digest %s: ", hex);
	assert_int_equal(read_at_exact(stream_read_at(b->stream), buf, 1, 3500, &err), rc);
	assert_memory_equal(err.text, where, strlen(where));
	assert_non_null(strstr(err.text, what));
}

static void expect_healthy(struct bench *b, uint64_t offset)
{
	uint8_t buf[1];

	assert_int_equal(read_at_exact(stream_read_at(b->stream), buf, 1, offset, NULL), 0);
	assert_int_equal(buf[0], byte_at(offset));
}

static void names_archive_place_and_digest_of_a_damaged_chunk(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_fault fault = { any_chunk, REPO_MEMORY_FLIP, 20, 0, 1 };
	struct digest digest;

	(void)state;
	bench_init(&b, 1 << 20);
	digest = chunk_digest(&b, 3);
	fault.match.chunk = &digest;
	repo_memory_add_fault(b.repo, &fault);
	expect_failure(&b, -EBADMSG, "wrong CRC");
	expect_healthy(&b, 3500);
}

static void damage_elsewhere_does_not_matter(void **state)
{
	AUTO(bench) struct bench b;
	struct repo_memory_fault fault = { any_chunk, REPO_MEMORY_FLIP, 20, 0, 0 };
	struct digest digest;

	(void)state;
	bench_init(&b, 1 << 20);
	digest = chunk_digest(&b, 3);
	fault.match.chunk = &digest;
	repo_memory_add_fault(b.repo, &fault);
	for (uint64_t offset = 0; offset < SIZE; offset += CHUNK) {
		if (offset != 3 * CHUNK)
			expect_healthy(&b, offset);
	}
	expect_failure(&b, -EBADMSG, "wrong CRC");
}

static void refuses_a_chunk_cut_at_every_byte(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(1 << 20);
	struct digest digest;

	(void)state;
	bench_init(&b, 1 << 20);
	digest = chunk_digest(&b, 3);
	assert_int_equal(repo_reader_get_chunk(b.reader, &digest, &stored, NULL), 0);
	for (size_t size = 0; size < stored.size; size++) {
		struct repo_memory_fault fault = { any_chunk, REPO_MEMORY_TRUNCATE, size, 0, 1 };

		fault.match.chunk = &digest;
		repo_memory_add_fault(b.repo, &fault);
		expect_failure(&b, -EBADMSG, "");
	}
	expect_healthy(&b, 3500);
}

/* Put other bytes under a chunk's digest. */
static void forge(struct bench *b, const void *data, size_t size)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(1 << 20);
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	struct digest digest = chunk_digest(b, 3);

	assert_int_equal(blob_encode(codec, data, size, true, &stored, NULL), 0);
	repo_memory_add_chunk(b->repo, &digest, stored.data, stored.size);
}

static void refuses_a_chunk_of_the_wrong_size(void **state)
{
	AUTO(bench) struct bench b;
	uint8_t zeros[2 * CHUNK] = { 0 };

	(void)state;
	bench_init(&b, 1 << 20);
	forge(&b, zeros, CHUNK - 1);
	expect_failure(&b, -EBADMSG, "999");
	forge(&b, zeros, CHUNK + 1);
	expect_failure(&b, -EBADMSG, "1000");
}

static void refuses_a_chunk_with_the_wrong_digest(void **state)
{
	AUTO(bench) struct bench b;
	uint8_t zeros[CHUNK] = { 0 };

	(void)state;
	bench_init(&b, 1 << 20);
	forge(&b, zeros, CHUNK);
	expect_failure(&b, -EBADMSG, "digest");
}

static void refuses_an_encrypted_chunk_under_a_plain_index(void **state)
{
	static const uint8_t encrypted[44 + 10] = { 0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0 };
	AUTO(bench) struct bench b;
	struct digest digest;

	(void)state;
	bench_init(&b, 1 << 20);
	digest = chunk_digest(&b, 3);
	repo_memory_add_chunk(b.repo, &digest, encrypted, sizeof(encrypted));
	expect_failure(&b, -EBADMSG, "encrypted");
}

static void a_missing_chunk_is_no_missing_file(void **state)
{
	AUTO(bench) struct bench b;
	struct digest digest;

	(void)state;
	bench_init(&b, 1 << 20);
	digest = chunk_digest(&b, 3);
	repo_memory_remove_chunk(b.repo, &digest);
	expect_failure(&b, -EIO, "is missing");
}

static void works_again_when_the_store_is_back(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 1 << 20);
	repo_memory_set_gone(b.repo, true);
	expect_failure(&b, -EIO, "gone");
	repo_memory_set_gone(b.repo, false);
	expect_healthy(&b, 3500);
}

/* Two archives may say different sizes of one digest: one of them is damaged. */
static void refuses_a_second_size_of_a_chunk_in_memory(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream) struct stream *bad = NULL;
	AUTO(stream_view) struct stream_view v;
	AUTO(free) uint8_t *index = NULL;
	struct repo_file file;
	struct err err = ERR_INIT;
	struct didx didx;
	uint8_t byte;
	size_t size;
	const void *right;

	(void)state;
	bench_init(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	expect_healthy(&b, 0);
	right = repo_memory_file(b.repo, &b.name, "root.pxar.didx", &size);
	index = malloc(size);
	memcpy(index, right, size);
	index[DIDX_HEADER_SIZE]++; /* the first chunk's end */
	file = (struct repo_file){ .data = index, .size = size };
	assert_int_equal(didx_open(&didx, index, size, NULL), 0);
	assert_int_equal(stream_new_didx(&bad, b.fetch, b.reader, &file, &didx, NULL, CHUNK_META,
					 "bad.pxar.didx", NULL), 0);
	assert_int_equal(read_at_exact(stream_read_at(bad), &byte, 1, 0, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "bad.pxar.didx: chunk 0 at offset 0"));
	assert_non_null(strstr(err.text, "has 1000 bytes, the index says 1001"));
	expect_healthy(&b, 0);
}

/* --- views --- */

static void a_view_never_waits(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	struct err err = ERR_INIT;
	uint8_t buf[10];

	(void)state;
	bench_init(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	assert_int_equal(read_at_exact(&v.base, buf, 10, 4500, NULL), -EAGAIN);
	assert_int_equal(v.missing, 4);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 0);
	assert_int_equal(bring(&v, &err), 0);
	assert_int_equal(read_at_exact(&v.base, buf, 10, 4500, NULL), 0);
	assert_true(is_right(buf, 10, 4500));
	assert_int_equal(read_at_exact(&v.base, buf, 10, SIZE - 9, NULL), -EBADMSG);
}

static void a_view_brings_the_rest_of_a_read_at_once(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	struct repo_memory_gate *gate;
	uint8_t buf[3 * CHUNK];
	struct answer a;

	(void)state;
	bench_init(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	gate = repo_memory_gate(b.repo, &any_chunk);
	assert_int_equal(read_at_exact(&v.base, buf, sizeof(buf), 0, NULL), -EAGAIN);
	answer_init(&a);
	stream_view_wait(&v, &a.wait);
	repo_memory_gate_await(gate, 3);
	repo_memory_gate_open(gate);
	answer_await(&a);
	assert_int_equal(stream_view_hold(&v, a.chunk), 0);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 3);
}

/* The restart protocol under a cache that holds nothing: what was seen stays. */
static void a_restarted_request_always_gets_further(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	AUTO(free) uint8_t *buf = malloc(SIZE);
	struct err err = ERR_INIT;
	unsigned restarts = 0;
	int rc;

	(void)state;
	bench_init(&b, 0);
	stream_view_init(&v, b.stream);
	while (read_at_exact(&v.base, buf, SIZE, 0, &err) == -EAGAIN) {
		assert_int_equal(v.missing, restarts);
		assert_int_equal(bring(&v, &err), 0);
		assert_true(++restarts <= COUNT);
	}
	assert_int_equal(restarts, COUNT);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), COUNT);
	assert_true(is_right(buf, SIZE, 0));
	/* The thread that brought the last chunk may still be busy evicting. */
	do {
		stream_view_forget(&v);
		rc = read_at_exact(&v.base, buf, 1, 0, &err);
	} while (rc == 0);
	assert_int_equal(rc, -EAGAIN);
}

static void a_view_keeps_chunks_that_came_in_any_order(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	AUTO(free) uint8_t *buf = malloc(SIZE);
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b, 0);
	stream_view_init(&v, b.stream);
	for (uint64_t i = 0; i < COUNT; i++) {
		uint64_t offset = i * 37 % COUNT * CHUNK + i;

		assert_int_equal(read_at_exact(&v.base, buf, 1, offset, &err), -EAGAIN);
		assert_int_equal(bring(&v, &err), 0);
		assert_int_equal(read_at_exact(&v.base, buf, 1, offset, &err), 0);
		assert_int_equal(buf[0], byte_at(offset));
	}
	assert_int_equal(read_at_exact(&v.base, buf, SIZE, 0, &err), 0);
	assert_true(is_right(buf, SIZE, 0));
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), COUNT);
}

/* Whoever writes an index chooses its digests: none of them finds what is no chunk. */
static void a_digest_does_not_meet_other_names_in_the_cache(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(free) uint8_t *buf = malloc(CHUNK);
	struct chunk *other;
	struct digest digest;
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b, 1 << 20);
	digest = chunk_digest(&b, 0);
	other = chunk_new(b.cache, &digest, CHUNK, CHUNK_META);
	memset(other->data, 0xee, CHUNK);
	chunk_unref(chunk_cache_insert(b.cache, other));
	assert_int_equal(read_at_exact(stream_read_at(b.stream), buf, CHUNK, 0, &err), 0);
	assert_true(is_right(buf, CHUNK, 0));
}

/* An index of `count` times the same chunk. */
static void fill_same(struct bench *b, size_t count, const void *data, size_t size)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "test", 1800000000);
	AUTO(didx_writer) struct didx_writer ix = { 0 };
	static const uint8_t uuid[16] = "same";
	struct digest digest, csum;

	b->repo = repo_memory_new();
	b->name = repo_fill_name();
	digest = repo_fill_chunk(b->repo, data, size);
	assert_int_equal(didx_writer_init(&ix, uuid, b->name.time, NULL), 0);
	for (size_t i = 0; i < count; i++)
		assert_int_equal(didx_writer_add(&ix, size, &digest, NULL), 0);
	assert_int_equal(didx_writer_finish(&ix, &csum, NULL), 0);
	repo_memory_add_file(b->repo, &b->name, "root.pxar.didx", ix.bytes.data, ix.bytes.size);
	assert_int_equal(manifest_add_file(m, "root.pxar.didx", ix.size, &csum, CRYPT_MODE_NONE,
					   NULL),
			 0);
	repo_fill_manifest(b->repo, &b->name, m);
}

/* Looking through all held chunks for each byte would take minutes. */
static void very_many_chunks_are_read_in_seconds_but_not_any_number(void **state)
{
	enum { MANY = STREAM_VIEW_HELD_MAX, SECONDS_MAX = 20 };
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	AUTO(free) uint8_t *buf = malloc(MANY);
	struct err err = ERR_INIT;
	clock_t begin = clock();

	(void)state;
	fill_same(&b, MANY + 1, "x", 1);
	bench_open(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	assert_int_equal(read_at_exact(&v.base, buf, MANY, 0, &err), -EAGAIN);
	assert_int_equal(bring(&v, &err), 0);
	assert_int_equal(read_at_exact(&v.base, buf, MANY, 0, &err), 0);
	assert_int_equal(v.held_count, MANY);
	for (size_t i = 0; i < MANY; i += 1000)
		assert_int_equal(read_at_exact(&v.base, buf, 1, MANY - 1 - i, &err), 0);
	assert_int_equal(buf[MANY - 1], 'x');
	assert_true((clock() - begin) / CLOCKS_PER_SEC < SECONDS_MAX);

	assert_int_equal(read_at_exact(&v.base, buf, 1, MANY, &err), -E2BIG);
	assert_string_equal(err.text, "root.pxar.didx: more than 65536 chunks are needed at once");
	stream_view_forget(&v);
	assert_int_equal(read_at_exact(&v.base, buf, 1, MANY, &err), 0);
}

static void a_view_holds_no_more_than_so_many_bytes(void **state)
{
	enum { LARGE = CHUNK_SIZE_MAX, LARGE_COUNT = 65 };
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	AUTO(free) uint8_t *zeros = calloc(1, LARGE);
	struct err err = ERR_INIT;
	uint8_t byte;

	(void)state;
	fill_same(&b, LARGE_COUNT + 1, zeros, LARGE);
	bench_open(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	assert_int_equal(read_at_exact(&v.base, &byte, 1, 0, &err), -EAGAIN);
	assert_int_equal(bring(&v, &err), 0);
	for (uint64_t i = 0; i < LARGE_COUNT; i++)
		assert_int_equal(read_at_exact(&v.base, &byte, 1, i * LARGE, &err), 0);
	assert_int_equal(read_at_exact(&v.base, &byte, 1, LARGE_COUNT * (uint64_t)LARGE, &err), -E2BIG);
	assert_string_equal(err.text, "root.pxar.didx: chunks of more than 1025 MiB are needed at once");
	assert_int_equal(read_at_exact(&v.base, &byte, 1, 0, &err), 0);
	stream_view_release(&v);
	stream_view_init(&v, b.stream);
	assert_int_not_equal(read_at_exact(&v.base, &byte, 1, LARGE_COUNT * (uint64_t)LARGE, &err), -E2BIG);
}

static void a_view_maps_without_copying(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	struct iovec iov[8];
	struct err err = ERR_INIT;
	uint64_t offset = 4321;
	size_t count = 8;
	int rc;

	(void)state;
	bench_init(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	while ((rc = stream_view_map(&v, offset, 3000, iov, &count, &err)) == -EAGAIN)
		assert_int_equal(bring(&v, &err), 0);
	assert_int_equal(rc, 0);
	assert_int_equal(count, 4);
	assert_int_equal(iov[0].iov_len, 679);
	assert_ptr_equal(iov[0].iov_base, v.held[0].chunk->data + 321);
	for (size_t i = 0; i < count; i++) {
		assert_true(is_right(iov[i].iov_base, iov[i].iov_len, offset));
		offset += iov[i].iov_len;
	}
	assert_int_equal(offset, 7321);
	assert_int_equal(v.held_count, 4);
	assert_ptr_equal(v.held, v.held_inline);
}

static void a_map_refuses_what_it_cannot_hold(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	struct iovec iov[2];
	struct err err = ERR_INIT;
	size_t count = 2;
	int rc;

	(void)state;
	bench_init(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	while ((rc = stream_view_map(&v, 0, 2001, iov, &count, &err)) == -EAGAIN)
		assert_int_equal(bring(&v, &err), 0);
	assert_int_equal(rc, -E2BIG);
	assert_int_equal(stream_view_map(&v, SIZE - 1, 2, iov, &count, &err), -EBADMSG);
	assert_int_equal(stream_view_map(&v, SIZE + 1, 0, iov, &count, &err), -EBADMSG);
	assert_int_equal(stream_view_map(&v, SIZE, 0, iov, &count, &err), 0);
	assert_int_equal(count, 0);
}

static void a_view_gets_the_errors_message(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	struct repo_memory_fault fault = { any_chunk, REPO_MEMORY_FAIL, EIO, 0, 1 };
	struct err err = ERR_INIT;
	uint8_t byte;

	(void)state;
	bench_init(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	repo_memory_add_fault(b.repo, &fault);
	assert_int_equal(read_at_exact(&v.base, &byte, 1, 0, &err), -EAGAIN);
	assert_int_equal(bring(&v, &err), -EIO);
	assert_non_null(strstr(err.text, "root.pxar.didx: chunk 0 at offset 0"));
	assert_non_null(strstr(err.text, "scripted failure"));
	assert_int_equal(read_at_exact(&v.base, &byte, 1, 0, &err), -EAGAIN);
	assert_int_equal(bring(&v, &err), 0);
	assert_int_equal(read_at_exact(&v.base, &byte, 1, 0, &err), 0);
}

static void an_aborted_session_ends_those_who_wait(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(stream_view) struct stream_view v;
	struct repo_memory_gate *gate;
	struct answer a;
	uint8_t byte;

	(void)state;
	bench_init(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	gate = repo_memory_gate(b.repo, &any_chunk);
	assert_int_equal(read_at_exact(&v.base, &byte, 1, 0, NULL), -EAGAIN);
	answer_init(&a);
	stream_view_wait(&v, &a.wait);
	repo_memory_gate_await(gate, 1);
	repo_reader_abort(b.reader);
	answer_await(&a);
	assert_int_equal(a.rc, -ECANCELED);
}

static void a_view_can_be_taken_back_while_it_waits(void **state)
{
	AUTO(bench) struct bench b;
	struct stream_view v;
	struct repo_memory_gate *gate;
	struct answer a;
	uint8_t byte;

	(void)state;
	bench_init(&b, 1 << 20);
	stream_view_init(&v, b.stream);
	gate = repo_memory_gate(b.repo, &any_chunk);
	assert_int_equal(read_at_exact(&v.base, &byte, 1, 0, NULL), -EAGAIN);
	answer_init(&a);
	stream_view_wait(&v, &a.wait);
	repo_memory_gate_await(gate, 1);
	assert_true(fetch_cancel(b.fetch, &a.wait));
	stream_view_release(&v);
	repo_memory_gate_open(gate);
	expect_healthy(&b, 0);
	assert_int_equal(answer_count(&a), 0);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 1);
}

/* --- many at once --- */

struct reader {
	struct bench *bench;
	unsigned seed;
	bool blocking;
	unsigned wrong;
};

static int read_by_view(struct stream *s, uint8_t *buf, size_t size, uint64_t offset)
{
	AUTO(stream_view) struct stream_view v;
	struct err err = ERR_INIT;
	int rc;

	stream_view_init(&v, s);
	while ((rc = read_at_exact(&v.base, buf, size, offset, &err)) == -EAGAIN) {
		rc = bring(&v, &err);
		if (rc < 0)
			break;
	}
	return rc;
}

static void *reader_main(void *arg)
{
	struct reader *r = arg;
	struct stream *s = r->bench->stream;
	uint8_t buf[3000];

	for (unsigned i = 0; i < 300; i++) {
		uint64_t offset = (i * 7919ull + r->seed * 104729ull) % (SIZE - sizeof(buf));
		size_t size = 1 + i * 37 % sizeof(buf);
		int rc = r->blocking ? read_at_exact(stream_read_at(s), buf, size, offset, NULL) :
				       read_by_view(s, buf, size, offset);

		if (rc < 0 ? rc != -EIO : !is_right(buf, size, offset))
			r->wrong++;
	}
	return NULL;
}

static void many_readers_never_see_a_wrong_byte(void **state)
{
	AUTO(bench) struct bench b;
	struct reader readers[8];
	pthread_t threads[8];

	(void)state;
	bench_init(&b, 20 * CHUNK);
	for (size_t i = 0; i < 40; i++) {
		struct repo_memory_fault fault = { any_chunk, REPO_MEMORY_FAIL, EIO, 10 * i, 1 };

		repo_memory_add_fault(b.repo, &fault);
	}
	for (unsigned i = 0; i < 8; i++) {
		readers[i] = (struct reader){ .bench = &b, .seed = i, .blocking = i % 2 };
		pthread_create(&threads[i], NULL, reader_main, &readers[i]);
	}
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(readers[i].wrong, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_at_any_place),
		cmocka_unit_test(fetches_only_what_is_read),
		cmocka_unit_test(two_streams_share_chunks_by_digest),
		cmocka_unit_test(a_hint_brings_chunks_without_asking),
		cmocka_unit_test(who_reads_in_order_is_read_ahead_of),
		cmocka_unit_test(without_read_ahead_nobody_is_read_ahead_of),
		cmocka_unit_test(a_cache_of_no_whole_chunk_gets_no_read_ahead),
		cmocka_unit_test(names_archive_place_and_digest_of_a_damaged_chunk),
		cmocka_unit_test(damage_elsewhere_does_not_matter),
		cmocka_unit_test(refuses_a_chunk_cut_at_every_byte),
		cmocka_unit_test(refuses_a_chunk_of_the_wrong_size),
		cmocka_unit_test(refuses_a_chunk_with_the_wrong_digest),
		cmocka_unit_test(refuses_an_encrypted_chunk_under_a_plain_index),
		cmocka_unit_test(a_missing_chunk_is_no_missing_file),
		cmocka_unit_test(works_again_when_the_store_is_back),
		cmocka_unit_test(refuses_a_second_size_of_a_chunk_in_memory),
		cmocka_unit_test(a_view_never_waits),
		cmocka_unit_test(a_view_brings_the_rest_of_a_read_at_once),
		cmocka_unit_test(a_restarted_request_always_gets_further),
		cmocka_unit_test(a_view_keeps_chunks_that_came_in_any_order),
		cmocka_unit_test(very_many_chunks_are_read_in_seconds_but_not_any_number),
		cmocka_unit_test(a_view_holds_no_more_than_so_many_bytes),
		cmocka_unit_test(a_view_maps_without_copying),
		cmocka_unit_test(a_map_refuses_what_it_cannot_hold),
		cmocka_unit_test(a_view_gets_the_errors_message),
		cmocka_unit_test(an_aborted_session_ends_those_who_wait),
		cmocka_unit_test(a_view_can_be_taken_back_while_it_waits),
		cmocka_unit_test(a_digest_does_not_meet_other_names_in_the_cache),
		cmocka_unit_test(many_readers_never_see_a_wrong_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
