/* SPDX-License-Identifier: Apache-2.0 */
/*
 * encoder - entries, pushed in archive order, become a metadata stream and a payload stream
 * (version 2) or one stream (version 1).
 *
 * The caller walks depth first: encoder_new() writes the root's head, then members in
 * ascending order of their names (unsigned bytes), directories opened and closed in place,
 * encoder_finish() closes the root.  A file is announced with its size and then given exactly
 * that many bytes; the size is never corrected (pad with zeros what a shrunken file lacks).
 *
 * Writes: each member's head, up to where its content or its first member begins, is one write
 * to the metadata stream.  The payload stream gets the start marker, per file the header of
 * its payload, the content in the pieces the caller gives, and the tail marker, each as one
 * write: where a chunker cuts may depend on it.
 *
 * To copy an archive without its content (or with payloads that others write), announce every
 * file with encoder_file_reuse(), which writes no payload and takes any rising offset; give a
 * payload sink that drops the two markers; and restore the goodbye slots of files that had
 * been written anew with encoder_member_size().
 *
 * Layout:  archive/FORMAT.md, "Encoder".
 * Owner:   free with encoder_free(), finished or not.  Names and metadata are borrowed for the
 *          call only.  Memory: 24 bytes a member of each open directory, and one head.  Nothing
 *          is allocated per entry.
 * Threads: one owner at a time.
 * Errors:  -EINVAL: a call out of order, a bad name, a type that does not fit; -E2BIG: an item
 *          over its limit (nothing of it was written, the caller may skip the object);
 *          whatever a sink returned.  After an error of a sink the encoder is unusable.
 */
#ifndef PXARFS_ENCODER_H
#define PXARFS_ENCODER_H

#include "archive/metadata.h"

/* Where a stream goes.  `write` takes all `size` bytes or fails. */
struct encoder_sink {
	int (*write)(void *arg, const void *data, size_t size, struct err *err);
	void *arg;
};

struct encoder_params {
	struct encoder_sink meta; /* version 1: the only stream */
	struct encoder_sink payload; /* write == NULL: version 1 */
	const void *prelude; /* version 2 only, borrowed by encoder_new(); NULL: none */
	size_t prelude_size;

	/* Version 2: the goodbye slots of reused files count their content, as those of files that
	 * are written do.  Both forms are valid; so, what was reused does not show. */
	bool reuse_counts_content;

	/* Version 2, may be NULL: called before anything of a regular file is written or
	 * referenced (not for hard links), with encoder_payload_offset(): a good place for a
	 * cut.  The same offset may come again. */
	void (*suggest_cut)(void *arg, uint64_t payload_offset);
	void *suggest_arg;
};

struct encoder;

int encoder_new(struct encoder **out, const struct encoder_params *params,
		const struct metadata *root, struct err *err);
void encoder_free(struct encoder *e);
DEFINE_AUTO_PTR(encoder)

int encoder_dir_begin(struct encoder *e, const char *name, const struct metadata *meta,
		      struct err *err);
int encoder_dir_end(struct encoder *e, struct err *err);

/* `*filename_offset` is what a later encoder_hardlink() to this file needs; may be NULL. */
int encoder_file_begin(struct encoder *e, const char *name, const struct metadata *meta,
		       uint64_t size, uint64_t *filename_offset, struct err *err);
int encoder_file_write(struct encoder *e, const void *data, size_t size, struct err *err);
int encoder_file_end(struct encoder *e, struct err *err); /* -EINVAL: bytes are missing */

/* A file whose payload is (or will be) in the payload stream already: version 2 only.
 * `payload_offset` is that of its PAYLOAD header, neither below encoder_payload_offset() nor
 * inside the payload that was last referred to.  Its goodbye slot does not count the content
 * unless params.reuse_counts_content says so. */
int encoder_file_reuse(struct encoder *e, const char *name, const struct metadata *meta,
		       uint64_t payload_offset, uint64_t size, uint64_t *filename_offset,
		       struct err *err);

/* Account for `size` bytes of payload stream that the caller put there himself. */
int encoder_payload_advance(struct encoder *e, uint64_t size, struct err *err);

/* What the goodbye slot of a member of the innermost open directory says of its size, instead
 * of what the encoder counted; `member` counts from 0 in order of emission.  For copies: the
 * slot of a regular file has two forms (archive/FORMAT.md, "Goodbye tables").  -EINVAL: no such
 * member, or smaller than what the metadata stream holds of it. */
int encoder_member_size(struct encoder *e, size_t member, uint64_t size, struct err *err);

int encoder_symlink(struct encoder *e, const char *name, const struct metadata *meta,
		    const char *target, struct err *err);
int encoder_device(struct encoder *e, const char *name, const struct metadata *meta,
		   uint64_t major, uint64_t minor, struct err *err);
int encoder_special(struct encoder *e, const char *name, const struct metadata *meta,
		    struct err *err); /* fifo or socket */

/* A further name of the regular file at `filename_offset`; `path` is the first name's path
 * from the archive's root, without a leading slash. */
int encoder_hardlink(struct encoder *e, const char *name, const char *path,
		     uint64_t filename_offset, struct err *err);

/* Close the root and, in version 2, the payload stream. */
int encoder_finish(struct encoder *e, struct err *err);

/* Bytes written so far. */
uint64_t encoder_meta_offset(const struct encoder *e);
uint64_t encoder_payload_offset(const struct encoder *e);

#endif
