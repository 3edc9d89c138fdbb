/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest - the list of a snapshot's files with their sizes, checksums and crypt modes.
 *
 * Layout:  archive/FORMAT.md, "Manifest".  The text form is that of the server, to the byte.
 * Owner:   free with manifest_free(); strings handed out live as long as it.
 * Trust:   the text is hostile: size, nesting and counts are bounded, every name is checked.
 */
#ifndef PXARFS_MANIFEST_H
#define PXARFS_MANIFEST_H

#include "archive/base/digest.h"
#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdbool.h>
#include <stdint.h>

#define MANIFEST_BLOB_NAME "index.json.blob"

enum {
	MANIFEST_SIZE_MAX = 16 << 20, /* text */
	MANIFEST_FILE_COUNT_MAX = 65536,
};

enum crypt_mode { CRYPT_MODE_NONE, CRYPT_MODE_ENCRYPT, CRYPT_MODE_SIGN_ONLY };

const char *crypt_mode_text(enum crypt_mode mode); /* "none", "encrypt", "sign-only" */
int crypt_mode_parse(const char *text, enum crypt_mode *out); /* -EBADMSG: none of these */

struct manifest_file {
	char *name; /* "root.mpxar.didx" */
	enum crypt_mode crypt_mode;
	uint64_t size; /* FORMAT.md: stream size, image size, or size of the encoded blob */
	struct digest csum;
};

/* Counters of a finished backup, kept under "unprotected". */
struct manifest_upload_stats {
	uint64_t count, size, compressed_size, duplicates;
};

struct manifest {
	char *backup_type, *backup_id;
	int64_t backup_time;
	struct manifest_file *files; /* in upload order */
	size_t file_count, file_capacity;
	char *signature; /* 64 hex digits, or NULL */
	char *key_fingerprint; /* long form, or NULL */
	char *verify_state; /* "ok", "failed", or NULL */
	bool lost_content; /* some file's content could not be read, and is zeros */
	bool shrunk_content; /* some file ended too soon while it was read, and ends in zeros */
	void *unprotected; /* the whole "unprotected" object (json_t), unknown members too;
			    * the four above are copies of what was decoded from it */
};

struct manifest *manifest_new(const char *backup_type, const char *backup_id,
			      int64_t backup_time);
void manifest_free(struct manifest *m);
DEFINE_AUTO_PTR(manifest)

/* Decode JSON text (the decoded blob).  -EBADMSG (the message says which member), -E2BIG: too
 * many files.  Unknown members are dropped, as by the server, but for those of "unprotected". */
int manifest_decode(const void *text, size_t size, struct manifest **out, struct err *err);

/* The same from the blob that is in a repository, whose text is appended to `text` (empty, with room
 * for MANIFEST_SIZE_MAX).  Also errors of blob_decode(). */
int manifest_decode_blob(const void *blob, size_t size, struct wbuf *text, struct manifest **out,
			 struct err *err);

/* Append the text form: two-space indent, sorted keys, no final newline. */
int manifest_encode(const struct manifest *m, struct wbuf *out, struct err *err);

/* -EBADMSG: no file name, or an impossible size; -EEXIST: it is there already; -E2BIG. */
int manifest_add_file(struct manifest *m, const char *name, uint64_t size,
		      const struct digest *csum, enum crypt_mode mode, struct err *err);
int manifest_set_upload_stats(struct manifest *m, const struct manifest_upload_stats *stats,
			      struct err *err);

int manifest_set_lost_content(struct manifest *m, struct err *err);
int manifest_set_shrunk_content(struct manifest *m, struct err *err);

/* What a person has noted about the snapshot; "" takes it away.  -EINVAL: not UTF-8. */
int manifest_set_notes(struct manifest *m, const char *notes, struct err *err);

/* The notes, not ended by a NUL (they may hold some); *size 0: there are none. */
const char *manifest_notes(const struct manifest *m, size_t *size);

/* Append manifest text `text` with other notes and all else as it was, what we do not know
 * included, so that a signature stays valid.  Errors of manifest_decode(), -EINVAL. */
int manifest_text_set_notes(const void *text, size_t size, const char *notes, struct wbuf *out,
			    struct err *err);

/* Both are copied: 64 hex digits, and the long form of the key that made them. */
int manifest_set_signature(struct manifest *m, const char *signature,
			   const char *key_fingerprint, struct err *err);

/* NULL when the manifest has no such file. */
const struct manifest_file *manifest_find(const struct manifest *m, const char *name);

/* Compare what was found of file `name` with the manifest.  -ENOENT: not listed; -EBADMSG:
 * "wrong size for file ..." or "wrong checksum for file ...". */
int manifest_check(const struct manifest *m, const char *name, uint64_t size,
		   const struct digest *csum, struct err *err);

#endif
