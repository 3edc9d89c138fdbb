/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/repo_conformance.h"

#include "archive/didx.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { T1 = 1800000000, CHUNKS = REPO_CONFORMANCE_CHUNK_COUNT, STORED_MAX = 1 << 20 };

static const struct repo_conformance *backend;
static struct repo *repo;

static int set_up(void **state)
{
	(void)state;
	repo = backend->make();
	return repo ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	backend->unmake(repo);
	repo = NULL;
	return 0;
}

static struct snapshot_name at(int64_t time)
{
	return repo_conformance_name("host/a", "", time);
}

static struct repo_writer *begin_at(int64_t time)
{
	struct snapshot_name name = at(time);
	struct repo_writer *w = NULL;

	assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), 0);
	return w;
}

static void make_backup(const char *group, const char *ns, int64_t time, unsigned seed)
{
	struct snapshot_name name = repo_conformance_name(group, ns, time);
	struct err err = ERR_INIT;

	/* A backend may demand that the namespace is there, or make it by itself. */
	repo_make_ns(repo, ns, NULL);
	if (repo_conformance_backup(repo, &name, seed, &err) < 0)
		fail_msg("%s", err.text);
}

static void check_backup(const char *group, const char *ns, int64_t time, unsigned seed)
{
	struct snapshot_name name = repo_conformance_name(group, ns, time);
	struct err err = ERR_INIT;

	if (repo_conformance_check(repo, &name, seed, &err) < 0)
		fail_msg("%s", err.text);
}

static int count_group(void *arg, const struct repo_group_info *info)
{
	(void)info;
	++*(int *)arg;
	return 0;
}

static int keep_group(void *arg, const struct repo_group_info *info)
{
	*(struct repo_group_info *)arg = *info;
	return 0;
}

static int count_ns(void *arg, const char *ns)
{
	(void)ns;
	++*(int *)arg;
	return 0;
}

static void is_empty_at_first(void **state)
{
	struct snapshot_name name;
	int groups = 0, namespaces = 0;

	(void)state;
	assert_int_equal(repo_list_groups(repo, "", count_group, &groups, NULL), 0);
	assert_int_equal(repo_list_ns(repo, "", count_ns, &namespaces, NULL), 0);
	assert_int_equal(groups + namespaces, 0);
	assert_int_equal(repo_resolve(repo, "host/a", "", &name, NULL), -ENOENT);
	assert_int_equal(repo_list_ns(repo, "none", count_ns, &namespaces, NULL), -ENOENT);
	assert_int_equal(repo_list_groups(repo, "none", count_group, &groups, NULL), -ENOENT);
}

static void gives_back_what_was_stored(void **state)
{
	struct repo_group_info info = { .backup_count = 0 };
	int finished, unfinished;

	(void)state;
	make_backup("host/a", "", T1, 1);
	check_backup("host/a", "", T1, 1);
	assert_int_equal(repo_list_groups(repo, "", keep_group, &info, NULL), 0);
	assert_string_equal(info.group.type, "host");
	assert_string_equal(info.group.id, "a");
	assert_string_equal(info.group.ns, "");
	assert_string_equal(info.owner, "root@pam");
	assert_int_equal(info.last_backup, T1);
	assert_int_equal(info.backup_count, 1);
	repo_conformance_count(repo, &info.group, &finished, &unfinished);
	assert_int_equal(finished, 1);
	assert_int_equal(unfinished, 0);
}

static void keeps_groups_and_namespaces_apart(void **state)
{
	static const char *const ns[] = { "", "x", "x/y" };
	int groups = 0, namespaces = 0;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		make_backup("host/a", ns[i], T1, 10 * i);
		make_backup("vm/a", ns[i], T1, 10 * i + 1);
	}
	for (unsigned i = 0; i < 3; i++) {
		check_backup("host/a", ns[i], T1, 10 * i);
		check_backup("vm/a", ns[i], T1, 10 * i + 1);
		assert_int_equal(repo_list_groups(repo, ns[i], count_group, &groups, NULL), 0);
	}
	assert_int_equal(groups, 6);
	assert_int_equal(repo_list_ns(repo, "", count_ns, &namespaces, NULL), 0);
	assert_int_equal(namespaces, 2);
}

