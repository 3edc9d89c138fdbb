/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readahead - what to ask for before it is read.
 *
 * Follows the stream, not the files in it: files lie in the payload stream in the order of
 * their folders, so that copying a tree of small files moves through it as reading one large
 * file does.  A reader is known by where it goes on:
 *
 *	NEW ------(goes on where it was, twice)------> PROVEN
 *	 forgotten as others come                       asks ahead
 *	                                                forgotten when it leaps, or for others
 *
 * A reader asks ahead in proportion to what it has read, up to a depth that keeps the fetcher's
 * threads busy in spite of the repository's latency (readahead_depth()) and never reaches what
 * the cache keeps.  Several readers share that.  Random access proves nothing and asks for
 * nothing; it does not push the proven readers out either.
 *
 * Pure: what shall be asked for is told; nobody is asked here, and there is no clock.
 *
 * Owner:   embedded; readahead_init() and readahead_release().
 * Threads: any number.
 */
#ifndef PXARFS_READAHEAD_H
#define PXARFS_READAHEAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	READAHEAD_NEW_MAX = 32,
	READAHEAD_PROVEN_MAX = 8,
	READAHEAD_CHUNKS_MAX = 64, /* asked for at a time */
};

struct readahead_reader {
	uint64_t end; /* where it goes on */
	uint64_t asked; /* up to here it was asked for; never less than `end` */
	uint64_t consumed; /* bytes it read */
	uint64_t credit; /* bytes it may leave out until it counts as leaping */
	uint64_t used; /* `clock` at its last read; 0: nobody */
	unsigned matches; /* how often it went on where it was */
};

/* What it costs to get a chunk. */
struct readahead_costs {
	uint64_t wait_us; /* for the repository */
	uint64_t work_us; /* decoding and verifying it */
};

struct readahead_params {
	uint64_t bytes_max; /* ahead, all readers together; 0: off */
	uint64_t stream_size, chunk_size; /* of a typical chunk, at least 1 */
	unsigned cpu_count;
};

struct readahead {
	struct readahead_params params; /* fixed once there are readers */
	pthread_mutex_t lock; /* guards all below */
	struct readahead_costs costs; /* lately */
	uint64_t clock; /* reads so far */
	struct readahead_reader fresh[READAHEAD_NEW_MAX];
	struct readahead_reader proven[READAHEAD_PROVEN_MAX];
};

void readahead_init(struct readahead *ra, const struct readahead_params *params);
void readahead_release(struct readahead *ra);

/* A chunk was got. */
void readahead_learn(struct readahead *ra, const struct readahead_costs *costs);

struct readahead_range {
	uint64_t begin, end;
};

/* Somebody reads [begin, end); telling it again does no harm.  True: ask for *ask now. */
bool readahead_note(struct readahead *ra, uint64_t begin, uint64_t end,
		    struct readahead_range *ask);

/* How many bytes ahead keep the processors at work; at most params->bytes_max, and 0 when that
 * does not hold even one chunk. */
uint64_t readahead_depth(const struct readahead_params *params,
			 const struct readahead_costs *costs);

#endif
