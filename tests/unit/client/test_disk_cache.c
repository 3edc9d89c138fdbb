/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/disk_cache.h"

#include "tests/support/lib/other.h"
#include "tests/support/lib/store.h"

#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

enum { BLOCK = 4096, SIZE_MAX_ = 1 << 20 };

struct bench {
	struct store store;
	struct disk_cache *cache;
};

static unsigned warnings;

static void warn(const char *text)
{
	assert_non_null(strstr(text, "cannot keep chunks"));
	warnings++;
}

static int open_cache(struct bench *b, uint64_t bytes_max, struct err *err)
{
	const char *path = store_path(&b->store, "cache");
	const struct disk_cache_params params = { .path = path, .bytes_max = bytes_max,
						  .warn = warn };

	return disk_cache_open(&b->cache, &params, err);
}

static void bench_init(struct bench *b, uint64_t bytes_max)
{
	*b = (struct bench){ 0 };
	warnings = 0;
	store_folder(&b->store);
	assert_int_equal(open_cache(b, bytes_max, NULL), 0);
}

static void bench_release(struct bench *b)
{
	disk_cache_free(b->cache);
	store_remove(&b->store);
}
DEFINE_AUTO_STRUCT(bench)

static struct digest key_of(unsigned n)
{
	struct digest key = { 0 };

	key.bytes[0] = (uint8_t)(n * 37);
	key.bytes[1] = (uint8_t)(n >> 8);
	key.bytes[2] = (uint8_t)n;
	return key;
}

static const char *path_of(struct bench *b, unsigned n)
{
	struct digest key = key_of(n);
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(&key, hex);
	return store_path(&b->store, "cache/%.2s/%s", hex, hex);
}

static bool has_file(struct bench *b, unsigned n)
{
	return access(path_of(b, n), F_OK) == 0;
}

/* A chunk is its number again and again. */
static void put(struct bench *b, unsigned n, size_t size)
{
	struct digest key = key_of(n);
	AUTO(free) uint8_t *data = malloc(size);

	memset(data, (int)n, size);
	disk_cache_put(b->cache, &key, data, size);
}

/* Its size, or -1. */
static ssize_t get(struct bench *b, unsigned n)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(SIZE_MAX_);
	struct digest key = key_of(n);
	int rc = disk_cache_get(b->cache, &key, &out);

	if (rc < 0) {
		assert_int_equal(rc, -ENOENT);
		assert_int_equal(out.size, 0);
		return -1;
	}
	for (size_t i = 0; i < out.size; i++)
		assert_int_equal(out.data[i], n & 0xff);
	return (ssize_t)out.size;
}

static void set_age_of(const char *path, time_t seconds)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = time(NULL) - seconds } };

	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void set_age(struct bench *b, unsigned n, time_t seconds)
{
	set_age_of(path_of(b, n), seconds);
}

static uint64_t found;

static int add_size(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)path;
	if (type == FTW_F && where->level == 2)
		found += ((uint64_t)st->st_size + BLOCK - 1) / BLOCK * BLOCK;
	return 0;
}

/* Of all files in its folders. */
static uint64_t bytes_found(struct bench *b)
{
	found = 0;
	assert_int_equal(nftw(store_path(&b->store, "cache"), add_size, 16, FTW_PHYS), 0);
	return found;
}

static struct disk_cache_stats stats_of(struct bench *b)
{
	struct disk_cache_stats stats;

	disk_cache_stats(b->cache, &stats);
	return stats;
}

static void reopen(struct bench *b, uint64_t bytes_max)
{
	disk_cache_free(steal(&b->cache));
	assert_int_equal(open_cache(b, bytes_max, NULL), 0);
}

static void gives_back_what_was_put(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 1 << 20);
	assert_int_equal(get(&b, 1), -1);
	put(&b, 1, 1);
	put(&b, 2, 100000);
	put(&b, 2, 100000); /* it is there */
	reopen(&b, 1 << 20);
	assert_int_equal(get(&b, 1), 1);
	assert_int_equal(get(&b, 2), 100000);
	assert_int_equal(get(&b, 3), -1);
	assert_int_equal(stats_of(&b).hits, 2);
	assert_int_equal(stats_of(&b).misses, 1);
	assert_int_equal(bytes_found(&b), 26 * BLOCK);
}

