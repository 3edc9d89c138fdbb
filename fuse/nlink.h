/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nlink - st_nlink of regular files, counted behind everyone's back.
 *
 * It must be right, or tar, cp -a and rsync -H lose hard links silently, and what we answer is
 * kept for ever.  The format does not store it: archive/links.h takes a pass over the metadata
 * stream.  The pass starts when someone goes below the archive's root, never at mount; the
 * answers of the first moments wait for it.
 *
 * What was answered before is taken back at the end of the pass: the kernel is told to ask anew
 * for the files whose number was wrong.
 *
 *	IDLE --nlink_start()--> COUNTING --(NLINK_PATIENCE_MS)--> LATE --> KNOWN or NEVER
 *	  2, for 1 s             wait         2, for 1 s          exact     2, for ever
 *
 * 2 is the safe answer: tools that see it go by the inode number, which is right.  NEVER is
 * for an archive whose items cannot be followed to their end, and for large single streams,
 * where a pass would have to read all contents.
 *
 * Owner:   free with nlink_free(), after fetch_stop(), nlink_stop() or when no load can hang.
 * Threads: any number.
 */
#ifndef PXARFS_NLINK_H
#define PXARFS_NLINK_H

#include "client/read/archive_open.h"

#include <sys/types.h>

enum {
	NLINK_PATIENCE_MS = 300,
	NLINK_SINGLE_STREAM_SIZE_MAX = 64 << 20,
	/* The last answers to take back.  What was answered before that many others was so long
	 * ago, most likely, that nobody believes it any more; who does, for a second at most. */
	NLINK_UNSURE_MAX = 1 << 16,
};

struct mount;
struct nlink;
struct nlink *nlink_new(struct archive *archive);
void nlink_free(struct nlink *n);
DEFINE_AUTO_PTR(nlink)

/* Make a count in progress end soon: with the chunk it waits for. */
void nlink_stop(struct nlink *n);

/* Bytes it keeps. */
size_t nlink_memory(struct nlink *n);

/* Begin to count, unless that has happened.  Cheap.  At the end the kernel of `mount` is told
 * what to ask anew of the archive, whose inode numbers are of `slot`. */
void nlink_start(struct nlink *n, struct mount *mount, unsigned slot);

struct nlink_answer {
	nlink_t names;
	double timeout; /* how long, in seconds, it may be believed */
	bool wait; /* better nlink_wait() first */
};

/* What to say of the file whose ENTRY is at `entry_offset`. */
struct nlink_answer nlink_get(struct nlink *n, uint64_t entry_offset);

/* Have wait->done called, without a chunk, when waiting is of no more use (perhaps before this
 * returns): NLINK_PATIENCE_MS after the start at the latest.  Cannot be cancelled. */
void nlink_wait(struct nlink *n, struct fetch_wait *wait);

#endif
