/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writer sessions of a datastore directory.
 *
 * A snapshot's folder is there from the beginning, under its final name, as the server makes
 * it; what makes it a snapshot is its manifest, which comes last.  Before that everything else
 * is durable:
 *
 *	lock the process, the group, the previous snapshot; clear away what died in the group
 *	make and lock the new folder
 *	chunks: touched or renamed into place, each synced where syncfs() would not reach the disk
 *	indexes, blobs: fsync, rename
 *	syncfs;  lock the manifest;  manifest: fsync, rename;  fsync of the folder
 *
 * A session that ends before removes the folder.  One that is killed leaves it unfinished:
 * nobody lists it, and the group's next backup takes it away.
 */
#include "client/repo/repo_dir_chunk.h"
#include "client/repo/repo_dir_group.h"

#include "archive/base/cleanup.h"
#include "archive/blob.h"
#include "archive/index_writer.h"

#include <stdatomic.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { BLOB_FILE_SIZE_MAX = (128 << 20) + BLOB_ENCRYPTED_HEADER_SIZE, UUID_SIZE = 16 };

struct dir_writer;

struct repo_index {
	struct dir_writer *session;
	struct repo_index *next; /* in writer->indexes */
	struct index_writer writer;
	char name[REPO_DIR_FILE_NAME_MAX + 1];
};

struct dir_writer {
	struct repo_writer base; /* first: the interface casts */
	struct repo_dir *dir;
	struct snapshot_name name;
	char path[SNAPSHOT_PATH_SIZE];
	int process_fd; /* the shared lock on .lock */
	struct repo_dir_lock group_lock, snapshot_lock;
	struct repo_dir_previous previous;
	int fd; /* the new folder */
	int sync_fd; /* of the chunks, open before the first one: syncfs() tells what failed since */
	bool made_group, made_folder, is_finished;
	atomic_bool distrusts; /* chunks that are there already */
	struct repo_dir_chunk_rules rules; /* but for `distrusts` */

	pthread_mutex_t mutex; /* guards the two below */
	struct repo_index *indexes; /* open ones */
	size_t file_count;
};

static struct dir_writer *self(struct repo_writer *w)
{
	return (struct dir_writer *)w;
}

/* Put the snapshot before a message. */
static int in_snapshot(const struct dir_writer *w, int rc, struct err *err)
{
	return rc < 0 ? err_wrap(err, rc, "%s/%s", w->dir->base.spelling, w->path) : 0;
}

/* --- previous snapshot --- */

static const struct snapshot_name *writer_previous(struct repo_writer *base)
{
	struct dir_writer *w = self(base);

	return w->previous.is_usable ? &w->previous.name : NULL;
}

static int writer_get_previous(struct repo_writer *base, const char *name,
			       struct repo_file *out, struct err *err)
{
	struct dir_writer *w = self(base);
	char path[SNAPSHOT_PATH_SIZE];

	if (!w->previous.is_usable)
		return err_set(err, ENOENT, "there is no previous snapshot");
	int rc = repo_dir_get_file(w->previous.fd, name, out, err);
	snapshot_path(&w->previous.name, path, sizeof(path));
	return rc < 0 ? err_wrap(err, rc, "%s/%s", w->dir->base.spelling, path) : 0;
}

/* --- chunks --- */

static int writer_reuse_chunk(struct repo_writer *base, const struct digest *digest,
			      struct err *err)
{
	struct repo_dir *d = self(base)->dir;
	int rc = repo_dir_chunk_touch(d->chunks_fd, digest, err);

	return rc < 0 ? err_wrap(err, rc, "%s", d->base.spelling) : 0;
}

static void writer_distrust(struct repo_writer *base)
{
	self(base)->distrusts = true;
}

static int writer_put_chunk(struct repo_writer *base, const struct digest *digest,
			    const void *data, size_t size, size_t plain_size, bool *duplicate,
			    struct err *err)
{
	struct dir_writer *w = self(base);
	struct repo_dir *d = w->dir;
	struct repo_dir_chunk_rules rules = w->rules;
	int rc;

