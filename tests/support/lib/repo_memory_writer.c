/* SPDX-License-Identifier: Apache-2.0 */
/* The writer session.  Strict: what a server would refuse is refused here. */
#include "archive/blob.h"
#include "archive/chunker.h"
#include "archive/index_writer.h"
#include "tests/support/lib/repo_memory_priv.h"

struct repo_index {
	struct repo_index *next;
	struct memory_writer *session;
	char *name;
	struct index_writer writer;
};

struct memory_writer {
	struct repo_writer base; /* first: the interface casts */
	struct repo_memory *memory;
	struct snapshot_name name;
	struct memory_group *group;
	struct memory_snapshot *previous; /* NULL: none */
	struct memory_chunks known; /* put or found for reuse in this session */
	struct memory_file *files;
	struct repo_index *indexes; /* open ones */
	bool finished;
};

static struct memory_writer *writer_of(struct repo_writer *base)
{
	return (struct memory_writer *)base;
}

/* --- chunks --- */

static int chunk_error(const struct digest *digest, int rc, struct err *err)
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(digest, hex);
	return err_wrap(err, rc, "chunk %s", hex);
}

static const struct snapshot_name *writer_previous(struct repo_writer *base)
{
	struct memory_writer *w = writer_of(base);

	return w->previous ? &w->previous->name : NULL;
}

static int writer_get_previous(struct repo_writer *base, const char *name, struct repo_file *out,
			       struct err *err)
{
	struct memory_writer *w = writer_of(base);
	struct repo_memory *m = w->memory;
	const struct memory_file *file = NULL;
	struct memory_effect effect;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = memory_enter(m, NULL, REPO_MEMORY_GET_FILE, name, NULL, &effect, err);
	if (rc == 0 && w->previous)
		file = memory_file_find(w->previous->files, name);
	if (rc == 0)
		rc = file ? memory_deliver_file(m, &effect, file, out, err) :
			    err_set(err, ENOENT, "no such file");
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? err_wrap(err, rc, "%s", name) : 0;
}

static int writer_reuse_chunk(struct repo_writer *base, const struct digest *digest,
			      struct err *err)
{
	struct memory_writer *w = writer_of(base);
	struct repo_memory *m = w->memory;
	struct memory_effect effect;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = memory_enter(m, NULL, REPO_MEMORY_REUSE_CHUNK, NULL, digest, &effect, err);
	if (rc == 0 && !memory_chunk_find(&m->chunks, digest))
		rc = err_set(err, ENOENT, "is missing");
	if (rc == 0)
		memory_chunk_put(&w->known, digest, "", 0);
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? chunk_error(digest, rc, err) : 0;
}

static int check_chunk(const void *data, size_t size, size_t plain_size, struct err *err)
{
	if (plain_size < 1 || plain_size > CHUNK_SIZE_MAX)
		return err_set(err, EINVAL, "a size of %zu bytes is out of range", plain_size);
	if (size > BLOB_ENCODED_SIZE_MAX(CHUNK_SIZE_MAX))
		return err_set(err, EINVAL, "a stored size of %zu bytes is out of range", size);
	return blob_verify_crc(data, size, err) < 0 ? -EINVAL : 0;
}

static int put_chunk(struct memory_writer *w, const struct digest *digest, const void *data,
		     size_t size, bool *duplicate, struct err *err)
{
	struct repo_memory *m = w->memory;
	struct memory_effect effect;
	bool found;
	int rc = memory_enter(m, NULL, REPO_MEMORY_PUT_CHUNK, NULL, digest, &effect, err);

	if (rc < 0)
		return rc;
	found = memory_chunk_find(&m->chunks, digest) != NULL;
	if (!found)
		memory_chunk_put(&m->chunks, digest, data, size);
	memory_chunk_put(&w->known, digest, "", 0);
	if (duplicate)
		*duplicate = found;
	return 0;
}

static int writer_put_chunk(struct repo_writer *base, const struct digest *digest,
			    const void *data, size_t size, size_t plain_size, bool *duplicate,
			    struct err *err)
{
	struct memory_writer *w = writer_of(base);
	int rc = check_chunk(data, size, plain_size, err);

	if (rc == 0) {
		pthread_mutex_lock(&w->memory->lock);
		rc = put_chunk(w, digest, data, size, duplicate, err);
		pthread_mutex_unlock(&w->memory->lock);
	}
	return rc < 0 ? chunk_error(digest, rc, err) : 0;
}

/* --- indexes --- */

static bool has_index(struct memory_writer *w, const char *name)
{
	for (struct repo_index *ix = w->indexes; ix; ix = ix->next) {
		if (strcmp(ix->name, name) == 0)
			return true;
	}
	return memory_file_find(w->files, name) != NULL;
}

static void index_free(struct repo_index *ix)
{
	index_writer_release(&ix->writer);
	free(ix->name);
	free(ix);
}

static int check_extension(const char *name, const char *extension, struct err *err)
{
	size_t size = strlen(name), n = strlen(extension);

	if (size > n && strcmp(name + size - n, extension) == 0)
		return 0;
	return err_set(err, EINVAL, "cannot name an index of this kind");
}

