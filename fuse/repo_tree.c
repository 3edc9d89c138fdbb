/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/repo_tree_priv.h"

#include "archive/base/le.h"
#include "client/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { NODES_MIN = 1024 };

void repo_tree_lock(struct repo_tree *t)
{
	pthread_mutex_lock(&t->lock);
}

void repo_tree_unlock(struct repo_tree *t)
{
	pthread_mutex_unlock(&t->lock);
}

void repo_tree_pin(struct repo_tree *t)
{
	pthread_rwlock_rdlock(&t->pins);
}

void repo_tree_unpin(struct repo_tree *t)
{
	pthread_rwlock_unlock(&t->pins);
}

void repo_tree_begin_discard(struct repo_tree *t)
{
	pthread_rwlock_wrlock(&t->pins);
}

void repo_tree_end_discard(struct repo_tree *t)
{
	pthread_rwlock_unlock(&t->pins);
}

/* --- nodes; under the lock --- */

static struct node **id_row(const struct repo_tree *t, uint64_t id)
{
	return &t->ids[id & (t->capacity - 1)];
}

static struct node *find_id(const struct repo_tree *t, uint64_t id)
{
	struct node *node = *id_row(t, id);

	while (node && node->id != id)
		node = node->id_next;
	return node;
}

struct node *repo_tree_node(struct repo_tree *t, uint64_t id)
{
	struct node *node;

	repo_tree_lock(t);
	node = find_id(t, id);
	repo_tree_unlock(t);
	return node && node->kind != NODE_NAMESPACES ? node : NULL;
}

size_t repo_tree_count(struct repo_tree *t)
{
	size_t count;

	repo_tree_lock(t);
	count = t->count;
	repo_tree_unlock(t);
	return count;
}

static size_t name_row(const struct repo_tree *t, const struct node *parent, const char *name)
{
	uint64_t hash = parent->id + 1;

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
	hash *= UINT64_C(0x9e3779b97f4a7c15);
	return (size_t)(hash >> 32) & (t->capacity - 1);
}

struct node *repo_tree_child(struct repo_tree *t, const struct node *parent, const char *name)
{
	struct node *node = t->names[name_row(t, parent, name)];

	while (node && (node->parent != parent || strcmp(node->name, name) != 0))
		node = node->name_next;
	return node;
}

struct node *repo_tree_alias(struct repo_tree *t, struct node *ns, const char *name)
{
	struct node *folder = repo_tree_child(t, ns, REPO_TREE_NS_FOLDER), *link;
	char target[sizeof(REPO_TREE_NS_FOLDER) + SNAPSHOT_NS_SIZE_MAX + 1];

	if (!ns->parent || !folder || !repo_tree_child(t, folder, name) || snapshot_is_type(name))
		return NULL;
	link = repo_tree_child(t, ns, name);
	snprintf(target, sizeof(target), REPO_TREE_NS_FOLDER "/%s", name);
	if (!link)
		link = repo_tree_add(t, ns, NODE_LINK, name, target);
	return link && link->kind == NODE_LINK ? link : NULL;
}

struct node *repo_tree_after(struct repo_tree *t, const struct node *parent, uint64_t id)
{
	struct node *node = find_id(t, id);

	/* The usual case: the one before is still there. */
	if (node && node->parent == parent && !node->is_gone && id > 0)
		return node->next;
	for (node = parent->first; node && node->id <= id;)
		node = node->next;
	return node;
}

static void add_name(struct repo_tree *t, struct node *node)
{
	struct node **row = &t->names[name_row(t, node->parent, node->name)];

	node->name_next = *row;
	*row = node;
}

static void remove_name(struct repo_tree *t, struct node *node)
{
	struct node **link = &t->names[name_row(t, node->parent, node->name)];

	while (*link != node)
		link = &(*link)->name_next;
	*link = node->name_next;
}

static void add_id(struct repo_tree *t, struct node *node)
{
	struct node **row = id_row(t, node->id);

	node->id_next = *row;
	*row = node;
}

static void remove_id(struct repo_tree *t, struct node *node)
{
	struct node **link = id_row(t, node->id);

	while (*link != node)
		link = &(*link)->id_next;
	*link = node->id_next;
}

