/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/tree.h"

#include "archive/base/digest.h"
#include "archive/base/hex.h"
#include "tests/unit/archive/build_archive.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

/* An archive in memory with its tree, and an entry to read into. */
struct opened {
	struct build b;
	struct read_at_memory meta, payload;
	struct tree tree;
	struct tree_dir root;
	struct tree_entry e;
	struct err err;
};

static void open_built(struct opened *o)
{
	read_at_memory_init(&o->meta, o->b.meta.data, o->b.meta.size);
	read_at_memory_init(&o->payload, o->b.payload.data, o->b.payload.size);
	tree_entry_init(&o->e);
	if (tree_open(&o->tree, &o->meta.base, &o->err) ||
	    tree_dir_open(&o->tree, &o->meta.base, o->tree.meta_size, &o->root, &o->err))
		fail_msg("%s", o->err.text);
}

static void opened_release(struct opened *o)
{
	tree_entry_release(&o->e);
	build_release(&o->b);
}
DEFINE_AUTO_STRUCT(opened)

static int look_up(struct opened *o, const char *name)
{
	return tree_lookup(&o->tree, &o->meta.base, &o->root, name, strlen(name), &o->e, &o->err);
}

static int look_up_path(struct opened *o, const char *path, struct tree_dir *dir)
{
	return tree_path(&o->tree, &o->meta.base, path, &o->e, dir, &o->err);
}

static struct tree_slot *list(struct opened *o, const struct tree_dir *dir)
{
	struct tree_slot *slots = calloc(dir->member_count + 1, sizeof(*slots));

	assert_non_null(slots);
	assert_int_equal(tree_dir_slots(&o->tree, &o->meta.base, dir, slots, &o->err), 0);
	return slots;
}

static void assert_member(struct opened *o, const struct tree_dir *dir,
			  const struct tree_slot *slot, const char *name)
{
	int rc = tree_member(&o->tree, &o->meta.base, dir, slot, &o->e, &o->err);

	if (rc)
		fail_msg("%s: %s", name, err_text(&o->err, rc));
	assert_string_equal(tree_entry_name(&o->e), name);
}

static void assert_content(struct opened *o, const char *expected)
{
	char buf[64] = "";
	uint64_t begin = o->e.content_offset;
	struct read_at *from = &o->meta.base;

	assert_int_equal(o->e.meta.mode & PXAR_MODE_TYPE, PXAR_MODE_REGULAR);
	assert_int_equal(o->e.content_size, strlen(expected));
	if (o->tree.version == PXAR_VERSION_2) {
		from = &o->payload.base;
		assert_int_equal(tree_payload_check(&o->e, from, &begin, &o->err), 0);
	}
	assert_int_equal(read_at_exact(from, buf, strlen(expected), begin, NULL), 0);
	assert_string_equal(buf, expected);
}

static void assert_digest(const struct wbuf *bytes, const char *hex)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest d;
	char text[DIGEST_HEX_SIZE];

	assert_non_null(ctx);
	digest_ctx_of(ctx, bytes->data, bytes->size, &d);
	digest_to_hex(&d, text);
	assert_string_equal(text, hex);
}

/* FORMAT.md, "Worked examples": a.txt, b.txt (a hard link to it), c (a symlink to it). */
static void build_example(struct build *b, unsigned version)
{
	uint64_t a;

	build_init(b, version, false);
	build_root(b, NULL);
	a = build_file(b, "a.txt", "Hello\n");
	build_hardlink(b, "b.txt", a, "a.txt");
	build_symlink(b, "c", "a.txt");
	build_dir_end(b);
}

