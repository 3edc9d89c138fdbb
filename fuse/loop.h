/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop - our request loop: threads that take requests from the kernel and process them.
 *
 * What costs is waking up, not work: a round trip to a sleeping thread takes five times as
 * long as one to a thread that is looking.  So one reader, the leader, looks again and again
 * for a short while before it sleeps; the others wait for their turn and are woken only when
 * there is more work than one can do:
 *
 *	waiting --(a leader finds requests queued up, or will be busy)--> leading
 *	leading --(nothing to do for the spin time, and another one leads)--> waiting
 *	leading --(loop_busy(): this request takes long)--> busy --(done)--> waiting
 *
 * Exactly one leader sleeps in poll(); a request can wait for a busy thread only as long as a
 * request takes that does not call loop_busy().  Handlers never block: what must wait for
 * bytes is parked (fuse/request.h) and the reader goes on.
 *
 * Owner:   free with loop_free(), which ends and joins the readers.
 * Threads: loop_start(), loop_join() and loop_free() from one thread, loop_busy() from a handler.
 */
#ifndef PXARFS_LOOP_H
#define PXARFS_LOOP_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <stdbool.h>

struct fuse_session;
struct idle_poll;
struct loop;

enum {
	LOOP_READERS_MAX = 64,
	LOOP_SPIN_US = 100,
};

struct loop_params {
	unsigned reader_count; /* 1..LOOP_READERS_MAX */
	unsigned spin_us; /* 0: sleep at once */
	struct idle_poll *idle_poll; /* is told of requests; outlives the loop; NULL: none */
	/* Called once, on a reader's thread, when the kernel has ended the connection (someone
	 * unmounted) or it broke.  Must not call back into the loop. */
	void (*ended)(void *arg);
	void *arg;
};

/* Start reading requests of a mounted session, which must outlive the loop.  Its descriptor
 * becomes non-blocking. */
int loop_start(struct loop **out, struct fuse_session *session,
	       const struct loop_params *params, struct err *err);

/* Whether the readers have ended, within `wait_ms`: one may hang, in a file of ours that is mapped
 * from a dead disk, or in the log.  No request is taken any more then; those that were parked still
 * want their answers.  `l` may be NULL. */
bool loop_join(struct loop *l, unsigned wait_ms);

/* Waits for the readers where loop_join() has not. */
void loop_free(struct loop *l);
DEFINE_AUTO_PTR(loop)

/* From a handler that is going to compute for more than about a millisecond: another reader
 * takes over until it is done.  Does nothing on other threads. */
void loop_busy(void);

/* From a handler: whoever sent this request need not be woken in a hurry, so it makes no burst
 * (idle_poll.h).  Does nothing on other threads. */
void loop_unhurried(void);

#endif
