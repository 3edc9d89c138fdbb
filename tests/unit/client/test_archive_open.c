/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/archive_open.h"

#include "archive/pxar.h"
#include "tests/support/lib/answer.h"
#include "tests/support/lib/repo_fill.h"
#include "tests/support/lib/repo_memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/files/"

enum { CHUNK = 4096 };

struct bench {
	struct repo *repo;
	struct snapshot_name name;
	struct manifest *manifest;
	struct chunk_cache *cache;
	struct fetch *fetch;
};

static void bench_init(struct bench *b)
{
	b->repo = repo_memory_new();
	b->name = repo_fill_name();
	b->manifest = manifest_new("host", "test", b->name.time);
	b->cache = chunk_cache_new(64 << 20);
	b->fetch = fetch_new(b->cache, 2);
}

static void bench_release(struct bench *b)
{
	fetch_free(b->fetch);
	chunk_cache_free(b->cache);
	manifest_free(b->manifest);
	repo_free(b->repo);
}
DEFINE_AUTO_STRUCT(bench)

/* A golden file as a stored stream. */
static void add(struct bench *b, const char *name, const char *golden)
{
	size_t size;
	AUTO(free) uint8_t *data = repo_fill_read(golden, &size);

	repo_fill_stream(b->repo, &b->name, b->manifest, name, data, size, CHUNK);
}

static void finish(struct bench *b)
{
	repo_fill_manifest(b->repo, &b->name, b->manifest);
}

/* A split archive "root.pxar" under the server's names. */
static void bench_init_split(struct bench *b)
{
	bench_init(b);
	add(b, "root.mpxar.didx", GOLDEN "split.mpxar");
	add(b, "root.ppxar.didx", GOLDEN "split.ppxar");
	finish(b);
}

static int open_as(struct bench *b, const char *typed, struct archive **out, struct err *err)
{
	struct repo_reader *reader;
	int rc = repo_read(b->repo, &b->name, &reader, err);

	assert_int_equal(rc, 0);
	rc = archive_open(out, b->fetch, reader, NULL, typed, err);
	if (rc < 0)
		repo_reader_free(reader);
	return rc;
}

static void expect_refusal(struct bench *b, const char *typed, int rc, const char *what)
{
	struct err err = ERR_INIT;
	struct archive *a = NULL;

	assert_int_equal(open_as(b, typed, &a, &err), rc);
	assert_null(a);
	assert_non_null(strstr(err.text, what));
}

static const struct repo_memory_match any_chunk = { .call = REPO_MEMORY_GET_CHUNK };
static const struct repo_memory_match any_file = { .call = REPO_MEMORY_GET_FILE };

/* A file's content, read through tree and payload stream. */
static void expect_content(struct archive *a, const char *path)
{
	AUTO(tree_entry) struct tree_entry e;
	const struct tree *tree;
	struct stream *payload;
	struct tree_dir dir;
	struct err err = ERR_INIT;
	uint64_t begin;
	uint8_t byte;

	tree_entry_init(&e);
	assert_int_equal(archive_tree(a, &tree, &err), 0);
	assert_int_equal(tree_path(tree, stream_read_at(archive_meta(a)), path, &e, &dir, &err), 0);
	assert_true(e.content_size > 0);
	assert_int_equal(archive_payload(a, &payload, &err), 0);
	begin = e.content_offset;
	if (tree->version == PXAR_VERSION_2)
		assert_int_equal(tree_payload_check(&e, stream_read_at(payload), &begin, &err), 0);
	assert_int_equal(read_at_exact(stream_read_at(payload), &byte, 1,
				       begin + e.content_size - 1, &err), 0);
}

/* Some regular file of the golden archives. */
#define A_FILE "small/d00/f00000.txt"

static void opening_reads_manifest_and_index_alone(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	assert_string_equal(archive_display_name(a), "root.pxar");
	assert_int_equal(repo_memory_count(b.repo, &any_file), 2);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 0);
	assert_false(archive_payload_ready(a));
}

