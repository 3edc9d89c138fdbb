/* SPDX-License-Identifier: Apache-2.0 */
/*
 * change - is a file what it was in the last snapshot?
 *
 * Goes through the metadata stream of the older archive beside the walk, once, front to back:
 * both are sorted by the bytes of names, so in each folder they are merged like lists.  What
 * the older archive has and the walk has not is passed over.
 *
 * Unchanged:  a regular file of the same path, size and mtime, to the nanosecond; in the older
 *          archive it may have been a further name of a hard link.  All else that is known of
 *          a file is written anew in any case.  A file whose content was changed and whose
 *          mtime was then set back is missed, unless ctime is looked at, too.
 * Owner:   free with change_free().
 * Threads: one, and the fetcher's own.
 * Errors:  an older archive that turns out to be damaged is told once, by `note`, and from
 *          there on nothing is unchanged.
 */
#ifndef PXARFS_CHANGE_H
#define PXARFS_CHANGE_H

#include "archive/crypt.h"
#include "client/repo/repo.h"

#include <sys/stat.h>

struct change_params {
	struct repo_reader *reader; /* on the older snapshot */
	const struct manifest *manifest; /* its own; key and signature are checked */
	const struct crypt_key *key; /* NULL: none */
	const char *archive_name; /* as archive_open() takes it */

	/* Also changed: what has a ctime of `since` (seconds) or later. */
	bool detect_ctime;
	int64_t since;

	void (*note)(void *arg, const char *text);
	void *note_arg;
};

struct change;

/* All that the parameters point to outlives it.  Reads the index and the first chunk.
 * -ENOENT, -EOPNOTSUPP (a single stream) and whatever else archive_open() gives. */
int change_new(struct change **out, const struct change_params *params, struct err *err);
void change_free(struct change *c);
DEFINE_AUTO_PTR(change)

/* The walk enters and leaves a folder; its members are asked for in between, in order. */
void change_dir_begin(struct change *c, const char *name);
void change_dir_end(struct change *c);

/* Whether that member of the folder is unchanged, and where in the older payload stream its
 * PAYLOAD header is (as the archive says). */
bool change_find(struct change *c, const char *name, const struct stat *st,
		 uint64_t *old_offset);

#endif
