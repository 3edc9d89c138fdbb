/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index_writer - build an index of either kind: dynamic for a stream, fixed for an image.
 *
 * What a backend holds for an index that is being made; didx_writer.h and fidx.h do the work.
 *
 * Owner:   embedded; release with index_writer_release().
 */
#ifndef PXARFS_INDEX_WRITER_H
#define PXARFS_INDEX_WRITER_H

#include "archive/didx_writer.h"
#include "archive/fidx.h"

struct index_writer {
	bool is_fixed;
	struct didx_writer didx; /* unless is_fixed */
	struct fidx_writer fidx; /* if is_fixed */
	uint64_t size; /* bytes that the chunks so far hold */
	uint64_t image_size; /* if is_fixed */
};

/* `image_size` 0: a dynamic index.  Otherwise a fixed one of chunks of FIDX_CHUNK_SIZE. */
int index_writer_init(struct index_writer *w, const uint8_t uuid[16], int64_t ctime,
		      uint64_t image_size, struct err *err);
void index_writer_release(struct index_writer *w);
DEFINE_AUTO_STRUCT(index_writer)

/* Add the next chunk.  -EINVAL: one cannot have that size there. */
int index_writer_add(struct index_writer *w, uint64_t chunk_size, const struct digest *digest,
		     struct err *err);

/* All chunks are there: size (of stream or image) and checksum as the manifest has them.
 * -EINVAL: there are none, or not all of an image's. */
int index_writer_finish(struct index_writer *w, uint64_t *size, struct digest *csum,
			struct err *err);

/* After index_writer_finish(): the whole file, as long as the writer is not released. */
const struct wbuf *index_writer_bytes(const struct index_writer *w);

#endif
