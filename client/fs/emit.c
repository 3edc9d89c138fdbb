/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/emit.h"

#include "client/base/plural.h"
#include "client/fs/content.h"
#include "client/fs/prelude.h"
#include "client/fs/source_open.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/sysmacros.h>

enum {
	/* File content goes on in pieces of this size: they decide about cuts of chunks. */
	PIECE_SIZE = 4 << 20,
	READ_AHEAD_SIZE_MIN = 256 << 10,
};

static void count(atomic_uint_fast64_t *counter, uint64_t n)
{
	/* There is one writer only: no locked instruction is needed. */
	atomic_store_explicit(counter,
			      atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static bool stopped(const struct emit *e)
{
	return e->params->stop &&
	       atomic_load_explicit(e->params->stop, memory_order_relaxed);
}

/* --- messages about the entry at hand, which e->dirs.path names --- */

#define warn(e, lost, ...) report_warn((e)->report, levels_path(&(e)->dirs), lost, __VA_ARGS__)

static int fatal(struct emit *e, int rc)
{
	return report_fatal(e->report, levels_path(&e->dirs), rc, e->why);
}

static int unreadable(struct emit *e, int rc)
{
	return report_unreadable(e->report, levels_path(&e->dirs), rc, e->why);
}

static int failed(struct emit *e, int rc, const char *what)
{
	return unreadable(e, err_sys(e->why, -rc, "%s", what));
}

/* What follows a call of the encoder that wrote an entry, or not. */
static int encoded(struct emit *e, int rc, char type, const char *name, uint64_t size,
		   const struct metadata *meta)
{
	const struct walk_observer *o = &e->params->observer;

	if (rc == -E2BIG) {
		warn(e, true, "left out: %s", err_text(e->why, rc));
		return 0;
	}
	if (rc < 0)
		return rc;
	count(&e->stats->entries, 1);
	if (!o->entry)
		return 0;
	return o->entry(o->arg, type, name, size, meta->mtime_sec, e->why);
}

/* --- content --- */

static int pad_with_zeros(struct emit *e, uint64_t left)
{
	size_t size = left < PIECE_SIZE ? (size_t)left : PIECE_SIZE;

	count(&e->stats->shrunk, 1);
	warn(e, true, "shrank while it was read; zeros stand for its last %" PRIu64 " byte%s", left,
	     plural(left));
	memset(e->piece, 0, size);
	for (; left; left -= size) {
		int rc;

		if (size > left)
			size = (size_t)left;
		rc = encoder_file_write(e->encoder, e->piece, size, e->why);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Where to read `size` bytes of content to. */
static uint8_t *buffer_for(struct emit *e, size_t size)
{
	const struct walk_params *p = e->params;
	uint8_t *reserved = p->reserve ? p->reserve(p->reserve_arg, size) : NULL;

	return reserved ? reserved : e->piece;
}

/* Exactly the `size` bytes that were announced. */
static int copy_bytes(struct emit *e, struct content *c, uint64_t size)
{
	for (uint64_t left = size; left;) {
		size_t wanted = left < PIECE_SIZE ? (size_t)left : PIECE_SIZE;
		/* One byte more than there should be shows a file that grew. */
		size_t most = wanted + (wanted == left);
		uint8_t *buffer = buffer_for(e, most);
		ssize_t n = content_read(c, size - left, buffer, wanted, most, e->why);
		size_t got = n > (ssize_t)wanted ? wanted : (size_t)n;
		int rc;

		if (n < 0)
			return fatal(e, (int)n);
		if (stopped(e))
			return err_set(e->why, ECANCELED, "stopped");
		rc = got ? encoder_file_write(e->encoder, buffer, got, e->why) : 0;
		if (rc < 0)
			return rc;
		count(&e->stats->bytes, got);
		left -= got;
		if (got < wanted)
			return pad_with_zeros(e, left);
		if (n > (ssize_t)wanted)
			warn(e, false, "grew while it was read; what came late is left out");
	}
	return 0;
}

/* What was read while somebody wrote is perhaps what never was, under the mtime of before.  Another
 * size has been told, if it mattered. */
static void look_again(struct emit *e, int fd, const struct stat *before)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && st.st_size == before->st_size && !content_is_same(&st, before))
		warn(e, false, CONTENT_TORN_TEXT);
}

static int copy_content(struct emit *e, int fd, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size;
	struct content c;
	int rc;

	content_init(&c, fd, st, e->params->skip_read_errors);
	if (size >= READ_AHEAD_SIZE_MIN)
		posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	rc = copy_bytes(e, &c, size);
	count(&e->stats->hole_bytes, c.hole_bytes);
	if (rc == 0)
		look_again(e, fd, st);
	if (rc < 0 || !c.lost_errno)
		return rc;
	count(&e->stats->damaged, 1);
	warn(e, true, CONTENT_LOST_FORMAT, CONTENT_LOST_ARGUMENTS(&c));
	return 0;
}

/* --- hard links --- */

static struct link_table_inode inode_of(const struct stat *st, uint64_t birth)
{
	return (struct link_table_inode){ st->st_dev, st->st_ino, birth };
}

bool emit_is_link(const struct emit *e, const struct entry *file)
{
	const struct link_table_inode inode = inode_of(&file->st, file->birth);
	const char *path;
	uint64_t offset;

	return file->st.st_nlink > 1 && link_table_find(&e->links, &inode, &path, &offset);
}

static int put_link(struct emit *e, const struct link_table_inode *inode, const char *path,
		    uint64_t offset)
{
	int rc = link_table_put(&e->links, inode, path, offset);

	return rc < 0 ? err_sys(e->why, -rc, "hard links") : 0;
}

int emit_expect_link(struct emit *e, const struct entry *file)
{
	const struct link_table_inode inode = inode_of(&file->st, file->birth);

	return file->st.st_nlink > 1 ? put_link(e, &inode, "", LINK_TABLE_PENDING) : 0;
}

static uint64_t birth_of(int fd)
{
	struct statx x;

	return statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &x) < 0 ? 0 : listing_birth(&x);
}

static int remember_link(struct emit *e, const struct stat *st, uint64_t birth, uint64_t offset)
{
	const struct link_table_inode inode = inode_of(st, birth);

	if (st->st_nlink < 2)
		return 0;
	if (e->dirs.path.size - 1 > PXAR_TARGET_SIZE_MAX) {
		warn(e, false, "its path is too long for hard links to it: a file of its own");
		return 0;
	}
	return put_link(e, &inode, levels_path(&e->dirs) + 1, offset);
}

/* A further name of an inode that is in the archive: 1 it was, 0 it is not. */
static int emit_link(struct emit *e, const struct entry *file)
{
	const struct link_table_inode inode = inode_of(&file->st, file->birth);
	const char *name = entry_name(file), *path;
	uint64_t offset;
	int rc;

	if (file->st.st_nlink < 2 || !link_table_find(&e->links, &inode, &path, &offset) ||
	    offset == LINK_TABLE_PENDING)
		return 0;
	meta_read_stat(&e->meta, &file->st);
	rc = encoder_hardlink(e->encoder, name, path, offset, e->why);
	if (rc == 0)
		count(&e->stats->links, 1);
	rc = encoded(e, rc, 'h', name, 0, &e->meta);
	return rc < 0 ? rc : 1;
}

/* --- regular files --- */

static int emit_content(struct emit *e, const char *name, int fd, const struct stat *st)
{
	const struct walk_reuse *reuse = e->params->reuse;
	uint64_t size = (uint64_t)st->st_size, offset;
	int rc = reuse ? reuse->before_payload(reuse->arg, e->encoder, e->why) : 0;

	if (rc < 0)
		return rc;
	rc = encoder_file_begin(e->encoder, name, &e->meta, size, &offset, e->why);
	if (rc < 0)
		return encoded(e, rc, 'f', name, size, &e->meta);
	rc = remember_link(e, st, st->st_nlink > 1 ? birth_of(fd) : 0, offset);
	if (rc == 0)
		rc = copy_content(e, fd, st);
	if (rc == 0)
		rc = encoder_file_end(e->encoder, e->why);
	if (rc < 0)
		return rc;
	count(&e->stats->files, 1);
	return encoded(e, 0, 'f', name, size, &e->meta);
}

/* Open the file and archive what it is now. */
static int read_file(struct emit *e, const struct entry *entry, int dir_fd)
{
	const char *name = entry_name(entry);
	struct stat st;
	int rc;

	AUTO(fd) int fd = source_open(dir_fd, name, false, e->params->stop);
	if (fd == -ELOOP || fd == -ENXIO || fd == -ENODEV)
		return EMIT_TYPE_CHANGED;
	if (fd < 0)
		return failed(e, fd, "open");
	count(&e->stats->opened, 1);
	if (fstat(fd, &st) < 0)
		return failed(e, -errno, "stat");
	if (!S_ISREG(st.st_mode))
		return EMIT_TYPE_CHANGED;
	rc = meta_read(&e->meta, fd, &st, &levels_top(&e->dirs)->features,
		       e->params->skip_e2big_xattr, e->why);
	if (rc < 0)
		return unreadable(e, rc);
	return emit_content(e, name, fd, &st);
}

/* One that has waited. */
static int read_file_late(struct emit *e, const struct entry *entry)
{
	int dir_fd = levels_fd(&e->dirs), rc;

	if (dir_fd == -ENOENT) {
		warn(e, true, "left out: its folder was moved before it could be read");
		return 0;
	}
	if (dir_fd < 0)
		return failed(e, dir_fd, "open its folder");
	rc = read_file(e, entry, dir_fd);
	if (rc != EMIT_TYPE_CHANGED)
		return rc;
	warn(e, true, "left out: it was a file and is something else now");
	return 0;
}

/* The content is, or will be, in the payload stream at `payload_offset`. */
static int emit_reused(struct emit *e, const struct entry *entry, uint64_t payload_offset)
{
	uint64_t size = (uint64_t)entry->st.st_size, offset;
	int rc = encoder_file_reuse(e->encoder, entry_name(entry), &entry->meta, payload_offset,
				    size, &offset, e->why);

	if (rc == 0) {
		count(&e->stats->files, 1);
		count(&e->stats->reused_files, 1);
		count(&e->stats->reused_bytes, size);
		rc = remember_link(e, &entry->st, entry->birth, offset);
	}
	return encoded(e, rc, 'f', entry_name(entry), size, &entry->meta);
}

static int emit_file(struct emit *e, const struct entry *entry, int dir_fd)
{
	const struct walk_reuse *reuse = e->params->reuse;
	uint64_t payload_offset;
	int rc = 0;

	if (entry->is_counted) {
		rc = reuse->take(reuse->arg, e->encoder, &payload_offset, e->why);
		if (rc == 1)
			return emit_reused(e, entry, payload_offset);
	}
	if (rc == 0)
		rc = emit_link(e, entry);
	if (rc)
		return rc < 0 ? rc : 0;
	return dir_fd >= 0 ? read_file(e, entry, dir_fd) : read_file_late(e, entry);
}

/* --- folders --- */

static int emit_dir(struct emit *e, const struct entry *entry)
{
	const struct walk_observer *o = &e->params->observer;
	int rc = encoder_dir_begin(e->encoder, entry_name(entry), &entry->meta, e->why);

	if (rc == -E2BIG) {
		encoded(e, rc, 'd', entry_name(entry), 0, &entry->meta);
		return EMIT_LEFT_OUT;
	}
	if (rc == 0)
		rc = levels_push(&e->dirs, -1, &entry->st, &entry->features);
	if (rc < 0)
		return rc;
	count(&e->stats->entries, 1);
	return o->dir_begin ? o->dir_begin(o->arg, entry_name(entry), e->why) : 0;
}

static int emit_dir_end(struct emit *e)
{
	const struct walk_observer *o = &e->params->observer;
	struct level *dir = levels_top(&e->dirs), *parent = dir - 1;
	int rc = encoder_dir_end(e->encoder, e->why);

	if (rc == 0 && o->dir_end)
		rc = o->dir_end(o->arg, e->why);
	if (parent->dev == dir->dev)
		parent->features = dir->features; /* with what was found missing */
	levels_pop(&e->dirs);
	return rc;
}

/* --- all --- */

static int emit_rest(struct emit *e, const struct entry *entry)
{
	const struct stat *st = &entry->st;
	const char *name = entry_name(entry);
	int rc;

	switch (entry->kind) {
	case ENTRY_SYMLINK:
		rc = encoder_symlink(e->encoder, name, &entry->meta, entry_target(entry), e->why);
		return encoded(e, rc, 'l', name, 0, &entry->meta);
	case ENTRY_DEVICE:
		rc = encoder_device(e->encoder, name, &entry->meta, major(st->st_rdev),
				    minor(st->st_rdev), e->why);
		return encoded(e, rc, S_ISCHR(st->st_mode) ? 'c' : 'b', name, 0, &entry->meta);
	default:
		rc = encoder_special(e->encoder, name, &entry->meta, e->why);
		return encoded(e, rc, S_ISFIFO(st->st_mode) ? 'p' : 's', name, 0, &entry->meta);
	}
}

/* Below a folder that was left out.  What others have counted must be taken all the same. */
static int pass_over(struct emit *e, const struct entry *entry)
{
	const struct walk_reuse *reuse = e->params->reuse;
	uint64_t unused;
	int rc;

	if (entry->kind == ENTRY_DIR)
		e->left_out++;
	else if (entry->kind == ENTRY_DIR_END)
		e->left_out--;
	if (!entry->is_counted)
		return 0;
	rc = reuse->take(reuse->arg, e->encoder, &unused, e->why);
	return rc < 0 ? rc : 0;
}

int emit_entry(struct emit *e, const struct entry *entry, int dir_fd)
{
	int rc;

	if (e->left_out)
		return pass_over(e, entry);
	if (entry->kind == ENTRY_DIR_END)
		return emit_dir_end(e);
	rc = levels_path_set(&e->dirs, entry_name(entry));
	if (rc < 0)
		return err_sys(e->why, -rc, "path");
	if (entry->kind == ENTRY_FILE)
		return emit_file(e, entry, dir_fd);
	if (entry->kind != ENTRY_DIR)
		return emit_rest(e, entry);
	rc = emit_dir(e, entry);
	if (rc != EMIT_LEFT_OUT || dir_fd >= 0)
		return rc;
	e->left_out = 1;
	return 0;
}

/* --- begin and end --- */

int emit_init(struct emit *e, const struct walk_params *params, struct walk_stats *stats,
	      struct report *report, struct err *why)
{
	*e = (struct emit){
		.params = params,
		.stats = stats,
		.report = report,
		.why = why,
		.piece = malloc(PIECE_SIZE + 1),
	};
	metadata_init(&e->meta);
	if (levels_init(&e->dirs) < 0 || !e->piece)
		return err_sys(why, ENOMEM, "%s", params->source);
	return 0;
}

void emit_release(struct emit *e)
{
	encoder_free(e->encoder);
	levels_release(&e->dirs);
	link_table_release(&e->links);
	metadata_release(&e->meta);
	free(e->piece);
}

int emit_begin(struct emit *e, int fd, const struct entry *root)
{
	struct encoder_params params = e->params->encoder;
	const struct match_list *patterns = e->params->patterns;
	AUTO(wbuf) struct wbuf prelude = WBUF_INIT(PXAR_PRELUDE_SIZE_MAX);
	int rc = 0, own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (own < 0)
		return fatal(e, err_sys(e->why, errno, "open"));
	if (levels_push(&e->dirs, own, &root->st, &root->features) < 0)
		return err_sys(e->why, ENOMEM, "levels");
	if (e->params->split && patterns && patterns->count) {
		rc = prelude_encode(patterns, &prelude, e->why);
		params.prelude = prelude.data;
		params.prelude_size = prelude.size;
	}
	if (rc == 0)
		rc = encoder_new(&e->encoder, &params, &root->meta, e->why);
	if (rc == 0)
		count(&e->stats->entries, 1);
	return rc;
}

/* Version 1 records the patterns of the command line in a file behind all others. */
static int emit_patterns(struct emit *e)
{
	const struct match_list *patterns = e->params->patterns;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(PXAR_PRELUDE_SIZE_MAX);
	int rc;

	if (e->params->split || !patterns || !patterns->count)
		return 0;
	rc = match_list_text(patterns, &text);
	if (rc < 0)
		return err_sys(e->why, -rc, "patterns");
	metadata_clear(&e->meta);
	e->meta.mode = PXAR_MODE_REGULAR | 0600;
	e->meta.uid = getuid();
	e->meta.gid = getgid();
	rc = encoder_file_begin(e->encoder, PRELUDE_FILE_NAME, &e->meta, text.size, NULL, e->why);
	if (rc == 0)
		rc = encoder_file_write(e->encoder, text.data, text.size, e->why);
	if (rc == 0)
		rc = encoder_file_end(e->encoder, e->why);
	return rc < 0 ? rc : encoded(e, 0, 'f', PRELUDE_FILE_NAME, text.size, &e->meta);
}

int emit_finish(struct emit *e)
{
	const struct walk_reuse *reuse = e->params->reuse;
	int rc = emit_patterns(e);

	if (rc == 0 && reuse)
		rc = reuse->finish(reuse->arg, e->encoder, e->why);
	return rc == 0 ? encoder_finish(e->encoder, e->why) : rc;
}
