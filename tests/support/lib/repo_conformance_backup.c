/* SPDX-License-Identifier: Apache-2.0 */
/* The small backups of the suite, and of tests of a backend's own. */
#include "tests/support/lib/repo_conformance.h"

#include "archive/blob.h"
#include "archive/didx.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNKS = REPO_CONFORMANCE_CHUNK_COUNT, STORED_MAX = 1 << 20 };

void repo_conformance_chunk(unsigned seed, struct wbuf *stored, struct digest *digest)
{
	static _Thread_local uint8_t plain[REPO_CONFORMANCE_CHUNK_SIZE];
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	uint32_t v = seed * 2654435761u + 1;

	for (size_t i = 0; i < sizeof(plain); i++) {
		v = v * 1664525u + 1013904223u;
		plain[i] = (uint8_t)(v >> 24);
	}
	if (!codec || !ctx || blob_encode(codec, plain, sizeof(plain), true, stored, NULL) < 0)
		abort();
	digest_ctx_of(ctx, plain, sizeof(plain), digest);
}

struct snapshot_name repo_conformance_name(const char *group, const char *ns, int64_t time)
{
	struct snapshot_name s = { .time = time };

	if (snapshot_group_parse(group, ns, &s.group, NULL) < 0)
		abort();
	return s;
}

int repo_conformance_begin_as(struct repo *r, const struct snapshot_name *name,
			      const char *owner, struct repo_writer **out, struct err *err)
{
	struct repo_writer_params params = { .name = *name, .owner = owner };

	return repo_write(r, &params, out, err);
}

int repo_conformance_begin(struct repo *r, const struct snapshot_name *name,
			   struct repo_writer **out, struct err *err)
{
	return repo_conformance_begin_as(r, name, "root@pam", out, err);
}

static int store_chunk(struct repo_writer *w, struct repo_index *ix, unsigned seed,
		       struct err *err)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	struct digest d;

	repo_conformance_chunk(seed, &stored, &d);
	int rc = repo_writer_reuse_chunk(w, &d, err);
	if (rc == -ENOENT)
		rc = repo_writer_put_chunk(w, &d, stored.data, stored.size,
					   REPO_CONFORMANCE_CHUNK_SIZE, NULL, err);
	return rc < 0 ? rc : repo_index_add(w, ix, REPO_CONFORMANCE_CHUNK_SIZE, &d, err);
}

static int store_index(struct repo_writer *w, struct manifest *m, const char *name,
		       unsigned seed, unsigned count, struct err *err)
{
	struct repo_index *ix;
	struct digest csum;
	uint64_t size;
	int rc = repo_writer_index_open(w, name, &ix, err);

	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < count; i++) {
		rc = store_chunk(w, ix, seed + i, err);
		if (rc < 0)
			return rc;
	}
	rc = repo_index_close(w, ix, &size, &csum, err);
	if (rc < 0)
		return rc;
	return manifest_add_file(m, name, size, &csum, CRYPT_MODE_NONE, err);
}

static int encode(const void *data, size_t size, struct wbuf *out, struct err *err)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();

	return codec ? blob_encode(codec, data, size, true, out, err) : -ENOMEM;
}

int repo_conformance_store(struct repo_writer *w, struct manifest *m, unsigned seed,
			   struct err *err)
{
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(STORED_MAX);
	struct digest csum = { { 0 } };
	int rc = store_index(w, m, "root.ppxar.didx", seed, CHUNKS - 2, err);

	if (rc == 0)
		rc = store_index(w, m, "root.mpxar.didx", seed + CHUNKS - 2, 2, err);
	if (rc == 0)
		rc = encode(&seed, sizeof(seed), &blob, err);
	if (rc == 0)
		rc = repo_writer_put_blob(w, "seed.conf.blob", blob.data, blob.size, err);
	if (rc == 0)
		rc = manifest_add_file(m, "seed.conf.blob", blob.size, &csum, CRYPT_MODE_NONE, err);
	return rc;
}

