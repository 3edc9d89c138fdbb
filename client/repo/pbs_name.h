/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_name - what a user types for a datastore of a backup server.
 *
 *	[[AUTH-ID@]HOST:][PORT:]DATASTORE     AUTH-ID is USER@REALM or USER@REALM!TOKEN
 *
 * Layout:  client/PROTOCOL.md, "Repository string".
 */
#ifndef PXARFS_PBS_NAME_H
#define PXARFS_PBS_NAME_H

#include "archive/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	PBS_NAME_SIZE_MAX = 256, /* of all of it */
	PBS_NAME_AUTH_ID_SIZE_MAX = 64,
	PBS_NAME_STORE_SIZE_MAX = 32,
	PBS_NAME_PORT = 8007,
};

struct pbs_name {
	char auth_id[PBS_NAME_AUTH_ID_SIZE_MAX + 1]; /* "root@pam" when none is given */
	bool is_token; /* the secret is a token's, not a password */
	char host_text[PBS_NAME_SIZE_MAX + 1]; /* as typed: an IPv6 address in brackets */
	char host[PBS_NAME_SIZE_MAX + 1]; /* without them */
	uint16_t port;
	char store[PBS_NAME_STORE_SIZE_MAX + 1];
};

/* -EINVAL says what is wrong with it. */
int pbs_name_parse(const char *text, struct pbs_name *out, struct err *err);

/* USER@REALM or USER@REALM!TOKEN?  `*is_token` may be NULL. */
bool pbs_name_is_auth_id(const char *text, bool *is_token);

/* Is what `owner` has made `auth_id`'s own?  What a token has made is its user's, too. */
bool pbs_name_owns(const char *auth_id, const char *owner);

#endif