static void check_example(struct opened *o)
{
	AUTO(free) struct tree_slot *slots = list(o, &o->root);
	uint64_t entry_offset;

	assert_int_equal(o->root.member_count, 3);
	assert_member(o, &o->root, &slots[0], "a.txt");
	assert_content(o, "Hello\n");
	assert_int_equal(o->e.meta.mode, PXAR_MODE_REGULAR | 0644);
	assert_int_equal(o->e.meta.uid, 1000);
	assert_int_equal(o->e.meta.mtime_sec, 1704164645);
	assert_int_equal(o->e.meta.mtime_nsec, 678901234);
	assert_false(o->e.is_hardlink);
	assert_int_equal(o->e.filename_offset, o->root.entry_offset + 56);
	assert_int_equal(o->e.entry_offset, o->e.filename_offset + 22);
	entry_offset = o->e.entry_offset;

	assert_member(o, &o->root, &slots[1], "b.txt");
	assert_content(o, "Hello\n");
	assert_true(o->e.is_hardlink);
	assert_int_equal(o->e.entry_offset, entry_offset);
	assert_string_equal(tree_entry_target(&o->e), "a.txt");

	assert_member(o, &o->root, &slots[2], "c");
	assert_int_equal(o->e.meta.mode, PXAR_MODE_SYMLINK | 0777);
	assert_string_equal(tree_entry_target(&o->e), "a.txt");
	assert_int_equal(o->e.text.size, 6);
	assert_int_equal(slots[2].limit, o->root.goodbye_offset);
}

static void reads_worked_example_of_version_1(void **state)
{
	AUTO(opened) struct opened o = { 0 };

	(void)state;
	build_example(&o.b, 1);
	assert_digest(&o.b.meta,
		      "e78c227cbbfdad03f229b541e9b8507220e028858ac4ac0242a4de71f74f587d");
	open_built(&o);
	assert_int_equal(o.tree.version, 1);
	assert_int_equal(o.tree.root_entry_offset, 0);
	assert_int_equal(o.root.goodbye_offset, 304);
	check_example(&o);
}

static void reads_worked_example_of_version_2(void **state)
{
	AUTO(opened) struct opened o = { 0 };

	(void)state;
	build_example(&o.b, 2);
	assert_digest(&o.b.meta,
		      "cf4d202835b92af99897a8a91d44ddaf003dc740cc5b3c17b7ba0be115b423fc");
	assert_digest(&o.b.payload,
		      "47b2160d8aad3a33539aaa2aa3d8fe46e7cffc121eb38cf7be1169a7eca2bd86");
	open_built(&o);
	assert_int_equal(o.tree.version, 2);
	assert_int_equal(o.tree.root_entry_offset, 24);
	check_example(&o);
	assert_int_equal(tree_payload_markers(&o.payload.base, &o.err), 0);
}

static void reads_empty_archives(void **state)
{
	static const struct {
		unsigned version;
		bool old_entries;
		size_t size;
	} kinds[] = { { 1, false, 96 }, { 1, true, 88 }, { 2, false, 120 }, { 2, true, 112 } };

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		AUTO(opened) struct opened o = { 0 };

		build_init(&o.b, kinds[i].version, kinds[i].old_entries);
		build_root(&o.b, NULL);
		build_dir_end(&o.b);
		assert_int_equal(o.b.meta.size, kinds[i].size);
		open_built(&o);
		assert_int_equal(o.root.member_count, 0);
		assert_int_equal(look_up(&o, "a"), -ENOENT);
		assert_int_equal(tree_dir_entry(&o.tree, &o.meta.base, &o.root, &o.e, &o.err), 0);
		assert_int_equal(o.e.meta.mode, PXAR_MODE_DIRECTORY | 0755);
		assert_int_equal(o.e.meta.mtime_nsec, 678901234);
		assert_int_equal(o.e.dir_end, o.tree.meta_size);
	}
}

static void accepts_root_tail_at_its_entry(void **state)
{
	AUTO(opened) struct opened o = { .e = { 0 } };

	(void)state;
	build_init(&o.b, 2, false);
	o.b.tail_at_entry = true;
	build_root(&o.b, "{}");
	build_file(&o.b, "a", "1");
	build_dir_end(&o.b);
	open_built(&o);
	assert_int_equal(o.tree.prelude_size, 2);
	assert_memory_equal(o.b.meta.data + o.tree.prelude_begin, "{}", 2);
	assert_int_equal(look_up(&o, "a"), 0);
}

