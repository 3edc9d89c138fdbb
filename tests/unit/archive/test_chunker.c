/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/chunker.h"

#include "archive/base/digest.h"
#include "archive/base/le.h"
#include "archive/blob.h"
#include "archive/chunker_table.h"
#include "archive/didx_writer.h"
#include "tests/support/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { MIB = 1 << 20, CUT_COUNT_MAX = 4096 };

struct cuts {
	size_t ends[CUT_COUNT_MAX];
	size_t count;
};

static struct digest digest_of(const void *data, size_t size)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	struct digest d;

	assert_non_null(ctx);
	digest_ctx_of(ctx, data, size, &d);
	return d;
}

static void check_digest(const void *data, size_t size, const char *expected)
{
	struct digest d = digest_of(data, size);
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(&d, hex);
	assert_string_equal(hex, expected);
}

/* The generator of the vectors: SHA-256 of a text and a counter, over and over. */
static uint8_t *generate(size_t size)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	uint8_t seed[24] = "pbs-chunker-test", *data = malloc(size);

	assert_non_null(data);
	for (size_t at = 0; at < size; at += DIGEST_SIZE) {
		struct digest d;

		le64_put(seed + 16, at / DIGEST_SIZE);
		digest_ctx_of(ctx, seed, sizeof(seed), &d);
		memcpy(data + at, d.bytes, DIGEST_SIZE);
	}
	return data;
}

static uint8_t *counter(void)
{
	uint8_t *data = malloc(MIB);

	assert_non_null(data);
	for (uint32_t i = 0; i < MIB / 4; i++)
		le32_put(data + 4 * (size_t)i, i);
	return data;
}

/* Feed `size` bytes in pieces of `piece` and note where chunks end; the rest is one, too. */
static void cut_all(const uint8_t *data, size_t size, size_t avg, size_t piece, struct cuts *out)
{
	struct chunker c;
	size_t at = 0;

	out->count = 0;
	chunker_init(&c, avg);
	while (at < size) {
		size_t n = size - at < piece ? size - at : piece;
		size_t cut = chunker_scan(&c, data + at, n);

		assert_true(cut <= n && out->count < CUT_COUNT_MAX);
		at += cut ? cut : n;
		if (cut)
			out->ends[out->count++] = at;
	}
	if (size > 0 && (out->count == 0 || out->ends[out->count - 1] != size))
		out->ends[out->count++] = size;
}

static void check_csum(const uint8_t *data, const struct cuts *cuts, const char *expected)
{
	static const uint8_t uuid[16];
	AUTO(didx_writer) struct didx_writer w;
	struct digest csum;
	char hex[DIGEST_HEX_SIZE];
	size_t begin = 0;

	assert_int_equal(didx_writer_init(&w, uuid, 0, NULL), 0);
	for (size_t i = 0; i < cuts->count; i++) {
		struct digest d = digest_of(data + begin, cuts->ends[i] - begin);

		assert_int_equal(didx_writer_add(&w, cuts->ends[i] - begin, &d, NULL), 0);
		begin = cuts->ends[i];
	}
	assert_int_equal(didx_writer_finish(&w, &csum, NULL), 0);
	digest_to_hex(&csum, hex);
	assert_string_equal(hex, expected);
}

struct vector {
	size_t size, avg;
	const char *data_digest, *csum;
	size_t cuts[16];
};

static void check_vector(const uint8_t *data, const struct vector *v)
{
	static const size_t pieces[] = { 1, 7, 63, 64, 65, 4096, 65536, 256 << 10, SIZE_MAX };
	struct cuts whole, cuts;
	size_t count = 0;

	if (v->data_digest)
		check_digest(data, v->size, v->data_digest);
	cut_all(data, v->size, v->avg, SIZE_MAX, &whole);
	while (count < 16 && v->cuts[count] > 0)
		count++;
	assert_int_equal(whole.count, count);
	assert_memory_equal(whole.ends, v->cuts, count * sizeof(size_t));
	check_csum(data, &whole, v->csum);
	for (size_t i = v->size > 4 * MIB ? 4 : 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		cut_all(data, v->size, v->avg, pieces[i], &cuts);
		assert_int_equal(cuts.count, whole.count);
		assert_memory_equal(cuts.ends, whole.ends, whole.count * sizeof(size_t));
	}
}

