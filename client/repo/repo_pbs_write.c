/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backup sessions of a server.
 *
 * Chunks are on their way while the caller goes on (client/repo/repo_pbs_upload.h); index entries go in
 * batches, each behind the answers to the chunks it names.  The snapshot appears with the
 * answer to `finish`; a session whose connection ends before is cleared away by the server.
 */
#include "client/repo/repo_pbs_priv.h"
#include "client/repo/repo_pbs_upload.h"

#include "archive/base/le.h"
#include "archive/blob.h"
#include "archive/chunker.h"
#include "archive/didx.h"
#include "archive/index_writer.h"
#include "client/base/clock.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

enum {
	APPEND_COUNT_MAX = 1024, /* entries of one append: some 85 KiB of the 512 that it may have */
	APPEND_SIZE_MAX = 500 << 10,
	BLOB_SIZE_MAX = (16 << 20) + BLOB_ENCRYPTED_HEADER_SIZE, /* as the server has it */
	INDEX_COUNT_MAX = 256,
	ANSWER_SIZE_MAX = 64 << 10,
	PATH_SIZE = 1024,
	LOCKED_MS_MAX = 3000, /* a session that has just ended may hold its lock for a moment */
	GONE_MS_MAX = 5000, /* and its snapshot may be there for one */
	PAUSE_MS = 50,
};

struct pbs_writer;

struct repo_index {
	struct repo_pbs_target target; /* first: in the upload's list */
	struct pbs_writer *session;
	struct index_writer writer; /* all entries; proves that they can be right */
	size_t count, appended; /* of entries: so far; the server has them */
	char name[ARCHIVE_NAME_SIZE_MAX + 1];
};

/* A file of the snapshot that is there, or an index that is open. */
struct file_name {
	struct file_name *next;
	char name[ARCHIVE_NAME_SIZE_MAX + 1];
};

struct pbs_writer {
	struct repo_writer base; /* first: the interface casts */
	struct repo_pbs *repo;
	struct snapshot_name name, previous;
	bool has_previous, is_finished, no_cache;
	char path[SNAPSHOT_PATH_SIZE]; /* for messages */
	struct h2_conn *conn;
	struct repo_pbs_upload upload;

	pthread_mutex_t lock; /* guards the rest */
	struct file_name *files;
	size_t open_count, index_count, file_count;
	char open_name[ARCHIVE_NAME_SIZE_MAX + 1]; /* one that was opened, for a message */
};

static struct pbs_writer *self(struct repo_writer *w)
{
	return (struct pbs_writer *)w;
}

static int in_snapshot(const struct pbs_writer *w, int rc, struct err *err)
{
	return rc < 0 ? err_wrap(err, rc, "%s/%s", w->repo->base.spelling, w->path) : 0;
}

/* --- calls --- */

/* Run it; an answer other than 200 is an error. */
static int run(struct pbs_writer *w, struct h2_call *call, int *status, struct err *err)
{
	int rc = h2_conn_run(w->conn, call);

	if (status)
		*status = rc == 0 ? call->status : 0;
	if (rc < 0) {
		int first = repo_pbs_upload_failed(&w->upload, err);

		return first < 0 ? first : pbs_session_failed(w->conn, call, rc, err);
	}
	return call->status == 200 ? 0 : pbs_session_refused(call, err);
}

/* The same, with what its answer has as data. */
static int run_json(struct pbs_writer *w, struct h2_call *call, json_t **data, struct err *err)
{
	AUTO(wbuf) struct wbuf answer = WBUF_INIT(ANSWER_SIZE_MAX);
	AUTO(json) json_t *all = NULL;
	int rc;

	call->reply = &answer;
	rc = run(w, call, NULL, err);
	if (rc == 0)
		rc = json_text_decode(answer.data, answer.size, &all, err);
	if (rc < 0)
		return rc;
	if (!json_object_get(all, "data"))
		return err_set(err, EPROTO, "%s: an answer without data", call->path);
	if (data)
		*data = json_incref(json_object_get(all, "data"));
	return 0;
}

/* POST "/CALL?PARAMETERS" without a body; `params` is taken over. */
static int post(struct pbs_writer *w, const char *call, json_t *params, json_t **data,
		struct err *err)
{
	AUTO(json) json_t *owned = params;
	AUTO(wbuf) struct wbuf path = WBUF_INIT(PATH_SIZE);

