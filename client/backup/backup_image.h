/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup_image - one file or block device into a repository: a fixed index of chunks of
 * FIDX_CHUNK_SIZE.
 *
 * The pool's workers read, each its own chunk, so that the copy out of the page cache is spread
 * over the cores as the digests are; the calling thread asks the kernel for what comes
 * next.  Chunks that are holes are not read, chunks of zeros are recognised: their digest is
 * computed once.
 *
 * Size:    that at the beginning.  A source that ends before is an error; what it grows is left
 *          out, with a warning.
 * Memory:  a chunk for each worker, IMAGE_BUFFERS_MAX at most, of the pool's.
 * Errors:  named by path; -ECANCELED: stopped.
 */
#ifndef PXARFS_BACKUP_IMAGE_H
#define PXARFS_BACKUP_IMAGE_H

#include "archive/fidx.h"
#include "client/backup/backup_archive.h"

enum { BACKUP_IMAGE_BUFFERS_MAX = 16 };

struct backup_image {
	struct backup_target target;
	const char *path;
	struct backup_stream *stream;
	const struct fidx *previous; /* NULL: none */
	bool skip_read_errors; /* what cannot be read becomes zeros, and is reported */
	/* As the walk's; `lost` when the image is not what the source was. */
	void (*warn)(void *arg, bool lost, const char *message);
	void *warn_arg;
};

int backup_image_run(const struct backup_image *image, struct err *err);

#endif
