/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/blob.h"

#include "archive/base/crc32.h"
#include "archive/base/hex.h"
#include "archive/base/le.h"
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <zstd.h>

enum { SIZE_MAX_HERE = 17 << 20, LEVEL_1_WINDOW = 512 << 10 };

static struct blob_codec *codec;

static int set_up(void **state)
{
	(void)state;
	codec = blob_codec_new();
	return codec ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	blob_codec_free(codec);
	return 0;
}

/* A blob of the compressed kind around any body, with the right CRC. */
static void put_zstd_blob(struct wbuf *out, const void *body, size_t size)
{
	static const uint8_t magic[] = { 0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f };

	wbuf_put(out, magic, sizeof(magic));
	wbuf_put_u32(out, crc32_update(0, body, size));
	wbuf_put(out, body, size);
	assert_int_equal(out->failed, 0);
}

static void put_frame(struct wbuf *out, const void *data, size_t size, bool say_size)
{
	ZSTD_CCtx *ctx = ZSTD_createCCtx();
	uint8_t *to = wbuf_reserve(out, ZSTD_compressBound(size));
	size_t n;

	assert_non_null(ctx);
	assert_non_null(to);
	ZSTD_CCtx_setParameter(ctx, ZSTD_c_contentSizeFlag, say_size);
	n = ZSTD_compress2(ctx, to, ZSTD_compressBound(size), data, size);
	assert_false(ZSTD_isError(n));
	out->size += n;
	ZSTD_freeCCtx(ctx);
}

static int decode(const struct wbuf *blob, size_t plain_size_max, struct wbuf *plain,
		  struct err *err)
{
	return blob_decode(codec, blob->data, blob->size, plain_size_max, plain, err);
}

static void check_encoding(const char *data, size_t size, bool compress, const char *hex)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);
	uint8_t expected[128];

	assert_int_equal(hex_decode(hex, expected, strlen(hex) / 2), 0);
	assert_int_equal(blob_encode(codec, data, size, compress, &out, NULL), 0);
	assert_int_equal(out.size, strlen(hex) / 2);
	assert_memory_equal(out.data, expected, out.size);
	assert_int_equal(decode(&out, size, &plain, NULL), 0);
	assert_int_equal(plain.size, size);
	if (size > 0)
		assert_memory_equal(plain.data, data, size);
}

static void encodes_the_vectors(void **state)
{
	char many[1000];

	(void)state;
	memset(many, 'a', sizeof(many));
	check_encoding("hello world\n", 12, false,
		       "42ab3807be8370a12d3b08af68656c6c6f20776f726c640a");
	check_encoding("hello world\n", 12, true,
		       "42ab3807be8370a12d3b08af68656c6c6f20776f726c640a");
	check_encoding("", 0, true, "42ab3807be8370a100000000");
	check_encoding(many, sizeof(many), true,
		       "31b958426fb6a37fd3b9d7f328b52ffd60e8024d00001061610100e32b8005");
}

static void appends_to_what_the_buffer_holds(void **state)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);

	(void)state;
	wbuf_put_text(&out, "before");
	assert_int_equal(blob_encode(codec, "abc", 3, true, &out, NULL), 0);
	assert_int_equal(out.size, 6 + BLOB_HEADER_SIZE + 3);
	wbuf_put_text(&plain, "before");
	assert_int_equal(blob_decode(codec, out.data + 6, out.size - 6, 3, &plain, NULL), 0);
	assert_int_equal(plain.size, 9);
	assert_memory_equal(plain.data, "beforeabc", 9);
}

static void refuses_to_encode_over_the_limits(void **state)
{
	AUTO(wbuf) struct wbuf small = WBUF_INIT(14);
	AUTO(wbuf) struct wbuf out = WBUF_INIT(SIZE_MAX_HERE);
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(blob_encode(codec, "abc", 3, false, &small, &err), -E2BIG);
	assert_int_equal(blob_encode(codec, "", BLOB_DATA_SIZE_MAX + 1, false, &out, &err),
			 -E2BIG);
	assert_int_equal(out.size, 0);
}

