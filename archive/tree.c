/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/tree.h"

#include "archive/base/ckd.h"
#include "archive/base/le.h"
#include "archive/base/siphash.h"
#include "archive/goodbye.h"
#include "archive/head.h"
#include "archive/item.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	ENTRY_SIZE_MIN = PXAR_HEADER_SIZE + PXAR_ENTRY_V1_BODY_SIZE,
	GOODBYE_SIZE_MIN = PXAR_HEADER_SIZE + PXAR_GOODBYE_SLOT_SIZE,
	/* FILENAME of one letter, HARDLINK to another. */
	MEMBER_SIZE_MIN = PXAR_HEADER_SIZE + 2 + PXAR_HEADER_SIZE + 8 + 2,
	TAIL_READ_SIZE = 512, /* with it comes the whole table of a small directory */
	SLOT_BLOCK_COUNT = 512, /* slots read at once */
	SEARCH_BLOCK_COUNT = 127, /* the top seven levels of the search tree */
};

void tree_window_init(struct tree_window *w)
{
	w->begin = w->narrow_end = 0;
	wbuf_init(&w->bytes, HEAD_SIZE_MAX);
}

void tree_window_release(struct tree_window *w)
{
	wbuf_release(&w->bytes);
}

void tree_entry_init(struct tree_entry *e)
{
	memset(e, 0, sizeof(*e));
	metadata_init(&e->meta);
	wbuf_init(&e->text, PXAR_TARGET_SIZE_MAX + 1);
	wbuf_init(&e->name, PXAR_NAME_SIZE_MAX + 1);
	tree_window_init(&e->scratch);
}

void tree_entry_release(struct tree_entry *e)
{
	metadata_release(&e->meta);
	wbuf_release(&e->text);
	wbuf_release(&e->name);
	tree_window_release(&e->scratch);
}

/* --- directories --- */

/* From the tail slot to the table's begin and the directory's start, as stored. */
static int locate_table(struct read_at *meta, uint64_t dir_end, struct tree_dir *out,
			struct err *err)
{
	uint8_t bytes[TAIL_READ_SIZE], header[PXAR_HEADER_SIZE];
	size_t held = dir_end < sizeof(bytes) ? (size_t)dir_end : sizeof(bytes);
	struct goodbye_slot tail;
	int rc;

	if (dir_end > meta->size || dir_end < ENTRY_SIZE_MIN + GOODBYE_SIZE_MIN)
		return err_set(err, EBADMSG, "no directory can end there");
	rc = read_at_exact(meta, bytes, held, dir_end - held, err);
	if (rc < 0)
		return rc;
	rc = goodbye_tail_decode(bytes + held - PXAR_GOODBYE_SLOT_SIZE, &tail,
				 &out->member_count, err);
	if (rc < 0)
		return rc;
	if (ckd_sub(&out->goodbye_offset, dir_end, tail.size) ||
	    ckd_sub(&out->entry_offset, out->goodbye_offset, tail.offset))
		return err_set(err, EBADMSG, "goodbye table reaches before the archive");
	if (tail.size <= held) {
		memcpy(header, bytes + held - tail.size, sizeof(header));
	} else {
		rc = read_at_exact(meta, header, sizeof(header), out->goodbye_offset, err);
		if (rc < 0)
			return rc;
	}
	if (le64_get(header) != PXAR_GOODBYE || le64_get(header + 8) != tail.size)
		return err_set(err, EBADMSG,
			       "goodbye table has no header at offset %" PRIu64,
			       out->goodbye_offset);
	out->end = dir_end;
	return 0;
}

/* The table was found; is there room for the members it claims? */
static int check_extent(const struct tree_dir *dir, struct err *err)
{
	uint64_t room;

	if (ckd_sub(&room, dir->goodbye_offset, dir->entry_offset) || room < ENTRY_SIZE_MIN)
		return err_set(err, EBADMSG, "goodbye table gives a wrong start, %" PRIu64,
			       dir->entry_offset);
	if (dir->member_count > (room - ENTRY_SIZE_MIN) / MEMBER_SIZE_MIN)
		return err_set(err, EBADMSG, "goodbye table has %" PRIu64
			       " members, but only %" PRIu64 " bytes for them",
			       dir->member_count, room);
	return 0;
}

