/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk - a live directory tree into an encoder: sorted, filtered, with all metadata.
 *
 * What is left out and what makes the walk fail is in archive/FORMAT.md, "How an archive is
 * filled"; every file that was skipped for a reason the user may mind is reported once, by
 * path, through `warn`, and counted.
 *
 * Threads: one walk on one thread; the counters in struct walk_stats may be read by another
 *          (relaxed atomics).
 */
#ifndef PXARFS_WALK_H
#define PXARFS_WALK_H

#include "archive/base/err.h"
#include "archive/encoder.h"
#include "archive/match.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum { WALK_ENTRIES_MAX_DEFAULT = 1048576 };

/* What an older kind of catalog wants to know as entries go by; all may be NULL.  The root is
 * not among them. */
struct walk_observer {
	int (*dir_begin)(void *arg, const char *name, struct err *err);
	int (*dir_end)(void *arg, struct err *err);
	/* `type` is 'f', 'l', 'h', 'b', 'c', 'p' or 's'. */
	int (*entry)(void *arg, char type, const char *name, uint64_t size, int64_t mtime,
		     struct err *err);
	void *arg;
};

struct walk_params {
	const char *source; /* directory */
	bool no_follow_source; /* refuse a symlink there (pxarfs create) */
	const struct match_list *patterns; /* from the command line; may be NULL */
	const char *const *include_devs; /* also enter file systems these paths are on */
	size_t include_dev_count;
	bool all_file_systems;
	uint64_t entries_max; /* of all directories on the current path together */
	bool skip_e2big_xattr;
	bool split; /* version 2: patterns are recorded in a prelude, not in a file */

	struct encoder_params encoder; /* sinks; prelude is filled in by the walk */
	struct walk_observer observer;

	/* A person should know: "PATH: why"; `lost` when the archive lacks what it should hold
	 * (an unreadable file), not for what is left out by rule (a mount point) or chance (a
	 * file that vanished).  PATH is raw bytes. */
	void (*warn)(void *arg, bool lost, const char *message);
	void *warn_arg;

	const atomic_bool *stop; /* may be NULL; true ends the walk with -ECANCELED */
};

struct walk_stats {
	atomic_uint_fast64_t entries, files, bytes; /* archived so far */
	atomic_uint_fast64_t skipped; /* lost, in whole or in part: exit status 3 */
};

/* Encode the whole tree, from the first item to the last marker.  -EINVAL: the root cannot be
 * archived; -E2BIG: over entries_max or a bound of attributes; -ECANCELED: stopped; what the
 * sinks returned; any other error of the file system, with the path. */
int walk_encode(const struct walk_params *params, struct walk_stats *stats, struct err *err);

#endif
