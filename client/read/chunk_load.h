/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk_load - one chunk of an index: got from the cache on disk or the repository, decoded, proved.
 *
 * Threads: on a fetch thread, with what that one owns.
 * Trust:   the stored form is hostile, whoever has it; what is wrong with one on disk is the
 *          repository's to make good.
 */
#ifndef PXARFS_CHUNK_LOAD_H
#define PXARFS_CHUNK_LOAD_H

#include "client/read/fetch.h"
#include "client/read/readahead.h"
#include "client/repo/repo.h"

/* Fill `chunk` with the bytes whose digest is worker->digest.  `key`: the index is of encrypted
 * chunks; NULL: of plain ones; either refuses the other with -EBADMSG.  *costs: what it took;
 * 1: it was on disk, and took nothing that says anything of the repository.  Sets worker->keep.  Other
 * errors are those of repo_reader_get_chunk() and blob_decode_chunk(). */
int chunk_load(struct fetch_worker *worker, struct repo_reader *reader,
	       const struct crypt_key *key, struct chunk *chunk, struct readahead_costs *costs,
	       struct err *err);

#endif
