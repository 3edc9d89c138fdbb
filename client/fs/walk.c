/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/walk.h"

#include "client/base/plural.h"
#include "client/fs/content.h"
#include "client/fs/delay.h"
#include "client/fs/prelude.h"
#include "client/fs/source_open.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/vfs.h>

enum {
	ATTEMPTS_MAX = 4, /* at an entry whose type changes under our hands */
	TYPE_CHANGED = EMIT_TYPE_CHANGED,
};

static const uint64_t UNKNOWN = UINT64_MAX;

struct walk {
	const struct walk_params *params;
	struct walk_stats *stats;
	struct levels levels;
	uint64_t entries; /* in the listings of all open directories */
	struct match_list patterns; /* of .pxarexclude files; they go before those of params */
	struct wbuf exclude_text;
	dev_t *devs; /* that may be entered; unless all may */
	size_t dev_count;
	uint8_t *dents;
	struct listing_more more; /* of the entry at hand; attributes UNKNOWN: nobody knows */
	struct report report;
	struct emit emit;
	struct delay delay;
	struct err why; /* of the last failure */
};

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

#define warn(w, lost, ...) \
	report_warn(&(w)->report, levels_path(&(w)->levels), lost, __VA_ARGS__)

/* The walk ends here, because of the entry at hand. */
static int fatal(struct walk *w, int rc)
{
	return report_fatal(&w->report, levels_path(&w->levels), rc, &w->why);
}

/* The entry at hand cannot be read; w->why says why.  0: the walk goes on without it. */
static int unreadable(struct walk *w, int rc)
{
	return report_unreadable(&w->report, levels_path(&w->levels), rc, &w->why);
}

static int failed(struct walk *w, int rc, const char *what)
{
	return unreadable(w, err_sys(&w->why, -rc, "%s", what));
}

/* Begin an entry, to be passed on with push().  NULL: no memory. */
static struct entry *next_entry(struct walk *w, enum entry_kind kind, const char *name,
				const struct stat *st)
{
	struct entry *e = delay_next(&w->delay);

	if (e && entry_set(e, kind, name, st) == 0)
		return e;
	err_sys(&w->why, ENOMEM, "entries");
	return NULL;
}

static int push(struct walk *w)
{
	return delay_push(&w->delay, levels_top(&w->levels)->fd);
}

/* --- regular files --- */

/* Metadata of a file whose content is not needed, where it can only be had by opening it.
 * False: not even so, or it is not what it was any more. */
static bool open_for_metadata(struct walk *w, struct entry *e)
{
	struct level *dir = levels_top(&w->levels);
	AUTO(fd) int fd = source_open(dir->fd, entry_name(e), false, w->params->stop);
	struct stat st;

	if (fd < 0)
		return false; /* it is tried again, and complained about, as any other file */
	atomic_fetch_add_explicit(&w->stats->opened, 1, memory_order_relaxed);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !content_is_same(&st, &e->st))
		return false;
	e->st = st;
	return meta_read(&e->meta, fd, &st, &dir->features, w->params->skip_e2big_xattr,
			 &w->why) == 0;
}

/* False: it has to be read after all. */
static bool read_metadata(struct walk *w, struct entry *e)
{
	struct level *dir = levels_top(&w->levels);
	int rc = w->more.attributes == UNKNOWN ? 1 :
		 meta_read_at(&e->meta, dir->fd, entry_name(e), &e->st, w->more.attributes,
			      &dir->features, w->params->skip_e2big_xattr, &w->why);

	return rc > 0 ? open_for_metadata(w, e) : rc == 0;
}

/* Look for the content in the older archive. */
static int find_content(struct walk *w, struct entry *e)
{
	const struct walk_reuse *reuse = w->params->reuse;
	uint64_t old_offset;
	int rc;

	if (!reuse || emit_is_link(&w->emit, e))
		return 0;
	rc = reuse->find(reuse->arg, entry_name(e), &e->st, &old_offset, &w->why);
	if (rc <= 0)
		return rc;
	e->is_unchanged = read_metadata(w, e);
	e->old_payload_offset = old_offset;
	return 0;
}

