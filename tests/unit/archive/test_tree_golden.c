/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The official client's archives of one folder, legacy and split, hold the same, and what a
 * reader from front to back finds.
 */
#include "archive/decoder.h"
#include "archive/tree.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct file {
	uint8_t *data;
	struct read_at_memory source;
};

static void file_load(struct file *f, const char *path)
{
	AUTO(file) FILE *in = fopen(path, "rb");
	long size;

	assert_non_null(in);
	assert_int_equal(fseek(in, 0, SEEK_END), 0);
	size = ftell(in);
	rewind(in);
	f->data = malloc((size_t)size);
	assert_non_null(f->data);
	assert_int_equal(fread(f->data, 1, (size_t)size, in), size);
	read_at_memory_init(&f->source, f->data, (size_t)size);
}

struct side {
	struct file meta, payload;
	struct tree tree;
	struct tree_window window;
	struct tree_entry e;
};

static void side_release(struct side *s)
{
	tree_window_release(&s->window);
	tree_entry_release(&s->e);
	free(s->meta.data);
	free(s->payload.data);
}
DEFINE_AUTO_STRUCT(side)

static void side_open(struct side *s, const char *meta, const char *payload,
		      struct tree_dir *root)
{
	struct err err = ERR_INIT;

	tree_window_init(&s->window);
	tree_entry_init(&s->e);
	file_load(&s->meta, meta);
	if (payload)
		file_load(&s->payload, payload);
	if (tree_open(&s->tree, &s->meta.source.base, &err) ||
	    tree_dir_open(&s->tree, &s->meta.source.base, s->tree.meta_size, root, &err))
		fail_msg("%s", err.text);
}

static struct tree_slot *side_list(struct side *s, const struct tree_dir *dir)
{
	struct tree_slot *slots = calloc(dir->member_count + 1, sizeof(*slots));

	assert_non_null(slots);
	assert_int_equal(tree_dir_slots(&s->tree, &s->meta.source.base, dir, slots, NULL), 0);
	return slots;
}

static void side_member(struct side *s, const struct tree_dir *dir,
			const struct tree_slot *slots, size_t i)
{
	AUTO(tree_entry) struct tree_entry found;
	struct err err = ERR_INIT;

	if (tree_window_member(&s->window, &s->tree, &s->meta.source.base, dir, slots,
			       dir->member_count, i, &s->e, &err))
		fail_msg("%s", err.text);
	tree_entry_init(&found);
	assert_int_equal(tree_lookup(&s->tree, &s->meta.source.base, dir, tree_entry_name(&s->e),
				     s->e.name.size - 1, &found, NULL), 0);
	assert_int_equal(found.filename_offset, s->e.filename_offset);
	assert_int_equal(found.entry_offset, s->e.entry_offset);
	assert_int_equal(found.dir_end, s->e.dir_end);
}

static const uint8_t *side_content(struct side *s)
{
	uint64_t begin;

	if (s->tree.version == PXAR_VERSION_1)
		return s->meta.data + s->e.content_offset;
	assert_int_equal(tree_payload_check(&s->e, &s->payload.source.base, &begin, NULL), 0);
	return s->payload.data + begin;
}

static void assert_metadata_equal(const struct metadata *a, const struct metadata *b)
{
	assert_int_equal(a->mode, b->mode);
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->uid, b->uid);
	assert_int_equal(a->gid, b->gid);
	assert_int_equal(a->mtime_sec, b->mtime_sec);
	assert_int_equal(a->mtime_nsec, b->mtime_nsec);
	assert_int_equal(a->xattr_count, b->xattr_count);
	assert_int_equal(a->acl_users.count, b->acl_users.count);
	assert_int_equal(a->acl_default_users.count, b->acl_default_users.count);
	assert_int_equal(a->bytes.size, b->bytes.size);
	if (a->bytes.size)
		assert_memory_equal(a->bytes.data, b->bytes.data, a->bytes.size);
}

static void assert_sides_equal(struct side *a, struct side *b)
{
	assert_string_equal(tree_entry_name(&a->e), tree_entry_name(&b->e));
	assert_metadata_equal(&a->e.meta, &b->e.meta);
	assert_int_equal(a->e.is_hardlink, b->e.is_hardlink);
	assert_int_equal(a->e.content_size, b->e.content_size);
	assert_int_equal(a->e.device_major, b->e.device_major);
	assert_int_equal(a->e.device_minor, b->e.device_minor);
	assert_int_equal(a->e.text.size, b->e.text.size);
	if (a->e.text.size)
		assert_string_equal(tree_entry_target(&a->e), tree_entry_target(&b->e));
	if ((a->e.meta.mode & PXAR_MODE_TYPE) == PXAR_MODE_REGULAR)
		assert_memory_equal(side_content(a), side_content(b), a->e.content_size);
}

