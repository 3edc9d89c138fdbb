/* SPDX-License-Identifier: Apache-2.0 */
/* Reader sessions of a datastore directory. */
#include "client/repo/repo_dir_priv.h"

#include "archive/base/cleanup.h"
#include "client/repo/repo_dir_chunk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum {
	/* Larger files are mapped: the index of a 10 TiB archive has 105 MB. */
	MAPPED_SIZE_MIN = 1 << 20,
	PROBE_SIZE = 256 << 10,
};

struct dir_reader {
	struct repo_reader base; /* first: the interface casts */
	struct repo_dir *dir;
	struct repo_dir_lock lock;
	int fd;
	atomic_bool aborted;
	char path[SNAPSHOT_PATH_SIZE]; /* for messages */
};

/* --- files --- */

static void release_heap(struct repo_file *f)
{
	free((void *)f->data);
}

static void release_mapping(struct repo_file *f)
{
	munmap((void *)f->data, f->size);
}

/* Read the whole file once: a bad disk is then an error here and not a SIGBUS later. */
static int probe(int fd, size_t size, struct err *err)
{
	AUTO(free) uint8_t *buffer = malloc(PROBE_SIZE);

	if (!buffer)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(fd, buffer, PROBE_SIZE, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "read");
		if (n == 0)
			return err_set(err, EBADMSG, "ends after %zu of %zu bytes", done, size);
		done += (size_t)n;
	}
	return 0;
}

static int map_file(int fd, size_t size, struct repo_file *out, struct err *err)
{
	int rc = probe(fd, size, err);

	if (rc < 0)
		return rc;
	void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return err_sys(err, errno, "map %zu bytes", size);
	*out = (struct repo_file){ .data = data, .size = size, .release = release_mapping };
	return 0;
}

static int load_file(int fd, size_t size, struct repo_file *out, struct err *err)
{
	AUTO(free) uint8_t *data = malloc(size ? size : 1);

	if (!data)
		return err_set(err, ENOMEM, "out of memory for %zu bytes", size);
	int rc = repo_dir_file_read_fd(fd, data, size, err);
	if (rc < 0)
		return rc;
	*out = (struct repo_file){ .data = steal(&data), .size = size, .release = release_heap };
	return 0;
}

int repo_dir_get_file(int snapshot_fd, const char *name, struct repo_file *out, struct err *err)
{
	AUTO(fd) int fd = -1;
	size_t size;

	if (!snapshot_is_safe_id(name))
		return err_set(err, EINVAL, "'%s' is no name of a file", name);
	int rc = repo_dir_file_open(snapshot_fd, name, REPO_FILE_SIZE_MAX, &fd, &size, err);
	if (rc < 0)
		return rc;
	rc = size >= MAPPED_SIZE_MIN ? map_file(fd, size, out, err) :
				       load_file(fd, size, out, err);
	return rc < 0 ? err_wrap(err, rc, "%s", name) : 0;
}

/* --- session --- */

static int aborted(struct err *err)
{
	return err_set(err, ECANCELED, "reading was aborted");
}

static int reader_get_file(struct repo_reader *base, const char *name, struct repo_file *out,
			   struct err *err)
{
	struct dir_reader *r = (struct dir_reader *)base;

	if (atomic_load(&r->aborted))
		return aborted(err);
	int rc = repo_dir_get_file(r->fd, name, out, err);
	return rc < 0 ? err_wrap(err, rc, "%s/%s", r->dir->base.spelling, r->path) : 0;
}

static int reader_has_file(struct repo_reader *base, const char *name, struct err *err)
{
	struct dir_reader *r = (struct dir_reader *)base;
	AUTO(fd) int fd = -1;
	size_t size;

	if (atomic_load(&r->aborted))
		return aborted(err);
	int rc = repo_dir_file_open(r->fd, name, REPO_FILE_SIZE_MAX, &fd, &size, err);
	return rc < 0 ? err_wrap(err, rc, "%s/%s", r->dir->base.spelling, r->path) : 0;
}

static int reader_get_chunk(struct repo_reader *base, const struct digest *digest,
			    struct wbuf *out, struct err *err)
{
	struct dir_reader *r = (struct dir_reader *)base;