static void refuses_root_tail_elsewhere(void **state)
{
	AUTO(build) struct build b;
	struct read_at_memory m;
	struct tree t;

	(void)state;
	build_init(&b, 2, false);
	build_root(&b, "{}");
	build_dir_end(&b);
	build_patch(&b, b.meta.size - 16, b.goodbye_offset - 24); /* the prelude */
	read_at_memory_init(&m, b.meta.data, b.meta.size);
	assert_int_equal(tree_open(&t, &m.base, NULL), -EBADMSG);
}

/* One of everything, with a folder inside a folder. */
static void build_all_kinds(struct build *b, unsigned version, bool old_entries)
{
	uint64_t file;

	build_init(b, version, old_entries);
	build_root(b, "{\"exclude-patterns\":\"x\\n\"}");
	build_device(b, "block", PXAR_MODE_BLOCK, 8, 1);
	build_device(b, "char", PXAR_MODE_CHAR, 1, 3);
	build_dir_begin(b, "dir");
	file = build_file(b, "file", "inside");
	build_dir_begin(b, "sub");
	build_special(b, "fifo", PXAR_MODE_FIFO);
	build_special(b, "socket", PXAR_MODE_SOCKET);
	build_dir_end(b);
	build_file(b, "zero", "");
	build_dir_end(b);
	build_dir_begin(b, "empty");
	build_dir_end(b);
	build_hardlink(b, "link", file, "dir/file");
	build_symlink(b, "symlink", "dir/file");
	build_dir_end(b);
}

static void check_all_kinds(struct opened *o)
{
	struct tree_dir dir = { 0 };

	assert_int_equal(look_up_path(o, "dir/sub/fifo", NULL), 0);
	assert_int_equal(o->e.meta.mode, PXAR_MODE_FIFO | 0600);
	assert_int_equal(look_up_path(o, "//dir/./sub//socket/", NULL), 0);
	assert_int_equal(o->e.meta.mode, PXAR_MODE_SOCKET | 0600);
	assert_int_equal(look_up_path(o, "dir/zero", NULL), 0);
	assert_content(o, "");
	assert_int_equal(look_up_path(o, "link", NULL), 0);
	assert_content(o, "inside");
	assert_true(o->e.is_hardlink);
	assert_int_equal(look_up_path(o, "char", NULL), 0);
	assert_int_equal(o->e.device_major, 1);
	assert_int_equal(o->e.device_minor, 3);
	assert_int_equal(look_up_path(o, "dir/sub", &dir), 0);
	assert_int_equal(dir.member_count, 2);
	assert_int_equal(dir.end, o->e.dir_end);
	assert_int_equal(dir.entry_offset, o->e.entry_offset);
	assert_int_equal(look_up_path(o, "/", &dir), 0);
	assert_int_equal(dir.end, o->tree.meta_size);
	assert_int_equal(look_up_path(o, "dir/nothing", NULL), -ENOENT);
	assert_int_equal(look_up_path(o, "dir/zero/x", NULL), -ENOTDIR);
	assert_int_equal(look_up_path(o, "symlink/x", NULL), -ENOTDIR);
	assert_int_equal(look_up_path(o, "dir/../char", NULL), -EINVAL);
}

static void walks_paths_to_every_kind(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		AUTO(opened) struct opened o = { 0 };

		build_all_kinds(&o.b, i % 2 + 1, i / 2);
		open_built(&o);
		check_all_kinds(&o);
	}
}

