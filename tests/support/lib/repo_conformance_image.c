/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/repo_conformance.h"

#include "archive/blob.h"
#include "archive/fidx.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { T1 = 1800000000, REST = 1000, STORED_MAX = 1 << 20 };

static const uint64_t IMAGE_SIZE = 2 * (uint64_t)FIDX_CHUNK_SIZE + REST;

static const struct repo_conformance *backend;
static struct repo *repo;
static struct repo_writer *writer;
static struct digest full, rest; /* a chunk of zeros, and the last one */

static void put_zeros(size_t size, struct digest *digest)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(FIDX_CHUNK_SIZE));
	AUTO(free) uint8_t *zeros = calloc(1, size);

	assert_int_equal(blob_encode(codec, zeros, size, true, &stored, NULL), 0);
	digest_ctx_of(ctx, zeros, size, digest);
	assert_int_equal(repo_writer_put_chunk(writer, digest, stored.data, stored.size, size, NULL,
					       NULL), 0);
}

static int set_up(void **state)
{
	struct snapshot_name name = repo_conformance_name("vm/100", "", T1);

	(void)state;
	repo = backend->make();
	if (!repo || repo_conformance_begin(repo, &name, &writer, NULL) < 0)
		return -1;
	put_zeros(FIDX_CHUNK_SIZE, &full);
	put_zeros(REST, &rest);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	repo_writer_free(steal(&writer));
	backend->unmake(repo);
	return 0;
}

static struct repo_index *open_image(void)
{
	struct repo_index *ix = NULL;

	assert_int_equal(repo_writer_index_open_fixed(writer, "disk.img.fidx", IMAGE_SIZE, &ix,
						      NULL), 0);
	return ix;
}

static void gives_back_the_index_of_an_image(void **state)
{
	AUTO(manifest) struct manifest *m = manifest_new("vm", "100", T1);
	AUTO(repo_reader) struct repo_reader *r = NULL;
	AUTO(repo_file) struct repo_file file = { 0 };
	const struct digest *chunks[] = { &full, &full, &rest };
	struct snapshot_name name = repo_conformance_name("vm/100", "", T1);
	struct repo_index *ix = open_image();
	struct digest csum, found;
	uint64_t size, begin, end;
	struct fidx image;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(repo_index_add(writer, ix, i < 2 ? FIDX_CHUNK_SIZE : REST,
						chunks[i], NULL), 0);
	assert_int_equal(repo_index_close(writer, ix, &size, &csum, NULL), 0);
	assert_int_equal(size, IMAGE_SIZE);
	assert_int_equal(manifest_add_file(m, "disk.img.fidx", size, &csum, CRYPT_MODE_NONE, NULL),
			 0);
	assert_int_equal(repo_conformance_finish(writer, m, NULL), 0);
	assert_int_equal(repo_read(repo, &name, &r, NULL), 0);
	assert_int_equal(repo_reader_get_file(r, "disk.img.fidx", &file, NULL), 0);
	assert_int_equal(fidx_open(&image, file.data, file.size, NULL), 0);
	assert_int_equal(image.size, IMAGE_SIZE);
	assert_int_equal(image.chunk_size, FIDX_CHUNK_SIZE);
	assert_true(digest_equal(&image.csum, &csum));
	assert_int_equal(image.count, 3);
	for (size_t i = 0; i < 3; i++) {
		fidx_chunk(&image, i, &begin, &end, &found);
		assert_true(digest_equal(&found, chunks[i]));
	}
}

static void refuses_an_image_without_size_or_with_another_name(void **state)
{
	struct repo_index *ix = NULL;

	(void)state;
	assert_int_equal(repo_writer_index_open_fixed(writer, "a.img.fidx", 0, &ix, NULL), -EINVAL);
	assert_int_equal(repo_writer_index_open_fixed(writer, "a.img.didx", 1, &ix, NULL), -EINVAL);
	assert_int_equal(repo_writer_index_open(writer, "a.img.fidx", &ix, NULL), -EINVAL);
	assert_null(ix);
}

static void refuses_chunks_that_an_image_cannot_have(void **state)
{
	struct repo_index *ix = open_image();

	(void)state;
	assert_int_equal(repo_index_add(writer, ix, REST, &rest, NULL), -EINVAL);
	for (size_t i = 0; i < 2; i++)
		assert_int_equal(repo_index_add(writer, ix, FIDX_CHUNK_SIZE, &full, NULL), 0);
	assert_int_equal(repo_index_add(writer, ix, FIDX_CHUNK_SIZE, &full, NULL), -EINVAL);
	assert_int_equal(repo_index_add(writer, ix, REST, &rest, NULL), 0);
	assert_int_equal(repo_index_add(writer, ix, REST, &rest, NULL), -EINVAL);
}

static void refuses_an_image_with_chunks_missing(void **state)
{
	struct repo_index *ix = open_image();
	struct digest csum;
	uint64_t size;

	(void)state;
	assert_int_equal(repo_index_add(writer, ix, FIDX_CHUNK_SIZE, &full, NULL), 0);
	assert_int_equal(repo_index_close(writer, ix, &size, &csum, NULL), -EINVAL);
}

#define WITH_REPO(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int repo_conformance_image_run(const struct repo_conformance *b)
{
	static const struct CMUnitTest tests[] = {
		WITH_REPO(gives_back_the_index_of_an_image),
		WITH_REPO(refuses_an_image_without_size_or_with_another_name),
		WITH_REPO(refuses_chunks_that_an_image_cannot_have),
		WITH_REPO(refuses_an_image_with_chunks_missing),
	};

	backend = b;
	return cmocka_run_group_tests_name(b->name, tests, NULL, NULL);
}
