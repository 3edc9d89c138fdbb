/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/loop.h"

#include "client/base/clock.h"
#include "client/base/wait.h"
#include "client/cmd/log.h"
#include "fuse/idle_poll.h"
#include "fuse/session.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
	/* Requests found waiting in a row before a second reader is woken: waking costs more
	 * than a few requests do. */
	BACKLOG_STREAK = 4,
};

struct loop {
	struct fuse_session *session;
	struct loop_params params;
	int fuse_fd; /* the session's */
	int stop_fd; /* readable once the readers shall end */

	pthread_mutex_t lock;
	pthread_cond_t turn; /* a waiting reader may lead */
	unsigned leading; /* lock: readers that receive or process, busy ones not counted */
	unsigned wanted; /* lock: readers that were asked to lead and have not begun */
	unsigned waiting; /* lock */
	atomic_bool stopping; /* written under lock */
	bool ended; /* lock: params.ended was called */

	unsigned started; /* the rest: of who calls loop_start(), _join() and _free() */
	pthread_t threads[LOOP_READERS_MAX];
};

/* The loop whose leader this thread is, or NULL. */
static _Thread_local struct loop *leader_of;

/* What loop_unhurried() said of the request that this thread processes. */
static _Thread_local bool unhurried;

/* Ask one more reader to lead, if there is one. */
static void wake_one(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	if (l->waiting > l->wanted) {
		l->wanted++;
		pthread_cond_signal(&l->turn);
	}
	pthread_mutex_unlock(&l->lock);
}

/* Wait to lead; false: the loop ends. */
static bool take_turn(struct loop *l)
{
	bool go_on;

	pthread_mutex_lock(&l->lock);
	l->waiting++;
	/* `leading` drops to 0 when the last leader turned busy and nobody was waiting. */
	while (!l->stopping && l->wanted == 0 && l->leading > 0)
		pthread_cond_wait(&l->turn, &l->lock);
	l->waiting--;
	if (l->wanted > 0)
		l->wanted--;
	l->leading++;
	go_on = !l->stopping;
	pthread_mutex_unlock(&l->lock);
	leader_of = l;
	return go_on;
}

/* Stop leading unless this is the only leader; true when it did. */
static bool resign_spare(struct loop *l)
{
	bool resigned = false;

	pthread_mutex_lock(&l->lock);
	if (l->leading > 1) {
		l->leading--;
		resigned = true;
		leader_of = NULL;
	}
	pthread_mutex_unlock(&l->lock);
	return resigned;
}

void loop_busy(void)
{
	struct loop *l = leader_of;

	if (!l)
		return;
	leader_of = NULL;
	pthread_mutex_lock(&l->lock);
	l->leading--;
	if (l->leading == 0)
		pthread_cond_signal(&l->turn);
	pthread_mutex_unlock(&l->lock);
}

void loop_unhurried(void)
{
	unhurried = true;
}

static void end_loop(struct loop *l)
{
	bool first;

	pthread_mutex_lock(&l->lock);
	first = !l->ended && !l->stopping;
	l->ended = true;
	l->stopping = true;
	pthread_cond_broadcast(&l->turn);
	pthread_mutex_unlock(&l->lock);
	eventfd_write(l->stop_fd, 1);
	if (first && l->params.ended)
		l->params.ended(l->params.arg);
}

/* Sleep until there is a request, or the loop shall end: false. */
static bool sleep_for_request(struct loop *l)
{
	struct pollfd fds[2] = { { .fd = l->fuse_fd, .events = POLLIN },
				 { .fd = l->stop_fd, .events = POLLIN } };
	int wait_ms;

	do
		wait_ms = l->params.idle_poll ?
				  idle_poll_wait_ms(l->params.idle_poll, clock_now_us()) :
				  -1;
	while (poll(fds, 2, wait_ms) == 0);
	return fds[1].revents == 0;
}

