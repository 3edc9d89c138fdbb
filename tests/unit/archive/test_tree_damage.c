/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tree does with archives that are damaged, forged, or not at hand yet.
 */
#include "archive/tree.h"

#include "tests/unit/archive/build_archive.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { WALK_DEPTH_MAX = 64 };

struct walk {
	const struct tree *tree;
	struct read_at *meta;
	unsigned good, bad; /* members met */
};

/* Visit everything and count. */
static void walk_dir(struct walk *w, const struct tree_dir *dir, unsigned depth)
{
	AUTO(free) struct tree_slot *slots = calloc(dir->member_count + 1, sizeof(*slots));
	AUTO(tree_entry) struct tree_entry e;

	assert_non_null(slots);
	assert_true(depth < WALK_DEPTH_MAX);
	tree_entry_init(&e);
	assert_int_equal(tree_dir_slots(w->tree, w->meta, dir, slots, NULL), 0);
	for (size_t i = 0; i < dir->member_count; i++) {
		struct tree_dir sub;
		int rc = tree_member(w->tree, w->meta, dir, &slots[i], &e, NULL);

		if (rc == 0 && metadata_is_directory(&e.meta))
			rc = tree_member_dir(w->tree, w->meta, &e, &sub, NULL);
		if (rc == 0) {
			w->good++;
			if (metadata_is_directory(&e.meta))
				walk_dir(w, &sub, depth + 1);
		} else {
			assert_int_equal(rc, -EBADMSG);
			w->bad++;
		}
	}
}

/* Open and walk `size` bytes; 0, or why it cannot even be opened. */
static int walk_bytes(const uint8_t *data, size_t size, struct walk *out)
{
	struct read_at_memory m;
	struct tree tree;
	struct tree_dir root;
	int rc;

	read_at_memory_init(&m, data, size);
	*out = (struct walk){ .tree = &tree, .meta = &m.base };
	rc = tree_open(&tree, &m.base, NULL);
	if (rc == 0)
		rc = tree_dir_open(&tree, &m.base, size, &root, NULL);
	if (rc == 0)
		walk_dir(out, &root, 0);
	return rc;
}

static void build_sample(struct build *b, unsigned version, bool old_entries)
{
	uint64_t file;

	build_init(b, version, old_entries);
	build_root(b, "{}");
	build_device(b, "char", PXAR_MODE_CHAR, 1, 3);
	build_dir_begin(b, "dir");
	file = build_file(b, "file", "content");
	build_special(b, "fifo", PXAR_MODE_FIFO);
	build_dir_end(b);
	build_member(b, "f", PXAR_MODE_REGULAR | 0600);
	build_item(b, PXAR_XATTR, "user.a\0b", 8);
	build_item_u64(b, PXAR_ACL_DEFAULT, (uint64_t[]){ 7, 5, 0, UINT64_MAX }, 4);
	build_content(b, "x", 1);
	build_member_end(b, 1);
	build_hardlink(b, "link", file, "dir/file");
	build_special(b, "socket", PXAR_MODE_SOCKET);
	build_symlink(b, "symlink", "char");
	build_dir_end(b);
}

enum { SAMPLE_MEMBER_COUNT = 8 };

/* Whatever the bytes are: no more offsets than there is room for, and they lie inside. */
static int peek_bytes(const uint8_t *data, size_t size, size_t *count)
{
	uint64_t offsets[SAMPLE_MEMBER_COUNT];
	struct read_at_memory m;
	int rc;

	read_at_memory_init(&m, data, size);
	rc = tree_peek_members(&m.base, offsets, SAMPLE_MEMBER_COUNT, count, NULL);
	assert_true(rc == 0 || rc == -EBADMSG || rc == -E2BIG);
	for (size_t i = 0; rc == 0 && i < *count; i++)
		assert_true(offsets[i] < size);
	return rc;
}

static void refuses_archive_cut_at_any_byte(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		AUTO(build) struct build b;
		struct walk w;
		size_t peeked;

		build_sample(&b, i % 2 + 1, i / 2);
		assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
		assert_int_equal(w.good, SAMPLE_MEMBER_COUNT);
		assert_int_equal(w.bad, 0);
		for (size_t size = 0; size < b.meta.size; size++) {
			/* A copy of its own, so that a sanitizer sees each byte too much. */
			AUTO(free) uint8_t *copy = malloc(size + 1);

			assert_non_null(copy);
			memcpy(copy, b.meta.data, size);
			assert_int_equal(walk_bytes(copy, size, &w), -EBADMSG);
			peek_bytes(copy, size, &peeked); /* a sub-folder may end there */
		}
	}
}

