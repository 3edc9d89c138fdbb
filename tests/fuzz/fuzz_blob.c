/* SPDX-License-Identifier: Apache-2.0 */
/* A blob, tried as it is and with its CRC made right, so that zstd sees hostile bytes, too. */
#include "archive/blob.h"

#include "archive/base/crc32.h"
#include "archive/base/le.h"
#include "tests/fuzz/must.h"

enum { PLAIN_SIZE_MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct blob_codec *codec;

/* Both ways to decode agree, and what was decoded survives another encoding. */
static void check_plain(const uint8_t *data, size_t size, const struct wbuf *plain)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(2 * PLAIN_SIZE_MAX);
	AUTO(wbuf) struct wbuf less = WBUF_INIT(PLAIN_SIZE_MAX);
	AUTO(free) uint8_t *again = malloc(plain->size + 1);
	struct digest d;

	must(ctx && again);
	digest_ctx_of(ctx, plain->data, plain->size, &d);
	must(blob_decode_chunk(codec, data, size, &d, again, plain->size, NULL) == 0);
	must(plain->size == 0 || memcmp(again, plain->data, plain->size) == 0);
	must(blob_decode_chunk(codec, data, size, &d, again, plain->size + 1, NULL) == -EBADMSG);
	if (size == BLOB_HEADER_SIZE + plain->size) {
		AUTO(free) uint8_t *copy = malloc(size);

		must(copy != NULL);
		memcpy(copy, data, size);
		must(blob_decode_chunk(codec, copy, size, &d, copy + BLOB_HEADER_SIZE,
				       plain->size, NULL) == 0);
		must(memcmp(copy + BLOB_HEADER_SIZE, again, plain->size) == 0);
	}
	if (plain->size > 0)
		must(blob_decode(codec, data, size, plain->size - 1, &less, NULL) == -EBADMSG);
	must(blob_encode(codec, plain->data, plain->size, true, &blob, NULL) == 0);
	must(blob.size <= BLOB_HEADER_SIZE + plain->size);
	must(blob_decode_chunk(codec, blob.data, blob.size, &d, again, plain->size, NULL) == 0);
}

static void try(const uint8_t *data, size_t size)
{
	AUTO(wbuf) struct wbuf plain = WBUF_INIT(PLAIN_SIZE_MAX);
	struct err err = ERR_INIT;
	int rc = blob_decode(codec, data, size, PLAIN_SIZE_MAX, &plain, &err);

	must(rc == 0 || rc == -EBADMSG || rc == -ENOKEY);
	must(rc < 0 || plain.size <= PLAIN_SIZE_MAX);
	if (rc == 0)
		check_plain(data, size, &plain);
	else
		must(err.text[0] != '\0' && plain.size == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) uint8_t *right = malloc(size + 1);
	enum blob_kind kind;

	if (!codec)
		codec = blob_codec_new();
	must(codec && right);
	try(data, size);
	if (blob_kind(data, size, &kind, NULL) < 0 || kind > BLOB_ZSTD)
		return 0;
	memcpy(right, data, size);
	le32_put(right + 8, crc32_update(0, data + BLOB_HEADER_SIZE, size - BLOB_HEADER_SIZE));
	must(blob_verify_crc(right, size, NULL) == 0);
	try(right, size);
	return 0;
}
