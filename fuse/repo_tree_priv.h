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

	pthread_mutex_t lock; /* guards all below and fields of nodes */
	struct node **nodes; /* by id */
	size_t count, capacity;
	struct node **names; /* hashed by parent and name, chained; `capacity` of them */
	struct node *root, *namespaces;
	uint32_t stamp;
};

/* Seconds as nanoseconds; a time that these cannot tell (after 2262) is the last they can. */
static inline int64_t repo_tree_ns(int64_t seconds)
{
	const int64_t second = 1000000000;

	return seconds < INT64_MAX / second ? seconds * second : INT64_MAX - second;
}

/* Take a node out, and put it before the others that have gone, linked by `next`.  Under the
 * lock. */
void repo_tree_detach(struct repo_tree *t, struct node *node, struct node **gone);

/* Without the lock. */
void repo_tree_tell_gone(struct repo_tree *t, struct node *gone);

/* List the children of NODE_NAMESPACES, a namespace or a group; blocks. */
int repo_tree_list(struct node *node, struct err *err);

/* A group whose only snapshot its namespace's listing knows.  Under the lock. */
void repo_tree_list_single(struct node *group, struct node **gone);

#endif
