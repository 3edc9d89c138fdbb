/* SPDX-License-Identifier: Apache-2.0 */
/* Encrypted blobs: the format's examples, and all that the official client encrypted. */
#include "archive/base/hex.h"
#include "archive/blob.h"
#include "archive/keyfile.h"
#include "tests/support/counting_key.h"
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { PLAIN_SIZE_MAX = 17 << 20 };

static void fill_iv(uint8_t iv[CRYPT_IV_SIZE])
{
	for (unsigned i = 0; i < CRYPT_IV_SIZE; i++)
		iv[i] = (uint8_t)(0xa0 + i);
}

static struct crypt_key *golden_key(const char *path, const char *passphrase)
{
	struct golden file = golden_read(path);
	struct crypt_key *key = NULL;
	struct keyfile k;

	assert_int_equal(keyfile_decode(file.data, file.size, &k, NULL), 0);
	assert_int_equal(keyfile_open(&k, passphrase, strlen(passphrase), &key, NULL), 0);
	golden_free(&file);
	return key;
}

static void encodes_the_format_s_examples(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf out = WBUF_INIT(PLAIN_SIZE_MAX);
	uint8_t iv[CRYPT_IV_SIZE], plain[1000];
	char many[1000], hex[2 * 64 + 1], digest_hex[DIGEST_HEX_SIZE];
	struct digest digest;

	(void)state;
	fill_iv(iv);
	memset(many, 'a', sizeof(many));
	blob_codec_set_key(codec, key);
	assert_int_equal(blob_encode_iv(codec, "hello world\n", 12, true, iv, &out, NULL), 0);
	hex_encode(out.data, out.size, hex);
	assert_string_equal(hex, "7b6785be222d4cf0e1ca9204a0a1a2a3a4a5a6a7a8a9aaabacadaeafa9d9a977"
				 "a4acd6f19ac6494e9fd8f95142c64fd077edba19b1f27bbb");
	wbuf_clear(&out);
	assert_int_equal(blob_encode_iv(codec, many, sizeof(many), true, iv, &out, NULL), 0);
	hex_encode(out.data, out.size, hex);
	assert_string_equal(hex, "e6591bbf0bbfd80b7c5114a9a0a1a2a3a4a5a6a7a8a9aaabacadaeaf4fa65d51"
				 "8faf2186af0b8d786e67e12f02160c417825cf3bc39e0fd08c158d73a9c546");
	crypt_digest(ctx, key, many, sizeof(many), &digest);
	digest_to_hex(&digest, digest_hex);
	assert_string_equal(digest_hex, "6e49a018cd6c9667b8e73f44e3b4061454b6904f0b56832c29549ee"
					"634289468");
	assert_int_equal(blob_decode_chunk(codec, out.data, out.size, &digest, plain, 1000, NULL), 0);
	assert_memory_equal(plain, many, 1000);
}

static void draws_a_new_iv_each_time(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf a = WBUF_INIT(PLAIN_SIZE_MAX);
	AUTO(wbuf) struct wbuf b = WBUF_INIT(PLAIN_SIZE_MAX);

	(void)state;
	blob_codec_set_key(codec, key);
	assert_int_equal(blob_encode(codec, "same", 4, true, &a, NULL), 0);
	assert_int_equal(blob_encode(codec, "same", 4, true, &b, NULL), 0);
	assert_int_equal(a.size, b.size);
	assert_memory_not_equal(a.data + BLOB_HEADER_SIZE, b.data + BLOB_HEADER_SIZE, CRYPT_IV_SIZE);
	assert_memory_not_equal(a.data + BLOB_ENCRYPTED_HEADER_SIZE,
				b.data + BLOB_ENCRYPTED_HEADER_SIZE, 4);
}

static void keeps_plain_blobs_readable_with_a_key(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf out = WBUF_INIT(PLAIN_SIZE_MAX);
	struct digest digest;
	uint8_t plain[5];

	(void)state;
	assert_int_equal(blob_encode(codec, "plain", 5, true, &out, NULL), 0);
	digest_ctx_of(ctx, "plain", 5, &digest);
	blob_codec_set_key(codec, key);
	assert_int_equal(blob_decode_chunk(codec, out.data, out.size, &digest, plain, 5, NULL), 0);
}

static void decrypts_a_chunk_where_it_lies(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf out = WBUF_INIT(PLAIN_SIZE_MAX);
	struct err err = ERR_INIT;
	struct digest digest;
	uint8_t *body;

	(void)state;
	blob_codec_set_key(codec, key);
	assert_int_equal(blob_encode(codec, "incompressible", 14, false, &out, NULL), 0);
	crypt_digest(ctx, key, "incompressible", 14, &digest);
	body = out.data + BLOB_ENCRYPTED_HEADER_SIZE;
	assert_int_equal(blob_decode_chunk(codec, out.data, out.size, &digest, body, 14, NULL), 0);
	assert_memory_equal(body, "incompressible", 14);

	wbuf_clear(&out);
	assert_int_equal(blob_encode(codec, "incompressible", 14, false, &out, NULL), 0);
	body = out.data + BLOB_ENCRYPTED_HEADER_SIZE;
	assert_int_equal(blob_decode_chunk(codec, out.data, out.size, &digest, body, 13, &err),
			 -EBADMSG);
	assert_non_null(strstr(err.text, "more than the expected 13"));
	out.data[BLOB_HEADER_SIZE] ^= 1; /* the IV is not under the CRC: the tag tells */
	assert_int_equal(blob_decode_chunk(codec, out.data, out.size, &digest, body, 14, &err),
			 -EBADMSG);
	assert_non_null(strstr(err.text, "tag"));
}

