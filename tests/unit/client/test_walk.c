/* SPDX-License-Identifier: Apache-2.0 */
#include "walk_fixture.h"

#include <sys/resource.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

/* --- what is archived --- */

static void archives_every_type(void **state)
{
	struct fixture *x = *state;
	AUTO(tree_entry) struct tree_entry e;

	tree_entry_init(&e);
	need_root();
	make_file("file", "content");
	make_dir("dir");
	make_file("dir/inner", "");
	make_socket("socket");
	assert_int_equal(symlink("to/somewhere", "link"), 0);
	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(mknod("char", S_IFCHR | 0600, makedev(5, 70000)), 0);
	assert_int_equal(mknod("block", S_IFBLK | 0600, makedev(7, 1)), 0);
	assert_int_equal(setxattr("file", "user.a", "1", 1, 0), 0);
	run_well(x);
	assert_content(x, "file", "content", 7);
	assert_content(x, "dir/inner", "", 0);
	assert_archived(x, "dir", PXAR_MODE_DIRECTORY);
	assert_archived(x, "socket", PXAR_MODE_SOCKET);
	assert_archived(x, "fifo", PXAR_MODE_FIFO);
	assert_archived(x, "block", PXAR_MODE_BLOCK);
	assert_int_equal(look_up(x, "char", &e), 0);
	assert_int_equal(e.device_major, 5);
	assert_int_equal(e.device_minor, 70000);
	assert_int_equal(look_up(x, "link", &e), 0);
	assert_string_equal(tree_entry_target(&e), "to/somewhere");
	assert_int_equal(look_up(x, "file", &e), 0);
	assert_int_equal(e.meta.xattr_count, 1);
	assert_int_equal(x->stats.entries, 9);
	assert_int_equal(x->stats.files, 2);
	assert_int_equal(x->stats.bytes, 7);
	assert_int_equal(x->warnings.size, 0);
}

static void archives_in_one_stream(void **state)
{
	struct fixture *x = *state;
	AUTO(tree_entry) struct tree_entry e;

	tree_entry_init(&e);
	x->params.split = false;
	x->params.encoder.payload = (struct encoder_sink){ 0 };
	make_file("file", "content");
	run_well(x);
	assert_int_equal(look_up(x, "file", &e), 0);
	assert_memory_equal(x->meta.data + e.content_offset, "content", 7);
}

static int note_entry(void *arg, char type, const char *name, uint64_t size, int64_t mtime,
		      struct err *err)
{
	(void)mtime;
	(void)err;
	return wbuf_printf(arg, "%c:%s:%u ", type, name, (unsigned)size);
}

static int note_begin(void *arg, const char *name, struct err *err)
{
	(void)err;
	return wbuf_printf(arg, "%s( ", name);
}

static int note_end(void *arg, struct err *err)
{
	(void)err;
	return wbuf_printf(arg, ") ");
}

static void observe(struct fixture *x)
{
	x->params.observer = (struct walk_observer){ note_begin, note_end, note_entry, &x->events };
}

static void assert_events(struct fixture *x, const char *expected)
{
	wbuf_put_u8(&x->events, '\0');
	assert_string_equal((const char *)x->events.data, expected);
}

static void names_are_in_the_order_of_their_bytes(void **state)
{
	struct fixture *x = *state;

	observe(x);
	make_file("b", "");
	make_file("a b", "1");
	make_file("a", "");
	make_file("\xff\xfe", "");
	make_file("Z\n", "");
	make_file("\x01", "");
	make_file("aaaaaaaaaaaaaaa2", "");
	make_file("aaaaaaaaaaaaaaa1x", "");
	make_dir("a.d");
	make_file("a.d/x", "");
	run_well(x);
	assert_events(x, "f:\x01:0 f:Z\n:0 f:a:0 f:a b:1 a.d( f:x:0 ) f:aaaaaaaaaaaaaaa1x:0"
			 " f:aaaaaaaaaaaaaaa2:0 f:b:0 f:\xff\xfe:0 ");
}

static void large_folders_are_complete(void **state)
{
	struct fixture *x = *state;
	char name[100];

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%0*d", 1 + i % 60, i);
		make_file(name, "");
	}
	run_well(x);
	assert_int_equal(x->stats.entries, 3001);
}

