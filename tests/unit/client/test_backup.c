/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/client/backup_fixture.h"

#include "archive/base/le.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <cmocka.h>

enum { AVG = 64 << 10, LARGE_SIZE = 3 << 20 };

/* Bytes that do not compress. */
static void write_noise(const char *path, size_t size, uint64_t seed)
{
	FILE *out = fopen(path, "wb");

	assert_non_null(out);
	for (size_t i = 0; i < size / 8; i++) {
		seed = seed * 6364136223846793005u + 1442695040888963407u;
		uint64_t mixed = seed ^ seed >> 29;

		assert_int_equal(fwrite(&mixed, 8, 1, out), 1);
	}
	assert_int_equal(fclose(out), 0);
}

static int set_up(void **state)
{
	struct fixture *f = fixture_new("host/test");

	store_mkdir(&f->folder, "root");
	store_mkdir(&f->folder, "root/sub");
	store_write(&f->folder, "root/sub/small", "small file\n");
	store_write(&f->folder, "root/sub/other", "other file\n");
	write_noise(store_path(&f->folder, "root/large"), LARGE_SIZE, 1);
	store_write(&f->folder, "x.conf", "key = value\n");
	add_spec(f, "root.pxar", store_path(&f->folder, "root"));
	*state = f;
	return 0;
}

static struct manifest *manifest_of(struct fixture *f, int64_t time)
{
	const struct snapshot_name name = snapshot_at(f, time);
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	struct manifest *m = NULL;
	size_t size;
	const void *data = repo_memory_file(f->repo, &name, MANIFEST_BLOB_NAME, &size);

	assert_non_null(data);
	assert_int_equal(blob_decode(codec, data, size, MANIFEST_SIZE_MAX, &text, NULL), 0);
	assert_int_equal(manifest_decode(text.data, text.size, &m, NULL), 0);
	return m;
}

/* The index as the repository has it, checked against the manifest. */
static struct didx index_of(struct fixture *f, int64_t time, const char *file)
{
	const struct snapshot_name name = snapshot_at(f, time);
	AUTO(manifest) struct manifest *m = manifest_of(f, time);
	struct didx ix = { 0 };
	size_t size;
	const void *data = repo_memory_file(f->repo, &name, file, &size);

	assert_non_null(data);
	assert_int_equal(didx_open(&ix, data, size, NULL), 0);
	assert_int_equal(manifest_check(m, file, ix.size, &ix.csum, &f->err), 0);
	for (size_t i = 0; i < ix.count; i++) {
		struct digest digest;
		uint64_t begin, end;

		didx_chunk(&ix, i, &begin, &end, &digest);
		assert_true(repo_memory_has_chunk(f->repo, &digest));
	}
	return ix;
}

/* --- what is made --- */

static void lists_payload_then_metadata_then_blobs(void **state)
{
	struct fixture *f = *state;

	add_spec(f, "etc.conf", store_path(&f->folder, "x.conf"));
	run_well(f, 1000);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000);

	assert_int_equal(m->file_count, 3);
	assert_string_equal(m->files[0].name, "root.pxar.pld.didx");
	assert_string_equal(m->files[1].name, "root.pxar.meta.didx");
	assert_string_equal(m->files[2].name, "etc.conf.blob");
	assert_string_equal(m->backup_id, "test");
	assert_int_equal(m->backup_time, 1000);
	struct didx payload = index_of(f, 1000, "root.pxar.pld.didx");
	/* Start marker, three headers with content, end marker. */
	assert_int_equal(payload.size, 16 + 3 * 16 + LARGE_SIZE + 11 + 11 + 16);
	index_of(f, 1000, "root.pxar.meta.didx");
	assert_string_equal(f->messages, "");
}