/* Where a directory starts must be the ENTRY of one.  What follows is not looked at, so that
 * damage there leaves its members within reach. */
static int check_dir_start(struct read_at *meta, uint64_t offset, struct err *err)
{
	uint8_t entry[PXAR_HEADER_SIZE + 8];
	uint64_t type, size;
	int rc = read_at_exact(meta, entry, sizeof(entry), offset, err);

	if (rc < 0)
		return rc;
	type = le64_get(entry);
	size = le64_get(entry + 8);
	if (!(type == PXAR_ENTRY && size == PXAR_HEADER_SIZE + PXAR_ENTRY_BODY_SIZE) &&
	    !(type == PXAR_ENTRY_V1 && size == PXAR_HEADER_SIZE + PXAR_ENTRY_V1_BODY_SIZE))
		return err_set(err, EBADMSG, "no entry at offset %" PRIu64, offset);
	if ((le64_get(entry + PXAR_HEADER_SIZE) & PXAR_MODE_TYPE) != PXAR_MODE_DIRECTORY)
		return err_set(err, EBADMSG, "the entry at offset %" PRIu64 " is no directory",
			       offset);
	return 0;
}

static int open_root_dir(struct read_at *meta, uint64_t root_entry_offset, struct tree_dir *out,
			 struct err *err)
{
	int rc = locate_table(meta, meta->size, out, err);

	if (rc < 0)
		return rc;
	if (out->entry_offset != 0 && out->entry_offset != root_entry_offset)
		return err_set(err, EBADMSG,
			       "goodbye table of the root starts at %" PRIu64 ", not at 0",
			       out->entry_offset);
	out->entry_offset = root_entry_offset;
	return check_extent(out, err);
}

static int open_sub_dir(const struct tree *tree, struct read_at *meta, uint64_t dir_end,
			struct tree_dir *out, struct err *err)
{
	int rc = locate_table(meta, dir_end, out, err);

	if (rc < 0)
		return rc;
	if (out->entry_offset <= tree->root_entry_offset)
		return err_set(err, EBADMSG, "goodbye table gives a wrong start, %" PRIu64,
			       out->entry_offset);
	rc = check_extent(out, err);
	if (rc < 0)
		return rc;
	return check_dir_start(meta, out->entry_offset, err);
}

int tree_dir_open(const struct tree *tree, struct read_at *meta, uint64_t dir_end,
		  struct tree_dir *out, struct err *err)
{
	struct tree_dir dir;
	int rc;

	if (dir_end == tree->meta_size)
		rc = open_root_dir(meta, tree->root_entry_offset, &dir, err);
	else
		rc = open_sub_dir(tree, meta, dir_end, &dir, err);
	if (rc < 0)
		return err_wrap(err, rc, "directory that ends at offset %" PRIu64, dir_end);
	*out = dir;
	return 0;
}

int tree_member_dir(const struct tree *tree, struct read_at *meta, const struct tree_entry *e,
		    struct tree_dir *out, struct err *err)
{
	struct tree_dir dir;
	int rc = tree_dir_open(tree, meta, e->dir_end, &dir, err);

	if (rc < 0)
		return rc;
	if (dir.entry_offset != e->entry_offset)
		return err_set(err, EBADMSG, "directory at offset %" PRIu64
			       " is said to end at %" PRIu64 ", where that at %" PRIu64 " does",
			       e->entry_offset, e->dir_end, dir.entry_offset);
	*out = dir;
	return 0;
}

int tree_dir_entry(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		   struct tree_entry *out, struct err *err)
{
	struct head h = { .version = tree->version,
			  .meta = meta,
			  .window = &out->scratch,
			  .position = dir->entry_offset,
			  .limit = dir->end };
	int rc;

	head_clear_entry(out);
	rc = head_entry(&h, out, err);
	if (rc < 0)
		return err_wrap(err, rc, "directory at offset %" PRIu64, dir->entry_offset);
	if (!metadata_is_directory(&out->meta))
		return err_set(err, EBADMSG, "the entry at offset %" PRIu64 " is no directory",
			       dir->entry_offset);
	out->filename_offset = dir->entry_offset;
	out->dir_end = dir->end;
	return 0;
}

/* --- the whole archive --- */

