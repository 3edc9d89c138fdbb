/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/push.h"

#include "client/base/wait.h"
#include "fuse/descend.h"
#include "fuse/inode.h"
#include "fuse/mount.h"
#include "fuse/push_runs.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum {
	/* A file lies in so many chunks at most; others are left to READs. */
	PIECES_MAX = 8,
	/* Inodes in a row that the kernel does not know. */
	UNKNOWN_MAX = 8,
	/* For a chunk that does not come the thread does not wait for longer. */
	PATIENCE_SECONDS = 5,
};

/* What is to be done for a run. */
struct job {
	struct push_run *run;
	struct shown *shown;
	uint64_t after; /* the entry that the first file to push is behind */
	struct job *next;
};

struct push {
	struct mount *mount;
	struct fuse_session *session;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t changed; /* a job, stopping, or the thread's chunk has come */
	struct push_runs runs;
	struct job jobs[PUSH_RUNS_MAX], *first, **end; /* queued; one a run at most */
	bool stopping;

	bool has_thread; /* the rest: of who calls push_new(), _stop() and _join() */
	pthread_t thread;
};

/* What the thread works with; from job to job only its memory is kept. */
struct worker {
	struct push *push;
	struct job job;
	const struct tree *tree;
	struct stream_view meta, payload;
	bool has_payload; /* version 2: `payload` is initialised */
	struct tree_window window;
	struct tree_entry entry;
	unsigned unknown_count;
};

/* --- waiting for a chunk --- */

struct waiting {
	struct fetch_wait wait;
	struct push *push;
	bool over; /* push's lock, as all below */
	struct chunk *chunk;
	int rc;
};

