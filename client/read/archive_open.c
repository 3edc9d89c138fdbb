/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/archive_open.h"

#include "archive/base/le.h"
#include "archive/blob.h"
#include "archive/manifest.h"
#include "archive/manifest_sign.h"
#include "archive/pxar.h"
#include "client/base/clock.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

enum { DAMAGE_LASTS_MS = 2000 };

struct archive {
	struct fetch *fetch;
	struct stream *meta;
	char *display_name;
	uint64_t readahead_bytes; /* of the payload, once it is open */

	/* Of a snapshot: */
	struct repo_reader *reader;
	const struct crypt_key *key;
	const struct manifest *manifest;
	struct manifest *own_manifest; /* NULL: reader and manifest are lent */
	char payload_name[ARCHIVE_NAME_SIZE_MAX + 1]; /* "": single stream */

	char *payload_path; /* of plain files; NULL: single stream */

	pthread_mutex_t tree_lock; /* guards the writing of `tree` */
	struct tree tree; /* constant once tree_known */
	atomic_bool tree_known;

	/* The payload index is opened as the load of a chunk without bytes: so it happens once
	 * however many ask, on a fetch thread, and can be waited for like any chunk. */
	struct fetch_source payload_source;
	struct digest payload_key;
	_Atomic(struct stream *) payload; /* written by that load alone */
	/* That load's: why it was damaged, and until when that is believed. */
	struct err damage;
	int64_t damaged_until_ms;
};

static bool ends_with(const char *text, const char *end)
{
	size_t size = strlen(text), end_size = strlen(end);

	return size > end_size && strcmp(text + size - end_size, end) == 0;
}

static bool is_split(const struct archive *a)
{
	return a->payload_path || a->payload_name[0];
}

/* --- the payload stream --- */

static struct archive *archive_of_source(struct fetch_source *source)
{
	return (struct archive *)((char *)source - offsetof(struct archive, payload_source));
}

/* The key that the chunks of `name` are encrypted with; NULL: they are plain. */
static const struct crypt_key *key_of(const struct archive *a, const char *name)
{
	const struct manifest_file *file = manifest_find(a->manifest, name);

	return file && file->crypt_mode == CRYPT_MODE_ENCRYPT ? a->key : NULL;
}