static void makes_a_folder_that_only_its_owner_may_enter(void **state)
{
	AUTO(bench) struct bench b;
	struct stat st;

	(void)state;
	bench_init(&b, 1 << 20);
	put(&b, 1, 1);
	assert_int_equal(stat(store_path(&b.store, "cache"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_true(store_exists(&b.store, "cache/CACHEDIR.TAG"));
}

static void refuses_a_folder_that_others_may_enter(void **state)
{
	AUTO(bench) struct bench b;
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b, 1 << 20);
	disk_cache_free(steal(&b.cache));
	assert_int_equal(chmod(store_path(&b.store, "cache"), 0710), 0);
	assert_int_equal(open_cache(&b, 1 << 20, &err), -EPERM);
	assert_non_null(strstr(err.text, "0710"));
}

static void refuses_what_is_no_folder(void **state)
{
	AUTO(bench) struct bench b;
	struct disk_cache_params params = { .bytes_max = 1 << 20 };
	struct err err = ERR_INIT;
	struct disk_cache *d;

	(void)state;
	bench_init(&b, 1 << 20);
	store_write(&b.store, "file", "text");
	params.path = store_path(&b.store, "file");
	assert_int_equal(disk_cache_open(&d, &params, &err), -ENOTDIR);
	params.path = store_path(&b.store, "none/cache");
	assert_int_equal(disk_cache_open(&d, &params, &err), -ENOENT);
	assert_non_null(strstr(err.text, "none/cache"));
}

static void stays_within_its_bound_at_any_time(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 20 * BLOCK);
	for (unsigned i = 0; i < 200; i++) {
		put(&b, i, 1 + i * 97 % (3 * BLOCK));
		assert_in_range(bytes_found(&b), 1, 20 * BLOCK);
		assert_int_equal(bytes_found(&b), stats_of(&b).bytes);
		assert_true(has_file(&b, i));
	}
	put(&b, 777, 21 * BLOCK); /* would push all others out */
	assert_false(has_file(&b, 777));
	assert_int_equal(warnings, 0);
}

static void removes_the_longest_unused_first(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 10 * BLOCK);
	for (unsigned i = 0; i < 10; i++) {
		put(&b, i, BLOCK);
		set_age(&b, i, 1000 - 100 * i);
	}
	assert_int_equal(get(&b, 0), BLOCK); /* is now the youngest */
	put(&b, 10, 3 * BLOCK);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(has_file(&b, i), i == 0 || i > 3);
	assert_true(has_file(&b, 10));
}

static void a_smaller_bound_holds_from_the_next_chunk_on(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 100 * BLOCK);
	for (unsigned i = 0; i < 100; i++)
		put(&b, i, BLOCK);
	assert_int_equal(bytes_found(&b), 100 * BLOCK);
	reopen(&b, 10 * BLOCK);
	put(&b, 100, BLOCK);
	assert_int_equal(bytes_found(&b), 10 * BLOCK);
	assert_true(has_file(&b, 100));
}

static void drops_what_was_no_chunk(void **state)
{
	AUTO(bench) struct bench b;
	struct digest key = key_of(3);

	(void)state;
	bench_init(&b, 10 * BLOCK);
	put(&b, 3, 2 * BLOCK);
	assert_int_equal(truncate(path_of(&b, 3), 0), 0);
	assert_int_equal(get(&b, 3), 0);
	disk_cache_drop(b.cache, &key);
	assert_false(has_file(&b, 3));
	assert_int_equal(stats_of(&b).damaged, 1);
	put(&b, 3, 2 * BLOCK);
	assert_int_equal(get(&b, 3), 2 * BLOCK);
}

static void ignores_what_cannot_be_a_chunk(void **state)
{
	AUTO(bench) struct bench b;
	struct digest key = key_of(0);

	(void)state;
	bench_init(&b, 10 * BLOCK);
	put(&b, 0, BLOCK);
	assert_int_equal(unlink(path_of(&b, 0)), 0);
	assert_int_equal(symlink("/etc/passwd", path_of(&b, 0)), 0);
	assert_int_equal(get(&b, 0), -1);
	disk_cache_drop(b.cache, &key);
	assert_int_equal(mkdir(path_of(&b, 0), 0700), 0);
	assert_int_equal(get(&b, 0), -1);
	disk_cache_drop(b.cache, &key);
	assert_int_equal(rmdir(path_of(&b, 0)), 0);
	assert_int_equal(mkfifo(path_of(&b, 0), 0600), 0);
	assert_int_equal(get(&b, 0), -1);
	disk_cache_drop(b.cache, &key);
	put(&b, 1, SIZE_MAX_ / 64);
	assert_int_equal(truncate(path_of(&b, 1), (off_t)1 << 40), 0); /* larger than any chunk */
	assert_int_equal(get(&b, 1), -1);
}