static void survives_every_flipped_bit(void **state)
{
	(void)state;
	for (unsigned version = 1; version <= 2; version++) {
		AUTO(build) struct build b;
		struct walk w;
		size_t peeked;

		build_sample(&b, version, false);
		for (size_t i = 0; i < b.meta.size; i++) {
			for (unsigned bit = 0; bit < 8; bit++) {
				b.meta.data[i] ^= (uint8_t)(1u << bit);
				peek_bytes(b.meta.data, b.meta.size, &peeked);
				if (walk_bytes(b.meta.data, b.meta.size, &w) == 0)
					assert_true(w.good + w.bad <= SAMPLE_MEMBER_COUNT);
				b.meta.data[i] ^= (uint8_t)(1u << bit);
			}
		}
	}
}

/* A flat directory: whatever happens to one member, its neighbours stay readable.  A slot that
 * was changed may also take from the member that it now points into. */
static void damage_spoils_no_other_member(void **state)
{
	enum { COUNT = 5 };
	AUTO(build) struct build b;
	uint64_t begin, end;

	(void)state;
	build_init(&b, 1, false);
	build_root(&b, NULL);
	begin = b.meta.size;
	for (unsigned i = 0; i < COUNT; i++)
		build_file(&b, (const char *[]){ "a", "b", "c", "d", "e" }[i], "content");
	build_dir_end(&b);
	end = b.meta.size - 24; /* the members, the table's header and its slots */
	for (uint64_t i = begin; i < end; i++) {
		struct walk w;

		if (i >= b.goodbye_offset && i < b.goodbye_offset + PXAR_HEADER_SIZE)
			continue;
		b.meta.data[i] ^= 0x55;
		assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
		assert_true(w.good >= (i < b.goodbye_offset ? COUNT - 1 : COUNT - 2));
		assert_int_equal(w.good + w.bad, COUNT);
		b.meta.data[i] ^= 0x55;
	}
}

/* --- forged tables --- */

static int root_member_named(const struct build *b, const char *name, struct tree_entry *e)
{
	struct read_at_memory m;
	struct tree tree;
	struct tree_dir root;

	read_at_memory_init(&m, b->meta.data, b->meta.size);
	assert_int_equal(tree_open(&tree, &m.base, NULL), 0);
	assert_int_equal(tree_dir_open(&tree, &m.base, tree.meta_size, &root, NULL), 0);
	return tree_lookup(&tree, &m.base, &root, name, strlen(name), e, NULL);
}

static void refuses_slots_that_point_outside(void **state)
{
	static const uint64_t offsets[] = { 0, 1, 16, UINT64_MAX, (uint64_t)1 << 63 };

	(void)state;
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]) + 2; i++) {
		AUTO(build) struct build b;
		AUTO(tree_entry) struct tree_entry e;
		struct walk w;
		uint64_t slot, offset;

		tree_entry_init(&e);
		build_init(&b, 2, false);
		build_root(&b, NULL);
		build_file(&b, "a", "1");
		build_dir_end(&b);
		slot = b.goodbye_offset + PXAR_HEADER_SIZE;
		if (i < sizeof(offsets) / sizeof(offsets[0]))
			offset = offsets[i];
		else /* the root's start, the root's ENTRY */
			offset = b.goodbye_offset - (i % 2 ? 24 : 0);
		build_patch(&b, slot + 8, offset);
		assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
		assert_int_equal(w.bad, 1);
		assert_int_equal(root_member_named(&b, "a", &e), -EBADMSG);
		assert_int_equal(root_member_named(&b, "b", &e), -ENOENT);
	}
}

