/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faultfs - shows a folder, with faults: for tests of what becomes of media errors.
 *
 *	faultfs SOURCE MOUNTPOINT RULE...
 *
 * in the foreground.  A rule is "CALL:ERRNO:PATH", CALL being getattr, open, readdir (fails at the
 * last name) or listxattr, or "read:ERRNO:PATH:BEGIN:END" for bytes of a
 * file; ERRNO is a number, PATH begins with a slash.  Content does not go through the page
 * cache, so each read of a range fails that touches the bad one.
 */
#define FUSE_USE_VERSION 34

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { RULES_MAX = 32 };

struct rule {
	char call[16], path[512];
	int error;
	long long begin, end;
};

static struct rule rules[RULES_MAX];
static size_t rule_count;
static int source_fd;

/* 0, or the negative error that `call` has to give. */
static int fault(const char *call, const char *path, off_t begin, off_t end)
{
	for (size_t i = 0; i < rule_count; i++) {
		const struct rule *r = &rules[i];

		if (strcmp(r->call, call) == 0 && strcmp(r->path, path) == 0 && begin < r->end &&
		    end > r->begin)
			return -r->error;
	}
	return 0;
}

static const char *below(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	int rc = fault("getattr", path, 0, 1);

	(void)fi;
	if (rc == 0 && fstatat(source_fd, below(path), st, AT_SYMLINK_NOFOLLOW) < 0)
		rc = -errno;
	return rc;
}

static int fs_readlink(const char *path, char *out, size_t size)
{
	ssize_t n = readlinkat(source_fd, below(path), out, size - 1);

	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

static int fs_open(const char *path, struct fuse_file_info *fi)
{
	int rc = fault("open", path, 0, 1), fd;

	if (rc < 0)
		return rc;
	fd = openat(source_fd, below(path), O_RDONLY | O_CLOEXEC);
	fi->fh = (uint64_t)fd;
	fi->direct_io = 1;
	return fd < 0 ? -errno : 0;
}

static int fs_read(const char *path, char *out, size_t size, off_t offset,
		   struct fuse_file_info *fi)
{
	int rc = fault("read", path, offset, offset + (off_t)size);
	ssize_t n;

	if (rc < 0)
		return rc;
	n = pread((int)fi->fh, out, size, offset);
	return n < 0 ? -errno : (int)n;
}

static int fs_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	return close((int)fi->fh) < 0 ? -errno : 0;
}

/* One name a request, so that all others come before the fault. */
static int fs_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset,
		      struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	struct dirent **names;
	int count, rc = 0;

	(void)fi;
	(void)flags;
	count = scandirat(source_fd, below(path), &names, NULL, alphasort);
	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		if (i == count - 1 && offset == i)
			rc = fault("readdir", path, 0, 1);
		if (rc == 0 && i == offset)
			fill(buffer, names[i]->d_name, NULL, i + 1, 0);
		free(names[i]);
	}
	free(names);
	return rc;
}

static int fs_listxattr(const char *path, char *out, size_t size)
{
	int rc = fault("listxattr", path, 0, 1);

	(void)out;
	(void)size;
	return rc;
}

static const struct fuse_operations operations = {
	.getattr = fs_getattr,
	.readlink = fs_readlink,
	.open = fs_open,
	.read = fs_read,
	.release = fs_release,
	.readdir = fs_readdir,
	.listxattr = fs_listxattr,
};

static bool parse_rule(const char *text, struct rule *r)
{
	int n;

	r->begin = 0;
	r->end = 1;
	n = sscanf(text, "%15[a-z]:%d:%511[^:]:%lld:%lld", r->call, &r->error, r->path, &r->begin,
		   &r->end);
	return n == 3 || n == 5;
}

int main(int argc, char **argv)
{
	char options[] = "-odefault_permissions,allow_other,attr_timeout=0,entry_timeout=0";
	char foreground[] = "-f", single[] = "-s";

	if (argc < 3 || argc - 3 > RULES_MAX) {
		fprintf(stderr, "Usage: faultfs SOURCE MOUNTPOINT RULE...\n");
		return 2;
	}
	source_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (source_fd < 0) {
		perror(argv[1]);
		return 1;
	}
	for (; rule_count < (size_t)argc - 3; rule_count++)
		if (!parse_rule(argv[3 + rule_count], &rules[rule_count])) {
			fprintf(stderr, "faultfs: '%s' is no rule\n", argv[3 + rule_count]);
			return 2;
		}
	char *args[] = { argv[0], argv[2], options, foreground, single, NULL };
	return fuse_main(5, args, &operations, NULL);
}