static void finds_the_newest_snapshot(void **state)
{
	struct snapshot_name name;

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		make_backup("host/a", "", T1 + i, i);
	assert_int_equal(repo_resolve(repo, "host/a/latest", "", &name, NULL), 0);
	assert_int_equal(name.time, T1 + 2);
	for (unsigned i = 0; i < 3; i++)
		check_backup("host/a", "", T1 + i, i);
}

static void shows_no_snapshot_before_the_end(void **state)
{
	struct snapshot_name name = at(T1);
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1);
	struct repo_writer *w = begin_at(T1);
	struct repo_reader *r = NULL;
	int finished, unfinished;

	(void)state;
	assert_int_equal(repo_conformance_store(w, m, 1, NULL), 0);
	repo_conformance_count(repo, &name.group, &finished, &unfinished);
	assert_int_equal(finished, 0);
	assert_int_equal(repo_resolve(repo, "host/a", "", &name, NULL), -ENOENT);
	assert_true(repo_read(repo, &name, &r, NULL) < 0);
	assert_int_equal(repo_conformance_finish(w, m, NULL), 0);
	repo_conformance_count(repo, &name.group, &finished, &unfinished);
	assert_int_equal(finished, 1);
	repo_writer_free(w);
	check_backup("host/a", "", T1, 1);
}

static void leaves_nothing_of_a_session_given_up(void **state)
{
	struct snapshot_name name = at(T1);
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1);
	struct repo_writer *w = begin_at(T1);
	struct repo_index *ix;
	struct repo_reader *r = NULL;
	int finished, unfinished, groups = 0;

	(void)state;
	assert_int_equal(repo_conformance_store(w, m, 1, NULL), 0);
	assert_int_equal(repo_writer_index_open(w, "open.didx", &ix, NULL), 0);
	repo_writer_free(w);
	repo_conformance_count(repo, &name.group, &finished, &unfinished);
	assert_int_equal(finished + unfinished, 0);
	assert_int_equal(repo_list_groups(repo, "", count_group, &groups, NULL), 0);
	assert_int_equal(groups, 0);
	assert_int_equal(repo_read(repo, &name, &r, NULL), -ENOENT);
	make_backup("host/a", "", T1, 2); /* the same time again */
	check_backup("host/a", "", T1, 2);
}

static void gives_the_previous_snapshot(void **state)
{
	AUTO(repo_writer) struct repo_writer *w = NULL;
	AUTO(repo_file) struct repo_file file = { 0 };
	struct didx ix;
	uint64_t begin, end;
	struct digest d;

	(void)state;
	make_backup("host/a", "", T1, 1);
	make_backup("host/a", "", T1 + 1, 2);
	w = begin_at(T1 + 2);
	assert_non_null(repo_writer_previous(w));
	assert_int_equal(repo_writer_previous(w)->time, T1 + 1);
	assert_int_equal(repo_writer_get_previous(w, "root.ppxar.didx", &file, NULL), 0);
	assert_int_equal(didx_open(&ix, file.data, file.size, NULL), 0);
	didx_chunk(&ix, 0, &begin, &end, &d);
	assert_int_equal(repo_writer_reuse_chunk(w, &d, NULL), 0);
	assert_int_equal(repo_writer_get_previous(w, "none.didx", &file, NULL), -ENOENT);
}

static void has_no_previous_snapshot_at_first(void **state)
{
	AUTO(repo_writer) struct repo_writer *w = begin_at(T1);
	struct repo_file file;

	(void)state;
	assert_null(repo_writer_previous(w));
	assert_int_equal(repo_writer_get_previous(w, MANIFEST_BLOB_NAME, &file, NULL), -ENOENT);
}

