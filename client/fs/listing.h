/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listing - the names of one directory, filtered and sorted, and their stat data.
 *
 * Names are sorted by their bytes, the order of an archive.  Stat data is fetched for a window
 * of names at a time, in the order of inode numbers, which is that of the disk.
 *
 * Owner:   embedded; zero is empty; release with listing_release().  Meant to be filled again
 *          and again: memory is kept from one directory to the next, none is allocated per
 *          name.
 * Threads: one owner at a time.
 */
#ifndef PXARFS_LISTING_H
#define PXARFS_LISTING_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
	LISTING_DENTS_SIZE = 64 << 10,
	LISTING_WINDOW = 128,
};

struct listing_name {
	uint64_t begin; /* the first 8 bytes, to compare most names at once */
	uint64_t ino;
	size_t text; /* in texts */
};

/* What lstat() does not say. */
struct listing_more {
	uint64_t attributes; /* STATX_ATTR_... */
	uint64_t birth; /* of the inode, in nanoseconds since 1970; 0: unknown */
};

struct listing {
	struct listing_name *names;
	size_t count, capacity;
	struct wbuf texts; /* NUL-terminated */

	struct stat *stats; /* of names[window_begin..window_end) */
	struct listing_more *more;
	int *stat_errors; /* 0 or errno */
	size_t window_begin, window_end, window_capacity;
};

void listing_release(struct listing *l);

/* Forget the names; keeps the memory unless it is much. */
void listing_clear(struct listing *l);

/* Whether a name belongs: 1 yes, 0 no, negative ends the reading.  `type` is DT_... */
typedef int listing_filter(void *arg, const char *name, unsigned char type, struct err *err);

/* Read all names of the directory `fd` but "." and "..", those that `filter` takes.
 * `dents` is scratch memory of LISTING_DENTS_SIZE bytes.
 * Errors: getdents64()'s (the names before are there), the filter's, -ENOMEM. */
int listing_read(struct listing *l, int fd, void *dents, listing_filter *filter, void *arg,
		 struct err *err);

static inline const char *listing_name(const struct listing *l, size_t i)
{
	return (const char *)l->texts.data + l->names[i].text;
}

/* lstat data of name `i`, relative to the directory `fd`: fresh for the window that begins
 * there, so call it with rising `i`.  0, or the negative errno that lstat gave; -ENOMEM. */
int listing_stat(struct listing *l, int fd, size_t i, const struct stat **out);

/* After that: the rest. */
static inline const struct listing_more *listing_more(const struct listing *l, size_t i)
{
	return &l->more[i - l->window_begin];
}

static inline uint64_t listing_birth(const struct statx *x)
{
	return x->stx_mask & STATX_BTIME ?
		       (uint64_t)x->stx_btime.tv_sec * 1000000000 + x->stx_btime.tv_nsec :
		       0;
}

#endif