static bool grow(struct repo_tree *t)
{
	size_t capacity = t->capacity ? 2 * t->capacity : NODES_MIN;
	AUTO(free) struct node **names = calloc(capacity, sizeof(struct node *));
	AUTO(free) struct node **ids = calloc(capacity, sizeof(struct node *));

	if (!names || !ids)
		return false;
	free(t->names);
	free(t->ids);
	t->names = steal(&names);
	t->ids = steal(&ids);
	t->capacity = capacity;
	for (struct node *node = t->oldest; node; node = node->newer) {
		add_id(t, node);
		if (node->parent && !node->is_gone)
			add_name(t, node);
	}
	return true;
}

static int load(struct fetch_source *source, struct fetch_worker *worker, uint64_t index,
		struct chunk *chunk, struct err *err);
static int wrap(struct fetch_source *source, uint64_t index, int rc, struct err *err);

static struct node *node_new(struct repo_tree *t, struct node *parent, enum node_kind kind,
			     const char *name, const char *stored)
{
	size_t name_size = strlen(name) + 1, stored_size = stored ? strlen(stored) + 1 : 0;
	struct node *node;

	if (t->count == t->capacity && !grow(t))
		return NULL;
	node = calloc(1, sizeof(*node) + name_size + stored_size);
	if (!node)
		return NULL;
	memcpy(node->name, name, name_size);
	if (stored)
		node->stored = memcpy(node->name + name_size, stored, stored_size);
	node->id = t->next_id++;
	node->kind = kind;
	node->tree = t;
	node->parent = parent;
	if (parent)
		parent->below_count++;
	node->source.load = load;
	node->source.wrap = wrap;
	node->older = t->newest;
	*(t->newest ? &t->newest->newer : &t->oldest) = node;
	t->newest = node;
	t->count++;
	add_id(t, node);
	return node;
}

/* Of a node that is in no list but that of all. */
static void node_free(struct repo_tree *t, struct node *node)
{
	*(node->older ? &node->older->newer : &t->oldest) = node->newer;
	*(node->newer ? &node->newer->older : &t->newest) = node->older;
	t->count--;
	remove_id(t, node);
	if (node->parent)
		node->parent->below_count--;
	if (node->kind == NODE_SNAPSHOT)
		free(node->u.snapshot.snap);
	free(node);
}

bool repo_tree_is_useless(struct repo_tree *t, const struct node *node)
{
	bool useless;

	repo_tree_lock(t);
	useless = node->below_count == 0;
	repo_tree_unlock(t);
	return useless && fetch_is_idle(t->params.fetch, &node->source);
}

void repo_tree_discard(struct repo_tree *t, struct node *node)
{
	repo_tree_lock(t);
	node_free(t, node);
	repo_tree_unlock(t);
}

/* What a look-up below ".versions" makes. */
static bool is_version(const struct node *node)
{
	return node->kind == NODE_VERSIONS ||
	       (node->kind == NODE_LINK && node->parent->kind == NODE_VERSIONS);
}

struct node *repo_tree_add(struct repo_tree *t, struct node *parent, enum node_kind kind,
			   const char *name, const char *stored)
{
	struct node *node = parent->is_gone ? NULL : node_new(t, parent, kind, name, stored);

	if (!node)
		return NULL;
	t->version_count += is_version(node);
	add_name(t, node);
	node->prev = parent->last;
	if (parent->last)
		parent->last->next = node;
	else
		parent->first = node;
	parent->last = node;
	return node;
}

static void mark_gone(struct repo_tree *t, struct node *node, struct repo_tree_gone *gone)
{
	node->last = NULL;
	node->is_gone = true;
	t->version_count -= is_version(node);
	remove_name(t, node);
	node->next = NULL;
	*(gone->last ? &gone->last->next : &gone->first) = node;
	gone->last = node;
}

