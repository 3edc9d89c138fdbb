/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cursor - bounded reading of hostile bytes.
 *
 * A read past the end yields zero or NULL and sets `overrun` for good, so straight-line
 * decoding needs one check at its end.  No read ever touches a byte outside the range.
 *
 * Owner:   embedded; borrows the bytes, which must outlive it.
 */
#ifndef PXARFS_BASE_CURSOR_H
#define PXARFS_BASE_CURSOR_H

#include "archive/base/le.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
	const uint8_t *data;
	size_t size;
	size_t position; /* <= size */
	bool overrun;
};

static inline struct cursor cursor_of(const void *data, size_t size)
{
	return (struct cursor){ .data = data, .size = size };
}

static inline size_t cursor_left(const struct cursor *c)
{
	return c->size - c->position;
}

/* The next `size` bytes, or NULL (never for size 0 unless the cursor already overran). */
static inline const uint8_t *cursor_bytes(struct cursor *c, size_t size)
{
	const uint8_t *p;

	if (c->overrun || size > c->size - c->position) {
		c->overrun = true;
		return NULL;
	}
	p = c->data + c->position;
	c->position += size;
	return p;
}

static inline uint8_t cursor_u8(struct cursor *c)
{
	const uint8_t *p = cursor_bytes(c, 1);

	return p ? *p : 0;
}

static inline uint16_t cursor_u16(struct cursor *c)
{
	const uint8_t *p = cursor_bytes(c, 2);

	return p ? le16_get(p) : 0;
}

static inline uint32_t cursor_u32(struct cursor *c)
{
	const uint8_t *p = cursor_bytes(c, 4);

	return p ? le32_get(p) : 0;
}

static inline uint64_t cursor_u64(struct cursor *c)
{
	const uint8_t *p = cursor_bytes(c, 8);

	return p ? le64_get(p) : 0;
}

/* A cursor over the next `size` bytes, which this one steps over.  An overrun of this one
 * makes the sub-cursor empty and overrun too. */
static inline struct cursor cursor_sub(struct cursor *c, size_t size)
{
	const uint8_t *p = cursor_bytes(c, size);
	struct cursor sub = { .data = p, .size = p ? size : 0, .overrun = !p };

	return sub;
}

/* True when every byte was read and none was missing. */
static inline bool cursor_done(const struct cursor *c)
{
	return !c->overrun && c->position == c->size;
}

#endif
