/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/walk.h"

#include "client/fs/levels.h"
#include "client/fs/link_table.h"
#include "client/fs/prelude.h"
#include "client/fs/source_open.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

enum {
	/* File content goes on in pieces of this size: they decide about cuts of chunks. */
	PIECE_SIZE = 4 << 20,
	READ_AHEAD_SIZE_MIN = 256 << 10,
	ATTEMPTS_MAX = 4, /* at an entry whose type changes under our hands */
	SHOWN_SIZE_MAX = 600, /* of a path in an error message, which has an end */

	TYPE_CHANGED = 1,
};

struct walk {
	const struct walk_params *params;
	struct walk_stats *stats;
	struct encoder *encoder;
	struct levels levels;
	uint64_t entries; /* in the listings of all open directories */
	struct match_list patterns; /* of .pxarexclude files; they go before those of params */
	struct link_table links;
	struct metadata meta; /* of the entry at hand */
	struct wbuf shown, message, exclude_text;
	dev_t *devs; /* that may be entered; unless all may */
	size_t dev_count;
	uint8_t *piece; /* PIECE_SIZE + 1 bytes */
	uint8_t *dents;
	struct err why; /* of the last failure */
};

static void count(atomic_uint_fast64_t *counter, uint64_t n)
{
	/* There is one writer only: no locked instruction is needed. */
	atomic_store_explicit(counter,
			      atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static bool stopped(const struct walk *w)
{
	return w->params->stop &&
	       atomic_load_explicit(w->params->stop, memory_order_relaxed);
}

/* --- paths and messages --- */

/* w->levels.path becomes that of the entry at hand. */
static int path_set(struct walk *w, const char *name)
{
	int rc = levels_path_set(&w->levels, name);

	return rc < 0 ? err_sys(&w->why, -rc, "path") : 0;
}

/* The entry at hand as a person would name it. */
static const char *shown(struct walk *w)
{
	const char *source = w->params->source;
	size_t size = strlen(source);

	while (size && source[size - 1] == '/')
		size--;
	wbuf_clear(&w->shown);
	wbuf_put(&w->shown, source, size);
	if (!size && !w->levels.path.size)
		wbuf_put_u8(&w->shown, '/');
	wbuf_put(&w->shown, w->levels.path.data, w->levels.path.size);
	wbuf_put_u8(&w->shown, '\0');
	return w->shown.failed ? source : (const char *)w->shown.data;
}

static __attribute__((format(printf, 3, 4))) void warn(struct walk *w, bool lost,
							const char *format, ...)
{
	char reason[ERR_TEXT_SIZE];
	va_list ap;

	if (lost)
		count(&w->stats->skipped, 1);
	if (!w->params->warn)
		return;
	va_start(ap, format);
	vsnprintf(reason, sizeof(reason), format, ap);
	va_end(ap);
	wbuf_clear(&w->message);
	wbuf_put_text(&w->message, shown(w));
	wbuf_put_text(&w->message, ": ");
	wbuf_put(&w->message, reason, strlen(reason) + 1);
	w->params->warn(w->params->warn_arg, lost,
			w->message.failed ? reason : (const char *)w->message.data);
}

/* The walk ends here, because of the entry at hand. */
static int fatal(struct walk *w, int rc)
{
	const char *path = shown(w);
	size_t size = strlen(path);

	if (size > SHOWN_SIZE_MAX)
		return err_wrap(&w->why, rc, "...%s", path + size - SHOWN_SIZE_MAX);
	return err_wrap(&w->why, rc, "%s", path);
}

/* The entry at hand cannot be read; w->why says why.  0: the walk goes on without it. */
static int unreadable(struct walk *w, int rc)
{
	switch (-rc) {
	case ENOENT:
		warn(w, false, "vanished before it could be read");
		return 0;
	case EACCES:
	case EPERM:
	case ESTALE:
	case ENOKEY: /* an encrypted folder that is locked */
	case EBADMSG: /* a malformed ACL */
		warn(w, true, "left out: %s", err_text(&w->why, rc));
		return 0;
	case ECANCELED:
		return rc;
	default:
		return fatal(w, rc);
	}
}

static int failed(struct walk *w, int rc, const char *what)
{
	return unreadable(w, err_sys(&w->why, -rc, "%s", what));
}

/* What follows a call of the encoder that wrote an entry, or not. */
static int encoded(struct walk *w, int rc, char type, const char *name, uint64_t size)
{
	const struct walk_observer *o = &w->params->observer;

	if (rc == -E2BIG) {
		warn(w, true, "left out: %s", err_text(&w->why, rc));
		return 0;
	}
	if (rc < 0)
		return rc;
	count(&w->stats->entries, 1);
	if (!o->entry)
		return 0;
	return o->entry(o->arg, type, name, size, w->meta.mtime_sec, &w->why);
}

/* --- regular files --- */

/* Read `size` bytes, and up to `size_max` if they come along.  Fewer: the file ends. */
static ssize_t read_piece(struct walk *w, int fd, size_t size, size_t size_max)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = read(fd, w->piece + done, size_max - done);

		if (n == 0)
			break;
		if (n > 0)
			done += (size_t)n;
		else if (errno == EAGAIN && fcntl(fd, F_GETFL) & O_NONBLOCK)
			fcntl(fd, F_SETFL, 0); /* it is a file: waiting ends */
		else if (errno != EINTR)
			return fatal(w, err_sys(&w->why, errno, "read"));
	}
	return (ssize_t)done;
}

