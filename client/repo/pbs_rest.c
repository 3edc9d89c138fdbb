/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_rest.h"

#include "archive/crypt.h"

#include <string.h>

enum { HEADERS_SIZE_MAX = 16 << 10, URL_SIZE_MAX = 1 << 20, TRY_COUNT = 2 };

#define PREFIX "/api2/json"

struct pbs_rest {
	struct pbs_name name;
	struct net_proxy proxy;
	struct tls_trust *trust;
	struct pbs_http *http;
	struct pbs_login *login;
	struct tls_target target;
};

int pbs_rest_new(struct pbs_rest **out, const struct pbs_name *name, struct err *err)
{
	AUTO(pbs_rest) struct pbs_rest *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(err, ENOMEM, "out of memory");
	r->name = *name;
	rc = net_proxy_from_environment(&r->proxy, err);
	if (rc == 0)
		rc = tls_trust_new(&r->trust, name->host, name->host_text, err);
	if (rc == 0)
		rc = pbs_http_new(&r->http, &r->name, r->trust, &r->proxy, err);
	if (rc == 0)
		rc = pbs_login_new(&r->login, &r->name, r->http, err);
	if (rc < 0)
		return rc;
	r->target = (struct tls_target){ .host = r->name.host,
					 .port = r->name.port,
					 .proxy = &r->proxy,
					 .trust = r->trust };
	*out = steal(&r);
	return 0;
}

void pbs_rest_free(struct pbs_rest *r)
{
	if (!r)
		return;
	pbs_login_free(r->login);
	pbs_http_free(r->http);
	tls_trust_free(r->trust);
	net_proxy_release(&r->proxy);
	free(r);
}

const struct pbs_name *pbs_rest_name(const struct pbs_rest *r)
{
	return &r->name;
}

const struct tls_target *pbs_rest_target(const struct pbs_rest *r)
{
	return &r->target;
}

struct pbs_login *pbs_rest_login(struct pbs_rest *r)
{
	return r->login;
}

/* --- parameters --- */

static void put_param(struct wbuf *out, size_t begin, const char *name, const json_t *value)
{
	if (out->size > begin)
		wbuf_put_u8(out, '&');
	pbs_http_escape(out, name, strlen(name));
	wbuf_put_u8(out, '=');
	if (json_is_string(value))
		pbs_http_escape(out, json_string_value(value), json_string_length(value));
	else if (json_is_integer(value))
		wbuf_printf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else
		wbuf_put_text(out, json_is_true(value) ? "true" : "false");
}

int pbs_rest_query(const json_t *params, struct wbuf *out)
{
	json_t *lender = (json_t *)params; /* jansson's iterators lack const, they change nothing */
	size_t begin = out->size, i;
	const char *name;
	json_t *value, *element;

	json_object_foreach(lender, name, value) {
		if (!json_is_array(value))
			put_param(out, begin, name, value);
		json_array_foreach(value, i, element)
			put_param(out, begin, name, element);
	}
	return out->failed;
}

/* --- a call --- */

struct rest_call {
	const char *method, *path, *content_type;
	struct wbuf url, body;
	char what[128]; /* the path as it is sent, for messages */
};

static void rest_call_release(struct rest_call *c)
{
	wbuf_release(&c->url);
	wbuf_release(&c->body);
}
DEFINE_AUTO_STRUCT(rest_call)

static void put_path(struct rest_call *c, const struct pbs_rest *r)
{
	static const char store[] = "{store}";
	const char *at = strstr(c->path, store);

	wbuf_put_text(&c->url, PREFIX);
	if (at) {
		wbuf_put(&c->url, c->path, (size_t)(at - c->path));
		wbuf_put_text(&c->url, r->name.store);
	}
	wbuf_put_text(&c->url, at ? at + strlen(store) : c->path);
	snprintf(c->what, sizeof(c->what), "%.*s%s%s", (int)(at ? at - c->path : 0), c->path,
		 at ? r->name.store : "", at ? at + strlen(store) : c->path);
}

static int put_query(struct rest_call *c, const json_t *params)
{
	if (json_object_size(params) == 0)
		return c->url.failed;
	wbuf_put_u8(&c->url, '?');
	return pbs_rest_query(params, &c->url);
}

static int prepare(struct rest_call *c, const struct pbs_rest *r, const json_t *params,
		   struct err *err)
{
	bool is_json = strcmp(c->method, "POST") == 0;
	size_t size;