	(void)plain_size;
	rules.doubts_all = w->distrusts;
	rc = repo_dir_chunk_put(d->chunks_fd, digest, data, size, &rules, &d->locks.owner,
				duplicate, err);
	return rc < 0 ? err_wrap(err, rc, "%s", d->base.spelling) : 0;
}

/* --- indexes and blobs --- */

static bool has_extension(const char *name, const char *extension)
{
	size_t size = strlen(name), n = strlen(extension);

	return size > n && strcmp(name + size - n, extension) == 0;
}

/* A name for a new file of the snapshot. */
static int check_name(struct dir_writer *w, const char *name, const char *extension,
		      struct err *err)
{
	if (!snapshot_is_safe_id(name) || !has_extension(name, extension) ||
	    strcmp(name, MANIFEST_BLOB_NAME) == 0 ||
	    strlen(name) + REPO_DIR_FILE_TMP_SUFFIX_SIZE > REPO_DIR_FILE_NAME_MAX)
		return err_set(err, EINVAL, "'%s' cannot name a file of a snapshot", name);
	if (faccessat(w->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return err_set(err, EEXIST, "%s: exists already", name);
	return 0;
}

/* Add it to the open ones unless its name is taken. */
static int link_index(struct dir_writer *w, struct repo_index *ix, struct err *err)
{
	int rc = 0;

	pthread_mutex_lock(&w->mutex);
	for (const struct repo_index *other = w->indexes; other && rc == 0; other = other->next)
		if (strcmp(other->name, ix->name) == 0)
			rc = err_set(err, EEXIST, "%s: is open already", ix->name);
	if (rc == 0) {
		ix->next = w->indexes;
		w->indexes = ix;
	}
	pthread_mutex_unlock(&w->mutex);
	return rc;
}

static void unlink_index(struct dir_writer *w, const struct repo_index *ix, bool is_stored)
{
	struct repo_index **at;

	pthread_mutex_lock(&w->mutex);
	for (at = &w->indexes; *at != ix; at = &(*at)->next)
		continue;
	*at = ix->next;
	w->file_count += is_stored;
	pthread_mutex_unlock(&w->mutex);
}

static void index_free(struct repo_index *ix)
{
	index_writer_release(&ix->writer);
	free(ix);
}

static int make_uuid(uint8_t uuid[UUID_SIZE], struct err *err)
{
	if (getrandom(uuid, UUID_SIZE, 0) != UUID_SIZE)
		return err_sys(err, errno ? errno : EIO, "random numbers");
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40); /* version 4 */
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80); /* variant of RFC 4122 */
	return 0;
}

static int writer_index_open(struct repo_writer *base, const char *name, uint64_t image_size,
			     struct repo_index **out, struct err *err)
{
	struct dir_writer *w = self(base);
	uint8_t uuid[UUID_SIZE];
	int rc = check_name(w, name, image_size ? ".fidx" : ".didx", err);

	if (rc == 0)
		rc = make_uuid(uuid, err);
	if (rc < 0)
		return in_snapshot(w, rc, err);
	struct repo_index *ix = calloc(1, sizeof(*ix));
	if (!ix)
		return err_set(err, ENOMEM, "out of memory");
	ix->session = w;
	strcpy(ix->name, name);
	rc = index_writer_init(&ix->writer, uuid, time(NULL), image_size, err);
	if (rc == 0)
		rc = link_index(w, ix, err);
	if (rc < 0) {
		index_free(ix);
		return in_snapshot(w, rc, err);
	}
	*out = ix;
	return 0;
}

static int writer_index_add(struct repo_index *ix, uint64_t chunk_size,
			    const struct digest *digest, struct err *err)
{
	int rc = index_writer_add(&ix->writer, chunk_size, digest, err);

	return rc < 0 ? err_wrap(err, rc, "%s", ix->name) : 0;
}

