/* SPDX-License-Identifier: Apache-2.0 */
/* Lock names, and what two processes can do to each other: with our own lock files, with the
 * server's, and with its old ones. */
#include "client/repo/repo_dir_group.h"
#include "archive/base/cleanup.h"
#include "tests/support/lib/other.h"
#include "tests/support/lib/repo_conformance.h"
#include "tests/support/lib/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { T1 = 1800000000 };
#define TIME1 "2027-01-15T08:00:00Z"
#define ESCAPED1 "2027\\x2d01\\x2d15T08\\x3a00\\x3a00Z"

/* --- names --- */

static void names_lock_files_as_the_server_does(void **state)
{
	static const char *const rows[][2] = {
		{ "vm/100", "vm-100" },
		{ "host/my.host/2022-05-02T08:11:33Z",
		  "host-my.host-2022\\x2d05\\x2d02T08\\x3a11\\x3a33Z" },
		{ "ct/10/2022-05-02T08:11:33Z/.index.json.lck",
		  "ct-10-2022\\x2d05\\x2d02T08\\x3a11\\x3a33Z-.index.json.lck" },
		{ "", "-" },
		{ "/", "-" },
		{ "/a", "a" },
		{ ".a", "\\x2ea" },
		{ "a_b-c", "a_b\\x2dc" },
		{ "\xff~ ", "\\xff\\x7e\\x20" },
	};
	char name[PATH_MAX], ns[SNAPSHOT_NS_SIZE_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(repo_dir_lock_name(rows[i][0], name, sizeof(name)), 0);
		assert_string_equal(name, rows[i][1]);
	}
	repo_dir_lock_ns("a/b-1", ns);
	assert_string_equal(ns, "a:b-1");
	repo_dir_lock_ns("", ns);
	assert_string_equal(ns, "");
}

/* "host/" and `size` letters, escaped to `size` + 5 bytes. */
static void name_of_size(size_t size, char *name, size_t name_size)
{
	char relative[REPO_DIR_LOCK_ENCODED_MAX];

	strcpy(relative, "host/");
	memset(relative + 5, 'i', size);
	relative[5 + size] = '\0';
	assert_int_equal(repo_dir_lock_name(relative, name, name_size), 0);
}

static void hashes_names_of_255_bytes_and_more(void **state)
{
	char name[PATH_MAX];

	(void)state;
	name_of_size(249, name, sizeof(name)); /* 254 */
	assert_int_equal(strlen(name), 254);
	assert_null(strstr(name, "hashed"));
	name_of_size(250, name, sizeof(name)); /* 255 */
	assert_int_equal(strlen(name), strlen("hashed/") + 80 + 3 + 80 + 1 + 64);
	assert_memory_equal(name, "hashed/host-iiii", 16);
	assert_memory_equal(name + 7 + 80, "...iiii", 7);
	/* printf 'host/%250s' | tr ' ' i | sha256sum */
	assert_string_equal(name + 7 + 163,
			    "-c846fb0da62c99739071e2b7541cdfe83f0642e3de25dd9ded51f5c729ea0e67");
}

static void has_room_for_the_longest_name(void **state)
{
	char relative[SNAPSHOT_ID_SIZE_MAX + 64], name[PATH_MAX];

	(void)state;
	strcpy(relative, "host/");
	memset(relative + 5, '-', SNAPSHOT_ID_SIZE_MAX);
	strcpy(relative + 5 + SNAPSHOT_ID_SIZE_MAX, "/2022-05-02T08:11:33Z/.index.json.lck");
	assert_int_equal(repo_dir_lock_name(relative, name, sizeof(name)), 0);
	assert_int_equal(repo_dir_lock_name(relative, name, 100), -ENAMETOOLONG);
}

/* --- a datastore, ours or the server's --- */

static struct store folder;
static char cfg[PATH_MAX], run_dir[PATH_MAX];
static struct repo_dir_host host;
static struct repo *repo;
static char warnings[4096];

static void on_warning(void *arg, const char *message)
{
	(void)arg;
	strncat(warnings, message, sizeof(warnings) - strlen(warnings) - 1);
}

static void open_repo(void)
{
	assert_int_equal(repo_dir_open_on(store_path(&folder, "store"), &host, &repo, NULL), 0);
	repo->warning = on_warning;
	warnings[0] = '\0';
}

