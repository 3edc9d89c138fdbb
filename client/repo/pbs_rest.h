/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_rest - calls to a backup server's REST interface, logged in.
 *
 * Layout:  client/PROTOCOL.md, "Requests and parameters" and "REST calls".
 * Threads: any number; one call at a time goes out.
 * Trust:   answers are hostile: bounded in size, nesting and count of values, strictly JSON; what
 *          their members are is for the caller to check (pbs_member.h).
 */
#ifndef PXARFS_PBS_REST_H
#define PXARFS_PBS_REST_H

#include "archive/json_text.h"
#include "client/net/tls.h"
#include "client/repo/pbs_login.h"
#include "client/repo/pbs_name.h"

enum {
	PBS_REST_ANSWER_SIZE_MAX = 64 << 20,
	PBS_REST_QUERY_SIZE_MAX = 3072, /* path and query; what is longer goes as JSON */
};

struct pbs_rest;

/* Reads the environment (proxy, fingerprint); nothing is sent before the first call. */
int pbs_rest_new(struct pbs_rest **out, const struct pbs_name *name, struct err *err);
void pbs_rest_free(struct pbs_rest *r);
DEFINE_AUTO_PTR(pbs_rest)

const struct pbs_name *pbs_rest_name(const struct pbs_rest *r);

/* How to open a connection of one's own; lives as long as `r`. */
const struct tls_target *pbs_rest_target(const struct pbs_rest *r);
struct pbs_login *pbs_rest_login(struct pbs_rest *r);

/* One call.  `path` is behind /api2/json; a "{store}" in it stands for the repository's
 * datastore.  `params`, taken over, is an object of strings, integers, booleans and lists of
 * strings, or NULL; they go as JSON for POST (and PUT when they are long), else in the query.
 * `*data` (may be NULL) becomes the answer's member of that name, the caller's.
 * An answer that is not 200 is an error, pbs_http_refused() says which, and `*status` (may be
 * NULL) tells its status; 0: there was no answer. */
int pbs_rest_call(struct pbs_rest *r, const char *method, const char *path, json_t *params,
		  json_t **data, int *status, struct err *err);

/* POST of raw bytes with all parameters in the query; `*status` as above. */
int pbs_rest_upload(struct pbs_rest *r, const char *path, json_t *params, const void *bytes,
		    size_t size, int *status, struct err *err);

/* Parameters as a query "a=b&c=d", appended. */
int pbs_rest_query(const json_t *params, struct wbuf *out);

#endif
