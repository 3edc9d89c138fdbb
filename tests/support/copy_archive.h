/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_archive - run an archive through decoder and encoder.
 *
 * What the official tools wrote comes out byte for byte, the form of each goodbye slot
 * included.  With a payload stream its content is copied; without one the metadata stream is
 * copied alone.  Padding is copied where the payload stream is at hand in memory, too.
 */
#ifndef PXARFS_TESTS_COPY_ARCHIVE_H
#define PXARFS_TESTS_COPY_ARCHIVE_H

#include "archive/decoder.h"
#include "archive/encoder.h"

#include <errno.h>
#include <stdlib.h>

struct copy {
	/* Set by the caller. */
	struct input_source meta, payload; /* payload.read == NULL: none */
	const uint8_t *payload_bytes; /* the whole payload stream; NULL: refuse padding */
	size_t payload_size;
	bool tables; /* as struct decoder_params */
	struct encoder_sink out_meta, out_payload;

	struct decoder *decoder;
	struct encoder *encoder;
	/* Where the regular files began and begin now: the same, unless the copy has another
	 * form (ENTRY_V1 becomes ENTRY). */
	struct copy_file {
		uint64_t from, to;
	} *files;
	size_t file_count, file_capacity;
};

static void copy_release(struct copy *c)
{
	decoder_free(c->decoder);
	encoder_free(c->encoder);
	free(c->files);
}

static int copy_drop(void *arg, const void *data, size_t size, struct err *err)
{
	(void)arg, (void)data, (void)size, (void)err;
	return 0;
}

static int copy_root(struct copy *c, const struct decoder_event *ev, struct err *err)
{
	struct encoder_params params = { .meta = c->out_meta };

	if (decoder_version(c->decoder) == PXAR_VERSION_2) {
		params.payload = c->out_payload;
		if (!c->payload.read)
			params.payload.write = copy_drop;
		params.prelude = decoder_prelude(c->decoder, &params.prelude_size);
	}
	return encoder_new(&c->encoder, &params, ev->meta, err);
}

static int copy_content(struct copy *c, struct err *err)
{
	char buf[8192];

	for (;;) {
		size_t got;
		int rc = decoder_read(c->decoder, buf, sizeof(buf), &got, err);

		if (!rc && !got)
			return encoder_file_end(c->encoder, err);
		if (!rc)
			rc = encoder_file_write(c->encoder, buf, got, err);
		if (rc < 0)
			return rc;
	}
}

/* The bytes of the payload stream up to `end` that belong to no file. */
static int copy_padding(struct copy *c, uint64_t end, struct err *err)
{
	uint64_t begin = encoder_payload_offset(c->encoder);
	int rc;

	if (!c->payload.read || end <= begin)
		return 0;
	if (!c->payload_bytes || end > c->payload_size)
		return err_set(err, EINVAL, "the payload stream has padding");
	rc = c->out_payload.write(c->out_payload.arg, c->payload_bytes + begin,
				  (size_t)(end - begin), err);
	return rc < 0 ? rc : encoder_payload_advance(c->encoder, end - begin, err);
}

static int copy_file(struct copy *c, const struct decoder_event *ev, struct err *err)
{
	uint64_t at = encoder_meta_offset(c->encoder);
	int rc = 0;

	if (c->file_count == c->file_capacity) {
		c->file_capacity = c->file_capacity ? 2 * c->file_capacity : 64;
		c->files = realloc(c->files, c->file_capacity * sizeof(*c->files));
		if (!c->files)
			return err_set(err, ENOMEM, "out of memory");
	}
	c->files[c->file_count++] = (struct copy_file){ ev->filename_offset, at };

	if (decoder_version(c->decoder) == PXAR_VERSION_2) {
		if (!c->payload.read)
			return encoder_file_reuse(c->encoder, ev->name, ev->meta,
						  ev->content_offset, ev->content_size, NULL, err);
		rc = copy_padding(c, ev->content_offset, err);
	}
	if (!rc)
		rc = encoder_file_begin(c->encoder, ev->name, ev->meta, ev->content_size, NULL,
					err);
	return rc < 0 ? rc : copy_content(c, err);
}

static int copy_hardlink(struct copy *c, const struct decoder_event *ev, struct err *err)
{
	size_t begin = 0, end = c->file_count;

	while (begin < end) {
		size_t middle = begin + (end - begin) / 2;

		if (c->files[middle].from < ev->target_offset)
			begin = middle + 1;
		else
			end = middle;
	}
	if (begin == c->file_count || c->files[begin].from != ev->target_offset)
		return err_set(err, EINVAL, "%s: a hard link to no regular file", ev->name);
	return encoder_hardlink(c->encoder, ev->name, ev->target, c->files[begin].to, err);
}

static int copy_entry(struct copy *c, const struct decoder_event *ev, struct err *err)
{
	switch (ev->meta->mode & PXAR_MODE_TYPE) {
	case PXAR_MODE_DIRECTORY:
		return encoder_dir_begin(c->encoder, ev->name, ev->meta, err);
	case PXAR_MODE_REGULAR:
		return copy_file(c, ev, err);
	case PXAR_MODE_SYMLINK:
		return encoder_symlink(c->encoder, ev->name, ev->meta, ev->target, err);
	case PXAR_MODE_CHAR:
	case PXAR_MODE_BLOCK:
		return encoder_device(c->encoder, ev->name, ev->meta, ev->device_major,
				      ev->device_minor, err);
	}
	return encoder_special(c->encoder, ev->name, ev->meta, err);
}

static int copy_dir_end(struct copy *c, const struct decoder_event *ev, struct err *err)
{
	for (size_t i = 0; i < ev->member_count; i++) {
		/* Too small only where the copy has a larger form. */
		if (!ev->members[i].is_directory)
			encoder_member_size(c->encoder, i, ev->members[i].slot_size, NULL);
	}
	if (ev->depth)
		return encoder_dir_end(c->encoder, err);
	if (decoder_version(c->decoder) == PXAR_VERSION_2 && c->payload_bytes) {
		int rc = copy_padding(c, c->payload_size - PXAR_HEADER_SIZE, err);

		if (rc < 0)
			return rc;
	}
	return encoder_finish(c->encoder, err);
}

static int copy_event(struct copy *c, const struct decoder_event *ev, struct err *err)
{
	switch (ev->kind) {
	case DECODER_ROOT:
		return copy_root(c, ev, err);
	case DECODER_ENTRY:
		return copy_entry(c, ev, err);
	case DECODER_HARDLINK:
		return copy_hardlink(c, ev, err);
	case DECODER_DIR_END:
		return copy_dir_end(c, ev, err);
	}
	return err_set(err, EINVAL, "unknown event");
}

/* 0, or what decoder or encoder returned. */
static int copy_archive(struct copy *c, struct err *err)
{
	struct decoder_params params = { .meta = c->meta,
					 .payload = c->payload,
					 .tables = c->tables };
	const struct decoder_event *ev;
	int rc = decoder_new(&c->decoder, &params, err);

	while (!rc) {
		rc = decoder_next(c->decoder, &ev, err);
		if (!rc)
			rc = copy_event(c, ev, err);
	}
	copy_release(c);
	return rc < 0 ? rc : 0;
}

#endif
