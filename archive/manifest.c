/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/manifest.h"

#include "archive/base/grow.h"
#include "archive/blob.h"
#include "archive/json_text.h"

#include <limits.h>

/* The years 0000 to 9999, which the name of a snapshot's folder can hold. */
#define BACKUP_TIME_MIN (-62167219200LL)
#define BACKUP_TIME_MAX 253402300799LL

/* Members of "unprotected". */
#define LOST_CONTENT "pxarfs-lost-content"
#define SHRUNK_CONTENT "pxarfs-shrunk-content"

enum { NAME_SIZE_MAX = 255 };

static const char *const crypt_modes[] = {
	[CRYPT_MODE_NONE] = "none",
	[CRYPT_MODE_ENCRYPT] = "encrypt",
	[CRYPT_MODE_SIGN_ONLY] = "sign-only",
};

const char *crypt_mode_text(enum crypt_mode mode)
{
	return crypt_modes[mode];
}

int crypt_mode_parse(const char *text, enum crypt_mode *out)
{
	for (size_t i = 0; i < sizeof(crypt_modes) / sizeof(crypt_modes[0]); i++) {
		if (strcmp(text, crypt_modes[i]) == 0) {
			*out = (enum crypt_mode)i;
			return 0;
		}
	}
	return -EBADMSG;
}

/* [A-Za-z0-9_][A-Za-z0-9._-]*: what ids and file names are made of. */
static bool is_safe_id(const char *text)
{
	static const char inner[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				    "0123456789_.-";
	size_t size = strlen(text);

	return size > 0 && size <= NAME_SIZE_MAX && text[0] != '.' && text[0] != '-' &&
	       strspn(text, inner) == size;
}

static bool is_backup_type(const char *text)
{
	return strcmp(text, "vm") == 0 || strcmp(text, "ct") == 0 || strcmp(text, "host") == 0;
}

struct manifest *manifest_new(const char *backup_type, const char *backup_id,
			      int64_t backup_time)
{
	AUTO(manifest) struct manifest *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->backup_type = strdup(backup_type);
	m->backup_id = strdup(backup_id);
	m->backup_time = backup_time;
	m->unprotected = json_object();
	if (!m->backup_type || !m->backup_id || !m->unprotected)
		return NULL;
	return steal(&m);
}

void manifest_free(struct manifest *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->file_count; i++)
		free(m->files[i].name);
	free(m->files);
	free(m->backup_type);
	free(m->backup_id);
	free(m->signature);
	free(m->key_fingerprint);
	free(m->verify_state);
	json_decref(m->unprotected);
	free(m);
}

/* --- files --- */

static int append_file(struct manifest *m, const char *name, uint64_t size,
		       const struct digest *csum, enum crypt_mode mode, struct err *err)
{
	AUTO(free) char *copy = NULL;
	int rc;

	if (!is_safe_id(name))
		return err_set(err, EBADMSG, "'%s' is no file name", name);
	if (size > INT64_MAX)
		return err_set(err, EBADMSG, "file '%s' has an impossible size", name);
	rc = grow(&m->files, &m->file_capacity, m->file_count + 1, MANIFEST_FILE_COUNT_MAX,
		  sizeof(*m->files));
	if (rc == -E2BIG)
		return err_set(err, E2BIG, "more than %d files", MANIFEST_FILE_COUNT_MAX);
	copy = strdup(name);
	if (!copy || rc < 0)
		return err_set(err, ENOMEM, "out of memory");
	m->files[m->file_count++] = (struct manifest_file){
		.name = steal(&copy),
		.crypt_mode = mode,
		.size = size,
		.csum = *csum,
	};
	return 0;
}

int manifest_add_file(struct manifest *m, const char *name, uint64_t size,
		      const struct digest *csum, enum crypt_mode mode, struct err *err)
{
	if (manifest_find(m, name))
		return err_set(err, EEXIST, "manifest has a file '%s' already", name);
	return append_file(m, name, size, csum, mode, err);
}

const struct manifest_file *manifest_find(const struct manifest *m, const char *name)
{
	for (size_t i = 0; i < m->file_count; i++)
		if (strcmp(m->files[i].name, name) == 0)
			return &m->files[i];
	return NULL;
}

