/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/log.h"

#include "client/cmd/text.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum { LINE_SIZE_MAX = 4096 }; /* PIPE_BUF: a pipe takes a line whole, or has no room for it */

static atomic_bool to_syslog;
static bool never_waits;

/* Where it never waits. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below, and between look and write */
static unsigned long dropped;
static int syslog_fd = -1; /* connected */

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

/* One write, so that lines of several threads do not mix.  Nobody is left to tell when standard error
 * itself is gone. */
static void put(enum log_level level, const char *message)
{
	char line[LINE_SIZE_MAX];
	size_t size;

	snprintf(line, sizeof(line) - 1, "%spxarfs: %s", journal_prefix(level), message);
	size = strlen(line);
	line[size++] = '\n';
	if (write(STDERR_FILENO, line, size) < 0)
		return;
}

static int connect_syslog(void)
{
	static const struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Like syslog(3), without waiting for a service that does not read.  Under the lock. */
static bool put_to_syslog(enum log_level level, const char *message)
{
	char text[LINE_SIZE_MAX + 128], stamp[32];
	time_t now = time(NULL);
	struct tm tm;

	strftime(stamp, sizeof(stamp), "%b %e %T", localtime_r(&now, &tm));
	snprintf(text, sizeof(text), "<%d>%s pxarfs[%d]: %s", LOG_DAEMON | syslog_priority(level),
		 stamp, (int)getpid(), message);
	for (int i = 0; i < 2; i++) { /* the second time to one that was restarted */
		if (syslog_fd < 0)
			syslog_fd = connect_syslog();
		if (syslog_fd < 0)
			return false;
		if (send(syslog_fd, text, strlen(text), MSG_NOSIGNAL) >= 0)
			return true;
		if (errno == EAGAIN)
			return false;
		close(syslog_fd);
		syslog_fd = -1;
	}
	return false;
}

/* False: there is no room for it.  Under the lock. */
static bool try_put(enum log_level level, const char *message)
{
	if (to_syslog)
		return put_to_syslog(level, message);
	if (!has_room())
		return false;
	put(level, message);
	return true;
}

static void put_if_room(enum log_level level, const char *message)
{
	char lost[128];

	pthread_mutex_lock(&lock);
	if (dropped > 0) {
		snprintf(lost, sizeof(lost), "warning: %lu message%s lost, as nobody read %s", dropped,
			 dropped == 1 ? " was" : "s were", dropped == 1 ? "it" : "them");
		if (try_put(LOG_LEVEL_WARN, lost))
			dropped = 0;
	}
	if (!try_put(level, message))
		dropped++;
	pthread_mutex_unlock(&lock);
}

__attribute__((format(printf, 3, 0))) static void
log_line(enum log_level level, const char *label, const char *format, va_list ap)
{
	char message[LINE_SIZE_MAX];
	size_t used;

	if (level > level_from_environment())
		return;
	used = (size_t)snprintf(message, sizeof(message), "%s", label);
	if (vsnprintf(message + used, sizeof(message) - used, format, ap) < 0)
		return;
	/* It may hold a name out of an archive, which must not pass for a line of its own. */
	text_blank_controls(message + used);
	if (to_syslog || never_waits)
		put_if_room(level, message);
	else
		put(level, message);
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
