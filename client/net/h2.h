/* SPDX-License-Identifier: Apache-2.0 */
/*
 * h2 - the client's side of an HTTP/2 connection, on memory: what is to be sent comes out, what was
 * received goes in.  Many calls at once, each a stream.
 *
 * Layout:  client/PROTOCOL.md, "HTTP/2 on the upgraded connection".
 * Threads: one at a time (client/net/h2_conn.h has a thread for it).
 * Trust:   the peer is hostile: an answer's body is bounded by its buffer's maximum, its headers
 *          are bounded and but for the status ignored; what breaks the protocol breaks the
 *          connection.
 */
#ifndef PXARFS_H2_H
#define PXARFS_H2_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	H2_TEXT_SIZE_MAX = 512, /* of an answer that is not 200 */
	/* A 10 Gbit/s line of 20 ms holds 25 MB; credit is given back when half a window is used. */
	H2_STREAM_WINDOW = 64 << 20,
	H2_CONNECTION_WINDOW = 256 << 20,
	H2_FRAME_SIZE_MAX = 1 << 20, /* that we take */
	H2_DATA_SIZE_MAX = 64 << 10, /* of a frame that we send */
};

/* A call, embedded in what it is for; the memory it points to is lent until `done`. */
struct h2_call {
	const char *method, *path;
	const char *content_type; /* NULL: there is no body */
	const void *body;
	size_t body_size;
	struct wbuf *reply; /* the body of an answer of status 200 is appended to it */
	bool is_patient; /* the answer may take very long */

	/* The outcome.  0: an answer has come, whole; its status, and its text if that is not 200.
	 * -ECONNRESET: the call was not answered, the connection is lost or ends; -E2BIG: more than
	 * `reply` takes; -EPROTO: the server has reset the call, or broken the protocol. */
	int rc;
	int status;
	size_t text_size;
	char text[H2_TEXT_SIZE_MAX];

	void (*done)(struct h2_call *call); /* once, from within h2 */
	void *arg; /* for it */

	/* h2's own */
	struct h2_call *previous, *next;
	int32_t stream;
	size_t sent;
	bool is_answered;
	int64_t progress_ms;
};

struct h2;

int h2_new(struct h2 **out, struct err *err);
/* Fails the calls in progress with -ECONNRESET. */
void h2_free(struct h2 *h);
DEFINE_AUTO_PTR(h2)

/* Start a call at time `now_ms`.  An error, -ENOMEM or -ECONNRESET: it was not, and is not done. */
int h2_submit(struct h2 *h, struct h2_call *call, int64_t now_ms);

/* Bytes to be sent next, lent until the next call of this; 0: none for now.  -EPROTO. */
ssize_t h2_output(struct h2 *h, const uint8_t **data, int64_t now_ms);

/* Bytes that have come.  -EPROTO: the peer has broken the protocol, or ends the connection. */
int h2_input(struct h2 *h, const void *data, size_t size, int64_t now_ms, struct err *err);

/* Nothing more is to be sent or expected. */
bool h2_is_over(const struct h2 *h);

/* The peer takes no new calls (GOAWAY). */
bool h2_is_closing(const struct h2 *h);

/* Calls in progress; when the one that has waited longest got on last; whether one is patient. */
size_t h2_call_count(const struct h2 *h);
int64_t h2_oldest_ms(const struct h2 *h);
bool h2_is_patient(const struct h2 *h);

/* End all calls in progress with `rc`. */
void h2_fail(struct h2 *h, int rc);

#endif
