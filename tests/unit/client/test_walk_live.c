/* SPDX-License-Identifier: Apache-2.0 */
/* Walks over trees that change, cannot be read or have others mounted in them. */
#include "walk_fixture.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>

/* --- a tree that changes --- */

static void change_tree(struct fixture *x, const void *data, size_t size)
{
	if (x->hooked || !memmem(data, size, "a-first", 7))
		return;
	x->hooked = true;
	assert_int_equal(unlink("gone"), 0);
	assert_int_equal(unlink("to-fifo") | mkfifo("to-fifo", 0600), 0);
	assert_int_equal(unlink("to-link") | symlink("x", "to-link"), 0);
	assert_int_equal(unlink("to-dir") | mkdir("to-dir", 0700), 0);
	make_file("to-dir/inner", "");
	make_file("to-dir/more", "");
	assert_int_equal(rmdir("to-file"), 0);
	make_file("to-file", "text");
	assert_int_equal(rmdir("to-link2") | symlink("y", "to-link2"), 0);
	assert_int_equal(unlink("to-file2"), 0);
	make_file("to-file2", "text");
	unlink("to-socket");
	make_socket("to-socket");
}

static void entries_may_change_their_type_or_vanish(void **state)
{
	struct fixture *x = *state;

	alarm(30);
	x->hook = change_tree;
	for (size_t i = 0; i < 5; i++)
		make_file((const char *[]){ "a-first", "gone", "to-fifo", "to-link",
					    "to-dir" }[i], "");
	make_dir("to-file");
	make_dir("to-link2");
	make_file("to-socket", "");
	assert_int_equal(symlink("z", "to-file2"), 0);
	run_well(x);
	alarm(0);
	assert_left_out(x, "gone");
	assert_archived(x, "to-fifo", PXAR_MODE_FIFO);
	assert_archived(x, "to-link", PXAR_MODE_SYMLINK);
	assert_archived(x, "to-dir/inner", PXAR_MODE_REGULAR);
	assert_archived(x, "to-link2", PXAR_MODE_SYMLINK);
	assert_archived(x, "to-socket", PXAR_MODE_SOCKET);
	assert_content(x, "to-file", "text", 4);
	assert_content(x, "to-file2", "text", 4);
	assert_true(has_warning(x, "/gone: vanished"));
	assert_int_equal(x->lost, 0);
}

static void remove_listed(struct fixture *x, const void *data, size_t size)
{
	(void)data;
	(void)size;
	if (!x->hooked) /* the root's head: names are read, nothing is looked at yet */
		assert_int_equal(unlink("gone"), 0);
	x->hooked = true;
}

static void entries_may_vanish_between_listing_and_stat(void **state)
{
	struct fixture *x = *state;

	x->hook = remove_listed;
	make_file("gone", "");
	make_file("here", "");
	run_well(x);
	assert_archived(x, "here", PXAR_MODE_REGULAR);
	assert_left_out(x, "gone");
	assert_true(has_warning(x, "/gone: vanished"));
	assert_int_equal(x->lost, 0);
}

static void change_sizes(struct fixture *x, const void *data, size_t size)
{
	(void)x;
	if (memmem(data, size, "shrinks", 7))
		assert_int_equal(truncate("shrinks", 3), 0);
	if (memmem(data, size, "grows", 5))
		make_file("grows", "textmore");
}

static void sizes_are_kept_as_announced(void **state)
{
	struct fixture *x = *state;

	x->hook = change_sizes;
	make_file("grows", "text");
	make_file("shrinks", "text");
	assert_int_equal(truncate("shrinks", 10), 0);
	run_well(x);
	assert_content(x, "grows", "text", 4);
	assert_content(x, "shrinks", "tex\0\0\0\0\0\0", 10);
	assert_true(has_warning(x, "/grows: grew"));
	assert_true(has_warning(x, "/shrinks: shrank while it was read; zeros stand for its last "
				   "7 bytes"));
	assert_int_equal(x->stats.shrunk, 1);
	assert_int_equal(x->lost, 1);
}

static void rewrite(struct fixture *x, const void *data, size_t size)
{
	(void)x;
	if (memmem(data, size, "a-torn", 6))
		make_file("a-torn", "new!");
	if (memmem(data, size, "b-appended", 10))
		make_file("b-appended", "textmore");
}

