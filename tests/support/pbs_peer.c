/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pbs_peer - the other end of backup and reader sessions, quick enough to be measured against.
 *
 *	pbs_peer STORE PEM [MIB]
 *
 * It serves the datastore directory STORE on loopback, under any name, to whoever asks (there are no
 * logins: use an API token), and prints its port.  What costs a server time it does: TLS, HTTP/2 with
 * the windows of the official server (or of MIB each), decoding and digest check of each plain chunk, the datastore
 * with its locks.  It is strict only where being wrong would spoil a measurement: tests belong to
 * pbs_server.py.
 */
#include "archive/blob.h"
#include "archive/chunker.h"
#include "archive/didx.h"
#include "archive/json_text.h"
#include "client/repo/repo_name.h"
#include "tests/support/pbs_known.h"
#include "tests/support/pbs_params.h"
#include "tests/support/warm_memory.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <netinet/tcp.h>

enum {
	WORKER_COUNT = 2,
	WINDOW_MIB = 32,
	WINDOW_MIB_MAX = 1024,
	FRAME_SIZE_MAX = 4 << 20,
	PIECE_SIZE = 256 << 10, /* read or written at a time */
	TURN_SIZE = 1 << 20, /* read before credit and answers are written */
	DATA_SIZE_MAX = 64 << 10,
	HEAD_SIZE_MAX = 64 << 10,
	WRITER_COUNT = 256,
	BODY_SIZE_MAX = (16 << 20) + BLOB_ENCRYPTED_HEADER_SIZE,
};

static struct repo *repo;
static SSL_CTX *tls;
static int32_t window = WINDOW_MIB << 20;
static struct warm_memory bodies = WARM_MEMORY_INIT;

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "pbs_peer: %s\n", what);
	exit(1);
}

/* --- sessions --- */

struct session {
	int fd;
	SSL *ssl;
	nghttp2_session *h2;
	struct repo_reader *reader; /* either */
	struct repo_writer *writer;
	struct repo_index *indexes[WRITER_COUNT + 1]; /* by wid */
	int last_wid;
	struct wbuf manifest; /* for the end */

	pthread_mutex_t lock; /* guards these */
	struct known_chunks known;
	struct call *done; /* by workers, not answered yet */
	size_t running;
	int wake_fd;

	uint8_t *in, *out;
	size_t out_begin, out_end;
	bool is_over;
};

struct call {
	struct call *next;
	struct session *session;
	int32_t stream;
	char method[8], path[512];
	struct wbuf body, answer;
	struct repo_file file; /* the answer, if it has data */
	int status;
	size_t sent;
	bool is_running; /* a worker has it */
};

static void call_free(struct call *c)
{
	warm_memory_give(&bodies, &c->body);
	wbuf_release(&c->answer);
	repo_file_release(&c->file);
	free(c);
}

/* --- what can be called --- */

static int refuse(struct call *c, int status, const char *text)
{
	c->status = status;
	wbuf_put_text(&c->answer, text);
	return -1;
}

static int answer(struct call *c, int rc, const struct err *err, const char *json)
{
	if (rc < 0)
		return refuse(c, 400, err->text[0] ? err->text : "failed");
	return wbuf_printf(&c->answer, "{\"data\":%s}", json);
}

static int previous_time(struct call *c)
{
	const struct snapshot_name *name = repo_writer_previous(c->session->writer);
	char text[32] = "null";

	if (name)
		snprintf(text, sizeof(text), "%" PRId64, name->time);
	return answer(c, 0, NULL, text);
}

