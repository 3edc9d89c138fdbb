/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/snaps_priv.h"

#include "client/base/clock.h"
#include "client/base/wait.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* While something is open the keeper looks after it so often. */
enum { LOOK_MS = 10 * 1000 };

enum { SLOTS_MIN = 64 };

void snaps_kick(struct snaps *s)
{
	s->is_kicked = true;
	pthread_cond_signal(&s->work);
}

/* --- asking --- */

static bool is_gone(struct snaps *s, const struct node *node)
{
	bool gone;

	repo_tree_lock(s->tree);
	gone = node->is_gone;
	repo_tree_unlock(s->tree);
	return gone;
}

static void want_node(struct snaps *s, struct node *node, uint64_t index,
		      struct fetch_want *want)
{
	repo_tree_lock(s->tree);
	repo_tree_want(node, index, want);
	repo_tree_unlock(s->tree);
}

int snaps_has_files(struct snaps *s, struct node *snapshot, struct fetch_want *want,
		    struct err *err)
{
	bool known;

	if (is_gone(s, snapshot))
		return err_set(err, ESTALE, "it is not there any more");
	pthread_mutex_lock(&s->lock);
	known = snapshot->u.snapshot.snap && snapshot->u.snapshot.snap->is_known;
	pthread_mutex_unlock(&s->lock);
	if (known)
		return 0;
	want_node(s, snapshot, 0, want);
	return -EAGAIN;
}

int snaps_enter(struct snaps *s, struct node *file, struct shown **out, struct fetch_want *want,
		struct err *err)
{
	struct opened *o;

	if (is_gone(s, file))
		return err_set(err, ESTALE, "it is not there any more");
	pthread_mutex_lock(&s->lock);
	o = file->u.file.opened;
	if (o)
		o->users++;
	pthread_mutex_unlock(&s->lock);
	if (o) {
		*out = &o->shown;
		return 0;
	}
	want_node(s, file, 0, want);
	return -EAGAIN;
}

struct stream *snaps_image(struct shown *shown)
{
	return ((struct opened *)shown)->image;
}

static struct node **slot_row(const struct snaps_slots *slots, uint32_t slot)
{
	return &slots->rows[slot & (slots->capacity - 1)];
}

struct node *snaps_at(struct snaps *s, uint32_t slot)
{
	struct node *node = NULL;

	pthread_mutex_lock(&s->lock);
	if (s->slots.count > 0)
		for (node = *slot_row(&s->slots, slot); node && node->slot != slot;)
			node = node->slot_next;
	pthread_mutex_unlock(&s->lock);
	return node;
}

static void add_slot(struct snaps_slots *slots, struct node *archive)
{
	struct node **row = slot_row(slots, archive->slot);

	archive->slot_next = *row;
	*row = archive;
}

static bool grow_slots(struct snaps_slots *slots)
{
	struct snaps_slots larger = *slots;

	larger.capacity = slots->capacity ? 2 * slots->capacity : SLOTS_MIN;
	larger.rows = calloc(larger.capacity, sizeof(struct node *));
	if (!larger.rows)
		return false;
	for (size_t i = 0; i < slots->capacity; i++)
		for (struct node *node = slots->rows[i], *next; node; node = next) {
			next = node->slot_next;
			add_slot(&larger, node);
		}
	free(slots->rows);
	*slots = larger;
	return true;
}

/* Under the lock. */
static void set_slot(struct snaps *s, struct node *archive, uint32_t slot)
{
	repo_tree_lock(s->tree);
	archive->slot = slot;
	repo_tree_unlock(s->tree);
	add_slot(&s->slots, archive);
	s->slots.count++;
}

/* Under the lock. */
static void drop_slot(struct snaps *s, struct node *archive)
{
	struct node **link;

	if (!archive->slot)
		return;
	for (link = slot_row(&s->slots, archive->slot); *link != archive;)
		link = &(*link)->slot_next;
	*link = archive->slot_next;
	s->slots.count--;
}

/* The next one of a class; 0: there is none. */
static uint32_t next_slot(struct snaps_slots *slots, const struct inode_class *class_)
{
	uint32_t *taken = &slots->taken[class_ - INODE_CLASS];

	if (*taken == class_->slot_end - class_->slot_begin)
		return 0;
	return class_->slot_begin + (*taken)++;
}

