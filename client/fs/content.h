/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content - the bytes of a file or a device: holes are not read, and blocks that cannot be read
 * may be passed over.
 *
 * A hole is a range that the file system says has no data (SEEK_DATA); it becomes zeros without
 * a look.  Where it cannot say, all is data.  Files without holes are not asked about.
 *
 * Passing over: after a failed read it is tried with 4 KiB; if that fails the block is lost and
 * becomes zeros.  As long as nothing but failures follows, twice as much is given up each time, 1 MiB at
 * most: a dead disk answers each read only after many seconds.
 *
 * Owner:   embedded, plain data; the descriptor is borrowed.
 * Threads: one at a time; several may share a descriptor.
 */
#ifndef PXARFS_CONTENT_H
#define PXARFS_CONTENT_H

#include "archive/base/err.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

enum {
	CONTENT_BLOCK_SIZE = 4 << 10,
	CONTENT_SKIP_SIZE_MAX = 1 << 20,
	CONTENT_PART_SIZE_MAX = 4 << 20, /* of one read */
};

struct content {
	int fd;
	bool has_holes; /* some of it may be one */
	bool skip_errors; /* pass over */

	uint64_t hole_bytes; /* were not read */

	/* What was passed over. */
	uint64_t lost_bytes;
	uint64_t lost_begin; /* where the first of it was */
	int lost_errno; /* why; 0: nothing was */

	/* Private: */
	uint64_t range_begin, range_end; /* all data, or all hole */
	bool range_is_data;
	size_t part_size, skip_size;
	uint64_t position; /* of the descriptor, as far as we moved it by reading */
};

void content_init(struct content *c, int fd, const struct stat *st, bool skip_errors);

/* Read `size` bytes from `offset` on, and up to `size_max` if they come along.  Fewer: the file
 * ends.  Negative: what pread() says, with a message. */
ssize_t content_read(struct content *c, uint64_t offset, void *data, size_t size,
		     size_t size_max, struct err *err);

/* Is [begin, end) nothing but a hole? */
bool content_is_hole(struct content *c, uint64_t begin, uint64_t end);

/* Whether an error means that a medium or a file system is damaged, not that we did something
 * wrong or lack something. */
bool content_is_damage(int error);

/* Whether a file's content is what it was, as far as size and mtime tell. */
bool content_is_same(const struct stat *a, const struct stat *b);

/* What to tell a person of what was passed over. */
#define CONTENT_LOST_FORMAT                                                   \
	"%" PRIu64 " bytes, the first of them at %" PRIu64                       \
	", could not be read (%s) and are zeros"
#define CONTENT_LOST_ARGUMENTS(c)                                             \
	(c)->lost_bytes, (c)->lost_begin, strerrordesc_np((c)->lost_errno)
#define CONTENT_TORN_TEXT                                                     \
	"changed while it was read; some of it may be old and some new"

#endif
