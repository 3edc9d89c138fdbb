/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a datastore that the official client and server made, and damaged copies of it. */
#include "archive/blob.h"
#include "archive/didx.h"
#include "client/repo/repo_dir.h"
#include "client/repo/repo_name.h"
#include "tests/support/lib/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { CHUNK_MAX = 16 << 20 };

static struct store golden;
static struct repo *repo;

static void open_store(const char *tar)
{
	store_unpack(&golden, tar);
	assert_int_equal(repo_dir_open(golden.path, &repo, NULL), 0);
}

static int set_up(void **state)
{
	(void)state;
	open_store("tests/golden/datastore.tar");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	repo_free(repo);
	repo = NULL;
	store_remove(&golden);
	return 0;
}

static struct snapshot_name name_of(const char *text, const char *ns)
{
	struct snapshot_name s;
	bool latest;

	assert_int_equal(snapshot_parse(text, ns, &s, &latest, NULL), 0);
	return s;
}

/* --- listing --- */

struct rows {
	char text[8192];
	size_t count;
};

static void add_row(struct rows *rows, const char *text)
{
	assert_true(strlen(rows->text) + strlen(text) + 2 < sizeof(rows->text));
	strcat(strcat(rows->text, text), "\n");
	rows->count++;
}

static int on_ns(void *arg, const char *ns)
{
	add_row(arg, ns);
	return 0;
}

static int on_group(void *arg, const struct repo_group_info *info)
{
	char row[1024];

	snprintf(row, sizeof(row), "%s/%s %lld %zu %s", info->group.type, info->group.id,
		 (long long)info->last_backup, info->backup_count, info->owner);
	add_row(arg, row);
	return 0;
}

static int on_snapshot(void *arg, const struct repo_snapshot_info *info)
{
	char row[1024];

	snprintf(row, sizeof(row), "%lld%s%s", (long long)info->name.time,
		 info->finished ? "" : " unfinished", info->is_protected ? " protected" : "");
	add_row(arg, row);
	return 0;
}

static void lists_namespaces_at_every_depth(void **state)
{
	struct rows rows = { .count = 0 };

	(void)state;
	assert_int_equal(repo_list_ns(repo, "", on_ns, &rows, NULL), 0);
	assert_string_equal(rows.text, "prod\nprod/eu\n");
	rows = (struct rows){ .count = 0 };
	assert_int_equal(repo_list_ns(repo, "prod", on_ns, &rows, NULL), 0);
	assert_string_equal(rows.text, "prod/eu\n");
	assert_int_equal(repo_list_ns(repo, "prod/eu", on_ns, &rows, NULL), 0);
	assert_int_equal(repo_list_ns(repo, "prud", on_ns, &rows, NULL), -ENOENT);
	assert_int_equal(repo_list_ns(repo, "..", on_ns, &rows, NULL), -EINVAL);
}

static void lists_groups_with_newest_backup_and_owner(void **state)
{
	struct rows rows = { .count = 0 };

	(void)state;
	assert_int_equal(repo_list_groups(repo, "", on_group, &rows, NULL), 0);
	assert_int_equal(rows.count, 8);
	assert_non_null(strstr(rows.text, "host/split 1800000010 3 test@pbs!bench\n"));
	assert_non_null(strstr(rows.text, "host/legacy 1800000001 1 test@pbs!bench\n"));
	rows = (struct rows){ .count = 0 };
	assert_int_equal(repo_list_groups(repo, "prod/eu", on_group, &rows, NULL), 0);
	assert_string_equal(rows.text, "host/nested 1800000011 1 test@pbs!bench\n");
	assert_int_equal(repo_list_groups(repo, "none", on_group, &rows, NULL), -ENOENT);
}

static void lists_snapshots_of_a_group(void **state)
{
	struct snapshot_group g;
	struct rows rows = { .count = 0 };

	(void)state;
	snapshot_group_parse("host/split", "", &g, NULL);
	assert_int_equal(repo_list_snapshots(repo, &g, on_snapshot, &rows, NULL), 0);
	assert_int_equal(rows.count, 3);
	assert_non_null(strstr(rows.text, "1800000002\n"));
	snapshot_group_parse("host/none", "", &g, NULL);
	rows = (struct rows){ .count = 0 };
	assert_int_equal(repo_list_snapshots(repo, &g, on_snapshot, &rows, NULL), 0);
	assert_int_equal(rows.count, 0);
}