	if (atomic_load(&r->aborted))
		return aborted(err);
	int rc = repo_dir_chunk_read(r->dir->chunks_fd, digest, out, err);
	return rc < 0 ? err_wrap(err, rc, "%s", r->dir->base.spelling) : 0;
}

static int reader_get_chunk_of_size(struct repo_reader *base, const struct digest *digest,
				    void *to, size_t size, struct err *err)
{
	struct dir_reader *r = (struct dir_reader *)base;

	if (atomic_load(&r->aborted))
		return aborted(err);
	int rc = repo_dir_chunk_read_exact(r->dir->chunks_fd, digest, to, size, err);
	return rc < 0 ? err_wrap(err, rc, "%s", r->dir->base.spelling) : rc;
}

static void reader_abort(struct repo_reader *base)
{
	struct dir_reader *r = (struct dir_reader *)base;

	/* Calls in progress are short: one file, one read. */
	atomic_store(&r->aborted, true);
}

static void reader_free(struct repo_reader *base)
{
	struct dir_reader *r = (struct dir_reader *)base;

	if (r->fd >= 0)
		close(r->fd);
	repo_dir_lock_drop(&r->lock, false);
	free(r);
}

static const struct repo_reader_ops READER_OPS = {
	.get_file = reader_get_file,
	.has_file = reader_has_file,
	.get_chunk = reader_get_chunk,
	.get_chunk_of_size = reader_get_chunk_of_size,
	.abort = reader_abort,
	.free = reader_free,
};

/* --- opening --- */

static int no_snapshot(const struct repo_dir *d, const char *path, struct err *err)
{
	return err_set(err, ENOENT, "%s: there is no snapshot %s", d->base.spelling, path);
}

/* Lock it shared if that is possible. */
static int lock_for_reading(struct repo_dir *d, const struct snapshot_name *name,
			    const char *path, struct repo_dir_lock *lock, struct err *err)
{
	struct err why = ERR_INIT;
	int rc = 0;

	if (d->no_lock[0])
		rc = err_set(&why, EACCES, "%s", d->no_lock);
	else
		rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_SNAPSHOT, REPO_DIR_LOCK_SHARED, 0,
					name, lock, &why);
	if (rc == -EBUSY)
		return err_set(err, EBUSY, "%s: %s", d->base.spelling, why.text);
	if (rc < 0)
		repo_warn(&d->base,
			  "snapshot %s is read without a lock, it could be removed meanwhile: %s",
			  path, err_text(&why, rc));
	return 0;
}

int repo_dir_open_snapshot(struct repo_dir *d, const struct snapshot_name *name, int *fd,
			   struct repo_dir_lock *lock, struct err *err)
{
	AUTO(repo_dir_lock) struct repo_dir_lock taken = REPO_DIR_LOCK_INIT;
	char path[SNAPSHOT_PATH_SIZE];
	AUTO(fd) int opened = -1;

	snapshot_path(name, path, sizeof(path));
	/* Look before locking: a mistyped name must not leave a lock file behind. */
	if (faccessat(d->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return no_snapshot(d, path, err);
	int rc = lock_for_reading(d, name, path, &taken, err);
	if (rc == 0)
		rc = repo_dir_file_open_dir(d->root_fd, path, &opened, err);
	if (rc == -ENOENT)
		return no_snapshot(d, path, err);
	if (rc == -EBUSY)
		return rc;
	if (rc < 0)
		return err_wrap(err, rc, "%s", d->base.spelling);
	if (!repo_dir_is_finished(opened, "."))
		return err_set(err, ENOENT, "%s: snapshot %s is not finished (it has no %s)",
			       d->base.spelling, path, MANIFEST_BLOB_NAME);
	*fd = steal_fd(&opened);
	*lock = taken;
	taken = (struct repo_dir_lock)REPO_DIR_LOCK_INIT;
	return 0;
}

int repo_dir_read(struct repo *base, const struct snapshot_name *name, struct repo_reader **out,
		  struct err *err)
{
	struct dir_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return err_set(err, ENOMEM, "out of memory");
	r->base.ops = &READER_OPS;
	r->dir = (struct repo_dir *)base;
	snapshot_path(name, r->path, sizeof(r->path));
	int rc = repo_dir_open_snapshot(r->dir, name, &r->fd, &r->lock, err);
	if (rc < 0) {
		free(r);
		return rc;
	}
	*out = &r->base;
	return 0;
}
