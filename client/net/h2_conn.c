/* SPDX-License-Identifier: Apache-2.0 */
#include "client/net/h2_conn.h"

#include "client/base/clock.h"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>

enum {
	INPUT_SIZE = 64 << 10,
	OUTPUT_SIZE = 256 << 10, /* gathered for one write */
	TURN_SIZE = 4 << 20, /* read at a stretch before it is looked after writing, and back */
	TICK_MS = 1000,
};

struct h2_conn {
	atomic_int refs;
	int wake_fd; /* readable: there is something in the fields below */
	int64_t idle_ms;
	pthread_t thread;

	pthread_mutex_t lock; /* guards these */
	struct h2_call *first, **last; /* submitted, by `next` */
	int abort_rc;
	const atomic_bool *stop; /* NULL: nothing does */
	int lost_rc; /* what calls get that come too late; 0: it lives */
	struct err why;

	/* The thread's own. */
	struct tls *tls;
	struct h2 *h2;
	int64_t moved_ms; /* when bytes moved last */
	uint8_t *input, *output;
	size_t output_begin, output_end;
};

/* --- the thread --- */

static void lose(struct h2_conn *c, int rc, const struct err *why)
{
	pthread_mutex_lock(&c->lock);
	c->why = *why;
	c->lost_rc = rc == -ECANCELED ? rc : -ECONNRESET;
	pthread_mutex_unlock(&c->lock);
}

