/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/repo_fill.h"

#include "archive/blob.h"
#include "archive/didx_writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static void must(int rc, const struct err *err)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "repo_fill: %s\n", err_text(err, rc));
	abort();
}

/* The stored form, compressed if that helps. */
static void encode(const void *data, size_t size, struct wbuf *out)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	struct err err = ERR_INIT;

	if (!codec)
		abort();
	must(blob_encode(codec, data, size, true, out, &err), &err);
}

struct digest repo_fill_chunk(struct repo *r, const void *data, size_t size)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(size));
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest digest;

	if (!ctx)
		abort();
	digest_ctx_of(ctx, data, size, &digest);
	encode(data, size, &stored);
	repo_memory_add_chunk(r, &digest, stored.data, stored.size);
	return digest;
}

void repo_fill_stream(struct repo *r, const struct snapshot_name *snapshot, struct manifest *m,
		      const char *name, const void *data, size_t size, size_t chunk_size)
{
	static const uint8_t uuid[16] = "repo_fill";
	AUTO(didx_writer) struct didx_writer ix = { 0 };
	const uint8_t *bytes = data;
	struct err err = ERR_INIT;
	struct digest csum;

	must(didx_writer_init(&ix, uuid, snapshot->time, &err), &err);
	for (size_t at = 0; at < size;) {
		size_t n = size - at < chunk_size ? size - at : chunk_size;
		struct digest digest = repo_fill_chunk(r, bytes + at, n);

		must(didx_writer_add(&ix, n, &digest, &err), &err);
		at += n;
	}
	must(didx_writer_finish(&ix, &csum, &err), &err);
	repo_memory_add_file(r, snapshot, name, ix.bytes.data, ix.bytes.size);
	must(manifest_add_file(m, name, ix.size, &csum, CRYPT_MODE_NONE, &err), &err);
}

void repo_fill_manifest(struct repo *r, const struct snapshot_name *snapshot,
			const struct manifest *m)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(MANIFEST_SIZE_MAX));
	struct err err = ERR_INIT;

	must(manifest_encode(m, &text, &err), &err);
	encode(text.data, text.size, &stored);
	repo_memory_add_file(r, snapshot, MANIFEST_BLOB_NAME, stored.data, stored.size);
}

struct snapshot_name repo_fill_name(void)
{
	return (struct snapshot_name){ .group = { "", "host", "test" }, .time = 1800000000 };
}

uint8_t *repo_fill_read(const char *path, size_t *size)
{
	AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	uint8_t *data;

	if (fd < 0 || fstat(fd, &st) < 0) {
		perror(path);
		abort();
	}
	*size = (size_t)st.st_size;
	data = malloc(*size ? *size : 1);
	if (!data || read(fd, data, *size) != (ssize_t)*size)
		abort();
	return data;
}
