/* SPDX-License-Identifier: Apache-2.0 */
/*
 * splice - takes over the content of unchanged files with the chunks that hold it: between a
 * walk (walk_reuse), what is known of the older archive (change), the decisions (reuse), and
 * the payload's upload.
 *
 * A chunk is marked as in use before it is decided that files in it are not read; one that is
 * gone makes its files changed ones.
 *
 * An injected chunk stays pending until it is known whether the next file goes on in it, so
 * that references never point before the encoder's position.  An old stream's first chunk
 * brings its own start marker, and the last one its tail marker: where the new stream begins
 * or ends with them none is written.  So a stream in which nothing changed is the same again,
 * chunk by chunk, and so are the references to it.
 *
 * Owner:   free with splice_free(), after the walk.
 * Threads: one.
 */
#ifndef PXARFS_SPLICE_H
#define PXARFS_SPLICE_H

#include "client/backup/change.h"
#include "client/backup/reuse.h"
#include "client/backup/upload.h"
#include "client/fs/walk.h"

/* What came of it, complete once the walk is over.  Chunks are counted in upload_stats. */
struct splice_stats {
	uint64_t padding_bytes; /* in injected chunks, of no use */
	uint64_t partial_chunks; /* injected ones that have such bytes */
	uint64_t gone_chunks; /* would have been injected, but are not there any more */
};

struct splice_params {
	struct change *change;
	const struct didx *old; /* payload index of the older archive */
	unsigned padding_percent_max;
	struct upload *payload;
	struct splice_stats *stats; /* zeroed; outlives the splice */
};

struct splice;
int splice_new(struct splice **out, const struct splice_params *params, struct err *err);
void splice_free(struct splice *s);
DEFINE_AUTO_PTR(splice)

/* For walk_params; lives as long as the splice. */
const struct walk_reuse *splice_hooks(struct splice *s);

/* The encoder's payload sink; `arg` is the splice. */
int splice_write(void *splice, const void *data, size_t size, struct err *err);

#endif
