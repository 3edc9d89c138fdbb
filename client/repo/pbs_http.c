/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_http.h"

#include "archive/crypt.h"
#include "client/net/curl_lib.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>

enum {
	CALL_TIMEOUT_S = 30 * 60, /* of a whole call */
	HEADERS_SIZE_MAX = 256 << 10, /* of an answer, all together */
	ASK_COUNT_MAX = 2,
	URL_SIZE = 512, /* beside the path */
};

struct pbs_http {
	const struct pbs_name *name;
	struct tls_trust *trust;
	const struct net_proxy *proxy;
	pthread_mutex_t lock; /* held over a call: it guards the connection */
	CURL *curl; /* lock */
	atomic_bool aborted;
};

/* One call, as curl's callbacks see it. */
struct call {
	struct pbs_http_reply *reply;
	size_t header_bytes;
	bool too_many_headers;
};

static size_t on_body(char *data, size_t one, size_t size, void *arg)
{
	struct call *c = arg;

	(void)one;
	return wbuf_put(&c->reply->body, data, size) == 0 ? size : 0;
}

/* "Set-Cookie: __Host-PBSAuthCookie=VALUE; ..." */
static void take_cookie(struct pbs_http_reply *reply, const char *line, size_t size)
{
	static const char name[] = "set-cookie:", cookie[] = "__Host-PBSAuthCookie=";
	const char *end = line + size, *p = line + strlen(name);
	size_t n = 0;

	if (size < strlen(name) || strncasecmp(line, name, strlen(name)) != 0)
		return;
	while (p < end && *p == ' ')
		p++;
	if ((size_t)(end - p) < strlen(cookie) || memcmp(p, cookie, strlen(cookie)) != 0)
		return;
	p += strlen(cookie);
	while (p + n < end && p[n] != ';' && p[n] > ' ')
		n++;
	if (n < sizeof(reply->cookie)) {
		memcpy(reply->cookie, p, n);
		reply->cookie[n] = '\0';
	}
}

static size_t on_header(char *line, size_t one, size_t size, void *arg)
{
	struct call *c = arg;

	(void)one;
	c->header_bytes += size;
	if (c->header_bytes > HEADERS_SIZE_MAX) {
		c->too_many_headers = true;
		return 0;
	}
	take_cookie(c->reply, line, size);
	return size;
}

static CURLcode on_ssl_ctx(CURL *curl, void *ctx, void *arg)
{
	(void)curl;
	return tls_trust_install(arg, ctx) == 0 ? CURLE_OK : CURLE_OUT_OF_MEMORY;
}

static int on_socket(void *arg, curl_socket_t fd, curlsocktype purpose)
{
	(void)arg;
	(void)purpose;
	net_set_options(fd);
	return CURL_SOCKOPT_OK;
}

static int on_progress(void *arg, curl_off_t down_size, curl_off_t down, curl_off_t up_size,
		       curl_off_t up)
{
	struct pbs_http *h = arg;

	(void)down_size;
	(void)down;
	(void)up_size;
	(void)up;
	return atomic_load(&h->aborted);
}

/* The environment's other variables must not send the call elsewhere. */
static bool set_proxy(CURL *curl, const struct net_proxy *proxy)
{
	bool is_v6 = strchr(proxy->host, ':') != NULL;
	char url[sizeof(proxy->host) + 32] = "";

	if (proxy->is_set)
		snprintf(url, sizeof(url), "http://%s%s%s:%u", is_v6 ? "[" : "", proxy->host,
			 is_v6 ? "]" : "", proxy->port);
	if (curl_lib.easy_setopt(curl, CURLOPT_PROXY, url) || curl_lib.easy_setopt(curl, CURLOPT_NOPROXY, ""))
		return false;
	if (!proxy->is_set)
		return true;
	return !curl_lib.easy_setopt(curl, CURLOPT_HTTPPROXYTUNNEL, 1L) &&
	       (!proxy->login[0] || !curl_lib.easy_setopt(curl, CURLOPT_PROXYUSERPWD, proxy->login));
}

/* Certificates are verified by the rule of tls_trust, in the handshake, instead of by curl
 * after it: curl's own checks would refuse what a fingerprint allows. */