static int previous(struct call *c)
{
	struct session *s = c->session;
	struct err err = ERR_INIT;
	uint64_t begin, end;
	char name[256];
	struct digest d;
	struct didx ix;
	int rc;

	if (!text_param(c->path, "archive-name", name, sizeof(name)))
		return refuse(c, 400, "archive-name is missing");
	rc = repo_writer_get_previous(s->writer, name, &c->file, &err);
	if (rc < 0)
		return answer(c, rc, &err, "");
	if (strstr(name, ".didx") && didx_open(&ix, c->file.data, c->file.size, NULL) == 0) {
		pthread_mutex_lock(&s->lock);
		for (size_t i = 0; i < ix.count; i++) {
			didx_chunk(&ix, i, &begin, &end, &d);
			must(know(&s->known, &d, end - begin, false) == 0, "out of memory");
		}
		pthread_mutex_unlock(&s->lock);
	}
	return 0;
}

static int open_index(struct call *c)
{
	struct session *s = c->session;
	struct err err = ERR_INIT;
	char name[256], wid[8];
	int rc;

	if (!text_param(c->path, "archive-name", name, sizeof(name)) || s->last_wid == WRITER_COUNT)
		return refuse(c, 400, "no name, or too many indexes");
	rc = repo_writer_index_open(s->writer, name, &s->indexes[s->last_wid + 1], &err);
	s->last_wid += rc == 0;
	snprintf(wid, sizeof(wid), "%d", s->last_wid);
	return answer(c, rc, &err, wid);
}

/* What a worker has for itself. */
struct tools {
	struct blob_codec *codec;
	uint8_t *plain; /* CHUNK_SIZE_MAX */
};

/* A chunk that is not compressed is looked at where it is. */
static uint8_t *plain_of(const struct call *c, enum blob_kind kind, const struct tools *t)
{
	return kind == BLOB_PLAIN ? c->body.data + BLOB_HEADER_SIZE : t->plain;
}

static int put_chunk(struct call *c, const struct tools *t)
{
	uint64_t size = number_param(c->path, "size");
	struct session *s = c->session;
	char hex[DIGEST_HEX_SIZE], quoted[DIGEST_HEX_SIZE + 2];
	struct err err = ERR_INIT;
	enum blob_kind kind;
	struct digest d;
	int rc;

	if (!text_param(c->path, "digest", hex, sizeof(hex)) || digest_from_hex(&d, hex) < 0 ||
	    size < 1 || size > CHUNK_SIZE_MAX ||
	    number_param(c->path, "encoded-size") != c->body.size)
		return refuse(c, 400, "bad parameters");
	rc = blob_kind(c->body.data, c->body.size, &kind, &err);
	if (rc == 0 && !blob_kind_is_encrypted(kind))
		rc = blob_decode_chunk(t->codec, c->body.data, c->body.size, &d,
				       plain_of(c, kind, t), size, &err);
	else if (rc == 0)
		rc = blob_verify_crc(c->body.data, c->body.size, &err);
	if (rc == 0)
		rc = repo_writer_put_chunk(s->writer, &d, c->body.data, c->body.size, size, NULL, &err);
	pthread_mutex_lock(&s->lock);
	if (rc == 0)
		must(know(&s->known, &d, size, true) == 0, "out of memory");
	pthread_mutex_unlock(&s->lock);
	warm_memory_give(&bodies, &c->body);
	snprintf(quoted, sizeof(quoted), "\"%s\"", hex);
	return answer(c, rc, &err, quoted);
}

static int append_one(struct session *s, struct repo_index *ix, const json_t *hex, struct err *err)
{
	struct digest d;
	struct known k;
	int rc = json_is_string(hex) ? digest_from_hex(&d, json_string_value(hex)) : -EINVAL;

	if (rc < 0)
		return err_set(err, EINVAL, "no digest");
	pthread_mutex_lock(&s->lock);
	k = known_of(&s->known, &d);
	pthread_mutex_unlock(&s->lock);
	if (!k.size)
		return err_set(err, EINVAL, "no such chunk");
	if (!k.is_new)
		rc = repo_writer_reuse_chunk(s->writer, &d, err);
	return rc < 0 ? rc : repo_index_add(s->writer, ix, k.size, &d, err);
}

