/* SPDX-License-Identifier: Apache-2.0 */
/*
 * links - how many names each file of an archive has.
 *
 * The format stores that nowhere: hard links lead from later names to the first one, so one
 * pass over all items of the metadata stream counts them.
 *
 * Layout:  archive/FORMAT.md, "Hard links".
 * Owner:   embedded; release with links_release().
 * Threads: immutable once read.
 * Cost:    reads the whole stream once, but for the contents inside a version 1 stream; memory
 *          for files with more than one name only.
 * Trust:   the bytes are hostile.  What cannot be followed is an error; a count may be wrong
 *          only where the archive lies about its own links.  Who makes an archive chooses
 *          which offsets the table holds, so where they go depends on a secret of the caller's.
 */
#ifndef PXARFS_LINKS_H
#define PXARFS_LINKS_H

#include "archive/tree.h"

enum { LINKS_FILES_MAX = 1 << 20 }; /* with more than one name */

struct links_file {
	uint64_t offset; /* of its ENTRY; 0: an empty slot */
	uint32_t names;
};

struct links {
	struct links_file *files; /* hashed by offset */
	size_t capacity; /* 0 or a power of two */
	size_t count;
	uint64_t factor; /* of the hash; odd */
};

void links_init(struct links *l);
void links_release(struct links *l);
DEFINE_AUTO_STRUCT(links)

/* Count, with a blocking `meta`.  `secret` is any number that the archive's maker cannot know.
 * -EBADMSG: damaged; -E2BIG: over LINKS_FILES_MAX. */
int links_read(struct links *l, const struct tree *tree, struct read_at *meta, uint64_t secret,
	       struct err *err);

/* The names of the file whose ENTRY is at `entry_offset`: 1 or more. */
uint32_t links_names(const struct links *l, uint64_t entry_offset);

#endif