static void tells_duplicate_from_new_and_missing_chunks(void **state)
{
	AUTO(repo_writer) struct repo_writer *w = begin_at(T1);
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	struct digest d;
	bool duplicate = true;

	(void)state;
	repo_conformance_chunk(77, &stored, &d);
	assert_int_equal(repo_writer_reuse_chunk(w, &d, NULL), -ENOENT);
	assert_int_equal(repo_writer_put_chunk(w, &d, stored.data, stored.size,
					       REPO_CONFORMANCE_CHUNK_SIZE, &duplicate, NULL),
			 0);
	assert_false(duplicate);
	assert_int_equal(repo_writer_put_chunk(w, &d, stored.data, stored.size,
					       REPO_CONFORMANCE_CHUNK_SIZE, &duplicate, NULL),
			 0);
	assert_true(duplicate);
	assert_int_equal(repo_writer_reuse_chunk(w, &d, NULL), 0);
}

static void refuses_chunks_and_blobs_that_are_none(void **state)
{
	AUTO(repo_writer) struct repo_writer *w = begin_at(T1);
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	struct digest d;

	(void)state;
	repo_conformance_chunk(1, &stored, &d);
	assert_true(repo_writer_put_chunk(w, &d, stored.data, 5, 5, NULL, NULL) < 0);
	assert_true(repo_writer_put_chunk(w, &d, "no magic, no chunk", 18, 6, NULL, NULL) < 0);
	stored.data[stored.size - 1] ^= 1;
	assert_true(repo_writer_put_blob(w, "a.conf.blob", stored.data, stored.size, NULL) < 0);
	assert_true(repo_writer_put_blob(w, "a.conf.blob", "", 0, NULL) < 0);
}

static void refuses_a_backup_that_is_not_later(void **state)
{
	struct repo_writer *w = NULL;

	(void)state;
	make_backup("host/a", "", T1, 1);
	for (int64_t t = T1; t > T1 - 2; t--) {
		struct snapshot_name name = at(t);

		assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), -EEXIST);
	}
	assert_null(w);
}

static void refuses_times_that_are_none(void **state)
{
	struct repo_writer *w = NULL;

	(void)state;
	for (int64_t t = 0; t > -2; t--) {
		struct snapshot_name name = at(t);

		assert_int_equal(repo_conformance_begin(repo, &name, &w, NULL), -EINVAL);
	}
	assert_null(w);
}

static void lets_one_backup_of_a_group_run(void **state)
{
	struct snapshot_name second = at(T1 + 1);
	struct repo_writer *w = begin_at(T1);
	struct repo_writer *other = NULL;

	(void)state;
	assert_int_equal(repo_conformance_begin(repo, &second, &other, NULL), -EBUSY);
	make_backup("host/b", "", T1, 1);
	make_backup("host/a", "ns", T1, 1);
	repo_writer_free(w);
	make_backup("host/a", "", T1 + 1, 1);
}

static void lets_the_owner_and_its_tokens_user_back_up(void **state)
{
	struct snapshot_name name = at(T1);
	struct repo_writer *w = NULL;

	(void)state;
	if (backend->owner_is_login)
		skip(); /* does not return: nothing is to be released yet */
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1);
	assert_int_equal(repo_conformance_begin_as(repo, &name, "u@pam!tok", &w, NULL), 0);
	assert_int_equal(repo_conformance_store(w, m, 1, NULL), 0);
	assert_int_equal(repo_conformance_finish(w, m, NULL), 0);
	repo_writer_free(w);
	name.time++;
	static const char *const refused[] = { "v@pam", "u@pam!other", "u@pa", "u@pam!tok2" };
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
		assert_int_equal(repo_conformance_begin_as(repo, &name, refused[i], &w, NULL), -EACCES);
	assert_int_equal(repo_conformance_begin_as(repo, &name, "u@pam", &w, NULL), 0);
	repo_writer_free(w);
	assert_int_equal(repo_conformance_begin_as(repo, &name, "u@pam!tok", &w, NULL), 0);
	repo_writer_free(w);
}

