/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_tree - a repository's namespaces, groups and snapshots as folders.
 *
 *	[ns/NAMESPACE/[ns/...]]TYPE/ID/TIME/FILE       TYPE/ID/latest -> TIME
 *
 * as they lie in a datastore, so no namespace can hide a type.  Only what somebody looks at is
 * listed: all namespaces in one call, a namespace's groups in one, a group's snapshots in one
 * (none for a group that has just one).  A listing is good for the refresh time; then who asks
 * waits for a new one, on a fetch thread like a chunk.  What a new one lacks is gone for good:
 * its number means nothing any more (-ESTALE), and a snapshot of the same name is another one.
 * When the repository fails, the last listing goes on for a little while.
 *
 * A folder's mtime is its newest snapshot's time, or when something else was seen to change: it
 * moves with each change, by which the kernel knows that a listing it keeps is old.
 *
 * Owner:   a node, some 200 bytes, lives at least until it is gone and the kernel was told so; then
 *          it is discarded as soon as no load and no node below it needs it.  Whoever comes upon nodes
 *          pins them all while he uses them.  Numbers are not used again, so what the kernel or a
 *          request has of a discarded node means nothing any more, without anybody's keeping a list.
 * Threads: any number.  Fields marked (L) are read and written under repo_tree_lock(), a leaf;
 *          those marked (S) under the lock of snaps.c; the others are constant.
 * Trust:   names come from the repository; what is no name of its kind is not shown.
 */
#ifndef PXARFS_REPO_TREE_H
#define PXARFS_REPO_TREE_H

#include "client/read/fetch.h"
#include "client/repo/repo.h"

enum node_kind {
	NODE_NAMESPACES, /* the list of all namespaces; not shown */
	NODE_NS,
	NODE_NS_FOLDER, /* "ns" in a namespace that has others below it */
	NODE_TYPE,
	NODE_GROUP,
	NODE_SNAPSHOT,
	NODE_ARCHIVE, /* a folder; its content has numbers of its own */
	NODE_IMAGE, /* what an index lists, as a file */
	NODE_BLOB,
	NODE_LINK,
	NODE_VERSIONS, /* ".versions" and all below it: versions.h */
};

struct node {
	uint64_t id; /* in its inode number, ascending as nodes appear; 0: the root */
	enum node_kind kind;
	bool is_gone; /* (L) */
	bool is_top; /* (L) it is gone, and what it was in was there then */
	bool is_entered; /* (L) a namespace or group of which a snapshot was entered */
	uint32_t slot; /* of an archive that was opened, else 0; written under (S) and (L) */
	uint32_t stamp; /* (L) of the listing that showed it last */
	uint32_t serial; /* (L) of the load that is next */
	bool was_listed; /* (L) its children were, once */
	struct repo_tree *tree;
	struct node *parent; /* NULL: the root, or not shown */
	struct node *name_next, *id_next; /* (L) chains of the tables by name and by id */
	struct node *older, *newer; /* (L) all nodes by id */
	struct node *slot_next; /* (S) a chain of the archives by slot */
	struct node *first, *last, *next, *prev; /* (L) children by id; siblings */
	size_t below_count; /* (L) nodes whose parent it is, gone ones too */
	int64_t mtime_ns; /* (L) */
	uint64_t listed_ms; /* (L) when its children were; 0: never, or they have changed */
	struct fetch_source source; /* whatever has to be loaded for it */
	union {
		struct {
			int64_t newest; /* (L) as its namespace's listing says */
			uint64_t count; /* (L) */
		} group;
		struct {
			int64_t time;
			struct snap *snap; /* (S) NULL: nobody has entered it; freed with it */
		} snapshot;
		struct {
			uint64_t size; /* (L) of a blob UINT64_MAX until it is known */
			struct opened *opened; /* (S) an archive or image, while it is open */
		} file;
	} u;
	const char *stored; /* a file's stored name, a link's text; behind `name` */
	char name[]; /* "" of the root */
};

struct repo_tree;

#define REPO_TREE_VERSIONS ".versions" /* in a group that was asked for it */

struct repo_tree_params {
	struct repo *repo;
	struct fetch *fetch;
	const char *ns; /* what is shown; "" is all */
	const struct snapshot_name *snapshot; /* or the root is this snapshot; copied */
	unsigned refresh_ms;
	/* Bring what a snapshot or a file needs; as fetch_source.load. */
	int (*load)(void *arg, struct node *node, struct fetch_worker *worker, uint64_t index,
		    struct chunk *chunk, struct err *err);
	/* A node has gone, and before it all that was below it: it is the callee's, `next` and all, to
	 * be discarded.  Called without the lock, on any thread, and must not block. */
	void (*gone)(void *arg, struct node *node);
	void *arg;
};