static void the_root_comes_with_the_tree_and_once(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	const struct tree *tree, *again;
	size_t count;

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	assert_int_equal(archive_tree(a, &tree, NULL), 0);
	assert_int_equal(tree->version, PXAR_VERSION_2);
	count = repo_memory_count(b.repo, &any_chunk);
	assert_true(count <= 2);
	assert_int_equal(archive_tree(a, &again, NULL), 0);
	assert_ptr_equal(tree, again);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), count);
	assert_int_equal(repo_memory_count(b.repo, &any_file), 2);
}

static void the_payload_index_comes_with_the_first_content(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	struct repo_memory_match index = { .call = REPO_MEMORY_GET_FILE,
					   .file = "root.ppxar.didx" };

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	expect_content(a, A_FILE);
	expect_content(a, A_FILE);
	assert_int_equal(repo_memory_count(b.repo, &index), 1);
	assert_true(archive_payload_ready(a));
}

static void reads_the_names_of_the_original_design(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;

	(void)state;
	bench_init(&b);
	add(&b, "root.pxar.meta.didx", GOLDEN "split.mpxar");
	add(&b, "root.pxar.pld.didx", GOLDEN "split.ppxar");
	finish(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	expect_content(a, A_FILE);
}

static void content_of_a_single_stream_is_in_it(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	struct stream *payload;

	(void)state;
	bench_init(&b);
	add(&b, "root.pxar.didx", GOLDEN "legacy.pxar");
	finish(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	assert_true(archive_payload_ready(a));
	assert_int_equal(archive_payload(a, &payload, NULL), 0);
	assert_ptr_equal(payload, archive_meta(a));
	expect_content(a, A_FILE);
}

static void two_archives_share_their_chunks(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	AUTO(archive) struct archive *other = NULL;
	const struct tree *tree;
	size_t count;

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	assert_int_equal(open_as(&b, "root.pxar", &other, NULL), 0);
	assert_int_equal(archive_tree(a, &tree, NULL), 0);
	count = repo_memory_count(b.repo, &any_chunk);
	assert_int_equal(archive_tree(other, &tree, NULL), 0);
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), count);
}

/* --- what is refused --- */

static void refuses_an_encrypted_archive(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b);
	add(&b, "root.mpxar.didx", GOLDEN "split.mpxar");
	add(&b, "root.ppxar.didx", GOLDEN "split.ppxar");
	b.manifest->files[1].crypt_mode = CRYPT_MODE_ENCRYPT;
	finish(&b);
	expect_refusal(&b, "root.pxar", -ENOKEY, "needs a key");
}

static void refuses_a_signed_archive_without_a_key(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b);
	add(&b, "root.pxar.didx", GOLDEN "legacy.pxar");
	b.manifest->files[0].crypt_mode = CRYPT_MODE_SIGN_ONLY;
	b.manifest->signature = strdup("00112233445566778899aabbccddeeff"
				       "00112233445566778899aabbccddeeff");
	finish(&b);
	expect_refusal(&b, "root.pxar", -ENOKEY, "needs a key");
}

static void refuses_an_archive_that_is_not_listed(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init_split(&b);
	expect_refusal(&b, "home.pxar", -ENOENT, "home.pxar");
}

static void refuses_an_index_that_is_not_the_manifests(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b);
	add(&b, "root.pxar.didx", GOLDEN "legacy.pxar");
	b.manifest->files[0].csum.bytes[0] ^= 1;
	finish(&b);
	expect_refusal(&b, "root.pxar", -EBADMSG, "wrong checksum for file 'root.pxar.didx'");
	b.manifest->files[0].csum.bytes[0] ^= 1;
	b.manifest->files[0].size++;
	finish(&b);
	expect_refusal(&b, "root.pxar", -EBADMSG, "wrong size for file 'root.pxar.didx'");
	assert_int_equal(repo_memory_count(b.repo, &any_chunk), 0);
}

static void refuses_files_cut_at_every_byte(void **state)
{
	static const char *const names[] = { MANIFEST_BLOB_NAME, "root.mpxar.didx" };
	AUTO(bench) struct bench b;

	(void)state;
	bench_init_split(&b);
	for (size_t i = 0; i < 2; i++) {
		size_t size;

		repo_memory_file(b.repo, &b.name, names[i], &size);
		for (size_t cut = 0; cut < size; cut++) {
			struct repo_memory_fault fault = {
				{ REPO_MEMORY_GET_FILE, names[i], NULL },
				REPO_MEMORY_TRUNCATE, cut, 0, 1,
			};

			repo_memory_add_fault(b.repo, &fault);
			expect_refusal(&b, "root.pxar", -EBADMSG, names[i]);
			repo_memory_heal(b.repo);
		}
	}
}

