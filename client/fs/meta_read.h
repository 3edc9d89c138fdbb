/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_read - metadata of a live file: xattrs, ACLs, capabilities, inode flags, project id.
 *
 * Layout:  archive/FORMAT.md, "How an archive is filled".
 */
#ifndef PXARFS_META_READ_H
#define PXARFS_META_READ_H

#include "archive/metadata.h"

#include <stdbool.h>
#include <sys/stat.h>

/* What the file system at hand can hold; found by statfs when a walk enters one. */
struct meta_features {
	uint64_t fs_magic;
	bool xattrs, acls, fcaps, projid, fat;
};

bool meta_fs_is_virtual(uint64_t fs_magic);

/* By the magic; requested features are all. */
void meta_features_of(uint64_t fs_magic, struct meta_features *out);

/* Fill `m` (cleared first) from `st` and, for regular files and directories, from the open
 * descriptor `fd` (others: fd is not used).  Features found missing are switched off in `f`.
 * `skip_e2big`: an xattr list or value that is too large ends the entry's xattrs instead of
 * failing. */
int meta_read(struct metadata *m, int fd, const struct stat *st, struct meta_features *f,
	      bool skip_e2big, struct err *err);

#endif
