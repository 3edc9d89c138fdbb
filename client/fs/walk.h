/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk - a live directory tree into an encoder: sorted, filtered, with all metadata.
 *
 *	walk --entries--> delay (only when an older archive is at hand) --> emit --> encoder
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
#include <sys/stat.h>

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

/*
 * Who knows an older archive, and takes over what has not changed since.
 *
 * A file that `find` says is unchanged is not opened: it waits, and so does all that follows,
 * until `decide` says of the files that wait, first come first, which are reused.  All calls
 * are made on the walk's thread.  NULL in walk_params: every file is read.
 */
struct walk_reuse {
	/* The walk enters and leaves folders below the root; what `find` is asked for lies in the
	 * one that it is in. */
	int (*dir_begin)(void *arg, const char *name, struct err *err);
	int (*dir_end)(void *arg, struct err *err);

	/* Whether the older archive has this content: 1, and where; 0: it has not. */
	int (*find)(void *arg, const char *name, const struct stat *st, uint64_t *old_offset,
		    struct err *err);

	/* One more file waits; of those that are not unchanged, old_offset means nothing. */
	int (*add)(void *arg, uint64_t content_size, bool is_unchanged, uint64_t old_offset,
		   struct err *err);

	/* Decide on the first ones, at least one of them; `is_last`: all. */
	int (*decide)(void *arg, bool is_last, size_t *count, struct err *err);

	/* The first file that was decided on is to be encoded: 1, and the payload offset for
	 * encoder_file_reuse(); 0: it is to be read. */
	int (*take)(void *arg, struct encoder *e, uint64_t *payload_offset, struct err *err);

	/* Something is about to be written to the payload stream; the end of it. */
	int (*before_payload)(void *arg, struct encoder *e, struct err *err);
	int (*finish)(void *arg, struct encoder *e, struct err *err);
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
	bool skip_read_errors; /* zeros for content that cannot be read; other things are left out */
	bool split; /* version 2: patterns are recorded in a prelude, not in a file */

	struct encoder_params encoder; /* sinks; prelude is filled in by the walk */
	struct walk_observer observer;
	const struct walk_reuse *reuse; /* split only; may be NULL */

	/* Where the next `size` bytes of content may be read to, to be written from there: saves
	 * the sink a copy.  NULL: nowhere.  May be NULL. */
	void *(*reserve)(void *arg, size_t size);
	void *reserve_arg;

	/* A person should know: "PATH: why"; `lost` when the archive lacks what it should hold
	 * (an unreadable file), not for what is left out by rule (a mount point) or chance (a
	 * file that vanished).  PATH is raw bytes. */
	void (*warn)(void *arg, bool lost, const char *message);
	void *warn_arg;

	const atomic_bool *stop; /* may be NULL; true ends the walk with -ECANCELED */
};

struct walk_stats {
	atomic_uint_fast64_t entries, files, bytes; /* archived so far; bytes were read */
	atomic_uint_fast64_t hole_bytes; /* of those bytes: holes, which are not read in truth */
	atomic_uint_fast64_t links; /* of those entries: further names of files */
	atomic_uint_fast64_t reused_files, reused_bytes; /* of those files: not read */
	atomic_uint_fast64_t opened; /* regular files, for whatever reason */
	atomic_uint_fast64_t damaged; /* files whose content is zeros where it could not be read */
	atomic_uint_fast64_t shrunk; /* files that end in zeros as they ended too soon */
	atomic_uint_fast64_t skipped; /* lost, in whole or in part: exit status 3 */
};

/* Encode the whole tree, from the first item to the last marker.  -EINVAL: the root cannot be
 * archived; -E2BIG: over entries_max or a bound of attributes; -ECANCELED: stopped; what the
 * sinks returned; any other error of the file system, with the path. */
int walk_encode(const struct walk_params *params, struct walk_stats *stats, struct err *err);

#endif
