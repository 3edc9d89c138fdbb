/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wbuf - a growable byte buffer that has a maximum.
 *
 * Appending past the maximum or without memory sets `failed` for good (-E2BIG or -ENOMEM) and
 * changes nothing, so a run of appends needs one check at its end.
 *
 * Owner:   embedded; release with wbuf_release().  `data` moves when the buffer grows.
 */
#ifndef PXARFS_BASE_WBUF_H
#define PXARFS_BASE_WBUF_H

#include "archive/base/cleanup.h"

#include <stddef.h>
#include <stdint.h>

struct wbuf {
	uint8_t *data; /* NULL while empty */
	size_t size;
	size_t capacity;
	size_t size_max;
	int failed; /* 0 or a negative errno */
};

#define WBUF_INIT(max) { .size_max = (max) }

void wbuf_init(struct wbuf *b, size_t size_max);
void wbuf_release(struct wbuf *b);
DEFINE_AUTO_STRUCT(wbuf)

/* Forget the contents and a failure, keep the memory. */
void wbuf_clear(struct wbuf *b);

/* Make room for `size` more bytes; returns where they go, or NULL.  The caller then adds what
 * it wrote to b->size. */
uint8_t *wbuf_reserve(struct wbuf *b, size_t size);

/* Each returns 0 or b->failed. */
int wbuf_put(struct wbuf *b, const void *data, size_t size);
int wbuf_put_u8(struct wbuf *b, uint8_t v);
int wbuf_put_u32(struct wbuf *b, uint32_t v);
int wbuf_put_u64(struct wbuf *b, uint64_t v);
int wbuf_put_zero(struct wbuf *b, size_t size);
int wbuf_put_text(struct wbuf *b, const char *text);
int wbuf_printf(struct wbuf *b, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Hand the memory (from malloc, NULL when empty) to the caller; the buffer is empty after. */
uint8_t *wbuf_detach(struct wbuf *b, size_t *size);

#endif
