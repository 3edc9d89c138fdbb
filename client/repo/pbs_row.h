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
bool pbs_row_snapshot(const json_t *row, struct repo_snapshot_info *out);

#endif