static void touches_no_file_that_is_not_its_own(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 2 * BLOCK);
	put(&b, 0, BLOCK);
	store_write(&b.store, "cache/letter", "mine");
	store_write(&b.store, "cache/00/letter", "mine");
	for (unsigned i = 1; i < 20; i++)
		put(&b, i, BLOCK);
	assert_true(store_exists(&b.store, "cache/letter"));
	assert_true(store_exists(&b.store, "cache/00/letter"));
	assert_false(has_file(&b, 0));
}

static void what_a_crash_left_behind_ages_like_the_rest(void **state)
{
	AUTO(bench) struct bench b;
	char left[PATH_MAX];

	(void)state;
	bench_init(&b, 4 * BLOCK);
	put(&b, 0, BLOCK);
	snprintf(left, sizeof(left), "%s.tmp_Ab0z9X", path_of(&b, 0));
	assert_int_equal(rename(path_of(&b, 0), left), 0);
	set_age_of(left, 3600);
	for (unsigned i = 1; i < 4; i++)
		put(&b, i, BLOCK);
	assert_int_equal(access(left, F_OK), 0);
	put(&b, 4, BLOCK);
	assert_int_equal(access(left, F_OK), -1);
	assert_true(has_file(&b, 1));
}

/* Whatever stands in the file `usage`, what is there is counted when it matters. */
static void survives_a_wrong_count(void **state)
{
	static const char *const texts[] = {
		"", "rubbish", "-1\n", "0\n", "99999999999999999999999\n", "00000000000000099999\n",
		"18446744073709551615\n", "18446744073709551614\n", "7",
	};
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 8 * BLOCK);
	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		store_write(&b.store, "cache/usage", texts[i]);
		reopen(&b, 8 * BLOCK);
		for (unsigned k = 0; k < 20; k++)
			put(&b, i * 20 + k, BLOCK);
		assert_true(has_file(&b, i * 20 + 19));
		assert_int_equal(bytes_found(&b), stats_of(&b).bytes);
		assert_in_range(bytes_found(&b), BLOCK, 8 * BLOCK);
		store_write(&b.store, "cache/usage", texts[i]); /* while it is open, too */
		put(&b, 1000 + i, BLOCK);
		assert_true(has_file(&b, 1000 + i));
		unlink(store_path(&b.store, "cache/usage"));
		put(&b, 2000 + i, BLOCK);
		assert_true(has_file(&b, 2000 + i));
	}
	assert_int_equal(warnings, 0);
}

static void survives_the_loss_of_its_folder(void **state)
{
	AUTO(bench) struct bench b;
	char old[PATH_MAX];

	(void)state;
	bench_init(&b, 8 * BLOCK);
	put(&b, 0, BLOCK);
	snprintf(old, sizeof(old), "rm -rf %s", store_path(&b.store, "cache"));
	assert_int_equal(system(old), 0);
	assert_int_equal(get(&b, 0), -1);
	put(&b, 1, BLOCK);
	assert_int_equal(get(&b, 1), BLOCK);
	assert_true(has_file(&b, 1));
	assert_true(store_exists(&b.store, "cache/CACHEDIR.TAG"));
	assert_int_equal(warnings, 0);
}

static void tells_once_that_it_cannot_write(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 8 * BLOCK);
	store_mkdir(&b.store, "cache/usage");
	put(&b, 0, BLOCK);
	put(&b, 1, BLOCK);
	assert_int_equal(warnings, 1);
	assert_int_equal(stats_of(&b).failures, 2);
	assert_int_equal(rmdir(store_path(&b.store, "cache/usage")), 0);
	put(&b, 2, BLOCK);
	assert_int_equal(stats_of(&b).stored, 1);
	unlink(store_path(&b.store, "cache/usage"));
	store_mkdir(&b.store, "cache/usage");
	put(&b, 3, BLOCK);
	assert_int_equal(warnings, 2);
}

static int hold_locks(void *arg)
{
	int rc = 0;

	for (char **path = arg; *path; path++) {
		int fd = open(*path, O_RDWR | O_CREAT, 0600);

		if (fd < 0 || flock(fd, LOCK_EX) < 0)
			rc = -errno;
	}
	return rc;
}