static void refuses_two_slots_for_one_member(void **state)
{
	AUTO(build) struct build b;
	struct walk w;

	(void)state;
	build_init(&b, 2, false);
	build_root(&b, NULL);
	build_dir_begin(&b, "dir");
	build_file(&b, "a", "1");
	build_dir_end(&b);
	build_dir_of(&b)->slots[1] = build_dir_of(&b)->slots[0];
	build_dir_of(&b)->count = 2;
	build_dir_end(&b);
	assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
	assert_int_equal(w.good, 2); /* dir, and a once */
	assert_int_equal(w.bad, 1);
}

static void refuses_table_with_no_room_for_its_members(void **state)
{
	AUTO(build) struct build b;
	struct walk w;

	(void)state;
	build_init(&b, 1, false);
	build_root(&b, NULL);
	build_special(&b, "a", PXAR_MODE_FIFO);
	build_dir_of(&b)->slots[1] = build_dir_of(&b)->slots[0];
	build_dir_of(&b)->count = 2;
	build_dir_end(&b);
	assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), -EBADMSG);
}

/* The tail slot's size is checked against the stream and against the table's own header. */
static void refuses_tail_sizes(void **state)
{
	static const uint64_t sizes[] = { 0,  16, 24, 39, 41, 63, 65, 88, 64 + 24 * 1000,
					  64 + ((uint64_t)24 << 40), UINT64_MAX,
					  UINT64_MAX - 7 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		AUTO(build) struct build b;
		struct read_at_memory m;
		struct tree t;

		build_init(&b, 2, false);
		build_root(&b, NULL);
		build_file(&b, "a", "1");
		build_dir_end(&b);
		build_patch(&b, b.meta.size - 8, sizes[i]);
		read_at_memory_init(&m, b.meta.data, b.meta.size);
		assert_true(tree_open(&t, &m.base, NULL) < 0);
	}
}

static void refuses_name_whose_hash_is_not_the_slots(void **state)
{
	AUTO(build) struct build b;
	struct walk w;

	(void)state;
	build_init(&b, 2, false);
	build_root(&b, NULL);
	build_file(&b, "a", "1");
	build_file(&b, "b", "2");
	build_dir_of(&b)->slots[1].hash ^= 1;
	build_dir_end(&b);
	assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
	assert_int_equal(w.good, 1);
	assert_int_equal(w.bad, 1);
}

static void refuses_bad_names(void **state)
{
	static const struct {
		const char *body;
		size_t size;
	} names[] = { { "..", 3 }, { ".", 2 },	 { "/", 2 },	{ "a/b", 4 }, { "", 1 },
		      { "a", 1 },  { "a\0b", 4 }, { "../x", 5 }, { "", 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		AUTO(build) struct build b;
		struct walk w;

		build_init(&b, 2, false);
		build_root(&b, NULL);
		build_slot_begin(&b, names[i].body);
		build_item(&b, PXAR_FILENAME, names[i].body, names[i].size);
		build_entry(&b, PXAR_MODE_FIFO);
		build_member_end(&b, 0);
		build_special(&b, "good", PXAR_MODE_FIFO);
		build_dir_end(&b);
		assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
		assert_int_equal(w.good, 1);
		assert_int_equal(w.bad, 1);
	}
}

/* --- cycles --- */

/* root / "dir" / "sub" / "file", then root / "next"; the slot of "dir" gets another end. */
static void refuses_directory_ends_that_do_not_fit(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < 7; kind++) {
		AUTO(build) struct build b;
		AUTO(tree_entry) struct tree_entry e;
		struct build_slot *dir;
		uint64_t sub_end, next_end, goodbye;
		struct walk w;

		tree_entry_init(&e);
		build_init(&b, 2, false);
		build_root(&b, NULL);
		build_dir_begin(&b, "dir");
		build_dir_begin(&b, "sub");
		build_file(&b, "file", "1");
		build_dir_end(&b);
		sub_end = b.meta.size;
		build_dir_end(&b);
		build_dir_begin(&b, "next");
		build_dir_end(&b);
		next_end = goodbye = b.meta.size;
		dir = &build_dir_of(&b)->slots[0];
		dir->size = (uint64_t[]){
			goodbye + 16 + 24 * 3 - dir->filename_offset, /* the root's own */
			goodbye + 40 - dir->filename_offset,
			next_end - dir->filename_offset, /* its neighbour's */
			sub_end - dir->filename_offset, /* its own child's */
			40, /* in its head */
			0, UINT64_MAX,
		}[kind];
		build_dir_end(&b);
		assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
		assert_int_equal(w.good, 1); /* "next" */
		assert_int_equal(w.bad, 1);
	}
}

