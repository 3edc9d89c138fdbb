/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_session - a backup or reader session with a server: a connection of its own, upgraded.
 *
 * Layout:  client/PROTOCOL.md, "Upgrading a connection to a backup or reader session".
 */
#ifndef PXARFS_PBS_SESSION_H
#define PXARFS_PBS_SESSION_H

#include "client/net/h2_conn.h"
#include "client/repo/pbs_rest.h"

enum pbs_session_kind { PBS_SESSION_READER, PBS_SESSION_BACKUP };

/* Open one; `params`, taken over, name the snapshot (the datastore is added).  Ends with
 * -ECANCELED when `abort_fd` becomes readable (-1: never).  A refusal is an error as
 * pbs_http_refused() has it; `*status` (may be NULL) tells its status, 0: there was no answer. */
int pbs_session_open(struct h2_conn **out, struct pbs_rest *rest, enum pbs_session_kind kind,
		     json_t *params, int abort_fd, int *status, struct err *err);

/* After a call: what an answer other than 200 means, as pbs_http_refused(). */
int pbs_session_refused(const struct h2_call *call, struct err *err);

/* Text for an error of h2_conn_run(): `what` could not be done because of `rc`. */
int pbs_session_failed(struct h2_conn *c, const struct h2_call *call, int rc, struct err *err);

#endif