static int set_up(void **state)
{
	(void)state;
	store_folder(&folder);
	snprintf(cfg, sizeof(cfg), "%.4000s/datastore.cfg", folder.path);
	snprintf(run_dir, sizeof(run_dir), "%.4000s/run", folder.path);
	host = (struct repo_dir_host){ cfg, run_dir, "/nonexistent", "root" };
	assert_int_equal(repo_dir_init(store_path(&folder, "store"), false, NULL), 0);
	open_repo();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	repo_free(repo);
	store_remove(&folder);
	return 0;
}

/* Make it one of the server's, as user `user`. */
static void register_store(const char *user, const char *more)
{
	char text[2 * PATH_MAX];

	snprintf(text, sizeof(text), "datastore: store1\n\tpath %s\n%s",
		 store_path(&folder, "store"), more);
	store_write(&folder, "datastore.cfg", text);
	host.user = user;
	repo_free(repo);
	open_repo();
}

static struct snapshot_name at(int64_t time)
{
	return repo_conformance_name("host/a", "", time);
}

static void make_backup(int64_t time)
{
	struct snapshot_name name = at(time);
	struct err err = ERR_INIT;

	if (repo_conformance_backup(repo, &name, 1, &err) < 0)
		fail_msg("%s", err.text);
}

static int try_begin(int64_t time, struct err *err)
{
	struct snapshot_name name = at(time);
	struct repo_writer *w = NULL;
	int rc = repo_conformance_begin(repo, &name, &w, err);

	repo_writer_free(w);
	return rc;
}

/* --- what other processes do; each opens the repository anew --- */

static int begin_in_other(void *arg)
{
	struct snapshot_name name = at(*(int64_t *)arg);
	struct repo_writer *w;
	struct repo *r;
	int rc = repo_dir_open_on(store_path(&folder, "store"), &host, &r, NULL);

	return rc < 0 ? rc : repo_conformance_begin(r, &name, &w, NULL);
}

static int read_in_other(void *arg)
{
	struct snapshot_name name = at(*(int64_t *)arg);
	struct repo_reader *reader;
	struct repo *r;
	int rc = repo_dir_open_on(store_path(&folder, "store"), &host, &r, NULL);

	return rc < 0 ? rc : repo_read(r, &name, &reader, NULL);
}

struct flock_args {
	char path[PATH_MAX];
	int operation;
};

/* As the server locks: open what is there, flock, never wait. */
static int flock_in_other(void *arg)
{
	const struct flock_args *a = arg;
	int fd = open(a->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return flock(fd, a->operation | LOCK_NB) < 0 ? -errno : 0;
}

static int flock_other(int operation, const char *path)
{
	struct flock_args a = { .operation = operation };

	strcpy(a.path, path);
	return other_run(flock_in_other, &a);
}

/* A traditional record lock, as garbage collection (F_WRLCK) and writers (F_RDLCK) take. */
static int record_lock_in_other(void *arg)
{
	struct flock lock = { .l_type = *(short *)arg, .l_whence = SEEK_SET };
	int fd = open(store_path(&folder, "store/.lock"), O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fcntl(fd, F_SETLK, &lock) < 0 ? -errno : 0;
}

static int record_lock_other(short type)
{
	return other_run(record_lock_in_other, &type);
}

/* --- process lock --- */

static void garbage_collection_keeps_backups_out(void **state)
{
	short type = F_WRLCK;
	struct other gc = other_start(record_lock_in_other, &type);
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(gc.rc, 0);
	assert_int_equal(try_begin(T1, &err), -EBUSY);
	assert_non_null(strstr(err.text, "garbage collection is running"));
	assert_false(store_exists(&folder, "store/host"));
	other_kill(&gc);
	assert_int_equal(try_begin(T1, NULL), 0);
}

static void a_backup_keeps_garbage_collection_out_until_its_end(void **state)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1);
	struct snapshot_name name = at(T1);
	struct repo_writer *w;

	(void)state;
	assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), 0);
	assert_int_equal(record_lock_other(F_WRLCK), -EAGAIN);
	assert_int_equal(record_lock_other(F_RDLCK), 0); /* the server's own writers */
	/* Closing another descriptor of the file in this process must not matter. */
	close(open(store_path(&folder, "store/.lock"), O_RDONLY));
	assert_int_equal(record_lock_other(F_WRLCK), -EAGAIN);
	assert_int_equal(repo_conformance_store(w, m, 1, NULL), 0);
	assert_int_equal(repo_conformance_finish(w, m, NULL), 0);
	assert_int_equal(record_lock_other(F_WRLCK), 0);
	repo_writer_free(w);
}

