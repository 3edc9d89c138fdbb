/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/keyfile.h"
#include "tests/support/counting_key.h"
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define CREATED "2026-11-22T16:55:39+00:00"

static struct keyfile_random counting_random(void)
{
	struct keyfile_random r;

	for (unsigned i = 0; i < sizeof(r.salt); i++)
		r.salt[i] = (uint8_t)i;
	for (unsigned i = 0; i < sizeof(r.iv); i++)
		r.iv[i] = (uint8_t)(0xa0 + i);
	return r;
}

static void golden_opens_and_is_written_again(const char *name, const char *passphrase)
{
	AUTO(wbuf) struct wbuf again = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(crypt_key) struct crypt_key *key = NULL;
	struct golden text = golden_read(name);
	struct err err = ERR_INIT;
	struct keyfile k;

	assert_int_equal(keyfile_decode(text.data, text.size, &k, &err), 0);
	assert_int_equal(keyfile_open(&k, passphrase, strlen(passphrase), &key, &err), 0);
	assert_true(digest_equal(&k.fingerprint, crypt_key_fingerprint(key)));
	assert_int_equal(keyfile_encode(&k, false, &again, &err), 0);
	assert_int_equal(again.size, text.size);
	assert_memory_equal(again.data, text.data, text.size);
	golden_free(&text);
	if (k.kdf == KEYFILE_KDF_NONE)
		return;
	crypt_key_free(steal(&key));
	assert_int_equal(keyfile_open(&k, "wrong-pass", 10, &key, &err), -EKEYREJECTED);
	assert_int_equal(keyfile_open(&k, "four", 4, &key, &err), -EINVAL);
}

static void opens_key_files_of_the_official_tool(void **state)
{
	(void)state;
	golden_opens_and_is_written_again("tests/golden/keys/none.json", "");
	golden_opens_and_is_written_again("tests/golden/keys/scrypt.json", "vector-pass");
	golden_opens_and_is_written_again("tests/golden/keys/pbkdf2.json", "vector-pass");
}

static void seals_the_format_s_example(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(crypt_key) struct crypt_key *opened = NULL;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	struct keyfile_random r = counting_random();
	struct err err = ERR_INIT;
	struct keyfile k, decoded;

	(void)state;
	assert_int_equal(keyfile_seal(&k, key, KEYFILE_KDF_SCRYPT, "secret", 6, &r, CREATED,
				      CREATED, "first pet", &err), 0);
	assert_int_equal(keyfile_encode(&k, false, &text, &err), 0);
	assert_int_equal(wbuf_put_u8(&text, 0), 0);
	assert_non_null(strstr((char *)text.data, "\"data\":\"oKGio6SlpqeoqaqrrK2ur59D9YMcHBmitvFrX"
						  "qM5vqQgiX+ukpx+9XnL02xLpI4T4oLB5u84bKgr1YiR"
						  "dnqsQg==\""));
	assert_int_equal(keyfile_decode(text.data, text.size - 1, &decoded, &err), 0);
	assert_string_equal(decoded.hint, "first pet");
	assert_int_equal(keyfile_open(&decoded, "secret", 6, &opened, &err), 0);
	assert_memory_equal(crypt_key_bytes(opened), crypt_key_bytes(key), CRYPT_KEY_SIZE);
	crypt_key_free(steal(&opened));
	assert_int_equal(keyfile_open(&decoded, "secreT", 6, &opened, &err), -EKEYREJECTED);
	assert_non_null(strstr(err.text, "first pet"));
}

static void plain_key_file_has_the_known_length(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	struct keyfile k;

	(void)state;
	assert_int_equal(keyfile_seal(&k, key, KEYFILE_KDF_NONE, NULL, 0, NULL, CREATED, CREATED,
				      NULL, NULL), 0);
	assert_int_equal(keyfile_encode(&k, false, &text, NULL), 0);
	assert_int_equal(text.size, 255);
}

