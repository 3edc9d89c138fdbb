/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/chunker.h"
#include "archive/didx.h"
#include "archive/didx_writer.h"
#include "tests/support/golden.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const uint8_t uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static struct digest digest_of(const void *data, size_t size)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest d;

	assert_non_null(ctx);
	digest_ctx_of(ctx, data, size, &d);
	return d;
}

/* An index of `count` chunks of 1, 2, 3 ... bytes. */
static void make_index(struct didx_writer *w, size_t count)
{
	struct digest csum;

	assert_int_equal(didx_writer_init(w, uuid, 1800000000, NULL), 0);
	for (size_t i = 0; i < count; i++) {
		struct digest d = digest_of(&i, sizeof(i));

		assert_int_equal(didx_writer_add(w, i + 1, &d, NULL), 0);
	}
	assert_int_equal(didx_writer_finish(w, &csum, NULL), 0);
}

static void writes_the_vector(void **state)
{
	AUTO(didx_writer) struct didx_writer w;
	struct digest d = digest_of("hello world\n", 12), csum;
	char hex[DIGEST_HEX_SIZE];

	(void)state;
	assert_int_equal(didx_writer_init(&w, uuid, 1, NULL), 0);
	assert_int_equal(didx_writer_add(&w, 12, &d, NULL), 0);
	assert_int_equal(didx_writer_finish(&w, &csum, NULL), 0);
	digest_to_hex(&csum, hex);
	assert_string_equal(hex, "c61c574caecc22515d7f40aa737598e547f5db2e6d0635972d76093bc62c319c");
	assert_int_equal(w.bytes.size, DIDX_HEADER_SIZE + DIDX_ENTRY_SIZE);
	assert_memory_equal(w.bytes.data + 32, csum.bytes, DIGEST_SIZE);
}

static void reads_back_what_was_written(void **state)
{
	AUTO(didx_writer) struct didx_writer w;
	struct didx ix;
	uint64_t expected = 0;

	(void)state;
	make_index(&w, 100);
	assert_int_equal(didx_open(&ix, w.bytes.data, w.bytes.size, NULL), 0);
	assert_int_equal(ix.count, 100);
	assert_int_equal(ix.size, 5050);
	assert_int_equal(ix.ctime, 1800000000);
	assert_memory_equal(ix.uuid, uuid, sizeof(uuid));
	assert_memory_equal(ix.csum.bytes, w.bytes.data + 32, DIGEST_SIZE);
	for (size_t i = 0; i < 100; i++) {
		struct digest d, d_expected = digest_of(&i, sizeof(i));
		uint64_t begin, end;

		didx_chunk(&ix, i, &begin, &end, &d);
		assert_int_equal(begin, expected);
		expected += i + 1;
		assert_int_equal(end, expected);
		assert_true(digest_equal(&d, &d_expected));
	}
}

static void finds_the_chunk_of_every_byte(void **state)
{
	AUTO(didx_writer) struct didx_writer w;
	struct didx ix;
	size_t chunk;

	(void)state;
	for (size_t count = 1; count <= 20; count++) {
		make_index(&w, count);
		assert_int_equal(didx_open(&ix, w.bytes.data, w.bytes.size, NULL), 0);
		for (uint64_t at = 0; at < ix.size; at++) {
			struct digest d;
			uint64_t begin, end;

			assert_int_equal(didx_find(&ix, at, &chunk), 0);
			didx_chunk(&ix, chunk, &begin, &end, &d);
			assert_true(begin <= at && at < end);
		}
		didx_writer_release(&w);
	}
	make_index(&w, 1);
}

static void refuses_to_find_past_the_end(void **state)
{
	AUTO(didx_writer) struct didx_writer w;
	struct didx ix;
	size_t chunk;

	(void)state;
	make_index(&w, 3);
	assert_int_equal(didx_open(&ix, w.bytes.data, w.bytes.size, NULL), 0);
	assert_int_equal(didx_find(&ix, 5, &chunk), 0);
	assert_int_equal(didx_find(&ix, 6, &chunk), -ERANGE);
	assert_int_equal(didx_find(&ix, UINT64_MAX, &chunk), -ERANGE);
}

static void refuses_ends_that_do_not_rise(void **state)
{
	AUTO(didx_writer) struct didx_writer w;
	struct err err = ERR_INIT;
	struct didx ix;

	(void)state;
	make_index(&w, 3);
	/* ends 1 3 6: make the second 1, then 0, then larger than the third */
	for (int i = 0; i < 3; i++) {
		static const uint8_t bad[] = { 1, 0, 6 };

		w.bytes.data[DIDX_HEADER_SIZE + DIDX_ENTRY_SIZE] = bad[i];
		assert_int_equal(didx_open(&ix, w.bytes.data, w.bytes.size, &err), -EBADMSG);
		assert_non_null(strstr(err.text, i < 2 ? "chunk 1 ends at" : "chunk 2 ends at 6"));
	}
	w.bytes.data[DIDX_HEADER_SIZE + DIDX_ENTRY_SIZE] = 3;
	w.bytes.data[DIDX_HEADER_SIZE] = 0;
	assert_int_equal(didx_open(&ix, w.bytes.data, w.bytes.size, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "chunk 0"));
}

