/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decode an archive, whole and in pieces, with and without proving its tables: all ways must
 * agree.  What is accepted is encoded again: to the same bytes when its tables are right and it
 * takes no liberty that writers do not take, else to an archive that says the same and is
 * itself encoded to the same bytes.
 *
 * Input: the size of the metadata stream (u32), that stream, the payload stream.
 */
#include "archive/base/le.h"
#include "archive/item.h"
#include "tests/fuzz/must.h"
#include "tests/support/copy_archive.h"

#include <string.h>

enum { OUTPUT_SIZE_MAX = 64 << 20, TABLE_MAX = 64 };

struct bytes {
	const uint8_t *data;
	size_t size;
};

struct archive {
	struct bytes meta, payload; /* payload.data == NULL: none */
};

/* A stream in pieces of changing size. */
struct pieces {
	struct input_memory memory;
	uint32_t random; /* 0: as much as is asked for */
};

static int read_pieces(void *arg, void *buf, size_t size, size_t *got, struct err *err)
{
	struct pieces *p = arg;
	struct input_source whole = input_memory_source(&p->memory);

	if (p->random) {
		p->random = p->random * 1664525 + 1013904223;
		if (size > (p->random >> 24) % 32 + 1)
			size = (p->random >> 24) % 32 + 1;
	}
	return whole.read(whole.arg, buf, size, got, err);
}

static struct input_source open_pieces(struct pieces *p, const struct bytes *b, uint32_t random)
{
	*p = (struct pieces){ .memory = { .data = b->data, .size = b->size }, .random = random };
	return (struct input_source){ b->data ? read_pieces : NULL, p };
}

/* --- what an archive says, offsets aside --- */

static void mix(uint64_t *hash, const void *data, size_t size)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < size; i++)
		*hash = (*hash ^ p[i]) * 0x100000001b3;
	*hash = (*hash ^ size) * 0x100000001b3;
}

static int mix_content(uint64_t *hash, struct decoder *d, uint64_t size)
{
	uint8_t buf[100];
	size_t got;

	do {
		int rc = decoder_read(d, buf, sizeof(buf), &got, NULL);

		if (rc < 0)
			return rc;
		must(got <= size && (got == sizeof(buf) || got == size));
		mix(hash, buf, got);
		size -= got;
	} while (got);
	must(!size);
	return 0;
}

static int mix_event(uint64_t *hash, struct decoder *d, const struct decoder_event *ev,
		     bool content)
{
	mix(hash, &ev->kind, sizeof(ev->kind));
	mix(hash, &ev->depth, sizeof(ev->depth));
	if (ev->kind == DECODER_DIR_END)
		return 0;
	must(!ev->depth || !item_name_fault(ev->name, ev->name_size));
	must(strlen(ev->name) == ev->name_size);
	mix(hash, ev->name, ev->name_size);
	if (ev->target) {
		must(strlen(ev->target) == ev->target_size);
		mix(hash, ev->target, ev->target_size);
	}
	mix(hash, &ev->device_major, sizeof(ev->device_major));
	mix(hash, &ev->device_minor, sizeof(ev->device_minor));
	mix(hash, &ev->content_size, sizeof(ev->content_size));
	if (ev->meta) {
		AUTO(wbuf) struct wbuf b = WBUF_INIT(OUTPUT_SIZE_MAX);

		must(item_metadata_encode(&b, ev->meta) == 0);
		mix(hash, b.data, b.size);
	}
	if (content && ev->meta && (ev->meta->mode & PXAR_MODE_TYPE) == PXAR_MODE_REGULAR)
		return mix_content(hash, d, ev->content_size);
	return 0;
}

static int decode(const struct archive *a, bool tables, uint32_t random, uint64_t *hash)
{
	AUTO(decoder) struct decoder *d = NULL;
	struct pieces meta, payload;
	struct decoder_params params = { .meta = open_pieces(&meta, &a->meta, random),
					 .payload = open_pieces(&payload, &a->payload, random),
					 .tables = tables };
	const struct decoder_event *ev;
	int rc;

	*hash = 0xcbf29ce484222325;
	must(decoder_new(&d, &params, NULL) == 0);
	while ((rc = decoder_next(d, &ev, NULL)) == 0) {
		bool content = decoder_version(d) == PXAR_VERSION_1 || a->payload.data;

		rc = mix_event(hash, d, ev, content);
		if (rc < 0)
			return rc;
	}
	must(rc == 1 || rc == -EBADMSG || rc == -EOPNOTSUPP || rc == -E2BIG || rc == -EINVAL);
	return rc < 0 ? rc : 0;
}

/* --- the liberties that a reader allows and a writer does not take --- */

static bool table_is_canonical(const uint8_t *body, size_t size, uint64_t goodbye_offset,
			       bool root)
{
	size_t count = size / PXAR_GOODBYE_SLOT_SIZE - 1;
	const uint8_t *tail = body + count * PXAR_GOODBYE_SLOT_SIZE;

	if (count > TABLE_MAX || (root && le64_get(tail + 8) != goodbye_offset))
		return false;
	/* The order of equal hashes is free. */
	for (size_t i = 0; i < count; i++)
		for (size_t k = 0; k < i; k++)
			if (le64_get(body + 24 * i) == le64_get(body + 24 * k))
				return false;
	return true;
}