	wbuf_printf(&path, "/%s?", call);
	if (!owned || pbs_rest_query(owned, &path) < 0 || wbuf_put_u8(&path, 0) < 0)
		return err_set(err, EINVAL, "%s: parameters are too long", call);
	return run_json(w, &(struct h2_call){ .method = "POST", .path = (const char *)path.data }, data,
			err);
}

/* --- previous snapshot --- */

static const struct snapshot_name *writer_previous(struct repo_writer *base)
{
	struct pbs_writer *w = self(base);

	return w->has_previous ? &w->previous : NULL;
}

static bool has_extension(const char *name, const char *extension)
{
	size_t size = strlen(name), n = strlen(extension);

	return size > n && strcmp(name + size - n, extension) == 0;
}

/* By the download the server has come to know the index's chunks.  A damaged index is its
 * user's to refuse. */
static int know_chunks(struct pbs_writer *w, const char *name, const struct wbuf *bytes)
{
	struct digest d;
	uint64_t begin, end;
	struct didx ix;
	struct fidx image;
	int rc = 0;

	if (has_extension(name, ".didx") && didx_open(&ix, bytes->data, bytes->size, NULL) == 0)
		for (size_t i = 0; rc == 0 && i < ix.count; i++) {
			didx_chunk(&ix, i, &begin, &end, &d);
			rc = repo_pbs_upload_know(&w->upload, &d);
		}
	if (has_extension(name, ".fidx") && fidx_open(&image, bytes->data, bytes->size, NULL) == 0)
		for (size_t i = 0; rc == 0 && i < image.count; i++) {
			fidx_chunk(&image, i, &begin, &end, &d);
			rc = repo_pbs_upload_know(&w->upload, &d);
		}
	return rc;
}

static int writer_get_previous(struct repo_writer *base, const char *name,
			       struct repo_file *out, struct err *err)
{
	AUTO(wbuf) struct wbuf bytes = WBUF_INIT(repo_pbs_file_size_max(name));
	struct pbs_writer *w = self(base);
	char path[PATH_SIZE];
	int status = 0, rc;

	if (!w->has_previous)
		return err_set(err, ENOENT, "there is no previous snapshot");
	if (!snapshot_is_safe_id(name) || strlen(name) > ARCHIVE_NAME_SIZE_MAX)
		return err_set(err, EINVAL, "'%s' is no name of a file", name);
	snprintf(path, sizeof(path), "/previous?archive-name=%s", name);
	rc = run(w, &(struct h2_call){ .method = "GET", .path = path, .reply = &bytes }, &status, err);
	if (status == 400 || status == 404)
		rc = -ENOENT;
	if (rc == 0 && know_chunks(w, name, &bytes) < 0)
		rc = err_set(err, ENOMEM, "out of memory");
	if (rc < 0) {
		err_wrap(err, rc, "the previous %s", name);
		return in_snapshot(w, rc, err);
	}
	repo_pbs_file(&bytes, out);
	return 0;
}

/* --- chunks --- */

static int writer_reuse_chunk(struct repo_writer *base, const struct digest *digest,
			      struct err *err)
{
	struct pbs_writer *w = self(base);
	char hex[DIGEST_HEX_SIZE];

	if (repo_pbs_upload_knows(&w->upload, digest))
		return 0;
	digest_to_hex(digest, hex);
	return err_set(err, ENOENT, "%s: chunk %s is in no previous index of this session",
		       w->repo->base.spelling, hex);
}

static int writer_put_chunk(struct repo_writer *base, const struct digest *digest,
			    const void *data, size_t size, size_t plain_size, bool *duplicate,
			    struct err *err)
{
	struct pbs_writer *w = self(base);

	return in_snapshot(w, repo_pbs_upload_put(&w->upload, digest, data, size, plain_size, duplicate,
						  err), err);
}

/* --- indexes --- */

/* Take a name for a new file.  The server does not notice one that is taken twice. */
static int take_name(struct pbs_writer *w, const char *name, const char *extension,
		     struct err *err)
{
	struct file_name *f;
	int rc = 0;