static void refuses_to_end_with_an_open_index_or_nothing(void **state)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1);
	struct snapshot_name name = at(T1);
	struct repo_writer *w = begin_at(T1);
	struct repo_index *ix;
	int finished, unfinished;

	(void)state;
	assert_int_equal(repo_conformance_finish(w, m, NULL), -EINVAL);
	assert_int_equal(repo_conformance_store(w, m, 1, NULL), 0);
	assert_int_equal(repo_writer_index_open(w, "x.didx", &ix, NULL), 0);
	assert_int_equal(repo_conformance_finish(w, m, NULL), -EINVAL);
	repo_writer_free(w);
	repo_conformance_count(repo, &name.group, &finished, &unfinished);
	assert_int_equal(finished + unfinished, 0);
}

static void refuses_a_name_twice_and_an_empty_index(void **state)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "a", T1);
	AUTO(repo_writer) struct repo_writer *w = begin_at(T1);
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
	struct repo_index *ix, *other;
	struct digest d;
	uint64_t size;

	(void)state;
	repo_conformance_chunk(1, &stored, &d);
	assert_int_equal(repo_conformance_store(w, m, 1, NULL), 0);
	assert_int_equal(repo_writer_index_open(w, "root.mpxar.didx", &ix, NULL), -EEXIST);
	assert_int_equal(repo_writer_put_blob(w, "seed.conf.blob", stored.data, stored.size, NULL),
			 -EEXIST);
	assert_int_equal(repo_writer_index_open(w, "x.didx", &ix, NULL), 0);
	assert_int_equal(repo_writer_index_open(w, "x.didx", &other, NULL), -EEXIST);
	assert_int_equal(repo_index_close(w, ix, &size, &d, NULL), -EINVAL);
}

/* A backend may give chunks only of indexes that were got before. */
static struct repo_reader *read_with_indexes(const struct snapshot_name *name)
{
	static const char *const indexes[] = { "root.ppxar.didx", "root.mpxar.didx" };
	struct repo_reader *r = NULL;

	assert_int_equal(repo_read(repo, name, &r, NULL), 0);
	for (size_t i = 0; i < sizeof(indexes) / sizeof(indexes[0]); i++) {
		AUTO(repo_file) struct repo_file file = { 0 };

		assert_int_equal(repo_reader_get_file(r, indexes[i], &file, NULL), 0);
	}
	return r;
}

static void bounds_a_chunk_by_the_readers_buffer(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(wbuf) struct wbuf expected = WBUF_INIT(STORED_MAX);
	struct snapshot_name name = at(T1);
	struct digest d;

	(void)state;
	make_backup("host/a", "", T1, 1);
	repo_conformance_chunk(1, &expected, &d);
	r = read_with_indexes(&name);
	AUTO(wbuf) struct wbuf exact = WBUF_INIT(expected.size + 3);
	AUTO(wbuf) struct wbuf small = WBUF_INIT(expected.size - 1);
	assert_int_equal(wbuf_put(&exact, "abc", 3), 0);
	assert_int_equal(repo_reader_get_chunk(r, &d, &exact, NULL), 0); /* appends */
	assert_memory_equal(exact.data, "abc", 3);
	assert_memory_equal(exact.data + 3, expected.data, expected.size);
	assert_int_equal(repo_reader_get_chunk(r, &d, &small, NULL), -E2BIG);
}

static void gives_a_chunk_of_one_size_alone(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(wbuf) struct wbuf expected = WBUF_INIT(STORED_MAX);
	uint8_t to[STORED_MAX];
	struct snapshot_name name = at(T1);
	struct digest d, none = { { 1 } };
	int rc;

	(void)state;
	make_backup("host/a", "", T1, 1);
	repo_conformance_chunk(1, &expected, &d);
	r = read_with_indexes(&name);
	assert_in_range(expected.size, 2, sizeof(to) - 1);
	memset(to, 0xee, sizeof(to));
	assert_int_equal(repo_reader_get_chunk_of_size(r, &d, to, expected.size - 1, NULL), 1);
	assert_int_equal(repo_reader_get_chunk_of_size(r, &d, to, expected.size + 1, NULL), 1);
	rc = repo_reader_get_chunk_of_size(r, &d, to, expected.size, NULL);
	assert_in_range(rc, 0, 1); /* a backend that does not know sizes gives none */
	if (rc == 0)
		assert_memory_equal(to, expected.data, expected.size);
	assert_int_equal(to[expected.size], 0xee);
	rc = repo_reader_get_chunk_of_size(r, &none, to, expected.size, NULL);
	assert_true(rc == 1 || rc == -ENOENT);
	repo_reader_abort(r);
	rc = repo_reader_get_chunk_of_size(r, &d, to, expected.size, NULL);
	assert_true(rc == 1 || rc == -ECANCELED);
}

