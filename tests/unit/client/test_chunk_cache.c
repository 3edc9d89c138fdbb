/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/chunk_cache.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { CHUNK_SIZE = 4096, CHUNK_COST_MAX = CHUNK_SIZE + 256 };

static struct digest key_of(unsigned n)
{
	struct digest key = { { 0 } };

	memcpy(key.bytes, &n, sizeof(n));
	return key;
}

/* A chunk in the cache, filled with its number; the caller's reference is returned. */
static struct chunk *put(struct chunk_cache *c, unsigned n, size_t size,
			 enum chunk_class class_)
{
	struct digest key = key_of(n);
	struct chunk *chunk = chunk_new(c, &key, size, class_);

	assert_non_null(chunk);
	memset(chunk->data, (int)n, size);
	return chunk_cache_insert(c, chunk);
}

static void put_idle(struct chunk_cache *c, unsigned n, enum chunk_class class_)
{
	chunk_unref(put(c, n, CHUNK_SIZE, class_));
}

static bool is_cached(struct chunk_cache *c, unsigned n)
{
	struct digest key = key_of(n);
	struct chunk *chunk = chunk_cache_peek(c, &key);

	chunk_unref(chunk);
	return chunk != NULL;
}

static struct chunk_cache_stats stats_of(struct chunk_cache *c)
{
	struct chunk_cache_stats stats;

	chunk_cache_stats(c, &stats);
	return stats;
}

static void finds_what_was_inserted(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(1 << 20);
	struct digest key = key_of(7), other = key_of(8);
	struct chunk *chunk = put(c, 7, 100, CHUNK_META), *again;

	(void)state;
	again = chunk_cache_get(c, &key);
	assert_ptr_equal(again, chunk);
	assert_int_equal(again->size, 100);
	assert_int_equal(again->data[99], 7);
	assert_null(chunk_cache_get(c, &other));
	chunk_unref(chunk);
	chunk_unref(again);
	assert_int_equal(stats_of(c).hits, 1);
	assert_int_equal(stats_of(c).misses, 1);
	assert_int_equal(stats_of(c).count, 1);
}

static void hides_what_was_not_inserted(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(1 << 20);
	struct digest key = key_of(1);
	struct chunk *chunk = chunk_new(c, &key, 10, CHUNK_META);

	(void)state;
	assert_null(chunk_cache_get(c, &key));
	chunk_unref(chunk);
	assert_int_equal(stats_of(c).bytes, 0);
}

static void keeps_the_first_of_two_with_one_key(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(1 << 20);
	struct chunk *first = put(c, 1, CHUNK_SIZE, CHUNK_META);
	struct chunk *second = put(c, 1, CHUNK_SIZE, CHUNK_META);

	(void)state;
	assert_ptr_equal(first, second);
	assert_int_equal(stats_of(c).count, 1);
	chunk_unref(first);
	chunk_unref(second);
	assert_true(stats_of(c).bytes < 2 * CHUNK_SIZE);
}

static void leaves_room_before_the_bytes(void **state)
{
	static const size_t sizes[] = { 0, 1, 100, 4096, 200000, 5000000, 200000 };
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(6 << 20);

	(void)state;
	for (unsigned n = 0; n < 7; n++) {
		struct digest key = key_of(n);
		struct chunk *chunk = chunk_new(c, &key, sizes[n], CHUNK_META);

		assert_non_null(chunk);
		memset(chunk->data - CHUNK_ROOM_BEFORE, 0xee, CHUNK_ROOM_BEFORE + sizes[n]);
		chunk_unref(chunk_cache_insert(c, chunk));
	}
}