static void stores_blobs_whole(void **state)
{
	struct fixture *f = *state;
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(1000);
	const struct snapshot_name name = snapshot_at(f, 1000);
	struct digest_ctx *ctx = digest_ctx_new();
	struct digest digest;
	size_t size;

	f->params.spec_count = 0;
	add_spec(f, "etc.conf", store_path(&f->folder, "x.conf"));
	run_well(f, 1000);
	const void *data = repo_memory_file(f->repo, &name, "etc.conf.blob", &size);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000);

	assert_non_null(data);
	assert_int_equal(blob_decode(codec, data, size, 1000, &text, NULL), 0);
	assert_int_equal(text.size, 12);
	assert_memory_equal(text.data, "key = value\n", 12);
	digest_ctx_of(ctx, data, size, &digest);
	digest_ctx_free(ctx);
	assert_int_equal(manifest_check(m, "etc.conf.blob", size, &digest, NULL), 0);
}

static void legacy_makes_one_stream_each_and_a_catalog(void **state)
{
	struct fixture *f = *state;

	f->params.mode = BACKUP_MODE_LEGACY;
	add_spec(f, "etc.conf", store_path(&f->folder, "x.conf"));
	add_spec(f, "sub.pxar", store_path(&f->folder, "root/sub"));
	run_well(f, 1000);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000);

	assert_int_equal(m->file_count, 4);
	assert_string_equal(m->files[0].name, "root.pxar.didx");
	assert_string_equal(m->files[1].name, "etc.conf.blob");
	assert_string_equal(m->files[2].name, "sub.pxar.didx");
	assert_string_equal(m->files[3].name, "catalog.pcat1.didx");
	index_of(f, 1000, "root.pxar.didx");
	index_of(f, 1000, "sub.pxar.didx");
	index_of(f, 1000, "catalog.pcat1.didx");
}

static void legacy_without_a_folder_has_no_catalog(void **state)
{
	struct fixture *f = *state;

	f->params.mode = BACKUP_MODE_LEGACY;
	f->params.spec_count = 0;
	add_spec(f, "etc.conf", store_path(&f->folder, "x.conf"));
	run_well(f, 1000);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000);

	assert_int_equal(m->file_count, 1);
}

static void names_follow_the_request_then_the_previous_snapshot(void **state)
{
	struct fixture *f = *state;
	const struct snapshot_name first = snapshot_at(f, 1000);

	f->params.names_given = true;
	f->params.names = ARCHIVE_NAMES_PBS;
	run_well(f, 1000);
	AUTO(manifest) struct manifest *m = manifest_of(f, 1000);

	assert_string_equal(m->files[0].name, "root.ppxar.didx");
	assert_string_equal(m->files[1].name, "root.mpxar.didx");
	assert_null(backup_previous(f->backup));

	f->params.names_given = false;
	run_well(f, 1001);
	AUTO(manifest) struct manifest *second = manifest_of(f, 1001);

	assert_string_equal(second->files[0].name, "root.ppxar.didx");
	assert_int_equal(snapshot_compare(backup_previous(f->backup), &first), 0);
	assert_int_equal(backup_names(f->backup), ARCHIVE_NAMES_PBS);

	f->params.names_given = true;
	f->params.names = ARCHIVE_NAMES_DESIGN;
	run_well(f, 1002);
	AUTO(manifest) struct manifest *third = manifest_of(f, 1002);

	assert_string_equal(third->files[0].name, "root.pxar.pld.didx");
	/* Known across the conventions, too. */
	assert_int_equal(backup_stream(f->backup, 0)->stats.new_chunks, 0);
}

static void a_backup_of_the_same_reuses_all_chunks(void **state)
{
	struct fixture *f = *state;
	const struct repo_memory_match puts = { .call = REPO_MEMORY_PUT_CHUNK };

	run_well(f, 1000);
	assert_true(backup_stream(f->backup, 0)->stats.new_chunks > 10);
	repo_memory_forget_counts(f->repo);
	run_well(f, 1001);
	for (size_t i = 0; i < 2; i++) {
		const struct upload_stats *s = &backup_stream(f->backup, i)->stats;

		assert_int_equal(s->new_chunks, 0);
		assert_int_equal(s->reused_bytes, s->bytes);
	}
	assert_int_equal(repo_memory_count(f->repo, &puts), 0);
	struct didx ix = index_of(f, 1001, "root.pxar.pld.didx");

	assert_memory_equal(&ix.csum, &backup_stream(f->backup, 0)->csum, DIGEST_SIZE);
}