/* And all below it, without recursion. */
static void mark_all_gone(struct repo_tree *t, struct node *top, struct repo_tree_gone *gone)
{
	struct node *node = top;

	for (;;) {
		struct node *parent = node->parent;

		if (node->first) {
			node = node->first;
			continue;
		}
		if (node != top)
			parent->first = node->next;
		mark_gone(t, node, gone);
		if (node == top)
			return;
		node = parent;
	}
}

void repo_tree_detach(struct repo_tree *t, struct node *node, struct repo_tree_gone *gone)
{
	struct node *parent = node->parent;

	if (node->prev)
		node->prev->next = node->next;
	else
		parent->first = node->next;
	if (node->next)
		node->next->prev = node->prev;
	else
		parent->last = node->prev;
	node->is_top = true;
	mark_all_gone(t, node, gone);
}

void repo_tree_tell_gone(struct repo_tree *t, struct repo_tree_gone *gone)
{
	for (struct node *node = gone->first, *next; node; node = next) {
		next = node->next;
		t->params.gone(t->params.arg, node);
	}
}

void repo_tree_trim_versions(struct repo_tree *t, const struct node *made)
{
	/* Some more at a time: it goes through all nodes for them. */
	const size_t enough = REPO_TREE_VERSIONS_MAX / 4 * 3;
	struct repo_tree_gone gone = { 0 };
	struct node *node, *next;

	repo_tree_lock(t);
	node = t->version_count > REPO_TREE_VERSIONS_MAX ? t->oldest : NULL;
	for (; node && t->version_count > enough; node = next) {
		next = node->newer;
		if (is_version(node) && !node->is_gone && !node->first && node != made)
			repo_tree_detach(t, node, &gone);
	}
	repo_tree_unlock(t);
	repo_tree_tell_gone(t, &gone);
}

void repo_tree_remove(struct repo_tree *t, struct node *node)
{
	struct repo_tree_gone gone = { 0 };

	repo_tree_lock(t);
	if (!node->is_gone && node->parent)
		repo_tree_detach(t, node, &gone);
	repo_tree_unlock(t);
	repo_tree_tell_gone(t, &gone);
}

/* --- names --- */

/* "prod/eu" */
static void ns_name(const struct repo_tree *t, const struct node *node, char *out, size_t size)
{
	size_t used;

	if (node == t->root) {
		snprintf(out, size, "%s", t->ns);
		return;
	}
	ns_name(t, node->parent->parent, out, size); /* its folder's namespace */
	used = strlen(out);
	snprintf(out + used, size - used, "%s%s", used ? "/" : "", node->name);
}

void repo_tree_name(struct repo_tree *t, const struct node *node, struct snapshot_name *out)
{
	*out = t->snapshot;
	for (; node && node->kind != NODE_NS; node = node->parent) {
		if (node->kind == NODE_SNAPSHOT && node->parent)
			out->time = node->u.snapshot.time;
		else if (node->kind == NODE_GROUP)
			snprintf(out->group.id, sizeof(out->group.id), "%s", node->name);
		else if (node->kind == NODE_TYPE)
			snprintf(out->group.type, sizeof(out->group.type), "%s", node->name);
	}
	if (node)
		ns_name(t, node, out->group.ns, sizeof(out->group.ns));
}

void repo_tree_path(const struct node *node, char *out, size_t size)
{
	size_t used;

	out[0] = '\0';
	if (!node->parent) {
		if (node->kind == NODE_SNAPSHOT)
			snapshot_path(&node->tree->snapshot, out, size);
		else
			snapshot_ns_path(node->tree->ns, out, size);
		return;
	}
	repo_tree_path(node->parent, out, size);
	used = strlen(out);
	snprintf(out + used, size - used, "%s%s", used ? "/" : "", node->name);
}

/* --- loading --- */

static struct node *node_of(struct fetch_source *source)
{
	return (struct node *)((char *)source - offsetof(struct node, source));
}

static int load(struct fetch_source *source, struct fetch_worker *worker, uint64_t index,
		struct chunk *chunk, struct err *err)
{
	struct node *node = node_of(source);
	struct repo_tree *t = node->tree;

	switch (node->kind) {
	case NODE_NAMESPACES:
	case NODE_NS:
	case NODE_GROUP:
		return repo_tree_list(node, err);
	default:
		return t->params.load(t->params.arg, node, worker, index, chunk, err);
	}
}

