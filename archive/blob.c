/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/blob.h"

#include "archive/base/ckd.h"
#include "archive/base/crc32.h"
#include "archive/base/cursor.h"
#include "archive/base/hex.h"

#include <assert.h>
#include <zstd.h>
#include <zstd_errors.h>

enum {
	BLOB_MAGIC_SIZE = 8,
	/* A block of the densest kind (a run) takes 4 bytes and makes at most 128 KiB, so no zstd
	 * stream grows by more than this. */
	ZSTD_GROWTH_MAX = (128 << 10) / 4,

	SLICE_SIZE = 64 << 10,

	/* A whole chunk.  Level 1 looks back 512 KiB by itself; looking further costs no memory, as
	 * the data is there, and saves a hundredth of the size and of the time. */
	WINDOW_LOG = 22,

	GUESS_SAMPLE_COUNT = 8,
	GUESS_SAMPLE_SIZE = 8 << 10,
	GUESS_LEVEL = -1,
};

static_assert(BLOB_MAGIC_SIZE + 4 == BLOB_HEADER_SIZE, "magic and CRC");
static_assert(GUESS_SAMPLE_COUNT * GUESS_SAMPLE_SIZE <= BLOB_GUESS_SIZE_MIN, "samples");
static_assert(BLOB_HEADER_SIZE + 16 + 16 == BLOB_ENCRYPTED_HEADER_SIZE, "IV and tag");

static const uint8_t magics[][BLOB_MAGIC_SIZE] = {
	[BLOB_PLAIN] = { 0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1 },
	[BLOB_ZSTD] = { 0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f },
	[BLOB_ENCRYPTED] = { 0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0 },
	[BLOB_ENCRYPTED_ZSTD] = { 0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b },
};

struct blob_codec {
	ZSTD_CCtx *compress;
	ZSTD_DCtx *decompress;
	struct digest_ctx *digest;
	struct crypt_cipher *cipher;
	const struct crypt_key *key; /* NULL: none */
	int level;
	bool guess;
	struct wbuf opened; /* the body of the blob being decoded, once decrypted */
};

struct blob_codec *blob_codec_new(void)
{
	AUTO(blob_codec) struct blob_codec *codec = calloc(1, sizeof(*codec));

	if (!codec)
		return NULL;
	codec->level = BLOB_ZSTD_LEVEL;
	codec->compress = ZSTD_createCCtx();
	codec->decompress = ZSTD_createDCtx();
	codec->digest = digest_ctx_new();
	codec->cipher = crypt_cipher_new();
	wbuf_init(&codec->opened, BLOB_DATA_SIZE_MAX);
	if (!codec->compress || !codec->decompress || !codec->digest || !codec->cipher)
		return NULL;
	return steal(&codec);
}

void blob_codec_free(struct blob_codec *codec)
{
	if (!codec)
		return;
	ZSTD_freeCCtx(codec->compress);
	ZSTD_freeDCtx(codec->decompress);
	digest_ctx_free(codec->digest);
	crypt_cipher_free(codec->cipher);
	wbuf_release(&codec->opened);
	free(codec);
}

void blob_codec_set_key(struct blob_codec *codec, const struct crypt_key *key)
{
	codec->key = key;
}

void blob_codec_set_level(struct blob_codec *codec, int level, bool guess)
{
	assert(level >= 0 && level <= BLOB_ZSTD_LEVEL_MAX);
	codec->level = level;
	codec->guess = guess;
}

bool blob_kind_is_encrypted(enum blob_kind kind)
{
	return kind == BLOB_ENCRYPTED || kind == BLOB_ENCRYPTED_ZSTD;
}

static size_t header_size(enum blob_kind kind)
{
	return blob_kind_is_encrypted(kind) ? BLOB_ENCRYPTED_HEADER_SIZE : BLOB_HEADER_SIZE;
}

int blob_kind(const void *data, size_t size, enum blob_kind *kind, struct err *err)
{
	char hex[2 * BLOB_MAGIC_SIZE + 1];

	if (size < BLOB_HEADER_SIZE)
		return err_set(err, EBADMSG, "blob too small (%zu bytes)", size);
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		enum blob_kind k = (enum blob_kind)i;

		if (memcmp(data, magics[i], BLOB_MAGIC_SIZE) != 0)
			continue;
		if (size < header_size(k))
			return err_set(err, EBADMSG, "encrypted blob too small (%zu bytes)", size);
		*kind = k;
		return 0;
	}
	hex_encode(data, BLOB_MAGIC_SIZE, hex);
	return err_set(err, EBADMSG, "no blob: it begins with %s", hex);
}

