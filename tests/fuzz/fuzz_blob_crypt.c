/* SPDX-License-Identifier: Apache-2.0 */
/* An encrypted blob: as it is, and the input well sealed, so that what comes behind the cipher sees
 * hostile bytes, too. */
#include "archive/blob.h"

#include "archive/base/crc32.h"
#include "archive/base/le.h"
#include "tests/fuzz/must.h"

enum { PLAIN_SIZE_MAX = 1 << 20, IV_OFFSET = BLOB_HEADER_SIZE };

static const uint8_t plain_magic[] = { 0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0 };
static const uint8_t zstd_magic[] = { 0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct blob_codec *codec;
static struct digest_ctx *ctx;
static struct crypt_cipher *cipher;
static struct crypt_key *key, *other;

static void init(void)
{
	const uint8_t bytes[2][CRYPT_KEY_SIZE] = { { 1 }, { 2 } };

	codec = blob_codec_new();
	ctx = digest_ctx_new();
	cipher = crypt_cipher_new();
	must(codec && ctx && cipher);
	must(crypt_key_new(&key, bytes[0], NULL) == 0 && crypt_key_new(&other, bytes[1], NULL) == 0);
}

/* Decoded with the key as a chunk of its keyed digest, and with no other. */
static void check_plain(const uint8_t *data, size_t size, const struct wbuf *plain)
{
	AUTO(free) uint8_t *again = malloc(plain->size + 1);
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(PLAIN_SIZE_MAX));
	struct digest keyed, unkeyed;

	must(again);
	crypt_digest(ctx, key, plain->data, plain->size, &keyed);
	crypt_digest(ctx, NULL, plain->data, plain->size, &unkeyed);
	must(blob_decode_chunk(codec, data, size, &keyed, again, plain->size, NULL) == 0);
	must(plain->size == 0 || memcmp(again, plain->data, plain->size) == 0);
	must(blob_decode_chunk(codec, data, size, &unkeyed, again, plain->size, NULL) == -EBADMSG);
	must(blob_decode_chunk(codec, data, size, &keyed, again, plain->size + 1, NULL) ==
	     -EBADMSG);
	must(blob_encode(codec, plain->data, plain->size, true, &blob, NULL) == 0);
	must(blob_decode_chunk(codec, blob.data, blob.size, &keyed, again, plain->size, NULL) == 0);
}

static int try(const uint8_t *data, size_t size, const struct crypt_key *with)
{
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(PLAIN_SIZE_MAX);
	struct err err = ERR_INIT;
	enum blob_kind kind;
	int rc;

	blob_codec_set_key(codec, with);
	rc = blob_decode(codec, data, size, PLAIN_SIZE_MAX, &plain, &err);
	must(rc == 0 || rc == -EBADMSG || rc == -ENOKEY);
	must(rc == 0 || (err.text[0] != '\0' && plain.size == 0));
	if (rc == 0 && with && blob_kind(data, size, &kind, NULL) == 0 &&
	    blob_kind_is_encrypted(kind))
		check_plain(data, size, &plain);
	return rc;
}

/* What somebody with the key could have stored. */
static void try_sealed(const uint8_t *magic, const uint8_t *body, size_t size)
{
	AUTO(free) uint8_t *blob = malloc(BLOB_ENCRYPTED_HEADER_SIZE + size);
	uint8_t *iv, *tag, *sealed;

	must(blob);
	iv = blob + IV_OFFSET;
	tag = iv + CRYPT_IV_SIZE;
	sealed = tag + CRYPT_TAG_SIZE;
	memcpy(blob, magic, sizeof(plain_magic));
	memset(iv, 3, CRYPT_IV_SIZE);
	must(crypt_seal(cipher, key, iv, body, size, sealed, tag, NULL) == 0);
	le32_put(blob + sizeof(plain_magic), crc32_update(0, sealed, size));
	must(try(blob, BLOB_ENCRYPTED_HEADER_SIZE + size, key) != -ENOKEY);
	must(try(blob, BLOB_ENCRYPTED_HEADER_SIZE + size, other) == -EBADMSG);
	must(try(blob, BLOB_ENCRYPTED_HEADER_SIZE + size, NULL) == -ENOKEY);
	tag[size % CRYPT_TAG_SIZE] ^= 1;
	must(try(blob, BLOB_ENCRYPTED_HEADER_SIZE + size, key) == -EBADMSG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!codec)
		init();
	try(data, size, key);
	try(data, size, NULL);
	try_sealed(plain_magic, data, size);
	try_sealed(zstd_magic, data, size);
	return 0;
}