static void has_the_published_table(void **state)
{
	uint8_t bytes[sizeof(chunker_table)];

	(void)state;
	for (size_t i = 0; i < 256; i++)
		le32_put(bytes + 4 * i, chunker_table[i]);
	check_digest(bytes, sizeof(bytes),
		     "5b52080d38287da9d2e278466e3e0db7ec98e5e8b226f50612a56fa012b1f660");
}

static void cuts_the_generated_vectors(void **state)
{
	static const struct vector vectors[] = {
		{ MIB, 64 << 10, "939a5a163be86a63188b045143c6ae2f4a8dfa2448d179aad9a1112ee05db345",
		  "2be9ba58e9667ba054421bfb8871b3fa0b119504a973e0fb509af9a7240f9e9d",
		  { 100102, 122289, 188561, 223937, 269212, 307397, 483609, 656741, 714406, 970485,
		    1048576 } },
		{ 4 * MIB, 512 << 10,
		  "ce9f1413c5455d493d6c9bf6746a1485188c49990bf8c73c68b464abb686ede1",
		  "d869292bbdfaf723f38846f2bf6359bd52ac7c14738d80d0a723332f580cd598",
		  { 970485, 1348552, 2033495, 2584073, 4194304 } },
		{ 64 * (size_t)MIB, 4 * MIB,
		  "8674845df594bccf808ab94b6774ed6786c87754888d7b780ee850f18ac50fa4",
		  "088d285ee29ecffc8779f68acce8bf84a6768acfe04d3d60564845aea5f15ba5",
		  { 4558929, 5919285, 9186337, 15288057, 22965931, 24269770, 26788416, 29468874,
		    30659644, 36586761, 38881597, 49991339, 62224843, 67108864 } },
	};
	AUTO(free) uint8_t *data = generate(64 * (size_t)MIB);

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		check_vector(data, &vectors[i]);
}

static void cuts_zeros_at_the_maximum(void **state)
{
	static const struct vector v = {
		MIB, 64 << 10, NULL,
		"432ec2731af1ae126f32cfa37e3bc062a0351b02009a30b7246e1c0a92a8329c",
		{ 262144, 524288, 786432, 1048576 },
	};
	AUTO(free) uint8_t *data = calloc(1, MIB);

	(void)state;
	check_vector(data, &v);
}

static void cuts_the_counter_vector(void **state)
{
	static const struct vector v = {
		MIB, 64 << 10, "21b9bf484e8bb6ca346d2cd113f24594cadb15c31c3e6ea4bd99897b1e728282",
		"36c80f3493139f29c19f20073e97620d09501ee42fa4e0111368dba3c1002d8a",
		{ 143377, 405521, 667665, 929809, 1048576 },
	};
	AUTO(free) uint8_t *data = counter();

	(void)state;
	check_vector(data, &v);
}

static uint32_t plain_hash(const uint8_t *end)
{
	uint32_t h = 0;

	for (unsigned k = 0; k < CHUNKER_WINDOW_SIZE; k++) {
		uint32_t t = chunker_table[*(end - 1 - k)];

		h ^= k % 32 ? t << k % 32 | t >> (32 - k % 32) : t;
	}
	return h;
}

