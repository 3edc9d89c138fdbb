/* SPDX-License-Identifier: Apache-2.0 */
#include "client/net/h2.h"

#include <nghttp2/nghttp2.h>
#include <string.h>

enum {
	HEADER_LIST_SIZE_MAX = 64 << 10,
	HINT_SIZE_MAX = (16 << 20) + 44, /* of a content-length that memory is made for at once */
};

struct h2 {
	nghttp2_session *session;
	struct h2_call *calls;
	size_t count;
	int64_t now_ms; /* of the call of h2 that runs */
	bool is_closing;
};

static void unlink_call(struct h2 *h, struct h2_call *c)
{
	if (c->previous)
		c->previous->next = c->next;
	else
		h->calls = c->next;
	if (c->next)
		c->next->previous = c->previous;
	h->count--;
}

static void finish(struct h2 *h, struct h2_call *c, int rc)
{
	unlink_call(h, c);
	if (c->rc == 0)
		c->rc = rc;
	c->done(c);
}

void h2_fail(struct h2 *h, int rc)
{
	while (h->calls) {
		if (h->calls->stream > 0)
			nghttp2_session_set_stream_user_data(h->session, h->calls->stream, NULL);
		finish(h, h->calls, rc);
	}
}

/* --- what nghttp2 tells --- */

static struct h2_call *call_of(nghttp2_session *session, int32_t stream)
{
	return nghttp2_session_get_stream_user_data(session, stream);
}

static void take_status(struct h2_call *c, const uint8_t *value, size_t size)
{
	int status = 0;

	for (size_t i = 0; i < size && size == 3; i++)
		status = status * 10 + value[i] - '0'; /* nghttp2 has seen that they are digits */
	c->status = status;
}

/* Memory for the whole body at once, where the server says how much that is. */
static void take_length(struct h2_call *c, const uint8_t *value, size_t size)
{
	size_t length = 0;

	if (c->status != 200 || size == 0 || size > 8)
		return;
	for (size_t i = 0; i < size; i++) {
		if (value[i] < '0' || value[i] > '9')
			return;
		length = length * 10 + value[i] - '0';
	}
	if (length <= HINT_SIZE_MAX && c->reply && c->reply->size + length <= c->reply->size_max)
		wbuf_reserve(c->reply, length);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_size, const uint8_t *value, size_t size, uint8_t flags, void *arg)
{
	struct h2_call *c = call_of(session, frame->hd.stream_id);

	(void)flags;
	if (!c)
		return 0;
	c->progress_ms = ((struct h2 *)arg)->now_ms;
	if (name_size == 7 && memcmp(name, ":status", 7) == 0)
		take_status(c, value, size);
	else if (name_size == 14 && memcmp(name, "content-length", 14) == 0)
		take_length(c, value, size);
	return 0;
}

static void take_text(struct h2_call *c, const uint8_t *data, size_t size)
{
	size_t room = sizeof(c->text) - c->text_size;

	memcpy(c->text + c->text_size, data, size < room ? size : room);
	c->text_size += size < room ? size : room;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t size, void *arg)
{
	struct h2_call *c = call_of(session, stream);

	(void)flags;
	if (!c || c->rc < 0)
		return 0;
	c->progress_ms = ((struct h2 *)arg)->now_ms;
	if (c->status != 200) {
		take_text(c, data, size);
		return 0;
	}
	if (c->reply && wbuf_put(c->reply, data, size) == 0)
		return 0;
	c->rc = c->reply ? c->reply->failed : -E2BIG;
	nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_CANCEL);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	bool has_body = frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS;
	struct h2_call *c = has_body ? call_of(session, frame->hd.stream_id) : NULL;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		((struct h2 *)arg)->is_closing = true;
	if (c && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		c->is_answered = true;
	return 0;
}

/* An answer that came before the request's end is whole all the same: the reset behind it only
 * says that the rest is not wanted. */
static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *arg)
{
	struct h2_call *c = call_of(session, stream);

	if (!c)
		return 0;
	nghttp2_session_set_stream_user_data(session, stream, NULL);
	finish(arg, c,
	       c->is_answered && c->status >= 200 ? 0 :
	       code == NGHTTP2_REFUSED_STREAM	  ? -ECONNRESET :
						    -EPROTO);
	return 0;
}

/* A request that may not go out any more, as after a GOAWAY. */
static int on_not_sent(nghttp2_session *session, const nghttp2_frame *frame, int code, void *arg)
{
	struct h2 *h = arg;

	(void)session;
	(void)code;
	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	for (struct h2_call *c = h->calls; c; c = c->next) {
		if (c->stream != frame->hd.stream_id)
			continue;
		nghttp2_session_set_stream_user_data(session, c->stream, NULL);
		finish(h, c, -ECONNRESET);
		break;
	}
	return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t stream, uint8_t *to, size_t size,
			 uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct h2_call *c = call_of(session, stream);
	size_t left;

	(void)source;
	if (!c) /* it was given up */
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	left = c->body_size - c->sent;
	if (size >= left) {
		size = left;
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	}
	if (size)
		memcpy(to, (const uint8_t *)c->body + c->sent, size);
	c->sent += size;
	c->progress_ms = ((struct h2 *)arg)->now_ms;
	return (ssize_t)size;
}

