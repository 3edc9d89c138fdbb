/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive_name - "X.pxar" as a user types it <-> the files that hold it.
 *
 * Three conventions are read alike: X.pxar.didx (single stream), X.mpxar.didx with
 * X.ppxar.didx (Proxmox Backup), X.pxar.meta.didx with X.pxar.pld.didx (the original design).
 *
 * Owner:   plain data; nothing here allocates, manifests are borrowed for the call.
 * Threads: any.
 */
#ifndef PXARFS_ARCHIVE_NAME_H
#define PXARFS_ARCHIVE_NAME_H

#include "archive/base/err.h"
#include "archive/manifest.h"

#include <stdbool.h>

enum { ARCHIVE_NAME_SIZE_MAX = 255 };

enum archive_names { ARCHIVE_NAMES_PBS, ARCHIVE_NAMES_DESIGN };

struct archive_name {
	char meta[ARCHIVE_NAME_SIZE_MAX + 1]; /* file of the metadata, or only, stream */
	char payload[ARCHIVE_NAME_SIZE_MAX + 1]; /* "" for a single stream */
};

/* Whether an archive can be meant by `typed`, as below.  -EINVAL, -ENAMETOOLONG. */
int archive_name_check(const char *typed, struct err *err);

/* Which files of `m` hold the archive the user means.  Accepts the plain name and any of the
 * stored ones, with or without ".didx".  The plain name means the single stream if there is
 * one, else the first complete pair, Proxmox Backup's before the design's.  -EINVAL,
 * -ENAMETOOLONG: no such name; -ENOENT: none of it; -EBADMSG: one half only, the message names
 * both. */
int archive_name_find(const struct manifest *m, const char *typed, struct archive_name *out,
		      struct err *err);

/* The names to write for "X.pxar": split by convention, or the single stream.  -EINVAL: not
 * such a name; -ENAMETOOLONG. */
int archive_name_make(const char *typed, bool is_split, enum archive_names convention,
		      struct archive_name *out, struct err *err);

/* How a stored file is shown: "root.mpxar.didx" is (part of) "root.pxar", blobs and others
 * lose their last extension.  False when the file is the payload half of an archive. */
bool archive_name_display(const char *stored, char out[ARCHIVE_NAME_SIZE_MAX + 1]);

/* The convention a manifest's split archives follow; false when it has none. */
bool archive_name_convention(const struct manifest *m, enum archive_names *convention);

#endif
