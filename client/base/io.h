/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io - read() and write() until all is done: neither pieces nor signals are the caller's business.
 *
 * Threads: any.
 */
#ifndef PXARFS_IO_H
#define PXARFS_IO_H

#include "archive/base/wbuf.h"

#include <sys/types.h>

/* io_read_all() reads so much at a time: a buffer's maximum is that much more than what may come. */
enum { IO_PIECE_SIZE = 64 << 10 };

/* Append all up to the end.  A negative errno, out->failed among them. */
int io_read_all(int fd, struct wbuf *out);

/* `size` bytes at `offset`; how many there were, less only at the file's end, or a negative
 * errno. */
ssize_t io_pread(int fd, void *data, size_t size, uint64_t offset);

/* All of them, or a negative errno. */
int io_write(int fd, const void *data, size_t size);

#endif
