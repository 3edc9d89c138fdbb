/* SPDX-License-Identifier: Apache-2.0 */
/*
 * levels - the directories from the root of a walk to where it is, and the path there.
 *
 * Depth and path length have no limit of their own; of the descriptors only those of the root
 * and of the lowest LEVELS_OPEN_MAX directories are kept, the others are opened again on the
 * way back, by ".." or by name, and checked to be the same directory.
 *
 * Owner:   embedded; levels_init(), levels_release().
 * Threads: one owner at a time.
 */
#ifndef PXARFS_LEVELS_H
#define PXARFS_LEVELS_H

#include "client/fs/listing.h"
#include "client/fs/meta_read.h"

enum { LEVELS_OPEN_MAX = 64 };

struct level {
	int fd; /* -1: closed for a while, or lost */
	dev_t dev;
	ino_t ino;
	struct meta_features features;
	struct listing names;
	size_t next; /* name */
	size_t path_size;
	/* Of the walk, as they were before this directory. */
	size_t pattern_count;
	uint64_t entries;
};

struct levels {
	struct level *items;
	size_t depth, capacity;
	struct wbuf path; /* "/a/b" from the root, "" there; a NUL behind the end */
};

/* -ENOMEM. */
int levels_init(struct levels *s);
void levels_release(struct levels *s);

/* Moves when a level is pushed. */
static inline struct level *levels_top(struct levels *s)
{
	return &s->items[s->depth - 1];
}

static inline const char *levels_path(const struct levels *s)
{
	return (const char *)s->path.data;
}

/* The path becomes that of a member of the lowest directory.  -ENOMEM. */
int levels_path_set(struct levels *s, const char *name);
/* ... or that of the directory itself. */
void levels_path_reset(struct levels *s);

/* Enter the directory `fd` (taken over, also on failure), which the path names; -1: it is
 * opened when it is asked for.  -ENOMEM. */
int levels_push(struct levels *s, int fd, const struct stat *st,
		const struct meta_features *features);

/* The lowest directory, opened by its path if need be.  -ENOENT: it is not there any more, for
 * somebody moved it; other negative errnos: it cannot be opened. */
int levels_fd(struct levels *s);

/* Leave the lowest directory; its listing's memory is kept for the next one there. */
void levels_pop(struct levels *s);

/* Before that: see that the directory above is open again.  Errors as above; its fd stays -1. */
int levels_reopen_parent(struct levels *s);

#endif