int repo_tree_new(struct repo_tree **out, const struct repo_tree_params *params,
		  struct err *err);

/* Waits for loads in progress. */
void repo_tree_free(struct repo_tree *t);
DEFINE_AUTO_PTR(repo_tree)

/* No load of any node is in progress afterwards, and none has a waiter; after fetch_stop(). */
void repo_tree_drain(struct repo_tree *t);

void repo_tree_lock(struct repo_tree *t);
void repo_tree_unlock(struct repo_tree *t);

/* No node is discarded in between.  Not twice on one thread, nor to wait for anything. */
void repo_tree_pin(struct repo_tree *t);
void repo_tree_unpin(struct repo_tree *t);

/* The same the other way round: nobody has pinned nodes, so that they can be discarded. */
void repo_tree_begin_discard(struct repo_tree *t);
void repo_tree_end_discard(struct repo_tree *t);

/* Whether a node that is gone is of no use to any load or other node.  In between these two. */
bool repo_tree_is_useless(struct repo_tree *t, const struct node *node);
void repo_tree_discard(struct repo_tree *t, struct node *node);

/* How many there are. */
size_t repo_tree_count(struct repo_tree *t);

/* The node of an id; NULL: there never was one, or it was discarded. */
struct node *repo_tree_node(struct repo_tree *t, uint64_t id);

/* The child of that name; NULL: none.  Under the lock. */
struct node *repo_tree_child(struct repo_tree *t, const struct node *parent, const char *name);

/* Inside a namespace, a namespace below it, by its name alone: a link to "ns/NAME", so that
 * ns/prod/eu, as a source is written, is ns/prod/ns/eu.  NULL: there is none.  Under the lock. */
struct node *repo_tree_alias(struct repo_tree *t, struct node *ns, const char *name);

/* Such a link, and ".versions", are in no listing: a walk shall not go over things twice. */
static inline bool repo_tree_is_hidden(const struct node *node)
{
	return node->kind == NODE_VERSIONS || (node->kind == NODE_LINK && node->parent->kind == NODE_NS);
}

enum { REPO_TREE_VERSIONS_MAX = 10000 };

/* A folder below ".versions" was made, or a link: forget the oldest ones that have nothing below them,
 * while there are more than REPO_TREE_VERSIONS_MAX.  Who looks one up again makes it again. */
void repo_tree_trim_versions(struct repo_tree *t, const struct node *made);

/* The first child whose id is greater than `id`; NULL: none.  Under the lock. */
struct node *repo_tree_after(struct repo_tree *t, const struct node *parent, uint64_t id);

/* A new child; NULL without memory, or if the parent is gone.  Under the lock. */
struct node *repo_tree_add(struct repo_tree *t, struct node *parent, enum node_kind kind,
			   const char *name, const char *stored);

/* Take a node and all below it out of the tree, for good; tells params->gone.  Not the root. */
void repo_tree_remove(struct repo_tree *t, struct node *node);

/* Whether it is known that the node is (still) there, and what children it has.  -EAGAIN: wait
 * for *want and ask again; -ESTALE: it is gone. */
int repo_tree_is_fresh(struct repo_tree *t, struct node *node, struct fetch_want *want,
		       struct err *err);
int repo_tree_has_children(struct repo_tree *t, struct node *node, struct fetch_want *want,
			   struct err *err);

/* What brings a node, for fetch_get(); `index` is for params->load.  Under the lock. */
void repo_tree_want(struct node *node, uint64_t index, struct fetch_want *want);

/* A load with no bytes went well: the next one is another.  Under the lock. */
void repo_tree_loaded(struct node *node);

/* For how long, in seconds, the kernel may believe that this node is there.  Under the lock. */
double repo_tree_timeout(struct repo_tree *t, const struct node *node);

/* The namespace of a node, the group and time of a snapshot or what is below it. */
void repo_tree_name(struct repo_tree *t, const struct node *node, struct snapshot_name *out);

/* "ns/prod/host/web1/2027-01-15T08:00:02Z/root.pxar", for messages; cut off at `size`. */
void repo_tree_path(const struct node *node, char *out, size_t size);

/* List again, waiting, the groups of which snapshots were entered, where they have changed.  On the
 * thread that discards nodes. */
void repo_tree_look_again(struct repo_tree *t);

#endif