static void a_file_that_changes_while_it_is_read_is_told(void **state)
{
	struct fixture *x = *state;

	static const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };

	x->hook = rewrite;
	make_file("a-torn", "text");
	assert_int_equal(utimensat(AT_FDCWD, "a-torn", old, 0), 0);
	make_file("b-appended", "text");
	make_file("c-quiet", "text");
	run_well(x);
	assert_true(has_warning(x, "/a-torn: changed while it was read"));
	assert_false(has_warning(x, "/b-appended: changed"));
	assert_false(has_warning(x, "/c-quiet"));
	assert_int_equal(x->lost, 0);
}

/* "a/..." has gone, and "z/new" and its link are what got its inode. */
static void give_inode_away(struct fixture *x, const void *data, size_t size)
{
	struct stat old, new = { 0 };
	char name[40];

	if (x->hooked || !memmem(data, size, "middle", 6))
		return;
	x->hooked = true;
	assert_int_equal(stat("a/first", &old), 0);
	assert_int_equal(unlink("a/first") | unlink("a/second"), 0);
	for (int i = 0; i < 100 && new.st_ino != old.st_ino; i++) {
		snprintf(name, sizeof(name), "a/new%d", i);
		make_file(name, "another");
		assert_int_equal(stat(name, &new), 0);
	}
	if (new.st_ino == old.st_ino)
		assert_int_equal(rename(name, "z/new") | link("z/new", "z/newer"), 0);
}

static void an_inode_that_is_another_by_now_is_no_further_name(void **state)
{
	struct fixture *x = *state;
	AUTO(tree_entry) struct tree_entry e;

	tree_entry_init(&e);
	x->hook = give_inode_away;
	make_dir("a");
	make_file("a/first", "text");
	assert_int_equal(link("a/first", "a/second"), 0);
	make_file("middle", "");
	make_dir("z");
	run_well(x);
	if (access("z/new", F_OK) < 0)
		skip(); /* a file system that uses a number once */
	assert_content(x, "a/second", "text", 4);
	assert_content(x, "z/new", "another", 7);
	assert_int_equal(look_up(x, "z/newer", &e), 0);
	assert_true(e.is_hardlink);
	assert_string_equal(tree_entry_target(&e), "z/new");
}

/* --- what cannot be read --- */

/* Somebody who holds a lease, and loses it with the signal that says so. */
static pid_t hold_lease(const char *path)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		int fd = open(path, O_RDWR | O_CLOEXEC);

		if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
			_exit(1);
		assert_int_equal(write(ready[1], "x", 1), 1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	byte = read(ready[0], &byte, 1) == 1 ? 'x' : 0;
	close(ready[0]);
	return byte ? pid : 0;
}

static void waits_for_a_lease(void **state)
{
	struct fixture *x = *state;
	pid_t pid;

	make_file("leased", "text");
	pid = hold_lease("leased");
	if (!pid)
		skip();
	run_well(x);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_content(x, "leased", "text", 4);
	assert_int_equal(x->lost, 0);
}

static void unreadable_entries_are_skipped_and_counted(void **state)
{
	struct fixture *x = *state;

	need_root();
	make_dir("closed");
	make_file("closed/inner", "");
	make_file("secret", "");
	make_file("open", "");
	assert_int_equal(chmod("closed", 0700) | chmod("secret", 0600), 0);
	assert_int_equal(setegid(65534) | seteuid(65534), 0);
	run_well(x);
	assert_int_equal(seteuid(0) | setegid(0), 0);
	assert_archived(x, "open", PXAR_MODE_REGULAR);
	assert_left_out(x, "closed");
	assert_left_out(x, "secret");
	assert_true(has_warning(x, "/secret: left out: open: Permission denied"));
	assert_int_equal(x->lost, 2);
}

static void refuses_sources_it_cannot_begin_at(void **state)
{
	struct fixture *x = *state;

	x->params.source = "/proc";
	assert_int_equal(run(x), -EINVAL);
	assert_string_equal(x->err.text, "/proc: is on a virtual file system");
	x->params.source = "missing";
	assert_int_equal(run(x), -ENOENT);
	assert_string_equal(x->err.text, "missing: open: No such file or directory");
	make_file("file", "");
	x->params.source = "file";
	assert_int_equal(run(x), -ENOTDIR);
	assert_int_equal(symlink(".", "link"), 0);
	x->params.source = "link";
	run_well(x);
	x->params.no_follow_source = true;
	assert_true(run(x) < 0);
}

