/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storefs - shows a datastore whose chunks come late, not, or wrong, as it is told.
 *
 *	storefs STORE MOUNTPOINT
 *
 * in the foreground.  Each line of its standard input is a command; "ok" on standard output says
 * that it holds from now on:
 *
 *	delay MS	a chunk is opened that much later
 *	fail N		each Nth chunk that is opened is, in turn, unreadable, missing, short, wrong
 *	fail 0		none is
 *
 * "lists 0" is answered with the number of folders that were listed so far.
 *
 * Chunks do not go through the page cache; any number are opened at a time.
 */
#define FUSE_USE_VERSION 34

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum fault { UNREADABLE, MISSING, SHORT, WRONG, FAULT_COUNT, NONE };

struct opened {
	int fd;
	enum fault fault;
};

static int store_fd;
static atomic_uint delay_ms, fail_every, chunk_count, list_count;

static const char *below(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static bool is_chunk(const char *path)
{
	return strncmp(path, "/.chunks/", 9) == 0;
}

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	return fstatat(store_fd, below(path), st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static enum fault next_fault(void)
{
	unsigned every = fail_every, count = ++chunk_count;

	return every > 0 && count % every == 0 ? (enum fault)(count / every % FAULT_COUNT) : NONE;
}

static int fs_open(const char *path, struct fuse_file_info *fi)
{
	struct opened *o = malloc(sizeof(*o));

	if (!o)
		return -ENOMEM;
	*o = (struct opened){ .fd = openat(store_fd, below(path), O_RDONLY | O_CLOEXEC),
			      .fault = NONE };
	if (o->fd < 0) {
		free(o);
		return -errno;
	}
	if (is_chunk(path)) {
		unsigned ms = delay_ms;
		struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

		if (ms > 0)
			nanosleep(&t, NULL);
		o->fault = next_fault();
		fi->direct_io = 1;
	}
	fi->fh = (uintptr_t)o;
	if (o->fault != UNREADABLE && o->fault != MISSING)
		return 0;
	int rc = o->fault == MISSING ? -ENOENT : -EIO;

	close(o->fd);
	free(o);
	return rc;
}

static int fs_read(const char *path, char *out, size_t size, off_t offset,
		   struct fuse_file_info *fi)
{
	const struct opened *o = (const void *)(uintptr_t)fi->fh;
	ssize_t n;

	(void)path;
	n = pread(o->fd, out, size, offset);
	if (n < 0)
		return -errno;
	if (o->fault == SHORT && n > 0)
		n--;
	if (o->fault == WRONG && n > 0)
		out[n / 2] ^= 1;
	return (int)n;
}

static int fs_release(const char *path, struct fuse_file_info *fi)
{
	struct opened *o = (void *)(uintptr_t)fi->fh;

	(void)path;
	close(o->fd);
	free(o);
	return 0;
}

static int fs_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
		      struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	int fd = openat(store_fd, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	(void)offset;
	(void)fi;
	(void)flags;
	if (!dir)
		return -errno;
	list_count++;
	for (struct dirent *e; (e = readdir(dir));)
		fill(buffer, e->d_name, NULL, 0, 0);
	closedir(dir);
	return 0;
}

static void *listen_to_commands(void *arg)
{
	unsigned n;
	char word[8];

	while (scanf("%7s %u", word, &n) == 2) {
		if (strcmp(word, "lists") == 0) {
			printf("%u\n", list_count);
		} else {
			if (strcmp(word, "delay") == 0)
				delay_ms = n;
			else
				fail_every = n;
			puts("ok");
		}
		fflush(stdout);
	}
	return arg;
}

static void *fs_init(struct fuse_conn_info *conn, struct fuse_config *config)
{
	pthread_t thread;

	(void)conn;
	(void)config;
	if (pthread_create(&thread, NULL, listen_to_commands, NULL) == 0)
		pthread_detach(thread);
	return NULL;
}

static const struct fuse_operations operations = {
	.init = fs_init,
	.getattr = fs_getattr,
	.open = fs_open,
	.read = fs_read,
	.release = fs_release,
	.readdir = fs_readdir,
};

int main(int argc, char **argv)
{
	char options[] = "-oro,allow_other,max_threads=64", foreground[] = "-f";

	if (argc != 3) {
		fprintf(stderr, "Usage: storefs STORE MOUNTPOINT\n");
		return 2;
	}
	store_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store_fd < 0) {
		perror(argv[1]);
		return 1;
	}
	char *args[] = { argv[0], argv[2], options, foreground, NULL };
	return fuse_main(4, args, &operations, NULL);
}
