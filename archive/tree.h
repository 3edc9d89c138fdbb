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
 * Cost:    a member's head is one read_at call of a few hundred bytes, a further one only when
 *          it is larger (many attributes) or a hard link; nothing is allocated per member, as
 *          a tree_entry and a tree_window are reused.  Listing n members is n / 1024 + 1 calls
 *          for the table and, through a tree_window, about one call for each 64 KiB of heads.
 * Layout:  archive/FORMAT.md, "Random access".
 * Owner:   struct tree is plain data, fixed once open, shared by any number of threads; the
 *          read_at is an argument so that each request can bring its own (read_at.h says how
 *          -EAGAIN restarts work).
 * Trust:   every byte is hostile.  A member lies inside [start of its directory's members,
 *          its goodbye table), and a sub-directory's end is at or before that table, so a walk
 *          only ever moves inwards: a cycle is refused, depth is bounded by the stream's size.
 *          Members listed together never overlap, so a walk visits each byte once.
 * Errors:  -EBADMSG: damage, with the offset; -EAGAIN and whatever else the read_at gave; then
 *          outputs hold nothing of use but may be passed in again.  -ENOMEM.
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
	uint64_t name_hash; /* as stored; tree_member() compares it with the name */
	uint64_t filename_offset; /* of the member's FILENAME item */
	uint64_t end; /* directories: their end; others: an upper bound only */
	uint64_t limit; /* where the next member, or the goodbye table, begins */
};

enum {
	TREE_WINDOW_SIZE = 64 << 10,
	TREE_COLLISION_MAX = 4096, /* members of one hash that a look-up will compare */
};

/* The last bytes read of the stream: lets members that lie next to each other share one
 * read_at call.  Belongs to one request; holds no state that a restart could trip over. */
struct tree_window {
	uint64_t begin; /* stream offset of the first byte held */
	struct wbuf bytes;
	uint64_t narrow_end; /* a wide read failed: before this offset no other is tried */
};

/* One entry.  `meta` is reused from call to call; `target` points into `text`. */
struct tree_entry {
	uint64_t filename_offset; /* of the FILENAME; without one, the same as entry_offset */
	uint64_t entry_offset; /* of the ENTRY; a hard link: of its target's ENTRY */
	uint64_t dir_end; /* directories: their end; others 0 */
	bool is_hardlink; /* reached through a HARDLINK, now resolved */
	struct metadata meta;

	/* Regular files.  Version 1: content lies at content_offset of the same stream, inside
	 * it.  Version 2: content_offset is that of the PAYLOAD header in the payload stream,
	 * unproven; offset and size together never exceed INT64_MAX. */
	uint64_t content_offset;
	uint64_t content_size;

	uint64_t device_major, device_minor; /* char and block devices */
	struct wbuf text; /* symlink target with its NUL; its length is text.size - 1.  A hard
			   * link: the target's path as stored, for show only. */
	struct wbuf name; /* member name with its NUL, empty where there is none */
	struct tree_window scratch; /* the head's raw bytes */
};

void tree_entry_init(struct tree_entry *e);
void tree_entry_release(struct tree_entry *e);
DEFINE_AUTO_STRUCT(tree_entry)

void tree_window_init(struct tree_window *w);
void tree_window_release(struct tree_window *w);
DEFINE_AUTO_STRUCT(tree_window)

static inline const char *tree_entry_name(const struct tree_entry *e)
{
	return (const char *)e->name.data;
}

static inline const char *tree_entry_target(const struct tree_entry *e)
{
	return (const char *)e->text.data;
}

/* Identify the root from both ends of the stream.  Reads the head and the tail only. */
int tree_open(struct tree *out, struct read_at *meta, struct err *err);

/* Where members of the root begin, as the end of the stream alone says, for who wants to ask for
 * their bytes early: nothing is proved but that the offsets lie inside the stream.  Up to `max`
 * offsets in the order of the table; `*count` 0: there are more, or none.  -EAGAIN, -EBADMSG. */
int tree_peek_members(struct read_at *meta, uint64_t *offsets, size_t max, size_t *count,
		      struct err *err);

/* Locate the directory that ends at `dir_end` (the root: tree->meta_size).  Reads the tail
 * slot, the GOODBYE header and the ENTRY header. */
int tree_dir_open(const struct tree *tree, struct read_at *meta, uint64_t dir_end,
		  struct tree_dir *out, struct err *err);

/* All slots, in stream order (ascending filename_offset).  `slots` has room for
 * dir->member_count, which tree_dir_open() has bounded by the stream's size.  O(n), sorting
 * included.  Only the reading can fail: what is wrong with a slot is told by tree_member(),
 * so that the others stay usable.  One that points outside the directory has the table's own
 * offset (dir->goodbye_offset) and comes last. */
int tree_dir_slots(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		   struct tree_slot *slots, struct err *err);

/* The directory's own entry. */
int tree_dir_entry(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		   struct tree_entry *out, struct err *err);

/* The member behind a slot, its name included; a hard link is resolved to its target's entry
 * (is_hardlink is set, name is that of the link).  A sub-directory's table is not read.
 * -EBADMSG: damaged (a name whose hash is not the slot's; a member that reaches into the next
 * one); the rest of the directory stays usable.  out->name is filled in even then if it could
 * be read, else empty. */
int tree_member(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		const struct tree_slot *slot, struct tree_entry *out, struct err *err);

/* tree_member() of slots[i] for going through `slots[0..count)` in order: reads up to
 * TREE_WINDOW_SIZE of adjacent heads into `w` at once, and skips sub-directories and version 1
 * content between them.  A read_at that never waits may so be asked for heads behind slots[i]
 * (never for anything else).  When they cannot be read, slots[i] is tried on its own; who finds
 * that out later (after -EAGAIN) sets w->narrow_end to UINT64_MAX and runs the request again. */
int tree_window_member(struct tree_window *w, const struct tree *tree, struct read_at *meta,
		       const struct tree_dir *dir, const struct tree_slot *slots, size_t count,
		       size_t i, struct tree_entry *out, struct err *err);

/* Open the sub-directory `e`, proving that what ends there also begins at e->entry_offset. */
int tree_member_dir(const struct tree *tree, struct read_at *meta, const struct tree_entry *e,
		    struct tree_dir *out, struct err *err);

/* Look a name up in the goodbye table: O(log members) slots, and one head for each slot with
 * its hash.  -ENOENT when there is none; -EBADMSG when a slot with its hash is damaged and no
 * other one has the name.  With repeated names it is unspecified which one is found. */
int tree_lookup(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		const char *name, size_t name_size, struct tree_entry *out, struct err *err);

/* The non-directory entry whose ENTRY item is at `entry_offset` (no name is filled in). */
int tree_entry_at(const struct tree *tree, struct read_at *meta, uint64_t entry_offset,
		  struct tree_entry *out, struct err *err);

/* Walk a path from the root: components split at '/', empty ones and "." dropped, ".."
 * refused (-EINVAL), symlinks not followed.  `dir` (may be NULL) is set when it leads to a
 * directory.  -ENOENT, -ENOTDIR. */
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
