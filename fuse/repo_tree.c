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

/* --- nodes; under the lock --- */

struct node *repo_tree_node(struct repo_tree *t, uint64_t id)
{
	struct node *node;

	repo_tree_lock(t);
	node = id < t->count ? t->nodes[id] : NULL;
	repo_tree_unlock(t);
	return node && node->kind != NODE_NAMESPACES ? node : NULL;
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
		node = node->hash_next;
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
	struct node *node = id < t->count ? t->nodes[id] : NULL;

	/* The usual case: the one before is still there. */
	if (node && node->parent == parent && !node->is_gone && id > 0)
		return node->next;
	for (node = parent->first; node && node->id <= id;)
		node = node->next;
	return node;
}

static void hash_add(struct repo_tree *t, struct node *node)
{
	struct node **row = &t->names[name_row(t, node->parent, node->name)];

	node->hash_next = *row;
	*row = node;
}

static void hash_remove(struct repo_tree *t, struct node *node)
{
	struct node **link = &t->names[name_row(t, node->parent, node->name)];

	while (*link != node)
		link = &(*link)->hash_next;
	*link = node->hash_next;
}

static bool grow(struct repo_tree *t)
{
	size_t capacity = t->capacity ? 2 * t->capacity : NODES_MIN;
	struct node **names = calloc(capacity, sizeof(struct node *)), **nodes;

	nodes = names ? realloc(t->nodes, capacity * sizeof(struct node *)) : NULL;
	if (!nodes) {
		free(names);
		return false;
	}
	free(t->names);
	t->nodes = nodes;
	t->names = names;
	t->capacity = capacity;
	for (size_t i = 0; i < t->count; i++)
		if (nodes[i]->parent && !nodes[i]->is_gone)
			hash_add(t, nodes[i]);
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
	node->id = t->count;
	node->kind = kind;
	node->tree = t;
	node->parent = parent;
	node->source.load = load;
	node->source.wrap = wrap;
	t->nodes[t->count++] = node;
	return node;
}

struct node *repo_tree_add(struct repo_tree *t, struct node *parent, enum node_kind kind,
			   const char *name, const char *stored)
{
	struct node *node = node_new(t, parent, kind, name, stored);

	if (!node)
		return NULL;
	hash_add(t, node);
	node->prev = parent->last;
	if (parent->last)
		parent->last->next = node;
	else
		parent->first = node;
	parent->last = node;
	return node;
}

/* And all below it, without recursion. */
static void mark_gone(struct repo_tree *t, struct node *top)
{
	struct node *node = top;

	for (;;) {
		struct node *parent = node->parent;

		if (node->first) {
			node = node->first;
			continue;
		}
		node->last = NULL;
		node->is_gone = true;
		hash_remove(t, node);
		if (node == top)
			return;
		parent->first = node->next;
		node = parent;
	}
}

void repo_tree_detach(struct repo_tree *t, struct node *node, struct node **gone)
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
	mark_gone(t, node);
	node->next = *gone;
	*gone = node;
}

void repo_tree_tell_gone(struct repo_tree *t, struct node *gone)
{
	for (struct node *next; gone; gone = next) {
		next = gone->next;
		if (t->params.gone)
			t->params.gone(t->params.arg, gone);
	}
}

void repo_tree_remove(struct repo_tree *t, struct node *node)
{
	struct node *gone = NULL;

	repo_tree_lock(t);
	if (!node->is_gone && node->parent)
		repo_tree_detach(t, node, &gone);
	repo_tree_unlock(t);
	repo_tree_tell_gone(t, gone);
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
			  struct node **gone)
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
	struct node *gone = NULL, *list;
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
	repo_tree_tell_gone(t, gone);
	return rc == -ESTALE ? err_set(err, ESTALE, "it is not there any more") : rc;
}

int repo_tree_has_children(struct repo_tree *t, struct node *node, struct fetch_want *want,
			   struct err *err)
{
	struct node *gone = NULL;
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
	repo_tree_tell_gone(t, gone);
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

void repo_tree_look_again(struct repo_tree *t)
{
	for (uint64_t id = 0;; id++) {
		struct node *node, *list = NULL;
		bool end;

		repo_tree_lock(t);
		end = id >= t->count;
		node = end ? NULL : t->nodes[id];
		/* A group that is due: its namespace was made before it, so that has been listed. */
		if (node && node->is_entered && !node->is_gone &&
		    (node->kind == NODE_NS || node->listed_ms == 0))
			list = node;
		repo_tree_unlock(t);
		if (end)
			return;
		if (list && wait_for(t, list) == -ECANCELED)
			return;
	}
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
	int rc;

	if (!t)
		return err_set(err, ENOMEM, "out of memory");
	t->params = *params;
	pthread_mutex_init(&t->lock, NULL);
	rc = init(t, err);
	if (rc == 0)
		*out = steal(&t);
	return rc;
}

void repo_tree_drain(struct repo_tree *t)
{
	for (size_t i = 0;; i++) {
		struct node *node;

		/* One that is under way may still add some. */
		repo_tree_lock(t);
		node = i < t->count ? t->nodes[i] : NULL;
		repo_tree_unlock(t);
		if (!node)
			return;
		fetch_drain(t->params.fetch, &node->source);
	}
}

void repo_tree_free(struct repo_tree *t)
{
	if (!t)
		return;
	repo_tree_drain(t);
	for (size_t i = 0; i < t->count; i++)
		free(t->nodes[i]);
	free(t->nodes);
	free(t->names);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
