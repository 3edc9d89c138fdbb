/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_dir - a repository in a directory, in Proxmox Backup's own on-disk layout; it may be
 * shared with a running server (same locks, same rules for chunks in use).
 *
 * Layout:  archive/FORMAT.md, "Datastore", "Locks", "Writing into a datastore".
 * Locks:   a directory that /etc/proxmox-backup/datastore.cfg names uses the server's locks
 *          below /run/proxmox-backup and its owner; any other one uses lock files of the same
 *          names and meaning in .pxarfs/locks/ inside itself.  A reader that may not lock
 *          goes on with a warning.
 * Writing: a backup also takes away what earlier ones of its group left unfinished, if nobody
 *          holds the lock of it.  A namespace that is missing is made, but not in a
 *          registered datastore.
 * Limits:  locks work on one machine: do not write into a directory that a server on another
 *          one uses.  Chunks written in vain stay until garbage collection.
 */
#ifndef PXARFS_REPO_DIR_H
#define PXARFS_REPO_DIR_H

#include "client/repo/repo.h"

/* `path` must hold a folder .chunks.  -ENOENT: it does not. */
int repo_dir_open(const char *path, struct repo **out, struct err *err);

/* Make a datastore in an empty (or absent) directory, where hidden files and lost+found do not
 * count; `full`: all 65,536 chunk folders, and mode 0755, as a server demands.  Otherwise nobody
 * else may enter the directory, and its group only if it may already.  What was interrupted can be repeated.  -ENOTEMPTY; -EEXIST: it is one already. */
int repo_dir_init(const char *path, bool full, struct err *err);

#endif
