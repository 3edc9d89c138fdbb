/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source_open - open what is to be archived without waiting, following or leaving a trace.
 *
 * Never O_CREAT, always O_CLOEXEC, O_NOCTTY and O_NONBLOCK (a file swapped for a FIFO must
 * not block us); O_NOATIME where it is permitted.
 */
#ifndef PXARFS_SOURCE_OPEN_H
#define PXARFS_SOURCE_OPEN_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { SOURCE_EXCLUDE_FILE_SIZE_MAX = 4 << 20 };

/* A regular file or directory (`is_directory`: nothing else) by its name, never through a
 * symlink.  A file under a lease is waited for, until `*stop` (may be NULL).
 * Returns a descriptor or a negative errno. */
int source_open(int dir_fd, const char *name, bool is_directory, const atomic_bool *stop);

/* The directory a walk begins at. */
int source_open_root(const char *path, bool no_follow);

/* Append the text of the .pxarexclude file of the directory; it may be a symlink to a file
 * elsewhere.  1: there is a text, 0: there is no such file.
 * -EINVAL: nothing of the kind that can be read without harm (a FIFO, a device, a file of
 * procfs, ...); -E2BIG, -EACCES, -ELOOP and what else the system calls gave. */
int source_read_exclude_file(int dir_fd, struct wbuf *text, struct err *err);

#endif
