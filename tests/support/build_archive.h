/* SPDX-License-Identifier: Apache-2.0 */
/*
 * build_archive - archives put together item by item, well-formed or not.
 *
 * Unlike the encoder it writes whatever it is told; only goodbye tables come out right by
 * themselves.  Header only, as the tests of archive/ link the library under test alone.
 */
#ifndef PXARFS_TESTS_BUILD_ARCHIVE_H
#define PXARFS_TESTS_BUILD_ARCHIVE_H

#include "archive/base/siphash.h"
#include "archive/goodbye.h"
#include "archive/item.h"

#include <stdlib.h>
#include <string.h>

#define BUILD_FUNC static inline __attribute__((unused)) void

enum { BUILD_DEPTH_MAX = 8, BUILD_MEMBERS_MAX = 32 };

struct build_dir {
	uint64_t entry_offset, filename_offset;
	size_t count;
	struct goodbye_slot members[BUILD_MEMBERS_MAX]; /* .offset is absolute, .size unset */
	bool is_directory[BUILD_MEMBERS_MAX];
};

struct build {
	struct wbuf b;
	struct build_dir dirs[BUILD_DEPTH_MAX];
	size_t depth;
};

#define BUILD_INIT { .b = WBUF_INIT(1 << 24) }

BUILD_FUNC build_release(struct build *a)
{
	wbuf_release(&a->b);
}
DEFINE_AUTO_STRUCT(build)

BUILD_FUNC build_item(struct build *a, uint64_t type, const void *body, size_t size)
{
	if (item_header_encode(&a->b, type, size) < 0 || wbuf_put(&a->b, body, size) < 0)
		abort();
}

/* `size` is that of the whole item and may be a lie. */
BUILD_FUNC build_header(struct build *a, uint64_t type, uint64_t size)
{
	wbuf_put_u64(&a->b, type);
	wbuf_put_u64(&a->b, size);
}

BUILD_FUNC build_version(struct build *a, uint64_t version)
{
	build_header(a, PXAR_FORMAT_VERSION, 24);
	wbuf_put_u64(&a->b, version);
}

BUILD_FUNC build_filename(struct build *a, const char *name)
{
	struct build_dir *dir = &a->dirs[a->depth - 1];

	if (!a->depth || dir->count == BUILD_MEMBERS_MAX)
		abort();
	dir->is_directory[dir->count] = false;
	dir->members[dir->count++] = (struct goodbye_slot){
		.hash = siphash_name(name, strlen(name)),
		.offset = a->b.size,
	};
	build_item(a, PXAR_FILENAME, name, strlen(name) + 1);
}

BUILD_FUNC build_entry(struct build *a, uint64_t mode)
{
	uint8_t body[PXAR_ENTRY_BODY_SIZE] = { 0 };
	uint64_t offset = a->b.size;

	for (int i = 0; i < 8; i++)
		body[i] = (uint8_t)(mode >> (8 * i));
	build_item(a, PXAR_ENTRY, body, sizeof(body));
	if ((mode & PXAR_MODE_TYPE) != PXAR_MODE_DIRECTORY)
		return;
	if (a->depth == BUILD_DEPTH_MAX)
		abort();
	if (a->depth) {
		struct build_dir *parent = &a->dirs[a->depth - 1];

		parent->is_directory[parent->count - 1] = true;
	}
	a->dirs[a->depth++] = (struct build_dir){ .entry_offset = offset };
}

BUILD_FUNC build_payload(struct build *a, const char *content)
{
	build_item(a, PXAR_PAYLOAD, content, strlen(content));
}

BUILD_FUNC build_payload_ref(struct build *a, uint64_t offset, uint64_t size)
{
	if (item_payload_ref_encode(&a->b, offset, size) < 0)
		abort();
}

BUILD_FUNC build_hardlink(struct build *a, uint64_t distance, const char *path)
{
	build_header(a, PXAR_HARDLINK, 16 + 8 + strlen(path) + 1);
	wbuf_put_u64(&a->b, distance);
	wbuf_put(&a->b, path, strlen(path) + 1);
}

/* The table of the innermost directory, which it closes. */
BUILD_FUNC build_goodbye(struct build *a)
{
	struct build_dir *dir = &a->dirs[--a->depth];
	uint64_t goodbye = a->b.size, end = goodbye;
	struct goodbye_slot tail = { PXAR_GOODBYE_TAIL,
				     a->depth ? goodbye - dir->entry_offset : goodbye,
				     goodbye_item_size(dir->count) };

	for (size_t i = dir->count; i-- > 0;) {
		dir->members[i].size = end - dir->members[i].offset;
		end = dir->members[i].offset;
	}
	goodbye_sort(dir->members, dir->count);
	build_header(a, PXAR_GOODBYE, tail.size);
	for (size_t i = 0; i < dir->count; i++) {
		struct goodbye_slot slot = dir->members[goodbye_rank(i, dir->count)];

		slot.offset = goodbye - slot.offset;
		goodbye_slot_encode(&a->b, &slot);
	}
	goodbye_slot_encode(&a->b, &tail);
}

#endif