static void skips_what_is_no_group_and_no_snapshot(void **state)
{
	struct snapshot_group g;
	struct rows rows = { .count = 0 };

	(void)state;
	store_mkdir(&golden, "host/bad name/2027-01-15T08:00:02Z");
	store_mkdir(&golden, "host/-x");
	store_mkdir(&golden, "host/.hidden");
	store_mkdir(&golden, "host/esc\x1b[31m");
	store_mkdir(&golden, "tape/a");
	store_mkdir(&golden, "ns/bad name/host/a");
	store_mkdir(&golden, "ns/.hidden");
	store_write(&golden, "host/file", "no folder");
	store_write(&golden, "ct", "no folder");
	store_write(&golden, "ns/prod/ns/eu/ns", "no folder");
	assert_int_equal(symlink("split", store_path(&golden, "host/link")), 0);
	store_mkdir(&golden, "host/split/2027-02-30T08:00:02Z");
	store_mkdir(&golden, "host/split/other");
	store_write(&golden, "host/split/2028-01-15T08:00:02Z", "no folder");
	store_mkdir(&golden, "host/split/2029-01-15T08:00:02Z"); /* unfinished */
	store_mkdir(&golden, "host/split/2030-01-15T08:00:02Z/index.json.blob");
	store_write(&golden, "host/split/2027-01-15T08:00:02Z/.protected", "");

	assert_int_equal(repo_list_groups(repo, "", on_group, &rows, NULL), 0);
	assert_int_equal(rows.count, 8);
	assert_non_null(strstr(rows.text, "host/split 1800000010 5 "));
	rows = (struct rows){ .count = 0 };
	assert_int_equal(repo_list_ns(repo, "", on_ns, &rows, NULL), 0);
	assert_int_equal(rows.count, 2);
	rows = (struct rows){ .count = 0 };
	snapshot_group_parse("host/split", "", &g, NULL);
	assert_int_equal(repo_list_snapshots(repo, &g, on_snapshot, &rows, NULL), 0);
	assert_int_equal(rows.count, 5);
	assert_non_null(strstr(rows.text, "1863158402 unfinished\n"));
	assert_non_null(strstr(rows.text, "1894694402 unfinished\n"));
	assert_non_null(strstr(rows.text, "1800000002 protected\n"));
}

/* What is behind it is not shown, and that is not passed over in silence. */
static void refuses_a_link_in_place_of_a_type_or_group(void **state)
{
	struct rows rows = { .count = 0 };
	struct err err = ERR_INIT;
	struct snapshot_group g;

	(void)state;
	assert_int_equal(symlink("host", store_path(&golden, "ct")), 0);
	assert_int_equal(repo_list_groups(repo, "", on_group, &rows, &err), -ENOTDIR);
	assert_non_null(strstr(err.text, "ct: "));
	assert_int_equal(symlink("split", store_path(&golden, "host/link")), 0);
	snapshot_group_parse("host/link", "", &g, NULL);
	assert_int_equal(repo_list_snapshots(repo, &g, on_snapshot, &rows, &err), -ENOTDIR);
}

static void stops_at_the_deepest_namespace(void **state)
{
	struct rows rows = { .count = 0 };

	(void)state;
	store_mkdir(&golden, "ns/a/ns/b/ns/c/ns/d/ns/e/ns/f/ns/g/ns/h");
	assert_int_equal(repo_list_ns(repo, "a", on_ns, &rows, NULL), 0);
	assert_int_equal(rows.count, 6);
	rows = (struct rows){ .count = 0 };
	assert_int_equal(repo_list_ns(repo, "a/b/c", on_ns, &rows, NULL), 0);
	assert_int_equal(rows.count, 4);
}

static int stop_at_once(void *arg, const struct repo_group_info *info)
{
	(void)info;
	++*(int *)arg;
	return -EINTR;
}

static void ends_a_listing_when_the_visitor_says_so(void **state)
{
	int calls = 0;

	(void)state;
	assert_int_equal(repo_list_groups(repo, "", stop_at_once, &calls, NULL), -EINTR);
	assert_int_equal(calls, 1);
}