static int append(struct call *c)
{
	AUTO(json) json_t *all = NULL;
	struct session *s = c->session;
	struct err err = ERR_INIT;
	int rc = json_text_decode(c->body.data, c->body.size, &all, &err);
	json_int_t wid = json_integer_value(json_object_get(all, "wid"));
	const json_t *list = json_object_get(all, "digest-list"), *hex;
	size_t i;

	if (rc < 0 || wid < 1 || wid > s->last_wid || !s->indexes[wid])
		return refuse(c, 400, "bad append");
	json_array_foreach(list, i, hex)
		if ((rc = append_one(s, s->indexes[wid], hex, &err)) < 0)
			break;
	return answer(c, rc, &err, "null");
}

static int close_index(struct call *c)
{
	uint64_t wid = number_param(c->path, "wid"), size = 0;
	char wanted[DIGEST_HEX_SIZE] = "", found[DIGEST_HEX_SIZE];
	struct session *s = c->session;
	struct digest csum = { { 0 } };
	struct err err = ERR_INIT;
	int rc;

	if (wid < 1 || wid > (uint64_t)s->last_wid || !s->indexes[wid] ||
	    !text_param(c->path, "csum", wanted, sizeof(wanted)))
		return refuse(c, 400, "bad close");
	rc = repo_index_close(s->writer, steal(&s->indexes[wid]), &size, &csum, &err);
	digest_to_hex(&csum, found);
	if (rc == 0 && (strcmp(found, wanted) != 0 || size != number_param(c->path, "size")))
		return refuse(c, 400, "wrong checksum or size");
	return answer(c, rc, &err, "null");
}

static int put_blob(struct call *c)
{
	struct wbuf *manifest = &c->session->manifest;
	struct err err = ERR_INIT;
	char name[256] = "";
	int rc;

	text_param(c->path, "file-name", name, sizeof(name));
	if (strcmp(name, MANIFEST_BLOB_NAME) == 0) {
		wbuf_clear(manifest);
		rc = wbuf_put(manifest, c->body.data, c->body.size);
	} else {
		rc = repo_writer_put_blob(c->session->writer, name, c->body.data, c->body.size, &err);
	}
	return answer(c, rc, &err, "null");
}

static int finish(struct call *c)
{
	const struct wbuf *manifest = &c->session->manifest;
	struct err err = ERR_INIT;
	int rc = repo_writer_finish(c->session->writer, manifest->data, manifest->size, &err);

	return answer(c, rc, &err, "null");
}

static int download(struct call *c)
{
	struct err err = ERR_INIT;
	char name[256] = "";
	int rc;

	text_param(c->path, "file-name", name, sizeof(name));
	rc = repo_reader_get_file(c->session->reader, name, &c->file, &err);
	return rc < 0 ? answer(c, rc, &err, "") : 0;
}

/* On a worker. */
static int get_chunk(struct call *c)
{
	char hex[DIGEST_HEX_SIZE] = "";
	struct err err = ERR_INIT;
	struct digest d;
	int rc;

	text_param(c->path, "digest", hex, sizeof(hex));
	if (digest_from_hex(&d, hex) < 0)
		return refuse(c, 400, "bad digest");
	rc = repo_reader_get_chunk(c->session->reader, &d, &c->answer, &err);
	return rc < 0 ? answer(c, rc, &err, "") : 0;
}

static bool is_call(const struct call *c, const char *method, const char *path)
{
	return strcmp(c->method, method) == 0 && strncmp(c->path, path, strlen(path)) == 0 &&
	       (c->path[strlen(path)] == '?' || c->path[strlen(path)] == '\0');
}