static void on_chunk(void *arg, struct chunk *chunk, int rc, const struct err *err)
{
	struct waiting *w = arg;
	struct push *p = w->push;

	(void)err;
	pthread_mutex_lock(&p->lock);
	w->over = true;
	w->chunk = chunk;
	w->rc = rc;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

/* Until it has come, patience is over, or the mount ends. */
static bool await_over(struct push *p, struct waiting *w)
{
	struct timespec until = wait_until(CLOCK_MONOTONIC, PATIENCE_SECONDS * 1000);
	bool over;

	pthread_mutex_lock(&p->lock);
	while (!w->over && !p->stopping)
		if (pthread_cond_timedwait(&p->changed, &p->lock, &until) == ETIMEDOUT)
			break;
	over = w->over;
	pthread_mutex_unlock(&p->lock);
	return over;
}

/* Have the view hold the chunk that it misses. */
static int bring(struct push *p, struct stream_view *view)
{
	struct waiting w = { .wait = { .done = on_chunk, .arg = &w }, .push = p };

	stream_view_wait(view, &w.wait);
	if (!await_over(p, &w)) {
		if (fetch_cancel(p->mount->fetch, &w.wait))
			return -ETIMEDOUT;
		/* it is just coming */
		pthread_mutex_lock(&p->lock);
		while (!w.over)
			pthread_cond_wait(&p->changed, &p->lock);
		pthread_mutex_unlock(&p->lock);
	}
	return w.rc < 0 ? w.rc : stream_view_hold(view, w.chunk);
}

/* What is next lies in the same chunks, most likely. */
static void forget_if_many(struct stream_view *view)
{
	if (view->held_count >= STREAM_VIEW_INLINE)
		stream_view_forget(view);
}

/* --- where the files are --- */

static int read_member(struct worker *w, const struct folder *f, size_t i)
{
	int rc;

	do
		rc = tree_window_member(&w->window, w->tree, &w->meta.base, &f->dir, f->slots,
					(size_t)f->dir.member_count, i, &w->entry, NULL);
	while (rc == -EAGAIN && bring(w->push, &w->meta) == 0);
	forget_if_many(&w->meta);
	return rc;
}

/* The folder with the entry at `entry_offset`, down from the root, and which member that is. */
static int find_entry(struct worker *w, uint64_t entry_offset, struct folder **out,
		      size_t *index)
{
	struct inode i = { .slot = w->job.shown->slot, .offset = entry_offset };
	struct descend d = { .folders = w->push->mount->folders,
			     .tree = w->tree,
			     .slot = w->job.shown->slot,
			     .meta = &w->meta,
			     .window = &w->window,
			     .entry = &w->entry };
	int rc;

	do
		rc = descend_to(&d, inode_encode(&i), out, index, NULL);
	while (rc == -EAGAIN && bring(w->push, &w->meta) == 0);
	stream_view_forget(&w->meta);
	return rc;
}

/* --- pushing --- */

static void describe(const struct tree *tree, uint32_t slot, const struct tree_entry *e,
		     struct push_file *out)
{
	*out = (struct push_file){ .slot = slot,
				   .entry_offset = e->entry_offset,
				   .begin = e->content_offset,
				   .size = e->content_size };
	out->end = out->begin + out->size;
	if (tree->version != PXAR_VERSION_1)
		out->end += PXAR_HEADER_SIZE;
}

/* What a READ reads before the content: the entry at its number, and its payload's header.  All
 * of it, whatever is known already: the views hold it then. */
static int find_content(struct worker *w, struct stream_view **view, uint64_t *begin)
{
	int rc;

	*view = &w->meta;
	wbuf_clear(&w->entry.scratch.bytes);
	rc = tree_entry_at(w->tree, &w->meta.base, w->entry.entry_offset, &w->entry, NULL);
	if (rc < 0)
		return rc;
	*begin = w->entry.content_offset;
	if (!w->has_payload)
		return 0;
	*view = &w->payload;
	return tree_payload_check(&w->entry, &w->payload.base, begin, NULL);
}

static int map_content(struct worker *w, struct iovec *pieces, size_t *count)
{
	struct stream_view *view;
	uint64_t begin;
	int rc;

	do {
		rc = find_content(w, &view, &begin);
		if (rc == 0)
			rc = stream_view_map(view, begin, (size_t)w->entry.content_size, pieces,
					     count, NULL);
	} while (rc == -EAGAIN && bring(w->push, view) == 0);
	return rc;
}

/* A vector with more than one buffer ends in them. */
union buffers {
	struct fuse_bufvec vector;
	char room[sizeof(struct fuse_bufvec) + (PIECES_MAX - 1) * sizeof(struct fuse_buf)];
};

static int store(struct worker *w, uint64_t number, const struct iovec *pieces, size_t count)
{
	union buffers b = { .vector = { .count = count } };
	struct fuse_buf *buf = b.vector.buf;
	struct mount *m = w->push->mount;
	int rc;

	for (size_t i = 0; i < count; i++)
		buf[i] = (struct fuse_buf){ .mem = pieces[i].iov_base,
					    .size = pieces[i].iov_len };
	rc = fuse_lowlevel_notify_store(w->push->session, number, 0, &b.vector, 0);
	if (rc == 0) {
		mount_count(m, MOUNT_PUSHED, 1);
		mount_count(m, MOUNT_PUSHED_BYTES, w->entry.content_size);
	} else if (rc == -ENOENT) {
		mount_count(m, MOUNT_PUSH_REFUSED, 1);
	}
	return rc;
}

/*
 * False: no use to go on.
 *
 * Until it is stored the views hold every chunk that a READ of this file needs, so that they are in
 * the cache: the store waits for the pages of such a READ, and with it, in the kernel, whoever
 * unmounts; it must not be parked for a chunk that does not come.
 */
static bool push_entry(struct worker *w)
{
	struct inode i = { .slot = w->job.shown->slot, .offset = w->entry.entry_offset };
	uint64_t number = inode_encode(&i);
	struct iovec pieces[PIECES_MAX];
	size_t count = PIECES_MAX;
	int rc = map_content(w, pieces, &count);

	if (rc == 0)
		rc = store(w, number, pieces, count);
	if (w->has_payload)
		forget_if_many(&w->payload);
	forget_if_many(&w->meta);
	w->unknown_count = rc == -ENOENT ? w->unknown_count + 1 : 0;
	return (rc == 0 || rc == -ENOENT || rc == -E2BIG) && w->unknown_count < UNKNOWN_MAX;
}

static bool is_regular(const struct tree_entry *e)
{
	return (e->meta.mode & PXAR_MODE_TYPE) == PXAR_MODE_REGULAR && !e->is_hardlink;
}

static enum push_verdict ask_verdict(struct worker *w)
{
	struct push *p = w->push;
	enum push_verdict verdict = PUSH_ENOUGH;
	struct push_file file;

	if (!is_regular(&w->entry))
		return PUSH_NOT; /* a hard link's target was before, or will be */
	describe(w->tree, w->job.shown->slot, &w->entry, &file);
	pthread_mutex_lock(&p->lock);
	if (!p->stopping)
		verdict = push_runs_next(w->job.run, &file);
	pthread_mutex_unlock(&p->lock);
	return verdict;
}

/* The members behind the one at `index`. */
static void push_members(struct worker *w, const struct folder *f, size_t index)
{
	for (size_t i = index + 1; i < f->dir.member_count; i++) {
		enum push_verdict verdict;

		if (read_member(w, f, i) < 0)
			return;
		verdict = ask_verdict(w);
		if (verdict == PUSH_ENOUGH || (verdict == PUSH_IT && !push_entry(w)))
			return;
	}
}

/* A READ was answered out of this archive, so its tree is known and its payload open. */
static int begin_job(struct worker *w)
{
	struct archive *a = w->job.shown->archive;
	struct stream *payload;
	int rc;

	stream_view_init(&w->meta, archive_meta(a));
	w->has_payload = false;
	w->unknown_count = 0;
	wbuf_clear(&w->window.bytes);
	wbuf_clear(&w->entry.scratch.bytes);
	w->window.narrow_end = 0;
	rc = archive_tree_try(a, &w->meta, &w->tree, NULL);
	if (rc < 0 || w->tree->version == PXAR_VERSION_1)
		return rc;
	rc = archive_payload_try(a, &payload, NULL);
	if (rc == 0) {
		stream_view_init(&w->payload, payload);
		w->has_payload = true;
	}
	return rc;
}

static void run_job(struct worker *w)
{
	struct folder *f;
	size_t index;

	if (begin_job(w) == 0 && find_entry(w, w->job.after, &f, &index) == 0) {
		push_members(w, f, index);
		folder_unref(f);
	}
	if (w->has_payload)
		stream_view_release(&w->payload);
	stream_view_release(&w->meta);
}

/* --- the thread --- */

/* The next job, once there is one; false: the end. */
static bool take_job(struct push *p, struct job *out)
{
	bool go_on;

	pthread_mutex_lock(&p->lock);
	while (!p->first && !p->stopping)
		pthread_cond_wait(&p->changed, &p->lock);
	go_on = !p->stopping;
	if (go_on) {
		*out = *p->first;
		p->first = p->first->next;
		if (!p->first)
			p->end = &p->first;
	}
	pthread_mutex_unlock(&p->lock);
	return go_on;
}

static void end_job(struct push *p, struct job *job)
{
	pthread_mutex_lock(&p->lock);
	push_runs_done(job->run);
	pthread_mutex_unlock(&p->lock);
	shown_let_go(job->shown);
}

static void *pusher(void *arg)
{
	struct worker w = { .push = arg };

	pthread_setname_np(pthread_self(), "push");
	tree_window_init(&w.window);
	tree_entry_init(&w.entry);
	while (take_job(w.push, &w.job)) {
		run_job(&w);
		end_job(w.push, &w.job);
	}
	tree_entry_release(&w.entry);
	tree_window_release(&w.window);
	return NULL;
}

/* Under the lock. */
static void queue_job(struct push *p, struct push_run *run, struct shown *shown)
{
	struct job *job = &p->jobs[run - p->runs.runs];

	*job = (struct job){ .run = run, .shown = shown, .after = run->last_entry };
	shown_hold(shown);
	*p->end = job;
	p->end = &job->next;
	pthread_cond_broadcast(&p->changed);
}

bool push_saw(struct push *p, struct shown *shown, const struct tree *tree,
	      const struct tree_entry *entry)
{
	struct push_file file;
	struct push_run *run;
	bool in_order = false;

	if (!p)
		return false;
	describe(tree, shown->slot, entry, &file);
	pthread_mutex_lock(&p->lock);
	run = p->stopping ? NULL : push_runs_saw(&p->runs, &file, &in_order);
	if (run)
		queue_job(p, run, shown);
	pthread_mutex_unlock(&p->lock);
	return in_order;
}

/* --- beginning and end --- */

int push_new(struct push **out, const struct push_params *params, struct err *err)
{
	AUTO(push) struct push *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return err_set(err, ENOMEM, "out of memory");
	p->mount = params->mount;
	p->session = params->session;
	p->runs.window_max = params->window_max;
	p->end = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	wait_cond_init(&p->changed);
	rc = pthread_create(&p->thread, NULL, pusher, p);
	if (rc)
		return err_sys(err, rc, "cannot start a thread");
	p->has_thread = true;
	*out = steal(&p);
	return 0;
}

void push_stop(struct push *p)
{
	pthread_mutex_lock(&p->lock);
	p->stopping = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

bool push_join(struct push *p, unsigned wait_ms)
{
	if (!p->has_thread)
		return true;
	if (!wait_join(p->thread, wait_ms))
		return false;
	p->has_thread = false;
	for (; p->first; p->first = p->first->next)
		shown_let_go(p->first->shown);
	return true;
}

void push_free(struct push *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->changed);
	free(p);
}