static void further_names_are_hard_links(void **state)
{
	struct fixture *x = *state;
	AUTO(tree_entry) struct tree_entry e;
	char name[40], other[40];

	tree_entry_init(&e);
	observe(x);
	make_dir("d");
	make_file("d/first", "text");
	assert_int_equal(link("d/first", "second"), 0);
	assert_int_equal(link("d/first", "d/third"), 0);
	run_well(x);
	assert_events(x, "d( f:first:4 h:third:0 ) h:second:0 ");
	assert_int_equal(look_up(x, "second", &e), 0);
	assert_true(e.is_hardlink);
	assert_string_equal(tree_entry_target(&e), "d/first");
	assert_content(x, "d/third", "text", 4);

	for (int i = 0; i < 500; i++) { /* more than the table begins with */
		snprintf(name, sizeof(name), "d/f%d", i);
		snprintf(other, sizeof(other), "d/f%d-link", i);
		make_file(name, "x");
		assert_int_equal(link(name, other), 0);
	}
	wbuf_clear(&x->meta);
	wbuf_clear(&x->payload);
	run_well(x);
	assert_content(x, "d/f499-link", "x", 1);
	assert_int_equal(look_up(x, "d/f77-link", &e), 0);
	assert_true(e.is_hardlink);
}

static void content_goes_on_in_pieces_of_4_mib(void **state)
{
	struct fixture *x = *state;
	AUTO(free) uint8_t *text = malloc(9 << 20);
	AUTO(fd) int fd = open("big", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	for (size_t i = 0; i < 9 << 20; i++)
		text[i] = (uint8_t)(i * 7 + i / 4096);
	assert_int_equal(write(fd, text, 9 << 20), 9 << 20);
	run_well(x);
	assert_content(x, "big", text, 9 << 20);
	assert_int_equal(x->piece_max, 4 << 20);
}

/* --- patterns --- */

static void patterns_leave_out_and_are_recorded(void **state)
{
	struct fixture *x = *state;
	static const char json[] = "{\"exclude-patterns\":\"*.o\\n!keep.o\\n/d\\\\\\\"\\u001f/\\n\"}";
	struct read_at_memory m;
	struct tree tree;

	match_list_add(&x->patterns, "*.o", NULL);
	match_list_add(&x->patterns, "!keep.o", NULL);
	match_list_add(&x->patterns, "/d\\\"\x1f/", NULL);
	make_file("a.o", "");
	make_file("keep.o", "");
	make_file(".pxarexclude-cli", "of somebody else");
	make_dir("e");
	make_file("e/b.o", "");
	make_file("e/.pxarexclude-cli", "");
	run_well(x);
	assert_left_out(x, "a.o");
	assert_left_out(x, "e/b.o");
	assert_left_out(x, ".pxarexclude-cli");
	assert_archived(x, "keep.o", PXAR_MODE_REGULAR);
	assert_archived(x, "e/.pxarexclude-cli", PXAR_MODE_REGULAR);
	read_at_memory_init(&m, x->meta.data, x->meta.size);
	assert_int_equal(tree_open(&tree, &m.base, NULL), 0);
	assert_int_equal(tree.prelude_size, strlen(json));
	assert_memory_equal(x->meta.data + tree.prelude_begin, json, strlen(json));
}

static void patterns_that_are_not_utf8_cannot_be_recorded(void **state)
{
	struct fixture *x = *state;

	match_list_add(&x->patterns, "a\xff", NULL);
	assert_int_equal(run(x), -EINVAL);
	assert_non_null(strstr(x->err.text, "UTF-8"));
}

static void one_stream_records_patterns_in_a_last_file(void **state)
{
	struct fixture *x = *state;
	AUTO(tree_entry) struct tree_entry e;

	tree_entry_init(&e);
	observe(x);
	x->params.split = false;
	x->params.encoder.payload = (struct encoder_sink){ 0 };
	match_list_add(&x->patterns, "*.o", NULL);
	make_file("z", "");
	run_well(x);
	assert_events(x, "f:z:0 f:.pxarexclude-cli:4 ");
	assert_int_equal(look_up(x, ".pxarexclude-cli", &e), 0);
	assert_int_equal(e.meta.mode, 0100600);
	assert_int_equal(e.meta.mtime_sec, 0);
	assert_memory_equal(x->meta.data + e.content_offset, "*.o\n", 4);
}

static void exclude_files_act_below_their_folder(void **state)
{
	struct fixture *x = *state;

	match_list_add(&x->patterns, "*.cli", NULL);
	make_dir("d");
	make_dir("d/e");
	make_file("d/.pxarexclude", "/x\n*.o\n!a.cli\n[\n");
	make_file("d/x", "");
	make_file("d/e/x", "");
	make_file("d/e/y.o", "");
	make_file("d/e/a.cli", "");
	make_file("z.o", "");
	make_file("z.cli", "");
	run_well(x);
	assert_left_out(x, "d/x");
	assert_left_out(x, "d/e/y.o");
	assert_left_out(x, "z.cli");
	assert_archived(x, "d/e/x", PXAR_MODE_REGULAR);
	assert_archived(x, "d/e/a.cli", PXAR_MODE_REGULAR);
	assert_archived(x, "z.o", PXAR_MODE_REGULAR);
	assert_archived(x, "d/.pxarexclude", PXAR_MODE_REGULAR);
	assert_true(has_warning(x, "/d: .pxarexclude: 1 line ignored: pattern"));
	assert_int_equal(x->lost, 0);
}

static void exclude_file_may_be_a_symlink(void **state)
{
	struct fixture *x = *state;

	make_file("rules", "*.o\n");
	make_file("a.o", "");
	assert_int_equal(symlink("rules", ".pxarexclude"), 0);
	run_well(x);
	assert_left_out(x, "a.o");
	assert_archived(x, ".pxarexclude", PXAR_MODE_SYMLINK);
}

/* With each of these the official client hangs, dies or reads without end. */
static void nothing_called_pxarexclude_does_harm(void **state)
{
	struct fixture *x = *state;

	alarm(30);
	for (char name[2] = "a"; *name <= 'h'; ++*name) {
		make_dir(name);
		make_file(strcat((char[20]){ *name }, "/file"), "");
	}
	assert_int_equal(mkfifo("a/.pxarexclude", 0600), 0);
	make_socket("b/.pxarexclude");
	assert_int_equal(symlink(".pxarexclude", "c/.pxarexclude"), 0);
	assert_int_equal(symlink("/dev/zero", "d/.pxarexclude"), 0);
	make_dir("e/.pxarexclude");
	assert_int_equal(symlink("/proc/kmsg", "f/.pxarexclude"), 0);
	assert_int_equal(symlink("nowhere", "g/.pxarexclude"), 0);
	make_file("h/.pxarexclude", "*\n");
	assert_int_equal(truncate("h/.pxarexclude", 100 << 20), 0);
	run_well(x);
	alarm(0);
	for (char path[20] = "a/file"; *path <= 'h'; ++*path)
		assert_archived(x, path, PXAR_MODE_REGULAR);
	assert_true(has_warning(x, "/a: .pxarexclude: ignored: is not a regular file"));
	assert_true(has_warning(x, "/c: .pxarexclude: ignored: symlink: Too many levels"));
	assert_true(has_warning(x, "/f: .pxarexclude: ignored: leads to something else"));
	assert_true(has_warning(x, "/h: .pxarexclude: ignored: more than 4194304 bytes"));
	assert_int_equal(x->lost, 0);
}

/* --- bounds --- */

static void entries_are_bounded_along_a_path(void **state)
{
	struct fixture *x = *state;

	make_dir("a");
	make_dir("b");
	for (char path[] = "a/1"; path[2] <= '3'; path[2]++) {
		make_file(path, "");
		path[0] = 'b';
		make_file(path, "");
		path[0] = 'a';
	}
	x->params.entries_max = 5;
	run_well(x);
	x->params.entries_max = 4;
	assert_int_equal(run(x), -E2BIG);
	assert_non_null(strstr(x->err.text, "more than 4 entries"));
	assert_non_null(strstr(x->err.text, "--entries-max"));
	assert_non_null(strstr(x->err.text, "/a: "));
	x->params.entries_max = 1;
	assert_int_equal(run(x), -E2BIG);
	assert_non_null(strstr(x->err.text, "more than 1 entry "));
}

/* A path far beyond PATH_MAX, and more folders than descriptors. */
static void make_deep(int depth, int top)
{
	int fd = top;

	for (int i = 0; i < depth; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "a-name-of-20-letters", 0755), 0);
		next = openat(fd, "a-name-of-20-letters", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		if (fd != top)
			close(fd);
		fd = next;
		close(openat(fd, "z", O_WRONLY | O_CREAT, 0600));
	}
	close(fd);
}