/* Hand over what was submitted.  Negative: it is to end. */
static int take_submitted(struct h2_conn *c)
{
	struct h2_call *list;
	uint64_t count;
	int rc;

	if (read(c->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return -errno;
	pthread_mutex_lock(&c->lock);
	list = c->first;
	c->first = NULL;
	c->last = &c->first;
	rc = c->abort_rc;
	pthread_mutex_unlock(&c->lock);
	while (list) {
		struct h2_call *call = list;
		int submitted;

		list = call->next;
		submitted = h2_submit(c->h2, call, clock_now_ms());
		if (submitted < 0) {
			call->rc = submitted;
			call->done(call);
		}
	}
	return rc;
}

/* Fill the output buffer.  1: it holds something. */
static int gather(struct h2_conn *c)
{
	if (c->output_begin < c->output_end)
		return 1;
	c->output_begin = c->output_end = 0;
	while (c->output_end + H2_DATA_SIZE_MAX + 1024 <= OUTPUT_SIZE) {
		const uint8_t *data;
		ssize_t n = h2_output(c->h2, &data, clock_now_ms());

		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		if ((size_t)n > OUTPUT_SIZE - c->output_end)
			return -EPROTO; /* no frame of ours is that large */
		memcpy(c->output + c->output_end, data, (size_t)n);
		c->output_end += (size_t)n;
	}
	return c->output_end > 0;
}

/* Write until it would block.  1: there is more, it would not yet. */
static int write_some(struct h2_conn *c)
{
	for (size_t done = 0; done < TURN_SIZE;) {
		int rc = gather(c);
		ssize_t n;

		if (rc <= 0)
			return rc;
		n = tls_write(c->tls, c->output + c->output_begin, c->output_end - c->output_begin);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		c->output_begin += (size_t)n;
		done += (size_t)n;
		c->moved_ms = clock_now_ms();
	}
	return 1;
}

/* Read until it would block.  1: there is more, it would not yet. */
static int read_some(struct h2_conn *c, struct err *err)
{
	for (size_t done = 0; done < TURN_SIZE;) {
		ssize_t n = tls_read(c->tls, c->input, INPUT_SIZE);
		int rc;

		if (n == -EAGAIN)
			return 0;
		if (n == 0)
			return -ECONNRESET;
		if (n < 0)
			return (int)n;
		c->moved_ms = clock_now_ms();
		rc = h2_input(c->h2, c->input, (size_t)n, c->moved_ms, err);
		if (rc < 0)
			return rc;
		done += (size_t)n;
	}
	return 1;
}

static bool is_stopped(struct h2_conn *c)
{
	bool stopped;

	pthread_mutex_lock(&c->lock);
	stopped = c->stop && atomic_load(c->stop);
	pthread_mutex_unlock(&c->lock);
	return stopped;
}

/* How long nothing may move, and whether it is to go on at all. */
static int check_time(struct h2_conn *c)
{
	int64_t now = clock_now_ms();
	bool is_patient = h2_is_patient(c->h2);
	int64_t idle = is_patient ? H2_CONN_PATIENCE_MS : c->idle_ms;

	if (h2_call_count(c->h2) == 0)
		return 0;
	if (!is_patient && is_stopped(c))
		return -ECANCELED;
	if (now - c->moved_ms > idle || now - h2_oldest_ms(c->h2) > H2_CONN_PATIENCE_MS)
		return -ETIMEDOUT;
	return 0;
}

static int wait_for_more(struct h2_conn *c, bool at_once)
{
	short events = (short)(tls_events(c->tls) | POLLIN);
	struct pollfd fds[] = { { .fd = tls_fd(c->tls), .events = events },
				{ .fd = c->wake_fd, .events = POLLIN } };
	int timeout = at_once ? 0 : h2_call_count(c->h2) ? TICK_MS : -1;
	int n = poll(fds, 2, timeout);

	return n < 0 && errno != EINTR ? -errno : 0;
}

static int move_bytes(struct h2_conn *c, struct err *err)
{
	for (;;) {
		bool idle = h2_call_count(c->h2) == 0;
		int rc = take_submitted(c), more_out, more_in;

		if (rc < 0)
			return rc;
		if (idle)
			c->moved_ms = clock_now_ms(); /* time counts from when someone waits */
		more_out = write_some(c);
		if (more_out < 0)
			return more_out;
		more_in = read_some(c, err);
		if (more_in < 0)
			return more_in;
		if (h2_is_over(c->h2))
			return -ECONNRESET;
		/* What was read may have made something to be written: credit. */
		more_out = write_some(c);
		if (more_out < 0)
			return more_out;
		rc = check_time(c);
		if (rc == 0)
			rc = wait_for_more(c, more_in || more_out);
		if (rc < 0)
			return rc;
	}
}

static void *run(void *arg)
{
	struct h2_conn *c = arg;
	struct err err = ERR_INIT;
	int rc = move_bytes(c, &err);

	if (!err.text[0])
		err_set(&err, -rc, "%s",
			rc == -ECONNRESET ? "the connection to the server was lost" :
			rc == -ETIMEDOUT  ? "the server does not answer any more" :
			rc == -ECANCELED  ? "the call was aborted" :
					    strerror(-rc));
	lose(c, rc, &err); /* from now on nothing is submitted */
	take_submitted(c);
	h2_fail(c->h2, rc == -ECANCELED || rc == -ETIMEDOUT || rc == -EPROTO ? rc : -ECONNRESET);
	return NULL;
}

/* --- life --- */

static void conn_free(struct h2_conn *c)
{
	h2_free(c->h2);
	tls_free(c->tls);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	pthread_mutex_destroy(&c->lock);
	free(c->input);
	free(c->output);
	free(c);
}

static int start(struct h2_conn *c, const void *received, size_t size, struct err *err)
{
	sigset_t all, before;
	int rc = h2_new(&c->h2, err);

	c->input = malloc(INPUT_SIZE);
	c->output = malloc(OUTPUT_SIZE);
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (rc == 0 && (!c->input || !c->output || c->wake_fd < 0))
		rc = err_set(err, ENOMEM, "HTTP/2: out of memory or descriptors");
	if (rc == 0)
		rc = h2_input(c->h2, received, size, c->moved_ms, err);
	if (rc < 0)
		return rc;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&c->thread, NULL, run, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return rc ? err_sys(err, rc, "cannot start a thread") : 0;
}

int h2_conn_new(struct h2_conn **out, struct tls *tls, const void *received, size_t size,
		int64_t idle_ms, struct err *err)
{
	struct h2_conn *c = calloc(1, sizeof(*c));
	int rc;

	if (!c) {
		tls_free(tls);
		return err_set(err, ENOMEM, "out of memory");
	}
	pthread_mutex_init(&c->lock, NULL);
	atomic_init(&c->refs, 1);
	c->tls = tls;
	c->wake_fd = -1;
	c->idle_ms = idle_ms;
	c->last = &c->first;
	c->moved_ms = clock_now_ms();
	rc = start(c, received, size, err);
	if (rc < 0) {
		conn_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

struct h2_conn *h2_conn_ref(struct h2_conn *c)
{
	atomic_fetch_add(&c->refs, 1);
	return c;
}

void h2_conn_unref(struct h2_conn *c)
{
	if (!c || atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	h2_conn_abort(c, -ECONNRESET);
	pthread_join(c->thread, NULL);
	conn_free(c);
}

/* --- calls --- */

static void wake(struct h2_conn *c)
{
	const uint64_t one = 1;
	ssize_t n;

	do
		n = write(c->wake_fd, &one, sizeof(one)); /* EAGAIN: it is awake anyway */
	while (n < 0 && errno == EINTR);
}

int h2_conn_submit(struct h2_conn *c, struct h2_call *call)
{
	int rc;

	pthread_mutex_lock(&c->lock);
	rc = c->lost_rc;
	if (rc == 0) {
		call->next = NULL;
		*c->last = call;
		c->last = &call->next;
	}
	pthread_mutex_unlock(&c->lock);
	if (rc == 0)
		wake(c);
	return rc;
}

static void post(struct h2_call *call)
{
	sem_post(call->arg);
}

int h2_conn_run(struct h2_conn *c, struct h2_call *call)
{
	sem_t done;
	int rc;

	sem_init(&done, 0, 0);
	call->done = post;
	call->arg = &done;
	rc = h2_conn_submit(c, call);
	if (rc == 0) {
		while (sem_wait(&done) < 0 && errno == EINTR)
			continue;
		rc = call->rc;
	}
	sem_destroy(&done);
	return rc;
}

void h2_conn_abort(struct h2_conn *c, int rc)
{
	pthread_mutex_lock(&c->lock);
	if (c->abort_rc == 0)
		c->abort_rc = rc;
	pthread_mutex_unlock(&c->lock);
	wake(c);
}

void h2_conn_stop_on(struct h2_conn *c, const atomic_bool *stop)
{
	pthread_mutex_lock(&c->lock);
	c->stop = stop;
	pthread_mutex_unlock(&c->lock);
}

int h2_conn_lost_rc(struct h2_conn *c)
{
	int rc;

	pthread_mutex_lock(&c->lock);
	rc = c->lost_rc;
	pthread_mutex_unlock(&c->lock);
	return rc;
}

void h2_conn_why(struct h2_conn *c, struct err *out)
{
	pthread_mutex_lock(&c->lock);
	*out = c->why;
	pthread_mutex_unlock(&c->lock);
}
