/* SPDX-License-Identifier: Apache-2.0 */
/* What writer sessions leave on disk, when all goes well and when it does not. */
#include "client/repo/repo_dir_priv.h"
#include "archive/base/cleanup.h"
#include "archive/base/crc32.h"
#include "archive/base/le.h"
#include "archive/blob.h"
#include "tests/support/lib/repo_conformance.h"
#include "tests/support/lib/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { T1 = 1800000000, STORED_MAX = 1 << 20, BACKUP_UID = 34, OTHER_UID = 1234 };
#define TIME1 "2027-01-15T08:00:00Z"
#define TIME2 "2027-01-15T08:00:01Z"

static struct store folder;
static struct repo *repo;
static char warnings[4096];

static void on_warning(void *arg, const char *message)
{
	(void)arg;
	strncat(warnings, message, sizeof(warnings) - strlen(warnings) - 1);
}

static void open_repo(void)
{
	assert_int_equal(repo_dir_open(folder.path, &repo, NULL), 0);
	repo->warning = on_warning;
	warnings[0] = '\0';
}

static int set_up(void **state)
{
	(void)state;
	store_folder(&folder);
	assert_int_equal(repo_dir_init(folder.path, false, NULL), 0);
	open_repo();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	repo_free(repo);
	/* Of a test that failed. */
	umount2(store_path(&folder, "small"), MNT_DETACH);
	umount2(folder.path, MNT_DETACH);
	store_remove(&folder);
	return 0;
}

static struct snapshot_name at(int64_t time)
{
	return repo_conformance_name("host/a", "", time);
}

static void make_backup(int64_t time, unsigned seed)
{
	struct snapshot_name name = at(time);
	struct err err = ERR_INIT;

	if (repo_conformance_backup(repo, &name, seed, &err) < 0)
		fail_msg("%s", err.text);
}

static void check_backup(int64_t time, unsigned seed)
{
	struct snapshot_name name = at(time);
	struct err err = ERR_INIT;

	if (repo_conformance_check(repo, &name, seed, &err) < 0)
		fail_msg("%s", err.text);
}

static struct repo_writer *begin_at(int64_t time)
{
	struct snapshot_name name = at(time);
	struct repo_writer *w = NULL;
	struct err err = ERR_INIT;

	if (repo_conformance_begin(repo, &name, &w, &err) < 0)
		fail_msg("%s", err.text);
	return w;
}

/* --- layout --- */

static void assert_mode(const char *name, mode_t mode)
{
	struct stat st;

	assert_int_equal(lstat(store_path(&folder, "%s", name), &st), 0);
	assert_int_equal(st.st_mode, mode);
}

static void chunk_name(unsigned seed, char out[128], struct wbuf *stored)
{
	char hex[DIGEST_HEX_SIZE];
	struct digest d;

	repo_conformance_chunk(seed, stored, &d);
	digest_to_hex(&d, hex);
	snprintf(out, 128, ".chunks/%.4s/%s", hex, hex);
}

static void makes_the_servers_layout_whatever_the_umask(void **state)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	mode_t old = umask(0777);
	char chunk[128];

	(void)state;
	make_backup(T1, 1);
	umask(old);
	chunk_name(1, chunk, &stored);
	assert_mode("host", S_IFDIR | 0755);
	assert_mode("host/a", S_IFDIR | 0755);
	assert_mode("host/a/owner", S_IFREG | 0644);
	assert_mode("host/a/" TIME1, S_IFDIR | 0755);
	assert_mode("host/a/" TIME1 "/index.json.blob", S_IFREG | 0644);
	assert_mode("host/a/" TIME1 "/root.mpxar.didx", S_IFREG | 0644);
	assert_mode(chunk, S_IFREG | 0644);
	chunk[12] = '\0';
	assert_mode(chunk, S_IFDIR | 0750);
	assert_int_equal(store_count(&folder, "host/a/" TIME1), 4);
	check_backup(T1, 1);
}

/* Everything below must belong to the server's user. */
static void check_owner_of(const char *name, uid_t uid)
{
	DIR *dir = opendir(store_path(&folder, "%s", name));
	struct dirent *e;
	struct stat st;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL) {
		char path[PATH_MAX];

		if (strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", name, e->d_name);
		assert_int_equal(lstat(store_path(&folder, "%s", path), &st), 0);
		assert_int_equal(st.st_uid, uid);
		if (S_ISDIR(st.st_mode) && strcmp(e->d_name, ".") != 0)
			check_owner_of(path, uid);
	}
	closedir(dir);
}

