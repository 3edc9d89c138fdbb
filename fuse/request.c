/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/request.h"

#include "client/base/clock.h"
#include "client/base/wait.h"
#include "fuse/inode.h"
#include "fuse/mount.h"
#include "fuse/reply.h"
#include "fuse/snaps.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

enum {
	POOL_COUNT_MAX = 32,
	/* A pooled request keeps buffers up to this size. */
	POOL_BUFFER_SIZE_MAX = 256 << 10,
	NAME_SIZE_MAX = PXAR_NAME_SIZE_MAX + 1,
	OUT_SIZE_MAX = 16 << 20,
};

struct requests {
	struct mount *mount;
	unsigned timeout_ms;

	pthread_mutex_t lock; /* guards all below */
	struct request *pool;
	size_t pool_count;
	size_t live; /* requests that have not been answered */
	pthread_cond_t none_left;
	bool stopping;

	/* The parked, oldest first: all wait equally long, so that is the order of their
	 * deadlines. */
	struct request *first, *last;
	pthread_cond_t watch; /* the list got its first request, or stopping */
	pthread_t watcher;
	bool has_watcher;
	struct requests_stats stats;
};

static struct timespec timespec_of(uint64_t ms)
{
	return (struct timespec){ .tv_sec = (time_t)(ms / 1000),
				  .tv_nsec = (long)(ms % 1000) * 1000000 };
}

/* --- from the pool and back --- */

static struct request *request_alloc(void)
{
	struct request *rq = calloc(1, sizeof(*rq));

	if (!rq)
		return NULL;
	wbuf_init(&rq->name, NAME_SIZE_MAX);
	wbuf_init(&rq->out, OUT_SIZE_MAX);
	tree_entry_init(&rq->entry);
	tree_window_init(&rq->window);
	return rq;
}

static void request_destroy(struct request *rq)
{
	wbuf_release(&rq->name);
	wbuf_release(&rq->out);
	tree_entry_release(&rq->entry);
	tree_window_release(&rq->window);
	free(rq);
}

struct request *request_new(struct requests *r, fuse_req_t fuse, const char *what,
			    request_run *run, fuse_ino_t number)
{
	struct request *rq;

	pthread_mutex_lock(&r->lock);
	rq = r->pool;
	if (rq) {
		r->pool = rq->next;
		r->pool_count--;
	}
	r->live++;
	pthread_mutex_unlock(&r->lock);
	if (!rq)
		rq = request_alloc();
	if (!rq) {
		pthread_mutex_lock(&r->lock);
		r->live--;
		pthread_mutex_unlock(&r->lock);
		fuse_reply_err(fuse, ENOMEM);
		return NULL;
	}
	rq->mount = r->mount;
	rq->owner = r;
	rq->fuse = fuse;
	rq->what = what;
	rq->run = run;
	rq->number = number;
	rq->state = REQUEST_RUNNING;
	rq->verdict = 0;
	rq->watched = rq->has_payload = rq->wants_payload_index = false;
	rq->wants_links = rq->wants_fetch = rq->steps_over_damage = false;
	rq->takes_failure = false;
	rq->failure = rq->scan_failure = 0;
	rq->scan_time = INT64_MAX;
	rq->scan_id = 0;
	rq->has_version = false;
	rq->found_time = 0;
	rq->meta.is_missing = false;
	rq->bad_count = 0;
	rq->err.text[0] = '\0';
	wbuf_clear(&rq->name);
	rq->shown = NULL;
	if (!r->mount->snaps)
		request_show(rq, &r->mount->single);
	return rq;
}

void request_show(struct request *rq, struct shown *shown)
{
	rq->shown = shown;
	/* What these hold is of the last request's archive. */
	if (shown->hold)
		wbuf_clear(&rq->entry.scratch.bytes);
	wbuf_clear(&rq->window.bytes);
	rq->window.narrow_end = 0;
	if (shown->archive)
		stream_view_init(&rq->meta, archive_meta(shown->archive));
}

void request_hide(struct request *rq)
{
	if (!rq->shown)
		return;
	if (rq->shown->archive)
		stream_view_release(&rq->meta);
	rq->meta.is_missing = false;
	shown_let_go(rq->shown);
	rq->shown = NULL;
}

static bool is_large(const struct request *rq)
{
	return rq->out.capacity > POOL_BUFFER_SIZE_MAX ||
	       rq->entry.meta.bytes.capacity > POOL_BUFFER_SIZE_MAX ||
	       rq->entry.scratch.bytes.capacity > POOL_BUFFER_SIZE_MAX ||
	       rq->window.bytes.capacity > POOL_BUFFER_SIZE_MAX;
}

