/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_open - one snapshot, ready to give its archives, images and blobs: one reader
 * session, one manifest for all of them.
 *
 * Opening reads the manifest and looks whether there is a client log.  A snapshot that was made
 * with a key which is not at hand can be opened: what it lists may be told, none of it is
 * given out.
 *
 * Owner:   free with snapshot_open_free(), after all that was opened in it.
 * Threads: any number once open.
 * Errors:  -ENOENT: no such snapshot, or nothing of that name in it; -ENOKEY, -EKEYREJECTED:
 *          made with a key, and it is not given or another one; -EBADMSG: damaged or changed.
 */
#ifndef PXARFS_SNAPSHOT_OPEN_H
#define PXARFS_SNAPSHOT_OPEN_H

#include "archive/base/wbuf.h"
#include "client/read/archive_open.h"

struct snapshot_open;

/* `key` (NULL: none) is lent and must outlive it.  A snapshot that was made without a key is
 * opened without, whatever key is at hand; only its log may be encrypted all the same. */
int snapshot_open_new(struct snapshot_open **out, struct fetch *fetch, struct repo *repo,
		      const struct snapshot_name *name, const struct crypt_key *key,
		      struct err *err);
void snapshot_open_free(struct snapshot_open *s);
DEFINE_AUTO_PTR(snapshot_open)

/* Calls in progress and to come fail soon. */
void snapshot_open_abort(struct snapshot_open *s);

/* What it lists; of a snapshot whose key is not at hand, as it claims. */
const struct manifest *snapshot_open_manifest(const struct snapshot_open *s);
bool snapshot_open_has_log(const struct snapshot_open *s);

/* The manifest's text, as it is stored. */
const struct wbuf *snapshot_open_text(const struct snapshot_open *s);

/* 0, or why nothing of it can be given out: -ENOKEY, -EKEYREJECTED. */
int snapshot_open_locked(const struct snapshot_open *s, struct err *err);

/* "root.pxar", whatever the stored names. */
int snapshot_open_archive(struct snapshot_open *s, const char *typed, struct archive **out,
			  struct err *err);

/* What an index lists, as bytes: `stored` is "disk.img.fidx" or "catalog.pcat1.didx". */
int snapshot_open_stream(struct snapshot_open *s, const char *stored, struct stream **out,
			 struct err *err);

/* Append a blob's plain bytes: `stored` is "etc.conf.blob", the manifest, or the client log. */
int snapshot_open_blob(struct snapshot_open *s, const char *stored, struct wbuf *out,
		       struct err *err);

#endif
