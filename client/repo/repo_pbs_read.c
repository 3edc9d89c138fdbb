/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reader sessions of a server.
 *
 * A session gives the chunks of indexes that were downloaded in it.  When its connection breaks,
 * whoever wants something next makes another, with growing pauses, while others wait for it; the
 * indexes that were in use are downloaded again first, and must be what they were.  So a mount
 * outlives a server that is restarted.
 */
#include "client/repo/pbs_session.h"
#include "client/repo/repo_pbs_priv.h"

#include "archive/blob.h"
#include "client/base/clock.h"
#include "client/base/io.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <fcntl.h>

enum {
	PATH_SIZE = 1024, /* of a call: the name of a file is below 256, each byte three at most */
	PAUSE_MIN_MS = 100,
	PAUSE_MAX_MS = 10 * 1000,
	LOST_MS_MAX = 120 * 1000, /* for how long one call tries to get a connection */
	MAPPED_SIZE_MIN = 1 << 20,
};

/* An index that was downloaded: its chunks may be asked for. */
struct used_index {
	struct used_index *next;
	struct digest csum; /* of the whole file */
	char name[ARCHIVE_NAME_SIZE_MAX + 1];
};

struct pbs_reader {
	struct repo_reader base; /* first: the interface casts */
	struct repo_pbs *repo;
	struct snapshot_name name;
	char path[SNAPSHOT_PATH_SIZE]; /* for messages */
	int abort_fd; /* readable once the session is aborted */

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	struct h2_conn *conn; /* NULL: to be made */
	bool connecting, aborted;
	struct used_index *indexes;
};

static struct pbs_reader *self(struct repo_reader *r)
{
	return (struct pbs_reader *)r;
}

static int in_snapshot(const struct pbs_reader *r, int rc, struct err *err)
{
	return rc < 0 ? err_wrap(err, rc, "%s/%s", r->repo->base.spelling, r->path) : 0;
}

static int aborted(struct err *err)
{
	return err_set(err, ECANCELED, "reading was aborted");
}

/* --- one call --- */

/* GET; the body of the answer is appended to `out`. */
static int get(struct h2_conn *conn, const char *path, struct wbuf *out, int *status,
	       struct err *err)
{
	struct h2_call call = { .method = "GET", .path = path, .reply = out };
	int rc = h2_conn_run(conn, &call);

	*status = rc == 0 ? call.status : 0;
	if (rc < 0)
		return pbs_session_failed(conn, &call, rc, err);
	return call.status == 200 ? 0 : pbs_session_refused(&call, err);
}

static int make_path(char out[PATH_SIZE], const char *call, const char *parameter,
		     const char *value, struct err *err)
{
	AUTO(json) json_t *params = json_pack("{s:s}", parameter, value);
	AUTO(wbuf) struct wbuf query = WBUF_INIT(PATH_SIZE - 64);

	if (!params || pbs_rest_query(params, &query) < 0)
		return err_set(err, EINVAL, "'%s' is no name of a file", value);
	snprintf(out, PATH_SIZE, "/%s?%.*s", call, (int)query.size, (const char *)query.data);
	return 0;
}

/* --- the connection --- */

static void digest_of(const void *data, size_t size, struct digest *out)
{
	struct digest_ctx *ctx = digest_ctx_new();

	if (ctx)
		digest_ctx_of(ctx, data, size, out);
	else
		memset(out, 0, sizeof(*out));
	digest_ctx_free(ctx);
}

