/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push - put the content of small files into the kernel's page cache before it asks.
 *
 * A READ of a small file costs its reader a round trip, which takes ten times as long as the
 * work: 300,000 of them 10 to 20 seconds.  Who reads files in order (push_runs.h) gets the next
 * ones of the folder pushed, and finds them in the page cache.
 *
 * What is pushed is what a READ would be answered with, proved in the same way.  Only inodes
 * that the kernel knows can be pushed to; it refuses others.  What cannot be read is left to
 * who asks for it, and to his error message.
 *
 * A thread of its own does it, since a push waits for the page's lock, which a reader may hold
 * until his READ is answered: those who answer READs must not stand behind it.
 *
 * Owner:   push_free(), after push_stop().
 * Threads: any number of callers of push_saw().
 */
#ifndef PXARFS_PUSH_H
#define PXARFS_PUSH_H

#include "archive/tree.h"
#include "fuse/session.h"

struct mount;
struct push;
struct shown;

struct push_params {
	struct mount *mount;
	struct fuse_session *session;
	unsigned window_max; /* files ahead of a reader, at least 1 */
};

int push_new(struct push **out, const struct push_params *params, struct err *err);

/* No push begins any more.  One that is under way may wait for a READ to be answered. */
void push_stop(struct push *p);

/* Whether the thread has ended, within `wait_ms`; after push_stop(). */
bool push_join(struct push *p, unsigned wait_ms);

/* It was joined. */
void push_free(struct push *p);
DEFINE_AUTO_PTR(push)

/* The kernel was given `entry`'s content from its start.  True: the reader is one whom files are
 * pushed to; the later he asks for the next, the more of them are there.  `p` NULL: nothing is
 * pushed. */
bool push_saw(struct push *p, struct shown *shown, const struct tree *tree,
	      const struct tree_entry *entry);

#endif
