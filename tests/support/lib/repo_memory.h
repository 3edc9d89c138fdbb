/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_memory - a repository in memory, which stalls, fails and lies on script, and counts what
 * it is asked for.
 *
 * It is a whole backend that passes repo_conformance.h as any other.  What a test adds is
 * told by events, never by time: a gate stops calls until the test opens it, and the test can
 * wait until so many calls stand before it.
 *
 * Each call goes through the same steps: it is counted; stops at the gates that match it; fails
 * with -ECANCELED when its session was aborted, with -EIO when the store is gone; then the
 * oldest fault that matches it, has skipped its share and is not used up takes effect.
 *
 * Owner:   repo_free(), which frees gates too.  Without memory the process ends.
 * Threads: any number; all state is guarded by one lock, held while a call works, not while it
 *          stands at a gate.
 */
#ifndef PXARFS_TESTS_REPO_MEMORY_H
#define PXARFS_TESTS_REPO_MEMORY_H

#include "client/repo/repo.h"

struct repo *repo_memory_new(void);

/* --- content, past the sessions --- */

/* Namespaces, groups and snapshots appear with what is in them; a snapshot with its manifest
 * is finished.  An existing file is replaced. */
void repo_memory_add_ns(struct repo *r, const char *ns);
void repo_memory_add_file(struct repo *r, const struct snapshot_name *snapshot,
			  const char *name, const void *data, size_t size);
void repo_memory_add_chunk(struct repo *r, const struct digest *digest, const void *stored,
			   size_t size);
void repo_memory_remove_chunk(struct repo *r, const struct digest *digest);
bool repo_memory_has_chunk(struct repo *r, const struct digest *digest);
size_t repo_memory_chunk_count(struct repo *r);

/* The file as it is stored, NULL: none.  Valid until it is replaced. */
const void *repo_memory_file(struct repo *r, const struct snapshot_name *snapshot,
			     const char *name, size_t *size);

/* Forget a snapshot; sessions that have it open go on. */
void repo_memory_remove_snapshot(struct repo *r, const struct snapshot_name *snapshot);
void repo_memory_set_protected(struct repo *r, const struct snapshot_name *snapshot);

/* A finished snapshot of another repository, with all chunks of its indexes. */
int repo_memory_copy(struct repo *r, struct repo *from, const struct snapshot_name *snapshot,
		     struct err *err);

/* --- which calls --- */

enum repo_memory_call {
	REPO_MEMORY_GET_FILE, /* of a reader, and of a writer's previous snapshot */
	REPO_MEMORY_GET_CHUNK,
	REPO_MEMORY_REUSE_CHUNK,
	REPO_MEMORY_PUT_CHUNK,
	REPO_MEMORY_PUT_BLOB,
	REPO_MEMORY_INDEX_OPEN,
	REPO_MEMORY_INDEX_CLOSE,
	REPO_MEMORY_FINISH,
	REPO_MEMORY_PUT_LOG,
	REPO_MEMORY_LIST,
	REPO_MEMORY_OPEN, /* a session */
};

/* All calls of a kind, or those that name this file or this chunk. */
struct repo_memory_match {
	enum repo_memory_call call;
	const char *file; /* NULL: any; copied */
	const struct digest *chunk; /* NULL: any; copied */
};

/* --- gates --- */

struct repo_memory_gate;

/* A closed gate before the calls that match. */
struct repo_memory_gate *repo_memory_gate(struct repo *r, const struct repo_memory_match *match);

/* Wait until `count` calls stand before it. */
void repo_memory_gate_await(struct repo_memory_gate *g, size_t count);

/* Let `count` calls through, those that stand there or the next to come. */
void repo_memory_gate_let(struct repo_memory_gate *g, size_t count);

void repo_memory_gate_open(struct repo_memory_gate *g); /* for good */
void repo_memory_gate_close(struct repo_memory_gate *g); /* again */

/* --- faults --- */

enum repo_memory_damage {
	REPO_MEMORY_FAIL, /* with -value */
	REPO_MEMORY_TRUNCATE, /* what is read to its first `value` bytes */
	REPO_MEMORY_FLIP, /* the lowest bit of byte `value` of what is read */
};

struct repo_memory_fault {
	struct repo_memory_match match;
	enum repo_memory_damage damage;
	size_t value;
	size_t skip; /* so many calls go well first */
	size_t count; /* then so many do not; 0: all */
};

void repo_memory_add_fault(struct repo *r, const struct repo_memory_fault *fault);
void repo_memory_heal(struct repo *r); /* forget all faults */

/* The store is gone, as when a cable is pulled: every call fails with -EIO, those at gates
 * too; and it is back. */
void repo_memory_set_gone(struct repo *r, bool gone);

/* --- what was asked for --- */

/* Calls that began. */
size_t repo_memory_count(struct repo *r, const struct repo_memory_match *match);
size_t repo_memory_distinct_chunks(struct repo *r); /* asked for with GET_CHUNK */
uint64_t repo_memory_bytes_read(struct repo *r); /* of files and chunks, as stored */

/* Wait until `count` such calls have begun. */
void repo_memory_await(struct repo *r, const struct repo_memory_match *match, size_t count);
void repo_memory_forget_counts(struct repo *r);

#endif
