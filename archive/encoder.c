/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/encoder.h"

#include "archive/base/ckd.h"
#include "archive/base/grow.h"
#include "archive/base/le.h"
#include "archive/base/siphash.h"
#include "archive/goodbye.h"
#include "archive/item.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	HEAD_SIZE_MAX = 128 << 20, /* a name, and attributes up to their own bounds */
	GOODBYE_PIECE_SIZE = 64 << 10, /* a table is handed on in pieces of about this size */
};

/* A directory that is open.  Its own slot, in the list of its parent, is the one before
 * `slots_begin`; its size is filled in at the end. */
struct open_dir {
	uint64_t entry_offset; /* of its ENTRY; the root: 0 */
	size_t slots_begin; /* of its members, up to where a nested directory's begin */
};

struct encoder {
	struct encoder_sink meta, payload;
	void (*suggest_cut)(void *arg, uint64_t payload_offset);
	void *suggest_arg;
	bool split, reuse_counts_content;

	uint64_t meta_offset, payload_offset;
	uint64_t reference_end; /* of the last payload referred to */

	struct open_dir *dirs;
	size_t depth, dir_capacity;
	struct goodbye_slot *slots; /* .offset is that of the FILENAME in the stream */
	size_t slot_count, slot_capacity;

	struct wbuf head; /* of the entry at hand; reused */
	bool in_file, finished;
	uint64_t content_left;
	int failed; /* what a sink returned */
};

static int sink_write(struct encoder *e, const struct encoder_sink *sink, uint64_t *offset,
		      const void *data, size_t size, struct err *err)
{
	int rc;

	if (!size)
		return 0;
	rc = sink->write(sink->arg, data, size, err);
	if (rc < 0) {
		e->failed = rc;
		return rc;
	}
	*offset += size;
	return 0;
}

static int write_meta(struct encoder *e, const void *data, size_t size, struct err *err)
{
	return sink_write(e, &e->meta, &e->meta_offset, data, size, err);
}

static int write_payload(struct encoder *e, const void *data, size_t size, struct err *err)
{
	return sink_write(e, &e->payload, &e->payload_offset, data, size, err);
}

static int write_payload_header(struct encoder *e, uint64_t type, uint64_t body_size,
				struct err *err)
{
	uint8_t bytes[PXAR_HEADER_SIZE];

	le64_put(bytes, type);
	le64_put(bytes + 8, PXAR_HEADER_SIZE + body_size);
	return write_payload(e, bytes, sizeof(bytes), err);
}

/* --- what is open --- */

static int reserve_slot(struct encoder *e, struct err *err)
{
	int rc = grow(&e->slots, &e->slot_capacity, e->slot_count + 1, PXAR_MEMBER_COUNT_MAX,
		      sizeof(*e->slots));

	return rc < 0 ? err_set(err, -rc, "too many members in open directories") : 0;
}

static int reserve_dir(struct encoder *e, struct err *err)
{
	int rc = grow(&e->dirs, &e->dir_capacity, e->depth + 1, PXAR_DEPTH_MAX, sizeof(*e->dirs));

	return rc < 0 ? err_set(err, -rc, "directories nested too deep") : 0;
}

static void push_slot(struct encoder *e, const char *name, uint64_t size)
{
	e->slots[e->slot_count++] = (struct goodbye_slot){
		.hash = siphash_name(name, strlen(name)),
		.offset = e->meta_offset,
		.size = size,
	};
}

static int check_usable(const struct encoder *e, bool in_file, struct err *err)
{
	if (e->failed)
		return err_set(err, -e->failed, "the encoder failed before");
	if (e->finished)
		return err_set(err, EINVAL, "the archive is finished");
	if (e->in_file != in_file)
		return err_set(err, EINVAL, in_file ? "no file is open" : "a file is still open");
	return 0;
}

static int head_error(int rc, struct err *err)
{
	switch (rc) {
	case -E2BIG:
		return err_set(err, E2BIG,
			       "name, target or attributes are too long for an archive");
	case -ENOMEM:
		return err_set(err, ENOMEM, "out of memory");
	}
	return err_set(err, -rc, "name, target or metadata are not what an archive can hold");
}

/* Start the head of a member with its name, and make sure that its slot can be kept. */
static int begin_member(struct encoder *e, const char *name, struct err *err)
{
	int rc = check_usable(e, false, err);

	if (!rc)
		rc = reserve_slot(e, err);
	if (rc < 0)
		return rc;
	wbuf_clear(&e->head);
	rc = item_filename_encode(&e->head, name);
	return rc < 0 ? head_error(rc, err) : 0;
}

