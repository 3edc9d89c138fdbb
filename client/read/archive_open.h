/* SPDX-License-Identifier: Apache-2.0 */
/*
 * archive_open - a snapshot's archive, or plain files, ready for reading; nothing fetched
 * early: opening reads the manifest and the metadata index (plain file: nothing); the root
 * comes with archive_tree(), the payload index with the first content that is asked for.
 *
 * Owner:   free with archive_free(), after every request on it has ended.
 * Threads: any number once open.
 */
#ifndef PXARFS_ARCHIVE_OPEN_H
#define PXARFS_ARCHIVE_OPEN_H

#include "archive/crypt.h"
#include "archive/tree.h"
#include "client/read/stream.h"
#include "client/repo/repo.h"

struct archive;

/* `typed` is "root.pxar" whatever the stored names.  The reader session is taken over on
 * success; `key` (NULL: none) is lent and must outlive the archive.  Verifies the manifest's
 * signature and key, then the index against it.  -ENOENT: no such archive; -ENOKEY: made with
 * a key, and none is given; -EKEYREJECTED: made with another; -EBADMSG: damaged, changed, or
 * not signed although there is a key. */
int archive_open(struct archive **out, struct fetch *fetch, struct repo_reader *reader,
		 const struct crypt_key *key, const char *typed, struct err *err);

/* The same in a session that goes on after it: reader and manifest, whose key and signature
 * have been checked, are lent and must outlive the archive. */
int archive_open_in(struct archive **out, struct fetch *fetch, struct repo_reader *reader,
		    const struct manifest *manifest, const struct crypt_key *key,
		    const char *typed, struct err *err);

/* A plain "X.pxar", or "X.mpxar" with "X.ppxar" beside it (or "X.pxar.meta" with
 * "X.pxar.pld"), which is looked for when content is read. */
int archive_open_file(struct archive **out, struct fetch *fetch, const char *path,
		      struct err *err);

/* Let its streams ask ahead of who reads in order, as stream_set_readahead() says.  Before the
 * archive is read. */
void archive_set_readahead(struct archive *a, uint64_t bytes);

/* Waits for loads in progress; abort the reader session first when they may hang. */
void archive_free(struct archive *a);
DEFINE_AUTO_PTR(archive)

const char *archive_display_name(const struct archive *a); /* "root.pxar", for messages */

/* The session, for repo_reader_abort(); NULL for plain files. */
struct repo_reader *archive_reader(struct archive *a);

/* Bytes it keeps: its indexes, as far as they are open. */
size_t archive_memory(const struct archive *a);

/* The metadata (or only) stream. */
struct stream *archive_meta(struct archive *a);

/* Blocking: fetches the root's head and tail on the first call. */
int archive_tree(struct archive *a, const struct tree **out, struct err *err);

/* Not blocking: -EAGAIN when `view` (of archive_meta()) misses a chunk. */
int archive_tree_try(struct archive *a, struct stream_view *view, const struct tree **out,
		     struct err *err);

/* The stream that holds file contents: version 1 the same as archive_meta().  The first call
 * opens and verifies the payload index, which blocks; a failure is tried again by the next.
 * The markers at both ends of the stream are not read: tree_payload_check() proves what is
 * used. */
int archive_payload(struct archive *a, struct stream **out, struct err *err);

/* Not blocking: -EAGAIN when the payload index is yet to be opened: archive_payload_wait(). */
int archive_payload_try(struct archive *a, struct stream **out, struct err *err);

/* Have it opened on a fetch thread.  wait->done is called when that has ended (perhaps before
 * this returns); on success with a chunk of no bytes, to be given up with chunk_unref(). */
void archive_payload_wait(struct archive *a, struct fetch_wait *wait);

/* Whether archive_payload() would not block. */
bool archive_payload_ready(struct archive *a);

#endif