static int pad_with_zeros(struct walk *w, uint64_t left)
{
	size_t size = left < PIECE_SIZE ? (size_t)left : PIECE_SIZE;

	warn(w, true, "shrank while it was read; its last %" PRIu64 " bytes are zeros", left);
	memset(w->piece, 0, size);
	for (; left; left -= size) {
		int rc;

		if (size > left)
			size = (size_t)left;
		rc = encoder_file_write(w->encoder, w->piece, size, &w->why);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Exactly the `size` bytes that were announced. */
static int copy_content(struct walk *w, int fd, uint64_t size)
{
	if (size >= READ_AHEAD_SIZE_MIN)
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	for (uint64_t left = size; left;) {
		size_t wanted = left < PIECE_SIZE ? (size_t)left : PIECE_SIZE;
		/* One byte more than there should be shows a file that grew. */
		ssize_t n = read_piece(w, fd, wanted, wanted + (wanted == left));
		size_t got = n > (ssize_t)wanted ? wanted : (size_t)n;
		int rc;

		if (n < 0)
			return (int)n;
		if (stopped(w))
			return err_set(&w->why, ECANCELED, "stopped");
		rc = got ? encoder_file_write(w->encoder, w->piece, got, &w->why) : 0;
		if (rc < 0)
			return rc;
		count(&w->stats->bytes, got);
		left -= got;
		if (got < wanted)
			return pad_with_zeros(w, left);
		if (n > (ssize_t)wanted)
			warn(w, false, "grew while it was read; what came late is left out");
	}
	return 0;
}

/* A further name of an inode that is in the archive: 1 it was, 0 it is not. */
static int visit_link(struct walk *w, const char *name, const struct stat *st)
{
	const char *path;
	uint64_t offset;
	int rc;

	if (!link_table_find(&w->links, st->st_dev, st->st_ino, &path, &offset))
		return 0;
	meta_read_stat(&w->meta, st);
	rc = encoder_hardlink(w->encoder, name, path, offset, &w->why);
	rc = encoded(w, rc, 'h', name, 0);
	return rc < 0 ? rc : 1;
}

static int remember_link(struct walk *w, const struct stat *st, uint64_t offset)
{
	int rc;

	if (st->st_nlink < 2 || w->levels.path.size - 1 > PXAR_TARGET_SIZE_MAX)
		return 0;
	rc = link_table_add(&w->links, st->st_dev, st->st_ino, levels_path(&w->levels) + 1, offset);
	return rc < 0 ? err_sys(&w->why, -rc, "hard links") : 0;
}

static int archive_file(struct walk *w, const char *name, int fd, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size, offset;
	int rc = encoder_file_begin(w->encoder, name, &w->meta, size, &offset, &w->why);

	if (rc < 0)
		return encoded(w, rc, 'f', name, size);
	rc = remember_link(w, st, offset);
	if (rc == 0)
		rc = copy_content(w, fd, size);
	if (rc == 0)
		rc = encoder_file_end(w->encoder, &w->why);
	if (rc < 0)
		return rc;
	count(&w->stats->files, 1);
	return encoded(w, 0, 'f', name, size);
}

static int visit_file(struct walk *w, const char *name, const struct stat *listed)
{
	struct level *dir = levels_top(&w->levels);
	struct stat st;
	int rc = listed->st_nlink > 1 ? visit_link(w, name, listed) : 0;

	if (rc)
		return rc < 0 ? rc : 0;

	AUTO(fd) int fd = source_open(dir->fd, name, false, w->params->stop);
	if (fd == -ELOOP || fd == -ENXIO || fd == -ENODEV)
		return TYPE_CHANGED;
	if (fd < 0)
		return failed(w, fd, "open");
	if (fstat(fd, &st) < 0)
		return failed(w, -errno, "stat");
	if (!S_ISREG(st.st_mode))
		return TYPE_CHANGED;
	rc = meta_read(&w->meta, fd, &st, &dir->features, w->params->skip_e2big_xattr, &w->why);
	if (rc < 0)
		return unreadable(w, rc);
	return archive_file(w, name, fd, &st);
}

/* --- directories --- */

static bool has_patterns(const struct walk *w)
{
	return w->patterns.count || (w->params->patterns && w->params->patterns->count);
}

static bool is_excluded(const struct walk *w, bool is_directory)
{
	enum match_result r = match_list_apply(&w->patterns, levels_path(&w->levels), is_directory);

	if (r == MATCH_NONE && w->params->patterns)
		r = match_list_apply(w->params->patterns, levels_path(&w->levels), is_directory);
	return r == MATCH_EXCLUDE;
}

static bool is_directory_at(int fd, const char *name, unsigned char type)
{
	struct stat st;

	if (type != DT_UNKNOWN)
		return type == DT_DIR;
	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* A listing_filter. */
static int keep_name(void *arg, const char *name, unsigned char type, struct err *err)
{
	struct walk *w = arg;
	struct level *dir = levels_top(&w->levels);

	if (w->levels.depth == 1 && strcmp(name, PRELUDE_FILE_NAME) == 0)
		return 0;
	if (has_patterns(w)) {
		int rc = path_set(w, name);

		if (rc < 0)
			return rc;
		if (is_excluded(w, is_directory_at(dir->fd, name, type)))
			return 0;
	}
	if (++w->entries > w->params->entries_max)
		return err_set(err, E2BIG,
			       "more than %" PRIu64 " entries in the folders on one path"
			       " (--entries-max)",
			       w->params->entries_max);
	return 1;
}

static int add_exclude_file(struct walk *w)
{
	struct level *dir = levels_top(&w->levels);
	size_t bad = 0;
	int rc;

	wbuf_clear(&w->exclude_text);
	rc = source_read_exclude_file(dir->fd, &w->exclude_text, &w->why);
	if (rc == 0)
		return 0;
	if (rc > 0)
		rc = match_list_add_file(&w->patterns,
					 levels_path(&w->levels) + (dir->path_size > 0),
					 w->exclude_text.data, w->exclude_text.size, &bad,
					 &w->why);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0)
		warn(w, false, ".pxarexclude: ignored: %s", err_text(&w->why, rc));
	else if (bad)
		warn(w, false, ".pxarexclude: %zu lines ignored, the last one: %s", bad,
		     err_text(&w->why, -EINVAL));
	return 0;
}

static int read_directory(struct walk *w)
{
	struct level *dir = levels_top(&w->levels);
	int rc = add_exclude_file(w);

	if (rc == 0)
		rc = listing_read(&dir->names, dir->fd, w->dents, keep_name, w, &w->why);
	levels_path_reset(&w->levels);
	return rc;
}

static int push_level(struct walk *w, int fd, const struct stat *st,
		      const struct meta_features *features)
{
	int rc = levels_push(&w->levels, fd, st, features);

	if (rc < 0)
		return err_sys(&w->why, -rc, "levels");
	levels_top(&w->levels)->pattern_count = w->patterns.count;
	levels_top(&w->levels)->entries = w->entries;
	return 0;
}

static void pop_level(struct walk *w)
{
	match_list_truncate(&w->patterns, levels_top(&w->levels)->pattern_count);
	w->entries = levels_top(&w->levels)->entries;
	levels_pop(&w->levels);
}

/* The directory above was moved while we were below: what is left of it is out of reach. */
static void give_up(struct walk *w)
{
	struct level *dir = levels_top(&w->levels);

	levels_path_reset(&w->levels);
	if (dir->next < dir->names.count)
		warn(w, true, "moved while it was read; %zu of its entries are left out",
		     dir->names.count - dir->next);
	dir->next = dir->names.count;
}

static int leave_directory(struct walk *w)
{
	const struct walk_observer *o = &w->params->observer;
	struct level *dir = levels_top(&w->levels), *parent = dir - 1;
	int rc = encoder_dir_end(w->encoder, &w->why);
	bool found;

	if (rc == 0 && o->dir_end)
		rc = o->dir_end(o->arg, &w->why);
	if (rc < 0)
		return rc;
	if (parent->dev == dir->dev)
		parent->features = dir->features; /* with what was found missing */
	found = levels_reopen_parent(&w->levels);
	pop_level(w);
	if (!found)
		give_up(w);
	return 0;
}

static int begin_directory(struct walk *w, const char *name)
{
	const struct walk_observer *o = &w->params->observer;
	int rc = encoder_dir_begin(w->encoder, name, &w->meta, &w->why);

	if (rc < 0)
		return rc;
	count(&w->stats->entries, 1);
	return o->dir_begin ? o->dir_begin(o->arg, name, &w->why) : 0;
}

/* A mount point that is not entered: empty, with the metadata of what is mounted. */
static int archive_mount_point(struct walk *w, const char *name)
{
	const struct walk_observer *o = &w->params->observer;
	int rc = begin_directory(w, name);

	if (rc == -E2BIG)
		return encoded(w, rc, 'd', name, 0);
	if (rc == 0)
		rc = encoder_dir_end(w->encoder, &w->why);
	if (rc == 0 && o->dir_end)
		rc = o->dir_end(o->arg, &w->why);
	if (rc == 0)
		warn(w, false, "mount point: what is mounted there is left out");
	return rc;
}

static int descend(struct walk *w, const char *name, int fd, const struct stat *st,
		   const struct meta_features *features)
{
	int rc = push_level(w, fd, st, features);

	if (rc < 0)
		return rc;
	rc = read_directory(w);
	if (rc < 0) {
		pop_level(w);
		return unreadable(w, rc);
	}
	rc = begin_directory(w, name);
	if (rc == -E2BIG) {
		pop_level(w);
		return encoded(w, rc, 'd', name, 0);
	}
	return rc;
}

static bool may_enter(const struct walk *w, dev_t dev, uint64_t fs_magic)
{
	bool found = w->params->all_file_systems;

	for (size_t i = 0; i < w->dev_count; i++)
		found = found || w->devs[i] == dev;
	return found && !meta_fs_is_virtual(fs_magic);
}

static int visit_directory(struct walk *w, const char *name)
{
	struct level *parent = levels_top(&w->levels);
	struct meta_features features = parent->features;
	bool enter = true;
	struct statfs fs;
	struct stat st;
	int rc;

	AUTO(fd) int fd = source_open(parent->fd, name, true, w->params->stop);
	if (fd == -ENOTDIR || fd == -ELOOP)
		return TYPE_CHANGED;
	if (fd < 0)
		return failed(w, fd, "open");
	if (fstat(fd, &st) < 0)
		return failed(w, -errno, "stat");
	if (st.st_dev != parent->dev) {
		if (fstatfs(fd, &fs) < 0)
			return failed(w, -errno, "statfs");
		meta_features_of((uint32_t)fs.f_type, &features);
		enter = may_enter(w, st.st_dev, features.fs_magic);
	}
	rc = meta_read(&w->meta, fd, &st, &features, w->params->skip_e2big_xattr, &w->why);
	if (rc < 0)
		return unreadable(w, rc);
	if (!enter)
		return archive_mount_point(w, name);
	return descend(w, name, steal_fd(&fd), &st, &features);
}

/* --- all else --- */

static int visit_symlink(struct walk *w, const char *name, const struct stat *st)
{
	char target[PXAR_TARGET_SIZE_MAX + 2];
	ssize_t size = readlinkat(levels_top(&w->levels)->fd, name, target, sizeof(target) - 1);
	int rc;

	if (size < 0 && errno == EINVAL)
		return TYPE_CHANGED;
	if (size < 0)
		return failed(w, -errno, "readlink");
	if (size == 0 || size > PXAR_TARGET_SIZE_MAX) {
		warn(w, true, "left out: a link target of %zd bytes", size);
		return 0;
	}
	target[size] = '\0';
	meta_read_stat(&w->meta, st);
	rc = encoder_symlink(w->encoder, name, &w->meta, target, &w->why);
	return encoded(w, rc, 'l', name, 0);
}

static int visit_device(struct walk *w, const char *name, const struct stat *st)
{
	int rc;

	meta_read_stat(&w->meta, st);
	rc = encoder_device(w->encoder, name, &w->meta, major(st->st_rdev), minor(st->st_rdev),
			    &w->why);
	return encoded(w, rc, S_ISCHR(st->st_mode) ? 'c' : 'b', name, 0);
}

static int visit_special(struct walk *w, const char *name, const struct stat *st)
{
	int rc;

	meta_read_stat(&w->meta, st);
	rc = encoder_special(w->encoder, name, &w->meta, &w->why);
	return encoded(w, rc, S_ISFIFO(st->st_mode) ? 'p' : 's', name, 0);
}

/* TYPE_CHANGED: it is something else than `st` says by now. */
static int visit_as(struct walk *w, const char *name, const struct stat *st)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		return visit_file(w, name, st);
	case S_IFDIR:
		return visit_directory(w, name);
	case S_IFLNK:
		return visit_symlink(w, name, st);
	case S_IFCHR:
	case S_IFBLK:
		return visit_device(w, name, st);
	case S_IFIFO:
	case S_IFSOCK:
		return visit_special(w, name, st);
	default:
		warn(w, true, "left out: its type %#o is unknown",
		     (unsigned)(st->st_mode & S_IFMT));
		return 0;
	}
}

