/* SPDX-License-Identifier: Apache-2.0 */
/*
 * didx - read a dynamic index: the ordered list of chunks that make up one stream.
 *
 * Layout:  archive/FORMAT.md, "Dynamic index".  4096-byte header, then 40 bytes a chunk.
 * Owner:   embedded, plain data; borrows the file's bytes, which must outlive it.
 * Threads: immutable once open; any number of readers.
 * Trust:   the bytes are hostile; didx_open() proves size, magic, and rising ends, and
 *          computes the checksum from the entries (the one in the header is not trusted).
 */
#ifndef PXARFS_DIDX_H
#define PXARFS_DIDX_H

#include "archive/base/digest.h"
#include "archive/base/err.h"

#include <stddef.h>
#include <stdint.h>

enum {
	DIDX_HEADER_SIZE = 4096,
	DIDX_ENTRY_SIZE = 40,
};

extern const uint8_t DIDX_MAGIC[8];

struct didx {
	const uint8_t *entries;
	size_t count; /* of chunks, >= 1 */
	uint64_t size; /* of the stream */
	struct digest csum; /* computed; compare with the manifest */
	uint8_t uuid[16];
	int64_t ctime;
};

/* -EBADMSG: no dynamic index, or a damaged one; a chunk over CHUNK_SIZE_MAX is refused. */
int didx_open(struct didx *out, const void *data, size_t size, struct err *err);

/* Chunk `i` (i < count) covers [*begin, *end) of the stream. */
void didx_chunk(const struct didx *ix, size_t i, uint64_t *begin, uint64_t *end,
		struct digest *digest);

/* The chunk that holds byte `stream_offset`.  O(log chunks).  -ERANGE: at or past the end. */
int didx_find(const struct didx *ix, uint64_t stream_offset, size_t *chunk);

#endif