static void entry_is_found_again_by_its_offset(void **state)
{
	AUTO(opened) struct opened o = { 0 };
	AUTO(free) struct tree_slot *slots = NULL;

	(void)state;
	build_all_kinds(&o.b, 2, false);
	open_built(&o);
	slots = list(&o, &o.root);
	for (size_t i = 0; i < o.root.member_count; i++) {
		uint64_t offset, mode;
		int rc;

		assert_int_equal(tree_member(&o.tree, &o.meta.base, &o.root, &slots[i], &o.e,
					     &o.err), 0);
		offset = o.e.entry_offset;
		mode = o.e.meta.mode;
		rc = tree_entry_at(&o.tree, &o.meta.base, offset, &o.e, &o.err);
		assert_int_equal(rc, metadata_is_directory(&o.e.meta) ? -EBADMSG : 0);
		assert_int_equal(o.e.meta.mode, mode);
		assert_int_equal(o.e.name.size, 0);
	}
	assert_int_equal(tree_entry_at(&o.tree, &o.meta.base, 0, &o.e, NULL), -EBADMSG);
	assert_int_equal(tree_entry_at(&o.tree, &o.meta.base, slots[0].filename_offset, &o.e,
				       NULL), -EBADMSG);
	assert_int_equal(tree_entry_at(&o.tree, &o.meta.base, UINT64_MAX, &o.e, NULL), -EBADMSG);
}

static void reads_all_attributes(void **state)
{
	(void)state;
	for (unsigned version = 1; version <= 2; version++) {
		AUTO(opened) struct opened o = { 0 };
		char big[60000];

		memset(big, 'x', sizeof(big));
		memcpy(big, "user.big", 9);
		build_init(&o.b, version, false);
		build_root(&o.b, NULL);
		build_member(&o.b, "f", PXAR_MODE_REGULAR | 0640);
		build_item(&o.b, PXAR_XATTR, "user.a\0value", 12);
		build_item(&o.b, PXAR_XATTR, big, sizeof(big));
		build_item_u64(&o.b, PXAR_ACL_USER, (uint64_t[]){ 1000, 7 }, 2);
		build_item_u64(&o.b, PXAR_ACL_GROUP_OBJ, (uint64_t[]){ 4 }, 1);
		build_item(&o.b, PXAR_FCAPS, "caps", 4);
		build_item_u64(&o.b, PXAR_QUOTA_PROJID, (uint64_t[]){ 42 }, 1);
		build_content(&o.b, "abc", 3);
		build_member_end(&o.b, 3);
		build_special(&o.b, "g", PXAR_MODE_FIFO);
		build_dir_end(&o.b);
		open_built(&o);
		assert_int_equal(look_up(&o, "f"), 0);
		assert_content(&o, "abc");
		assert_int_equal(o.e.meta.xattr_count, 2);
		assert_string_equal(metadata_xattr_name(&o.e.meta, 1), "user.big");
		assert_int_equal(o.e.meta.xattrs[1].value_size, sizeof(big) - 9);
		assert_memory_equal(metadata_xattr_value(&o.e.meta, 1), big + 9, sizeof(big) - 9);
		assert_int_equal(o.e.meta.acl_users.items[0].permissions, 7);
		assert_true(o.e.meta.has_acl_group_obj);
		assert_memory_equal(metadata_fcaps(&o.e.meta), "caps", 4);
		assert_int_equal(o.e.meta.quota_projid, 42);
		assert_int_equal(look_up(&o, "g"), 0);
		assert_int_equal(o.e.meta.xattr_count, 0);
	}
}

/* --- big directories --- */

static void name_of(unsigned i, char name[32])
{
	snprintf(name, 32, "member%05u", i);
}

static void build_big(struct build *b, unsigned version, unsigned count)
{
	char name[32];

	build_init(b, version, false);
	build_root(b, NULL);
	for (unsigned i = 0; i < count; i++) {
		name_of(i, name);
		if (i % 97 == 13) {
			build_dir_begin(b, name);
			build_file(b, "x", "some content, long enough to leave a gap between heads");
			build_dir_end(b);
		} else {
			build_file(b, name, name);
		}
	}
	build_dir_end(b);
}

/* Counts its calls. */
struct counting {
	struct read_at base;
	struct read_at *below;
	unsigned calls;
	uint64_t bytes;
};

static int counting_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
			 struct err *err)
{
	struct counting *c = (struct counting *)self;

	c->calls++;
	c->bytes += size;
	return read_at_exact(c->below, buf, size, offset, err);
}

