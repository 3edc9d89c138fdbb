/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/didx.h"

#include "archive/base/cursor.h"
#include "archive/chunker.h"

#include <assert.h>

static_assert(8 + DIGEST_SIZE == DIDX_ENTRY_SIZE, "end and digest");

const uint8_t DIDX_MAGIC[8] = { 0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd };

static uint64_t entry_end(const struct didx *ix, size_t i)
{
	return le64_get(ix->entries + i * DIDX_ENTRY_SIZE);
}

static uint64_t entry_begin(const struct didx *ix, size_t i)
{
	return i > 0 ? entry_end(ix, i - 1) : 0;
}

static int check_ends(const struct didx *ix, struct err *err)
{
	uint64_t begin = 0;

	for (size_t i = 0; i < ix->count; i++) {
		uint64_t end = entry_end(ix, i);

		if (end <= begin)
			return err_set(err, EBADMSG, "chunk %zu ends at %llu, not after %llu", i,
				       (unsigned long long)end, (unsigned long long)begin);
		if (end - begin > CHUNK_SIZE_MAX)
			return err_set(err, EBADMSG, "chunk %zu has %llu bytes, more than %u", i,
				       (unsigned long long)(end - begin), CHUNK_SIZE_MAX);
		begin = end;
	}
	return 0;
}

static int compute_csum(struct didx *ix, struct err *err)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();

	if (!ctx)
		return err_set(err, ENOMEM, "out of memory");
	digest_ctx_of(ctx, ix->entries, ix->count * DIDX_ENTRY_SIZE, &ix->csum);
	return 0;
}

static int check_size(size_t size, struct err *err)
{
	size_t entries;

	if (size < DIDX_HEADER_SIZE)
		return err_set(err, EBADMSG, "dynamic index too small (%zu bytes)", size);
	entries = size - DIDX_HEADER_SIZE;
	if (entries == 0)
		return err_set(err, EBADMSG, "dynamic index without chunks");
	if (entries % DIDX_ENTRY_SIZE != 0)
		return err_set(err, EBADMSG, "dynamic index ends inside an entry");
	return 0;
}

int didx_open(struct didx *out, const void *data, size_t size, struct err *err)
{
	struct cursor c = cursor_of(data, size);
	struct didx ix = { .count = 0 };
	int rc = check_size(size, err);

	if (rc < 0)
		return rc;
	if (memcmp(cursor_bytes(&c, sizeof(DIDX_MAGIC)), DIDX_MAGIC, sizeof(DIDX_MAGIC)) != 0)
		return err_set(err, EBADMSG, "no dynamic index (wrong magic)");
	memcpy(ix.uuid, cursor_bytes(&c, sizeof(ix.uuid)), sizeof(ix.uuid));
	ix.ctime = (int64_t)cursor_u64(&c);
	ix.entries = (const uint8_t *)data + DIDX_HEADER_SIZE;
	ix.count = (size - DIDX_HEADER_SIZE) / DIDX_ENTRY_SIZE;
	rc = check_ends(&ix, err);
	if (rc < 0)
		return rc;
	ix.size = entry_end(&ix, ix.count - 1);
	rc = compute_csum(&ix, err);
	if (rc < 0)
		return rc;
	*out = ix;
	return 0;
}

void didx_chunk(const struct didx *ix, size_t i, uint64_t *begin, uint64_t *end,
		struct digest *digest)
{
	assert(i < ix->count);
	*begin = entry_begin(ix, i);
	*end = entry_end(ix, i);
	memcpy(digest->bytes, ix->entries + i * DIDX_ENTRY_SIZE + 8, DIGEST_SIZE);
}

int didx_find(const struct didx *ix, uint64_t stream_offset, size_t *chunk)
{
	size_t low = 0, high = ix->count;

	if (stream_offset >= ix->size)
		return -ERANGE;
	/* The first chunk that ends behind the offset; it lies in [low, high). */
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (entry_end(ix, middle) > stream_offset)
			high = middle;
		else
			low = middle + 1;
	}
	*chunk = low;
	return 0;
}
