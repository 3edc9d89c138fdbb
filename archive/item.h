/* SPDX-License-Identifier: Apache-2.0 */
/*
 * item - one item on the wire: header, the sizes its type allows, bodies to values and back.
 *
 * An archive is nothing but items, each a 16-byte header and a body.  Whoever has the bytes
 * (decoder: a stream, tree: a read_at) takes the header apart here, sees that the body lies
 * inside the stream, fetches it and hands it to the decoder of its type.
 *
 *	entry := ENTRY or ENTRY_V1, then items with item_is_attribute(), then the one item that
 *	         closes an entry of this type, see item_check_after()
 *
 * Layout:  archive/FORMAT.md, "Items" and "Item bodies".
 * Trust:   bodies are hostile.  Each _decode() proves everything that can be known from the
 *          body alone, its size included.  Errors: -EBADMSG malformed, -EOPNOTSUPP unknown
 *          version, -E2BIG over one of our own bounds, -ENOMEM.  Messages name the item, not
 *          where it stands: the caller wraps them with the offset.
 */
#ifndef PXARFS_ITEM_H
#define PXARFS_ITEM_H

#include "archive/metadata.h"

struct item_header {
	uint64_t type; /* a known one */
	uint64_t body_size; /* one that the type allows; without the 16 bytes of the header */
};

/* Take apart and check a header: known type, size of at least 16, body size allowed for the
 * type.  A PAYLOAD, PRELUDE or GOODBYE can still announce nearly 2^64 bytes. */
int item_header_decode(const uint8_t bytes[PXAR_HEADER_SIZE], struct item_header *out,
		       struct err *err);

/* "ENTRY", "PAYLOAD_REF"; "unknown" for what is none. */
const char *item_type_name(uint64_t type);

/* XATTR, ACL_*, FCAPS, QUOTA_PROJID: what may stand between ENTRY and the closing item. */
bool item_is_attribute(uint64_t type);

/* Prove that `type` may follow the ENTRY (and attributes) of an entry of this mode:
 * PAYLOAD (version 1) or PAYLOAD_REF (version 2) for a regular file, SYMLINK, DEVICE; and
 * FILENAME or GOODBYE, which belong to what comes next, for all others. */
int item_check_after(uint64_t mode, unsigned version, uint64_t type, struct err *err);

/* Why a member name or the path of a hard link is not acceptable, as in "is empty"; NULL when
 * it is.  Names: 1..4096 bytes, no '/' or NUL, not "." or "..".  Paths: such names joined by
 * '/', none in front. */
const char *item_name_fault(const char *name, size_t size);
const char *item_path_fault(const char *path, size_t size);

/* --- bodies to values --- */

int item_version_decode(const uint8_t *body, size_t size, unsigned *version, struct err *err);

/* ENTRY or ENTRY_V1: clears `m`, then fills in mode to mtime.  The type bits of the mode are
 * one of the seven. */
int item_stat_decode(uint64_t type, const uint8_t *body, size_t size, struct metadata *m,
		     struct err *err);

/* Any item_is_attribute(): add it to `m`. */
int item_attribute_decode(uint64_t type, const uint8_t *body, size_t size, struct metadata *m,
			  struct err *err);

/* FILENAME and SYMLINK: the text is body[0 .. size - 1), with the NUL behind it. */
int item_filename_check(const uint8_t *body, size_t size, struct err *err);
int item_symlink_check(const uint8_t *body, size_t size, struct err *err);

int item_device_decode(const uint8_t *body, size_t size, uint64_t *major, uint64_t *minor,
		       struct err *err);

struct item_hardlink {
	uint64_t target_offset; /* of the target's FILENAME; below that of the link itself */
	const char *path; /* of the target from the root, NUL-terminated; points into the body */
	size_t path_size;
};

/* `filename_offset` is that of the link's own FILENAME, which the distance counts from. */
int item_hardlink_decode(const uint8_t *body, size_t size, uint64_t filename_offset,
			 struct item_hardlink *out, struct err *err);

struct item_payload_ref {
	uint64_t offset; /* of the PAYLOAD header in the payload stream; at least 16 */
	uint64_t size; /* of the content; offset + 16 + size does not overflow */
};

int item_payload_ref_decode(const uint8_t *body, size_t size, struct item_payload_ref *out,
			    struct err *err);

/* Prove that the 16 bytes that stand where `ref` points are the header of its payload. */
int item_payload_check(const uint8_t bytes[PXAR_HEADER_SIZE],
		       const struct item_payload_ref *ref, struct err *err);

/* Prove the first or last 16 bytes of a payload stream: PXAR_PAYLOAD_START_MARKER or
 * PXAR_PAYLOAD_TAIL_MARKER. */
int item_marker_check(const uint8_t bytes[PXAR_HEADER_SIZE], uint64_t type, struct err *err);

/* --- values to items --- */

/* Each appends one whole item (header_encode: its header).  -EINVAL: not acceptable, -E2BIG:
 * over the limit of its type or of the buffer, -ENOMEM.  After an error the buffer may hold
 * half an item. */
int item_header_encode(struct wbuf *b, uint64_t type, uint64_t body_size);
int item_version_encode(struct wbuf *b, unsigned version);
int item_filename_encode(struct wbuf *b, const char *name);
/* ENTRY and all attributes, in the order that writers must keep. */
int item_metadata_encode(struct wbuf *b, const struct metadata *m);
int item_symlink_encode(struct wbuf *b, const char *target);
int item_device_encode(struct wbuf *b, uint64_t major, uint64_t minor);
int item_hardlink_encode(struct wbuf *b, uint64_t distance, const char *path);
int item_payload_ref_encode(struct wbuf *b, uint64_t offset, uint64_t size);

#endif
