/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/log.h"

#include "client/cmd/text.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

enum { LINE_SIZE_MAX = 4096 }; /* PIPE_BUF: a pipe takes a line whole, or has no room for it */

static bool to_syslog, never_waits;

/* Where it never waits. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below, and between look and write */
static unsigned long dropped;

static enum log_level level_from_environment(void)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	const char *text = getenv("PXARFS_LOG");

	if (!text)
		text = getenv("PBS_LOG");
	if (!text)
		return LOG_LEVEL_INFO;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcasecmp(text, names[i]) == 0)
			return (enum log_level)i;
	/* What the official client has besides; it tells of errors even when off. */
	if (strcasecmp(text, "off") == 0)
		return LOG_LEVEL_ERROR;
	return strcasecmp(text, "trace") == 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

/* systemd reads "<N>" at a line's start as its priority when standard error is the journal. */
static const char *journal_prefix(enum log_level level)
{
	static const char *const prefixes[] = { "<3>", "<4>", "<6>", "<7>" };

	return getenv("JOURNAL_STREAM") && !isatty(STDERR_FILENO) ? prefixes[level] : "";
}

static int syslog_priority(enum log_level level)
{
	static const int priorities[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

	return priorities[level];
}

void log_to_syslog(void)
{
	openlog("pxarfs", LOG_PID | LOG_CONS, LOG_DAEMON);
	to_syslog = true;
}

void log_never_wait(void)
{
	never_waits = true;
}

/* Not O_NONBLOCK: others have the same open file, and may not be prepared for that. */
static bool has_room(void)
{
	struct pollfd fd = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&fd, 1, 0) != 0;
}

/* Nobody is left to tell when standard error itself is gone. */
static void put(const char *line, size_t size)
{
	if (write(STDERR_FILENO, line, size) < 0)
		return;
}

static void put_if_room(const char *line, size_t size)
{
	char lost[128];
	int n;

	pthread_mutex_lock(&lock);
	if (dropped > 0 && has_room()) {
		n = snprintf(lost, sizeof(lost), "%spxarfs: warning: %lu message%s lost, as nobody read "
			     "standard error\n", journal_prefix(LOG_LEVEL_WARN), dropped,
			     dropped == 1 ? " was" : "s were");
		put(lost, (size_t)n);
		dropped = 0;
	}
	if (has_room())
		put(line, size);
	else
		dropped++;
	pthread_mutex_unlock(&lock);
}

__attribute__((format(printf, 3, 0))) static void
log_line(enum log_level level, const char *label, const char *format, va_list ap)
{
	char line[LINE_SIZE_MAX];
	size_t used;
	int n;

	if (level > level_from_environment())
		return;
	n = to_syslog ? snprintf(line, sizeof(line), "%s", label) :
			snprintf(line, sizeof(line), "%spxarfs: %s", journal_prefix(level), label);
	used = (size_t)n;
	n = vsnprintf(line + used, sizeof(line) - used - 1, format, ap);
	/* It may hold a name out of an archive, which must not pass for a line of its own. */
	text_blank_controls(line + used);
	if (to_syslog) {
		syslog(syslog_priority(level), "%s", line);
		return;
	}
	used = strlen(line);
	line[used++] = '\n';
	/* One write, so that lines of several threads do not mix. */
	if (n >= 0 && never_waits)
		put_if_room(line, used);
	else if (n >= 0)
		put(line, used);
}

#define DEFINE_LOG(name, level, label)          \
	void name(const char *format, ...)      \
	{                                       \
		va_list ap;                     \
						\
		va_start(ap, format);           \
		log_line(level, label, format, ap); \
		va_end(ap);                     \
	}

DEFINE_LOG(log_error, LOG_LEVEL_ERROR, "")
DEFINE_LOG(log_warn, LOG_LEVEL_WARN, "warning: ")
DEFINE_LOG(log_info, LOG_LEVEL_INFO, "")
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG, "debug: ")
