/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/master_key.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

static void evp_pkey_cleanup(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void evp_pkey_ctx_cleanup(EVP_PKEY_CTX **ctx)
{
	EVP_PKEY_CTX_free(*ctx);
}

/* A memory BIO wipes what it holds of a key when it is freed. */
static void bio_cleanup(BIO **bio)
{
	BIO_free(*bio);
}

/* Never ask on a terminal from inside a library, which OpenSSL's default callback does. */
static int give_passphrase(char *buf, int size, int rwflag, void *arg)
{
	const struct wbuf *passphrase = arg;

	(void)rwflag;
	if (!passphrase || passphrase->size > (size_t)size)
		return -1;
	if (passphrase->size)
		memcpy(buf, passphrase->data, passphrase->size);
	return (int)passphrase->size;
}

static int read_public(const void *pem, size_t size, EVP_PKEY **out, struct err *err)
{
	AUTO(bio) BIO *bio = BIO_new_mem_buf(pem, (int)size);
	EVP_PKEY *rsa = bio ? PEM_read_bio_PUBKEY(bio, NULL, give_passphrase, NULL) : NULL;

	*out = rsa;
	if (!rsa || EVP_PKEY_base_id(rsa) != EVP_PKEY_RSA)
		return err_set(err, EBADMSG, "master key: not an RSA public key in PEM form");
	if (EVP_PKEY_size(rsa) < MASTER_KEY_SIZE_MIN)
		return err_set(err, EINVAL, "master key: too small to hold a key file "
			       "(%d bits, at least %d are needed)", EVP_PKEY_bits(rsa),
			       8 * MASTER_KEY_SIZE_MIN);
	return 0;
}

/* In one block. */
static int rsa_encrypt(EVP_PKEY *rsa, const struct wbuf *text, struct wbuf *out)
{
	AUTO(evp_pkey_ctx) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(rsa, NULL);
	size_t size = 0;
	uint8_t *block;

	if (!ctx || EVP_PKEY_encrypt_init(ctx) != 1 ||
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1 ||
	    EVP_PKEY_encrypt(ctx, NULL, &size, text->data, text->size) != 1 ||
	    !(block = wbuf_reserve(out, size)) ||
	    EVP_PKEY_encrypt(ctx, block, &size, text->data, text->size) != 1)
		return -EIO;
	out->size += size;
	return 0;
}

int master_key_wrap(const void *public_pem, size_t pem_size, const struct crypt_key *key,
			const char *created, const char *modified, struct wbuf *out,
			struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(evp_pkey) EVP_PKEY *rsa = NULL;
	struct keyfile k;
	int rc = read_public(public_pem, pem_size, &rsa, err);

	if (rc < 0)
		return rc;
	rc = keyfile_seal(&k, key, KEYFILE_KDF_NONE, NULL, 0, NULL, created, modified, NULL, err);
	if (rc == 0)
		rc = keyfile_encode(&k, false, &text, err);
	keyfile_wipe(&k);
	if (rc < 0)
		return rc;
	rc = rsa_encrypt(rsa, &text, out);
	if (rc < 0)
		return err_set(err, -rc, "master key: cannot encrypt a key file of %zu bytes",
			       text.size);
	return 0;
}

static int rsa_decrypt(EVP_PKEY *rsa, const void *block, size_t block_size, struct wbuf *text)
{
	AUTO(evp_pkey_ctx) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(rsa, NULL);
	size_t size = 0;
	uint8_t *out;

	if (!ctx || EVP_PKEY_decrypt_init(ctx) != 1 ||
	    EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PADDING) != 1 ||
	    EVP_PKEY_decrypt(ctx, NULL, &size, block, block_size) != 1 ||
	    !(out = wbuf_reserve(text, size)) ||
	    EVP_PKEY_decrypt(ctx, out, &size, block, block_size) != 1)
		return -EKEYREJECTED;
	text->size += size;
	return 0;
}

int master_key_unwrap(const void *private_pem, size_t pem_size, const void *passphrase,
			  size_t passphrase_size, const void *block, size_t block_size,
			  struct keyfile *out, struct err *err)
{
	struct wbuf phrase = { .data = (uint8_t *)passphrase, .size = passphrase_size };
	AUTO(bio) BIO *bio = BIO_new_mem_buf(private_pem, (int)pem_size);
	AUTO(evp_pkey) EVP_PKEY *rsa =
		bio ? PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, &phrase) : NULL;
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	int rc;

	if (!rsa)
		return err_set(err, EKEYREJECTED,
			       "master key: not a private key in PEM form, or wrong passphrase");
	if (EVP_PKEY_base_id(rsa) != EVP_PKEY_RSA)
		return err_set(err, EBADMSG, "master key: not an RSA key");
	if (block_size != (size_t)EVP_PKEY_size(rsa))
		return err_set(err, EBADMSG, "encrypted key has %zu bytes, but the master key "
			       "makes blocks of %d", block_size, EVP_PKEY_size(rsa));
	/* For the wrong key newer libraries make bytes up, rather than tell an attacker. */
	rc = rsa_decrypt(rsa, block, block_size, &text);
	if (rc == 0)
		rc = keyfile_decode(text.data, text.size, out, err);
	if (rc < 0 && rc != -ENOMEM)
		return err_set(err, EKEYREJECTED, "master key: does not open this encrypted key");
	return rc;
}

static int take_bio(BIO *bio, struct wbuf *out)
{
	char *data;
	long size = BIO_get_mem_data(bio, &data);

	return size < 0 ? -ENOMEM : wbuf_put(out, data, (size_t)size);
}

int master_key_new(const void *passphrase, size_t passphrase_size, struct wbuf *public_pem,
		   struct wbuf *private_pem, struct err *err)
{
	AUTO(evp_pkey) EVP_PKEY *rsa = EVP_RSA_gen(MASTER_KEY_BITS);
	AUTO(bio) BIO *public_bio = BIO_new(BIO_s_mem());
	AUTO(bio) BIO *private_bio = BIO_new(BIO_s_secmem());

	if (!rsa || !public_bio || !private_bio ||
	    PEM_write_bio_PUBKEY(public_bio, rsa) != 1 ||
	    PEM_write_bio_PKCS8PrivateKey(private_bio, rsa, EVP_aes_256_cbc(), passphrase,
					  (int)passphrase_size, NULL, NULL) != 1 ||
	    take_bio(public_bio, public_pem) < 0 || take_bio(private_bio, private_pem) < 0)
		return err_set(err, EIO, "cannot make an RSA key");
	return 0;
}

int master_key_check(const void *public_pem, size_t pem_size, struct err *err)
{
	AUTO(evp_pkey) EVP_PKEY *rsa = NULL;

	return read_public(public_pem, pem_size, &rsa, err);
}
