/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open an archive, list everything, look every name up, resolve every payload; each request
 * once more over a source that is not always ready, which must give the same.
 *
 * Input: the size of the metadata stream (u32), that stream, the payload stream.
 */
#include "archive/base/le.h"
#include "archive/tree.h"

#include <errno.h>

enum { MEMBERS_MAX = 1024, LOOKUPS_MAX = 256, PEEK_MAX = 64 };

/* Stops with a trap that libFuzzer and the shell both notice. */
#define CHECK(condition)                  \
	do {                              \
		if (!(condition))         \
			__builtin_trap(); \
	} while (0)

/* A source that answers -EAGAIN now and then. */
struct moody {
	struct read_at base;
	struct read_at *below;
	uint32_t random;
};

static int moody_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
		      struct err *err)
{
	struct moody *m = (struct moody *)self;

	m->random = m->random * 1664525 + 1013904223;
	if (m->random >> 28 == 0) {
		memset(buf, 0xee, size);
		return -EAGAIN;
	}
	return read_at_exact(m->below, buf, size, offset, err);
}

static const struct read_at_ops moody_ops = { .read = moody_read };

#define RETRY(call)                          \
	({                                   \
		int retry_rc;                \
		do                           \
			retry_rc = (call);   \
		while (retry_rc == -EAGAIN); \
		retry_rc;                    \
	})

struct walk {
	struct tree tree;
	struct read_at *meta, *payload;
	struct moody moody;
	struct tree_window window;
	struct tree_entry entry, again;
	unsigned members, lookups;
};

static void check_equal(const struct tree_entry *a, const struct tree_entry *b)
{
	CHECK(a->entry_offset == b->entry_offset && a->dir_end == b->dir_end);
	CHECK(a->content_offset == b->content_offset && a->content_size == b->content_size);
	CHECK(a->is_hardlink == b->is_hardlink && a->meta.mode == b->meta.mode);
	CHECK(a->meta.xattr_count == b->meta.xattr_count);
	CHECK(a->meta.bytes.size == b->meta.bytes.size);
	CHECK(a->text.size == b->text.size);
	CHECK(!a->text.size || memcmp(a->text.data, b->text.data, a->text.size) == 0);
}

/* What a caller relies on without looking again. */
static void check_promises(struct walk *w, const struct tree_dir *dir,
			   const struct tree_entry *e)
{
	struct tree_entry again;
	uint64_t begin, end;

	CHECK(e->name.size >= 2 && e->name.data[e->name.size - 1] == 0);
	CHECK(!memchr(e->name.data, '/', e->name.size));
	if (metadata_is_directory(&e->meta)) {
		CHECK(e->dir_end > e->entry_offset && e->dir_end <= dir->goodbye_offset);
		return;
	}
	CHECK(e->dir_end == 0);
	tree_entry_init(&again);
	if (tree_entry_at(&w->tree, w->meta, e->entry_offset, &again, NULL) == 0)
		check_equal(&(struct tree_entry){ .entry_offset = e->entry_offset,
						  .content_offset = e->content_offset,
						  .content_size = e->content_size,
						  .is_hardlink = again.is_hardlink,
						  .meta = e->meta,
						  .text = again.text },
			    &again);
	tree_entry_release(&again);
	if ((e->meta.mode & PXAR_MODE_TYPE) != PXAR_MODE_REGULAR)
		return;
	CHECK(e->content_offset <= INT64_MAX && e->content_size <= INT64_MAX);
	if (w->tree.version == PXAR_VERSION_1)
		CHECK(e->content_offset + e->content_size <= w->meta->size);
	else if (tree_payload_check(e, w->payload, &begin, NULL) == 0)
		CHECK(!__builtin_add_overflow(begin, e->content_size, &end) &&
		      end <= w->payload->size);
}

