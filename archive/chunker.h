/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunker - content-defined cut points, the same as the Proxmox Backup client's.
 *
 * Layout:  archive/FORMAT.md, "Chunker".
 * Owner:   embedded, no memory of its own.
 * Threads: one owner at a time.
 * Cost:    see scripts/bench; the bytes before `min - 64` of a chunk are skipped, not hashed.
 */
#ifndef PXARFS_CHUNKER_H
#define PXARFS_CHUNKER_H

#include "archive/base/cleanup.h"

#include <stddef.h>
#include <stdint.h>

enum {
	CHUNKER_WINDOW_SIZE = 64,
	CHUNKER_AVG_SIZE_MIN = 64 << 10, /* of a pxar stream */
	CHUNKER_AVG_SIZE_MAX = 4 << 20,
	CHUNKER_AVG_SIZE_DEFAULT = 4 << 20,
	CHUNKER_AVG_SIZE_CATALOG = 512 << 10,
	CHUNK_SIZE_MAX = 16 << 20, /* of any chunk, plain */
};

struct chunker {
	uint32_t hash;
	uint32_t mask, limit;
	size_t size_min, size_max;
	size_t size; /* bytes of the current chunk so far */
	uint8_t window[CHUNKER_WINDOW_SIZE]; /* the last bytes, by position modulo 64 */
	const struct chunker_simd *simd;     /* how to search: chosen for this processor */
};

/* `avg_size` is a power of two, 512 <= avg_size <= CHUNKER_AVG_SIZE_MAX.  Chunks are then
 * avg_size / 4 to avg_size * 4 bytes long, the last one of a stream may be shorter. */
void chunker_init(struct chunker *c, size_t avg_size);

/* Forget the current chunk: the next byte begins a new one. */
void chunker_reset(struct chunker *c);

/* Feed the next bytes of the stream.  Returns 0 when they hold no cut (all were taken), else
 * the count of bytes up to the cut; the chunk ends there, the rest was not looked at, and the
 * chunker is reset. */
size_t chunker_scan(struct chunker *c, const void *data, size_t size);

/*
 * The payload stream's chunker: prefers the starts of files as cut points.
 *
 * Suggestions are stream offsets in rising order; to make the cuts a pure function of the
 * stream, its pieces and the file starts, give each before the bytes that precede it are
 * scanned (FORMAT.md, "Suggested boundaries").
 *
 * Owner:   embedded; release with chunker_suggest_release().
 */
struct chunker_suggest {
	struct chunker plain;
	uint64_t *offsets; /* ring of pending suggestions */
	size_t begin, count, capacity;
};

void chunker_suggest_init(struct chunker_suggest *c, size_t avg_size);
void chunker_suggest_release(struct chunker_suggest *c);
DEFINE_AUTO_STRUCT(chunker_suggest)

/* -ENOMEM.  One that repeats the last pending one is dropped, so however many files start at
 * one place (as files taken over from an older archive do), it takes no room. */
int chunker_suggest_add(struct chunker_suggest *c, uint64_t stream_offset);

/* Forget the current chunk, not the suggestions. */
void chunker_suggest_reset(struct chunker_suggest *c);

/* As chunker_scan(), for `size` bytes that follow `scanned` bytes already buffered and scanned
 * of a chunk that begins at stream offset `chunk_begin`. */
size_t chunker_suggest_scan(struct chunker_suggest *c, uint64_t chunk_begin, size_t scanned,
			    const void *data, size_t size);

enum chunker_cut {
	CHUNKER_CUT_NONE, /* all bytes were taken, the chunk goes on */
	CHUNKER_CUT_FOUND,
	CHUNKER_CUT_FORCED,
};

/*
 * The same with a forced boundary: the stream offset at which chunks of an older archive are
 * put in (FORMAT.md, "Forced boundaries"), or NULL while there is none.  At a cut *chunk_size
 * is the size of the whole chunk, those already scanned included, and the chunker is reset.
 *
 * A forced chunk may have any size below size_max, even 0: then there is no chunk.  Afterwards
 * the caller puts in what belongs there, and its chunk_begin moves by the size of that, too.
 * `boundary` must not lie before `chunk_begin`.
 */
enum chunker_cut chunker_suggest_scan_forced(struct chunker_suggest *c, uint64_t chunk_begin,
					     size_t scanned, const void *data, size_t size,
					     const uint64_t *boundary, size_t *chunk_size);

#endif
