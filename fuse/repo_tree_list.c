/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listing: what the repository tells becomes nodes, row by row; what a whole listing has not
 * shown goes.
 */
#include "fuse/repo_tree_priv.h"

#include "client/base/clock.h"
#include "client/cmd/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LATEST "latest"

enum {
	/* An old listing goes on for so long when a new one cannot be had. */
	GRACE_MS = 5000,
	TYPES_MAX = 8,
};

/* One run of a listing. */
struct listing {
	struct repo_tree *tree;
	struct node *node; /* whose children are listed */
	uint32_t stamp;
	bool no_memory;
	bool changed[TYPES_MAX]; /* of a namespace, by type; else [0] */
	int64_t newest;
	struct repo_tree_gone gone;
};

/* Seconds become the time of a folder, if they are later than that; else it was changed now. */
static void touch(struct node *node, int64_t newest, bool changed)
{
	int64_t newest_ns = repo_tree_ns(newest), now;

	if (newest_ns > node->mtime_ns) {
		node->mtime_ns = newest_ns;
		return;
	}
	if (!changed)
		return;
	now = clock_ns_of(CLOCK_REALTIME);
	node->mtime_ns = now > node->mtime_ns ? now : node->mtime_ns + 1;
}

/* The child of that name, stamped; a new one if need be.  NULL: no memory. */
static struct node *stamped(struct listing *l, struct node *parent, enum node_kind kind,
			    const char *name, bool *is_new)
{
	struct node *node = repo_tree_child(l->tree, parent, name);

	*is_new = !node;
	if (!node)
		node = repo_tree_add(l->tree, parent, kind, name, NULL);
	if (node)
		node->stamp = l->stamp;
	else
		l->no_memory = true;
	return node;
}

/* A namespace's path from the root of the tree, component by component. */
static void add_ns(struct listing *l, char *path)
{
	struct node *node = l->tree->root;
	char *rest = NULL;
	bool is_new;

	for (char *p = strtok_r(path, "/", &rest); p; p = strtok_r(NULL, "/", &rest)) {
		struct node *folder = stamped(l, node, NODE_NS_FOLDER, REPO_TREE_NS_FOLDER, &is_new);

		if (!folder)
			return;
		if (is_new)
			touch(node, 0, node->was_listed);
		node = stamped(l, folder, NODE_NS, p, &is_new);
		if (!node)
			return;
		if (is_new)
			touch(folder, 0, true);
	}
}

static int visit_ns(void *arg, const char *ns)
{
	struct listing *l = arg;
	struct repo_tree *t = l->tree;
	size_t skip = strlen(t->ns);
	char checked[SNAPSHOT_NS_SIZE_MAX + 1];

	if (snapshot_ns_parse(ns, checked, NULL) < 0)
		return 0;
	if (skip && (strncmp(checked, t->ns, skip) != 0 || checked[skip] != '/'))
		return 0;
	repo_tree_lock(t);
	add_ns(l, checked + (skip ? skip + 1 : 0));
	repo_tree_unlock(t);
	return l->no_memory ? -ENOMEM : 0;
}

/* Recursion is as deep as namespaces are: SNAPSHOT_NS_DEPTH_MAX. */
static void sweep_namespaces(struct listing *l, struct node *ns)
{
	struct node *folder = repo_tree_child(l->tree, ns, REPO_TREE_NS_FOLDER), *next;
	bool changed = false;

	if (!folder)
		return;
	for (struct node *node = folder->first; node; node = next) {
		next = node->next;
		if (node->stamp == l->stamp) {
			sweep_namespaces(l, node);
			continue;
		}
		repo_tree_detach(l->tree, node, &l->gone);
		changed = true;
	}
	touch(folder, 0, changed);
	if (!folder->first) {
		repo_tree_detach(l->tree, folder, &l->gone);
		touch(ns, 0, true);
	}
}

static unsigned type_number(const char *type)
{
	unsigned i = 0;

	while (strcmp(snapshot_type(i), type) != 0)
		i++;
	return i;
}

