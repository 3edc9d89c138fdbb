/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_login - who we are to a backup server: a ticket that is renewed, or an API token.
 *
 * The secret is asked for at the first call that needs it: from $PBS_PASSWORD and its kin
 * (client/base/secret.h); without them a ticket of the cache is tried; then the terminal.  It is
 * kept, in memory that no core dump holds, so that the login can be made again after a server
 * was away for longer than a ticket lives.  A ticket is renewed every 15 minutes, by a thread
 * that the first login starts.
 *
 * Layout:  client/PROTOCOL.md, "Login with password", "API tokens", "Second factor", "Local files".
 * Threads: any number.
 */
#ifndef PXARFS_PBS_LOGIN_H
#define PXARFS_PBS_LOGIN_H

#include "archive/base/wbuf.h"
#include "client/repo/pbs_http.h"

enum { PBS_LOGIN_RENEW_MS = 15 * 60 * 1000 };

struct pbs_login;

/* Name and http outlive it. */
int pbs_login_new(struct pbs_login **out, const struct pbs_name *name, struct pbs_http *http,
		  struct err *err);
void pbs_login_free(struct pbs_login *l);
DEFINE_AUTO_PTR(pbs_login)

/* Renew the ticket when it is older than this; before the first login. */
void pbs_login_renew_every(struct pbs_login *l, int64_t ms);

/* Append the header lines that authenticate a request, "\r\n" behind each; logs in first where
 * that is needed.  -EACCES: refused, or there is nothing to log in with. */
int pbs_login_headers(struct pbs_login *l, struct wbuf *out, struct err *err);

/* The server has refused them (401): forget the ticket, if it still is the one of `headers`.
 * True: trying again may help. */
bool pbs_login_expire(struct pbs_login *l, const struct wbuf *headers);

#endif