static const struct read_at_ops counting_ops = { .read = counting_read };

static void lists_in_stream_order_and_finds_every_name(void **state)
{
	static const unsigned counts[] = { 1, 2, 3, 23, 24, 25, 26, 127, 128, 129, 1000, 4000 };

	(void)state;
	for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
		AUTO(opened) struct opened o = { 0 };
		AUTO(free) struct tree_slot *slots = NULL;
		char name[32];

		build_big(&o.b, k % 2 + 1, counts[k]);
		open_built(&o);
		slots = list(&o, &o.root);
		assert_int_equal(o.root.member_count, counts[k]);
		for (unsigned i = 0; i < counts[k]; i++) {
			name_of(i, name);
			assert_member(&o, &o.root, &slots[i], name);
			assert_int_equal(look_up(&o, name), 0);
			assert_int_equal(o.e.filename_offset, slots[i].filename_offset);
		}
		assert_int_equal(look_up(&o, "member"), -ENOENT);
		assert_int_equal(look_up(&o, ""), -ENOENT);
	}
}

static void window_gives_what_single_reads_give_in_few_calls(void **state)
{
	(void)state;
	for (unsigned version = 1; version <= 2; version++) {
		enum { COUNT = 4000 };
		AUTO(opened) struct opened o = { 0 };
		AUTO(free) struct tree_slot *slots = NULL;
		AUTO(tree_window) struct tree_window w;
		AUTO(tree_entry) struct tree_entry single;
		struct counting c = { .base = { &counting_ops, 0 } };

		tree_window_init(&w);
		tree_entry_init(&single);
		build_big(&o.b, version, COUNT);
		open_built(&o);
		c.base.size = o.meta.base.size;
		c.below = &o.meta.base;
		slots = list(&o, &o.root);
		for (size_t i = 0; i < COUNT; i++) {
			assert_int_equal(tree_window_member(&w, &o.tree, &c.base, &o.root, slots,
							    COUNT, i, &o.e, &o.err), 0);
			assert_int_equal(tree_member(&o.tree, &o.meta.base, &o.root, &slots[i],
						     &single, NULL), 0);
			assert_string_equal(tree_entry_name(&o.e), tree_entry_name(&single));
			assert_int_equal(o.e.entry_offset, single.entry_offset);
			assert_int_equal(o.e.content_offset, single.content_offset);
			assert_int_equal(o.e.meta.mode, single.meta.mode);
			assert_int_equal(o.e.dir_end, single.dir_end);
		}
		assert_true(c.calls <= o.meta.base.size / TREE_WINDOW_SIZE + 2);
		assert_true(c.bytes <= o.meta.base.size);
	}
}

/* Slots that lead to one place, in it or outside of the folder: each is refused by itself. */
static void slots_for_one_place_are_not_searched_for_each(void **state)
{
	enum { COUNT = 500000, SECONDS_MAX = 20 };
	AUTO(opened) struct opened o = { 0 };
	AUTO(free) struct tree_slot *slots = calloc(COUNT, sizeof(*slots));
	AUTO(tree_window) struct tree_window w;
	clock_t begin = clock();
	uint64_t place;

	(void)state;
	assert_non_null(slots);
	tree_window_init(&w);
	build_all_kinds(&o.b, 2, false);
	open_built(&o);
	place = o.root.entry_offset + 100;
	for (size_t i = 0; i < COUNT; i++) {
		if (i == COUNT / 2)
			place = o.root.goodbye_offset;
		slots[i] = (struct tree_slot){ 1, place, place + 100, place };
	}
	slots[COUNT / 2 - 1].limit = place;
	for (size_t i = 0; i < COUNT; i++)
		assert_int_equal(tree_window_member(&w, &o.tree, &o.meta.base, &o.root, slots,
						    COUNT, i, &o.e, NULL), -EBADMSG);
	assert_true((clock() - begin) / CLOCKS_PER_SEC < SECONDS_MAX);
}

