/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking after a datastore directory: what is forgotten, noted, protected, logged; its namespaces.
 *
 * Layout:  archive/FORMAT.md, "Names", "Locks".
 */
#include "client/repo/repo_dir_group.h"

#include "archive/base/cleanup.h"
#include "archive/blob.h"
#include "archive/json_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define GROUP_NOTES "notes"

enum { LIST_SIZE_MAX = 64 << 20 };

static struct repo_dir *self(struct repo *r)
{
	return (struct repo_dir *)r;
}

static bool is_there(const struct repo_dir *d, const char *path)
{
	return faccessat(d->root_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int no_snapshot(const struct repo_dir *d, const char *path, struct err *err)
{
	return err_set(err, ENOENT, "%s: there is no snapshot %s", d->base.spelling, path);
}

/* A failure to lock names what is locked; all others get the place here. */
static int in_store(const struct repo_dir *d, int rc, struct err *err)
{
	return rc < 0 ? err_wrap(err, rc, "%s", d->base.spelling) : 0;
}

static bool has_marker(const struct repo_dir *d, const char *snapshot_path)
{
	char marker[SNAPSHOT_PATH_SIZE + sizeof("/" REPO_DIR_PROTECTED)];

	snprintf(marker, sizeof(marker), "%s/" REPO_DIR_PROTECTED, snapshot_path);
	return is_there(d, marker);
}

/* --- forgetting --- */

/* With the snapshot locked. */
static int remove_locked(struct repo_dir *d, const struct snapshot_name *name, const char *path,
			 struct repo_dir_lock *lock, struct err *err)
{
	AUTO(repo_dir_lock) struct repo_dir_lock manifest = REPO_DIR_LOCK_INIT;
	int rc;

	if (!is_there(d, path)) {
		repo_dir_lock_drop(lock, true);
		return err_set(err, ENOENT, "there is no snapshot %s", path);
	}
	if (has_marker(d, path))
		return err_set(err, EPERM, "snapshot %s is protected", path);
	/* Whoever rewrites the manifest is waited for. */
	rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_MANIFEST, REPO_DIR_LOCK_EXCLUSIVE,
				REPO_DIR_LOCK_MANIFEST_WAIT_MS, name, &manifest, err);
	if (rc == 0)
		rc = repo_dir_group_remove_snapshot(d, name, lock, err);
	repo_dir_lock_drop(&manifest, rc == 0);
	return rc;
}

static int remove_snapshot(struct repo_dir *d, const struct snapshot_name *name, struct err *err)
{
	AUTO(repo_dir_lock) struct repo_dir_lock lock = REPO_DIR_LOCK_INIT;
	char path[SNAPSHOT_PATH_SIZE];
	int rc;

	snapshot_path(name, path, sizeof(path));
	/* Look before locking: a mistyped name must not leave a lock file behind. */
	if (!is_there(d, path))
		return err_set(err, ENOENT, "there is no snapshot %s", path);
	rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_SNAPSHOT, REPO_DIR_LOCK_EXCLUSIVE, 0, name,
				&lock, err);
	return rc < 0 ? rc : remove_locked(d, name, path, &lock, err);
}

/* Remove the group if it is empty and nobody works in it. */
static bool leave_group(struct repo_dir *d, const struct snapshot_group *group)
{
	const struct snapshot_name any = { .group = *group };
	struct repo_dir_lock lock = REPO_DIR_LOCK_INIT;

	return repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_GROUP, REPO_DIR_LOCK_EXCLUSIVE, 0, &any,
				  &lock, NULL) == 0 &&
	       repo_dir_group_leave(d, group, true, &lock);
}

static int forget(struct repo *r, const struct snapshot_name *name, struct err *err)
{
	struct repo_dir *d = self(r);
	int rc = repo_dir_check_writable(d, err);

	if (rc < 0)
		return rc;
	rc = remove_snapshot(d, name, err);
	if (rc == 0)
		leave_group(d, &name->group);
	return in_store(d, rc, err);
}