	if (!snapshot_is_safe_id(name) || !has_extension(name, extension) ||
	    strcmp(name, MANIFEST_BLOB_NAME) == 0 || strlen(name) > ARCHIVE_NAME_SIZE_MAX)
		return err_set(err, EINVAL, "'%s' cannot name a file of a snapshot", name);
	pthread_mutex_lock(&w->lock);
	for (f = w->files; f && strcmp(f->name, name) != 0; f = f->next)
		continue;
	if (f)
		rc = err_set(err, EEXIST, "%s: exists already", name);
	else if (!(f = calloc(1, sizeof(*f))))
		rc = err_set(err, ENOMEM, "out of memory");
	if (rc == 0) {
		strcpy(f->name, name);
		f->next = w->files;
		w->files = f;
	}
	pthread_mutex_unlock(&w->lock);
	return rc;
}

static int count_index(struct pbs_writer *w, const char *name, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	if (w->index_count == INDEX_COUNT_MAX)
		rc = err_set(err, E2BIG, "%s: a server takes %d archives in a backup at most", name,
			     INDEX_COUNT_MAX);
	else
		w->index_count++;
	pthread_mutex_unlock(&w->lock);
	return rc;
}

static void index_free(struct repo_index *ix)
{
	index_writer_release(&ix->writer);
	free(ix);
}

/* Open it on the server. */
static int open_remote(struct pbs_writer *w, struct repo_index *ix, uint64_t image_size,
		       struct err *err)
{
	AUTO(json) json_t *wid = NULL;
	json_t *params = image_size ? json_pack("{s:s,s:I}", "archive-name", ix->name, "size",
						(json_int_t)image_size) :
				      json_pack("{s:s}", "archive-name", ix->name);
	int rc = post(w, image_size ? "fixed_index" : "dynamic_index", params, &wid, err);

	if (rc < 0)
		return err_wrap(err, rc, "%s", ix->name);
	ix->target.wid = json_integer_value(wid);
	if (!json_is_integer(wid) || ix->target.wid < 1 || ix->target.wid > INDEX_COUNT_MAX)
		return err_set(err, EPROTO, "%s: the server gives it no good number", ix->name);
	ix->target.image_size = image_size;
	return 0;
}

static void count_open(struct pbs_writer *w, const char *name)
{
	pthread_mutex_lock(&w->lock);
	w->open_count++;
	strcpy(w->open_name, name);
	pthread_mutex_unlock(&w->lock);
}

static int writer_index_open(struct repo_writer *base, const char *name, uint64_t image_size,
			     struct repo_index **out, struct err *err)
{
	static const uint8_t no_uuid[16]; /* the server makes the file, with one of its own */
	struct pbs_writer *w = self(base);
	struct repo_index *ix;
	int rc = image_size > INT64_MAX ? err_set(err, EINVAL, "%s: an image that large", name) :
					  take_name(w, name, image_size ? ".fidx" : ".didx", err);

	if (rc == 0)
		rc = count_index(w, name, err);
	if (rc < 0)
		return in_snapshot(w, rc, err);
	ix = calloc(1, sizeof(*ix));
	if (!ix)
		return err_set(err, ENOMEM, "out of memory");
	ix->session = w;
	strcpy(ix->name, name);
	rc = index_writer_init(&ix->writer, no_uuid, 1, image_size, err);
	if (rc == 0)
		rc = open_remote(w, ix, image_size, err);
	if (rc < 0) {
		index_free(ix);
		return in_snapshot(w, rc, err);
	}
	count_open(w, name);
	repo_pbs_upload_add_target(&w->upload, &ix->target);
	*out = ix;
	return 0;
}

/* The entry's start and digest, out of the file's bytes. */
static void entry(const struct repo_index *ix, size_t i, uint64_t *start, struct digest *digest)
{
	const uint8_t *bytes = index_writer_bytes(&ix->writer)->data;

	if (ix->target.image_size) {
		memcpy(digest->bytes, bytes + FIDX_HEADER_SIZE + i * DIGEST_SIZE, DIGEST_SIZE);
		*start = i * (uint64_t)FIDX_CHUNK_SIZE;
		return;
	}
	bytes += DIDX_HEADER_SIZE + i * DIDX_ENTRY_SIZE;
	memcpy(digest->bytes, bytes + 8, DIGEST_SIZE);
	*start = i ? le64_get(bytes - DIDX_ENTRY_SIZE) : 0;
}

