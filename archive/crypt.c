/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/crypt.h"

#include "archive/base/hex.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/mman.h>

static const char ID_KEY_SALT[] = "_id_key";
static const char FINGERPRINT_INPUT[] = "Proxmox Backup Encryption Key Fingerprint";
enum { ID_KEY_ITERATIONS = 10 };

struct crypt_key {
	uint8_t enc_key[CRYPT_KEY_SIZE];
	uint8_t id_key[CRYPT_KEY_SIZE];
	struct digest fingerprint;
};

static int derive(struct crypt_key *key)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest input;

	if (!ctx)
		return -ENOMEM;
	if (PKCS5_PBKDF2_HMAC((const char *)key->enc_key, CRYPT_KEY_SIZE,
			      (const unsigned char *)ID_KEY_SALT, sizeof(ID_KEY_SALT) - 1,
			      ID_KEY_ITERATIONS, EVP_sha256(), CRYPT_KEY_SIZE, key->id_key) != 1)
		return -ENOMEM;
	digest_ctx_of(ctx, FINGERPRINT_INPUT, sizeof(FINGERPRINT_INPUT) - 1, &input);
	crypt_digest(ctx, key, input.bytes, DIGEST_SIZE, &key->fingerprint);
	return 0;
}

int crypt_key_new(struct crypt_key **out, const uint8_t enc_key[CRYPT_KEY_SIZE], struct err *err)
{
	AUTO(crypt_key) struct crypt_key *key = NULL;
	void *page = mmap(NULL, sizeof(*key), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (page == MAP_FAILED)
		return err_set(err, ENOMEM, "no memory for a key");
	key = page;
	/* Neither may fail the backup: they only make a secret harder to lose. */
	(void)madvise(page, sizeof(*key), MADV_DONTDUMP);
	(void)mlock(page, sizeof(*key));
	memcpy(key->enc_key, enc_key, CRYPT_KEY_SIZE);
	if (derive(key) < 0)
		return err_set(err, ENOMEM, "no memory to derive a key");
	*out = steal(&key);
	return 0;
}

void crypt_key_free(struct crypt_key *key)
{
	if (!key)
		return;
	crypt_wipe(key, sizeof(*key));
	munmap(key, sizeof(*key));
}

const uint8_t *crypt_key_bytes(const struct crypt_key *key)
{
	return key->enc_key;
}

const struct digest *crypt_key_fingerprint(const struct crypt_key *key)
{
	return &key->fingerprint;
}

static void pairs(const struct digest *fp, size_t count, char *out)
{
	for (size_t i = 0; i < count; i++, out += 3) {
		hex_encode(&fp->bytes[i], 1, out);
		out[2] = ':';
	}
	out[-1] = '\0';
}

void crypt_fingerprint_text(const struct digest *fp, char out[CRYPT_FINGERPRINT_TEXT_SIZE])
{
	pairs(fp, DIGEST_SIZE, out);
}

void crypt_fingerprint_short(const struct digest *fp, char out[CRYPT_FINGERPRINT_SHORT_SIZE])
{
	pairs(fp, 8, out);
}

int crypt_fingerprint_parse(const char *text, struct digest *out)
{
	char hex[DIGEST_HEX_SIZE];
	size_t n = 0;

	for (; *text; text++) {
		if (*text == ':')
			continue;
		if (n == DIGEST_HEX_SIZE - 1)
			return -EBADMSG;
		hex[n++] = *text;
	}
	hex[n] = '\0';
	return digest_from_hex(out, hex);
}

void crypt_digest(struct digest_ctx *ctx, const struct crypt_key *key, const void *data,
		  size_t size, struct digest *out)
{
	digest_ctx_begin(ctx);
	digest_ctx_update(ctx, data, size);
	if (key)
		digest_ctx_update(ctx, key->id_key, CRYPT_KEY_SIZE);
	digest_ctx_end(ctx, out);
}

int crypt_sign(const struct crypt_key *key, const void *data, size_t size, struct digest *out)
{
	unsigned int n = DIGEST_SIZE;

	return HMAC(EVP_sha256(), key->id_key, CRYPT_KEY_SIZE, data, size, out->bytes, &n) ?
		       0 :
		       -ENOMEM;
}

/* The context remembers the cipher and the IV's length; each use sets key and IV anew. */
struct crypt_cipher {
	EVP_CIPHER_CTX *evp;
};

struct crypt_cipher *crypt_cipher_new(void)
{
	AUTO(crypt_cipher) struct crypt_cipher *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->evp = EVP_CIPHER_CTX_new();
	if (!c->evp ||
	    EVP_CipherInit_ex(c->evp, EVP_aes_256_gcm(), NULL, NULL, NULL, 1) != 1 ||
	    EVP_CIPHER_CTX_ctrl(c->evp, EVP_CTRL_AEAD_SET_IVLEN, CRYPT_IV_SIZE, NULL) != 1)
		return NULL;
	return steal(&c);
}

void crypt_cipher_free(struct crypt_cipher *cipher)
{
	if (!cipher)
		return;
	EVP_CIPHER_CTX_free(cipher->evp); /* wipes its key schedule */
	free(cipher);
}

static int transform(EVP_CIPHER_CTX *evp, const uint8_t *in, size_t size, uint8_t *out)
{
	int n = 0;

	/* EVP counts in int; a blob is at most 128 MiB. */
	if (size > INT_MAX)
		return -E2BIG;
	if (size && EVP_CipherUpdate(evp, out, &n, in, (int)size) != 1)
		return -EIO;
	return 0;
}

int crypt_seal(struct crypt_cipher *cipher, const struct crypt_key *key,
	       const uint8_t iv[CRYPT_IV_SIZE], const void *plain, size_t size, void *out,
	       uint8_t tag[CRYPT_TAG_SIZE], struct err *err)
{
	EVP_CIPHER_CTX *evp = cipher->evp;
	uint8_t none[CRYPT_TAG_SIZE];
	int n;

	if (EVP_CipherInit_ex(evp, NULL, NULL, key->enc_key, iv, 1) != 1 ||
	    transform(evp, plain, size, out) < 0 || EVP_CipherFinal_ex(evp, none, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, CRYPT_TAG_SIZE, tag) != 1)
		return err_set(err, EIO, "encryption failed");
	return 0;
}

int crypt_open(struct crypt_cipher *cipher, const struct crypt_key *key,
	       const uint8_t iv[CRYPT_IV_SIZE], const uint8_t tag[CRYPT_TAG_SIZE],
	       const void *sealed, size_t size, void *out, struct err *err)
{
	EVP_CIPHER_CTX *evp = cipher->evp;
	uint8_t none[CRYPT_TAG_SIZE], wanted[CRYPT_TAG_SIZE];
	int n;

	memcpy(wanted, tag, CRYPT_TAG_SIZE);
	if (EVP_CipherInit_ex(evp, NULL, NULL, key->enc_key, iv, 0) != 1 ||
	    transform(evp, sealed, size, out) < 0 ||
	    EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_SET_TAG, CRYPT_TAG_SIZE, wanted) != 1)
		return err_set(err, EIO, "decryption failed");
	if (EVP_CipherFinal_ex(evp, none, &n) != 1) {
		crypt_wipe(out, size);
		return err_set(err, EBADMSG, "wrong authentication tag");
	}
	return 0;
}

int crypt_random(void *out, size_t size, struct err *err)
{
	if (size > INT_MAX || RAND_bytes(out, (int)size) != 1)
		return err_set(err, EIO, "no random numbers to be had");
	return 0;
}

void crypt_wipe(void *data, size_t size)
{
	OPENSSL_cleanse(data, size);
}

void crypt_wbuf_release(struct wbuf *b)
{
	int saved = errno;

	if (b->data)
		crypt_wipe(b->data, b->capacity);
	wbuf_release(b);
	errno = saved;
}
