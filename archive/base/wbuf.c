/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/wbuf.h"

#include "archive/base/le.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { WBUF_CAPACITY_MIN = 64 };

void wbuf_init(struct wbuf *b, size_t size_max)
{
	*b = (struct wbuf)WBUF_INIT(size_max);
}

void wbuf_release(struct wbuf *b)
{
	free(b->data);
	*b = (struct wbuf)WBUF_INIT(b->size_max);
}

void wbuf_clear(struct wbuf *b)
{
	b->size = 0;
	b->failed = 0;
}

uint8_t *wbuf_reserve(struct wbuf *b, size_t size)
{
	size_t capacity = b->capacity;
	uint8_t *data;

	if (b->failed)
		return NULL;
	if (size > b->size_max - b->size) {
		b->failed = -E2BIG;
		return NULL;
	}
	if (b->data && size <= b->capacity - b->size)
		return b->data + b->size;
	if (capacity < WBUF_CAPACITY_MIN)
		capacity = WBUF_CAPACITY_MIN;
	while (capacity - b->size < size)
		capacity = capacity > SIZE_MAX / 2 ? SIZE_MAX : capacity * 2;
	if (capacity > b->size_max && b->size_max >= WBUF_CAPACITY_MIN)
		capacity = b->size_max;
	data = realloc(b->data, capacity);
	if (!data) {
		b->failed = -ENOMEM;
		return NULL;
	}
	b->data = data;
	b->capacity = capacity;
	return b->data + b->size;
}

int wbuf_put(struct wbuf *b, const void *data, size_t size)
{
	uint8_t *p = wbuf_reserve(b, size);

	if (!p)
		return b->failed;
	if (size)
		memcpy(p, data, size);
	b->size += size;
	return 0;
}

int wbuf_put_u8(struct wbuf *b, uint8_t v)
{
	return wbuf_put(b, &v, sizeof(v));
}

int wbuf_put_u32(struct wbuf *b, uint32_t v)
{
	uint8_t bytes[4];

	le32_put(bytes, v);
	return wbuf_put(b, bytes, sizeof(bytes));
}

int wbuf_put_u64(struct wbuf *b, uint64_t v)
{
	uint8_t bytes[8];

	le64_put(bytes, v);
	return wbuf_put(b, bytes, sizeof(bytes));
}

int wbuf_put_zero(struct wbuf *b, size_t size)
{
	uint8_t *p = wbuf_reserve(b, size);

	if (!p)
		return b->failed;
	memset(p, 0, size);
	b->size += size;
	return 0;
}

int wbuf_put_text(struct wbuf *b, const char *text)
{
	return wbuf_put(b, text, strlen(text));
}

int wbuf_printf(struct wbuf *b, const char *format, ...)
{
	char *text = NULL;
	va_list ap;
	int n;

	if (b->failed)
		return b->failed;
	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n < 0) {
		b->failed = -ENOMEM;
		return b->failed;
	}
	wbuf_put(b, text, (size_t)n);
	free(text);
	return b->failed;
}

uint8_t *wbuf_detach(struct wbuf *b, size_t *size)
{
	uint8_t *data = b->data;

	*size = b->size;
	*b = (struct wbuf)WBUF_INIT(b->size_max);
	return data;
}
