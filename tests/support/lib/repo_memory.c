/* SPDX-License-Identifier: Apache-2.0 */
/* The store, its listings and the reader session. */
#include "archive/blob.h"
#include "archive/didx.h"
#include "archive/fidx.h"
#include "tests/support/lib/repo_memory_priv.h"

struct memory_reader {
	struct repo_reader base; /* first: the interface casts */
	struct repo_memory *memory;
	struct memory_snapshot *snapshot;
	bool aborted;
};

/* --- memory --- */

void *memory_alloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (!p)
		abort();
	return p;
}

void *memory_copy(const void *data, size_t size)
{
	void *p = memory_alloc(size);

	if (size > 0)
		memcpy(p, data, size);
	return p;
}

/* --- chunks --- */

static struct memory_chunk **chunk_bucket(struct memory_chunks *chunks, const struct digest *d)
{
	return &chunks->buckets[(d->bytes[0] | d->bytes[1] << 8) & 4095];
}

struct memory_chunk *memory_chunk_find(struct memory_chunks *chunks, const struct digest *d)
{
	struct memory_chunk *chunk = *chunk_bucket(chunks, d);

	while (chunk && !digest_equal(&chunk->digest, d))
		chunk = chunk->next;
	return chunk;
}

void memory_chunk_put(struct memory_chunks *chunks, const struct digest *d, const void *data,
		      size_t size)
{
	struct memory_chunk *chunk = memory_chunk_find(chunks, d);

	if (!chunk) {
		chunk = memory_alloc(sizeof(*chunk));
		chunk->digest = *d;
		chunk->next = *chunk_bucket(chunks, d);
		*chunk_bucket(chunks, d) = chunk;
		chunks->count++;
	}
	free(chunk->data);
	chunk->data = memory_copy(data, size);
	chunk->size = size;
}

static void chunk_remove(struct memory_chunks *chunks, const struct digest *d)
{
	struct memory_chunk **link = chunk_bucket(chunks, d), *chunk;

	while (*link && !digest_equal(&(*link)->digest, d))
		link = &(*link)->next;
	chunk = *link;
	if (!chunk)
		return;
	*link = chunk->next;
	chunks->count--;
	free(chunk->data);
	free(chunk);
}

void memory_chunks_release(struct memory_chunks *chunks)
{
	for (size_t i = 0; i < sizeof(chunks->buckets) / sizeof(chunks->buckets[0]); i++) {
		while (chunks->buckets[i])
			chunk_remove(chunks, &chunks->buckets[i]->digest);
	}
}

/* --- files --- */

struct memory_file *memory_file_find(struct memory_file *files, const char *name)
{
	while (files && strcmp(files->name, name) != 0)
		files = files->next;
	return files;
}

void memory_file_put(struct memory_file **files, const char *name, const void *data, size_t size)
{
	struct memory_file *file = memory_file_find(*files, name);

	if (!file) {
		file = memory_alloc(sizeof(*file));
		file->name = memory_copy(name, strlen(name) + 1);
		file->next = *files;
		*files = file;
	}
	free(file->data);
	file->data = memory_copy(data, size);
	file->size = size;
}

void memory_files_free(struct memory_file *files)
{
	for (struct memory_file *next; files; files = next) {
		next = files->next;
		free(files->name);
		free(files->data);
		free(files);
	}
}

/* --- namespaces, groups, snapshots --- */

bool memory_same_group(const struct snapshot_group *a, const struct snapshot_group *b)
{
	return strcmp(a->ns, b->ns) == 0 && strcmp(a->type, b->type) == 0 &&
	       strcmp(a->id, b->id) == 0;
}

bool memory_ns_exists(struct repo_memory *m, const char *ns)
{
	struct memory_ns *n = m->namespaces;

	while (n && strcmp(n->name, ns) != 0)
		n = n->next;
	return n || ns[0] == '\0';
}

/* With those above it. */
static void ns_add(struct repo_memory *m, const char *ns)
{
	for (const char *end = ns; *end;) {
		struct memory_ns *n = memory_alloc(sizeof(*n));

		end += strcspn(end + 1, "/") + 1;
		memcpy(n->name, ns, (size_t)(end - ns));
		if (memory_ns_exists(m, n->name)) {
			free(n);
			continue;
		}
		n->next = m->namespaces;
		m->namespaces = n;
	}
}

struct memory_group *memory_group_find(struct repo_memory *m, const struct snapshot_group *name)
{
	struct memory_group *g = m->groups;

	while (g && !memory_same_group(&g->name, name))
		g = g->next;
	return g;
}

