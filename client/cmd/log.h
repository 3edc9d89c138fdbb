/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log - messages for a person, on standard error (or the journal's priority prefixes), or to
 * syslog for a program that has no standard error any more.
 *
 * Level: $PXARFS_LOG, else $PBS_LOG: error, warn, info (default), debug;
 * off is error, trace is debug.
 * Trust:   messages may hold hostile names: control characters are printed as '?'.
 * Threads: any number; a message is one write.
 */
#ifndef PXARFS_LOG_H
#define PXARFS_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From now on a message for which standard error has no room (a pipe that nobody reads) is dropped; the
 * next one that fits follows on how many were.  Before other threads start to log. */
void log_never_wait(void);

/* From now on to syslog, as "pxarfs[PID]"; what it has no room for is dropped in the same way. */
void log_to_syslog(void);

#endif
