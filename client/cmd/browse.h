/* SPDX-License-Identifier: Apache-2.0 */
/*
 * browse - go through the folders of an archive for a person: in stream order, damage reported
 * and stepped over.
 *
 * Owner:   embedded; release.  An entry handed out is valid until the next one.
 * Threads: one owner at a time.
 */
#ifndef PXARFS_BROWSE_H
#define PXARFS_BROWSE_H

#include "client/read/archive_open.h"

enum {
	BROWSE_CACHE_SIZE = 64 << 20,
	BROWSE_THREAD_COUNT = 2,
	/* Of a path in the archive, NUL included: room for PXAR_DEPTH_MAX of the longest names.  It
	 * takes what the names on it take in the archive. */
	BROWSE_PATH_SIZE_MAX = 1 << 29,
};

struct browse {
	struct archive *archive; /* lent */
	const struct tree *tree;
	struct read_at *meta;
	struct tree_window window;
	struct tree_entry entry;
	bool is_damaged; /* something could not be read; it has been reported */
};

/* Blocking: reads the root. */
int browse_init(struct browse *b, struct archive *archive, struct err *err);
void browse_release(struct browse *b);
DEFINE_AUTO_STRUCT(browse)

/* Report that `name` in `path` cannot be read; either may be NULL. */
void browse_report(struct browse *b, const char *path, const char *name, const struct err *err,
		   int rc);

/* A folder that is being gone through. */
struct browse_dir {
	struct tree_dir dir;
	struct tree_slot *slots;
	size_t next; /* slot to read next */
	unsigned failures; /* in a row */
};

/* Reports what is wrong; then false, and nothing is to be released.  `path` is for messages. */
bool browse_dir_open(struct browse *b, const struct tree_dir *dir, const char *path,
		     struct browse_dir *out);
void browse_dir_release(struct browse_dir *d);
DEFINE_AUTO_STRUCT(browse_dir)

/* The next member that can be read, in b->entry; false behind the last. */
bool browse_dir_next(struct browse *b, struct browse_dir *d, const char *path);

/* Open the folder b->entry, which was reached as `path`. */
bool browse_enter(struct browse *b, const char *path, struct tree_dir *out);

/* Replace `out` by "path/name" (by `name` when `path` is ""), NUL included. */
int browse_join(struct wbuf *out, const char *path, const char *name, struct err *err);

/* Make the path in `out`, which is without a NUL, "path/name", NUL included. */
int browse_append(struct wbuf *out, const char *name, struct err *err);

#endif
