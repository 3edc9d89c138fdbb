/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/progress.h"

#include "client/base/clock.h"
#include "client/base/plural.h"
#include "client/base/wait.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum {
	TERMINAL_INTERVAL_MS = 250,
	LOG_INTERVAL_MS = 60000,
	LINE_SIZE = 256,
	SIZE_TEXT_SIZE = 32,
	/* Guesses of the time left are noise before that. */
	ETA_AFTER_MS = 3000,
};

struct progress {
	struct backup *backup;
	bool terminal;
	int64_t begun_ms;
	pthread_t thread;

	pthread_mutex_t lock;
	pthread_cond_t stopped;
	/* lock, which also keeps messages and the line apart: */
	bool stop;
	bool line_shown;
};

__attribute__((format(printf, 4, 5))) static size_t append(char *out, size_t size, size_t used,
							   const char *format, ...)
{
	va_list ap;
	int n;

	if (used >= size)
		return used;
	va_start(ap, format);
	n = vsnprintf(out + used, size - used, format, ap);
	va_end(ap);
	return used + (n > 0 ? (size_t)n : 0);
}

/* "490.8 MiB": one decimal, so that the line does not jump about. */
static void format_short(double bytes, char *out, size_t size)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;

	for (; bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
		bytes /= 1024;
	snprintf(out, size, "%.*f %s", unit ? 1 : 0, bytes, units[unit]);
}

static size_t append_time_left(const struct backup_progress *now, uint64_t elapsed_ms, char *out,
			       size_t size, size_t used)
{
	double left;
	uint64_t seconds;

	if (elapsed_ms < ETA_AFTER_MS || now->bytes == 0 || now->bytes >= now->bytes_expected)
		return used;
	left = (double)(now->bytes_expected - now->bytes) / (double)now->bytes *
	       (double)elapsed_ms / 1000;
	seconds = left < 359999 ? (uint64_t)left : 359999;
	if (seconds >= 3600)
		return append(out, size, used,
			      ", %" PRIu64 ":%02" PRIu64 ":%02" PRIu64 " left", seconds / 3600,
			      seconds / 60 % 60, seconds % 60);
	return append(out, size, used, ", %" PRIu64 ":%02" PRIu64 " left", seconds / 60,
		      seconds % 60);
}

void progress_format(const struct backup_progress *now, uint64_t elapsed_ms, char *out,
		     size_t size)
{
	const double taken = (double)now->new_bytes + (double)now->reused_bytes;
	char bytes[SIZE_TEXT_SIZE], other[SIZE_TEXT_SIZE];
	size_t used;

	format_short((double)now->bytes, bytes, sizeof(bytes));
	used = append(out, size, 0, "%s", bytes);
	if (now->bytes < now->bytes_expected) {
		format_short((double)now->bytes_expected, other, sizeof(other));
		used = append(out, size, used, " of about %s", other);
	}
	used = append(out, size, used, ", %" PRIu64 " file%s", now->files, plural(now->files));
	if (elapsed_ms > 0) {
		format_short((double)now->bytes * 1000 / (double)elapsed_ms, other,
			     sizeof(other));
		used = append(out, size, used, ", %s/s", other);
	}
	if (now->reused_bytes)
		used = append(out, size, used, ", %u%% reused",
			      (unsigned)((double)now->reused_bytes * 100 / taken));
	if (now->skipped)
		used = append(out, size, used, ", %" PRIu64 " skipped", now->skipped);
	append_time_left(now, elapsed_ms, out, size, used);
}

/* --- terminal --- */

static size_t terminal_width(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

/* Standard error may be gone; then nobody looks. */
static void put(const char *text, size_t size)
{
	while (size > 0) {
		ssize_t n = write(STDERR_FILENO, text, size);

		if (n <= 0)
			return;
		text += n;
		size -= (size_t)n;
	}
}

/* With the lock held. */
static void clear_line(struct progress *p)
{
	static const char erase[] = "\r\033[K";

	if (p->line_shown)
		put(erase, sizeof(erase) - 1);
	p->line_shown = false;
}

static void show_line(struct progress *p, const char *line)
{
	char text[LINE_SIZE + 8];
	/* The last column is left free: some terminals wrap as soon as it is filled. */
	int width = (int)terminal_width() - 1;
	int n = snprintf(text, sizeof(text), "\r%.*s\033[K", width, line);

	if (n > 0 && (size_t)n < sizeof(text))
		put(text, (size_t)n);
	p->line_shown = true;
}

/* --- the thread --- */

static void show(struct progress *p)
{
	struct backup_progress now;
	char line[LINE_SIZE];

	backup_progress(p->backup, &now);
	progress_format(&now, clock_now_ms() - p->begun_ms, line, sizeof(line));
	if (p->terminal)
		show_line(p, line);
	else
		log_info("%s", line);
}

static void *run(void *arg)
{
	struct progress *p = arg;
	const unsigned interval_ms = p->terminal ? TERMINAL_INTERVAL_MS : LOG_INTERVAL_MS;

	pthread_mutex_lock(&p->lock);
	while (!p->stop) {
		const struct timespec next = wait_until(CLOCK_MONOTONIC, interval_ms);

		while (!p->stop &&
		       pthread_cond_timedwait(&p->stopped, &p->lock, &next) != ETIMEDOUT)
			;
		if (!p->stop)
			show(p);
	}
	clear_line(p);
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static bool is_terminal(void)
{
	const char *term = getenv("TERM");

	return isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);
}

struct progress *progress_start(struct backup *b)
{
	AUTO(free) struct progress *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->backup = b;
	p->terminal = is_terminal();
	p->begun_ms = clock_now_ms();
	pthread_mutex_init(&p->lock, NULL);
	wait_cond_init(&p->stopped);
	if (pthread_create(&p->thread, NULL, run, p) != 0)
		return NULL;
	return steal(&p);
}

void progress_stop(struct progress *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_signal(&p->stopped);
	pthread_mutex_unlock(&p->lock);
	pthread_join(p->thread, NULL);
	pthread_cond_destroy(&p->stopped);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static void log_at(enum log_level level, const char *text)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		log_error("%s", text);
		break;
	case LOG_LEVEL_WARN:
		log_warn("%s", text);
		break;
	case LOG_LEVEL_INFO:
		log_info("%s", text);
		break;
	case LOG_LEVEL_DEBUG:
		log_debug("%s", text);
		break;
	}
}

void progress_message(struct progress *p, enum log_level level, const char *text)
{
	if (!p) {
		log_at(level, text);
		return;
	}
	pthread_mutex_lock(&p->lock);
	clear_line(p);
	log_at(level, text);
	pthread_mutex_unlock(&p->lock);
}
