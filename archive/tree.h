/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree - random access to an archive: stream offset -> entry; list, look up, content range.
 *
 * Works for both versions and needs nothing but the metadata stream (version 1: the only
 * stream) as a read_at.  Content of a version 2 archive is read by the caller from its payload
 * stream, after tree_payload_check().
 *
 * Identity: a directory is known by `end`, the offset just after its goodbye table; any other
 *          entry by the offset of its ENTRY item.  The two never meet: at a directory's end
 *          stands a FILENAME, a GOODBYE or the end of the stream, never an ENTRY.
 * Layout:  archive/FORMAT.md, "Random access".
 * Owner:   struct tree is plain data, fixed once open, shared by any number of threads; the
 *          read_at is an argument so that each request can bring its own (read_at.h says how
 *          -EAGAIN restarts work).
 * Trust:   every byte is hostile.  Offsets are checked so that a walk always moves towards
 *          the start of the stream: a cycle is refused, depth is bounded by the stream's size.
 */
#ifndef PXARFS_TREE_H
#define PXARFS_TREE_H

#include "archive/metadata.h"
#include "archive/read_at.h"

#include <stdbool.h>

struct tree {
	unsigned version; /* PXAR_VERSION_1 or _2 */
	uint64_t meta_size; /* of the metadata stream */
	uint64_t root_entry_offset; /* of the root's ENTRY */
	uint64_t prelude_begin, prelude_size; /* body; size 0: none or empty */
};

/* One directory, located and checked: everything but its members' heads. */
struct tree_dir {
	uint64_t end; /* its identity */
	uint64_t entry_offset; /* of its ENTRY item (for the root too) */
	uint64_t goodbye_offset; /* of its GOODBYE item */
	uint64_t member_count; /* slots, the tail not counted */
};

/* A goodbye slot, as absolute offsets. */
struct tree_slot {
	uint64_t name_hash;
	uint64_t filename_offset; /* of the member's FILENAME item */
	uint64_t end; /* directories: their end; others: an upper bound only */
};

/* One entry.  `meta` is reused from call to call; `target` points into `text`. */
struct tree_entry {
	uint64_t filename_offset; /* of the FILENAME; the root: its entry_offset */
	uint64_t entry_offset; /* of the ENTRY; a hard link: of its target's ENTRY */
	uint64_t dir_end; /* directories: their end; others 0 */
	bool is_hardlink; /* reached through a HARDLINK, now resolved */
	struct metadata meta;

	/* Regular files.  Version 1: content lies at content_offset of the same stream.
	 * Version 2: content_offset is that of the PAYLOAD header in the payload stream. */
	uint64_t content_offset;
	uint64_t content_size;

	uint64_t device_major, device_minor; /* char and block devices */
	struct wbuf text; /* symlink target with its NUL; its length is text.size - 1 */
	struct wbuf name; /* member name with its NUL, where it was read with one */
};

void tree_entry_init(struct tree_entry *e);
void tree_entry_release(struct tree_entry *e);
DEFINE_AUTO_STRUCT(tree_entry)

/* Identify the root from both ends of the stream.  Reads the head and the tail only. */
int tree_open(struct tree *out, struct read_at *meta, struct err *err);

/* Locate the directory that ends at `dir_end` (the root: tree->meta_size).  Reads the tail
 * slot, the GOODBYE header and the ENTRY header. */
int tree_dir_open(const struct tree *tree, struct read_at *meta, uint64_t dir_end,
		  struct tree_dir *out, struct err *err);

/* All slots, in stream order (ascending filename_offset).  `slots` has room for
 * dir->member_count.  Each slot's name_hash is as stored, unproven; overlapping or repeated
 * members and a directory's end beyond the parent's table are refused here. */
int tree_dir_slots(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		   struct tree_slot *slots, struct err *err);

/* The directory's own entry. */
int tree_dir_entry(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		   struct tree_entry *out, struct err *err);

/* The member behind a slot, its name included; a hard link is resolved to its target's entry
 * (is_hardlink is set, name is that of the link).  A sub-directory's table is not read.
 * -EBADMSG: damaged; the rest of the directory stays usable. */
int tree_member(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		const struct tree_slot *slot, struct tree_entry *out, struct err *err);

/* Look a name up in the goodbye table: O(log members) slots, and one head for each slot with
 * its hash.  -ENOENT when there is none. */
int tree_lookup(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		const char *name, size_t name_size, struct tree_entry *out, struct err *err);

/* The non-directory entry whose ENTRY item is at `entry_offset` (no name is filled in). */
int tree_entry_at(const struct tree *tree, struct read_at *meta, uint64_t entry_offset,
		  struct tree_entry *out, struct err *err);

/* Walk a path from the root: components split at '/', empty ones and "." dropped, ".."
 * refused (-EINVAL), symlinks not followed.  `dir` is set when it leads to a directory. */
int tree_path(const struct tree *tree, struct read_at *meta, const char *path,
	      struct tree_entry *out, struct tree_dir *dir, struct err *err);

/* Prove that version 2 content may be read: the payload stream holds a PAYLOAD header of the
 * right size at e->content_offset and its content lies inside.  On success the content is
 * [*begin, *begin + e->content_size) of the payload stream.  -EBADMSG otherwise. */
int tree_payload_check(const struct tree_entry *e, struct read_at *payload, uint64_t *begin,
		       struct err *err);

/* Prove the start and tail markers of a payload stream (reads both ends). */
int tree_payload_markers(struct read_at *payload, struct err *err);

#endif