static void limit_descriptors(rlim_t count, struct rlimit *old)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, old), 0);
	limit = *old;
	limit.rlim_cur = count;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void depth_costs_neither_descriptors_nor_failure(void **state)
{
	struct fixture *x = *state;
	AUTO(fd) int top = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct rlimit limit;

	make_deep(4096, top);
	limit_descriptors(90, &limit);
	run_well(x);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(x->stats.entries, 1 + 2 * 4096);
	assert_int_equal(x->warnings.size, 0);
}

/* A link's target is named by its path, of 4,096 bytes at most. */
static void hard_links_beyond_the_longest_path_are_said_to_be_files(void **state)
{
	struct fixture *x = *state;
	AUTO(fd) int top = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	make_deep(200, top);
	make_file("zz", "linked");
	for (int i = 0; i < 200; i++) {
		assert_int_equal(chdir("a-name-of-20-letters"), 0);
		assert_int_equal(linkat(top, "zz", AT_FDCWD, "link", 0), 0);
	}
	assert_int_equal(fchdir(top), 0);
	run_well(x);
	assert_int_equal(x->stats.skipped, 0);
	assert_true(has_warning(x, "/link: its path is too long for hard links"));
	/* Folders come before "link": the deepest is met first.  194 of them have a path that
	 * can be named; the first of those is what the others and "zz" refer to. */
	assert_int_equal(x->stats.links, 194);
}