struct memory_group *memory_group_get(struct repo_memory *m, const struct snapshot_group *name)
{
	struct memory_group *g = memory_group_find(m, name);

	if (g)
		return g;
	ns_add(m, name->ns);
	g = memory_alloc(sizeof(*g));
	g->name = *name;
	strcpy(g->owner, "root@pam");
	g->next = m->groups;
	m->groups = g;
	return g;
}

void memory_group_drop_empty(struct repo_memory *m, struct memory_group *g)
{
	struct memory_group **link = &m->groups;

	for (struct memory_snapshot *s = m->snapshots; s; s = s->next) {
		if (memory_same_group(&s->name.group, &g->name))
			return;
	}
	while (*link != g)
		link = &(*link)->next;
	*link = g->next;
	free(g);
}

struct memory_snapshot *memory_snapshot_find(struct repo_memory *m,
					     const struct snapshot_name *name)
{
	struct memory_snapshot *s = m->snapshots;

	while (s && (s->name.time != name->time ||
		     !memory_same_group(&s->name.group, &name->group)))
		s = s->next;
	return s;
}

struct memory_snapshot *memory_snapshot_get(struct repo_memory *m,
					    const struct snapshot_name *name)
{
	struct memory_snapshot *s = memory_snapshot_find(m, name);

	if (s)
		return s;
	memory_group_get(m, &name->group);
	s = memory_alloc(sizeof(*s));
	s->name = *name;
	s->next = m->snapshots;
	m->snapshots = s;
	return s;
}

bool memory_is_finished(const struct memory_snapshot *s)
{
	return memory_file_find(s->files, MANIFEST_BLOB_NAME) != NULL;
}

/* --- reader session --- */

static int reader_get_file(struct repo_reader *base, const char *name, struct repo_file *out,
			   struct err *err)
{
	struct memory_reader *r = (struct memory_reader *)base;
	struct repo_memory *m = r->memory;
	const struct memory_file *file;
	struct memory_effect effect;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = memory_enter(m, &r->aborted, REPO_MEMORY_GET_FILE, name, NULL, &effect, err);
	if (rc == 0) {
		file = memory_file_find(r->snapshot->files, name);
		rc = file ? memory_deliver_file(m, &effect, file, out, err) :
			    err_set(err, ENOENT, "no such file");
	}
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? err_wrap(err, rc, "%s", name) : 0;
}

static int chunk_missing(struct err *err)
{
	return err_set(err, ENOENT, "is missing");
}

static int chunk_error(const struct digest *digest, int rc, struct err *err)
{
	char hex[DIGEST_HEX_SIZE];

	digest_to_hex(digest, hex);
	return err_wrap(err, rc, "chunk %s", hex);
}

static int reader_get_chunk(struct repo_reader *base, const struct digest *digest,
			    struct wbuf *out, struct err *err)
{
	struct memory_reader *r = (struct memory_reader *)base;
	struct repo_memory *m = r->memory;
	const struct memory_chunk *chunk;
	struct memory_effect effect;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = memory_enter(m, &r->aborted, REPO_MEMORY_GET_CHUNK, NULL, digest, &effect, err);
	if (rc == 0) {
		chunk = memory_chunk_find(&m->chunks, digest);
		rc = chunk ? memory_deliver(m, &effect, chunk->data, chunk->size, out, err) :
			     chunk_missing(err);
	}
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? chunk_error(digest, rc, err) : 0;
}

static int deliver_exactly(struct repo_memory *m, struct memory_effect *effect,
			   const struct memory_chunk *chunk, void *to, struct err *err)
{
	AUTO(wbuf) struct wbuf out = WBUF_INIT(chunk->size);
	int rc = memory_deliver(m, effect, chunk->data, chunk->size, &out, err);

	if (rc < 0)
		return rc;
	if (out.size != chunk->size)
		return err_set(err, EBADMSG, "ends after %zu of %zu bytes", out.size, chunk->size);
	memcpy(to, out.data, out.size);
	return 0;
}

/* Only a call that gives something counts, and has effects. */
static int reader_get_chunk_of_size(struct repo_reader *base, const struct digest *digest,
				    void *to, size_t size, struct err *err)
{
	struct memory_reader *r = (struct memory_reader *)base;
	struct repo_memory *m = r->memory;
	const struct memory_chunk *chunk;
	struct memory_effect effect;
	int rc = 1;

	pthread_mutex_lock(&m->lock);
	chunk = memory_chunk_find(&m->chunks, digest);
	if (chunk && chunk->size == size) {
		rc = memory_enter(m, &r->aborted, REPO_MEMORY_GET_CHUNK, NULL, digest, &effect,
				  err);
		/* it may have waited, and the chunk be another one */
		chunk = rc == 0 ? memory_chunk_find(&m->chunks, digest) : NULL;
		if (rc == 0 && chunk && chunk->size == size)
			rc = deliver_exactly(m, &effect, chunk, to, err);
		else if (rc == 0)
			rc = chunk ? 1 : chunk_missing(err);
	}
	pthread_mutex_unlock(&m->lock);
	return rc < 0 ? chunk_error(digest, rc, err) : rc;
}

