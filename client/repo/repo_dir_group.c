/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_dir_group.h"

#include "archive/base/cleanup.h"
#include "client/repo/pbs_name.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- owner --- */

static int any_snapshot(void *arg, const struct repo_snapshot_info *info)
{
	(void)info;
	*(bool *)arg = true;
	return 0;
}

/* Fresh groups have no owner; so does one whose maker died before it wrote it. */
static int write_owner(struct repo_dir *d, int fd, const struct snapshot_group *g,
		       const char *auth_id, struct err *err)
{
	char line[sizeof(((struct repo_group_info *)NULL)->owner) + 1];
	bool has_snapshots = false;
	int rc = repo_list_snapshots(&d->base, g, any_snapshot, &has_snapshots, err);

	if (rc < 0)
		return rc;
	if (has_snapshots)
		return err_set(err, EACCES, "its owner cannot be read, but it has snapshots");
	int n = snprintf(line, sizeof(line), "%s\n", auth_id);
	return repo_dir_file_replace(fd, REPO_DIR_OWNER, line, (size_t)n, &d->locks.owner, err);
}

static int check_owner(struct repo_dir *d, const char *path, const struct snapshot_group *g,
		       const char *auth_id, struct err *err)
{
	char owner[sizeof(((struct repo_group_info *)NULL)->owner)];
	AUTO(fd) int fd = -1;
	int rc = repo_dir_file_open_dir(d->root_fd, path, &fd, err);

	if (rc < 0)
		return rc;
	repo_dir_read_owner(fd, owner, sizeof(owner));
	if (!owner[0])
		rc = write_owner(d, fd, g, auth_id, err);
	else if (!pbs_name_owns(auth_id, owner))
		rc = err_set(err, EACCES, "it belongs to %s, not to %s", owner, auth_id);
	return rc < 0 ? err_wrap(err, rc, "group %s", path) : 0;
}

/* --- entering --- */

static int make_parents(struct repo_dir *d, const struct snapshot_group *g, struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE];

	snapshot_ns_path(g->ns, path, sizeof(path));
	if (path[0] && faccessat(d->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		/* In a store of the server namespaces carry rights: they are made there. */
		if (d->store[0])
			return err_set(err, ENOENT, "there is no namespace %s", g->ns);
		int rc = repo_dir_file_mkdir_all(d->root_fd, path, &d->locks.owner, err);
		if (rc < 0)
			return rc;
	}
	size_t used = strlen(path);
	snprintf(path + used, sizeof(path) - used, "%s%s", used ? "/" : "", g->type);
	return repo_dir_file_mkdir(d->root_fd, path, REPO_DIR_FOLDER_MODE, &d->locks.owner, NULL,
				   err);
}

int repo_dir_group_enter(struct repo_dir *d, const struct snapshot_group *g, const char *owner,
			 struct repo_dir_lock *lock, bool *made, struct err *err)
{
	AUTO(repo_dir_lock) struct repo_dir_lock taken = REPO_DIR_LOCK_INIT;
	const struct snapshot_name s = { .group = *g };
	char path[SNAPSHOT_PATH_SIZE];
	bool new_folder = false;

	if (!owner || !pbs_name_is_auth_id(owner, NULL))
		return err_set(err, EINVAL, "'%s' cannot own a group: expected USER@REALM",
			       owner ? owner : "");
	snapshot_group_path(g, path, sizeof(path));
	int rc = make_parents(d, g, err);
	/* The old locks are the folders themselves, so those must come first. */
	if (rc == 0 && d->locks.is_old)
		rc = repo_dir_file_mkdir(d->root_fd, path, REPO_DIR_FOLDER_MODE, &d->locks.owner,
					 &new_folder, err);
	if (rc == 0)
		rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_GROUP, REPO_DIR_LOCK_EXCLUSIVE, 0,
					&s, &taken, err);
	if (rc == 0 && !d->locks.is_old)
		rc = repo_dir_file_mkdir(d->root_fd, path, REPO_DIR_FOLDER_MODE, &d->locks.owner,
					 &new_folder, err);
	if (rc == 0)
		rc = check_owner(d, path, g, owner, err);
	if (rc < 0) {
		repo_dir_group_leave(d, g, new_folder, &taken);
		return rc;
	}
	*lock = taken;
	taken = (struct repo_dir_lock)REPO_DIR_LOCK_INIT;
	*made = new_folder;
	return 0;
}

bool repo_dir_group_leave(struct repo_dir *d, const struct snapshot_group *g, bool empty,
			  struct repo_dir_lock *lock)
{
	static const char *const files[] = { REPO_DIR_NOTES, REPO_DIR_OWNER };
	char path[SNAPSHOT_PATH_SIZE], file[SNAPSHOT_PATH_SIZE + sizeof("/" REPO_DIR_OWNER)];
	bool has_snapshots = false;
	bool is_gone = false;

	if (empty && lock->fd >= 0 &&
	    repo_list_snapshots(&d->base, g, any_snapshot, &has_snapshots, NULL) == 0 &&
	    !has_snapshots) {
		snapshot_group_path(g, path, sizeof(path));
		for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
			snprintf(file, sizeof(file), "%s/%s", path, files[i]);
			unlinkat(d->root_fd, file, 0);
		}
		is_gone = unlinkat(d->root_fd, path, AT_REMOVEDIR) == 0;
	}
	repo_dir_lock_drop(lock, is_gone);
	return is_gone;
}

