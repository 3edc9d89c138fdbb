/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics - keeps a text file up to date, for those who collect numbers: written now, again and
 * again, and at the end; always whole (a temporary file beside it gets its name).
 *
 * A thread of its own writes, so a file system that hangs stops nothing else.
 *
 * Owner:   metrics_stop(), metrics_join(), then metrics_free().
 */
#ifndef PXARFS_METRICS_H
#define PXARFS_METRICS_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"

#include <stdbool.h>

enum {
	METRICS_INTERVAL_MS = 10000,
	METRICS_TEXT_SIZE_MAX = 64 << 10,
};

struct metrics_params {
	const char *path; /* absolute; lent */
	unsigned interval_ms;
	/* Append the text; `up`: false for the last time.  On the thread, and once inside
	 * metrics_new(). */
	int (*text)(void *arg, bool up, struct wbuf *out);
	void *arg;
	/* Told when writing begins to fail, once until it works again; may be NULL. */
	void (*warn)(const char *text);
};

struct metrics;

/* Writes the file for the first time, and fails when that does not work. */
int metrics_new(struct metrics **out, const struct metrics_params *params, struct err *err);

/* Write now, not in time.  Does not wait. */
void metrics_now(struct metrics *m);

/* Write for the last time.  Does not wait. */
void metrics_stop(struct metrics *m);

/* Whether that was done within `wait_ms`; if not, it must not be freed. */
bool metrics_join(struct metrics *m, unsigned wait_ms);

void metrics_free(struct metrics *m);
DEFINE_AUTO_PTR(metrics)

#endif