static void refuses_a_flipped_bit_in_manifest_and_index(void **state)
{
	static const char *const names[] = { MANIFEST_BLOB_NAME, "root.mpxar.didx" };
	static const size_t places[] = { 60, DIDX_HEADER_SIZE + 3 };
	AUTO(bench) struct bench b;

	(void)state;
	bench_init_split(&b);
	for (size_t i = 0; i < 2; i++) {
		struct repo_memory_fault fault = {
			{ REPO_MEMORY_GET_FILE, names[i], NULL },
			REPO_MEMORY_FLIP, places[i], 0, 1,
		};

		repo_memory_add_fault(b.repo, &fault);
		expect_refusal(&b, "root.pxar", -EBADMSG, names[i]);
	}
}

/* --- the payload index, lazily --- */

static void a_payload_that_cannot_be_got_is_tried_again(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	struct repo_memory_fault fault = { { REPO_MEMORY_GET_FILE, "root.ppxar.didx", NULL },
					   REPO_MEMORY_FAIL, ENOENT, 0, 1 };
	struct stream *payload;
	struct err err = ERR_INIT;

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	repo_memory_add_fault(b.repo, &fault);
	assert_int_equal(archive_payload(a, &payload, &err), -EIO);
	assert_false(archive_payload_ready(a));
	assert_int_equal(archive_payload(a, &payload, &err), 0);
	assert_true(archive_payload_ready(a));
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void a_damaged_payload_index_is_not_got_for_each_reader_and_got_again_later(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	const struct repo_memory_match gets = { REPO_MEMORY_GET_FILE, "root.ppxar.didx", NULL };
	struct repo_memory_fault fault = { gets, REPO_MEMORY_FLIP, DIDX_HEADER_SIZE + 20, 0, 1 };
	struct stream *payload;
	double begin;
	int rc;

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	repo_memory_add_fault(b.repo, &fault);
	begin = seconds();
	do {
		struct err err = ERR_INIT;

		rc = archive_payload(a, &payload, &err);
		if (rc < 0)
			assert_non_null(strstr(err.text, "root.pxar: wrong checksum for file "
							 "'root.ppxar.didx'"));
		if (seconds() < begin + 1)
			assert_int_equal(repo_memory_count(b.repo, &gets), 1);
	} while (rc == -EBADMSG);
	assert_int_equal(rc, 0);
	assert_int_equal(repo_memory_count(b.repo, &gets), 2);
}

struct opener {
	struct archive *archive;
	pthread_t thread;
	struct stream *payload;
	int rc;
};

static void *opener_main(void *arg)
{
	struct opener *o = arg;

	o->rc = archive_payload(o->archive, &o->payload, NULL);
	return NULL;
}

static void many_open_the_payload_once(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	struct repo_memory_match index = { .call = REPO_MEMORY_GET_FILE,
					   .file = "root.ppxar.didx" };
	struct repo_memory_gate *gate;
	struct opener openers[8];

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	gate = repo_memory_gate(b.repo, &index);
	for (int i = 0; i < 8; i++) {
		openers[i] = (struct opener){ .archive = a };
		pthread_create(&openers[i].thread, NULL, opener_main, &openers[i]);
	}
	repo_memory_gate_await(gate, 1);
	repo_memory_gate_open(gate);
	for (int i = 0; i < 8; i++) {
		pthread_join(openers[i].thread, NULL);
		assert_int_equal(openers[i].rc, 0);
		assert_ptr_equal(openers[i].payload, openers[0].payload);
	}
	assert_int_equal(repo_memory_count(b.repo, &index), 1);
}

static void the_payload_can_be_waited_for(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	struct stream *payload;
	struct answer answer;

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	assert_int_equal(archive_payload_try(a, &payload, NULL), -EAGAIN);
	answer_init(&answer);
	archive_payload_wait(a, &answer.wait);
	assert_int_equal(answer_await(&answer), 0);
	assert_int_equal(answer.chunk->size, 0);
	chunk_unref(answer.chunk);
	assert_int_equal(archive_payload_try(a, &payload, NULL), 0);
	assert_true(stream_size(payload) > 0);
}

static void an_abort_ends_the_wait_for_the_payload(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	struct repo_memory_gate *gate;
	struct answer answer;

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	gate = repo_memory_gate(b.repo, &any_file);
	answer_init(&answer);
	archive_payload_wait(a, &answer.wait);
	repo_memory_gate_await(gate, 1);
	repo_reader_abort(archive_reader(a));
	assert_int_equal(answer_await(&answer), -ECANCELED);
}

static void the_tree_comes_without_waiting(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *a = NULL;
	AUTO(stream_view) struct stream_view v;
	const struct tree *tree = NULL;
	struct err err = ERR_INIT;
	int rc, restarts = 0;

	(void)state;
	bench_init_split(&b);
	assert_int_equal(open_as(&b, "root.pxar", &a, NULL), 0);
	stream_view_init(&v, archive_meta(a));
	while ((rc = archive_tree_try(a, &v, &tree, &err)) == -EAGAIN) {
		struct answer answer;

		answer_init(&answer);
		stream_view_wait(&v, &answer.wait);
		assert_int_equal(answer_await(&answer), 0);
		assert_int_equal(stream_view_hold(&v, answer.chunk), 0);
		restarts++;
	}
	assert_int_equal(rc, 0);
	assert_true(restarts >= 1 && restarts <= 2);
	assert_int_equal(tree->version, PXAR_VERSION_2);
}

/* --- plain files --- */

struct folder {
	char path[40];
};

static void folder_init(struct folder *f)
{
	strcpy(f->path, "/tmp/test_archive.XXXXXX");
	assert_non_null(mkdtemp(f->path));
}

static const char *in(const struct folder *f, const char *name)
{
	static char paths[4][200];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", f->path, name);
	return path;
}

static void folder_release(struct folder *f)
{
	static const char *const names[] = { "a.pxar.meta", "a.pxar.pld", "a.mpxar", "a.pxar" };

	for (size_t i = 0; i < 4; i++)
		unlink(in(f, names[i]));
	rmdir(f->path);
}
DEFINE_AUTO_STRUCT(folder)

static void copy(const char *from, const char *to, size_t size_max)
{
	size_t size;
	AUTO(free) uint8_t *data = repo_fill_read(from, &size);
	AUTO(fd) int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (size > size_max)
		size = size_max;
	assert_int_equal(write(fd, data, size), size);
}

static void opens_plain_files(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(archive) struct archive *legacy = NULL;
	AUTO(archive) struct archive *split = NULL;

	(void)state;
	bench_init(&b);
	assert_int_equal(archive_open_file(&legacy, b.fetch, GOLDEN "legacy.pxar", NULL), 0);
	assert_string_equal(archive_display_name(legacy), "legacy.pxar");
	expect_content(legacy, A_FILE);
	assert_int_equal(archive_open_file(&split, b.fetch, GOLDEN "split.mpxar", NULL), 0);
	assert_false(archive_payload_ready(split));
	expect_content(split, A_FILE);
	assert_null(archive_reader(split));
}

static void opens_plain_files_of_the_original_design(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(folder) struct folder f;
	AUTO(archive) struct archive *a = NULL;

	(void)state;
	bench_init(&b);
	folder_init(&f);
	copy(GOLDEN "split.mpxar", in(&f, "a.pxar.meta"), SIZE_MAX);
	copy(GOLDEN "split.ppxar", in(&f, "a.pxar.pld"), SIZE_MAX);
	assert_int_equal(archive_open_file(&a, b.fetch, in(&f, "a.pxar.meta"), NULL), 0);
	expect_content(a, A_FILE);
}

static void refuses_the_payload_half(void **state)
{
	AUTO(bench) struct bench b;
	struct archive *a = NULL;
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b);
	assert_int_equal(archive_open_file(&a, b.fetch, GOLDEN "split.ppxar", &err), -EINVAL);
	assert_non_null(strstr(err.text, ".mpxar"));
	assert_null(a);
}

