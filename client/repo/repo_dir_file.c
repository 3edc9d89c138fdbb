/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_dir_file.h"

#include "client/base/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	TMP_ATTEMPT_COUNT_MAX = 100,
	DIRECT_SIZE_MIN = 64 << 10, /* below it waiting costs more than copying */
	DIRECT_BLOCK_SIZE = 4096,
};

/* --- owners --- */

struct repo_dir_owner repo_dir_owner_of(int root_fd)
{
	struct stat st;

	if (geteuid() != 0 || fstat(root_fd, &st) < 0 || st.st_uid == 0)
		return (struct repo_dir_owner){ .set = false };
	return (struct repo_dir_owner){
		.set = true, .if_possible = true, .uid = st.st_uid, .gid = st.st_gid
	};
}

int repo_dir_owner_give(int fd, const struct repo_dir_owner *o)
{
	if (!o->set || fchown(fd, o->uid, o->gid) == 0)
		return 0;
	return o->if_possible ? 0 : -1;
}

/* --- folders --- */

/* Mode and owner, whatever the umask; `fd` is fresh from mkdir or open. */
static int dress(int fd, const char *name, mode_t mode, const struct repo_dir_owner *o,
		 struct err *err)
{
	if (repo_dir_owner_give(fd, o) < 0)
		return err_sys(err, errno, "%s: change owner", name);
	if (fchmod(fd, mode) < 0)
		return err_sys(err, errno, "%s: change mode", name);
	return 0;
}

int repo_dir_file_mkdir(int at, const char *name, mode_t mode, const struct repo_dir_owner *o,
			bool *made, struct err *err)
{
	if (made)
		*made = false;
	if (mkdirat(at, name, mode) < 0)
		return errno == EEXIST ? 0 : err_sys(err, errno, "%s: make folder", name);

	AUTO(fd) int fd = -1;
	int rc = repo_dir_file_open_dir(at, name, &fd, err);
	if (rc == 0)
		rc = dress(fd, name, mode, o, err);
	if (rc < 0) {
		/* A folder that the server may not read would stop its garbage collection. */
		unlinkat(at, name, AT_REMOVEDIR);
		return rc;
	}
	if (made)
		*made = true;
	return 0;
}

int repo_dir_file_mkdir_all(int at, const char *path, const struct repo_dir_owner *o,
			    struct err *err)
{
	char prefix[PATH_MAX];
	size_t size = strlen(path);