static void decodes_several_frames_of_known_and_unknown_size(void **state)
{
	static const uint8_t skippable[] = { 0x5a, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'h', 'i' };
	char text[5000];

	(void)state;
	memset(text, 'x', sizeof(text));
	for (int known = 0; known < 4; known++) {
		AUTO(wbuf) struct wbuf body = WBUF_INIT(SIZE_MAX_HERE);
		AUTO(wbuf) struct wbuf blob = WBUF_INIT(SIZE_MAX_HERE);
		AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);

		put_frame(&body, text, sizeof(text), known & 1);
		wbuf_put(&body, skippable, sizeof(skippable));
		put_frame(&body, text, 100, known & 2);
		put_zstd_blob(&blob, body.data, body.size);
		assert_int_equal(decode(&blob, SIZE_MAX_HERE, &plain, NULL), 0);
		assert_int_equal(plain.size, sizeof(text) + 100);
		assert_memory_equal(plain.data, text, sizeof(text));
		wbuf_clear(&plain);
		assert_int_equal(decode(&blob, sizeof(text) + 100, &plain, NULL), 0);
		assert_int_equal(plain.size, sizeof(text) + 100);
	}
}

static void refuses_output_over_the_callers_maximum(void **state)
{
	size_t size = 16 << 20;
	void *zeros = calloc(1, size);

	(void)state;
	assert_non_null(zeros);
	for (int known = 0; known < 2; known++) {
		AUTO(wbuf) struct wbuf body = WBUF_INIT(SIZE_MAX_HERE);
		AUTO(wbuf) struct wbuf bomb = WBUF_INIT(SIZE_MAX_HERE);
		AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);
		struct err err = ERR_INIT;

		put_frame(&body, zeros, size, known);
		put_zstd_blob(&bomb, body.data, body.size);
		assert_true(bomb.size < 4096);
		assert_int_equal(decode(&bomb, size - 1, &plain, &err), -EBADMSG);
		assert_non_null(strstr(err.text, "holds more than the expected"));
		assert_int_equal(decode(&bomb, 1000, &plain, NULL), -EBADMSG);
		assert_int_equal(plain.size, 0);
		if (known)
			assert_null(plain.data);
		assert_int_equal(decode(&bomb, size, &plain, NULL), 0);
		assert_int_equal(plain.size, size);
	}
	free(zeros);
}

static void refuses_plain_data_over_the_callers_maximum(void **state)
{
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);

	(void)state;
	assert_int_equal(blob_encode(codec, "abc", 3, false, &blob, NULL), 0);
	assert_int_equal(decode(&blob, 2, &plain, NULL), -EBADMSG);
	assert_int_equal(decode(&blob, 3, &plain, NULL), 0);
}

/* A frame of 1000 times 'a' whose header says something else. */
static void refuses_a_wrong_content_size(void **state)
{
	uint8_t frame[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x60, 0xe8, 0x02, 0x4d, 0x00,
			    0x00, 0x10, 0x61, 0x61, 0x01, 0x00, 0xe3, 0x2b, 0x80, 0x05 };
	/* 8-byte content size field, no window: 2^40 bytes. */
	uint8_t huge[] = { 0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 1, 0, 0,
			   0x01, 0x00, 0x00 };
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);

	(void)state;
	for (int delta = -1; delta <= 1; delta += 2) {
		AUTO(wbuf) struct wbuf blob = WBUF_INIT(SIZE_MAX_HERE);

		frame[5] = (uint8_t)(0xe8 + delta);
		put_zstd_blob(&blob, frame, sizeof(frame));
		assert_int_equal(decode(&blob, 100000, &plain, NULL), -EBADMSG);
		assert_int_equal(plain.size, 0);
	}
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(SIZE_MAX_HERE);
	struct err err = ERR_INIT;

	put_zstd_blob(&blob, huge, sizeof(huge));
	assert_int_equal(decode(&blob, SIZE_MAX, &plain, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "impossible content size"));
}