static int keep_time(void *arg, const struct repo_snapshot_info *info)
{
	return wbuf_put(arg, &info->name.time, sizeof(info->name.time));
}

/* All that can be removed is; the first failure is told. */
static int remove_group(struct repo_dir *d, const struct snapshot_group *group, struct err *err)
{
	AUTO(wbuf) struct wbuf times = WBUF_INIT(LIST_SIZE_MAX);
	struct snapshot_name name = { .group = *group };
	char path[SNAPSHOT_PATH_SIZE];
	int first = repo_list_snapshots(&d->base, group, keep_time, &times, err);

	for (size_t at = 0; at + sizeof(name.time) <= times.size; at += sizeof(name.time)) {
		memcpy(&name.time, times.data + at, sizeof(name.time));
		int rc = remove_snapshot(d, &name, first < 0 ? NULL : err);

		if (rc < 0 && rc != -ENOENT && first == 0)
			first = rc;
	}
	snapshot_group_path(group, path, sizeof(path));
	if (first == 0 && !leave_group(d, group) && is_there(d, path))
		first = err_set(err, EBUSY, "group %s stays: a backup of it is running, or other "
				"files are in it", path);
	return first;
}

static int forget_group(struct repo *r, const struct snapshot_group *group, struct err *err)
{
	struct repo_dir *d = self(r);
	char path[SNAPSHOT_PATH_SIZE];
	int rc = repo_dir_check_writable(d, err);

	if (rc < 0)
		return rc;
	snapshot_group_path(group, path, sizeof(path));
	if (!is_there(d, path))
		rc = err_set(err, ENOENT, "there is no group %s", path);
	return in_store(d, rc < 0 ? rc : remove_group(d, group, err), err);
}

/* --- adding to what is finished --- */

/* A finished snapshot with its manifest locked: nobody removes it, and of those who add to it one is
 * at work. */
struct held {
	struct repo_dir_lock lock;
	int fd;
	char path[SNAPSHOT_PATH_SIZE];
};
#define HELD_INIT { .lock = REPO_DIR_LOCK_INIT, .fd = -1 }

static void held_release(struct held *h)
{
	if (h->fd >= 0)
		close(h->fd);
	repo_dir_lock_release(&h->lock);
}
DEFINE_AUTO_STRUCT(held)

static int hold(struct repo_dir *d, const struct snapshot_name *name, struct held *h,
		struct err *err)
{
	int rc = repo_dir_check_writable(d, err);

	if (rc < 0)
		return rc;
	snapshot_path(name, h->path, sizeof(h->path));
	if (!repo_dir_is_finished(d->root_fd, h->path))
		return no_snapshot(d, h->path, err);
	rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_MANIFEST, REPO_DIR_LOCK_EXCLUSIVE,
				REPO_DIR_LOCK_MANIFEST_WAIT_MS, name, &h->lock, err);
	if (rc == 0)
		rc = repo_dir_file_open_dir(d->root_fd, h->path, &h->fd, err);
	return in_store(d, rc, err);
}

/* What came of it. */
static int in_held(const struct repo_dir *d, const struct held *h, int rc, struct err *err)
{
	return rc < 0 ? err_wrap(err, rc, "%s: %s", d->base.spelling, h->path) : 0;
}

/* --- notes --- */

static int load_text(int snapshot_fd, struct blob_codec *codec, struct wbuf *text, struct err *err)
{
	AUTO(repo_file) struct repo_file blob = { 0 };
	int rc = repo_dir_get_file(snapshot_fd, MANIFEST_BLOB_NAME, &blob, err);

	if (rc < 0)
		return rc;
	rc = blob_decode(codec, blob.data, blob.size, MANIFEST_SIZE_MAX, text, err);
	return rc < 0 ? err_wrap(err, rc, MANIFEST_BLOB_NAME) : 0;
}

