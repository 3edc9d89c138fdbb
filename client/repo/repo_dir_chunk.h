/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_dir_chunk - chunk files: read, mark as in use, insert by the server's rules.
 *
 * Layout:  archive/FORMAT.md, "Inserting a chunk".  .chunks/abcd/abcd...: no index, the name
 *          is the digest.
 * Threads: any number, on the same chunk too: files are written under unique names and
 *          renamed over each other.
 */
#ifndef PXARFS_REPO_DIR_CHUNK_H
#define PXARFS_REPO_DIR_CHUNK_H

#include "archive/base/digest.h"
#include "client/repo/repo_dir_file.h"

/* Append the stored form to `out`.  -ENOENT: missing, the message names it and says whether
 * the server's verification set it aside. */
int repo_dir_chunk_read(int chunks_fd, const struct digest *digest, struct wbuf *out,
			struct err *err);

/* Read the stored form to `to` if it has exactly `size` bytes; 1: it has not.  -ENOENT as above. */
int repo_dir_chunk_read_exact(int chunks_fd, const struct digest *digest, void *to, size_t size,
			      struct err *err);

/* Set the access time, which keeps garbage collection away.  -ENOENT: missing or empty, put
 * it; -EBADMSG: not a regular file. */
int repo_dir_chunk_touch(int chunks_fd, const struct digest *digest, struct err *err);

/* How a session stores chunks. */
struct repo_dir_chunk_rules {
	/* Whose files' checksums are looked at before they are taken for granted: */
	bool doubts_all; /* damage was met */
	int64_t doubt_begin, doubt_end; /* of mtime, seconds since 1970: written in [begin, end) */

	bool syncs_each; /* fsync a chunk and its folder: the session's syncfs() will not do */
};

/* Store it, unless a file that will do is there: one of another size, or in doubt, only if its
 * checksum is right.  -EEXIST: an encrypted chunk would meet a plain one of the same name. */
int repo_dir_chunk_put(int chunks_fd, const struct digest *digest, const void *data, size_t size,
		       const struct repo_dir_chunk_rules *rules, const struct repo_dir_owner *o,
		       bool *duplicate, struct err *err);

#endif
