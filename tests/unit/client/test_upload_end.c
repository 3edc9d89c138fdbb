/* SPDX-License-Identifier: Apache-2.0 */
/* How an upload ends before its time: failures, aborts, and the bound of its memory. */
#include "tests/unit/client/upload_fixture.h"

enum { THREAD_COUNT = 2 };

static void check_failure(struct fake *w, int expected, const char *text)
{
	const size_t size = 8 << 20;
	AUTO(free) uint8_t *data = noise(size, 3);
	AUTO(upload_pool) struct upload_pool *pool = new_pool(THREAD_COUNT);
	struct upload_stats stats = { 0 };
	AUTO(upload) struct upload *u = new_upload(pool, w, "a.ppxar.didx", &stats);
	struct err err = ERR_INIT;

	assert_int_equal(send(u, data, size, 50000, &err), expected);
	assert_string_equal(err.text, text);
	assert_true(upload_pool_failed(pool));
}

static void a_failed_put_ends_the_stream_with_its_message(void **state)
{
	AUTO(fake) struct fake w;

	(void)state;
	fake_init(&w);
	w.fail_put_at = 9;
	check_failure(&w, -ENOSPC, "a.ppxar.didx: disk full");
	/* A worker may be slow to tell it: then what was under way is put. */
	assert_true(w.stored_count <= 9 + UPLOAD_QUEUE_COUNT + THREAD_COUNT);
}

static void a_failed_index_ends_the_stream_with_its_message(void **state)
{
	AUTO(fake) struct fake w;

	(void)state;
	fake_init(&w);
	w.fail_add = true;
	check_failure(&w, -EIO, "a.ppxar.didx: index broken");
}

static void an_index_that_cannot_be_opened_is_reported_at_once(void **state)
{
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(1);
	struct upload_stats stats = { 0 };
	const struct upload_params params = { .writer = &w.base,
					      .index_name = "unopenable",
					      .chunk_size_avg = AVG,
					      .stats = &stats };
	struct upload *u = NULL;
	struct err err = ERR_INIT;

	(void)state;
	fake_init(&w);
	assert_int_equal(upload_new(&u, pool, &params, &err), -EACCES);
	assert_null(u);
}

static void the_failure_of_one_stream_stops_the_other(void **state)
{
	const size_t size = 1 << 20;
	/* The streams of a pool know each other's chunks, so the two must not share any here,
	 * where each has a repository of its own. */
	AUTO(free) uint8_t *data = noise(size, 4);
	AUTO(free) uint8_t *other = noise(size, 6);
	AUTO(fake) struct fake broken;
	AUTO(fake) struct fake good;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(2);
	struct upload_stats stats[2] = { 0 };
	struct err err = ERR_INIT;
	struct digest csum;
	uint64_t total;
	int rc = 0;

	(void)state;
	fake_init(&broken);
	fake_init(&good);
	broken.fail_put_at = 1;
	AUTO(upload) struct upload *a = new_upload(pool, &broken, "a", &stats[0]);
	AUTO(upload) struct upload *b = new_upload(pool, &good, "b", &stats[1]);

	/* the failure may show in the write that causes it, or later */
	(void)upload_write(a, data, size, &err);
	for (int i = 0; i < 100000 && rc == 0; i++)
		rc = upload_write(b, other, size, &err);
	assert_int_equal(rc, -ECANCELED);
	assert_false(upload_failed_first(b));
	assert_int_equal(upload_write(a, data, 1, &err), -ENOSPC);
	assert_true(upload_failed_first(a));
	upload_abort(a);
	upload_abort(b);
	assert_int_equal(upload_finish(a, &total, &csum, &err), -ENOSPC);
	assert_string_equal(err.text, "a: disk full");
	assert_int_equal(upload_finish(b, &total, &csum, &err), -ECANCELED);
}

static void abort_leaves_no_index(void **state)
{
	const size_t size = 1 << 20;
	AUTO(free) uint8_t *data = noise(size, 5);
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(2);
	struct upload_stats stats = { 0 };
	struct err err = ERR_INIT;
	struct digest csum;
	uint64_t total;

	(void)state;
	fake_init(&w);
	AUTO(upload) struct upload *u = new_upload(pool, &w, "a", &stats);

	assert_int_equal(upload_write(u, data, size, &err), 0);
	upload_abort(u);
	forget_last();
	assert_int_equal(upload_finish(u, &total, &csum, &err), -ECANCELED);
	assert_int_equal(last_closed.count, 0);
	assert_false(upload_pool_failed(pool));
}

