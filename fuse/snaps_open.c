/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: what runs on fetch threads, because it waits for the repository.  None of it waits
 * for another load.
 */
#include "fuse/snaps_priv.h"

#include "client/base/clock.h"

#include <errno.h>
#include <string.h>

/* --- the files of a snapshot --- */

static bool ends_with(const char *text, const char *end)
{
	size_t size = strlen(text), end_size = strlen(end);

	return size > end_size && strcmp(text + size - end_size, end) == 0;
}

static enum node_kind kind_of(const char *stored, const char *display)
{
	if (ends_with(stored, ".blob"))
		return NODE_BLOB;
	return ends_with(stored, ".didx") && ends_with(display, ".pxar") ? NODE_ARCHIVE :
									  NODE_IMAGE;
}

/* A child for a stored file; under the tree's lock.  The halves of an archive are one. */
static int add_file(struct snaps *s, struct node *snapshot, const char *stored, uint64_t size,
		    struct err *err)
{
	char name[ARCHIVE_NAME_SIZE_MAX + 1];
	struct node *node;
	enum node_kind kind;

	archive_name_display(stored, name);
	kind = kind_of(stored, name);
	node = repo_tree_child(s->tree, snapshot, name);
	if (node && node->kind == NODE_ARCHIVE && kind == NODE_ARCHIVE)
		return 0;
	node = repo_tree_add(s->tree, snapshot, kind, node ? stored : name, stored);
	if (!node)
		return err_set(err, ENOMEM, "out of memory");
	node->mtime_ns = snapshot->mtime_ns;
	node->u.file.size = kind == NODE_BLOB ? UINT64_MAX : size;
	return 0;
}

static int add_files(struct snaps *s, struct snap *snap, struct snapshot_open *open,
		     struct err *err)
{
	const struct manifest *m = snapshot_open_manifest(open);
	int rc = 0;

	if (m->file_count > SNAPS_FILES_MAX)
		return err_set(err, E2BIG, "%zu files, more than the %d that can be shown",
			       m->file_count, SNAPS_FILES_MAX);
	repo_tree_lock(s->tree);
	for (size_t i = 0; rc == 0 && i < m->file_count; i++)
		rc = add_file(s, snap->node, m->files[i].name, m->files[i].size, err);
	if (rc == 0)
		rc = add_file(s, snap->node, MANIFEST_BLOB_NAME, 0, err);
	repo_tree_unlock(s->tree);
	return rc;
}

/* The client's log comes after the snapshot. */
static int add_log(struct snaps *s, struct snap *snap, struct err *err)
{
	int rc;

	repo_tree_lock(s->tree);
	rc = add_file(s, snap->node, REPO_CLIENT_LOG, 0, err);
	if (snap->is_known)
		snap->node->mtime_ns++; /* the kernel's listing is old */
	repo_tree_unlock(s->tree);
	snap->has_log = rc == 0;
	return rc;
}

static int digest_files(const struct manifest *m, struct digest *out)
{
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();

	if (!ctx)
		return -ENOMEM;
	digest_ctx_begin(ctx);
	for (size_t i = 0; i < m->file_count; i++) {
		const struct manifest_file *f = &m->files[i];

		digest_ctx_update(ctx, f->name, strlen(f->name) + 1);
		digest_ctx_update(ctx, &f->size, sizeof(f->size));
		digest_ctx_update(ctx, &f->csum, sizeof(f->csum));
	}
	digest_ctx_end(ctx, out);
	return 0;
}

/* Only the one that opens the snapshot comes here. */
static int show_files(struct snaps *s, struct snap *snap, struct snapshot_open *open,
		      struct err *err)
{
	struct digest listing;
	int rc = digest_files(snapshot_open_manifest(open), &listing);

	if (rc < 0)
		return err_set(err, ENOMEM, "out of memory");
	if (snap->is_known && !digest_equal(&listing, &snap->listing)) {
		repo_tree_remove(s->tree, snap->node);
		return err_set(err, ESTALE, "it was removed and made anew");
	}
	snap->listing = listing;
	if (!snap->is_known)
		rc = add_files(s, snap, open, err);
	if (rc == 0 && snapshot_open_has_log(open) && !snap->has_log)
		rc = add_log(s, snap, err);
	return rc;
}

/* --- opening; on a fetch thread --- */

static int open_visit(struct snaps *s, struct snap *snap, struct visit **out,
			struct err *err)
{
	AUTO(snapshot_open) struct snapshot_open *open = NULL;
	struct visit *visit;
	struct snapshot_name name;
	int rc;

