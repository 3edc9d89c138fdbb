/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/answer.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { CHUNK_SIZE = 1000, LOADS_MAX = 4096 };

/* A source whose loads stop at a gate, are noted, and fail on demand. */
struct fake {
	struct fetch_source base; /* first */
	struct fetch *fetch; /* NULL, or whose: then it is noted whether its words were asked for when */
	bool was_idle; /* nothing of it was known to be under way, so that it might have been freed */
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	bool closed;
	unsigned at_gate; /* loads that stand before it */
	unsigned failures; /* this many of the next loads fail */
	uint64_t loads[LOADS_MAX]; /* what was loaded, in order of the beginnings */
	size_t load_count;
};

static int fake_load(struct fetch_source *self, struct fetch_worker *worker, uint64_t index,
		     struct chunk *chunk, struct err *err)
{
	struct fake *fake = (struct fake *)self;
	bool fails;

	if (!worker->codec)
		return err_set(err, EINVAL, "no codec");
	pthread_mutex_lock(&fake->lock);
	if (fake->load_count < LOADS_MAX)
		fake->loads[fake->load_count] = index;
	fake->load_count++;
	fake->at_gate++;
	pthread_cond_broadcast(&fake->changed);
	while (fake->closed)
		pthread_cond_wait(&fake->changed, &fake->lock);
	fake->at_gate--;
	fails = fake->failures > 0;
	if (fails)
		fake->failures--;
	pthread_mutex_unlock(&fake->lock);
	if (fails)
		return err_set(err, EIO, "broken");
	memset(chunk->data, (int)index, chunk->size);
	return 0;
}

static int fake_wrap(struct fetch_source *self, uint64_t index, int rc, struct err *err)
{
	struct fake *fake = (struct fake *)self;

	if (fake->fetch)
		fake->was_idle |= fetch_is_idle(fake->fetch, self);
	return err_wrap(err, rc, "piece %u", (unsigned)index);
}

static void fake_init(struct fake *fake)
{
	*fake = (struct fake){
		.base = { .load = fake_load, .wrap = fake_wrap },
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.changed = PTHREAD_COND_INITIALIZER,
	};
}

static void gate_close(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->closed = true;
	pthread_mutex_unlock(&fake->lock);
}

static void gate_open(struct fake *fake)
{
	pthread_mutex_lock(&fake->lock);
	fake->closed = false;
	pthread_cond_broadcast(&fake->changed);
	pthread_mutex_unlock(&fake->lock);
}

static void wait_at_gate(struct fake *fake, unsigned count)
{
	pthread_mutex_lock(&fake->lock);
	while (fake->at_gate < count)
		pthread_cond_wait(&fake->changed, &fake->lock);
	pthread_mutex_unlock(&fake->lock);
}

static size_t load_count(struct fake *fake)
{
	size_t count;

	pthread_mutex_lock(&fake->lock);
	count = fake->load_count;
	pthread_mutex_unlock(&fake->lock);
	return count;
}

static void fail_next(struct fake *fake, unsigned count)
{
	pthread_mutex_lock(&fake->lock);
	fake->failures = count;
	pthread_mutex_unlock(&fake->lock);
}

static struct fetch_want want_of(struct fake *fake, unsigned n, enum chunk_class class_)
{
	struct fetch_want want = {
		.source = &fake->base,
		.index = n,
		.size = CHUNK_SIZE,
		.class_ = class_,
	};

	memcpy(want.key.bytes, &n, sizeof(n));
	return want;
}

static void ask(struct fetch *f, struct fake *fake, unsigned n, enum chunk_class class_,
		struct answer *a)
{
	struct fetch_want want = want_of(fake, n, class_);

	answer_init(a);
	fetch_get(f, &want, &a->wait);
}

/* Everything a test needs; a chunk of the source is a byte repeated. */
struct bench {
	struct fake fake, other;
	struct chunk_cache *cache;
	struct fetch *fetch;
};

static void bench_init(struct bench *b, unsigned threads)
{
	fake_init(&b->fake);
	fake_init(&b->other);
	b->cache = chunk_cache_new(1 << 20);
	b->fetch = fetch_new(b->cache, threads);
	assert_non_null(b->fetch);
}

