/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/snapshot_open.h"

#include "tests/support/lib/repo_fill.h"
#include "tests/support/lib/repo_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { IMAGE_SIZE = 10000, CHUNK = 4096 };

/* A snapshot with an archive, an image and a blob. */
struct bench {
	struct repo *repo;
	struct snapshot_name name;
	struct manifest *manifest;
	struct chunk_cache *cache;
	struct fetch *fetch;
	uint8_t image[IMAGE_SIZE];
};

static void add_archive(struct bench *b)
{
	size_t size;
	AUTO(free) uint8_t *data = repo_fill_read("tests/golden/files/legacy.pxar", &size);

	repo_fill_stream(b->repo, &b->name, b->manifest, "root.pxar.didx", data, size, CHUNK);
}

static void add_image(struct bench *b, uint64_t listed_size)
{
	static const uint8_t uuid[16] = "test";
	AUTO(fidx_writer) struct fidx_writer ix = { 0 };
	struct digest csum;

	assert_int_equal(fidx_writer_init(&ix, uuid, 1, IMAGE_SIZE, CHUNK, NULL), 0);
	for (size_t at = 0; at < IMAGE_SIZE; at += CHUNK) {
		size_t n = IMAGE_SIZE - at < CHUNK ? IMAGE_SIZE - at : CHUNK;
		struct digest digest = repo_fill_chunk(b->repo, b->image + at, n);

		assert_int_equal(fidx_writer_add(&ix, &digest, NULL), 0);
	}
	assert_int_equal(fidx_writer_finish(&ix, &csum, NULL), 0);
	repo_memory_add_file(b->repo, &b->name, "disk.img.fidx", ix.bytes.data, ix.bytes.size);
	assert_int_equal(manifest_add_file(b->manifest, "disk.img.fidx", listed_size, &csum,
					   CRYPT_MODE_NONE, NULL), 0);
}

static void add_blob(struct bench *b, const char *name, const char *text, bool listed)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(4096);
	struct digest csum;

	assert_int_equal(blob_encode(codec, text, strlen(text), false, &stored, NULL), 0);
	repo_memory_add_file(b->repo, &b->name, name, stored.data, stored.size);
	if (!listed)
		return;
	digest_ctx_of(ctx, stored.data, stored.size, &csum);
	assert_int_equal(manifest_add_file(b->manifest, name, stored.size, &csum,
					   CRYPT_MODE_NONE, NULL), 0);
}

static void bench_init(struct bench *b, uint64_t listed_image_size)
{
	b->repo = repo_memory_new();
	b->name = repo_fill_name();
	b->manifest = manifest_new("host", "test", b->name.time);
	b->cache = chunk_cache_new(64 << 20);
	b->fetch = fetch_new(b->cache, 2);
	for (size_t i = 0; i < IMAGE_SIZE; i++)
		b->image[i] = (uint8_t)(i * 7 + i / 251);
	add_archive(b);
	add_image(b, listed_image_size);
	add_blob(b, "etc.conf.blob", "a = b\n", true);
	repo_fill_manifest(b->repo, &b->name, b->manifest);
}

static void bench_release(struct bench *b)
{
	fetch_free(b->fetch);
	chunk_cache_free(b->cache);
	manifest_free(b->manifest);
	repo_free(b->repo);
}
DEFINE_AUTO_STRUCT(bench)

static struct snapshot_open *open_it(struct bench *b)
{
	struct snapshot_open *s = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(snapshot_open_new(&s, b->fetch, b->repo, &b->name, NULL, &err), 0);
	return s;
}

static void gives_archive_image_and_blob_in_one_session(void **state)
{
	static const struct repo_memory_match sessions = { .call = REPO_MEMORY_OPEN };
	AUTO(bench) struct bench b;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);
	uint8_t image[IMAGE_SIZE];
	struct archive *a;
	struct stream *stream;
	const struct tree *tree;

	(void)state;
	bench_init(&b, IMAGE_SIZE);
	AUTO(snapshot_open) struct snapshot_open *s = open_it(&b);
	assert_int_equal(snapshot_open_archive(s, "root.pxar", &a, NULL), 0);
	assert_int_equal(archive_tree(a, &tree, NULL), 0);
	archive_free(a);
	assert_int_equal(snapshot_open_stream(s, "disk.img.fidx", &stream, NULL), 0);
	assert_int_equal(stream_size(stream), IMAGE_SIZE);
	assert_int_equal(read_at_exact(stream_read_at(stream), image, IMAGE_SIZE, 0, NULL), 0);
	assert_memory_equal(image, b.image, IMAGE_SIZE);
	/* across the edge of two chunks, up to the end of the shorter last one */
	assert_int_equal(read_at_exact(stream_read_at(stream), image, 3000, 7000, NULL), 0);
	assert_memory_equal(image, b.image + 7000, 3000);
	stream_free(stream);
	assert_int_equal(snapshot_open_blob(s, "etc.conf.blob", &text, NULL), 0);
	assert_int_equal(text.size, 6);
	assert_memory_equal(text.data, "a = b\n", 6);
	assert_int_equal(repo_memory_count(b.repo, &sessions), 1);
}

