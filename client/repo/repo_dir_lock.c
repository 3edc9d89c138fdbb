/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_dir_lock.h"

#include "archive/base/cleanup.h"
#include "archive/base/digest.h"
#include "client/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

enum {
	LOCK_FILE_MODE = 0660,
	ATTEMPT_COUNT_MAX = 20, /* a lock file replaced under our hands */
	POLL_MS = 20,
	PLAIN_NAME_SIZE_MAX = 254,
	HASHED_PART_SIZE = 80,
};

#define MANIFEST_LOCK ".index.json.lck"

/* --- names --- */

static bool is_kept(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '.';
}

static int escape(const char *text, char *out, size_t size)
{
	size_t used = 0;

	while (*text == '/')
		text++;
	if (!*text)
		return snprintf(out, size, "-") < (int)size ? 0 : -ENAMETOOLONG;
	for (const char *p = text; *p; p++) {
		if (used + 5 > size)
			return -ENAMETOOLONG;
		if (*p == '/')
			out[used++] = '-';
		else if (is_kept(*p) && !(p == text && *p == '.'))
			out[used++] = *p;
		else
			used += (size_t)sprintf(out + used, "\\x%02x", (unsigned char)*p);
	}
	out[used] = '\0';
	return 0;
}

int repo_dir_lock_name(const char *relative, char *out, size_t size)
{
	char encoded[REPO_DIR_LOCK_ENCODED_MAX + 1], hex[DIGEST_HEX_SIZE];
	struct digest d;
	int n;

	if (escape(relative, encoded, sizeof(encoded)) < 0)
		return -ENAMETOOLONG;
	size_t encoded_size = strlen(encoded);
	if (encoded_size <= PLAIN_NAME_SIZE_MAX) {
		n = snprintf(out, size, "%s", encoded);
	} else {
		AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();

		if (!ctx)
			return -ENOMEM;
		digest_ctx_of(ctx, relative, strlen(relative), &d);
		digest_to_hex(&d, hex);
		n = snprintf(out, size, "hashed/%.*s...%s-%s", HASHED_PART_SIZE, encoded,
			     encoded + encoded_size - HASHED_PART_SIZE, hex);
	}
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

void repo_dir_lock_ns(const char *ns, char out[SNAPSHOT_NS_SIZE_MAX + 1])
{
	size_t i = 0;

	for (; ns[i] && i < SNAPSHOT_NS_SIZE_MAX; i++)
		out[i] = ns[i] == '/' ? ':' : ns[i];
	out[i] = '\0';
}

/* What a lock's name is made from, without the namespace. */
static void relative_path(enum repo_dir_lock_kind kind, const struct snapshot_name *s, char *out,
			  size_t size)
{
	struct snapshot_name root = *s;

	root.group.ns[0] = '\0';
	if (kind == REPO_DIR_LOCK_GROUP)
		snapshot_group_path(&root.group, out, size);
	else
		snapshot_path(&root, out, size);
	size_t used = strlen(out);
	if (kind == REPO_DIR_LOCK_MANIFEST)
		snprintf(out + used, size - used, "/" MANIFEST_LOCK);
}

/* The path of a lock file below the datastore's folder of locks. */
static int lock_path(const struct repo_dir_locks *l, enum repo_dir_lock_kind kind,
		     const struct snapshot_name *s, char *out, size_t size)
{
	char relative[SNAPSHOT_PATH_SIZE + sizeof(MANIFEST_LOCK)];
	char name[PATH_MAX], ns[SNAPSHOT_NS_SIZE_MAX + 1], time[SNAPSHOT_TIME_TEXT_SIZE];

	if (l->is_old) {
		/* Only the manifest's lock is a file then, in a folder tree of its own. */
		snapshot_path(s, relative, sizeof(relative));
		if (snapshot_time_format(s->time, time) < 0)
			return -EINVAL;
		int n = snprintf(out, size, "%s/%s/%s" MANIFEST_LOCK, l->dir, relative, time);
		return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
	}
	relative_path(kind, s, relative, sizeof(relative));
	int rc = repo_dir_lock_name(relative, name, sizeof(name));
	if (rc < 0)
		return rc;
	repo_dir_lock_ns(s->group.ns, ns);
	int n = snprintf(out, size, "%s/%s%s%s", l->dir, ns, ns[0] ? "/" : "", name);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* --- files --- */

/* Open the folder of `path`, making it; the part behind its last slash goes to `name`. */
static int open_lock_folder(const struct repo_dir_locks *l, char *path, int *dir_fd, char *name,
			    struct err *err)
{
	char *slash = strrchr(path, '/');

	if (!slash || strlen(slash + 1) > REPO_DIR_FILE_NAME_MAX)
		return err_set(err, ENAMETOOLONG, "%s: name is too long", path);
	*slash = '\0';
	strcpy(name, slash + 1);
	int fd = openat(l->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT) {
		int rc = repo_dir_file_mkdir_all(l->root_fd, path, &l->owner, err);
		if (rc < 0)
			return rc;
		fd = openat(l->root_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	*dir_fd = fd;
	return 0;
}

/* Give a complete file its name unless someone was faster. */
static int publish(int dir_fd, const char *tmp, const char *name)
{
	int rc = repo_dir_file_rename_new(dir_fd, tmp, name);

	if (rc < 0)
		unlinkat(dir_fd, tmp, 0);
	return rc == -EEXIST ? 0 : rc;
}

/* A new file under a name that nobody else has, not even one who died with it. */
static int create_tmp(int dir_fd, char *tmp, size_t size)
{
	char random[7];
	int fd = -1;

	for (int attempt = 0; fd < 0 && attempt < ATTEMPT_COUNT_MAX; attempt++) {
		repo_dir_file_random(random);
		snprintf(tmp, size, "lock.tmp_%s", random);
		fd = openat(dir_fd, tmp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
			    LOCK_FILE_MODE);
		if (fd < 0 && errno != EEXIST)
			break;
	}
	return fd;
}

/* Atomically, mode and owner included: the server must be able to open what it finds. */
static int create_lock_file(const struct repo_dir_locks *l, int dir_fd, const char *name,
			    struct err *err)
{
	char tmp[32];
	AUTO(fd) int fd = create_tmp(dir_fd, tmp, sizeof(tmp));

	if (fd < 0)
		return err_sys(err, errno, "%s: create lock file", name);
	if (repo_dir_owner_give(fd, &l->owner) < 0 || fchmod(fd, LOCK_FILE_MODE) < 0) {
		int rc = err_sys(err, errno, "%s: owner and mode of lock file", name);

		unlinkat(dir_fd, tmp, 0);
		return rc;
	}
	int rc = publish(dir_fd, tmp, name);
	return rc < 0 ? err_sys(err, -rc, "%s: create lock file", name) : 0;
}

static int open_lock_file(const struct repo_dir_locks *l, int dir_fd, const char *name,
			  enum repo_dir_lock_mode mode, int *fd, struct err *err)
{
	const int flags = O_APPEND | O_NOFOLLOW | O_CLOEXEC;
	int opened = openat(dir_fd, name, O_RDWR | flags);

	if (opened < 0 && errno == ENOENT) {
		int rc = create_lock_file(l, dir_fd, name, err);
		if (rc < 0)
			return rc;
		opened = openat(dir_fd, name, O_RDWR | flags);
	}
	/* A reader needs no more than to read: flock() does not care. */
	if (opened < 0 && (errno == EACCES || errno == EROFS) && mode == REPO_DIR_LOCK_SHARED)
		opened = openat(dir_fd, name, O_RDONLY | flags);
	if (opened < 0)
		return err_sys(err, errno, "%s", name);
	*fd = opened;
	return 0;
}

/* Is what we locked still what the name means? */
static bool is_current(int fd, int dir_fd, const char *name)
{
	struct stat ours, named;

	return fstat(fd, &ours) == 0 && fstatat(dir_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_ino == named.st_ino && ours.st_dev == named.st_dev;
}

/* --- taking --- */

/* 0, -EWOULDBLOCK after `deadline_ms`, or another errno. */
static int flock_until(int fd, enum repo_dir_lock_mode mode, int64_t deadline_ms)
{
	const struct timespec pause = { .tv_nsec = POLL_MS * 1000000L };
	int operation = (mode == REPO_DIR_LOCK_SHARED ? LOCK_SH : LOCK_EX) | LOCK_NB;

	while (flock(fd, operation) < 0) {
		if (errno != EINTR && errno != EWOULDBLOCK)
			return -errno;
		if (errno == EWOULDBLOCK && clock_now_ms() >= deadline_ms)
			return -EWOULDBLOCK;
		if (errno == EWOULDBLOCK)
			nanosleep(&pause, NULL);
	}
	return 0;
}

static int busy(enum repo_dir_lock_kind kind, const struct snapshot_name *s, struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE];

	if (kind == REPO_DIR_LOCK_GROUP) {
		snapshot_group_path(&s->group, path, sizeof(path));
		return err_set(err, EBUSY,
			       "group %s is locked: another backup of it is running, or it is "
			       "being changed",
			       path);
	}
	snapshot_path(s, path, sizeof(path));
	if (kind == REPO_DIR_LOCK_MANIFEST)
		return err_set(err, EBUSY, "the manifest of %s is locked", path);
	return err_set(err, EBUSY,
		       "snapshot %s is locked: it is being written, read or removed", path);
}

/* flock on the group's or snapshot's folder. */
static int take_folder(const struct repo_dir_locks *l, enum repo_dir_lock_kind kind,
		       enum repo_dir_lock_mode mode, int64_t deadline,
		       const struct snapshot_name *s, struct repo_dir_lock *out, struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE];
	AUTO(fd) int fd = -1;

	if (kind == REPO_DIR_LOCK_GROUP)
		snapshot_group_path(&s->group, path, sizeof(path));
	else
		snapshot_path(s, path, sizeof(path));
	int rc = repo_dir_file_open_dir(l->root_fd, path, &fd, err);
	if (rc < 0)
		return rc;
	rc = flock_until(fd, mode, deadline);
	if (rc == -EWOULDBLOCK || (rc == 0 && !is_current(fd, l->root_fd, path)))
		return busy(kind, s, err);
	if (rc < 0)
		return err_sys(err, -rc, "%s: lock", path);
	out->fd = steal_fd(&fd);
	return 0;
}

static int take_file(const struct repo_dir_locks *l, enum repo_dir_lock_kind kind,
		     enum repo_dir_lock_mode mode, int64_t deadline,
		     const struct snapshot_name *s, struct repo_dir_lock *out, struct err *err)
{
	char path[PATH_MAX];
	AUTO(fd) int dir_fd = -1;
	int rc = lock_path(l, kind, s, path, sizeof(path));

	if (rc < 0)
		return err_sys(err, -rc, "name of a lock file");
	rc = open_lock_folder(l, path, &dir_fd, out->name, err);
	for (int attempt = 0; rc == 0 && attempt < ATTEMPT_COUNT_MAX; attempt++) {
		AUTO(fd) int fd = -1;

		rc = open_lock_file(l, dir_fd, out->name, mode, &fd, err);
		if (rc < 0)
			return err_wrap(err, rc, "%s", path);
		rc = flock_until(fd, mode, deadline);
		if (rc == -EWOULDBLOCK)
			return busy(kind, s, err);
		if (rc < 0)
			return err_sys(err, -rc, "%s/%s: lock", path, out->name);
		if (is_current(fd, dir_fd, out->name)) {
			out->fd = steal_fd(&fd);
			out->dir_fd = steal_fd(&dir_fd);
			return 0;
		}
	}
	return rc < 0 ? rc : busy(kind, s, err);
}

int repo_dir_lock_take(const struct repo_dir_locks *l, enum repo_dir_lock_kind kind,
		       enum repo_dir_lock_mode mode, unsigned wait_ms,
		       const struct snapshot_name *s, struct repo_dir_lock *out, struct err *err)
{
	struct repo_dir_lock taken = REPO_DIR_LOCK_INIT;
	int64_t deadline = clock_now_ms() + wait_ms;
	int rc;

	taken.name[0] = '\0';
	if (l->is_old && kind != REPO_DIR_LOCK_MANIFEST)
		rc = take_folder(l, kind, mode, deadline, s, &taken, err);
	else
		rc = take_file(l, kind, mode, deadline, s, &taken, err);
	if (rc == 0)
		*out = taken;
	return rc;
}

void repo_dir_lock_drop(struct repo_dir_lock *lock, bool remove)
{
	/* Before it is unlocked: whoever opened the file meanwhile sees that its name is gone. */
	if (remove && lock->fd >= 0 && lock->name[0])
		unlinkat(lock->dir_fd, lock->name, 0);
	if (lock->fd >= 0)
		close(lock->fd);
	if (lock->dir_fd >= 0)
		close(lock->dir_fd);
	*lock = (struct repo_dir_lock)REPO_DIR_LOCK_INIT;
}

int repo_dir_lock_process(const struct repo_dir_locks *l, int *fd, struct err *err)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	AUTO(fd) int opened = openat(l->root_fd, ".lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (opened < 0 && errno == ENOENT) {
		AUTO(repo_dir_file_tmp) struct repo_dir_file_tmp tmp = REPO_DIR_FILE_TMP_INIT;
		int rc = repo_dir_file_tmp_open(&tmp, l->root_fd, ".lock", &l->owner, err);

		if (rc < 0)
			return rc;
		rc = publish(l->root_fd, tmp.name, ".lock");
		tmp.name[0] = '\0'; /* renamed or removed */
		if (rc < 0)
			return err_sys(err, -rc, ".lock: create");
		opened = openat(l->root_fd, ".lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (opened < 0)
		return err_sys(err, errno, ".lock");
	/* An open file description lock: closing another descriptor of the file in this
	 * process does not drop it, as it would drop a traditional record lock. */
	if (fcntl(opened, F_OFD_SETLK, &lock) < 0) {
		if (errno == EAGAIN || errno == EACCES)
			return err_set(err, EBUSY,
				       "garbage collection is running: try again when it is done");
		return err_sys(err, errno, ".lock: lock");
	}
	*fd = steal_fd(&opened);
	return 0;
}