/* Open an index and compare it with the manifest before anything of it is used. */
static int open_index(struct archive *a, const char *name, enum chunk_class class_,
		      struct stream **out, struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	struct didx ix;
	int rc = repo_reader_get_file(a->reader, name, &file, err);

	if (rc < 0)
		return rc;
	rc = didx_open(&ix, file.data, file.size, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", name);
	rc = manifest_check(a->manifest, name, ix.size, &ix.csum, err);
	if (rc < 0)
		return rc;
	return stream_new_didx(out, a->fetch, a->reader, &file, &ix, key_of(a, name), class_,
			       name, err);
}

/* The last component; all of a path that ends in a slash. */
static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static int open_file(struct fetch *fetch, const char *path, enum chunk_class class_,
		     struct stream **out, struct err *err)
{
	/* Not blocking: the open of a fifo would wait for its writer. */
	AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	rc = stream_new_file(out, fetch, fd, class_, base_name(path), err);
	if (rc == 0)
		steal_fd(&fd);
	return rc;
}

/* An index has up to 1 GiB: one that is damaged is not got again for each READ.  One that could
 * not be got is, so that all works as soon as the repository does. */
static int open_payload_index(struct archive *a, struct stream **out, struct err *err)
{
	int rc;

	if (clock_now_ms() < a->damaged_until_ms)
		return err_set(err, EBADMSG, "%s", a->damage.text);
	rc = open_index(a, a->payload_name, CHUNK_PAYLOAD, out, err);
	if (rc == -EBADMSG && err) {
		a->damage = *err;
		a->damaged_until_ms = clock_now_ms() + DAMAGE_LASTS_MS;
	}
	return rc;
}

static int payload_load(struct fetch_source *source, struct fetch_worker *worker,
			uint64_t index, struct chunk *chunk, struct err *err)
{
	struct archive *a = archive_of_source(source);
	struct stream *payload;
	int rc;

	(void)worker;
	(void)index;
	(void)chunk;
	if (atomic_load_explicit(&a->payload, memory_order_acquire))
		return 0;
	if (a->payload_path)
		rc = open_file(a->fetch, a->payload_path, CHUNK_PAYLOAD, &payload, err);
	else
		rc = open_payload_index(a, &payload, err);
	if (rc < 0)
		return rc;
	stream_set_readahead(payload, a->readahead_bytes);
	atomic_store_explicit(&a->payload, payload, memory_order_release);
	return 0;
}

/* A payload that is not there is no "no such file" of the archive's. */
static int payload_wrap(struct fetch_source *source, uint64_t index, int rc, struct err *err)
{
	(void)index;
	if (rc == -ENOENT || rc == -EAGAIN)
		rc = -EIO;
	return err_wrap(err, rc, "%s", archive_of_source(source)->display_name);
}

static struct fetch_want payload_want(struct archive *a)
{
	return (struct fetch_want){
		.source = &a->payload_source,
		.key = a->payload_key,
		.class_ = CHUNK_META,
	};
}

/* No other archive of this process has had this key, and no digest or piece of a file has. */
static void payload_key_init(struct digest *key)
{
	static atomic_uint_fast64_t counter;

	memset(key->bytes, 0, sizeof(key->bytes));
	le64_put(key->bytes, atomic_fetch_add(&counter, 1));
	le64_put(key->bytes + 24, UINT64_C(0xa2c4) << 48);
}

/* --- open and close --- */

static struct archive *archive_new(struct fetch *fetch, const char *display_name)
{
	AUTO(archive) struct archive *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->fetch = fetch;
	a->payload_source.load = payload_load;
	a->payload_source.wrap = payload_wrap;
	payload_key_init(&a->payload_key);
	pthread_mutex_init(&a->tree_lock, NULL);
	a->display_name = strdup(display_name);
	return a->display_name ? steal(&a) : NULL;
}

void archive_free(struct archive *a)
{
	if (!a)
		return;
	fetch_drain(a->fetch, &a->payload_source);
	stream_free(atomic_load_explicit(&a->payload, memory_order_acquire));
	stream_free(a->meta);
	if (a->own_manifest)
		repo_reader_free(a->reader);
	manifest_free(a->own_manifest);
	pthread_mutex_destroy(&a->tree_lock);
	free(a->payload_path);
	free(a->display_name);
	free(a);
}

static int read_manifest(struct repo_reader *reader, const struct crypt_key *key,
			 struct manifest **out, struct err *err)
{
	AUTO(repo_file) struct repo_file file = { 0 };
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	int rc = repo_reader_get_file(reader, MANIFEST_BLOB_NAME, &file, err);

	if (rc < 0)
		return rc;
	rc = manifest_decode_blob(file.data, file.size, &text, out, err);
	if (rc == 0)
		rc = manifest_check_key(*out, text.data, text.size, key, err);
	return rc < 0 ? err_wrap(err, rc, "%s", MANIFEST_BLOB_NAME) : 0;
}

int archive_open_in(struct archive **out, struct fetch *fetch, struct repo_reader *reader,
		    const struct manifest *manifest, const struct crypt_key *key,
		    const char *typed, struct err *err)
{
	AUTO(archive) struct archive *a = NULL;
	char display_name[ARCHIVE_NAME_SIZE_MAX + 1];
	struct archive_name names;
	int rc = archive_name_find(manifest, typed, &names, err);

	if (rc < 0)
		return rc;
	archive_name_display(names.meta, display_name);
	a = archive_new(fetch, display_name);
	if (!a)
		return err_set(err, ENOMEM, "%s: out of memory", typed);
	a->reader = reader;
	a->manifest = manifest;
	a->key = key;
	memcpy(a->payload_name, names.payload, sizeof(a->payload_name));

	/* A single stream is mostly content. */
	rc = open_index(a, names.meta, is_split(a) ? CHUNK_META : CHUNK_PAYLOAD, &a->meta, err);
	if (rc == 0)
		*out = steal(&a);
	return rc;
}

int archive_open(struct archive **out, struct fetch *fetch, struct repo_reader *reader,
		 const struct crypt_key *key, const char *typed, struct err *err)
{
	AUTO(manifest) struct manifest *manifest = NULL;
	int rc = read_manifest(reader, key, &manifest, err);

	if (rc == 0)
		rc = archive_open_in(out, fetch, reader, manifest, key, typed, err);
	if (rc == 0)
		(*out)->own_manifest = steal(&manifest);
	return rc;
}

void archive_set_readahead(struct archive *a, uint64_t bytes)
{
	a->readahead_bytes = bytes;
	stream_set_readahead(a->meta, bytes);
}

/* "X.ppxar" for "X.mpxar"; NULL in *out for a single stream. */
static int payload_path_of(const char *path, char **out, struct err *err)
{
	static const char *const pairs[][2] = {
		{ ".mpxar", ".ppxar" },
		{ ".pxar.meta", ".pxar.pld" },
	};

	*out = NULL;
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		const char *meta = pairs[i][0], *payload = pairs[i][1];
		int stem_size;

		if (ends_with(path, payload))
			return err_set(err, EINVAL, "%s: holds contents only; name the \"%s\" file",
				       path, meta);
		if (!ends_with(path, meta))
			continue;
		stem_size = (int)(strlen(path) - strlen(meta));
		if (asprintf(out, "%.*s%s", stem_size, path, payload) < 0) {
			*out = NULL;
			return err_set(err, ENOMEM, "%s: out of memory", path);
		}
	}
	return 0;
}

