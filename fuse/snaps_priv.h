/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of snaps share. */
#ifndef PXARFS_SNAPS_PRIV_H
#define PXARFS_SNAPS_PRIV_H

#include "client/read/snapshot_open.h"
#include "fuse/inode.h"
#include "fuse/snaps.h"

#include <pthread.h>

enum { SNAPS_PATH_SIZE = 1024 };

/* What is kept of a snapshot that was entered; freed with its node. */
struct snap {
	struct node *node;
	struct visit *visit; /* NULL: closed */
	bool is_opening;
	bool is_known; /* its files are children of its node */
	bool has_log;
	struct digest listing; /* of its files' names, sizes and checksums */
};

/* A snapshot that is open. */
struct visit {
	struct snapshot_open *open;
	struct snap *snap;
	unsigned users; /* loads in it */
	uint64_t used, used_ms; /* last: by the clock of uses, and by time */
	struct opened *opened;
	struct visit *next;
};

/* An archive or image that is open. */
struct opened {
	struct shown shown; /* first; archive NULL: an image */
	struct stream *image;
	struct snaps *owner;
	struct visit *visit;
	struct node *node;
	unsigned users; /* requests and others that hold it */
	uint64_t used, used_ms; /* last: by the clock of uses, and by time */
	struct opened *next;
	char path[SNAPS_PATH_SIZE]; /* for messages */
};

/* Who has which slot. */
struct snaps_slots {
	struct node **rows; /* a table with `capacity` chains */
	size_t count, capacity;
	uint32_t taken[INODE_CLASSES]; /* of each class of inode.h's, ever */
};

struct snaps {
	struct snaps_params params;
	struct repo_tree *tree;

	pthread_mutex_t lock; /* guards all below, and what is in it */
	pthread_cond_t opened; /* a snapshot was, or could not be */
	struct visit *visits;
	struct snaps_slots slots;
	struct snaps_stats stats;
	uint64_t clock; /* of uses: many fall into a millisecond */

	pthread_cond_t work; /* of the keeper */
	struct node *gone, **gone_end; /* linked by `next`; the kernel is yet to be told */
	struct node *old; /* linked by `next`; it was told.  Of who calls snaps_discard_gone() */
	bool is_entered, is_stopping, is_kicked;

	struct mount *mount; /* NULL: no kernel; the rest: of who calls snaps_start(), _stop() and _join() */
	pthread_t keeper;
	bool has_keeper;
};

/* There may be something to close.  Under the lock. */
void snaps_kick(struct snaps *s);

/* As repo_tree_params.load; `arg` is the snaps. */
int snaps_load(void *arg, struct node *node, struct fetch_worker *worker, uint64_t index,
	       struct chunk *chunk, struct err *err);

void snaps_opened_free(struct opened *o);

#endif
