/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of repo_tree share. */
#ifndef PXARFS_REPO_TREE_PRIV_H
#define PXARFS_REPO_TREE_PRIV_H

#include "fuse/repo_tree.h"

#include <pthread.h>

#define REPO_TREE_NS_FOLDER "ns"

struct repo_tree {
	struct repo_tree_params params;
	struct snapshot_name snapshot; /* the root, where that is one */
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];

	pthread_rwlock_t pins; /* taken before all others */
	pthread_mutex_t lock; /* guards all below and fields of nodes */
	struct node *oldest, *newest; /* all there are */
	size_t count, capacity;
	size_t version_count; /* of those that repo_tree_trim_versions() bounds, and are not gone */
	struct node **ids, **names; /* tables with `capacity` chains, the latter by parent and name */
	uint64_t next_id;
	struct node *root, *namespaces;
	uint32_t stamp;
};

/* Seconds as nanoseconds; a time that these cannot tell (after 2262) is the last they can. */
static inline int64_t repo_tree_ns(int64_t seconds)
{
	const int64_t second = 1000000000;

	return seconds < INT64_MAX / second ? seconds * second : INT64_MAX - second;
}

/* Nodes that have gone, linked by `next`, each behind those that were below it. */
struct repo_tree_gone {
	struct node *first, *last;
};

/* Take a node out, and all below it.  Under the lock. */
void repo_tree_detach(struct repo_tree *t, struct node *node, struct repo_tree_gone *gone);

/* Without the lock. */
void repo_tree_tell_gone(struct repo_tree *t, struct repo_tree_gone *gone);

/* List the children of NODE_NAMESPACES, a namespace or a group; blocks. */
int repo_tree_list(struct node *node, struct err *err);

/* A group whose only snapshot its namespace's listing knows.  Under the lock. */
void repo_tree_list_single(struct node *group, struct repo_tree_gone *gone);

#endif
