/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decoder - an archive, front to back, becomes entries: the counterpart of encoder.
 *
 * Reads version 1, version 2 with its payload stream, and the metadata stream of version 2
 * alone (all but content).  Nothing is ever sought, so both streams may be pipes.
 *
 *	while ((rc = decoder_next(d, &ev, err)) == 0)
 *		switch (ev->kind) ...
 *
 * Order: ROOT; then for each member of an open directory ENTRY or HARDLINK; after the ENTRY of
 *	a directory come its members; DIR_END closes it, the last one the root.  The calls of an
 *	encoder in this order give the same archive again.
 *
 * Layout:  archive/FORMAT.md, "Items", "Sequential reading" and "Damaged input".
 * Owner:   free with decoder_free().  An event and all it points to live until the next call of
 *          decoder_next() or decoder_free().
 * Memory:  a buffer for each stream, the attributes of one entry, a few words for each open
 *          directory; with params.tables 64 bytes for each member of open directories.  Nothing
 *          is allocated per entry, nor because an item merely announces a size.
 * Threads: one owner at a time.
 * Trust:   both streams are hostile; every rule of "Damaged input" that can be checked front to
 *          back is.  Not checked: that a hard link leads to a regular file of that path.
 * Errors:  -EBADMSG malformed or cut short, -EOPNOTSUPP unknown version, -E2BIG over one of the
 *          bounds in pxar.h, -EINVAL a payload stream beside version 1, -ENOMEM, what a source
 *          returned.  All of them are final.
 */
#ifndef PXARFS_DECODER_H
#define PXARFS_DECODER_H

#include "archive/input.h"
#include "archive/metadata.h"

struct decoder_params {
	struct input_source meta; /* version 1: the only stream */
	struct input_source payload; /* read == NULL: there is none */

	/* Prove every goodbye table against the members, and list them at DIR_END. */
	bool tables;
};

enum decoder_kind {
	DECODER_ROOT,
	DECODER_ENTRY,
	DECODER_HARDLINK,
	DECODER_DIR_END,
};

/* A member as its directory's table has it. */
struct decoder_member {
	uint64_t name_hash;
	uint64_t filename_offset;
	uint64_t size; /* in this stream, from the FILENAME to the next member */
	uint64_t slot_size; /* what the table says; exact for directories, else at least size */
	bool is_directory;
};

struct decoder_event {
	enum decoder_kind kind;
	size_t depth; /* of the entry: the root 0, its members 1; DIR_END: as of its ENTRY */

	/* All but DIR_END.  Offsets in the metadata stream. */
	uint64_t filename_offset; /* the root: its entry_offset */
	uint64_t entry_offset; /* of ENTRY or HARDLINK */
	const char *name; /* NUL-terminated; the root: "" */
	size_t name_size;

	/* ROOT and ENTRY */
	const struct metadata *meta;
	const char *target; /* symlink, NUL-terminated; HARDLINK: path of the first name */
	size_t target_size;
	uint64_t target_offset; /* HARDLINK: of the FILENAME of the first name */
	uint64_t device_major, device_minor; /* char and block devices */
	uint64_t content_size; /* regular files */
	uint64_t content_offset; /* of the PAYLOAD header; version 2: in the payload stream */

	/* DIR_END */
	uint64_t goodbye_offset;
	const struct decoder_member *members; /* params.tables only; in stream order */
	size_t member_count;
};

struct decoder;

/* Reads nothing yet. */
int decoder_new(struct decoder **out, const struct decoder_params *params, struct err *err);
void decoder_free(struct decoder *d);
DEFINE_AUTO_PTR(decoder)

/* The next event; 1 at the end, after it was proved that nothing follows in either stream that
 * should not (in the payload stream: anything, then the tail marker).  Content that was not
 * read is skipped. */
int decoder_next(struct decoder *d, const struct decoder_event **event, struct err *err);

/* Content of the regular file that decoder_next() gave last: `*got` is `size` or what is left
 * of the file, whichever is less; 0 at its end.  -EINVAL: no such file, or it lies in a payload
 * stream and there is none. */
int decoder_read(struct decoder *d, void *buf, size_t size, size_t *got, struct err *err);

/* Known after the first event.  The prelude is NULL when there is none. */
unsigned decoder_version(const struct decoder *d);
const uint8_t *decoder_prelude(const struct decoder *d, size_t *size);

#endif
