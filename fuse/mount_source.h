/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_source - what is to be mounted, as fstab and mount(8) can say it: one word.
 *
 *	REPOSITORY                              all of it
 *	REPOSITORY::ns/NAMESPACE                a namespace and those below it
 *	REPOSITORY::[ns/NAMESPACE/]SNAPSHOT     a snapshot, its archives as folders
 *	REPOSITORY::[ns/NAMESPACE/]SNAPSHOT/ARCHIVE
 *
 * split at the last "::" that is not inside brackets (of an IPv6 address).  SNAPSHOT is
 * TYPE/ID/TIME, TYPE/ID/latest or TYPE/ID, which is the latest, too; ARCHIVE is NAME.pxar, or one
 * of the names it is stored under.  A component of a namespace may be called like a TYPE: what
 * can be read as a snapshot from further left is.
 *
 * Owner:   plain data.
 */
#ifndef PXARFS_MOUNT_SOURCE_H
#define PXARFS_MOUNT_SOURCE_H

#include "archive/base/err.h"
#include "client/repo/archive_name.h"
#include "client/repo/snapshot.h"

#include <stdbool.h>

enum { MOUNT_SOURCE_REPOSITORY_SIZE = 4096 };

struct mount_source {
	char repository[MOUNT_SOURCE_REPOSITORY_SIZE];
	char ns[SNAPSHOT_NS_SIZE_MAX + 1]; /* "": the root namespace */
	char snapshot[SNAPSHOT_PATH_SIZE]; /* as snapshot_parse() takes it; "": all of them */
	char archive[ARCHIVE_NAME_SIZE_MAX + 1]; /* "": all that the snapshot has */
};

/* Whether `text` names an archive's file: by its ending, when there is no "::" in it. */
bool mount_source_is_file(const char *text);

/* -EINVAL: not of that form. */
int mount_source_parse(const char *text, struct mount_source *out, struct err *err);

#endif