	put_path(c, r);
	size = c->url.size;
	if (!is_json)
		put_query(c, params);
	if (!is_json && c->url.size > PBS_REST_QUERY_SIZE_MAX && strcmp(c->method, "PUT") == 0) {
		is_json = true;
		c->url.size = size;
	}
	wbuf_put_u8(&c->url, 0);
	if (is_json) {
		c->content_type = "application/json";
		if (params)
			json_text_canonical(params, &c->body);
	}
	if (c->url.failed || c->body.failed)
		return err_set(err, c->url.failed ? -c->url.failed : -c->body.failed,
			       "%s: parameters are too long", c->path);
	return 0;
}

static int send_once(struct pbs_rest *r, const struct rest_call *c,
		     struct pbs_http_reply *reply, bool *again, struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf headers = WBUF_INIT(HEADERS_SIZE_MAX);
	int rc = pbs_login_headers(r->login, &headers, err);

	if (rc == 0 && wbuf_put_u8(&headers, 0) < 0)
		rc = err_set(err, ENOMEM, "out of memory");
	if (rc == 0)
		rc = pbs_http_send(r->http,
				   &(struct pbs_http_request){ .method = c->method,
							       .path = (const char *)c->url.data,
							       .headers = (const char *)headers.data,
							       .content_type = c->content_type,
							       .body = c->body.data,
							       .body_size = c->body.size },
				   reply, err);
	*again = rc == 0 && reply->status == 401 && pbs_login_expire(r->login, &headers);
	return rc;
}

/* A ticket may have become invalid before its time, as when the server got a new key. */
static int send_call(struct pbs_rest *r, const struct rest_call *c, struct pbs_http_reply *reply,
		     struct err *err)
{
	bool again = true;
	int rc = 0;

	for (int i = 0; rc == 0 && again && i < TRY_COUNT; i++)
		rc = send_once(r, c, reply, &again, err);
	if (rc == 0 && reply->status != 200)
		rc = pbs_http_refused(reply->status, reply->body.data, reply->body.size, c->what, err);
	return rc;
}

static int take_data(const struct rest_call *c, const struct pbs_http_reply *reply,
		     json_t **data, struct err *err)
{
	AUTO(json) json_t *all = NULL;
	json_t *found;
	int rc = json_text_decode(reply->body.data, reply->body.size, &all, err);

	if (rc < 0)
		return err_wrap(err, rc == -ENOMEM ? rc : -EPROTO, "%s: the answer", c->what);
	found = json_object_get(all, "data");
	if (!found)
		return err_set(err, EPROTO, "%s: an answer without data", c->what);
	if (data)
		*data = json_incref(found);
	return 0;
}

int pbs_rest_call(struct pbs_rest *r, const char *method, const char *path, json_t *params,
		  json_t **data, int *status, struct err *err)
{
	AUTO(pbs_http_reply) struct pbs_http_reply reply = { .body = WBUF_INIT(
								     PBS_REST_ANSWER_SIZE_MAX) };
	AUTO(rest_call) struct rest_call c = { .method = method,
					       .path = path,
					       .url = WBUF_INIT(URL_SIZE_MAX),
					       .body = WBUF_INIT(URL_SIZE_MAX) };
	AUTO(json) json_t *owned = params;
	int rc = prepare(&c, r, owned, err);

	if (rc == 0)
		rc = send_call(r, &c, &reply, err);
	if (status)
		*status = reply.status;
	return rc < 0 ? rc : take_data(&c, &reply, data, err);
}

int pbs_rest_upload(struct pbs_rest *r, const char *path, json_t *params, const void *bytes,
		    size_t size, int *status, struct err *err)
{
	AUTO(pbs_http_reply) struct pbs_http_reply reply = { .body = WBUF_INIT(
								     PBS_REST_ANSWER_SIZE_MAX) };
	AUTO(rest_call) struct rest_call c = { .method = "POST",
					       .path = path,
					       .content_type = "application/octet-stream",
					       .url = WBUF_INIT(URL_SIZE_MAX),
					       .body = WBUF_INIT(size) };
	AUTO(json) json_t *owned = params;

	put_path(&c, r);
	put_query(&c, owned);
	wbuf_put_u8(&c.url, 0);
	wbuf_put(&c.body, bytes, size);
	int rc = c.url.failed || c.body.failed ? err_set(err, ENOMEM, "%s: out of memory", path) :
						 send_call(r, &c, &reply, err);
	if (status)
		*status = reply.status;
	return rc < 0 ? rc : take_data(&c, &reply, NULL, err);
}
