/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/decoder.h"

#include "archive/base/ckd.h"
#include "archive/base/grow.h"
#include "archive/base/siphash.h"
#include "archive/goodbye.h"
#include "archive/input.h"
#include "archive/item.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { PRELUDE_PIECE_SIZE = 64 << 10 };

static_assert((int)PXAR_XATTR_SIZE_MAX <= (int)INPUT_PEEK_MAX, "largest body");
static_assert((int)PRELUDE_PIECE_SIZE <= (int)INPUT_PEEK_MAX, "prelude piece");

/* A directory that is open. */
struct open_dir {
	uint64_t entry_offset; /* of its ENTRY */
	size_t members_begin;
};

enum decoder_state {
	STATE_START,
	STATE_IN_DIR, /* at the header of a member or of the table */
	STATE_AT_END, /* after the root's table */
	STATE_DONE,
};

struct decoder {
	struct input meta, payload;
	bool tables;

	enum decoder_state state;
	int failed;
	unsigned version;
	bool has_prelude;
	struct wbuf prelude;

	uint64_t item_offset; /* of the item at hand, for messages */
	struct decoder_event event;
	struct metadata metadata;
	char name[PXAR_NAME_SIZE_MAX + 1];
	char target[PXAR_TARGET_SIZE_MAX + 1];

	/* Content of the file at hand that was not taken yet. */
	bool in_file;
	bool content_open; /* version 2: padding is skipped, the PAYLOAD header checked */
	uint64_t content_left;

	struct open_dir *dirs;
	size_t depth, dir_capacity;
	struct decoder_member *members;
	size_t member_count, member_capacity;
	struct goodbye_slot *slots; /* of the table at hand */
	size_t slot_capacity;
};

/* --- lists --- */

static int push_dir(struct decoder *d, struct err *err)
{
	int rc = grow(&d->dirs, &d->dir_capacity, d->depth + 1, PXAR_DEPTH_MAX, sizeof(*d->dirs));

	if (rc == -E2BIG)
		return err_set(err, E2BIG, "more than %d directories inside each other",
			       PXAR_DEPTH_MAX);
	if (rc < 0)
		return err_set(err, ENOMEM, "out of memory");
	d->dirs[d->depth++] = (struct open_dir){ .entry_offset = d->event.entry_offset,
						 .members_begin = d->member_count };
	return 0;
}

static int push_member(struct decoder *d, struct err *err)
{
	int rc;

	if (!d->tables)
		return 0;
	rc = grow(&d->members, &d->member_capacity, d->member_count + 1, PXAR_MEMBER_COUNT_MAX,
		  sizeof(*d->members));
	if (rc == -E2BIG)
		return err_set(err, E2BIG, "too many members in open directories");
	if (rc < 0)
		return err_set(err, ENOMEM, "out of memory");
	d->members[d->member_count++] = (struct decoder_member){
		.name_hash = siphash_name(d->name, d->event.name_size),
		.filename_offset = d->event.filename_offset,
	};
	return 0;
}

/* --- items --- */

/* The header of the next item, not taken yet. */
static int peek_header(struct decoder *d, struct item_header *header, struct err *err)
{
	const uint8_t *bytes = NULL;
	int rc;

	d->item_offset = d->meta.offset;
	rc = input_peek(&d->meta, PXAR_HEADER_SIZE, &bytes, err);
	return rc < 0 ? rc : item_header_decode(bytes, header, err);
}

static int take_header(struct decoder *d, struct item_header *header, struct err *err)
{
	int rc = peek_header(d, header, err);

	if (!rc)
		input_take(&d->meta, PXAR_HEADER_SIZE);
	return rc;
}

static int unexpected(const struct item_header *header, const char *where, struct err *err)
{
	return err_set(err, EBADMSG, "%s item %s", item_type_name(header->type), where);
}

/* ENTRY and attributes, `header` being that of the ENTRY and taken already; gives back the
 * header of what follows, not taken, and proved to be what the entry's type asks for. */
