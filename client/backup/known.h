/* SPDX-License-Identifier: Apache-2.0 */
/*
 * known - the chunks that need not be stored: those of previous indexes and those that this
 * run has stored itself.
 *
 * A worker *claims* the digest of a chunk before it stores or reuses it and *settles* it
 * afterwards; meanwhile others who hold the same chunk wait, so each chunk is stored once and
 * nobody writes an index entry for one that is not there yet.
 *
 *	(absent) --known_add--> BEFORE          settled: stored -> STORED
 *	(absent) --claim--> claimed             settled: failed -> absent again
 *	BEFORE   --claim--> claimed
 *
 * Owner:   free with known_set_free().  About 50 bytes a digest.
 * Threads: any number; a waiting claim holds nothing that the claimant could need.
 * Trust:   digests come from hostile indexes too: places in the table are keyed by a secret.
 */
#ifndef PXARFS_KNOWN_H
#define PXARFS_KNOWN_H

#include "archive/base/digest.h"
#include "archive/base/err.h"

enum known {
	KNOWN_NEW, /* claimed by the caller: never seen */
	KNOWN_BEFORE, /* claimed by the caller: a previous index has it */
	KNOWN_STORED, /* nothing to do: this run has stored or reused it */
};

struct known_set;
int known_set_new(struct known_set **out, struct err *err);
void known_set_free(struct known_set *k);
DEFINE_AUTO_PTR(known_set)

/* A previous index has this chunk.  -ENOMEM. */
int known_add(struct known_set *k, const struct digest *digest);

/* Chunks of previous indexes are not taken for known any more, but for what this run has stored or
 * reused by now. */
void known_forget(struct known_set *k);

/* -ENOMEM. */
int known_claim(struct known_set *k, const struct digest *digest, enum known *out);
void known_settle(struct known_set *k, const struct digest *digest, bool stored);

#endif
