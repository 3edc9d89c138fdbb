/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/goodbye.h"

#include "archive/base/le.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { TABLE_MAX = 320 };

/* The definition: walk the implicit tree in order and deal out 0, 1, 2, ... */
static void fill(uint64_t *out, uint64_t i, uint64_t n, uint64_t *next)
{
	if (i >= n)
		return;
	fill(out, 2 * i + 1, n, next);
	out[i] = (*next)++;
	fill(out, 2 * i + 2, n, next);
}

static void lays_out_small_tables_as_specified(void **state)
{
	static const struct {
		uint64_t count;
		uint64_t slots[16];
	} v[] = {
		{ 1, { 0 } },
		{ 2, { 1, 0 } },
		{ 3, { 1, 0, 2 } },
		{ 4, { 2, 1, 3, 0 } },
		{ 5, { 3, 1, 4, 0, 2 } },
		{ 6, { 3, 1, 5, 0, 2, 4 } },
		{ 7, { 3, 1, 5, 0, 2, 4, 6 } },
		{ 8, { 4, 2, 6, 1, 3, 5, 7, 0 } },
		{ 9, { 5, 3, 7, 1, 4, 6, 8, 0, 2 } },
		{ 10, { 6, 3, 8, 1, 5, 7, 9, 0, 2, 4 } },
		{ 12, { 7, 3, 10, 1, 5, 9, 11, 0, 2, 4, 6, 8 } },
		{ 16, { 8, 4, 12, 2, 6, 10, 14, 1, 3, 5, 7, 9, 11, 13, 15, 0 } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		for (uint64_t slot = 0; slot < v[i].count; slot++)
			assert_int_equal(goodbye_rank(slot, v[i].count), v[i].slots[slot]);
}

static void lays_out_every_table_as_a_search_tree(void **state)
{
	(void)state;
	for (uint64_t n = 1; n <= TABLE_MAX; n++) {
		uint64_t want[TABLE_MAX], next = 0;

		fill(want, 0, n, &next);
		for (uint64_t slot = 0; slot < n; slot++)
			assert_int_equal(goodbye_rank(slot, n), want[slot]);
	}
	/* Far beyond what fits in memory: the first and the last of all. */
	assert_int_equal(goodbye_rank(0, ((uint64_t)1 << 40) - 1), ((uint64_t)1 << 39) - 1);
	assert_int_equal(goodbye_rank(((uint64_t)1 << 40) - 2, ((uint64_t)1 << 40) - 1),
			 ((uint64_t)1 << 40) - 2);
}

static void sorts_by_hash_then_by_offset(void **state)
{
	struct goodbye_slot s[] = {
		{ 7, 1, 0 }, { UINT64_MAX, 2, 0 }, { 0, 3, 0 }, { 7, 5, 0 }, { 7, 4, 0 },
	};
	static const uint64_t want[] = { 3, 1, 4, 5, 2 };

	(void)state;
	goodbye_sort(s, 5);
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(s[i].offset, want[i]);
	goodbye_sort(s, 0);
	goodbye_sort(s, 1);
}

static void sorts_many(void **state)
{
	static struct goodbye_slot s[1000];
	uint64_t v = 1;

	(void)state;
	for (size_t i = 0; i < 1000; i++) {
		v = v * 6364136223846793005u + 1442695040888963407u;
		s[i] = (struct goodbye_slot){ .hash = v >> 54, .offset = i };
	}
	goodbye_sort(s, 1000);
	for (size_t i = 1; i < 1000; i++)
		assert_true(s[i - 1].hash < s[i].hash ||
			    (s[i - 1].hash == s[i].hash && s[i - 1].offset < s[i].offset));
}

static void knows_a_search_tree(void **state)
{
	(void)state;
	for (size_t n = 0; n <= 40; n++) {
		struct goodbye_slot s[40];

		for (size_t i = 0; i < n; i++)
			s[i].hash = goodbye_rank(i, n) / 2; /* with equal neighbours */
		assert_true(goodbye_is_search_tree(s, n));
	}
}

static void knows_what_is_no_search_tree(void **state)
{
	(void)state;
	for (size_t n = 2; n <= 40; n++) {
		struct goodbye_slot s[40];

		for (size_t a = 0; a < n; a++) {
			size_t b = (a + 1) % n;

			for (size_t i = 0; i < n; i++)
				s[i].hash = goodbye_rank(i, n);
			uint64_t hash = s[a].hash;
			s[a].hash = s[b].hash;
			s[b].hash = hash;
			assert_false(goodbye_is_search_tree(s, n));
		}
	}
}

/* Slots are offered until the wanted one is seen; returns how many were looked at. */
static unsigned search(const struct goodbye_slot *s, uint64_t n, uint64_t hash, uint64_t offset)
{
	struct goodbye_search search;
	unsigned steps = 0;
	uint64_t i;

	goodbye_search_init(&search, hash, n);
	while (goodbye_search_next(&search, &i)) {
		assert_true(i < n);
		steps++;
		if (goodbye_search_seen(&search, i, s[i].hash) && s[i].offset == offset)
			return steps;
	}
	return 0;
}

static void finds_every_member_among_equal_hashes(void **state)
{
	(void)state;
	for (uint64_t n = 1; n <= 70; n++) {
		for (uint64_t same = 1; same <= 9; same += 2) {
			struct goodbye_slot s[70];

			for (uint64_t i = 0; i < n; i++) {
				uint64_t rank = goodbye_rank(i, n);

				s[i] = (struct goodbye_slot){ rank / same, rank, 0 };
			}
			for (uint64_t rank = 0; rank < n; rank++)
				assert_true(search(s, n, rank / same, rank));
		}
	}
}

static void finds_no_stranger_and_looks_at_few_slots(void **state)
{
	struct goodbye_slot s[63];

	(void)state;
	for (uint64_t i = 0; i < 63; i++)
		s[i] = (struct goodbye_slot){ 2 * goodbye_rank(i, 63) + 1, i, 0 };
	for (uint64_t i = 0; i < 63; i++) {
		assert_in_range(search(s, 63, s[i].hash, i), 1, 6);
		assert_int_equal(search(s, 63, s[i].hash - 1, i), 0);
	}
	assert_int_equal(search(s, 0, 1, 1), 0);
}

static void slot_survives_encoding(void **state)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(64);
	struct goodbye_slot in = { 0x1122334455667788, 9, UINT64_MAX }, out;

	(void)state;
	assert_int_equal(goodbye_slot_encode(&b, &in), 0);
	assert_int_equal(b.size, PXAR_GOODBYE_SLOT_SIZE);
	assert_int_equal(b.data[0], 0x88);
	goodbye_slot_decode(b.data, &out);
	assert_memory_equal(&in, &out, sizeof(in));
}

static int decode_tail(uint64_t hash, uint64_t size, uint64_t *count)
{
	struct goodbye_slot tail;
	uint8_t bytes[PXAR_GOODBYE_SLOT_SIZE];

	le64_put(bytes, hash);
	le64_put(bytes + 8, 5);
	le64_put(bytes + 16, size);
	return goodbye_tail_decode(bytes, &tail, count, NULL);
}

static void takes_a_tail_apart(void **state)
{
	uint64_t count = 99;

	(void)state;
	assert_int_equal(decode_tail(PXAR_GOODBYE_TAIL, 40, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(decode_tail(PXAR_GOODBYE_TAIL, goodbye_item_size(1000), &count), 0);
	assert_int_equal(count, 1000);
}

static void refuses_a_bad_tail(void **state)
{
	static const uint64_t sizes[] = { 0, 16, 39, 41, 63, UINT64_MAX, UINT64_MAX - 15 };
	uint64_t count = 99;

	(void)state;
	assert_int_equal(decode_tail(PXAR_GOODBYE_TAIL - 1, 40, &count), -EBADMSG);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		assert_true(decode_tail(PXAR_GOODBYE_TAIL, sizes[i], &count) < 0);
	assert_int_equal(decode_tail(PXAR_GOODBYE_TAIL,
				     goodbye_item_size(PXAR_MEMBER_COUNT_MAX + 1), &count),
			 -E2BIG);
	assert_int_equal(count, 99);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lays_out_small_tables_as_specified),
		cmocka_unit_test(lays_out_every_table_as_a_search_tree),
		cmocka_unit_test(sorts_by_hash_then_by_offset),
		cmocka_unit_test(sorts_many),
		cmocka_unit_test(knows_a_search_tree),
		cmocka_unit_test(knows_what_is_no_search_tree),
		cmocka_unit_test(finds_every_member_among_equal_hashes),
		cmocka_unit_test(finds_no_stranger_and_looks_at_few_slots),
		cmocka_unit_test(slot_survives_encoding),
		cmocka_unit_test(takes_a_tail_apart),
		cmocka_unit_test(refuses_a_bad_tail),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