static void makes_a_missing_lock_file(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(unlink(store_path(&folder, "store/.lock")), 0);
	assert_int_equal(try_begin(T1, NULL), 0);
	assert_int_equal(stat(store_path(&folder, "store/.lock"), &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
}

/* --- group, snapshot, manifest --- */

static void two_backups_of_a_group_exclude_each_other(void **state)
{
	int64_t time = T1;
	struct other o = other_start(begin_in_other, &time);
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(o.rc, 0);
	assert_int_equal(try_begin(T1 + 1, &err), -EBUSY);
	assert_non_null(strstr(err.text, "host/a is locked"));
	other_kill(&o);
	assert_int_equal(try_begin(T1 + 1, NULL), 0);
}

static void a_snapshot_that_is_read_cannot_be_removed(void **state)
{
	struct snapshot_name name = at(T1);
	struct repo_reader *r;
	const char *lock;

	(void)state;
	make_backup(T1);
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0);
	lock = store_path(&folder, "store/.pxarfs/locks/host-a-" ESCAPED1);
	assert_int_equal(flock_other(LOCK_EX, lock), -EWOULDBLOCK);
	assert_int_equal(flock_other(LOCK_SH, lock), 0);
	repo_reader_free(r);
	assert_int_equal(flock_other(LOCK_EX, lock), 0);
}

static void a_snapshot_that_is_removed_cannot_be_read(void **state)
{
	struct snapshot_name name = at(T1);
	struct flock_args a = { .operation = LOCK_EX };
	struct repo_reader *r = NULL;
	struct err err = ERR_INIT;

	(void)state;
	make_backup(T1);
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0); /* makes the file */
	repo_reader_free(r);
	strcpy(a.path, store_path(&folder, "store/.pxarfs/locks/host-a-" ESCAPED1));
	struct other o = other_start(flock_in_other, &a);
	assert_int_equal(o.rc, 0);
	assert_int_equal(repo_read(repo, &name, &r, &err), -EBUSY);
	assert_non_null(strstr(err.text, "host/a/" TIME1 " is locked"));
	other_kill(&o);
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0);
	repo_reader_free(r);
}

static void the_previous_snapshot_cannot_be_removed_during_a_backup(void **state)
{
	struct snapshot_name name = at(T1 + 1);
	struct repo_writer *w;
	const char *lock;

	(void)state;
	make_backup(T1);
	assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), 0);
	lock = store_path(&folder, "store/.pxarfs/locks/host-a-" ESCAPED1);
	assert_int_equal(flock_other(LOCK_EX, lock), -EWOULDBLOCK);
	assert_int_equal(flock_other(LOCK_SH, lock), 0);
	repo_writer_free(w);
	assert_int_equal(flock_other(LOCK_EX, lock), 0);
}

static void does_without_a_previous_snapshot_that_is_being_removed(void **state)
{
	struct snapshot_name name = at(T1);
	struct flock_args a = { .operation = LOCK_EX };
	struct repo_reader *r;
	struct repo_writer *w;

	(void)state;
	make_backup(T1);
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0);
	repo_reader_free(r);
	strcpy(a.path, store_path(&folder, "store/.pxarfs/locks/host-a-" ESCAPED1));
	struct other o = other_start(flock_in_other, &a);
	name.time++;
	assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), 0);
	assert_null(repo_writer_previous(w));
	assert_non_null(strstr(warnings, "nothing is reused"));
	repo_writer_free(w);
	other_kill(&o);
}

static void a_backup_in_progress_cannot_be_read_or_cleaned_away(void **state)
{
	int64_t time = T1;
	struct other o = other_start(begin_in_other, &time);
	struct snapshot_name name = at(T1);
	struct repo_dir *d = (struct repo_dir *)repo;

	(void)state;
	assert_int_equal(o.rc, 0);
	assert_true(other_run(read_in_other, &time) < 0);
	repo_dir_group_clean(d, &name.group);
	assert_true(store_exists(&folder, "store/host/a/" TIME1));
	other_kill(&o);
	repo_dir_group_clean(d, &name.group);
	assert_false(store_exists(&folder, "store/host/a/" TIME1));
}

