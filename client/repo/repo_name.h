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

enum { REPO_NAME_SIZE = 4096 }; /* of a spelling, with its NUL */

/* The directory that `spelling` means; NULL: none. */
const char *repo_name_directory(const char *spelling);

/* Which one is meant: `spelling` or, if NULL, $PXARFS_REPOSITORY, else $PBS_REPOSITORY; nothing is
 * opened.  -EINVAL: none given, or a spelling that no backend knows (the message says which ones
 * there are).  What the environment says may be there to be read once. */
int repo_name_find(const char *spelling, char out[REPO_NAME_SIZE], struct err *err);

/* The same, opened. */
int repo_open(const char *spelling, struct repo **out, struct err *err);

#endif
