/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repo_pbs - a repository that is a datastore of a backup server.
 *
 * Layout:  client/PROTOCOL.md.
 * Limits:  a group that a backup made which then failed stays, empty, and belongs to whoever made
 *          it; the server has no call that would take it away safely.  It is not listed.
 */
#ifndef PXARFS_REPO_PBS_H
#define PXARFS_REPO_PBS_H

#include "client/repo/repo.h"

/* `spelling` as client/repo/pbs_name.h has it.  Nothing is sent before the first use. */
int repo_pbs_open(const char *spelling, struct repo **out, struct err *err);

#endif