static int lock_manifest(unsigned wait_ms, struct err *err)
{
	struct repo_dir *d = (struct repo_dir *)repo;
	AUTO(repo_dir_lock) struct repo_dir_lock lock = REPO_DIR_LOCK_INIT;
	struct snapshot_name name = at(T1);

	return repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_MANIFEST, REPO_DIR_LOCK_EXCLUSIVE,
				  wait_ms, &name, &lock, err);
}

static void *wait_for_manifest(void *arg)
{
	*(int *)arg = lock_manifest(60000, NULL);
	return NULL;
}

static void a_locked_manifest_is_waited_for(void **state)
{
	struct flock_args a = { .operation = LOCK_EX };
	struct err err = ERR_INIT;
	pthread_t thread;
	int rc = 1;

	(void)state;
	assert_int_equal(lock_manifest(0, NULL), 0); /* makes the file */
	strcpy(a.path, store_path(&folder, "store/.pxarfs/locks/host-a-" ESCAPED1
					   "-.index.json.lck"));
	struct other o = other_start(flock_in_other, &a);
	assert_int_equal(o.rc, 0);
	assert_int_equal(lock_manifest(50, &err), -EBUSY);
	assert_non_null(strstr(err.text, "manifest"));
	assert_int_equal(pthread_create(&thread, NULL, wait_for_manifest, &rc), 0);
	other_kill(&o);
	pthread_join(thread, NULL);
	assert_int_equal(rc, 0);
}

/* Someone removes the snapshot and its lock file between our open and our flock. */
static void a_lock_file_that_was_replaced_does_not_count(void **state)
{
	struct repo_dir *d = (struct repo_dir *)repo;
	struct repo_dir_lock old = REPO_DIR_LOCK_INIT, new = REPO_DIR_LOCK_INIT;
	struct snapshot_name name = at(T1);

	(void)state;
	assert_int_equal(repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_SNAPSHOT,
					    REPO_DIR_LOCK_EXCLUSIVE, 0, &name, &old, NULL),
			 0);
	assert_int_equal(unlink(store_path(&folder, "store/.pxarfs/locks/host-a-" ESCAPED1)), 0);
	assert_int_equal(repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_SNAPSHOT,
					    REPO_DIR_LOCK_EXCLUSIVE, 0, &name, &new, NULL),
			 0);
	repo_dir_lock_drop(&old, false);
	repo_dir_lock_drop(&new, true);
	assert_int_equal(store_count(&folder, "store/.pxarfs/locks"), 0);
}

static void leaves_few_lock_files_of_its_own(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		make_backup(T1 + i);
	/* the group's, and those of the snapshots that were built on */
	assert_int_equal(store_count(&folder, "store/.pxarfs/locks"), 3);
}

static void locks_long_ids_and_namespaces(void **state)
{
	char group[SNAPSHOT_ID_SIZE_MAX + 8] = "host/";
	struct snapshot_name name;

	(void)state;
	memset(group + 5, 'x', SNAPSHOT_ID_SIZE_MAX);
	group[5 + SNAPSHOT_ID_SIZE_MAX] = '\0';
	name = repo_conformance_name(group, "a/b-1", T1);
	assert_int_equal(repo_conformance_backup(repo, &name, 1, NULL), 0);
	assert_int_equal(repo_conformance_check(repo, &name, 1, NULL), 0);
	assert_int_equal(store_count(&folder, "store/.pxarfs/locks/a:b-1/hashed"), 2);
}

static void reads_on_with_a_warning_when_it_cannot_lock(void **state)
{
	struct snapshot_name name = at(T1);
	struct repo_reader *r;

	(void)state;
	make_backup(T1);
	/* A file where the folder of the locks should be: fails for root, too. */
	assert_int_equal(rename(store_path(&folder, "store/.pxarfs"),
				store_path(&folder, "away")),
			 0);
	store_write(&folder, "store/.pxarfs", "");
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0);
	assert_non_null(strstr(warnings, "without a lock"));
	assert_non_null(strstr(warnings, "host/a/" TIME1));
	repo_reader_free(r);
	assert_int_equal(try_begin(T1 + 1, NULL), -ENOTDIR); /* a writer may not */
}

