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

/* proc, sysfs and the like: their files are not data. */
bool meta_fs_is_virtual(uint64_t fs_magic);

/* All that the file system with this magic (statfs f_type) may hold. */
void meta_features_of(uint64_t fs_magic, struct meta_features *out);

/* Fill `m` (cleared first) with what `st` says. */
void meta_read_stat(struct metadata *m, const struct stat *st);

/* The same, and for regular files and directories all else from the open descriptor `fd`
 * (others: fd is not used).  Features found missing are switched off in `f`.
 * `skip_e2big`: an xattr list or value that is too large ends the entry's xattrs instead of
 * failing with -E2BIG.  Errors are those of the system calls; no memory is allocated but for
 * attributes of more than 512 bytes and what `m` needs. */
int meta_read(struct metadata *m, int fd, const struct stat *st, struct meta_features *f,
	      bool skip_e2big, struct err *err);

/* The same for a regular file by its name, without opening it; `attributes` are those of
 * statx.  1: this kernel or file system does not allow it. */
int meta_read_at(struct metadata *m, int dir_fd, const char *name, const struct stat *st,
		 uint64_t attributes, struct meta_features *f, bool skip_e2big, struct err *err);

#endif