	if (size >= sizeof(prefix))
		return err_set(err, ENAMETOOLONG, "path is longer than %zu bytes",
			       sizeof(prefix) - 1);
	for (size_t i = 1; i <= size; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(prefix, path, i);
		prefix[i] = '\0';
		int rc = repo_dir_file_mkdir(at, prefix, REPO_DIR_FOLDER_MODE, o, NULL, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int repo_dir_file_open_dir(int at, const char *path, int *fd, struct err *err)
{
	int opened = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (opened < 0)
		return err_sys(err, errno, "%s", path);
	*fd = opened;
	return 0;
}

int repo_dir_file_remove_dir(int at, const char *path, struct err *err)
{
	AUTO(fd) int fd = -1;
	int rc = repo_dir_file_open_dir(at, path, &fd, err);
	if (rc < 0)
		return rc;
	DIR *dir = fdopendir(dup(fd));
	if (!dir)
		return err_sys(err, errno, "%s", path);

	struct dirent *e;
	while ((errno = 0, e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(fd, e->d_name, 0) < 0 && errno != ENOENT) {
			rc = err_sys(err, errno, "%s/%s: remove", path, e->d_name);
			break;
		}
	}
	if (rc == 0 && errno != 0)
		rc = err_sys(err, errno, "%s: list", path);
	closedir(dir);
	if (rc == 0 && unlinkat(at, path, AT_REMOVEDIR) < 0)
		rc = err_sys(err, errno, "%s: remove", path);
	return rc;
}

/* --- reading --- */

int repo_dir_file_sync_dir(int fd, struct err *err)
{
	/* EINVAL: a file system that cannot do it for folders. */
	if (fsync(fd) < 0 && errno != EINVAL)
		return err_sys(err, errno, "fsync");
	return 0;
}

int repo_dir_file_open(int at, const char *name, size_t size_max, int *fd, size_t *size,
		       struct err *err)
{
	/* O_NONBLOCK: a fifo of that name must not hang us; regular files ignore it. */
	AUTO(fd) int opened = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY |
						       O_CLOEXEC);
	struct stat st;

	if (opened < 0 && errno == ELOOP)
		return err_set(err, EBADMSG, "%s: is a symbolic link, not a regular file", name);
	if (opened < 0)
		return err_sys(err, errno, "%s", name);
	if (fstat(opened, &st) < 0)
		return err_sys(err, errno, "%s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EBADMSG, "%s: is not a regular file", name);
	if ((uint64_t)st.st_size > size_max)
		return err_set(err, E2BIG, "%s: has %lld bytes, at most %zu are expected", name,
			       (long long)st.st_size, size_max);
	*size = (size_t)st.st_size;
	*fd = steal_fd(&opened);
	return 0;
}

int repo_dir_file_read_fd(int fd, void *data, size_t size, struct err *err)
{
	ssize_t n = io_pread(fd, data, size, 0);

	if (n < 0)
		return err_sys(err, (int)-n, "read");
	if ((size_t)n < size)
		return err_set(err, EBADMSG, "ends after %zd of %zu bytes", n, size);
	return 0;
}

int repo_dir_file_read(int at, const char *name, size_t size_max, struct wbuf *out,
		       struct err *err)
{
	AUTO(fd) int fd = -1;
	size_t size;
	int rc = repo_dir_file_open(at, name, size_max, &fd, &size, err);
	if (rc < 0)
		return rc;
	uint8_t *data = wbuf_reserve(out, size);
	if (!data && size > 0)
		return err_set(err, -out->failed, "%s: no room for %zu bytes", name, size);
	rc = repo_dir_file_read_fd(fd, data, size, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", name);
	out->size += size;
	return 0;
}

/* --- writing --- */

/* Uniqueness is all that is asked of it (creation is exclusive), so one number from the
 * kernel a process is enough: asking per chunk would cost more than the name is worth. */
void repo_dir_file_random(char out[7])
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	static atomic_uint_fast64_t next;
	uint64_t v = atomic_load_explicit(&next, memory_order_relaxed);

	if (v == 0) {
		uint64_t seed;

		if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != (ssize_t)sizeof(seed))
			seed = (uint64_t)time(NULL) * 1000003 + (uint64_t)getpid();
		atomic_compare_exchange_strong(&next, &v, seed | 1);
	}
	v = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
	v += (uint64_t)getpid() << 32; /* a child goes on with its parent's number */
	v *= 0x9e3779b97f4a7c15u; /* spread neighbours over the whole range */
	for (int i = 0; i < 6; i++) {
		out[i] = digits[(v >> 16) % (sizeof(digits) - 1)];
		v /= sizeof(digits) - 1;
	}
	out[6] = '\0';
}

int repo_dir_file_tmp_open(struct repo_dir_file_tmp *t, int at, const char *stem,
			   const struct repo_dir_owner *o, struct err *err)
{
	char random[7];

	for (int attempt = 0; attempt < TMP_ATTEMPT_COUNT_MAX; attempt++) {
		repo_dir_file_random(random);
		int n = snprintf(t->name, sizeof(t->name), "%s.tmp_%s", stem, random);
		if (n < 0 || (size_t)n >= sizeof(t->name)) {
			t->name[0] = '\0';
			return err_set(err, ENAMETOOLONG, "%s: name is too long", stem);
		}
		t->at = at;
		t->fd = openat(at, t->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			       REPO_DIR_FILE_MODE);
		if (t->fd >= 0)
			return dress(t->fd, t->name, REPO_DIR_FILE_MODE, o, err);
		if (errno != EEXIST)
			break;
	}
	int code = errno;
	int rc = code == ENOENT ? -ENOENT : err_sys(err, code, "%s: create", t->name);
	t->name[0] = '\0';
	return rc;
}

int repo_dir_file_tmp_write(struct repo_dir_file_tmp *t, const void *data, size_t size,
			    struct err *err)
{
	int rc = io_write(t->fd, data, size);

	return rc < 0 ? err_sys(err, -rc, "%s: write %zu bytes", t->name, size) : 0;
}

/* How many of the bytes can go to the disk from where they are.  Only file systems on a disk of
 * their own say so, which are those where it pays. */
static size_t direct_size(int fd, const void *data, size_t size)
{
	struct statx x;

	if (size < DIRECT_SIZE_MIN || statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) < 0 ||
	    !(x.stx_mask & STATX_DIOALIGN) || !x.stx_dio_mem_align || !x.stx_dio_offset_align ||
	    (uintptr_t)data % x.stx_dio_mem_align || DIRECT_BLOCK_SIZE % x.stx_dio_offset_align)
		return 0;
	/* Not half a block of the file system: it would be read again to be completed. */
	return size - size % DIRECT_BLOCK_SIZE;
}

int repo_dir_file_tmp_write_through(struct repo_dir_file_tmp *t, const void *data, size_t size,
				    struct err *err)
{
	size_t direct = direct_size(t->fd, data, size), done = 0;

