/* SPDX-License-Identifier: Apache-2.0 */
/*
 * match - include and exclude patterns over archive paths.
 *
 * Layout:  archive/FORMAT.md, "Patterns", which also names the bugs of the official client
 *          that are left out here.
 * Owner:   a list is embedded; release with match_list_release().
 * Threads: a list may be read by many while nobody changes it.
 * Trust:   patterns come from files anybody may have written (.pxarexclude): length and count
 *          are bounded, matching takes at most O(pattern * text) steps and no memory.
 */
#ifndef PXARFS_MATCH_H
#define PXARFS_MATCH_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MATCH_PATTERN_SIZE_MAX = 16384,
	MATCH_PATTERN_COUNT_MAX = 65536, /* in one list */
	MATCH_LIST_SIZE_MAX = 8 << 20, /* bytes of all patterns of one list */
};

/* struct match_pattern.slash_count of a pattern that may match any number of slashes. */
#define MATCH_SLASHES_VARY SIZE_MAX

enum match_result { MATCH_NONE, MATCH_INCLUDE, MATCH_EXCLUDE };

struct match_pattern {
	char *glob; /* NUL-terminated, as parsed: no '!', no trailing slashes */
	bool include;
	bool directories_only;
	bool anchored; /* must match all of the path from byte `base_size` on */
	size_t base_size; /* of "/DIR", the folder whose file holds the pattern */
	/* Found by parsing, to match faster: */
	size_t skip; /* what the glob begins with and may as well be without */
	size_t slash_count; /* in every text that glob + skip matches */
};

struct match_list {
	struct match_pattern *patterns;
	size_t count, capacity;
	size_t glob_bytes;
};

void match_list_release(struct match_list *l);
DEFINE_AUTO_STRUCT(match_list)

/* Append one pattern as given on a command line ("!" makes it an include).
 * -EINVAL: does not parse, -E2BIG: the list is full; nothing is added then. */
int match_list_add(struct match_list *l, const char *pattern, struct err *err);

/* Append the lines of a .pxarexclude file found in directory `dir_path` ("" for the root,
 * else without a leading slash).  Until they are truncated away only paths below that
 * directory may be asked for: its name is not compared again.  A line that does not parse is
 * left out; `*bad` then counts it and `err` holds the last one's reason.
 * Returns 0, -ENOMEM or -E2BIG. */
int match_list_add_file(struct match_list *l, const char *dir_path, const void *text,
			size_t size, size_t *bad, struct err *err);

/* Drop all patterns from index `count` on (leaving a directory). */
void match_list_truncate(struct match_list *l, size_t count);

/* What the list says of "/path/from/the/archive/root": the last pattern that matches. */
enum match_result match_list_apply(const struct match_list *l, const char *path,
				   bool is_directory);

/* The text that records command-line patterns in an archive, one line each. */
int match_list_text(const struct match_list *l, struct wbuf *out);

#endif
