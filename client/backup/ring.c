/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/ring.h"

#include <assert.h>
#include <sys/mman.h>

static size_t round_up_to_pages(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (size + page - 1) / page * page;
}

static int map_twice(const struct ring *r, int fd)
{
	const int protection = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_FIXED;

	if (mmap(r->data, r->size, protection, flags, fd, 0) == MAP_FAILED ||
	    mmap(r->data + r->size, r->span_max, protection, flags, fd, 0) == MAP_FAILED)
		return -errno;
	return 0;
}

int ring_init(struct ring *r, size_t size, size_t span_max, struct err *err)
{
	struct ring ring = { .size = round_up_to_pages(size),
			     .span_max = round_up_to_pages(span_max) };
	AUTO(fd) int fd = memfd_create("pxarfs-ring", MFD_CLOEXEC);
	void *reserved;
	int rc;

	assert(span_max > 0 && span_max <= size);
	if (fd < 0 || ftruncate(fd, (off_t)ring.size) < 0)
		return err_sys(err, errno, "cannot get memory for a stream");
	reserved = mmap(NULL, ring.size + ring.span_max, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		return err_sys(err, errno, "cannot get memory for a stream");
	ring.data = reserved;
	rc = map_twice(&ring, fd);
	if (rc < 0) {
		ring_release(&ring);
		return err_sys(err, -rc, "cannot get memory for a stream");
	}
	*r = ring;
	return 0;
}

void ring_release(struct ring *r)
{
	if (r->data)
		munmap(r->data, r->size + r->span_max);
	*r = (struct ring){ 0 };
}