static void gives_all_it_makes_to_the_servers_user(void **state)
{
	static char cfg[PATH_MAX], run[PATH_MAX], text[2 * PATH_MAX];
	static struct repo_dir_host host;
	struct snapshot_name name = at(T1);

	(void)state;
	if (geteuid() != 0)
		skip();
	snprintf(cfg, sizeof(cfg), "%.4000s/.cfg", folder.path);
	snprintf(run, sizeof(run), "%.4000s/.run", folder.path);
	snprintf(text, sizeof(text), "datastore: store1\n\tpath %s\n", folder.path);
	store_write(&folder, ".cfg", text);
	host = (struct repo_dir_host){ cfg, run, "/nonexistent", "backup" };
	assert_int_equal(chown(store_path(&folder, "."), BACKUP_UID, BACKUP_UID), 0);
	assert_int_equal(chown(store_path(&folder, ".chunks"), BACKUP_UID, BACKUP_UID), 0);
	repo_free(repo);
	assert_int_equal(repo_dir_open_on(folder.path, &host, &repo, NULL), 0);
	for (unsigned i = 0; i < 2; i++, name.time++)
		assert_int_equal(repo_conformance_backup(repo, &name, i, NULL), 0);
	check_owner_of("host", BACKUP_UID);
	check_owner_of(".chunks", BACKUP_UID);
	check_owner_of(".run", BACKUP_UID);
}

/* Nobody has to be root to go on with it, be it a server that is given the directory later. */
static void what_root_makes_belongs_to_the_datastores_owner(void **state)
{
	static const struct repo_dir_host host = { "/nonexistent", "/nonexistent", "/nonexistent",
						   "backup" };
	struct snapshot_name name = at(T1);

	(void)state;
	if (geteuid() != 0)
		skip();
	assert_int_equal(chown(store_path(&folder, "."), OTHER_UID, OTHER_UID), 0);
	assert_int_equal(chown(store_path(&folder, ".chunks"), OTHER_UID, OTHER_UID), 0);
	repo_free(repo);
	assert_int_equal(repo_dir_open_on(folder.path, &host, &repo, NULL), 0);
	for (unsigned i = 0; i < 2; i++, name.time++)
		assert_int_equal(repo_conformance_backup(repo, &name, i, NULL), 0);
	name.time = T1;
	assert_int_equal(repo_set_protected(repo, &name, true, NULL), 0);
	assert_int_equal(repo_set_notes(repo, &name, "x", NULL), 0);
	check_owner_of("host", OTHER_UID);
	check_owner_of(".chunks", OTHER_UID);
	check_owner_of(".pxarfs", OTHER_UID);
}

static void init_in_anothers_folder_makes_it_anothers(void **state)
{
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip();
	store_mkdir(&folder, ".new");
	assert_int_equal(chown(store_path(&folder, ".new"), OTHER_UID, OTHER_UID), 0);
	assert_int_equal(repo_dir_init(store_path(&folder, ".new"), false, NULL), 0);
	check_owner_of(".new", OTHER_UID);
	assert_int_equal(stat(store_path(&folder, ".new"), &st), 0);
	assert_int_equal(st.st_mode & 07, 0); /* closed, as without the other */
}

/* --- chunks --- */

static int64_t atime_of(const char *name)
{
	struct stat st;

	assert_int_equal(lstat(store_path(&folder, "%s", name), &st), 0);
	return st.st_atim.tv_sec;
}

static void age(const char *name)
{
	const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 2000 } };

	assert_int_equal(utimensat(AT_FDCWD, store_path(&folder, "%s", name), old, 0), 0);
}

