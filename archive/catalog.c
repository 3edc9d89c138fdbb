/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/catalog.h"

#include "archive/base/grow.h"

#include <assert.h>

enum {
	ROOT_POINTER_SIZE = 8,
	UNSIGNED_SIZE_MAX = 10,
	VARINT_SIZE_MAX = 11, /* a negative number */
};

/* Of one open directory's entries: some 100 million. */
#define TABLE_SIZE_MAX ((size_t)UINT32_MAX)

const uint8_t CATALOG_MAGIC[8] = { 0x91, 0xfd, 0x60, 0xf9, 0xc4, 0x67, 0x58, 0xd5 };

static bool is_type(uint8_t type)
{
	return type != '\0' && strchr("dflhbcps", type);
}

/* --- numbers --- */

/* The groups of seven bits up to the last byte, which is the first below 0x80.  False when they
 * exceed 64 bits (or the cursor overran). */
static bool get_groups(struct cursor *c, uint64_t *value, uint8_t *last)
{
	uint64_t v = 0;

	for (unsigned shift = 0;; shift += 7) {
		uint8_t byte = cursor_u8(c);
		uint64_t group = byte & 0x7f;

		if (c->overrun || (shift >= 63 && group >> 1) || (shift > 63 && group))
			return false;
		if (shift <= 63)
			v |= group << shift;
		if (byte < 0x80) {
			*value = v;
			*last = byte;
			return true;
		}
		if (shift >= 70)
			return false;
	}
}

static uint64_t get_u64(struct cursor *c)
{
	size_t begin = c->position;
	uint64_t value;
	uint8_t last;

	if (get_groups(c, &value, &last) && c->position - begin <= UNSIGNED_SIZE_MAX)
		return value;
	c->overrun = true;
	return 0;
}

/* A zero byte at the end makes the number negative. */
static int64_t get_i64(struct cursor *c)
{
	size_t begin = c->position;
	uint64_t value;
	uint8_t last;

	if (get_groups(c, &value, &last)) {
		if (last == 0 && c->position - begin > 1 && value <= (uint64_t)INT64_MAX + 1)
			return (int64_t)(0 - value);
		if ((last != 0 || c->position - begin == 1) && value <= INT64_MAX)
			return (int64_t)value;
	}
	c->overrun = true;
	return 0;
}

