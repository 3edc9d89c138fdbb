/* SPDX-License-Identifier: Apache-2.0 */
/* Making a datastore directory. */
#include "client/repo/repo_dir_priv.h"

#include "archive/base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_FOLDER_COUNT = 65536 };

/* Hidden files and lost+found are what a fresh file system or home may hold. */
static int check_empty(int root_fd, struct err *err)
{
	AUTO(fd) int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		return err_sys(err, errno, "list");
	steal_fd(&fd);
	int rc = 0;
	struct dirent *e;
	while (rc == 0 && (errno = 0, e = readdir(dir)) != NULL)
		if (e->d_name[0] != '.' && strcmp(e->d_name, "lost+found") != 0)
			rc = err_set(err, ENOTEMPTY, "is not empty: it holds '%.64s'", e->d_name);
	if (rc == 0 && errno != 0)
		rc = err_sys(err, errno, "list");
	closedir(dir);
	return rc;
}

static bool exists(int at, const char *name)
{
	return faccessat(at, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int make_chunk_folders(int chunks_fd, const struct repo_dir_owner *o, struct err *err)
{
	char name[8];

	for (unsigned i = 0; i < CHUNK_FOLDER_COUNT; i++) {
		snprintf(name, sizeof(name), "%04x", i);
		if (mkdirat(chunks_fd, name, REPO_DIR_CHUNKS_MODE) < 0 && errno != EEXIST)
			return err_sys(err, errno, "%s: make folder", name);
		/* By name, not by opening each, which would take three times as long. */
		if (o->set && fchownat(chunks_fd, name, o->uid, o->gid, AT_SYMLINK_NOFOLLOW) < 0 &&
		    !o->if_possible)
			return err_sys(err, errno, "%s: change owner", name);
		if (fchmodat(chunks_fd, name, REPO_DIR_CHUNKS_MODE, 0) < 0)
			return err_sys(err, errno, "%s: change mode", name);
	}
	return 0;
}

/* The folder itself, with its owner and mode. */
static int open_root(const char *path, int *fd, struct err *err)
{
	if (mkdir(path, REPO_DIR_FOLDER_MODE) < 0 && errno != EEXIST)
		return err_sys(err, errno, "make folder");
	int opened = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (opened < 0)
		return err_sys(err, errno, "open");
	*fd = opened;
	return 0;
}

/* Blobs and indexes are files that all may read, as a server wants them: who may not enter the
 * chunks shall not get at those either.  Only a server's directory has to be open; one that is
 * closed to more is left so. */
static int set_root_mode(int root_fd, bool servers, struct err *err)
{
	struct stat st;

	if (fstat(root_fd, &st) < 0)
		return err_sys(err, errno, "mode");
	mode_t mode = servers ? REPO_DIR_FOLDER_MODE :
				(st.st_mode & REPO_DIR_CHUNKS_MODE) | S_IRWXU;
	return fchmod(root_fd, mode) < 0 ? err_sys(err, errno, "change mode") : 0;
}

static int make_layout(int root_fd, bool full, const struct repo_dir_locks *locks,
		       struct err *err)
{
	AUTO(fd) int chunks_fd = -1;
	const struct repo_dir_owner *o = &locks->owner;

	if (repo_dir_owner_give(root_fd, o) < 0)
		return err_sys(err, errno, "change owner");
	int rc = set_root_mode(root_fd, full || (o->set && !o->if_possible), err);
	if (rc < 0)
		return rc;
	rc = repo_dir_file_mkdir(root_fd, REPO_DIR_CHUNKS, REPO_DIR_CHUNKS_MODE, o, NULL, err);
	if (rc == 0)
		rc = repo_dir_file_open_dir(root_fd, REPO_DIR_CHUNKS, &chunks_fd, err);
	if (rc == 0 && full)
		rc = make_chunk_folders(chunks_fd, o, err);
	if (rc < 0)
		return rc;
	/* Comes last and says that all is there: what died before can be repeated. */
	AUTO(fd) int lock_fd = -1;
	rc = repo_dir_lock_process(locks, &lock_fd, err);
	if (rc == 0 && syncfs(root_fd) < 0)
		rc = err_sys(err, errno, "sync the file system");
	return rc;
}

static int init_at(const char *path, bool full, struct err *err)
{
	struct repo_dir_host_store store;
	struct repo_dir_locks locks = { .dir = REPO_DIR_OWN_LOCKS };
	AUTO(fd) int root_fd = -1;
	int rc = open_root(path, &root_fd, err);

	if (rc < 0)
		return rc;
	if (exists(root_fd, REPO_DIR_CHUNKS) && exists(root_fd, ".lock"))
		return err_set(err, EEXIST, "is a datastore already");
	rc = check_empty(root_fd, err);
	if (rc < 0)
		return rc;
	locks.root_fd = root_fd;
	locks.owner = repo_dir_owner_of(root_fd);
	/* Named in the server's configuration before it exists: then it is the server's. */
	if (geteuid() == 0 && repo_dir_host_find(&REPO_DIR_HOST, root_fd, &store, NULL) == 0 &&
	    store.name[0]) {
		rc = repo_dir_host_owner(&REPO_DIR_HOST, &locks.owner, err);
		if (rc < 0)
			return rc;
	}
	return make_layout(root_fd, full, &locks, err);
}

int repo_dir_init(const char *path, bool full, struct err *err)
{
	int rc = init_at(path, full, err);

	return rc < 0 ? err_wrap(err, rc, "%s", path) : 0;
}
