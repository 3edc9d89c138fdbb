/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backup killed at each of its system calls that change something: what was there stays
 * whole, no half snapshot is listed, and the next backup works and clears up.
 */
#include "client/repo/repo_dir.h"
#include "tests/support/lib/repo_conformance.h"
#include "tests/support/lib/store.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { T1 = 1800000000, STOP_COUNT_MAX = 5000 };

static struct store folder;

static struct snapshot_name at(int64_t time)
{
	return repo_conformance_name("host/a", "", time);
}

static int set_up(void **state)
{
	(void)state;
	store_folder(&folder);
	return repo_dir_init(folder.path, false, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	store_remove(&folder);
	return 0;
}

static struct repo *open_repo(void)
{
	struct repo *r = NULL;

	assert_int_equal(repo_dir_open(folder.path, &r, NULL), 0);
	return r;
}

static void make_backup(int64_t time, unsigned seed)
{
	AUTO(repo) struct repo *r = open_repo();
	struct snapshot_name name = at(time);
	struct err err = ERR_INIT;

	if (repo_conformance_backup(r, &name, seed, &err) < 0)
		fail_msg("%s", err.text);
}

static void check_backup(int64_t time, unsigned seed)
{
	AUTO(repo) struct repo *r = open_repo();
	struct snapshot_name name = at(time);
	struct err err = ERR_INIT;

	if (repo_conformance_check(r, &name, seed, &err) < 0)
		fail_msg("%s", err.text);
}

static void count(int *finished, int *unfinished)
{
	AUTO(repo) struct repo *r = open_repo();
	struct snapshot_name name = at(T1);

	repo_conformance_count(r, &name.group, finished, unfinished);
}

/* --- a process that dies on the way --- */

static _Noreturn void back_up_traced(int64_t time, unsigned seed)
{
	struct snapshot_name name = at(time);
	struct err err = ERR_INIT;
	struct repo *r;

	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	if (repo_dir_open(folder.path, &r, &err) < 0 ||
	    repo_conformance_backup(r, &name, seed, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		_exit(1);
	}
	_exit(0);
}

static bool changes_something(pid_t pid)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0 ||
	    info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return false;
	switch (info.entry.nr) {
	case SYS_mkdirat:
	case SYS_openat:
	case SYS_write:
	case SYS_renameat:
	case SYS_renameat2:
	case SYS_linkat:
	case SYS_unlinkat:
	case SYS_fchmod:
	case SYS_fchmodat:
	case SYS_fchown:
	case SYS_utimensat:
	case SYS_fsync:
	case SYS_syncfs:
	case SYS_flock:
	case SYS_close:
		return true;
	default:
		return false;
	}
}

/* Kill the child before its `stop`th such call.  False: it was done before. */
static bool run_until(int64_t time, unsigned seed, int stop)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		back_up_traced(time, seed);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	while (stop > 0) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status)) {
			assert_int_equal(WEXITSTATUS(status), 0);
			return false;
		}
		assert_true(WIFSTOPPED(status));
		stop -= changes_something(pid);
	}
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return true;
}