/* A table that claims to start at its parent's start, to take the parent's members in. */
static void refuses_directory_that_starts_elsewhere(void **state)
{
	AUTO(build) struct build b;
	uint64_t parent, sub_goodbye;
	struct walk w;

	(void)state;
	build_init(&b, 1, false);
	build_root(&b, NULL);
	build_dir_begin(&b, "parent");
	parent = build_dir_of(&b)->entry_offset;
	build_dir_begin(&b, "sub");
	build_dir_end(&b);
	sub_goodbye = b.goodbye_offset;
	build_dir_end(&b);
	build_dir_end(&b);
	build_patch(&b, sub_goodbye + PXAR_HEADER_SIZE + 8, sub_goodbye - parent);
	assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
	assert_int_equal(w.good, 1);
	assert_int_equal(w.bad, 1);
	build_patch(&b, sub_goodbye + PXAR_HEADER_SIZE + 8, sub_goodbye); /* the root's start */
	assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
	assert_int_equal(w.bad, 1);
}

static void refuses_version_1_content_that_reaches_into_the_next_member(void **state)
{
	AUTO(build) struct build b;
	AUTO(tree_entry) struct tree_entry e;
	uint64_t a;
	struct walk w;

	(void)state;
	tree_entry_init(&e);
	build_init(&b, 1, false);
	build_root(&b, NULL);
	a = build_file(&b, "a", "12345");
	build_file(&b, "b", "1");
	build_dir_end(&b);
	build_patch(&b, a + 18 + 56 + 8, 16 + 6);
	assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
	assert_int_equal(w.good, 1);
	assert_int_equal(w.bad, 1);
	build_patch(&b, a + 18 + 56 + 8, UINT64_MAX);
	assert_int_equal(root_member_named(&b, "a", &e), -EBADMSG);
	assert_int_equal(root_member_named(&b, "b", &e), 0);
}

/* --- hard links --- */

static void refuses_hard_links_to_anything_but_a_file(void **state)
{
	enum { KINDS = 9 };

	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		AUTO(build) struct build b;
		AUTO(tree_entry) struct tree_entry e;
		uint64_t file, symlink, dir, link, here;

		tree_entry_init(&e);
		build_init(&b, 1, false);
		build_root(&b, NULL);
		file = build_file(&b, "file", "1");
		symlink = b.meta.size;
		build_symlink(&b, "symlink", "file");
		dir = b.meta.size;
		build_dir_begin(&b, "dir");
		build_dir_end(&b);
		link = b.meta.size;
		build_hardlink(&b, "link", file, "file");
		here = b.meta.size;
		switch (kind) {
		case 0:
			build_hardlink_raw(&b, "bad", here - symlink, "symlink");
			break;
		case 1:
			build_hardlink_raw(&b, "bad", here - dir, "dir");
			break;
		case 2:
			build_hardlink_raw(&b, "bad", here - link, "link");
			break;
		case 3: /* itself */
			build_hardlink_raw(&b, "bad", 0, "file");
			break;
		case 4: /* forwards */
			build_hardlink_raw(&b, "bad", UINT64_MAX, "file");
			break;
		case 5: /* before the archive */
			build_hardlink_raw(&b, "bad", here + 1, "file");
			break;
		case 6: /* the root, which has no FILENAME */
			build_hardlink_raw(&b, "bad", here, "file");
			break;
		case 7: /* an ENTRY */
			build_hardlink_raw(&b, "bad", here - file - 21, "file");
			break;
		case 8: /* a path that says something else */
			build_hardlink_raw(&b, "bad", here - file, "dir/symlink");
			break;
		}
		build_dir_end(&b);
		assert_int_equal(root_member_named(&b, "bad", &e), -EBADMSG);
		assert_int_equal(root_member_named(&b, "link", &e), 0);
		assert_int_equal(root_member_named(&b, "symlink", &e), 0);
	}
}

/* --- entries --- */

