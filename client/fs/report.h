/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report - what a walk has to say about an entry: to the person who started it, or as the
 * error that ends it.
 *
 * Paths are those from the archive's root, "/a/b", "" for the root itself; they are shown
 * behind that of the source.
 */
#ifndef PXARFS_REPORT_H
#define PXARFS_REPORT_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdatomic.h>
#include <stdbool.h>

struct report {
	const char *source;
	void (*warn)(void *arg, bool lost, const char *message); /* may be NULL */
	void *warn_arg;
	bool skip_damage; /* what a damaged medium hides is left out, not fatal */
	atomic_uint_fast64_t *lost; /* counts what the archive lacks */
	struct wbuf shown, message;
};

void report_init(struct report *r);
void report_release(struct report *r);

__attribute__((format(printf, 4, 5))) void report_warn(struct report *r, const char *path,
						       bool lost, const char *format, ...);

/* The walk ends because of this entry; returns `rc`. */
int report_fatal(struct report *r, const char *path, int rc, struct err *err);

/* The entry cannot be read, `err` says why.  0: the walk goes on without it; or `rc`. */
int report_unreadable(struct report *r, const char *path, int rc, struct err *err);

#endif
