/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/head.h"

#include "archive/base/ckd.h"
#include "archive/item.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* A window that one huge head has made larger than this is given back before the next. */
enum { WINDOW_KEEP_SIZE = 1 << 20 };

void head_clear_entry(struct tree_entry *out)
{
	metadata_clear(&out->meta);
	wbuf_clear(&out->text);
	wbuf_clear(&out->name);
	out->filename_offset = out->entry_offset = out->dir_end = 0;
	out->content_offset = out->content_size = 0;
	out->device_major = out->device_minor = 0;
	out->is_hardlink = false;
}

/* Read on behind what the window holds: up to `want`, or if that much cannot be had, to `end`. */
static int window_read(struct head *h, uint64_t end, uint64_t want, struct err *err)
{
	struct tree_window *w = h->window;
	uint64_t from = w->begin + w->bytes.size;
	uint8_t *p = wbuf_reserve(&w->bytes, (size_t)(want - from));
	int rc;

	if (!p)
		return err_set(err, -w->bytes.failed, "an entry's head is too large");
	rc = read_at_exact(h->meta, p, (size_t)(want - from), from, err);
	if (rc < 0 && rc != -EAGAIN && want > end) {
		w->narrow_end = want;
		want = end;
		rc = read_at_exact(h->meta, p, (size_t)(want - from), from, err);
	}
	if (rc == 0)
		w->bytes.size += (size_t)(want - from);
	return rc;
}

/* Bring stream bytes [offset, end) into the window.  What it holds from `offset` on is kept,
 * the rest dropped. */
static int window_fill(struct head *h, uint64_t offset, uint64_t end, struct err *err)
{
	struct tree_window *w = h->window;
	uint64_t held = 0, want = h->want;

	if (offset >= w->begin && offset - w->begin < w->bytes.size)
		held = w->begin + w->bytes.size - offset;
	if (held) {
		memmove(w->bytes.data, w->bytes.data + (offset - w->begin), (size_t)held);
	} else if (w->bytes.capacity > WINDOW_KEEP_SIZE) {
		wbuf_release(&w->bytes);
		wbuf_init(&w->bytes, HEAD_SIZE_MAX);
	}
	wbuf_clear(&w->bytes);
	w->begin = offset;
	w->bytes.size = (size_t)held;
	if (want < end) {
		want = offset + (held > HEAD_GUESS_SIZE / 2 ? 2 * held : HEAD_GUESS_SIZE);
		if (want > h->limit)
			want = h->limit;
		if (want < end)
			want = end;
	}
	return window_read(h, end, want, err);
}

/* `size` bytes of the stream from `offset` on; they stay where they are until the next call. */
static int head_bytes(struct head *h, uint64_t offset, uint64_t size, const uint8_t **out,
		      struct err *err)
{
	struct tree_window *w = h->window;
	uint64_t end;

	*out = NULL;
	if (ckd_add(&end, offset, size) || end > h->limit)
		return err_set(err, EBADMSG, "item at offset %" PRIu64 " reaches past %" PRIu64,
			       offset, h->limit);
	if (offset < w->begin || end > w->begin + w->bytes.size) {
		int rc = window_fill(h, offset, end, err);

		if (rc < 0)
			return rc;
	}
	*out = w->bytes.data + (offset - w->begin);
	return 0;
}

static int head_header(struct head *h, struct item_header *out, struct err *err)
{
	const uint8_t *bytes;
	int rc = head_bytes(h, h->position, PXAR_HEADER_SIZE, &bytes, err);

	if (rc < 0)
		return rc;
	rc = item_header_decode(bytes, out, err);
	if (rc < 0)
		return err_wrap(err, rc, "item at offset %" PRIu64, h->position);
	return 0;
}

/* The body of the item at the position, and step over it. */
static int head_body(struct head *h, const struct item_header *item, const uint8_t **out,
		     struct err *err)
{
	int rc = head_bytes(h, h->position + PXAR_HEADER_SIZE, item->body_size, out, err);

	if (rc == 0)
		h->position += PXAR_HEADER_SIZE + item->body_size;
	return rc;
}

static int replace_text(struct wbuf *out, const uint8_t *text, size_t size)
{
	wbuf_clear(out);
	return wbuf_put(out, text, size);
}

int head_filename(struct head *h, const char **name, size_t *name_size, struct err *err)
{
	struct item_header item;
	const uint8_t *body;
	int rc = head_header(h, &item, err);

	if (rc < 0)
		return rc;
	if (item.type != PXAR_FILENAME)
		return err_set(err, EBADMSG, "expected FILENAME, found %s",
			       item_type_name(item.type));
	rc = head_body(h, &item, &body, err);
	if (rc == 0)
		rc = item_filename_check(body, (size_t)item.body_size, err);
	if (rc < 0)
		return rc;
	*name = (const char *)body;
	*name_size = (size_t)item.body_size - 1;
	return 0;
}