int manifest_check(const struct manifest *m, const char *name, uint64_t size,
		   const struct digest *csum, struct err *err)
{
	const struct manifest_file *file = manifest_find(m, name);

	if (!file)
		return err_set(err, ENOENT, "manifest does not contain file '%s'", name);
	if (file->size != size)
		return err_set(err, EBADMSG, "wrong size for file '%s' (%llu != %llu)", name,
			       (unsigned long long)file->size, (unsigned long long)size);
	if (!digest_equal(&file->csum, csum))
		return err_set(err, EBADMSG, "wrong checksum for file '%s'", name);
	return 0;
}

/* --- decoding --- */

static int wrong_member(const char *name, const char *expected, struct err *err)
{
	return err_set(err, EBADMSG, "'%s' is not %s", name, expected);
}

/* A string member without NUL; NULL in *out when it is missing or null. */
static int optional_text(const json_t *object, const char *name, const char **out,
			 struct err *err)
{
	const json_t *value = json_object_get(object, name);

	*out = NULL;
	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value))
		return wrong_member(name, "a string", err);
	if (strlen(json_string_value(value)) != json_string_length(value))
		return wrong_member(name, "free of NUL", err);
	*out = json_string_value(value);
	return 0;
}

static int required_text(const json_t *object, const char *name, const char **out,
			 struct err *err)
{
	int rc = optional_text(object, name, out, err);

	if (rc == 0 && !*out)
		return err_set(err, EBADMSG, "lacks '%s'", name);
	return rc;
}

static int required_integer(const json_t *object, const char *name, int64_t min, int64_t max,
			    int64_t *out, struct err *err)
{
	const json_t *value = json_object_get(object, name);

	if (!value)
		return err_set(err, EBADMSG, "lacks '%s'", name);
	if (!json_is_integer(value))
		return wrong_member(name, "an integer", err);
	if (json_integer_value(value) < min || json_integer_value(value) > max)
		return wrong_member(name, "in range", err);
	*out = json_integer_value(value);
	return 0;
}

static int keep_text(char **out, const char *text, struct err *err)
{
	if (!text)
		return 0;
	*out = strdup(text);
	return *out ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int decode_file(struct manifest *m, const json_t *entry, struct err *err)
{
	enum crypt_mode mode = CRYPT_MODE_NONE; /* very old manifests do not say */
	const char *name, *mode_text, *csum_text = NULL;
	struct digest csum;
	int64_t size = 0;
	int rc;

	if (!json_is_object(entry))
		return err_set(err, EBADMSG, "a file is not an object");
	rc = required_text(entry, "filename", &name, err);
	if (rc)
		return rc;
	rc = optional_text(entry, "crypt-mode", &mode_text, err);
	if (rc == 0 && mode_text && crypt_mode_parse(mode_text, &mode) < 0)
		rc = err_set(err, EBADMSG, "unknown crypt mode '%s'", mode_text);
	if (rc == 0)
		rc = required_text(entry, "csum", &csum_text, err);
	if (rc == 0 && digest_from_hex(&csum, csum_text) < 0)
		rc = wrong_member("csum", "64 hex digits", err);
	if (rc == 0)
		rc = required_integer(entry, "size", 0, INT64_MAX, &size, err);
	if (rc)
		return err_wrap(err, rc, "file '%.*s'", NAME_SIZE_MAX, name);
	return append_file(m, name, (uint64_t)size, &csum, mode, err);
}

static int compare_files(const void *a, const void *b)
{
	return strcmp((*(const struct manifest_file *const *)a)->name,
		      (*(const struct manifest_file *const *)b)->name);
}

/* Which of two entries of one name holds would depend on who reads. */
static int refuse_repeated_files(const struct manifest *m, struct err *err)
{
	AUTO(free) const struct manifest_file **sorted = NULL;

	if (m->file_count < 2)
		return 0;
	sorted = calloc(m->file_count, sizeof(*sorted));
	if (!sorted)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < m->file_count; i++)
		sorted[i] = &m->files[i];
	qsort(sorted, m->file_count, sizeof(*sorted), compare_files);
	for (size_t i = 1; i < m->file_count; i++)
		if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
			return err_set(err, EBADMSG, "lists '%s' twice",
				       sorted[i]->name);
	return 0;
}