static int get_notes(struct repo *r, const struct snapshot_name *name, struct wbuf *out,
		     struct err *err)
{
	AUTO(repo_dir_lock) struct repo_dir_lock lock = REPO_DIR_LOCK_INIT;
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(fd) int fd = -1;
	const char *notes;
	size_t size;
	int rc = codec ? 0 : err_set(err, ENOMEM, "out of memory");

	if (rc == 0)
		rc = repo_dir_open_snapshot(self(r), name, &fd, &lock, err);
	if (rc == 0)
		rc = load_text(fd, codec, &text, err);
	if (rc == 0)
		rc = manifest_decode(text.data, text.size, &m, err);
	if (rc < 0)
		return rc;
	notes = manifest_notes(m, &size);
	return size && wbuf_put(out, notes, size) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

/* With the manifest locked. */
static int rewrite_notes(struct repo_dir *d, int snapshot_fd, const char *notes, struct err *err)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(wbuf) struct wbuf old = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(wbuf) struct wbuf new = WBUF_INIT(MANIFEST_SIZE_MAX);
	AUTO(wbuf) struct wbuf blob = WBUF_INIT(BLOB_ENCODED_SIZE_MAX(MANIFEST_SIZE_MAX));
	int rc;

	if (!codec)
		return err_set(err, ENOMEM, "out of memory");
	rc = load_text(snapshot_fd, codec, &old, err);
	if (rc == 0)
		rc = manifest_text_set_notes(old.data, old.size, notes, &new, err);
	if (rc == 0)
		rc = blob_encode(codec, new.data, new.size, true, &blob, err);
	if (rc == 0)
		rc = repo_dir_file_replace(snapshot_fd, MANIFEST_BLOB_NAME, blob.data, blob.size,
					   &d->locks.owner, err);
	return rc;
}

static int set_notes(struct repo *r, const struct snapshot_name *name, const char *notes,
		     struct err *err)
{
	AUTO(held) struct held h = HELD_INIT;
	int rc = hold(self(r), name, &h, err);

	return rc < 0 ? rc : in_held(self(r), &h, rewrite_notes(self(r), h.fd, notes, err), err);
}

/* --- the log --- */

int repo_dir_put_log(struct repo *r, const struct snapshot_name *name, const void *data,
		     size_t size, struct err *err)
{
	AUTO(held) struct held h = HELD_INIT;
	struct repo_dir *d = self(r);
	int rc = hold(d, name, &h, err);

	if (rc < 0)
		return rc;
	rc = repo_dir_file_create(h.fd, REPO_CLIENT_LOG, data, size, &d->locks.owner, err);
	if (rc == 0)
		rc = repo_dir_file_sync_dir(h.fd, err);
	return in_held(d, &h, rc, err);
}

/* --- notes of a group: a file of its own --- */

static int open_group(struct repo_dir *d, const struct snapshot_group *group, int *fd,
		      struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE];

	snapshot_group_path(group, path, sizeof(path));
	if (!is_there(d, path))
		return err_set(err, ENOENT, "there is no group %s", path);
	return repo_dir_file_open_dir(d->root_fd, path, fd, err);
}

static int get_group_notes(struct repo *r, const struct snapshot_group *group, struct wbuf *out,
			   struct err *err)
{
	AUTO(repo_file) struct repo_file notes = { 0 };
	AUTO(fd) int fd = -1;
	int rc = open_group(self(r), group, &fd, err);