/* As a user who may read neither datastore.cfg nor the chunks; 0, or the line that failed. */
static int read_as_nobody(void *arg)
{
	enum { NOBODY = 65534 };
	const char *expected = arg;
	AUTO(wbuf) struct wbuf out = WBUF_INIT(1 << 20);
	struct snapshot_name name = at(T1);
	struct repo_file file;
	struct repo_reader *r;
	struct digest d = { { 1 } };

	if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return __LINE__;
	if (repo_dir_open_on(store_path(&folder, "store"), &host, &repo, NULL) < 0)
		return __LINE__;
	repo->warning = on_warning;
	if (repo_read(repo, &name, &r, NULL) < 0)
		return __LINE__;
	if (!strstr(warnings, "without a lock") || !strstr(warnings, expected))
		return __LINE__;
	if (repo_reader_get_file(r, MANIFEST_BLOB_NAME, &file, NULL) < 0)
		return __LINE__;
	if (repo_reader_get_chunk(r, &d, &out, NULL) != -EACCES)
		return __LINE__;
	return try_begin(T1 + 1, NULL) == -EACCES ? 0 : __LINE__;
}

static void other_users_read_without_locks_and_do_not_write(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	make_backup(T1);
	assert_int_equal(chmod(store_path(&folder, "store"), 0755), 0); /* somebody opened it */
	store_write(&folder, "datastore.cfg", "");
	assert_int_equal(chmod(cfg, 0600), 0);
	host.user = "backup";
	/* Not the server's: it is ours, and our locks are out of reach. */
	assert_int_equal(other_run(read_as_nobody, ".pxarfs/locks"), 0);
	/* It could be the server's: nobody can tell. */
	assert_int_equal(chown(store_path(&folder, "store"), 34, 34), 0);
	assert_int_equal(other_run(read_as_nobody, "cannot tell which locks to use"), 0);
}

/* --- a registered datastore --- */

static void uses_the_servers_lock_files_when_registered(void **state)
{
	struct snapshot_name name = repo_conformance_name("host/my.host", "", T1);
	struct repo_writer *w;
	struct stat st;
	const char *group;

	(void)state;
	register_store("root", "");
	assert_int_equal(repo_default_names(repo), ARCHIVE_NAMES_PBS);
	assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), 0);
	group = store_path(&folder, "run/locks/store1/host-my.host");
	assert_int_equal(stat(group, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0660);
	assert_int_equal(flock_other(LOCK_EX, group), -EWOULDBLOCK);
	assert_int_equal(flock_other(LOCK_EX, store_path(&folder, "run/locks/store1/"
							 "host-my.host-" ESCAPED1)),
			 -EWOULDBLOCK);
	repo_writer_free(w);
	assert_false(store_exists(&folder, "store/.pxarfs"));
	assert_false(store_exists(&folder, "run/locks/store1/host-my.host-" ESCAPED1));
	assert_int_equal(store_count(&folder, "run/locks/store1"), 0); /* group was new */
}

static void keeps_the_servers_lock_files(void **state)
{
	(void)state;
	register_store("root", "");
	make_backup(T1);
	make_backup(T1 + 1);
	assert_true(store_exists(&folder, "run/locks/store1/host-a"));
	assert_true(store_exists(&folder, "run/locks/store1/host-a-" ESCAPED1));
	assert_true(store_exists(&folder, "run/locks/store1/host-a-" ESCAPED1 "-.index.json.lck"));
}

static void needs_an_existing_namespace_when_registered(void **state)
{
	struct snapshot_name name = repo_conformance_name("host/a", "x/y", T1);
	struct repo_writer *w;

	(void)state;
	register_store("root", "");
	assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), -ENOENT);
	assert_false(store_exists(&folder, "store/ns"));
	store_mkdir(&folder, "store/ns/x/ns/y");
	assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), 0);
	assert_true(store_exists(&folder, "run/locks/store1/x:y/host-a"));
	repo_writer_free(w);
}