static void reuse_and_put_set_the_access_time_alone(void **state)
{
	AUTO(repo_writer) struct repo_writer *w = NULL;
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	char chunk[128];
	struct digest d;
	struct stat st;

	(void)state;
	make_backup(T1, 1);
	chunk_name(1, chunk, &stored);
	assert_int_equal(digest_from_hex(&d, chunk + 13), 0);
	w = begin_at(T1 + 1);
	age(chunk);
	assert_int_equal(repo_writer_reuse_chunk(w, &d, NULL), 0);
	assert_true(atime_of(chunk) > 1000000000);
	age(chunk);
	assert_int_equal(repo_writer_put_chunk(w, &d, stored.data, stored.size, 5000, NULL, NULL),
			 0);
	assert_true(atime_of(chunk) > 1000000000);
	assert_int_equal(lstat(store_path(&folder, "%s", chunk), &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 2000);
}

struct chunk_case {
	const uint8_t *old_magic, *new_magic;
	size_t old_size, new_size;
	int rc;
	bool duplicate, replaced;
	bool is_torn; /* the old one's checksum is wrong */
};

static const uint8_t PLAIN[8] = { 0x42, 0xab, 0x38, 0x07, 0xbe, 0x83, 0x70, 0xa1 };
static const uint8_t ZSTD[8] = { 0x31, 0xb9, 0x58, 0x42, 0x6f, 0xb6, 0xa3, 0x7f };
static const uint8_t CRYPT[8] = { 0x7b, 0x67, 0x85, 0xbe, 0x22, 0x2d, 0x4c, 0xf0 };
static const uint8_t CRYPT_ZSTD[8] = { 0xe6, 0x59, 0x1b, 0xbf, 0x0b, 0xbf, 0xd8, 0x0b };
static const uint8_t NONE[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };

static const struct chunk_case chunk_cases[] = {
	/* the same size: there already */
	{ PLAIN, PLAIN, 100, 100, 0, true, false, false },
	{ CRYPT, PLAIN, 100, 100, 0, true, false, false },
	{ PLAIN, CRYPT_ZSTD, 100, 100, 0, true, false, false },
	/* an empty file is none */
	{ NULL, PLAIN, 0, 100, 0, false, true, false },
	{ NULL, CRYPT, 0, 100, 0, false, true, false },
	/* plain: the smaller one stays */
	{ ZSTD, PLAIN, 90, 100, 0, true, false, false },
	{ PLAIN, ZSTD, 100, 90, 0, false, true, false },
	{ NONE, PLAIN, 150, 100, 0, false, true, false },
	/* encrypted: never over a plain one, and what is there stays */
	{ PLAIN, CRYPT, 90, 100, -EEXIST, false, false, false },
	{ ZSTD, CRYPT_ZSTD, 110, 100, -EEXIST, false, false, false },
	{ CRYPT, CRYPT, 90, 100, -EEXIST, false, false, false },
	{ CRYPT, CRYPT, 110, 100, -EEXIST, false, false, false },
	{ CRYPT, CRYPT_ZSTD, 110, 100, 0, true, false, false },
	{ CRYPT_ZSTD, CRYPT, 90, 100, 0, true, false, false },
	{ CRYPT_ZSTD, CRYPT_ZSTD, 110, 100, 0, true, false, false },
	/* what lost its end when the machine went down is worth nothing */
	{ NONE, PLAIN, 50, 100, 0, false, true, false },
	{ NONE, CRYPT, 110, 100, 0, false, true, false },
	{ PLAIN, PLAIN, 90, 100, 0, false, true, true },
	{ ZSTD, PLAIN, 90, 100, 0, false, true, true },
	{ PLAIN, CRYPT, 90, 100, 0, false, true, true },
	{ CRYPT_ZSTD, CRYPT_ZSTD, 90, 100, 0, false, true, true },
	{ CRYPT, CRYPT, 20, 100, 0, false, true, true },
};

/* A blob of zeros. */
static void make_blob(const uint8_t *magic, size_t size, uint8_t *out)
{
	bool is_encrypted = magic == CRYPT || magic == CRYPT_ZSTD;
	size_t head = is_encrypted ? BLOB_ENCRYPTED_HEADER_SIZE : BLOB_HEADER_SIZE;

	memcpy(out, magic, 8);
	if (size > head)
		le32_put(out + 8, crc32_update(0, out + head, size - head));
}

static void try_chunk_case(struct repo_writer *w, const struct chunk_case *c)
{
	uint8_t old_data[256] = "", new_data[256] = "";
	bool duplicate = !c->duplicate;
	struct digest d = { { 0xab, 0xcd, 1 } };
	char name[128], hex[DIGEST_HEX_SIZE];
	struct stat st;

	digest_to_hex(&d, hex);
	snprintf(name, sizeof(name), ".chunks/abcd/%s", hex);
	if (c->old_magic)
		make_blob(c->old_magic, c->old_size, old_data);
	old_data[8] ^= c->is_torn;
	make_blob(c->new_magic, c->new_size, new_data);
	FILE *f = fopen(store_path(&folder, "%s", name), "w");
	assert_non_null(f);
	assert_int_equal(fwrite(old_data, 1, c->old_size, f), c->old_size);
	fclose(f);
	age(name);

	assert_int_equal(repo_writer_put_chunk(w, &d, new_data, c->new_size, 50, &duplicate, NULL),
			 c->rc);
	assert_int_equal(lstat(store_path(&folder, "%s", name), &st), 0);
	assert_int_equal(st.st_size, c->replaced ? c->new_size : c->old_size);
	assert_true(st.st_atim.tv_sec > 1000000000);
	if (c->rc == 0)
		assert_int_equal(duplicate, c->duplicate);
	assert_int_equal(store_count(&folder, ".chunks/abcd"), 1);
}

static void inserts_chunks_by_the_servers_rules(void **state)
{
	AUTO(repo_writer) struct repo_writer *w = begin_at(T1);

	(void)state;
	store_mkdir(&folder, ".chunks/abcd");
	for (size_t i = 0; i < sizeof(chunk_cases) / sizeof(chunk_cases[0]); i++)
		try_chunk_case(w, &chunk_cases[i]);
}

static void refuses_chunks_out_of_range_or_over_no_file(void **state)
{
	AUTO(repo_writer) struct repo_writer *w = begin_at(T1);
	AUTO(free) uint8_t *big = calloc(1, REPO_DIR_CHUNK_SIZE_MAX + 1);
	struct digest d = { { 0xab, 0xcd, 1 } };
	char hex[DIGEST_HEX_SIZE];

	(void)state;
	memcpy(big, PLAIN, 8);
	digest_to_hex(&d, hex);
	assert_int_equal(repo_writer_put_chunk(w, &d, big, 12, 1, NULL, NULL), -EINVAL);
	assert_int_equal(repo_writer_put_chunk(w, &d, big, REPO_DIR_CHUNK_SIZE_MAX + 1, 1, NULL,
					       NULL),
			 -EINVAL);
	assert_int_equal(repo_writer_put_chunk(w, &d, NONE, 8, 1, NULL, NULL), -EINVAL);
	assert_false(store_exists(&folder, ".chunks/abcd"));
	store_mkdir(&folder, ".chunks/abcd");
	assert_int_equal(symlink("/etc/passwd", store_path(&folder, ".chunks/abcd/%s", hex)), 0);
	assert_int_equal(repo_writer_reuse_chunk(w, &d, NULL), -EBADMSG);
	assert_int_equal(repo_writer_put_chunk(w, &d, big, 100, 1, NULL, NULL), -EBADMSG);
	assert_int_equal(unlink(store_path(&folder, ".chunks/abcd/%s", hex)), 0);
	store_write(&folder, store_path(&folder, ".chunks/abcd/%s", hex) + strlen(folder.path) + 1,
		    "");
	assert_int_equal(repo_writer_reuse_chunk(w, &d, NULL), -ENOENT); /* empty */
}

static void write_torn(const char *chunk, const struct wbuf *stored, int64_t mtime)
{
	const struct timespec times[2] = { { .tv_sec = mtime }, { .tv_sec = mtime } };
	int fd = open(store_path(&folder, "%s", chunk), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_int_equal(ftruncate(fd, (off_t)stored->size), 0);
	assert_int_equal(pwrite(fd, stored->data, stored->size / 2, 0), stored->size / 2);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

static bool is_taken_for_granted(int64_t time, const char *chunk, const struct wbuf *stored)
{
	AUTO(repo_writer) struct repo_writer *w = begin_at(time);
	bool duplicate = false;
	struct digest d;

	assert_int_equal(digest_from_hex(&d, chunk + 13), 0);
	assert_int_equal(repo_writer_put_chunk(w, &d, stored->data, stored->size, 5000, &duplicate,
					       NULL), 0);
	return duplicate;
}

/* ... had a name and a size, and half of its bytes on the disk. */
static void what_was_written_when_the_machine_went_down_is_looked_at(void **state)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	const int64_t now = time(NULL);
	char chunk[128];

	(void)state;
	make_backup(1000, 1);
	chunk_name(77, chunk, &stored);
	chunk[12] = '\0';
	store_mkdir(&folder, chunk);
	chunk[12] = '/';
	write_torn(chunk, &stored, 2000);
	assert_false(is_taken_for_granted(1001, chunk, &stored));
	assert_true(is_taken_for_granted(1001, chunk, &stored)); /* it is whole now */
	/* the machine has not gone down since, or somebody has synced it since: no need to read it */
	write_torn(chunk, &stored, now);
	assert_true(is_taken_for_granted(1001, chunk, &stored));
	write_torn(chunk, &stored, 999);
	assert_true(is_taken_for_granted(1001, chunk, &stored));
}

static void the_chunks_may_be_behind_a_link(void **state)
{
	(void)state;
	repo_free(repo);
	assert_int_equal(rename(store_path(&folder, ".chunks"), store_path(&folder, ".elsewhere")) |
			 symlink(".elsewhere", store_path(&folder, ".chunks")), 0);
	open_repo();
	make_backup(T1, 1);
	check_backup(T1, 1);
}

/* --- groups and unfinished snapshots --- */

static void takes_away_what_died_in_the_group_only(void **state)
{
	(void)state;
	make_backup(T1, 1);
	store_mkdir(&folder, "host/a/2026-01-15T08:00:00Z");
	store_write(&folder, "host/a/2026-01-15T08:00:00Z/root.mpxar.tmp_AbC123", "half");
	store_mkdir(&folder, "host/a/2028-01-15T08:00:00Z");
	store_write(&folder, "host/a/2028-01-15T08:00:00Z/root.mpxar.didx", "whole");
	store_mkdir(&folder, "host/b/2026-01-15T08:00:00Z");
	store_mkdir(&folder, "host/a/notes-of-mine");
	make_backup(T1 + 1, 2);
	assert_false(store_exists(&folder, "host/a/2026-01-15T08:00:00Z"));
	assert_false(store_exists(&folder, "host/a/2028-01-15T08:00:00Z"));
	assert_true(store_exists(&folder, "host/b/2026-01-15T08:00:00Z"));
	assert_true(store_exists(&folder, "host/a/notes-of-mine"));
	check_backup(T1, 1);
}

static void keeps_unfinished_snapshots_that_are_protected_or_odd(void **state)
{
	(void)state;
	store_mkdir(&folder, "host/a/2026-01-15T08:00:00Z");
	store_write(&folder, "host/a/2026-01-15T08:00:00Z/.protected", "");
	store_mkdir(&folder, "host/a/2026-01-15T08:00:01Z/folder");
	store_write(&folder, "host/a/owner", "root@pam\n");
	make_backup(T1, 1);
	assert_true(store_exists(&folder, "host/a/2026-01-15T08:00:00Z"));
	assert_true(store_exists(&folder, "host/a/2026-01-15T08:00:01Z/folder"));
	assert_non_null(strstr(warnings, "2026-01-15T08:00:01Z"));
	check_backup(T1, 1);
}

static void refuses_a_group_without_owner_but_with_snapshots(void **state)
{
	struct snapshot_name name = at(T1 + 1);
	struct repo_writer *w = NULL;
	struct err err = ERR_INIT;

	(void)state;
	make_backup(T1, 1);
	assert_int_equal(unlink(store_path(&folder, "host/a/owner")), 0);
	assert_int_equal(repo_conformance_begin(repo, &name, &w, &err), -EACCES);
	assert_non_null(strstr(err.text, "owner"));
	check_backup(T1, 1);
}

static void takes_over_a_group_whose_maker_died(void **state)
{
	(void)state;
	store_mkdir(&folder, "host/a");
	make_backup(T1, 1);
	store_mkdir(&folder, "host/b");
	store_write(&folder, "host/b/owner", "");
	struct snapshot_name name = repo_conformance_name("host/b", "", T1);
	assert_int_equal(repo_conformance_backup(repo, &name, 1, NULL), 0);
}

static void refuses_owners_that_are_none(void **state)
{
	static const char *const owners[] = { "",	    "root",    "a@b\nc", "a b@c",
					      "\xff@x", "a/b@c", NULL };
	struct repo_writer *w = NULL;

	(void)state;
	for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
		struct repo_writer_params params = { .name = at(T1), .owner = owners[i] };

		assert_int_equal(repo_write(repo, &params, &w, NULL), -EINVAL);
	}
	assert_false(store_exists(&folder, "host"));
}

static void does_not_build_on_a_snapshot_that_is_damaged_or_failed(void **state)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1);
	struct repo_writer *w = begin_at(T1);

	(void)state;
	m->verify_state = strdup("failed");
	json_object_set_new(m->unprotected, "verify_state",
			    json_pack("{s:s, s:s}", "state", "failed", "upid", "UPID:x"));
	assert_int_equal(repo_conformance_store(w, m, 1, NULL), 0);
	assert_int_equal(repo_conformance_finish(w, m, NULL), 0);
	repo_writer_free(w);
	w = begin_at(T1 + 1);
	assert_null(repo_writer_previous(w));
	assert_non_null(strstr(warnings, "verification failed"));
	repo_writer_free(w);
	warnings[0] = '\0';
	store_write(&folder, "host/a/" TIME1 "/index.json.blob", "no blob");
	w = begin_at(T1 + 1);
	assert_null(repo_writer_previous(w));
	assert_non_null(strstr(warnings, "nothing is reused"));
	repo_writer_free(w);
}