	if (direct && fcntl(t->fd, F_SETFL, O_DIRECT) == 0) {
		ssize_t n = write(t->fd, data, direct);

		/* What it did not take, for whatever reason, is tried once more below. */
		done = n > 0 ? (size_t)n : 0;
		if (fcntl(t->fd, F_SETFL, 0) < 0)
			return err_sys(err, errno, "%s: fcntl", t->name);
	}
	return repo_dir_file_tmp_write(t, (const uint8_t *)data + done, size - done, err);
}

int repo_dir_file_rename_new(int at, const char *from, const char *to)
{
	if (renameat2(at, from, at, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS) /* a file system without that flag */
		return -errno;
	if (linkat(at, from, at, to, 0) < 0)
		return -errno;
	unlinkat(at, from, 0);
	return 0;
}

/* `is_new`: over nothing. */
static int commit(struct repo_dir_file_tmp *t, const char *name, bool sync, bool is_new,
		  struct err *err)
{
	int rc;

	if (sync && fsync(t->fd) < 0)
		return err_sys(err, errno, "%s: fsync", t->name);
	/* Linux lets go of the descriptor even when close() fails. */
	if (close(steal_fd(&t->fd)) < 0)
		return err_sys(err, errno, "%s: close", t->name);
	if (is_new)
		rc = repo_dir_file_rename_new(t->at, t->name, name);
	else
		rc = renameat(t->at, t->name, t->at, name) < 0 ? -errno : 0;
	if (rc == -EEXIST)
		return err_set(err, EEXIST, "%s: there is one already", name);
	if (rc < 0)
		return err_sys(err, -rc, "%s: rename to %s", t->name, name);
	t->name[0] = '\0';
	return 0;
}

int repo_dir_file_tmp_commit(struct repo_dir_file_tmp *t, const char *name, bool sync,
			     struct err *err)
{
	return commit(t, name, sync, false, err);
}

void repo_dir_file_tmp_release(struct repo_dir_file_tmp *t)
{
	if (t->fd >= 0)
		close(steal_fd(&t->fd));
	if (t->name[0])
		unlinkat(t->at, t->name, 0);
	t->name[0] = '\0';
}

static int put_file(int at, const char *name, const void *data, size_t size, bool is_new,
		    const struct repo_dir_owner *o, struct err *err)
{
	AUTO(repo_dir_file_tmp) struct repo_dir_file_tmp tmp = REPO_DIR_FILE_TMP_INIT;
	const char *dot = strrchr(name, '.');
	char stem[REPO_DIR_FILE_NAME_MAX + 1];

	snprintf(stem, sizeof(stem), "%.*s", dot ? (int)(dot - name) : (int)strlen(name), name);
	int rc = repo_dir_file_tmp_open(&tmp, at, stem, o, err);
	if (rc == -ENOENT)
		return err_sys(err, ENOENT, "%s: create", name);
	if (rc == 0)
		rc = repo_dir_file_tmp_write(&tmp, data, size, err);
	if (rc == 0)
		rc = commit(&tmp, name, true, is_new, err);
	return rc;
}

int repo_dir_file_replace(int at, const char *name, const void *data, size_t size,
			  const struct repo_dir_owner *o, struct err *err)
{
	return put_file(at, name, data, size, false, o, err);
}

int repo_dir_file_create(int at, const char *name, const void *data, size_t size,
			 const struct repo_dir_owner *o, struct err *err)
{
	return put_file(at, name, data, size, true, o, err);
}
