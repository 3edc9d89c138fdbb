/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/fidx.h"

#include "archive/base/le.h"
#include "archive/blob.h"
#include "archive/chunker.h"
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static const uint8_t uuid[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static void make_index(struct fidx_writer *w, uint64_t image_size, uint64_t chunk_size)
{
	struct digest d = { .bytes = { 0 } }, csum;

	assert_int_equal(fidx_writer_init(w, uuid, 1800000000, image_size, chunk_size, NULL), 0);
	for (size_t i = 0; i < w->count_expected; i++) {
		d.bytes[0] = (uint8_t)i;
		assert_int_equal(fidx_writer_add(w, &d, NULL), 0);
	}
	assert_int_equal(fidx_writer_finish(w, &csum, NULL), 0);
}

static void reads_back_what_was_written(void **state)
{
	static const uint64_t sizes[] = { 1, 4095, 4096, 4097, 8192, 8193, 100000 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		AUTO(fidx_writer) struct fidx_writer w;
		uint64_t at = 0;
		struct fidx ix;

		make_index(&w, sizes[i], 4096);
		assert_int_equal(fidx_open(&ix, w.bytes.data, w.bytes.size, NULL), 0);
		assert_int_equal(ix.size, sizes[i]);
		assert_int_equal(ix.chunk_size, 4096);
		assert_int_equal(ix.count, (sizes[i] + 4095) / 4096);
		assert_int_equal(ix.ctime, 1800000000);
		assert_memory_equal(ix.uuid, uuid, sizeof(uuid));
		assert_memory_equal(ix.csum.bytes, w.bytes.data + 32, DIGEST_SIZE);
		for (size_t chunk = 0; chunk < ix.count; chunk++) {
			uint64_t begin, end;
			struct digest d;

			fidx_chunk(&ix, chunk, &begin, &end, &d);
			assert_int_equal(begin, at);
			assert_true(end - begin == 4096 || chunk == ix.count - 1);
			assert_int_equal(d.bytes[0], chunk);
			at = end;
		}
		assert_int_equal(at, sizes[i]);
	}
}

static void finds_the_chunk_of_a_byte(void **state)
{
	AUTO(fidx_writer) struct fidx_writer w;
	struct fidx ix;
	size_t chunk;

	(void)state;
	make_index(&w, 9000, 4096);
	assert_int_equal(fidx_open(&ix, w.bytes.data, w.bytes.size, NULL), 0);
	assert_int_equal(fidx_find(&ix, 0, &chunk), 0);
	assert_int_equal(chunk, 0);
	assert_int_equal(fidx_find(&ix, 4096, &chunk), 0);
	assert_int_equal(chunk, 1);
	assert_int_equal(fidx_find(&ix, 8999, &chunk), 0);
	assert_int_equal(chunk, 2);
	assert_int_equal(fidx_find(&ix, 9000, &chunk), -ERANGE);
	assert_int_equal(fidx_find(&ix, UINT64_MAX, &chunk), -ERANGE);
}

static void refuses_sizes_that_do_not_fit(void **state)
{
	static const struct {
		uint64_t size, chunk_size;
	} bad[] = {
		{ 0, 4096 }, { 8192, 4096 }, { 12289, 4096 }, { UINT64_MAX, 4096 }, { 9000, 0 },
		{ 9000, 4095 }, { 9000, 8192 }, { 9000, UINT64_MAX },
		{ 9000, (uint64_t)CHUNK_SIZE_MAX * 2 }, { UINT64_MAX, (uint64_t)1 << 63 },
	};
	AUTO(fidx_writer) struct fidx_writer w;
	struct fidx ix;

	(void)state;
	make_index(&w, 9000, 4096);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = ERR_INIT;

		le64_put(w.bytes.data + 64, bad[i].size);
		le64_put(w.bytes.data + 72, bad[i].chunk_size);
		assert_int_equal(fidx_open(&ix, w.bytes.data, w.bytes.size, &err), -EBADMSG);
		assert_true(err.text[0] != '\0');
	}
	le64_put(w.bytes.data + 64, 12288);
	le64_put(w.bytes.data + 72, 4096);
	assert_int_equal(fidx_open(&ix, w.bytes.data, w.bytes.size, NULL), 0);
	w.bytes.data[3] ^= 1;
	assert_int_equal(fidx_open(&ix, w.bytes.data, w.bytes.size, NULL), -EBADMSG);
}