static int decode_metadata(struct decoder *d, struct item_header *header, struct err *err)
{
	struct metadata *m = &d->metadata;
	const uint8_t *body;
	size_t size = (size_t)header->body_size;
	int rc = input_peek(&d->meta, size, &body, err);

	if (!rc)
		rc = item_stat_decode(header->type, body, size, m, err);
	while (!rc) {
		input_take(&d->meta, size);
		rc = peek_header(d, header, err);
		if (rc < 0)
			return rc;
		if (!item_is_attribute(header->type))
			return item_check_after(m->mode, d->version, header->type, err);
		input_take(&d->meta, PXAR_HEADER_SIZE);
		size = (size_t)header->body_size;
		rc = input_peek(&d->meta, size, &body, err);
		if (!rc)
			rc = item_attribute_decode(header->type, body, size, m, err);
	}
	return rc;
}

static int decode_prelude(struct decoder *d, uint64_t size, struct err *err)
{
	if (size > PXAR_PRELUDE_SIZE_MAX)
		return err_set(err, E2BIG, "prelude of %" PRIu64 " bytes, more than %d", size,
			       PXAR_PRELUDE_SIZE_MAX);
	wbuf_init(&d->prelude, PXAR_PRELUDE_SIZE_MAX);
	do {
		size_t piece = size < PRELUDE_PIECE_SIZE ? (size_t)size : PRELUDE_PIECE_SIZE;
		const uint8_t *bytes;
		int rc = input_peek(&d->meta, piece, &bytes, err);

		if (rc < 0)
			return rc;
		if (wbuf_put(&d->prelude, bytes, piece) < 0)
			return err_set(err, ENOMEM, "out of memory");
		input_take(&d->meta, piece);
		size -= piece;
	} while (size);
	d->has_prelude = true;
	return 0;
}

/* FORMAT_VERSION and PRELUDE, if there; then `header` is that of the root's ENTRY, taken. */
static int decode_start(struct decoder *d, struct item_header *header, struct err *err)
{
	const uint8_t *body;
	int rc = take_header(d, header, err);

	d->version = PXAR_VERSION_1;
	if (rc < 0 || header->type != PXAR_FORMAT_VERSION)
		return rc;
	rc = input_peek(&d->meta, PXAR_FORMAT_VERSION_BODY_SIZE, &body, err);
	if (!rc)
		rc = item_version_decode(body, PXAR_FORMAT_VERSION_BODY_SIZE, &d->version, err);
	if (rc < 0)
		return rc;
	input_take(&d->meta, PXAR_FORMAT_VERSION_BODY_SIZE);
	rc = take_header(d, header, err);
	if (rc < 0 || header->type != PXAR_PRELUDE)
		return rc;
	rc = decode_prelude(d, header->body_size, err);
	return rc < 0 ? rc : take_header(d, header, err);
}

static int check_payload_start(struct decoder *d, struct err *err)
{
	const uint8_t *bytes;
	int rc;

	if (!d->payload.source.read)
		return 0;
	if (d->version != PXAR_VERSION_2)
		return err_set(err, EINVAL, "a version 1 archive has no payload stream");
	rc = input_peek(&d->payload, PXAR_HEADER_SIZE, &bytes, err);
	if (!rc)
		rc = item_marker_check(bytes, PXAR_PAYLOAD_START_MARKER, err);
	if (!rc)
		input_take(&d->payload, PXAR_HEADER_SIZE);
	return rc;
}

static int decode_root(struct decoder *d, struct err *err)
{
	struct decoder_event *ev = &d->event;
	struct item_header header;
	int rc = decode_start(d, &header, err);

	if (rc < 0)
		return rc;
	if (header.type != PXAR_ENTRY && header.type != PXAR_ENTRY_V1)
		return unexpected(&header, "in place of the root's ENTRY", err);
	rc = check_payload_start(d, err);
	if (rc < 0)
		return rc;
	*ev = (struct decoder_event){ .kind = DECODER_ROOT,
				      .filename_offset = d->item_offset,
				      .entry_offset = d->item_offset,
				      .name = "",
				      .meta = &d->metadata };
	rc = decode_metadata(d, &header, err);
	if (rc < 0)
		return rc;
	if (!metadata_is_directory(&d->metadata))
		return err_set(err, EBADMSG, "the root is not a directory");
	rc = push_dir(d, err);
	if (!rc)
		d->state = STATE_IN_DIR;
	return rc;
}

