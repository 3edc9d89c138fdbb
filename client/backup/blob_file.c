/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/blob_file.h"

#include "archive/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_SIZE = 1 << 16 };

/* Only what fits leaves room for the read that finds its end. */
static int read_whole(int fd, const char *path, struct wbuf *out, struct err *err)
{
	ssize_t n;

	do {
		uint8_t *p = wbuf_reserve(out, READ_SIZE);

		if (!p && out->failed == -E2BIG)
			return err_set(err, E2BIG, "%s: larger than %d MiB", path,
				       BLOB_DATA_SIZE_MAX >> 20);
		if (!p)
			return err_set(err, ENOMEM, "%s: out of memory", path);
		n = read(fd, p, READ_SIZE);
		if (n < 0 && errno != EINTR)
			return err_sys(err, errno, "%s", path);
		out->size += n > 0 ? (size_t)n : 0;
	} while (n != 0);
	return 0;
}

int blob_file_read(const char *path, struct wbuf *plain, struct err *err)
{
	/* A pipe that nobody writes to must not make us wait before it is refused. */
	AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s: not a regular file", path);
	return read_whole(fd, path, plain, err);
}