static void refuses_to_write_where_the_server_would_not(void **state)
{
	static const char *const more[] = { "\tbackend type=s3,client=c,bucket=b\n",
					    "\tmaintenance-mode read-only\n" };
	struct snapshot_name name = at(T1);

	(void)state;
	make_backup(T1);
	for (size_t i = 0; i < 2; i++) {
		register_store("root", more[i]);
		assert_int_equal(try_begin(T1 + 1, NULL), -EACCES);
		assert_int_equal(repo_conformance_check(repo, &name, 1, NULL), 0);
	}
	register_store("no-such-user-here", "");
	assert_int_equal(try_begin(T1 + 1, NULL), -EACCES);
	store_write(&folder, "datastore.cfg", "nonsense\n");
	repo_free(repo);
	open_repo();
	struct err err = ERR_INIT;
	assert_int_equal(try_begin(T1 + 1, &err), -EACCES);
	assert_non_null(strstr(err.text, "line 1"));
	assert_int_equal(repo_conformance_check(repo, &name, 1, NULL), 0);
	assert_non_null(strstr(warnings, "without a lock"));
}

/* --- the switch to the old locks --- */

static void use_old_locks(void)
{
	store_mkdir(&folder, "run");
	store_write(&folder, "run/old-locking", "");
	register_store("root", "");
}

static void old_locks_are_the_folders_themselves(void **state)
{
	struct snapshot_name name = at(T1);
	struct repo_writer *w;

	(void)state;
	use_old_locks();
	assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), 0);
	assert_int_equal(flock_other(LOCK_EX, store_path(&folder, "store/host/a")), -EWOULDBLOCK);
	assert_int_equal(flock_other(LOCK_SH, store_path(&folder, "store/host/a/" TIME1)),
			 -EWOULDBLOCK);
	repo_writer_free(w);
	assert_false(store_exists(&folder, "store/host/a"));
	assert_false(store_exists(&folder, "run/locks/store1/host-a"));
}

static void old_locks_exclude_as_the_new_ones(void **state)
{
	int64_t time = T1 + 1;
	struct snapshot_name name = at(T1);
	struct repo_reader *r;

	(void)state;
	use_old_locks();
	make_backup(T1);
	assert_true(store_exists(&folder, "run/locks/store1/host/a/" TIME1 "/" TIME1
					  ".index.json.lck"));
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0);
	assert_int_equal(flock_other(LOCK_EX, store_path(&folder, "store/host/a/" TIME1)),
			 -EWOULDBLOCK);
	repo_reader_free(r);
	struct other o = other_start(begin_in_other, &time);
	assert_int_equal(o.rc, 0);
	assert_int_equal(try_begin(T1 + 2, NULL), -EBUSY);
	assert_int_equal(flock_other(LOCK_EX, store_path(&folder, "store/host/a/" TIME1)),
			 -EWOULDBLOCK); /* the previous snapshot */
	other_kill(&o);
	make_backup(T1 + 2);
	assert_int_equal(store_count(&folder, "store/host/a"), 3); /* and owner */
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_lock_files_as_the_server_does),
		cmocka_unit_test(hashes_names_of_255_bytes_and_more),
		cmocka_unit_test(has_room_for_the_longest_name),
		WITH_STORE(garbage_collection_keeps_backups_out),
		WITH_STORE(a_backup_keeps_garbage_collection_out_until_its_end),
		WITH_STORE(makes_a_missing_lock_file),
		WITH_STORE(two_backups_of_a_group_exclude_each_other),
		WITH_STORE(a_snapshot_that_is_read_cannot_be_removed),
		WITH_STORE(a_snapshot_that_is_removed_cannot_be_read),
		WITH_STORE(the_previous_snapshot_cannot_be_removed_during_a_backup),
		WITH_STORE(does_without_a_previous_snapshot_that_is_being_removed),
		WITH_STORE(a_backup_in_progress_cannot_be_read_or_cleaned_away),
		WITH_STORE(a_locked_manifest_is_waited_for),
		WITH_STORE(a_lock_file_that_was_replaced_does_not_count),
		WITH_STORE(leaves_few_lock_files_of_its_own),
		WITH_STORE(locks_long_ids_and_namespaces),
		WITH_STORE(reads_on_with_a_warning_when_it_cannot_lock),
		WITH_STORE(other_users_read_without_locks_and_do_not_write),
		WITH_STORE(uses_the_servers_lock_files_when_registered),
		WITH_STORE(keeps_the_servers_lock_files),
		WITH_STORE(needs_an_existing_namespace_when_registered),
		WITH_STORE(refuses_to_write_where_the_server_would_not),
		WITH_STORE(old_locks_are_the_folders_themselves),
		WITH_STORE(old_locks_exclude_as_the_new_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
