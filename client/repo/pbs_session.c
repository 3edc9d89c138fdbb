/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_session.h"

#include "archive/crypt.h"
#include "client/base/clock.h"

#include <string.h>
#include <strings.h>

enum {
	HEADERS_SIZE_MAX = 16 << 10,
	HEAD_SIZE_MAX = 64 << 10, /* of the answer */
	REFUSAL_SIZE_MAX = 4096, /* of its text that is waited for */
	TRY_COUNT = 2,
	READER_IDLE_MS = 60 * 1000,
	/* A server may be busy with what it was given; the official client waits for ever. */
	BACKUP_IDLE_MS = 600 * 1000,
};

static const struct kind {
	const char *path, *protocol;
	int64_t idle_ms;
} kinds[] = {
	[PBS_SESSION_READER] = { "reader", "proxmox-backup-reader-protocol-v1", READER_IDLE_MS },
	[PBS_SESSION_BACKUP] = { "backup", "proxmox-backup-protocol-v1", BACKUP_IDLE_MS },
};

static int put_request(struct wbuf *out, const struct pbs_name *name, const struct kind *kind,
		       const json_t *params, const struct wbuf *headers)
{
	wbuf_printf(out, "GET /api2/json/%s?", kind->path);
	pbs_rest_query(params, out);
	wbuf_printf(out, " HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: " PBS_HTTP_USER_AGENT "\r\n",
		    name->host_text, name->port);
	wbuf_put(out, headers->data, headers->size);
	wbuf_printf(out, "Connection: upgrade\r\nUpgrade: %s\r\n\r\n", kind->protocol);
	return out->failed;
}

/* --- the answer --- */

/* Where its head ends; 0: not yet. */
static size_t head_size(const struct wbuf *b)
{
	const uint8_t *end = b->size ? memmem(b->data, b->size, "\r\n\r\n", 4) : NULL;

	return end ? (size_t)(end - b->data) + 4 : 0;
}

static int read_more(struct tls *tls, struct wbuf *b, int64_t deadline_ms, int abort_fd)
{
	uint8_t *to = wbuf_reserve(b, 16 << 10);
	ssize_t n;

	if (!to)
		return b->failed;
	n = tls_read_some(tls, to, 16 << 10, deadline_ms, abort_fd);
	if (n > 0)
		b->size += (size_t)n;
	return n < 0 ? (int)n : 0;
}

/* The value of a header in a head that is NUL-terminated. */
static bool find_header(const char *head, const char *name, char *out, size_t size)
{
	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		const char *value, *end;

		line += 2;
		if (strncasecmp(line, name, strlen(name)) != 0 || line[strlen(name)] != ':')
			continue;
		value = line + strlen(name) + 1;
		value += strspn(value, " \t");
		end = strstr(value, "\r\n");
		if (!end || (size_t)(end - value) >= size)
			return false;
		memcpy(out, value, (size_t)(end - value));
		out[end - value] = '\0';
		return true;
	}
	return false;
}

/* The text of a refusal, or what there is of it: it only explains. */
static int refused(struct tls *tls, struct wbuf *answer, size_t head, int status, const char *what,
		   int64_t deadline_ms, int abort_fd, struct err *err)
{
	char length[16] = "";
	size_t size = 0;

	if (find_header((const char *)answer->data, "content-length", length, sizeof(length)))
		size = strtoul(length, NULL, 10);
	if (size > REFUSAL_SIZE_MAX)
		size = REFUSAL_SIZE_MAX;
	while (answer->size < head + size && read_more(tls, answer, deadline_ms, abort_fd) == 0)
		continue;
	if (answer->size < head + size)
		size = answer->size - head;
	return pbs_http_refused(status, answer->data + head, size, what, err);
}

/* Read the answer to its end and tell its status; what is behind the head of a good one stays in
 * `answer`, from *rest on. */
