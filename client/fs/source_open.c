/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/source_open.h"

#include "client/fs/meta_read.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <time.h>

enum {
	OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
	/* The kernel takes a lease away after /proc/sys/fs/lease-break-time, 45 s. */
	LEASE_WAIT_MS = 60000,
	LEASE_POLL_MS = 20,
};

static int open_quietly(int dir_fd, const char *name, int flags)
{
	int fd = openat(dir_fd, name, OPEN_FLAGS | O_NOATIME | flags);

	if (fd < 0 && errno == EPERM) /* not the owner's */
		fd = openat(dir_fd, name, OPEN_FLAGS | flags);
	return fd >= 0 ? fd : -errno;
}

int source_open(int dir_fd, const char *name, bool is_directory, const atomic_bool *stop)
{
	const struct timespec pause = { .tv_nsec = LEASE_POLL_MS * 1000000L };
	int flags = O_NOFOLLOW | (is_directory ? O_DIRECTORY : 0);
	int fd = open_quietly(dir_fd, name, flags);

	for (int ms = 0; fd == -EWOULDBLOCK && ms < LEASE_WAIT_MS; ms += LEASE_POLL_MS) {
		if (stop && *stop)
			return -ECANCELED;
		nanosleep(&pause, NULL);
		fd = open_quietly(dir_fd, name, flags);
	}
	return fd;
}

int source_open_root(const char *path, bool no_follow)
{
	return open_quietly(AT_FDCWD, path, O_DIRECTORY | (no_follow ? O_NOFOLLOW : 0));
}

/* --- .pxarexclude --- */

static const char exclude_file[] = ".pxarexclude";

/* Behind a symlink anybody may have set lies anything: look at it before opening it. */
static int open_followed(int dir_fd, struct err *err)
{
	AUTO(fd) int found = openat(dir_fd, exclude_file, O_PATH | O_CLOEXEC);
	char path[40];
	struct stat st;
	struct statfs fs;
	int fd;

	if (found < 0)
		return errno == ENOENT ? -ENOENT : err_sys(err, errno, "symlink");
	if (fstat(found, &st) < 0 || fstatfs(found, &fs) < 0)
		return err_sys(err, errno, "symlink");
	if (!S_ISREG(st.st_mode) || meta_fs_is_virtual((uint32_t)fs.f_type))
		return err_set(err, EINVAL, "leads to something else than a file");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", found);
	fd = open_quietly(AT_FDCWD, path, 0);
	return fd >= 0 ? fd : err_sys(err, -fd, "symlink");
}

static int open_exclude_file(int dir_fd, struct err *err)
{
	struct stat st;
	int fd;

	if (fstatat(dir_fd, exclude_file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ENOENT : err_sys(err, errno, "stat");
	if (S_ISLNK(st.st_mode))
		return open_followed(dir_fd, err);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "is not a regular file");
	fd = open_quietly(dir_fd, exclude_file, O_NOFOLLOW);
	return fd >= 0 || fd == -ENOENT ? fd : err_sys(err, -fd, "open");
}

int source_read_exclude_file(int dir_fd, struct wbuf *text, struct err *err)
{
	AUTO(fd) int fd = open_exclude_file(dir_fd, err);
	ssize_t n = 0;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	do {
		uint8_t *space = wbuf_reserve(text, 4096);

		if (!space)
			return err_sys(err, -text->failed, "more than %zu bytes",
				       text->size_max);
		n = read(fd, space, 4096);
		text->size += n > 0 ? (size_t)n : 0;
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 ? err_sys(err, errno, "read") : 1;
}