static void an_upload_may_be_freed_at_any_time(void **state)
{
	const size_t size = 1 << 20;
	AUTO(free) uint8_t *data = noise(size, 6);

	(void)state;
	for (size_t at = 0; at < size; at += size / 7) {
		AUTO(fake) struct fake w;
		AUTO(upload_pool) struct upload_pool *pool = new_pool(2);
		struct upload_stats stats = { 0 };
		struct err err = ERR_INIT;

		fake_init(&w);
		w.slow = true;
		AUTO(upload) struct upload *u = new_upload(pool, &w, "a", &stats);

		assert_int_equal(upload_write(u, data, at, &err), 0);
	}
}

struct stopper {
	atomic_bool stop;
	struct fake *w;
};

static void *stop_soon(void *arg)
{
	struct stopper *s = arg;

	usleep(50000);
	atomic_store(&s->stop, true);
	return NULL;
}

/* The repository hangs, the ring fills up, the writer waits: then the user gives up. */
static void the_stop_flag_ends_a_waiting_writer(void **state)
{
	const size_t size = 1 << 20;
	AUTO(free) uint8_t *data = noise(size, 7);
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = new_pool(1);
	struct upload_stats stats = { 0 };
	struct stopper stopper = { .w = &w };
	struct upload *u = NULL;
	struct err err = ERR_INIT;
	pthread_t thread;
	int rc = 0;

	(void)state;
	fake_init(&w);
	atomic_store(&w.hang, true);
	const struct upload_params params = { .writer = &w.base,
					      .index_name = "a",
					      .chunk_size_avg = AVG,
					      .stats = &stats,
					      .stop = &stopper.stop };
	assert_int_equal(upload_new(&u, pool, &params, &err), 0);
	pthread_create(&thread, NULL, stop_soon, &stopper);
	for (int i = 0; i < 100 && rc == 0; i++)
		rc = upload_write(u, data, size, &err);
	assert_int_equal(rc, -ECANCELED);
	atomic_store(&w.hang, false);
	upload_free(u);
	pthread_join(thread, NULL);
}

/* --- memory --- */

static void refuses_a_stream_that_does_not_fit_into_memory(void **state)
{
	struct upload_pool *none = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(upload_pool_new(&none, 2, 1 << 20, NULL, &err), -E2BIG);

	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = NULL;
	struct upload_stats stats = { 0 };
	const struct upload_params params = {
		.writer = &w.base, .index_name = "a", .chunk_size_avg = 4 << 20, .stats = &stats
	};
	struct upload *u = NULL;

	fake_init(&w);
	assert_int_equal(upload_pool_new(&pool, 2, 64 << 20, NULL, &err), 0);
	assert_int_equal(upload_new(&u, pool, &params, &err), -E2BIG);
	assert_null(u);
}

/* Incompressible chunks of the largest size, on as many threads as want their outputs at
 * once: the sum never passes the limit, and what is over is waited for. */
static void never_uses_more_memory_than_it_may(void **state)
{
	const size_t size = 40 << 20, bytes_max = 113 << 20;
	AUTO(free) uint8_t *data = noise(size, 8);
	AUTO(fake) struct fake w;
	AUTO(upload_pool) struct upload_pool *pool = NULL;
	struct upload_stats stats = { 0 };
	const struct upload_params params = {
		.writer = &w.base, .index_name = "a", .chunk_size_avg = 4 << 20, .stats = &stats
	};
	struct upload *u = NULL, *other = NULL;
	struct err err = ERR_INIT;

	(void)state;
	fake_init(&w);
	assert_int_equal(upload_pool_new(&pool, 8, bytes_max + 1024, NULL, &err), 0);
	assert_int_equal(upload_new(&other, pool, &params, &err), 0);
	assert_int_equal(upload_new(&u, pool, &params, &err), 0);
	assert_int_equal(send(u, data, size, 1 << 20, &err), 0);
	assert_true(upload_pool_bytes_peak(pool) <= bytes_max + 1024);
	assert_true(upload_pool_bytes_peak(pool) > 96 << 20);
	upload_free(u);
	upload_free(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failed_put_ends_the_stream_with_its_message),
		cmocka_unit_test(a_failed_index_ends_the_stream_with_its_message),
		cmocka_unit_test(an_index_that_cannot_be_opened_is_reported_at_once),
		cmocka_unit_test(the_failure_of_one_stream_stops_the_other),
		cmocka_unit_test(abort_leaves_no_index),
		cmocka_unit_test(an_upload_may_be_freed_at_any_time),
		cmocka_unit_test(the_stop_flag_ends_a_waiting_writer),
		cmocka_unit_test(refuses_a_stream_that_does_not_fit_into_memory),
		cmocka_unit_test(never_uses_more_memory_than_it_may),
	};

	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	forget_last();
	return failed;
}