/* At the bottom, which is written last on the way down. */
static void move_above(struct fixture *x, const void *data, size_t size)
{
	if (x->hooked || !memmem(data, size, "bottom", 6))
		return;
	x->hooked = true;
	assert_int_equal(rename("d0/d1/d2/d3/d4/d5", "moved"), 0);
}

static void move_twice(struct fixture *x, const void *data, size_t size)
{
	if (x->hooked || !memmem(data, size, "bottom", 6))
		return;
	move_above(x, data, size);
	assert_int_equal(rename("d0/d1/d2", "moved-too"), 0);
}

/* d0/d1/.../d79/bottom, and a file "z" in each. */
static void make_levels(void)
{
	char name[20];

	for (int i = 0; i < 80; i++) {
		snprintf(name, sizeof(name), "d%d", i);
		make_dir(name);
		assert_int_equal(chdir(name), 0);
		make_file("z", "");
	}
	make_file("bottom", "");
	for (int i = 0; i < 80; i++)
		assert_int_equal(chdir(".."), 0);
}

static void finds_the_way_back_when_a_folder_was_moved(void **state)
{
	struct fixture *x = *state;

	make_levels();
	x->hook = move_above;
	run_well(x);
	assert_true(x->hooked);
	assert_int_equal(x->stats.entries, 162);
	assert_int_equal(x->lost, 0);
}

static void says_what_is_lost_when_there_is_no_way_back(void **state)
{
	struct fixture *x = *state;

	make_levels();
	x->hook = move_twice;
	run_well(x);
	assert_true(x->hooked);
	assert_true(has_warning(x, "/d0/d1/d2/d3/d4: moved while it was read; 1 of its entries"));
	assert_archived(x, "d0/z", PXAR_MODE_REGULAR);
	assert_left_out(x, "d0/d1/d2/d3/d4/z");
	assert_int_equal(x->stats.entries + x->lost, 162);
}

static atomic_bool stop;

static void set_stop(struct fixture *x, const void *data, size_t size)
{
	(void)x;
	if (memmem(data, size, "second", 6))
		stop = true;
}

static void stops_when_told(void **state)
{
	struct fixture *x = *state;

	stop = false;
	x->params.stop = &stop;
	x->hook = set_stop;
	make_file("first", "");
	make_file("second", "text");
	make_file("third", "");
	assert_int_equal(run(x), -ECANCELED);
	assert_int_equal(x->stats.entries, 2);
}

static void failing_sink_ends_the_walk(void **state)
{
	struct fixture *x = *state;

	x->sink_fails = -ENOSPC;
	assert_int_equal(run(x), -ENOSPC);
	assert_string_equal(x->err.text, "the sink is full");
}

static void holes_become_zeros_without_being_read(void **state)
{
	struct fixture *x = *state;
	const size_t size = 100 << 20, at = 50 << 20;
	AUTO(fd) int fd = open("sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, "middle", 6, (off_t)at), 6);
	run_well(x);
	/* Start marker, header, content, end marker. */
	assert_int_equal(x->payload.size, 16 + 16 + size + 16);
	for (size_t i = 0; i < size; i++)
		if (x->payload.data[32 + i] != (i - at < 6 ? "middle"[i - at] : 0))
			fail_msg("byte %zu", i);
	assert_int_equal(x->stats.bytes, size);
	assert_true(x->stats.bytes - x->stats.hole_bytes < 1 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(archives_every_type),
		TEST(archives_in_one_stream),
		TEST(names_are_in_the_order_of_their_bytes),
		TEST(large_folders_are_complete),
		TEST(further_names_are_hard_links),
		TEST(content_goes_on_in_pieces_of_4_mib),
		TEST(patterns_leave_out_and_are_recorded),
		TEST(patterns_that_are_not_utf8_cannot_be_recorded),
		TEST(one_stream_records_patterns_in_a_last_file),
		TEST(exclude_files_act_below_their_folder),
		TEST(exclude_file_may_be_a_symlink),
		TEST(nothing_called_pxarexclude_does_harm),
		TEST(entries_are_bounded_along_a_path),
		TEST(depth_costs_neither_descriptors_nor_failure),
		TEST(hard_links_beyond_the_longest_path_are_said_to_be_files),
		TEST(finds_the_way_back_when_a_folder_was_moved),
		TEST(says_what_is_lost_when_there_is_no_way_back),
		TEST(stops_when_told),
		TEST(failing_sink_ends_the_walk),
		TEST(holes_become_zeros_without_being_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
