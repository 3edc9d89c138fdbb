/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/metrics.h"

#include "tests/support/lib/store.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { LONG_MS = 3600 * 1000 };

struct bench {
	struct store store;
	char path[PATH_MAX];
	struct metrics *metrics;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	unsigned texts, warnings;
	unsigned text_size; /* of each */
};

static struct bench *current;

static int text(void *arg, bool up, struct wbuf *out)
{
	struct bench *b = arg;

	pthread_mutex_lock(&b->lock);
	b->texts++;
	wbuf_printf(out, "%s %u\n", up ? "up" : "down", b->texts);
	wbuf_put_zero(out, b->text_size);
	pthread_cond_broadcast(&b->changed);
	pthread_mutex_unlock(&b->lock);
	return out->failed;
}

static void warn(const char *message)
{
	assert_non_null(strstr(message, current->path));
	pthread_mutex_lock(&current->lock);
	current->warnings++;
	pthread_cond_broadcast(&current->changed);
	pthread_mutex_unlock(&current->lock);
}

static void bench_init(struct bench *b)
{
	*b = (struct bench){ .lock = PTHREAD_MUTEX_INITIALIZER,
			     .changed = PTHREAD_COND_INITIALIZER };
	current = b;
	store_folder(&b->store);
	snprintf(b->path, sizeof(b->path), "%s", store_path(&b->store, "a.prom"));
}

static void bench_end(struct bench *b)
{
	metrics_stop(b->metrics);
	assert_true(metrics_join(b->metrics, LONG_MS));
	metrics_free(steal(&b->metrics));
}

static void bench_release(struct bench *b)
{
	if (b->metrics)
		bench_end(b);
	store_remove(&b->store);
}
DEFINE_AUTO_STRUCT(bench)

static int start(struct bench *b, unsigned interval_ms, struct err *err)
{
	const struct metrics_params params = { .path = b->path,
					       .interval_ms = interval_ms,
					       .text = text,
					       .arg = b,
					       .warn = warn };

	return metrics_new(&b->metrics, &params, err);
}

/* Until a number has come to `least`. */
static void await(struct bench *b, const unsigned *number, unsigned least)
{
	pthread_mutex_lock(&b->lock);
	while (*number < least)
		pthread_cond_wait(&b->changed, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

static void assert_content(struct bench *b, const char *want)
{
	char got[64] = "";
	FILE *f = fopen(b->path, "r");

	assert_non_null(f);
	assert_non_null(fgets(got, sizeof(got), f));
	fclose(f);
	assert_string_equal(got, want);
}

static void writes_at_the_start_and_at_the_end(void **state)
{
	AUTO(bench) struct bench b;
	struct stat st;

	(void)state;
	bench_init(&b);
	assert_int_equal(start(&b, LONG_MS, NULL), 0);
	assert_content(&b, "up 1\n");
	assert_int_equal(stat(b.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	bench_end(&b);
	assert_content(&b, "down 2\n");
	assert_int_equal(store_count(&b.store, "."), 1); /* nothing temporary is left */
}

static void writes_again_and_again(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b);
	assert_int_equal(start(&b, 1, NULL), 0);
	await(&b, &b.texts, 20);
	bench_end(&b);
	assert_int_equal(store_count(&b.store, "."), 1);
}

static void writes_when_asked(void **state)
{
	AUTO(bench) struct bench b;

	(void)state;
	bench_init(&b);
	assert_int_equal(start(&b, LONG_MS, NULL), 0);
	metrics_now(b.metrics);
	await(&b, &b.texts, 2);
}

static void fails_when_it_cannot_begin(void **state)
{
	AUTO(bench) struct bench b;
	struct err err = ERR_INIT;

	(void)state;
	bench_init(&b);
	snprintf(b.path, sizeof(b.path), "%s", store_path(&b.store, "none/a.prom"));
	assert_int_equal(start(&b, LONG_MS, &err), -ENOENT);
	assert_non_null(strstr(err.text, "none"));
	snprintf(b.path, sizeof(b.path), "%s", store_path(&b.store, "a.prom/"));
	assert_int_equal(start(&b, LONG_MS, &err), -EINVAL);
	snprintf(b.path, sizeof(b.path), "%s", b.store.path); /* a folder */
	assert_int_not_equal(start(&b, LONG_MS, &err), 0);
	b.text_size = METRICS_TEXT_SIZE_MAX;
	snprintf(b.path, sizeof(b.path), "%s", store_path(&b.store, "a.prom"));
	assert_int_equal(start(&b, LONG_MS, &err), -E2BIG);
	assert_int_equal(store_count(&b.store, "."), 0);
}

static void tells_once_that_it_cannot_write(void **state)
{
	AUTO(bench) struct bench b;
	char aside[PATH_MAX + 8];

	(void)state;
	bench_init(&b);
	store_mkdir(&b.store, "f");
	snprintf(b.path, sizeof(b.path), "%s", store_path(&b.store, "f/a.prom"));
	snprintf(aside, sizeof(aside), "%s/g", b.store.path);
	assert_int_equal(start(&b, 1, NULL), 0);
	assert_int_equal(rename(store_path(&b.store, "f"), aside), 0);
	await(&b, &b.warnings, 1);
	await(&b, &b.texts, b.texts + 5);
	assert_int_equal(b.warnings, 1);
	assert_int_equal(rename(aside, store_path(&b.store, "f")), 0);
	await(&b, &b.texts, b.texts + 5);
	assert_int_equal(rename(store_path(&b.store, "f"), aside), 0);
	await(&b, &b.warnings, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_at_the_start_and_at_the_end),
		cmocka_unit_test(writes_again_and_again),
		cmocka_unit_test(writes_when_asked),
		cmocka_unit_test(fails_when_it_cannot_begin),
		cmocka_unit_test(tells_once_that_it_cannot_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
