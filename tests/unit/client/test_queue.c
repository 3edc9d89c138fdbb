/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/queue.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <cmocka.h>

static struct queue *new_queue(size_t capacity)
{
	struct queue *q = NULL;
	struct err err = ERR_INIT;

	assert_int_equal(queue_new(&q, capacity, &err), 0);
	return q;
}

static void gives_items_in_the_order_they_came(void **state)
{
	AUTO(queue) struct queue *q = new_queue(3);
	int values[5];
	void *item;

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3; i++)
			assert_int_equal(queue_push(q, &values[i], QUEUE_FOREVER), 0);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(queue_pop(q, &item), 0);
			assert_ptr_equal(item, &values[i]);
		}
	}
}

static void refuses_more_than_its_capacity(void **state)
{
	AUTO(queue) struct queue *q = new_queue(2);
	int value;
	void *item;

	(void)state;
	assert_int_equal(queue_push(q, &value, 0), 0);
	assert_int_equal(queue_push(q, &value, 0), 0);
	assert_int_equal(queue_push(q, &value, 0), -ETIMEDOUT);
	assert_int_equal(queue_push(q, &value, 5), -ETIMEDOUT);
	assert_int_equal(queue_pop(q, &item), 0);
	assert_int_equal(queue_push(q, &value, 0), 0);
}

static void delivers_the_rest_after_close_then_says_so(void **state)
{
	AUTO(queue) struct queue *q = new_queue(2);
	int value;
	void *item;

	(void)state;
	assert_int_equal(queue_push(q, &value, QUEUE_FOREVER), 0);
	queue_close(q);
	assert_int_equal(queue_pop(q, &item), 0);
	assert_int_equal(queue_pop(q, &item), 1);
	assert_int_equal(queue_pop(q, &item), 1);
}

static void delivers_nothing_after_abort_but_gives_items_back(void **state)
{
	AUTO(queue) struct queue *q = new_queue(2);
	int value;
	void *item;

	(void)state;
	assert_int_equal(queue_push(q, &value, QUEUE_FOREVER), 0);
	queue_abort(q);
	assert_int_equal(queue_pop(q, &item), -ECANCELED);
	assert_int_equal(queue_push(q, &value, QUEUE_FOREVER), -ECANCELED);
	assert_ptr_equal(queue_drain(q), &value);
	assert_null(queue_drain(q));
}

struct party {
	struct queue *q;
	int result;
	atomic_uint_fast64_t sum;
};

enum { ITEM_COUNT = 2000 };
static char items[ITEM_COUNT];

static void *push_all(void *arg)
{
	struct party *p = arg;

	for (int i = 0; i < ITEM_COUNT && p->result == 0; i++)
		p->result = queue_push(p->q, &items[i], QUEUE_FOREVER);
	return NULL;
}

static void *pop_all(void *arg)
{
	struct party *p = arg;
	void *item;

	while ((p->result = queue_pop(p->q, &item)) == 0)
		p->sum += (uint64_t)((char *)item - items);
	return NULL;
}

static void loses_nothing_between_many_threads(void **state)
{
	AUTO(queue) struct queue *q = new_queue(4);
	struct party in[2] = { { .q = q }, { .q = q } }, out[2] = { { .q = q }, { .q = q } };
	pthread_t writers[2], readers[2];

	(void)state;
	for (int i = 0; i < 2; i++) {
		pthread_create(&writers[i], NULL, push_all, &in[i]);
		pthread_create(&readers[i], NULL, pop_all, &out[i]);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(writers[i], NULL);
	queue_close(q);
	for (int i = 0; i < 2; i++) {
		pthread_join(readers[i], NULL);
		assert_int_equal(in[i].result, 0);
		assert_int_equal(out[i].result, 1);
	}
	assert_int_equal(out[0].sum + out[1].sum, (uint64_t)ITEM_COUNT * (ITEM_COUNT - 1));
}

static void abort_wakes_a_producer_and_a_consumer(void **state)
{
	AUTO(queue) struct queue *full = new_queue(1);
	AUTO(queue) struct queue *empty = new_queue(1);
	struct party in = { .q = full }, out = { .q = empty };
	pthread_t writer, reader;

	(void)state;
	pthread_create(&writer, NULL, push_all, &in);
	pthread_create(&reader, NULL, pop_all, &out);
	queue_abort(full);
	queue_abort(empty);
	pthread_join(writer, NULL);
	pthread_join(reader, NULL);
	assert_int_equal(in.result, -ECANCELED);
	assert_int_equal(out.result, -ECANCELED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_items_in_the_order_they_came),
		cmocka_unit_test(refuses_more_than_its_capacity),
		cmocka_unit_test(delivers_the_rest_after_close_then_says_so),
		cmocka_unit_test(delivers_nothing_after_abort_but_gives_items_back),
		cmocka_unit_test(loses_nothing_between_many_threads),
		cmocka_unit_test(abort_wakes_a_producer_and_a_consumer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
