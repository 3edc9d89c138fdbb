/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup_archive - one directory into a repository: a walk that feeds one stream, or a
 * metadata and a payload stream side by side.
 *
 * Errors:  a source that cannot be read is reported as the walk says it; a stream that cannot
 *          be stored as "upload failed: ERROR", and when both failed as "upload failed:
 *          META-ERROR - PAYLOAD-ERROR".  -ECANCELED: stopped.
 */
#ifndef PXARFS_BACKUP_ARCHIVE_H
#define PXARFS_BACKUP_ARCHIVE_H

#include "archive/catalog.h"
#include "client/backup/splice.h"
#include "client/fs/walk.h"

enum backup_stream_kind {
	BACKUP_STREAM_SINGLE,
	BACKUP_STREAM_META,
	BACKUP_STREAM_PAYLOAD,
	BACKUP_STREAM_CATALOG,
	BACKUP_STREAM_IMAGE,
	BACKUP_STREAM_BLOB, /* not chunked: in stats, stored_bytes and new_bytes count */
};

/* A file of the new snapshot, and what came of it. */
struct backup_stream {
	enum backup_stream_kind kind;
	char name[ARCHIVE_NAME_SIZE_MAX + 1]; /* as stored; set before any of it is written */
	struct upload_stats stats; /* may be read while it is written */
	struct splice_stats splice; /* of a payload, at the end */
	uint64_t size; /* at the end: as the manifest has it */
	struct digest csum;
};

/* Where all streams of a backup go. */
struct backup_target {
	struct upload_pool *pool;
	struct repo_writer *writer; /* NULL: dry run */
	const atomic_bool *stop; /* may be NULL */
};

/* The catalog, open from the first single-stream archive of a run to the last. */
struct backup_catalog;
int backup_catalog_new(struct backup_catalog **out, const struct backup_target *target,
		       struct backup_stream *stream, struct err *err);
int backup_catalog_finish(struct backup_catalog *c, struct err *err);
void backup_catalog_free(struct backup_catalog *c);
DEFINE_AUTO_PTR(backup_catalog)

struct backup_archive {
	struct backup_target target;
	size_t chunk_size_avg;
	/* Sinks, observer and split are filled in here. */
	const struct walk_params *walk;
	struct walk_stats *walk_stats;
	struct backup_stream *meta; /* or the single stream */
	struct backup_stream *payload; /* NULL: a single stream */
	const struct didx *previous_meta, *previous_payload; /* NULL: none */
	struct change *change; /* over the previous archive; NULL: every file is read */
	unsigned padding_percent_max; /* with `change` */
	struct backup_catalog *catalog; /* with a single stream; may be NULL */
};

int backup_archive_run(const struct backup_archive *a, struct err *err);

#endif
