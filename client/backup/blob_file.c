/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/blob_file.h"

#include "archive/base/cleanup.h"
#include "client/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

int blob_file_read(const char *path, struct wbuf *plain, struct err *err)
{
	/* A pipe that nobody writes to must not make us wait before it is refused. */
	AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(err, errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, EINVAL, "%s: not a regular file", path);
	rc = io_read_all(fd, plain);
	if (rc == -E2BIG)
		return err_set(err, E2BIG, "%s: larger than %d MiB", path, BLOB_DATA_SIZE_MAX >> 20);
	return rc < 0 ? err_sys(err, -rc, "%s", path) : 0;
}
