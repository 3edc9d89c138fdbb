/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive_open - a snapshot's archive, or plain files, ready for reading; nothing fetched
 * early: opening reads the manifest and the metadata index (plain file: nothing but both
 * ends); the payload index comes with the first content that is asked for.
 *
 * Owner:   free with archive_free(), after every request on it has ended.
 * Threads: any number once open.
 */
#ifndef PXARFS_ARCHIVE_OPEN_H
#define PXARFS_ARCHIVE_OPEN_H

#include "archive/tree.h"
#include "client/read/stream.h"
#include "client/repo/repo.h"

struct archive;

/* `typed` is "root.pxar" whatever the stored names.  The reader session is taken over on
 * success.  Verifies the manifest and the index against it.  -ENOKEY: encrypted. */
int archive_open(struct archive **out, struct fetch *fetch, struct repo_reader *reader,
		 const char *typed, struct err *err);

/* A plain "X.pxar", or "X.mpxar" with "X.ppxar" beside it (found when content is read). */
int archive_open_file(struct archive **out, struct fetch *fetch, const char *path,
		      struct err *err);

void archive_free(struct archive *a);
DEFINE_AUTO_PTR(archive)

const char *archive_display_name(const struct archive *a); /* for messages */

/* The metadata (or only) stream. */
struct stream *archive_meta(struct archive *a);

/* Blocking: fetches the root's head and tail on the first call. */
int archive_tree(struct archive *a, const struct tree **out, struct err *err);

/* Not blocking: -EAGAIN when `view` (of archive_meta()) misses a chunk. */
int archive_tree_try(struct archive *a, struct stream_view *view, const struct tree **out,
		     struct err *err);

/* The stream that holds file contents: version 1 the same as archive_meta().  Opens (and
 * verifies) the payload index on the first call, which may block on the repository;
 * archive_payload_ready() says whether it still would. */
int archive_payload(struct archive *a, struct stream **out, struct err *err);
bool archive_payload_ready(struct archive *a);

#endif
