/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_pbs_upload - the chunks of a backup session on their way to the server.
 *
 * A chunk that is put is copied and sent while the caller goes on; so many are in flight as a
 * line with a long way needs.  What fails is told to whoever calls next, and for good.  An index
 * refers to a chunk only after repo_pbs_upload_wait(), which waits for the answers.
 *
 * Layout:  client/PROTOCOL.md, "Chunk upload" and "Ordering rules".
 * Threads: any number.
 */
#ifndef PXARFS_REPO_PBS_UPLOAD_H
#define PXARFS_REPO_PBS_UPLOAD_H

#include "client/repo/digest_set.h"
#include "client/repo/pbs_session.h"

#include <pthread.h>

enum {
	/* Not answered yet: a server's window of 32 MiB, and what it works on meanwhile. */
	REPO_PBS_UPLOAD_BYTES_MAX = 48 << 20,
	REPO_PBS_UPLOAD_COUNT_MAX = 64,
};

/* An index on the server that chunks can be sent for: it only counts them, and bounds their size. */
struct repo_pbs_target {
	struct repo_pbs_target *next;
	int64_t wid;
	uint64_t image_size; /* 0: a dynamic index takes any chunk */
	size_t in_flight; /* chunks sent for it and not answered */
	bool took_rest; /* of an image: its last, shorter chunk was sent */
	bool is_closing; /* takes no new ones */
};

struct upload_call;

struct repo_pbs_upload {
	struct h2_conn *conn; /* lent, set before the first chunk is put */
	pthread_mutex_t lock; /* guards these */
	pthread_cond_t changed;
	struct digest_set known; /* to the server in this session: may be used in indexes */
	struct repo_pbs_target *targets;
	struct upload_call *first, *last; /* put and not answered, in order */
	size_t bytes, count; /* of those */
	uint64_t next_number;
	int rc; /* of the first failure */
	struct err why;

	pthread_mutex_t spare_lock; /* taken last; guards these */
	struct upload_call *spare; /* memory for the next ones, by `next` */
	size_t spare_bytes;
};

int repo_pbs_upload_init(struct repo_pbs_upload *u, struct err *err);
/* The connection must have ended. */
void repo_pbs_upload_release(struct repo_pbs_upload *u);

void repo_pbs_upload_add_target(struct repo_pbs_upload *u, struct repo_pbs_target *t);
/* No more chunks are sent for it; waits for the answers to those that were. */
int repo_pbs_upload_end_target(struct repo_pbs_upload *u, struct repo_pbs_target *t,
			       struct err *err);
void repo_pbs_upload_drop_target(struct repo_pbs_upload *u, struct repo_pbs_target *t);

/* Send a chunk unless the server knows it (`*duplicate`, may be NULL). */
int repo_pbs_upload_put(struct repo_pbs_upload *u, const struct digest *digest, const void *data,
			size_t size, size_t plain_size, bool *duplicate, struct err *err);

/* The server knows it (from a previous index). */
int repo_pbs_upload_know(struct repo_pbs_upload *u, const struct digest *digest);
bool repo_pbs_upload_knows(struct repo_pbs_upload *u, const struct digest *digest);

/* Wait until all that was put before is answered. */
int repo_pbs_upload_wait(struct repo_pbs_upload *u, struct err *err);

/* The failure that has ended the connection, if a chunk's was it; 0: none. */
int repo_pbs_upload_failed(struct repo_pbs_upload *u, struct err *err);

#endif