static void refuses_types_that_do_not_fit_their_closing_item(void **state)
{
	static const uint64_t modes[] = { PXAR_MODE_SOCKET, PXAR_MODE_SYMLINK, PXAR_MODE_REGULAR,
					  PXAR_MODE_BLOCK,  PXAR_MODE_CHAR,    PXAR_MODE_FIFO,
					  0,		    0170000 };
	enum { CLOSINGS = 6 };

	(void)state;
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]) * CLOSINGS * 2; i++) {
		AUTO(build) struct build b;
		unsigned version = i % 2 + 1;
		unsigned closing = i / 2 % CLOSINGS;
		uint64_t mode = modes[i / 2 / CLOSINGS];
		bool fits;
		struct walk w;

		build_init(&b, version, false);
		build_root(&b, NULL);
		build_member(&b, "x", mode | 0600);
		switch (closing) {
		case 0:
			fits = mode == PXAR_MODE_SOCKET || mode == PXAR_MODE_FIFO;
			break;
		case 1:
			build_text(&b, PXAR_SYMLINK, "y");
			fits = mode == PXAR_MODE_SYMLINK;
			break;
		case 2:
			build_item(&b, PXAR_PAYLOAD, "z", 1);
			fits = mode == PXAR_MODE_REGULAR && version == 1;
			break;
		case 3:
			build_item_u64(&b, PXAR_PAYLOAD_REF, (uint64_t[]){ 16, 1 }, 2);
			fits = mode == PXAR_MODE_REGULAR && version == 2;
			break;
		case 4:
			build_item_u64(&b, PXAR_DEVICE, (uint64_t[]){ 1, 2 }, 2);
			fits = mode == PXAR_MODE_CHAR || mode == PXAR_MODE_BLOCK;
			break;
		default:
			build_item(&b, PXAR_HARDLINK, "12345678x", 10);
			fits = false;
			break;
		}
		build_member_end(&b, 0);
		build_special(&b, "y", PXAR_MODE_FIFO);
		build_dir_end(&b);
		assert_int_equal(walk_bytes(b.meta.data, b.meta.size, &w), 0);
		assert_int_equal(w.good, fits ? 2 : 1);
	}
}

static void refuses_what_is_no_archive(void **state)
{
	AUTO(build) struct build b;
	struct read_at_memory m;
	struct tree t;

	(void)state;
	build_sample(&b, 2, false);
	read_at_memory_init(&m, b.meta.data, b.meta.size);
	build_patch(&b, 16, 3);
	assert_int_equal(tree_open(&t, &m.base, NULL), -EOPNOTSUPP);
	build_patch(&b, 16, 2);
	assert_int_equal(tree_open(&t, &m.base, NULL), 0);
	build_patch(&b, 24 + 8, UINT64_MAX); /* of the prelude */
	assert_int_equal(tree_open(&t, &m.base, NULL), -EBADMSG);
	build_patch(&b, 24 + 8, 16 + 2);
	build_patch(&b, 24 + 18 + 16, PXAR_MODE_REGULAR | 0755); /* of the root */
	assert_int_equal(tree_open(&t, &m.base, NULL), -EBADMSG);
}

/* --- a source that is not ready --- */

enum { PIECE_SIZE = 37 };

/* Answers -EAGAIN for every piece that is asked for the first time. */
struct patchy {
	struct read_at base;
	struct read_at *below;
	uint8_t seen[4096];
	unsigned refused;
};

static int patchy_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
		       struct err *err)
{
	struct patchy *p = (struct patchy *)self;

	for (uint64_t i = offset / PIECE_SIZE; i <= (offset + size - 1) / PIECE_SIZE; i++) {
		if (!p->seen[i]) {
			p->seen[i] = 1;
			p->refused++;
			memset(buf, 0xee, size);
			return -EAGAIN;
		}
	}
	return read_at_exact(p->below, buf, size, offset, err);
}

static const struct read_at_ops patchy_ops = { .read = patchy_read };

static void patchy_forget(struct patchy *p)
{
	memset(p->seen, 0, sizeof(p->seen));
}

#define RETRY(p, call)                        \
	({                                    \
		int retry_rc;                 \
		patchy_forget(p);             \
		do                            \
			retry_rc = (call);    \
		while (retry_rc == -EAGAIN);  \
		retry_rc;                     \
	})

