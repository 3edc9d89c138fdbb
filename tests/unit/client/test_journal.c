/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/journal.h"

#include "tests/support/lib/store.h"

#include <fcntl.h>
#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

enum { HEADER_SIZE = 64 };

static struct store store;
static struct snapshot_group group, other;

static int set_up(void **state)
{
	(void)state;
	store_folder(&store);
	return snapshot_group_parse("host/a", "", &group, NULL) < 0 ||
	       snapshot_group_parse("host/b", "", &other, NULL) < 0;
}

static int tear_down(void **state)
{
	(void)state;
	store_remove(&store);
	return 0;
}

static const char *folder(void)
{
	return store_path(&store, "cache/journal");
}

static struct digest digest_of(unsigned i)
{
	struct digest d = { { (uint8_t)i, (uint8_t)(i >> 8), 1 } };

	return d;
}

static struct journal *open_journal(void)
{
	struct journal *j = journal_open(folder(), "/srv/store", &group, NULL);

	assert_non_null(j);
	return j;
}

static void add(struct journal *j, unsigned begin, unsigned end)
{
	for (unsigned i = begin; i < end; i++) {
		struct digest d = digest_of(i);

		journal_add(j, &d);
	}
}

/* The journal gives digests 0 to `count`, and these alone. */
static void check(struct journal *j, unsigned count)
{
	AUTO(known_set) struct known_set *set = NULL;

	assert_int_equal(known_set_new(&set, NULL), 0);
	assert_int_equal(journal_load(j, set), count);
	for (unsigned i = 0; i < count + 3; i++) {
		struct digest d = digest_of(i);
		enum known known;

		assert_int_equal(known_claim(set, &d, &known), 0);
		assert_int_equal(known, i < count ? KNOWN_BEFORE : KNOWN_NEW);
		known_settle(set, &d, false);
	}
}

/* The only file in the folder. */
static const char *file(void)
{
	DIR *dir = opendir(folder());
	const char *out = NULL;
	struct dirent *e;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.')
			out = store_path(&store, "cache/journal/%s", e->d_name);
	closedir(dir);
	return out;
}