enum received { RECEIVED, SPARE, ENDED };

/* Get one request.  `*at_once`: it had been waiting for us. */
static enum received receive(struct loop *l, struct fuse_buf *buf, bool *at_once)
{
	uint64_t begin = 0;

	*at_once = true;
	for (;;) {
		int rc;

		if (l->stopping)
			return ENDED;
		rc = fuse_session_receive_buf(l->session, buf);
		if (rc > 0)
			return RECEIVED;
		if (rc == -EINTR)
			continue;
		if (rc != -EAGAIN) {
			if (rc < 0)
				log_error("reading from the kernel: %s", strerror(-rc));
			return ENDED;
		}
		*at_once = false;
		if (begin == 0)
			begin = clock_now_us();
		if (clock_now_us() - begin < l->params.spin_us)
			continue;
		if (resign_spare(l))
			return SPARE;
		if (!sleep_for_request(l))
			return ENDED;
		begin = 0;
	}
}

/* Take requests until somebody else does; false: the loop ends. */
static bool lead(struct loop *l, struct fuse_buf *buf)
{
	unsigned streak = 0;

	for (;;) {
		bool at_once;
		enum received r = receive(l, buf, &at_once);

		if (r != RECEIVED)
			return r == SPARE;
		streak = at_once ? streak + 1 : 0;
		if (streak == BACKLOG_STREAK) {
			wake_one(l);
			streak = 0;
		}
		unhurried = false;
		fuse_session_process_buf(l->session, buf);
		if (l->params.idle_poll && !unhurried)
			idle_poll_request(l->params.idle_poll, clock_now_us());
		if (!leader_of)
			return true; /* was busy; another one leads now */
	}
}

static void *reader(void *arg)
{
	struct loop *l = arg;
	struct fuse_buf buf = { 0 };

	while (take_turn(l))
		if (!lead(l, &buf)) {
			end_loop(l);
			break;
		}
	free(buf.mem);
	return NULL;
}

static int start_readers(struct loop *l, struct err *err)
{
	for (; l->started < l->params.reader_count; l->started++) {
		int rc = pthread_create(&l->threads[l->started], NULL, reader, l);

		if (rc)
			return err_sys(err, rc, "cannot start a thread");
	}
	return 0;
}

int loop_start(struct loop **out, struct fuse_session *session,
	       const struct loop_params *params, struct err *err)
{
	AUTO(loop) struct loop *l = calloc(1, sizeof(*l));
	int flags, rc;

	if (!l)
		return err_set(err, ENOMEM, "out of memory");
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->turn, NULL);
	l->session = session;
	l->params = *params;
	l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->stop_fd < 0)
		return err_sys(err, errno, "eventfd");
	l->fuse_fd = fuse_session_fd(session);
	flags = fcntl(l->fuse_fd, F_GETFL);
	if (flags < 0 || fcntl(l->fuse_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_sys(err, errno, "/dev/fuse: fcntl");
	rc = start_readers(l, err);
	if (rc < 0)
		return rc;
	*out = steal(&l);
	return 0;
}

static void stop(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	l->stopping = true;
	pthread_cond_broadcast(&l->turn);
	pthread_mutex_unlock(&l->lock);
	if (l->stop_fd >= 0)
		eventfd_write(l->stop_fd, 1);
}

bool loop_join(struct loop *l, unsigned wait_ms)
{
	struct timespec until = wait_until(CLOCK_REALTIME, wait_ms);

	if (!l)
		return true;
	stop(l);
	for (; l->started > 0; l->started--)
		if (pthread_timedjoin_np(l->threads[l->started - 1], NULL, &until) != 0)
			return false;
	return true;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	stop(l);
	for (; l->started > 0; l->started--)
		pthread_join(l->threads[l->started - 1], NULL);
	if (l->stop_fd >= 0)
		close(l->stop_fd);
	pthread_cond_destroy(&l->turn);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