static void assert_entries_equal(const struct tree_entry *a, const struct tree_entry *b)
{
	assert_int_equal(a->filename_offset, b->filename_offset);
	assert_int_equal(a->entry_offset, b->entry_offset);
	assert_int_equal(a->dir_end, b->dir_end);
	assert_int_equal(a->is_hardlink, b->is_hardlink);
	assert_int_equal(a->meta.mode, b->meta.mode);
	assert_int_equal(a->meta.mtime_nsec, b->meta.mtime_nsec);
	assert_int_equal(a->meta.xattr_count, b->meta.xattr_count);
	assert_int_equal(a->content_offset, b->content_offset);
	assert_int_equal(a->content_size, b->content_size);
	assert_int_equal(a->text.size, b->text.size);
	assert_string_equal(tree_entry_name(a), tree_entry_name(b));
}

static void walk_patchy(struct patchy *p, const struct tree *tree, const struct tree_dir *dir)
{
	AUTO(free) struct tree_slot *slots = calloc(dir->member_count + 1, sizeof(*slots));
	AUTO(tree_entry) struct tree_entry plain, retried;
	AUTO(tree_window) struct tree_window w;

	assert_non_null(slots);
	tree_entry_init(&plain);
	tree_entry_init(&retried);
	tree_window_init(&w);
	assert_int_equal(RETRY(p, tree_dir_slots(tree, &p->base, dir, slots, NULL)), 0);
	for (size_t i = 0; i < dir->member_count; i++) {
		struct tree_dir sub;
		const char *name;

		assert_int_equal(tree_member(tree, p->below, dir, &slots[i], &plain, NULL), 0);
		name = tree_entry_name(&plain);
		assert_int_equal(RETRY(p, tree_member(tree, &p->base, dir, &slots[i], &retried,
						      NULL)), 0);
		assert_entries_equal(&plain, &retried);
		assert_int_equal(RETRY(p, tree_window_member(&w, tree, &p->base, dir, slots,
							     dir->member_count, i, &retried,
							     NULL)), 0);
		assert_entries_equal(&plain, &retried);
		assert_int_equal(RETRY(p, tree_lookup(tree, &p->base, dir, name, strlen(name),
						      &retried, NULL)), 0);
		assert_entries_equal(&plain, &retried);
		if (!metadata_is_directory(&plain.meta))
			continue;
		assert_int_equal(RETRY(p, tree_member_dir(tree, &p->base, &plain, &sub, NULL)), 0);
		walk_patchy(p, tree, &sub);
	}
}

static void retried_requests_give_the_same(void **state)
{
	(void)state;
	for (unsigned version = 1; version <= 2; version++) {
		AUTO(build) struct build b;
		AUTO(tree_entry) struct tree_entry e;
		struct patchy p = { .base = { &patchy_ops, 0 } };
		struct read_at_memory m;
		struct tree tree;
		struct tree_dir root, found;

		tree_entry_init(&e);
		build_sample(&b, version, false);
		read_at_memory_init(&m, b.meta.data, b.meta.size);
		p.base.size = m.base.size;
		p.below = &m.base;
		assert_int_equal(RETRY(&p, tree_open(&tree, &p.base, NULL)), 0);
		assert_int_equal(RETRY(&p, tree_dir_open(&tree, &p.base, m.base.size, &root,
							 NULL)), 0);
		walk_patchy(&p, &tree, &root);
		assert_int_equal(RETRY(&p, tree_path(&tree, &p.base, "dir", &e, &found, NULL)), 0);
		assert_int_equal(found.member_count, 2);
		assert_true(p.refused > 100);
	}
}

/* --- a source that is torn --- */

/* Cannot give any byte of [begin, end). */
struct torn {
	struct read_at base;
	struct read_at *below;
	uint64_t begin, end;
};

static int torn_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
		     struct err *err)
{
	struct torn *t = (struct torn *)self;

	if (offset < t->end && offset + size > t->begin)
		return err_set(err, EIO, "torn");
	return read_at_exact(t->below, buf, size, offset, err);
}

static const struct read_at_ops torn_ops = { .read = torn_read };

/* A root of symlinks that is torn where the test says so, nowhere at first. */
struct torn_root {
	struct build b;
	struct read_at_memory m;
	struct torn t;
	struct tree tree;
	struct tree_dir dir;
	struct tree_slot slots[100];
};