static void refuses_compressed_kind_without_a_frame(void **state)
{
	/* zstd 0.7's magic: libzstd may have a decoder for it, which must not be reached. */
	static const uint8_t old[] = { 0x27, 0xb5, 0x2f, 0xfd, 0, 0, 0, 0 };
	AUTO(wbuf) struct wbuf empty = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf legacy = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf trailing = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf body = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);

	(void)state;
	put_zstd_blob(&empty, "", 0);
	assert_int_equal(decode(&empty, 100, &plain, NULL), -EBADMSG);
	put_zstd_blob(&legacy, old, sizeof(old));
	assert_int_equal(decode(&legacy, 100, &plain, NULL), -EBADMSG);
	put_frame(&body, "abc", 3, true);
	wbuf_put_u8(&body, 0);
	put_zstd_blob(&trailing, body.data, body.size);
	assert_int_equal(decode(&trailing, 100, &plain, NULL), -EBADMSG);
}

static void refuses_a_flipped_bit_anywhere(void **state)
{
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);
	char text[300];

	(void)state;
	memset(text, 'b', sizeof(text));
	assert_int_equal(blob_encode(codec, text, sizeof(text), true, &blob, NULL), 0);
	for (size_t bit = 0; bit < blob.size * 8; bit++) {
		blob.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_true(decode(&blob, 1000, &plain, NULL) < 0);
		assert_true(blob_verify_crc(blob.data, blob.size, NULL) < 0);
		blob.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(blob_verify_crc(blob.data, blob.size, NULL), 0);
	assert_int_equal(decode(&blob, 1000, &plain, NULL), 0);
}

/* With the CRC made right again, so that the cut reaches the zstd decoder. */
static void refuses_input_cut_at_every_byte(void **state)
{
	char text[300];

	(void)state;
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i % 7 + i / 50);
	for (int known = 0; known < 2; known++) {
		AUTO(wbuf) struct wbuf body = WBUF_INIT(SIZE_MAX_HERE);
		AUTO(wbuf) struct wbuf whole = WBUF_INIT(SIZE_MAX_HERE);

		put_frame(&body, text, sizeof(text), known);
		put_zstd_blob(&whole, body.data, body.size);
		for (size_t cut = 0; cut < whole.size; cut++) {
			AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);
			uint8_t *exact = malloc(cut + 1);

			memcpy(exact, whole.data, cut);
			assert_int_equal(blob_decode(codec, exact, cut, 1000, &plain, NULL),
					 -EBADMSG);
			if (cut >= BLOB_HEADER_SIZE)
				le32_put(exact + 8, crc32_update(0, exact + 12, cut - 12));
			assert_int_equal(blob_decode(codec, exact, cut, 1000, &plain, NULL),
					 -EBADMSG);
			assert_int_equal(plain.size, 0);
			free(exact);
		}
	}
}

static void recognises_every_kind(void **state)
{
	static const char *const hex[] = {
		"42ab3807be8370a12d3b08af68656c6c6f20776f726c640a",
		"31b958426fb6a37fd3b9d7f328b52ffd60e8024d00001061610100e32b8005",
		"7b6785be222d4cf0e1ca9204a0a1a2a3a4a5a6a7a8a9aaabacadaeafa9d9a977a4acd6f1"
		"9ac6494e9fd8f95142c64fd077edba19b1f27bbb",
		"e6591bbf0bbfd80b7c5114a9a0a1a2a3a4a5a6a7a8a9aaabacadaeaf4fa65d518faf2186"
		"af0b8d786e67e12f02160c417825cf3bc39e0fd08c158d73a9c546",
	};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);
		size_t size = strlen(hex[i]) / 2;
		uint8_t bytes[128];
		enum blob_kind kind;
		struct err err = ERR_INIT;
		int rc;

		assert_int_equal(hex_decode(hex[i], bytes, size), 0);
		assert_int_equal(blob_kind(bytes, size, &kind, NULL), 0);
		assert_int_equal(kind, i);
		assert_int_equal(blob_verify_crc(bytes, size, NULL), 0);
		rc = blob_decode(codec, bytes, size, 1000, &plain, &err);
		assert_int_equal(rc, i < 2 ? 0 : -ENOKEY);
		if (i >= 2)
			assert_non_null(strstr(err.text, "needs a key"));
		for (size_t cut = 0; cut < (i < 2 ? 12U : 44U); cut++)
			assert_int_equal(blob_kind(bytes, cut, &kind, NULL), -EBADMSG);
	}
}