/* Prove the magic; `body` is then what follows the header, `crc` what that shall have. */
static int open_header(const void *data, size_t size, enum blob_kind *kind, struct cursor *body,
		       uint32_t *crc, struct err *err)
{
	struct cursor c = cursor_of(data, size);
	int rc = blob_kind(data, size, kind, err);

	if (rc < 0)
		return rc;
	cursor_bytes(&c, BLOB_MAGIC_SIZE);
	*crc = cursor_u32(&c);
	cursor_bytes(&c, header_size(*kind) - BLOB_HEADER_SIZE);
	*body = cursor_sub(&c, cursor_left(&c));
	return 0;
}

static int check_crc(uint32_t stored, uint32_t found, struct err *err)
{
	if (stored == found)
		return 0;
	return err_set(err, EBADMSG, "wrong CRC (%08x != %08x)", stored, found);
}

/* Prove magic and CRC. */
static int open_blob(const void *data, size_t size, enum blob_kind *kind, struct cursor *body,
		     struct err *err)
{
	uint32_t stored;
	int rc = open_header(data, size, kind, body, &stored, err);

	return rc < 0 ? rc : check_crc(stored, crc32_update(0, body->data, body->size), err);
}

int blob_verify_crc(const void *data, size_t size, struct err *err)
{
	struct cursor body;
	enum blob_kind kind;

	return open_blob(data, size, &kind, &body, err);
}

/* Room for `size` bytes in the codec's own buffer. */
static uint8_t *own_room(struct blob_codec *codec, size_t size, struct err *err)
{
	uint8_t *room;

	wbuf_clear(&codec->opened);
	room = wbuf_reserve(&codec->opened, size);
	if (!room)
		err_sys(err, -codec->opened.failed, "blob of %zu bytes", size);
	return room;
}

/* Decrypt a body to `to`, or NULL: into the codec's own buffer; the cursor is then of that. */
static int decrypt(struct blob_codec *codec, const void *data, struct cursor *body, uint8_t *to,
		   struct err *err)
{
	const uint8_t *iv = (const uint8_t *)data + BLOB_HEADER_SIZE, *tag = iv + CRYPT_IV_SIZE;
	int rc;

	if (!codec->key)
		return err_set(err, ENOKEY, "encrypted: needs a key");
	if (!to)
		to = own_room(codec, body->size, err);
	if (!to)
		return codec->opened.failed;
	rc = crypt_open(codec->cipher, codec->key, iv, tag, body->data, body->size, to, err);
	if (rc == 0)
		*body = cursor_of(to, body->size);
	return rc;
}

/* The kind and the body of a blob, checked and decrypted: raw or zstd. */
static int open_body(struct blob_codec *codec, const void *data, size_t size,
		     enum blob_kind *kind, struct cursor *body, struct err *err)
{
	int rc = open_blob(data, size, kind, body, err);

	if (rc < 0 || !blob_kind_is_encrypted(*kind))
		return rc;
	return decrypt(codec, data, body, NULL, err);
}

static bool is_zstd(enum blob_kind kind)
{
	return kind == BLOB_ZSTD || kind == BLOB_ENCRYPTED_ZSTD;
}

/* --- encoding --- */

/* Does compressing these bytes save a tenth, or of all samples together a hundredth? */
static bool samples_shrink(struct blob_codec *codec, uint8_t *to, const uint8_t *data,
			   size_t size)
{
	const size_t step = size / GUESS_SAMPLE_COUNT;
	size_t sum = 0;

	for (size_t i = 0; i < GUESS_SAMPLE_COUNT; i++) {
		size_t n = ZSTD_compressCCtx(codec->compress, to, GUESS_SAMPLE_SIZE,
					     data + i * step, GUESS_SAMPLE_SIZE, BLOB_ZSTD_LEVEL);

		if (ZSTD_isError(n))
			n = GUESS_SAMPLE_SIZE;
		if (n < GUESS_SAMPLE_SIZE / 10 * 9)
			return true;
		sum += n;
	}
	return sum < GUESS_SAMPLE_COUNT * (size_t)GUESS_SAMPLE_SIZE / 100 * 99;
}