static void bench_release(struct bench *b)
{
	fetch_free(b->fetch);
	assert_int_equal(b->fake.base.pending, 0);
	assert_int_equal(b->other.base.pending, 0);
	chunk_cache_free(b->cache);
}
DEFINE_AUTO_STRUCT(bench)

static int get_blocking(struct bench *b, unsigned n, struct err *err)
{
	struct fetch_want want = want_of(&b->fake, n, CHUNK_META);
	struct chunk *chunk;
	int rc = fetch_wait_for(b->fetch, &want, &chunk, err);

	if (rc == 0) {
		assert_int_equal(chunk->data[CHUNK_SIZE - 1], n);
		chunk_unref(chunk);
	}
	return rc;
}

static struct fetch_stats stats_of(struct bench *b)
{
	struct fetch_stats stats;

	fetch_stats(b->fetch, &stats);
	return stats;
}

static void loads_what_is_not_in_memory(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b, 2);
	assert_int_equal(stats_of(&b).threads, 0);
	assert_int_equal(get_blocking(&b, 5, NULL), 0);
	assert_int_equal(get_blocking(&b, 5, NULL), 0);
	assert_int_equal(load_count(&b.fake), 1);
	assert_int_equal(stats_of(&b).meta_loads, 1);
}

static void answers_from_memory_on_the_askers_thread(void **state)
{
	AUTO(bench) struct bench b;
	struct answer a;

	(void)state;
	bench_init(&b, 1);
	assert_int_equal(get_blocking(&b, 5, NULL), 0);
	ask(b.fetch, &b.fake, 5, CHUNK_META, &a);
	assert_int_equal(answer_count(&a), 1);
	assert_true(pthread_equal(a.thread, pthread_self()));
	chunk_unref(a.chunk);
}

static void loads_once_however_many_ask(void **state)
{
	AUTO(bench) struct bench b;
	struct answer a[50];

	(void)state;
	bench_init(&b, 4);
	gate_close(&b.fake);
	for (int i = 0; i < 50; i++)
		ask(b.fetch, &b.fake, 7, CHUNK_PAYLOAD, &a[i]);
	gate_open(&b.fake);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(answer_await(&a[i]), 0);
		assert_ptr_equal(a[i].chunk, a[0].chunk);
	}
	for (int i = 0; i < 50; i++)
		chunk_unref(a[i].chunk);
	assert_int_equal(load_count(&b.fake), 1);
}

struct crowd {
	struct bench *bench;
	unsigned failed;
};

static void *crowd_main(void *arg)
{
	struct crowd *c = arg;

	for (unsigned n = 0; n < 200; n++) {
		if (get_blocking(c->bench, n, NULL) < 0)
			c->failed++;
	}
	return NULL;
}

static void loads_once_for_many_threads(void **state)
{
	AUTO(bench) struct bench b;
	struct crowd crowd[8];
	pthread_t threads[8];

	(void)state;
	bench_init(&b, 3);
	for (int i = 0; i < 8; i++) {
		crowd[i] = (struct crowd){ .bench = &b };
		pthread_create(&threads[i], NULL, crowd_main, &crowd[i]);
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(crowd[i].failed, 0);
	}
	assert_int_equal(load_count(&b.fake), 200);
}

static void metadata_goes_first_and_hints_last(void **state)
{
	AUTO(bench) struct bench b;
	struct fetch_want hint;
	struct answer a[5];
	static const uint64_t expected[] = { 0, 3, 4, 1, 2, 9 };

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	ask(b.fetch, &b.fake, 0, CHUNK_PAYLOAD, &a[0]);
	wait_at_gate(&b.fake, 1);
	hint = want_of(&b.fake, 9, CHUNK_META);
	fetch_hint(b.fetch, &hint);
	ask(b.fetch, &b.fake, 1, CHUNK_PAYLOAD, &a[1]);
	ask(b.fetch, &b.fake, 2, CHUNK_PAYLOAD, &a[2]);
	ask(b.fetch, &b.fake, 3, CHUNK_META, &a[3]);
	ask(b.fetch, &b.fake, 4, CHUNK_META, &a[4]);
	gate_open(&b.fake);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(answer_await(&a[i]), 0);
		chunk_unref(a[i].chunk);
	}
	assert_int_equal(get_blocking(&b, 9, NULL), 0);
	assert_memory_equal(b.fake.loads, expected, sizeof(expected));
}

