/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_dir_group - what a backup does with its group before it begins: lock it, make it or
 * check its owner, clear away what died in it, find the snapshot to build on; and how
 * snapshots and groups are removed.
 *
 * Layout:  archive/FORMAT.md, "Writing into a datastore".
 */
#ifndef PXARFS_REPO_DIR_GROUP_H
#define PXARFS_REPO_DIR_GROUP_H

#include "client/repo/repo_dir_priv.h"

/* Lock the group for one backup, and make it, owned by `owner`, if it is new (`*made`).  A
 * missing namespace is made in a directory of our own; in one of the server's it must exist.
 * -EBUSY: another backup is running; -EACCES: it belongs to someone else. */
int repo_dir_group_enter(struct repo_dir *d, const struct snapshot_group *g, const char *owner,
			 struct repo_dir_lock *lock, bool *made, struct err *err);

/* Remove what is unfinished in the locked group, unless someone holds its snapshot lock or it
 * is protected.  What cannot be removed stays, with a warning. */
void repo_dir_group_clean(struct repo_dir *d, const struct snapshot_group *g);

/* The newest finished snapshot, whether or not it can be built on. */
struct repo_dir_previous {
	struct snapshot_name name; /* time 0: there is none */
	bool is_usable; /* locked, its manifest is sound and did not fail verification */
	int fd; /* its folder, -1 unless usable */
	struct repo_dir_lock lock; /* shared */
};
int repo_dir_group_previous(struct repo_dir *d, const struct snapshot_group *g,
			    struct repo_dir_previous *out, struct err *err);
void repo_dir_previous_release(struct repo_dir_previous *p);

/* Remove a snapshot's folder (manifest first, so that no half of it looks whole) and the
 * files of its locks; `lock` is its exclusive lock and is dropped. */
int repo_dir_group_remove_snapshot(struct repo_dir *d, const struct snapshot_name *s,
				   struct repo_dir_lock *lock, struct err *err);

/* Drop the group's lock; with `empty` also remove the group, if no snapshot is in it.  True: it
 * is gone. */
bool repo_dir_group_leave(struct repo_dir *d, const struct snapshot_group *g, bool empty,
			  struct repo_dir_lock *lock);

#endif