static int wrap(struct fetch_source *source, uint64_t index, int rc, struct err *err)
{
	(void)source;
	(void)index;
	(void)err;
	return rc == -EAGAIN ? -EIO : rc;
}

void repo_tree_want(struct node *node, uint64_t index, struct fetch_want *want)
{
	*want = (struct fetch_want){ .source = &node->source, .index = index, .class_ = CHUNK_META };
	/* As nobody else's: not a digest but by chance, not a file's or a payload index's. */
	le64_put(want->key.bytes, node->id);
	le64_put(want->key.bytes + 8, index);
	le64_put(want->key.bytes + 16, node->serial);
	le64_put(want->key.bytes + 24, UINT64_C(0xa2c5) << 48);
}

void repo_tree_loaded(struct node *node)
{
	node->serial++;
}

/* --- is it fresh? --- */

static struct node *group_of(const struct node *node)
{
	struct node *group = node->parent;

	while (group->kind != NODE_GROUP)
		group = group->parent;
	return group;
}

/* The node whose listing says that this one is there; NULL: it is as long as its parent is. */
static struct node *list_of(const struct repo_tree *t, const struct node *node)
{
	if (!node->parent)
		return NULL;
	if (node->kind == NODE_VERSIONS || node->parent->kind == NODE_VERSIONS)
		return group_of(node);
	switch (node->kind) {
	case NODE_NS:
	case NODE_NS_FOLDER:
		return t->namespaces;
	case NODE_TYPE:
		return node->parent;
	case NODE_GROUP:
		return node->parent->parent;
	case NODE_SNAPSHOT:
		return node->parent;
	case NODE_LINK:
		return node->parent->kind == NODE_GROUP ? node->parent : t->namespaces;
	default:
		return NULL;
	}
}

static uint64_t ms_left(const struct repo_tree *t, const struct node *list)
{
	uint64_t end = list->listed_ms + t->params.refresh_ms, now = clock_now_ms();

	return list->listed_ms && end > now ? end - now : 0;
}

/* Under the lock. */
static int want_list(struct repo_tree *t, struct node *node, struct fetch_want *want)
{
	if (!node || ms_left(t, node) > 0)
		return 0;
	repo_tree_want(node, 0, want);
	return -EAGAIN;
}

static int want_snapshots(struct repo_tree *t, struct node *group, struct fetch_want *want,
			  struct repo_tree_gone *gone)
{
	int rc = want_list(t, list_of(t, group), want);

	if (rc == 0 && !group->is_gone && group->u.group.count == 1 &&
	    group->u.group.newest > 0 && ms_left(t, group) == 0)
		repo_tree_list_single(group, gone);
	return rc < 0 || group->is_gone ? rc : want_list(t, group, want);
}

int repo_tree_is_fresh(struct repo_tree *t, struct node *node, struct fetch_want *want,
		       struct err *err)
{
	struct repo_tree_gone gone = { 0 };
	struct node *list;
	int rc = 0;

	repo_tree_lock(t);
	list = list_of(t, node);
	if (!node->is_gone && list && list->kind == NODE_GROUP)
		rc = want_snapshots(t, list, want, &gone);
	else if (!node->is_gone)
		rc = want_list(t, list, want);
	if (rc == 0 && !node->is_gone && node->kind == NODE_GROUP && node->was_listed)
		rc = want_snapshots(t, node, want, &gone);
	if (node->is_gone)
		rc = -ESTALE;
	repo_tree_unlock(t);
	repo_tree_tell_gone(t, &gone);
	return rc == -ESTALE ? err_set(err, ESTALE, "it is not there any more") : rc;
}

int repo_tree_has_children(struct repo_tree *t, struct node *node, struct fetch_want *want,
			   struct err *err)
{
	struct repo_tree_gone gone = { 0 };
	int rc = repo_tree_is_fresh(t, node, want, err);