static void who_waits_for_a_hint_makes_it_urgent(void **state)
{
	AUTO(bench) struct bench b;
	struct fetch_want hint;
	struct answer a[3];
	static const uint64_t expected[] = { 0, 9, 1 };

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	ask(b.fetch, &b.fake, 0, CHUNK_PAYLOAD, &a[0]);
	wait_at_gate(&b.fake, 1);
	hint = want_of(&b.fake, 9, CHUNK_META);
	fetch_hint(b.fetch, &hint);
	ask(b.fetch, &b.fake, 1, CHUNK_PAYLOAD, &a[1]);
	ask(b.fetch, &b.fake, 9, CHUNK_META, &a[2]);
	gate_open(&b.fake);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(answer_await(&a[i]), 0);
		chunk_unref(a[i].chunk);
	}
	assert_memory_equal(b.fake.loads, expected, sizeof(expected));
	assert_int_equal(stats_of(&b).hints, 0);
}

static void hints_have_a_limit(void **state)
{
	AUTO(bench) struct bench b;
	struct answer a;

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	ask(b.fetch, &b.fake, 0, CHUNK_PAYLOAD, &a);
	wait_at_gate(&b.fake, 1);
	for (unsigned n = 1; n < 2 * FETCH_HINT_COUNT_MAX; n++) {
		struct fetch_want want = want_of(&b.fake, n, CHUNK_PAYLOAD);

		fetch_hint(b.fetch, &want);
	}
	assert_int_equal(stats_of(&b).queued, FETCH_HINT_COUNT_MAX);
	gate_open(&b.fake);
	assert_int_equal(answer_await(&a), 0);
	chunk_unref(a.chunk);
}

/* What loads read into is not counted by the cache. */
static void few_loads_run_at_a_time_for_a_small_cache(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *cache = chunk_cache_new(8 * CHUNK_SIZE * 6);
	AUTO(fetch) struct fetch *fetch = fetch_new(cache, 16);
	struct fetch_stats stats;
	struct answer a[16];
	struct fake fake;

	(void)state;
	fake_init(&fake);
	gate_close(&fake);
	for (unsigned n = 0; n < 16; n++)
		ask(fetch, &fake, n, CHUNK_PAYLOAD, &a[n]);
	wait_at_gate(&fake, 6);
	fetch_stats(fetch, &stats);
	assert_int_equal(stats.running, 6);
	assert_int_equal(stats.queued, 10);
	gate_open(&fake);
	for (unsigned n = 0; n < 16; n++) {
		assert_int_equal(answer_await(&a[n]), 0);
		chunk_unref(a[n].chunk);
	}
}

static void some_loads_run_at_a_time_however_small_the_cache(void **state)
{
	AUTO(chunk_cache) struct chunk_cache *cache = chunk_cache_new(1);
	AUTO(fetch) struct fetch *fetch = fetch_new(cache, 16);
	struct answer a[16];
	struct fake fake;

	(void)state;
	fake_init(&fake);
	gate_close(&fake);
	for (unsigned n = 0; n < 16; n++)
		ask(fetch, &fake, n, CHUNK_PAYLOAD, &a[n]);
	wait_at_gate(&fake, 4);
	gate_open(&fake);
	for (unsigned n = 0; n < 16; n++) {
		assert_int_equal(answer_await(&a[n]), 0);
		chunk_unref(a[n].chunk);
	}
}

static void an_error_reaches_all_who_wait(void **state)
{
	AUTO(bench) struct bench b;
	struct answer a[10];

	(void)state;
	bench_init(&b, 2);
	gate_close(&b.fake);
	fail_next(&b.fake, 1);
	for (int i = 0; i < 10; i++)
		ask(b.fetch, &b.fake, 3, CHUNK_META, &a[i]);
	gate_open(&b.fake);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(answer_await(&a[i]), -EIO);
		assert_null(a[i].chunk);
		assert_string_equal(a[i].err.text, "piece 3: broken");
	}
	assert_int_equal(load_count(&b.fake), 1);
	assert_int_equal(stats_of(&b).errors, 1);
}