static void remembers_what_was_added(void **state)
{
	struct journal *j = open_journal();
	struct stat st;

	(void)state;
	check(j, 0);
	add(j, 0, 5000);
	journal_free(j);
	j = open_journal();
	check(j, 5000);
	add(j, 5000, 5003);
	journal_free(j);
	j = open_journal();
	check(j, 5003);
	journal_free(j);
	assert_int_equal(stat(file(), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(st.st_size, HEADER_SIZE + 5003 * DIGEST_SIZE);
}

static void forgets_when_all_is_done(void **state)
{
	struct journal *j = open_journal();

	(void)state;
	add(j, 0, 10);
	journal_finish(j);
	journal_free(j);
	assert_null(file());
	j = open_journal();
	check(j, 0);
	journal_free(j);
}

static void keeps_groups_and_repositories_apart(void **state)
{
	struct journal *j = open_journal(), *k;

	(void)state;
	add(j, 0, 10);
	k = journal_open(folder(), "/srv/store", &other, NULL);
	check(k, 0);
	journal_free(k);
	k = journal_open(folder(), "/srv/other", &group, NULL);
	check(k, 0);
	journal_free(k);
	journal_free(j);
}

/* A copy of it under another's name, that is. */
static void believes_nothing_of_anybody_elses(void **state)
{
	const uint8_t bytes[CRYPT_KEY_SIZE] = { 1 };
	AUTO(crypt_key) struct crypt_key *key = NULL;
	struct journal *j = open_journal();
	char own[256];

	(void)state;
	assert_int_equal(crypt_key_new(&key, bytes, NULL), 0);
	add(j, 0, 10);
	snprintf(own, sizeof(own), "%s", file());
	journal_free(j);
	for (int i = 0; i < 3; i++) {
		const char *const repository = i == 0 ? "/srv/other" : "/srv/store";
		const struct snapshot_group *const g = i == 1 ? &other : &group;
		struct crypt_key *const k = i == 2 ? key : NULL;
		char name[256];

		assert_int_equal(rename(own, store_path(&store, "kept")), 0);
		journal_free(journal_open(folder(), repository, g, k));
		snprintf(name, sizeof(name), "%s", file());
		assert_int_equal(rename(store_path(&store, "kept"), name), 0);
		j = journal_open(folder(), repository, g, k);
		check(j, 0);
		journal_finish(j);
		journal_free(j);
		j = open_journal();
		add(j, 0, 10);
		journal_free(j);
	}
}

static void belongs_to_one_at_a_time(void **state)
{
	struct journal *j = open_journal();

	(void)state;
	assert_null(journal_open(folder(), "/srv/store", &group, NULL));
	journal_free(j);
	journal_free(open_journal());
}

/* Cut anywhere: whole digests count, and what is added then stands where it should. */
static void survives_being_cut_anywhere(void **state)
{
	struct journal *j;

	(void)state;
	for (unsigned cut = 0; cut < HEADER_SIZE + 3 * DIGEST_SIZE; cut++) {
		unsigned whole = cut < HEADER_SIZE ? 0 : (cut - HEADER_SIZE) / DIGEST_SIZE;

		j = open_journal();
		add(j, 0, 3);
		journal_free(j);
		assert_int_equal(truncate(file(), cut), 0);
		j = open_journal();
		check(j, whole);
		add(j, whole, 5);
		journal_free(j);
		j = open_journal();
		check(j, 5);
		journal_finish(j);
		journal_free(j);
	}
}

static void believes_nothing_of_another_boot_or_form(void **state)
{
	(void)state;
	for (unsigned at = 0; at < HEADER_SIZE; at += 5) {
		struct journal *j = open_journal();
		int fd;

		add(j, 0, 3);
		journal_free(j);
		fd = open(file(), O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, "!", 1, at), 1);
		close(fd);
		j = open_journal();
		check(j, 0);
		journal_finish(j);
		journal_free(j);
	}
}

static void keeps_a_doubt_until_all_is_done(void **state)
{
	struct journal *j = open_journal();

	(void)state;
	add(j, 0, 3);
	assert_false(journal_is_doubted(j));
	journal_doubt(j);
	add(j, 3, 5);
	for (int i = 0; i < 2; i++) {
		journal_free(j);
		j = open_journal();
		assert_true(journal_is_doubted(j));
		check(j, 0);
		add(j, 0, 3);
	}
	journal_finish(j);
	journal_free(j);
	j = open_journal();
	assert_false(journal_is_doubted(j));
	journal_free(j);
}

static void is_bounded(void **state)
{
	struct journal *j = open_journal();
	const off_t size = HEADER_SIZE + (off_t)JOURNAL_DIGESTS_MAX * DIGEST_SIZE;
	struct stat st;

	(void)state;
	journal_free(j);
	assert_int_equal(truncate(file(), size - DIGEST_SIZE), 0);
	j = open_journal();
	add(j, 0, 10);
	assert_int_equal(stat(file(), &st), 0);
	assert_int_equal(st.st_size, size);
	journal_free(j);
	assert_int_equal(truncate(file(), size + 100), 0);
	journal_free(open_journal());
	assert_int_equal(stat(file(), &st), 0);
	assert_int_equal(st.st_size, size);
}

static void removes_what_was_forgotten(void **state)
{
	const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	struct journal *j = journal_open(folder(), "/srv/store", &other, NULL);

	(void)state;
	add(j, 0, 3);
	assert_int_equal(utimensat(AT_FDCWD, file(), old, 0), 0);
	store_write(&store, "cache/journal/README", "not ours");
	assert_int_equal(utimensat(AT_FDCWD, store_path(&store, "cache/journal/README"), old, 0), 0);
	journal_free(open_journal()); /* the other one is in use */
	assert_int_equal(store_count(&store, "cache/journal"), 3);
	journal_free(j);
	journal_free(open_journal());
	assert_int_equal(store_count(&store, "cache/journal"), 2);
	assert_true(store_exists(&store, "cache/journal/README"));
}

static void does_without_where_it_cannot_write(void **state)
{
	(void)state;
	store_write(&store, "cache", "a file");
	assert_null(journal_open(folder(), "/srv/store", &group, NULL));
	journal_add(NULL, &(struct digest){ { 0 } });
	journal_free(NULL);
}

static void *add_some(void *arg)
{
	struct journal *j = arg;

	for (unsigned i = 0; i < 2000; i++)
		journal_add(j, &(struct digest){ { 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7 } });
	return NULL;
}

static void threads_do_not_tear_each_others_digests(void **state)
{
	struct journal *j = open_journal();
	pthread_t threads[4];
	uint8_t bytes[DIGEST_SIZE];
	FILE *f;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, add_some, j), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	journal_free(j);
	f = fopen(file(), "r");
	assert_int_equal(fseek(f, HEADER_SIZE, SEEK_SET), 0);
	for (int i = 0; i < 8000; i++) {
		assert_int_equal(fread(bytes, DIGEST_SIZE, 1, f), 1);
		assert_true(bytes[0] == 7 && bytes[15] == 7 && bytes[16] == 0);
	}
	fclose(f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(remembers_what_was_added),
		TEST(forgets_when_all_is_done),
		TEST(keeps_groups_and_repositories_apart),
		TEST(believes_nothing_of_anybody_elses),
		TEST(belongs_to_one_at_a_time),
		TEST(survives_being_cut_anywhere),
		TEST(believes_nothing_of_another_boot_or_form),
		TEST(keeps_a_doubt_until_all_is_done),
		TEST(is_bounded),
		TEST(removes_what_was_forgotten),
		TEST(does_without_where_it_cannot_write),
		TEST(threads_do_not_tear_each_others_digests),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
