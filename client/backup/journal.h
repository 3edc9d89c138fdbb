/* SPDX-License-Identifier: Apache-2.0 */
/*
 * journal - which chunks a backup has stored so far, kept in the cache directory until it is
 * done: so that one that was interrupted, however hard, does not compress and send them again
 * when it is repeated.
 *
 * A file for each repository, group and key: magic, the machine's boot id, whose it is, then a
 * digest of 32 bytes for each chunk, written before it is stored.
 *
 * Trust:   no more than a hint.  Whoever uses a digest asks the repository for its chunk first
 *          (repo_writer_reuse_chunk()).  After a reboot nothing is believed: when the machine
 *          went down, chunks may have a name on disk and no content yet.  Nor is a file that was
 *          copied from another repository, group or key.  When a backup could not be brought to the
 *          disk, what it stored may be in memory alone: that doubt is kept until one could.
 * Bounds:  JOURNAL_DIGESTS_MAX; files that nobody has written to for JOURNAL_DAYS_MAX are
 *          removed by whoever comes next.
 * Errors:  none that matter: a backup without a journal is a backup.
 * Threads: journal_add() from any.
 */
#ifndef PXARFS_JOURNAL_H
#define PXARFS_JOURNAL_H

#include "archive/base/cleanup.h"
#include "archive/crypt.h"
#include "client/backup/known.h"
#include "client/repo/snapshot.h"

#include <stddef.h>

enum {
	JOURNAL_DIGESTS_MAX = 1 << 20, /* 32 MiB; 4 TiB in chunks of 4 MiB */
	JOURNAL_DAYS_MAX = 30,
};

struct journal;

/* The journal of a group's backups, in a folder that is made.  `repository` is as the user
 * spells it, `key` what encrypts the chunks (NULL: nothing).  NULL when it cannot be had, or
 * another process has it. */
struct journal *journal_open(const char *folder, const char *repository,
			     const struct snapshot_group *group, const struct crypt_key *key);

/* Keeps the file: the next backup of the group finds it. */
void journal_free(struct journal *j);
DEFINE_AUTO_PTR(journal)

/* Tell `set` what an interrupted backup has stored.  How many digests, or -ENOMEM. */
long journal_load(struct journal *j, struct known_set *set);

/* A chunk is about to be stored.  `j` may be NULL. */
void journal_add(struct journal *j, const struct digest *digest);

/* The backup failed so that what was stored may never have reached the disk.  The file holds
 * nothing else from now on.  Nobody adds to it any more. */
void journal_doubt(struct journal *j);

/* Whether the last backup ended so: then what is stored already is to be looked at. */
bool journal_is_doubted(const struct journal *j);

/* The snapshot is finished: the file goes. */
void journal_finish(struct journal *j);

#endif