static void reader_abort(struct repo_reader *base)
{
	struct memory_reader *r = (struct memory_reader *)base;

	pthread_mutex_lock(&r->memory->lock);
	r->aborted = true;
	pthread_cond_broadcast(&r->memory->changed);
	pthread_mutex_unlock(&r->memory->lock);
}

static void reader_free(struct repo_reader *base)
{
	free(base);
}

static const struct repo_reader_ops reader_ops = {
	.get_file = reader_get_file,
	.get_chunk = reader_get_chunk,
	.get_chunk_of_size = reader_get_chunk_of_size,
	.abort = reader_abort,
	.free = reader_free,
};

static int no_snapshot(const struct snapshot_name *name, struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE];

	snapshot_path(name, path, sizeof(path));
	return err_set(err, ENOENT, "there is no snapshot %s", path);
}

static int memory_read(struct repo *base, const struct snapshot_name *name,
		       struct repo_reader **out, struct err *err)
{
	struct repo_memory *m = memory_of(base);
	struct memory_effect effect;
	struct memory_snapshot *s;
	struct memory_reader *r;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = memory_enter(m, NULL, REPO_MEMORY_OPEN, NULL, NULL, &effect, err);
	s = memory_snapshot_find(m, name);
	pthread_mutex_unlock(&m->lock);
	if (rc == 0 && (!s || !memory_is_finished(s)))
		rc = no_snapshot(name, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", base->spelling);
	r = memory_alloc(sizeof(*r));
	r->base.ops = &reader_ops;
	r->memory = m;
	r->snapshot = s;
	*out = &r->base;
	return 0;
}

/* --- listings: rows are copied first, then shown without the lock --- */

static int list_enter(struct repo_memory *m, struct err *err)
{
	struct memory_effect effect;

	return memory_enter(m, NULL, REPO_MEMORY_LIST, NULL, NULL, &effect, err);
}

static int check_ns(struct repo_memory *m, const char *ns, struct err *err)
{
	if (!memory_ns_exists(m, ns))
		return err_set(err, ENOENT, "there is no namespace %s", ns);
	return 0;
}

static bool is_below(const char *ns, const char *child)
{
	size_t size = strlen(ns);

	if (size == 0)
		return true;
	return strncmp(child, ns, size) == 0 && child[size] == '/';
}

static int list_ns(struct repo *base, const char *ns, repo_ns_visit *visit, void *arg,
		   struct err *err)
{
	struct repo_memory *m = memory_of(base);
	AUTO(wbuf) struct wbuf rows = WBUF_INIT(SIZE_MAX);
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = list_enter(m, err);
	if (rc == 0)
		rc = check_ns(m, ns, err);
	for (struct memory_ns *n = m->namespaces; n && rc == 0; n = n->next) {
		if (is_below(ns, n->name))
			rc = wbuf_put(&rows, n->name, sizeof(n->name));
	}
	pthread_mutex_unlock(&m->lock);
	for (size_t at = 0; at < rows.size && rc == 0; at += SNAPSHOT_NS_SIZE_MAX + 1)
		rc = visit(arg, (const char *)rows.data + at);
	return rc;
}

static void group_info(struct repo_memory *m, const struct memory_group *g,
		       struct repo_group_info *out)
{
	*out = (struct repo_group_info){ .group = g->name };
	strcpy(out->owner, g->owner);
	for (struct memory_snapshot *s = m->snapshots; s; s = s->next) {
		if (!memory_same_group(&s->name.group, &g->name))
			continue;
		out->backup_count++;
		if (memory_is_finished(s) && s->name.time > out->last_backup)
			out->last_backup = s->name.time;
	}
}

static int list_groups(struct repo *base, const char *ns, repo_group_visit *visit, void *arg,
		       struct err *err)
{
	struct repo_memory *m = memory_of(base);
	AUTO(wbuf) struct wbuf rows = WBUF_INIT(SIZE_MAX);
	struct repo_group_info info;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = list_enter(m, err);
	if (rc == 0)
		rc = check_ns(m, ns, err);
	for (struct memory_group *g = m->groups; g && rc == 0; g = g->next) {
		if (strcmp(g->name.ns, ns) != 0)
			continue;
		group_info(m, g, &info);
		rc = wbuf_put(&rows, &info, sizeof(info));
	}
	pthread_mutex_unlock(&m->lock);
	for (size_t at = 0; at < rows.size && rc == 0; at += sizeof(info)) {
		memcpy(&info, rows.data + at, sizeof(info));
		rc = visit(arg, &info);
	}
	return rc;
}

static int list_snapshots(struct repo *base, const struct snapshot_group *group,
			  repo_snapshot_visit *visit, void *arg, struct err *err)
{
	struct repo_memory *m = memory_of(base);
	AUTO(wbuf) struct wbuf rows = WBUF_INIT(SIZE_MAX);
	struct repo_snapshot_info info;
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = list_enter(m, err);
	for (struct memory_snapshot *s = m->snapshots; s && rc == 0; s = s->next) {
		if (!memory_same_group(&s->name.group, group))
			continue;
		info = (struct repo_snapshot_info){
			.name = s->name,
			.finished = memory_is_finished(s),
			.is_protected = s->is_protected,
		};
		rc = wbuf_put(&rows, &info, sizeof(info));
	}
	pthread_mutex_unlock(&m->lock);
	for (size_t at = 0; at < rows.size && rc == 0; at += sizeof(info)) {
		memcpy(&info, rows.data + at, sizeof(info));
		rc = visit(arg, &info);
	}
	return rc;
}

/* --- the repository --- */

static enum archive_names default_names(struct repo *base)
{
	(void)base;
	return ARCHIVE_NAMES_DESIGN;
}

static void snapshots_free(struct memory_snapshot *s)
{
	for (struct memory_snapshot *next; s; s = next) {
		next = s->next;
		memory_files_free(s->files);
		free(s);
	}
}

static void memory_free(struct repo *base)
{
	struct repo_memory *m = memory_of(base);

	snapshots_free(m->snapshots);
	snapshots_free(m->removed);
	for (struct memory_group *g = m->groups, *next; g; g = next) {
		next = g->next;
		free(g);
	}
	for (struct memory_ns *n = m->namespaces, *next; n; n = next) {
		next = n->next;
		free(n);
	}
	memory_chunks_release(&m->chunks);
	memory_script_release(m);
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->changed);
	free(base->spelling);
	free(m);
}