static size_t encode_groups(uint8_t *to, uint64_t value, bool more)
{
	size_t n = 0;

	while (value >= 0x80) {
		to[n++] = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	to[n++] = (uint8_t)(value | (more ? 0x80 : 0));
	return n;
}

static void put_u64(struct wbuf *b, uint64_t value)
{
	uint8_t bytes[VARINT_SIZE_MAX];

	wbuf_put(b, bytes, encode_groups(bytes, value, false));
}

static void put_i64(struct wbuf *b, int64_t value)
{
	uint8_t bytes[VARINT_SIZE_MAX];
	size_t n;

	if (value >= 0) {
		put_u64(b, (uint64_t)value);
		return;
	}
	n = encode_groups(bytes, 0 - (uint64_t)value, true);
	bytes[n++] = 0;
	wbuf_put(b, bytes, n);
}

/* --- reading --- */

int catalog_open(struct catalog *out, const void *data, size_t size, struct err *err)
{
	struct catalog c = { .data = data, .size = size };

	if (size < sizeof(CATALOG_MAGIC) + ROOT_POINTER_SIZE)
		return err_set(err, EBADMSG, "catalog too small (%zu bytes)", size);
	if (memcmp(data, CATALOG_MAGIC, sizeof(CATALOG_MAGIC)) != 0)
		return err_set(err, EBADMSG, "no catalog (wrong magic)");
	c.root = le64_get(c.data + size - ROOT_POINTER_SIZE);
	if (c.root < sizeof(CATALOG_MAGIC) || c.root >= size - ROOT_POINTER_SIZE)
		return err_set(err, EBADMSG, "catalog's root points outside, to %llu",
			       (unsigned long long)c.root);
	*out = c;
	return 0;
}

int catalog_dir_open(const struct catalog *c, uint64_t offset, struct catalog_dir *out,
		     struct err *err)
{
	struct cursor all = cursor_of(c->data, c->size - ROOT_POINTER_SIZE);
	struct catalog_dir dir = { .offset = offset };
	uint64_t table_size;

	if (offset < sizeof(CATALOG_MAGIC) || offset >= all.size)
		return err_set(err, EBADMSG, "catalog has no directory at %llu",
			       (unsigned long long)offset);
	cursor_bytes(&all, (size_t)offset);
	table_size = get_u64(&all);
	if (table_size > cursor_left(&all))
		all.overrun = true;
	dir.entries = cursor_sub(&all, (size_t)table_size);
	dir.entries_left = get_u64(&dir.entries);
	if (dir.entries.overrun)
		return err_set(err, EBADMSG, "catalog directory at %llu is cut off",
			       (unsigned long long)offset);
	*out = dir;
	return 0;
}

static int bad_entry(const struct catalog_dir *dir, const char *what, struct err *err)
{
	return err_set(err, EBADMSG, "catalog directory at %llu: %s",
		       (unsigned long long)dir->offset, what);
}

static int get_name(struct catalog_dir *dir, struct catalog_entry *out, struct err *err)
{
	uint64_t size = get_u64(&dir->entries);
	const uint8_t *name;

	if (size > CATALOG_NAME_SIZE_MAX)
		return bad_entry(dir, "name too long", err);
	name = cursor_bytes(&dir->entries, (size_t)size);
	if (!name)
		return bad_entry(dir, "ends inside a name", err);
	if (size == 0 || memchr(name, '\0', size) || memchr(name, '/', size))
		return bad_entry(dir, "name is empty or holds '/' or NUL", err);
	memcpy(out->name, name, size);
	out->name[size] = '\0';
	if (strcmp(out->name, ".") == 0 || strcmp(out->name, "..") == 0)
		return bad_entry(dir, "name is '.' or '..'", err);
	return 0;
}

static int get_fields(struct catalog_dir *dir, struct catalog_entry *out, struct err *err)
{
	out->dir = out->size = 0;
	out->mtime = 0;
	if (out->type == 'd') {
		uint64_t distance = get_u64(&dir->entries);

		if (distance == 0 || distance > dir->offset - sizeof(CATALOG_MAGIC))
			return bad_entry(dir, "member lies outside", err);
		out->dir = dir->offset - distance;
	} else if (out->type == 'f') {
		out->size = get_u64(&dir->entries);
		out->mtime = get_i64(&dir->entries);
	}
	if (dir->entries.overrun)
		return bad_entry(dir, "ends inside an entry", err);
	return 0;
}

int catalog_dir_next(struct catalog_dir *dir, struct catalog_entry *out, struct err *err)
{
	uint8_t type;
	int rc;

	if (dir->entries_left == 0) {
		if (!cursor_done(&dir->entries))
			return bad_entry(dir, "bytes left over", err);
		return 1;
	}
	type = cursor_u8(&dir->entries);
	if (!is_type(type))
		return bad_entry(dir, dir->entries.overrun ? "ends before its last entry" :
				 "unknown type of entry", err);
	out->type = (char)type;
	rc = get_name(dir, out, err);
	if (rc == 0)
		rc = get_fields(dir, out, err);
	if (rc == 0)
		dir->entries_left--;
	return rc;
}

/* A walk in progress: the directories on the path, the one being read last. */
struct walk {
	const struct catalog *catalog;
	const struct catalog_visitor *visitor;
	struct catalog_dir *path;
	size_t depth, capacity;
	size_t entries_left; /* each takes at least 3 bytes, unless directories are shared */
};

static int enter(struct walk *w, uint64_t offset, struct err *err)
{
	int rc = grow(&w->path, &w->capacity, w->depth + 1, CATALOG_DEPTH_MAX, sizeof(*w->path));

	if (rc == -E2BIG)
		return err_set(err, EBADMSG, "catalog nested too deep");
	if (rc < 0)
		return err_set(err, ENOMEM, "out of memory");
	return catalog_dir_open(w->catalog, offset, &w->path[w->depth++], err);
}

static int visit(struct walk *w, const struct catalog_entry *entry, struct err *err)
{
	const struct catalog_visitor *v = w->visitor;
	int rc;

	if (w->entries_left == 0)
		return err_set(err, EBADMSG, "catalog directories share their members");
	w->entries_left--;
	if (entry->type != 'd')
		return v->entry(v->arg, entry->type, entry->name, entry->size, entry->mtime, err);
	rc = v->dir_begin(v->arg, entry->name, err);
	return rc < 0 ? rc : enter(w, entry->dir, err);
}

static int walk_all(struct walk *w, struct err *err)
{
	struct catalog_entry entry;

	while (w->depth > 0) {
		int rc = catalog_dir_next(&w->path[w->depth - 1], &entry, err);

		if (rc == 0)
			rc = visit(w, &entry, err);
		else if (rc == 1)
			rc = --w->depth > 0 ? w->visitor->dir_end(w->visitor->arg, err) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

int catalog_walk(const struct catalog *c, uint64_t offset, const struct catalog_visitor *visitor,
		 struct err *err)
{
	struct walk w = {
		.catalog = c,
		.visitor = visitor,
		.entries_left = c->size / 3,
	};
	int rc = enter(&w, offset, err);

	if (rc == 0)
		rc = walk_all(&w, err);
	free(w.path);
	return rc;
}

/* --- writing --- */

/*
 * An open directory.  Where a sub-directory lies is stored as the distance from its parent,
 * whose own place is known only once all its members are written.  So `raw` holds the members
 * with fixed-width fields (type, u16 name size, name; 'd': offset; 'f': size, mtime), and they
 * are encoded when the directory is.
 */
struct catalog_level {
	struct wbuf name; /* with its NUL */
	struct wbuf raw;
	uint64_t entry_count;
};

static int out_of_room(const struct wbuf *b, struct err *err)
{
	return err_sys(err, -b->failed, "catalog");
}

static int write_out(struct catalog_writer *w, const void *data, size_t size, struct err *err)
{
	int rc = w->sink(w->sink_arg, data, size, err);

	if (rc == 0)
		w->offset += size;
	return rc;
}

/* The level at `depth`, empty; memory of earlier directories there is used again. */
static int clear_level(struct catalog_writer *w, size_t depth, struct err *err)
{
	struct catalog_level *level;

	if (depth == w->level_count) {
		struct catalog_level *levels =
			reallocarray(w->levels, depth + 1, sizeof(*levels));

		if (!levels)
			return err_set(err, ENOMEM, "out of memory");
		w->levels = levels;
		wbuf_init(&levels[depth].name, CATALOG_NAME_SIZE_MAX + 1);
		wbuf_init(&levels[depth].raw, TABLE_SIZE_MAX);
		w->level_count++;
	}
	level = &w->levels[depth];
	wbuf_clear(&level->name);
	wbuf_clear(&level->raw);
	level->entry_count = 0;
	return 0;
}

int catalog_writer_init(struct catalog_writer *w, catalog_sink sink, void *sink_arg,
			struct err *err)
{
	int rc;

	*w = (struct catalog_writer){ .sink = sink, .sink_arg = sink_arg };
	wbuf_init(&w->block, TABLE_SIZE_MAX);
	rc = clear_level(w, 0, err);
	if (rc == 0)
		rc = write_out(w, CATALOG_MAGIC, sizeof(CATALOG_MAGIC), err);
	if (rc < 0)
		catalog_writer_release(w);
	return rc;
}

void catalog_writer_release(struct catalog_writer *w)
{
	for (size_t i = 0; i < w->level_count; i++) {
		wbuf_release(&w->levels[i].name);
		wbuf_release(&w->levels[i].raw);
	}
	free(w->levels);
	wbuf_release(&w->block);
	w->levels = NULL;
	w->level_count = w->depth = 0;
}

static int check_name(const char *name, struct err *err)
{
	size_t size = strnlen(name, CATALOG_NAME_SIZE_MAX + 1);

	if (size == 0 || size > CATALOG_NAME_SIZE_MAX)
		return err_set(err, EINVAL, "a catalog cannot hold a name of %zu bytes", size);
	return 0;
}

/* The fields after the name follow. */
static struct wbuf *begin_entry(struct catalog_writer *w, char type, const char *name)
{
	struct catalog_level *level = &w->levels[w->depth];
	uint8_t name_size[2];

	le16_put(name_size, (uint16_t)strlen(name));
	wbuf_put_u8(&level->raw, (uint8_t)type);
	wbuf_put(&level->raw, name_size, sizeof(name_size));
	wbuf_put_text(&level->raw, name);
	level->entry_count++;
	return &level->raw;
}

static void encode_entry(struct wbuf *out, struct cursor *raw, uint64_t block_offset)
{
	uint8_t type = cursor_u8(raw);
	uint16_t name_size = cursor_u16(raw);

	wbuf_put_u8(out, type);
	put_u64(out, name_size);
	wbuf_put(out, cursor_bytes(raw, name_size), name_size);
	if (type == 'd') {
		put_u64(out, block_offset - cursor_u64(raw));
	} else if (type == 'f') {
		put_u64(out, cursor_u64(raw));
		put_i64(out, (int64_t)cursor_u64(raw));
	}
}

/* Write the directory at the current depth; `*offset` is where it lies. */
static int write_directory(struct catalog_writer *w, uint64_t *offset, struct err *err)
{
	const struct catalog_level *level = &w->levels[w->depth];
	struct cursor raw = cursor_of(level->raw.data, level->raw.size);
	uint8_t head[VARINT_SIZE_MAX];
	int rc;

	if (level->raw.failed)
		return out_of_room(&level->raw, err);
	*offset = w->offset;
	wbuf_clear(&w->block);
	put_u64(&w->block, level->entry_count);
	while (cursor_left(&raw) > 0)
		encode_entry(&w->block, &raw, *offset);
	if (w->block.failed)
		return out_of_room(&w->block, err);
	rc = write_out(w, head, encode_groups(head, w->block.size, false), err);
	return rc < 0 ? rc : write_out(w, w->block.data, w->block.size, err);
}

int catalog_writer_dir_begin(void *writer, const char *name, struct err *err)
{
	struct catalog_writer *w = writer;
	struct wbuf *kept;
	int rc = check_name(name, err);

	if (rc < 0)
		return rc;
	if (w->depth + 1 >= CATALOG_DEPTH_MAX)
		return err_set(err, E2BIG, "directories nested too deep for a catalog");
	rc = clear_level(w, w->depth + 1, err);
	if (rc < 0)
		return rc;
	kept = &w->levels[w->depth + 1].name;
	if (wbuf_put(kept, name, strlen(name) + 1) < 0)
		return out_of_room(kept, err);
	w->depth++;
	return 0;
}

int catalog_writer_dir_end(void *writer, struct err *err)
{
	struct catalog_writer *w = writer;
	const struct catalog_level *level = &w->levels[w->depth];
	struct wbuf *raw;
	uint64_t offset;
	int rc;

	assert(w->depth > 0);
	rc = write_directory(w, &offset, err);
	if (rc < 0)
		return rc;
	w->depth--;
	raw = begin_entry(w, 'd', (const char *)level->name.data);
	wbuf_put_u64(raw, offset);
	return raw->failed ? out_of_room(raw, err) : 0;
}

int catalog_writer_entry(void *writer, char type, const char *name, uint64_t size, int64_t mtime,
			 struct err *err)
{
	struct catalog_writer *w = writer;
	struct wbuf *raw;
	int rc = check_name(name, err);

	if (rc < 0)
		return rc;
	if (type == 'd' || !is_type((uint8_t)type))
		return err_set(err, EINVAL, "a catalog cannot hold an entry of type '%c'", type);
	raw = begin_entry(w, type, name);
	if (type == 'f') {
		wbuf_put_u64(raw, size);
		wbuf_put_u64(raw, (uint64_t)mtime);
	}
	return raw->failed ? out_of_room(raw, err) : 0;
}

int catalog_writer_finish(struct catalog_writer *w, struct err *err)
{
	uint8_t pointer[ROOT_POINTER_SIZE];
	uint64_t offset;
	int rc;

	assert(w->depth == 0);
	rc = write_directory(w, &offset, err);
	if (rc < 0)
		return rc;
	le64_put(pointer, offset);
	return write_out(w, pointer, sizeof(pointer), err);
}
