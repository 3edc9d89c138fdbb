/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_dir_lock - the locks of a datastore directory, understood by the server and by us.
 *
 *	process   OFD read lock on <root>/.lock: garbage collection is kept out
 *	group     flock on a file named for TYPE/ID, exclusive: one backup at a time
 *	snapshot  for TYPE/ID/TIME, shared: it stays; exclusive: written or removed
 *	manifest  for TYPE/ID/TIME/.index.json.lck, exclusive: the manifest is rewritten,
 *	          or the log is added
 *
 * The files lie in /run/proxmox-backup/locks/STORE (a registered datastore) or in
 * .pxarfs/locks of the directory itself, a namespace's in a folder of its own.  While
 * /run/proxmox-backup/old-locking exists, groups and snapshots are locked by flock on their
 * folders instead.
 *
 * Order:   process, group, previous snapshot (shared), snapshot, manifest.
 * Layout:  archive/FORMAT.md, "Locks".
 * Threads: any number; locks of two descriptors exclude each other inside a process, too.
 */
#ifndef PXARFS_REPO_DIR_LOCK_H
#define PXARFS_REPO_DIR_LOCK_H

#include "client/repo/repo_dir_file.h"
#include "client/repo/snapshot.h"

#include <limits.h>

enum {
	/* escape() makes 4 bytes of one; "TYPE/ID/TIME/.index.json.lck" */
	REPO_DIR_LOCK_ENCODED_MAX = 4 * (SNAPSHOT_ID_SIZE_MAX + 48),
	REPO_DIR_LOCK_MANIFEST_WAIT_MS = 5000,
};

/* Where a datastore's lock files are; embedded in struct repo_dir. */
struct repo_dir_locks {
	int root_fd; /* borrowed */
	char dir[PATH_MAX]; /* absolute, or relative to root_fd */
	bool is_server; /* the server's own files: never removed but with what they guard */
	bool is_old; /* the old-locking switch was found */
	struct repo_dir_owner owner;
};

enum repo_dir_lock_kind { REPO_DIR_LOCK_GROUP, REPO_DIR_LOCK_SNAPSHOT, REPO_DIR_LOCK_MANIFEST };
enum repo_dir_lock_mode { REPO_DIR_LOCK_SHARED, REPO_DIR_LOCK_EXCLUSIVE };

struct repo_dir_lock {
	int fd; /* -1: not held */
	int dir_fd; /* of the lock file */
	char name[REPO_DIR_FILE_NAME_MAX + 1]; /* in dir_fd; "": a folder of the datastore */
};
#define REPO_DIR_LOCK_INIT { .fd = -1, .dir_fd = -1 }

/* The file name for "TYPE/ID..." (no namespace): below the locks' folder, "hashed/..." when
 * the escaped text has 255 bytes or more. */
int repo_dir_lock_name(const char *relative, char *out, size_t size);

/* The folder of a namespace's lock files, relative to the locks' folder: "a:b-1". */
void repo_dir_lock_ns(const char *ns, char out[SNAPSHOT_NS_SIZE_MAX + 1]);

/* Take a lock, waiting up to `wait_ms` (the server does so for manifests only).  `s->time` is
 * ignored for a group.  -EBUSY: someone else has it, the message says what that means; other
 * codes (-EACCES, -EROFS, ...): it cannot be locked. */
int repo_dir_lock_take(const struct repo_dir_locks *l, enum repo_dir_lock_kind kind,
		       enum repo_dir_lock_mode mode, unsigned wait_ms,
		       const struct snapshot_name *s, struct repo_dir_lock *out,
		       struct err *err);

/* Unlock.  `remove` (exclusive locks only): what it guarded is gone, or no one else will ask
 * for it, so its file goes too. */
void repo_dir_lock_drop(struct repo_dir_lock *lock, bool remove);

static inline void repo_dir_lock_release(struct repo_dir_lock *lock)
{
	repo_dir_lock_drop(lock, false);
}
DEFINE_AUTO_STRUCT(repo_dir_lock)

/* The shared process lock.  -EBUSY: garbage collection is running. */
int repo_dir_lock_process(const struct repo_dir_locks *l, int *fd, struct err *err);

#endif
