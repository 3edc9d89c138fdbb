/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot - the names of namespaces, groups and snapshots: what users type, what the
 * datastore's paths are.
 *
 * Layout:  archive/FORMAT.md, "Names".
 */
#ifndef PXARFS_SNAPSHOT_H
#define PXARFS_SNAPSHOT_H

#include "archive/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	SNAPSHOT_NS_SIZE_MAX = 256,
	SNAPSHOT_NS_DEPTH_MAX = 7,
	SNAPSHOT_ID_SIZE_MAX = 255,
	SNAPSHOT_TIME_TEXT_SIZE = 21, /* "2027-01-15T08:00:02Z" and NUL */
	/* "ns/a/ns/b/host/ID/TIME" and NUL */
	SNAPSHOT_PATH_SIZE = 2 * SNAPSHOT_NS_SIZE_MAX + SNAPSHOT_ID_SIZE_MAX + 32,
};

struct snapshot_group {
	char ns[SNAPSHOT_NS_SIZE_MAX + 1]; /* "prod/eu"; "" is the root namespace */
	char type[5]; /* "host", "vm", "ct" */
	char id[SNAPSHOT_ID_SIZE_MAX + 1];
};

struct snapshot_name {
	struct snapshot_group group;
	int64_t time; /* Unix seconds, >= 1 */
};

/* [A-Za-z0-9_][A-Za-z0-9._-]*, the grammar of ids, namespace components and file names. */
bool snapshot_is_safe_id(const char *text);

/* "host", "vm" and "ct"; all of them in the order of lists, NULL behind the last. */
bool snapshot_is_type(const char *text);
const char *snapshot_type(unsigned i);

/* Check and copy "a/b/c" ("" is the root). */
int snapshot_ns_parse(const char *text, char ns[SNAPSHOT_NS_SIZE_MAX + 1], struct err *err);

/* "TYPE/ID" in namespace `ns` (NULL: the root).  -EINVAL says what was expected. */
int snapshot_group_parse(const char *text, const char *ns, struct snapshot_group *out,
			 struct err *err);

/* What a user types: "TYPE/ID/TIME", "TYPE/ID/latest" or "TYPE/ID".  The last two leave
 * `*latest` true and out->time 0: repo_resolve() finds the time. */
int snapshot_parse(const char *text, const char *ns, struct snapshot_name *out, bool *latest,
		   struct err *err);

/* "2027-01-15T08:00:02Z"; -EINVAL before 1970-01-01T00:00:01Z and after the year 9999. */
int snapshot_time_format(int64_t time, char out[SNAPSHOT_TIME_TEXT_SIZE]);

/* Exactly that form and a date that exists, else -EINVAL. */
int snapshot_time_parse(const char *text, int64_t *time);

/* Paths below the datastore: "ns/a/ns/b", "ns/a/host/ID", "ns/a/host/ID/TIME".  `size` is
 * SNAPSHOT_PATH_SIZE or more; the names are checked ones. */
void snapshot_ns_path(const char *ns, char *out, size_t size);
void snapshot_group_path(const struct snapshot_group *g, char *out, size_t size);
void snapshot_path(const struct snapshot_name *s, char *out, size_t size);

/* The order of groups in lists (namespace, type, ids that are numbers numerically and first),
 * snapshots by time after that. */
int snapshot_group_compare(const struct snapshot_group *a, const struct snapshot_group *b);
int snapshot_compare(const struct snapshot_name *a, const struct snapshot_name *b);

#endif
