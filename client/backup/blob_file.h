/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_file - a file that becomes one blob: a setting, a log.
 *
 * Threads: any number.
 */
#ifndef PXARFS_BLOB_FILE_H
#define PXARFS_BLOB_FILE_H

#include "archive/blob.h"
#include "client/base/io.h"

enum {
	/* To read up to the limit, and to see that there is no more. */
	BLOB_FILE_ROOM = BLOB_DATA_SIZE_MAX + IO_PIECE_SIZE,
};

/* Append the whole file to `plain`, which is empty and has BLOB_FILE_ROOM.  -EINVAL: not a regular
 * file; -E2BIG: more than a blob holds; or what the system says. */
int blob_file_read(const char *path, struct wbuf *plain, struct err *err);

#endif
