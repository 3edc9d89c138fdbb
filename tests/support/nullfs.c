/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nullfs - the empty server that the mount is measured against: a tree in memory behind FUSE.
 *
 *	nullfs [-o OPTIONS] SOURCE MOUNTPOINT
 *
 * It takes names, attributes and link targets of SOURCE into memory, then serves them with the
 * mount's own loop, options and kernel features, and does nothing else: what is left between
 * it and the mount is the archive.  Files hold a pattern, not their content.  Runs in the
 * foreground until it is unmounted or gets SIGINT or SIGTERM; SIGUSR1 prints its counters.
 */
#include "fuse/idle_poll.h"
#include "fuse/loop.h"
#include "fuse/plus.h"
#include "fuse/session.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	PATTERN_SIZE = 1 << 20,
	IOV_MAX_COUNT = 8,
};

/* Inode number = index + 1; a folder's members lie next to each other, sorted by name. */
struct node {
	char *name;
	char *target;
	struct stat st;
	size_t parent, first, count;
};

static struct node *nodes;
static size_t node_count, node_capacity;
static uint8_t pattern[PATTERN_SIZE];
static struct plus plus_state;

enum { C_LOOKUP, C_GETATTR, C_READDIR, C_READDIRPLUS, C_OPEN, C_OPENDIR, C_READ, C_XATTR, C_COUNT };
static const char *const counter_names[C_COUNT] = { "lookup",  "getattr", "readdir", "readdirplus",
						    "open",    "opendir", "read",    "xattr" };
static atomic_ulong counters[C_COUNT];

static void die(const char *what)
{
	fprintf(stderr, "nullfs: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *checked(void *p)
{
	if (!p)
		die("out of memory");
	return p;
}

/* --- the tree --- */

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct node *)a)->name, ((const struct node *)b)->name);
}

static size_t add_node(const char *name, const struct stat *st, size_t parent)
{
	if (node_count == node_capacity) {
		node_capacity = node_capacity ? 2 * node_capacity : 4096;
		nodes = checked(realloc(nodes, node_capacity * sizeof(*nodes)));
	}
	nodes[node_count] = (struct node){ .name = checked(strdup(name)),
					   .st = *st,
					   .parent = parent };
	return node_count++;
}

static void add_member(int dir_fd, const char *name, size_t parent)
{
	char target[SESSION_TARGET_SIZE_MAX + 1];
	struct stat st;
	size_t i;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	i = add_node(name, &st, parent);
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);

		target[n < 0 ? 0 : n] = '\0';
		nodes[i].target = checked(strdup(target));
	}
}

/* Take a folder's members, then theirs; other file systems stay empty.  Takes `fd` over. */
static void load(int fd, size_t self)
{
	DIR *dir = fdopendir(fd);
	const struct dirent *d;
	size_t first = node_count;

	if (!dir) {
		close(fd);
		return;
	}
	while ((d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			add_member(fd, d->d_name, self);
	nodes[self].first = first;
	nodes[self].count = node_count - first;
	qsort(nodes + first, node_count - first, sizeof(*nodes), by_name);
	for (size_t i = first; i < first + nodes[self].count; i++) {
		int sub;

		if (!S_ISDIR(nodes[i].st.st_mode) || nodes[i].st.st_dev != nodes[self].st.st_dev)
			continue;
		sub = openat(fd, nodes[i].name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub >= 0)
			load(sub, i);
	}
	closedir(dir);
}

static void load_source(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		die(path);
	add_node("", &st, 0);
	load(fd, 0);
}

static void free_tree(void)
{
	for (size_t i = 0; i < node_count; i++) {
		free(nodes[i].name);
		free(nodes[i].target);
	}
	free(nodes);
}

/* --- the operations --- */

static struct node *node_of(fuse_ino_t ino)
{
	return ino >= 1 && ino <= node_count ? &nodes[ino - 1] : NULL;
}

static void fill_attr(const struct node *n, struct stat *st)
{
	*st = n->st;
	st->st_ino = (ino_t)(n - nodes) + 1;
	st->st_atim = st->st_ctim = st->st_mtim;
	if (S_ISDIR(st->st_mode)) {
		st->st_nlink = 1;
		st->st_blksize = SESSION_FOLDER_BLOCK_SIZE;
	}
}

static void fill_entry(const struct node *n, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){ .ino = (fuse_ino_t)(n - nodes) + 1,
					.attr_timeout = SESSION_ENDLESS,
					.entry_timeout = SESSION_ENDLESS };
	fill_attr(n, &e->attr);
}

static void op_init(void *user, struct fuse_conn_info *conn)
{
	(void)user;
	session_want(conn);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .entry_timeout = SESSION_ENDLESS };
	const struct node *dir = node_of(parent);
	struct node key = { .name = (char *)name };
	const struct node *n;

	counters[C_LOOKUP]++;
	if (!dir) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	plus_looked_up(&plus_state, dir->count);
	n = bsearch(&key, nodes + dir->first, dir->count, sizeof(*nodes), by_name);
	if (n)
		fill_entry(n, &e);
	fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	const struct node *n = node_of(ino);
	struct stat st;

	(void)fi;
	counters[C_GETATTR]++;
	if (!n) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	fill_attr(n, &st);
	fuse_reply_attr(req, &st, SESSION_ENDLESS);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	const struct node *n = node_of(ino);

	if (n && n->target)
		fuse_reply_readlink(req, n->target);
	else
		fuse_reply_err(req, EINVAL);
}

