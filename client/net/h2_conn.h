/* SPDX-License-Identifier: Apache-2.0 */
/*
 * h2_conn - an HTTP/2 connection that lives: TLS below, a thread that moves its bytes, calls from
 * any number of other threads.
 *
 * It ends when the peer ends it or breaks the protocol, when nothing moves for too long while
 * calls wait, and by h2_conn_abort(); the calls in progress end with it.
 *
 * Owner:   counted; the last h2_conn_unref() ends it.
 * Threads: any number, but not from within `done`.
 */
#ifndef PXARFS_H2_CONN_H
#define PXARFS_H2_CONN_H

#include "client/net/h2.h"
#include "client/net/tls.h"

#include <stdatomic.h>

enum {
	H2_CONN_PATIENCE_MS = 3600 * 1000, /* for patient calls, and for one call without any progress */
};

struct h2_conn;

/* Takes over `tls`, on which `size` bytes were received already.  `idle_ms`: for how long nothing
 * at all may move while calls wait. */
int h2_conn_new(struct h2_conn **out, struct tls *tls, const void *received, size_t size,
		int64_t idle_ms, struct err *err);
struct h2_conn *h2_conn_ref(struct h2_conn *c);
void h2_conn_unref(struct h2_conn *c);

/* Start a call; call->done runs on the connection's thread and must not block.  -ECONNRESET:
 * there is no connection any more, -ECANCELED: it was aborted with that; `done` is not called. */
int h2_conn_submit(struct h2_conn *c, struct h2_call *call);

/* The same, and wait; returns call->rc.  `done` and `arg` are not the caller's. */
int h2_conn_run(struct h2_conn *c, struct h2_call *call);

/* End it, calls with `rc`. */
void h2_conn_abort(struct h2_conn *c, int rc);

/* The same with -ECANCELED once `stop` is true and calls wait, none of them patient; it is looked at every
 * second. */
void h2_conn_stop_on(struct h2_conn *c, const atomic_bool *stop);

/* 0: it lives; else it has ended, and this is what h2_conn_submit() gives: make another.  One that the
 * server only said goodbye on still lives; a new call on it is answered -ECONNRESET. */
int h2_conn_lost_rc(struct h2_conn *c);

/* Why it has ended, for a person: "" while it lives. */
void h2_conn_why(struct h2_conn *c, struct err *out);

#endif