/* Memory goes from chunk to chunk, cut off or grown: none may get any that another one has. */
static void gives_no_memory_to_two(void **state)
{
	enum { KEPT = 8, ROUNDS = 120 };
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(4 << 20);
	struct chunk *kept[KEPT] = { NULL };

	(void)state;
	for (unsigned n = 0; n < ROUNDS; n++) {
		size_t size = ((size_t)128 << 10) + (size_t)n * 7919 * 101 % (3 << 20);
		struct chunk **place = &kept[n * 5 % KEPT];

		chunk_unref(*place);
		*place = put(c, n, size, n % 2 ? CHUNK_META : CHUNK_PAYLOAD);
		for (unsigned i = 0; i < KEPT; i++) {
			const struct chunk *chunk = kept[i];
			unsigned was;

			if (!chunk)
				continue;
			memcpy(&was, chunk->key.bytes, sizeof(was));
			assert_int_equal(chunk->data[0], was);
			assert_int_equal(chunk->data[chunk->size / 2], was);
			assert_int_equal(chunk->data[chunk->size - 1], was);
		}
	}
	for (unsigned i = 0; i < KEPT; i++)
		chunk_unref(kept[i]);
}

static void holds_a_chunk_of_no_bytes(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(1 << 20);

	(void)state;
	chunk_unref(put(c, 1, 0, CHUNK_META));
	assert_true(is_cached(c, 1));
}

static void stays_within_its_bytes(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(1 << 20);

	(void)state;
	for (unsigned n = 0; n < 5000; n++) {
		put_idle(c, n, n % 3 ? CHUNK_PAYLOAD : CHUNK_META);
		assert_true(stats_of(c).bytes <= 1 << 20);
	}
	assert_true(stats_of(c).bytes > (1 << 20) - 2 * CHUNK_COST_MAX);
	assert_int_equal(stats_of(c).evictions + stats_of(c).count, 5000);
}

static void counts_tiny_chunks_with_their_bookkeeping(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(1 << 16);

	(void)state;
	for (unsigned n = 0; n < 5000; n++)
		chunk_unref(put(c, n, 1, CHUNK_META));
	assert_true(stats_of(c).count <= (1 << 16) / sizeof(struct chunk));
}

static void evicts_what_was_not_used_for_longest(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(10 * CHUNK_COST_MAX);
	struct digest key = key_of(0);

	(void)state;
	for (unsigned n = 0; n < 9; n++)
		put_idle(c, n, CHUNK_PAYLOAD);
	chunk_unref(chunk_cache_get(c, &key));
	for (unsigned n = 100; n < 106; n++)
		put_idle(c, n, CHUNK_PAYLOAD);
	assert_true(is_cached(c, 0));
	assert_false(is_cached(c, 1));
	assert_false(is_cached(c, 2));
	assert_true(is_cached(c, 8));
}

static void a_peek_is_no_use(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(10 * CHUNK_COST_MAX);

	(void)state;
	for (unsigned n = 0; n < 9; n++)
		put_idle(c, n, CHUNK_PAYLOAD);
	assert_true(is_cached(c, 0));
	for (unsigned n = 100; n < 106; n++)
		put_idle(c, n, CHUNK_PAYLOAD);
	assert_false(is_cached(c, 0));
	assert_int_equal(stats_of(c).hits + stats_of(c).misses, 0);
}

static void eviction_keeps_held_chunks(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(4 * CHUNK_COST_MAX);
	struct chunk *held[16];

	(void)state;
	for (unsigned n = 0; n < 16; n++)
		held[n] = put(c, n, CHUNK_SIZE, CHUNK_PAYLOAD);
	assert_true(stats_of(c).bytes > 16 * CHUNK_SIZE);
	assert_int_equal(stats_of(c).evictions, 0);
	for (unsigned n = 0; n < 16; n++) {
		assert_true(is_cached(c, n));
		assert_int_equal(held[n]->data[CHUNK_SIZE - 1], n);
	}
	for (unsigned n = 0; n < 16; n++)
		chunk_unref(held[n]);
	assert_true(stats_of(c).bytes <= 4 * CHUNK_COST_MAX);
	assert_true(is_cached(c, 15));
	assert_false(is_cached(c, 0));
}

static void a_cache_of_no_bytes_serves_those_who_hold(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(0);
	struct chunk *chunk = put(c, 1, CHUNK_SIZE, CHUNK_META);

	(void)state;
	assert_true(is_cached(c, 1));
	chunk_unref(chunk);
	assert_false(is_cached(c, 1));
	assert_int_equal(stats_of(c).bytes, 0);
}