static bool fits(const struct inode_class *class_, uint64_t size)
{
	return size >> class_->offset_bits == 0;
}

/* Under the lock. */
static int take_slot(struct snaps *s, struct node *archive, uint64_t size, struct err *err)
{
	uint32_t slot = 0;

	if (s->slots.count == s->slots.capacity && !grow_slots(&s->slots))
		return err_set(err, ENOMEM, "out of memory");
	for (int i = 0; i < INODE_CLASSES && !slot; i++)
		if (fits(&INODE_CLASS[i], size))
			slot = next_slot(&s->slots, &INODE_CLASS[i]);
	if (!slot)
		return err_set(err, ENFILE, "so many archives were entered that more cannot be told "
			       "apart until the next mount");
	drop_slot(s, archive);
	set_slot(s, archive, slot);
	return 0;
}

int snaps_slot(struct snaps *s, struct node *archive, uint64_t size, uint32_t *slot,
	       struct err *err)
{
	int rc = 0;

	if (size > INODE_OFFSET_MAX)
		return err_set(err, E2BIG, "larger than an inode number can tell");
	pthread_mutex_lock(&s->lock);
	if (!archive->slot || !fits(inode_class_of_slot(archive->slot), size))
		rc = take_slot(s, archive, size, err);
	*slot = archive->slot;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int snaps_blob_size(struct snaps *s, struct node *blob, uint64_t *size, struct fetch_want *want)
{
	repo_tree_lock(s->tree);
	*size = blob->u.file.size;
	if (*size == UINT64_MAX)
		repo_tree_want(blob, SNAPS_BLOB_SIZE, want);
	repo_tree_unlock(s->tree);
	return *size == UINT64_MAX ? -EAGAIN : 0;
}

void snaps_blob_want(struct snaps *s, struct node *blob, struct fetch_want *want)
{
	repo_tree_lock(s->tree);
	repo_tree_want(blob, SNAPS_BLOB_CONTENT, want);
	want->size = (size_t)blob->u.file.size;
	want->class_ = CHUNK_PAYLOAD;
	repo_tree_unlock(s->tree);
}

struct repo_tree *snaps_tree(struct snaps *s)
{
	return s->tree;
}

int snaps_prove(struct snaps *s, unsigned wait_ms, struct err *err)
{
	struct node *root = repo_tree_node(s->tree, 0);
	struct fetch_want want;
	struct chunk *none;

	for (;;) {
		int rc = root->kind == NODE_SNAPSHOT ?
				 snaps_has_files(s, root, &want, err) :
				 repo_tree_has_children(s->tree, root, &want, err);

		if (rc == -EAGAIN)
			rc = fetch_wait_within(s->params.fetch, &want, wait_ms, &none, err);
		else
			return rc;
		if (rc < 0)
			return rc;
		chunk_unref(none);
	}
}

/* --- closing --- */

/* Taken out, to be freed. */
struct closing {
	struct visit *visits;
	struct opened *opened;
};

static bool is_idle(const struct visit *visit)
{
	bool idle = visit->users == 0;

	for (const struct opened *o = visit->opened; o; o = o->next)
		idle &= o->users == 0;
	return idle;
}

static size_t opened_bytes(const struct opened *o)
{
	if (o->image)
		return stream_memory(o->image);
	return archive_memory(o->shown.archive) + nlink_memory(o->shown.nlink);
}

static void take_opened(struct snaps *s, struct opened *o, struct closing *out)
{
	struct opened **link = &o->visit->opened;

	while (*link != o)
		link = &(*link)->next;
	*link = o->next;
	o->node->u.file.opened = NULL;
	o->next = out->opened;
	out->opened = o;
	s->stats.archives--;
}

static void take_visit(struct snaps *s, struct visit *visit, struct closing *out)
{
	struct visit **link = &s->visits;

	while (visit->opened)
		take_opened(s, visit->opened, out);
	while (*link != visit)
		link = &(*link)->next;
	*link = visit->next;
	visit->snap->visit = NULL;
	visit->next = out->visits;
	out->visits = visit;
	s->stats.snapshots--;
}

static void take_old(struct snaps *s, uint64_t now, struct closing *out)
{
	for (struct visit *visit = s->visits, *next; visit; visit = next) {
		next = visit->next;
		if (is_idle(visit) && (now >= visit->used_ms + s->params.idle_ms ||
					 is_gone(s, visit->snap->node)))
			take_visit(s, visit, out);
	}
}

static void take_surplus(struct snaps *s, struct closing *out)
{
	while (s->stats.snapshots > s->params.open_max) {
		struct visit *oldest = NULL;

		for (struct visit *i = s->visits; i; i = i->next)
			if (is_idle(i) && (!oldest || i->used < oldest->used))
				oldest = i;
		if (!oldest)
			return;
		take_visit(s, oldest, out);
	}
}

/* The one that was not used for longest, but for the one that was used last. */
static struct opened *find_oldest(struct snaps *s, size_t *bytes)
{
	struct opened *oldest = NULL, *newest = NULL;