static void another_that_hangs_or_dies_stops_nobody(void **state)
{
	AUTO(bench) struct bench b;
	char usage[PATH_MAX], lock[PATH_MAX];
	char *paths[] = { usage, lock, NULL };
	struct other other;

	(void)state;
	bench_init(&b, 8 * BLOCK);
	put(&b, 0, BLOCK);
	snprintf(usage, sizeof(usage), "%s", store_path(&b.store, "cache/usage"));
	snprintf(lock, sizeof(lock), "%s", store_path(&b.store, "cache/lock"));
	other = other_start(hold_locks, paths);
	assert_int_equal(other.rc, 0);
	put(&b, 1, BLOCK); /* comes back */
	assert_false(has_file(&b, 1));
	assert_int_equal(get(&b, 0), BLOCK);
	assert_int_equal(warnings, 0);
	other_kill(&other);
	put(&b, 1, BLOCK);
	assert_true(has_file(&b, 1));
}

/* --- many at once --- */

enum { WORKERS = 4, CHUNKS = 60, ROUNDS = 400, CROWD_BLOCKS = 40 };

static void work(struct bench *b, unsigned seed)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		unsigned n = (seed = seed * 1103515245 + 12345) >> 16;
		size_t size = (n % CHUNKS % 3 + 1) * BLOCK;
		ssize_t got = get(b, n % CHUNKS);

		if (got < 0)
			put(b, n % CHUNKS, size);
		else
			assert_int_equal(got, size);
	}
}

static int work_alone(void *arg)
{
	struct bench *b = arg, own = { .store = b->store };

	if (open_cache(&own, CROWD_BLOCKS * BLOCK, NULL) < 0)
		return 1;
	work(&own, (unsigned)getpid());
	disk_cache_free(own.cache);
	return 0;
}

struct crowd {
	struct bench *bench;
	unsigned number;
};

static void *work_with(void *arg)
{
	struct crowd *c = arg;

	work(c->bench, c->number);
	return NULL;
}

/* What all may be writing at one moment can be over the bound. */
static void assert_bounded(struct bench *b)
{
	assert_in_range(bytes_found(b), BLOCK, (CROWD_BLOCKS + 3 * WORKERS) * BLOCK);
	put(b, 9999, 4 * BLOCK);
	assert_in_range(bytes_found(b), BLOCK, (CROWD_BLOCKS + 3 * WORKERS) * BLOCK);
}

static void threads_share_it(void **state)
{
	AUTO(bench) struct bench b;
	struct crowd crowd[WORKERS];
	pthread_t threads[WORKERS];

	(void)state;
	bench_init(&b, CROWD_BLOCKS * BLOCK);
	for (unsigned i = 0; i < WORKERS; i++) {
		crowd[i] = (struct crowd){ &b, i + 1 };
		pthread_create(&threads[i], NULL, work_with, &crowd[i]);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(threads[i], NULL);
	assert_bounded(&b);
	assert_int_equal(warnings, 0);
}

static void *run_other(void *arg)
{
	return (void *)(intptr_t)other_run(work_alone, arg);
}

static void processes_share_it(void **state)
{
	AUTO(bench) struct bench b;
	pthread_t threads[WORKERS];
	void *rc;

	(void)state;
	bench_init(&b, CROWD_BLOCKS * BLOCK);
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_create(&threads[i], NULL, run_other, &b);
	for (unsigned i = 0; i < WORKERS; i++) {
		pthread_join(threads[i], &rc);
		assert_null(rc);
	}
	assert_bounded(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_back_what_was_put),
		cmocka_unit_test(makes_a_folder_that_only_its_owner_may_enter),
		cmocka_unit_test(refuses_a_folder_that_others_may_enter),
		cmocka_unit_test(refuses_what_is_no_folder),
		cmocka_unit_test(stays_within_its_bound_at_any_time),
		cmocka_unit_test(removes_the_longest_unused_first),
		cmocka_unit_test(a_smaller_bound_holds_from_the_next_chunk_on),
		cmocka_unit_test(drops_what_was_no_chunk),
		cmocka_unit_test(ignores_what_cannot_be_a_chunk),
		cmocka_unit_test(touches_no_file_that_is_not_its_own),
		cmocka_unit_test(what_a_crash_left_behind_ages_like_the_rest),
		cmocka_unit_test(survives_a_wrong_count),
		cmocka_unit_test(survives_the_loss_of_its_folder),
		cmocka_unit_test(tells_once_that_it_cannot_write),
		cmocka_unit_test(another_that_hangs_or_dies_stops_nobody),
		cmocka_unit_test(threads_share_it),
		cmocka_unit_test(processes_share_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
