/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decode_all - run a decoder to its end over streams that come in pieces, break or end early.
 *
 * Included after cmocka.h.  Header only, as the tests of archive/ link the library under test
 * alone.
 */
#ifndef PXARFS_TESTS_DECODE_ALL_H
#define PXARFS_TESTS_DECODE_ALL_H

#include "archive/decoder.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* A stream that comes in pieces and may break. */
struct pipe {
	const uint8_t *data;
	size_t size, position;
	size_t piece; /* at most so many bytes at once; 0: any number */
	size_t fail_at; /* -EIO here; 0: never */
};

static inline int pipe_read(void *arg, void *buf, size_t size, size_t *got, struct err *err)
{
	struct pipe *p = arg;
	size_t left = p->size - p->position;

	if (p->fail_at && p->position + 1 >= p->fail_at)
		return err_set(err, EIO, "the pipe broke");
	if (p->piece && size > p->piece)
		size = p->piece;
	*got = size < left ? size : left;
	if (*got)
		memcpy(buf, p->data + p->position, *got);
	p->position += *got;
	return 0;
}

static inline struct input_source pipe_source(struct pipe *p)
{
	return (struct input_source){ p->data ? pipe_read : NULL, p };
}

static inline void describe(struct decoder *d, const struct decoder_event *ev, struct wbuf *t,
		     struct err *err, int *rc)
{
	static const char *const kinds[] = { "root", "entry", "hardlink", "end" };

	wbuf_printf(t, "%s %zu", kinds[ev->kind], ev->depth);
	if (ev->kind == DECODER_DIR_END) {
		wbuf_printf(t, " @%" PRIu64, ev->goodbye_offset);
		for (size_t i = 0; i < ev->member_count; i++)
			wbuf_printf(t, " %" PRIu64 ":%" PRIu64 "%s", ev->members[i].filename_offset,
				    ev->members[i].slot_size,
				    ev->members[i].is_directory ? "/" : "");
		wbuf_put_text(t, "\n");
		return;
	}
	wbuf_printf(t, " '%s' @%" PRIu64 "+%" PRIu64, ev->name, ev->filename_offset,
		    ev->entry_offset - ev->filename_offset);
	if (ev->meta)
		wbuf_printf(t, " %06" PRIo64 " %" PRIu32 ":%" PRIu32 " %" PRId64 ".%09" PRIu32,
			    ev->meta->mode, ev->meta->uid, ev->meta->gid, ev->meta->mtime_sec,
			    ev->meta->mtime_nsec);
	if (ev->target)
		wbuf_printf(t, " -> '%s' @%" PRIu64, ev->target, ev->target_offset);
	if (ev->meta && (ev->meta->mode & PXAR_MODE_TYPE) == PXAR_MODE_REGULAR) {
		char content[64];
		size_t got = 0;

		*rc = decoder_read(d, content, sizeof(content) - 1, &got, err);
		wbuf_printf(t, " %" PRIu64 " at %" PRIu64 " '%.*s'", ev->content_size,
			    ev->content_offset, (int)got, content);
	}
	wbuf_put_text(t, "\n");
}

/* Decode everything; contents are read when `text` is given, which gets a line for each event. */
static inline int decode(struct pipe *meta, struct pipe *payload, bool tables, struct wbuf *text,
		  struct err *err)
{
	AUTO(decoder) struct decoder *d = NULL;
	struct decoder_params params = { .meta = pipe_source(meta), .tables = tables };
	const struct decoder_event *ev;
	int rc;

	if (payload)
		params.payload = pipe_source(payload);
	assert_int_equal(decoder_new(&d, &params, err), 0);
	while ((rc = decoder_next(d, &ev, err)) == 0) {
		if (text) {
			describe(d, ev, text, err, &rc);
			if (rc < 0)
				return rc;
		}
	}
	if (rc < 0) /* an error is final */
		assert_int_equal(decoder_next(d, &ev, NULL), rc);
	else
		assert_int_equal(decoder_next(d, &ev, NULL), 1);
	return rc < 0 ? rc : 0;
}

#endif
