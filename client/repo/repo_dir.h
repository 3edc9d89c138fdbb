/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_dir - a repository in a directory, in Proxmox Backup's own on-disk layout; it may be
 * shared with a running server (same locks, same rules for chunks in use).
 *
 * Layout:  archive/FORMAT.md, "Datastore", "Locks", "Writing into a datastore".
 * Locks:   a directory that /etc/proxmox-backup/datastore.cfg names uses the server's locks
 *          below /run/proxmox-backup and its owner; any other one uses lock files of the same
 *          names and meaning in .pxarfs/locks/ inside itself.
 */
#ifndef PXARFS_REPO_DIR_H
#define PXARFS_REPO_DIR_H

#include "client/repo/repo.h"

int repo_dir_open(const char *path, struct repo **out, struct err *err);

/* Make a datastore in an empty (or absent) directory; `full`: all 65,536 chunk folders. */
int repo_dir_init(const char *path, bool full, struct err *err);

#endif
