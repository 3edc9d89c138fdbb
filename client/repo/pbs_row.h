/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_row - rows of the lists that a server gives, as JSON.
 *
 * Layout:  client/PROTOCOL.md, "Namespaces" and "Groups and snapshots".
 * Trust:   rows are hostile: a member that is missing, of another type, or that cannot be what it
 *          is said to be makes the whole row bad (false).
 */
#ifndef PXARFS_PBS_ROW_H
#define PXARFS_PBS_ROW_H

#include "archive/json_text.h"
#include "client/repo/repo.h"

/* The namespace; "" is the root. */
bool pbs_row_ns(const json_t *row, char ns[SNAPSHOT_NS_SIZE_MAX + 1]);

/* Sets all but the namespace, which the row does not tell. */
bool pbs_row_group(const json_t *row, struct repo_group_info *out);

/* The same; out->row becomes the row, if it can stand for a manifest: it is of a finished snapshot, its
 * "files" are objects with a "filename" of at most ARCHIVE_NAME_SIZE_MAX bytes, and what there is of these
 * is good: "size" (not negative) and "crypt-mode" (as crypt_mode_text() has it) of a file; "comment",
 * "fingerprint" (strings), "verification" (an object). */
bool pbs_row_snapshot(const json_t *row, struct repo_snapshot_info *out);

#endif