/* One append, of the entries [appended, end). */
static int append(struct repo_index *ix, size_t end, struct err *err)
{
	AUTO(wbuf) struct wbuf body = WBUF_INIT(APPEND_SIZE_MAX);
	char hex[DIGEST_HEX_SIZE];
	struct digest digest;
	uint64_t start;
	size_t i;

	wbuf_printf(&body, "{\"wid\":%" PRId64 ",\"digest-list\":[", ix->target.wid);
	for (i = ix->appended; i < end; i++) {
		entry(ix, i, &start, &digest);
		digest_to_hex(&digest, hex);
		wbuf_printf(&body, "%s\"%s\"", i > ix->appended ? "," : "", hex);
	}
	wbuf_put_text(&body, "],\"offset-list\":[");
	for (i = ix->appended; i < end; i++) {
		entry(ix, i, &start, &digest);
		wbuf_printf(&body, "%s%" PRIu64, i > ix->appended ? "," : "", start);
	}
	if (wbuf_put_text(&body, "]}") < 0)
		return err_set(err, -body.failed, "%s: an append that is too large", ix->name);
	return run_json(ix->session,
			&(struct h2_call){ .method = "PUT",
					   .path = ix->target.image_size ? "/fixed_index" :
									   "/dynamic_index",
					   .content_type = "application/json",
					   .body = body.data,
					   .body_size = body.size },
			NULL, err);
}

/* Tell the server all entries that it does not have yet. */
static int flush(struct repo_index *ix, struct err *err)
{
	int rc = repo_pbs_upload_wait(&ix->session->upload, err);

	while (rc == 0 && ix->appended < ix->count) {
		size_t end = ix->count - ix->appended > APPEND_COUNT_MAX ?
				     ix->appended + APPEND_COUNT_MAX :
				     ix->count;

		rc = append(ix, end, err);
		if (rc == 0)
			ix->appended = end;
	}
	return rc;
}

static int writer_index_add(struct repo_index *ix, uint64_t chunk_size,
			    const struct digest *digest, struct err *err)
{
	int rc = index_writer_add(&ix->writer, chunk_size, digest, err);

	if (rc == 0) {
		ix->count++;
		if (ix->count - ix->appended >= APPEND_COUNT_MAX)
			rc = flush(ix, err);
	}
	return rc < 0 ? err_wrap(err, rc, "%s", ix->name) : 0;
}

static int close_remote(struct repo_index *ix, uint64_t size, const struct digest *csum,
			struct err *err)
{
	char hex[DIGEST_HEX_SIZE];
	int rc = repo_pbs_upload_end_target(&ix->session->upload, &ix->target, err);

	if (rc < 0)
		return rc;
	digest_to_hex(csum, hex);
	return post(ix->session, ix->target.image_size ? "fixed_close" : "dynamic_close",
		    json_pack("{s:I,s:I,s:I,s:s}", "wid", (json_int_t)ix->target.wid, "chunk-count",
			      (json_int_t)ix->count, "size", (json_int_t)size, "csum", hex),
		    NULL, err);
}

static int writer_index_close(struct repo_index *ix, uint64_t *size, struct digest *csum,
			      struct err *err)
{
	struct pbs_writer *w = ix->session;
	struct digest found_csum;
	uint64_t found_size;
	int rc = index_writer_finish(&ix->writer, &found_size, &found_csum, err);

	if (rc == 0)
		rc = flush(ix, err);
	if (rc == 0)
		rc = close_remote(ix, found_size, &found_csum, err);
	if (rc < 0)
		err_wrap(err, rc, "%s", ix->name);
	if (rc == 0 && size)
		*size = found_size;
	if (rc == 0 && csum)
		*csum = found_csum;
	repo_pbs_upload_drop_target(&w->upload, &ix->target);
	index_free(ix);
	pthread_mutex_lock(&w->lock);
	w->open_count -= rc == 0; /* one that failed stays open on the server */
	w->file_count += rc == 0;
	pthread_mutex_unlock(&w->lock);
	return in_snapshot(w, rc, err);
}

/* --- blobs, and the end --- */

static int store_blob(struct pbs_writer *w, const char *name, const void *data, size_t size,
		      struct err *err)
{
	char path[PATH_SIZE];
	int rc;