static void fails_when_the_previous_snapshot_vanished(void **state)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1 + 1);
	struct repo_writer *w;

	(void)state;
	make_backup(T1, 1);
	w = begin_at(T1 + 1);
	assert_int_equal(repo_conformance_store(w, m, 1, NULL), 0);
	assert_int_equal(unlink(store_path(&folder, "host/a/" TIME1 "/index.json.blob")), 0);
	assert_int_equal(repo_conformance_finish(w, m, NULL), -ESTALE);
	repo_writer_free(w);
	assert_false(store_exists(&folder, "host/a/" TIME2));
}

static void refuses_files_with_other_names(void **state)
{
	static const char *const names[] = { "", "x", ".didx", "../x.didx", "a/b.didx", "x.fidx",
					     "x.blob", "x.didx ", "-x.didx" };
	AUTO(repo_writer) struct repo_writer *w = begin_at(T1);
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	char long_name[REPO_DIR_FILE_NAME_MAX + 1];
	struct repo_index *ix;
	struct digest d;

	(void)state;
	repo_conformance_chunk(1, &stored, &d);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(repo_writer_index_open(w, names[i], &ix, NULL), -EINVAL);
	memset(long_name, 'x', sizeof(long_name));
	strcpy(long_name + REPO_DIR_FILE_NAME_MAX - 5, ".didx");
	assert_int_equal(repo_writer_index_open(w, long_name, &ix, NULL), -EINVAL);
	assert_int_equal(repo_writer_put_blob(w, "index.json.blob", stored.data, stored.size, NULL),
			 -EINVAL);
	assert_int_equal(repo_writer_put_blob(w, "x.didx", stored.data, stored.size, NULL),
			 -EINVAL);
}