int repo_conformance_finish(struct repo_writer *w, const struct manifest *m, struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(STORED_MAX), blob = WBUF_INIT(STORED_MAX);
	int rc = manifest_encode(m, &text, err);

	if (rc == 0)
		rc = encode(text.data, text.size, &blob, err);
	return rc < 0 ? rc : repo_writer_finish(w, blob.data, blob.size, err);
}

int repo_conformance_backup(struct repo *r, const struct snapshot_name *name, unsigned seed,
			    struct err *err)
{
	AUTO(manifest) struct manifest *m = manifest_new(name->group.type, name->group.id,
							 name->time);
	AUTO(repo_writer) struct repo_writer *w = NULL;
	int rc = repo_conformance_begin(r, name, &w, err);

	if (rc == 0)
		rc = repo_conformance_store(w, m, seed, err);
	return rc < 0 ? rc : repo_conformance_finish(w, m, err);
}

/* The manifest of a snapshot, decoded. */
static int load_manifest(struct repo_reader *r, struct manifest **out, struct err *err)
{
	AUTO(repo_file) struct repo_file blob = { 0 };
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	int rc = repo_reader_get_file(r, MANIFEST_BLOB_NAME, &blob, err);

	return rc < 0 ? rc : manifest_decode_blob(blob.data, blob.size, &text, out, err);
}

static int check_chunk(struct repo_reader *r, const struct didx *ix, size_t i, unsigned seed,
		       struct err *err)
{
	AUTO(wbuf) struct wbuf expected = WBUF_INIT(STORED_MAX), found = WBUF_INIT(STORED_MAX);
	struct digest d, in_index;
	uint64_t begin, end;

	repo_conformance_chunk(seed, &expected, &d);
	didx_chunk(ix, i, &begin, &end, &in_index);
	if (!digest_equal(&d, &in_index))
		return err_set(err, EBADMSG, "another chunk");
	int rc = repo_reader_get_chunk(r, &d, &found, err);
	if (rc == 0 && (found.size != expected.size ||
			memcmp(found.data, expected.data, found.size) != 0))
		rc = err_set(err, EBADMSG, "a chunk has other bytes");
	return rc;
}

static int check_index(struct repo_reader *r, const struct manifest *m, const char *name,
		       unsigned seed, size_t count, struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	struct didx ix;
	int rc = repo_reader_get_file(r, name, &file, err);

	if (rc == 0)
		rc = didx_open(&ix, file.data, file.size, err);
	if (rc == 0)
		rc = manifest_check(m, name, ix.size, &ix.csum, err);
	if (rc == 0 && ix.count != count)
		rc = err_set(err, EBADMSG, "%zu chunks", ix.count);
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = check_chunk(r, &ix, i, seed + (unsigned)i, err);
	return rc;
}

int repo_conformance_check(struct repo *r, const struct snapshot_name *name, unsigned seed,
			   struct err *err)
{
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(repo_file) struct repo_file blob = { 0 };
	int rc = repo_read(r, name, &reader, err);

	if (rc == 0)
		rc = load_manifest(reader, &m, err);
	if (rc == 0 && m->backup_time != name->time)
		rc = err_set(err, EBADMSG, "the manifest is of another time");
	if (rc == 0)
		rc = check_index(reader, m, "root.ppxar.didx", seed, CHUNKS - 2, err);
	if (rc == 0)
		rc = check_index(reader, m, "root.mpxar.didx", seed + CHUNKS - 2, 2, err);
	if (rc == 0)
		rc = repo_reader_get_file(reader, "seed.conf.blob", &blob, err);
	return rc;
}

struct counts {
	int *finished, *unfinished;
};

static int count_snapshot(void *arg, const struct repo_snapshot_info *info)
{
	struct counts *c = arg;

	++*(info->finished ? c->finished : c->unfinished);
	return 0;
}

void repo_conformance_count(struct repo *r, const struct snapshot_group *g, int *finished,
			    int *unfinished)
{
	struct counts c = { finished, unfinished };

	*finished = *unfinished = 0;
	if (repo_list_snapshots(r, g, count_snapshot, &c, NULL) < 0)
		abort();
}