	if (size > BLOB_SIZE_MAX)
		return err_set(err, E2BIG, "%s: %zu bytes are too many for a blob on a server", name,
			       size);
	rc = blob_verify_crc(data, size, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", name);
	snprintf(path, sizeof(path), "/blob?file-name=%s&encoded-size=%zu", name, size);
	return run_json(w,
			&(struct h2_call){ .method = "POST",
					   .path = path,
					   .content_type = "application/octet-stream",
					   .body = data,
					   .body_size = size },
			NULL, err);
}

static int writer_put_blob(struct repo_writer *base, const char *name, const void *data,
			   size_t size, struct err *err)
{
	struct pbs_writer *w = self(base);
	int rc = take_name(w, name, ".blob", err);

	if (rc == 0)
		rc = store_blob(w, name, data, size, err);
	if (rc < 0)
		return in_snapshot(w, rc, err);
	pthread_mutex_lock(&w->lock);
	w->file_count++;
	pthread_mutex_unlock(&w->lock);
	return 0;
}

/* What the server would say no to, and not let us repair. */
static int check_complete(struct pbs_writer *w, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	if (w->open_count)
		rc = err_set(err, EINVAL, "index %s was not closed", w->open_name);
	else if (w->file_count == 0)
		rc = err_set(err, EINVAL, "nothing was stored");
	pthread_mutex_unlock(&w->lock);
	return rc;
}

static int writer_finish(struct repo_writer *base, const void *manifest_blob, size_t size,
			 struct err *err)
{
	struct pbs_writer *w = self(base);
	int rc = check_complete(w, err);

