/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/2 from a hostile server.  The first byte says in which pieces the rest is received.
 *
 * Whatever comes, each call ends once, no answer is larger than its buffer may be, and what we
 * send in return stays in proportion.
 */
#include "client/net/h2.h"
#include "tests/fuzz/must.h"

#include <string.h>

enum {
	CALL_COUNT = 4,
	REPLY_SIZE_MAX = 4096,
	BODY_SIZE = 3000,
	OUTPUT_SIZE_MAX = 4 << 20, /* for the calls, and for what the peer makes us answer */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_call {
	struct h2_call call;
	struct wbuf reply;
	int ended;
};

static void on_done(struct h2_call *call)
{
	((struct fuzz_call *)call->arg)->ended++;
}

static const uint8_t body[BODY_SIZE];

static void start(struct h2 *h, struct fuzz_call *c, unsigned i)
{
	wbuf_init(&c->reply, REPLY_SIZE_MAX);
	c->ended = 0;
	c->call = (struct h2_call){ .method = i % 2 ? "POST" : "GET",
				    .path = "/chunk?digest=00",
				    .content_type = i % 2 ? "application/octet-stream" : NULL,
				    .body = body,
				    .body_size = i % 2 ? sizeof(body) : 0,
				    .reply = i == 3 ? NULL : &c->reply,
				    .done = on_done,
				    .arg = c };
	if (h2_submit(h, &c->call, 0) < 0)
		on_done(&c->call);
}

/* Take all that is to be sent; false: the connection is broken. */
static bool drain(struct h2 *h, size_t *total)
{
	const uint8_t *out;
	ssize_t n;

	while ((n = h2_output(h, &out, 0)) > 0) {
		*total += (size_t)n;
		must(*total <= OUTPUT_SIZE_MAX);
	}
	return n == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_call calls[CALL_COUNT];
	struct err err = ERR_INIT;
	struct h2 *h = NULL;
	size_t piece, total = 0;

	must(h2_new(&h, &err) == 0);
	for (unsigned i = 0; i < CALL_COUNT; i++)
		start(h, &calls[i], i);
	piece = size && data[0] ? data[0] : size + 1;
	drain(h, &total);
	for (size_t at = 1; at < size; at += piece) {
		size_t n = size - at < piece ? size - at : piece;

		if (h2_input(h, data + at, n, 1, &err) < 0 || !drain(h, &total) || h2_is_over(h))
			break;
	}
	h2_free(h);
	for (unsigned i = 0; i < CALL_COUNT; i++) {
		const struct h2_call *c = &calls[i].call;

		must(calls[i].ended == 1);
		must(calls[i].reply.size <= REPLY_SIZE_MAX);
		must(c->text_size <= H2_TEXT_SIZE_MAX);
		must(c->rc < 0 || (c->status >= 200 && c->status <= 999));
		wbuf_release(&calls[i].reply);
	}
	return 0;
}
