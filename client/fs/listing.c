/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/listing.h"

#include "archive/base/grow.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sysmacros.h>

enum { LISTING_KEPT_SIZE_MAX = 1 << 20 };

void listing_release(struct listing *l)
{
	free(l->names);
	free(l->stats);
	free(l->more);
	free(l->stat_errors);
	wbuf_release(&l->texts);
	*l = (struct listing){ 0 };
}

void listing_clear(struct listing *l)
{
	if (l->capacity * sizeof(*l->names) + l->texts.capacity > LISTING_KEPT_SIZE_MAX) {
		listing_release(l);
		return;
	}
	l->count = 0;
	l->window_begin = l->window_end = 0;
	wbuf_clear(&l->texts);
}

static uint64_t begin_of(const char *name, size_t size)
{
	uint64_t begin = 0;

	memcpy(&begin, name, size < sizeof(begin) ? size : sizeof(begin));
	return be64toh(begin);
}

static int add(struct listing *l, const struct dirent64 *d)
{
	size_t size = strlen(d->d_name);

	if (grow(&l->names, &l->capacity, l->count + 1, SIZE_MAX, sizeof(*l->names)) < 0)
		return -ENOMEM;
	l->names[l->count] = (struct listing_name){
		.begin = begin_of(d->d_name, size),
		.ino = d->d_ino,
		.text = l->texts.size,
	};
	l->texts.size_max = SIZE_MAX;
	if (wbuf_put(&l->texts, d->d_name, size + 1) < 0)
		return l->texts.failed;
	l->count++;
	return 0;
}

static int add_dents(struct listing *l, const uint8_t *dents, size_t size,
		     listing_filter *filter, void *arg, struct err *err)
{
	for (size_t at = 0; at < size;) {
		const struct dirent64 *d = (const void *)(dents + at);
		int rc;

		at += d->d_reclen;
		if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
			continue;
		rc = filter(arg, d->d_name, d->d_type, err);
		if (rc > 0 && (rc = add(l, d)) < 0)
			err_sys(err, -rc, "list of names");
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int compare_names(const void *a, const void *b, void *arg)
{
	const struct listing_name *x = a, *y = b;
	const struct listing *l = arg;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return strcmp((const char *)l->texts.data + x->text,
		      (const char *)l->texts.data + y->text);
}

/* A file system in trouble may give a name twice; an archive cannot. */
static void drop_doubles(struct listing *l)
{
	size_t kept = 0;

	for (size_t i = 0; i < l->count; i++)
		if (!kept || compare_names(&l->names[kept - 1], &l->names[i], l) != 0)
			l->names[kept++] = l->names[i];
	l->count = kept;
}

int listing_read(struct listing *l, int fd, void *dents, listing_filter *filter, void *arg,
		 struct err *err)
{
	ssize_t size;
	int rc = 0;

	listing_clear(l);
	while ((size = getdents64(fd, dents, LISTING_DENTS_SIZE)) > 0) {
		rc = add_dents(l, dents, (size_t)size, filter, arg, err);
		if (rc < 0)
			return rc;
	}
	if (size < 0)
		rc = err_sys(err, errno, "reading the directory");
	if (l->count > 1)
		qsort_r(l->names, l->count, sizeof(*l->names), compare_names, l);
	drop_doubles(l);
	return rc;
}

/* --- stat data --- */

static int compare_inos(const void *a, const void *b, void *arg)
{
	const struct listing_name *names = arg;
	uint64_t x = names[*(const uint8_t *)a].ino, y = names[*(const uint8_t *)b].ino;

	return x < y ? -1 : x > y;
}

/* A chain of folders of one name each must not cost a whole window for each. */
static int grow_window(struct listing *l, size_t count)
{
	free(l->stats);
	free(l->more);
	free(l->stat_errors);
	l->more = calloc(count, sizeof(*l->more));
	l->stats = calloc(count, sizeof(*l->stats));
	l->stat_errors = calloc(count, sizeof(*l->stat_errors));
	l->window_capacity = l->stats && l->more && l->stat_errors ? count : 0;
	return l->window_capacity ? 0 : -ENOMEM;
}

static struct timespec time_of(const struct statx_timestamp *t)
{
	return (struct timespec){ .tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec };
}

/* 0 or errno. */
static int get_stat(int fd, const char *name, struct stat *out, struct listing_more *more)
{
	struct statx x;

	if (statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS | STATX_BTIME, &x) < 0)
		return errno;
	*more = (struct listing_more){ x.stx_attributes, listing_birth(&x) };
	*out = (struct stat){
		.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor),
		.st_ino = x.stx_ino,
		.st_mode = x.stx_mode,
		.st_nlink = x.stx_nlink,
		.st_uid = x.stx_uid,
		.st_gid = x.stx_gid,
		.st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor),
		.st_size = (off_t)x.stx_size,
		.st_blksize = x.stx_blksize,
		.st_blocks = (blkcnt_t)x.stx_blocks,
		.st_atim = time_of(&x.stx_atime),
		.st_mtim = time_of(&x.stx_mtime),
		.st_ctim = time_of(&x.stx_ctime),
	};
	return 0;
}

static int fill_window(struct listing *l, int fd, size_t begin)
{
	size_t count = l->count - begin;
	uint8_t order[LISTING_WINDOW];

	if (count > LISTING_WINDOW)
		count = LISTING_WINDOW;
	if (count > l->window_capacity && grow_window(l, count) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		order[i] = (uint8_t)i;
	if (count > 1)
		qsort_r(order, count, 1, compare_inos, &l->names[begin]);
	for (size_t i = 0; i < count; i++)
		l->stat_errors[order[i]] = get_stat(fd, listing_name(l, begin + order[i]),
						    &l->stats[order[i]],
						    &l->more[order[i]]);
	l->window_begin = begin;
	l->window_end = begin + count;
	return 0;
}

int listing_stat(struct listing *l, int fd, size_t i, const struct stat **out)
{
	if (i < l->window_begin || i >= l->window_end) {
		int rc = fill_window(l, fd, i);

		if (rc < 0)
			return rc;
	}
	*out = &l->stats[i - l->window_begin];
	return -l->stat_errors[i - l->window_begin];
}
