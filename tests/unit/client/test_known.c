/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/known.h"

#include "archive/base/le.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <cmocka.h>

static struct digest number(uint64_t n)
{
	struct digest d = { 0 };

	le64_put(d.bytes + 24, n);
	return d;
}

static struct known_set *new_set(void)
{
	struct known_set *k = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(known_set_new(&k, &err), 0);
	return k;
}

static enum known claim(struct known_set *k, uint64_t n)
{
	struct digest d = number(n);
	enum known known;

	assert_int_equal(known_claim(k, &d, &known), 0);
	return known;
}

static void settle(struct known_set *k, uint64_t n, bool stored)
{
	struct digest d = number(n);

	known_settle(k, &d, stored);
}

static void a_chunk_is_new_once_and_stored_after(void **state)
{
	AUTO(known_set) struct known_set *k = new_set();

	(void)state;
	assert_int_equal(claim(k, 7), KNOWN_NEW);
	settle(k, 7, true);
	assert_int_equal(claim(k, 7), KNOWN_STORED);
	assert_int_equal(claim(k, 7), KNOWN_STORED);
	assert_int_equal(claim(k, 8), KNOWN_NEW);
	settle(k, 8, true);
}

static void a_chunk_of_an_index_is_to_be_touched_once(void **state)
{
	AUTO(known_set) struct known_set *k = new_set();
	struct digest d = number(1);

	(void)state;
	assert_int_equal(known_add(k, &d), 0);
	assert_int_equal(known_add(k, &d), 0);
	assert_int_equal(claim(k, 1), KNOWN_BEFORE);
	settle(k, 1, true);
	assert_int_equal(known_add(k, &d), 0);
	assert_int_equal(claim(k, 1), KNOWN_STORED);
}

static void forgets_what_an_index_has_but_not_what_was_stored(void **state)
{
	AUTO(known_set) struct known_set *k = new_set();

	(void)state;
	for (uint64_t n = 1; n <= 3; n++) {
		struct digest d = number(n);

		assert_int_equal(known_add(k, &d), 0);
	}
	assert_int_equal(claim(k, 1), KNOWN_BEFORE);
	settle(k, 1, true);
	assert_int_equal(claim(k, 2), KNOWN_BEFORE); /* and is still at it */
	known_forget(k);
	settle(k, 2, true);
	assert_int_equal(claim(k, 1), KNOWN_STORED);
	assert_int_equal(claim(k, 2), KNOWN_STORED);
	assert_int_equal(claim(k, 3), KNOWN_NEW);
	settle(k, 3, true);
}

static void a_failed_claim_leaves_the_chunk_to_the_next(void **state)
{
	AUTO(known_set) struct known_set *k = new_set();
	struct digest d = number(1);

	(void)state;
	assert_int_equal(known_add(k, &d), 0);
	assert_int_equal(claim(k, 1), KNOWN_BEFORE);
	settle(k, 1, false);
	assert_int_equal(claim(k, 1), KNOWN_NEW);
	settle(k, 1, true);
}

/* All these digests begin alike: places must not depend on the first bytes alone. */
static void keeps_many_digests_that_look_alike(void **state)
{
	AUTO(known_set) struct known_set *k = new_set();
	enum { COUNT = 3000 };

	(void)state;
	for (uint64_t n = 0; n < COUNT; n++) {
		struct digest d = number(n);

		assert_int_equal(known_add(k, &d), 0);
	}
	for (uint64_t n = 0; n < COUNT; n++) {
		assert_int_equal(claim(k, n), KNOWN_BEFORE);
		settle(k, n, true);
	}
	assert_int_equal(claim(k, COUNT), KNOWN_NEW);
	settle(k, COUNT, false);
}

struct party {
	struct known_set *set;
	atomic_int *stored;
	int failures;
};

/* Fails the first claim of each chunk, as a full disk would. */
static void *store_all(void *arg)
{
	struct party *p = arg;

	for (uint64_t n = 0; n < 500; n++) {
		struct digest d = number(n);
		enum known known;

		while (known_claim(p->set, &d, &known) == 0 && known != KNOWN_STORED) {
			bool ok = known == KNOWN_NEW;

			p->failures += !ok;
			atomic_fetch_add(p->stored, ok);
			known_settle(p->set, &d, ok);
		}
	}
	return NULL;
}

static void stores_each_chunk_once_between_threads(void **state)
{
	AUTO(known_set) struct known_set *k = new_set();
	atomic_int stored = 0;
	struct party parties[3] = { 0 };
	pthread_t threads[3];

	(void)state;
	for (uint64_t n = 0; n < 500; n += 5) {
		struct digest d = number(n);

		assert_int_equal(known_add(k, &d), 0);
	}
	for (int i = 0; i < 3; i++) {
		parties[i].set = k;
		parties[i].stored = &stored;
		pthread_create(&threads[i], NULL, store_all, &parties[i]);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(stored, 500);
	assert_int_equal(parties[0].failures + parties[1].failures + parties[2].failures, 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chunk_is_new_once_and_stored_after),
		cmocka_unit_test(a_chunk_of_an_index_is_to_be_touched_once),
		cmocka_unit_test(forgets_what_an_index_has_but_not_what_was_stored),
		cmocka_unit_test(a_failed_claim_leaves_the_chunk_to_the_next),
		cmocka_unit_test(keeps_many_digests_that_look_alike),
		cmocka_unit_test(stores_each_chunk_once_between_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
