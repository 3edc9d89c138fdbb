/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse - which unchanged files are taken over with the chunks that hold them, and which are
 * read again.
 *
 * A chunk of the old payload stream can only be spliced in whole.  What of it no file refers
 * to, dead bytes, is padding in the new stream.  So each unchanged file has a choice: be
 * spliced in, at the price of padding; or be read, at the price of its bytes.  Neighbours
 * share chunks: a run of files, with nothing between them that must be written, needs each
 * chunk once; after a file that is written the same chunk must be spliced in again, because
 * references have to rise.
 *
 * Files are decided a window at a time.  Padding gets a price in bytes that have to be read;
 * for a price the cheapest choice for the whole window is found by going through it once
 * (cost when the file before was spliced in, cost when not).  The price is PRICE_MIN, or the
 * least above it with which the padding of all that was committed and the window stays within
 * padding_percent_max of the new stream (two markers, 32 bytes, not counted).  Files that are
 * yet to come are taken to be the rest of the chunk in which the window ends: a chunk may hold
 * more small files than a window.  Where they turn out not to be, the bound is exceeded by that
 * rest, of one chunk, until other files have made up for it.
 *
 * An archive in which nothing changed is spliced in whole, again and again: whatever was worth
 * its padding once still is, at the same price.
 *
 * Cost:    O(files), some 40 times that when padding has to be saved.  No allocation, no I/O.
 */
#ifndef PXARFS_REUSE_H
#define PXARFS_REUSE_H

#include "archive/didx.h"

#include <stdbool.h>

enum {
	REUSE_PADDING_PERCENT_DEFAULT = 10,
};

/* A regular file in the order of the new archive (not a further name of one). */
struct reuse_file {
	uint64_t size; /* of its payload, the header included */
	bool is_unchanged; /* the old stream holds that payload ... */
	uint64_t old_begin; /* ... here */

	/* Set by reuse_locate(): the old chunks that hold it, and the range they cover. */
	size_t chunk_first, chunk_last;
	uint64_t chunks_begin, chunks_end;

	bool splice; /* the decision */
	bool from_splice[2]; /* reuse's own */
};

/* Where the spliced files before end, as far as the next one can go on from there. */
struct reuse_run {
	bool is_open; /* the file before was spliced in */
	size_t chunk_last;
	uint64_t old_end, chunks_end;
};

struct reuse {
	const struct didx *old; /* the payload stream's; borrowed */
	unsigned padding_percent_max;

	/* Of what was committed: */
	uint64_t size; /* of the new payload stream, its two markers included */
	int64_t padding;
	struct reuse_run run;
};

void reuse_init(struct reuse *r, const struct didx *old, unsigned padding_percent_max);

/* Find the chunks of an unchanged file.  False, and no longer unchanged: the old stream ends
 * before. */
bool reuse_locate(const struct reuse *r, struct reuse_file *f);

/* Whether `f` goes on in the chunk in which `run` ends. */
bool reuse_continues(const struct reuse_run *run, const struct reuse_file *f);
void reuse_run_take(struct reuse_run *run, const struct reuse_file *f);

/* Decide on the files that follow what was committed.  Files that follow these, if there are
 * any (`more`), may change the best choice: commit few, and give the others again with them. */
void reuse_decide(const struct reuse *r, struct reuse_file *files, size_t count, bool more);

/* The first `count` decisions are final. */
void reuse_commit(struct reuse *r, const struct reuse_file *files, size_t count);

#endif