/* Offset 0 and 1 are "." and "..", k + 2 is member k. */
static size_t put_member(fuse_req_t req, const struct node *dir, size_t k, bool plus, char *buf,
			 size_t room)
{
	const struct node *n = k == 0 ? dir : k == 1 ? &nodes[dir->parent] :
						       &nodes[dir->first + k - 2];
	const char *name = k == 0 ? "." : k == 1 ? ".." : n->name;
	struct fuse_entry_param e;

	fill_entry(n, &e);
	if (!plus)
		return fuse_add_direntry(req, buf, room, name, &e.attr, (off_t)k + 1);
	if (k < 2 || !plus_wanted(&plus_state, dir->count))
		e.ino = 0;
	return fuse_add_direntry_plus(req, buf, room, name, &e, (off_t)k + 1);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool plus)
{
	const struct node *dir = node_of(ino);
	char *buf = malloc(size);
	size_t used = 0;

	if (!dir || !buf) {
		free(buf);
		fuse_reply_err(req, dir ? ENOMEM : ESTALE);
		return;
	}
	for (size_t k = (size_t)offset; k < dir->count + 2; k++) {
		size_t n = put_member(req, dir, k, plus, buf + used, size - used);

		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
	free(buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		       struct fuse_file_info *fi)
{
	(void)fi;
	counters[C_READDIR]++;
	list(req, ino, size, offset, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			   struct fuse_file_info *fi)
{
	(void)fi;
	counters[C_READDIRPLUS]++;
	list(req, ino, size, offset, true);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	counters[C_OPEN]++;
	fuse_reply_err(req, ENOSYS);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	counters[C_OPENDIR]++;
	fuse_reply_err(req, ENOSYS);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
		    struct fuse_file_info *fi)
{
	const struct node *n = node_of(ino);
	struct iovec iov[IOV_MAX_COUNT];
	size_t begin = (size_t)offset % PATTERN_SIZE;
	int count = 0;

	(void)fi;
	counters[C_READ]++;
	if (!n || offset >= n->st.st_size)
		size = 0;
	else if ((off_t)size > n->st.st_size - offset)
		size = (size_t)(n->st.st_size - offset);
	for (; size > 0 && count < IOV_MAX_COUNT; count++) {
		size_t piece = size < PATTERN_SIZE - begin ? size : PATTERN_SIZE - begin;

		iov[count] = (struct iovec){ pattern + begin, piece };
		size -= piece;
		begin = 0;
	}
	fuse_reply_iov(req, iov, count);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_blocks = 1, .f_namemax = 255 };

	(void)ino;
	fuse_reply_statfs(req, &st);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	(void)ino;
	(void)name;
	(void)size;
	counters[C_XATTR]++;
	fuse_reply_err(req, ENODATA);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	(void)ino;
	counters[C_XATTR]++;
	if (size == 0)
		fuse_reply_xattr(req, 0);
	else
		fuse_reply_buf(req, NULL, 0);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.open = op_open,
	.opendir = op_opendir,
	.read = op_read,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
};

/* --- the program --- */

static void print_counters(void)
{
	for (int i = 0; i < C_COUNT; i++)
		fprintf(stderr, "%s %lu%c", counter_names[i], atomic_exchange(&counters[i], 0),
			i + 1 < C_COUNT ? ' ' : '\n');
}

/* The kernel ended the connection: wake main as a signal would. */
static void on_end(void *arg)
{
	pthread_kill(*(pthread_t *)arg, SIGINT);
}

static int serve(const struct mount_opts *opts, const char *source, const char *mount_point)
{
	pthread_t self = pthread_self();
	struct loop_params params = { .reader_count = opts->reader_count,
				      .spin_us = LOOP_SPIN_US,
				      .ended = on_end,
				      .arg = &self };
	struct session session = { 0 };
	AUTO(idle_poll) struct idle_poll *idle_poll = NULL;
	struct loop *loop = NULL;
	struct err err = ERR_INIT;
	sigset_t signals;
	int rc, signal = 0;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	rc = opts->idle_poll ? idle_poll_new(&idle_poll, NULL, &err) : 0;
	params.idle_poll = idle_poll;
	if (rc == 0)
		rc = session_new(&session, opts, source, "nullfs", &ops, NULL, &err);
	if (rc == 0)
		rc = session_mount(&session, mount_point, &err);
	if (rc == 0)
		rc = loop_start(&loop, session.fuse, &params, &err);
	while (rc == 0 && (sigwait(&signals, &signal) != 0 || signal == SIGUSR1))
		print_counters();
	loop_free(loop);
	session_release(&session);
	if (rc < 0)
		fprintf(stderr, "nullfs: %s\n", err_text(&err, rc));
	return rc < 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	struct mount_opts opts;
	int option, status;

	mount_opts_init(&opts, geteuid() == 0);
	while ((option = getopt(argc, argv, "o:")) != -1)
		if (option != 'o' || mount_opts_parse(&opts, optarg, &err) < 0) {
			fprintf(stderr, "nullfs: %s\n", err_text(&err, -EINVAL));
			return 2;
		}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: nullfs [-o OPTIONS] SOURCE MOUNTPOINT\n");
		return 2;
	}
	for (size_t i = 0; i < PATTERN_SIZE; i++)
		pattern[i] = (uint8_t)(i * 2654435761u >> 13);
	load_source(argv[optind]);
	status = serve(&opts, argv[optind], argv[optind + 1]);
	free_tree();
	return status;
}