/* FORMAT_VERSION and PRELUDE, where there are any; `*offset` is then that of the ENTRY. */
static int read_preamble(struct tree *t, struct read_at *meta, uint64_t *offset,
			 struct err *err)
{
	uint8_t bytes[2 * PXAR_HEADER_SIZE + PXAR_FORMAT_VERSION_BODY_SIZE];
	const uint8_t *next = bytes + PXAR_HEADER_SIZE + PXAR_FORMAT_VERSION_BODY_SIZE;
	struct item_header item;
	int rc = read_at_exact(meta, bytes, sizeof(bytes), 0, err);

	if (rc < 0)
		return rc;
	rc = item_header_decode(bytes, &item, err);
	if (rc < 0)
		return err_wrap(err, rc, "item at offset 0");
	t->version = PXAR_VERSION_1;
	*offset = 0;
	if (item.type != PXAR_FORMAT_VERSION)
		return 0;
	rc = item_version_decode(bytes + PXAR_HEADER_SIZE, (size_t)item.body_size, &t->version,
				 err);
	if (rc < 0)
		return err_wrap(err, rc, "item at offset 0");
	*offset = PXAR_HEADER_SIZE + PXAR_FORMAT_VERSION_BODY_SIZE;
	rc = item_header_decode(next, &item, err);
	if (rc < 0)
		return err_wrap(err, rc, "item at offset %" PRIu64, *offset);
	if (item.type != PXAR_PRELUDE)
		return 0;
	t->prelude_begin = *offset + PXAR_HEADER_SIZE;
	t->prelude_size = item.body_size;
	if (item.body_size > meta->size - t->prelude_begin)
		return err_set(err, EBADMSG, "prelude of %" PRIu64 " bytes reaches past the end",
			       item.body_size);
	*offset = t->prelude_begin + t->prelude_size;
	return 0;
}

static int check_archive_size(uint64_t size, struct err *err)
{
	if (size < ENTRY_SIZE_MIN + GOODBYE_SIZE_MIN)
		return err_set(err, EBADMSG, "archive of %" PRIu64 " bytes is too short", size);
	return 0;
}

int tree_open(struct tree *out, struct read_at *meta, struct err *err)
{
	struct tree t = { .meta_size = meta->size };
	struct tree_dir root;
	int rc = check_archive_size(meta->size, err);

	if (rc == 0)
		rc = read_preamble(&t, meta, &t.root_entry_offset, err);
	if (rc == 0)
		rc = check_dir_start(meta, t.root_entry_offset, err);
	if (rc == 0)
		rc = tree_dir_open(&t, meta, meta->size, &root, err);
	if (rc < 0)
		return rc;
	*out = t;
	return 0;
}

/* --- slots --- */

/* The stream offsets behind a stored slot.  One that points outside the directory gets the
 * table's own offset, where no member can be: it is refused when it is asked for, and spoils
 * none of the others. */
static void slot_absolute(const struct tree_dir *dir, const uint8_t *bytes,
			  struct tree_slot *out)
{
	struct goodbye_slot slot;

	goodbye_slot_decode(bytes, &slot);
	out->name_hash = slot.hash;
	out->limit = dir->goodbye_offset;
	if (ckd_sub(&out->filename_offset, dir->goodbye_offset, slot.offset) ||
	    out->filename_offset < dir->entry_offset + ENTRY_SIZE_MIN)
		out->filename_offset = dir->goodbye_offset;
	if (ckd_add(&out->end, out->filename_offset, slot.size))
		out->end = UINT64_MAX;
}

int tree_peek_members(struct read_at *meta, uint64_t *offsets, size_t max, size_t *count,
		      struct err *err)
{
	uint8_t bytes[PXAR_GOODBYE_SLOT_SIZE];
	struct tree_dir dir;
	int rc = locate_table(meta, meta->size, &dir, err);

	if (rc < 0)
		return rc;
	*count = dir.member_count <= max ? (size_t)dir.member_count : 0;
	for (size_t i = 0; i < *count; i++) {
		struct tree_slot slot;

		rc = read_at_exact(meta, bytes, sizeof(bytes), dir.goodbye_offset +
				   PXAR_HEADER_SIZE + i * sizeof(bytes), err);
		if (rc < 0)
			return rc;
		slot_absolute(&dir, bytes, &slot);
		offsets[i] = slot.filename_offset;
	}
	return 0;
}