static void usual_member_costs_one_read(void **state)
{
	AUTO(opened) struct opened o = { 0 };
	AUTO(free) struct tree_slot *slots = NULL;
	struct counting c = { .base = { &counting_ops, 0 } };

	(void)state;
	build_all_kinds(&o.b, 2, false);
	open_built(&o);
	slots = list(&o, &o.root);
	c.base.size = o.meta.base.size;
	c.below = &o.meta.base;
	for (size_t i = 0; i < o.root.member_count; i++) {
		c.calls = 0;
		assert_int_equal(tree_member(&o.tree, &c.base, &o.root, &slots[i], &o.e, NULL), 0);
		assert_int_equal(c.calls, o.e.is_hardlink ? 2 : 1);
	}
	c.calls = 0;
	assert_int_equal(tree_lookup(&o.tree, &c.base, &o.root, "char", 4, &o.e, NULL), 0);
	assert_int_equal(c.calls, 2); /* table and head */
}

/* --- names with one hash --- */

static void finds_all_names_of_one_hash(void **state)
{
	enum { COUNT = 40 };

	(void)state;
	/* Give each name in turn its own hash and lend the same to members around it. */
	for (unsigned wanted = 0; wanted < COUNT; wanted++) {
		AUTO(opened) struct opened o = { 0 };
		char name[32];
		uint64_t hash;

		build_init(&o.b, 2, false);
		build_root(&o.b, NULL);
		name_of(wanted, name);
		hash = siphash_name(name, strlen(name));
		for (unsigned i = 0; i < COUNT; i++) {
			name_of(i, name);
			build_file(&o.b, name, name);
			if (i % 3)
				build_dir_of(&o.b)->slots[i].hash = hash;
		}
		build_dir_end(&o.b);
		open_built(&o);
		name_of(wanted, name);
		assert_int_equal(look_up(&o, name), 0);
		assert_content(&o, name);
		assert_int_equal(look_up(&o, "another"), -ENOENT);
	}
}

static void accepts_repeated_names(void **state)
{
	AUTO(opened) struct opened o = { 0 };
	AUTO(free) struct tree_slot *slots = NULL;

	(void)state;
	build_init(&o.b, 1, false);
	build_root(&o.b, NULL);
	build_file(&o.b, "same", "1");
	build_file(&o.b, "same", "2");
	build_file(&o.b, "same", "3");
	build_dir_end(&o.b);
	open_built(&o);
	slots = list(&o, &o.root);
	for (unsigned i = 0; i < 3; i++) {
		assert_member(&o, &o.root, &slots[i], "same");
		assert_content(&o, (const char *[]){ "1", "2", "3" }[i]);
	}
	assert_int_equal(look_up(&o, "same"), 0);
}

static void build_one_hash(struct build *b, unsigned count)
{
	char name[32];

	build_init(b, 2, false);
	build_root(b, NULL);
	for (unsigned i = 0; i < count; i++) {
		name_of(i, name);
		build_special(b, name, PXAR_MODE_FIFO);
		build_dir_of(b)->slots[i].hash = siphash_name("x", 1);
	}
	build_dir_end(b);
}

static void refuses_to_compare_names_of_one_hash_for_ever(void **state)
{
	AUTO(opened) struct opened most = { 0 }, more = { 0 };

	(void)state;
	build_one_hash(&most.b, TREE_COLLISION_MAX);
	open_built(&most);
	assert_int_equal(look_up(&most, "x"), -ENOENT);
	build_one_hash(&more.b, TREE_COLLISION_MAX + 1);
	open_built(&more);
	assert_int_equal(look_up(&more, "x"), -EBADMSG);
}

/* --- content --- */