static void tells_missing_files_and_chunks(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(wbuf) struct wbuf out = WBUF_INIT(STORED_MAX);
	struct snapshot_name name = at(T1);
	struct repo_file file;
	struct digest d = { { 1 } };
	char hex[DIGEST_HEX_SIZE];
	struct err err = ERR_INIT;

	(void)state;
	make_backup("host/a", "", T1, 1);
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0);
	assert_int_equal(repo_reader_get_file(r, "none.didx", &file, &err), -ENOENT);
	assert_int_equal(repo_reader_has_file(r, "none.didx", NULL), 0);
	assert_int_equal(repo_reader_has_file(r, MANIFEST_BLOB_NAME, NULL), 1);
	assert_non_null(strstr(err.text, "none.didx"));
	assert_int_equal(repo_reader_get_chunk(r, &d, &out, &err), -ENOENT);
	digest_to_hex(&d, hex);
	assert_non_null(strstr(err.text, hex));
	name.time++;
	struct repo_reader *other = NULL;
	assert_int_equal(repo_read(repo, &name, &other, NULL), -ENOENT);
}

static void gives_nothing_after_abort(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(wbuf) struct wbuf out = WBUF_INIT(STORED_MAX);
	struct snapshot_name name = at(T1);
	struct repo_file file;
	struct digest d = { { 1 } };

	(void)state;
	make_backup("host/a", "", T1, 1);
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0);
	repo_reader_abort(r);
	assert_int_equal(repo_reader_get_file(r, MANIFEST_BLOB_NAME, &file, NULL), -ECANCELED);
	assert_int_equal(repo_reader_has_file(r, MANIFEST_BLOB_NAME, NULL), -ECANCELED);
	assert_int_equal(repo_reader_get_chunk(r, &d, &out, NULL), -ECANCELED);
}

static void check_log(const struct snapshot_name *name, const struct wbuf *expected)
{
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(repo_file) struct repo_file file = { 0 };

	assert_int_equal(repo_read(repo, name, &r, NULL), 0);
	assert_int_equal(repo_reader_get_file(r, REPO_CLIENT_LOG, &file, NULL), 0);
	assert_int_equal(file.size, expected->size);
	assert_memory_equal(file.data, expected->data, file.size);
}

static void adds_a_log_once(void **state)
{
	AUTO(wbuf) struct wbuf log = WBUF_INIT(STORED_MAX);
	AUTO(wbuf) struct wbuf other = WBUF_INIT(STORED_MAX);
	struct snapshot_name name = at(T1), none = at(T1 + 1);
	struct err err = ERR_INIT;
	struct digest d;

	(void)state;
	make_backup("host/a", "", T1, 1);
	repo_conformance_chunk(7, &log, &d);
	repo_conformance_chunk(8, &other, &d);
	assert_int_equal(repo_put_log(repo, &none, log.data, log.size, NULL), -ENOENT);
	assert_int_equal(repo_put_log(repo, &name, log.data, 5, NULL), -EBADMSG);
	log.data[log.size - 1] ^= 1;
	assert_int_equal(repo_put_log(repo, &name, log.data, log.size, NULL), -EBADMSG);
	log.data[log.size - 1] ^= 1;
	assert_int_equal(repo_put_log(repo, &name, log.data, log.size, NULL), 0);
	check_log(&name, &log);
	assert_int_equal(repo_put_log(repo, &name, other.data, other.size, &err), -EEXIST);
	assert_non_null(strstr(err.text, REPO_CLIENT_LOG));
	check_log(&name, &log);
	check_backup("host/a", "", T1, 1);
}