enum { SORT_BITS = 8, SORT_BUCKETS = 1 << SORT_BITS, SORT_INSERTION_MAX = 24 };

static void sort_by_insertion(struct tree_slot *slots, size_t count)
{
	for (size_t i = 1; i < count; i++) {
		struct tree_slot moved = slots[i];
		size_t k = i;

		for (; k > 0 && slots[k - 1].filename_offset > moved.filename_offset; k--)
			slots[k] = slots[k - 1];
		slots[k] = moved;
	}
}

/* In place, by one byte of the offset after the other, from `shift` down: linear, whatever the
 * table holds, without a second copy of it. */
static void sort_by_offset(struct tree_slot *slots, size_t count, unsigned shift)
{
	size_t begin[SORT_BUCKETS] = { 0 }, end[SORT_BUCKETS];
	size_t position = 0;

	if (count <= SORT_INSERTION_MAX) {
		sort_by_insertion(slots, count);
		return;
	}
	for (size_t i = 0; i < count; i++)
		begin[slots[i].filename_offset >> shift & (SORT_BUCKETS - 1)]++;
	for (size_t b = 0; b < SORT_BUCKETS; b++) {
		size_t n = begin[b];

		begin[b] = position;
		position += n;
		end[b] = position;
	}
	for (size_t b = 0; b < SORT_BUCKETS; b++) {
		while (begin[b] < end[b]) {
			struct tree_slot moved = slots[begin[b]];
			size_t home = moved.filename_offset >> shift & (SORT_BUCKETS - 1);

			if (home == b) {
				begin[b]++;
				continue;
			}
			slots[begin[b]] = slots[begin[home]];
			slots[begin[home]++] = moved;
		}
	}
	if (shift < SORT_BITS)
		return;
	for (size_t b = 0, from = 0; b < SORT_BUCKETS; from = end[b++])
		sort_by_offset(slots + from, end[b] - from, shift - SORT_BITS);
}

int tree_dir_slots(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		   struct tree_slot *slots, struct err *err)
{
	uint8_t block[SLOT_BLOCK_COUNT * PXAR_GOODBYE_SLOT_SIZE];
	uint64_t offset = dir->goodbye_offset + PXAR_HEADER_SIZE;
	size_t count = (size_t)dir->member_count;
	unsigned shift = 0;

	(void)tree;
	for (size_t i = 0; i < count;) {
		size_t n = count - i < SLOT_BLOCK_COUNT ? count - i : SLOT_BLOCK_COUNT;
		size_t size = n * PXAR_GOODBYE_SLOT_SIZE;
		int rc = read_at_exact(meta, block, size, offset, err);

		if (rc < 0)
			return err_wrap(err, rc, "goodbye table at offset %" PRIu64,
					dir->goodbye_offset);
		for (size_t k = 0; k < n; k++)
			slot_absolute(dir, block + k * PXAR_GOODBYE_SLOT_SIZE, &slots[i + k]);
		offset += size;
		i += n;
	}
	while (shift + SORT_BITS < 64 && dir->goodbye_offset >> (shift + SORT_BITS))
		shift += SORT_BITS;
	sort_by_offset(slots, count, shift);
	for (size_t i = 1; i < count; i++)
		slots[i - 1].limit = slots[i].filename_offset;
	return 0;
}

/* --- members --- */

struct wanted_name {
	const char *name;
	size_t size;
};

/* The FILENAME that a hard link leads to must be the last component of the link's path: cheap,
 * and enough to notice a distance that was tampered with. */
static int check_target_name(struct head *h, struct tree_entry *out, struct err *err)
{
	const char *path = tree_entry_target(out);
	const char *slash = strrchr(path, '/');
	const char *name;
	size_t name_size;
	int rc = head_filename(h, &name, &name_size, err);

	if (rc == 0 && strcmp(name, slash ? slash + 1 : path) != 0)
		return err_set(err, EBADMSG, "found '%s', not '%s'", name, path);
	return rc;
}

/* The entry a hard link at `from` leads to, read through the entry's own window so that the
 * one over the directory stays where it is. */