static void an_error_is_not_remembered(void **state)
{
	AUTO(bench) struct bench b;
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b, 1);
	fail_next(&b.fake, 2);
	assert_int_equal(get_blocking(&b, 1, &err), -EIO);
	assert_string_equal(err.text, "piece 1: broken");
	assert_int_equal(get_blocking(&b, 1, NULL), -EIO);
	assert_int_equal(get_blocking(&b, 1, NULL), 0);
	assert_int_equal(load_count(&b.fake), 3);
}

static void another_source_gets_a_try_of_its_own(void **state)
{
	AUTO(bench) struct bench b;
	struct answer mine[2], theirs[2];

	(void)state;
	bench_init(&b, 2);
	gate_close(&b.fake);
	fail_next(&b.fake, 1);
	ask(b.fetch, &b.fake, 3, CHUNK_META, &mine[0]);
	ask(b.fetch, &b.other, 3, CHUNK_META, &theirs[0]);
	ask(b.fetch, &b.fake, 3, CHUNK_META, &mine[1]);
	ask(b.fetch, &b.other, 3, CHUNK_META, &theirs[1]);
	gate_open(&b.fake);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(answer_await(&mine[i]), -EIO);
		assert_int_equal(answer_await(&theirs[i]), 0);
		chunk_unref(theirs[i].chunk);
	}
	assert_int_equal(load_count(&b.other), 1);
}

static void refuses_a_second_size_of_one_digest(void **state)
{
	AUTO(bench) struct bench b;
	struct fetch_want want;
	struct chunk *chunk;
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b, 1);
	assert_int_equal(get_blocking(&b, 4, NULL), 0);
	want = want_of(&b.fake, 4, CHUNK_META);
	want.size = CHUNK_SIZE - 1;
	assert_int_equal(fetch_wait_for(b.fetch, &want, &chunk, &err), -EBADMSG);
	assert_string_equal(err.text,
			    "piece 4: the chunk has 1000 bytes, the index says 999");
}

static void refuses_a_second_size_while_the_first_is_loaded(void **state)
{
	AUTO(bench) struct bench b;
	struct answer right, wrong;
	struct fetch_want want;

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	ask(b.fetch, &b.fake, 4, CHUNK_META, &right);
	want = want_of(&b.other, 4, CHUNK_META);
	want.size = CHUNK_SIZE + 1;
	b.other.fetch = b.fetch;
	answer_init(&wrong);
	fetch_get(b.fetch, &want, &wrong.wait);
	gate_open(&b.fake);
	assert_int_equal(answer_await(&right), 0);
	assert_int_equal(answer_await(&wrong), -EBADMSG);
	assert_string_equal(wrong.err.text,
			    "piece 4: the chunk has 1000 bytes, the index says 1001");
	assert_false(b.other.was_idle);
	chunk_unref(right.chunk);
}

static void cancel_drops_a_load_nobody_else_wants(void **state)
{
	AUTO(bench) struct bench b;
	struct answer a[3];

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	ask(b.fetch, &b.fake, 0, CHUNK_META, &a[0]);
	wait_at_gate(&b.fake, 1);
	ask(b.fetch, &b.fake, 1, CHUNK_META, &a[1]);
	ask(b.fetch, &b.fake, 2, CHUNK_META, &a[2]);
	assert_true(fetch_cancel(b.fetch, &a[1].wait));
	assert_false(fetch_cancel(b.fetch, &a[1].wait));
	gate_open(&b.fake);
	assert_int_equal(answer_await(&a[0]), 0);
	assert_int_equal(answer_await(&a[2]), 0);
	assert_int_equal(answer_count(&a[1]), 0);
	assert_int_equal(load_count(&b.fake), 2);
	assert_false(fetch_cancel(b.fetch, &a[2].wait));
	chunk_unref(a[0].chunk);
	chunk_unref(a[2].chunk);
}

