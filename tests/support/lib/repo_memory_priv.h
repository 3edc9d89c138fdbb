/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_memory_priv - what the files of repo_memory share.
 *
 * Locks: m->lock guards everything reachable from struct repo_memory, and the fields of all
 *        sessions.
 */
#ifndef PXARFS_TESTS_REPO_MEMORY_PRIV_H
#define PXARFS_TESTS_REPO_MEMORY_PRIV_H

#include "tests/support/lib/repo_memory.h"

#include <pthread.h>

struct memory_file {
	struct memory_file *next;
	char *name;
	uint8_t *data;
	size_t size;
};

struct memory_snapshot {
	struct memory_snapshot *next;
	struct snapshot_name name;
	struct memory_file *files;
	bool is_protected;
};

struct memory_group {
	struct memory_group *next;
	struct snapshot_group name;
	char owner[256];
	bool locked; /* by a writer */
};

struct memory_chunk {
	struct memory_chunk *next;
	struct digest digest;
	uint8_t *data;
	size_t size;
};

struct memory_chunks {
	struct memory_chunk *buckets[4096];
	size_t count;
};

struct memory_ns {
	struct memory_ns *next;
	char name[SNAPSHOT_NS_SIZE_MAX + 1];
};

/* A match with its own copies. */
struct memory_match {
	enum repo_memory_call call;
	char *file; /* NULL: any */
	bool any_chunk;
	struct digest chunk;
};

struct memory_fault {
	struct memory_fault *next;
	struct memory_match match;
	enum repo_memory_damage damage;
	size_t value, skip, count;
	bool endless;
};

struct repo_memory_gate {
	struct repo_memory_gate *next;
	struct repo_memory *memory;
	struct memory_match match;
	bool is_open;
	size_t waiting, passes;
};

struct memory_record {
	enum repo_memory_call call;
	const char *file; /* one of m->names, or NULL */
	struct digest chunk;
};

struct repo_memory {
	struct repo base; /* first: the interface casts */
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed; /* counts, gates, gone, aborts */
	struct memory_ns *namespaces;
	struct memory_group *groups;
	struct memory_snapshot *snapshots, *removed;
	struct memory_chunks chunks;

	struct memory_fault *faults;
	struct repo_memory_gate *gates;
	bool gone;

	struct memory_record *records;
	size_t record_count, record_capacity;
	struct memory_file *names; /* of files in records */
	uint64_t bytes_read;
};

static inline struct repo_memory *memory_of(struct repo *r)
{
	return (struct repo_memory *)r;
}

/* Memory or the end. */
void *memory_alloc(size_t size);
void *memory_copy(const void *data, size_t size);

struct memory_chunk *memory_chunk_find(struct memory_chunks *chunks, const struct digest *d);
void memory_chunk_put(struct memory_chunks *chunks, const struct digest *d, const void *data,
		      size_t size);
void memory_chunks_release(struct memory_chunks *chunks);

struct memory_file *memory_file_find(struct memory_file *files, const char *name);
void memory_file_put(struct memory_file **files, const char *name, const void *data,
		     size_t size);
void memory_files_free(struct memory_file *files);

bool memory_ns_exists(struct repo_memory *m, const char *ns);
struct memory_group *memory_group_find(struct repo_memory *m, const struct snapshot_group *g);
struct memory_group *memory_group_get(struct repo_memory *m, const struct snapshot_group *g);
void memory_group_drop_empty(struct repo_memory *m, struct memory_group *g);
struct memory_snapshot *memory_snapshot_find(struct repo_memory *m,
					     const struct snapshot_name *name);
struct memory_snapshot *memory_snapshot_get(struct repo_memory *m,
					    const struct snapshot_name *name);
bool memory_is_finished(const struct memory_snapshot *s);
bool memory_same_group(const struct snapshot_group *a, const struct snapshot_group *b);

/* What a call does to the bytes it reads. */
struct memory_effect {
	size_t size_max;
	bool flip;
	size_t flip_at;
};

/* The steps of every call (repo_memory.h), under m->lock, which is released while it stands at
 * a gate.  `aborted` may be NULL. */
int memory_enter(struct repo_memory *m, const bool *aborted, enum repo_memory_call call,
		 const char *file, const struct digest *chunk, struct memory_effect *effect,
		 struct err *err);

/* Append to `out` what the effect leaves of the bytes. */
int memory_deliver(struct repo_memory *m, const struct memory_effect *effect, const void *data,
		   size_t size, struct wbuf *out, struct err *err);
int memory_deliver_file(struct repo_memory *m, const struct memory_effect *effect,
			const struct memory_file *file, struct repo_file *out, struct err *err);

void memory_script_release(struct repo_memory *m);

/* struct repo_ops: put_log and write. */
int memory_put_log(struct repo *r, const struct snapshot_name *name, const void *data, size_t size,
		   struct err *err);
int memory_write(struct repo *r, const struct repo_writer_params *params,
		 struct repo_writer **out, struct err *err);

#endif