static int resolve_hardlink(const struct tree *tree, struct read_at *meta, uint64_t from,
			    uint64_t target, struct tree_entry *out, struct err *err)
{
	struct head h = { .version = tree->version,
			  .meta = meta,
			  .window = &out->scratch,
			  .position = target,
			  .limit = from };
	int rc;

	if (target < tree->root_entry_offset + ENTRY_SIZE_MIN)
		return err_set(err, EBADMSG, "hard link leads to offset %" PRIu64
			       ", where no member can be", target);
	rc = check_target_name(&h, out, err);
	if (rc == 0)
		rc = head_entry(&h, out, err);
	if (rc < 0)
		return err_wrap(err, rc, "target of a hard link at offset %" PRIu64, target);
	if ((out->meta.mode & PXAR_MODE_TYPE) != PXAR_MODE_REGULAR)
		return err_set(err, EBADMSG, "hard link to offset %" PRIu64
			       ", which is no regular file", target);
	out->is_hardlink = true;
	return 0;
}

/* A directory's end comes from its slot: it must enclose the directory's head and not reach
 * into what follows. */
static int check_dir_end(const struct tree_slot *slot, uint64_t head_end, struct tree_entry *out,
			 struct err *err)
{
	if (slot->end > slot->limit)
		return err_set(err, EBADMSG, "directory reaches to %" PRIu64
			       ", into what follows at %" PRIu64, slot->end, slot->limit);
	if (slot->end < head_end || slot->end - head_end < GOODBYE_SIZE_MIN)
		return err_set(err, EBADMSG, "directory ends at %" PRIu64
			       ", before its goodbye table", slot->end);
	out->dir_end = slot->end;
	return 0;
}

