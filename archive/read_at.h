/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_at - "exactly n bytes at this offset": the one interface through which archives are
 * read at random, and a source in memory.
 *
 * A source may be blocking (a file, a stream that waits for its chunks) or not: a source that
 * never waits answers -EAGAIN when the bytes are not at hand, remembers what was missing, and
 * is asked again from the start once it has come.  So every reader over a read_at must be
 * restartable: on -EAGAIN it returns at once, with nothing changed that a second run would
 * not change in the same way.
 *
 * Implementations: read_at_memory here; client/read/stream (chunks of a snapshot or pieces of a
 * plain file), blocking and as a view that is not.
 */
#ifndef PXARFS_READ_AT_H
#define PXARFS_READ_AT_H

#include "archive/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct read_at;

struct read_at_ops {
	/* Fill `buf` with bytes [offset, offset + size), which the caller has checked to lie
	 * inside the source.  0, -EAGAIN (see above), -EIO or another negative errno. */
	int (*read)(struct read_at *self, void *buf, size_t size, uint64_t offset,
		    struct err *err);
};

/* Embedded as the first member of an implementation. */
struct read_at {
	const struct read_at_ops *ops;
	uint64_t size; /* of the whole source, fixed */
};

/* Reads exactly `size` bytes; -EBADMSG when the range reaches past the end. */
int read_at_exact(struct read_at *source, void *buf, size_t size, uint64_t offset,
		  struct err *err);

/* A source over bytes in memory, which it borrows. */
struct read_at_memory {
	struct read_at base;
	const uint8_t *data;
};

void read_at_memory_init(struct read_at_memory *m, const void *data, size_t size);

#endif
