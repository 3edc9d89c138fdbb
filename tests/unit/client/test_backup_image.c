/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/backup_image.h"

#include "archive/base/hex.h"
#include "client/repo/repo_dir.h"
#include "tests/unit/client/backup_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { CHUNK = FIDX_CHUNK_SIZE, REST = 5000, IMAGE_CHUNKS = 6 };

static const uint64_t IMAGE_SIZE = (IMAGE_CHUNKS - 1) * (uint64_t)CHUNK + REST;

static const char *image_path(struct fixture *f)
{
	return store_path(&f->folder, "disk");
}

static void write_at(struct fixture *f, uint64_t offset, const void *data, size_t size)
{
	int fd = open(image_path(f), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, size, (off_t)offset), size);
	close(fd);
}

/* Fill a range of the image with what compresses, each `seed` with another. */
static void fill(struct fixture *f, uint64_t offset, size_t size, unsigned seed)
{
	AUTO(free) uint8_t *data = malloc(size);

	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(seed + i / 100);
	write_at(f, offset, data, size);
}

/* Data, data, data with zeros around a byte, zeros, hole, rest. */
static void make_image(struct fixture *f)
{
	fill(f, 0, 2 * (size_t)CHUNK, 1);
	fill(f, 2 * (uint64_t)CHUNK + 77, 1, 1);
	fill(f, 3 * (uint64_t)CHUNK, CHUNK, 0);
	AUTO(free) uint8_t *zeros = calloc(1, CHUNK);
	write_at(f, 3 * (uint64_t)CHUNK, zeros, CHUNK);
	fill(f, 5 * (uint64_t)CHUNK, REST, 5);
}

static int set_up(void **state)
{
	struct fixture *f = fixture_new("vm/100");

	make_image(f);
	add_spec(f, "disk.img", image_path(f));
	*state = f;
	return 0;
}

static const struct upload_stats *stats(struct fixture *f)
{
	return &backup_stream(f->backup, 0)->stats;
}

static struct fidx index_of(struct fixture *f, int64_t time)
{
	const struct snapshot_name name = snapshot_at(f, time);
	struct fidx ix = { 0 };
	size_t size;
	const void *data = repo_memory_file(f->repo, &name, "disk.img.fidx", &size);

	assert_non_null(data);
	assert_int_equal(fidx_open(&ix, data, size, NULL), 0);
	return ix;
}

/* The image as it is stored is the file as it is. */
static void compare(struct fixture *f, int64_t time, const struct crypt_key *key)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(CHUNK));
	AUTO(free) uint8_t *plain = malloc(CHUNK), *expected = malloc(CHUNK);
	AUTO(repo_reader) struct repo_reader *r = NULL;
	const struct snapshot_name name = snapshot_at(f, time);
	struct fidx ix = index_of(f, time);
	int fd = open(image_path(f), O_RDONLY | O_CLOEXEC);

	blob_codec_set_key(codec, key);
	assert_int_equal(repo_read(f->repo, &name, &r, NULL), 0);
	for (size_t i = 0; i < ix.count; i++) {
		struct digest digest;
		uint64_t begin, end;
		size_t size;

		fidx_chunk(&ix, i, &begin, &end, &digest);
		size = (size_t)(end - begin);
		wbuf_clear(&stored);
		assert_int_equal(repo_reader_get_chunk(r, &digest, &stored, NULL), 0);
		assert_int_equal(blob_decode_chunk(codec, stored.data, stored.size, &digest, plain,
						   size, &f->err), 0);
		assert_int_equal(pread(fd, expected, size, (off_t)begin), size);
		assert_memory_equal(plain, expected, size);
	}
	close(fd);
}

static uint64_t bytes_read(void)
{
	FILE *in = fopen("/proc/self/io", "r");
	unsigned long long n = 0;

	assert_non_null(in);
	assert_int_equal(fscanf(in, "rchar: %llu", &n), 1);
	fclose(in);
	return n;
}

/* --- what is made --- */