static int writer_index_close(struct repo_index *ix, uint64_t *size, struct digest *csum,
			      struct err *err)
{
	const struct wbuf *bytes = index_writer_bytes(&ix->writer);
	struct dir_writer *w = ix->session;
	struct digest found_csum;
	uint64_t found_size;
	int rc = index_writer_finish(&ix->writer, &found_size, &found_csum, err);

	if (rc < 0)
		err_wrap(err, rc, "%s", ix->name);
	else
		rc = repo_dir_file_replace(w->fd, ix->name, bytes->data, bytes->size,
					   &w->dir->locks.owner, err);
	if (rc == 0 && size)
		*size = found_size;
	if (rc == 0 && csum)
		*csum = found_csum;
	unlink_index(w, ix, rc == 0);
	index_free(ix);
	return in_snapshot(w, rc, err);
}

static int store_blob(struct dir_writer *w, const char *name, const void *data, size_t size,
		      struct err *err)
{
	if (size > BLOB_FILE_SIZE_MAX)
		return err_set(err, E2BIG, "%s: %zu bytes are too many for a blob", name, size);
	int rc = blob_verify_crc(data, size, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", name);
	return repo_dir_file_replace(w->fd, name, data, size, &w->dir->locks.owner, err);
}

static int writer_put_blob(struct repo_writer *base, const char *name, const void *data,
			   size_t size, struct err *err)
{
	struct dir_writer *w = self(base);
	int rc = check_name(w, name, ".blob", err);

	if (rc == 0)
		rc = store_blob(w, name, data, size, err);
	if (rc < 0)
		return in_snapshot(w, rc, err);
	pthread_mutex_lock(&w->mutex);
	w->file_count++;
	pthread_mutex_unlock(&w->mutex);
	return 0;
}

/* --- the end --- */

static int check_complete(struct dir_writer *w, struct err *err)
{
	char open_name[REPO_DIR_FILE_NAME_MAX + 1] = "";
	size_t count;

	pthread_mutex_lock(&w->mutex);
	if (w->indexes)
		strcpy(open_name, w->indexes->name);
	count = w->file_count;
	pthread_mutex_unlock(&w->mutex);
	if (open_name[0])
		return err_set(err, EINVAL, "index %s was not closed", open_name);
	if (count == 0)
		return err_set(err, EINVAL, "nothing was stored");
	/* Its chunks were reused.  Only someone without our locks can have removed it. */
	if (w->previous.is_usable && !repo_dir_is_finished(w->previous.fd, "."))
		return err_set(err, ESTALE, "the previous snapshot was removed meanwhile");
	return 0;
}

/* Chunks, folders, indexes and blobs: on disk before the manifest says that they are there. */
static int sync_all(struct dir_writer *w, struct err *err)
{
	struct stat root, chunks;
	int rc;

	if (fstat(w->dir->root_fd, &root) < 0 || fstat(w->sync_fd, &chunks) < 0)
		return err_sys(err, errno, "stat");
	rc = repo_dir_file_sync_dir(w->fd, err);
	if (rc < 0)
		return rc;
	if (syncfs(w->dir->root_fd) < 0)
		return err_sys(err, errno, "sync the file system");
	if (root.st_dev != chunks.st_dev && syncfs(w->sync_fd) < 0)
		return err_sys(err, errno, "sync the file system of the chunks");
	return 0;
}

static int write_manifest(struct dir_writer *w, const void *blob, size_t size, struct err *err)
{
	struct repo_dir_lock lock = REPO_DIR_LOCK_INIT;
	int rc = repo_dir_lock_take(&w->dir->locks, REPO_DIR_LOCK_MANIFEST,
				    REPO_DIR_LOCK_EXCLUSIVE, REPO_DIR_LOCK_MANIFEST_WAIT_MS,
				    &w->name, &lock, err);

	if (rc == 0)
		rc = store_blob(w, MANIFEST_BLOB_NAME, blob, size, err);
	if (rc == 0)
		rc = repo_dir_file_sync_dir(w->fd, err);
	/* Our own files would pile up, two a snapshot; the server's lie in a tmpfs. */
	repo_dir_lock_drop(&lock, !w->dir->locks.is_server);
	return rc;
}

static void release_locks(struct dir_writer *w)
{
	repo_dir_previous_release(&w->previous);
	if (w->process_fd >= 0)
		close(steal_fd(&w->process_fd));
	repo_dir_lock_drop(&w->snapshot_lock, !w->dir->locks.is_server);
	repo_dir_lock_drop(&w->group_lock, false);
}

static int writer_finish(struct repo_writer *base, const void *manifest_blob, size_t size,
			 struct err *err)
{
	struct dir_writer *w = self(base);
	int rc = check_complete(w, err);