static int read_answer(struct tls *tls, const struct kind *kind, struct wbuf *answer, size_t *rest,
		       int *status, int abort_fd, struct err *err)
{
	int64_t deadline_ms = clock_now_ms() + NET_ANSWER_TIMEOUT_MS;
	char upgrade[64] = "", what[32];
	size_t head;

	snprintf(what, sizeof(what), "%s session", kind->path);
	while ((head = head_size(answer)) == 0) {
		int rc = read_more(tls, answer, deadline_ms, abort_fd);

		if (rc < 0)
			return err_sys(err, -rc, "%s: no answer", what);
	}
	answer->data[head - 1] = '\0'; /* the head is text from here on */
	answer->data[head - 2] = '\0';
	*status = net_http_status((const char *)answer->data);
	if (*status != 101)
		return refused(tls, answer, head, *status, what, deadline_ms, abort_fd, err);
	if (!find_header((const char *)answer->data, "upgrade", upgrade, sizeof(upgrade)) ||
	    strcasecmp(upgrade, kind->protocol) != 0)
		return err_set(err, EPROTO, "%s: the server changes to another protocol", what);
	*rest = head;
	return 0;
}

/* --- opening --- */

static int upgrade(struct h2_conn **out, struct pbs_rest *rest, const struct kind *kind,
		   const json_t *params, const struct wbuf *headers, int abort_fd, int *status,
		   struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf request = WBUF_INIT(2 * HEADERS_SIZE_MAX);
	AUTO(wbuf) struct wbuf answer = WBUF_INIT(HEAD_SIZE_MAX);
	AUTO(tls) struct tls *tls = NULL;
	size_t head = 0;
	int rc = tls_connect(&tls, pbs_rest_target(rest), abort_fd, err);

	if (rc < 0)
		return rc;
	rc = put_request(&request, pbs_rest_name(rest), kind, params, headers);
	if (rc == 0)
		rc = tls_write_all(tls, request.data, request.size,
				   clock_now_ms() + NET_ANSWER_TIMEOUT_MS, abort_fd);
	if (rc < 0)
		return err_sys(err, -rc, "%s session", kind->path);
	rc = read_answer(tls, kind, &answer, &head, status, abort_fd, err);
	if (rc < 0)
		return rc;
	return h2_conn_new(out, steal(&tls), answer.data + head, answer.size - head, kind->idle_ms,
			   err);
}

int pbs_session_open(struct h2_conn **out, struct pbs_rest *rest, enum pbs_session_kind kind,
		     json_t *params, int abort_fd, int *status, struct err *err)
{
	AUTO(json) json_t *owned = params;
	int rc = -EACCES, seen = 0;
	bool again = true;

	if (!owned || json_object_set_new(owned, "store", json_string(pbs_rest_name(rest)->store)) < 0)
		return err_set(err, ENOMEM, "out of memory");
	for (int i = 0; again && i < TRY_COUNT; i++) {
		AUTO(crypt_wbuf) struct wbuf headers = WBUF_INIT(HEADERS_SIZE_MAX);

		seen = 0;
		rc = pbs_login_headers(pbs_rest_login(rest), &headers, err);
		if (rc == 0)
			rc = upgrade(out, rest, &kinds[kind], owned, &headers, abort_fd, &seen, err);
		again = seen == 401 && pbs_login_expire(pbs_rest_login(rest), &headers);
	}
	if (status)
		*status = seen;
	return rc;
}

/* --- calls --- */

int pbs_session_refused(const struct h2_call *call, struct err *err)
{
	char what[64];
	size_t n = strcspn(call->path, "?");

	snprintf(what, sizeof(what), "%s %.*s", call->method, (int)(n < 40 ? n : 40), call->path);
	return pbs_http_refused(call->status, call->text, call->text_size, what, err);
}

int pbs_session_failed(struct h2_conn *c, const struct h2_call *call, int rc, struct err *err)
{
	struct err why = ERR_INIT;

	h2_conn_why(c, &why);
	if (rc == -E2BIG)
		return err_set(err, E2BIG, "an answer of more than %zu bytes",
			       call->reply ? call->reply->size_max : 0);
	if (rc == -EPROTO && !why.text[0])
		return err_set(err, EPROTO, "the server gives up the call");
	if (why.text[0])
		return err_set(err, -rc, "%.*s", ERR_TEXT_SIZE - 1, why.text);
	return err_set(err, -rc, "%s",
		       rc == -ECANCELED ? "the call was aborted" :
		       rc == -ENOMEM	? "out of memory" :
					  "the connection to the server was lost");
}