static void stores_an_image_in_chunks_of_fixed_size(void **state)
{
	struct fixture *f = *state;
	struct backup_progress progress;

	run_well(f, 1000);
	struct fidx ix = index_of(f, 1000);

	assert_int_equal(ix.size, IMAGE_SIZE);
	assert_int_equal(ix.count, IMAGE_CHUNKS);
	assert_int_equal(ix.chunk_size, CHUNK);
	assert_int_equal(backup_stream(f->backup, 0)->kind, BACKUP_STREAM_IMAGE);
	assert_string_equal(backup_stream(f->backup, 0)->name, "disk.img.fidx");
	assert_int_equal(backup_stream(f->backup, 0)->size, IMAGE_SIZE);
	assert_true(digest_equal(&backup_stream(f->backup, 0)->csum, &ix.csum));
	assert_int_equal(stats(f)->bytes, IMAGE_SIZE);
	assert_int_equal(stats(f)->chunks, IMAGE_CHUNKS);
	assert_int_equal(stats(f)->new_chunks, IMAGE_CHUNKS - 1);
	assert_int_equal(stats(f)->reused_chunks, 1); /* zeros, the second time */
	backup_progress(f->backup, &progress);
	assert_int_equal(progress.bytes_expected, IMAGE_SIZE);
	assert_string_equal(f->messages, "");
	compare(f, 1000, NULL);
}

static void knows_the_digest_of_zeros(void **state)
{
	static const char expected[] =
		"bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8";
	struct fixture *f = *state;
	struct digest digest;
	char hex[DIGEST_HEX_SIZE];
	uint64_t begin, end;

	run_well(f, 1000);
	struct fidx ix = index_of(f, 1000);

	for (size_t i = 3; i < 5; i++) {
		fidx_chunk(&ix, i, &begin, &end, &digest);
		digest_to_hex(&digest, hex);
		assert_string_equal(hex, expected);
	}
}

static void reads_no_holes(void **state)
{
	struct fixture *f = *state;
	const uint64_t size = 20ull << 30;
	uint64_t before;

	assert_int_equal(truncate(image_path(f), (off_t)size), 0);
	before = bytes_read();
	run_well(f, 1000);
	/* Three chunks that are not holes, part of one, the file with the counter. */
	assert_true(bytes_read() - before < 5 * (uint64_t)CHUNK);
	assert_int_equal(stats(f)->bytes, size);
	assert_int_equal(stats(f)->chunks, size / CHUNK);
	assert_int_equal(stats(f)->new_chunks, 5);
	assert_int_equal(index_of(f, 1000).count, size / CHUNK);
}

static void stores_only_what_has_changed(void **state)
{
	struct fixture *f = *state;
	const struct repo_memory_match puts = { .call = REPO_MEMORY_PUT_CHUNK };

	run_well(f, 1000);
	repo_memory_forget_counts(f->repo);
	run_well(f, 1001);
	assert_int_equal(stats(f)->new_chunks, 0);
	assert_int_equal(stats(f)->reused_bytes, IMAGE_SIZE);
	assert_int_equal(repo_memory_count(f->repo, &puts), 0);
	fill(f, CHUNK + 3, 1, 200);
	run_well(f, 1002);
	assert_int_equal(stats(f)->new_chunks, 1);
	assert_int_equal(repo_memory_count(f->repo, &puts), 1);
	compare(f, 1002, NULL);
}

static void a_damaged_previous_index_costs_time_only(void **state)
{
	struct fixture *f = *state;
	const struct repo_memory_fault fault = {
		.match = { .call = REPO_MEMORY_GET_FILE, .file = "disk.img.fidx" },
		.damage = REPO_MEMORY_FLIP,
		.value = FIDX_HEADER_SIZE + 20,
	};

	run_well(f, 1000);
	repo_memory_add_fault(f->repo, &fault);
	run_well(f, 1001);
	assert_non_null(strstr(f->messages, "disk.img.fidx is not used"));
	assert_int_equal(stats(f)->duplicates, IMAGE_CHUNKS - 1);
	repo_memory_heal(f->repo);
	compare(f, 1001, NULL);
}

static void encrypts_images_too(void **state)
{
	static const uint8_t bytes[CRYPT_KEY_SIZE] = { 1, 2, 3 };
	struct fixture *f = *state;
	AUTO(crypt_key) struct crypt_key *key = NULL;

	assert_int_equal(crypt_key_new(&key, bytes, NULL), 0);
	f->params.crypt_mode = CRYPT_MODE_ENCRYPT;
	f->params.key = key;
	run_well(f, 1000);
	compare(f, 1000, key);
	run_well(f, 1001);
	assert_int_equal(stats(f)->new_chunks, 0);
	backup_free(steal(&f->backup));
}

static void dry_runs_store_nothing_and_count_all(void **state)
{
	struct fixture *f = *state;

	f->params.dry_run = true;
	run_well(f, 1000);
	assert_false(has_snapshot(f, 1000));
	assert_int_equal(repo_memory_chunk_count(f->repo), 0);
	assert_int_equal(stats(f)->new_chunks, IMAGE_CHUNKS - 1);
}

