/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_ticket - the answer to a login.
 *
 * Layout:  client/PROTOCOL.md, "Login with password" and "Second factor".
 * Owner:   plain data, and secret: pbs_ticket_release() wipes it.
 * Trust:   the answer is hostile: what is taken fits, and can stand in a header.
 */
#ifndef PXARFS_PBS_TICKET_H
#define PXARFS_PBS_TICKET_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <stdbool.h>

enum { PBS_TICKET_SIZE_MAX = 4096, PBS_TICKET_CSRF_SIZE_MAX = 1024 };

struct pbs_ticket {
	char ticket[PBS_TICKET_SIZE_MAX]; /* "" none */
	char csrf[PBS_TICKET_CSRF_SIZE_MAX];
	bool is_host_cookie; /* it came, and goes, as __Host-PBSAuthCookie */
};

void pbs_ticket_release(struct pbs_ticket *t);
DEFINE_AUTO_STRUCT(pbs_ticket)

/* `cookie`: the one that came with the answer, "" none.  -EPROTO. */
int pbs_ticket_decode(const void *text, size_t size, const char *cookie, struct pbs_ticket *out,
		      struct err *err);

/* The password was right, and a second factor is asked for; which kinds of it can be typed. */
bool pbs_ticket_is_partial(const struct pbs_ticket *t);
void pbs_ticket_challenge(const struct pbs_ticket *t, bool *totp, bool *recovery);

#endif