int head_hardlink(struct head *h, uint64_t filename_offset, uint64_t *target_offset,
		  struct wbuf *path, struct err *err)
{
	struct item_header item;
	struct item_hardlink link;
	const uint8_t *body;
	int rc = head_header(h, &item, err);

	if (rc < 0)
		return rc;
	if (item.type != PXAR_HARDLINK)
		return 1;
	rc = head_body(h, &item, &body, err);
	if (rc == 0)
		rc = item_hardlink_decode(body, (size_t)item.body_size, filename_offset, &link,
					  err);
	if (rc == 0)
		rc = replace_text(path, (const uint8_t *)link.path, link.path_size + 1);
	if (rc == 0)
		*target_offset = link.target_offset;
	return rc;
}

/* ENTRY and attributes.  `*next` is the item behind them; its type is 0 when the head is known
 * to end there. */
static int read_stat(struct head *h, struct tree_entry *out, struct item_header *next,
		     struct err *err)
{
	const uint8_t *body;
	int rc = head_header(h, next, err);

	if (rc < 0)
		return rc;
	if (next->type != PXAR_ENTRY && next->type != PXAR_ENTRY_V1)
		return err_set(err, EBADMSG, "expected ENTRY, found %s",
			       item_type_name(next->type));
	rc = head_body(h, next, &body, err);
	if (rc == 0)
		rc = item_stat_decode(next->type, body, (size_t)next->body_size, &out->meta, err);
	while (rc == 0) {
		next->type = 0;
		if (h->position == h->limit)
			return 0;
		rc = head_header(h, next, err);
		if (rc < 0 || !item_is_attribute(next->type))
			return rc;
		rc = head_body(h, next, &body, err);
		if (rc == 0)
			rc = item_attribute_decode(next->type, body, (size_t)next->body_size,
						   &out->meta, err);
	}
	return rc;
}

/* Version 1: the content follows right here, and must end before what comes next. */
static int locate_content(struct head *h, const struct item_header *item,
			  struct tree_entry *out, struct err *err)
{
	uint64_t end;

	out->content_offset = h->position + PXAR_HEADER_SIZE;
	out->content_size = item->body_size;
	if (ckd_add(&end, out->content_offset, out->content_size) || end > h->limit)
		return err_set(err, EBADMSG, "content of %" PRIu64 " bytes at offset %" PRIu64
			       " reaches past %" PRIu64, out->content_size,
			       out->content_offset, h->limit);
	h->position = end;
	return 0;
}

static int locate_payload(struct head *h, const struct item_header *item,
			  struct tree_entry *out, struct err *err)
{
	struct item_payload_ref ref;
	const uint8_t *body;
	int rc = head_body(h, item, &body, err);

	if (rc == 0)
		rc = item_payload_ref_decode(body, (size_t)item->body_size, &ref, err);
	if (rc < 0)
		return rc;
	if (ref.offset > INT64_MAX || ref.size > INT64_MAX - ref.offset)
		return err_set(err, EBADMSG, "no content can end %" PRIu64
			       " bytes behind offset %" PRIu64, ref.size, ref.offset);
	out->content_offset = ref.offset;
	out->content_size = ref.size;
	return 0;
}

static int read_symlink(struct head *h, const struct item_header *item, struct tree_entry *out,
			struct err *err)
{
	const uint8_t *body;
	int rc = head_body(h, item, &body, err);

	if (rc == 0)
		rc = item_symlink_check(body, (size_t)item->body_size, err);
	if (rc == 0)
		rc = replace_text(&out->text, body, (size_t)item->body_size);
	return rc;
}

static int read_device(struct head *h, const struct item_header *item, struct tree_entry *out,
		       struct err *err)
{
	const uint8_t *body;
	int rc = head_body(h, item, &body, err);

	if (rc == 0)
		rc = item_device_decode(body, (size_t)item->body_size, &out->device_major,
					&out->device_minor, err);
	return rc;
}

int head_entry(struct head *h, struct tree_entry *out, struct err *err)
{
	uint64_t entry_offset = h->position;
	struct item_header next;
	int rc = read_stat(h, out, &next, err);

	if (rc < 0)
		return rc;
	out->entry_offset = entry_offset;
	/* At the limit stands a FILENAME or a GOODBYE: what that may follow may end there. */
	rc = item_check_after(out->meta.mode, h->version, next.type ? next.type : PXAR_GOODBYE,
			      err);
	if (rc < 0)
		return rc;
	switch (next.type) {
	case PXAR_PAYLOAD:
		return locate_content(h, &next, out, err);
	case PXAR_PAYLOAD_REF:
		return locate_payload(h, &next, out, err);
	case PXAR_SYMLINK:
		return read_symlink(h, &next, out, err);
	case PXAR_DEVICE:
		return read_device(h, &next, out, err);
	default:
		return 0;
	}
}