static int writer_index_open(struct repo_writer *base, const char *name, uint64_t image_size,
			     struct repo_index **out, struct err *err)
{
	static const uint8_t uuid[16] = "repo_memory";
	struct memory_writer *w = writer_of(base);
	struct repo_index *ix = memory_alloc(sizeof(*ix));
	struct memory_effect effect;
	int rc;

	ix->session = w;
	ix->name = memory_copy(name, strlen(name) + 1);
	pthread_mutex_lock(&w->memory->lock);
	rc = memory_enter(w->memory, NULL, REPO_MEMORY_INDEX_OPEN, name, NULL, &effect, err);
	if (rc == 0 && has_index(w, name))
		rc = err_set(err, EEXIST, "there is one already");
	if (rc == 0)
		rc = check_extension(name, image_size ? ".fidx" : ".didx", err);
	if (rc == 0)
		rc = index_writer_init(&ix->writer, uuid, w->name.time, image_size, err);
	if (rc == 0) {
		ix->next = w->indexes;
		w->indexes = ix;
	}
	pthread_mutex_unlock(&w->memory->lock);
	if (rc < 0) {
		index_free(ix);
		return err_wrap(err, rc, "%s", name);
	}
	*out = ix;
	return 0;
}

static int writer_index_add(struct repo_index *ix, uint64_t chunk_size,
			    const struct digest *digest, struct err *err)
{
	struct memory_writer *w = ix->session;
	bool known;
	int rc;

	pthread_mutex_lock(&w->memory->lock);
	known = memory_chunk_find(&w->known, digest) != NULL;
	pthread_mutex_unlock(&w->memory->lock);
	if (!known)
		rc = chunk_error(digest, err_set(err, EINVAL, "neither put nor reused"), err);
	else
		rc = index_writer_add(&ix->writer, chunk_size, digest, err);
	return rc < 0 ? err_wrap(err, rc, "%s", ix->name) : 0;
}

static void index_unlink(struct memory_writer *w, struct repo_index *ix)
{
	struct repo_index **link = &w->indexes;

	while (*link != ix)
		link = &(*link)->next;
	*link = ix->next;
}

static int writer_index_close(struct repo_index *ix, uint64_t *size, struct digest *csum,
			      struct err *err)
{
	const struct wbuf *bytes = index_writer_bytes(&ix->writer);
	struct memory_writer *w = ix->session;
	struct memory_effect effect;
	int rc;

	pthread_mutex_lock(&w->memory->lock);
	rc = memory_enter(w->memory, NULL, REPO_MEMORY_INDEX_CLOSE, ix->name, NULL, &effect, err);
	if (rc == 0)
		rc = index_writer_finish(&ix->writer, size, csum, err);
	if (rc == 0)
		memory_file_put(&w->files, ix->name, bytes->data, bytes->size);
	index_unlink(w, ix);
	pthread_mutex_unlock(&w->memory->lock);
	if (rc < 0)
		err_wrap(err, rc, "%s", ix->name);
	index_free(ix);
	return rc;
}

/* --- blobs and the end --- */

static int put_blob(struct memory_writer *w, enum repo_memory_call call, const char *name,
		    const void *data, size_t size, struct err *err)
{
	struct memory_effect effect;
	int rc = memory_enter(w->memory, NULL, call, name, NULL, &effect, err);

	if (rc == 0 && blob_verify_crc(data, size, err) < 0)
		rc = -EINVAL;
	if (rc == 0 && has_index(w, name))
		rc = err_set(err, EEXIST, "there is one already");
	if (rc == 0)
		memory_file_put(&w->files, name, data, size);
	return rc < 0 ? err_wrap(err, rc, "%s", name) : 0;
}

static int writer_put_blob(struct repo_writer *base, const char *name, const void *data,
			   size_t size, struct err *err)
{
	struct memory_writer *w = writer_of(base);
	int rc;

	pthread_mutex_lock(&w->memory->lock);
	rc = put_blob(w, REPO_MEMORY_PUT_BLOB, name, data, size, err);
	pthread_mutex_unlock(&w->memory->lock);
	return rc;
}

static int finish(struct memory_writer *w, const void *manifest_blob, size_t size,
		  struct err *err)
{
	int rc;

	if (w->finished)
		return err_set(err, EINVAL, "the session is finished already");
	if (w->indexes)
		return err_set(err, EINVAL, "%s: index not closed", w->indexes->name);
	if (!w->files)
		return err_set(err, EINVAL, "a snapshot without files");
	rc = put_blob(w, REPO_MEMORY_FINISH, MANIFEST_BLOB_NAME, manifest_blob, size, err);
	if (rc < 0)
		return rc;
	memory_snapshot_get(w->memory, &w->name)->files = steal(&w->files);
	w->finished = true;
	return 0;
}

static int writer_finish(struct repo_writer *base, const void *manifest_blob, size_t size,
			 struct err *err)
{
	struct memory_writer *w = writer_of(base);
	int rc;