/* Against the definition: every window hashed anew. */
static void agrees_with_the_definition_at_small_sizes(void **state)
{
	enum { SIZE = 300000 };
	AUTO(free) uint8_t *data = generate(SIZE + DIGEST_SIZE);
	static const size_t pieces[] = { 1, 3, 64, 129, 1000, SIZE_MAX };

	(void)state;
	assert_int_equal(plain_hash(data + 64), 0x5e7da329);
	assert_int_equal(plain_hash(data + 65), 0x06325930);
	assert_int_equal(plain_hash(data + 200), 0xcaa4957e);
	for (size_t avg = 512; avg <= 16384; avg *= 2) {
		struct cuts expected = { .count = 0 }, cuts;
		size_t begin = 0;

		for (size_t at = 1; at <= SIZE; at++) {
			size_t size = at - begin;
			bool hit = size >= avg / 4 &&
				   (plain_hash(data + at) & (2 * avg - 1)) >= 2 * avg - 3;

			if (!hit && size < avg * 4 && at < SIZE)
				continue;
			expected.ends[expected.count++] = at;
			begin = at;
		}
		for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
			cut_all(data, SIZE, avg, pieces[i], &cuts);
			assert_int_equal(cuts.count, expected.count);
			assert_memory_equal(cuts.ends, expected.ends,
					    expected.count * sizeof(size_t));
		}
	}
}

/* Append the content of a chunk; false when it is encrypted. */
static bool put_chunk(const struct golden *tar, struct blob_codec *codec, const struct digest *d,
		      struct wbuf *stream)
{
	char hex[DIGEST_HEX_SIZE];
	struct golden_member m;
	int rc;

	digest_to_hex(d, hex);
	m = golden_find(tar, hex);
	rc = blob_decode(codec, m.data, m.size, CHUNK_SIZE_MAX, stream, NULL);
	assert_true(rc == 0 || rc == -ENOKEY);
	return rc == 0;
}

/* Payload streams are left out: their cuts depend on when suggestions came. */
static bool check_stream(void *arg, const struct golden *tar, const struct golden_member *index)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf stream = WBUF_INIT(64 << 20);
	bool is_catalog = golden_ends_with(index->name, "catalog.pcat1.didx");
	struct cuts cuts;
	struct didx ix;

	(void)arg;
	if (!golden_ends_with(index->name, ".didx") ||
	    golden_ends_with(index->name, ".ppxar.didx"))
		return false;
	assert_int_equal(didx_open(&ix, index->data, index->size, NULL), 0);
	for (size_t i = 0; i < ix.count; i++) {
		struct digest d;
		uint64_t begin, end;

		didx_chunk(&ix, i, &begin, &end, &d);
		if (!put_chunk(tar, codec, &d, &stream))
			return false;
	}
	cut_all(stream.data, stream.size, is_catalog ? CHUNKER_AVG_SIZE_CATALOG : 64 << 10,
		256 << 10, &cuts);
	assert_int_equal(cuts.count, ix.count);
	for (size_t i = 0; i < ix.count; i++) {
		struct digest d;
		uint64_t begin, end;

		didx_chunk(&ix, i, &begin, &end, &d);
		assert_int_equal(cuts.ends[i], end);
	}
	return true;
}

static void cuts_golden_streams_where_the_official_client_did(void **state)
{
	(void)state;
	assert_int_equal(golden_each(check_stream, NULL), 13);
}

static void forgets_the_chunk_when_reset(void **state)
{
	AUTO(free) uint8_t *data = generate(MIB);
	struct chunker c;

	(void)state;
	chunker_init(&c, 64 << 10);
	assert_int_equal(chunker_scan(&c, data, 100000), 0);
	chunker_reset(&c);
	assert_int_equal(chunker_scan(&c, data, MIB), 100102);
	assert_int_equal(chunker_scan(&c, data + 100102, MIB - 100102), 122289 - 100102);
}

/* --- suggestions --- */

static void cuts_at_suggestions_in_range(void **state)
{
	enum { AVG = 64 << 10, MIN = AVG / 4 };
	AUTO(free) uint8_t *data = generate(MIB);
	AUTO(chunker_suggest) struct chunker_suggest c;

	(void)state;
	chunker_suggest_init(&c, AVG);
	assert_int_equal(chunker_suggest_add(&c, 16), 0); /* too small a chunk */
	assert_int_equal(chunker_suggest_add(&c, MIN - 1), 0);
	assert_int_equal(chunker_suggest_add(&c, MIN), 0);
	assert_int_equal(chunker_suggest_add(&c, MIN + 1), 0);
	assert_int_equal(chunker_suggest_add(&c, 2 * MIN), 0);
	assert_int_equal(chunker_suggest_scan(&c, 0, 0, data, MIB), MIN);
	assert_int_equal(c.count, 2);
	assert_int_equal(chunker_suggest_scan(&c, MIN, 0, data + MIN, MIB - MIN), MIN);
	assert_int_equal(c.count, 0);
}