static const struct repo_ops ops = {
	.list_ns = list_ns,
	.list_groups = list_groups,
	.list_snapshots = list_snapshots,
	.read = memory_read,
	.write = memory_write,
	.put_log = memory_put_log,
	.default_names = default_names,
	.reuses_any_chunk = true,
	.free = memory_free,
};

struct repo *repo_memory_new(void)
{
	struct repo_memory *m = memory_alloc(sizeof(*m));

	m->base.ops = &ops;
	m->base.spelling = memory_copy("memory", sizeof("memory"));
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->changed, NULL);
	return &m->base;
}

/* --- content, past the sessions --- */

void repo_memory_add_ns(struct repo *base, const char *ns)
{
	struct repo_memory *m = memory_of(base);

	pthread_mutex_lock(&m->lock);
	ns_add(m, ns);
	pthread_mutex_unlock(&m->lock);
}

void repo_memory_add_file(struct repo *base, const struct snapshot_name *snapshot,
			  const char *name, const void *data, size_t size)
{
	struct repo_memory *m = memory_of(base);

	pthread_mutex_lock(&m->lock);
	memory_file_put(&memory_snapshot_get(m, snapshot)->files, name, data, size);
	pthread_mutex_unlock(&m->lock);
}

void repo_memory_add_chunk(struct repo *base, const struct digest *digest, const void *stored,
			   size_t size)
{
	struct repo_memory *m = memory_of(base);

	pthread_mutex_lock(&m->lock);
	memory_chunk_put(&m->chunks, digest, stored, size);
	pthread_mutex_unlock(&m->lock);
}

void repo_memory_remove_chunk(struct repo *base, const struct digest *digest)
{
	struct repo_memory *m = memory_of(base);

	pthread_mutex_lock(&m->lock);
	chunk_remove(&m->chunks, digest);
	pthread_mutex_unlock(&m->lock);
}

bool repo_memory_has_chunk(struct repo *base, const struct digest *digest)
{
	struct repo_memory *m = memory_of(base);
	bool found;

	pthread_mutex_lock(&m->lock);
	found = memory_chunk_find(&m->chunks, digest) != NULL;
	pthread_mutex_unlock(&m->lock);
	return found;
}