static void cancel_keeps_a_load_others_want(void **state)
{
	AUTO(bench) struct bench b;
	struct answer a[3];

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	for (int i = 0; i < 3; i++)
		ask(b.fetch, &b.fake, 0, CHUNK_META, &a[i]);
	wait_at_gate(&b.fake, 1);
	assert_true(fetch_cancel(b.fetch, &a[1].wait));
	gate_open(&b.fake);
	assert_int_equal(answer_await(&a[0]), 0);
	assert_int_equal(answer_await(&a[2]), 0);
	assert_int_equal(answer_count(&a[1]), 0);
	chunk_unref(a[0].chunk);
	chunk_unref(a[2].chunk);
}

static void a_running_load_that_was_cancelled_still_fills_the_cache(void **state)
{
	AUTO(bench) struct bench b;
	struct answer a;

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	ask(b.fetch, &b.fake, 0, CHUNK_META, &a);
	wait_at_gate(&b.fake, 1);
	assert_true(fetch_cancel(b.fetch, &a.wait));
	gate_open(&b.fake);
	fetch_drain(b.fetch, &b.fake.base);
	assert_int_equal(answer_count(&a), 0);
	assert_int_equal(get_blocking(&b, 0, NULL), 0);
	assert_int_equal(load_count(&b.fake), 1);
}

struct fickle {
	struct bench *bench;
	unsigned seed, answered, cancelled, wrong;
};

/* Ask and change one's mind: each question is answered or taken back, never both. */
static void *fickle_main(void *arg)
{
	struct fickle *fickle = arg;

	for (unsigned i = 0; i < 500; i++) {
		struct answer a;

		ask(fickle->bench->fetch, &fickle->bench->fake, i + fickle->seed % 2, i % 2, &a);
		if (fetch_cancel(fickle->bench->fetch, &a.wait)) {
			fickle->cancelled++;
			fickle->wrong += answer_count(&a) != 0;
			continue;
		}
		answer_await(&a);
		fickle->answered++;
		if (a.rc < 0)
			fickle->wrong += a.rc != -EIO;
		else
			fickle->wrong += a.chunk->data[0] != (uint8_t)a.wait.want.index;
		chunk_unref(a.chunk);
	}
	return NULL;
}

static void cancel_races_with_answers(void **state)
{
	AUTO(bench) struct bench b;
	struct fickle fickle[6];
	pthread_t threads[6];

	(void)state;
	bench_init(&b, 3);
	fail_next(&b.fake, 100);
	for (unsigned i = 0; i < 6; i++) {
		fickle[i] = (struct fickle){ .bench = &b, .seed = i };
		pthread_create(&threads[i], NULL, fickle_main, &fickle[i]);
	}
	for (unsigned i = 0; i < 6; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(fickle[i].wrong, 0);
		assert_int_equal(fickle[i].answered + fickle[i].cancelled, 500);
	}
}

static void *drain_main(void *arg)
{
	struct bench *b = arg;

	fetch_drain(b->fetch, &b->fake.base);
	return NULL;
}

static void drain_drops_hints_and_waits_for_what_runs(void **state)
{
	AUTO(bench) struct bench b;
	pthread_t thread;

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	for (unsigned n = 0; n < 10; n++) {
		struct fetch_want want = want_of(&b.fake, n, CHUNK_PAYLOAD);

		fetch_hint(b.fetch, &want);
	}
	wait_at_gate(&b.fake, 1);
	pthread_create(&thread, NULL, drain_main, &b);
	while (stats_of(&b).queued > 0)
		sched_yield();
	assert_int_equal(stats_of(&b).running, 1);
	gate_open(&b.fake);
	pthread_join(thread, NULL);
	assert_int_equal(load_count(&b.fake), 1);
}

