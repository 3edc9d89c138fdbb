/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_tickets - the cache of login tickets, shared with the official client:
 * $XDG_RUNTIME_DIR/proxmox-backup/tickets.  Without that variable there is none.
 *
 * Layout:  client/PROTOCOL.md, "Local files".
 * Trust:   a file that is no such cache counts as empty.
 */
#ifndef PXARFS_PBS_TICKETS_H
#define PXARFS_PBS_TICKETS_H

#include <stdbool.h>
#include <stddef.h>

enum {
	PBS_TICKETS_LIFE_S = 7200 - 60,
};

/* A ticket of that user that still is valid. */
bool pbs_tickets_get(const char *host, const char *user, char *ticket, size_t size);

/* Keep one; or forget the one there is (`ticket` NULL).  Expired ones of everybody go, too.  A
 * cache that cannot be written is none: that costs a login. */
void pbs_tickets_put(const char *host, const char *user, const char *ticket, const char *token);

#endif