static void refuses_any_flipped_bit_and_another_key(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(crypt_key) struct crypt_key *other = golden_key("tests/golden/keys/none.json", "");
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf out = WBUF_INIT(PLAIN_SIZE_MAX);
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(PLAIN_SIZE_MAX);
	struct err err = ERR_INIT;

	(void)state;
	blob_codec_set_key(codec, key);
	assert_int_equal(blob_encode(codec, "a secret, a secret, a secret, a secret", 38, true, &out,
				     NULL), 0);
	for (size_t bit = 0; bit < 8 * out.size; bit++) {
		int rc;

		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		wbuf_clear(&plain);
		rc = blob_decode(codec, out.data, out.size, 100, &plain, &err);
		assert_int_equal(rc, -EBADMSG);
		assert_int_equal(plain.size, 0);
		out.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t cut = 0; cut < out.size; cut++)
		assert_int_equal(blob_decode(codec, out.data, cut, 100, &plain, &err), -EBADMSG);
	blob_codec_set_key(codec, other);
	assert_int_equal(blob_decode(codec, out.data, out.size, 100, &plain, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "tag"));
	blob_codec_set_key(codec, NULL);
	assert_int_equal(blob_decode(codec, out.data, out.size, 100, &plain, &err), -ENOKEY);
}

/* Decode with whichever key opens it, and seal it again with the same IV. */
static bool rebuild(struct blob_codec *codec, const struct crypt_key *key,
		    const struct golden_member *m)
{
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(PLAIN_SIZE_MAX);
	AUTO(wbuf) struct wbuf again = WBUF_INIT(PLAIN_SIZE_MAX);
	struct digest digest;

	blob_codec_set_key(codec, key);
	if (blob_decode(codec, m->data, m->size, PLAIN_SIZE_MAX, &plain, NULL) < 0)
		return false;
	if (strstr(m->name, "/.chunks/")) {
		assert_int_equal(digest_from_hex(&digest, strrchr(m->name, '/') + 1), 0);
		assert_int_equal(blob_decode_chunk(codec, m->data, m->size, &digest, plain.data,
						   plain.size, NULL), 0);
	}
	assert_int_equal(blob_encode_iv(codec, plain.data, plain.size, true,
					m->data + BLOB_HEADER_SIZE, &again, NULL), 0);
	/* another libzstd may compress a large chunk in another way (test_blob.c) */
	if (plain.size < 1 << 20) {
		assert_int_equal(again.size, m->size);
		assert_memory_equal(again.data, m->data, m->size);
	}
	return true;
}

struct opened {
	struct blob_codec *codec;
	const struct crypt_key *none, *scrypt;
	unsigned with_none, with_scrypt;
};

static bool rebuild_encrypted(void *arg, const struct golden *tar, const struct golden_member *m)
{
	struct opened *o = arg;
	enum blob_kind kind;

	(void)tar;
	if (!strstr(m->name, "/.chunks/") && !golden_ends_with(m->name, ".blob"))
		return false;
	assert_int_equal(blob_kind(m->data, m->size, &kind, NULL), 0);
	if (!blob_kind_is_encrypted(kind))
		return false;
	if (rebuild(o->codec, o->none, m))
		o->with_none++;
	else if (rebuild(o->codec, o->scrypt, m))
		o->with_scrypt++;
	else
		fail_msg("%s: no key opens it", m->name);
	return true;
}

static void rebuilds_all_that_the_official_client_encrypted(void **state)
{
	AUTO(crypt_key) struct crypt_key *none = golden_key("tests/golden/keys/none.json", "");
	AUTO(crypt_key) struct crypt_key *scrypt = golden_key("tests/golden/keys/scrypt.json",
							      "vector-pass");
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	struct opened o = { .codec = codec, .none = none, .scrypt = scrypt };

	(void)state;
	golden_each(rebuild_encrypted, &o);
	assert_true(o.with_none > 10);
	assert_true(o.with_scrypt > 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes_the_format_s_examples),
		cmocka_unit_test(draws_a_new_iv_each_time),
		cmocka_unit_test(keeps_plain_blobs_readable_with_a_key),
		cmocka_unit_test(decrypts_a_chunk_where_it_lies),
		cmocka_unit_test(refuses_any_flipped_bit_and_another_key),
		cmocka_unit_test(rebuilds_all_that_the_official_client_encrypted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