	*bytes = 0;
	for (struct visit *i = s->visits; i; i = i->next)
		for (struct opened *o = i->opened; o; o = o->next) {
			*bytes += opened_bytes(o);
			if (!newest || o->used > newest->used)
				newest = o;
			if (o->users == 0 && (!oldest || o->used < oldest->used))
				oldest = o;
		}
	return oldest == newest ? NULL : oldest;
}

static void take_large(struct snaps *s, struct closing *out)
{
	struct opened *oldest = find_oldest(s, &s->stats.bytes);

	while (oldest && s->stats.bytes > s->params.bytes_max) {
		take_opened(s, oldest, out);
		oldest = find_oldest(s, &s->stats.bytes);
	}
}

/* Without the lock. */
static void close_all(struct closing *c)
{
	for (struct opened *next; c->opened; c->opened = next) {
		next = c->opened->next;
		snaps_opened_free(c->opened);
	}
	for (struct visit *next; c->visits; c->visits = next) {
		next = c->visits->next;
		snapshot_open_free(c->visits->open);
		free(c->visits);
	}
}

void snaps_close_idle(struct snaps *s, uint64_t now)
{
	struct closing c = { 0 };

	pthread_mutex_lock(&s->lock);
	take_old(s, now, &c);
	take_surplus(s, &c);
	take_large(s, &c);
	pthread_mutex_unlock(&s->lock);
	close_all(&c);
}

void snaps_stats(struct snaps *s, struct snaps_stats *out)
{
	pthread_mutex_lock(&s->lock);
	*out = s->stats;
	pthread_mutex_unlock(&s->lock);
	out->nodes = repo_tree_count(s->tree);
}

/* --- the keeper --- */

/* On any thread, also one that a request in this folder waits for. */
static void on_gone(void *arg, struct node *node)
{
	struct snaps *s = arg;

	pthread_mutex_lock(&s->lock);
	node->next = NULL;
	*s->gone_end = node;
	s->gone_end = &node->next;
	snaps_kick(s);
	pthread_mutex_unlock(&s->lock);
}

/* It waits for requests in that folder. */
static void tell_of_one(struct mount *m, const struct node *gone)
{
	struct inode parent = { .is_folder = true, .offset = gone->parent->id };

	pthread_mutex_lock(&m->told_lock);
	if (m->told)
		fuse_lowlevel_notify_inval_entry(m->told, inode_encode(&parent), gone->name,
						 strlen(gone->name));
	pthread_mutex_unlock(&m->told_lock);
}

static struct node *take_gone(struct snaps *s)
{
	struct node *gone;