int archive_open_file(struct archive **out, struct fetch *fetch, const char *path,
		      struct err *err)
{
	AUTO(archive) struct archive *a = archive_new(fetch, base_name(path));
	int rc;

	if (!a)
		return err_set(err, ENOMEM, "%s: out of memory", path);
	rc = payload_path_of(path, &a->payload_path, err);
	if (rc == 0)
		rc = open_file(fetch, path, is_split(a) ? CHUNK_META : CHUNK_PAYLOAD, &a->meta,
			       err);
	if (rc == 0)
		*out = steal(&a);
	return rc;
}

const char *archive_display_name(const struct archive *a)
{
	return a->display_name;
}

struct repo_reader *archive_reader(struct archive *a)
{
	return a->reader;
}

size_t archive_memory(const struct archive *a)
{
	const struct stream *payload = atomic_load_explicit(&a->payload, memory_order_acquire);

	return sizeof(*a) + stream_memory(a->meta) + (payload ? stream_memory(payload) : 0);
}

struct stream *archive_meta(struct archive *a)
{
	return a->meta;
}

/* --- the tree --- */

static const struct tree *known_tree(struct archive *a)
{
	return atomic_load_explicit(&a->tree_known, memory_order_acquire) ? &a->tree : NULL;
}

/* Two may do the work at once; both find the same. */
static int open_tree(struct archive *a, struct read_at *meta, const struct tree **out,
		     struct err *err)
{
	struct tree tree;
	int rc;

	*out = known_tree(a);
	if (*out)
		return 0;
	rc = tree_open(&tree, meta, err);
	if (rc == -EAGAIN)
		return rc;
	if (rc)
		return err_wrap(err, rc, "%s", a->display_name);

	pthread_mutex_lock(&a->tree_lock);
	if (!known_tree(a)) {
		a->tree = tree;
		atomic_store_explicit(&a->tree_known, true, memory_order_release);
	}
	pthread_mutex_unlock(&a->tree_lock);
	*out = &a->tree;
	return 0;
}

int archive_tree(struct archive *a, const struct tree **out, struct err *err)
{
	return open_tree(a, stream_read_at(a->meta), out, err);
}

int archive_tree_try(struct archive *a, struct stream_view *view, const struct tree **out,
		     struct err *err)
{
	return open_tree(a, &view->base, out, err);
}

/* --- contents --- */

static bool is_version(struct archive *a, unsigned version)
{
	const struct tree *tree = known_tree(a);

	return tree && tree->version == version;
}

int archive_payload_try(struct archive *a, struct stream **out, struct err *err)
{
	struct stream *payload;

	if (!is_split(a) && is_version(a, PXAR_VERSION_2))
		return err_set(err, EBADMSG, "%s: its contents are in another file, not given",
			       a->display_name);
	if (!is_split(a) || is_version(a, PXAR_VERSION_1)) {
		*out = a->meta;
		return 0;
	}
	payload = atomic_load_explicit(&a->payload, memory_order_acquire);
	if (!payload)
		return -EAGAIN;
	*out = payload;
	return 0;
}

void archive_payload_wait(struct archive *a, struct fetch_wait *wait)
{
	struct fetch_want want = payload_want(a);

	fetch_get(a->fetch, &want, wait);
}

int archive_payload(struct archive *a, struct stream **out, struct err *err)
{
	struct fetch_want want = payload_want(a);
	struct chunk *none;
	int rc = archive_payload_try(a, out, err);

	if (rc != -EAGAIN)
		return rc;
	rc = fetch_wait_for(a->fetch, &want, &none, err);
	if (rc < 0)
		return rc;
	chunk_unref(none);
	return archive_payload_try(a, out, err);
}

bool archive_payload_ready(struct archive *a)
{
	struct stream *payload;

	return archive_payload_try(a, &payload, NULL) != -EAGAIN;
}