static bool set_up(struct pbs_http *h)
{
	CURL *c = h->curl;

	return !curl_lib.easy_setopt(c, CURLOPT_NOSIGNAL, 1L) &&
	       !curl_lib.easy_setopt(c, CURLOPT_PROTOCOLS_STR, "https") &&
	       !curl_lib.easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) &&
	       !curl_lib.easy_setopt(c, CURLOPT_SSL_ENABLE_ALPN, 0L) &&
	       !curl_lib.easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2) &&
	       !curl_lib.easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L) &&
	       !curl_lib.easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L) &&
	       !curl_lib.easy_setopt(c, CURLOPT_SSL_SESSIONID_CACHE, 0L) &&
	       !curl_lib.easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, on_ssl_ctx) &&
	       !curl_lib.easy_setopt(c, CURLOPT_SSL_CTX_DATA, h->trust) &&
	       !curl_lib.easy_setopt(c, CURLOPT_SOCKOPTFUNCTION, on_socket) &&
	       !curl_lib.easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)NET_CONNECT_TIMEOUT_MS) &&
	       !curl_lib.easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L) &&
	       !curl_lib.easy_setopt(c, CURLOPT_LOW_SPEED_TIME, NET_ANSWER_TIMEOUT_MS / 1000L) &&
	       !curl_lib.easy_setopt(c, CURLOPT_TIMEOUT, (long)CALL_TIMEOUT_S) &&
	       !curl_lib.easy_setopt(c, CURLOPT_USERAGENT, PBS_HTTP_USER_AGENT) &&
	       !curl_lib.easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body) &&
	       !curl_lib.easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header) &&
	       !curl_lib.easy_setopt(c, CURLOPT_NOPROGRESS, 0L) &&
	       !curl_lib.easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress) &&
	       !curl_lib.easy_setopt(c, CURLOPT_XFERINFODATA, h) && set_proxy(c, h->proxy);
}

int pbs_http_new(struct pbs_http **out, const struct pbs_name *name, struct tls_trust *trust,
		 const struct net_proxy *proxy, struct err *err)
{
	int rc = curl_lib_load(err);

	if (rc < 0)
		return rc;
	AUTO(pbs_http) struct pbs_http *h = calloc(1, sizeof(*h));
	if (!h)
		return err_set(err, ENOMEM, "out of memory");
	pthread_mutex_init(&h->lock, NULL);
	h->name = name;
	h->trust = trust;
	h->proxy = proxy;
	h->curl = curl_lib.easy_init();
	if (!h->curl || !set_up(h))
		return err_set(err, EOPNOTSUPP, "libcurl cannot do HTTPS with OpenSSL (%s)",
			       curl_lib.version());
	*out = steal(&h);
	return 0;
}

void pbs_http_free(struct pbs_http *h)
{
	if (!h)
		return;
	curl_lib.easy_cleanup(h->curl);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

void pbs_http_abort(struct pbs_http *h)
{
	atomic_store(&h->aborted, true);
}

void pbs_http_reply_release(struct pbs_http_reply *r)
{
	crypt_wbuf_release(&r->body);
	crypt_wipe(r->cookie, sizeof(r->cookie));
}

/* --- a call --- */

static void wipe_list(struct curl_slist *list)
{
	for (struct curl_slist *l = list; l; l = l->next)
		crypt_wipe(l->data, strlen(l->data));
	curl_lib.slist_free_all(list);
}

static bool append(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_lib.slist_append(*list, line);

	if (longer)
		*list = longer;
	return longer != NULL;
}

/* The lines of request->headers, the content type, and none of what curl adds by itself. */
static struct curl_slist *make_headers(const struct pbs_http_request *r)
{
	struct curl_slist *list = NULL;
	char type[128];
	bool good = append(&list, "Expect:");

	snprintf(type, sizeof(type), "Content-Type:%s%s", r->content_type ? " " : "",
		 r->content_type ? r->content_type : "");
	good = good && append(&list, type);
	for (const char *p = r->headers; good && p && *p;) {
		size_t n = strcspn(p, "\r\n");
		char *line = strndup(p, n);

		good = line && append(&list, line);
		if (line)
			crypt_wipe(line, n);
		free(line);
		p += n + strspn(p + n, "\r\n");
	}
	if (good)
		return list;
	wipe_list(list);
	return NULL;
}

static bool set_request(struct pbs_http *h, const struct pbs_http_request *r, const char *url,
			struct curl_slist *headers, struct call *c)
{
	CURL *curl = h->curl;
	bool has_body = r->content_type || strcmp(r->method, "GET") != 0;

	if (curl_lib.easy_setopt(curl, CURLOPT_URL, url) || curl_lib.easy_setopt(curl, CURLOPT_HTTPGET, 1L) ||
	    curl_lib.easy_setopt(curl, CURLOPT_HTTPHEADER, headers) ||
	    curl_lib.easy_setopt(curl, CURLOPT_WRITEDATA, c) ||
	    curl_lib.easy_setopt(curl, CURLOPT_HEADERDATA, c))
		return false;
	if (has_body &&
	    (curl_lib.easy_setopt(curl, CURLOPT_POST, 1L) ||
	     curl_lib.easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_size) ||
	     curl_lib.easy_setopt(curl, CURLOPT_POSTFIELDS, r->body ? r->body : "")))
		return false;
	return !curl_lib.easy_setopt(curl, CURLOPT_CUSTOMREQUEST, r->method);
}

