/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_name - which backend a repository's spelling means.
 *
 *	/srv/store, ./store, dir:store                        a datastore directory (repo_dir)
 *	[[USER@REALM[!TOKEN]@]HOST:][PORT:]DATASTORE          a backup server's (repo_pbs)
 */
#ifndef PXARFS_REPO_NAME_H
#define PXARFS_REPO_NAME_H

#include "client/repo/repo.h"

/* The directory that `spelling` means; NULL: none. */
const char *repo_name_directory(const char *spelling);

/* `spelling` NULL: $PXARFS_REPOSITORY, else $PBS_REPOSITORY.  -EINVAL: none given, or a
 * spelling that no backend knows (the message says which ones there are). */
int repo_open(const char *spelling, struct repo **out, struct err *err);

#endif
