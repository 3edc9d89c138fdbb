/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 on memory; what the server sends was recorded from python3-h2. */
#include "client/net/h2.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { CALL_COUNT = 4, BODY_SIZE = 3000, RECORD_SIZE_MAX = 64 << 10 };

struct test_call {
	struct h2_call call;
	struct wbuf reply;
	int ended;
};

static const uint8_t body[BODY_SIZE];
static struct test_call calls[CALL_COUNT];
static struct h2 *h;

static void on_done(struct h2_call *call)
{
	((struct test_call *)call->arg)->ended++;
}

static void drain(void)
{
	const uint8_t *out;

	while (h2_output(h, &out, 0) > 0)
		continue;
}

/* A session with four calls on their way, the second and fourth with a body. */
static void begin(size_t reply_size_max)
{
	assert_int_equal(h2_new(&h, NULL), 0);
	for (int i = 0; i < CALL_COUNT; i++) {
		struct test_call *c = &calls[i];

		wbuf_init(&c->reply, reply_size_max);
		c->ended = 0;
		c->call = (struct h2_call){ .method = i % 2 ? "POST" : "GET",
					    .path = "/chunk",
					    .content_type = i % 2 ? "text/plain" : NULL,
					    .body = body,
					    .body_size = i % 2 ? BODY_SIZE : 0,
					    .reply = &c->reply,
					    .done = on_done,
					    .arg = c };
		assert_int_equal(h2_submit(h, &c->call, 0), 0);
	}
	drain();
}

static void end(void)
{
	h2_free(h);
	for (int i = 0; i < CALL_COUNT; i++) {
		assert_int_equal(calls[i].ended, 1);
		wbuf_release(&calls[i].reply);
	}
}

static size_t load(const char *name, uint8_t *out)
{
	char path[128];
	FILE *f;
	size_t size;

	snprintf(path, sizeof(path), "tests/fuzz/corpus/h2/%s", name);
	f = fopen(path, "rb");
	assert_non_null(f);
	fgetc(f); /* it is for the fuzz target */
	size = fread(out, 1, RECORD_SIZE_MAX, f);
	fclose(f);
	return size;
}

static void gives_each_call_its_answer(void **state)
{
	static uint8_t record[RECORD_SIZE_MAX];
	size_t size = load("answers", record);

	(void)state;
	begin(1000);
	for (size_t i = 0; i < size; i++) { /* byte by byte */
		assert_int_equal(h2_input(h, record + i, 1, 0, NULL), 0);
		drain();
	}
	for (int i = 0; i < CALL_COUNT; i++) {
		assert_int_equal(calls[i].ended, 1);
		assert_int_equal(calls[i].call.rc, 0);
		assert_int_equal(calls[i].call.status, 200);
		assert_int_equal(calls[i].reply.size, 13);
		assert_memory_equal(calls[i].reply.data, "{\"data\":null}", 13);
	}
	end();
}

static void ends_every_call_wherever_the_input_ends(void **state)
{
	static const char *const names[] = { "answers", "refusals", "goaway" };
	static uint8_t record[RECORD_SIZE_MAX];

	(void)state;
	for (size_t n = 0; n < sizeof(names) / sizeof(names[0]); n++) {
		size_t size = load(names[n], record);

		for (size_t cut = 0; cut < size; cut++) {
			begin(1000);
			h2_input(h, record, cut, 0, NULL);
			drain();
			end(); /* each once */
		}
	}
}

static void tells_refusals_resets_and_what_is_too_large(void **state)
{
	static uint8_t record[RECORD_SIZE_MAX];
	size_t size = load("refusals", record);

	(void)state;
	begin(4999); /* one answer has 5,000 bytes */
	assert_int_equal(h2_input(h, record, size, 0, NULL), 0);
	drain();
	assert_int_equal(calls[0].call.rc, 0);
	assert_int_equal(calls[0].call.status, 400);
	assert_int_equal(calls[0].call.text_size, 13);
	assert_memory_equal(calls[0].call.text, "no such chunk", 13);
	assert_int_equal(calls[0].reply.size, 0);
	assert_int_equal(calls[1].call.rc, -EPROTO);
	assert_int_equal(calls[2].call.rc, -E2BIG);
	assert_true(calls[2].reply.size <= 4999);
	assert_int_equal(calls[3].call.rc, 0);
	assert_int_equal(calls[3].call.status, 404);
	end();
}

static void starts_no_call_after_goaway(void **state)
{
	static uint8_t record[RECORD_SIZE_MAX];
	size_t size = load("goaway", record);
	struct h2_call late = { .method = "GET", .path = "/" };

	(void)state;
	begin(1000);
	assert_int_equal(h2_input(h, record, size, 0, NULL), 0);
	drain();
	assert_true(h2_is_closing(h));
	assert_int_equal(h2_submit(h, &late, 0), -ECONNRESET);
	/* the first is answered still, the others never were: they may be repeated */
	assert_int_equal(calls[0].ended, 0);
	for (int i = 1; i < CALL_COUNT; i++)
		assert_int_equal(calls[i].call.rc, -ECONNRESET);
	end();
}

static void refuses_what_is_no_http2(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	begin(1000);
	assert_int_equal(h2_input(h, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, 0, &err), 0);
	drain(); /* tells the peer */
	assert_true(h2_is_over(h));
	end();
	assert_int_equal(calls[0].call.rc, -ECONNRESET);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_each_call_its_answer),
		cmocka_unit_test(ends_every_call_wherever_the_input_ends),
		cmocka_unit_test(tells_refusals_resets_and_what_is_too_large),
		cmocka_unit_test(starts_no_call_after_goaway),
		cmocka_unit_test(refuses_what_is_no_http2),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
