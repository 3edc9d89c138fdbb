/* SPDX-License-Identifier: Apache-2.0 */
/*
 * didx_writer - build a dynamic index, chunk by chunk, in memory.
 *
 * Layout:  archive/FORMAT.md, "Dynamic index".
 * Owner:   embedded; release with didx_writer_release().  40 bytes a chunk.
 */
#ifndef PXARFS_DIDX_WRITER_H
#define PXARFS_DIDX_WRITER_H

#include "archive/didx.h"
#include "archive/base/wbuf.h"

struct didx_writer {
	struct wbuf bytes; /* header and entries so far */
	uint64_t size; /* stream offset behind the last chunk */
	size_t count;
};

int didx_writer_init(struct didx_writer *w, const uint8_t uuid[16], int64_t ctime,
		     struct err *err);
void didx_writer_release(struct didx_writer *w);
DEFINE_AUTO_STRUCT(didx_writer)

/* Add the next chunk of `chunk_size` plain bytes, 1..CHUNK_SIZE_MAX. */
int didx_writer_add(struct didx_writer *w, uint64_t chunk_size, const struct digest *digest,
		    struct err *err);

/* Compute the checksum and put it into the header; `bytes` is then the whole file. */
int didx_writer_finish(struct didx_writer *w, struct digest *csum, struct err *err);

#endif
