/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypt - the key of an encrypted or signed backup: keyed digests, AES-256-GCM, signatures.
 *
 * Layout:  archive/FORMAT.md, "Encryption".
 * Owner:   a key lives in a page of its own that no core dump holds; crypt_key_free() wipes it.
 *          A cipher is a reusable OpenSSL context, freed (and wiped) with crypt_cipher_free().
 * Threads: a key may be used by any number; a cipher belongs to one at a time.
 */
#ifndef PXARFS_CRYPT_H
#define PXARFS_CRYPT_H

#include "archive/base/digest.h"
#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stddef.h>
#include <stdint.h>

enum {
	CRYPT_KEY_SIZE = 32,
	CRYPT_IV_SIZE = 16,
	CRYPT_TAG_SIZE = 16,
	CRYPT_FINGERPRINT_TEXT_SIZE = 3 * DIGEST_SIZE, /* "aa:bb:...", 32 pairs and NUL */
	CRYPT_FINGERPRINT_SHORT_SIZE = 3 * 8, /* the first 8 pairs and NUL */
};

struct crypt_key;

/* Derive all from the 32 bytes of the data key.  -ENOMEM. */
int crypt_key_new(struct crypt_key **out, const uint8_t enc_key[CRYPT_KEY_SIZE],
		  struct err *err);
void crypt_key_free(struct crypt_key *key);
DEFINE_AUTO_PTR(crypt_key)

/* The data key itself, to wrap it for a master key; lent. */
const uint8_t *crypt_key_bytes(const struct crypt_key *key);

/* What tells keys apart without giving anything away. */
const struct digest *crypt_key_fingerprint(const struct crypt_key *key);
void crypt_fingerprint_text(const struct digest *fp, char out[CRYPT_FINGERPRINT_TEXT_SIZE]);
void crypt_fingerprint_short(const struct digest *fp, char out[CRYPT_FINGERPRINT_SHORT_SIZE]);

/* 64 hex digits of either case, colons anywhere between them dropped; -EBADMSG. */
int crypt_fingerprint_parse(const char *text, struct digest *out);

/* The digest of a chunk: SHA-256 of its bytes, with a key also of the key's id behind them. */
void crypt_digest(struct digest_ctx *ctx, const struct crypt_key *key, const void *data,
		  size_t size, struct digest *out);

/* HMAC-SHA-256 under the key's id: the signature of a manifest.  -ENOMEM. */
int crypt_sign(const struct crypt_key *key, const void *data, size_t size, struct digest *out);

struct crypt_cipher;
struct crypt_cipher *crypt_cipher_new(void);
void crypt_cipher_free(struct crypt_cipher *cipher);
DEFINE_AUTO_PTR(crypt_cipher)

/* AES-256-GCM with a 16-byte IV and no further authenticated data.  `out` has room for `size`
 * bytes and may be `plain` itself. */
int crypt_seal(struct crypt_cipher *cipher, const struct crypt_key *key,
	       const uint8_t iv[CRYPT_IV_SIZE], const void *plain, size_t size, void *out,
	       uint8_t tag[CRYPT_TAG_SIZE], struct err *err);

/* -EBADMSG: the tag does not fit; `out` then holds nothing to be used. */
int crypt_open(struct crypt_cipher *cipher, const struct crypt_key *key,
	       const uint8_t iv[CRYPT_IV_SIZE], const uint8_t tag[CRYPT_TAG_SIZE],
	       const void *sealed, size_t size, void *out, struct err *err);

/* Random bytes for IVs, salts and keys.  -EIO without a source of randomness. */
int crypt_random(void *out, size_t size, struct err *err);

/* Overwrite secrets so that no compiler leaves it out. */
void crypt_wipe(void *data, size_t size);

/* AUTO(crypt_wbuf) struct wbuf: all its memory is wiped before it is released. */
void crypt_wbuf_release(struct wbuf *b);

static inline __attribute__((unused)) void crypt_wbuf_cleanup(struct wbuf *b)
{
	crypt_wbuf_release(b);
}

#endif
