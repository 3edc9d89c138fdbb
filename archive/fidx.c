/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/fidx.h"

#include "archive/base/cursor.h"
#include "archive/chunker.h"

#include <assert.h>

enum {
	UUID_SIZE = 16,
	CSUM_OFFSET = 32,
	FIELDS_SIZE = 80, /* what of the header has a meaning; zeros follow */
	CHUNK_COUNT_MAX = INT32_MAX, /* 8 PiB in chunks of 4 MiB */
};

#define INDEX_SIZE_MAX (FIDX_HEADER_SIZE + (size_t)CHUNK_COUNT_MAX * DIGEST_SIZE)

const uint8_t FIDX_MAGIC[8] = { 0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd };

static uint64_t chunks_of(uint64_t size, uint64_t chunk_size)
{
	return size / chunk_size + (size % chunk_size != 0);
}

static bool is_chunk_size(uint64_t size)
{
	return size > 0 && size <= CHUNK_SIZE_MAX && (size & (size - 1)) == 0;
}

static int compute_csum(const uint8_t *digests, size_t count, struct digest *out,
			struct err *err)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();

	if (!ctx)
		return err_set(err, ENOMEM, "out of memory");
	digest_ctx_of(ctx, digests, count * DIGEST_SIZE, out);
	return 0;
}

static int check_sizes(const struct fidx *ix, size_t file_size, struct err *err)
{
	uint64_t entries_size = file_size - FIDX_HEADER_SIZE;

	if (!is_chunk_size(ix->chunk_size))
		return err_set(err, EBADMSG, "fixed index with chunks of %llu bytes",
			       (unsigned long long)ix->chunk_size);
	if (ix->size == 0)
		return err_set(err, EBADMSG, "fixed index of an empty image");
	if (entries_size % DIGEST_SIZE != 0 ||
	    entries_size / DIGEST_SIZE != chunks_of(ix->size, ix->chunk_size))
		return err_set(err, EBADMSG,
			       "fixed index has %llu bytes of digests, its image of %llu bytes "
			       "needs %llu digests", (unsigned long long)entries_size,
			       (unsigned long long)ix->size,
			       (unsigned long long)chunks_of(ix->size, ix->chunk_size));
	return 0;
}

int fidx_open(struct fidx *out, const void *data, size_t size, struct err *err)
{
	struct cursor c = cursor_of(data, size);
	struct fidx ix;
	int rc;

	if (size < FIDX_HEADER_SIZE)
		return err_set(err, EBADMSG, "fixed index too small (%zu bytes)", size);
	if (memcmp(cursor_bytes(&c, sizeof(FIDX_MAGIC)), FIDX_MAGIC, sizeof(FIDX_MAGIC)) != 0)
		return err_set(err, EBADMSG, "no fixed index (wrong magic)");
	memcpy(ix.uuid, cursor_bytes(&c, UUID_SIZE), UUID_SIZE);
	ix.ctime = (int64_t)cursor_u64(&c);
	cursor_bytes(&c, DIGEST_SIZE); /* the checksum, not trusted */
	ix.size = cursor_u64(&c);
	ix.chunk_size = cursor_u64(&c);
	rc = check_sizes(&ix, size, err);
	if (rc < 0)
		return rc;
	ix.digests = (const uint8_t *)data + FIDX_HEADER_SIZE;
	ix.count = (size - FIDX_HEADER_SIZE) / DIGEST_SIZE;
	rc = compute_csum(ix.digests, ix.count, &ix.csum, err);
	if (rc < 0)
		return rc;
	*out = ix;
	return 0;
}

void fidx_chunk(const struct fidx *ix, size_t i, uint64_t *begin, uint64_t *end,
		struct digest *digest)
{
	assert(i < ix->count);
	*begin = i * ix->chunk_size;
	*end = i + 1 < ix->count ? *begin + ix->chunk_size : ix->size;
	memcpy(digest->bytes, ix->digests + i * DIGEST_SIZE, DIGEST_SIZE);
}

int fidx_find(const struct fidx *ix, uint64_t image_offset, size_t *chunk)
{
	if (image_offset >= ix->size)
		return -ERANGE;
	*chunk = (size_t)(image_offset / ix->chunk_size);
	return 0;
}

static int failed(const struct fidx_writer *w, struct err *err)
{
	return err_sys(err, -w->bytes.failed, "fixed index of %zu chunks", w->count_expected);
}

int fidx_writer_init(struct fidx_writer *w, const uint8_t uuid[16], int64_t ctime,
		     uint64_t image_size, uint64_t chunk_size, struct err *err)
{
	*w = (struct fidx_writer){ .count = 0 };
	if (image_size == 0)
		return err_set(err, EINVAL, "an empty image cannot have an index");
	if (!is_chunk_size(chunk_size))
		return err_set(err, EINVAL, "an image cannot have chunks of %llu bytes",
			       (unsigned long long)chunk_size);
	if (chunks_of(image_size, chunk_size) > CHUNK_COUNT_MAX)
		return err_set(err, E2BIG, "image too large for a fixed index");
	w->count_expected = (size_t)chunks_of(image_size, chunk_size);
	wbuf_init(&w->bytes, INDEX_SIZE_MAX);
	wbuf_put(&w->bytes, FIDX_MAGIC, sizeof(FIDX_MAGIC));
	wbuf_put(&w->bytes, uuid, UUID_SIZE);
	wbuf_put_u64(&w->bytes, (uint64_t)ctime);
	wbuf_put_zero(&w->bytes, DIGEST_SIZE);
	wbuf_put_u64(&w->bytes, image_size);
	wbuf_put_u64(&w->bytes, chunk_size);
	wbuf_put_zero(&w->bytes, FIDX_HEADER_SIZE - FIELDS_SIZE);
	if (w->bytes.failed) {
		int rc = failed(w, err);

		fidx_writer_release(w);
		return rc;
	}
	return 0;
}

void fidx_writer_release(struct fidx_writer *w)
{
	wbuf_release(&w->bytes);
}

int fidx_writer_add(struct fidx_writer *w, const struct digest *digest, struct err *err)
{
	if (w->count == w->count_expected)
		return err_set(err, EINVAL, "more than the image's %zu chunks", w->count);
	if (wbuf_put(&w->bytes, digest->bytes, DIGEST_SIZE) < 0)
		return failed(w, err);
	w->count++;
	return 0;
}

int fidx_writer_finish(struct fidx_writer *w, struct digest *csum, struct err *err)
{
	struct digest found;
	int rc;

	if (w->count != w->count_expected)
		return err_set(err, EINVAL, "only %zu of the image's %zu chunks", w->count,
			       w->count_expected);
	rc = compute_csum(w->bytes.data + FIDX_HEADER_SIZE, w->count, &found, err);
	if (rc < 0)
		return rc;
	memcpy(w->bytes.data + CSUM_OFFSET, found.bytes, DIGEST_SIZE);
	*csum = found;
	return 0;
}