/* What is compressed already costs zstd three times what it takes to see that: level 1 tries to
 * code each block's literals.  The samples have seen that this does not pay; what they cannot
 * see is repetition across them, which a negative level finds and little else. */
static bool is_incompressible(struct blob_codec *codec, uint8_t *to, const uint8_t *data,
			      size_t size)
{
	if (size < BLOB_GUESS_SIZE_MIN || samples_shrink(codec, to, data, size))
		return false;
	return ZSTD_isError(ZSTD_compressCCtx(codec->compress, to, size / 100 * 99, data, size,
					      GUESS_LEVEL));
}

/* At the codec's level; what compressed before forgot all parameters but the level. */
static size_t compress_at_level(struct blob_codec *codec, uint8_t *to, const void *data, size_t size)
{
	ZSTD_CCtx_reset(codec->compress, ZSTD_reset_session_and_parameters);
	ZSTD_CCtx_setParameter(codec->compress, ZSTD_c_compressionLevel, codec->level);
	if (codec->level == BLOB_ZSTD_LEVEL)
		ZSTD_CCtx_setParameter(codec->compress, ZSTD_c_windowLog, WINDOW_LOG);
	return ZSTD_compress2(codec->compress, to, size, data, size);
}

/* One shot with room for exactly `size` bytes: "too small" means that it does not pay.  The
 * server does the same, and zstd's output depends on the room.  0 in *stored: keep it plain. */
static int compress_into(struct blob_codec *codec, uint8_t *to, const void *data, size_t size,
			 size_t *stored, struct err *err)
{
	size_t n;

	*stored = 0;
	if (codec->guess && is_incompressible(codec, to, data, size))
		return 0;
	n = compress_at_level(codec, to, data, size);
	if (!ZSTD_isError(n))
		*stored = n;
	else if (ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
		return err_set(err, ENOMEM, "out of memory compressing a blob");
	return 0;
}

/* Encrypt `size` bytes in place behind the header and fill IV and tag in. */
static int encrypt(struct blob_codec *codec, const uint8_t *iv, uint8_t *blob, size_t size,
		   struct err *err)
{
	uint8_t *at = blob + BLOB_HEADER_SIZE, *body = blob + BLOB_ENCRYPTED_HEADER_SIZE;
	int rc = 0;

	if (iv)
		memcpy(at, iv, CRYPT_IV_SIZE);
	else
		rc = crypt_random(at, CRYPT_IV_SIZE, err);
	if (rc < 0)
		return rc;
	return crypt_seal(codec->cipher, codec->key, at, body, size, body, at + CRYPT_IV_SIZE,
			  err);
}

int blob_encode_iv(struct blob_codec *codec, const void *data, size_t size, bool compress,
		   const uint8_t *iv, struct wbuf *out, struct err *err)
{
	size_t header = codec->key ? BLOB_ENCRYPTED_HEADER_SIZE : BLOB_HEADER_SIZE;
	enum blob_kind kind = codec->key ? BLOB_ENCRYPTED_ZSTD : BLOB_ZSTD;
	size_t stored = 0;
	uint8_t *to;
	int rc = 0;

	if (size > BLOB_DATA_SIZE_MAX)
		return err_set(err, E2BIG, "data too large for a blob (%zu bytes)", size);
	to = wbuf_reserve(out, header + size);
	if (!to)
		return err_sys(err, -out->failed, "blob of %zu bytes", size);
	if (compress && size > 0 && codec->level > 0)
		rc = compress_into(codec, to + header, data, size, &stored, err);
	if (rc < 0)
		return rc;
	if (stored == 0) {
		kind = codec->key ? BLOB_ENCRYPTED : BLOB_PLAIN;
		stored = size;
		if (size > 0)
			memcpy(to + header, data, size);
	}
	if (codec->key)
		rc = encrypt(codec, iv, to, stored, err);
	if (rc < 0)
		return rc;
	memcpy(to, magics[kind], BLOB_MAGIC_SIZE);
	le32_put(to + BLOB_MAGIC_SIZE, crc32_update(0, to + header, stored));
	out->size += header + stored;
	return 0;
}

int blob_encode(struct blob_codec *codec, const void *data, size_t size, bool compress,
		struct wbuf *out, struct err *err)
{
	return blob_encode_iv(codec, data, size, compress, NULL, out, err);
}

/* --- decoding --- */

static int zstd_failed(size_t code, struct err *err)
{
	if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation)
		return err_set(err, ENOMEM, "out of memory decompressing a blob");
	return err_set(err, EBADMSG, "bad zstd data: %s", ZSTD_getErrorName(code));
}