static void leaves_out_an_owner_that_is_no_line_of_text(void **state)
{
	char big[8192];
	struct rows rows = { .count = 0 };

	(void)state;
	memset(big, 'o', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	store_write(&golden, "host/split/owner", big);
	store_write(&golden, "host/legacy/owner", "");
	store_write(&golden, "host/enc/owner", "root@pam \t\r\nmore\n");
	assert_int_equal(unlink(store_path(&golden, "host/data/owner")), 0);
	assert_int_equal(repo_list_groups(repo, "", on_group, &rows, NULL), 0);
	assert_non_null(strstr(rows.text, "host/split 1800000010 3 \n"));
	assert_non_null(strstr(rows.text, "host/legacy 1800000001 1 \n"));
	assert_non_null(strstr(rows.text, "host/enc 1800000004 1 root@pam\n"));
	assert_non_null(strstr(rows.text, "host/data 1800000003 1 \n"));
}

static void resolves_latest_to_the_newest_finished_snapshot(void **state)
{
	struct snapshot_name s;
	struct err err = ERR_INIT;

	(void)state;
	store_mkdir(&golden, "host/split/2029-01-15T08:00:02Z");
	assert_int_equal(repo_resolve(repo, "host/split/latest", "", &s, NULL), 0);
	assert_int_equal(s.time, 1800000010);
	assert_int_equal(repo_resolve(repo, "host/nested", "prod/eu", &s, NULL), 0);
	assert_int_equal(s.time, 1800000011);
	assert_int_equal(repo_resolve(repo, "host/nested", "", &s, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no finished snapshot of group host/nested"));
	store_mkdir(&golden, "vm/1/2029-01-15T08:00:02Z");
	assert_int_equal(repo_resolve(repo, "vm/1/latest", "", &s, NULL), -ENOENT);
}

/* --- reading --- */

/* Every chunk of an index is there and, if it is not encrypted, the bytes it says. */
static void check_index(struct repo_reader *r, struct blob_codec *codec, const char *name)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	struct didx ix;

	assert_int_equal(repo_reader_get_file(r, name, &file, NULL), 0);
	assert_int_equal(didx_open(&ix, file.data, file.size, NULL), 0);
	for (size_t i = 0; i < ix.count; i++) {
		AUTO(wbuf) struct wbuf stored = WBUF_INIT(CHUNK_MAX);
		AUTO(free) uint8_t *plain = NULL;
		uint64_t begin, end;
		struct digest d;
		enum blob_kind kind;

		didx_chunk(&ix, i, &begin, &end, &d);
		assert_int_equal(repo_reader_get_chunk(r, &d, &stored, NULL), 0);
		assert_int_equal(blob_kind(stored.data, stored.size, &kind, NULL), 0);
		if (kind == BLOB_ENCRYPTED || kind == BLOB_ENCRYPTED_ZSTD)
			continue;
		plain = malloc(end - begin);
		assert_non_null(plain);
		assert_int_equal(blob_decode_chunk(codec, stored.data, stored.size, &d, plain,
						   end - begin, NULL),
				 0);
	}
}

static int check_snapshot(void *arg, const struct repo_snapshot_info *info)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(repo_file) struct repo_file blob = { 0 };
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(manifest) struct manifest *m = NULL;

	assert_true(info->finished);
	assert_int_equal(repo_read(repo, &info->name, &r, NULL), 0);
	assert_int_equal(repo_reader_get_file(r, MANIFEST_BLOB_NAME, &blob, NULL), 0);
	assert_int_equal(blob_decode(codec, blob.data, blob.size, MANIFEST_SIZE_MAX, &text, NULL),
			 0);
	assert_int_equal(manifest_decode(text.data, text.size, &m, NULL), 0);
	assert_int_equal(m->backup_time, info->name.time);
	for (size_t i = 0; i < m->file_count; i++) {
		const char *dot = strrchr(m->files[i].name, '.');

		assert_non_null(dot);
		if (strcmp(dot, ".didx") == 0)
			check_index(r, codec, m->files[i].name);
	}
	++*(int *)arg;
	return 0;
}

static int check_group(void *arg, const struct repo_group_info *info)
{
	return repo_list_snapshots(repo, &info->group, check_snapshot, arg, NULL);
}

static void reads_every_file_and_chunk_of_every_snapshot(void **state)
{
	int count = 0;

	(void)state;
	assert_int_equal(repo_list_groups(repo, "", check_group, &count, NULL), 0);
	assert_int_equal(count, 10);
	assert_int_equal(repo_list_groups(repo, "prod/eu", check_group, &count, NULL), 0);
	assert_int_equal(count, 11);
}

static void reads_the_second_golden_datastore(void **state)
{
	struct snapshot_group g;
	struct rows rows = { .count = 0 };
	int count = 0;

	tear_down(state);
	open_store("tests/golden/datastore2.tar");
	assert_int_equal(repo_list_groups(repo, "", check_group, &count, NULL), 0);
	assert_int_equal(count, 3);
	snapshot_group_parse("host/excludes", "", &g, NULL);
	assert_int_equal(repo_list_snapshots(repo, &g, on_snapshot, &rows, NULL), 0);
	assert_non_null(strstr(rows.text, "1800001001 protected\n"));
	assert_non_null(strstr(rows.text, "1800001002\n"));
}

static void refuses_snapshots_that_are_not_there_or_not_finished(void **state)
{
	struct snapshot_name s = name_of("host/split/2028-01-15T08:00:02Z", "");
	struct repo_reader *r = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(repo_read(repo, &s, &r, &err), -ENOENT);
	assert_non_null(strstr(err.text, "no snapshot host/split/2028-01-15T08:00:02Z"));
	assert_false(store_exists(&golden, ".pxarfs")); /* no lock file was left for it */
	store_mkdir(&golden, "host/split/2028-01-15T08:00:02Z");
	assert_int_equal(repo_read(repo, &s, &r, &err), -ENOENT);
	assert_non_null(strstr(err.text, "not finished"));
	assert_null(r);
}

static struct repo_reader *open_split(void)
{
	struct snapshot_name s = name_of("host/split/2027-01-15T08:00:02Z", "");
	struct repo_reader *r = NULL;

	assert_int_equal(repo_read(repo, &s, &r, NULL), 0);
	return r;
}

static void refuses_files_with_other_names(void **state)
{
	static const char *const names[] = { "", ".", "..", "../owner", "/etc/passwd", ".protected",
					     "a/b", "x\n" };
	AUTO(repo_reader) struct repo_reader *r = open_split();

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct repo_file f;

		assert_int_equal(repo_reader_get_file(r, names[i], &f, NULL), -EINVAL);
	}
}

