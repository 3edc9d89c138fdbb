/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams whose chunks are kept on disk, too: what is found there is proved, and the repository
 * is there for the rest.
 */
#include "client/read/stream.h"

#include "tests/support/lib/repo_fill.h"
#include "tests/support/lib/repo_memory.h"
#include "tests/support/lib/store.h"
#include "tests/unit/client/stream_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SIZE = 20000, CHUNK = 1000, COUNT = SIZE / CHUNK };

struct bench {
	struct store store;
	struct repo *repo;
	struct snapshot_name name;
};

static void bench_init(struct bench *b)
{
	AUTO(manifest) struct manifest *m = manifest_new("host", "test", 1800000000);
	uint8_t data[SIZE];

	for (size_t i = 0; i < SIZE; i++)
		data[i] = byte_at(i);
	store_folder(&b->store);
	b->repo = repo_memory_new();
	b->name = repo_fill_name();
	repo_fill_stream(b->repo, &b->name, m, "root.pxar.didx", data, SIZE, CHUNK);
	repo_fill_manifest(b->repo, &b->name, m);
}

static void bench_release(struct bench *b)
{
	repo_free(b->repo);
	store_remove(&b->store);
}
DEFINE_AUTO_STRUCT(bench)

/* A process comes, reads all of the stream, or fails if it must, and goes: what it asked the
 * repository for. */
static size_t read_to(struct bench *b, int rc, struct disk_cache_stats *stats)
{
	static const struct repo_memory_match any_chunk = { .call = REPO_MEMORY_GET_CHUNK };
	const char *path = store_path(&b->store, "cache");
	const struct disk_cache_params params = { .path = path, .bytes_max = 1 << 20 };
	AUTO(disk_cache) struct disk_cache *disk = NULL;
	AUTO(chunk_cache) struct chunk_cache *cache = chunk_cache_new(1 << 20);
	AUTO(fetch) struct fetch *fetch = fetch_new(cache, 3);
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	AUTO(stream) struct stream *stream = NULL;
	struct repo_file file = { 0 };
	uint8_t data[SIZE];
	struct didx didx;

	repo_memory_forget_counts(b->repo);
	assert_int_equal(disk_cache_open(&disk, &params, NULL), 0);
	fetch_set_disk_cache(fetch, disk);
	assert_int_equal(repo_read(b->repo, &b->name, &reader, NULL), 0);
	assert_int_equal(repo_reader_get_file(reader, "root.pxar.didx", &file, NULL), 0);
	assert_int_equal(didx_open(&didx, file.data, file.size, NULL), 0);
	assert_int_equal(stream_new_didx(&stream, fetch, reader, &file, &didx, NULL, CHUNK_META,
					 "root.pxar.didx", NULL), 0);
	assert_int_equal(read_at_exact(stream_read_at(stream), data, SIZE, 0, NULL), rc);
	for (size_t i = 0; i < SIZE && rc == 0; i++)
		assert_int_equal(data[i], byte_at(i));
	stream_free(steal(&stream));
	fetch_free(steal(&fetch)); /* what it still had to write is written */
	disk_cache_stats(disk, stats);
	return repo_memory_count(b->repo, &any_chunk);
}

static size_t read_all(struct bench *b, struct disk_cache_stats *stats)
{
	return read_to(b, 0, stats);
}

/* Do something to each file below the cache's folder that holds a chunk. */
static void damage_all(struct bench *b, const char *command)
{
	char text[PATH_MAX + 200];

	snprintf(text, sizeof(text), "find %s/cache -mindepth 2 -type f -exec %s",
		 b->store.path, command);
	assert_int_equal(system(text), 0);
}

static void chunks_on_disk_are_not_fetched_again(void **state)
{
	AUTO(bench) struct bench b;
	struct disk_cache_stats stats;

	(void)state;
	bench_init(&b);
	assert_int_equal(read_all(&b, &stats), COUNT);
	assert_int_equal(stats.stored, COUNT);
	assert_int_equal(read_all(&b, &stats), 0);
	assert_int_equal(stats.hits, COUNT);
	assert_int_equal(stats.stored, 0);
}

static void damaged_chunks_on_disk_are_fetched_again(void **state)
{
	static const char *const commands[] = {
		"truncate -s 0 {} +", "truncate -s 11 {} +", "truncate -s -1 {} +",
		"truncate -s +1 {} +",
		"sh -c 'printf wxyz | dd of=$1 bs=1 seek=50 conv=notrunc status=none' sh {} \\;",
		"cp /etc/passwd {} \\;",
	};
	AUTO(bench) struct bench b;
	struct disk_cache_stats stats;

	(void)state;
	bench_init(&b);
	read_all(&b, &stats);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		damage_all(&b, commands[i]);
		assert_int_equal(read_all(&b, &stats), COUNT);
		assert_int_equal(stats.damaged, COUNT);
		assert_int_equal(stats.stored, COUNT);
		assert_int_equal(read_all(&b, &stats), 0);
		assert_int_equal(stats.damaged, 0);
	}
}

/* Right bytes under another chunk's name are damage, too. */
static void swapped_chunks_on_disk_are_fetched_again(void **state)
{
	AUTO(bench) struct bench b;
	struct disk_cache_stats stats;
	char text[2 * PATH_MAX];

	(void)state;
	bench_init(&b);
	read_all(&b, &stats);
	snprintf(text, sizeof(text), "cd %s/cache && set -- */????????????????* && cp $1 $2",
		 b.store.path);
	assert_int_equal(system(text), 0);
	assert_int_equal(read_all(&b, &stats), 1);
	assert_int_equal(stats.damaged, 1);
}

static void what_the_repository_gives_wrong_is_not_kept(void **state)
{
	const struct repo_memory_fault fault = { { .call = REPO_MEMORY_GET_CHUNK },
						 REPO_MEMORY_FLIP, 40, 0, 0 };
	AUTO(bench) struct bench b;
	struct disk_cache_stats stats;

	(void)state;
	bench_init(&b);
	repo_memory_add_fault(b.repo, &fault);
	read_to(&b, -EBADMSG, &stats);
	assert_int_equal(stats.stored, 0);
	repo_memory_heal(b.repo);
	assert_int_equal(read_all(&b, &stats), COUNT);
	assert_int_equal(stats.damaged, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_on_disk_are_not_fetched_again),
		cmocka_unit_test(damaged_chunks_on_disk_are_fetched_again),
		cmocka_unit_test(swapped_chunks_on_disk_are_fetched_again),
		cmocka_unit_test(what_the_repository_gives_wrong_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
