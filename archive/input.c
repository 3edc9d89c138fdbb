/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/input.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Reads of this size and more go past the buffer. */
enum { DIRECT_SIZE_MIN = INPUT_PEEK_MAX / 4 };

int input_init(struct input *in, const struct input_source *source, const char *name)
{
	*in = (struct input){ .source = *source, .name = name };
	if (!source->read)
		return 0;
	in->buf = malloc(INPUT_PEEK_MAX);
	return in->buf ? 0 : -ENOMEM;
}

void input_release(struct input *in)
{
	free(in->buf);
	in->buf = NULL;
}

static int source_read(struct input *in, void *buf, size_t size, size_t *got, struct err *err)
{
	int rc;

	*got = 0;
	if (in->at_end)
		return 0;
	rc = in->source.read(in->source.arg, buf, size, got, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", in->name);
	assert(*got <= size);
	if (!*got)
		in->at_end = true;
	return 0;
}

/* Bring at least `size` bytes together in the buffer; fewer only at the end. */
static int fill(struct input *in, size_t size, struct err *err)
{
	size_t have = in->end - in->begin;

	assert(size <= INPUT_PEEK_MAX);
	if (size > INPUT_PEEK_MAX - in->begin) {
		memmove(in->buf, in->buf + in->begin, have);
		in->begin = 0;
		in->end = have;
	}
	while (in->end - in->begin < size && !in->at_end) {
		size_t got;
		int rc = source_read(in, in->buf + in->end, INPUT_PEEK_MAX - in->end, &got, err);

		if (rc < 0)
			return rc;
		in->end += got;
	}
	return 0;
}

static int ends_early(const struct input *in, struct err *err)
{
	return err_set(err, EBADMSG, "%s ends early, at offset %" PRIu64, in->name,
		       in->offset + (in->end - in->begin));
}

int input_peek(struct input *in, size_t size, const uint8_t **bytes, struct err *err)
{
	int rc;

	if (in->end - in->begin < size) {
		rc = fill(in, size, err);
		if (rc < 0)
			return rc;
		if (in->end - in->begin < size)
			return ends_early(in, err);
	}
	*bytes = in->buf + in->begin;
	return 0;
}

void input_take(struct input *in, size_t size)
{
	assert(size <= in->end - in->begin);
	in->begin += size;
	in->offset += size;
	if (in->begin == in->end)
		in->begin = in->end = 0;
}

/* At least one and at most `size` of the next bytes. */
static int read_some(struct input *in, uint8_t *buf, size_t size, size_t *got, struct err *err)
{
	int rc;

	if (in->begin == in->end && size >= DIRECT_SIZE_MIN) {
		rc = source_read(in, buf, size, got, err);
		if (rc < 0)
			return rc;
		in->offset += *got;
		return *got ? 0 : ends_early(in, err);
	}
	rc = fill(in, 1, err);
	if (rc < 0)
		return rc;
	*got = in->end - in->begin;
	if (!*got)
		return ends_early(in, err);
	if (*got > size)
		*got = size;
	memcpy(buf, in->buf + in->begin, *got);
	input_take(in, *got);
	return 0;
}

int input_read(struct input *in, uint8_t *buf, size_t size, struct err *err)
{
	while (size) {
		size_t got;
		int rc = read_some(in, buf, size, &got, err);

		if (rc < 0)
			return rc;
		buf += got;
		size -= got;
	}
	return 0;
}

int input_skip(struct input *in, uint64_t size, struct err *err)
{
	while (size) {
		const uint8_t *bytes;
		size_t have;
		int rc = input_peek(in, 1, &bytes, err);

		if (rc < 0)
			return rc;
		have = in->end - in->begin;
		if (have > size)
			have = (size_t)size;
		input_take(in, have);
		size -= have;
	}
	return 0;
}

int input_at_end(struct input *in, struct err *err)
{
	int rc = fill(in, 1, err);

	return rc < 0 ? rc : in->begin == in->end;
}

int input_last(struct input *in, size_t size, const uint8_t **bytes, struct err *err)
{
	while (!in->at_end) {
		size_t have = in->end - in->begin;
		int rc;

		if (have > size)
			input_take(in, have - size);
		rc = fill(in, size + 1, err);
		if (rc < 0)
			return rc;
	}
	if (in->end - in->begin < size)
		return ends_early(in, err);
	input_take(in, in->end - in->begin - size);
	return input_peek(in, size, bytes, err);
}

static int memory_read(void *arg, void *buf, size_t size, size_t *got, struct err *err)
{
	struct input_memory *m = arg;
	size_t left = m->size - m->position;

	(void)err;
	*got = left < size ? left : size;
	if (*got)
		memcpy(buf, m->data + m->position, *got);
	m->position += *got;
	return 0;
}

struct input_source input_memory_source(struct input_memory *m)
{
	return (struct input_source){ .read = memory_read, .arg = m };
}
