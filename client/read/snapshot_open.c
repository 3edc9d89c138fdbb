/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/snapshot_open.h"

#include "archive/blob.h"
#include "archive/manifest_sign.h"
#include "archive/master_key.h"

#include <errno.h>
#include <string.h>

struct snapshot_open {
	struct fetch *fetch;
	struct repo_reader *reader;
	const struct crypt_key *key; /* NULL: none, or none needed */
	const struct crypt_key *log_key; /* the log's mode was chosen when it was stored */
	struct manifest *manifest;
	struct wbuf text;
	bool has_log;
	int locked; /* 0, -ENOKEY or -EKEYREJECTED, and why: */
	struct err locked_err;
};

static bool ends_with(const char *text, const char *end)
{
	size_t size = strlen(text), end_size = strlen(end);

	return size > end_size && strcmp(text + size - end_size, end) == 0;
}

/* --- opening --- */

static int read_manifest(struct snapshot_open *s, struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	int rc = repo_reader_get_file(s->reader, MANIFEST_BLOB_NAME, &file, err);

	if (rc < 0)
		return rc;
	rc = manifest_decode_blob(file.data, file.size, &s->text, &s->manifest, err);
	return rc < 0 ? err_wrap(err, rc, "%s", MANIFEST_BLOB_NAME) : 0;
}

/* A key is used where one is needed only: snapshots with and without lie side by side. */
static int check_key(struct snapshot_open *s, const struct crypt_key *key, struct err *err)
{
	int rc;

	s->key = manifest_has_key(s->manifest) ? key : NULL;
	rc = manifest_check_key(s->manifest, s->text.data, s->text.size, s->key, err);
	if (rc < 0)
		err_wrap(err, rc, "%s", MANIFEST_BLOB_NAME);
	if (rc != -ENOKEY && rc != -EKEYREJECTED)
		return rc;
	s->locked = rc;
	if (err)
		s->locked_err = *err;
	return 0;
}

/* It comes after the snapshot and is in no list. */
static int find_log(struct snapshot_open *s, struct err *err)
{
	int rc = repo_reader_has_file(s->reader, REPO_CLIENT_LOG, err);

	s->has_log = rc > 0;
	return rc < 0 ? rc : 0;
}

int snapshot_open_new(struct snapshot_open **out, struct fetch *fetch, struct repo *repo,
		      const struct snapshot_name *name, const struct crypt_key *key,
		      struct err *err)
{
	AUTO(snapshot_open) struct snapshot_open *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(err, ENOMEM, "out of memory");
	s->fetch = fetch;
	s->log_key = key;
	wbuf_init(&s->text, MANIFEST_SIZE_MAX);
	rc = repo_read(repo, name, &s->reader, err);
	if (rc == 0)
		rc = read_manifest(s, err);
	if (rc == 0)
		rc = check_key(s, key, err);
	if (rc == 0)
		rc = find_log(s, err);
	if (rc == 0)
		*out = steal(&s);
	return rc;
}

void snapshot_open_free(struct snapshot_open *s)
{
	if (!s)
		return;
	manifest_free(s->manifest);
	wbuf_release(&s->text);
	if (s->reader)
		repo_reader_free(s->reader);
	free(s);
}

void snapshot_open_abort(struct snapshot_open *s)
{
	repo_reader_abort(s->reader);
}

const struct manifest *snapshot_open_manifest(const struct snapshot_open *s)
{
	return s->manifest;
}

bool snapshot_open_has_log(const struct snapshot_open *s)
{
	return s->has_log;
}

const struct wbuf *snapshot_open_text(const struct snapshot_open *s)
{
	return &s->text;
}

int snapshot_open_locked(const struct snapshot_open *s, struct err *err)
{
	if (s->locked && err)
		*err = s->locked_err;
	return s->locked;
}

/* --- what is in it --- */

int snapshot_open_archive(struct snapshot_open *s, const char *typed, struct archive **out,
			  struct err *err)
{
	int rc = snapshot_open_locked(s, err);

	return rc < 0 ? rc :
			archive_open_in(out, s->fetch, s->reader, s->manifest, s->key, typed, err);
}

