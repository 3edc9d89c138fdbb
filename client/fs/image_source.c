/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/image_source.h"

#include "archive/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Opening some special files does something: look first. */
static int check_kind(const struct stat *st, struct err *err)
{
	if (S_ISDIR(st->st_mode))
		return err_set(err, EINVAL, "cannot backup directory with fixed chunk size");
	if (!S_ISREG(st->st_mode) && !S_ISBLK(st->st_mode))
		return err_set(err, EINVAL, "neither a regular file nor a block device");
	return 0;
}

static int open_quietly(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NOATIME);

	if (fd < 0 && errno == EPERM) /* not the owner's */
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	return fd;
}

int image_source_size(const struct image_source *s, uint64_t *size, struct err *err)
{
	struct stat st;

	if (S_ISBLK(s->st.st_mode))
		return ioctl(s->fd, BLKGETSIZE64, size) < 0 ? err_sys(err, errno, "size") : 0;
	if (fstat(s->fd, &st) < 0)
		return err_sys(err, errno, "stat");
	*size = (uint64_t)st.st_size;
	return 0;
}

int image_source_open(const char *path, struct image_source *out, struct err *err)
{
	struct image_source s = { .fd = -1 };
	int rc;

	if (stat(path, &s.st) < 0)
		return err_sys(err, errno, "stat");
	rc = check_kind(&s.st, err);
	if (rc < 0)
		return rc;
	AUTO(fd) int fd = open_quietly(path);
	if (fd < 0 || fstat(fd, &s.st) < 0)
		return err_sys(err, errno, "open");
	s.fd = fd;
	rc = check_kind(&s.st, err);
	if (rc == 0)
		rc = image_source_size(&s, &s.size, err);
	if (rc == 0 && s.size == 0)
		rc = err_set(err, EINVAL, "is empty: an image has at least one byte");
	if (rc < 0)
		return rc;
	s.fd = steal_fd(&fd);
	*out = s;
	return 0;
}