/* 0; 1: `wanted` is another name. */
static int read_member(const struct tree *tree, struct head *h, const struct tree_slot *slot,
		       const struct wanted_name *wanted, struct tree_entry *out, struct err *err)
{
	uint64_t target;
	const char *name;
	size_t name_size;
	int rc = head_filename(h, &name, &name_size, err);

	if (rc < 0)
		return rc;
	if (wanted && (name_size != wanted->size ||
		       memcmp(name, wanted->name, name_size) != 0))
		return 1;
	rc = wbuf_put(&out->name, name, name_size + 1);
	if (rc < 0)
		return err_set(err, -rc, "out of memory");
	out->filename_offset = slot->filename_offset;
	if (slot->name_hash != siphash_name(tree_entry_name(out), name_size))
		return err_set(err, EBADMSG, "goodbye table has hash %016" PRIx64
			       ", which is not that of the name", slot->name_hash);
	rc = head_hardlink(h, slot->filename_offset, &target, &out->text, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return resolve_hardlink(tree, h->meta, slot->filename_offset, target, out, err);
	rc = head_entry(h, out, err);
	if (rc < 0)
		return rc;
	if (metadata_is_directory(&out->meta))
		return check_dir_end(slot, h->position, out, err);
	return 0;
}

/* `want`: how far the first read may go, see struct head. */
static int member(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		  const struct tree_slot *slot, struct tree_window *window, uint64_t want,
		  const struct wanted_name *wanted, struct tree_entry *out, struct err *err)
{
	struct head h = { .version = tree->version,
			  .meta = meta,
			  .window = window,
			  .position = slot->filename_offset,
			  .limit = slot->limit,
			  .want = want };
	int rc;

	head_clear_entry(out);
	if (slot->filename_offset >= dir->goodbye_offset)
		rc = err_set(err, EBADMSG, "goodbye slot points outside its directory");
	else if (slot->limit <= slot->filename_offset)
		rc = err_set(err, EBADMSG, "two members at one place");
	else
		rc = read_member(tree, &h, slot, wanted, out, err);
	if (rc < 0)
		return err_wrap(err, rc, "member at offset %" PRIu64, slot->filename_offset);
	return rc;
}

int tree_member(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		const struct tree_slot *slot, struct tree_entry *out, struct err *err)
{
	return member(tree, meta, dir, slot, &out->scratch, 0, NULL, out, err);
}

/* The end of the run of heads that begins at slots[i]: as long as each next one is close.  Where no
 * member can be it ends, too: any number of slots may lead there, and each would search them all. */
static uint64_t window_end(const struct tree_slot *slots, size_t count, size_t i)
{
	uint64_t begin = slots[i].filename_offset;

	for (;; i++) {
		uint64_t from = slots[i].filename_offset, limit = slots[i].limit;

		if (from - begin >= TREE_WINDOW_SIZE)
			return begin + TREE_WINDOW_SIZE;
		if (limit - from < MEMBER_SIZE_MIN)
			return limit;
		if (i + 1 == count || limit - from > HEAD_GUESS_SIZE)
			return limit - from > HEAD_GUESS_SIZE ? from + HEAD_GUESS_SIZE : limit;
	}
}

int tree_window_member(struct tree_window *w, const struct tree *tree, struct read_at *meta,
		       const struct tree_dir *dir, const struct tree_slot *slots, size_t count,
		       size_t i, struct tree_entry *out, struct err *err)
{
	uint64_t from = slots[i].filename_offset, limit = slots[i].limit;
	uint64_t size = limit - from < HEAD_GUESS_SIZE ? limit - from : HEAD_GUESS_SIZE;
	uint64_t want = 0;

	/* Not, or perhaps not wholly, in the window? */
	if (from >= w->narrow_end &&
	    (from < w->begin || from + size > w->begin + w->bytes.size))
		want = window_end(slots, count, i);
	return member(tree, meta, dir, &slots[i], w, want, NULL, out, err);
}

/* --- looking up --- */

/* The slots of a table one by one, the first of them read together. */
struct slot_reader {
	struct read_at *meta;
	const struct tree_dir *dir;
	size_t held;
	uint8_t block[SEARCH_BLOCK_COUNT * PXAR_GOODBYE_SLOT_SIZE];
};

static int slot_read(struct slot_reader *r, uint64_t i, struct tree_slot *out, struct err *err)
{
	uint64_t table = r->dir->goodbye_offset + PXAR_HEADER_SIZE;
	uint8_t one[PXAR_GOODBYE_SLOT_SIZE];
	int rc;

	if (!r->held) {
		size_t n = r->dir->member_count < SEARCH_BLOCK_COUNT ?
				   (size_t)r->dir->member_count : SEARCH_BLOCK_COUNT;

		rc = read_at_exact(r->meta, r->block, n * PXAR_GOODBYE_SLOT_SIZE, table, err);
		if (rc < 0)
			return rc;
		r->held = n;
	}
	if (i < r->held) {
		slot_absolute(r->dir, r->block + i * PXAR_GOODBYE_SLOT_SIZE, out);
		return 0;
	}
	rc = read_at_exact(r->meta, one, sizeof(one), table + i * PXAR_GOODBYE_SLOT_SIZE, err);
	if (rc < 0)
		return rc;
	slot_absolute(r->dir, one, out);
	return 0;
}

int tree_lookup(const struct tree *tree, struct read_at *meta, const struct tree_dir *dir,
		const char *name, size_t name_size, struct tree_entry *out, struct err *err)
{
	const struct wanted_name wanted = { name, name_size };
	uint64_t hash = siphash_name(name, name_size);
	struct slot_reader reader = { .meta = meta, .dir = dir };
	struct goodbye_search search;
	unsigned seen = 0;
	bool damaged = false;
	uint64_t i;

	goodbye_search_init(&search, hash, dir->member_count);
	while (goodbye_search_next(&search, &i)) {
		struct tree_slot slot;
		int rc = slot_read(&reader, i, &slot, err);

		if (rc < 0)
			return err_wrap(err, rc, "goodbye table at offset %" PRIu64,
					dir->goodbye_offset);
		if (!goodbye_search_seen(&search, i, slot.name_hash))
			continue;
		if (++seen > TREE_COLLISION_MAX)
			return err_set(err, EBADMSG, "more than %d members of directory at %" PRIu64
				       " have hash %016" PRIx64, TREE_COLLISION_MAX,
				       dir->entry_offset, hash);
		rc = member(tree, meta, dir, &slot, &out->scratch, 0, &wanted, out, err);
		if (rc == 0)
			return 0;
		if (rc == -EBADMSG)
			damaged = true; /* perhaps it is another one */
		else if (rc < 0)
			return rc;
	}
	if (damaged)
		return -EBADMSG;
	return err_set(err, ENOENT, "no such file or directory");
}

int tree_entry_at(const struct tree *tree, struct read_at *meta, uint64_t entry_offset,
		  struct tree_entry *out, struct err *err)
{
	struct head h = { .version = tree->version,
			  .meta = meta,
			  .window = &out->scratch,
			  .position = entry_offset,
			  .limit = tree->meta_size - GOODBYE_SIZE_MIN };
	int rc;

	head_clear_entry(out);
	if (entry_offset <= tree->root_entry_offset || entry_offset >= h.limit)
		return err_set(err, EBADMSG, "no entry can be at offset %" PRIu64, entry_offset);
	rc = head_entry(&h, out, err);
	if (rc < 0)
		return err_wrap(err, rc, "entry at offset %" PRIu64, entry_offset);
	if (metadata_is_directory(&out->meta))
		return err_set(err, EBADMSG, "the entry at offset %" PRIu64 " is a directory",
			       entry_offset);
	out->filename_offset = entry_offset;
	return 0;
}

/* The next component of a path; false at its end. */
static bool next_component(const char **path, const char **name, size_t *size)
{
	for (;;) {
		*path += strspn(*path, "/");
		*name = *path;
		*size = strcspn(*path, "/");
		*path += *size;
		if (*size == 0)
			return false;
		if (*size != 1 || **name != '.')
			return true;
	}
}

static int path_step(const struct tree *tree, struct read_at *meta, struct tree_dir *dir,
		     const char *name, size_t size, struct tree_entry *out, struct err *err)
{
	int rc;

	if (size == 2 && memcmp(name, "..", 2) == 0)
		return err_set(err, EINVAL, "'..' is not followed");
	if (!metadata_is_directory(&out->meta))
		return err_set(err, ENOTDIR, "not a directory");
	rc = tree_lookup(tree, meta, dir, name, size, out, err);
	if (rc == 0 && metadata_is_directory(&out->meta))
		rc = tree_member_dir(tree, meta, out, dir, err);
	return rc;
}

int tree_path(const struct tree *tree, struct read_at *meta, const char *path,
	      struct tree_entry *out, struct tree_dir *dir, struct err *err)
{
	struct tree_dir current;
	const char *rest = path, *name;
	size_t size;
	int rc = tree_dir_open(tree, meta, tree->meta_size, &current, err);

	if (rc == 0)
		rc = tree_dir_entry(tree, meta, &current, out, err);
	if (rc < 0)
		return rc;
	while (next_component(&rest, &name, &size)) {
		rc = path_step(tree, meta, &current, name, size, out, err);
		if (rc < 0)
			return err_wrap(err, rc, "%.*s", (int)(rest - path), path);
	}
	if (dir && metadata_is_directory(&out->meta))
		*dir = current;
	return 0;
}

/* --- the payload stream --- */

int tree_payload_check(const struct tree_entry *e, struct read_at *payload, uint64_t *begin,
		       struct err *err)
{
	const struct item_payload_ref ref = { e->content_offset, e->content_size };
	uint8_t header[PXAR_HEADER_SIZE];
	uint64_t size, end;
	int rc;

	if (ref.offset < PXAR_HEADER_SIZE || ckd_add(&size, ref.size, PXAR_HEADER_SIZE) ||
	    ckd_add(&end, ref.offset, size) || end > payload->size)
		return err_set(err, EBADMSG, "content at offset %" PRIu64 ", %" PRIu64
			       " bytes, is not inside the payload stream of %" PRIu64 " bytes",
			       ref.offset, ref.size, payload->size);
	rc = read_at_exact(payload, header, sizeof(header), ref.offset, err);
	if (rc == 0)
		rc = item_payload_check(header, &ref, err);
	if (rc < 0)
		return rc;
	*begin = ref.offset + PXAR_HEADER_SIZE;
	return 0;
}

static int check_marker(struct read_at *payload, uint64_t offset, uint64_t type, struct err *err)
{
	uint8_t header[PXAR_HEADER_SIZE];
	int rc = read_at_exact(payload, header, sizeof(header), offset, err);

	return rc < 0 ? rc : item_marker_check(header, type, err);
}

int tree_payload_markers(struct read_at *payload, struct err *err)
{
	int rc;

	if (payload->size < 2 * PXAR_HEADER_SIZE)
		return err_set(err, EBADMSG, "payload stream of %" PRIu64 " bytes is too short",
			       payload->size);
	rc = check_marker(payload, 0, PXAR_PAYLOAD_START_MARKER, err);
	if (rc < 0)
		return rc;
	return check_marker(payload, payload->size - PXAR_HEADER_SIZE, PXAR_PAYLOAD_TAIL_MARKER,
			    err);
}
