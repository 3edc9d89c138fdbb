/* SPDX-License-Identifier: Apache-2.0 */
/*
 * build_archive - archives built by hand for tests, right or wrong: every item can be given
 * raw, every slot changed before it is written.  Deliberately shares no code with the encoder
 * and the goodbye module.  Out of memory or over a bound is an assertion.
 */
#ifndef PXARFS_TESTS_BUILD_ARCHIVE_H
#define PXARFS_TESTS_BUILD_ARCHIVE_H

#include "archive/base/siphash.h"
#include "archive/base/wbuf.h"
#include "archive/pxar.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BUILD_MEMBERS_MAX = 4097, BUILD_DEPTH_MAX = 8 };

struct build_slot {
	uint64_t hash, filename_offset, size;
};

struct build_dir {
	struct build_slot slots[BUILD_MEMBERS_MAX];
	size_t count;
	uint64_t entry_offset;
	struct build_slot own; /* in its parent */
};

struct build {
	unsigned version;
	bool old_entries; /* write ENTRY_V1 */
	bool tail_at_entry; /* the root's tail points to its ENTRY, not to 0 */
	struct wbuf meta, payload;
	struct build_dir *dirs;
	size_t depth;
	uint64_t goodbye_offset; /* of the last GOODBYE written */
	struct {
		uint64_t flags;
		uint32_t uid, gid;
		int64_t mtime_sec;
		uint32_t mtime_nsec;
	} stat; /* of every entry that follows */
};

static inline struct build_dir *build_dir_of(struct build *b)
{
	return &b->dirs[b->depth - 1];
}

/* An item of any kind into either stream. */
static inline void build_item_to(struct wbuf *w, uint64_t type, const void *body, size_t size)
{
	wbuf_put_u64(w, type);
	wbuf_put_u64(w, PXAR_HEADER_SIZE + size);
	wbuf_put(w, body, size);
	assert(w->failed == 0);
}

static inline void build_item(struct build *b, uint64_t type, const void *body, size_t size)
{
	build_item_to(&b->meta, type, body, size);
}

/* Items whose body is a run of 64-bit integers. */
static inline void build_item_u64(struct build *b, uint64_t type, const uint64_t *v, size_t count)
{
	struct wbuf body = WBUF_INIT(4096);

	for (size_t i = 0; i < count; i++)
		wbuf_put_u64(&body, v[i]);
	build_item(b, type, body.data, body.size);
	wbuf_release(&body);
}

static inline void build_text(struct build *b, uint64_t type, const char *text)
{
	build_item(b, type, text, strlen(text) + 1);
}

static inline void build_entry(struct build *b, uint64_t mode)
{
	struct wbuf body = WBUF_INIT(64);

	wbuf_put_u64(&body, mode);
	wbuf_put_u64(&body, b->stat.flags);
	wbuf_put_u32(&body, b->stat.uid);
	wbuf_put_u32(&body, b->stat.gid);
	if (b->old_entries) {
		wbuf_put_u64(&body, (uint64_t)b->stat.mtime_sec * 1000000000 + b->stat.mtime_nsec);
	} else {
		wbuf_put_u64(&body, (uint64_t)b->stat.mtime_sec);
		wbuf_put_u32(&body, b->stat.mtime_nsec);
		wbuf_put_u32(&body, 0);
	}
	build_item(b, b->old_entries ? PXAR_ENTRY_V1 : PXAR_ENTRY, body.data, body.size);
	wbuf_release(&body);
}

/* Add a slot for the member whose FILENAME comes next. */
static inline struct build_slot *build_slot_begin(struct build *b, const char *name)
{
	struct build_dir *d = build_dir_of(b);

	assert(d->count < BUILD_MEMBERS_MAX);
	d->slots[d->count] = (struct build_slot){
		.hash = siphash_name(name, strlen(name)),
		.filename_offset = b->meta.size,
	};
	return &d->slots[d->count++];
}

/* FILENAME and ENTRY; what follows is the caller's until build_member_end(). */
static inline struct build_slot *build_member(struct build *b, const char *name, uint64_t mode)
{
	struct build_slot *slot = build_slot_begin(b, name);

	build_text(b, PXAR_FILENAME, name);
	build_entry(b, mode);
	return slot;
}

static inline void build_member_end(struct build *b, uint64_t extra)
{
	struct build_slot *slot = &build_dir_of(b)->slots[build_dir_of(b)->count - 1];

	slot->size = b->meta.size - slot->filename_offset + extra;
}

static inline void build_init(struct build *b, unsigned version, bool old_entries)
{
	*b = (struct build){ .version = version, .old_entries = old_entries };
	wbuf_init(&b->meta, 64 << 20);
	wbuf_init(&b->payload, 64 << 20);
	b->dirs = calloc(BUILD_DEPTH_MAX, sizeof(*b->dirs));
	assert(b->dirs);
	b->stat.uid = b->stat.gid = 1000;
	b->stat.mtime_sec = 1704164645;
	b->stat.mtime_nsec = 678901234;
	b->depth = 1;
}

static inline void build_release(struct build *b)
{
	wbuf_release(&b->meta);
	wbuf_release(&b->payload);
	free(b->dirs);
}
DEFINE_AUTO_STRUCT(build)

/* The stream's head and the root's ENTRY. */
static inline void build_root(struct build *b, const char *prelude)
{
	if (b->version == PXAR_VERSION_2) {
		uint64_t version = 2;

		build_item_u64(b, PXAR_FORMAT_VERSION, &version, 1);
		if (prelude)
			build_item(b, PXAR_PRELUDE, prelude, strlen(prelude));
		build_item_to(&b->payload, PXAR_PAYLOAD_START_MARKER, NULL, 0);
	}
	build_dir_of(b)->entry_offset = b->meta.size;
	build_entry(b, PXAR_MODE_DIRECTORY | 0755);
}

