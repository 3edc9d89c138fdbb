/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request - one question of the kernel, from its arrival to its only answer.
 *
 * An operation is a function that runs from its start to its end without waiting.  When bytes
 * are missing it returns -EAGAIN with nothing done; the request is parked, the fetcher brings
 * the bytes, and the operation runs again from its start, on the thread that brought them.
 * The views keep every chunk it has seen, so that it gets further each time.
 *
 *	        run() = -EAGAIN            bytes are under way
 *	RUNNING ---------------> PARKING ----------------------> PARKED
 *	   ^ ^                      |  the bytes came meanwhile     |
 *	   | +----------------------+                              |
 *	   +-------------------------------------------------------+
 *	     the bytes came; or the time-out, an interrupt or the end came first
 *
 * Who moves a request from PARKED to RUNNING owns it from then on; that happens under one
 * lock, so whatever races, one thread goes on and one answer is given.  An interrupt (EINTR),
 * the time-out (EIO) or the end of the mount take the request's wait back from the fetcher; if
 * the fetcher is quicker, its callback finds their verdict and gives that answer instead of
 * running the operation.  A request that is RUNNING notices a verdict when it wants to park.
 *
 * Lock order: libfuse's lock of a request (held in the interrupt callback), then ours, then
 * the fetcher's.  Nothing is answered under our lock.
 *
 * In a mount of many snapshots all nodes are pinned while an operation runs, and until what it waits
 * for has been asked for: it keeps no node from one run to the next.
 *
 * Owner:   requests come out of a pool and go back to it with their answer.
 * Threads: a request belongs to the thread that runs it.
 */
#ifndef PXARFS_REQUEST_H
#define PXARFS_REQUEST_H

#include "archive/base/err.h"
#include "archive/tree.h"
#include "client/read/archive_open.h"
#include "client/read/stream.h"
#include "fuse/session.h"

#include <stdbool.h>

struct requests;
struct request;
struct folder;
struct mount;
struct node;
struct shown;

enum {
	/* Damaged chunks a listing steps over before it fails as a whole. */
	REQUEST_BAD_CHUNKS_MAX = 16,
};

/* 0: it has been answered, with one of reply.h; -EAGAIN: park; another negative errno: that is
 * the answer (reply.h maps it), and `err` says why. */
typedef int request_run(struct request *rq);

enum request_state { REQUEST_RUNNING, REQUEST_PARKING, REQUEST_PARKED, REQUEST_WOKEN };

/* What a parked request waits for. */
enum request_wait {
	REQUEST_WAIT_META, /* the chunk its metadata view misses */
	REQUEST_WAIT_PAYLOAD, /* the same of its payload view */
	REQUEST_WAIT_PAYLOAD_INDEX, /* archive_payload_wait() */
	REQUEST_WAIT_LINKS, /* nlink_wait() */
	REQUEST_WAIT_FETCH, /* what it wants of the fetcher itself */
};

struct request {
	/* The question; fixed. */
	struct mount *mount;
	const char *what; /* "lookup", for messages */
	request_run *run;
	fuse_ino_t number;
	uint64_t offset; /* a listing goes on from here when it runs again */
	size_t size;
	unsigned command; /* of an ioctl */
	bool plus; /* READDIRPLUS */
	bool privileged; /* the caller is root */
	struct wbuf name; /* NUL-terminated */
	/* The archive it is about, held; `meta` is initialised.  NULL: something else, or the
	 * archive is yet to be opened. */
	struct shown *shown;

	/* For the operation; kept when it runs again. */
	struct stream_view meta, payload;
	bool has_payload; /* `payload` is initialised */
	bool wants_payload_index, wants_links, wants_fetch; /* set before -EAGAIN, see request_wait */
	struct fetch_want want; /* with wants_fetch */
	struct chunk *held; /* what that brought */
	bool takes_failure; /* when a wait fails run() is told by `failure`, and answers */
	int failure; /* 0 or a negative errno; `err` says why */

	/* For one that goes through all snapshots of a group: */
	int64_t scan_time; /* of the last one that is done; INT64_MAX: none yet */
	uint64_t scan_id; /* of the node of the one that `shown` and `failure` are of; 0: none */
	int scan_failure; /* why one of them could not be looked at */
	bool has_version; /* `version` is what the last one had */
	struct digest version;
	int64_t found_time; /* of a version that is yet to be put down, or 0; and its type */
	mode_t found_type;
	bool steps_over_damage; /* a damaged metadata chunk is told to run(), see below */
	struct folder *folder; /* with a reference */
	struct tree_entry entry;
	struct tree_window window;
	struct wbuf out; /* the answer, where it is built in memory */
	size_t work; /* bytes of attributes that a listing went through */
	struct err err;

	/* Damaged chunks of the metadata stream, and what the last one's damage was. */
	uint64_t bad_chunks[REQUEST_BAD_CHUNKS_MAX];
	unsigned bad_count;
	struct err bad_err;

	/* The rest belongs to request.c. */
	struct requests *owner;
	fuse_req_t fuse; /* NULL once answered */
	bool watched; /* libfuse has our interrupt callback */
	enum request_state state; /* owner's lock */
	enum request_wait waits_for; /* while parked */
	int verdict; /* owner's lock: what it shall be answered with instead, or 0 */
	bool listed; /* owner's lock: in the list of the parked */
	uint64_t deadline_ms; /* owner's lock */
	struct request *next, *prev; /* owner's lock */
	struct fetch_wait wait;
	struct chunk *chunk; /* what the wait brought */
	int rc;
};

/* The pool and the watch over the parked.  `timeout_ms`: for how long a request may wait for
 * one chunk. */
int requests_new(struct requests **out, struct mount *mount, unsigned timeout_ms,
		 struct err *err);

/* No request may be left. */
void requests_free(struct requests *r);
DEFINE_AUTO_PTR(requests)

/* Answer all that is parked with ENOTCONN, and from now on all that wants to park.  Waits for
 * those that run, `wait_ms` at most; true when none is left. */
bool requests_stop(struct requests *r, unsigned wait_ms);

struct requests_stats {
	uint64_t parked; /* how often a request had to wait */
	uint64_t timeouts, interrupts;
	size_t waiting; /* now */
};
void requests_stats(struct requests *r, struct requests_stats *out);

/* A request for `fuse`; NULL when there is no memory (that was the answer, then). */
struct request *request_new(struct requests *r, fuse_req_t fuse, const char *what,
			    request_run *run, fuse_ino_t number);

/* Run it.  Its answer may come now or later; the request must not be used after this. */
void request_go(struct request *rq);

/* Have it be about an archive, which is the request's to let go from now on. */
void request_show(struct request *rq, struct shown *shown);

/* Let go of that archive, before the next. */
void request_hide(struct request *rq);

/* Answer with an error instead of running it. */
void request_fail(struct request *rq, int rc);

/* Take the answer in hand: no interrupt comes any more.  For reply.h. */
fuse_req_t request_settle(struct request *rq);

/* After -EAGAIN from the metadata view: is that because of a chunk which is damaged, so that
 * waiting is no use?  Only where steps_over_damage is set; rq->bad_err has the message. */
bool request_is_damaged(struct request *rq);

#endif
