/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/master_key.h"
#include "tests/support/counting_key.h"
#include "tests/support/golden.h"

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define CREATED "2026-11-22T16:55:39+00:00"

/* The golden private key is DER; PEM is the same in base64 between two lines. */
static void private_key(struct wbuf *pem)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct golden der = golden_read("tests/golden/keys/master.private.der");

	wbuf_put_text(pem, "-----BEGIN PRIVATE KEY-----");
	for (size_t i = 0, column = 0; i < der.size; i += 3, column += 4) {
		uint32_t v = 0;
		size_t n = der.size - i < 3 ? der.size - i : 3;

		for (size_t k = 0; k < 3; k++)
			v = v << 8 | (k < n ? der.data[i + k] : 0);
		if (column % 64 == 0)
			wbuf_put_u8(pem, '\n');
		for (size_t k = 0; k < 4; k++)
			wbuf_put_u8(pem, (uint8_t)(k <= n ? alphabet[v >> (18 - 6 * k) & 63] : '='));
	}
	assert_int_equal(wbuf_put_text(pem, "\n-----END PRIVATE KEY-----\n"), 0);
	golden_free(&der);
}

static void master_key_recovers_the_data_key(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(crypt_key) struct crypt_key *recovered = NULL;
	AUTO(wbuf) struct wbuf pem = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(wbuf) struct wbuf block = WBUF_INIT(KEYFILE_SIZE_MAX);
	struct golden public_pem = golden_read("tests/golden/keys/master.pub.pem");
	struct err err = ERR_INIT;
	struct keyfile k;

	(void)state;
	private_key(&pem);
	assert_int_equal(master_key_wrap(public_pem.data, public_pem.size, key, CREATED, CREATED,
					     &block, &err), 0);
	assert_int_equal(block.size, 512);
	assert_int_equal(master_key_unwrap(pem.data, pem.size, NULL, 0, block.data, block.size,
					       &k, &err), 0);
	assert_int_equal(keyfile_open(&k, NULL, 0, &recovered, &err), 0);
	assert_memory_equal(crypt_key_bytes(recovered), crypt_key_bytes(key), CRYPT_KEY_SIZE);

	assert_int_equal(master_key_unwrap(pem.data, pem.size, NULL, 0, block.data,
					       block.size - 1, &k, &err), -EBADMSG);
	assert_int_equal(master_key_unwrap(public_pem.data, public_pem.size, NULL, 0, block.data,
					       block.size, &k, &err), -EKEYREJECTED);
	assert_int_equal(master_key_wrap("junk", 4, key, CREATED, CREATED, &block, &err),
			 -EBADMSG);
	block.data[100] ^= 1;
	assert_int_not_equal(master_key_unwrap(pem.data, pem.size, NULL, 0, block.data,
						   block.size, &k, &err), 0);
	golden_free(&public_pem);
}

static void refuses_a_key_that_a_key_file_does_not_fit_in(void **state)
{
	static const int sizes[] = { 1024, 2048, 2120 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		EVP_PKEY *rsa = EVP_RSA_gen((unsigned)sizes[i]);
		BIO *bio = BIO_new(BIO_s_mem());
		struct err err = ERR_INIT;
		char *pem;
		long size;

		assert_int_equal(PEM_write_bio_PUBKEY(bio, rsa), 1);
		size = BIO_get_mem_data(bio, &pem);
		assert_int_equal(master_key_check(pem, (size_t)size, &err), -EINVAL);
		assert_non_null(strstr(err.text, "too small"));
		BIO_free(bio);
		EVP_PKEY_free(rsa);
	}
}

static void makes_a_pair_that_works_together(void **state)
{
	AUTO(crypt_key) struct crypt_key *key = counting_key();
	AUTO(wbuf) struct wbuf public_pem = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(wbuf) struct wbuf private_pem = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(wbuf) struct wbuf block = WBUF_INIT(KEYFILE_SIZE_MAX);
	struct keyfile k;

	(void)state;
	assert_int_equal(master_key_new("secret", 6, &public_pem, &private_pem, NULL), 0);
	assert_int_equal(master_key_check(public_pem.data, public_pem.size, NULL), 0);
	assert_int_equal(master_key_check(private_pem.data, private_pem.size, NULL), -EBADMSG);
	assert_memory_equal(private_pem.data, "-----BEGIN ENCRYPTED PRIVATE KEY-----", 37);
	assert_int_equal(master_key_wrap(public_pem.data, public_pem.size, key, CREATED, CREATED,
					 &block, NULL), 0);
	assert_int_equal(master_key_unwrap(private_pem.data, private_pem.size, "secret", 6,
					   block.data, block.size, &k, NULL), 0);
	assert_int_equal(master_key_unwrap(private_pem.data, private_pem.size, "secreT", 6,
					   block.data, block.size, &k, NULL), -EKEYREJECTED);
	assert_int_equal(master_key_unwrap(private_pem.data, private_pem.size, "", 0, block.data,
					   block.size, &k, NULL), -EKEYREJECTED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(master_key_recovers_the_data_key),
		cmocka_unit_test(refuses_a_key_that_a_key_file_does_not_fit_in),
		cmocka_unit_test(makes_a_pair_that_works_together),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
