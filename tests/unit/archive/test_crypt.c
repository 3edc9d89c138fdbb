/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/hex.h"
#include "archive/crypt.h"
#include "tests/support/counting_key.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void assert_hex(const void *have, size_t size, const char *want)
{
	char text[256];

	hex_encode(have, size, text);
	assert_string_equal(text, want);
}

static void derives_what_the_format_says(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	char text[CRYPT_FINGERPRINT_TEXT_SIZE], brief[CRYPT_FINGERPRINT_SHORT_SIZE];
	struct digest d;

	(void)state;
	crypt_fingerprint_text(crypt_key_fingerprint(key), text);
	assert_string_equal(text, "0e:ab:d4:46:0b:6e:b9:ca:34:50:23:de:e2:b7:78:c7:90:e5:4a:16:83:"
				  "b9:65:9c:0a:57:ae:19:90:90:15:9b");
	crypt_fingerprint_short(crypt_key_fingerprint(key), brief);
	assert_string_equal(brief, "0e:ab:d4:46:0b:6e:b9:ca");
	crypt_digest(ctx, key, "", 0, &d);
	assert_hex(d.bytes, DIGEST_SIZE,
		   "d213f9b52d680fbe05942a8b5540377dd5f627132c2889e5389f690b683f1d7f");
	crypt_digest(ctx, key, "hello world\n", 12, &d);
	assert_hex(d.bytes, DIGEST_SIZE,
		   "b5228c8b6e258d7e8600315b7d767c3df431a68a19248f80b1c33c38c5d587a3");
	assert_int_equal(crypt_sign(key, "hello world\n", 12, &d), 0);
	assert_hex(d.bytes, DIGEST_SIZE,
		   "036b5c42e2ed7ff7274be6253420aa8f697fe07bb1bf9da6858ead8ece544094");
}

static void digest_without_a_key_is_plain_sha_256(void **state)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest a, b;

	(void)state;
	crypt_digest(ctx, NULL, "abc", 3, &a);
	digest_ctx_of(ctx, "abc", 3, &b);
	assert_true(digest_equal(&a, &b));
}

static void seals_as_the_format_says_and_opens_again(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(crypt_cipher) struct crypt_cipher *cipher = crypt_cipher_new();
	uint8_t iv[CRYPT_IV_SIZE], tag[CRYPT_TAG_SIZE], sealed[12], plain[12];

	(void)state;
	for (unsigned i = 0; i < sizeof(iv); i++)
		iv[i] = (uint8_t)(0xa0 + i);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(crypt_seal(cipher, key, iv, "hello world\n", 12, sealed, tag, NULL),
				 0);
		assert_hex(tag, sizeof(tag), "a9d9a977a4acd6f19ac6494e9fd8f951");
		assert_hex(sealed, sizeof(sealed), "42c64fd077edba19b1f27bbb");
		assert_int_equal(crypt_open(cipher, key, iv, tag, sealed, 12, plain, NULL), 0);
		assert_memory_equal(plain, "hello world\n", 12);
	}
}

static void refuses_any_flipped_bit(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(crypt_cipher) struct crypt_cipher *cipher = crypt_cipher_new();
	uint8_t all[CRYPT_IV_SIZE + CRYPT_TAG_SIZE + 5] = { 1 }, plain[5];
	uint8_t *tag = all + CRYPT_IV_SIZE, *sealed = tag + CRYPT_TAG_SIZE;

	(void)state;
	assert_int_equal(crypt_seal(cipher, key, all, "12345", 5, sealed, tag, NULL), 0);
	for (unsigned bit = 0; bit < 8 * sizeof(all); bit++) {
		all[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(crypt_open(cipher, key, all, tag, sealed, 5, plain, NULL), -EBADMSG);
		all[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(crypt_open(cipher, key, all, tag, sealed, 5, plain, NULL), 0);
}

static void seals_nothing(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(crypt_cipher) struct crypt_cipher *cipher = crypt_cipher_new();
	uint8_t iv[CRYPT_IV_SIZE] = { 0 }, tag[CRYPT_TAG_SIZE], byte;

	(void)state;
	assert_int_equal(crypt_seal(cipher, key, iv, &byte, 0, &byte, tag, NULL), 0);
	assert_int_equal(crypt_open(cipher, key, iv, tag, &byte, 0, &byte, NULL), 0);
	tag[0] ^= 1;
	assert_int_equal(crypt_open(cipher, key, iv, tag, &byte, 0, &byte, NULL), -EBADMSG);
}

static void fingerprints_are_parsed_with_and_without_colons(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	char text[CRYPT_FINGERPRINT_TEXT_SIZE], hex[DIGEST_HEX_SIZE];
	struct digest d;

	(void)state;
	crypt_fingerprint_text(crypt_key_fingerprint(key), text);
	assert_int_equal(crypt_fingerprint_parse(text, &d), 0);
	assert_true(digest_equal(&d, crypt_key_fingerprint(key)));
	digest_to_hex(&d, hex);
	assert_int_equal(crypt_fingerprint_parse(hex, &d), 0);
	hex[0] = 'g';
	assert_int_equal(crypt_fingerprint_parse(hex, &d), -EBADMSG);
	text[3] = '\0';
	assert_int_equal(crypt_fingerprint_parse(text, &d), -EBADMSG);
	assert_int_equal(crypt_fingerprint_parse("", &d), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(derives_what_the_format_says),
		cmocka_unit_test(digest_without_a_key_is_plain_sha_256),
		cmocka_unit_test(seals_as_the_format_says_and_opens_again),
		cmocka_unit_test(refuses_any_flipped_bit),
		cmocka_unit_test(seals_nothing),
		cmocka_unit_test(fingerprints_are_parsed_with_and_without_colons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