static void names_a_file_that_vanished(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = open_split();
	struct err err = ERR_INIT;
	struct repo_file f;

	(void)state;
	assert_int_equal(unlink(store_path(&golden, "host/split/2027-01-15T08:00:02Z/"
						    "root.mpxar.didx")),
			 0);
	assert_int_equal(repo_reader_get_file(r, "root.mpxar.didx", &f, &err), -ENOENT);
	assert_non_null(strstr(err.text, "host/split/2027-01-15T08:00:02Z: root.mpxar.didx: No "
					 "such file"));
}

static void refuses_what_is_no_regular_file(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = open_split();
	const char *folder = "host/split/2027-01-15T08:00:02Z";
	struct repo_file f;

	(void)state;
	assert_int_equal(mkfifo(store_path(&golden, "%s/a.blob", folder), 0644), 0);
	assert_int_equal(symlink("/etc/passwd", store_path(&golden, "%s/b.blob", folder)), 0);
	store_mkdir(&golden, store_path(&golden, "%s/c.blob", folder) + strlen(golden.path) + 1);
	assert_int_equal(repo_reader_get_file(r, "a.blob", &f, NULL), -EBADMSG);
	assert_int_equal(repo_reader_get_file(r, "b.blob", &f, NULL), -EBADMSG);
	assert_int_equal(repo_reader_get_file(r, "c.blob", &f, NULL), -EBADMSG);
}

static void refuses_files_over_the_limit(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = open_split();
	const char *path = store_path(&golden, "host/split/2027-01-15T08:00:02Z/big.didx");
	struct repo_file f;

	(void)state;
	store_write(&golden, path + strlen(golden.path) + 1, "x");
	assert_int_equal(truncate(path, (off_t)REPO_FILE_SIZE_MAX + 1), 0);
	assert_int_equal(repo_reader_get_file(r, "big.didx", &f, NULL), -E2BIG);
}

