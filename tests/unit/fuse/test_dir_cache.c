/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/dir_cache.h"

#include "fuse/inode.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* A golden archive behind a stream, its chunks in memory or not. */
struct opened {
	struct chunk_cache *chunks;
	struct fetch *fetch;
	struct stream *stream;
	struct stream_view view;
	struct tree tree;
	struct err err;
};

static int open_golden(void **state)
{
	struct opened *o = calloc(1, sizeof(*o));
	int fd = open("tests/golden/files/split.mpxar", O_RDONLY | O_CLOEXEC);

	assert_non_null(o);
	assert_true(fd >= 0);
	o->chunks = chunk_cache_new(64 << 20);
	o->fetch = fetch_new(o->chunks, 1);
	assert_int_equal(stream_new_file(&o->stream, o->fetch, fd, CHUNK_META, "split", &o->err),
			 0);
	stream_view_init(&o->view, o->stream);
	*state = o;
	return 0;
}

static int close_golden(void **state)
{
	struct opened *o = *state;

	stream_view_release(&o->view);
	stream_free(o->stream);
	fetch_free(o->fetch);
	chunk_cache_free(o->chunks);
	free(o);
	return 0;
}

static void open_tree(struct opened *o)
{
	assert_int_equal(tree_open(&o->tree, stream_read_at(o->stream), &o->err), 0);
}

static struct folder *read_root(struct opened *o, struct dir_cache *c)
{
	struct folder *f = NULL;

	assert_int_equal(dir_cache_read(c, INODE_ROOT, &o->tree, &o->view, o->tree.meta_size, &f,
					&o->err),
			 0);
	return f;
}

static void members_are_in_stream_order(void **state)
{
	struct opened *o = *state;
	AUTO(dir_cache) struct dir_cache *c = dir_cache_new(1 << 20, 1 << 20);
	struct folder *f;

	open_tree(o);
	f = read_root(o, c);
	assert_true(f->dir.member_count > 3);
	for (size_t i = 1; i < f->dir.member_count; i++)
		assert_true(f->slots[i].filename_offset > f->slots[i - 1].filename_offset);
	folder_unref(f);
}

static void the_second_question_is_a_hit(void **state)
{
	struct opened *o = *state;
	AUTO(dir_cache) struct dir_cache *c = dir_cache_new(1 << 20, 1 << 20);
	struct dir_cache_stats stats;
	struct folder *first, *second;

	open_tree(o);
	assert_null(dir_cache_get(c, INODE_ROOT));
	first = read_root(o, c);
	second = dir_cache_get(c, INODE_ROOT);
	assert_ptr_equal(first, second);
	dir_cache_stats(c, &stats);
	assert_int_equal(stats.hits, 1);
	assert_int_equal(stats.misses, 1);
	assert_int_equal(stats.count, 1);
	folder_unref(first);
	folder_unref(second);
}

static void who_reads_it_too_gets_the_one_that_is_there(void **state)
{
	struct opened *o = *state;
	AUTO(dir_cache) struct dir_cache *c = dir_cache_new(1 << 20, 1 << 20);
	struct folder *first, *second;

	open_tree(o);
	first = read_root(o, c);
	second = read_root(o, c);
	assert_ptr_equal(first, second);
	folder_unref(first);
	folder_unref(second);
}

static void refuses_a_folder_over_the_bound(void **state)
{
	struct opened *o = *state;
	AUTO(dir_cache) struct dir_cache *c = NULL, *exact = NULL;
	struct dir_cache_stats stats;
	struct folder *f = NULL;
	struct tree_dir dir;
	size_t size;

	open_tree(o);
	assert_int_equal(tree_dir_open(&o->tree, stream_read_at(o->stream), o->tree.meta_size,
				       &dir, &o->err),
			 0);
	size = sizeof(*f) + dir.member_count * sizeof(f->slots[0]);
	c = dir_cache_new(1 << 20, size - 1);
	assert_int_equal(dir_cache_read(c, INODE_ROOT, &o->tree, &o->view, o->tree.meta_size, &f,
					&o->err),
			 -E2BIG);
	assert_null(f);
	dir_cache_stats(c, &stats);
	assert_int_equal(stats.count, 0);
	exact = dir_cache_new(1 << 20, size);
	f = read_root(o, exact);
	assert_int_equal(f->dir.member_count, dir.member_count);
	folder_unref(f);
}

static void the_bound_holds_but_for_the_newest(void **state)
{
	struct opened *o = *state;
	AUTO(dir_cache) struct dir_cache *c = dir_cache_new(1, 1 << 20);
	struct dir_cache_stats stats;
	struct folder *root, *sub = NULL;
	uint64_t sub_end = 0;

	open_tree(o);
	root = read_root(o, c);
	dir_cache_stats(c, &stats);
	assert_int_equal(stats.count, 1);
	for (size_t i = 0; i < root->dir.member_count; i++)
		if (root->slots[i].end == root->slots[i].limit)
			sub_end = root->slots[i].end;
	assert_true(sub_end > 0);
	assert_int_equal(dir_cache_read(c, sub_end << 1 | 1, &o->tree, &o->view, sub_end, &sub,
					&o->err),
			 0);
	dir_cache_stats(c, &stats);
	assert_int_equal(stats.count, 1);
	assert_null(dir_cache_get(c, INODE_ROOT));
	/* evicted, but ours */
	assert_true(root->dir.end == o->tree.meta_size);
	folder_unref(root);
	folder_unref(sub);
}

static void missing_bytes_change_nothing(void **state)
{
	struct opened *o = *state;
	AUTO(dir_cache) struct dir_cache *c = dir_cache_new(1 << 20, 1 << 20);
	struct dir_cache_stats stats;
	struct folder *f = NULL;

	o->tree = (struct tree){ .version = PXAR_VERSION_2,
				 .meta_size = stream_size(o->stream),
				 .root_entry_offset = 24 };
	assert_int_equal(dir_cache_read(c, INODE_ROOT, &o->tree, &o->view, o->tree.meta_size, &f,
					&o->err),
			 -EAGAIN);
	assert_null(f);
	assert_true(o->view.is_missing);
	dir_cache_stats(c, &stats);
	assert_int_equal(stats.count, 0);
}

static void refuses_a_place_where_no_folder_ends(void **state)
{
	struct opened *o = *state;
	AUTO(dir_cache) struct dir_cache *c = dir_cache_new(1 << 20, 1 << 20);
	struct folder *f = NULL;

	open_tree(o);
	for (uint64_t end = 0; end < 500; end += 7)
		assert_int_equal(dir_cache_read(c, 99, &o->tree, &o->view, end, &f, &o->err),
				 -EBADMSG);
	assert_null(dir_cache_get(c, 99));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(members_are_in_stream_order, open_golden,
						close_golden),
		cmocka_unit_test_setup_teardown(the_second_question_is_a_hit, open_golden,
						close_golden),
		cmocka_unit_test_setup_teardown(who_reads_it_too_gets_the_one_that_is_there,
						open_golden, close_golden),
		cmocka_unit_test_setup_teardown(refuses_a_folder_over_the_bound, open_golden,
						close_golden),
		cmocka_unit_test_setup_teardown(the_bound_holds_but_for_the_newest, open_golden,
						close_golden),
		cmocka_unit_test_setup_teardown(missing_bytes_change_nothing, open_golden,
						close_golden),
		cmocka_unit_test_setup_teardown(refuses_a_place_where_no_folder_ends, open_golden,
						close_golden),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