size_t repo_memory_chunk_count(struct repo *base)
{
	struct repo_memory *m = memory_of(base);
	size_t n;

	pthread_mutex_lock(&m->lock);
	n = m->chunks.count;
	pthread_mutex_unlock(&m->lock);
	return n;
}

const void *repo_memory_file(struct repo *base, const struct snapshot_name *snapshot,
			     const char *name, size_t *size)
{
	struct repo_memory *m = memory_of(base);
	struct memory_file *file = NULL;
	struct memory_snapshot *s;

	pthread_mutex_lock(&m->lock);
	s = memory_snapshot_find(m, snapshot);
	if (s)
		file = memory_file_find(s->files, name);
	pthread_mutex_unlock(&m->lock);
	*size = file ? file->size : 0;
	return file ? file->data : NULL;
}

void repo_memory_remove_snapshot(struct repo *base, const struct snapshot_name *snapshot)
{
	struct repo_memory *m = memory_of(base);
	struct memory_snapshot **link, *s;

	pthread_mutex_lock(&m->lock);
	s = memory_snapshot_find(m, snapshot);
	for (link = &m->snapshots; *link && *link != s;)
		link = &(*link)->next;
	if (s) {
		*link = s->next;
		s->next = m->removed;
		m->removed = s;
	}
	pthread_mutex_unlock(&m->lock);
}

void repo_memory_set_protected(struct repo *base, const struct snapshot_name *snapshot)
{
	struct repo_memory *m = memory_of(base);

	pthread_mutex_lock(&m->lock);
	memory_snapshot_get(m, snapshot)->is_protected = true;
	pthread_mutex_unlock(&m->lock);
}

/* --- copying a snapshot --- */

static int copy_chunk(struct repo *base, struct repo_reader *from, const struct digest *digest,
		      struct err *err)
{
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(BLOB_DATA_SIZE_MAX);
	int rc;

	if (repo_memory_has_chunk(base, digest))
		return 0;
	rc = repo_reader_get_chunk(from, digest, &stored, err);
	if (rc == 0)
		repo_memory_add_chunk(base, digest, stored.data, stored.size);
	return rc;
}

static int copy_chunks(struct repo *base, struct repo_reader *from, const struct repo_file *index,
		       struct err *err)
{
	struct didx ix;
	int rc = didx_open(&ix, index->data, index->size, err);

	for (size_t i = 0; rc == 0 && i < ix.count; i++) {
		struct digest digest;
		uint64_t begin, end;

		didx_chunk(&ix, i, &begin, &end, &digest);
		rc = copy_chunk(base, from, &digest, err);
	}
	return rc;
}

static int copy_chunks_of_image(struct repo *base, struct repo_reader *from,
				const struct repo_file *index, struct err *err)
{
	struct fidx ix;
	int rc = fidx_open(&ix, index->data, index->size, err);

	for (size_t i = 0; rc == 0 && i < ix.count; i++) {
		struct digest digest;
		uint64_t begin, end;

		fidx_chunk(&ix, i, &begin, &end, &digest);
		rc = copy_chunk(base, from, &digest, err);
	}
	return rc;
}

static int copy_file(struct repo *base, struct repo_reader *from,
		     const struct snapshot_name *snapshot, const char *name, struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	size_t size = strlen(name);
	int rc = repo_reader_get_file(from, name, &file, err);

	if (rc == 0 && size > 5 && strcmp(name + size - 5, ".didx") == 0)
		rc = copy_chunks(base, from, &file, err);
	if (rc == 0 && size > 5 && strcmp(name + size - 5, ".fidx") == 0)
		rc = copy_chunks_of_image(base, from, &file, err);
	if (rc == 0)
		repo_memory_add_file(base, snapshot, name, file.data, file.size);
	return rc;
}

static int get_manifest(struct repo_reader *from, struct manifest **out, struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	int rc = repo_reader_get_file(from, MANIFEST_BLOB_NAME, &file, err);

	return rc < 0 ? rc : manifest_decode_blob(file.data, file.size, &text, out, err);
}

int repo_memory_copy(struct repo *base, struct repo *from, const struct snapshot_name *snapshot,
		     struct err *err)
{
	AUTO(repo_reader) struct repo_reader *reader = NULL;
	AUTO(manifest) struct manifest *manifest = NULL;
	int rc = repo_read(from, snapshot, &reader, err);

	if (rc == 0)
		rc = get_manifest(reader, &manifest, err);
	for (size_t i = 0; rc == 0 && i < manifest->file_count; i++)
		rc = copy_file(base, reader, snapshot, manifest->files[i].name, err);
	if (rc == 0)
		rc = copy_file(base, reader, snapshot, MANIFEST_BLOB_NAME, err);
	return rc;
}