/* It was answered: give up all it holds. */
static void request_end(struct request *rq)
{
	struct requests *r = rq->owner;
	bool keep;

	assert(!rq->fuse);
	chunk_unref(rq->held);
	rq->held = NULL;
	if (rq->has_payload)
		stream_view_release(&rq->payload);
	request_hide(rq);
	folder_unref(rq->folder);
	rq->folder = NULL;

	pthread_mutex_lock(&r->lock);
	keep = r->pool_count < POOL_COUNT_MAX && !is_large(rq);
	if (keep) {
		rq->next = r->pool;
		r->pool = rq;
		r->pool_count++;
	}
	r->live--;
	if (r->live == 0)
		pthread_cond_broadcast(&r->none_left);
	pthread_mutex_unlock(&r->lock);
	if (!keep)
		request_destroy(rq);
}

fuse_req_t request_settle(struct request *rq)
{
	fuse_req_t fuse = rq->fuse;

	assert(fuse);
	/* Waits for a callback that is running, so that none can meet a request which went back
	 * to the pool. */
	if (rq->watched)
		fuse_req_interrupt_func(fuse, NULL, NULL);
	rq->watched = false;
	rq->fuse = NULL;
	return fuse;
}

void request_fail(struct request *rq, int rc)
{
	if (rc == -ETIMEDOUT)
		err_set(&rq->err, ETIMEDOUT, "no answer from the repository for %u s",
			rq->owner->timeout_ms / 1000);
	reply_error(rq, rc);
	request_end(rq);
}

/* --- the list of the parked; under the lock --- */

static void list_add(struct requests *r, struct request *rq)
{
	rq->deadline_ms = clock_now_ms() + r->timeout_ms;
	rq->listed = true;
	rq->next = NULL;
	rq->prev = r->last;
	if (r->last)
		r->last->next = rq;
	else
		r->first = rq;
	r->last = rq;
	if (r->first == rq)
		pthread_cond_signal(&r->watch);
	r->stats.waiting++;
}

static void list_remove(struct requests *r, struct request *rq)
{
	if (!rq->listed)
		return;
	if (rq->prev)
		rq->prev->next = rq->next;
	else
		r->first = rq->next;
	if (rq->next)
		rq->next->prev = rq->prev;
	else
		r->last = rq->prev;
	rq->listed = false;
	r->stats.waiting--;
}

/*
 * Decide on a request: `rc` is to be its answer.  True: it is the caller's from now on, to be
 * answered once the lock is free.  False: the thread that has it, or the fetcher's callback
 * which is sure to come, will see the verdict.
 */
static bool condemn(struct requests *r, struct request *rq, int rc)
{
	if (rq->verdict)
		return false;
	rq->verdict = rc;
	list_remove(r, rq);
	if (rq->state != REQUEST_PARKED || !fetch_cancel(r->mount->fetch, &rq->wait))
		return false;
	rq->state = REQUEST_RUNNING;
	return true;
}

/* --- parking --- */

/* libfuse calls this with its lock of the request held, on a loop thread, or on ours from
 * inside fuse_req_interrupt_func(). */
static void on_interrupt(fuse_req_t fuse, void *arg)
{
	struct request *rq = arg;
	struct requests *r = rq->owner;
	bool mine;

	(void)fuse;
	pthread_mutex_lock(&r->lock);
	r->stats.interrupts++;
	mine = condemn(r, rq, -EINTR);
	pthread_mutex_unlock(&r->lock);
	if (!mine)
		return;
	rq->watched = false; /* unregistering would wait for this very callback */
	request_fail(rq, -EINTR);
}

static void on_wait_over(void *arg, struct chunk *chunk, int rc, const struct err *err);

static void ask(struct request *rq)
{
	rq->wait.done = on_wait_over;
	rq->wait.arg = rq;
	switch (rq->waits_for) {
	case REQUEST_WAIT_META:
		stream_view_wait(&rq->meta, &rq->wait);
		break;
	case REQUEST_WAIT_PAYLOAD:
		stream_view_wait(&rq->payload, &rq->wait);
		break;
	case REQUEST_WAIT_PAYLOAD_INDEX:
		archive_payload_wait(rq->shown->archive, &rq->wait);
		break;
	case REQUEST_WAIT_LINKS:
		nlink_wait(rq->shown->nlink, &rq->wait);
		break;
	case REQUEST_WAIT_FETCH:
		fetch_get(rq->mount->fetch, &rq->want, &rq->wait);
		break;
	}
}