/* The same for one that has an ENTRY of type `type` or `other_type`. */
static int begin_entry(struct encoder *e, const char *name, const struct metadata *meta,
		       uint64_t type, uint64_t other_type, struct err *err)
{
	uint64_t have = meta->mode & PXAR_MODE_TYPE;
	int rc = begin_member(e, name, err);

	if (rc < 0)
		return rc;
	if (have != type && have != other_type)
		return err_set(err, EINVAL,
			       "an entry of mode %" PRIo64 " was given as another type",
			       meta->mode);
	rc = item_metadata_encode(&e->head, meta);
	return rc < 0 ? head_error(rc, err) : 0;
}

/* The head is complete: give it a slot and write it. */
static int end_head(struct encoder *e, const char *name, uint64_t content_size, struct err *err)
{
	push_slot(e, name, e->head.size + content_size);
	return write_meta(e, e->head.data, e->head.size, err);
}

/* --- whole archive --- */

static int encode_start(struct encoder *e, const struct encoder_params *params,
			const struct metadata *root, struct err *err)
{
	int rc = 0;

	if (e->split) {
		rc = write_payload_header(e, PXAR_PAYLOAD_START_MARKER, 0, err);
		if (rc < 0)
			return rc;
		rc = item_version_encode(&e->head, PXAR_VERSION_2);
	}
	if (!rc && params->prelude) {
		item_header_encode(&e->head, PXAR_PRELUDE, params->prelude_size);
		rc = wbuf_put(&e->head, params->prelude, params->prelude_size);
	}
	if (!rc)
		rc = item_metadata_encode(&e->head, root);
	if (rc < 0)
		return head_error(rc, err);
	return write_meta(e, e->head.data, e->head.size, err);
}

int encoder_new(struct encoder **out, const struct encoder_params *params,
		const struct metadata *root, struct err *err)
{
	AUTO(encoder) struct encoder *e = calloc(1, sizeof(*e));
	int rc;

	if (!e)
		return err_set(err, ENOMEM, "out of memory");
	e->meta = params->meta;
	e->payload = params->payload;
	e->split = params->payload.write != NULL;
	e->reuse_counts_content = params->reuse_counts_content;
	e->suggest_cut = params->suggest_cut;
	e->suggest_arg = params->suggest_arg;
	wbuf_init(&e->head, HEAD_SIZE_MAX);

	if (!metadata_is_directory(root))
		return err_set(err, EINVAL, "the root of an archive must be a directory");
	if (params->prelude && (!e->split || params->prelude_size > PXAR_PRELUDE_SIZE_MAX))
		return err_set(err, EINVAL, "this archive cannot hold that prelude");
	rc = reserve_dir(e, err);
	if (!rc)
		rc = encode_start(e, params, root, err);
	if (rc < 0)
		return rc;
	e->dirs[e->depth++] = (struct open_dir){ 0 };
	*out = steal(&e);
	return 0;
}

void encoder_free(struct encoder *e)
{
	if (!e)
		return;
	wbuf_release(&e->head);
	free(e->dirs);
	free(e->slots);
	free(e);
}

/* Turn the slots of the innermost directory into its table and forget them. */
static int close_dir(struct encoder *e, struct err *err)
{
	const struct open_dir *dir = &e->dirs[e->depth - 1];
	size_t count = e->slot_count - dir->slots_begin;
	struct goodbye_slot *slots = count ? e->slots + dir->slots_begin : NULL;
	uint64_t goodbye_offset = e->meta_offset;
	uint64_t item_size = goodbye_item_size(count);
	struct goodbye_slot tail = { .hash = PXAR_GOODBYE_TAIL,
				     .offset = goodbye_offset - dir->entry_offset,
				     .size = item_size };
	int rc = 0;

	goodbye_sort(slots, count);
	wbuf_clear(&e->head);
	item_header_encode(&e->head, PXAR_GOODBYE, item_size - PXAR_HEADER_SIZE);
	for (size_t i = 0; i < count && !rc; i++) {
		struct goodbye_slot slot = slots[goodbye_rank(i, count)];

		slot.offset = goodbye_offset - slot.offset;
		goodbye_slot_encode(&e->head, &slot);
		if (e->head.size >= GOODBYE_PIECE_SIZE) {
			rc = write_meta(e, e->head.data, e->head.size, err);
			wbuf_clear(&e->head);
		}
	}
	if (rc < 0)
		return rc;
	if (goodbye_slot_encode(&e->head, &tail) < 0) {
		e->failed = -ENOMEM;
		return err_set(err, ENOMEM, "out of memory");
	}
	rc = write_meta(e, e->head.data, e->head.size, err);
	if (rc < 0)
		return rc;
	e->slot_count = dir->slots_begin;
	e->depth--;
	return 0;
}