/* Seen from the chunk's start: 100102 is a cut by the hash, as without suggestions. */
static void cuts_by_the_hash_before_a_suggestion_out_of_reach(void **state)
{
	AUTO(free) uint8_t *data = generate(MIB);
	AUTO(chunker_suggest) struct chunker_suggest c;

	(void)state;
	chunker_suggest_init(&c, 64 << 10);
	assert_int_equal(chunker_suggest_add(&c, (256 << 10) + 1), 0); /* over the maximum */
	assert_int_equal(chunker_suggest_scan(&c, 0, 0, data, MIB), 100102);
	assert_int_equal(c.count, 1);
	chunker_suggest_reset(&c);
	assert_int_equal(chunker_suggest_scan(&c, 0, 0, data, 100000), 0); /* beyond the buffer */
	assert_int_equal(chunker_suggest_scan(&c, 0, 100000, data + 100000, MIB - 100000), 102);
	assert_int_equal(c.count, 1);
}

static void drops_a_suggestion_that_comes_too_late(void **state)
{
	AUTO(free) uint8_t *data = generate(MIB);
	AUTO(chunker_suggest) struct chunker_suggest c;

	(void)state;
	chunker_suggest_init(&c, 64 << 10);
	assert_int_equal(chunker_suggest_scan(&c, 0, 0, data, 50000), 0);
	assert_int_equal(chunker_suggest_add(&c, 49999), 0);
	assert_int_equal(chunker_suggest_add(&c, 50000), 0);
	assert_int_equal(chunker_suggest_scan(&c, 0, 50000, data + 50000, MIB - 50000), 50102);
	assert_int_equal(c.count, 0);
}

static void keeps_any_number_of_suggestions_in_order(void **state)
{
	enum { STEP = 16 << 10, COUNT = 10000 };
	AUTO(free) uint8_t *zeros = calloc(1, STEP);
	AUTO(chunker_suggest) struct chunker_suggest c;
	uint64_t added = 0;

	(void)state;
	chunker_suggest_init(&c, 64 << 10);
	for (uint64_t at = 0; at < COUNT; at++) {
		while (added < COUNT && added < at + at % 300 + 1) {
			added++;
			for (int again = 0; again < 3; again++)
				assert_int_equal(chunker_suggest_add(&c, added * STEP), 0);
		}
		assert_int_equal(chunker_suggest_scan(&c, at * STEP, 0, zeros, STEP), STEP);
		assert_int_equal(c.count, added - at - 1);
	}
	assert_true(c.capacity <= 1024);
}

/* --- forced boundaries --- */

struct injection {
	uint64_t boundary, size;
};

/* The buffering of FORMAT.md, "Chunker", over pieces of a stream. */
struct stream {
	struct chunker_suggest chunker;
	struct wbuf buffer;
	size_t scanned;
	uint64_t chunk_begin;
	const struct injection *injections;
	size_t injection_count;
	struct cuts sizes;
};

static void drop_front(struct wbuf *b, size_t size)
{
	memmove(b->data, b->data + size, b->size - size);
	b->size -= size;
}

static enum chunker_cut stream_step(struct stream *s)
{
	bool forced = s->injection_count > 0;
	size_t size;
	enum chunker_cut cut = chunker_suggest_scan_forced(
		&s->chunker, s->chunk_begin, s->scanned, s->buffer.data + s->scanned,
		s->buffer.size - s->scanned, forced ? &s->injections->boundary : NULL, &size);

	if (cut == CHUNKER_CUT_NONE) {
		s->scanned = s->buffer.size;
		return cut;
	}
	if (size > 0)
		s->sizes.ends[s->sizes.count++] = size;
	drop_front(&s->buffer, size);
	s->scanned = 0;
	s->chunk_begin += size;
	if (cut == CHUNKER_CUT_FORCED) {
		s->chunk_begin += s->injections->size;
		s->injections++;
		s->injection_count--;
	}
	return cut;
}