	repo_tree_name(s->tree, snap->node, &name);
	rc = snapshot_open_new(&open, s->params.fetch, s->params.repo, &name, s->params.key, err);
	if (rc == -ENOENT) {
		repo_tree_remove(s->tree, snap->node);
		return -ESTALE;
	}
	if (rc == -EBUSY)
		return -ESTALE; /* it is being removed */
	if (rc == 0)
		rc = show_files(s, snap, open, err);
	if (rc < 0)
		return rc;
	visit = calloc(1, sizeof(*visit));
	if (!visit)
		return err_set(err, ENOMEM, "out of memory");
	visit->open = steal(&open);
	visit->snap = snap;
	*out = visit;
	return 0;
}

/* Somebody goes into this snapshot: its group is looked at again from now on. */
static void mark_entered(struct snaps *s, struct node *snapshot)
{
	s->is_entered = true;
	repo_tree_lock(s->tree);
	for (struct node *node = snapshot->parent; node && !node->is_entered; node = node->parent)
		node->is_entered = node->kind == NODE_GROUP || node->kind == NODE_NS;
	repo_tree_unlock(s->tree);
}

/* Under the lock; NULL: no memory. */
static struct snap *snap_of(struct node *node)
{
	struct snap *snap = node->u.snapshot.snap;

	if (snap)
		return snap;
	snap = calloc(1, sizeof(*snap));
	if (!snap)
		return NULL;
	snap->node = node;
	node->u.snapshot.snap = snap;
	return snap;
}

/* The open snapshot, with one more user; opened if need be, by one thread.  Holds the lock
 * before and after. */
static int get_visit(struct snaps *s, struct node *node, struct visit **out,
		       struct err *err)
{
	struct snap *snap = snap_of(node);
	struct visit *visit = NULL;
	int rc = snap ? 0 : err_set(err, ENOMEM, "out of memory");

	while (rc == 0 && snap->is_opening)
		pthread_cond_wait(&s->opened, &s->lock);
	if (rc == 0 && !snap->visit) {
		snap->is_opening = true;
		pthread_mutex_unlock(&s->lock);
		rc = open_visit(s, snap, &visit, err);
		pthread_mutex_lock(&s->lock);
		snap->is_opening = false;
		pthread_cond_broadcast(&s->opened);
		if (rc < 0)
			return rc;
		snap->is_known = true;
		snap->visit = visit;
		visit->next = s->visits;
		s->visits = visit;
		s->stats.snapshots++;
		s->stats.opened++;
		mark_entered(s, node);
		snaps_kick(s);
	}
	if (rc == 0) {
		snap->visit->users++;
		*out = snap->visit;
	}
	return rc;
}

/* Under the lock. */
static void put_visit(struct snaps *s, struct visit *visit)
{
	visit->users--;
	visit->used = ++s->clock;
	visit->used_ms = clock_now_ms();
}

static void hold(struct shown *shown)
{
	struct opened *o = (struct opened *)shown;

	pthread_mutex_lock(&o->owner->lock);
	o->users++;
	pthread_mutex_unlock(&o->owner->lock);
}

static void let_go(struct shown *shown)
{
	struct opened *o = (struct opened *)shown;

	pthread_mutex_lock(&o->owner->lock);
	o->users--;
	o->used = o->visit->used = ++o->owner->clock;
	o->used_ms = o->visit->used_ms = clock_now_ms();
	pthread_mutex_unlock(&o->owner->lock);
}

void snaps_opened_free(struct opened *o)
{
	if (!o)
		return;
	if (o->shown.nlink)
		nlink_stop(o->shown.nlink);
	nlink_free(o->shown.nlink);
	archive_free(o->shown.archive);
	stream_free(o->image);
	free(o);
}

static void snaps_opened_cleanup(struct opened **o)
{
	snaps_opened_free(*o);
}

static int open_archive(struct snaps *s, struct opened *o, struct err *err)
{
	struct shown *shown = &o->shown;
	int rc = snapshot_open_archive(o->visit->open, o->node->name, &shown->archive, err);

	if (rc < 0)
		return rc;
	rc = snaps_slot(s, o->node, stream_size(archive_meta(shown->archive)), &shown->slot, err);
	if (rc < 0)
		return rc;
	archive_set_readahead(shown->archive, s->params.readahead_bytes);
	shown->nlink = nlink_new(shown->archive);
	return shown->nlink ? 0 : err_set(err, ENOMEM, "out of memory");
}

static int open_image(struct snaps *s, struct opened *o, struct err *err)
{
	int rc = snapshot_open_stream(o->visit->open, o->node->stored, &o->image, err);

	if (rc < 0)
		return rc;
	stream_set_readahead(o->image, s->params.readahead_bytes);
	return 0;
}

