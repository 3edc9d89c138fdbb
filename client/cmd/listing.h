/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listing - entries of an archive as lines or as JSON on standard output.
 *
 * Text: names and targets as they are; on a terminal control characters, backslashes and what
 * is not UTF-8 as "\ooo".  Times are local.  Owner and group by the names they have here.
 *
 * JSON: one array of objects with "path" (no leading slash, the root is ""), "type" (file,
 * directory, symlink, block, char, fifo, socket), "mode" (type and permissions, octal digits),
 * "uid", "gid", "mtime" (seconds), "mtime_nsec", and where they apply "size", "target", "rdev"
 * ([major, minor]) and "hardlink" (true: a further name of a file before it).  A byte 0xNN that
 * is not part of a UTF-8 character is written as "\udcNN", which Python's os.fsencode() turns
 * back into that byte.
 *
 * Owner:   embedded; nothing to release.  Errors of standard output are left to its flush.
 * Threads: one.
 */
#ifndef PXARFS_CMD_LISTING_H
#define PXARFS_CMD_LISTING_H

#include "archive/tree.h"

#include <time.h>

enum { LISTING_NAME_CACHE_SIZE = 64, LISTING_OWNER_SIZE = 33 };

enum listing_format { LISTING_SHORT, LISTING_LONG, LISTING_JSON };

/* The name of a user or group id, once looked up. */
struct listing_owner {
	bool is_known;
	uint32_t id;
	char name[LISTING_OWNER_SIZE];
};

/* Columns of the long form: as wide as the widest row that was measured. */
struct listing_widths {
	int owner, group, size;
};

struct listing {
	enum listing_format format;
	bool numeric_ids;
	bool escapes; /* standard output is a terminal */
	uint64_t count; /* of rows printed */
	struct listing_widths widths;
	struct listing_owner users[LISTING_NAME_CACHE_SIZE];
	struct listing_owner groups[LISTING_NAME_CACHE_SIZE];
};

/* What is printed of an entry, its name left out. */
struct listing_row {
	uint64_t mode, size, device_major, device_minor;
	int64_t mtime_sec;
	uint32_t mtime_nsec;
	uint32_t uid, gid;
	bool has_acl, is_hardlink;
};

/* JSON: also prints the array's begin. */
void listing_init(struct listing *l, enum listing_format format, bool numeric_ids);

/* Print the array's end. */
void listing_finish(struct listing *l);

void listing_row_of(const struct tree_entry *e, struct listing_row *out);

/* Widen the columns for a row that will be printed. */
void listing_measure(struct listing *l, const struct listing_row *row);

/* One row.  `name` is what text shows, `path` (without a leading slash) what JSON shows; the
 * target is NULL but for symlinks. */
void listing_print(struct listing *l, const struct listing_row *row, const char *name,
		   const char *path, const char *target);

/* A name on its own, escaped as in rows. */
void listing_print_name(const struct listing *l, const char *name);

#endif
