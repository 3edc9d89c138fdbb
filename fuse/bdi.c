/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/bdi.h"

#include "archive/base/cleanup.h"
#include "client/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { MOUNTINFO_SIZE_MAX = 64 << 20 };

static bool is_octal(const char *text)
{
	return text[0] >= '0' && text[0] <= '3' && text[1] >= '0' && text[1] <= '7' &&
	       text[2] >= '0' && text[2] <= '7';
}

/* Compare a field, in which blanks, line ends and backslashes are \ooo, with a path. */
static bool field_is(const char *field, size_t size, const char *path)
{
	const char *end = field + size;

	while (field < end) {
		char c = *field++;

		if (c == '\\' && end - field >= 3 && is_octal(field)) {
			c = (char)((field[0] - '0') << 6 | (field[1] - '0') << 3 | (field[2] - '0'));
			field += 3;
		}
		if (*path++ != c)
			return false;
	}
	return *path == '\0';
}

/* "ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ..." */
static bool line_is_of(const char *line, const char *mount_point, dev_t *out)
{
	unsigned major, minor;
	int at = 0;

	/* NOLINTNEXTLINE(cert-err34-c): the kernel's own text */
	if (sscanf(line, "%*u %*u %u:%u %*s %n", &major, &minor, &at) < 2 || at == 0)
		return false;
	line += at;
	if (!field_is(line, strcspn(line, " \n"), mount_point))
		return false;
	*out = makedev(major, minor);
	return true;
}

int bdi_find(const char *mountinfo, const char *mount_point, dev_t *out)
{
	bool found = false;

	while (*mountinfo) {
		found |= line_is_of(mountinfo, mount_point, out);
		mountinfo += strcspn(mountinfo, "\n");
		mountinfo += *mountinfo == '\n';
	}
	return found ? 0 : -ENOENT;
}

int bdi_find_now(const char *mount_point, dev_t *out)
{
	AUTO(fd) int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MOUNTINFO_SIZE_MAX);
	int rc = fd < 0 ? -errno : io_read_all(fd, &text);

	if (rc == 0)
		rc = wbuf_put_u8(&text, 0);
	return rc < 0 ? rc : bdi_find((const char *)text.data, mount_point, out);
}

int bdi_raise(dev_t device, unsigned read_ahead_kb)
{
	AUTO(fd) int fd = -1;
	char value[32], path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(device),
		 minor(device));
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, value, sizeof(value) - 1);
	if (n < 0)
		return -errno;
	value[n] = '\0';
	if (strtoul(value, NULL, 10) >= read_ahead_kb)
		return 0;
	n = snprintf(value, sizeof(value), "%u\n", read_ahead_kb);
	return pwrite(fd, value, (size_t)n, 0) < 0 ? -errno : 0;
}
