/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_conformance - what every backend must do: one suite, run against each.
 */
#ifndef PXARFS_TESTS_REPO_CONFORMANCE_H
#define PXARFS_TESTS_REPO_CONFORMANCE_H

#include "client/repo/repo.h"

struct repo_conformance {
	const char *name; /* "repo_dir" */
	struct repo *(*make)(void); /* an empty repository that can be written */
	void (*unmake)(struct repo *r); /* frees it, too */
	bool owner_is_login; /* who owns a new group is not the caller's to say */
};

/* Runs the suite as a group of cmocka tests; returns the number of failures. */
int repo_conformance_run(const struct repo_conformance *backend);

/* The part of it that is about images. */
int repo_conformance_image_run(const struct repo_conformance *backend);

/* --- small backups, for tests of a backend's own --- */

enum { REPO_CONFORMANCE_CHUNK_COUNT = 6, REPO_CONFORMANCE_CHUNK_SIZE = 5000 };

/* Stored form and digest of a chunk that depends on `seed` alone. */
void repo_conformance_chunk(unsigned seed, struct wbuf *stored, struct digest *digest);

struct snapshot_name repo_conformance_name(const char *group, const char *ns, int64_t time);

/* Open a session of owner root@pam, or of another. */
int repo_conformance_begin(struct repo *r, const struct snapshot_name *name,
			   struct repo_writer **out, struct err *err);
int repo_conformance_begin_as(struct repo *r, const struct snapshot_name *name,
			      const char *owner, struct repo_writer **out, struct err *err);

/* Chunks `seed` to `seed` + 5 into root.mpxar.didx and root.ppxar.didx, and a blob; then the
 * manifest. */
int repo_conformance_store(struct repo_writer *w, struct manifest *m, unsigned seed,
			   struct err *err);
int repo_conformance_finish(struct repo_writer *w, const struct manifest *m, struct err *err);

/* All of it. */
int repo_conformance_backup(struct repo *r, const struct snapshot_name *name, unsigned seed,
			    struct err *err);

/* Read such a backup whole and compare. */
int repo_conformance_check(struct repo *r, const struct snapshot_name *name, unsigned seed,
			   struct err *err);

/* Finished and unfinished snapshots of a group. */
void repo_conformance_count(struct repo *r, const struct snapshot_group *g, int *finished,
			    int *unfinished);

#endif