static const struct crypt_key *key_of(const struct snapshot_open *s, const char *stored)
{
	const struct manifest_file *file = manifest_find(s->manifest, stored);

	return file && file->crypt_mode == CRYPT_MODE_ENCRYPT ? s->key : NULL;
}

static int open_fixed(struct snapshot_open *s, const char *stored, struct repo_file *file,
		      struct stream **out, struct err *err)
{
	struct fidx ix;
	int rc = fidx_open(&ix, file->data, file->size, err);

	if (rc < 0)
		return err_wrap(err, rc, "%s", stored);
	rc = manifest_check(s->manifest, stored, ix.size, &ix.csum, err);
	if (rc < 0)
		return rc;
	return stream_new_fidx(out, s->fetch, s->reader, file, &ix, key_of(s, stored),
			       CHUNK_PAYLOAD, stored, err);
}

static int open_dynamic(struct snapshot_open *s, const char *stored, struct repo_file *file,
			struct stream **out, struct err *err)
{
	struct didx ix;
	int rc = didx_open(&ix, file->data, file->size, err);

	if (rc < 0)
		return err_wrap(err, rc, "%s", stored);
	rc = manifest_check(s->manifest, stored, ix.size, &ix.csum, err);
	if (rc < 0)
		return rc;
	return stream_new_didx(out, s->fetch, s->reader, file, &ix, key_of(s, stored),
			       CHUNK_PAYLOAD, stored, err);
}

int snapshot_open_stream(struct snapshot_open *s, const char *stored, struct stream **out,
			 struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	int rc = snapshot_open_locked(s, err);

	if (rc == 0)
		rc = repo_reader_get_file(s->reader, stored, &file, err);
	if (rc < 0)
		return rc;
	return ends_with(stored, ".fidx") ? open_fixed(s, stored, &file, out, err) :
					    open_dynamic(s, stored, &file, out, err);
}

/* Of a listed blob everything can be proved; the client's log came later. */
static int check_blob(struct snapshot_open *s, const char *stored, const struct repo_file *file,
		      struct err *err)
{
	const struct manifest_file *listed = manifest_find(s->manifest, stored);
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	enum blob_kind kind;
	struct digest csum;
	int rc;

	if (!listed && strcmp(stored, REPO_CLIENT_LOG) == 0)
		return 0;
	if (!ctx)
		return err_set(err, ENOMEM, "%s: out of memory", stored);
	digest_ctx_of(ctx, file->data, file->size, &csum);
	rc = manifest_check(s->manifest, stored, file->size, &csum, err);
	if (rc == 0)
		rc = blob_kind(file->data, file->size, &kind, err);
	if (rc)
		return rc;
	/* Signed, a blob is plain; "encrypt" is said of what is not a secret, too: the key that
	 * was encrypted for the master key. */
	if (blob_kind_is_encrypted(kind) && listed->crypt_mode != CRYPT_MODE_ENCRYPT)
		return err_set(err, EBADMSG, "%s: encrypted, but the manifest says %s", stored,
			       crypt_mode_text(listed->crypt_mode));
	return 0;
}

int snapshot_open_blob(struct snapshot_open *s, const char *stored, struct wbuf *out,
		       struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	AUTO(blob_codec) struct blob_codec *codec = NULL;
	int rc;

	if (strcmp(stored, MANIFEST_BLOB_NAME) == 0)
		return wbuf_put(out, s->text.data, s->text.size);
	/* Who has lost the key needs this one to get it back. */
	rc = strcmp(stored, MASTER_KEY_BLOB_NAME) == 0 ? 0 : snapshot_open_locked(s, err);
	if (rc == 0)
		rc = repo_reader_get_file(s->reader, stored, &file, err);
	if (rc == 0)
		rc = check_blob(s, stored, &file, err);
	if (rc < 0)
		return rc;
	codec = blob_codec_new();
	if (!codec)
		return err_set(err, ENOMEM, "%s: out of memory", stored);
	blob_codec_set_key(codec, strcmp(stored, REPO_CLIENT_LOG) == 0 ? s->log_key : s->key);
	rc = blob_decode(codec, file.data, file.size, BLOB_DATA_SIZE_MAX, out, err);
	return rc < 0 ? err_wrap(err, rc, "%s", stored) : 0;
}