	if (rc == 0)
		rc = sync_all(w, err);
	if (rc == 0)
		rc = write_manifest(w, manifest_blob, size, err);
	if (rc < 0)
		return in_snapshot(w, rc, err);
	w->is_finished = true;
	release_locks(w);
	return 0;
}

/* Take back what was made: the snapshot, and the group if it was new. */
static void roll_back(struct dir_writer *w)
{
	struct err err = ERR_INIT;

	if (w->made_folder) {
		int rc = repo_dir_group_remove_snapshot(w->dir, &w->name, &w->snapshot_lock, &err);

		if (rc < 0)
			repo_warn(&w->dir->base, "cannot remove the unfinished snapshot %s: %s",
				  w->path, err_text(&err, rc));
	}
	repo_dir_group_leave(w->dir, &w->name.group, w->made_group, &w->group_lock);
}

static void writer_free(struct repo_writer *base)
{
	struct dir_writer *w = self(base);

	while (w->indexes) {
		struct repo_index *ix = w->indexes;

		w->indexes = ix->next;
		index_free(ix);
	}
	if (!w->is_finished)
		roll_back(w);
	release_locks(w);
	if (w->fd >= 0)
		close(w->fd);
	if (w->sync_fd >= 0)
		close(w->sync_fd);
	pthread_mutex_destroy(&w->mutex);
	free(w);
}

static const struct repo_writer_ops WRITER_OPS = {
	.previous = writer_previous,
	.get_previous = writer_get_previous,
	.reuse_chunk = writer_reuse_chunk,
	.distrust = writer_distrust,
	.put_chunk = writer_put_chunk,
	.index_open = writer_index_open,
	.index_add = writer_index_add,
	.index_close = writer_index_close,
	.put_blob = writer_put_blob,
	.finish = writer_finish,
	.free = writer_free,
};

/* --- the beginning --- */

static int find_previous(struct dir_writer *w, struct err *err)
{
	char last[SNAPSHOT_TIME_TEXT_SIZE];
	int rc = repo_dir_group_previous(w->dir, &w->name.group, &w->previous, err);

	if (rc < 0 || w->previous.name.time < w->name.time)
		return rc;
	if (snapshot_time_format(w->previous.name.time, last) < 0)
		return -EINVAL;
	return err_set(err, EEXIST, "the group's last snapshot is of %s: a new one must be later",
		       last);
}

/* File systems that leave the bytes to somebody else, whom fsync() reaches and syncfs() does not. */
static bool is_others(int fd)
{
	enum { FUSE = 0x65735546, V9FS = 0x01021997, ECRYPTFS = 0xf15f };
	static const uint32_t cifs = 0xff534d42, smb2 = 0xfe534d42;
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return false;
	const uint32_t type = (uint32_t)fs.f_type;
	return type == FUSE || type == V9FS || type == ECRYPTFS || type == cifs || type == smb2;
}

/* When the machine went down, chunks may have had a name and a size, and their bytes not yet: those
 * that were written before it was started, and since the last snapshot began, whose end synced all
 * there was. */
static void find_doubt(struct dir_writer *w)
{
	struct timespec now, since_boot;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	clock_gettime(CLOCK_BOOTTIME, &since_boot);
	w->rules.doubt_end = now.tv_sec - since_boot.tv_sec;
	if (!w->previous.is_usable ||
	    fstatat(w->previous.fd, MANIFEST_BLOB_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	/* The snapshot's time may be made up. */
	w->rules.doubt_begin = st.st_mtim.tv_sec < w->previous.name.time ?
				       st.st_mtim.tv_sec :
				       w->previous.name.time;
}

static int make_folder(struct dir_writer *w, struct err *err)
{
	struct repo_dir *d = w->dir;

	int rc = repo_dir_file_mkdir(d->root_fd, w->path, REPO_DIR_FOLDER_MODE, &d->locks.owner,
				     &w->made_folder, err);
	if (rc == 0 && !w->made_folder)
		return err_set(err, EEXIST, "it exists already, unfinished");
	return rc;
}

static int lock_folder(struct dir_writer *w, struct err *err)
{
	return repo_dir_lock_take(&w->dir->locks, REPO_DIR_LOCK_SNAPSHOT,
				  REPO_DIR_LOCK_EXCLUSIVE, 0, &w->name, &w->snapshot_lock, err);
}

/* The old locks are the folders themselves: only what exists can be locked. */
static int make_and_lock_folder(struct dir_writer *w, struct err *err)
{
	bool is_old = w->dir->locks.is_old;
	int rc = is_old ? make_folder(w, err) : lock_folder(w, err);

	if (rc == 0)
		rc = is_old ? lock_folder(w, err) : make_folder(w, err);
	if (rc == 0)
		rc = repo_dir_file_open_dir(w->dir->root_fd, w->path, &w->fd, err);
	return rc;
}

static int begin(struct dir_writer *w, const struct repo_writer_params *params, struct err *err)
{
	struct repo_dir *d = w->dir;
	int rc = repo_dir_lock_process(&d->locks, &w->process_fd, err);

	/* Not by its name: it may be a link to another disk. */
	w->sync_fd = openat(d->chunks_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (rc == 0 && w->sync_fd < 0)
		rc = err_sys(err, errno, REPO_DIR_CHUNKS);
	if (rc == 0)
		rc = repo_dir_group_enter(d, &w->name.group, params->owner, &w->group_lock,
					  &w->made_group, err);
	if (rc < 0)
		return rc;
	repo_dir_group_clean(d, &w->name.group);
	rc = find_previous(w, err);
	if (rc < 0)
		return rc;
	find_doubt(w);
	w->rules.syncs_each = is_others(w->sync_fd);
	return make_and_lock_folder(w, err);
}

int repo_dir_write(struct repo *base, const struct repo_writer_params *params,
		   struct repo_writer **out, struct err *err)
{
	struct repo_dir *d = (struct repo_dir *)base;
	char time_text[SNAPSHOT_TIME_TEXT_SIZE];

	int rc = repo_dir_check_writable(d, err);
	if (rc < 0)
		return rc;
	if (snapshot_time_format(params->name.time, time_text) < 0)
		return err_set(err, EINVAL, "%lld is no backup time",
			       (long long)params->name.time);
	struct dir_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, ENOMEM, "out of memory");
	w->base.ops = &WRITER_OPS;
	w->dir = d;
	w->name = params->name;
	snapshot_path(&w->name, w->path, sizeof(w->path));
	w->process_fd = w->fd = w->sync_fd = w->previous.fd = -1;
	w->group_lock = w->snapshot_lock = w->previous.lock =
		(struct repo_dir_lock)REPO_DIR_LOCK_INIT;
	pthread_mutex_init(&w->mutex, NULL);

	rc = begin(w, params, err);
	if (rc < 0) {
		in_snapshot(w, rc, err);
		writer_free(&w->base);
		return rc;
	}
	*out = &w->base;
	return 0;
}