static void a_chunk_that_has_vanished_is_stored_again(void **state)
{
	struct fixture *f = *state;
	struct digest digest;
	uint64_t begin, end;

	run_well(f, 1000);
	struct didx ix = index_of(f, 1000, "root.pxar.pld.didx");

	didx_chunk(&ix, 3, &begin, &end, &digest);
	repo_memory_remove_chunk(f->repo, &digest);
	run_well(f, 1001);
	assert_int_equal(backup_stream(f->backup, 0)->stats.new_chunks, 1);
	index_of(f, 1001, "root.pxar.pld.didx");
}

static void a_damaged_previous_index_costs_time_only(void **state)
{
	struct fixture *f = *state;
	const struct repo_memory_fault fault = {
		.match = { .call = REPO_MEMORY_GET_FILE, .file = "root.pxar.pld.didx" },
		.damage = REPO_MEMORY_FLIP,
		.value = DIDX_HEADER_SIZE + 20,
	};

	run_well(f, 1000);
	repo_memory_add_fault(f->repo, &fault);
	run_well(f, 1001);
	assert_non_null(strstr(f->messages, "root.pxar.pld.didx is not used"));
	assert_int_equal(backup_stream(f->backup, 0)->stats.reused_chunks, 0);
	assert_int_equal(backup_stream(f->backup, 1)->stats.new_chunks, 0);
	assert_true(backup_stream(f->backup, 0)->stats.duplicates > 10);
	repo_memory_heal(f->repo);
	index_of(f, 1001, "root.pxar.pld.didx");
}

static void a_damaged_previous_manifest_costs_time_only(void **state)
{
	struct fixture *f = *state;
	const struct repo_memory_fault fault = {
		.match = { .call = REPO_MEMORY_GET_FILE, .file = MANIFEST_BLOB_NAME },
		.damage = REPO_MEMORY_TRUNCATE,
		.value = 30,
	};

	run_well(f, 1000);
	repo_memory_add_fault(f->repo, &fault);
	run_well(f, 1001);
	assert_non_null(strstr(f->messages, "previous snapshot is not used"));
	assert_int_equal(backup_stream(f->backup, 0)->stats.reused_chunks, 0);
}

static void the_manifest_counts_what_was_sent(void **state)
{
	struct fixture *f = *state;
	const struct snapshot_name name = snapshot_at(f, 1000);
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	uint64_t count = 0;
	char line[64];
	size_t size;

	run_well(f, 1000);
	const void *data = repo_memory_file(f->repo, &name, MANIFEST_BLOB_NAME, &size);

	assert_int_equal(blob_decode(codec, data, size, MANIFEST_SIZE_MAX, &text, NULL), 0);
	assert_int_equal(wbuf_put_u8(&text, 0), 0);
	for (size_t i = 0; i < 2; i++)
		count += backup_stream(f->backup, i)->stats.new_chunks;
	snprintf(line, sizeof(line), "\"count\": %llu,", (unsigned long long)count);
	assert_non_null(strstr((const char *)text.data, line));
	assert_non_null(strstr((const char *)text.data, "\"duplicates\": 0,"));
}

static void a_dry_run_stores_nothing_and_counts_all(void **state)
{
	struct fixture *f = *state;

	f->params.dry_run = true;
	run_well(f, 1000);
	assert_int_equal(repo_memory_chunk_count(f->repo), 0);
	assert_false(has_snapshot(f, 1000));
	assert_string_equal(backup_stream(f->backup, 0)->name, "root.pxar.pld.didx");
	assert_int_equal(backup_stream(f->backup, 0)->stats.new_bytes,
			 backup_stream(f->backup, 0)->size);

	f->params.dry_run = false;
	run_well(f, 1001);
	store_write(&f->folder, "root/sub/third", "third file\n");
	f->params.dry_run = true;
	run_well(f, 1002);
	assert_false(has_snapshot(f, 1002));
	assert_true(backup_stream(f->backup, 0)->stats.reused_chunks > 10);
	assert_true(backup_stream(f->backup, 0)->stats.new_chunks < 4);
}