static void add_group(struct listing *l, const struct repo_group_info *info)
{
	bool *changed = &l->changed[type_number(info->group.type)], is_new;
	struct node *type = stamped(l, l->node, NODE_TYPE, info->group.type, &is_new), *group;

	group = type ? stamped(l, type, NODE_GROUP, info->group.id, &is_new) : NULL;
	if (!group)
		return;
	*changed |= is_new;
	if (!is_new && group->u.group.newest == info->last_backup &&
	    group->u.group.count == info->backup_count)
		return;
	*changed = true;
	group->u.group.newest = info->last_backup;
	group->u.group.count = info->backup_count;
	group->listed_ms = 0;
	touch(group, info->last_backup, !is_new);
}

static int visit_group(void *arg, const struct repo_group_info *info)
{
	struct listing *l = arg;

	if (!snapshot_is_type(info->group.type) || !snapshot_is_safe_id(info->group.id))
		return 0;
	repo_tree_lock(l->tree);
	add_group(l, info);
	repo_tree_unlock(l->tree);
	return l->no_memory ? -ENOMEM : 0;
}

/* Take out what this listing has not shown; the newest of what is left. */
static int64_t sweep_type(struct listing *l, struct node *type, bool *changed)
{
	struct node *next;
	int64_t newest = 0;

	for (struct node *group = type->first; group; group = next) {
		next = group->next;
		if (group->stamp != l->stamp) {
			repo_tree_detach(l->tree, group, &l->gone);
			*changed = true;
		} else if (group->u.group.newest > newest) {
			newest = group->u.group.newest;
		}
	}
	return newest;
}

static void sweep_groups(struct listing *l)
{
	struct node *next;
	bool any = false;

	for (struct node *type = l->node->first; type; type = next) {
		bool *changed;
		int64_t newest;

		next = type->next;
		if (type->kind != NODE_TYPE)
			continue;
		changed = &l->changed[type_number(type->name)];
		newest = sweep_type(l, type, changed);
		any |= *changed;
		touch(type, newest, *changed && l->node->was_listed);
		if (newest > l->newest)
			l->newest = newest;
		if (!type->first)
			repo_tree_detach(l->tree, type, &l->gone);
	}
	touch(l->node, l->newest, l->node->was_listed ? any : !l->newest);
}

static void add_snapshot(struct listing *l, int64_t time)
{
	char name[SNAPSHOT_TIME_TEXT_SIZE];
	struct node *node;
	bool is_new;

	if (snapshot_time_format(time, name) < 0)
		return;
	node = stamped(l, l->node, NODE_SNAPSHOT, name, &is_new);
	if (!node)
		return;
	if (is_new) {
		node->u.snapshot.time = time;
		touch(node, time, false);
	}
	l->changed[0] |= is_new;
	if (time > l->newest)
		l->newest = time;
}

static int visit_snapshot(void *arg, const struct repo_snapshot_info *info)
{
	struct listing *l = arg;

	if (!info->finished)
		return 0;
	repo_tree_lock(l->tree);
	add_snapshot(l, info->name.time);
	repo_tree_unlock(l->tree);
	return l->no_memory ? -ENOMEM : 0;
}

/* The kernel keeps a link's target, so another target is another link. */
static void link_latest(struct listing *l)
{
	struct node *link = repo_tree_child(l->tree, l->node, LATEST), *newest = NULL;
	char name[SNAPSHOT_TIME_TEXT_SIZE];

	if (snapshot_time_format(l->newest, name) == 0)
		newest = repo_tree_child(l->tree, l->node, name);
	if (link && newest && strcmp(link->stored, name) == 0)
		return;
	if (link)
		repo_tree_detach(l->tree, link, &l->gone);
	if (!newest)
		return;
	link = repo_tree_add(l->tree, l->node, NODE_LINK, LATEST, name);
	if (!link) {
		l->no_memory = true;
		return;
	}
	link->mtime_ns = newest->mtime_ns;
}

/* What is next in a walk over all that is below `top`. */
static struct node *next_below(const struct node *top, struct node *node)
{
	if (node->first)
		return node->first;
	while (node != top && !node->next)
		node = node->parent;
	return node == top ? NULL : node->next;
}