static bool is_frame_magic(uint32_t magic)
{
	return magic == ZSTD_MAGICNUMBER ||
	       (magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

/* What the frames of a blob's body say they hold. */
struct frames {
	uint64_t plain_size;
	bool exact; /* else plain_size is the most that so many bytes can hold */
};

static int measure_frame(struct cursor *c, struct frames *frames, struct err *err)
{
	const uint8_t *frame = c->data + c->position;
	size_t left = cursor_left(c), n;
	unsigned long long content;

	if (left < sizeof(uint32_t) || !is_frame_magic(le32_get(frame)))
		return err_set(err, EBADMSG, "bad zstd data: no frame at byte %zu", c->position);
	n = ZSTD_findFrameCompressedSize(frame, left);
	if (ZSTD_isError(n))
		return zstd_failed(n, err);
	cursor_bytes(c, n);
	content = ZSTD_getFrameContentSize(frame, left);
	if (content == ZSTD_CONTENTSIZE_ERROR)
		return err_set(err, EBADMSG, "bad zstd data: damaged frame header");
	if (content == ZSTD_CONTENTSIZE_UNKNOWN ||
	    ckd_add(&frames->plain_size, frames->plain_size, content))
		frames->exact = false;
	return 0;
}

/*
 * Walk over the frames without decoding them: they must fill `body` exactly.
 *
 * Only the present frame format passes: libzstd may be built with decoders of the formats
 * before 1.0, which nobody ever wrote into a blob and which hostile bytes need not reach.
 */
static int measure_frames(const struct cursor *body, struct frames *out, struct err *err)
{
	struct frames frames = { .exact = true };
	uint64_t most = (uint64_t)body->size * ZSTD_GROWTH_MAX;
	struct cursor c = *body;

	if (body->size == 0)
		return err_set(err, EBADMSG, "bad zstd data: no frame");
	while (cursor_left(&c) > 0) {
		int rc = measure_frame(&c, &frames, err);

		if (rc < 0)
			return rc;
	}
	if (frames.exact && frames.plain_size > most)
		return err_set(err, EBADMSG, "bad zstd data: impossible content size");
	if (!frames.exact)
		frames.plain_size = most;
	*out = frames;
	return 0;
}

static int too_large(size_t plain_size_max, struct err *err)
{
	return err_set(err, EBADMSG, "blob holds more than the expected %zu bytes",
		       plain_size_max);
}

/* All frames in one shot, straight into place: unlike the streaming decoder it needs no window
 * buffer, whose size hostile bytes would choose. */
static int decompress(struct blob_codec *codec, const struct cursor *body, uint8_t *to,
		      size_t room, size_t *plain_size, struct err *err)
{
	size_t n = ZSTD_decompressDCtx(codec->decompress, to, room, body->data, body->size);

	if (!ZSTD_isError(n)) {
		*plain_size = n;
		return 0;
	}
	if (ZSTD_getErrorCode(n) == ZSTD_error_dstSize_tooSmall)
		return too_large(room, err);
	return zstd_failed(n, err);
}

static int append_decompressed(struct blob_codec *codec, const struct cursor *body,
			       size_t plain_size_max, struct wbuf *out, struct err *err)
{
	struct frames frames;
	size_t room, n;
	uint8_t *to;
	int rc = measure_frames(body, &frames, err);

	if (rc < 0)
		return rc;
	if (frames.exact && frames.plain_size > plain_size_max)
		return too_large(plain_size_max, err);
	room = frames.plain_size < plain_size_max ? (size_t)frames.plain_size : plain_size_max;
	to = wbuf_reserve(out, room);
	if (!to)
		return err_sys(err, -out->failed, "blob of %zu bytes", room);
	rc = decompress(codec, body, to, room, &n, err);
	if (rc == 0)
		out->size += n;
	return rc;
}

int blob_decode(struct blob_codec *codec, const void *data, size_t size,
		size_t plain_size_max, struct wbuf *out, struct err *err)
{
	struct cursor body;
	enum blob_kind kind;
	int rc = open_body(codec, data, size, &kind, &body, err);

	if (rc < 0)
		return rc;
	if (is_zstd(kind))
		return append_decompressed(codec, &body, plain_size_max, out, err);
	if (body.size > plain_size_max)
		return too_large(plain_size_max, err);
	if (wbuf_put(out, body.data, body.size) < 0)
		return err_sys(err, -out->failed, "blob of %zu bytes", body.size);
	return 0;
}

/* A body that lies where its content shall be is moved away first. */
static int decompress_chunk(struct blob_codec *codec, struct cursor *body, uint8_t *plain,
			    size_t plain_size, size_t *found, struct err *err)
{
	struct frames frames;
	int rc = measure_frames(body, &frames, err);

	if (rc < 0)
		return rc;
	if (body->data == plain) {
		uint8_t *room = own_room(codec, body->size, err);

		if (!room)
			return codec->opened.failed;
		memcpy(room, body->data, body->size);
		*body = cursor_of(room, body->size);
	}
	return decompress(codec, body, plain, plain_size, found, err);
}

static int check_size(size_t found, size_t wanted, struct err *err)
{
	if (found > wanted)
		return too_large(wanted, err);
	if (found < wanted)
		return err_set(err, EBADMSG, "chunk holds %zu bytes, not the expected %zu", found,
			       wanted);
	return 0;
}

/* One pass for the copy and both sums, in slices that stay close to the processor. */
static int decode_plain(struct blob_codec *codec, const struct cursor *body, uint32_t stored_crc,
			uint8_t *plain, size_t plain_size, struct digest *digest, struct err *err)
{
	uint32_t crc = 0;
	int rc = 0;

	digest_ctx_begin(codec->digest);
	for (size_t at = 0, n; at < body->size; at += n) {
		n = body->size - at < SLICE_SIZE ? body->size - at : SLICE_SIZE;
		crc = crc32_update(crc, body->data + at, n);
		if (body->size != plain_size)
			continue; /* as a wrong CRC is told first, whatever else is wrong */
		if (body->data != plain)
			memcpy(plain + at, body->data + at, n);
		digest_ctx_update(codec->digest, plain + at, n);
	}
	digest_ctx_end(codec->digest, digest);
	rc = check_crc(stored_crc, crc, err);
	return rc < 0 ? rc : check_size(body->size, plain_size, err);
}

/* All kinds but BLOB_PLAIN; `body` has the right CRC. */
static int decode_other(struct blob_codec *codec, const void *data, enum blob_kind kind,
			struct cursor *body, uint8_t *plain, size_t plain_size,
			struct digest *digest, struct err *err)
{
	size_t found = body->size;
	int rc = 0;

	if (kind == BLOB_ENCRYPTED)
		rc = check_size(body->size, plain_size, err);
	if (rc == 0 && blob_kind_is_encrypted(kind))
		rc = decrypt(codec, data, body, kind == BLOB_ENCRYPTED ? plain : NULL, err);
	if (rc == 0 && is_zstd(kind))
		rc = decompress_chunk(codec, body, plain, plain_size, &found, err);
	if (rc == 0)
		rc = check_size(found, plain_size, err);
	if (rc == 0)
		crypt_digest(codec->digest, blob_kind_is_encrypted(kind) ? codec->key : NULL,
			     plain, plain_size, digest);
	return rc;
}

int blob_decode_chunk(struct blob_codec *codec, const void *data, size_t size,
		      const struct digest *digest, uint8_t *plain, size_t plain_size,
		      struct err *err)
{
	struct cursor body;
	struct digest found;
	enum blob_kind kind;
	uint32_t crc;
	int rc = open_header(data, size, &kind, &body, &crc, err);

	if (rc == 0 && kind == BLOB_PLAIN)
		rc = decode_plain(codec, &body, crc, plain, plain_size, &found, err);
	else if (rc == 0)
		rc = check_crc(crc, crc32_update(0, body.data, body.size), err);
	if (rc == 0 && kind != BLOB_PLAIN)
		rc = decode_other(codec, data, kind, &body, plain, plain_size, &found, err);
	if (rc < 0)
		return rc;
	if (!digest_equal(&found, digest)) {
		char hex[DIGEST_HEX_SIZE];

		digest_to_hex(&found, hex);
		return err_set(err, EBADMSG, "chunk has the wrong digest %s", hex);
	}
	return 0;
}
