/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_rate - a writer session that is held back: so many stored bytes a second and no more.
 *
 * What is put (chunks, blobs, the manifest) waits before it goes, what is got of the previous
 * snapshot before the next is asked for; each direction has a bucket of its own.
 */
#ifndef PXARFS_REPO_RATE_H
#define PXARFS_REPO_RATE_H

#include "client/repo/repo.h"

#include <stdatomic.h>

struct repo_rate {
	uint64_t rate; /* bytes a second, at least 1 */
	uint64_t burst; /* after a rest so many at once */
	const atomic_bool *stop; /* may be NULL; true ends waits with -ECANCELED */
};

/* `*w` becomes the session that is held back, and owns the one it was.  -ENOMEM. */
int repo_rate_limit(struct repo_writer **w, const struct repo_rate *rate, struct err *err);

#endif