/* Can this process be traced here at all? */
static bool can_trace(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int rc = ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 1;

		_exit(rc);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void killed_at_any_call_it_leaves_the_store_as_it_was(void **state)
{
	int before, after = 1, unfinished = 0;
	bool killed = true;

	(void)state;
	if (!can_trace())
		skip();
	make_backup(T1, 1);
	for (int stop = 1; killed; stop++) {
		unsigned seed = 1000 + 10 * (unsigned)stop;

		assert_true(stop < STOP_COUNT_MAX);
		before = after;
		killed = run_until(T1 + stop, seed, stop);
		count(&after, &unfinished);
		/* All of it or nothing. */
		assert_true(after == before || after == before + 1);
		assert_true(unfinished <= 1);
		if (after > before)
			check_backup(T1 + stop, seed);
		check_backup(T1, 1);
		assert_true(killed || (after == before + 1 && unfinished == 0));
	}
}

static void the_next_backup_clears_up(void **state)
{
	int finished, unfinished, time = T1;

	(void)state;
	if (!can_trace())
		skip();
	for (int stop = 1; stop < 200; stop += 23) {
		if (!run_until(++time, 7, stop))
			break;
		make_backup(++time, 8); /* not hindered by locks of the dead */
		check_backup(time, 8);
		count(&finished, &unfinished);
		assert_int_equal(unfinished, 0);
	}
}

static void the_killed_backups_own_time_works_again(void **state)
{
	(void)state;
	if (!can_trace())
		skip();
	assert_true(run_until(T1, 7, 60));
	make_backup(T1, 8);
	check_backup(T1, 8);
}

/* --- the power goes --- */

/* A session that puts the chunk of `seed`. */
static _Noreturn void put_traced(unsigned seed)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(1 << 20);
	struct snapshot_name name = at(T1 + 1);
	struct repo_writer *w;
	struct digest digest;
	struct repo *r;
	int rc;

	repo_conformance_chunk(seed, &stored, &digest);
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	rc = repo_dir_open(folder.path, &r, NULL);
	if (rc == 0)
		rc = repo_conformance_begin(r, &name, &w, NULL);
	if (rc == 0)
		rc = repo_writer_put_chunk(w, &digest, stored.data, stored.size, 5000, NULL, NULL);
	_exit(rc < 0);
}

/* What fstatfs() says, as the process comes back from it. */
static void lie_about_file_system(pid_t pid, uint64_t buffer, long type)
{
	assert_int_equal(ptrace(PTRACE_POKEDATA, pid, (void *)buffer, (void *)type), 0);
}

/* Whether the last file that got its name was on the disk before.  `fs_type` 0: that of the file
 * system. */
static bool puts_it_on_disk_first(unsigned seed, long fs_type)
{
	bool is_synced = false, was_synced = false, is_entry = false;
	struct __ptrace_syscall_info info;
	uint64_t statfs_buffer = 0;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		put_traced(seed);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	while (ptrace(PTRACE_SYSCALL, pid, NULL, NULL) == 0 && waitpid(pid, &status, 0) == pid &&
	       WIFSTOPPED(status)) {
		is_entry = ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) > 0 &&
			   info.op == PTRACE_SYSCALL_INFO_ENTRY;
		if (!is_entry && statfs_buffer && fs_type)
			lie_about_file_system(pid, statfs_buffer, fs_type);
		statfs_buffer = is_entry && info.entry.nr == SYS_fstatfs ? info.entry.args[1] : 0;
		if (is_entry && info.entry.nr == SYS_fsync)
			is_synced = true;
		if (is_entry && info.entry.nr == SYS_renameat) {
			was_synced = is_synced;
			is_synced = false;
		}
	}
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	return was_synced;
}

/* Snapshots refer to it: what takes its place must not be less when the power goes. */
static void a_chunk_is_replaced_by_what_is_on_the_disk_only(void **state)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(1 << 20);
	char hex[DIGEST_HEX_SIZE];
	struct digest digest;

	(void)state;
	if (!can_trace())
		skip();
	make_backup(T1, 1);
	repo_conformance_chunk(1, &stored, &digest);
	digest_to_hex(&digest, hex);
	assert_int_equal(truncate(store_path(&folder, ".chunks/%.4s/%s", hex, hex),
				  (off_t)stored.size + 1), 0);
	assert_true(puts_it_on_disk_first(1, 0));
	assert_false(puts_it_on_disk_first(999, 0)); /* a new one: the session's end will do */
}

/* syncfs() is not passed on by all who hold the bytes for others. */
static void behind_fuse_each_chunk_is_synced(void **state)
{
	(void)state;
	if (!can_trace())
		skip();
	make_backup(T1, 1);
	assert_true(puts_it_on_disk_first(998, 0x65735546));
	assert_true(puts_it_on_disk_first(999, 0xff534d42)); /* CIFS */
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH_STORE(killed_at_any_call_it_leaves_the_store_as_it_was),
		WITH_STORE(the_next_backup_clears_up),
		WITH_STORE(the_killed_backups_own_time_works_again),
		WITH_STORE(behind_fuse_each_chunk_is_synced),
		WITH_STORE(a_chunk_is_replaced_by_what_is_on_the_disk_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