	pthread_mutex_lock(&w->memory->lock);
	rc = finish(w, manifest_blob, size, err);
	pthread_mutex_unlock(&w->memory->lock);
	return rc;
}

static void writer_free(struct repo_writer *base)
{
	struct memory_writer *w = writer_of(base);

	pthread_mutex_lock(&w->memory->lock);
	w->group->locked = false;
	memory_group_drop_empty(w->memory, w->group);
	pthread_mutex_unlock(&w->memory->lock);
	for (struct repo_index *ix = w->indexes, *next; ix; ix = next) {
		next = ix->next;
		index_free(ix);
	}
	memory_files_free(w->files);
	memory_chunks_release(&w->known);
	free(w);
}

static const struct repo_writer_ops writer_ops = {
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

static struct memory_snapshot *newest(struct repo_memory *m, const struct snapshot_group *group)
{
	struct memory_snapshot *found = NULL;

	for (struct memory_snapshot *s = m->snapshots; s; s = s->next) {
		if (!memory_same_group(&s->name.group, group) || !memory_is_finished(s))
			continue;
		if (!found || s->name.time > found->name.time)
			found = s;
	}
	return found;
}

/* A snapshot that failed its verification is nothing to build on. */
static bool is_usable(const struct memory_snapshot *s)
{
	const struct memory_file *file = memory_file_find(s->files, MANIFEST_BLOB_NAME);
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(manifest) struct manifest *m = NULL;

	if (blob_decode(codec, file->data, file->size, MANIFEST_SIZE_MAX, &text, NULL) < 0 ||
	    manifest_decode(text.data, text.size, &m, NULL) < 0)
		return false;
	return !m->verify_state || strcmp(m->verify_state, "failed") != 0;
}

/* The owner may, and the user that an owning token belongs to. */
static bool may_write(const char *owner, const char *who)
{
	size_t size = strlen(who);

	if (strcmp(owner, who) == 0)
		return true;
	return !strchr(who, '!') && strncmp(owner, who, size) == 0 && owner[size] == '!';
}

static int enter_group(struct repo_memory *m, struct memory_writer *w, const char *owner,
		       struct err *err)
{
	w->group = memory_group_find(m, &w->name.group);
	if (w->group && w->group->locked)
		return err_set(err, EBUSY, "another backup of the group is running");
	if (w->group && !may_write(w->group->owner, owner))
		return err_set(err, EACCES, "the group belongs to %s", w->group->owner);
	w->previous = newest(m, &w->name.group);
	if (w->previous && w->previous->name.time >= w->name.time)
		return err_set(err, EEXIST, "there is a snapshot of that time or later");
	if (memory_snapshot_find(m, &w->name))
		return err_set(err, EEXIST, "the snapshot exists already");
	if (!w->group) {
		w->group = memory_group_get(m, &w->name.group);
		snprintf(w->group->owner, sizeof(w->group->owner), "%s", owner);
	}
	if (w->previous && !is_usable(w->previous))
		w->previous = NULL;
	w->group->locked = true;
	return 0;
}

static int begin(struct repo_memory *m, struct memory_writer *w, const char *owner,
		 struct err *err)
{
	struct memory_effect effect;
	int rc;

	if (w->name.time < 1)
		return err_set(err, EINVAL, "no time of a backup");
	rc = memory_enter(m, NULL, REPO_MEMORY_OPEN, NULL, NULL, &effect, err);
	return rc < 0 ? rc : enter_group(m, w, owner, err);
}

int memory_write(struct repo *r, const struct repo_writer_params *params,
		 struct repo_writer **out, struct err *err)
{
	struct memory_writer *w = memory_alloc(sizeof(*w));
	struct repo_memory *m = memory_of(r);
	int rc;

	w->base.ops = &writer_ops;
	w->memory = m;
	w->name = params->name;
	pthread_mutex_lock(&m->lock);
	rc = begin(m, w, params->owner, err);
	pthread_mutex_unlock(&m->lock);
	if (rc < 0) {
		free(w);
		return err_wrap(err, rc, "%s", r->spelling);
	}
	*out = &w->base;
	return 0;
}

int memory_put_log(struct repo *base, const struct snapshot_name *name, const void *data, size_t size,
		   struct err *err)
{
	struct repo_memory *m = memory_of(base);
	struct memory_effect effect;
	struct memory_snapshot *s;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = memory_enter(m, NULL, REPO_MEMORY_PUT_LOG, REPO_CLIENT_LOG, NULL, &effect, err);
	s = memory_snapshot_find(m, name);
	if (rc == 0 && (!s || !memory_is_finished(s)))
		rc = err_set(err, ENOENT, "no such snapshot");
	if (rc == 0 && memory_file_find(s->files, REPO_CLIENT_LOG))
		rc = err_set(err, EEXIST, "there is one already");
	if (rc == 0)
		memory_file_put(&s->files, REPO_CLIENT_LOG, data, size);
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? err_wrap(err, rc, "%s", REPO_CLIENT_LOG) : 0;
}