static void look_up(struct walk *w, const struct tree_dir *dir, const struct tree_entry *e)
{
	const char *name = tree_entry_name(e);
	size_t size = e->name.size - 1;
	struct tree_entry found;
	int rc;

	tree_entry_init(&found);
	rc = tree_lookup(&w->tree, w->meta, dir, name, size, &found, NULL);
	CHECK(rc == 0 || rc == -ENOENT || rc == -EBADMSG || rc == -E2BIG);
	if (rc == 0)
		CHECK(found.name.size == size + 1 && memcmp(found.name.data, name, size) == 0);
	CHECK(RETRY(tree_lookup(&w->tree, &w->moody.base, dir, name, size, &w->again, NULL)) ==
	      rc);
	if (rc == 0)
		check_equal(&found, &w->again);
	tree_entry_release(&found);
}

/* Before anything is known of the archive. */
static void peek(const struct walk *w)
{
	uint64_t offsets[PEEK_MAX];
	size_t count;

	if (tree_peek_members(w->meta, offsets, PEEK_MAX, &count, NULL) < 0)
		return;
	CHECK(count <= PEEK_MAX);
	for (size_t i = 0; i < count; i++)
		CHECK(offsets[i] < w->meta->size);
}

static void walk_dir(struct walk *w, const struct tree_dir *dir);

static void visit(struct walk *w, const struct tree_dir *dir, const struct tree_slot *slots,
		  size_t i)
{
	int rc = tree_member(&w->tree, w->meta, dir, &slots[i], &w->entry, NULL);
	struct tree_dir sub;

	CHECK(rc == 0 || rc == -EBADMSG || rc == -E2BIG);
	CHECK(RETRY(tree_window_member(&w->window, &w->tree, &w->moody.base, dir, slots,
				       dir->member_count, i, &w->again, NULL)) == rc);
	if (rc < 0)
		return;
	check_equal(&w->entry, &w->again);
	check_promises(w, dir, &w->entry);
	if (w->lookups++ < LOOKUPS_MAX)
		look_up(w, dir, &w->entry);
	if (metadata_is_directory(&w->entry.meta) &&
	    tree_member_dir(&w->tree, w->meta, &w->entry, &sub, NULL) == 0)
		walk_dir(w, &sub);
}

static void walk_dir(struct walk *w, const struct tree_dir *dir)
{
	struct tree_slot *slots = malloc((dir->member_count + 1) * sizeof(*slots));

	CHECK(slots);
	CHECK(dir->member_count < w->meta->size);
	CHECK(tree_dir_slots(&w->tree, w->meta, dir, slots, NULL) == 0);
	for (size_t i = 0; i < dir->member_count; i++) {
		CHECK(slots[i].filename_offset <= slots[i].limit);
		CHECK(slots[i].limit <= dir->goodbye_offset);
		if (w->members++ < MEMBERS_MAX)
			visit(w, dir, slots, i);
	}
	free(slots);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct read_at_memory meta, payload;
	struct walk w = { .moody = { .base = { .ops = &moody_ops }, .random = (uint32_t)size } };
	struct tree_dir root;
	size_t meta_size;

	if (size < 4)
		return 0;
	meta_size = le32_get(data);
	if (meta_size > size - 4)
		meta_size = size - 4;
	read_at_memory_init(&meta, data + 4, meta_size);
	read_at_memory_init(&payload, data + 4 + meta_size, size - 4 - meta_size);
	w.meta = w.moody.below = &meta.base;
	w.moody.base.size = meta_size;
	w.payload = &payload.base;
	tree_payload_markers(&payload.base, NULL);
	peek(&w);
	if (tree_open(&w.tree, &meta.base, NULL) < 0)
		return 0;
	tree_window_init(&w.window);
	tree_entry_init(&w.entry);
	tree_entry_init(&w.again);
	if (tree_dir_open(&w.tree, &meta.base, meta_size, &root, NULL) == 0)
		walk_dir(&w, &root);
	tree_window_release(&w.window);
	tree_entry_release(&w.entry);
	tree_entry_release(&w.again);
	return 0;
}