/* --- snapshots --- */

int repo_dir_group_remove_snapshot(struct repo_dir *d, const struct snapshot_name *s,
				   struct repo_dir_lock *lock, struct err *err)
{
	struct repo_dir_lock manifest = REPO_DIR_LOCK_INIT;
	char path[SNAPSHOT_PATH_SIZE], file[SNAPSHOT_PATH_SIZE + sizeof("/" MANIFEST_BLOB_NAME)];

	snapshot_path(s, path, sizeof(path));
	snprintf(file, sizeof(file), "%s/" MANIFEST_BLOB_NAME, path);
	unlinkat(d->root_fd, file, 0);
	int rc = repo_dir_file_remove_dir(d->root_fd, path, err);
	if (rc == -ENOENT)
		rc = 0;
	/* Taken only to remove its file. */
	if (rc == 0 && repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_MANIFEST,
					  REPO_DIR_LOCK_EXCLUSIVE, 0, s, &manifest, NULL) == 0)
		repo_dir_lock_drop(&manifest, true);
	repo_dir_lock_drop(lock, rc == 0);
	return rc;
}

struct times {
	struct wbuf bytes; /* int64_t each */
};

static int collect_unfinished(void *arg, const struct repo_snapshot_info *info)
{
	struct times *t = arg;

	if (info->finished || info->is_protected)
		return 0;
	return wbuf_put(&t->bytes, &info->name.time, sizeof(info->name.time));
}

static void clean_one(struct repo_dir *d, const struct snapshot_name *s)
{
	struct repo_dir_lock lock = REPO_DIR_LOCK_INIT;
	struct err err = ERR_INIT;
	char path[SNAPSHOT_PATH_SIZE];
	int rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_SNAPSHOT, REPO_DIR_LOCK_EXCLUSIVE, 0,
				    s, &lock, &err);

	if (rc == -EBUSY) /* someone is at it */
		return;
	snapshot_path(s, path, sizeof(path));
	/* Look again: it may have been finished before we had the lock. */
	if (rc == 0 && repo_dir_is_finished(d->root_fd, path)) {
		repo_dir_lock_drop(&lock, false);
		return;
	}
	if (rc == 0)
		rc = repo_dir_group_remove_snapshot(d, s, &lock, &err);
	if (rc < 0)
		repo_warn(&d->base, "cannot remove the unfinished snapshot %s: %s", path,
			  err_text(&err, rc));
}

void repo_dir_group_clean(struct repo_dir *d, const struct snapshot_group *g)
{
	struct times t = { .bytes = WBUF_INIT(8 << 20) };
	struct snapshot_name s = { .group = *g };

	/* Too many to remember are left to the next backup. */
	repo_list_snapshots(&d->base, g, collect_unfinished, &t, NULL);
	for (size_t at = 0; at + sizeof(s.time) <= t.bytes.size; at += sizeof(s.time)) {
		memcpy(&s.time, t.bytes.data + at, sizeof(s.time));
		clean_one(d, &s);
	}
	wbuf_release(&t.bytes);
}

static int newest_finished(void *arg, const struct repo_snapshot_info *info)
{
	int64_t *newest = arg;

	if (info->finished && info->name.time > *newest)
		*newest = info->name.time;
	return 0;
}

/* 0 if it can be built on; the message says why not. */
static int check_manifest(int fd, struct err *err)
{
	AUTO(repo_file) struct repo_file blob = { 0 };
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(manifest) struct manifest *m = NULL;

	int rc = repo_dir_get_file(fd, MANIFEST_BLOB_NAME, &blob, err);
	if (rc == 0)
		rc = manifest_decode_blob(blob.data, blob.size, &text, &m, err);
	if (rc == 0 && m->verify_state && strcmp(m->verify_state, "failed") == 0)
		rc = err_set(err, EBADMSG, "its last verification failed");
	return rc;
}

static int use_previous(struct repo_dir *d, struct repo_dir_previous *p, struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE];
	int rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_SNAPSHOT, REPO_DIR_LOCK_SHARED, 0,
				    &p->name, &p->lock, err);

	snapshot_path(&p->name, path, sizeof(path));
	if (rc == 0)
		rc = repo_dir_file_open_dir(d->root_fd, path, &p->fd, err);
	if (rc == 0)
		rc = check_manifest(p->fd, err);
	return rc;
}

int repo_dir_group_previous(struct repo_dir *d, const struct snapshot_group *g,
			    struct repo_dir_previous *out, struct err *err)
{
	struct repo_dir_previous p = { .name.group = *g, .fd = -1, .lock = REPO_DIR_LOCK_INIT };
	struct err why = ERR_INIT;
	char path[SNAPSHOT_PATH_SIZE];
	int rc = repo_list_snapshots(&d->base, g, newest_finished, &p.name.time, err);

	if (rc < 0)
		return rc;
	if (p.name.time > 0) {
		rc = use_previous(d, &p, &why);
		p.is_usable = rc == 0;
	}
	if (rc < 0) {
		snapshot_path(&p.name, path, sizeof(path));
		repo_warn(&d->base, "nothing is reused from the last snapshot %s: %s", path,
			  err_text(&why, rc));
		repo_dir_previous_release(&p);
	}
	*out = p;
	return 0;
}

void repo_dir_previous_release(struct repo_dir_previous *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->is_usable = false;
	repo_dir_lock_drop(&p->lock, false);
}