/* --- members --- */

/* The payload of a regular file begins here (version 1). */
static int decode_payload(struct decoder *d, uint64_t size, struct err *err)
{
	uint64_t end;

	if (ckd_add(&end, d->meta.offset, size))
		return err_set(err, EBADMSG, "PAYLOAD item of %" PRIu64 " bytes", size);
	d->event.content_offset = d->item_offset;
	d->event.content_size = d->content_left = size;
	d->in_file = d->content_open = true;
	return 0;
}

static int decode_payload_ref(struct decoder *d, const uint8_t *body, size_t size,
			      struct err *err)
{
	struct item_payload_ref ref;
	int rc = item_payload_ref_decode(body, size, &ref, err);

	if (rc < 0)
		return rc;
	/* Whatever came before has been taken or skipped. */
	if (d->payload.source.read && ref.offset < d->payload.offset)
		return err_set(err, EBADMSG,
			       "PAYLOAD_REF goes back to payload offset %" PRIu64 " from %" PRIu64,
			       ref.offset, d->payload.offset);
	d->event.content_offset = ref.offset;
	d->event.content_size = d->content_left = ref.size;
	d->in_file = true;
	d->content_open = false;
	return 0;
}

static void keep_target(struct decoder *d, const void *text, size_t size)
{
	memcpy(d->target, text, size);
	d->target[size] = 0;
	d->event.target = d->target;
	d->event.target_size = size;
}

/* The item that closes an entry, if its type has one; `header` is not taken yet. */
static int decode_closing(struct decoder *d, const struct item_header *header, struct err *err)
{
	size_t size = (size_t)header->body_size;
	const uint8_t *body;
	int rc;

	if (header->type == PXAR_FILENAME || header->type == PXAR_GOODBYE)
		return 0;
	input_take(&d->meta, PXAR_HEADER_SIZE);
	if (header->type == PXAR_PAYLOAD)
		return decode_payload(d, header->body_size, err);

	rc = input_peek(&d->meta, size, &body, err);
	if (rc < 0)
		return rc;
	switch (header->type) {
	case PXAR_PAYLOAD_REF:
		rc = decode_payload_ref(d, body, size, err);
		break;
	case PXAR_DEVICE:
		rc = item_device_decode(body, size, &d->event.device_major,
					&d->event.device_minor, err);
		break;
	case PXAR_SYMLINK:
		rc = item_symlink_check(body, size, err);
		if (!rc)
			keep_target(d, body, size - 1);
		break;
	}
	if (!rc)
		input_take(&d->meta, size);
	return rc;
}

static int decode_hardlink(struct decoder *d, size_t size, struct err *err)
{
	struct decoder_event *ev = &d->event;
	struct item_hardlink link = { 0 };
	const uint8_t *body;
	int rc = input_peek(&d->meta, size, &body, err);

	if (!rc)
		rc = item_hardlink_decode(body, size, ev->filename_offset, &link, err);
	if (rc)
		return rc;
	ev->kind = DECODER_HARDLINK;
	ev->target_offset = link.target_offset;
	keep_target(d, link.path, link.path_size);
	input_take(&d->meta, size);
	return 0;
}

static int decode_filename(struct decoder *d, size_t size, struct err *err)
{
	const uint8_t *body;
	int rc = input_peek(&d->meta, size, &body, err);

	if (!rc)
		rc = item_filename_check(body, size, err);
	if (rc < 0)
		return rc;
	memcpy(d->name, body, size);
	d->event.name = d->name;
	d->event.name_size = size - 1;
	input_take(&d->meta, size);
	return 0;
}

