/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/io.h"

#include <errno.h>
#include <unistd.h>

int io_read_all(int fd, struct wbuf *out)
{
	ssize_t n;

	do {
		uint8_t *to = wbuf_reserve(out, IO_PIECE_SIZE);

		if (!to)
			return out->failed;
		n = read(fd, to, IO_PIECE_SIZE);
		if (n < 0 && errno != EINTR)
			return -errno;
		out->size += n > 0 ? (size_t)n : 0;
	} while (n != 0);
	return 0;
}

ssize_t io_pread(int fd, void *data, size_t size, uint64_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, (char *)data + done, size - done, (off_t)(offset + done));

		if (n == 0)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)done;
}

int io_write(int fd, const void *data, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = write(fd, (const char *)data + done, size - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}
