/* SPDX-License-Identifier: Apache-2.0 */
/* Walks with an older archive at hand: what waits, what is opened, what comes out. */
#include "tests/unit/client/walk_fixture.h"

#include "client/fs/delay.h"

/* Says that files called "u..." are unchanged, and of those that "ur..." is to be read all the
 * same.  A reused file's payload is written as zeros. */
struct fake {
	struct fixture *x;
	struct walk_reuse hooks;
	bool splice[20000];
	size_t added, decided, taken;
	bool next_is_spliced; /* of the file that find was asked for last */
	uint64_t sizes[20000];
	uint64_t ahead; /* payload that was announced and is not written yet */
	size_t depth, folders, decisions;
	bool finished;
	int fails;
};

static int dir_begin(void *arg, const char *name, struct err *err)
{
	struct fake *f = arg;

	(void)name;
	(void)err;
	f->depth++;
	f->folders++;
	return 0;
}

static int dir_end(void *arg, struct err *err)
{
	struct fake *f = arg;

	(void)err;
	f->depth--;
	return 0;
}

static int find(void *arg, const char *name, const struct stat *st, uint64_t *old_offset,
		struct err *err)
{
	struct fake *f = arg;

	if (f->fails)
		return err_set(err, -f->fails, "no memory for this");
	assert_true(S_ISREG(st->st_mode));
	*old_offset = 4711;
	f->next_is_spliced = strncmp(name, "ur", 2) != 0;
	return name[0] == 'u';
}

static int add(void *arg, uint64_t size, bool is_unchanged, uint64_t old_offset, struct err *err)
{
	struct fake *f = arg;

	(void)err;
	assert_true(!is_unchanged || old_offset == 4711);
	f->sizes[f->added] = size;
	f->splice[f->added++] = is_unchanged && f->next_is_spliced;
	return 0;
}

static int decide(void *arg, bool is_last, size_t *count, struct err *err)
{
	struct fake *f = arg;
	size_t waiting = f->added - f->decided;

	(void)err;
	assert_true(waiting > 0);
	*count = is_last ? waiting : (waiting + 1) / 2;
	f->decided += *count;
	f->decisions++;
	return 0;
}

static int write_ahead(struct fake *f, struct encoder *e, struct err *err)
{
	uint64_t size = f->ahead;

	f->ahead = 0;
	if (wbuf_put_zero(&f->x->payload, size) < 0)
		return -ENOMEM;
	return encoder_payload_advance(e, size, err);
}

static int take(void *arg, struct encoder *e, uint64_t *payload_offset, struct err *err)
{
	struct fake *f = arg;
	size_t i = f->taken++;

	(void)err;
	assert_true(i < f->decided);
	if (!f->splice[i])
		return 0;
	*payload_offset = encoder_payload_offset(e) + f->ahead;
	f->ahead += 16 + f->sizes[i];
	return 1;
}

static int before_payload(void *arg, struct encoder *e, struct err *err)
{
	return write_ahead(arg, e, err);
}

static int finish(void *arg, struct encoder *e, struct err *err)
{
	struct fake *f = arg;

	f->finished = true;
	return write_ahead(f, e, err);
}

static struct fake *reuse(struct fixture *x)
{
	static struct fake f;

	f = (struct fake){ .x = x };
	f.hooks = (struct walk_reuse){ dir_begin, dir_end, find, add, decide,
				       take, before_payload, finish, &f };
	x->params.reuse = &f.hooks;
	return &f;
}

static void run_through(struct fixture *x, struct fake *f)
{
	run_well(x);
	assert_int_equal(f->taken, f->added);
	assert_int_equal(f->decided, f->added);
	assert_int_equal(f->depth, 0);
	assert_true(f->finished);
	assert_int_equal(x->stats.reused_files + x->stats.opened >= x->stats.files, 1);
}

static void unchanged_files_are_not_opened(void **state)
{
	struct fixture *x = *state;
	AUTO(tree_entry) struct tree_entry e;
	struct fake *f = reuse(x);

	tree_entry_init(&e);
	make_dir("d");
	make_file("d/u1", "unchanged");
	make_file("d/u2", "also");
	make_dir("e");
	make_file("e/changed", "changed");
	make_file("e/ur", "to be read");
	make_dir("f");
	make_file("f/u", "unchanged");
	assert_int_equal(symlink("there", "f/v"), 0);
	run_through(x, f);
	assert_content(x, "e/changed", "changed", 7);
	assert_content(x, "e/ur", "to be read", 10);
	assert_int_equal(look_up(x, "d/u2", &e), 0);
	assert_int_equal(e.content_size, 4);
	assert_int_equal(look_up(x, "f/v", &e), 0);
	assert_int_equal(x->stats.files, 5);
	assert_int_equal(x->stats.reused_files, 3);
	assert_int_equal(x->stats.reused_bytes, 9 + 4 + 9);
	assert_int_equal(x->stats.bytes, 7 + 10);
	assert_int_equal(f->folders, 3);
}

static void nothing_waits_before_the_first_unchanged_file(void **state)
{
	struct fixture *x = *state;
	struct fake *f = reuse(x);

	make_file("a", "a");
	make_file("b", "b");
	make_file("v", "v");
	run_through(x, f);
	assert_int_equal(f->added, 0);
	assert_content(x, "v", "v", 1);
}