/* A member; the header of its FILENAME is taken. */
static int decode_member(struct decoder *d, const struct item_header *filename, struct err *err)
{
	struct decoder_event *ev = &d->event;
	struct item_header header = { 0 };
	int rc;

	*ev = (struct decoder_event){ .kind = DECODER_ENTRY,
				      .depth = d->depth,
				      .filename_offset = d->item_offset };
	rc = decode_filename(d, (size_t)filename->body_size, err);
	if (!rc)
		rc = push_member(d, err);
	if (!rc)
		rc = take_header(d, &header, err);
	if (rc < 0)
		return rc;
	ev->entry_offset = d->item_offset;
	if (header.type == PXAR_HARDLINK)
		return decode_hardlink(d, (size_t)header.body_size, err);
	if (header.type != PXAR_ENTRY && header.type != PXAR_ENTRY_V1)
		return unexpected(&header, "after a FILENAME", err);

	ev->meta = &d->metadata;
	rc = decode_metadata(d, &header, err);
	if (!rc)
		rc = decode_closing(d, &header, err);
	if (rc < 0 || !metadata_is_directory(&d->metadata))
		return rc;
	if (d->tables)
		d->members[d->member_count - 1].is_directory = true;
	return push_dir(d, err);
}

/* --- tables --- */

/* The member whose FILENAME is at `offset`, or NULL; they are in stream order. */
static struct decoder_member *find_member(struct decoder_member *members, size_t count,
					  uint64_t offset)
{
	size_t begin = 0, end = count;

	while (begin < end) {
		size_t middle = begin + (end - begin) / 2;

		if (members[middle].filename_offset < offset)
			begin = middle + 1;
		else
			end = middle;
	}
	if (begin < count && members[begin].filename_offset == offset)
		return &members[begin];
	return NULL;
}

static int check_slot(struct decoder_member *members, size_t count, uint64_t goodbye_offset,
		      const struct goodbye_slot *slot, struct err *err)
{
	struct decoder_member *m = NULL;
	uint64_t offset;

	if (!ckd_sub(&offset, goodbye_offset, slot->offset))
		m = find_member(members, count, offset);
	if (!m)
		return err_set(err, EBADMSG,
			       "goodbye slot leads to no member, %" PRIu64 " bytes back",
			       slot->offset);
	if (m->slot_size)
		return err_set(err, EBADMSG, "two goodbye slots for the member at offset %" PRIu64,
			       offset);
	if (m->name_hash != slot->hash)
		return err_set(err, EBADMSG,
			       "goodbye slot of the member at offset %" PRIu64
			       " has hash %016" PRIx64 ", its name %016" PRIx64,
			       offset, slot->hash, m->name_hash);
	if (m->is_directory ? slot->size != m->size : slot->size < m->size)
		return err_set(err, EBADMSG,
			       "goodbye slot of the member at offset %" PRIu64
			       " has size %" PRIu64 ", found %" PRIu64,
			       offset, slot->size, m->size);
	m->slot_size = slot->size;
	return 0;
}

/* Every member ends where the next one, or the table, begins. */
static void measure_members(struct decoder_member *members, size_t count,
			    uint64_t goodbye_offset)
{
	uint64_t end = goodbye_offset;

	while (count--) {
		members[count].size = end - members[count].filename_offset;
		end = members[count].filename_offset;
	}
}

/* Prove the member slots, which come next in the stream. */
static int check_table(struct decoder *d, uint64_t slot_count, struct err *err)
{
	const struct open_dir *dir = &d->dirs[d->depth - 1];
	size_t count = d->member_count - dir->members_begin;
	struct decoder_member *members = count ? d->members + dir->members_begin : NULL;
	int rc;

	if (slot_count != count)
		return err_set(err, EBADMSG,
			       "goodbye table of %" PRIu64 " slots after %zu members", slot_count,
			       count);
	rc = grow(&d->slots, &d->slot_capacity, count, PXAR_MEMBER_COUNT_MAX, sizeof(*d->slots));
	if (rc < 0)
		return err_set(err, ENOMEM, "out of memory");
	measure_members(members, count, d->item_offset);
	for (size_t i = 0; i < count && !rc; i++) {
		const uint8_t *bytes;

		rc = input_peek(&d->meta, PXAR_GOODBYE_SLOT_SIZE, &bytes, err);
		if (rc < 0)
			return rc;
		goodbye_slot_decode(bytes, &d->slots[i]);
		input_take(&d->meta, PXAR_GOODBYE_SLOT_SIZE);
		rc = check_slot(members, count, d->item_offset, &d->slots[i], err);
	}
	if (!rc && !goodbye_is_search_tree(d->slots, count))
		return err_set(err, EBADMSG, "goodbye table is out of order");
	d->event.members = members;
	d->event.member_count = count;
	return rc;
}