static void do_small(struct call *c)
{
	if (c->session->writer && is_call(c, "GET", "/previous_backup_time"))
		previous_time(c);
	else if (c->session->writer && is_call(c, "GET", "/previous"))
		previous(c);
	else if (c->session->writer && is_call(c, "POST", "/dynamic_index"))
		open_index(c);
	else if (c->session->writer && is_call(c, "PUT", "/dynamic_index"))
		append(c);
	else if (c->session->writer && is_call(c, "POST", "/dynamic_close"))
		close_index(c);
	else if (c->session->writer && is_call(c, "POST", "/blob"))
		put_blob(c);
	else if (c->session->writer && is_call(c, "POST", "/finish"))
		finish(c);
	else if (c->session->reader && is_call(c, "GET", "/download"))
		download(c);
	else
		refuse(c, 404, "not found");
}

/* --- workers --- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct call *first, **last;
} queue = { .lock = PTHREAD_MUTEX_INITIALIZER,
	    .changed = PTHREAD_COND_INITIALIZER,
	    .last = &queue.first };

static void *work(void *arg)
{
	const struct tools tools = { blob_codec_new(), malloc(CHUNK_SIZE_MAX) };
	const uint64_t one = 1;

	(void)arg;
	must(tools.codec && tools.plain, "out of memory");
	for (;;) {
		struct call *c;

		pthread_mutex_lock(&queue.lock);
		while (!queue.first)
			pthread_cond_wait(&queue.changed, &queue.lock);
		c = queue.first;
		queue.first = c->next;
		if (!queue.first)
			queue.last = &queue.first;
		pthread_mutex_unlock(&queue.lock);

		struct session *s = c->session;
		if (s->writer)
			put_chunk(c, &tools);
		else
			get_chunk(c);
		pthread_mutex_lock(&s->lock);
		c->next = s->done;
		s->done = c;
		if (write(s->wake_fd, &one, sizeof(one)) < 0)
			must(errno == EAGAIN, "eventfd");
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

static void enqueue(struct call *c)
{
	c->is_running = true;
	pthread_mutex_lock(&c->session->lock);
	c->session->running++;
	pthread_mutex_unlock(&c->session->lock);
	pthread_mutex_lock(&queue.lock);
	c->next = NULL;
	*queue.last = c;
	queue.last = &c->next;
	pthread_cond_signal(&queue.changed);
	pthread_mutex_unlock(&queue.lock);
}

/* --- HTTP/2 --- */

static ssize_t read_answer(nghttp2_session *h2, int32_t stream, uint8_t *to, size_t size,
			   uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct call *c = source->ptr;
	const uint8_t *data = c->file.data ? c->file.data : c->answer.data;
	size_t left = (c->file.data ? c->file.size : c->answer.size) - c->sent;

	(void)h2;
	(void)stream;
	(void)arg;
	if (size >= left) {
		size = left;
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	}
	memcpy(to, data + c->sent, size);
	c->sent += size;
	return (ssize_t)size;
}

static ssize_t answer_room(nghttp2_session *h2, uint8_t type, int32_t stream, int32_t connection,
			   int32_t own, uint32_t frame_size_max, void *arg)
{
	ssize_t room = DATA_SIZE_MAX;

	(void)h2;
	(void)type;
	(void)stream;
	(void)arg;
	room = room < connection ? room : connection;
	room = room < own ? room : own;
	return room < (ssize_t)frame_size_max ? room : (ssize_t)frame_size_max;
}

/* A stream that was reset meanwhile takes no answer. */
static void respond(struct call *c)
{
	nghttp2_session *h2 = c->session->h2;
	size_t size = c->file.data ? c->file.size : c->answer.size;
	char status[8], length[24];
	nghttp2_nv headers[] = {
		{ (uint8_t *)":status", (uint8_t *)status, 7, 3, NGHTTP2_NV_FLAG_NONE },
		{ (uint8_t *)"content-length", (uint8_t *)length, 14, 0, NGHTTP2_NV_FLAG_NONE },
	};
	nghttp2_data_provider body = { .source.ptr = c, .read_callback = read_answer };

	snprintf(status, sizeof(status), "%d", c->status);
	headers[1].valuelen = (size_t)snprintf(length, sizeof(length), "%zu", size);
	if (nghttp2_session_get_stream_user_data(h2, c->stream) != c ||
	    nghttp2_submit_response(h2, c->stream, headers, 2, &body) != 0)
		call_free(c);
}