static void refuses_to_write_what_cannot_be_read(void **state)
{
	AUTO(fidx_writer) struct fidx_writer w;
	struct digest d = { .bytes = { 0 } };

	(void)state;
	assert_int_equal(fidx_writer_init(&w, uuid, 1, 0, 4096, NULL), -EINVAL);
	assert_int_equal(fidx_writer_init(&w, uuid, 1, 9, 4095, NULL), -EINVAL);
	assert_int_equal(fidx_writer_init(&w, uuid, 1, 9, 0, NULL), -EINVAL);
	assert_int_equal(fidx_writer_init(&w, uuid, 1, UINT64_MAX, 4096, NULL), -E2BIG);
	assert_int_equal(fidx_writer_init(&w, uuid, 1, 4097, 4096, NULL), 0);
	assert_int_equal(fidx_writer_add(&w, &d, NULL), 0);
	assert_int_equal(fidx_writer_finish(&w, &d, NULL), -EINVAL);
	assert_int_equal(fidx_writer_add(&w, &d, NULL), 0);
	assert_int_equal(fidx_writer_add(&w, &d, NULL), -EINVAL);
	assert_int_equal(fidx_writer_finish(&w, &d, NULL), 0);
}

static void refuses_input_cut_at_every_byte(void **state)
{
	AUTO(fidx_writer) struct fidx_writer w;
	struct fidx ix;

	(void)state;
	make_index(&w, 9000, 4096);
	for (size_t cut = 0; cut < w.bytes.size; cut++) {
		AUTO(free) uint8_t *exact = malloc(cut + 1);

		memcpy(exact, w.bytes.data, cut);
		assert_int_equal(fidx_open(&ix, exact, cut, NULL), -EBADMSG);
	}
}

static void check_image(const struct golden *tar, const struct fidx *ix, const char *sha256)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(free) uint8_t *plain = malloc(CHUNK_SIZE_MAX);
	struct golden expected = golden_read(sha256);
	char hex[DIGEST_HEX_SIZE];
	struct digest found;

	digest_ctx_begin(ctx);
	for (size_t i = 0; i < ix->count; i++) {
		struct golden_member m;
		uint64_t begin, end;
		struct digest d;

		fidx_chunk(ix, i, &begin, &end, &d);
		digest_to_hex(&d, hex);
		m = golden_find(tar, hex);
		assert_int_equal(blob_decode_chunk(codec, m.data, m.size, &d, plain,
						   (size_t)(end - begin), NULL), 0);
		digest_ctx_update(ctx, plain, (size_t)(end - begin));
	}
	digest_ctx_end(ctx, &found);
	digest_to_hex(&found, hex);
	assert_memory_equal(expected.data, hex, 64);
	golden_free(&expected);
}

static void rewrite(const struct golden_member *m, const struct fidx *ix)
{
	AUTO(fidx_writer) struct fidx_writer w;
	struct digest csum;

	assert_memory_equal(ix->csum.bytes, m->data + 32, DIGEST_SIZE);
	assert_int_equal(fidx_writer_init(&w, ix->uuid, ix->ctime, ix->size, ix->chunk_size,
					  NULL), 0);
	for (size_t i = 0; i < ix->count; i++) {
		uint64_t begin, end;
		struct digest d;

		fidx_chunk(ix, i, &begin, &end, &d);
		assert_int_equal(fidx_writer_add(&w, &d, NULL), 0);
	}
	assert_int_equal(fidx_writer_finish(&w, &csum, NULL), 0);
	assert_int_equal(w.bytes.size, m->size);
	assert_memory_equal(w.bytes.data, m->data, m->size);
}

static void reads_and_rewrites_the_golden_images(void **state)
{
	struct golden tar = golden_read("tests/golden/datastore.tar");
	struct golden tar2 = golden_read("tests/golden/datastore2.tar");
	struct golden_member m = golden_find(&tar, "/disk.img.fidx");
	struct fidx ix;

	(void)state;
	assert_int_equal(fidx_open(&ix, m.data, m.size, NULL), 0);
	assert_int_equal(ix.chunk_size, FIDX_CHUNK_SIZE);
	rewrite(&m, &ix);
	check_image(&tar, &ix, "tests/golden/disk.img.sha256");
	m = golden_find(&tar2, "/d.img.fidx"); /* its chunks are encrypted */
	assert_int_equal(fidx_open(&ix, m.data, m.size, NULL), 0);
	rewrite(&m, &ix);
	golden_free(&tar);
	golden_free(&tar2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_back_what_was_written),
		cmocka_unit_test(finds_the_chunk_of_a_byte),
		cmocka_unit_test(refuses_sizes_that_do_not_fit),
		cmocka_unit_test(refuses_to_write_what_cannot_be_read),
		cmocka_unit_test(refuses_input_cut_at_every_byte),
		cmocka_unit_test(reads_and_rewrites_the_golden_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
