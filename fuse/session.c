/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/session.h"

#include "archive/base/cleanup.h"
#include "client/cmd/log.h"
#include "fuse/bdi.h"

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
	/* Requests that nobody waits for in person (read-ahead) which may be under way at
	 * once; the kernel's 12 keep a reader behind a slow store from looking ahead. */
	BACKGROUND_MAX = 64,
};

/* What libfuse has to say becomes a message like ours; it ends its lines itself. */
__attribute__((format(printf, 2, 0))) static void
log_from_libfuse(enum fuse_log_level level, const char *format, va_list ap)
{
	char text[1024];
	size_t length;

	vsnprintf(text, sizeof(text), format, ap);
	length = strlen(text);
	while (length > 0 && text[length - 1] == '\n')
		text[--length] = '\0';
	if (level <= FUSE_LOG_ERR)
		log_error("%s", text);
	else
		log_debug("%s", text);
}

void session_want(struct fuse_conn_info *conn)
{
	unsigned want = FUSE_CAP_POSIX_ACL | FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS |
			FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_READ | FUSE_CAP_IOCTL_DIR;

	conn->want |= want & conn->capable;
	/* AUTO would leave all but a folder's first 32 KiB to look-ups, one request a member; in
	 * large folders we play its part ourselves (ops_dir.c).  Nothing changes, so the kernel
	 * need not look whether it did.  Splicing costs more than it saves. */
	conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA |
				  FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				  FUSE_CAP_SPLICE_MOVE);
	conn->max_background = BACKGROUND_MAX;
	conn->congestion_threshold = BACKGROUND_MAX * 3 / 4;
}

int session_new(struct session *s, const struct mount_opts *opts, const char *source,
		const char *subtype, const struct fuse_lowlevel_ops *ops, void *user,
		struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(MOUNT_OPTS_TEXT_SIZE_MAX);
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *fuse = NULL;
	int rc = mount_opts_kernel(opts, source, subtype, &text);

	if (rc < 0)
		return err_set(err, -rc, "mount options: %s", strerror(-rc));
	fuse_set_log_func(log_from_libfuse);
	if (fuse_opt_add_arg(&args, subtype) == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
	    fuse_opt_add_arg(&args, (const char *)text.data) == 0)
		fuse = fuse_session_new(&args, ops, sizeof(*ops), user);
	fuse_opt_free_args(&args);
	if (!fuse)
		return err_set(err, EIO, "libfuse refuses the mount options '%s'", text.data);
	*s = (struct session){ .fuse = fuse };
	return 0;
}

int session_mount(struct session *s, const char *mount_point, struct err *err)
{
	errno = 0;
	if (fuse_session_mount(s->fuse, mount_point) != 0)
		return err_set(err, errno ? errno : EIO, "cannot mount on %s", mount_point);
	s->mounted = true;
	s->mount_point = mount_point;
	if (bdi_find_now(mount_point, &s->device) < 0)
		s->device = 0;
	return 0;
}

/* --- the end --- */

/* Unmounted or aborted: the device number may be somebody else's by now. */
static bool is_connected(const struct session *s)
{
	struct pollfd fd = { .fd = fuse_session_fd(s->fuse) };

	return poll(&fd, 1, 0) >= 0 && !(fd.revents & POLLERR);
}

static int abort_by_number(dev_t device)
{
	char path[64];
	AUTO(fd) int fd = -1;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", minor(device));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd >= 0 && write(fd, "1", 1) == 1 ? 0 : -errno;
}

int session_abort(const struct session *s)
{
	dev_t there;

	if (!s->mounted || !is_connected(s))
		return 0;
	if (s->device && abort_by_number(s->device) == 0)
		return 0;
	/* Whoever else may be mounted there by now must not suffer. */
	if (!s->device || bdi_find_now(s->mount_point, &there) < 0 || there != s->device)
		return -ENOENT;
	return umount2(s->mount_point, MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

/* Whether the last thing that was mounted there is ours. */
static bool is_our_mount(const char *path)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	bool is_ours = false;
	struct mntent *m;

	if (!mounts)
		return false;
	while ((m = getmntent(mounts)))
		if (strcmp(m->mnt_dir, path) == 0)
			is_ours = strcmp(m->mnt_type, "fuse.pxarfs") == 0;
	endmntent(mounts);
	return is_ours;
}

/* Nothing but ours is asked: an automount point would wait for us. */
int session_clear_dead(const char *mount_point)
{
	struct statfs st;

	while (is_our_mount(mount_point) && statfs(mount_point, &st) < 0 && errno == ENOTCONN) {
		if (umount2(mount_point, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return -errno;
		log_warn("%s: a mount that had died was taken away", mount_point);
	}
	return 0;
}

void session_unmount(struct session *s)
{
	/* libfuse takes a connection that has ended for one that was unmounted. */
	bool was_aborted = s->mounted && !is_connected(s);

	if (!s->mounted)
		return;
	fuse_session_unmount(s->fuse);
	s->mounted = false;
	if (was_aborted)
		session_clear_dead(s->mount_point);
}

void session_release(struct session *s)
{
	if (!s->fuse)
		return;
	session_unmount(s);
	fuse_session_destroy(s->fuse);
	*s = (struct session){ 0 };
}