static void progress_adds_up(void **state)
{
	struct fixture *f = *state;
	struct backup_progress p;

	run_well(f, 1000);
	backup_progress(f->backup, &p);
	assert_int_equal(p.bytes, backup_stream(f->backup, 0)->stats.bytes +
					  backup_stream(f->backup, 1)->stats.bytes);
	assert_int_equal(p.files, 3);
	assert_int_equal(p.bytes_expected, 0);
	run_well(f, 1001);
	backup_progress(f->backup, &p);
	assert_int_equal(p.bytes_expected, p.bytes);
	assert_int_equal(p.reused_bytes, p.bytes);
	assert_int_equal(p.skipped, 0);
}

/* --- failures --- */

static void add_failure(struct fixture *f, enum repo_memory_call call, const char *file, int code)
{
	const struct repo_memory_fault fault = { .match = { .call = call, .file = file },
						 .damage = REPO_MEMORY_FAIL,
						 .value = (size_t)code };

	repo_memory_add_fault(f->repo, &fault);
}

static void check_failed(struct fixture *f, int rc, const char *text)
{
	assert_int_equal(run_at(f, f->params.name.time), rc);
	if (!strstr(f->err.text, text))
		fail_msg("'%s' does not say '%s'", f->err.text, text);
	assert_false(has_snapshot(f, 1000));
}

static void the_failure_of_one_stream_is_named(void **state)
{
	struct fixture *f = *state;

	add_failure(f, REPO_MEMORY_INDEX_CLOSE, "root.pxar.pld.didx", ENOSPC);
	check_failed(f, -ENOSPC, "upload failed: root.pxar.pld.didx: ");
	assert_null(strstr(f->err.text, " - "));
}

static void the_failures_of_both_streams_are_joined(void **state)
{
	struct fixture *f = *state;

	add_failure(f, REPO_MEMORY_INDEX_CLOSE, "root.pxar.meta.didx", EIO);
	add_failure(f, REPO_MEMORY_INDEX_CLOSE, "root.pxar.pld.didx", ENOSPC);
	check_failed(f, -EIO, "upload failed: root.pxar.meta.didx: ");
	assert_non_null(strstr(f->err.text, " - root.pxar.pld.didx: "));
}

static void a_full_disk_in_the_middle_ends_the_backup(void **state)
{
	struct fixture *f = *state;

	add_failure(f, REPO_MEMORY_PUT_CHUNK, NULL, ENOSPC);
	write_noise(store_path(&f->folder, "root/larger"), 40 << 20, 2);
	check_failed(f, -ENOSPC, "upload failed: ");
}

static void an_index_that_cannot_be_opened_ends_the_backup(void **state)
{
	struct fixture *f = *state;

	add_failure(f, REPO_MEMORY_INDEX_OPEN, "root.pxar.pld.didx", EACCES);
	check_failed(f, -EACCES, "");
}

static void a_failed_blob_ends_the_backup(void **state)
{
	struct fixture *f = *state;

	add_spec(f, "etc.conf", store_path(&f->folder, "x.conf"));
	add_failure(f, REPO_MEMORY_PUT_BLOB, "etc.conf.blob", EIO);
	check_failed(f, -EIO, "etc.conf");
}

static void a_failed_finish_ends_the_backup(void **state)
{
	struct fixture *f = *state;

	add_failure(f, REPO_MEMORY_FINISH, NULL, EIO);
	check_failed(f, -EIO, "");
}

