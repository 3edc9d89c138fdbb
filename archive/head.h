/* SPDX-License-Identifier: Apache-2.0 */
/*
 * head - decode what an archive says of one entry (FILENAME, ENTRY, attributes, closing item)
 * out of a read_at, in as few calls as possible.
 *
 * A part of tree.  Items are decoded one after the other; the first that is not in the window
 * makes it read on, as far as was asked for or at least twice as far as before, so the cost of
 * a large head stays linear.
 *
 * Owner:   plain data; borrows all it points to.
 * Errors:  as tree.h; messages name the item, the caller adds where it stands.
 */
#ifndef PXARFS_HEAD_H
#define PXARFS_HEAD_H

#include "archive/tree.h"

enum {
	/* Enough for nearly every head that has no attributes. */
	HEAD_GUESS_SIZE = 512,
	/* All attributes of the largest entry, an item header and an item's rest for each. */
	HEAD_SIZE_MAX = PXAR_ATTRIBUTE_BYTES_MAX + 64 * PXAR_ATTRIBUTE_COUNT_MAX,
};

struct head {
	unsigned version; /* of the archive */
	struct read_at *meta;
	struct tree_window *window;
	uint64_t position; /* stream offset of the item that comes next */
	uint64_t limit; /* the head, and version 1 content, ends at or before this offset */
	uint64_t want; /* where the first read may end; 0: HEAD_GUESS_SIZE, within the limit */
};

/* Make `out` an entry of which nothing is known, its memory kept. */
void head_clear_entry(struct tree_entry *out);

/* FILENAME.  The name and the NUL behind it lie in the window until the next call. */
int head_filename(struct head *h, const char **name, size_t *name_size, struct err *err);

/* A HARDLINK, if that is what comes next: 0, `path` replaced, NUL included.  1: it is an
 * ENTRY.  `filename_offset` is that of the link itself. */
int head_hardlink(struct head *h, uint64_t filename_offset, uint64_t *target_offset,
		  struct wbuf *path, struct err *err);

/* ENTRY up to and with the closing item: fills in all but name, dir_end and is_hardlink. */
int head_entry(struct head *h, struct tree_entry *out, struct err *err);

#endif