/* Versions of folders are links into snapshots, and go with them. */
static void sweep_versions(struct listing *l)
{
	struct node *top = repo_tree_child(l->tree, l->node, REPO_TREE_VERSIONS), *next;

	for (struct node *node = top; node; node = next) {
		next = next_below(top, node);
		if (node->kind == NODE_LINK && !repo_tree_child(l->tree, l->node, node->name))
			repo_tree_detach(l->tree, node, &l->gone);
	}
}

static void sweep_snapshots(struct listing *l)
{
	struct node *next;

	for (struct node *node = l->node->first; node; node = next) {
		next = node->next;
		if (node->kind == NODE_SNAPSHOT && node->stamp != l->stamp) {
			repo_tree_detach(l->tree, node, &l->gone);
			l->changed[0] = true;
		}
	}
	link_latest(l);
	if (l->gone.first)
		sweep_versions(l);
	touch(l->node, l->newest, l->changed[0] && l->node->was_listed);
}

static void listing_init(struct listing *l, struct repo_tree *t, struct node *node)
{
	*l = (struct listing){ .tree = t, .node = node };
	repo_tree_lock(t);
	l->stamp = ++t->stamp;
	repo_tree_unlock(t);
}

static int list(struct listing *l, struct err *err)
{
	struct repo *repo = l->tree->params.repo;
	struct snapshot_name name;

	repo_tree_name(l->tree, l->node, &name);
	switch (l->node->kind) {
	case NODE_NAMESPACES:
		return repo_list_ns(repo, l->tree->ns, visit_ns, l, err);
	case NODE_NS:
		return repo_list_groups(repo, name.group.ns, visit_group, l, err);
	default:
		return repo_list_snapshots(repo, &name.group, visit_snapshot, l, err);
	}
}

static void sweep(struct listing *l)
{
	switch (l->node->kind) {
	case NODE_NAMESPACES:
		sweep_namespaces(l, l->tree->root);
		break;
	case NODE_NS:
		sweep_groups(l);
		break;
	default:
		sweep_snapshots(l);
		break;
	}
	l->node->was_listed = true;
	l->node->listed_ms = clock_now_ms();
}

/* What to do when the repository does not answer: the old listing is better than none. */
static int list_failed(struct listing *l, int rc, struct err *err)
{
	struct repo_tree *t = l->tree;
	uint64_t grace = t->params.refresh_ms < GRACE_MS ? t->params.refresh_ms : GRACE_MS;
	bool is_gone, was_listed;

	if (rc == -ENOENT && l->node->kind == NODE_NS && l->node != t->root) {
		repo_tree_remove(t, l->node);
		return -ESTALE;
	}
	repo_tree_lock(t);
	is_gone = l->node->is_gone;
	was_listed = l->node->was_listed && rc != -ENOMEM && rc != -ECANCELED;
	if (was_listed)
		l->node->listed_ms = clock_now_ms() - t->params.refresh_ms + grace;
	repo_tree_unlock(t);
	if (is_gone)
		return -ESTALE;
	if (!was_listed)
		return rc == -ENOENT || rc == -EAGAIN ? -EIO : rc;
	log_warn("shown as it was before: %s", err_text(err, rc));
	return 0;
}

int repo_tree_list(struct node *node, struct err *err)
{
	struct repo_tree *t = node->tree;
	struct listing l;
	int rc;

	listing_init(&l, t, node);
	rc = list(&l, err);
	if (rc < 0)
		rc = list_failed(&l, l.no_memory ? err_set(err, ENOMEM, "out of memory") : rc, err);
	else {
		repo_tree_lock(t);
		sweep(&l);
		repo_tree_unlock(t);
		repo_tree_tell_gone(t, &l.gone);
	}
	if (rc == 0) {
		repo_tree_lock(t);
		repo_tree_loaded(node);
		repo_tree_unlock(t);
	}
	return rc;
}

void repo_tree_list_single(struct node *group, struct repo_tree_gone *gone)
{
	struct repo_tree *t = group->tree;
	struct listing l = { .tree = t, .node = group, .stamp = ++t->stamp };

	add_snapshot(&l, group->u.group.newest);
	if (l.no_memory)
		return;
	sweep_snapshots(&l);
	*gone = l.gone;
	group->was_listed = true;
	group->listed_ms = group->parent->parent->listed_ms;
}