static int decode_files(struct manifest *m, const json_t *root, struct err *err)
{
	const json_t *files = json_object_get(root, "files");
	size_t i;
	json_t *entry;

	if (!json_is_array(files))
		return wrong_member("files", "an array", err);
	json_array_foreach(files, i, entry) {
		int rc = decode_file(m, entry, err);

		if (rc < 0)
			return rc;
	}
	return refuse_repeated_files(m, err);
}

static int decode_signature(struct manifest *m, const json_t *root, struct err *err)
{
	const char *text;
	struct digest tag;
	int rc = optional_text(root, "signature", &text, err);

	if (rc < 0)
		return rc;
	if (text && digest_from_hex(&tag, text) < 0)
		return wrong_member("signature", "64 hex digits", err);
	return keep_text(&m->signature, text, err);
}

/* Kept whole; what we need of it is copied out.  Only the fingerprint matters to a reader, so
 * only that must be well-formed. */
static int decode_unprotected(struct manifest *m, const json_t *root, struct err *err)
{
	json_t *value = json_object_get(root, "unprotected");
	const char *text;
	int rc;

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_object(value))
		return wrong_member("unprotected", "an object", err);
	json_decref(m->unprotected);
	m->unprotected = json_incref(value);
	rc = optional_text(value, "key-fingerprint", &text, err);
	if (rc == 0)
		rc = keep_text(&m->key_fingerprint, text, err);
	if (rc < 0)
		return rc;
	m->lost_content = json_is_true(json_object_get(value, LOST_CONTENT));
	m->shrunk_content = json_is_true(json_object_get(value, SHRUNK_CONTENT));
	text = json_string_value(json_object_get(json_object_get(value, "verify_state"), "state"));
	return keep_text(&m->verify_state, text, err);
}

static int decode_head(const json_t *root, struct manifest **out, struct err *err)
{
	const char *type, *id;
	int64_t backup_time;
	int rc = required_text(root, "backup-type", &type, err);

	if (rc == 0)
		rc = required_text(root, "backup-id", &id, err);
	if (rc == 0)
		rc = required_integer(root, "backup-time", BACKUP_TIME_MIN, BACKUP_TIME_MAX,
				      &backup_time, err);
	if (rc)
		return rc;
	if (!is_backup_type(type))
		return err_set(err, EBADMSG, "unknown backup type '%s'", type);
	if (!is_safe_id(id))
		return err_set(err, EBADMSG, "bad backup id '%s'", id);
	*out = manifest_new(type, id, backup_time);
	return *out ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int decode(const void *text, size_t size, struct manifest **out, struct err *err)
{
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(json) json_t *root = NULL;
	int rc;

	if (size > MANIFEST_SIZE_MAX)
		return err_set(err, EBADMSG, "too large (%zu bytes)", size);
	rc = json_text_decode(text, size, &root, err);
	if (rc < 0)
		return rc;
	if (!json_is_object(root))
		return err_set(err, EBADMSG, "not a JSON object");
	rc = decode_head(root, &m, err);
	if (rc == 0)
		rc = decode_files(m, root, err);
	if (rc == 0)
		rc = decode_signature(m, root, err);
	if (rc == 0)
		rc = decode_unprotected(m, root, err);
	if (rc == 0)
		*out = steal(&m);
	return rc;
}

int manifest_decode(const void *text, size_t size, struct manifest **out, struct err *err)
{
	int rc = decode(text, size, out, err);

	return rc < 0 ? err_wrap(err, rc, "manifest") : 0;
}

int manifest_decode_blob(const void *blob, size_t size, struct wbuf *text, struct manifest **out,
			 struct err *err)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	int rc;

	if (!codec)
		return err_set(err, ENOMEM, "out of memory");
	rc = blob_decode(codec, blob, size, MANIFEST_SIZE_MAX, text, err);
	return rc < 0 ? rc : manifest_decode(text->data, text->size, out, err);
}

/* --- encoding --- */

static int append_json_file(json_t *files, const struct manifest_file *file)
{
	char csum[DIGEST_HEX_SIZE];
	json_t *entry;

	digest_to_hex(&file->csum, csum);
	entry = json_pack("{s:s, s:s, s:s, s:I}", "crypt-mode", crypt_mode_text(file->crypt_mode),
			  "csum", csum, "filename", file->name, "size", (json_int_t)file->size);
	return entry ? json_array_append_new(files, entry) : -1;
}