static void accepts_both_size_forms_of_split_files(void **state)
{
	AUTO(opened) struct opened o = { 0 };
	AUTO(free) struct tree_slot *slots = NULL;

	(void)state;
	build_init(&o.b, 2, false);
	build_root(&o.b, NULL);
	build_file(&o.b, "a", "new");
	build_dir_of(&o.b)->slots[0].size = UINT64_MAX; /* a large file, newly written */
	build_file(&o.b, "b", "reused");
	build_dir_of(&o.b)->slots[1].size -= 6;
	build_dir_end(&o.b);
	open_built(&o);
	slots = list(&o, &o.root);
	assert_member(&o, &o.root, &slots[0], "a");
	assert_content(&o, "new");
	assert_member(&o, &o.root, &slots[1], "b");
	assert_content(&o, "reused");
}

static void refuses_payload_that_is_not_what_is_referenced(void **state)
{
	AUTO(opened) struct opened o = { 0 };
	struct read_at_memory shorter;
	uint64_t begin = 0;

	(void)state;
	build_example(&o.b, 2);
	open_built(&o);
	assert_int_equal(look_up(&o, "a.txt"), 0);
	assert_int_equal(tree_payload_check(&o.e, &o.payload.base, &begin, NULL), 0);
	assert_int_equal(begin, 32);
	for (size_t size = 0; size < 38; size++) {
		read_at_memory_init(&shorter, o.b.payload.data, size);
		assert_int_equal(tree_payload_check(&o.e, &shorter.base, &begin, NULL), -EBADMSG);
	}
	o.b.payload.data[24]++; /* size */
	assert_int_equal(tree_payload_check(&o.e, &o.payload.base, &begin, NULL), -EBADMSG);
	o.b.payload.data[24]--;
	o.b.payload.data[16]++; /* type */
	assert_int_equal(tree_payload_check(&o.e, &o.payload.base, &begin, NULL), -EBADMSG);
	o.b.payload.data[16]--;
	for (uint64_t offset = 0; offset < 64; offset++) {
		o.e.content_offset = offset;
		if (offset != 16)
			assert_int_equal(tree_payload_check(&o.e, &o.payload.base, &begin, NULL),
					 -EBADMSG);
	}
	o.e.content_offset = UINT64_MAX - 10;
	assert_int_equal(tree_payload_check(&o.e, &o.payload.base, &begin, NULL), -EBADMSG);
}

static void refuses_wrong_payload_markers(void **state)
{
	AUTO(build) struct build b;
	struct read_at_memory m;

	(void)state;
	build_example(&b, 2);
	for (size_t size = 0; size < b.payload.size; size++) {
		read_at_memory_init(&m, b.payload.data, size);
		assert_int_equal(tree_payload_markers(&m.base, NULL), -EBADMSG);
	}
	read_at_memory_init(&m, b.payload.data, b.payload.size);
	for (size_t i = 0; i < b.payload.size; i++) {
		bool marker = i < 16 || i >= b.payload.size - 16;

		b.payload.data[i] ^= 1;
		assert_int_equal(tree_payload_markers(&m.base, NULL), marker ? -EBADMSG : 0);
		b.payload.data[i] ^= 1;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_worked_example_of_version_1),
		cmocka_unit_test(reads_worked_example_of_version_2),
		cmocka_unit_test(reads_empty_archives),
		cmocka_unit_test(accepts_root_tail_at_its_entry),
		cmocka_unit_test(refuses_root_tail_elsewhere),
		cmocka_unit_test(walks_paths_to_every_kind),
		cmocka_unit_test(entry_is_found_again_by_its_offset),
		cmocka_unit_test(reads_all_attributes),
		cmocka_unit_test(lists_in_stream_order_and_finds_every_name),
		cmocka_unit_test(window_gives_what_single_reads_give_in_few_calls),
		cmocka_unit_test(slots_for_one_place_are_not_searched_for_each),
		cmocka_unit_test(usual_member_costs_one_read),
		cmocka_unit_test(finds_all_names_of_one_hash),
		cmocka_unit_test(accepts_repeated_names),
		cmocka_unit_test(refuses_to_compare_names_of_one_hash_for_ever),
		cmocka_unit_test(accepts_both_size_forms_of_split_files),
		cmocka_unit_test(refuses_payload_that_is_not_what_is_referenced),
		cmocka_unit_test(refuses_wrong_payload_markers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
