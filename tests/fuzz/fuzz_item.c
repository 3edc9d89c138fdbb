/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One item at a time: the header, then its body by the decoder of its type.  What was
 * accepted and can be encoded comes out as it went in.
 *
 * Input: items behind each other; the last one may be cut short.
 */
#include "archive/base/le.h"
#include "archive/goodbye.h"
#include "archive/item.h"
#include "tests/fuzz/must.h"

#include <errno.h>
#include <string.h>

static void must_equal(const struct wbuf *b, const uint8_t *item, size_t size)
{
	must(!b->failed && b->size == size && memcmp(b->data, item, size) == 0);
}

/* Alone in a metadata, an attribute is encoded behind the ENTRY. */
static void try_metadata(const struct item_header *h, const uint8_t *item, size_t size)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(1 << 20);
	AUTO(metadata) struct metadata m;
	const uint8_t *body = item + PXAR_HEADER_SIZE;
	int rc;

	metadata_init(&m);
	m.mode = PXAR_MODE_DIRECTORY;
	rc = item_is_attribute(h->type) ?
		     item_attribute_decode(h->type, body, h->body_size, &m, NULL) :
		     item_stat_decode(h->type, body, h->body_size, &m, NULL);
	must(rc == 0 || rc == -EBADMSG);
	if (rc < 0)
		return;
	must(item_metadata_encode(&b, &m) == 0);
	if (item_is_attribute(h->type)) {
		must(b.size == 56 + size && memcmp(b.data + 56, item, size) == 0);
	} else if (h->type == PXAR_ENTRY) {
		must(b.size == size && memcmp(b.data, item, size - 4) == 0);
	}
	wbuf_clear(&b);
	if (metadata_has_access_acl(&m)) {
		rc = metadata_access_acl_xattr(&m, &b);
		must(rc == 0 || rc == -EBADMSG);
	}
	if (metadata_has_default_acl(&m)) {
		rc = metadata_default_acl_xattr(&m, &b);
		must(rc == 0 || rc == -EBADMSG);
	}
}

static void try_links(const struct item_header *h, const uint8_t *item, size_t size)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(1 << 20);
	const uint8_t *body = item + PXAR_HEADER_SIZE;
	struct item_hardlink link;
	struct item_payload_ref ref;
	uint64_t major, minor;

	switch (h->type) {
	case PXAR_FILENAME:
		if (item_filename_check(body, h->body_size, NULL) < 0)
			return;
		must(item_filename_encode(&b, (const char *)body) == 0);
		break;
	case PXAR_SYMLINK:
		if (item_symlink_check(body, h->body_size, NULL) < 0)
			return;
		must(item_symlink_encode(&b, (const char *)body) == 0);
		break;
	case PXAR_DEVICE:
		must(item_device_decode(body, h->body_size, &major, &minor, NULL) == 0);
		must(item_device_encode(&b, major, minor) == 0);
		break;
	case PXAR_HARDLINK:
		if (item_hardlink_decode(body, h->body_size, 1 << 20, &link, NULL) < 0)
			return;
		must(link.target_offset < 1 << 20 && strlen(link.path) == link.path_size);
		must(item_hardlink_encode(&b, (1 << 20) - link.target_offset, link.path) == 0);
		break;
	case PXAR_PAYLOAD_REF:
		if (item_payload_ref_decode(body, h->body_size, &ref, NULL) < 0)
			return;
		must(item_payload_ref_encode(&b, ref.offset, ref.size) == 0);
		break;
	default:
		return;
	}
	must_equal(&b, item, size);
}

static void try_goodbye(const uint8_t *body, size_t size)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(1 << 20);
	size_t count = size / PXAR_GOODBYE_SLOT_SIZE - 1;
	AUTO(free) struct goodbye_slot *slots = calloc(count + 1, sizeof(*slots));
	struct goodbye_slot tail;
	struct goodbye_search search;
	uint64_t tail_count, i, steps = 0;

	must(slots);
	for (size_t k = 0; k <= count; k++) {
		goodbye_slot_decode(body + PXAR_GOODBYE_SLOT_SIZE * k, &slots[k]);
		goodbye_slot_encode(&b, &slots[k]);
	}
	must_equal(&b, body, size);
	goodbye_tail_decode(body + PXAR_GOODBYE_SLOT_SIZE * count, &tail, &tail_count, NULL);

	goodbye_search_init(&search, slots[0].hash, count);
	while (goodbye_search_next(&search, &i)) {
		must(i < count && ++steps <= count);
		goodbye_search_seen(&search, i, slots[i].hash);
	}
	goodbye_sort(slots, count);
	for (size_t k = 1; k < count; k++)
		must(slots[k - 1].hash <= slots[k].hash);
}

static void try_item(const struct item_header *h, const uint8_t *item, size_t size)
{
	const uint8_t *body = item + PXAR_HEADER_SIZE;
	unsigned version;

	if (item_is_attribute(h->type) || h->type == PXAR_ENTRY || h->type == PXAR_ENTRY_V1)
		try_metadata(h, item, size);
	else if (h->type == PXAR_GOODBYE)
		try_goodbye(body, h->body_size);
	else if (h->type == PXAR_FORMAT_VERSION)
		item_version_decode(body, h->body_size, &version, NULL);
	else
		try_links(h, item, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	while (size >= PXAR_HEADER_SIZE) {
		AUTO(free) uint8_t *item = NULL;
		struct item_header h;
		size_t item_size;

		if (item_header_decode(data, &h, NULL) < 0 ||
		    h.body_size > size - PXAR_HEADER_SIZE)
			return 0;
		item_size = PXAR_HEADER_SIZE + (size_t)h.body_size;
		item = malloc(item_size); /* of its size, so that a byte too far is noticed */
		must(item);
		memcpy(item, data, item_size);
		try_item(&h, item, item_size);
		data += item_size;
		size -= item_size;
	}
	return 0;
}
