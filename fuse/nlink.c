/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/nlink.h"

#include "archive/links.h"
#include "client/base/wait.h"
#include "client/cmd/log.h"
#include "fuse/inode.h"
#include "fuse/mount.h"
#include "fuse/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/random.h>
#include <time.h>

#define SAFE_NAMES 2 /* more than one: look at the inode number */
#define UNSURE_SECONDS 1.0

enum state { IDLE, COUNTING, LATE, KNOWN, NEVER };

struct nlink {
	struct archive *archive;
	struct read_at meta; /* its metadata, until nlink_stop() */
	atomic_bool stopping;
	struct links links; /* constant once KNOWN */

	/* Rises only.  Read without the lock; written under it, with release. */
	_Atomic enum state state;

	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t counted; /* the state became KNOWN or NEVER */
	struct fetch_waits waiting;
	pthread_t counter, waker;
	bool has_counter, has_waker;
	struct mount *mount; /* from nlink_start() */
	unsigned slot; /* the same */

	/* Entries of the files that were answered without knowing: a ring, the newest stay. */
	uint64_t *unsure;
	size_t unsure_count; /* of all; at most NLINK_UNSURE_MAX are kept */
};

static int read_unless_stopped(struct read_at *self, void *buf, size_t size, uint64_t offset,
			       struct err *err)
{
	struct nlink *n = (struct nlink *)((char *)self - offsetof(struct nlink, meta));

	if (n->stopping)
		return err_set(err, ECANCELED, "stopped");
	return read_at_exact(stream_read_at(archive_meta(n->archive)), buf, size, offset, err);
}

static const struct read_at_ops unless_stopped = { .read = read_unless_stopped };

struct nlink *nlink_new(struct archive *archive)
{
	struct nlink *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->archive = archive;
	n->meta = (struct read_at){ .ops = &unless_stopped,
				    .size = stream_size(archive_meta(archive)) };
	links_init(&n->links);
	pthread_mutex_init(&n->lock, NULL);
	TAILQ_INIT(&n->waiting);
	wait_cond_init(&n->counted);
	return n;
}