static void a_failed_catalog_ends_the_backup(void **state)
{
	struct fixture *f = *state;

	f->params.mode = BACKUP_MODE_LEGACY;
	add_failure(f, REPO_MEMORY_INDEX_CLOSE, "catalog.pcat1.didx", EIO);
	check_failed(f, -EIO, "upload failed: catalog.pcat1.didx");
}

static void a_source_that_is_gone_is_the_walk_s_failure(void **state)
{
	struct fixture *f = *state;

	f->params.spec_count = 0;
	add_spec(f, "root.pxar", store_path(&f->folder, "nothing"));
	check_failed(f, -ENOENT, "nothing");
	assert_null(strstr(f->err.text, "upload failed"));
}

static void too_many_entries_are_the_walk_s_failure(void **state)
{
	struct fixture *f = *state;

	f->params.entries_max = 2;
	assert_true(run_at(f, f->params.name.time) < 0);
	assert_null(strstr(f->err.text, "upload failed"));
	assert_false(has_snapshot(f, 1000));
}

static void a_second_snapshot_of_one_time_is_refused(void **state)
{
	struct fixture *f = *state;

	run_well(f, 1000);
	assert_int_equal(run_at(f, f->params.name.time), -EEXIST);
}

static void *run_thread(void *arg)
{
	struct fixture *f = arg;

	return (void *)(intptr_t)run_at(f, f->params.name.time);
}

/* The repository stalls; the user gives up; it goes on and the backup ends at once. */
static void a_stopped_backup_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	const struct repo_memory_match puts = { .call = REPO_MEMORY_PUT_CHUNK };
	struct repo_memory_gate *gate = repo_memory_gate(f->repo, &puts);
	pthread_t thread;
	void *rc;

	write_noise(store_path(&f->folder, "root/larger"), 40 << 20, 3);
	assert_int_equal(pthread_create(&thread, NULL, run_thread, f), 0);
	repo_memory_gate_await(gate, 2);
	atomic_store(&f->stop, true);
	repo_memory_gate_open(gate);
	pthread_join(thread, &rc);
	assert_int_equal((intptr_t)rc, -ECANCELED);
	assert_string_equal(f->err.text, "interrupted");
	assert_false(has_snapshot(f, 1000));
}

static void stopping_before_it_begins_leaves_nothing(void **state)
{
	struct fixture *f = *state;

	f->params.spec_count = 0;
	add_spec(f, "etc.conf", store_path(&f->folder, "x.conf"));
	atomic_store(&f->stop, true);
	check_failed(f, -ECANCELED, "interrupted");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lists_payload_then_metadata_then_blobs),
		TEST(stores_blobs_whole),
		TEST(legacy_makes_one_stream_each_and_a_catalog),
		TEST(legacy_without_a_folder_has_no_catalog),
		TEST(names_follow_the_request_then_the_previous_snapshot),
		TEST(a_backup_of_the_same_reuses_all_chunks),
		TEST(a_chunk_that_has_vanished_is_stored_again),
		TEST(a_damaged_previous_index_costs_time_only),
		TEST(a_damaged_previous_manifest_costs_time_only),
		TEST(the_manifest_counts_what_was_sent),
		TEST(a_dry_run_stores_nothing_and_counts_all),
		TEST(progress_adds_up),
		TEST(the_failure_of_one_stream_is_named),
		TEST(the_failures_of_both_streams_are_joined),
		TEST(a_full_disk_in_the_middle_ends_the_backup),
		TEST(an_index_that_cannot_be_opened_ends_the_backup),
		TEST(a_failed_blob_ends_the_backup),
		TEST(a_failed_finish_ends_the_backup),
		TEST(a_failed_catalog_ends_the_backup),
		TEST(a_source_that_is_gone_is_the_walk_s_failure),
		TEST(too_many_entries_are_the_walk_s_failure),
		TEST(a_second_snapshot_of_one_time_is_refused),
		TEST(a_stopped_backup_leaves_nothing),
		TEST(stopping_before_it_begins_leaves_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