static void torn_root_init(struct torn_root *r, unsigned count)
{
	*r = (struct torn_root){ .t = { .base = { &torn_ops, 0 }, .below = &r->m.base } };
	build_init(&r->b, 2, false);
	build_root(&r->b, NULL);
	for (unsigned i = 0; i < count; i++)
		build_symlink(&r->b, (const char[]){ (char)('a' + i / 10), (char)('0' + i % 10), 0 },
			      "somewhere");
	build_dir_end(&r->b);
	read_at_memory_init(&r->m, r->b.meta.data, r->b.meta.size);
	r->t.base.size = r->m.base.size;
	assert_int_equal(tree_open(&r->tree, &r->t.base, NULL), 0);
	assert_int_equal(tree_dir_open(&r->tree, &r->t.base, r->m.base.size, &r->dir, NULL), 0);
	assert_int_equal(tree_dir_slots(&r->tree, &r->t.base, &r->dir, r->slots, NULL), 0);
}

static void torn_root_release(struct torn_root *r)
{
	build_release(&r->b);
}
DEFINE_AUTO_STRUCT(torn_root)

static void window_reads_all_that_can_be_read(void **state)
{
	enum { COUNT = 100, FIRST = 40, LAST = 45 };
	AUTO(torn_root) struct torn_root r;
	AUTO(tree_entry) struct tree_entry e;
	AUTO(tree_window) struct tree_window w;

	(void)state;
	tree_entry_init(&e);
	tree_window_init(&w);
	torn_root_init(&r, COUNT);
	r.t.begin = r.slots[FIRST].filename_offset;
	r.t.end = r.slots[LAST].limit;
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(tree_window_member(&w, &r.tree, &r.t.base, &r.dir, r.slots, COUNT,
						    i, &e, NULL),
				 i >= FIRST && i <= LAST ? -EIO : 0);
}

static void peeks_at_members_by_the_end_of_the_stream(void **state)
{
	enum { COUNT = 40 };
	AUTO(torn_root) struct torn_root r;
	uint64_t offsets[COUNT];
	size_t count;

	(void)state;
	torn_root_init(&r, COUNT);
	r.t.end = r.dir.goodbye_offset; /* from 0 on */
	assert_int_equal(tree_open(&r.tree, &r.t.base, NULL), -EIO);
	assert_int_equal(tree_peek_members(&r.t.base, offsets, COUNT, &count, NULL), 0);
	assert_int_equal(count, COUNT);
	for (size_t i = 0, found = 0; i < COUNT; i++, found = 0) {
		for (size_t k = 0; k < COUNT; k++)
			found += offsets[k] == r.slots[i].filename_offset;
		assert_int_equal(found, 1);
	}
	assert_int_equal(tree_peek_members(&r.t.base, offsets, COUNT - 1, &count, NULL), 0);
	assert_int_equal(count, 0);
	r.t.begin = r.dir.goodbye_offset + PXAR_HEADER_SIZE;
	r.t.end = r.t.begin + 1;
	assert_int_equal(tree_peek_members(&r.t.base, offsets, COUNT, &count, NULL), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_archive_cut_at_any_byte),
		cmocka_unit_test(peeks_at_members_by_the_end_of_the_stream),
		cmocka_unit_test(survives_every_flipped_bit),
		cmocka_unit_test(damage_spoils_no_other_member),
		cmocka_unit_test(refuses_slots_that_point_outside),
		cmocka_unit_test(refuses_two_slots_for_one_member),
		cmocka_unit_test(refuses_table_with_no_room_for_its_members),
		cmocka_unit_test(refuses_tail_sizes),
		cmocka_unit_test(refuses_name_whose_hash_is_not_the_slots),
		cmocka_unit_test(refuses_bad_names),
		cmocka_unit_test(refuses_directory_ends_that_do_not_fit),
		cmocka_unit_test(refuses_directory_that_starts_elsewhere),
		cmocka_unit_test(refuses_version_1_content_that_reaches_into_the_next_member),
		cmocka_unit_test(refuses_hard_links_to_anything_but_a_file),
		cmocka_unit_test(refuses_types_that_do_not_fit_their_closing_item),
		cmocka_unit_test(refuses_what_is_no_archive),
		cmocka_unit_test(retried_requests_give_the_same),
		cmocka_unit_test(window_reads_all_that_can_be_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
