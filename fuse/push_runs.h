/* SPDX-License-Identifier: Apache-2.0 */
/*
 * push_runs - who reads small files in order, and which files to push to them next.
 *
 * A run is a reader who goes through the payload stream, file by file.  The stream has files in
 * the order of their folders, so that is how tar, cp and rsync read.  One who went on with the
 * very next file gets the following ones pushed; when all these were used, so that the next READ
 * comes for a file behind them, twice as many.  To be told in time, one file near the end is
 * left out: its READ says that the reader has come so far, and the next window is pushed while
 * the rest of this one is being read.
 *
 *	IDLE --(a READ behind the window, or of the file left out)--> BUSY --(pushed)--> IDLE
 *
 * Owner:   embedded; plain data.
 * Threads: none: under the owner's lock.
 */
#ifndef PXARFS_PUSH_RUNS_H
#define PXARFS_PUSH_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PUSH_RUNS_MAX = 8, /* readers told apart */
	PUSH_WINDOW_MIN = 32, /* files of a reader's first window */
	PUSH_FILE_SIZE_MAX = 64 << 10, /* larger ones are left to the kernel's read-ahead */
	PUSH_WINDOW_BYTES_MAX = 8 << 20,
	PUSH_NEAR_SIZE = 128 << 10, /* a gap in the stream that still is "the next file" */
};

/* A file, by its place. */
struct push_file {
	uint32_t slot; /* of the archive, as in inode.h */
	uint64_t entry_offset;
	uint64_t begin, end; /* in the stream: from its header, if any, to its content's end */
	uint64_t size; /* of the content */
};

struct push_run {
	uint32_t slot;
	uint64_t base; /* where the last window began */
	uint64_t next; /* behind the last file that was read or pushed */
	uint64_t read; /* behind the last file that was read */
	uint64_t last_entry; /* the last file that was read or pushed */
	uint64_t left_out; /* `begin` of the file that was; 0: none */
	unsigned window; /* files to push at a time; 0: none yet */
	unsigned count; /* in this window so far */
	size_t bytes; /* the same */
	uint64_t used; /* the clock at its last READ; 0: nobody */
	bool busy;
};

struct push_runs {
	unsigned window_max; /* files */
	uint64_t clock;
	struct push_run runs[PUSH_RUNS_MAX];
};

/* A file was read from its start.  Not NULL: push what follows run->last_entry, then say
 * push_runs_done(); until then the run is busy.  `*in_order`: its reader is one who gets small
 * files pushed, and this is such a file. */
struct push_run *push_runs_saw(struct push_runs *r, const struct push_file *file,
			       bool *in_order);

enum push_verdict {
	PUSH_IT,
	PUSH_NOT, /* empty, large, read already, or to be left out; go on with the next */
	PUSH_ENOUGH, /* the window is full, or the next file is far away */
};

/* The next regular file behind those so far, in stream order: shall it be pushed? */
enum push_verdict push_runs_next(struct push_run *run, const struct push_file *file);

static inline void push_runs_done(struct push_run *run)
{
	run->busy = false;
}

#endif