static void a_missing_payload_spoils_contents_alone(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(folder) struct folder f;
	AUTO(archive) struct archive *a = NULL;
	const struct tree *tree;
	struct stream *payload;
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b);
	folder_init(&f);
	copy(GOLDEN "split.mpxar", in(&f, "a.mpxar"), SIZE_MAX);
	assert_int_equal(archive_open_file(&a, b.fetch, in(&f, "a.mpxar"), NULL), 0);
	assert_int_equal(archive_tree(a, &tree, NULL), 0);
	assert_int_equal(archive_payload(a, &payload, &err), -EIO);
	assert_non_null(strstr(err.text, "a.ppxar"));
}

static void a_split_archive_under_a_single_name_has_no_contents(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(folder) struct folder f;
	AUTO(archive) struct archive *a = NULL;
	const struct tree *tree;
	struct stream *payload;

	(void)state;
	bench_init(&b);
	folder_init(&f);
	copy(GOLDEN "split.mpxar", in(&f, "a.pxar"), SIZE_MAX);
	assert_int_equal(archive_open_file(&a, b.fetch, in(&f, "a.pxar"), NULL), 0);
	assert_int_equal(archive_tree(a, &tree, NULL), 0);
	assert_int_equal(archive_payload(a, &payload, NULL), -EBADMSG);
}