static void maps_large_files(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = open_split();
	const char *path = store_path(&golden, "host/split/2027-01-15T08:00:02Z/big.didx");
	AUTO(repo_file) struct repo_file f = { 0 };

	(void)state;
	store_write(&golden, path + strlen(golden.path) + 1, "head");
	assert_int_equal(truncate(path, (8 << 20) + 1), 0);
	assert_int_equal(repo_reader_get_file(r, "big.didx", &f, NULL), 0);
	assert_int_equal(f.size, (8 << 20) + 1);
	assert_memory_equal(f.data, "head", 4);
	assert_int_equal(f.data[f.size - 1], 0);
}

/* --- chunks --- */

static const char DIGEST[] = "0086ddadcb7c3c282aff7b8ae71b2c736ad51f9c2dc2a4fa592115b286da54d8";
#define CHUNK_FILE ".chunks/0086/0086ddadcb7c3c282aff7b8ae71b2c736ad51f9c2dc2a4fa592115b286da54d8"

static int get_chunk(size_t size_max, struct err *err)
{
	AUTO(repo_reader) struct repo_reader *r = open_split();
	AUTO(wbuf) struct wbuf out = WBUF_INIT(size_max);
	struct digest d;

	assert_int_equal(digest_from_hex(&d, DIGEST), 0);
	int rc = repo_reader_get_chunk(r, &d, &out, err);
	assert_int_equal(out.size, rc == 0 ? 6290 : 0);
	return rc;
}

static void reads_a_chunk_within_the_bound(void **state)
{
	(void)state;
	assert_int_equal(get_chunk(6290, NULL), 0);
	assert_int_equal(get_chunk(6289, NULL), -E2BIG);
}

static void names_a_missing_chunk(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(rename(store_path(&golden, CHUNK_FILE),
				store_path(&golden, CHUNK_FILE ".0.bad")),
			 0);
	assert_int_equal(get_chunk(CHUNK_MAX, &err), -ENOENT);
	assert_non_null(strstr(err.text, DIGEST));
	assert_non_null(strstr(err.text, "set it aside"));
	assert_int_equal(unlink(store_path(&golden, CHUNK_FILE ".0.bad")), 0);
	assert_int_equal(get_chunk(CHUNK_MAX, &err), -ENOENT);
	assert_null(strstr(err.text, "set it aside"));
	assert_int_equal(rmdir(store_path(&golden, ".chunks/0086")), 0);
	assert_int_equal(get_chunk(CHUNK_MAX, NULL), -ENOENT);
}

static void refuses_chunks_that_are_no_files(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	store_write(&golden, CHUNK_FILE, "");
	assert_int_equal(get_chunk(CHUNK_MAX, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "empty"));
	assert_int_equal(unlink(store_path(&golden, CHUNK_FILE)), 0);
	assert_int_equal(symlink("/etc/passwd", store_path(&golden, CHUNK_FILE)), 0);
	assert_int_equal(get_chunk(CHUNK_MAX, NULL), -EBADMSG);
	assert_int_equal(unlink(store_path(&golden, CHUNK_FILE)), 0);
	assert_int_equal(mkfifo(store_path(&golden, CHUNK_FILE), 0600), 0);
	assert_int_equal(get_chunk(CHUNK_MAX, NULL), -EBADMSG);
	store_mkdir(&golden, CHUNK_FILE ".d");
}

static void refuses_chunks_over_the_limit(void **state)
{
	(void)state;
	assert_int_equal(truncate(store_path(&golden, CHUNK_FILE), (16 << 20) + 45), 0);
	assert_int_equal(get_chunk((size_t)64 << 20, NULL), -E2BIG);
}

static void gives_nothing_after_abort(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = open_split();
	AUTO(wbuf) struct wbuf out = WBUF_INIT(CHUNK_MAX);
	struct repo_file f;
	struct digest d;

	(void)state;
	assert_int_equal(digest_from_hex(&d, DIGEST), 0);
	repo_reader_abort(r);
	assert_int_equal(repo_reader_get_chunk(r, &d, &out, NULL), -ECANCELED);
	assert_int_equal(repo_reader_get_file(r, "root.mpxar.didx", &f, NULL), -ECANCELED);
}

/* --- opening --- */