/* The tail slot, which comes next in the stream, against what it must say. */
static int check_tail(struct decoder *d, uint64_t slot_count, struct err *err)
{
	uint64_t distance = d->item_offset - d->dirs[d->depth - 1].entry_offset;
	struct goodbye_slot tail;
	const uint8_t *bytes;
	uint64_t count = 0;
	int rc = input_peek(&d->meta, PXAR_GOODBYE_SLOT_SIZE, &bytes, err);

	if (!rc)
		rc = goodbye_tail_decode(bytes, &tail, &count, err);
	if (rc)
		return rc;
	if (count != slot_count)
		return err_set(err, EBADMSG, "goodbye table gives its size as %" PRIu64, tail.size);
	/* The root's tail leads to the start of the stream. */
	if (tail.offset != distance && (d->depth > 1 || tail.offset != d->item_offset))
		return err_set(err, EBADMSG,
			       "goodbye table says its directory begins %" PRIu64
			       " bytes back, not %" PRIu64,
			       tail.offset, distance);
	input_take(&d->meta, PXAR_GOODBYE_SLOT_SIZE);
	return 0;
}

/* The end of a directory; the header of its GOODBYE is taken. */
static int decode_goodbye(struct decoder *d, const struct item_header *header, struct err *err)
{
	uint64_t slot_count = header->body_size / PXAR_GOODBYE_SLOT_SIZE - 1;
	int rc;

	d->event = (struct decoder_event){ .kind = DECODER_DIR_END,
					   .depth = d->depth - 1,
					   .goodbye_offset = d->item_offset };
	if (slot_count > PXAR_MEMBER_COUNT_MAX)
		return err_set(err, E2BIG,
			       "goodbye table has %" PRIu64 " members, more than %" PRIu64,
			       slot_count, PXAR_MEMBER_COUNT_MAX);
	rc = d->tables ? check_table(d, slot_count, err) :
			 input_skip(&d->meta, slot_count * PXAR_GOODBYE_SLOT_SIZE, err);
	if (!rc)
		rc = check_tail(d, slot_count, err);
	if (rc < 0)
		return rc;
	/* The members stay in memory, if no longer in the list, until the next event. */
	d->member_count = d->dirs[--d->depth].members_begin;
	if (!d->depth)
		d->state = STATE_AT_END;
	return 0;
}

/* --- content --- */

/* Version 2: skip the padding in front of the payload and prove its header. */
static int open_content(struct decoder *d, struct err *err)
{
	struct item_payload_ref ref = { .offset = d->event.content_offset,
					.size = d->event.content_size };
	const uint8_t *bytes;
	int rc = input_skip(&d->payload, ref.offset - d->payload.offset, err);

	if (!rc)
		rc = input_peek(&d->payload, PXAR_HEADER_SIZE, &bytes, err);
	if (!rc)
		rc = item_payload_check(bytes, &ref, err);
	if (rc < 0)
		return rc;
	input_take(&d->payload, PXAR_HEADER_SIZE);
	d->content_open = true;
	return 0;
}

static struct input *content_input(struct decoder *d)
{
	return d->version == PXAR_VERSION_1 ? &d->meta : &d->payload;
}

static int skip_content(struct decoder *d, struct err *err)
{
	int rc = 0;

	if (!d->in_file)
		return 0;
	d->in_file = false;
	if (!content_input(d)->source.read)
		return 0;
	if (!d->content_open)
		rc = open_content(d, err);
	return rc < 0 ? rc : input_skip(content_input(d), d->content_left, err);
}