static int attribute_rank(uint64_t type)
{
	static const uint64_t order[] = { PXAR_ENTRY,	       PXAR_XATTR,
					  PXAR_ACL_USER,       PXAR_ACL_GROUP,
					  PXAR_ACL_GROUP_OBJ,  PXAR_ACL_DEFAULT,
					  PXAR_ACL_DEFAULT_USER, PXAR_ACL_DEFAULT_GROUP,
					  PXAR_FCAPS,	       PXAR_QUOTA_PROJID };

	for (int i = 0; i < (int)(sizeof(order) / sizeof(order[0])); i++)
		if (order[i] == type)
			return i;
	return 0;
}

static bool is_canonical(const struct bytes *meta)
{
	int rank = 0;

	for (size_t at = 0; at < meta->size;) {
		const uint8_t *body = meta->data + at + PXAR_HEADER_SIZE;
		struct item_header h;

		must(item_header_decode(meta->data + at, &h, NULL) == 0);
		must(h.body_size <= meta->size - at - PXAR_HEADER_SIZE);
		if (h.type == PXAR_ENTRY_V1 || (h.type == PXAR_ENTRY && le32_get(body + 36)) ||
		    (h.type == PXAR_FORMAT_VERSION && le64_get(body) != PXAR_VERSION_2))
			return false;
		if (h.type == PXAR_ENTRY)
			rank = 0;
		if (item_is_attribute(h.type) && attribute_rank(h.type) < rank)
			return false;
		rank = attribute_rank(h.type);
		if (h.type == PXAR_GOODBYE &&
		    !table_is_canonical(body, h.body_size, at,
					at + PXAR_HEADER_SIZE + h.body_size == meta->size))
			return false;
		at += PXAR_HEADER_SIZE + h.body_size;
	}
	return true;
}

/* --- encode again --- */

static int append(void *arg, const void *data, size_t size, struct err *err)
{
	(void)err;
	return wbuf_put(arg, data, size);
}

static int copy(const struct archive *a, bool tables, struct wbuf *meta, struct wbuf *payload)
{
	struct pieces in_meta, in_payload;
	struct copy c = { .meta = open_pieces(&in_meta, &a->meta, 0),
			  .payload = open_pieces(&in_payload, &a->payload, 0),
			  .payload_bytes = a->payload.data,
			  .payload_size = a->payload.size,
			  .tables = tables,
			  .out_meta = { append, meta },
			  .out_payload = { append, payload } };

	return copy_archive(&c, NULL);
}

static bool same(const struct wbuf *have, const struct bytes *want)
{
	return have->size == want->size &&
	       (!want->size || memcmp(have->data, want->data, want->size) == 0);
}

static void check_copy(const struct archive *a, bool tables, uint64_t hash)
{
	AUTO(wbuf) struct wbuf meta = WBUF_INIT(OUTPUT_SIZE_MAX);
	AUTO(wbuf) struct wbuf payload = WBUF_INIT(OUTPUT_SIZE_MAX);
	AUTO(wbuf) struct wbuf meta2 = WBUF_INIT(OUTPUT_SIZE_MAX);
	AUTO(wbuf) struct wbuf payload2 = WBUF_INIT(OUTPUT_SIZE_MAX);
	struct archive b = { { NULL, 0 }, { NULL, 0 } };
	uint64_t hash2;
	int rc = copy(a, tables, &meta, &payload);

	/* A hard link may lead nowhere, references may go back when nobody follows them. */
	must(rc == 0 || rc == -EINVAL);
	if (rc < 0)
		return;
	if (tables && is_canonical(&a->meta)) {
		must(same(&meta, &a->meta));
		must(!a->payload.data || same(&payload, &a->payload));
	}
	b.meta = (struct bytes){ meta.data, meta.size };
	if (a->payload.data)
		b.payload = (struct bytes){ payload.data, payload.size };
	must(decode(&b, true, 0, &hash2) == 0 && hash2 == hash);
	must(copy(&b, true, &meta2, &payload2) == 0);
	must(same(&meta2, &b.meta));
	must(!a->payload.data || same(&payload2, &b.payload));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct archive a = { { NULL, 0 }, { NULL, 0 } };
	uint64_t proved, loose, pieces;
	size_t meta_size;
	int rc, rc_loose;

	if (size < 5)
		return 0;
	meta_size = le32_get(data);
	if (meta_size > size - 4)
		meta_size = size - 4;
	a.meta = (struct bytes){ data + 4, meta_size };
	if (meta_size < size - 4)
		a.payload = (struct bytes){ data + 4 + meta_size, size - 4 - meta_size };

	rc = decode(&a, true, 0, &proved);
	rc_loose = decode(&a, false, 0, &loose);
	must(decode(&a, true, (uint32_t)size | 1, &pieces) == rc);
	must(pieces == proved);
	if (rc == 0)
		must(rc_loose == 0 && loose == proved);
	if (rc_loose == 0)
		check_copy(&a, rc == 0, loose);
	return 0;
}