	if (rc == 0)
		rc = store_blob(w, MANIFEST_BLOB_NAME, manifest_blob, size, err);
	if (rc == 0) /* it may make its file system write all to disk first */
		rc = run_json(w, &(struct h2_call){ .method = "POST", .path = "/finish",
						    .is_patient = true }, NULL, err);
	if (rc < 0)
		return in_snapshot(w, rc, err);
	w->is_finished = true;
	h2_conn_abort(w->conn, -ECONNRESET);
	return 0;
}

struct looked_up {
	int64_t time, newest_finished;
	bool exists, has_unfinished;
};

static int look_at(void *arg, const struct repo_snapshot_info *info)
{
	struct looked_up *l = arg;

	l->exists |= info->name.time == l->time;
	l->has_unfinished |= !info->finished;
	if (info->finished && info->name.time > l->newest_finished)
		l->newest_finished = info->name.time;
	return 0;
}

static int look_up(struct pbs_writer *w, struct looked_up *l)
{
	*l = (struct looked_up){ .time = w->name.time };
	return repo_pbs_list_snapshots(&w->repo->base, &w->name.group, look_at, l, NULL);
}

/* The server clears away what was unfinished, when it notices that we are gone. */
static void await_gone(struct pbs_writer *w)
{
	int64_t deadline_ms = clock_now_ms() + GONE_MS_MAX;
	struct looked_up l;

	while (look_up(w, &l) == 0 && l.exists) {
		if (clock_now_ms() > deadline_ms) {
			repo_warn(&w->repo->base, "the unfinished snapshot %s is still there", w->path);
			return;
		}
		poll(NULL, 0, PAUSE_MS);
	}
}

/* It was the server that has ended the connection, not we. */
static bool is_lost(struct pbs_writer *w)
{
	int rc = repo_pbs_upload_failed(&w->upload, NULL);

	return h2_conn_lost_rc(w->conn) == -ECONNRESET &&
	       (rc == 0 || rc == -ECONNRESET || rc == -ETIMEDOUT);
}

static void writer_free(struct repo_writer *base)
{
	struct pbs_writer *w = self(base);
	struct repo_pbs_target *t, *next;
	bool is_there = w->conn && !is_lost(w);

	if (w->conn)
		h2_conn_abort(w->conn, -ECANCELED);
	for (t = w->upload.targets; t; t = next) {
		next = t->next;
		repo_pbs_upload_drop_target(&w->upload, t);
		index_free((struct repo_index *)t);
	}
	h2_conn_unref(w->conn);
	repo_pbs_upload_release(&w->upload);
	if (is_there && !w->is_finished)
		await_gone(w);
	while (w->files) {
		struct file_name *f = w->files;

		w->files = f->next;
		free(f);
	}
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static const struct repo_writer_ops WRITER_OPS = {
	.previous = writer_previous,
	.get_previous = writer_get_previous,
	.reuse_chunk = writer_reuse_chunk,
	.put_chunk = writer_put_chunk,
	.index_open = writer_index_open,
	.index_add = writer_index_add,
	.index_close = writer_index_close,
	.put_blob = writer_put_blob,
	.finish = writer_finish,
	.free = writer_free,
};

/* --- the beginning --- */

struct group_owner {
	const struct snapshot_group *group;
	char owner[256];
};

static int find_owner(void *arg, const struct repo_group_info *info)
{
	struct group_owner *o = arg;

	if (snapshot_group_compare(&info->group, o->group) == 0)
		strcpy(o->owner, info->owner);
	return 0;
}

/* A refusal says in words what is wrong; what a caller may act on can be looked up.  1: nothing
 * of that.  Then, and with -EBUSY, the lock may be that of a session that has just ended. */
static int explain(struct pbs_writer *w, struct err *err)
{
	struct group_owner o = { .group = &w->name.group };
	char time[SNAPSHOT_TIME_TEXT_SIZE];
	struct looked_up l;

	if (look_up(w, &l) < 0)
		return 1;
	if (l.newest_finished >= w->name.time && snapshot_time_format(l.newest_finished, time) == 0)
		return err_set(err, EEXIST, "the group's last snapshot is of %s: a new one must be later",
			       time);
	if (repo_list_groups(&w->repo->base, w->name.group.ns, find_owner, &o, NULL) == 0 &&
	    o.owner[0] && !pbs_name_owns(pbs_rest_name(w->repo->rest)->auth_id, o.owner))
		return err_set(err, EACCES, "the group belongs to %s", o.owner);
	if (l.has_unfinished) /* or what one that ended or died has left: its own words stay */
		return err_wrap(err, -EBUSY, "another backup of the group seems to be running");
	return 1;
}

/* Of the upgrade; NULL: no memory. */
static json_t *session_params(const struct pbs_writer *w)
{
	json_t *params = repo_pbs_snapshot_params(&w->name);

	if (params && w->no_cache)
		json_object_set_new(params, "no-cache", json_true());
	return params;
}

static int open_session(struct pbs_writer *w, struct err *err)
{
	int64_t deadline_ms = clock_now_ms() + LOCKED_MS_MAX;

	for (;;) {
		int status = 0, why;
		int rc = pbs_session_open(&w->conn, w->repo->rest, PBS_SESSION_BACKUP,
					  session_params(w), -1, &status, err);

		if (rc == 0)
			return 0;
		/* Namespaces carry rights: they are made when somebody says so. */
		if (status == 404 && w->name.group.ns[0])
			return err_set(err, ENOENT, "there is no namespace %s", w->name.group.ns);
		if (status != 400)
			return rc;
		why = explain(w, err);
		if (why < 0 && why != -EBUSY)
			return why;
		if (clock_now_ms() > deadline_ms || repo_is_stopped(&w->repo->base))
			return why < 0 ? why : rc;
		poll(NULL, 0, PAUSE_MS);
	}
}

static int find_previous(struct pbs_writer *w, struct err *err)
{
	AUTO(json) json_t *time = NULL;
	int rc = run_json(w, &(struct h2_call){ .method = "GET", .path = "/previous_backup_time" },
			  &time, err);

	if (rc < 0 || json_is_null(time))
		return rc;
	w->previous = w->name;
	w->previous.time = json_integer_value(time);
	if (!json_is_integer(time) || w->previous.time < 1 || w->previous.time >= w->name.time)
		return err_set(err, EPROTO, "the server tells a previous snapshot that cannot be one");
	w->has_previous = true;
	return 0;
}

static int begin(struct pbs_writer *w, struct err *err)
{
	int rc = open_session(w, err);

	if (rc < 0)
		return rc;
	h2_conn_stop_on(w->conn, w->repo->base.stop);
	w->upload.conn = w->conn;
	return find_previous(w, err);
}

int repo_pbs_write(struct repo *base, const struct repo_writer_params *params,
		   struct repo_writer **out, struct err *err)
{
	char time[SNAPSHOT_TIME_TEXT_SIZE];
	struct pbs_writer *w;
	int rc;

	if (snapshot_time_format(params->name.time, time) < 0)
		return err_set(err, EINVAL, "%lld is no backup time", (long long)params->name.time);
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, ENOMEM, "out of memory");
	w->base.ops = &WRITER_OPS;
	w->repo = (struct repo_pbs *)base;
	w->name = params->name;
	w->no_cache = params->no_cache;
	snapshot_path(&w->name, w->path, sizeof(w->path));
	pthread_mutex_init(&w->lock, NULL);
	rc = repo_pbs_upload_init(&w->upload, err);
	if (rc == 0)
		rc = begin(w, err);
	if (rc < 0) {
		in_snapshot(w, rc, err);
		writer_free(&w->base);
		return rc;
	}
	*out = &w->base;
	return 0;
}
