/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/session.h"

#include "client/cmd/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
	return 0;
}

void session_release(struct session *s)
{
	if (!s->fuse)
		return;
	if (s->mounted)
		fuse_session_unmount(s->fuse);
	fuse_session_destroy(s->fuse);
	*s = (struct session){ 0 };
}
