/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_opts - the words behind "-o": what we understand, what the kernel gets.
 *
 * The manual, fuse/mount.pxarfs.8, has a row for each.  A word that is not in the table is
 * refused by name; words that only mean something to mount(8), systemd or a file system that
 * can be written are accepted and have no effect here.
 *
 * Owner:   plain data.
 */
#ifndef PXARFS_MOUNT_OPTS_H
#define PXARFS_MOUNT_OPTS_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"
#include "fuse/guise.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MOUNT_OPTS_TIMEOUT_SECONDS = 60,
	MOUNT_OPTS_TIMEOUT_SECONDS_MAX = 1000000,
	MOUNT_OPTS_READERS = 4,
	MOUNT_OPTS_REFRESH_SECONDS = 30,
	MOUNT_OPTS_PUSH = 1024,
	MOUNT_OPTS_PUSH_MAX = 65536,
	MOUNT_OPTS_TEXT_SIZE_MAX = 65536,
};

/* The default of cache=, and the least it can be. */
#define MOUNT_OPTS_CACHE_BYTES ((size_t)256 << 20)
#define MOUNT_OPTS_CACHE_BYTES_MIN ((size_t)1 << 20)

/* The default of cache_dir_size=. */
#define MOUNT_OPTS_CACHE_DIR_BYTES ((size_t)10 << 30)

/* The default of readahead=. */
#define MOUNT_OPTS_READAHEAD_BYTES ((size_t)64 << 20)

struct mount_opts {
	bool dev, suid, noexec, exported;
	bool idle_poll; /* let idle CPUs poll while requests come, where that helps */
	bool allow_other; /* set by default when root mounts */
	bool sloppy; /* unknown words are passed over; set before mount_opts_parse() */
	size_t cache_bytes;
	size_t readahead_bytes; /* 0: off */
	unsigned timeout_ms; /* of a request that waits for the repository */
	unsigned refresh_ms; /* of listings of snapshots */
	unsigned reader_count;
	unsigned push_max; /* files pushed ahead of a reader; 0: none */
	char keyfile[PATH_MAX]; /* "": none given */
	char cache_dir[PATH_MAX]; /* absolute; "": none */
	size_t cache_dir_bytes; /* 0: not given */
	struct guise guise;
	char metrics[PATH_MAX]; /* absolute; "": none */
};

/* The defaults; `is_root`: the caller may let other users in. */
void mount_opts_init(struct mount_opts *o, bool is_root);

/* Take the comma-separated words of one "-o" argument on top of what is there; a later word
 * wins.  -EINVAL: an unknown word (unless o->sloppy) or a bad value, named in the message. */
int mount_opts_parse(struct mount_opts *o, const char *text, struct err *err);

/* What only all words together can tell; fills in what depends on others.  -EINVAL. */
int mount_opts_check(struct mount_opts *o, struct err *err);

/* Append the text libfuse's mount wants, "ro,nosuid,...", with `source` (a path or a
 * repository's spelling, any bytes but NUL) as fsname and `subtype`. */
int mount_opts_kernel(const struct mount_opts *o, const char *source, const char *subtype,
		      struct wbuf *out);

#endif