int decoder_read(struct decoder *d, void *buf, size_t size, size_t *got, struct err *err)
{
	int rc = 0;

	if (d->failed)
		return err_set(err, -d->failed, "the decoder failed before");
	if (!d->in_file)
		return err_set(err, EINVAL, "there is no file to read");
	if (!content_input(d)->source.read)
		return err_set(err, EINVAL, "the payload stream is missing");
	if (!d->content_open)
		rc = open_content(d, err);
	if (size > d->content_left)
		size = (size_t)d->content_left;
	if (!rc)
		rc = input_read(content_input(d), buf, size, err);
	if (rc < 0) {
		d->failed = rc;
		return rc;
	}
	d->content_left -= size;
	*got = size;
	return 0;
}

/* --- the whole --- */

/* Nothing may follow the root's table; the payload stream may still hold padding. */
static int decode_end(struct decoder *d, struct err *err)
{
	const uint8_t *bytes;
	int rc;

	d->item_offset = d->meta.offset;
	rc = input_at_end(&d->meta, err);
	if (rc < 0)
		return rc;
	if (!rc)
		return err_set(err, EBADMSG, "bytes after the end of the archive");
	if (d->payload.source.read) {
		rc = input_last(&d->payload, PXAR_HEADER_SIZE, &bytes, err);
		if (!rc)
			rc = item_marker_check(bytes, PXAR_PAYLOAD_TAIL_MARKER, err);
		if (rc < 0)
			return rc;
	}
	d->state = STATE_DONE;
	return 0;
}

static int decode_in_dir(struct decoder *d, struct err *err)
{
	struct item_header header;
	int rc = take_header(d, &header, err);

	if (rc < 0)
		return rc;
	if (header.type == PXAR_FILENAME)
		return decode_member(d, &header, err);
	if (header.type == PXAR_GOODBYE)
		return decode_goodbye(d, &header, err);
	return unexpected(&header, "in place of a member", err);
}

static int decode_next(struct decoder *d, struct err *err)
{
	int rc = skip_content(d, err);

	if (rc < 0)
		return rc;
	switch (d->state) {
	case STATE_START:
		return decode_root(d, err);
	case STATE_IN_DIR:
		return decode_in_dir(d, err);
	case STATE_AT_END:
		return decode_end(d, err);
	case STATE_DONE:
		break;
	}
	return 0;
}

int decoder_next(struct decoder *d, const struct decoder_event **event, struct err *err)
{
	int rc;

	if (d->failed)
		return err_set(err, -d->failed, "the decoder failed before");
	rc = decode_next(d, err);
	if (rc < 0) {
		d->failed = rc;
		return err_wrap(err, rc, "item at offset %" PRIu64, d->item_offset);
	}
	if (d->state == STATE_DONE)
		return 1;
	*event = &d->event;
	return 0;
}

int decoder_new(struct decoder **out, const struct decoder_params *params, struct err *err)
{
	AUTO(decoder) struct decoder *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(err, ENOMEM, "out of memory");
	metadata_init(&d->metadata);
	d->tables = params->tables;
	if (input_init(&d->meta, &params->meta, "metadata stream") < 0 ||
	    input_init(&d->payload, &params->payload, "payload stream") < 0)
		return err_set(err, ENOMEM, "out of memory");
	*out = steal(&d);
	return 0;
}

void decoder_free(struct decoder *d)
{
	if (!d)
		return;
	metadata_release(&d->metadata);
	wbuf_release(&d->prelude);
	input_release(&d->meta);
	input_release(&d->payload);
	free(d->dirs);
	free(d->members);
	free(d->slots);
	free(d);
}

unsigned decoder_version(const struct decoder *d)
{
	return d->version;
}

const uint8_t *decoder_prelude(const struct decoder *d, size_t *size)
{
	*size = d->prelude.size;
	return d->has_prelude ? d->prelude.data : NULL;
}