/* What is mounted by a user may refuse even root a look, or have lost its server. */
static int stat_failed(struct walk *w, const char *name, int rc)
{
	AUTO(fd) int fd = -1;
	struct statfs fs;
	bool foreign = rc == -ENOTCONN;

	if (rc == -EACCES) {
		fd = openat(levels_top(&w->levels)->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		foreign = fd >= 0 && fstatfs(fd, &fs) == 0 &&
			  (uint32_t)fs.f_type != levels_top(&w->levels)->features.fs_magic;
	}
	if (!foreign)
		return failed(w, rc, "stat");
	warn(w, w->params->all_file_systems, "mount point that cannot be read, left out: %s",
	     strerrordesc_np(-rc));
	return 0;
}

static int visit_next(struct walk *w)
{
	struct level *dir = levels_top(&w->levels);
	size_t i = dir->next++;
	const char *name = listing_name(&dir->names, i);
	const struct stat *listed;
	struct stat st;
	int rc;

	if (stopped(w))
		return err_set(&w->why, ECANCELED, "stopped");
	rc = path_set(w, name);
	if (rc < 0)
		return rc;
	rc = listing_stat(&dir->names, dir->fd, i, &listed);
	if (rc < 0)
		return stat_failed(w, name, rc);
	rc = visit_as(w, name, listed);
	for (int n = 1; rc == TYPE_CHANGED && n < ATTEMPTS_MAX; n++) {
		if (fstatat(dir->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return stat_failed(w, name, -errno);
		rc = visit_as(w, name, &st);
	}
	if (rc != TYPE_CHANGED)
		return rc;
	warn(w, true, "left out: it cannot be opened as what it is said to be");
	return 0;
}

/* --- begin and end --- */

static int find_devices(struct walk *w, dev_t root)
{
	const struct walk_params *p = w->params;

	w->devs = calloc(p->include_dev_count + 1, sizeof(*w->devs));
	if (!w->devs)
		return err_sys(&w->why, ENOMEM, "devices");
	w->devs[w->dev_count++] = root;
	for (size_t i = 0; i < p->include_dev_count; i++) {
		struct stat st;

		if (stat(p->include_devs[i], &st) < 0)
			return err_sys(&w->why, errno, "--include-dev %s", p->include_devs[i]);
		w->devs[w->dev_count++] = st.st_dev;
	}
	return 0;
}

static int open_root(struct walk *w)
{
	AUTO(fd) int fd = source_open_root(w->params->source, w->params->no_follow_source);
	struct meta_features features;
	struct statfs fs;
	struct stat st;
	int rc;

	if (fd < 0)
		return fatal(w, err_sys(&w->why, -fd, "open"));
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return fatal(w, err_sys(&w->why, errno, "stat"));
	if (meta_fs_is_virtual((uint32_t)fs.f_type))
		return fatal(w, err_set(&w->why, EINVAL, "is on a virtual file system"));
	meta_features_of((uint32_t)fs.f_type, &features);
	rc = find_devices(w, st.st_dev);
	if (rc < 0)
		return rc;
	rc = meta_read(&w->meta, fd, &st, &features, w->params->skip_e2big_xattr, &w->why);
	if (rc < 0)
		return fatal(w, rc);
	return push_level(w, steal_fd(&fd), &st, &features);
}

static int begin_archive(struct walk *w)
{
	struct encoder_params params = w->params->encoder;
	AUTO(wbuf) struct wbuf prelude = WBUF_INIT(PXAR_PRELUDE_SIZE_MAX);
	int rc = open_root(w);

	if (rc < 0)
		return rc;
	rc = read_directory(w);
	if (rc < 0)
		return fatal(w, rc);
	if (w->params->split && w->params->patterns && w->params->patterns->count) {
		rc = prelude_encode(w->params->patterns, &prelude, &w->why);
		if (rc < 0)
			return rc;
		params.prelude = prelude.data;
		params.prelude_size = prelude.size;
	}
	rc = encoder_new(&w->encoder, &params, &w->meta, &w->why);
	if (rc == 0)
		count(&w->stats->entries, 1);
	return rc;
}

/* Version 1 records the patterns of the command line in a file behind all others. */
static int archive_patterns(struct walk *w)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(PXAR_PRELUDE_SIZE_MAX);
	int rc;

	if (w->params->split || !w->params->patterns || !w->params->patterns->count)
		return 0;
	rc = match_list_text(w->params->patterns, &text);
	if (rc < 0)
		return err_sys(&w->why, -rc, "patterns");
	metadata_clear(&w->meta);
	w->meta.mode = PXAR_MODE_REGULAR | 0600;
	w->meta.uid = getuid();
	w->meta.gid = getgid();
	rc = encoder_file_begin(w->encoder, PRELUDE_FILE_NAME, &w->meta, text.size, NULL,
				&w->why);
	if (rc == 0)
		rc = encoder_file_write(w->encoder, text.data, text.size, &w->why);
	if (rc == 0)
		rc = encoder_file_end(w->encoder, &w->why);
	return rc < 0 ? rc : encoded(w, 0, 'f', PRELUDE_FILE_NAME, text.size);
}

static int walk_all(struct walk *w)
{
	int rc = begin_archive(w);

	while (rc == 0) {
		if (levels_top(&w->levels)->next < levels_top(&w->levels)->names.count)
			rc = visit_next(w);
		else if (w->levels.depth > 1)
			rc = leave_directory(w);
		else
			break;
	}
	if (rc == 0)
		rc = archive_patterns(w);
	return rc == 0 ? encoder_finish(w->encoder, &w->why) : rc;
}

static void walk_release(struct walk *w)
{
	levels_release(&w->levels);
	free(w->devs);
	free(w->piece);
	free(w->dents);
	match_list_release(&w->patterns);
	link_table_release(&w->links);
	metadata_release(&w->meta);
	wbuf_release(&w->shown);
	wbuf_release(&w->message);
	wbuf_release(&w->exclude_text);
	encoder_free(w->encoder);
}
DEFINE_AUTO_STRUCT(walk)

int walk_encode(const struct walk_params *params, struct walk_stats *stats, struct err *err)
{
	AUTO(walk) struct walk w = {
		.params = params,
		.stats = stats,
		.shown = WBUF_INIT(SIZE_MAX),
		.message = WBUF_INIT(SIZE_MAX),
		.exclude_text = WBUF_INIT(SOURCE_EXCLUDE_FILE_SIZE_MAX),
		.piece = malloc(PIECE_SIZE + 1),
		.dents = malloc(LISTING_DENTS_SIZE),
		.why = ERR_INIT,
	};
	int rc;

	metadata_init(&w.meta);
	if (levels_init(&w.levels) < 0 || !w.piece || !w.dents)
		return err_sys(err, ENOMEM, "%s", params->source);
	rc = walk_all(&w);
	if (rc < 0 && err)
		*err = w.why;
	return rc;
}