static inline void build_dir_begin(struct build *b, const char *name)
{
	struct build_slot own = *build_member(b, name, PXAR_MODE_DIRECTORY | 0755);

	assert(b->depth < BUILD_DEPTH_MAX);
	b->depth++;
	build_dir_of(b)->count = 0;
	build_dir_of(b)->own = own;
	build_dir_of(b)->entry_offset = own.filename_offset + PXAR_HEADER_SIZE + strlen(name) + 1;
}

static inline int build_compare(const void *pa, const void *pb)
{
	const struct build_slot *a = pa, *b = pb;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return a->filename_offset < b->filename_offset ? -1 : 1;
}

static inline void build_fill(const struct build_slot *sorted, size_t count, size_t *next,
			      struct build_slot *out, size_t i)
{
	if (i >= count)
		return;
	build_fill(sorted, count, next, out, 2 * i + 1);
	out[i] = sorted[(*next)++];
	build_fill(sorted, count, next, out, 2 * i + 2);
}

/* GOODBYE of the innermost directory. */
static inline void build_goodbye(struct build *b)
{
	struct build_dir *d = build_dir_of(b);
	struct build_slot *out = calloc(d->count + 1, sizeof(*out));
	struct wbuf body = WBUF_INIT(64 << 20);
	uint64_t goodbye = b->meta.size;
	uint64_t start = b->depth == 1 && !b->tail_at_entry ? 0 : d->entry_offset;
	size_t next = 0;

	assert(out);
	qsort(d->slots, d->count, sizeof(d->slots[0]), build_compare);
	build_fill(d->slots, d->count, &next, out, 0);
	out[d->count] = (struct build_slot){
		.hash = PXAR_GOODBYE_TAIL,
		.filename_offset = start,
		.size = PXAR_HEADER_SIZE + PXAR_GOODBYE_SLOT_SIZE * (d->count + 1),
	};
	for (size_t i = 0; i <= d->count; i++) {
		wbuf_put_u64(&body, out[i].hash);
		wbuf_put_u64(&body, goodbye - out[i].filename_offset);
		wbuf_put_u64(&body, out[i].size);
	}
	build_item(b, PXAR_GOODBYE, body.data, body.size);
	b->goodbye_offset = goodbye;
	wbuf_release(&body);
	free(out);
}

static inline void build_dir_end(struct build *b)
{
	build_goodbye(b);
	if (b->depth == 1) {
		if (b->version == PXAR_VERSION_2)
			build_item_to(&b->payload, PXAR_PAYLOAD_TAIL_MARKER, NULL, 0);
		return;
	}
	b->depth--;
	build_member_end(b, 0);
}

/* The closing item of a regular file, and its content where it belongs. */
static inline void build_content(struct build *b, const void *data, size_t size)
{
	if (b->version == PXAR_VERSION_1) {
		build_item(b, PXAR_PAYLOAD, data, size);
	} else {
		build_item_u64(b, PXAR_PAYLOAD_REF, (uint64_t[]){ b->payload.size, size }, 2);
		build_item_to(&b->payload, PXAR_PAYLOAD, data, size);
	}
}

/* -> offset of its FILENAME. */
static inline uint64_t build_file(struct build *b, const char *name, const char *content)
{
	uint64_t offset = build_member(b, name, PXAR_MODE_REGULAR | 0644)->filename_offset;

	build_content(b, content, strlen(content));
	build_member_end(b, b->version == PXAR_VERSION_2 ? strlen(content) : 0);
	return offset;
}

static inline void build_symlink(struct build *b, const char *name, const char *target)
{
	build_member(b, name, PXAR_MODE_SYMLINK | 0777);
	build_text(b, PXAR_SYMLINK, target);
	build_member_end(b, 0);
}

static inline void build_special(struct build *b, const char *name, uint64_t type)
{
	build_member(b, name, type | 0600);
	build_member_end(b, 0);
}

static inline void build_device(struct build *b, const char *name, uint64_t type, uint64_t major,
				uint64_t minor)
{
	build_member(b, name, type | 0660);
	build_item_u64(b, PXAR_DEVICE, (uint64_t[]){ major, minor }, 2);
	build_member_end(b, 0);
}

/* `distance` as it will be stored. */
static inline void build_hardlink_raw(struct build *b, const char *name, uint64_t distance,
				      const char *path)
{
	struct wbuf body = WBUF_INIT(8192);

	build_slot_begin(b, name);
	build_text(b, PXAR_FILENAME, name);
	wbuf_put_u64(&body, distance);
	wbuf_put(&body, path, strlen(path) + 1);
	build_item(b, PXAR_HARDLINK, body.data, body.size);
	build_member_end(b, 0);
	wbuf_release(&body);
}

static inline void build_hardlink(struct build *b, const char *name, uint64_t target,
				  const char *path)
{
	build_hardlink_raw(b, name, b->meta.size - target, path);
}

/* Overwrite eight bytes of the metadata stream. */
static inline void build_patch(struct build *b, uint64_t offset, uint64_t value)
{
	assert(offset <= b->meta.size && b->meta.size - offset >= 8);
	for (size_t i = 0; i < 8; i++)
		b->meta.data[offset + i] = (uint8_t)(value >> 8 * i);
}

#endif