static void refuses_what_is_no_archive(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(folder) struct folder f;
	AUTO(archive) struct archive *a = NULL;
	const struct tree *tree;
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b);
	folder_init(&f);
	assert_int_equal(archive_open_file(&a, b.fetch, in(&f, "none.pxar"), &err), -ENOENT);
	assert_int_equal(archive_open_file(&a, b.fetch, "/tmp", &err), -EINVAL);
	assert_int_equal(mkfifo(in(&f, "a.pxar"), 0600), 0);
	assert_int_equal(archive_open_file(&a, b.fetch, in(&f, "a.pxar"), &err), -EINVAL);
	unlink(in(&f, "a.pxar"));
	copy(GOLDEN "legacy.pxar", in(&f, "a.pxar"), 0);
	assert_int_equal(archive_open_file(&a, b.fetch, in(&f, "a.pxar"), &err), 0);
	assert_int_equal(archive_tree(a, &tree, &err), -EBADMSG);
	assert_memory_equal(err.text, "a.pxar: ", 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opening_reads_manifest_and_index_alone),
		cmocka_unit_test(the_root_comes_with_the_tree_and_once),
		cmocka_unit_test(the_payload_index_comes_with_the_first_content),
		cmocka_unit_test(reads_the_names_of_the_original_design),
		cmocka_unit_test(content_of_a_single_stream_is_in_it),
		cmocka_unit_test(two_archives_share_their_chunks),
		cmocka_unit_test(refuses_an_encrypted_archive),
		cmocka_unit_test(refuses_a_signed_archive_without_a_key),
		cmocka_unit_test(refuses_an_archive_that_is_not_listed),
		cmocka_unit_test(refuses_an_index_that_is_not_the_manifests),
		cmocka_unit_test(refuses_files_cut_at_every_byte),
		cmocka_unit_test(refuses_a_flipped_bit_in_manifest_and_index),
		cmocka_unit_test(a_payload_that_cannot_be_got_is_tried_again),
		cmocka_unit_test(a_damaged_payload_index_is_not_got_for_each_reader_and_got_again_later),
		cmocka_unit_test(many_open_the_payload_once),
		cmocka_unit_test(the_payload_can_be_waited_for),
		cmocka_unit_test(an_abort_ends_the_wait_for_the_payload),
		cmocka_unit_test(the_tree_comes_without_waiting),
		cmocka_unit_test(opens_plain_files),
		cmocka_unit_test(opens_plain_files_of_the_original_design),
		cmocka_unit_test(refuses_the_payload_half),
		cmocka_unit_test(a_missing_payload_spoils_contents_alone),
		cmocka_unit_test(a_split_archive_under_a_single_name_has_no_contents),
		cmocka_unit_test(refuses_what_is_no_archive),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