static void refuses_bad_hints_and_short_passphrases(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	struct keyfile_random r = counting_random();
	char longer[66];
	struct keyfile k;

	(void)state;
	memset(longer, 'x', 65);
	longer[65] = '\0';
#define SEAL(kdf, phrase, hint) \
	keyfile_seal(&k, key, kdf, phrase, strlen(phrase), &r, CREATED, CREATED, hint, NULL)
	assert_int_equal(SEAL(KEYFILE_KDF_NONE, "", "hint"), -EINVAL);
	assert_int_equal(SEAL(KEYFILE_KDF_PBKDF2, "secret", longer), -EINVAL);
	assert_int_equal(SEAL(KEYFILE_KDF_PBKDF2, "secret", ""), -EINVAL);
	assert_int_equal(SEAL(KEYFILE_KDF_PBKDF2, "secret", "a\nb"), -EINVAL);
	assert_int_equal(SEAL(KEYFILE_KDF_PBKDF2, "secret", "not \xff UTF-8"), -EINVAL);
	assert_int_equal(SEAL(KEYFILE_KDF_PBKDF2, "four", NULL), -EINVAL);
	assert_int_equal(SEAL(KEYFILE_KDF_PBKDF2, "fives", longer + 1), 0);
}

static void refuses_what_is_no_key_file(void **state)
{
	static const char *const rows[] = {
		"", "null", "[]", "{}", "{\"kdf\":null}", "{\"data\":\"AAAA\"}",
		"{\"data\":1}", "{\"data\":\"!!!!\"}",
		"{\"kdf\":{\"Scrypt\":{}},\"data\":\"AAAA\"}",
		"{\"kdf\":{\"Nothing\":{}},\"data\":\"AAAA\"}",
		"{\"kdf\":{\"Scrypt\":{\"n\":3,\"r\":8,\"p\":1,\"salt\":\"AAAA\"}},\"data\":\"\"}",
		"{\"kdf\":{\"Scrypt\":{\"n\":1073741824,\"r\":1048576,\"p\":1,\"salt\":\"AAAA\"}},"
		"\"data\":\"\"}",
		"{\"kdf\":{\"PBKDF2\":{\"iter\":-1,\"salt\":\"AAAA\"}},\"data\":\"\"}",
		"{\"kdf\":{\"PBKDF2\":{\"iter\":1,\"salt\":\"\"}},\"data\":\"\"}",
		"{\"data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"hint\":\"a\\nb\"}",
		"{\"data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"fingerprint\":\"00\"}",
		/* as long as 32 bytes, but for blanks that decoders pass over */
		"{\"data\":\"    AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"}",
		"{\"data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA    =\"}",
		"{\"data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\\n\\n\\n\\n\"}",
		/* right up to a NUL */
		"{\"data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\\u0000A\"}",
		"{\"data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"hint\":\"a\\u0000b\"}",
		"{\"kdf\":{\"PBKDF2\":{\"iter\":1,\"salt\":\"AAAA\\u0000\"}},"
		"\"data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\"}",
	};
	struct keyfile k;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_INIT;

		assert_int_equal(keyfile_decode(rows[i], strlen(rows[i]), &k, &err), -EBADMSG);
		assert_true(err.text[0]);
	}
}

static void accepts_base64_without_padding(void **state)
{
	const char *text = "{\"data\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"more\":[]}";
	struct keyfile k;

	(void)state;
	assert_int_equal(keyfile_decode(text, strlen(text), &k, NULL), 0);
	assert_int_equal(k.kdf, KEYFILE_KDF_NONE);
	assert_false(k.has_fingerprint);
}

static void refuses_a_wrong_fingerprint(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	struct keyfile k;

	(void)state;
	assert_int_equal(keyfile_seal(&k, key, KEYFILE_KDF_NONE, NULL, 0, NULL, CREATED, CREATED,
				      NULL, NULL), 0);
	k.fingerprint.bytes[3] ^= 1;
	crypt_key_free(steal(&key));
	assert_int_equal(keyfile_open(&k, NULL, 0, &key, NULL), -EKEYREJECTED);
	assert_null(key);
}

static void refuses_a_key_file_cut_anywhere(void **state)
{
	struct golden text = golden_read("tests/golden/keys/scrypt.json");
	struct keyfile k;

	(void)state;
	for (size_t n = 0; n < text.size; n++)
		assert_int_equal(keyfile_decode(text.data, n, &k, NULL), -EBADMSG);
	golden_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opens_key_files_of_the_official_tool),
		cmocka_unit_test(seals_the_format_s_example),
		cmocka_unit_test(plain_key_file_has_the_known_length),
		cmocka_unit_test(refuses_bad_hints_and_short_passphrases),
		cmocka_unit_test(refuses_what_is_no_key_file),
		cmocka_unit_test(accepts_base64_without_padding),
		cmocka_unit_test(refuses_a_wrong_fingerprint),
		cmocka_unit_test(refuses_a_key_file_cut_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
