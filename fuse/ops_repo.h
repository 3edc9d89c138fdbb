/* SPDX-License-Identifier: Apache-2.0 */
/* What the operations on the folders above archives share: ops_repo.c, ops_versions.c. */
#ifndef PXARFS_OPS_REPO_H
#define PXARFS_OPS_REPO_H

#include "fuse/ops.h"
#include "fuse/snaps.h"

enum { OPS_REPO_DOTS_COUNT = 2 };

/* -EAGAIN: the request waits for rq->want.  Returns rc. */
int ops_repo_or_fetch(struct request *rq, int rc);

/* What stat() tells of a node.  Under the tree's lock. */
void ops_repo_stat(struct request *rq, const struct node *node, struct fuse_entry_param *out);

/* Have the request be about an archive, which gets a slot, and give its tree.  -EAGAIN. */
int ops_repo_open(struct request *rq, struct node *archive, const struct tree **tree);

/* A look-up in, and the rows of, a folder of kind NODE_VERSIONS. */
int ops_versions_lookup(struct request *rq, struct node *folder);
int ops_versions_list(struct request *rq, struct node *folder);

#endif