static int open_file(struct snaps *s, struct node *node, struct visit *visit,
		     struct opened **out, struct err *err)
{
	AUTO(snaps_opened) struct opened *o = calloc(1, sizeof(*o));
	int rc;

	if (!o)
		return err_set(err, ENOMEM, "out of memory");
	o->shown = (struct shown){ .hold = hold, .let_go = let_go };
	o->shown.name = o->path;
	o->owner = s;
	o->visit = visit;
	o->node = node;
	repo_tree_path(node, o->path, sizeof(o->path));
	rc = node->kind == NODE_ARCHIVE ? open_archive(s, o, err) : open_image(s, o, err);
	if (rc == 0)
		*out = steal(&o);
	return rc;
}

static int load_opened(struct snaps *s, struct node *node, struct err *err)
{
	struct visit *visit;
	struct opened *o = NULL;
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = get_visit(s, node->parent, &visit, err);
	if (rc == 0 && !node->u.file.opened) {
		pthread_mutex_unlock(&s->lock);
		rc = open_file(s, node, visit, &o, err);
		pthread_mutex_lock(&s->lock);
		if (rc == 0) {
			node->u.file.opened = o;
			o->used = ++s->clock;
			o->used_ms = clock_now_ms();
			o->next = visit->opened;
			visit->opened = o;
			s->stats.archives++;
		}
		put_visit(s, visit);
		snaps_kick(s);
	} else if (rc == 0) {
		put_visit(s, visit);
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* Into the cache, so that who wanted the size finds the content. */
static void keep_content(struct snaps *s, struct node *blob, const struct wbuf *content)
{
	struct fetch_want want;
	struct chunk *chunk;

	snaps_blob_want(s, blob, &want);
	chunk = chunk_new(fetch_cache(s->params.fetch), &want.key, content->size, want.class_);
	if (!chunk)
		return;
	memcpy(chunk->data, content->data, content->size);
	chunk_unref(chunk_cache_insert(fetch_cache(s->params.fetch), chunk));
}

/* Readers go by a size that was known once, whatever the log, which nothing vouches for, has now. */
static int know_size(struct snaps *s, struct node *node, const struct wbuf *content,
		     struct err *err)
{
	bool changed;

	repo_tree_lock(s->tree);
	changed = node->u.file.size != UINT64_MAX && node->u.file.size != content->size;
	if (!changed)
		node->u.file.size = content->size;
	repo_tree_unlock(s->tree);
	if (changed)
		return err_set(err, EIO, "%s: its size has changed", node->stored);
	if (content->size > 0)
		keep_content(s, node, content);
	return 0;
}

static int load_blob(struct snaps *s, struct node *node, uint64_t index, struct chunk *chunk,
		     struct err *err)
{
	AUTO(wbuf) struct wbuf content = WBUF_INIT(BLOB_DATA_SIZE_MAX);
	struct visit *visit;
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = get_visit(s, node->parent, &visit, err);
	pthread_mutex_unlock(&s->lock);
	if (rc < 0)
		return rc;
	rc = snapshot_open_blob(visit->open, node->stored, &content, err);
	pthread_mutex_lock(&s->lock);
	put_visit(s, visit);
	pthread_mutex_unlock(&s->lock);
	if (rc < 0)
		return rc;
	if (index == SNAPS_BLOB_CONTENT) {
		if (content.size != chunk->size)
			return err_set(err, EIO, "%s: its size has changed", node->stored);
		memcpy(chunk->data, content.data, content.size);
		return 0;
	}
	return know_size(s, node, &content, err);
}

static int load_snapshot(struct snaps *s, struct node *node, struct err *err)
{
	struct visit *visit;
	int rc;

	pthread_mutex_lock(&s->lock);
	rc = get_visit(s, node, &visit, err);
	if (rc == 0)
		put_visit(s, visit);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

int snaps_load(void *arg, struct node *node, struct fetch_worker *worker, uint64_t index,
	       struct chunk *chunk, struct err *err)
{
	char path[SNAPS_PATH_SIZE];
	struct snaps *s = arg;
	int rc;

	(void)worker;
	if (node->kind == NODE_BLOB)
		rc = load_blob(s, node, index, chunk, err);
	else
		rc = node->kind == NODE_SNAPSHOT ? load_snapshot(s, node, err) :
						   load_opened(s, node, err);
	if (rc < 0) {
		repo_tree_path(node->kind == NODE_SNAPSHOT ? node : node->parent, path,
			       sizeof(path));
		return err_wrap(err, rc == -ENOENT ? -EIO : rc, "%s", path);
	}
	repo_tree_lock(s->tree);
	if (node->kind != NODE_BLOB)
		repo_tree_loaded(node);
	repo_tree_unlock(s->tree);
	return 0;
}
