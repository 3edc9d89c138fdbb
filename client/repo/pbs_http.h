/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_http - one HTTP/1.1 request to a backup server and its answer, over a connection that is
 * kept.
 *
 * Layout:  client/PROTOCOL.md, "Responses and errors".
 * Threads: any number; one request at a time goes out.
 * Trust:   answers are hostile: the body is bounded by reply->body.size_max, what else there is
 *          by named limits.  Redirects are not followed.
 */
#ifndef PXARFS_PBS_HTTP_H
#define PXARFS_PBS_HTTP_H

#include "archive/base/wbuf.h"
#include "client/net/net.h"
#include "client/net/tls_trust.h"
#include "client/repo/pbs_name.h"

enum {
	PBS_HTTP_MESSAGE_SIZE_MAX = 512, /* of an error's text that is shown */
	PBS_HTTP_COOKIE_SIZE_MAX = 4096,
};

#define PBS_HTTP_USER_AGENT "pxarfs/" PXARFS_VERSION

struct pbs_http;

/* The name, trust and proxy outlive it.  Nothing is sent yet. */
int pbs_http_new(struct pbs_http **out, const struct pbs_name *name, struct tls_trust *trust,
		 const struct net_proxy *proxy, struct err *err);
void pbs_http_free(struct pbs_http *h);
DEFINE_AUTO_PTR(pbs_http)

/* Make calls in progress and to come fail with -ECANCELED soon. */
void pbs_http_abort(struct pbs_http *h);

struct pbs_http_request {
	const char *method;
	const char *path; /* "/api2/json/version?a=b" */
	const char *headers; /* "Name: value\r\n" lines; NULL: none */
	const char *content_type; /* NULL: no body */
	const void *body;
	size_t body_size;
};

struct pbs_http_reply {
	int status;
	struct wbuf body; /* the caller's; its maximum is the caller's to set */
	char cookie[PBS_HTTP_COOKIE_SIZE_MAX]; /* value of __Host-PBSAuthCookie that was set */
};

void pbs_http_reply_release(struct pbs_http_reply *r);
DEFINE_AUTO_STRUCT(pbs_http_reply)

/* 0: there is an answer, of whatever status.  Asks about the certificate where it has to. */
int pbs_http_send(struct pbs_http *h, const struct pbs_http_request *request,
		  struct pbs_http_reply *reply, struct err *err);

/* Append text for a URL or a token: all but letters, digits and "-._~" percent-encoded. */
void pbs_http_escape(struct wbuf *out, const char *text, size_t size);

/* What the status of an answer that is not 200 means: -EACCES, -ENOENT, -EINVAL, -EIO, -EPROTO;
 * the message is the server's text, made printable, with `what` before it. */
int pbs_http_refused(int status, const void *text, size_t size, const char *what,
		     struct err *err);

#endif