static ssize_t body_room(nghttp2_session *session, uint8_t type, int32_t stream,
			 int32_t connection_window, int32_t stream_window, uint32_t frame_size_max,
			 void *arg)
{
	int32_t room = H2_DATA_SIZE_MAX;

	(void)session;
	(void)type;
	(void)stream;
	(void)arg;
	if (room > connection_window)
		room = connection_window;
	if (room > stream_window)
		room = stream_window;
	return (uint32_t)room > frame_size_max ? (ssize_t)frame_size_max : room;
}

/* --- life --- */

static int make_session(struct h2 *h)
{
	nghttp2_session_callbacks *callbacks = NULL;
	int rc;

	if (nghttp2_session_callbacks_new(&callbacks) != 0)
		return -ENOMEM;
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, body_room);
	rc = nghttp2_session_client_new(&h->session, callbacks, h);
	nghttp2_session_callbacks_del(callbacks);
	return rc == 0 ? 0 : -ENOMEM;
}

static int greet(struct h2 *h)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_WINDOW },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, H2_FRAME_SIZE_MAX },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HEADER_LIST_SIZE_MAX },
	};

	if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings,
				    sizeof(settings) / sizeof(settings[0])) != 0 ||
	    nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
						  H2_CONNECTION_WINDOW) != 0)
		return -ENOMEM;
	return 0;
}

int h2_new(struct h2 **out, struct err *err)
{
	AUTO(h2) struct h2 *h = calloc(1, sizeof(*h));

	if (!h || make_session(h) < 0 || greet(h) < 0)
		return err_set(err, ENOMEM, "HTTP/2: out of memory");
	*out = steal(&h);
	return 0;
}

void h2_free(struct h2 *h)
{
	if (!h)
		return;
	h2_fail(h, -ECONNRESET);
	nghttp2_session_del(h->session);
	free(h);
}

/* --- calls --- */

static nghttp2_nv header(const char *name, const char *value)
{
	/* nghttp2 copies them, and so does not write to them */
	return (nghttp2_nv){ .name = (uint8_t *)name,
			     .value = (uint8_t *)value,
			     .namelen = strlen(name),
			     .valuelen = strlen(value),
			     .flags = NGHTTP2_NV_FLAG_NONE };
}

int h2_submit(struct h2 *h, struct h2_call *call, int64_t now_ms)
{
	const nghttp2_nv headers[] = {
		header(":method", call->method),
		header(":scheme", "https"),
		header(":authority", "localhost:8007"),
		header(":path", call->path),
		header("user-agent", "pxarfs/" PXARFS_VERSION),
		header("content-type", call->content_type ? call->content_type : ""),
	};
	const size_t count = sizeof(headers) / sizeof(headers[0]) - !call->content_type;
	const nghttp2_data_provider body = { .read_callback = read_body };

	if (h->is_closing || h2_is_over(h))
		return -ECONNRESET;
	call->rc = call->status = 0;
	call->text_size = call->sent = 0;
	call->is_answered = false;
	call->progress_ms = now_ms;
	call->stream = nghttp2_submit_request(h->session, NULL, headers, count,
					      call->content_type ? &body : NULL, call);
	if (call->stream < 0)
		return call->stream == NGHTTP2_ERR_NOMEM ? -ENOMEM : -ECONNRESET;
	call->previous = NULL;
	call->next = h->calls;
	if (h->calls)
		h->calls->previous = call;
	h->calls = call;
	h->count++;
	return 0;
}

ssize_t h2_output(struct h2 *h, const uint8_t **data, int64_t now_ms)
{
	ssize_t n;

	h->now_ms = now_ms;
	n = nghttp2_session_mem_send(h->session, data);
	return n < 0 ? -EPROTO : n;
}

int h2_input(struct h2 *h, const void *data, size_t size, int64_t now_ms, struct err *err)
{
	ssize_t n;

	h->now_ms = now_ms;
	n = nghttp2_session_mem_recv(h->session, data, size);
	if (n < 0)
		return err_set(err, EPROTO, "HTTP/2: %s", nghttp2_strerror((int)n));
	return 0;
}

bool h2_is_over(const struct h2 *h)
{
	return !nghttp2_session_want_read(h->session) && !nghttp2_session_want_write(h->session);
}

bool h2_is_closing(const struct h2 *h)
{
	return h->is_closing;
}

size_t h2_call_count(const struct h2 *h)
{
	return h->count;
}

int64_t h2_oldest_ms(const struct h2 *h)
{
	int64_t oldest = INT64_MAX;

	for (const struct h2_call *c = h->calls; c; c = c->next)
		if (c->progress_ms < oldest)
			oldest = c->progress_ms;
	return oldest;
}

bool h2_is_patient(const struct h2 *h)
{
	for (const struct h2_call *c = h->calls; c; c = c->next)
		if (c->is_patient)
			return true;
	return false;
}