static void opening_reads_the_manifest_and_looks_for_a_log(void **state)
{
	static const struct repo_memory_match files = { .call = REPO_MEMORY_GET_FILE };
	static const struct repo_memory_match chunks = { .call = REPO_MEMORY_GET_CHUNK };
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, IMAGE_SIZE);
	AUTO(snapshot_open) struct snapshot_open *s = open_it(&b);
	assert_int_equal(repo_memory_count(b.repo, &files), 2);
	assert_int_equal(repo_memory_count(b.repo, &chunks), 0);
	assert_false(snapshot_open_has_log(s));
	assert_int_equal(snapshot_open_manifest(s)->file_count, 3);
	assert_non_null(memmem(snapshot_open_text(s)->data, snapshot_open_text(s)->size,
			       "disk.img.fidx", 13));
}

static void shows_the_client_log_which_no_manifest_lists(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);

	(void)state;
	bench_init(&b, IMAGE_SIZE);
	add_blob(&b, REPO_CLIENT_LOG, "all well\n", false);
	AUTO(snapshot_open) struct snapshot_open *s = open_it(&b);
	assert_true(snapshot_open_has_log(s));
	assert_int_equal(snapshot_open_blob(s, REPO_CLIENT_LOG, &text, NULL), 0);
	assert_memory_equal(text.data, "all well\n", 9);
}

static void refuses_what_differs_from_the_manifest(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);
	struct err err = ERR_INIT;
	struct stream *stream = NULL;

	(void)state;
	bench_init(&b, IMAGE_SIZE - 1);
	add_blob(&b, "etc.conf.blob", "a = c\n", false);
	AUTO(snapshot_open) struct snapshot_open *s = open_it(&b);
	assert_int_equal(snapshot_open_stream(s, "disk.img.fidx", &stream, &err), -EBADMSG);
	assert_null(stream);
	assert_non_null(strstr(err.text, "wrong size"));
	assert_int_equal(snapshot_open_blob(s, "etc.conf.blob", &text, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "wrong checksum"));
}

static void refuses_what_is_not_there(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);
	struct snapshot_open *none = NULL;
	struct snapshot_name other;
	struct archive *a = NULL;

	(void)state;
	bench_init(&b, IMAGE_SIZE);
	AUTO(snapshot_open) struct snapshot_open *s = open_it(&b);
	assert_int_equal(snapshot_open_archive(s, "etc.pxar", &a, NULL), -ENOENT);
	assert_int_equal(snapshot_open_blob(s, "none.blob", &text, NULL), -ENOENT);
	other = b.name;
	other.time++;
	assert_int_equal(snapshot_open_new(&none, b.fetch, b.repo, &other, NULL, NULL), -ENOENT);
	assert_null(none);
}

static void lists_but_does_not_give_out_what_a_missing_key_made(void **state)
{
	AUTO(bench) struct bench b;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);
	struct err err = ERR_INIT;
	struct stream *stream = NULL;
	struct archive *a = NULL;

	(void)state;
	bench_init(&b, IMAGE_SIZE);
	b.manifest->files[1].crypt_mode = CRYPT_MODE_ENCRYPT;
	repo_fill_manifest(b.repo, &b.name, b.manifest);
	AUTO(snapshot_open) struct snapshot_open *s = open_it(&b);
	assert_int_equal(snapshot_open_locked(s, &err), -ENOKEY);
	assert_int_equal(snapshot_open_manifest(s)->file_count, 3);
	assert_int_equal(snapshot_open_archive(s, "root.pxar", &a, &err), -ENOKEY);
	assert_int_equal(snapshot_open_stream(s, "disk.img.fidx", &stream, &err), -ENOKEY);
	assert_int_equal(snapshot_open_blob(s, "etc.conf.blob", &text, &err), -ENOKEY);
	assert_int_equal(snapshot_open_blob(s, MANIFEST_BLOB_NAME, &text, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_archive_image_and_blob_in_one_session),
		cmocka_unit_test(opening_reads_the_manifest_and_looks_for_a_log),
		cmocka_unit_test(shows_the_client_log_which_no_manifest_lists),
		cmocka_unit_test(refuses_what_differs_from_the_manifest),
		cmocka_unit_test(refuses_what_is_not_there),
		cmocka_unit_test(lists_but_does_not_give_out_what_a_missing_key_made),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