enum { DEEPER_THAN_OPEN = 70 };

static struct rlimit descriptors;

static void take_away(struct fixture *x, const void *data, size_t size)
{
	if (x->hooked || !memmem(data, size, "leaf", 4))
		return;
	x->hooked = true;
	descriptors = take_descriptors_away();
}

/* On the way back up, that is. */
static void a_folder_that_cannot_be_opened_again_ends_the_walk(void **state)
{
	struct fixture *x = *state;
	char path[3 * DEEPER_THAN_OPEN + 8] = "d";
	int rc;

	make_dir(path);
	make_file("d/z", "");
	for (int i = 0; i < DEEPER_THAN_OPEN; i++)
		make_dir(strcat(path, "/d"));
	assert_int_equal(symlink("x", strcat(path, "/leaf")), 0);
	x->hook = take_away;
	rc = run(x);
	assert_true(x->hooked);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &descriptors), 0);
	assert_int_equal(rc, -EMFILE);
	assert_non_null(strstr(x->err.text, "/d: its last 1 entries: open: Too many open files"));
}

/* --- mounts --- */

static void mount_tmpfs(const char *path)
{
	make_dir(path);
	if (mount("tmpfs", path, "tmpfs", 0, "mode=0751,size=1m") < 0)
		skip();
}

static void make_mounts(void)
{
	char path[20] = "mnt1/inner";

	need_root();
	mount_tmpfs("mnt1");
	mount_tmpfs("mnt2");
	make_dir("mnt3");
	assert_int_equal(mount("/proc/self", "mnt3", NULL, MS_BIND, NULL), 0);
	make_file(path, "");
	path[3] = '2';
	make_file(path, "");
}

static void mount_points_are_kept_as_empty_folders(void **state)
{
	struct fixture *x = *state;
	AUTO(tree_entry) struct tree_entry e;

	tree_entry_init(&e);
	make_mounts();
	run_well(x);
	assert_left_out(x, "mnt1/inner");
	assert_left_out(x, "mnt3/stat");
	assert_int_equal(look_up(x, "mnt1", &e), 0);
	assert_int_equal(e.meta.mode, 040751);
	assert_true(has_warning(x, "/mnt1: mount point"));
	assert_int_equal(x->lost, 0);
}

static void chosen_file_systems_are_entered(void **state)
{
	struct fixture *x = *state;
	static const char *const devs[] = { "mnt2" };

	make_mounts();
	x->params.include_devs = devs;
	x->params.include_dev_count = 1;
	run_well(x);
	assert_left_out(x, "mnt1/inner");
	assert_archived(x, "mnt2/inner", PXAR_MODE_REGULAR);
}

static void all_file_systems_but_virtual_ones_are_entered(void **state)
{
	struct fixture *x = *state;

	make_mounts();
	x->params.all_file_systems = true;
	run_well(x);
	assert_archived(x, "mnt1/inner", PXAR_MODE_REGULAR);
	assert_archived(x, "mnt2/inner", PXAR_MODE_REGULAR);
	assert_archived(x, "mnt3", PXAR_MODE_DIRECTORY);
	assert_left_out(x, "mnt3/stat");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(entries_may_change_their_type_or_vanish),
		TEST(entries_may_vanish_between_listing_and_stat),
		TEST(sizes_are_kept_as_announced),
		TEST(an_inode_that_is_another_by_now_is_no_further_name),
		TEST(a_file_that_changes_while_it_is_read_is_told),
		TEST(waits_for_a_lease),
		TEST(unreadable_entries_are_skipped_and_counted),
		TEST(refuses_sources_it_cannot_begin_at),
		TEST(a_folder_that_cannot_be_opened_again_ends_the_walk),
		TEST(mount_points_are_kept_as_empty_folders),
		TEST(chosen_file_systems_are_entered),
		TEST(all_file_systems_but_virtual_ones_are_entered),
	};

	/* Whatever happens, no mount of ours outlives us. */
	if (unshare(CLONE_NEWNS) == 0)
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
