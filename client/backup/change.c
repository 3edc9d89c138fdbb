/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/change.h"

#include "archive/base/ckd.h"
#include "archive/base/le.h"
#include "archive/decoder.h"
#include "client/read/archive_open.h"

#include <string.h>

enum {
	/* Of the older metadata stream one chunk is read and one is fetched ahead. */
	CACHE_SIZE = 16 << 20,
	THREAD_COUNT = 2,
	AHEAD_SIZE = 4 << 20,
};

struct change {
	struct change_params params;
	struct chunk_cache *cache;
	struct fetch *fetch;
	struct archive *archive;
	const struct tree *tree;
	struct stream *stream;
	uint64_t position; /* in it, of the decoder */

	struct decoder *decoder;
	const struct decoder_event *event; /* not passed yet; NULL: the end, or damage */
	size_t depth; /* of the folder the walk is in */
	size_t missing; /* folders it is in that the older archive has not */
	struct tree_entry target; /* of a hard link */
};

/* --- the older archive, front to back --- */

static int read_stream(void *arg, void *buf, size_t size, size_t *got, struct err *err)
{
	struct change *c = arg;
	uint64_t left = stream_size(c->stream) - c->position;
	int rc = 0;

	*got = size < left ? size : (size_t)left;
	if (*got)
		rc = read_at_exact(stream_read_at(c->stream), buf, *got, c->position, err);
	if (rc < 0)
		return rc;
	c->position += *got;
	left -= *got;
	stream_hint(c->stream, c->position, c->position + (left < AHEAD_SIZE ? left : AHEAD_SIZE));
	return 0;
}

static void next(struct change *c)
{
	struct err err = ERR_INIT;
	int rc = decoder_next(c->decoder, &c->event, &err);

	if (rc != 0)
		c->event = NULL;
	if (rc < 0)
		c->params.note(c->params.note_arg, err_text(&err, rc));
}

static bool at_member(const struct change *c)
{
	return c->event && c->event->kind != DECODER_DIR_END && c->event->depth == c->depth + 1;
}

static bool at_folder(const struct change *c)
{
	return c->event->kind == DECODER_ENTRY && metadata_is_directory(c->event->meta);
}

static void skip_member(struct change *c)
{
	size_t depth = c->event->depth;

	if (at_folder(c))
		do
			next(c);
		while (c->event && (c->event->kind != DECODER_DIR_END || c->event->depth > depth));
	if (c->event)
		next(c);
}

/* Go to the member of that name; false, and to the one behind, when there is none. */
static bool seek(struct change *c, const char *name)
{
	int order = -1;

	if (c->missing)
		return false;
	while (at_member(c) && (order = strcmp(c->event->name, name)) < 0)
		skip_member(c);
	return order == 0;
}

void change_dir_begin(struct change *c, const char *name)
{
	if (!seek(c, name) || !at_folder(c)) {
		c->missing++;
		return;
	}
	c->depth++;
	next(c);
}

void change_dir_end(struct change *c)
{
	if (c->missing) {
		c->missing--;
		return;
	}
	while (at_member(c))
		skip_member(c);
	if (c->event)
		next(c);
	c->depth--;
}

/* --- comparing --- */

/* What a file's content was. */
struct content {
	const struct metadata *meta;
	uint64_t size, offset;
};

/* The first name is gone, or was not met yet: look at it by its place. */
static bool resolve_link(struct change *c, struct content *out)
{
	struct read_at *source = stream_read_at(c->stream);
	uint8_t header[PXAR_HEADER_SIZE];
	uint64_t entry_offset;

	if (read_at_exact(source, header, sizeof(header), c->event->target_offset, NULL) < 0 ||
	    ckd_add(&entry_offset, c->event->target_offset, le64_get(header + 8)) ||
	    tree_entry_at(c->tree, source, entry_offset, &c->target, NULL) < 0)
		return false;
	*out = (struct content){ &c->target.meta, c->target.content_size,
				 c->target.content_offset };
	return true;
}

static bool old_content(struct change *c, struct content *out)
{
	if (c->event->kind == DECODER_HARDLINK)
		return resolve_link(c, out);
	*out = (struct content){ c->event->meta, c->event->content_size,
				 c->event->content_offset };
	return true;
}

static bool is_unchanged(const struct change *c, const struct content *old,
			 const struct stat *st)
{
	return (old->meta->mode & PXAR_MODE_TYPE) == PXAR_MODE_REGULAR &&
	       old->size == (uint64_t)st->st_size && old->meta->mtime_sec == st->st_mtim.tv_sec &&
	       old->meta->mtime_nsec == (uint64_t)st->st_mtim.tv_nsec &&
	       !(c->params.detect_ctime && st->st_ctim.tv_sec >= c->params.since);
}

bool change_find(struct change *c, const char *name, const struct stat *st,
		 uint64_t *old_offset)
{
	struct content old;

	if (!seek(c, name) || !old_content(c, &old) || !is_unchanged(c, &old, st))
		return false;
	*old_offset = old.offset;
	return true;
}

/* --- opening --- */

static int start_decoder(struct change *c, struct err *err)
{
	const struct decoder_params params = { .meta = { read_stream, c } };
	int rc = decoder_new(&c->decoder, &params, err);

	if (rc == 0)
		rc = decoder_next(c->decoder, &c->event, err); /* the root */
	if (rc == 0)
		rc = decoder_next(c->decoder, &c->event, err);
	return rc;
}

static int open_archive(struct change *c, struct err *err)
{
	int rc;

	c->cache = chunk_cache_new(CACHE_SIZE);
	c->fetch = c->cache ? fetch_new(c->cache, THREAD_COUNT) : NULL;
	if (!c->fetch)
		return err_set(err, ENOMEM, "out of memory");
	rc = archive_open_in(&c->archive, c->fetch, c->params.reader, c->params.manifest,
			     c->params.key, c->params.archive_name, err);
	if (rc < 0)
		return rc;
	c->stream = archive_meta(c->archive);
	rc = archive_tree(c->archive, &c->tree, err);
	if (rc == 0 && c->tree->version != PXAR_VERSION_2)
		rc = err_set(err, EOPNOTSUPP, "it is a single stream");
	return rc < 0 ? rc : start_decoder(c, err);
}

int change_new(struct change **out, const struct change_params *params, struct err *err)
{
	AUTO(change) struct change *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(err, ENOMEM, "out of memory");
	c->params = *params;
	tree_entry_init(&c->target);
	rc = open_archive(c, err);
	if (rc < 0)
		return rc;
	*out = steal(&c);
	return 0;
}

void change_free(struct change *c)
{
	if (!c)
		return;
	decoder_free(c->decoder);
	if (c->fetch)
		fetch_stop(c->fetch);
	archive_free(c->archive);
	fetch_free(c->fetch);
	chunk_cache_free(c->cache);
	tree_entry_release(&c->target);
	free(c);
}