/* Returns the number of members met. */
static unsigned compare_dirs(struct side *a, const struct tree_dir *dir_a, struct side *b,
			     const struct tree_dir *dir_b)
{
	AUTO(free) struct tree_slot *slots_a = side_list(a, dir_a);
	AUTO(free) struct tree_slot *slots_b = side_list(b, dir_b);
	unsigned count = 0;

	assert_int_equal(dir_a->member_count, dir_b->member_count);
	for (size_t i = 0; i < dir_a->member_count; i++, count++) {
		struct tree_dir sub_a, sub_b;

		side_member(a, dir_a, slots_a, i);
		side_member(b, dir_b, slots_b, i);
		assert_sides_equal(a, b);
		if (!metadata_is_directory(&a->e.meta))
			continue;
		assert_int_equal(tree_member_dir(&a->tree, &a->meta.source.base, &a->e, &sub_a,
						 NULL), 0);
		assert_int_equal(tree_member_dir(&b->tree, &b->meta.source.base, &b->e, &sub_b,
						 NULL), 0);
		count += compare_dirs(a, &sub_a, b, &sub_b);
	}
	return count;
}

static unsigned count_lines(const char *path)
{
	AUTO(file) FILE *in = fopen(path, "rb");
	unsigned lines = 0;

	assert_non_null(in);
	for (int c; (c = getc(in)) != EOF;)
		lines += c == '\n';
	return lines;
}

static void legacy_and_split_hold_the_same(void **state)
{
	AUTO(side) struct side legacy = { 0 }, split = { 0 };
	struct tree_dir legacy_root, split_root;

	(void)state;
	side_open(&legacy, "tests/golden/files/legacy.pxar", NULL, &legacy_root);
	side_open(&split, "tests/golden/files/split.mpxar", "tests/golden/files/split.ppxar",
		  &split_root);
	assert_int_equal(legacy.tree.version, PXAR_VERSION_1);
	assert_int_equal(split.tree.version, PXAR_VERSION_2);
	assert_int_equal(tree_payload_markers(&split.payload.source.base, NULL), 0);
	/* The root has a row of its own. */
	assert_int_equal(compare_dirs(&legacy, &legacy_root, &split, &split_root) + 1,
			 count_lines("tests/golden/files/tree.jsonl"));
}

enum { GOLDEN_DEPTH_MAX = 64 };

/* The decoder's entries are found by name where it says they are. */
static void compare_with_decoder(struct side *s, const struct tree_dir *root)
{
	AUTO(decoder) struct decoder *d = NULL;
	struct input_memory meta = { .data = s->meta.data, .size = s->meta.source.base.size };
	struct decoder_params params = { .meta = input_memory_source(&meta) };
	struct tree_dir dirs[GOLDEN_DEPTH_MAX] = { *root };
	const struct decoder_event *ev;
	struct err err = ERR_INIT;
	int rc;

	assert_int_equal(decoder_new(&d, &params, &err), 0);
	while ((rc = decoder_next(d, &ev, &err)) == 0) {
		assert_true(ev->depth + 1 < GOLDEN_DEPTH_MAX);
		if (ev->kind != DECODER_ENTRY && ev->kind != DECODER_HARDLINK)
			continue;
		assert_int_equal(tree_lookup(&s->tree, &s->meta.source.base, &dirs[ev->depth - 1],
					     ev->name, ev->name_size, &s->e, &err), 0);
		assert_int_equal(s->e.filename_offset, ev->filename_offset);
		assert_int_equal(s->e.is_hardlink, ev->kind == DECODER_HARDLINK);
		if (ev->target)
			assert_string_equal(tree_entry_target(&s->e), ev->target);
		if (ev->kind == DECODER_HARDLINK)
			continue;
		assert_int_equal(s->e.entry_offset, ev->entry_offset);
		assert_int_equal(s->e.content_size, ev->content_size);
		assert_metadata_equal(&s->e.meta, ev->meta);
		if (metadata_is_directory(ev->meta))
			assert_int_equal(tree_member_dir(&s->tree, &s->meta.source.base, &s->e,
							 &dirs[ev->depth], &err), 0);
	}
	assert_int_equal(rc, 1);
}

static void random_access_finds_what_the_decoder_finds(void **state)
{
	AUTO(side) struct side legacy = { 0 }, split = { 0 };
	struct tree_dir root;

	(void)state;
	side_open(&legacy, "tests/golden/files/legacy.pxar", NULL, &root);
	compare_with_decoder(&legacy, &root);
	side_open(&split, "tests/golden/files/split.mpxar", NULL, &root);
	compare_with_decoder(&split, &root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_access_finds_what_the_decoder_finds),
		cmocka_unit_test(legacy_and_split_hold_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