static void stop_ends_what_is_queued_and_what_comes_later(void **state)
{
	AUTO(bench) struct bench b;
	struct answer running, queued, later;

	(void)state;
	bench_init(&b, 1);
	gate_close(&b.fake);
	ask(b.fetch, &b.fake, 0, CHUNK_META, &running);
	wait_at_gate(&b.fake, 1);
	ask(b.fetch, &b.fake, 1, CHUNK_META, &queued);
	fetch_stop(b.fetch);
	assert_int_equal(answer_await(&queued), -ECANCELED);
	ask(b.fetch, &b.fake, 2, CHUNK_META, &later);
	assert_int_equal(answer_await(&later), -ECANCELED);
	assert_int_equal(answer_count(&running), 0);
	gate_open(&b.fake);
	assert_int_equal(answer_await(&running), 0);
	chunk_unref(running.chunk);
	assert_int_equal(load_count(&b.fake), 1);
}

/* A request that asks for the next chunk from inside its callback. */
struct chain {
	struct fetch_wait wait;
	struct bench *bench;
	unsigned next;
	struct answer end;
};

static void chain_done(void *arg, struct chunk *chunk, int rc, const struct err *err)
{
	struct chain *c = arg;
	struct fetch_want want;

	if (rc < 0 || ++c->next == 20) {
		c->end.wait.done(&c->end, chunk, rc, err);
		return;
	}
	chunk_unref(chunk);
	want = want_of(&c->bench->fake, c->next, CHUNK_META);
	fetch_get(c->bench->fetch, &want, &c->wait);
}

static void a_callback_may_ask_again(void **state)
{
	AUTO(bench) struct bench b;
	struct fetch_want want;
	struct chain c = { .wait = { .done = chain_done, .arg = &c } };

	(void)state;
	bench_init(&b, 1);
	c.bench = &b;
	answer_init(&c.end);
	want = want_of(&b.fake, 0, CHUNK_META);
	fetch_get(b.fetch, &want, &c.wait);
	assert_int_equal(answer_await(&c.end), 0);
	assert_int_equal(c.end.chunk->data[0], 19);
	chunk_unref(c.end.chunk);
}

static void starts_no_more_threads_than_it_may(void **state)
{
	AUTO(bench) struct bench b;
	struct answer a[8];

	(void)state;
	bench_init(&b, 3);
	gate_close(&b.fake);
	for (unsigned i = 0; i < 8; i++)
		ask(b.fetch, &b.fake, i, CHUNK_META, &a[i]);
	wait_at_gate(&b.fake, 3);
	assert_int_equal(stats_of(&b).threads, 3);
	assert_int_equal(stats_of(&b).running, 3);
	assert_int_equal(stats_of(&b).queued, 5);
	gate_open(&b.fake);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(answer_await(&a[i]), 0);
		chunk_unref(a[i].chunk);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_what_is_not_in_memory),
		cmocka_unit_test(answers_from_memory_on_the_askers_thread),
		cmocka_unit_test(loads_once_however_many_ask),
		cmocka_unit_test(loads_once_for_many_threads),
		cmocka_unit_test(metadata_goes_first_and_hints_last),
		cmocka_unit_test(who_waits_for_a_hint_makes_it_urgent),
		cmocka_unit_test(hints_have_a_limit),
		cmocka_unit_test(few_loads_run_at_a_time_for_a_small_cache),
		cmocka_unit_test(some_loads_run_at_a_time_however_small_the_cache),
		cmocka_unit_test(an_error_reaches_all_who_wait),
		cmocka_unit_test(an_error_is_not_remembered),
		cmocka_unit_test(another_source_gets_a_try_of_its_own),
		cmocka_unit_test(refuses_a_second_size_of_one_digest),
		cmocka_unit_test(refuses_a_second_size_while_the_first_is_loaded),
		cmocka_unit_test(cancel_drops_a_load_nobody_else_wants),
		cmocka_unit_test(cancel_keeps_a_load_others_want),
		cmocka_unit_test(a_running_load_that_was_cancelled_still_fills_the_cache),
		cmocka_unit_test(cancel_races_with_answers),
		cmocka_unit_test(drain_drops_hints_and_waits_for_what_runs),
		cmocka_unit_test(stop_ends_what_is_queued_and_what_comes_later),
		cmocka_unit_test(a_callback_may_ask_again),
		cmocka_unit_test(starts_no_more_threads_than_it_may),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