/* `unprotected` is shared with the tree, not copied. */
static json_t *to_json(const struct manifest *m)
{
	AUTO(json) json_t *root = NULL;
	json_t *files;

	root = json_pack("{s:s, s:I, s:s, s:[], s:s?, s:O}", "backup-id", m->backup_id,
			 "backup-time", (json_int_t)m->backup_time, "backup-type",
			 m->backup_type, "files", "signature", m->signature, "unprotected",
			 (json_t *)m->unprotected);
	if (!root)
		return NULL;
	files = json_object_get(root, "files");
	for (size_t i = 0; i < m->file_count; i++)
		if (append_json_file(files, &m->files[i]) < 0)
			return NULL;
	return steal(&root);
}

int manifest_encode(const struct manifest *m, struct wbuf *out, struct err *err)
{
	AUTO(json) json_t *root = to_json(m);

	if (!root)
		return err_set(err, ENOMEM, "out of memory");
	if (json_text_pretty(root, out) < 0)
		return err_sys(err, -out->failed, "manifest");
	return 0;
}

int manifest_set_upload_stats(struct manifest *m, const struct manifest_upload_stats *stats,
			      struct err *err)
{
	json_t *object = json_pack("{s:I, s:I, s:I, s:I}", "count", (json_int_t)stats->count,
				   "size", (json_int_t)stats->size, "compressed_size",
				   (json_int_t)stats->compressed_size, "duplicates",
				   (json_int_t)stats->duplicates);

	if (!object || json_object_set_new(m->unprotected, "chunk_upload_stats", object) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static int set_true(struct manifest *m, const char *member, bool *copy, struct err *err)
{
	if (json_object_set_new(m->unprotected, member, json_true()) < 0)
		return err_set(err, ENOMEM, "out of memory");
	*copy = true;
	return 0;
}

int manifest_set_lost_content(struct manifest *m, struct err *err)
{
	return set_true(m, LOST_CONTENT, &m->lost_content, err);
}

int manifest_set_shrunk_content(struct manifest *m, struct err *err)
{
	return set_true(m, SHRUNK_CONTENT, &m->shrunk_content, err);
}

static int set_notes(json_t *unprotected, const char *notes, struct err *err)
{
	if (!json_text_is_utf8(notes, strlen(notes)))
		return err_set(err, EINVAL, "the notes are not UTF-8");
	if (!notes[0])
		json_object_del(unprotected, "notes");
	else if (json_object_set_new(unprotected, "notes", json_string(notes)) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

int manifest_set_notes(struct manifest *m, const char *notes, struct err *err)
{
	return set_notes(m->unprotected, notes, err);
}

const char *manifest_notes(const struct manifest *m, size_t *size)
{
	const json_t *notes = json_object_get(m->unprotected, "notes");

	*size = json_string_length(notes);
	return json_string_value(notes);
}

int manifest_text_set_notes(const void *text, size_t size, const char *notes, struct wbuf *out,
			    struct err *err)
{
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(json) json_t *root = NULL;
	int rc = manifest_decode(text, size, &m, err);

	if (rc == 0)
		rc = json_text_decode(text, size, &root, err);
	if (rc < 0)
		return rc;
	/* Very old manifests have no such member, or null. */
	json_t *unprotected = json_object_get(root, "unprotected");
	if (!json_is_object(unprotected)) {
		unprotected = json_object();
		if (json_object_set_new(root, "unprotected", unprotected) < 0)
			return err_set(err, ENOMEM, "out of memory");
	}
	rc = set_notes(unprotected, notes, err);
	if (rc == 0 && json_text_pretty(root, out) < 0)
		rc = err_set(err, -out->failed, "%s",
			     out->failed == -ENOMEM ? "out of memory" : "too large");
	return rc;
}

static int replace_text(char **member, const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		return -ENOMEM;
	free(*member);
	*member = copy;
	return 0;
}

int manifest_set_signature(struct manifest *m, const char *signature,
			   const char *key_fingerprint, struct err *err)
{
	if (json_object_set_new(m->unprotected, "key-fingerprint",
				json_string(key_fingerprint)) < 0 ||
	    replace_text(&m->signature, signature) < 0 ||
	    replace_text(&m->key_fingerprint, key_fingerprint) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}