static void images_stand_where_they_were_asked_for(void **state)
{
	struct fixture *f = *state;

	store_mkdir(&f->folder, "root");
	add_spec(f, "root.pxar", store_path(&f->folder, "root"));
	f->params.mode = BACKUP_MODE_LEGACY;
	run_well(f, 1000);
	assert_int_equal(backup_stream_count(f->backup), 3);
	assert_string_equal(backup_stream(f->backup, 0)->name, "disk.img.fidx");
	assert_string_equal(backup_stream(f->backup, 1)->name, "root.pxar.didx");
	assert_string_equal(backup_stream(f->backup, 2)->name, "catalog.pcat1.didx");
	f->params.mode = BACKUP_MODE_DATA;
	run_well(f, 1001);
	assert_int_equal(backup_stream_count(f->backup), 3);
	assert_string_equal(backup_stream(f->backup, 0)->name, "disk.img.fidx");
	assert_int_equal(backup_stream(f->backup, 2)->kind, BACKUP_STREAM_META);
}

static void any_number_of_threads_makes_the_same_image(void **state)
{
	struct fixture *f = *state;
	struct digest first;

	run_well(f, 1000);
	first = index_of(f, 1000).csum;
	for (unsigned i = 0; i < 3; i++) {
		f->params.thread_count = (unsigned[]){ 1, 7, 60 }[i];
		run_well(f, 1001 + i);
		struct fidx ix = index_of(f, 1001 + i);

		assert_true(digest_equal(&ix.csum, &first));
	}
}

/* The image of the golden snapshot, read out and backed up again. */
static void makes_the_official_clients_index(void **state)
{
	struct fixture *f = *state;
	AUTO(repo) struct repo *golden = NULL;
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(repo_file) struct repo_file file = { 0 };
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(CHUNK));
	AUTO(free) uint8_t *plain = malloc(CHUNK);
	struct snapshot_name name;
	struct store store;
	struct fidx ix, own;

	store_unpack(&store, "tests/golden/datastore.tar");
	assert_int_equal(repo_dir_open(store.path, &golden, NULL), 0);
	assert_int_equal(repo_resolve(golden, "host/image/latest", "", &name, NULL), 0);
	assert_int_equal(repo_read(golden, &name, &r, NULL), 0);
	assert_int_equal(repo_reader_get_file(r, "disk.img.fidx", &file, NULL), 0);
	assert_int_equal(fidx_open(&ix, file.data, file.size, NULL), 0);
	assert_int_equal(truncate(image_path(f), 0), 0);
	for (size_t i = 0; i < ix.count; i++) {
		struct digest digest;
		uint64_t begin, end;

		fidx_chunk(&ix, i, &begin, &end, &digest);
		wbuf_clear(&stored);
		assert_int_equal(repo_reader_get_chunk(r, &digest, &stored, NULL), 0);
		assert_int_equal(blob_decode_chunk(codec, stored.data, stored.size, &digest, plain,
						   (size_t)(end - begin), NULL), 0);
		write_at(f, begin, plain, (size_t)(end - begin));
	}
	run_well(f, 1000);
	own = index_of(f, 1000);
	assert_int_equal(own.size, ix.size);
	assert_int_equal(own.count, ix.count);
	assert_true(digest_equal(&own.csum, &ix.csum));
	assert_memory_equal(own.digests, ix.digests, ix.count * DIGEST_SIZE);
	store_remove(&store);
}

/* --- a source under our hands --- */

struct change {
	struct fixture *f;
	struct repo_memory_gate *gate;
	uint64_t new_size;
};

/* Wait until a chunk is to be stored, then change the size of the source, or its mtime (0). */
static void *change_size(void *arg)
{
	static const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	struct change *c = arg;

	repo_memory_gate_await(c->gate, 1);
	if (!c->new_size && utimensat(AT_FDCWD, image_path(c->f), old, 0) < 0)
		abort();
	if (c->new_size && truncate(image_path(c->f), (off_t)c->new_size) < 0)
		abort();
	repo_memory_gate_open(c->gate);
	return NULL;
}

static int run_with_change(struct fixture *f, uint64_t new_size)
{
	const struct repo_memory_match puts = { .call = REPO_MEMORY_PUT_CHUNK };
	struct change c = { f, repo_memory_gate(f->repo, &puts), new_size };
	pthread_t thread;
	int rc;

	f->params.thread_count = 1;
	assert_int_equal(pthread_create(&thread, NULL, change_size, &c), 0);
	rc = run_at(f, 1000);
	pthread_join(thread, NULL);
	return rc;
}

