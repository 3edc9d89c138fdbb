/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fidx - read and write a fixed index: the equal-sized chunks that make up an image.
 *
 * Layout:  archive/FORMAT.md, "Fixed index".  4096-byte header, then a digest a chunk.
 * Owner:   struct fidx is embedded, plain data; borrows the file's bytes, which must outlive
 *          it.  Release a writer with fidx_writer_release().
 * Threads: immutable once open; any number of readers.
 * Trust:   the bytes are hostile; fidx_open() proves magic and sizes, and computes the checksum
 *          from the digests (the one in the header is not trusted).  The checksum does not
 *          cover the image's size: compare that with the manifest, too.
 */
#ifndef PXARFS_FIDX_H
#define PXARFS_FIDX_H

#include "archive/base/digest.h"
#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stddef.h>
#include <stdint.h>

enum {
	FIDX_HEADER_SIZE = 4096,
	FIDX_CHUNK_SIZE = 4 << 20, /* of every image the server knows */
};

extern const uint8_t FIDX_MAGIC[8];

struct fidx {
	const uint8_t *digests;
	size_t count; /* of chunks, >= 1 */
	uint64_t size; /* of the image, >= 1 */
	uint64_t chunk_size; /* a power of two, at most CHUNK_SIZE_MAX */
	struct digest csum; /* computed; compare with the manifest */
	uint8_t uuid[16];
	int64_t ctime;
};

/* -EBADMSG: no fixed index, or a damaged one. */
int fidx_open(struct fidx *out, const void *data, size_t size, struct err *err);

/* Chunk `i` (i < count) covers [*begin, *end) of the image; only the last may be shorter than
 * chunk_size. */
void fidx_chunk(const struct fidx *ix, size_t i, uint64_t *begin, uint64_t *end,
		struct digest *digest);

/* The chunk that holds byte `image_offset`.  -ERANGE: at or past the end. */
int fidx_find(const struct fidx *ix, uint64_t image_offset, size_t *chunk);

struct fidx_writer {
	struct wbuf bytes; /* header and digests so far */
	size_t count, count_expected;
};

/* `image_size` >= 1; `chunk_size` a power of two, at most CHUNK_SIZE_MAX.  -EINVAL otherwise. */
int fidx_writer_init(struct fidx_writer *w, const uint8_t uuid[16], int64_t ctime,
		     uint64_t image_size, uint64_t chunk_size, struct err *err);
void fidx_writer_release(struct fidx_writer *w);
DEFINE_AUTO_STRUCT(fidx_writer)

/* Add the next chunk, in the order of the image. */
int fidx_writer_add(struct fidx_writer *w, const struct digest *digest, struct err *err);

/* All chunks are there: compute the checksum and put it into the header; `bytes` is then the
 * whole file. */
int fidx_writer_finish(struct fidx_writer *w, struct digest *csum, struct err *err);

#endif
