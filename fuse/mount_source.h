/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_source - what is to be mounted, as fstab and mount(8) can say it: one word.
 *
 *	REPOSITORY::[ns/NAMESPACE/]TYPE/ID/TIME/ARCHIVE
 *
 * split at the last "::" that is not inside brackets (of an IPv6 address); TIME may be
 * "latest".  Anything without one is the name of a plain archive file.
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
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];
	char snapshot[SNAPSHOT_PATH_SIZE]; /* "TYPE/ID/TIME" */
	char archive[ARCHIVE_NAME_SIZE_MAX + 1];
};

/* Whether `text` has the form of a source and not that of a file's name. */
bool mount_source_is(const char *text);

/* -EINVAL: not of that form. */
int mount_source_parse(const char *text, struct mount_source *out, struct err *err);

#endif
