/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/notify.h"

#include "archive/base/cleanup.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

int notify_send(const char *text, unsigned wait_ms)
{
	const char *path = getenv("NOTIFY_SOCKET");
	const struct timeval wait = { .tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000 };
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	AUTO(fd) int fd = -1;
	size_t size;

	if (!path || !path[0])
		return 0;
	size = strlen(path);
	if ((path[0] != '/' && path[0] != '@') || size >= sizeof(to.sun_path))
		return -EINVAL;
	memcpy(to.sun_path, path, size);
	if (path[0] == '@')
		to.sun_path[0] = '\0'; /* a name that is in no file system */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) < 0)
		return -errno;
	if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size)) < 0)
		return -errno;
	return 0;
}
