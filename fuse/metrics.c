/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/metrics.h"

#include "client/base/wait.h"
#include "client/repo/repo_dir_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct metrics {
	struct metrics_params params;
	char folder[PATH_MAX];
	const char *name; /* of the file in it */
	bool failing; /* the thread's */

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed;
	bool wanted, stopping;

	pthread_t thread;
	bool has_thread; /* of who calls metrics_new() and metrics_join() */
};

static int write_file(const struct metrics *m, const struct wbuf *text, struct err *err)
{
	static const struct repo_dir_owner owner = { .set = false };
	AUTO(repo_dir_file_tmp) struct repo_dir_file_tmp tmp = REPO_DIR_FILE_TMP_INIT;
	AUTO(fd) int folder_fd = -1;
	int rc = repo_dir_file_open_dir(AT_FDCWD, m->folder, &folder_fd, err);

	if (rc == 0)
		rc = repo_dir_file_tmp_open(&tmp, folder_fd, m->name, &owner, err);
	if (rc == 0)
		rc = repo_dir_file_tmp_write(&tmp, text->data, text->size, err);
	if (rc == 0)
		rc = repo_dir_file_tmp_commit(&tmp, m->name, false, err);
	return rc;
}

static int write_now(const struct metrics *m, bool up, struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(METRICS_TEXT_SIZE_MAX);
	int rc = m->params.text(m->params.arg, up, &text);

	if (rc < 0)
		return err_sys(err, -rc, "%s", m->params.path);
	rc = write_file(m, &text, err);
	return rc < 0 ? err_wrap(err, rc, "%s", m->params.path) : 0;
}

static void write_or_warn(struct metrics *m, bool up)
{
	struct err err = ERR_INIT;
	int rc = write_now(m, up, &err);

	if (rc < 0 && !m->failing && m->params.warn)
		m->params.warn(err_text(&err, rc));
	m->failing = rc < 0;
}

/* True: it is time again; false: for the last time. */
static bool await_time(struct metrics *m)
{
	struct timespec until = wait_until(CLOCK_MONOTONIC, m->params.interval_ms);
	bool go_on;

	pthread_mutex_lock(&m->lock);
	while (!m->wanted && !m->stopping)
		if (pthread_cond_timedwait(&m->changed, &m->lock, &until) == ETIMEDOUT)
			break;
	m->wanted = false;
	go_on = !m->stopping;
	pthread_mutex_unlock(&m->lock);
	return go_on;
}

static void *writer(void *arg)
{
	struct metrics *m = arg;

	pthread_setname_np(pthread_self(), "metrics");
	while (await_time(m))
		write_or_warn(m, true);
	write_or_warn(m, false);
	return NULL;
}

/* Split into folder and name: a temporary file has to be made beside it. */
static int split_path(struct metrics *m, struct err *err)
{
	const char *path = m->params.path, *slash = strrchr(path, '/');
	size_t size = slash ? (size_t)(slash - path) : 0;

	if (!slash || slash[1] == '\0' || size >= sizeof(m->folder))
		return err_set(err, EINVAL, "%s: not a path to a file", path);
	memcpy(m->folder, path, size);
	if (size == 0)
		m->folder[size++] = '/';
	m->folder[size] = '\0';
	m->name = slash + 1;
	return 0;
}

int metrics_new(struct metrics **out, const struct metrics_params *params, struct err *err)
{
	AUTO(metrics) struct metrics *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return err_set(err, ENOMEM, "out of memory");
	m->params = *params;
	pthread_mutex_init(&m->lock, NULL);
	wait_cond_init(&m->changed);
	rc = split_path(m, err);
	if (rc == 0)
		rc = write_now(m, true, err);
	if (rc < 0)
		return rc;
	rc = pthread_create(&m->thread, NULL, writer, m);
	if (rc)
		return err_sys(err, rc, "cannot start a thread");
	m->has_thread = true;
	*out = steal(&m);
	return 0;
}

void metrics_now(struct metrics *m)
{
	pthread_mutex_lock(&m->lock);
	m->wanted = true;
	pthread_cond_signal(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

void metrics_stop(struct metrics *m)
{
	pthread_mutex_lock(&m->lock);
	m->stopping = true;
	pthread_cond_signal(&m->changed);
	pthread_mutex_unlock(&m->lock);
}

bool metrics_join(struct metrics *m, unsigned wait_ms)
{
	m->has_thread = m->has_thread && !wait_join(m->thread, wait_ms);
	return !m->has_thread;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->changed);
	free(m);
}
