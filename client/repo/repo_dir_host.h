/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_dir_host - what the machine knows of a datastore directory: is it one of the Proxmox
 * Backup server installed here, and under which name and user?
 *
 * Layout:  /etc/proxmox-backup/datastore.cfg: sections "datastore: NAME", each followed by
 *          indented "key value" lines.
 * Trust:   the file belongs to root; it is parsed as if it did not.
 */
#ifndef PXARFS_REPO_DIR_HOST_H
#define PXARFS_REPO_DIR_HOST_H

#include "archive/base/err.h"
#include "client/repo/repo_dir_file.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

enum {
	REPO_DIR_HOST_CFG_SIZE_MAX = 1 << 20,
	REPO_DIR_HOST_STORE_SIZE_MAX = 32, /* of a datastore's name */
};

/* Where the server keeps its things.  Tests make their own; everyone else uses
 * REPO_DIR_HOST. */
struct repo_dir_host {
	const char *datastore_cfg;
	const char *run_dir; /* lock files, and the old-locking switch */
	const char *mount_dir; /* datastores on removable devices: MOUNT_DIR/NAME/PATH */
	const char *user; /* "backup" */
};
extern const struct repo_dir_host REPO_DIR_HOST;

/* One section of datastore.cfg. */
struct repo_dir_host_store {
	char name[REPO_DIR_HOST_STORE_SIZE_MAX + 1]; /* "": none */
	char path[PATH_MAX];
	bool is_removable; /* backing-device: `path` is relative to its mount */
	bool is_s3; /* backend type=s3: the directory is only a cache */
	bool is_in_maintenance;
};

/* The section after `*position` (0 at first), which moves on.  1: there is none left;
 * -EBADMSG: the text is malformed, the message names the line. */
int repo_dir_host_next(const char *text, size_t size, size_t *position,
		       struct repo_dir_host_store *out, struct err *err);

/* The section whose path is the directory `root_fd`, by device and inode; out->name is "" when
 * there is none, or no such file.  -EACCES: the file may not be read; -EBADMSG. */
int repo_dir_host_find(const struct repo_dir_host *host, int root_fd,
		       struct repo_dir_host_store *out, struct err *err);

/* User and group of the server.  -ENOENT: there is no such user. */
int repo_dir_host_owner(const struct repo_dir_host *host, struct repo_dir_owner *out,
			struct err *err);

#endif