static void opens_by_spelling(void **state)
{
	char spelling[PATH_MAX + 8];
	struct repo *r = NULL;
	struct err err = ERR_INIT;

	(void)state;
	snprintf(spelling, sizeof(spelling), "dir:%s", golden.path);
	assert_int_equal(repo_open(spelling, &r, NULL), 0);
	assert_int_equal(repo_default_names(r), ARCHIVE_NAMES_DESIGN);
	repo_free(r);
	unsetenv("PXARFS_REPOSITORY");
	setenv("PBS_REPOSITORY", golden.path, 1);
	assert_int_equal(repo_open(NULL, &r, NULL), 0);
	repo_free(r);
	setenv("PXARFS_REPOSITORY", "nonsense/here", 1);
	assert_int_equal(repo_open(NULL, &r, &err), -EINVAL);
	assert_non_null(strstr(err.text, "nonsense"));
	unsetenv("PXARFS_REPOSITORY");
	unsetenv("PBS_REPOSITORY");
	assert_int_equal(repo_open(NULL, &r, NULL), -EINVAL);
	assert_int_equal(repo_open("dir:", &r, NULL), -EINVAL);
	assert_int_equal(repo_open("", &r, NULL), -EINVAL);
}

/* Of a folder that is not there, and a server that nobody asks. */
static void finds_without_opening(void **state)
{
	char found[REPO_NAME_SIZE], long_name[REPO_NAME_SIZE + 1];

	(void)state;
	assert_int_equal(repo_name_find("./none", found, NULL), 0);
	assert_string_equal(found, "./none");
	setenv("PXARFS_REPOSITORY", "u@pbs@none.invalid:store \n", 1);
	assert_int_equal(repo_name_find(NULL, found, NULL), 0);
	assert_string_equal(found, "u@pbs@none.invalid:store");
	unsetenv("PXARFS_REPOSITORY");
	assert_int_equal(repo_name_find(NULL, found, NULL), -EINVAL);
	assert_int_equal(repo_name_find("bad!!:store", found, NULL), -EINVAL);
	memset(long_name, '/', sizeof(long_name));
	long_name[REPO_NAME_SIZE] = '\0';
	assert_int_equal(repo_name_find(long_name, found, NULL), -EINVAL);
}

static void refuses_directories_that_are_no_datastore(void **state)
{
	struct store plain;
	struct repo *r = NULL;
	struct err err = ERR_INIT;

	(void)state;
	store_folder(&plain);
	assert_int_equal(repo_dir_open(plain.path, &r, &err), -ENOENT);
	assert_non_null(strstr(err.text, "is no datastore"));
	store_write(&plain, ".chunks", "a file");
	assert_int_equal(repo_dir_open(plain.path, &r, NULL), -ENOENT);
	assert_int_equal(repo_dir_open(store_path(&plain, "none"), &r, NULL), -ENOENT);
	assert_int_equal(repo_dir_open(store_path(&plain, ".chunks"), &r, NULL), -ENOTDIR);
	assert_null(r);
	store_remove(&plain);
}

#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		WITH_STORE(lists_namespaces_at_every_depth),
		WITH_STORE(lists_groups_with_newest_backup_and_owner),
		WITH_STORE(lists_snapshots_of_a_group),
		WITH_STORE(skips_what_is_no_group_and_no_snapshot),
		WITH_STORE(refuses_a_link_in_place_of_a_type_or_group),
		WITH_STORE(stops_at_the_deepest_namespace),
		WITH_STORE(ends_a_listing_when_the_visitor_says_so),
		WITH_STORE(leaves_out_an_owner_that_is_no_line_of_text),
		WITH_STORE(resolves_latest_to_the_newest_finished_snapshot),
		WITH_STORE(reads_every_file_and_chunk_of_every_snapshot),
		WITH_STORE(reads_the_second_golden_datastore),
		WITH_STORE(refuses_snapshots_that_are_not_there_or_not_finished),
		WITH_STORE(refuses_files_with_other_names),
		WITH_STORE(names_a_file_that_vanished),
		WITH_STORE(refuses_what_is_no_regular_file),
		WITH_STORE(refuses_files_over_the_limit),
		WITH_STORE(maps_large_files),
		WITH_STORE(reads_a_chunk_within_the_bound),
		WITH_STORE(names_a_missing_chunk),
		WITH_STORE(refuses_chunks_that_are_no_files),
		WITH_STORE(refuses_chunks_over_the_limit),
		WITH_STORE(gives_nothing_after_abort),
		WITH_STORE(opens_by_spelling),
		cmocka_unit_test(finds_without_opening),
		WITH_STORE(refuses_directories_that_are_no_datastore),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