	if (rc == 0 && faccessat(fd, GROUP_NOTES, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return 0;
	if (rc == 0)
		rc = repo_dir_get_file(fd, GROUP_NOTES, &notes, err);
	if (rc == 0 && notes.size && wbuf_put(out, notes.data, notes.size) < 0)
		rc = err_set(err, -out->failed, "the notes are too long");
	return in_store(self(r), rc, err);
}

static int set_group_notes(struct repo *r, const struct snapshot_group *group, const char *notes,
			   struct err *err)
{
	AUTO(repo_dir_lock) struct repo_dir_lock lock = REPO_DIR_LOCK_INIT;
	const struct snapshot_name any = { .group = *group };
	struct repo_dir *d = self(r);
	AUTO(fd) int fd = -1;
	int rc = repo_dir_check_writable(d, err);

	if (rc < 0)
		return rc;
	if (!json_text_is_utf8(notes, strlen(notes)))
		return err_set(err, EINVAL, "the notes are not UTF-8");
	/* Look before locking: a mistyped name must not leave a lock file behind. */
	rc = open_group(d, group, &fd, err);
	if (rc == 0)
		rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_GROUP, REPO_DIR_LOCK_EXCLUSIVE, 0, &any,
					&lock, err);
	if (rc == 0 && notes[0])
		rc = repo_dir_file_replace(fd, GROUP_NOTES, notes, strlen(notes), &d->locks.owner, err);
	else if (rc == 0 && unlinkat(fd, GROUP_NOTES, 0) < 0 && errno != ENOENT)
		rc = err_sys(err, errno, GROUP_NOTES);
	return in_store(d, rc, err);
}

/* --- protection --- */

static int get_protected(struct repo *r, const struct snapshot_name *name, bool *is_protected,
			 struct err *err)
{
	struct repo_dir *d = self(r);
	char path[SNAPSHOT_PATH_SIZE];

	snapshot_path(name, path, sizeof(path));
	if (!is_there(d, path))
		return no_snapshot(d, path, err);
	*is_protected = has_marker(d, path);
	return 0;
}

/* Not by way of a temporary file: there is nothing in it that could be half there. */
static int make_marker(struct repo_dir *d, int snapshot_fd, struct err *err)
{
	const struct repo_dir_owner *o = &d->locks.owner;
	AUTO(fd) int fd = openat(snapshot_fd, REPO_DIR_PROTECTED,
				 O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, REPO_DIR_FILE_MODE);

	if (fd < 0 || repo_dir_owner_give(fd, o) < 0 || fchmod(fd, REPO_DIR_FILE_MODE) < 0 ||
	    fsync(fd) < 0)
		return err_sys(err, errno, REPO_DIR_PROTECTED);
	return 0;
}

static int mark(struct repo_dir *d, const char *path, bool is_protected, struct err *err)
{
	AUTO(fd) int fd = -1;
	int rc = repo_dir_file_open_dir(d->root_fd, path, &fd, err);

	if (rc == 0 && is_protected)
		rc = make_marker(d, fd, err);
	else if (rc == 0 && unlinkat(fd, REPO_DIR_PROTECTED, 0) < 0 && errno != ENOENT)
		rc = err_sys(err, errno, REPO_DIR_PROTECTED);
	if (rc == 0)
		rc = repo_dir_file_sync_dir(fd, err);
	return rc < 0 ? err_wrap(err, rc, "%s", path) : 0;
}

static int set_protected(struct repo *r, const struct snapshot_name *name, bool is_protected,
			 struct err *err)
{
	AUTO(repo_dir_lock) struct repo_dir_lock lock = REPO_DIR_LOCK_INIT;
	struct repo_dir *d = self(r);
	char path[SNAPSHOT_PATH_SIZE];
	int rc = repo_dir_check_writable(d, err);