static void hard_links_stay_together_while_they_wait(void **state)
{
	struct fixture *x = *state;
	AUTO(tree_entry) struct tree_entry e;
	struct fake *f = reuse(x);

	tree_entry_init(&e);
	make_file("changed", "first");
	assert_int_equal(link("changed", "u-link"), 0);
	make_dir("u");
	make_file("u/u", "content");
	assert_int_equal(link("u/u", "u/v"), 0);
	assert_int_equal(link("u/u", "z"), 0);
	assert_int_equal(link("changed", "zz"), 0);
	make_file("y", "written late");
	assert_int_equal(link("y", "z2"), 0);
	run_through(x, f);
	assert_int_equal(x->stats.files, 3);
	assert_int_equal(x->stats.links, 5);
	assert_content(x, "u-link", "first", 5);
	assert_content(x, "zz", "first", 5);
	assert_content(x, "z2", "written late", 12);
	assert_int_equal(look_up(x, "z", &e), 0);
	assert_true(e.is_hardlink);
	assert_int_equal(e.content_size, 7);
}

static void move_and_remove(struct fixture *x, const void *data, size_t size)
{
	/* Everything has been walked when the first entry is encoded. */
	if (x->hooked || !memmem(data, size, "u-first", 7))
		return;
	x->hooked = true;
	assert_int_equal(rename("moved", "u-somewhere"), 0);
	assert_int_equal(unlink("gone/file"), 0);
	assert_int_equal(unlink("gone/other"), 0);
	make_dir("gone/other");
	assert_int_equal(unlink("w1"), 0);
}

static void says_what_was_lost_while_it_waited(void **state)
{
	struct fixture *x = *state;
	struct fake *f = reuse(x);

	make_dir("gone");
	make_file("gone/0", "0");
	make_file("gone/file", "1");
	make_file("gone/other", "2");
	make_dir("moved");
	make_file("moved/file", "3");
	make_file("w1", "links");
	assert_int_equal(link("w1", "w2"), 0);
	make_file("z", "4");
	/* Sorted first, so that all else waits. */
	make_dir("a");
	make_file("a/u-first", "unchanged");
	x->hook = move_and_remove;
	run_through(x, f);
	assert_true(x->hooked);
	assert_true(has_warning(x, "/gone/file: vanished"));
	assert_true(has_warning(x, "/gone/other: left out: it was a file and is something else"));
	assert_true(has_warning(x, "/moved/file: left out: its folder was moved"));
	assert_int_equal(x->lost, 2);
	assert_content(x, "gone/0", "0", 1);
	assert_content(x, "w2", "links", 5);
	assert_content(x, "z", "4", 1);
	assert_left_out(x, "gone/file");
	assert_left_out(x, "moved/file");
	assert_left_out(x, "w1");
}

static struct rlimit descriptors;

static void take_away(struct fixture *x, const void *data, size_t size)
{
	if (x->hooked || !memmem(data, size, "u-first", 7))
		return;
	x->hooked = true;
	descriptors = take_descriptors_away();
}

/* Not as one that somebody moved. */
static void a_folder_that_cannot_be_opened_late_ends_the_walk(void **state)
{
	struct fixture *x = *state;
	int rc;

	reuse(x);
	make_dir("a");
	make_file("a/u-first", "unchanged");
	make_dir("b");
	make_file("b/file", "to be read");
	x->hook = take_away;
	rc = run(x);
	assert_true(x->hooked);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
	assert_int_equal(rc, -EMFILE);
	assert_non_null(strstr(x->err.text, "/b/file: open its folder: Too many open files"));
}

static void many_entries_wait_in_bounded_memory(void **state)
{
	struct fixture *x = *state;
	struct fake *f = reuse(x);
	char name[40];

	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "%02d", i);
		make_dir(name);
		for (int n = 0; n < 450; n++) {
			snprintf(name, sizeof(name), "%02d/%c%03d", i, n % 10 ? 'u' : 'c', n);
			make_file(name, name);
		}
	}
	run_through(x, f);
	assert_true(f->decisions >= 2);
	assert_int_equal(x->stats.files, 18000);
	assert_int_equal(x->stats.reused_files, 16200);
	assert_content(x, "39/c440", "39/c440", 7);
	assert_content(x, "00/c000", "00/c000", 7);
}

static void failure_to_compare_ends_the_walk(void **state)
{
	struct fixture *x = *state;
	struct fake *f = reuse(x);

	make_file("u", "");
	f->fails = -ENOMEM;
	assert_int_equal(run(x), -ENOMEM);
}

static void stops_while_entries_wait(void **state)
{
	static atomic_bool stop;
	struct fixture *x = *state;

	reuse(x);
	make_file("a-u", "");
	make_file("u", "");
	atomic_store(&stop, true);
	x->params.stop = &stop;
	assert_int_equal(run(x), -ECANCELED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(unchanged_files_are_not_opened),
		TEST(nothing_waits_before_the_first_unchanged_file),
		TEST(hard_links_stay_together_while_they_wait),
		TEST(says_what_was_lost_while_it_waited),
		TEST(a_folder_that_cannot_be_opened_late_ends_the_walk),
		TEST(many_entries_wait_in_bounded_memory),
		TEST(failure_to_compare_ends_the_walk),
		TEST(stops_while_entries_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
