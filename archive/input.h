/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input - a stream that is read front to back, behind a buffer; and a source in memory.
 *
 * Owner:   embedded; release with input_release().  Borrows what its source points to.
 * Threads: one owner at a time.
 * Trust:   the bytes are hostile, the source is not.  Asking for more than the stream has is
 *          -EBADMSG "NAME ends early, at offset N"; a source's own error gets the name too.
 */
#ifndef PXARFS_INPUT_H
#define PXARFS_INPUT_H

#include "archive/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a stream comes from. */
struct input_source {
	/* Store up to `size` (never 0) bytes and in `*got` how many, 0 only at the end.  Waits
	 * for bytes; 0 or a negative errno. */
	int (*read)(void *arg, void *buf, size_t size, size_t *got, struct err *err);
	void *arg;
};

enum { INPUT_PEEK_MAX = 256 << 10 };

struct input {
	struct input_source source;
	const char *name;
	uint8_t *buf;
	size_t begin, end; /* what is in the buffer and not taken yet */
	uint64_t offset; /* in the stream, of buf[begin] */
	bool at_end; /* the source has no more */
};

/* A source without `read` gives an input that must not be read.  -ENOMEM. */
int input_init(struct input *in, const struct input_source *source, const char *name);
void input_release(struct input *in);

/* The next `size` (at most INPUT_PEEK_MAX) bytes; they stay until the next call that is not
 * input_take(). */
int input_peek(struct input *in, size_t size, const uint8_t **bytes, struct err *err);

/* Step over bytes that were peeked at. */
void input_take(struct input *in, size_t size);

/* Take exactly `size` bytes. */
int input_read(struct input *in, uint8_t *buf, size_t size, struct err *err);
int input_skip(struct input *in, uint64_t size, struct err *err);

/* 1 when the stream has no more bytes, else 0. */
int input_at_end(struct input *in, struct err *err);

/* Skip to the end but for the last `size` bytes, of which none may have been taken. */
int input_last(struct input *in, size_t size, const uint8_t **bytes, struct err *err);

/* A source over bytes in memory.  Both are borrowed by the input. */
struct input_memory {
	const uint8_t *data;
	size_t size;
	size_t position;
};

struct input_source input_memory_source(struct input_memory *m);

#endif
