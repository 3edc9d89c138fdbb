/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress - how far a backup is: a line that is rewritten on a terminal, one line a minute
 * otherwise.  On standard error.
 *
 * Plain text without colours, so NO_COLOR changes nothing.
 *
 * Owner:   progress_stop() ends the thread and frees; the backup outlives it.
 * Threads: progress_message() from any; a message and the line never mix.
 */
#ifndef PXARFS_PROGRESS_H
#define PXARFS_PROGRESS_H

#include "client/backup/backup.h"
#include "client/cmd/log.h"

struct progress;

/* NULL when there is no memory or no thread for it: a backup does without. */
struct progress *progress_start(struct backup *b);
void progress_stop(struct progress *p);

/* A log message of this level beside the line; `p` may be NULL. */
void progress_message(struct progress *p, enum log_level level, const char *text);

/* The line itself, for tests: "1.5 GiB of about 5.1 GiB, 12345 files, 250.0 MiB/s, 99% reused,
 * 0:14 left".  `elapsed_ms` > 0 gives the rate. */
void progress_format(const struct backup_progress *now, uint64_t elapsed_ms, char *out,
		     size_t size);

#endif