	if (rc < 0)
		return rc;
	snapshot_path(name, path, sizeof(path));
	if (!is_there(d, path))
		return no_snapshot(d, path, err);
	rc = repo_dir_lock_take(&d->locks, REPO_DIR_LOCK_SNAPSHOT, REPO_DIR_LOCK_EXCLUSIVE, 0, name,
				&lock, err);
	if (rc == 0)
		rc = mark(d, path, is_protected, err);
	return in_store(d, rc, err);
}

/* --- namespaces --- */

static int make_ns(struct repo *r, const char *ns, struct err *err)
{
	struct repo_dir *d = self(r);
	char path[SNAPSHOT_PATH_SIZE];
	int rc = repo_dir_check_writable(d, err);

	if (rc < 0)
		return rc;
	snapshot_ns_path(ns, path, sizeof(path));
	if (path[0])
		rc = repo_dir_file_mkdir_all(d->root_fd, path, &d->locks.owner, err);
	return in_store(d, rc, err);
}

static int keep_group(void *arg, const struct repo_group_info *info)
{
	return wbuf_put(arg, &info->group, sizeof(info->group));
}

static int remove_groups(struct repo_dir *d, const char *ns, struct err *err)
{
	AUTO(wbuf) struct wbuf groups = WBUF_INIT(LIST_SIZE_MAX);
	struct snapshot_group group;
	int first = repo_list_groups(&d->base, ns, keep_group, &groups, err);

	for (size_t at = 0; at + sizeof(group) <= groups.size; at += sizeof(group)) {
		memcpy(&group, groups.data + at, sizeof(group));
		int rc = remove_group(d, &group, first < 0 ? NULL : err);

		if (rc < 0 && first == 0)
			first = rc;
	}
	return first;
}

/* The folder itself, when nothing is left in it.  One of a type outlives its groups, and says
 * that there were some: it goes with them only. */
static int remove_ns_folder(struct repo_dir *d, const char *ns, bool with_groups, struct err *err)
{
	char path[SNAPSHOT_PATH_SIZE], below[SNAPSHOT_PATH_SIZE + 8];

	snapshot_ns_path(ns, path, sizeof(path));
	for (unsigned i = 0; with_groups && snapshot_type(i); i++) {
		snprintf(below, sizeof(below), "%s/%s", path, snapshot_type(i));
		unlinkat(d->root_fd, below, AT_REMOVEDIR);
	}
	snprintf(below, sizeof(below), "%s/ns", path);
	unlinkat(d->root_fd, below, AT_REMOVEDIR);
	if (unlinkat(d->root_fd, path, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == ENOTEMPTY || errno == EEXIST)
		return err_set(err, ENOTEMPTY, "namespace %s is not empty", ns);
	return err_sys(err, errno, "namespace %s: remove", ns);
}

static int keep_ns(void *arg, const char *ns)
{
	char name[SNAPSHOT_NS_SIZE_MAX + 1] = "";

	strcpy(name, ns);
	return wbuf_put(arg, name, sizeof(name));
}

static int remove_ns(struct repo *r, const char *ns, bool with_groups, struct err *err)
{
	AUTO(wbuf) struct wbuf list = WBUF_INIT(LIST_SIZE_MAX);
	struct repo_dir *d = self(r);
	int first = repo_dir_check_writable(d, err);

	if (first == 0)
		first = keep_ns(&list, ns);
	if (first == 0)
		first = repo_list_ns(r, ns, keep_ns, &list, err);
	if (first < 0)
		return first;
	/* Parents come first in the list. */
	for (size_t at = list.size; at >= SNAPSHOT_NS_SIZE_MAX + 1;) {
		at -= SNAPSHOT_NS_SIZE_MAX + 1;
		const char *one = (const char *)list.data + at;
		int rc = with_groups ? remove_groups(d, one, first < 0 ? NULL : err) : 0;

		if (rc == 0)
			rc = remove_ns_folder(d, one, with_groups, first < 0 ? NULL : err);
		if (rc < 0 && first == 0)
			first = rc;
	}
	return in_store(d, first, err);
}

/* --- space --- */

static int space(struct repo *r, struct repo_space *out, struct err *err)
{
	struct statvfs st;

	if (fstatvfs(self(r)->root_fd, &st) < 0)
		return err_sys(err, errno, "%s", r->spelling);
	out->total = (uint64_t)st.f_blocks * st.f_frsize;
	out->used = (uint64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
	out->available = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

const struct repo_care_ops REPO_DIR_CARE = {
	.forget = forget,
	.forget_group = forget_group,
	.get_notes = get_notes,
	.set_notes = set_notes,
	.get_group_notes = get_group_notes,
	.set_group_notes = set_group_notes,
	.get_protected = get_protected,
	.set_protected = set_protected,
	.make_ns = make_ns,
	.remove_ns = remove_ns,
	.space = space,
};