static void proves_size_and_digest_of_a_chunk(void **state)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest digest, other;
	char text[500], plain[501];

	(void)state;
	memset(text, 'c', sizeof(text));
	digest_ctx_of(ctx, text, sizeof(text), &digest);
	digest_ctx_of(ctx, text, 1, &other);
	for (int compress = 0; compress < 2; compress++) {
		AUTO(wbuf) struct wbuf blob = WBUF_INIT(SIZE_MAX_HERE);
		uint8_t *to = (uint8_t *)plain;
		struct err err = ERR_INIT;

		assert_int_equal(blob_encode(codec, text, sizeof(text), compress, &blob, NULL),
				 0);
		assert_int_equal(blob_decode_chunk(codec, blob.data, blob.size, &digest, to, 500,
						   &err), 0);
		assert_memory_equal(plain, text, sizeof(text));
		assert_int_equal(blob_decode_chunk(codec, blob.data, blob.size, &digest, to, 499,
						   &err), -EBADMSG);
		assert_string_equal(err.text, "blob holds more than the expected 499 bytes");
		assert_int_equal(blob_decode_chunk(codec, blob.data, blob.size, &digest, to, 501,
						   &err), -EBADMSG);
		assert_string_equal(err.text, "chunk holds 500 bytes, not the expected 501");
		assert_int_equal(blob_decode_chunk(codec, blob.data, blob.size, &other, to, 500,
						   &err), -EBADMSG);
		assert_non_null(strstr(err.text, "wrong digest"));
	}
}

/* Decode a blob where it lies. */
static int decode_in_place(const struct wbuf *blob, const struct digest *digest, struct err *err)
{
	AUTO(free) uint8_t *copy = malloc(blob->size);

	assert_non_null(copy);
	memcpy(copy, blob->data, blob->size);
	int rc = blob_decode_chunk(codec, copy, blob->size, digest, copy + BLOB_HEADER_SIZE,
				   blob->size - BLOB_HEADER_SIZE, err);
	struct digest found;
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();

	digest_ctx_of(ctx, copy + BLOB_HEADER_SIZE, blob->size - BLOB_HEADER_SIZE, &found);
	assert_true(rc < 0 || digest_equal(&found, digest));
	return rc;
}

static void proves_a_chunk_where_it_lies(void **state)
{
	enum { SIZE = 200001 }; /* several slices and a part of one */
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(free) uint8_t *plain = malloc(SIZE);
	struct err err = ERR_INIT;
	struct digest digest;

	(void)state;
	for (size_t i = 0; i < SIZE; i++)
		plain[i] = (uint8_t)(i * i >> 7);
	digest_ctx_of(ctx, plain, SIZE, &digest);
	assert_int_equal(blob_encode(codec, plain, SIZE, false, &blob, NULL), 0);
	assert_int_equal(decode_in_place(&blob, &digest, &err), 0);
	for (size_t at = BLOB_HEADER_SIZE; at < blob.size; at += 9973) {
		blob.data[at] ^= 1;
		assert_int_equal(decode_in_place(&blob, &digest, &err), -EBADMSG);
		assert_non_null(strstr(err.text, "wrong CRC"));
		blob.data[at] ^= 1;
	}
	digest.bytes[31] ^= 1;
	assert_int_equal(decode_in_place(&blob, &digest, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "wrong digest"));
}