static int on_headers(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	struct call *c = calloc(1, sizeof(*c));

	must(c, "out of memory");
	*c = (struct call){ .session = arg, .stream = frame->hd.stream_id, .status = 200 };
	wbuf_init(&c->body, BODY_SIZE_MAX);
	wbuf_init(&c->answer, BODY_SIZE_MAX);
	return nghttp2_session_set_stream_user_data(h2, c->stream, c);
}

static int on_header(nghttp2_session *h2, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_size, const uint8_t *value, size_t size, uint8_t flags, void *arg)
{
	struct call *c = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);

	(void)flags;
	(void)arg;
	if (c && name_size == 7 && memcmp(name, ":method", 7) == 0)
		snprintf(c->method, sizeof(c->method), "%.*s", (int)size, value);
	if (c && name_size == 5 && memcmp(name, ":path", 5) == 0)
		snprintf(c->path, sizeof(c->path), "%.*s", (int)size, value);
	return 0;
}

static int on_data(nghttp2_session *h2, uint8_t flags, int32_t stream, const uint8_t *data,
		   size_t size, void *arg)
{
	struct call *c = nghttp2_session_get_stream_user_data(h2, stream);

	(void)flags;
	(void)arg;
	if (c && !c->body.data && is_call(c, "POST", "/dynamic_chunk"))
		must(warm_memory_take(&bodies, &c->body) == 0, "out of memory");
	return !c || wbuf_put(&c->body, data, size) == 0 ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_frame(nghttp2_session *h2, const nghttp2_frame *frame, void *arg)
{
	struct session *s = arg;
	struct call *c;

	if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	c = nghttp2_session_get_stream_user_data(h2, frame->hd.stream_id);
	if (c && ((s->writer && is_call(c, "POST", "/dynamic_chunk")) ||
		  (s->reader && is_call(c, "GET", "/chunk")))) {
		enqueue(c);
	} else if (c) {
		do_small(c);
		respond(c);
	}
	return 0;
}

static int on_close(nghttp2_session *h2, int32_t stream, uint32_t code, void *arg)
{
	struct call *c = nghttp2_session_get_stream_user_data(h2, stream);

	(void)code;
	(void)arg;
	nghttp2_session_set_stream_user_data(h2, stream, NULL);
	if (c && !c->is_running)
		call_free(c);
	return 0;
}

static void make_h2(struct session *s)
{
	const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, (uint32_t)window },
		{ NGHTTP2_SETTINGS_MAX_FRAME_SIZE, FRAME_SIZE_MAX },
		{ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 200 },
		{ NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, 16384 },
	};
	nghttp2_session_callbacks *callbacks;
	nghttp2_option *option;

	must(nghttp2_session_callbacks_new(&callbacks) == 0 && nghttp2_option_new(&option) == 0,
	     "out of memory");
	nghttp2_option_set_no_auto_window_update(option, 1);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_headers);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, answer_room);
	must(nghttp2_session_server_new2(&s->h2, callbacks, s, option) == 0, "out of memory");
	nghttp2_option_del(option);
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_submit_settings(s->h2, NGHTTP2_FLAG_NONE, settings, 4);
	nghttp2_session_set_local_window_size(s->h2, NGHTTP2_FLAG_NONE, 0, window);
}

