/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob - a chunk or file <-> its stored form: magic, CRC-32, zstd (and AES-GCM).
 *
 * Layout:  archive/FORMAT.md, "Blob".
 * Owner:   a codec is freed with blob_codec_free(); it holds reusable zstd contexts.
 * Threads: one codec per thread.
 * Trust:   stored bytes are hostile: sizes are bounded before anything is allocated, zstd
 *          output by the caller's maximum.
 * Errors:  -EBADMSG: damaged (too small, unknown magic, wrong CRC, bad zstd, too large);
 *          -ENOKEY: encrypted, "needs a key"; -ENOMEM.
 */
#ifndef PXARFS_BLOB_H
#define PXARFS_BLOB_H

#include "archive/base/digest.h"
#include "archive/base/err.h"
#include "archive/base/wbuf.h"
#include "archive/crypt.h"

#include <stdbool.h>

enum {
	BLOB_HEADER_SIZE = 12,
	BLOB_ENCRYPTED_HEADER_SIZE = 44,
	BLOB_ZSTD_LEVEL = 1,
	BLOB_ZSTD_LEVEL_MAX = 19,
	BLOB_GUESS_SIZE_MIN = 256 << 10,
	BLOB_DATA_SIZE_MAX = 128 << 20, /* plain bytes of any blob */
};

/* Largest stored form of `size` plain bytes. */
#define BLOB_ENCODED_SIZE_MAX(size) ((size_t)(size) + BLOB_ENCRYPTED_HEADER_SIZE)

enum blob_kind { BLOB_PLAIN, BLOB_ZSTD, BLOB_ENCRYPTED, BLOB_ENCRYPTED_ZSTD };

struct blob_codec;
struct blob_codec *blob_codec_new(void);
void blob_codec_free(struct blob_codec *codec);
DEFINE_AUTO_PTR(blob_codec)

/* From now on encode encrypted, and be able to decode what this key encrypted; NULL: neither.
 * Plain blobs stay readable: whether one may be there is the caller's to check.  Lent. */
void blob_codec_set_key(struct blob_codec *codec, const struct crypt_key *key);

/* How to compress, from now on: a level of zstd, 1 to BLOB_ZSTD_LEVEL_MAX, or 0: not at all.  At
 * any but BLOB_ZSTD_LEVEL, the default, the bytes are not those that the server's own client
 * would store; who reads them need not know.
 *
 * With `guess`, at least BLOB_GUESS_SIZE_MIN bytes of which samples, and a quick search for
 * repetitions, say that 99% would be left are not compressed. */
void blob_codec_set_level(struct blob_codec *codec, int level, bool guess);

/* What the magic says, after checking the size that goes with it. */
int blob_kind(const void *data, size_t size, enum blob_kind *kind, struct err *err);

bool blob_kind_is_encrypted(enum blob_kind kind);

/* Only magic and CRC: what can be checked without a key and without decompressing. */
int blob_verify_crc(const void *data, size_t size, struct err *err);

/* Append the stored form of `data` to `out`, which needs room for a header and `size` bytes.
 * With `compress`, zstd is kept only if it fits into `size` bytes.  -E2BIG: over
 * BLOB_DATA_SIZE_MAX, or over the maximum of `out`. */
int blob_encode(struct blob_codec *codec, const void *data, size_t size, bool compress,
		struct wbuf *out, struct err *err);

/* The same with a given IV (CRYPT_IV_SIZE bytes; NULL: random) where a key is set: for tests,
 * since an IV must never be used twice. */
int blob_encode_iv(struct blob_codec *codec, const void *data, size_t size, bool compress,
		   const uint8_t *iv, struct wbuf *out, struct err *err);

/* Append the plain bytes to `out`, at most `plain_size_max` of them; the CRC is checked.  Any
 * number of zstd frames, with or without content sizes.  -E2BIG: over the maximum of `out`. */
int blob_decode(struct blob_codec *codec, const void *data, size_t size,
		size_t plain_size_max, struct wbuf *out, struct err *err);

/* Decode a chunk of exactly `plain_size` bytes into `plain` and compare its digest.  `plain` may
 * be the part of `data` behind the header, which is overwritten then.  -EBADMSG names what
 * differs. */
int blob_decode_chunk(struct blob_codec *codec, const void *data, size_t size,
		      const struct digest *digest, uint8_t *plain, size_t plain_size,
		      struct err *err);

#endif