void nlink_free(struct nlink *n)
{
	if (!n)
		return;
	if (n->has_waker)
		pthread_join(n->waker, NULL);
	if (n->has_counter)
		pthread_join(n->counter, NULL);
	links_release(&n->links);
	free(n->unsure);
	pthread_cond_destroy(&n->counted);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

void nlink_stop(struct nlink *n)
{
	n->stopping = true;
}

/* Under the lock, or when nobody adds to them any more. */
static size_t unsure_kept(const struct nlink *n)
{
	return n->unsure_count < NLINK_UNSURE_MAX ? n->unsure_count : NLINK_UNSURE_MAX;
}

size_t nlink_memory(struct nlink *n)
{
	size_t bytes = sizeof(*n);

	if (atomic_load_explicit(&n->state, memory_order_acquire) == KNOWN)
		bytes += n->links.capacity * sizeof(n->links.files[0]);
	pthread_mutex_lock(&n->lock);
	if (n->unsure)
		bytes += unsure_kept(n) * sizeof(n->unsure[0]);
	pthread_mutex_unlock(&n->lock);
	return bytes;
}

/* --- counting --- */

/* All of the stream will be read: let its chunks be decoded side by side, where they have room
 * to stay until they are. */
static void hint_all(struct stream *meta)
{
	struct chunk_cache_stats cache;

	chunk_cache_stats(fetch_cache(stream_fetch(meta)), &cache);
	if (stream_size(meta) <= cache.bytes_max / 2)
		stream_hint(meta, 0, stream_size(meta));
}

static int count(struct nlink *n, struct err *err)
{
	struct stream *meta = archive_meta(n->archive);
	const struct tree *tree;
	uint64_t secret;
	int rc = archive_tree(n->archive, &tree, err);

	if (rc < 0)
		return rc;
	if (getrandom(&secret, sizeof(secret), GRND_NONBLOCK) < 0)
		secret = (uintptr_t)n;
	if (tree->version == PXAR_VERSION_1 && stream_size(meta) > NLINK_SINGLE_STREAM_SIZE_MAX)
		return err_set(err, E2BIG, "a single stream of this size is not read for it");
	hint_all(meta);
	return links_read(&n->links, tree, &n->meta, secret, err);
}

/* False: there is no kernel to tell any more.  It waits for no request to do this. */
static bool ask_anew(const struct nlink *n, uint64_t entry_offset)
{
	struct inode i = { .slot = n->slot, .offset = entry_offset };
	struct mount *m = n->mount;
	bool told;

	pthread_mutex_lock(&m->told_lock);
	told = m->told;
	if (told && fuse_lowlevel_notify_inval_inode(m->told, inode_encode(&i), -1, 0) == 0)
		mount_count(m, MOUNT_CORRECTED, 1);
	pthread_mutex_unlock(&m->told_lock);
	return told;
}

/* On the counter's thread, when it is known and nobody adds to `unsure` any more. */
static void take_back(const struct nlink *n, const uint64_t *unsure)
{
	for (size_t i = 0; i < unsure_kept(n) && !n->stopping; i++)
		if (links_names(&n->links, unsure[i]) != SAFE_NAMES && !ask_anew(n, unsure[i]))
			return;
}

static void *counter(void *arg)
{
	AUTO(free) uint64_t *unsure = NULL;
	struct nlink *n = arg;
	struct err err = ERR_INIT;
	int rc = count(n, &err);

	if (rc == -E2BIG)
		log_debug("%s: hard links are not counted: %s", archive_display_name(n->archive),
			  err_text(&err, rc));
	else if (rc < 0 && rc != -ECANCELED)
		log_warn("%s: cannot count hard links: %s", archive_display_name(n->archive),
			 err_text(&err, rc));
	pthread_mutex_lock(&n->lock);
	atomic_store_explicit(&n->state, rc < 0 ? NEVER : KNOWN, memory_order_release);
	pthread_cond_broadcast(&n->counted);
	unsure = n->unsure;
	n->unsure = NULL;
	pthread_mutex_unlock(&n->lock);
	if (rc == 0 && unsure)
		take_back(n, unsure);
	return NULL;
}

static void wake_all(struct fetch_waits *waits)
{
	const struct err none = ERR_INIT;
	struct fetch_wait *wait;

	while ((wait = TAILQ_FIRST(waits))) {
		TAILQ_REMOVE(waits, wait, link); /* done() may free it */
		wait->done(wait->arg, NULL, 0, &none);
	}
}

/* Lets those go on who wait: when it is known, or has taken too long. */
static void *waker(void *arg)
{
	struct nlink *n = arg;
	struct timespec until = wait_until(CLOCK_MONOTONIC, NLINK_PATIENCE_MS);
	struct fetch_waits waiting = TAILQ_HEAD_INITIALIZER(waiting);

	pthread_mutex_lock(&n->lock);
	while (n->state == COUNTING)
		if (pthread_cond_timedwait(&n->counted, &n->lock, &until) == ETIMEDOUT &&
		    n->state == COUNTING)
			atomic_store_explicit(&n->state, LATE, memory_order_release);
	TAILQ_CONCAT(&waiting, &n->waiting, link);
	pthread_mutex_unlock(&n->lock);
	wake_all(&waiting);
	return NULL;
}

void nlink_start(struct nlink *n, struct mount *mount, unsigned slot)
{
	if (atomic_load_explicit(&n->state, memory_order_acquire) != IDLE)
		return;
	pthread_mutex_lock(&n->lock);
	if (n->state == IDLE) {
		n->state = COUNTING;
		n->mount = mount;
		n->slot = slot;
		n->has_waker = pthread_create(&n->waker, NULL, waker, n) == 0;
		n->has_counter = n->has_waker &&
				 pthread_create(&n->counter, NULL, counter, n) == 0;
		if (!n->has_counter) {
			n->state = NEVER;
			pthread_cond_broadcast(&n->counted);
		}
	}
	pthread_mutex_unlock(&n->lock);
}

/* --- asking --- */

/* While it is not known, and nobody is to wait: remember who was told so. */
static struct nlink_answer answer_unsure(struct nlink *n, uint64_t entry_offset)
{
	bool unsure;

	pthread_mutex_lock(&n->lock);
	unsure = n->state == IDLE || n->state == LATE;
	if (unsure && !n->unsure)
		n->unsure = malloc(NLINK_UNSURE_MAX * sizeof(n->unsure[0]));
	if (unsure && n->unsure)
		n->unsure[n->unsure_count++ % NLINK_UNSURE_MAX] = entry_offset;
	pthread_mutex_unlock(&n->lock);
	if (!unsure)
		return nlink_get(n, entry_offset); /* it has just changed */
	return (struct nlink_answer){ .names = SAFE_NAMES, .timeout = UNSURE_SECONDS };
}

struct nlink_answer nlink_get(struct nlink *n, uint64_t entry_offset)
{
	switch (atomic_load_explicit(&n->state, memory_order_acquire)) {
	case KNOWN:
		return (struct nlink_answer){ .names = links_names(&n->links, entry_offset),
					      .timeout = SESSION_ENDLESS };
	case NEVER:
		return (struct nlink_answer){ .names = SAFE_NAMES, .timeout = SESSION_ENDLESS };
	case COUNTING:
		return (struct nlink_answer){ .names = SAFE_NAMES,
					      .timeout = UNSURE_SECONDS,
					      .wait = true };
	default:
		return answer_unsure(n, entry_offset);
	}
}

void nlink_wait(struct nlink *n, struct fetch_wait *wait)
{
	const struct err none = ERR_INIT;
	bool waits;

	pthread_mutex_lock(&n->lock);
	waits = n->state == COUNTING;
	if (waits)
		TAILQ_INSERT_TAIL(&n->waiting, wait, link);
	pthread_mutex_unlock(&n->lock);
	if (!waits)
		wait->done(wait->arg, NULL, 0, &none);
}
