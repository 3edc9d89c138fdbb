/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/read_at.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

int read_at_exact(struct read_at *source, void *buf, size_t size, uint64_t offset,
		  struct err *err)
{
	if (offset > source->size || size > source->size - offset)
		return err_set(err, EBADMSG,
			       "%zu bytes at offset %" PRIu64 " reach past the end (%" PRIu64 ")",
			       size, offset, source->size);
	if (!size)
		return 0;
	return source->ops->read(source, buf, size, offset, err);
}

static int memory_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
		       struct err *err)
{
	struct read_at_memory *m = (struct read_at_memory *)self;

	(void)err;
	memcpy(buf, m->data + offset, size);
	return 0;
}

static const struct read_at_ops memory_ops = { .read = memory_read };

void read_at_memory_init(struct read_at_memory *m, const void *data, size_t size)
{
	*m = (struct read_at_memory){ .base = { .ops = &memory_ops, .size = size },
				      .data = data };
}