	if (rc < 0)
		return rc;
	repo_tree_lock(t);
	if (node->kind == NODE_NS) {
		rc = want_list(t, t->namespaces, want);
		if (rc == 0 && !node->is_gone)
			rc = want_list(t, node, want);
	} else if (node->kind == NODE_GROUP) {
		rc = want_snapshots(t, node, want, &gone);
	}
	repo_tree_unlock(t);
	repo_tree_tell_gone(t, &gone);
	return rc;
}

double repo_tree_timeout(struct repo_tree *t, const struct node *node)
{
	const struct node *list = list_of(t, node);
	uint64_t left = list ? ms_left(t, list) : UINT64_MAX;

	if (node->kind == NODE_NS && !list)
		left = t->params.refresh_ms;
	if ((node->kind == NODE_GROUP || node->kind == NODE_NS) && node->was_listed &&
	    ms_left(t, node) < left)
		left = ms_left(t, node);
	return left == UINT64_MAX ? 1e9 : (double)left / 1000;
}

/* --- again and again --- */

static int wait_for(struct repo_tree *t, struct node *list)
{
	struct fetch_want want;
	struct chunk *none;
	struct err err = ERR_INIT;
	int rc;

	repo_tree_lock(t);
	rc = list->is_gone ? -ESTALE : want_list(t, list, &want);
	repo_tree_unlock(t);
	if (rc != -EAGAIN)
		return rc;
	rc = fetch_wait_for(t->params.fetch, &want, &none, &err);
	if (rc == 0)
		chunk_unref(none);
	return rc;
}

/* The oldest node after this one that is due. */
static struct node *next_due(struct repo_tree *t, const struct node *node)
{
	struct node *due;

	repo_tree_lock(t);
	/* A group comes after its namespace, so that has been listed then. */
	for (due = node ? node->newer : t->oldest; due; due = due->newer)
		if (due->is_entered && !due->is_gone &&
		    (due->kind == NODE_NS || due->listed_ms == 0))
			break;
	repo_tree_unlock(t);
	return due;
}

void repo_tree_look_again(struct repo_tree *t)
{
	for (struct node *list = NULL; (list = next_due(t, list));)
		if (wait_for(t, list) == -ECANCELED)
			return;
}

/* --- beginning and end --- */

static int init(struct repo_tree *t, struct err *err)
{
	const struct repo_tree_params *p = &t->params;
	enum node_kind kind = p->snapshot ? NODE_SNAPSHOT : NODE_NS;

	t->root = node_new(t, NULL, kind, "", NULL);
	t->namespaces = t->root ? node_new(t, NULL, NODE_NAMESPACES, "", NULL) : NULL;
	if (!t->namespaces)
		return err_set(err, ENOMEM, "out of memory");
	if (p->snapshot) {
		t->snapshot = *p->snapshot;
		t->root->u.snapshot.time = p->snapshot->time;
		t->root->mtime_ns = repo_tree_ns(p->snapshot->time);
	}
	return snapshot_ns_parse(p->ns, t->ns, err);
}

int repo_tree_new(struct repo_tree **out, const struct repo_tree_params *params,
		  struct err *err)
{
	AUTO(repo_tree) struct repo_tree *t = calloc(1, sizeof(*t));
	pthread_rwlockattr_t attr;
	int rc;

	if (!t)
		return err_set(err, ENOMEM, "out of memory");
	t->params = *params;
	/* Who discards waits for those who are at it, however many come after them. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&t->pins, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&t->lock, NULL);
	rc = init(t, err);
	if (rc == 0)
		*out = steal(&t);
	return rc;
}

void repo_tree_drain(struct repo_tree *t)
{
	struct node *node = t->root;

	while (node) {
		fetch_drain(t->params.fetch, &node->source);
		/* One that is under way may still add some. */
		repo_tree_lock(t);
		node = node->newer;
		repo_tree_unlock(t);
	}
}

void repo_tree_free(struct repo_tree *t)
{
	if (!t)
		return;
	repo_tree_drain(t);
	while (t->newest)
		node_free(t, t->newest);
	free(t->ids);
	free(t->names);
	pthread_mutex_destroy(&t->lock);
	pthread_rwlock_destroy(&t->pins);
	free(t);
}
