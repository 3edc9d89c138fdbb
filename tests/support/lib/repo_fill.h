/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_fill - streams, blobs and manifests for a repository in memory, from plain bytes.
 *
 * Whatever cannot be done ends the process: these are the tests' own bytes.
 */
#ifndef PXARFS_TESTS_REPO_FILL_H
#define PXARFS_TESTS_REPO_FILL_H

#include "tests/support/lib/repo_memory.h"

/* The chunk of these bytes, compressed if that helps; its digest. */
struct digest repo_fill_chunk(struct repo *r, const void *data, size_t size);

/* Cut a stream into chunks of `chunk_size` bytes (the last may be smaller), store them and the
 * index `name`, and list it in `m`. */
void repo_fill_stream(struct repo *r, const struct snapshot_name *snapshot, struct manifest *m,
		      const char *name, const void *data, size_t size, size_t chunk_size);

/* Store the manifest: the snapshot is finished. */
void repo_fill_manifest(struct repo *r, const struct snapshot_name *snapshot,
			const struct manifest *m);

/* host/test at 2027-01-15T08:00:00Z, in the root namespace. */
struct snapshot_name repo_fill_name(void);

/* A whole file from disk, to be freed. */
uint8_t *repo_fill_read(const char *path, size_t *size);

#endif