/* A session's chunks are those of the indexes downloaded in it. */
static int use_again(struct h2_conn *conn, const struct used_index *ix, struct err *err)
{
	AUTO(wbuf) struct wbuf bytes = WBUF_INIT(REPO_FILE_SIZE_MAX);
	char path[PATH_SIZE];
	struct digest csum;
	int status, rc = make_path(path, "download", "file-name", ix->name, err);

	if (rc == 0)
		rc = get(conn, path, &bytes, &status, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", ix->name);
	digest_of(bytes.data, bytes.size, &csum);
	if (!digest_equal(&csum, &ix->csum))
		return err_set(err, ESTALE, "%s has changed on the server", ix->name);
	return 0;
}

struct found {
	int64_t time;
	bool exists, finished;
};

static int look_at(void *arg, const struct repo_snapshot_info *info)
{
	struct found *f = arg;

	if (info->name.time == f->time) {
		f->exists = true;
		f->finished = info->finished;
	}
	return 0;
}

static int not_finished(struct err *err)
{
	return err_set(err, ENOENT, "the snapshot is not finished (it has no %s)", MANIFEST_BLOB_NAME);
}

/* A refusal says in words what is wrong; whether the snapshot is there can be looked up. */
static int explain(struct pbs_reader *r, int rc, struct err *err)
{
	struct found f = { .time = r->name.time };
	struct err ignored = ERR_INIT;

	if (repo_pbs_list_snapshots(&r->repo->base, &r->name.group, look_at, &f, &ignored) < 0)
		return rc;
	if (!f.exists)
		return err_set(err, ENOENT, "there is no such snapshot");
	return f.finished ? rc : not_finished(err);
}

static int connect_once(struct pbs_reader *r, struct h2_conn **out, struct err *err)
{
	struct h2_conn *conn = NULL;
	const struct used_index *ix;
	int status = 0;
	int rc = pbs_session_open(&conn, r->repo->rest, PBS_SESSION_READER,
				  repo_pbs_snapshot_params(&r->name), r->abort_fd, &status, err);

	if (rc < 0)
		return status == 400 ? explain(r, rc, err) : rc;
	h2_conn_stop_on(conn, r->repo->base.stop);
	/* Only whoever connects adds to the list or walks it without the lock. */
	pthread_mutex_lock(&r->lock);
	ix = r->indexes;
	r->conn = h2_conn_ref(conn); /* so that an abort finds it */
	if (r->aborted)
		h2_conn_abort(conn, -ECANCELED);
	pthread_mutex_unlock(&r->lock);
	for (; ix && rc == 0; ix = ix->next)
		rc = use_again(conn, ix, err);
	if (rc == 0) {
		*out = conn;
		return 0;
	}
	pthread_mutex_lock(&r->lock);
	h2_conn_unref(steal(&r->conn));
	pthread_mutex_unlock(&r->lock);
	h2_conn_unref(conn);
	return rc;
}

/* The server is away, perhaps for a moment: nothing it has said. */
static bool is_passing(int rc)
{
	return rc == -ECONNREFUSED || rc == -ECONNRESET || rc == -ETIMEDOUT || rc == -EPIPE ||
	       rc == -EHOSTUNREACH || rc == -ENETUNREACH || rc == -EIO || rc == -ECONNABORTED ||
	       rc == -ENETDOWN || rc == -EHOSTDOWN;
}

/* Before a try that follows `failed` others. */
static int pause_after(const struct pbs_reader *r, unsigned failed, int64_t deadline_ms,
		       struct err *err)
{
	struct pollfd abort = { .fd = r->abort_fd, .events = POLLIN };
	int64_t left = deadline_ms - clock_now_ms(), pause = PAUSE_MIN_MS;

	for (unsigned i = 1; i < failed && pause < PAUSE_MAX_MS; i++)
		pause *= 2;
	if (pause > PAUSE_MAX_MS)
		pause = PAUSE_MAX_MS;
	if (pause > left)
		pause = left < 0 ? 0 : left; /* -1 would be for ever */
	return failed > 0 && poll(&abort, 1, (int)pause) > 0 ? aborted(err) : 0;
}

static int reconnect(struct pbs_reader *r, int64_t deadline_ms, struct h2_conn **out,
		     struct err *err)
{
	for (unsigned failed = 0;; failed++) {
		int rc = pause_after(r, failed, deadline_ms, err);

		if (rc == 0 && repo_is_stopped(&r->repo->base))
			rc = aborted(err);
		if (rc == 0)
			rc = connect_once(r, out, err);
		if (rc == 0 || !is_passing(rc) || clock_now_ms() >= deadline_ms)
			return rc;
		if (failed == 0)
			repo_warn(&r->repo->base, "%s: the connection to the server is lost (%s), trying "
				  "again", r->path, err ? err->text : "");
	}
}

/* With the lock held: wait while another makes the connection.  1: it is for the caller to make. */
static int find_connection(struct pbs_reader *r, struct h2_conn **out, struct err *err)
{
	while (r->connecting && !r->aborted)
		pthread_cond_wait(&r->changed, &r->lock);
	if (r->aborted)
		return aborted(err);
	if (r->conn && h2_conn_lost_rc(r->conn) < 0)
		h2_conn_unref(steal(&r->conn));
	if (!r->conn)
		return 1;
	*out = h2_conn_ref(r->conn);
	return 0;
}

/* A connection, counted for the caller. */
static int acquire(struct pbs_reader *r, int64_t deadline_ms, struct h2_conn **out, struct err *err)
{
	int rc;

	pthread_mutex_lock(&r->lock);
	rc = find_connection(r, out, err);
	if (rc == 1) {
		r->connecting = true;
		pthread_mutex_unlock(&r->lock);
		rc = reconnect(r, deadline_ms, out, err);
		pthread_mutex_lock(&r->lock);
		r->connecting = false;
		pthread_cond_broadcast(&r->changed);
		if (r->aborted && rc == 0) {
			h2_conn_unref(steal(out));
			rc = aborted(err);
		}
	}
	pthread_mutex_unlock(&r->lock);
	return rc;
}

/* It has failed a call: nobody shall take it any more. */
static void drop(struct pbs_reader *r, struct h2_conn *conn)
{
	pthread_mutex_lock(&r->lock);
	if (r->conn == conn)
		h2_conn_unref(steal(&r->conn));
	pthread_mutex_unlock(&r->lock);
}

/* get(), over another connection when this one breaks. */
static int get_surely(struct pbs_reader *r, const char *path, struct wbuf *out, int *status,
		      struct err *err)
{
	int64_t deadline_ms = clock_now_ms() + LOST_MS_MAX;
	size_t size = out->size;

	for (unsigned failed = 0;; failed++) {
		struct h2_conn *conn = NULL;
		/* At once the first time: a server was restarted. */
		int rc = pause_after(r, failed ? failed - 1 : 0, deadline_ms, err);

		*status = 0;
		if (rc == 0)
			rc = acquire(r, deadline_ms, &conn, err);
		if (rc < 0)
			return rc;
		rc = get(conn, path, out, status, err);
		if (rc == -ECONNRESET || rc == -ETIMEDOUT) {
			drop(r, conn);
			out->size = size;
		}
		h2_conn_unref(conn);
		if ((rc != -ECONNRESET && rc != -ETIMEDOUT) || clock_now_ms() >= deadline_ms)
			return rc;
	}
}

/* --- files --- */

static void release_heap(struct repo_file *f)
{
	free((void *)f->data);
}

static void release_mapping(struct repo_file *f)
{
	munmap((void *)f->data, f->size);
}

/* Move a large file out of the heap, into one without a name.  False: it stays. */
static bool map_file(const struct wbuf *bytes, struct repo_file *out)
{
	const char *tmp = getenv("TMPDIR");
	AUTO(fd) int fd = open(tmp && tmp[0] == '/' ? tmp : "/var/tmp",
			       O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	void *data;

	if (fd < 0 || io_write(fd, bytes->data, bytes->size) < 0)
		return false;
	data = mmap(NULL, bytes->size, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return false;
	*out = (struct repo_file){ .data = data, .size = bytes->size, .release = release_mapping };
	return true;
}

static bool is_index(const char *name)
{
	size_t size = strlen(name);

	return size > 5 && (strcmp(name + size - 5, ".didx") == 0 ||
			    strcmp(name + size - 5, ".fidx") == 0);
}

size_t repo_pbs_file_size_max(const char *name)
{
	if (is_index(name))
		return REPO_FILE_SIZE_MAX;
	return BLOB_ENCODED_SIZE_MAX(strcmp(name, MANIFEST_BLOB_NAME) == 0 ? MANIFEST_SIZE_MAX :
									     BLOB_DATA_SIZE_MAX);
}

void repo_pbs_file(struct wbuf *bytes, struct repo_file *out)
{
	if (bytes->size >= MAPPED_SIZE_MIN && map_file(bytes, out))
		return;
	out->release = release_heap;
	out->data = wbuf_detach(bytes, &out->size);
}

/* So that the next connection downloads it, too. */
static int remember(struct pbs_reader *r, const char *name, const struct wbuf *bytes,
		    struct err *err)
{
	struct used_index *ix = calloc(1, sizeof(*ix));
	struct used_index *other;
	int rc = 0;

	if (!ix)
		return err_set(err, ENOMEM, "out of memory");
	strcpy(ix->name, name);
	digest_of(bytes->data, bytes->size, &ix->csum);
	pthread_mutex_lock(&r->lock);
	while (r->connecting && !r->aborted) /* it walks the list */
		pthread_cond_wait(&r->changed, &r->lock);
	for (other = r->indexes; other && strcmp(other->name, name) != 0; other = other->next)
		continue;
	if (other && !digest_equal(&other->csum, &ix->csum))
		rc = err_set(err, ESTALE, "%s has changed on the server", name);
	if (!other) {
		ix->next = r->indexes;
		r->indexes = ix;
	}
	pthread_mutex_unlock(&r->lock);
	if (other)
		free(ix);
	return rc;
}

static int reader_get_file(struct repo_reader *base, const char *name, struct repo_file *out,
			   struct err *err)
{
	AUTO(wbuf) struct wbuf bytes = WBUF_INIT(repo_pbs_file_size_max(name));
	struct pbs_reader *r = self(base);
	char path[PATH_SIZE];
	int status = 0, rc;

	if (!snapshot_is_safe_id(name) || strlen(name) > ARCHIVE_NAME_SIZE_MAX)
		return err_set(err, EINVAL, "'%s' is no name of a file", name);
	rc = make_path(path, "download", "file-name", name, err);
	if (rc == 0)
		rc = get_surely(r, path, &bytes, &status, err);
	if (status == 400 || status == 404)
		rc = -ENOENT;
	/* What a server that died has left can be read all the same. */
	if (status == 404 && strcmp(name, MANIFEST_BLOB_NAME) == 0)
		return in_snapshot(r, not_finished(err), err);
	if (rc < 0) {
		err_wrap(err, rc, "%s", name);
		return in_snapshot(r, rc, err);
	}
	if (is_index(name))
		rc = remember(r, name, &bytes, err);
	if (rc == 0)
		repo_pbs_file(&bytes, out);
	return in_snapshot(r, rc, err);
}

static int reader_get_chunk(struct repo_reader *base, const struct digest *digest,
			    struct wbuf *out, struct err *err)
{
	struct pbs_reader *r = self(base);
	char path[PATH_SIZE], hex[DIGEST_HEX_SIZE];
	int status = 0, rc;

	digest_to_hex(digest, hex);
	snprintf(path, sizeof(path), "/chunk?digest=%s", hex);
	rc = get_surely(r, path, out, &status, err);
	/* 401: no index of this session has it; 400: it is not there. */
	if (status == 400 || status == 401 || status == 404)
		rc = -ENOENT;
	return rc < 0 ? err_wrap(err, rc, "%s: chunk %s", r->repo->base.spelling, hex) : 0;
}

/* --- session --- */

static void reader_abort(struct repo_reader *base)
{
	struct pbs_reader *r = self(base);
	const uint64_t one = 1;

	pthread_mutex_lock(&r->lock);
	r->aborted = true;
	if (r->conn)
		h2_conn_abort(r->conn, -ECANCELED);
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (write(r->abort_fd, &one, sizeof(one)) < 0)
		return; /* it is readable already */
}

static void reader_free(struct repo_reader *base)
{
	struct pbs_reader *r = self(base);

	h2_conn_unref(r->conn);
	while (r->indexes) {
		struct used_index *ix = r->indexes;

		r->indexes = ix->next;
		free(ix);
	}
	if (r->abort_fd >= 0)
		close(r->abort_fd);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static const struct repo_reader_ops READER_OPS = {
	.get_file = reader_get_file,
	.get_chunk = reader_get_chunk,
	.abort = reader_abort,
	.free = reader_free,
};

int repo_pbs_read(struct repo *base, const struct snapshot_name *name, struct repo_reader **out,
		  struct err *err)
{
	struct pbs_reader *r = calloc(1, sizeof(*r));
	struct h2_conn *conn = NULL;
	int rc;

	if (!r)
		return err_set(err, ENOMEM, "out of memory");
	r->base.ops = &READER_OPS;
	r->repo = (struct repo_pbs *)base;
	r->name = *name;
	snapshot_path(name, r->path, sizeof(r->path));
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	AUTO(repo_reader) struct repo_reader *owned = &r->base;
	r->abort_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->abort_fd < 0)
		return err_sys(err, errno, "descriptors");
	rc = connect_once(r, &conn, err);
	h2_conn_unref(conn);
	if (rc == 0)
		*out = steal(&owned);
	return in_snapshot(r, rc, err);
}