static int failed(const struct pbs_http *h, const struct call *c, CURLcode code, const char *text,
		  struct err *err)
{
	const struct pbs_name *n = h->name;
	int number = EIO;
	long tunnel = 0; /* status of the proxy's answer */

	if (code == CURLE_ABORTED_BY_CALLBACK)
		return err_set(err, ECANCELED, "the call was aborted");
	if (c->reply->body.failed)
		return err_set(err, -c->reply->body.failed, "%s:%u: an answer of more than %zu bytes",
			       n->host_text, n->port, c->reply->body.size_max);
	if (c->too_many_headers)
		return err_set(err, E2BIG, "%s:%u: an answer whose headers do not end", n->host_text,
			       n->port);
	if (h->proxy->is_set && !curl_lib.easy_getinfo(h->curl, CURLINFO_HTTP_CONNECTCODE, &tunnel) &&
	    tunnel != 0 && tunnel / 100 != 2)
		return net_proxy_refused(h->proxy, n->host_text, n->port, (int)tunnel, err);
	if (code == CURLE_OPERATION_TIMEDOUT)
		number = ETIMEDOUT;
	else if (code == CURLE_COULDNT_CONNECT)
		number = ECONNREFUSED;
	else if (code == CURLE_COULDNT_RESOLVE_HOST)
		number = EHOSTUNREACH;
	else if (code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR)
		number = ECONNRESET;
	else if (code == CURLE_OUT_OF_MEMORY)
		number = ENOMEM;
	return err_set(err, number, "%s:%u: %s", n->host_text, n->port,
		       text[0] ? text : curl_lib.easy_strerror(code));
}

/* With the lock held. */
static int perform(struct pbs_http *h, struct call *c, struct err *err)
{
	char text[CURL_ERROR_SIZE] = "";
	CURLcode code;

	for (int i = 0;; i++) {
		struct err why = ERR_INIT;
		int asked;

		wbuf_clear(&c->reply->body);
		c->reply->cookie[0] = '\0';
		c->header_bytes = 0;
		curl_lib.easy_setopt(h->curl, CURLOPT_ERRORBUFFER, text);
		code = curl_lib.easy_perform(h->curl);
		curl_lib.easy_setopt(h->curl, CURLOPT_ERRORBUFFER, NULL);
		if (code == CURLE_OK)
			break;
		asked = tls_trust_ask(h->trust, &why);
		if (asked < 0) {
			if (err)
				*err = why;
			return asked;
		}
		if (asked == 1 || i == ASK_COUNT_MAX)
			return failed(h, c, code, text, err);
	}
	long status = 0;
	curl_lib.easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
	c->reply->status = (int)status;
	return 0;
}

int pbs_http_send(struct pbs_http *h, const struct pbs_http_request *request,
		  struct pbs_http_reply *reply, struct err *err)
{
	struct call c = { .reply = reply };
	struct curl_slist *headers = make_headers(request);
	AUTO(free) char *url = NULL;
	int rc;

	if (!headers || asprintf(&url, "https://%s:%u%s", h->name->host_text, h->name->port,
				 request->path) < 0) {
		wipe_list(headers);
		url = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	pthread_mutex_lock(&h->lock);
	rc = set_request(h, request, url, headers, &c) ? perform(h, &c, err) :
							 err_set(err, ENOMEM, "out of memory");
	curl_lib.easy_setopt(h->curl, CURLOPT_HTTPHEADER, NULL);
	curl_lib.easy_setopt(h->curl, CURLOPT_POSTFIELDS, NULL);
	pthread_mutex_unlock(&h->lock);
	wipe_list(headers);
	return rc;
}

void pbs_http_escape(struct wbuf *out, const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    (c && strchr("-._~", c)))
			wbuf_put_u8(out, c);
		else
			wbuf_printf(out, "%%%02X", c);
	}
}

int pbs_http_refused(int status, const void *text, size_t size, const char *what,
		     struct err *err)
{
	int code = status == 401 || status == 403 ? EACCES :
		   status == 404		  ? ENOENT :
		   status >= 400 && status < 500  ? EINVAL :
		   status >= 500		  ? EIO :
						    EPROTO;
	char shown[PBS_HTTP_MESSAGE_SIZE_MAX + 1];
	const unsigned char *p = text;
	size_t used = 0;

	for (size_t i = 0; i < size && used < PBS_HTTP_MESSAGE_SIZE_MAX; i++)
		shown[used++] = p[i] < ' ' || p[i] == 0x7f ? ' ' : (char)p[i];
	while (used > 0 && shown[used - 1] == ' ')
		used--;
	shown[used] = '\0';
	return err_set(err, code, "%s: %s%s(status %d)", what, shown, used ? " " : "", status);
}