/* --- threads --- */

enum { THREAD_COUNT = 4, THREAD_CHUNK_COUNT = 40, READ_SEED = 1000 };

struct job {
	struct repo_writer *writer;
	struct repo_reader *reader;
	int rc;
};

/* All threads put the same chunks, and read the same others, at the same time. */
static void *work(void *arg)
{
	struct job *job = arg;

	for (unsigned i = 0; i < THREAD_CHUNK_COUNT && job->rc == 0; i++) {
		AUTO(wbuf) struct wbuf stored = WBUF_INIT(STORED_MAX);
		AUTO(wbuf) struct wbuf found = WBUF_INIT(STORED_MAX);
		struct digest d;

		repo_conformance_chunk(i, &stored, &d);
		job->rc = repo_writer_put_chunk(job->writer, &d, stored.data, stored.size,
						REPO_CONFORMANCE_CHUNK_SIZE, NULL, NULL);
		if (job->rc == 0)
			job->rc = repo_writer_reuse_chunk(job->writer, &d, NULL);
		wbuf_clear(&stored);
		repo_conformance_chunk(READ_SEED + i % CHUNKS, &stored, &d);
		if (job->rc == 0)
			job->rc = repo_reader_get_chunk(job->reader, &d, &found, NULL);
		if (job->rc == 0 && (found.size != stored.size ||
				     memcmp(found.data, stored.data, found.size) != 0))
			job->rc = -EBADMSG;
	}
	return NULL;
}

static void serves_threads_at_once(void **state)
{
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(repo_writer) struct repo_writer *w = NULL;
	struct snapshot_name name = at(T1);
	struct job jobs[THREAD_COUNT];
	pthread_t threads[THREAD_COUNT];

	(void)state;
	make_backup("host/a", "", T1, READ_SEED);
	r = read_with_indexes(&name);
	w = begin_at(T1 + 1);
	for (int i = 0; i < THREAD_COUNT; i++) {
		jobs[i] = (struct job){ .writer = w, .reader = r };
		assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
	}
	for (int i = 0; i < THREAD_COUNT; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(jobs[i].rc, 0);
	}
}

#define WITH_REPO(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int repo_conformance_run(const struct repo_conformance *b)
{
	static const struct CMUnitTest tests[] = {
		WITH_REPO(is_empty_at_first),
		WITH_REPO(gives_back_what_was_stored),
		WITH_REPO(keeps_groups_and_namespaces_apart),
		WITH_REPO(finds_the_newest_snapshot),
		WITH_REPO(shows_no_snapshot_before_the_end),
		WITH_REPO(leaves_nothing_of_a_session_given_up),
		WITH_REPO(gives_the_previous_snapshot),
		WITH_REPO(has_no_previous_snapshot_at_first),
		WITH_REPO(tells_duplicate_from_new_and_missing_chunks),
		WITH_REPO(refuses_chunks_and_blobs_that_are_none),
		WITH_REPO(refuses_a_backup_that_is_not_later),
		WITH_REPO(refuses_times_that_are_none),
		WITH_REPO(lets_one_backup_of_a_group_run),
		WITH_REPO(lets_the_owner_and_its_tokens_user_back_up),
		WITH_REPO(refuses_to_end_with_an_open_index_or_nothing),
		WITH_REPO(refuses_a_name_twice_and_an_empty_index),
		WITH_REPO(bounds_a_chunk_by_the_readers_buffer),
		WITH_REPO(gives_a_chunk_of_one_size_alone),
		WITH_REPO(tells_missing_files_and_chunks),
		WITH_REPO(gives_nothing_after_abort),
		WITH_REPO(adds_a_log_once),
		WITH_REPO(serves_threads_at_once),
	};

	backend = b;
	return cmocka_run_group_tests_name(b->name, tests, NULL, NULL) +
	       repo_conformance_image_run(b);
}