static enum request_wait wait_of(struct request *rq)
{
	if (rq->wants_payload_index) {
		rq->wants_payload_index = false;
		return REQUEST_WAIT_PAYLOAD_INDEX;
	}
	if (rq->wants_links) {
		rq->wants_links = false;
		return REQUEST_WAIT_LINKS;
	}
	if (rq->wants_fetch) {
		rq->wants_fetch = false;
		return REQUEST_WAIT_FETCH;
	}
	assert(rq->meta.is_missing || (rq->has_payload && rq->payload.is_missing));
	return rq->meta.is_missing ? REQUEST_WAIT_META : REQUEST_WAIT_PAYLOAD;
}

/* Put it down while its bytes are on the way.  False: it is somebody else's now; true: go on,
 * what it waited for has come or there is a verdict. */
static bool park(struct request *rq)
{
	struct requests *r = rq->owner;
	bool go_on;

	if (!rq->watched) {
		rq->watched = true;
		fuse_req_interrupt_func(rq->fuse, on_interrupt, rq);
	}
	rq->waits_for = wait_of(rq);

	pthread_mutex_lock(&r->lock);
	if (r->stopping && !rq->verdict)
		rq->verdict = -ENOTCONN;
	if (rq->verdict) {
		pthread_mutex_unlock(&r->lock);
		return true;
	}
	rq->state = REQUEST_PARKING;
	list_add(r, rq);
	r->stats.parked++;
	pthread_mutex_unlock(&r->lock);

	ask(rq);

	pthread_mutex_lock(&r->lock);
	if (rq->state == REQUEST_PARKING) {
		int verdict = rq->verdict;

		rq->state = REQUEST_PARKED;
		rq->verdict = 0;
		/* condemned while it was on its way here: now it can be told how that ends */
		go_on = verdict && condemn(r, rq, verdict);
	} else {
		go_on = true;
		rq->state = REQUEST_RUNNING;
		list_remove(r, rq);
	}
	pthread_mutex_unlock(&r->lock);
	return go_on;
}

/* An interrupt may come at any time; before it is watched, nobody else knows the request. */
static int verdict_on(struct request *rq)
{
	int verdict;

	if (!rq->watched)
		return 0;
	pthread_mutex_lock(&rq->owner->lock);
	verdict = rq->verdict;
	pthread_mutex_unlock(&rq->owner->lock);
	return verdict;
}

static void hold_chunk(struct request *rq, struct chunk *chunk)
{
	chunk_unref(rq->held);
	rq->held = chunk;
}

/* Take what the wait brought; false: that was the end of the request. */
static bool absorb(struct request *rq)
{
	struct chunk *chunk = steal(&rq->chunk);
	int rc = rq->rc, verdict = verdict_on(rq);

	rq->rc = 0;
	if (verdict) {
		chunk_unref(chunk);
		request_fail(rq, verdict);
		return false;
	}
	if (rc == 0 && !chunk)
		return true; /* it waited for nothing, or no chunk */
	if (rc == 0 && rq->waits_for == REQUEST_WAIT_PAYLOAD_INDEX)
		chunk_unref(chunk);
	else if (rc == 0 && rq->waits_for == REQUEST_WAIT_FETCH)
		hold_chunk(rq, chunk);
	else if (rc == 0)
		rc = stream_view_hold(rq->waits_for == REQUEST_WAIT_META ? &rq->meta :
									   &rq->payload, chunk);
	else if (rc == -EBADMSG && rq->waits_for == REQUEST_WAIT_META &&
		 rq->steps_over_damage && rq->bad_count < REQUEST_BAD_CHUNKS_MAX) {
		rq->bad_chunks[rq->bad_count++] = rq->meta.missing;
		rq->bad_err = rq->err;
		rc = 0;
	} else if (rq->takes_failure) {
		rq->failure = rc;
		rc = 0;
	}
	if (rc < 0)
		request_fail(rq, rc);
	return rc == 0;
}

/* Open the archive that its number is of, where that is not so already. */
static int enter(struct request *rq)
{
	struct snaps *snaps = rq->mount->snaps;
	uint32_t slot = inode_decode(rq->number).slot;
	struct shown *shown;
	struct node *node;
	int rc;

	if (rq->shown || slot == 0)
		return 0;
	node = snaps_at(snaps, slot);
	if (!node)
		return err_set(&rq->err, ESTALE, "nobody has this number");
	rc = snaps_enter(snaps, node, &shown, &rq->want, &rq->err);
	rq->wants_fetch = rc == -EAGAIN;
	if (rc == 0)
		request_show(rq, shown);
	return rc;
}

/* Once; false: it is over, or somebody else's. */
static bool run(struct request *rq)
{
	int rc = enter(rq);

	if (rc == 0)
		rc = rq->run(rq);
	if (rc == -EAGAIN)
		return park(rq);
	if (rc == 0)
		request_end(rq);
	else
		request_fail(rq, rc);
	return false;
}

