/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/index_writer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { REST = 7 };

static const uint8_t UUID[16] = "index_writer";
static const uint64_t IMAGE_SIZE = (uint64_t)FIDX_CHUNK_SIZE + REST;
static const struct digest A = { { 1 } }, B = { { 2 } };

static void makes_what_the_dynamic_writer_makes(void **state)
{
	AUTO(index_writer) struct index_writer w;
	AUTO(didx_writer) struct didx_writer expected;
	struct digest csum, expected_csum;
	uint64_t size;

	(void)state;
	assert_int_equal(index_writer_init(&w, UUID, 1, 0, NULL), 0);
	assert_int_equal(didx_writer_init(&expected, UUID, 1, NULL), 0);
	assert_int_equal(index_writer_add(&w, 5, &A, NULL), 0);
	assert_int_equal(index_writer_add(&w, 6, &B, NULL), 0);
	assert_int_equal(didx_writer_add(&expected, 5, &A, NULL), 0);
	assert_int_equal(didx_writer_add(&expected, 6, &B, NULL), 0);
	assert_int_equal(index_writer_finish(&w, &size, &csum, NULL), 0);
	assert_int_equal(didx_writer_finish(&expected, &expected_csum, NULL), 0);
	assert_int_equal(size, 11);
	assert_true(digest_equal(&csum, &expected_csum));
	assert_int_equal(index_writer_bytes(&w)->size, expected.bytes.size);
	assert_memory_equal(index_writer_bytes(&w)->data, expected.bytes.data,
			    expected.bytes.size);
}

static void makes_the_index_of_an_image(void **state)
{
	AUTO(index_writer) struct index_writer w;
	struct digest csum;
	struct fidx ix;
	uint64_t size;

	(void)state;
	assert_int_equal(index_writer_init(&w, UUID, 1, IMAGE_SIZE, NULL), 0);
	assert_int_equal(index_writer_add(&w, FIDX_CHUNK_SIZE, &A, NULL), 0);
	assert_int_equal(index_writer_add(&w, REST, &B, NULL), 0);
	assert_int_equal(index_writer_finish(&w, &size, &csum, NULL), 0);
	assert_int_equal(size, IMAGE_SIZE);
	assert_int_equal(fidx_open(&ix, index_writer_bytes(&w)->data, index_writer_bytes(&w)->size,
				   NULL), 0);
	assert_int_equal(ix.size, IMAGE_SIZE);
	assert_true(digest_equal(&ix.csum, &csum));
}

static void refuses_chunks_that_an_image_cannot_have(void **state)
{
	AUTO(index_writer) struct index_writer w;
	struct digest csum;
	uint64_t size;

	(void)state;
	assert_int_equal(index_writer_init(&w, UUID, 1, IMAGE_SIZE, NULL), 0);
	assert_int_equal(index_writer_add(&w, FIDX_CHUNK_SIZE - 1, &A, NULL), -EINVAL);
	assert_int_equal(index_writer_add(&w, REST, &A, NULL), -EINVAL);
	assert_int_equal(index_writer_add(&w, FIDX_CHUNK_SIZE, &A, NULL), 0);
	assert_int_equal(index_writer_finish(&w, &size, &csum, NULL), -EINVAL);
	assert_int_equal(index_writer_add(&w, FIDX_CHUNK_SIZE, &A, NULL), -EINVAL);
	assert_int_equal(index_writer_add(&w, REST, &A, NULL), 0);
	assert_int_equal(index_writer_add(&w, REST, &A, NULL), -EINVAL);
	assert_int_equal(index_writer_finish(&w, &size, &csum, NULL), 0);
}

static void refuses_to_finish_a_stream_without_chunks(void **state)
{
	AUTO(index_writer) struct index_writer w;
	struct digest csum;
	uint64_t size;

	(void)state;
	assert_int_equal(index_writer_init(&w, UUID, 1, 0, NULL), 0);
	assert_int_equal(index_writer_add(&w, 0, &A, NULL), -EINVAL);
	assert_int_equal(index_writer_finish(&w, &size, &csum, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_what_the_dynamic_writer_makes),
		cmocka_unit_test(makes_the_index_of_an_image),
		cmocka_unit_test(refuses_chunks_that_an_image_cannot_have),
		cmocka_unit_test(refuses_to_finish_a_stream_without_chunks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