static void take_done(struct session *s)
{
	uint64_t count;
	struct call *c;

	if (read(s->wake_fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&s->lock);
	c = s->done;
	s->done = NULL;
	for (struct call *p = c; p; p = p->next)
		s->running--;
	pthread_mutex_unlock(&s->lock);
	while (c) {
		struct call *next = c->next;

		c->is_running = false;
		respond(c);
		c = next;
	}
}

/* Credit comes back when it is half of what the sender has left: so two thirds of a window at least
 * are of use, not half, as with what nghttp2 does by itself.  Bodies fit into their streams' windows. */
static void give_credit(struct session *s)
{
	int32_t taken = nghttp2_session_get_effective_recv_data_length(s->h2);
	int32_t left = nghttp2_session_get_effective_local_window_size(s->h2) - taken;

	if (taken > 0 && taken >= left / 2)
		must(nghttp2_submit_window_update(s->h2, NGHTTP2_FLAG_NONE, 0, taken) == 0,
		     "out of memory");
}

/* True: there may be more. */
static bool read_some(struct session *s)
{
	for (size_t done = 0; done < TURN_SIZE;) {
		int n = SSL_read(s->ssl, s->in, PIECE_SIZE);

		if (n <= 0 || nghttp2_session_mem_recv(s->h2, s->in, (size_t)n) < 0) {
			s->is_over = n > 0 || SSL_get_error(s->ssl, n) != SSL_ERROR_WANT_READ;
			return false;
		}
		done += (size_t)n;
	}
	return true;
}

/* True: the socket is full. */
static bool write_some(struct session *s)
{
	for (;;) {
		const uint8_t *data;
		ssize_t n;

		if (s->out_begin == s->out_end)
			s->out_begin = s->out_end = 0;
		while (s->out_begin == 0 && s->out_end + DATA_SIZE_MAX + 1024 <= PIECE_SIZE &&
		       (n = nghttp2_session_mem_send(s->h2, &data)) > 0) {
			memcpy(s->out + s->out_end, data, (size_t)n);
			s->out_end += (size_t)n;
		}
		if (s->out_begin == s->out_end)
			return false;
		n = SSL_write(s->ssl, s->out + s->out_begin, (int)(s->out_end - s->out_begin));
		if (n <= 0) {
			s->is_over = SSL_get_error(s->ssl, (int)n) != SSL_ERROR_WANT_WRITE;
			return true;
		}
		s->out_begin += (size_t)n;
	}
}

static void run_session(struct session *s)
{
	bool has_more = read_some(s); /* what has come with the request */

	while (!s->is_over) {
		struct pollfd fds[] = { { .fd = s->fd, .events = POLLIN },
					{ .fd = s->wake_fd, .events = POLLIN } };

		give_credit(s);
		if (write_some(s))
			fds[0].events |= POLLOUT;
		if (s->is_over || (poll(fds, 2, has_more ? 0 : -1) < 0 && errno != EINTR))
			return;
		if (fds[1].revents)
			take_done(s);
		if (has_more || fds[0].revents & ~POLLOUT)
			has_more = read_some(s);
	}
}

/* --- connections --- */

static bool open_snapshot(struct session *s, const char *target, struct err *err)
{
	struct snapshot_name name = { .time = (int64_t)number_param(target, "backup-time") };
	struct repo_writer_params params;

	if (!text_param(target, "backup-type", name.group.type, sizeof(name.group.type)) ||
	    !text_param(target, "backup-id", name.group.id, sizeof(name.group.id)))
		return err_set(err, EINVAL, "no snapshot is named") == 0;
	params = (struct repo_writer_params){ .name = name, .owner = "root@pam" };
	if (strncmp(target, "/api2/json/backup?", 18) == 0)
		return repo_write(repo, &params, &s->writer, err) == 0;
	if (strncmp(target, "/api2/json/reader?", 18) == 0)
		return repo_read(repo, &name, &s->reader, err) == 0;
	return err_set(err, EINVAL, "no call of REST is known") == 0;
}

/* One request; true: it has become a session. */
static bool upgrade(struct session *s)
{
	struct err err = ERR_INIT;
	char head[HEAD_SIZE_MAX];
	size_t used = 0;
	char *target;

	do {
		int n = SSL_read(s->ssl, head + used, (int)(sizeof(head) - 1 - used));

		if (n <= 0)
			return false;
		used += (size_t)n;
		head[used] = '\0';
	} while (!strstr(head, "\r\n\r\n") && used < sizeof(head) - 1);
	target = strchr(head, ' ');
	if (target && open_snapshot(s, target + 1, &err))
		used = (size_t)snprintf(head, sizeof(head),
					"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n"
					"upgrade: proxmox-backup-%sprotocol-v1\r\n\r\n",
					s->reader ? "reader-" : "");
	else
		used = (size_t)snprintf(head, sizeof(head),
					"HTTP/1.1 400 Bad Request\r\ncontent-length: %zu\r\n\r\n%s",
					strlen(err.text), err.text);
	return SSL_write(s->ssl, head, (int)used) > 0 && (s->writer || s->reader);
}

static void session_free(struct session *s)
{
	struct pollfd wake = { .fd = s->wake_fd, .events = POLLIN };

	while (s->running && poll(&wake, 1, -1) >= 0)
		take_done(s);
	nghttp2_session_del(s->h2);
	repo_writer_free(s->writer);
	repo_reader_free(s->reader);
	SSL_free(s->ssl);
	close(s->fd);
	close(s->wake_fd);
	wbuf_release(&s->manifest);
	known_chunks_release(&s->known);
	free(s->in);
	free(s->out);
	free(s);
}

static void *serve(void *arg)
{
	struct session *s = arg;

	if (SSL_accept(s->ssl) == 1 && upgrade(s)) {
		make_h2(s);
		must(fcntl(s->fd, F_SETFL, O_NONBLOCK) == 0, "O_NONBLOCK");
		run_session(s);
	}
	session_free(s);
	return NULL;
}

static void accept_one(int listener)
{
	struct session *s = calloc(1, sizeof(*s));
	const int one = 1;
	pthread_t thread;

	must(s, "out of memory");
	s->fd = accept(listener, NULL, NULL);
	must(s->fd >= 0, "accept");
	setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	wbuf_init(&s->manifest, BODY_SIZE_MAX);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->in = malloc(PIECE_SIZE);
	s->out = malloc(PIECE_SIZE);
	s->ssl = SSL_new(tls);
	must(s->in && s->out && s->ssl && SSL_set_fd(s->ssl, s->fd) == 1, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	must(pthread_create(&thread, NULL, serve, s) == 0, "no thread");
	pthread_detach(thread);
}

static int listen_somewhere(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, 64) == 0 &&
		     getsockname(fd, (struct sockaddr *)&address, &size) == 0,
	     "no socket");
	printf("%d\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	pthread_t thread;
	int listener;

	must(argc == 3 || argc == 4, "usage: pbs_peer STORE PEM [MIB]");
	if (argc == 4)
		window = (int32_t)strtol(argv[3], NULL, 10) << 20;
	must(window > 0 && window <= WINDOW_MIB_MAX << 20, "a window of 1 to 1024 MiB");
	signal(SIGPIPE, SIG_IGN);
	must(repo_open(argv[1], &repo, &err) == 0, err.text);
	tls = SSL_CTX_new(TLS_server_method());
	must(tls && SSL_CTX_use_certificate_chain_file(tls, argv[2]) == 1 &&
		     SSL_CTX_use_PrivateKey_file(tls, argv[2], SSL_FILETYPE_PEM) == 1,
	     "no certificate and key");
	SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(tls, 1);
	SSL_CTX_set_default_read_buffer_len(tls, PIECE_SIZE);
	listener = listen_somewhere();
	for (int i = 0; i < WORKER_COUNT; i++)
		must(pthread_create(&thread, NULL, work, NULL) == 0, "no thread");
	for (;;)
		accept_one(listener);
}