static void metadata_is_kept_over_payload(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(20 * CHUNK_COST_MAX);

	(void)state;
	for (unsigned n = 0; n < 10; n++)
		put_idle(c, n, CHUNK_META);
	for (unsigned n = 1000; n < 1100; n++)
		put_idle(c, n, CHUNK_PAYLOAD);
	for (unsigned n = 0; n < 10; n++)
		assert_true(is_cached(c, n));
}

static void metadata_leaves_payload_its_quarter(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(20 * CHUNK_COST_MAX);

	(void)state;
	for (unsigned n = 1000; n < 1004; n++)
		put_idle(c, n, CHUNK_PAYLOAD);
	for (unsigned n = 0; n < 100; n++)
		put_idle(c, n, CHUNK_META);
	for (unsigned n = 1000; n < 1004; n++)
		assert_true(is_cached(c, n));
	assert_true(is_cached(c, 99));
	assert_false(is_cached(c, 0));
}

static void large_chunks_are_whole(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(64 << 20);
	struct chunk *chunk = put(c, 5, (16 << 20) - 1, CHUNK_PAYLOAD);

	(void)state;
	assert_int_equal(chunk->data[0], 5);
	assert_int_equal(chunk->data[(16 << 20) - 2], 5);
	chunk_unref(chunk);
}

/* Their memory is used again, larger or smaller. */
static void large_chunks_that_follow_others_are_whole(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(3 << 20);

	(void)state;
	for (unsigned n = 0; n < 200; n++) {
		size_t size = (100u << 10) + (n * 7919u % 100) * 20001;
		struct chunk *chunk = put(c, n, size, CHUNK_PAYLOAD);

		assert_int_equal(chunk->size, size);
		assert_int_equal(chunk->data[0], n);
		assert_int_equal(chunk->data[size - 1], n);
		chunk_unref(chunk);
		assert_true(stats_of(c).bytes <= 3 << 20);
	}
}

struct racer {
	struct chunk_cache *cache;
	unsigned seed;
	bool failed;
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (unsigned i = 0; i < 4000; i++) {
		unsigned n = (i * 7 + r->seed * 13) % 40;
		struct digest key = key_of(n);
		struct chunk *chunk = chunk_cache_get(r->cache, &key);

		if (!chunk) {
			chunk = chunk_new(r->cache, &key, CHUNK_SIZE, n & 1);
			memset(chunk->data, (int)n, CHUNK_SIZE);
			chunk = chunk_cache_insert(r->cache, chunk);
		}
		if (chunk->data[0] != n || chunk->data[CHUNK_SIZE - 1] != n)
			r->failed = true;
		chunk_unref(chunk);
	}
	return NULL;
}

static void many_threads_see_right_bytes(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *c = chunk_cache_new(20 * CHUNK_COST_MAX);
	struct racer racers[8];
	pthread_t threads[8];

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		racers[i] = (struct racer){ .cache = c, .seed = i };
		pthread_create(&threads[i], NULL, race, &racers[i]);
	}
	for (unsigned i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		assert_false(racers[i].failed);
	}
	assert_true(stats_of(c).bytes <= 20 * CHUNK_COST_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_was_inserted),
		cmocka_unit_test(hides_what_was_not_inserted),
		cmocka_unit_test(keeps_the_first_of_two_with_one_key),
		cmocka_unit_test(leaves_room_before_the_bytes),
		cmocka_unit_test(gives_no_memory_to_two),
		cmocka_unit_test(holds_a_chunk_of_no_bytes),
		cmocka_unit_test(stays_within_its_bytes),
		cmocka_unit_test(counts_tiny_chunks_with_their_bookkeeping),
		cmocka_unit_test(evicts_what_was_not_used_for_longest),
		cmocka_unit_test(a_peek_is_no_use),
		cmocka_unit_test(eviction_keeps_held_chunks),
		cmocka_unit_test(a_cache_of_no_bytes_serves_those_who_hold),
		cmocka_unit_test(metadata_is_kept_over_payload),
		cmocka_unit_test(metadata_leaves_payload_its_quarter),
		cmocka_unit_test(large_chunks_are_whole),
		cmocka_unit_test(large_chunks_that_follow_others_are_whole),
		cmocka_unit_test(many_threads_see_right_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