int encoder_finish(struct encoder *e, struct err *err)
{
	int rc = check_usable(e, false, err);

	if (rc < 0)
		return rc;
	if (e->depth != 1)
		return err_set(err, EINVAL, "a directory is still open");
	rc = close_dir(e, err);
	if (!rc && e->split)
		rc = write_payload_header(e, PXAR_PAYLOAD_TAIL_MARKER, 0, err);
	if (!rc)
		e->finished = true;
	return rc;
}

/* --- members --- */

int encoder_dir_begin(struct encoder *e, const char *name, const struct metadata *meta,
		      struct err *err)
{
	uint64_t entry_offset;
	int rc = begin_entry(e, name, meta, PXAR_MODE_DIRECTORY, PXAR_MODE_DIRECTORY, err);

	if (!rc)
		rc = reserve_dir(e, err);
	if (rc < 0)
		return rc;
	entry_offset = e->meta_offset + PXAR_HEADER_SIZE + strlen(name) + 1;
	rc = end_head(e, name, 0, err);
	if (rc < 0)
		return rc;
	e->dirs[e->depth++] = (struct open_dir){ .entry_offset = entry_offset,
						 .slots_begin = e->slot_count };
	return 0;
}

int encoder_dir_end(struct encoder *e, struct err *err)
{
	struct goodbye_slot *own;
	int rc = check_usable(e, false, err);

	if (rc < 0)
		return rc;
	if (e->depth < 2)
		return err_set(err, EINVAL, "no directory is open but the root");
	rc = close_dir(e, err);
	if (rc < 0)
		return rc;
	own = &e->slots[e->slot_count - 1];
	own->size = e->meta_offset - own->offset;
	return 0;
}

/* The range of the file's payload: the header at `offset` and its content. */
static int check_payload_range(uint64_t offset, uint64_t size, uint64_t *end, struct err *err)
{
	if (ckd_add(end, offset, PXAR_HEADER_SIZE) || ckd_add(end, *end, size))
		return err_set(err, E2BIG, "a file of %" PRIu64 " bytes is too large", size);
	return 0;
}

static void suggest(const struct encoder *e)
{
	if (e->split && e->suggest_cut)
		e->suggest_cut(e->suggest_arg, e->payload_offset);
}

int encoder_file_begin(struct encoder *e, const char *name, const struct metadata *meta,
		       uint64_t size, uint64_t *filename_offset, struct err *err)
{
	uint64_t begin = e->meta_offset, end;
	int rc = begin_entry(e, name, meta, PXAR_MODE_REGULAR, PXAR_MODE_REGULAR, err);

	if (rc < 0)
		return rc;
	rc = check_payload_range(e->split ? e->payload_offset : e->meta_offset + e->head.size,
				 size, &end, err);
	if (rc < 0)
		return rc;
	rc = e->split ? item_payload_ref_encode(&e->head, e->payload_offset, size) :
			item_header_encode(&e->head, PXAR_PAYLOAD, size);
	if (rc < 0)
		return head_error(rc, err);

	suggest(e);
	rc = e->split ? write_payload_header(e, PXAR_PAYLOAD, size, err) : 0;
	if (!rc)
		rc = end_head(e, name, size, err);
	if (rc < 0)
		return rc;
	if (e->split)
		e->reference_end = end;
	e->in_file = true;
	e->content_left = size;
	if (filename_offset)
		*filename_offset = begin;
	return 0;
}

int encoder_file_write(struct encoder *e, const void *data, size_t size, struct err *err)
{
	int rc = check_usable(e, true, err);

	if (rc < 0)
		return rc;
	if (size > e->content_left)
		return err_set(err, EINVAL, "more content than was announced");
	rc = e->split ? write_payload(e, data, size, err) : write_meta(e, data, size, err);
	if (!rc)
		e->content_left -= size;
	return rc;
}