static int visit_file(struct walk *w, const char *name, const struct stat *st)
{
	struct entry *e = next_entry(w, ENTRY_FILE, name, st);
	int rc;

	if (!e)
		return -ENOMEM;
	e->birth = w->more.birth;
	rc = find_content(w, e);
	return rc < 0 ? rc : push(w);
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
			       "more than %" PRIu64 " entr%s in the folders on one path"
			       " (--entries-max)",
			       w->params->entries_max, plural_y(w->params->entries_max));
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
		warn(w, false, ".pxarexclude: %zu line%s ignored%s: %s", bad, plural(bad),
		     bad == 1 ? "" : ", the last one", err_text(&w->why, -EINVAL));
	return 0;
}

static int read_directory(struct walk *w)
{
	struct level *dir = levels_top(&w->levels);
	int rc = add_exclude_file(w);

	if (rc == 0)
		rc = listing_read(&dir->names, dir->fd, w->dents, keep_name, w, &w->why);
	levels_path_reset(&w->levels);
	if (rc == 0 || !w->params->skip_read_errors || !content_is_damage(-rc))
		return rc;
	warn(w, true, "its list of entries ends early: %s", err_text(&w->why, rc));
	return 0;
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

/* The directory above cannot be opened again, perhaps as it was moved while we were below: what is
 * left of it is out of reach. */
static int give_up(struct walk *w, int rc)
{
	struct level *dir = levels_top(&w->levels);
	size_t left = dir->names.count - dir->next;

	levels_path_reset(&w->levels);
	dir->next = dir->names.count;
	if (!left)
		return 0;
	if (rc != -ENOENT)
		return unreadable(w, err_sys(&w->why, -rc, "its last %zu entries: open", left));
	warn(w, true, "moved while it was read; %zu of its entries are left out", left);
	return 0;
}

static int end_directory(struct walk *w)
{
	static const struct stat nothing;

	return next_entry(w, ENTRY_DIR_END, "", &nothing) ? push(w) : -ENOMEM;
}

static int leave_directory(struct walk *w)
{
	const struct walk_reuse *reuse = w->params->reuse;
	struct level *dir = levels_top(&w->levels), *parent = dir - 1;
	int rc = end_directory(w);

	if (rc == 0 && reuse)
		rc = reuse->dir_end(reuse->arg, &w->why);
	if (rc < 0)
		return rc;
	if (parent->dev == dir->dev)
		parent->features = dir->features; /* with what was found missing */
	rc = levels_reopen_parent(&w->levels);
	pop_level(w);
	return rc < 0 ? give_up(w, rc) : 0;
}

/* A mount point that is not entered: empty, with the metadata of what is mounted. */
static int archive_mount_point(struct walk *w)
{
	int rc = push(w);

	if (rc)
		return rc < 0 ? rc : 0;
	rc = end_directory(w);
	if (rc == 0)
		warn(w, false, "mount point: what is mounted there is left out");
	return rc;
}

static int descend(struct walk *w, struct entry *e, int fd)
{
	const struct walk_reuse *reuse = w->params->reuse;
	int rc = push_level(w, fd, &e->st, &e->features);

	if (rc < 0)
		return rc;
	rc = read_directory(w);
	if (rc < 0) {
		pop_level(w);
		return unreadable(w, rc);
	}
	rc = push(w);
	if (rc == EMIT_LEFT_OUT) {
		pop_level(w);
		return 0;
	}
	if (rc == 0 && reuse)
		rc = reuse->dir_begin(reuse->arg, entry_name(e), &w->why);
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
	struct entry *e;
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
	e = next_entry(w, ENTRY_DIR, name, &st);
	if (!e)
		return -ENOMEM;
	rc = meta_read(&e->meta, fd, &st, &features, w->params->skip_e2big_xattr, &w->why);
	if (rc < 0)
		return unreadable(w, rc);
	e->features = features;
	if (!enter)
		return archive_mount_point(w);
	return descend(w, e, steal_fd(&fd));
}

/* --- all else --- */

static int visit_symlink(struct walk *w, const char *name, const struct stat *st)
{
	char target[PXAR_TARGET_SIZE_MAX + 2];
	ssize_t size = readlinkat(levels_top(&w->levels)->fd, name, target, sizeof(target) - 1);
	struct entry *e;

	if (size < 0 && errno == EINVAL)
		return TYPE_CHANGED;
	if (size < 0)
		return failed(w, -errno, "readlink");
	if (size == 0 || size > PXAR_TARGET_SIZE_MAX) {
		warn(w, true, "left out: a link target of %zd bytes", size);
		return 0;
	}
	target[size] = '\0';
	e = next_entry(w, ENTRY_SYMLINK, name, st);
	if (!e || entry_set_target(e, target) < 0)
		return err_sys(&w->why, ENOMEM, "entries");
	meta_read_stat(&e->meta, st);
	return push(w);
}

/* Devices, fifos, sockets. */
static int visit_special(struct walk *w, enum entry_kind kind, const char *name,
			 const struct stat *st)
{
	struct entry *e = next_entry(w, kind, name, st);

	if (!e)
		return -ENOMEM;
	meta_read_stat(&e->meta, st);
	return push(w);
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
		return visit_special(w, ENTRY_DEVICE, name, st);
	case S_IFIFO:
	case S_IFSOCK:
		return visit_special(w, ENTRY_SPECIAL, name, st);
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
	w->more = *listing_more(&dir->names, i);
	rc = visit_as(w, name, listed);
	w->more = (struct listing_more){ .attributes = UNKNOWN };
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

static int open_root(struct walk *w, struct entry *root)
{
	AUTO(fd) int fd = source_open_root(w->params->source, w->params->no_follow_source);
	struct statfs fs;
	struct stat st;
	int rc;

	if (fd < 0)
		return fatal(w, err_sys(&w->why, -fd, "open"));
	if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
		return fatal(w, err_sys(&w->why, errno, "stat"));
	if (meta_fs_is_virtual((uint32_t)fs.f_type))
		return fatal(w, err_set(&w->why, EINVAL, "is on a virtual file system"));
	meta_features_of((uint32_t)fs.f_type, &root->features);
	rc = entry_set(root, ENTRY_DIR, "", &st);
	if (rc == 0)
		rc = find_devices(w, st.st_dev);
	if (rc < 0)
		return rc;
	rc = meta_read(&root->meta, fd, &st, &root->features, w->params->skip_e2big_xattr,
		       &w->why);
	if (rc < 0)
		return fatal(w, rc);
	return push_level(w, steal_fd(&fd), &st, &root->features);
}

static int begin_archive(struct walk *w)
{
	struct entry *root = delay_next(&w->delay);
	int rc = open_root(w, root);

	if (rc < 0)
		return rc;
	rc = read_directory(w);
	if (rc < 0)
		return fatal(w, rc);
	return emit_begin(&w->emit, levels_top(&w->levels)->fd, root);
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
		rc = delay_finish(&w->delay);
	return rc == 0 ? emit_finish(&w->emit) : rc;
}

static void walk_release(struct walk *w)
{
	delay_release(&w->delay);
	emit_release(&w->emit);
	levels_release(&w->levels);
	free(w->devs);
	free(w->dents);
	match_list_release(&w->patterns);
	wbuf_release(&w->exclude_text);
	report_release(&w->report);
}
DEFINE_AUTO_STRUCT(walk)

int walk_encode(const struct walk_params *params, struct walk_stats *stats, struct err *err)
{
	AUTO(walk) struct walk w = {
		.params = params,
		.stats = stats,
		.exclude_text = WBUF_INIT(SOURCE_EXCLUDE_FILE_SIZE_MAX),
		.dents = malloc(LISTING_DENTS_SIZE),
		.report = { .source = params->source,
			    .warn = params->warn,
			    .warn_arg = params->warn_arg,
			    .skip_damage = params->skip_read_errors,
			    .lost = &stats->skipped },
		.why = ERR_INIT,
	};
	int rc;

	report_init(&w.report);
	if (emit_init(&w.emit, params, stats, &w.report, &w.why) < 0 ||
	    delay_init(&w.delay, &w.emit) < 0 || levels_init(&w.levels) < 0 || !w.dents)
		return err_sys(err, ENOMEM, "%s", params->source);
	rc = walk_all(&w);
	if (rc < 0 && err)
		*err = w.why;
	return rc;
}