static void refuses_a_chunk_over_the_limit(void **state)
{
	AUTO(didx_writer) struct didx_writer w;
	struct digest d = digest_of("", 0), csum;
	struct err err = ERR_INIT;
	struct didx ix;

	(void)state;
	assert_int_equal(didx_writer_init(&w, uuid, 1, NULL), 0);
	assert_int_equal(didx_writer_add(&w, 0, &d, &err), -EINVAL);
	assert_int_equal(didx_writer_add(&w, CHUNK_SIZE_MAX + 1, &d, &err), -EINVAL);
	assert_int_equal(didx_writer_finish(&w, &csum, &err), -EINVAL);
	assert_int_equal(didx_writer_add(&w, CHUNK_SIZE_MAX, &d, NULL), 0);
	assert_int_equal(didx_writer_finish(&w, &csum, NULL), 0);
	assert_int_equal(didx_open(&ix, w.bytes.data, w.bytes.size, NULL), 0);
	w.bytes.data[DIDX_HEADER_SIZE]++;
	assert_int_equal(didx_open(&ix, w.bytes.data, w.bytes.size, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "16777217 bytes"));
}

static void refuses_another_magic(void **state)
{
	AUTO(didx_writer) struct didx_writer w;
	struct didx ix;

	(void)state;
	make_index(&w, 2);
	for (size_t i = 0; i < sizeof(DIDX_MAGIC); i++) {
		w.bytes.data[i] ^= 1;
		assert_int_equal(didx_open(&ix, w.bytes.data, w.bytes.size, NULL), -EBADMSG);
		w.bytes.data[i] ^= 1;
	}
}

/* Cut behind an entry it is a shorter index, whose checksum then differs. */
static void refuses_input_cut_at_every_byte(void **state)
{
	AUTO(didx_writer) struct didx_writer w;
	struct didx whole, ix;

	(void)state;
	make_index(&w, 3);
	assert_int_equal(didx_open(&whole, w.bytes.data, w.bytes.size, NULL), 0);
	for (size_t cut = 0; cut < w.bytes.size; cut++) {
		uint8_t *exact = malloc(cut + 1);
		int rc;

		memcpy(exact, w.bytes.data, cut);
		rc = didx_open(&ix, exact, cut, NULL);
		if (cut > DIDX_HEADER_SIZE && (cut - DIDX_HEADER_SIZE) % DIDX_ENTRY_SIZE == 0) {
			assert_int_equal(rc, 0);
			assert_false(digest_equal(&ix.csum, &whole.csum));
		} else {
			assert_int_equal(rc, -EBADMSG);
		}
		free(exact);
	}
}

static bool rewrite(void *arg, const struct golden *tar, const struct golden_member *m)
{
	AUTO(didx_writer) struct didx_writer w = { 0 };
	struct didx ix;
	struct digest csum;

	(void)arg;
	(void)tar;
	if (!golden_ends_with(m->name, ".didx"))
		return false;
	assert_int_equal(didx_open(&ix, m->data, m->size, NULL), 0);
	assert_memory_equal(ix.csum.bytes, m->data + 32, DIGEST_SIZE);
	assert_int_equal(didx_writer_init(&w, ix.uuid, ix.ctime, NULL), 0);
	for (size_t i = 0; i < ix.count; i++) {
		struct digest d;
		uint64_t begin, end;

		didx_chunk(&ix, i, &begin, &end, &d);
		assert_int_equal(didx_writer_add(&w, end - begin, &d, NULL), 0);
	}
	assert_int_equal(didx_writer_finish(&w, &csum, NULL), 0);
	assert_int_equal(w.bytes.size, m->size);
	assert_memory_equal(w.bytes.data, m->data, m->size);
	return true;
}

static void rewrites_every_golden_index(void **state)
{
	(void)state;
	assert_int_equal(golden_each(rewrite, NULL), 28);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_the_vector),
		cmocka_unit_test(reads_back_what_was_written),
		cmocka_unit_test(finds_the_chunk_of_every_byte),
		cmocka_unit_test(refuses_to_find_past_the_end),
		cmocka_unit_test(refuses_ends_that_do_not_rise),
		cmocka_unit_test(refuses_a_chunk_over_the_limit),
		cmocka_unit_test(refuses_another_magic),
		cmocka_unit_test(refuses_input_cut_at_every_byte),
		cmocka_unit_test(rewrites_every_golden_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