	pthread_mutex_lock(&s->lock);
	gone = s->gone;
	s->gone = NULL;
	s->gone_end = &s->gone;
	pthread_mutex_unlock(&s->lock);
	return gone;
}

/* Under the lock. */
static bool is_open(const struct node *node)
{
	switch (node->kind) {
	case NODE_SNAPSHOT:
		return node->u.snapshot.snap && node->u.snapshot.snap->visit;
	case NODE_ARCHIVE:
	case NODE_IMAGE:
		return node->u.file.opened;
	default:
		return false;
	}
}

/* What is below a node comes before it, so one pass does them all.  Pins first: who has them takes
 * the lock. */
static void discard(struct snaps *s, struct node **link)
{
	repo_tree_begin_discard(s->tree);
	pthread_mutex_lock(&s->lock);
	while (*link) {
		struct node *node = *link;

		if (is_open(node) || !repo_tree_is_useless(s->tree, node)) {
			link = &node->next;
			continue;
		}
		*link = node->next;
		drop_slot(s, node);
		repo_tree_discard(s->tree, node);
	}
	pthread_mutex_unlock(&s->lock);
	repo_tree_end_discard(s->tree);
}

bool snaps_discard_gone(struct snaps *s)
{
	struct node *gone = take_gone(s), **end = &s->old;

	for (struct node *node = gone; node; node = node->next)
		if (node->is_top && s->mount)
			tell_of_one(s->mount, node);
	while (*end)
		end = &(*end)->next;
	*end = gone;
	if (s->old)
		discard(s, &s->old);
	return s->old;
}

/* Under the lock: until there is something to do, or `ms` if there may be something then. */
static void await_work(struct snaps *s, unsigned ms, bool is_timed)
{
	struct timespec until = wait_until(CLOCK_MONOTONIC, ms);

	while (!s->is_kicked && !s->is_stopping) {
		if (!is_timed)
			pthread_cond_wait(&s->work, &s->lock);
		else if (pthread_cond_timedwait(&s->work, &s->lock, &until) == ETIMEDOUT)
			break;
	}
	s->is_kicked = false;
}

static void *keeper(void *arg)
{
	unsigned period = 0;
	struct snaps *s = arg;
	int64_t next_look;

	pthread_setname_np(pthread_self(), "keeper");
	period = s->params.refresh_ms < LOOK_MS ? s->params.refresh_ms : LOOK_MS;
	next_look = clock_now_ms() + s->params.refresh_ms;
	pthread_mutex_lock(&s->lock);
	while (!s->is_stopping) {
		bool look = s->is_entered && clock_now_ms() >= next_look, is_left;

		pthread_mutex_unlock(&s->lock);
		snaps_close_idle(s, clock_now_ms());
		is_left = snaps_discard_gone(s);
		if (look) {
			repo_tree_look_again(s->tree);
			next_look = clock_now_ms() + s->params.refresh_ms;
		}
		pthread_mutex_lock(&s->lock);
		await_work(s, period, s->is_entered || is_left);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int snaps_start(struct snaps *s, struct mount *mount, struct err *err)
{
	int rc;

	s->mount = mount;
	rc = pthread_create(&s->keeper, NULL, keeper, s);
	if (rc)
		return err_sys(err, rc, "cannot start a thread");
	s->has_keeper = true;
	return 0;
}

void snaps_stop(struct snaps *s)
{
	pthread_mutex_lock(&s->lock);
	s->is_stopping = true;
	pthread_cond_broadcast(&s->work);
	for (struct visit *i = s->visits; i; i = i->next)
		for (struct opened *o = i->opened; o; o = o->next)
			if (o->shown.nlink)
				nlink_stop(o->shown.nlink);
	pthread_mutex_unlock(&s->lock);
}

bool snaps_join(struct snaps *s, unsigned wait_ms)
{
	if (s->has_keeper && !wait_join(s->keeper, wait_ms))
		return false;
	s->has_keeper = false;
	return true;
}

void snaps_abort(struct snaps *s)
{
	pthread_mutex_lock(&s->lock);
	for (struct visit *i = s->visits; i; i = i->next)
		snapshot_open_abort(i->open);
	pthread_mutex_unlock(&s->lock);
}

/* --- beginning and end --- */

int snaps_new(struct snaps **out, const struct snaps_params *params, struct err *err)
{
	AUTO(snaps) struct snaps *s = calloc(1, sizeof(*s));
	struct repo_tree_params tree = { .repo = params->repo,
					 .fetch = params->fetch,
					 .ns = params->ns,
					 .snapshot = params->snapshot,
					 .refresh_ms = params->refresh_ms,
					 .load = snaps_load,
					 .gone = on_gone,
					 .arg = s };
	int rc;

	if (!s)
		return err_set(err, ENOMEM, "out of memory");
	s->params = *params;
	s->gone_end = &s->gone;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->opened, NULL);
	wait_cond_init(&s->work);
	rc = repo_tree_new(&s->tree, &tree, err);
	if (rc == 0)
		*out = steal(&s);
	return rc;
}

void snaps_free(struct snaps *s)
{
	struct closing c = { 0 };

	if (!s)
		return;
	if (s->tree)
		repo_tree_drain(s->tree);
	while (s->visits)
		take_visit(s, s->visits, &c);
	close_all(&c);
	repo_tree_free(s->tree);
	free(s->slots.rows);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->opened);
	pthread_cond_destroy(&s->work);
	free(s);
}
