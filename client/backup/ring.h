/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring - the bytes of a stream between its writer and the last thread that looks at them.
 *
 * A fixed amount of memory holds the newest bytes of an endless stream.  It is mapped a second
 * time behind its own end, so every range of up to `span_max` bytes is contiguous wherever it
 * begins: pieces are scanned and chunks hashed and compressed in place, without being copied
 * together first.  The second mapping costs address space, not memory (though the kernel
 * counts its pages twice in a process's resident size).
 *
 * Owner:   embedded; release with ring_release().
 * Threads: the ring itself is immutable; who may touch which range is the user's business.
 */
#ifndef PXARFS_RING_H
#define PXARFS_RING_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct ring {
	uint8_t *data;
	size_t size; /* bytes it holds */
	size_t span_max;
};

/* Both sizes are rounded up to pages; span_max <= size.  -ENOMEM, or why the kernel will not
 * give anonymous shared memory. */
int ring_init(struct ring *r, size_t size, size_t span_max, struct err *err);
void ring_release(struct ring *r);
DEFINE_AUTO_STRUCT(ring)

/* Where byte `stream_offset` lies; `span_max` bytes from there on are contiguous. */
static inline uint8_t *ring_at(const struct ring *r, uint64_t stream_offset)
{
	return r->data + stream_offset % r->size;
}

#endif