/* As many bytes compressed as not: what is compressed must not be overwritten as it is read. */
static void decompresses_a_chunk_where_it_lies(void **state)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf frame = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(SIZE_MAX_HERE);
	static const uint8_t skippable[] = { 0x50, 0x2a, 0x4d, 0x18 };
	enum { SIZE = 4000 };
	uint8_t plain[SIZE];
	struct digest digest;

	(void)state;
	memset(plain, 'z', sizeof(plain));
	digest_ctx_of(ctx, plain, SIZE, &digest);
	put_frame(&frame, plain, SIZE, true);
	assert_in_range(frame.size, 1, SIZE - 8);
	wbuf_put(&frame, skippable, sizeof(skippable)); /* filled up with what says nothing */
	wbuf_put_u32(&frame, (uint32_t)(SIZE - frame.size - 4));
	wbuf_put_zero(&frame, SIZE - frame.size);
	put_zstd_blob(&blob, frame.data, frame.size);
	assert_int_equal(blob.size, BLOB_HEADER_SIZE + SIZE);
	assert_int_equal(decode_in_place(&blob, &digest, NULL), 0);
}

/* What a blob of a golden datastore decodes to is encoded to the same bytes again, but for what is
 * larger than the window of zstd's level 1: there we look further back. */
static bool check_golden_blob(void *arg, const struct golden *tar, const struct golden_member *m)
{
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(SIZE_MAX_HERE);
	AUTO(wbuf) struct wbuf again = WBUF_INIT(SIZE_MAX_HERE);
	bool is_chunk = strstr(m->name, "/.chunks/");
	enum blob_kind kind;
	int rc;

	(void)arg;
	(void)tar;
	if (!is_chunk && !golden_ends_with(m->name, ".blob"))
		return false;
	assert_int_equal(blob_kind(m->data, m->size, &kind, NULL), 0);
	rc = blob_decode(codec, m->data, m->size, SIZE_MAX_HERE, &plain, NULL);
	if (kind == BLOB_ENCRYPTED || kind == BLOB_ENCRYPTED_ZSTD) {
		assert_int_equal(rc, -ENOKEY);
		return true;
	}
	assert_int_equal(rc, 0);
	rc = blob_encode(codec, plain.data, plain.size,
			 !golden_ends_with(m->name, "rsa-encrypted.key.blob"), &again, NULL);
	assert_int_equal(rc, 0);
	if (plain.size <= LEVEL_1_WINDOW) {
		assert_int_equal(again.size, m->size);
		assert_memory_equal(again.data, m->data, m->size);
	}
	if (is_chunk) {
		struct digest digest;

		assert_int_equal(digest_from_hex(&digest, strrchr(m->name, '/') + 1), 0);
		assert_int_equal(blob_decode_chunk(codec, m->data, m->size, &digest, plain.data,
						   plain.size, NULL), 0);
	}
	return true;
}

static void rebuilds_every_golden_blob(void **state)
{
	(void)state;
	assert_int_equal(golden_each(check_golden_blob, NULL), 220);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes_the_vectors),
		cmocka_unit_test(appends_to_what_the_buffer_holds),
		cmocka_unit_test(refuses_to_encode_over_the_limits),
		cmocka_unit_test(decodes_several_frames_of_known_and_unknown_size),
		cmocka_unit_test(refuses_output_over_the_callers_maximum),
		cmocka_unit_test(refuses_plain_data_over_the_callers_maximum),
		cmocka_unit_test(refuses_a_wrong_content_size),
		cmocka_unit_test(refuses_compressed_kind_without_a_frame),
		cmocka_unit_test(refuses_a_flipped_bit_anywhere),
		cmocka_unit_test(refuses_input_cut_at_every_byte),
		cmocka_unit_test(recognises_every_kind),
		cmocka_unit_test(proves_size_and_digest_of_a_chunk),
		cmocka_unit_test(proves_a_chunk_where_it_lies),
		cmocka_unit_test(decompresses_a_chunk_where_it_lies),
		cmocka_unit_test(rebuilds_every_golden_blob),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