static void an_image_that_shrinks_is_an_error(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(run_with_change(f, CHUNK + 5), -EIO);
	assert_non_null(strstr(f->err.text, "disk.img"));
	assert_non_null(strstr(f->err.text, image_path(f)));
	assert_non_null(strstr(f->err.text, "shrank while it was read: it ends at byte 4194309"));
	assert_false(has_snapshot(f, 1000));
}

static void an_image_that_loses_a_hole_has_shrunk_too(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(truncate(image_path(f), 100ll * CHUNK), 0);
	assert_int_equal(run_with_change(f, 50ll * CHUNK), -EIO);
	assert_non_null(strstr(f->err.text, "shrank while it was read"));
}

static void an_image_that_grows_is_cut(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(run_with_change(f, IMAGE_SIZE + 1), 0);
	assert_non_null(strstr(f->messages, "disk: grew while it was read"));
	assert_int_equal(index_of(f, 1000).size, IMAGE_SIZE);
	compare(f, 1000, NULL);
}

static void an_image_that_is_written_to_is_told(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(run_with_change(f, 0), 0);
	assert_non_null(strstr(f->messages, "changed while it was read"));
}

/* --- failures --- */

static void check_failed(struct fixture *f, int expected)
{
	assert_int_equal(run_at(f, 1000), expected);
	assert_true(f->err.text[0] != '\0');
	assert_false(has_snapshot(f, 1000));
}

static void any_failing_step_ends_the_backup(void **state)
{
	static const enum repo_memory_call calls[] = { REPO_MEMORY_PUT_CHUNK,
						       REPO_MEMORY_INDEX_OPEN,
						       REPO_MEMORY_INDEX_CLOSE };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		const struct repo_memory_fault fault = { .match.call = calls[i],
							 .damage = REPO_MEMORY_FAIL,
							 .value = ENOSPC,
							 .count = 1 };

		repo_memory_add_fault(f->repo, &fault);
		check_failed(f, -ENOSPC);
	}
	run_well(f, 1000);
}

static void stops_when_it_is_told(void **state)
{
	struct fixture *f = *state;
	struct repo_writer_params params = { .name = snapshot_at(f, 1000), .owner = "root@pam" };
	AUTO(upload_pool) struct upload_pool *pool = NULL;
	AUTO(repo_writer) struct repo_writer *w = NULL;
	struct backup_stream stream = { .name = "disk.img.fidx" };
	struct backup_image image = { .path = image_path(f), .stream = &stream };

	atomic_store(&f->stop, true);
	check_failed(f, -ECANCELED);
	assert_int_equal(repo_write(f->repo, &params, &w, NULL), 0);
	assert_int_equal(upload_pool_new(&pool, 2, BACKUP_BYTES_MAX, NULL, NULL), 0);
	image.target = (struct backup_target){ pool, w, &f->stop };
	assert_int_equal(backup_image_run(&image, &f->err), -ECANCELED);
}

static void a_source_that_is_gone_is_named(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(unlink(image_path(f)), 0);
	check_failed(f, -ENOENT);
	assert_non_null(strstr(f->err.text, image_path(f)));
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_FIXTURE(stores_an_image_in_chunks_of_fixed_size),
		WITH_FIXTURE(knows_the_digest_of_zeros),
		WITH_FIXTURE(reads_no_holes),
		WITH_FIXTURE(stores_only_what_has_changed),
		WITH_FIXTURE(a_damaged_previous_index_costs_time_only),
		WITH_FIXTURE(encrypts_images_too),
		WITH_FIXTURE(dry_runs_store_nothing_and_count_all),
		WITH_FIXTURE(images_stand_where_they_were_asked_for),
		WITH_FIXTURE(any_number_of_threads_makes_the_same_image),
		WITH_FIXTURE(makes_the_official_clients_index),
		WITH_FIXTURE(an_image_that_shrinks_is_an_error),
		WITH_FIXTURE(an_image_that_loses_a_hole_has_shrunk_too),
		WITH_FIXTURE(an_image_that_grows_is_cut),
		WITH_FIXTURE(an_image_that_is_written_to_is_told),
		WITH_FIXTURE(any_failing_step_ends_the_backup),
		WITH_FIXTURE(stops_when_it_is_told),
		WITH_FIXTURE(a_source_that_is_gone_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
