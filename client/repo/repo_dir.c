/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a datastore directory, and what it lists. */
#include "client/repo/repo_dir_priv.h"

#include "archive/base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct repo_dir *self(struct repo *r)
{
	return (struct repo_dir *)r;
}

/* --- listing --- */

typedef int entry_visit(void *arg, int dir_fd, const char *name, struct err *err);

static bool is_folder(int dir_fd, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return fstatat(dir_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Something else of that name, which is no folder and leads to none. */
static bool is_stray(int at, const char *path)
{
	struct stat st;

	return fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
	       !S_ISLNK(st.st_mode);
}

/* Call `visit` for each folder in `path`; it must skip names that cannot be ours: what else
 * people put there is none of our business, a file of that name neither.  A link is: it may lead
 * to snapshots, which nobody shall miss.  -ENOENT without a message. */
static int each_folder(int at, const char *path, entry_visit *visit, void *arg, struct err *err)
{
	AUTO(fd) int fd = openat(at, path[0] ? path : ".",
				 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int code = fd < 0 ? errno : 0;

	if (code == ENOENT || (code == ENOTDIR && is_stray(at, path)))
		return -ENOENT;
	if (code)
		return err_sys(err, code, "%s", path);
	DIR *dir = fdopendir(fd);
	if (!dir)
		return err_sys(err, errno, "%s", path);
	int dir_fd = steal_fd(&fd);
	int rc = 0;

	struct dirent *e;
	while (rc == 0 && (errno = 0, e = readdir(dir)) != NULL)
		if (is_folder(dir_fd, e))
			rc = visit(arg, dir_fd, e->d_name, err);
	if (rc == 0 && errno != 0)
		rc = err_sys(err, errno, "%s: list", path);
	closedir(dir);
	return rc;
}

struct ns_walk {
	repo_ns_visit *visit;
	void *arg;
	char ns[SNAPSHOT_NS_SIZE_MAX + 1];
	int depth;
};

static int walk_ns(struct ns_walk *w, int at, struct err *err);

static int visit_ns(void *arg, int dir_fd, const char *name, struct err *err)
{
	struct ns_walk *w = arg;
	size_t used = strlen(w->ns), room = sizeof(w->ns) - used;
	int n = snprintf(w->ns + used, room, "%s%s", used ? "/" : "", name);

	/* Deeper or longer than a namespace can be: nothing can live there. */
	if (!snapshot_is_safe_id(name) || w->depth >= SNAPSHOT_NS_DEPTH_MAX || n < 0 ||
	    (size_t)n >= room) {
		w->ns[used] = '\0';
		return 0;
	}
	w->depth++;
	int rc = w->visit(w->arg, w->ns);
	if (rc == 0) {
		AUTO(fd) int fd = openat(dir_fd, name,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		if (fd < 0 && errno != ENOENT)
			rc = err_sys(err, errno, "namespace %s", w->ns);
		else if (fd >= 0)
			rc = walk_ns(w, fd, err);
	}
	w->depth--;
	w->ns[used] = '\0';
	return rc;
}

static int walk_ns(struct ns_walk *w, int at, struct err *err)
{
	int rc = each_folder(at, "ns", visit_ns, w, err);

	return rc == -ENOENT ? 0 : rc;
}

static int open_ns(struct repo_dir *d, const char *ns, int *fd, struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE];

	snapshot_ns_path(ns, path, sizeof(path));
	int rc = repo_dir_file_open_dir(d->root_fd, path[0] ? path : ".", fd, err);
	if (rc == -ENOENT)
		return err_set(err, ENOENT, "%s: there is no namespace %s", d->base.spelling, ns);
	return rc < 0 ? err_wrap(err, rc, "%s", d->base.spelling) : 0;
}

static int list_ns(struct repo *r, const char *ns, repo_ns_visit *visit, void *arg,
		   struct err *err)
{
	struct ns_walk w = { .visit = visit, .arg = arg };
	AUTO(fd) int fd = -1;
	int rc = snapshot_ns_parse(ns, w.ns, err);

	if (rc == 0)
		rc = open_ns(self(r), w.ns, &fd, err);
	if (rc < 0)
		return rc;
	for (const char *p = w.ns; *p; p++)
		w.depth += p == w.ns || *p == '/';
	rc = walk_ns(&w, fd, err);
	return rc < 0 ? err_wrap(err, rc, "%s", r->spelling) : 0;
}

bool repo_dir_is_finished(int dir_fd, const char *snapshot_path)
{
	char path[SNAPSHOT_PATH_SIZE + sizeof(MANIFEST_BLOB_NAME)];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", snapshot_path, MANIFEST_BLOB_NAME);
	return fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

struct group_list {
	repo_group_visit *visit;
	void *arg;
	struct repo_group_info info;
};

static int count_snapshot(void *arg, int dir_fd, const char *name, struct err *err)
{
	struct repo_group_info *info = arg;
	int64_t time;

	(void)err;
	if (snapshot_time_parse(name, &time) < 0)
		return 0;
	info->backup_count++;
	if (time > info->last_backup && repo_dir_is_finished(dir_fd, name))
		info->last_backup = time;
	return 0;
}

void repo_dir_read_owner(int group_fd, char *out, size_t size)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(4096);

	out[0] = '\0';
	if (repo_dir_file_read(group_fd, REPO_DIR_OWNER, text.size_max, &text, NULL) < 0)
		return;
	size_t used = 0;
	while (used < text.size && text.data[used] != '\n' && text.data[used] != '\0')
		used++;
	while (used > 0 && (text.data[used - 1] == ' ' || text.data[used - 1] == '\t' ||
			    text.data[used - 1] == '\r'))
		used--;
	if (used < size) {
		memcpy(out, text.data, used);
		out[used] = '\0';
	}
}

static int visit_group(void *arg, int dir_fd, const char *name, struct err *err)
{
	struct group_list *l = arg;
	AUTO(fd) int fd = -1;
	int rc;

	if (!snapshot_is_safe_id(name) || strlen(name) > SNAPSHOT_ID_SIZE_MAX)
		return 0;
	strcpy(l->info.group.id, name);
	l->info.last_backup = 0;
	l->info.backup_count = 0;
	rc = repo_dir_file_open_dir(dir_fd, name, &fd, err);
	if (rc == 0)
		rc = each_folder(fd, "", count_snapshot, &l->info, err);
	if (rc == -ENOENT) /* removed meanwhile */
		return 0;
	if (rc < 0)
		return err_wrap(err, rc, "group %s/%s", l->info.group.type, name);
	repo_dir_read_owner(fd, l->info.owner, sizeof(l->info.owner));
	return l->visit(l->arg, &l->info);
}

static int list_groups(struct repo *r, const char *ns, repo_group_visit *visit, void *arg,
		       struct err *err)
{
	struct group_list l = { .visit = visit, .arg = arg };
	AUTO(fd) int fd = -1;
	int rc = snapshot_ns_parse(ns, l.info.group.ns, err);

	if (rc == 0)
		rc = open_ns(self(r), ns, &fd, err);
	for (unsigned i = 0; rc == 0 && snapshot_type(i); i++) {
		strcpy(l.info.group.type, snapshot_type(i));
		rc = each_folder(fd, snapshot_type(i), visit_group, &l, err);
		if (rc == -ENOENT)
			rc = 0;
		else if (rc < 0)
			rc = err_wrap(err, rc, "%s", r->spelling);
	}
	return rc;
}

struct snapshot_list {
	repo_snapshot_visit *visit;
	void *arg;
	struct repo_snapshot_info info;
};

static int visit_snapshot(void *arg, int dir_fd, const char *name, struct err *err)
{
	char marker[SNAPSHOT_TIME_TEXT_SIZE + sizeof(REPO_DIR_PROTECTED)];
	struct snapshot_list *l = arg;

	(void)err;
	if (snapshot_time_parse(name, &l->info.name.time) < 0)
		return 0;
	snprintf(marker, sizeof(marker), "%s/%s", name, REPO_DIR_PROTECTED);
	l->info.finished = repo_dir_is_finished(dir_fd, name);
	l->info.is_protected = faccessat(dir_fd, marker, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	return l->visit(l->arg, &l->info);
}

static int list_snapshots(struct repo *r, const struct snapshot_group *group,
			  repo_snapshot_visit *visit, void *arg, struct err *err)
{
	struct snapshot_list l = { .visit = visit, .arg = arg, .info.name.group = *group };
	char path[SNAPSHOT_PATH_SIZE];

	snapshot_group_path(group, path, sizeof(path));
	int rc = each_folder(self(r)->root_fd, path, visit_snapshot, &l, err);
	return rc == -ENOENT ? 0 : rc < 0 ? err_wrap(err, rc, "%s", r->spelling) : 0;
}

/* --- opening --- */

static enum archive_names default_names(struct repo *r)
{
	return self(r)->store[0] ? ARCHIVE_NAMES_PBS : ARCHIVE_NAMES_DESIGN;
}

static void dir_free(struct repo *r)
{
	struct repo_dir *d = self(r);

	if (d->root_fd >= 0)
		close(d->root_fd);
	if (d->chunks_fd >= 0)
		close(d->chunks_fd);
	free(d->base.spelling);
	free(d);
}

static const struct repo_ops OPS = {
	.list_ns = list_ns,
	.list_groups = list_groups,
	.list_snapshots = list_snapshots,
	.read = repo_dir_read,
	.write = repo_dir_write,
	.put_log = repo_dir_put_log,
	.care = &REPO_DIR_CARE,
	.default_names = default_names,
	.reuses_any_chunk = true,
	.free = dir_free,
};

/* A store of the server: its locks, its owner, and when not to write at all. */
static int use_server(struct repo_dir *d, const struct repo_dir_host *host,
		      const struct repo_dir_host_store *s)
{
	struct repo_dir_owner owner = { .set = false };
	struct err why = ERR_INIT;
	char old[PATH_MAX];

	strcpy(d->store, s->name);
	d->locks.is_server = true;
	int n = snprintf(d->locks.dir, sizeof(d->locks.dir), "%s/locks/%s", host->run_dir, s->name);
	if (n < 0 || (size_t)n >= sizeof(d->locks.dir))
		return -ENAMETOOLONG;
	snprintf(old, sizeof(old), "%s/old-locking", host->run_dir);
	d->locks.is_old = faccessat(AT_FDCWD, old, F_OK, 0) == 0;

	int rc = repo_dir_host_owner(host, &owner, &why);
	if (rc < 0)
		snprintf(d->no_write, sizeof(d->no_write), "%s", why.text);
	else if (geteuid() != 0 && geteuid() != owner.uid)
		snprintf(d->no_write, sizeof(d->no_write),
			 "it is a datastore of the backup server (%s): only root and user %s may "
			 "write into it",
			 s->name, host->user);
	else if (s->is_s3)
		snprintf(d->no_write, sizeof(d->no_write),
			 "it is only the cache of a datastore in S3 (%s)", s->name);
	else if (s->is_in_maintenance)
		snprintf(d->no_write, sizeof(d->no_write), "datastore %s is in maintenance mode",
			 s->name);
	owner.set = owner.set && geteuid() == 0;
	d->locks.owner = owner;
	return 0;
}

/* datastore.cfg cannot be read, as is usual for other users than root and `backup`.  Then
 * only a directory that belongs to `backup` can be one of the server's. */
static void use_unknown(struct repo_dir *d, const struct repo_dir_host *host, int rc,
			const struct err *why)
{
	struct repo_dir_owner server;
	struct stat st;

	if (rc == -EACCES && repo_dir_host_owner(host, &server, NULL) == 0 &&
	    fstat(d->root_fd, &st) == 0 && st.st_uid != server.uid)
		return;
	snprintf(d->no_lock, sizeof(d->no_lock), "cannot tell which locks to use: %.*s",
		 ERR_TEXT_SIZE - 64, err_text(why, rc));
	snprintf(d->no_write, sizeof(d->no_write), "%s", d->no_lock);
}

static int choose_locks(struct repo_dir *d, const struct repo_dir_host *host, struct err *err)
{
	struct repo_dir_host_store store;
	struct err why = ERR_INIT;
	int rc = repo_dir_host_find(host, d->root_fd, &store, &why);

	d->locks.root_fd = d->root_fd;
	d->locks.owner = repo_dir_owner_of(d->root_fd);
	strcpy(d->locks.dir, REPO_DIR_OWN_LOCKS);
	if (rc < 0)
		use_unknown(d, host, rc, &why);
	else if (store.name[0] && use_server(d, host, &store) < 0)
		return err_set(err, ENAMETOOLONG, "path of the locks is too long");
	return 0;
}

int repo_dir_check_writable(const struct repo_dir *d, struct err *err)
{
	if (!d->no_write[0])
		return 0;
	return err_set(err, EACCES, "%s: cannot be written to: %s", d->base.spelling, d->no_write);
}

int repo_dir_open_on(const char *path, const struct repo_dir_host *host, struct repo **out,
		     struct err *err)
{
	struct repo_dir *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(err, ENOMEM, "out of memory");
	d->base.ops = &OPS;
	d->chunks_fd = -1;
	d->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	AUTO(repo) struct repo *owned = &d->base;

	if (d->root_fd < 0)
		return err_sys(err, errno, "repository %s", path);
	d->base.spelling = strdup(path);
	if (!d->base.spelling)
		return err_set(err, ENOMEM, "out of memory");
	d->chunks_fd = openat(d->root_fd, REPO_DIR_CHUNKS, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (d->chunks_fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return err_set(err, ENOENT,
			       "%s is no datastore: it has no folder .chunks ('pxarfs init' makes "
			       "one)",
			       path);
	if (d->chunks_fd < 0)
		return err_sys(err, errno, "%s/%s", path, REPO_DIR_CHUNKS);
	int rc = choose_locks(d, host, err);
	if (rc < 0)
		return err_wrap(err, rc, "%s", path);
	*out = steal(&owned);
	return 0;
}

int repo_dir_open(const char *path, struct repo **out, struct err *err)
{
	return repo_dir_open_on(path, &REPO_DIR_HOST, out, err);
}
