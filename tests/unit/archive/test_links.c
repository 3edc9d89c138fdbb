/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/links.h"

#include "archive/base/le.h"
#include "tests/unit/archive/build_archive.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>

#include <cmocka.h>

enum { FIRST_NAME_SIZE = 6 }; /* "first" and NUL */

static const uint64_t SECRET = 0x0123456789abcdef;

/* "first" (3 names), "only" (1), a symlink, a folder with a link in it. */
static uint64_t build_linked(struct build *b, unsigned version)
{
	uint64_t first;

	build_init(b, version, false);
	build_root(b, version == PXAR_VERSION_2 ? "{}" : NULL);
	first = build_file(b, "first", "some content, more than an item's header");
	build_hardlink(b, "link", first, "first");
	build_file(b, "only", "");
	build_symlink(b, "sym", "first");
	build_dir_begin(b, "sub");
	build_hardlink(b, "again", first, "first");
	build_dir_end(b);
	build_dir_end(b);
	return first;
}

static int count(const struct build *b, size_t size, struct links *l, struct err *err)
{
	struct read_at_memory meta;
	struct tree tree;
	int rc;

	read_at_memory_init(&meta, b->meta.data, b->meta.size);
	rc = tree_open(&tree, &meta.base, err);
	if (rc < 0)
		return rc;
	meta.base.size = size;
	return links_read(l, &tree, &meta.base, SECRET, err);
}

static void counts_names(unsigned version)
{
	AUTO(build) struct build b;
	AUTO(links) struct links l;
	struct err err = ERR_INIT;
	uint64_t first = build_linked(&b, version);
	uint64_t entry = first + PXAR_HEADER_SIZE + FIRST_NAME_SIZE;

	links_init(&l);
	assert_int_equal(count(&b, b.meta.size, &l, &err), 0);
	assert_int_equal(links_names(&l, entry), 3);
	assert_int_equal(links_names(&l, first), 1);
	assert_int_equal(links_names(&l, entry + 1), 1);
	assert_int_equal(l.count, 1);
}

static void counts_names_of_a_split_archive(void **state)
{
	(void)state;
	counts_names(PXAR_VERSION_2);
}

static void counts_names_of_a_single_stream(void **state)
{
	(void)state;
	counts_names(PXAR_VERSION_1);
}

static void counts_one_name_where_there_are_no_links(void **state)
{
	AUTO(build) struct build b;
	AUTO(links) struct links l;
	struct err err = ERR_INIT;

	(void)state;
	build_init(&b, PXAR_VERSION_2, false);
	build_root(&b, NULL);
	build_file(&b, "a", "a");
	build_dir_end(&b);
	links_init(&l);
	assert_int_equal(count(&b, b.meta.size, &l, &err), 0);
	assert_int_equal(links_names(&l, 100), 1);
	assert_int_equal(l.capacity, 0);
}

static void grows_with_many_linked_files(void **state)
{
	AUTO(build) struct build b;
	AUTO(links) struct links l;
	struct err err = ERR_INIT;
	uint64_t offsets[500];
	char name[16], link[16];

	(void)state;
	build_init(&b, PXAR_VERSION_2, false);
	build_root(&b, NULL);
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "f%03d", i);
		snprintf(link, sizeof(link), "l%03d", i);
		offsets[i] = build_file(&b, name, "");
		for (int k = 0; k <= i % 3; k++)
			build_hardlink(&b, link, offsets[i], name);
	}
	build_dir_end(&b);
	links_init(&l);
	assert_int_equal(count(&b, b.meta.size, &l, &err), 0);
	assert_int_equal(l.count, 500);
	for (int i = 0; i < 500; i++)
		assert_int_equal(links_names(&l, offsets[i] + PXAR_HEADER_SIZE + 5), 2 + i % 3);
}

/* Counts what is asked for. */
struct counting {
	struct read_at base;
	struct read_at *below;
	uint64_t bytes;
};

static int counting_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
			 struct err *err)
{
	struct counting *c = (struct counting *)self;

	c->bytes += size;
	return read_at_exact(c->below, buf, size, offset, err);
}

static void reads_no_more_for_links_to_all_places(void **state)
{
	enum { FILES = 1000, TARGET_SIZE = 3000 };
	static const struct read_at_ops ops = { .read = counting_read };
	AUTO(build) struct build b;
	AUTO(links) struct links l;
	struct read_at_memory meta;
	struct counting c = { .below = &meta.base };
	struct err err = ERR_INIT;
	uint64_t offsets[FILES];
	char name[16], link[16], target[TARGET_SIZE + 1];
	struct tree tree;

	(void)state;
	memset(target, 't', TARGET_SIZE);
	target[TARGET_SIZE] = '\0';
	build_init(&b, PXAR_VERSION_2, false);
	build_root(&b, NULL);
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%03d", i);
		snprintf(link, sizeof(link), "s%03d", i);
		offsets[i] = build_file(&b, name, "");
		build_symlink(&b, link, target);
	}
	for (int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%03d", i);
		snprintf(link, sizeof(link), "l%03d", i);
		build_hardlink(&b, link, offsets[i], name);
	}
	build_dir_end(&b);
	read_at_memory_init(&meta, b.meta.data, b.meta.size);
	c.base = (struct read_at){ .ops = &ops, .size = b.meta.size };
	links_init(&l);
	assert_int_equal(tree_open(&tree, &c.base, &err), 0);
	c.bytes = 0;
	assert_int_equal(links_read(&l, &tree, &c.base, SECRET, &err), 0);
	assert_int_equal(l.count, FILES);
	assert_in_range(c.bytes, 1, b.meta.size);
}