static void refuses_a_store_on_a_file_system_that_is_read_only(void **state)
{
	struct snapshot_name name = at(T1 + 1);
	struct repo_writer *w = NULL;
	struct err err = ERR_INIT;

	(void)state;
	make_backup(T1, 1);
	if (mount(folder.path, folder.path, NULL, MS_BIND, NULL) < 0)
		skip();
	assert_int_equal(mount(NULL, folder.path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
	repo_free(repo);
	open_repo();
	int rc = repo_conformance_begin(repo, &name, &w, &err);
	check_backup(T1, 1); /* reading goes on */
	repo_free(repo);
	assert_int_equal(umount(folder.path), 0);
	open_repo();
	assert_int_equal(rc, -EROFS);
	assert_non_null(strstr(err.text, "Read-only file system"));
}

/* --- a full disk --- */

static int fill_until_full(struct repo_writer *w, struct err *err)
{
	for (unsigned seed = 0; seed < 1000; seed++) {
		AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
		struct digest d;

		repo_conformance_chunk(seed, &stored, &d);
		int rc = repo_writer_put_chunk(w, &d, stored.data, stored.size, 5000, NULL, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void a_full_disk_is_named_and_leaves_nothing(void **state)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1 + 1);
	struct repo_writer *w;
	struct err err = ERR_INIT;
	const char *store = store_path(&folder, "small");

	(void)state;
	store_mkdir(&folder, "small");
	if (mount("tmpfs", store, "tmpfs", 0, "size=512k") < 0)
		skip();
	repo_free(repo);
	assert_int_equal(repo_dir_init(store, false, NULL), 0);
	assert_int_equal(repo_dir_open(store, &repo, NULL), 0);
	make_backup(T1, 1);
	w = begin_at(T1 + 1);
	assert_int_equal(fill_until_full(w, &err), -ENOSPC);
	assert_non_null(strstr(err.text, ".tmp_"));
	assert_non_null(strstr(err.text, "No space left on device"));
	err.text[0] = '\0';
	assert_int_equal(repo_conformance_store(w, m, 5000, &err), -ENOSPC);
	repo_writer_free(w);
	assert_false(store_exists(&folder, "small/host/a/" TIME2));
	check_backup(T1, 1);
	/* With room again all is well, and no temporary file was left. */
	assert_int_equal(mount(NULL, store, NULL, MS_REMOUNT, "size=1m"), 0);
	make_backup(T1 + 2, 2);
	check_backup(T1 + 2, 2);
	repo_free(repo);
	assert_int_equal(umount(store), 0);
	open_repo();
}

static void an_index_that_does_not_fit_leaves_nothing(void **state)
{
	struct repo_writer *w;
	struct repo_index *ix;
	struct digest d = { { 7 } };
	struct err err = ERR_INIT;
	uint64_t size;
	const char *store = store_path(&folder, "small");

	(void)state;
	store_mkdir(&folder, "small");
	if (mount("tmpfs", store, "tmpfs", 0, "size=512k") < 0)
		skip();
	repo_free(repo);
	assert_int_equal(repo_dir_init(store, false, NULL), 0);
	assert_int_equal(repo_dir_open(store, &repo, NULL), 0);
	w = begin_at(T1);
	assert_int_equal(repo_writer_index_open(w, "a.didx", &ix, NULL), 0);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(repo_index_add(w, ix, 1, &d, NULL), 0);
	assert_int_equal(repo_index_close(w, ix, &size, &d, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "a.tmp_"));
	assert_int_equal(store_count(&folder, "small/host/a/" TIME1), 0);
	repo_writer_free(w);
	assert_false(store_exists(&folder, "small/host/a"));
	repo_free(repo);
	assert_int_equal(umount(store), 0);
	open_repo();
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH_STORE(makes_the_servers_layout_whatever_the_umask),
		WITH_STORE(gives_all_it_makes_to_the_servers_user),
		WITH_STORE(what_root_makes_belongs_to_the_datastores_owner),
		WITH_STORE(init_in_anothers_folder_makes_it_anothers),
		WITH_STORE(reuse_and_put_set_the_access_time_alone),
		WITH_STORE(inserts_chunks_by_the_servers_rules),
		WITH_STORE(refuses_chunks_out_of_range_or_over_no_file),
		WITH_STORE(what_was_written_when_the_machine_went_down_is_looked_at),
		WITH_STORE(the_chunks_may_be_behind_a_link),
		WITH_STORE(takes_away_what_died_in_the_group_only),
		WITH_STORE(keeps_unfinished_snapshots_that_are_protected_or_odd),
		WITH_STORE(refuses_a_group_without_owner_but_with_snapshots),
		WITH_STORE(takes_over_a_group_whose_maker_died),
		WITH_STORE(refuses_owners_that_are_none),
		WITH_STORE(does_not_build_on_a_snapshot_that_is_damaged_or_failed),
		WITH_STORE(fails_when_the_previous_snapshot_vanished),
		WITH_STORE(refuses_files_with_other_names),
		WITH_STORE(refuses_a_store_on_a_file_system_that_is_read_only),
		WITH_STORE(a_full_disk_is_named_and_leaves_nothing),
		WITH_STORE(an_index_that_does_not_fit_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