void request_go(struct request *rq)
{
	struct snaps *snaps = rq->mount->snaps;
	bool again = true;

	while (again && absorb(rq)) {
		if (snaps)
			repo_tree_pin(snaps_tree(snaps));
		again = run(rq);
		if (snaps)
			repo_tree_unpin(snaps_tree(snaps));
	}
}

/* The fetcher's answer, on one of its threads or, while we are still asking, on ours. */
static void on_wait_over(void *arg, struct chunk *chunk, int rc, const struct err *err)
{
	struct request *rq = arg;
	struct requests *r = rq->owner;
	bool mine;

	/* Nobody else looks at these before the state changes. */
	rq->chunk = chunk;
	rq->rc = rc;
	if (rc < 0)
		rq->err = *err;

	pthread_mutex_lock(&r->lock);
	mine = rq->state == REQUEST_PARKED;
	rq->state = mine ? REQUEST_RUNNING : REQUEST_WOKEN;
	list_remove(r, rq);
	pthread_mutex_unlock(&r->lock);
	if (mine)
		request_go(rq);
}

bool request_is_damaged(struct request *rq)
{
	for (unsigned i = 0; i < rq->bad_count; i++)
		if (rq->meta.is_missing && rq->meta.missing == rq->bad_chunks[i]) {
			rq->meta.is_missing = false;
			return true;
		}
	return false;
}

/* --- the watch --- */

/* Ends every request whose time is over; returns when to look again, 0: nothing is parked. */
static uint64_t end_overdue(struct requests *r)
{
	uint64_t now = clock_now_ms();

	while (r->first && r->first->deadline_ms <= now) {
		struct request *rq = r->first;
		bool mine = condemn(r, rq, -ETIMEDOUT);

		r->stats.timeouts++;
		if (!mine)
			continue;
		pthread_mutex_unlock(&r->lock);
		request_fail(rq, -ETIMEDOUT);
		pthread_mutex_lock(&r->lock);
	}
	return r->first ? r->first->deadline_ms : 0;
}

static void *watch(void *arg)
{
	struct requests *r = arg;

	pthread_mutex_lock(&r->lock);
	while (!r->stopping) {
		uint64_t next = end_overdue(r);
		struct timespec until = timespec_of(next);

		if (r->stopping)
			break;
		if (next)
			pthread_cond_timedwait(&r->watch, &r->lock, &until);
		else if (!r->first)
			pthread_cond_wait(&r->watch, &r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* --- all of them --- */

int requests_new(struct requests **out, struct mount *mount, unsigned timeout_ms,
		 struct err *err)
{
	AUTO(requests) struct requests *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(err, ENOMEM, "out of memory");
	r->mount = mount;
	r->timeout_ms = timeout_ms;
	pthread_mutex_init(&r->lock, NULL);
	wait_cond_init(&r->watch);
	wait_cond_init(&r->none_left);
	rc = pthread_create(&r->watcher, NULL, watch, r);
	if (rc)
		return err_sys(err, rc, "cannot start a thread");
	r->has_watcher = true;
	*out = steal(&r);
	return 0;
}

bool requests_stop(struct requests *r, unsigned wait_ms)
{
	struct timespec until = wait_until(CLOCK_MONOTONIC, wait_ms);
	struct request *mine = NULL;
	bool none;

	pthread_mutex_lock(&r->lock);
	r->stopping = true;
	pthread_cond_broadcast(&r->watch);
	while (r->first) {
		struct request *rq = r->first;

		if (condemn(r, rq, -ENOTCONN)) {
			rq->next = mine;
			mine = rq;
		}
	}
	pthread_mutex_unlock(&r->lock);

	for (struct request *next; mine; mine = next) {
		next = mine->next;
		request_fail(mine, -ENOTCONN);
	}

	pthread_mutex_lock(&r->lock);
	while (r->live > 0)
		if (pthread_cond_timedwait(&r->none_left, &r->lock, &until) == ETIMEDOUT)
			break;
	none = r->live == 0;
	pthread_mutex_unlock(&r->lock);
	return none;
}

void requests_free(struct requests *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stopping = true;
	pthread_cond_broadcast(&r->watch);
	pthread_mutex_unlock(&r->lock);
	if (r->has_watcher)
		pthread_join(r->watcher, NULL);
	assert(r->live == 0);
	for (struct request *next; r->pool; r->pool = next) {
		next = r->pool->next;
		request_destroy(r->pool);
	}
	pthread_cond_destroy(&r->watch);
	pthread_cond_destroy(&r->none_left);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void requests_stats(struct requests *r, struct requests_stats *out)
{
	pthread_mutex_lock(&r->lock);
	*out = r->stats;
	pthread_mutex_unlock(&r->lock);
}