static void refuses_input_cut_at_every_byte(void **state)
{
	AUTO(build) struct build b;
	struct err err = ERR_INIT;
	uint64_t offset = 0;

	(void)state;
	build_linked(&b, PXAR_VERSION_2);
	for (size_t size = 0; size < b.meta.size; size++) {
		AUTO(links) struct links l;
		int rc;

		links_init(&l);
		rc = count(&b, size, &l, &err);
		/* cut between two items it is a shorter run of items: the tree knows better */
		if (rc == 0)
			offset = size;
		else
			assert_int_equal(rc, -EBADMSG);
	}
	assert_true(offset > 0);
}

static void refuses_links_that_lead_nowhere(void **state)
{
	static const uint64_t distances[] = { 0, 1, 5000, UINT64_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(distances) / sizeof(distances[0]); i++) {
		AUTO(build) struct build b;
		AUTO(links) struct links l;
		struct err err = ERR_INIT;

		build_init(&b, PXAR_VERSION_2, false);
		build_root(&b, NULL);
		build_file(&b, "first", "x");
		build_hardlink_raw(&b, "link", distances[i], "first");
		build_dir_end(&b);
		links_init(&l);
		assert_int_equal(count(&b, b.meta.size, &l, &err), -EBADMSG);
	}
}

static void refuses_an_item_of_no_known_type(void **state)
{
	AUTO(build) struct build b;
	AUTO(links) struct links l;
	struct err err = ERR_INIT;
	uint64_t first = build_linked(&b, PXAR_VERSION_2);

	(void)state;
	build_patch(&b, first, 12345);
	links_init(&l);
	assert_int_equal(count(&b, b.meta.size, &l, &err), -EBADMSG);
}

/* A stream of 2^40 bytes and more, of which only the end holds anything. */
struct virtual_stream {
	struct read_at base;
	uint64_t begin; /* of what it holds */
	uint8_t *bytes;
};

static int virtual_read(struct read_at *self, void *buf, size_t size, uint64_t offset,
			struct err *err)
{
	struct virtual_stream *v = (struct virtual_stream *)self;

	(void)err;
	memset(buf, 0, size);
	if (offset >= v->begin)
		memcpy(buf, v->bytes + (offset - v->begin), size);
	return 0;
}

/* A member "a" that links to `target`. */
static uint8_t *put_link(uint8_t *to, uint64_t own_offset, uint64_t target)
{
	le64_put(to, PXAR_FILENAME);
	le64_put(to + 8, PXAR_HEADER_SIZE + 2);
	memcpy(to + 16, "a", 2);
	le64_put(to + 18, PXAR_HARDLINK);
	le64_put(to + 26, PXAR_HEADER_SIZE + 8 + 2);
	le64_put(to + 34, own_offset - target);
	memcpy(to + 42, "a", 2);
	return to + 44;
}

/* Offsets that all meet at one place of a table which multiplies them by 2^64 over the golden
 * ratio and takes bits 32 to 51, as this one did. */
static void targets_that_meet_elsewhere_do_not_meet_here(void **state)
{
	enum { LINK_SIZE = 44, ROWS = 400, COLUMNS = 700, SECONDS_MAX = 10 };
	static const struct read_at_ops ops = { .read = virtual_read };
	const uint64_t row = 778665590, column = 416653407;
	struct virtual_stream v = { .begin = UINT64_C(1) << 40 };
	struct tree tree = { .version = PXAR_VERSION_2, .root_entry_offset = v.begin };
	AUTO(links) struct links l;
	struct err err = ERR_INIT;
	clock_t begin = clock();
	uint8_t *p;

	(void)state;
	links_init(&l);
	v.base = (struct read_at){ .ops = &ops, .size = v.begin + ROWS * COLUMNS * LINK_SIZE };
	v.bytes = p = malloc(ROWS * COLUMNS * LINK_SIZE);
	for (uint64_t i = 1; i <= ROWS; i++)
		for (uint64_t k = 1; k <= COLUMNS; k++)
			p = put_link(p, v.begin + (uint64_t)(p - v.bytes), i * row + k * column);
	tree.meta_size = v.base.size;
	assert_int_equal(links_read(&l, &tree, &v.base, SECRET, &err), -EBADMSG);
	assert_true((clock() - begin) / CLOCKS_PER_SEC < SECONDS_MAX);
	free(v.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counts_names_of_a_split_archive),
		cmocka_unit_test(counts_names_of_a_single_stream),
		cmocka_unit_test(counts_one_name_where_there_are_no_links),
		cmocka_unit_test(grows_with_many_linked_files),
		cmocka_unit_test(reads_no_more_for_links_to_all_places),
		cmocka_unit_test(refuses_input_cut_at_every_byte),
		cmocka_unit_test(refuses_links_that_lead_nowhere),
		cmocka_unit_test(refuses_an_item_of_no_known_type),
		cmocka_unit_test(targets_that_meet_elsewhere_do_not_meet_here),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
