/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/content.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void content_init(struct content *c, int fd, const struct stat *st, bool skip_errors)
{
	*c = (struct content){ .fd = fd,
			       .skip_errors = skip_errors,
			       .part_size = CONTENT_PART_SIZE_MAX,
			       .skip_size = CONTENT_BLOCK_SIZE };
	/* A file that has fewer blocks than bytes has holes or is compressed. */
	c->has_holes = S_ISREG(st->st_mode) && st->st_blocks * 512 < st->st_size;
}

bool content_is_damage(int error)
{
	switch (error) {
	case EIO:
	case EUCLEAN: /* a file system's own structures */
	case EBADMSG: /* their checksums */
	case ENODATA: /* a medium, to its block device */
	case EILSEQ: /* its protection information */
	case EREMOTEIO:
	case ETIMEDOUT:
	case ENOLINK:
	case ENXIO: /* the device is gone */
		return true;
	default:
		return false;
	}
}

bool content_is_same(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* --- holes --- */

/* Find out what lies at `offset`.  Behind the end of the file is data: reading will tell. */
static void look_up(struct content *c, uint64_t offset)
{
	off_t data = lseek(c->fd, (off_t)offset, SEEK_DATA), end;
	struct stat st;

	c->range_begin = offset;
	c->range_end = UINT64_MAX;
	c->range_is_data = true;
	if (data < 0 && errno == ENXIO) {
		/* A hole up to the end. */
		if (fstat(c->fd, &st) < 0 || (uint64_t)st.st_size <= offset)
			return;
		c->range_end = (uint64_t)st.st_size;
		c->range_is_data = false;
	} else if (data < 0) {
		c->has_holes = false; /* nobody can say */
	} else if ((uint64_t)data > offset) {
		c->range_end = (uint64_t)data;
		c->range_is_data = false;
	} else {
		end = lseek(c->fd, data, SEEK_HOLE);
		if (end > data)
			c->range_end = (uint64_t)end;
	}
}

/* How many of the next `size` bytes are alike, and what. */
static size_t range_at(struct content *c, uint64_t offset, size_t size, bool *is_data)
{
	uint64_t left;

	*is_data = true;
	if (!c->has_holes)
		return size;
	if (offset < c->range_begin || offset >= c->range_end)
		look_up(c, offset);
	left = c->range_end - offset;
	*is_data = c->range_is_data;
	return left < size ? (size_t)left : size;
}

bool content_is_hole(struct content *c, uint64_t begin, uint64_t end)
{
	bool is_data;

	return range_at(c, begin, (size_t)(end - begin), &is_data) == end - begin && !is_data;
}

/* --- reading --- */

/* Zeros for what cannot be read, `size` bytes at most. */
static size_t pass_over(struct content *c, uint64_t offset, uint8_t *data, size_t size,
			int error)
{
	size_t lost = c->skip_size - (size_t)(offset % CONTENT_BLOCK_SIZE);

	if (lost > size)
		lost = size;
	memset(data, 0, lost);
	if (!c->lost_errno) {
		c->lost_errno = error;
		c->lost_begin = offset;
	}
	c->lost_bytes += lost;
	if (c->skip_size < CONTENT_SKIP_SIZE_MAX)
		c->skip_size *= 2;
	return lost;
}

/* Some file systems have files that can only be read front to back. */
static ssize_t read_at(struct content *c, uint64_t offset, void *data, size_t size)
{
	ssize_t n = pread(c->fd, data, size, (off_t)offset);

	if (n < 0 && errno == ESPIPE && offset == c->position) {
		n = read(c->fd, data, size);
		c->position += n > 0 ? (size_t)n : 0;
	}
	return n;
}

/* One read, tried again as often as it takes; 0: the end. */
static ssize_t read_data(struct content *c, uint64_t offset, void *data, size_t size)
{
	for (;;) {
		ssize_t n = read_at(c, offset, data, size);

		if (n >= 0)
			return n;
		if (errno == EAGAIN && fcntl(c->fd, F_GETFL) & O_NONBLOCK)
			fcntl(c->fd, F_SETFL, 0); /* it is a file: waiting ends */
		else if (errno != EINTR)
			return -errno;
	}
}

static void has_read(struct content *c)
{
	c->skip_size = CONTENT_BLOCK_SIZE;
	if (c->part_size < CONTENT_PART_SIZE_MAX)
		c->part_size *= 2;
}

ssize_t content_read(struct content *c, uint64_t offset, void *data, size_t size,
		     size_t size_max, struct err *err)
{
	uint8_t *out = data;
	size_t done = 0;

	while (done < size) {
		uint64_t at = offset + done;
		bool is_data;
		size_t part = range_at(c, at, size_max - done, &is_data);
		ssize_t n;

		if (!is_data) {
			memset(out + done, 0, part);
			c->hole_bytes += part;
			done += part;
			continue;
		}
		if (part > c->part_size - at % CONTENT_BLOCK_SIZE)
			part = c->part_size - at % CONTENT_BLOCK_SIZE;
		n = read_data(c, at, out + done, part);
		if (n == 0)
			break;
		if (n > 0)
			has_read(c);
		else if (!c->skip_errors || !content_is_damage((int)-n))
			return err_sys(err, (int)-n, "read");
		else if (part > CONTENT_BLOCK_SIZE)
			c->part_size = CONTENT_BLOCK_SIZE;
		else
			n = (ssize_t)pass_over(c, at, out + done, size - done, (int)-n);
		done += n > 0 ? (size_t)n : 0;
	}
	return (ssize_t)done;
}
