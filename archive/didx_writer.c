/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/didx_writer.h"

#include "archive/base/ckd.h"
#include "archive/base/le.h"
#include "archive/chunker.h"

enum {
	UUID_SIZE = 16,
	CSUM_OFFSET = 32,
	CHUNK_COUNT_MAX = INT32_MAX, /* 128 TiB even in chunks of 64 KiB; 80 GiB of index */
};

#define INDEX_SIZE_MAX (DIDX_HEADER_SIZE + (size_t)CHUNK_COUNT_MAX * DIDX_ENTRY_SIZE)

static int failed(const struct didx_writer *w, struct err *err)
{
	return err_sys(err, -w->bytes.failed, "dynamic index of %zu chunks", w->count);
}

int didx_writer_init(struct didx_writer *w, const uint8_t uuid[16], int64_t ctime,
		     struct err *err)
{
	*w = (struct didx_writer){ .count = 0 };
	wbuf_init(&w->bytes, INDEX_SIZE_MAX);
	wbuf_put(&w->bytes, DIDX_MAGIC, sizeof(DIDX_MAGIC));
	wbuf_put(&w->bytes, uuid, UUID_SIZE);
	wbuf_put_u64(&w->bytes, (uint64_t)ctime);
	wbuf_put_zero(&w->bytes, DIDX_HEADER_SIZE - CSUM_OFFSET);
	if (w->bytes.failed) {
		int rc = failed(w, err);

		didx_writer_release(w);
		return rc;
	}
	return 0;
}

void didx_writer_release(struct didx_writer *w)
{
	wbuf_release(&w->bytes);
}

int didx_writer_add(struct didx_writer *w, uint64_t chunk_size, const struct digest *digest,
		    struct err *err)
{
	uint8_t entry[DIDX_ENTRY_SIZE];
	uint64_t end;

	if (chunk_size == 0 || chunk_size > CHUNK_SIZE_MAX)
		return err_set(err, EINVAL, "a chunk cannot have %llu bytes",
			       (unsigned long long)chunk_size);
	if (ckd_add(&end, w->size, chunk_size))
		return err_set(err, E2BIG, "stream too long for an index");
	le64_put(entry, end);
	memcpy(entry + 8, digest->bytes, DIGEST_SIZE);
	if (wbuf_put(&w->bytes, entry, sizeof(entry)) < 0)
		return failed(w, err);
	w->size = end;
	w->count++;
	return 0;
}

int didx_writer_finish(struct didx_writer *w, struct digest *csum, struct err *err)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = NULL;
	struct digest found;

	if (w->count == 0)
		return err_set(err, EINVAL, "a dynamic index needs a chunk");
	ctx = digest_ctx_new();
	if (!ctx)
		return err_set(err, ENOMEM, "out of memory");
	digest_ctx_of(ctx, w->bytes.data + DIDX_HEADER_SIZE, w->bytes.size - DIDX_HEADER_SIZE,
		      &found);
	memcpy(w->bytes.data + CSUM_OFFSET, found.bytes, DIGEST_SIZE);
	*csum = found;
	return 0;
}