int encoder_file_end(struct encoder *e, struct err *err)
{
	int rc = check_usable(e, true, err);

	if (rc < 0)
		return rc;
	if (e->content_left)
		return err_set(err, EINVAL, "%" PRIu64 " bytes less content than was announced",
			       e->content_left);
	e->in_file = false;
	return 0;
}

int encoder_file_reuse(struct encoder *e, const char *name, const struct metadata *meta,
		       uint64_t payload_offset, uint64_t size, uint64_t *filename_offset,
		       struct err *err)
{
	uint64_t begin = e->meta_offset, end;
	int rc = begin_entry(e, name, meta, PXAR_MODE_REGULAR, PXAR_MODE_REGULAR, err);

	if (rc < 0)
		return rc;
	if (!e->split)
		return err_set(err, EINVAL, "version 1 archives hold no references");
	if (payload_offset < e->payload_offset || payload_offset < e->reference_end)
		return err_set(err, EINVAL, "reference to payload offset %" PRIu64 " goes back",
			       payload_offset);
	rc = check_payload_range(payload_offset, size, &end, err);
	if (rc < 0)
		return rc;
	rc = item_payload_ref_encode(&e->head, payload_offset, size);
	if (rc < 0)
		return head_error(rc, err);

	suggest(e);
	rc = end_head(e, name, e->reuse_counts_content ? size : 0, err);
	if (rc < 0)
		return rc;
	e->reference_end = end;
	if (filename_offset)
		*filename_offset = begin;
	return 0;
}

int encoder_payload_advance(struct encoder *e, uint64_t size, struct err *err)
{
	int rc = check_usable(e, false, err);

	if (rc < 0)
		return rc;
	if (!e->split || ckd_add(&e->payload_offset, e->payload_offset, size)) {
		e->failed = -EINVAL;
		return err_set(err, EINVAL, "no payload stream can advance by %" PRIu64 " bytes",
			       size);
	}
	return 0;
}

int encoder_member_size(struct encoder *e, size_t member, uint64_t size, struct err *err)
{
	int rc = check_usable(e, false, err);
	uint64_t end;
	size_t i;

	if (rc < 0)
		return rc;
	i = e->dirs[e->depth - 1].slots_begin;
	if (member >= e->slot_count - i)
		return err_set(err, EINVAL, "there is no member %zu yet", member);
	i += member;
	end = i + 1 < e->slot_count ? e->slots[i + 1].offset : e->meta_offset;
	if (size < end - e->slots[i].offset)
		return err_set(err, EINVAL, "member %zu is larger than %" PRIu64 " bytes", member,
			       size);
	e->slots[i].size = size;
	return 0;
}

int encoder_symlink(struct encoder *e, const char *name, const struct metadata *meta,
		    const char *target, struct err *err)
{
	int rc = begin_entry(e, name, meta, PXAR_MODE_SYMLINK, PXAR_MODE_SYMLINK, err);

	if (rc < 0)
		return rc;
	rc = item_symlink_encode(&e->head, target);
	return rc < 0 ? head_error(rc, err) : end_head(e, name, 0, err);
}

int encoder_device(struct encoder *e, const char *name, const struct metadata *meta,
		   uint64_t major, uint64_t minor, struct err *err)
{
	int rc = begin_entry(e, name, meta, PXAR_MODE_CHAR, PXAR_MODE_BLOCK, err);

	if (rc < 0)
		return rc;
	rc = item_device_encode(&e->head, major, minor);
	return rc < 0 ? head_error(rc, err) : end_head(e, name, 0, err);
}

int encoder_special(struct encoder *e, const char *name, const struct metadata *meta,
		    struct err *err)
{
	int rc = begin_entry(e, name, meta, PXAR_MODE_FIFO, PXAR_MODE_SOCKET, err);

	return rc < 0 ? rc : end_head(e, name, 0, err);
}

int encoder_hardlink(struct encoder *e, const char *name, const char *path,
		     uint64_t filename_offset, struct err *err)
{
	int rc = begin_member(e, name, err);

	if (rc < 0)
		return rc;
	if (filename_offset >= e->meta_offset)
		return err_set(err, EINVAL, "a hard link must follow its target");
	rc = item_hardlink_encode(&e->head, e->meta_offset - filename_offset, path);
	return rc < 0 ? head_error(rc, err) : end_head(e, name, 0, err);
}

uint64_t encoder_meta_offset(const struct encoder *e)
{
	return e->meta_offset;
}

uint64_t encoder_payload_offset(const struct encoder *e)
{
	return e->payload_offset;
}