static void stream_put(struct stream *s, const void *data, size_t size)
{
	assert_int_equal(wbuf_put(&s->buffer, data, size), 0);
	while (stream_step(s) != CHUNKER_CUT_NONE)
		;
}

static void cuts_the_vector_of_forced_boundaries(void **state)
{
	static const struct injection injections[] = {
		{ 32768, 1024 }, { 131072, 2048 }, { 657408, 512 }, { 658432, 0 },
	};
	static const size_t expected[] = { 32768, 31744, 65536, 262144, 262144, 512, 262144,
					   131584 };
	AUTO(free) uint8_t *data = counter();
	struct stream s = { .injections = injections, .injection_count = 4,
			    .buffer = WBUF_INIT(2 * MIB) };

	(void)state;
	chunker_suggest_init(&s.chunker, 64 << 10);
	assert_int_equal(chunker_suggest_add(&s.chunker, 32768), 0);
	assert_int_equal(chunker_suggest_add(&s.chunker, 65536), 0);
	stream_put(&s, data + 10, MIB - 10);
	stream_put(&s, data, 10);
	s.sizes.ends[s.sizes.count++] = s.buffer.size;
	assert_int_equal(s.injection_count, 0);
	assert_int_equal(s.sizes.count, 8);
	assert_memory_equal(s.sizes.ends, expected, sizeof(expected));
	wbuf_release(&s.buffer);
	chunker_suggest_release(&s.chunker);
}

static void forces_an_empty_chunk_at_the_start(void **state)
{
	AUTO(chunker_suggest) struct chunker_suggest c;
	uint64_t boundary = 77;
	size_t size = 1;

	(void)state;
	chunker_suggest_init(&c, 64 << 10);
	assert_int_equal(chunker_suggest_scan_forced(&c, 77, 0, "", 0, &boundary, &size),
			 CHUNKER_CUT_FORCED);
	assert_int_equal(size, 0);
	assert_int_equal(chunker_suggest_scan_forced(&c, 77, 0, "", 0, NULL, &size),
			 CHUNKER_CUT_NONE);
}

static void leaves_a_forced_boundary_beyond_the_buffer_for_later(void **state)
{
	AUTO(free) uint8_t *data = generate(MIB);
	AUTO(chunker_suggest) struct chunker_suggest c;
	uint64_t boundary = 100103;
	size_t size;

	(void)state;
	chunker_suggest_init(&c, 64 << 10);
	assert_int_equal(chunker_suggest_scan_forced(&c, 0, 0, data, 50000, &boundary, &size),
			 CHUNKER_CUT_NONE);
	assert_int_equal(chunker_suggest_scan_forced(&c, 0, 50000, data + 50000, 60000, &boundary,
						     &size), CHUNKER_CUT_FOUND);
	assert_int_equal(size, 100102);
	assert_int_equal(chunker_suggest_scan_forced(&c, 100102, 0, data + 100102, 50000,
						     &boundary, &size), CHUNKER_CUT_FORCED);
	assert_int_equal(size, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(has_the_published_table),
		cmocka_unit_test(cuts_the_generated_vectors),
		cmocka_unit_test(cuts_zeros_at_the_maximum),
		cmocka_unit_test(cuts_the_counter_vector),
		cmocka_unit_test(agrees_with_the_definition_at_small_sizes),
		cmocka_unit_test(cuts_golden_streams_where_the_official_client_did),
		cmocka_unit_test(forgets_the_chunk_when_reset),
		cmocka_unit_test(cuts_at_suggestions_in_range),
		cmocka_unit_test(cuts_by_the_hash_before_a_suggestion_out_of_reach),
		cmocka_unit_test(drops_a_suggestion_that_comes_too_late),
		cmocka_unit_test(keeps_any_number_of_suggestions_in_order),
		cmocka_unit_test(cuts_the_vector_of_forced_boundaries),
		cmocka_unit_test(forces_an_empty_chunk_at_the_start),
		cmocka_unit_test(leaves_a_forced_boundary_beyond_the_buffer_for_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
