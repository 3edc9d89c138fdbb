/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/links.h"

#include "archive/base/ckd.h"
#include "archive/base/le.h"
#include "archive/item.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	CAPACITY_MIN = 64,
	WINDOW_SIZE = 64 << 10, /* where items follow each other */
	JUMP_SIZE = 512, /* behind contents that were skipped */
};

void links_init(struct links *l)
{
	*l = (struct links){ 0 };
}

void links_release(struct links *l)
{
	free(l->files);
	links_init(l);
}

/* --- the table --- */

/* The file's slot, or the empty one where it belongs.  The top bits of a product with a random
 * odd number: no two offsets are likely to meet. */
static struct links_file *slot_of(const struct links *l, uint64_t offset)
{
	size_t i = (size_t)(offset * l->factor >> (64 - __builtin_ctzll(l->capacity)));

	for (;; i++) {
		struct links_file *f = &l->files[i & (l->capacity - 1)];

		if (f->offset == offset || f->offset == 0)
			return f;
	}
}

static int grow(struct links *l)
{
	struct links bigger = { .capacity = l->capacity ? 2 * l->capacity : CAPACITY_MIN,
				.count = l->count,
				.factor = l->factor };

	bigger.files = calloc(bigger.capacity, sizeof(*bigger.files));
	if (!bigger.files)
		return -ENOMEM;
	for (size_t i = 0; i < l->capacity; i++)
		if (l->files[i].offset)
			*slot_of(&bigger, l->files[i].offset) = l->files[i];
	free(l->files);
	*l = bigger;
	return 0;
}

/* One more name than the first; `names` of them. */
static int add_names(struct links *l, uint64_t offset, uint32_t names, struct err *err)
{
	struct links_file *f;

	if (l->count >= l->capacity / 2 && grow(l) < 0)
		return err_set(err, ENOMEM, "out of memory");
	f = slot_of(l, offset);
	if (!f->offset) {
		if (l->count == LINKS_FILES_MAX)
			return err_set(err, E2BIG, "more than %d files have hard links",
				       LINKS_FILES_MAX);
		l->count++;
		*f = (struct links_file){ .offset = offset, .names = 1 };
	}
	if (ckd_add(&f->names, f->names, names))
		return err_set(err, E2BIG, "too many hard links");
	return 0;
}

uint32_t links_names(const struct links *l, uint64_t entry_offset)
{
	const struct links_file *f = l->capacity ? slot_of(l, entry_offset) : NULL;

	return f && f->offset == entry_offset ? f->names : 1;
}

/* --- the pass --- */

struct pass {
	struct read_at *meta;
	uint64_t begin, end; /* of the stream, what the window holds */
	uint8_t window[WINDOW_SIZE];
};

/* `size` bytes at `offset`; *out lives until the next call. */
static int look(struct pass *p, uint64_t offset, size_t size, const uint8_t **out,
		struct err *err)
{
	uint64_t left = p->meta->size - offset;
	size_t want = offset > p->end ? JUMP_SIZE : WINDOW_SIZE;
	int rc;

	if (offset < p->begin || offset + size > p->end) {
		if (left < size)
			return err_set(err, EBADMSG, "item at offset %" PRIu64
				       " reaches past the end", offset);
		want = left < want ? (size_t)left : want;
		rc = read_at_exact(p->meta, p->window, want, offset, err);
		if (rc < 0)
			return rc;
		p->begin = offset;
		p->end = offset + want;
	}
	*out = p->window + (offset - p->begin);
	return 0;
}

static int item_at(struct pass *p, uint64_t offset, uint64_t *type, uint64_t *end,
		   struct err *err)
{
	struct item_header header;
	const uint8_t *bytes;
	int rc = look(p, offset, PXAR_HEADER_SIZE, &bytes, err);

	if (rc < 0)
		return rc;
	rc = item_header_decode(bytes, &header, err);
	if (rc < 0)
		return err_wrap(err, rc, "offset %" PRIu64, offset);
	if (ckd_add(end, offset + PXAR_HEADER_SIZE, header.body_size) || *end > p->meta->size)
		return err_set(err, EBADMSG, "item at offset %" PRIu64 " reaches past the end",
			       offset);
	*type = header.type;
	return 0;
}

/* A HARDLINK at `offset`, whose member begins at `filename_offset`. */
static int count_link(struct links *l, struct pass *p, uint64_t offset,
		      uint64_t filename_offset, struct err *err)
{
	const uint8_t *bytes;
	uint64_t distance, target;
	int rc = look(p, offset + PXAR_HEADER_SIZE, sizeof(distance), &bytes, err);

	if (rc < 0)
		return rc;
	distance = le64_get(bytes);
	if (distance == 0 || ckd_sub(&target, filename_offset, distance) || target == 0)
		return err_set(err, EBADMSG, "hard link at offset %" PRIu64
			       " leads outside the archive", offset);
	return add_names(l, target, 1, err);
}

/* Count by the offset of the target's FILENAME, which is what links know. */
static int count_all(struct links *l, struct pass *p, uint64_t offset, struct err *err)
{
	uint64_t filename_offset = 0, type, end;

	for (; offset < p->meta->size; offset = end) {
		int rc = item_at(p, offset, &type, &end, err);

		if (rc < 0)
			return rc;
		if (type == PXAR_FILENAME)
			filename_offset = offset;
		if (type == PXAR_HARDLINK)
			rc = count_link(l, p, offset, filename_offset, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int compare_offsets(const void *a, const void *b)
{
	uint64_t x = ((const struct links_file *)a)->offset;
	uint64_t y = ((const struct links_file *)b)->offset;

	return (x > y) - (x < y);
}

/* The files by offset, in place of the table: the stream is read from its start on, not a chunk
 * here and a chunk there. */
static void sort_files(struct links *l)
{
	size_t count = 0;

	for (size_t i = 0; i < l->capacity; i++)
		if (l->files[i].offset)
			l->files[count++] = l->files[i];
	if (count)
		qsort(l->files, count, sizeof(*l->files), compare_offsets);
}

/* Then by the offset of its ENTRY, which is what others know.  Of `by_filename` nothing is of use
 * after that. */
static int name_by_entry(struct links *out, struct links *by_filename, struct pass *p,
			 struct err *err)
{
	sort_files(by_filename);
	for (size_t i = 0; i < by_filename->count; i++) {
		const struct links_file *f = &by_filename->files[i];
		uint64_t type, end;
		int rc = item_at(p, f->offset, &type, &end, err);

		if (rc == 0 && type != PXAR_FILENAME)
			rc = err_set(err, EBADMSG, "hard link to offset %" PRIu64
				     ", where no member is", f->offset);
		if (rc == 0)
			rc = add_names(out, end, f->names - 1, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int links_read(struct links *l, const struct tree *tree, struct read_at *meta, uint64_t secret,
	       struct err *err)
{
	AUTO(free) struct pass *p = malloc(sizeof(*p));
	AUTO(links) struct links by_filename = { .factor = secret | 1 };
	AUTO(links) struct links by_entry = { .factor = secret | 1 };
	int rc;

	if (!p)
		return err_set(err, ENOMEM, "out of memory");
	p->meta = meta;
	p->begin = p->end = 0;
	rc = count_all(&by_filename, p, tree->root_entry_offset, err);
	if (rc == 0)
		rc = name_by_entry(&by_entry, &by_filename, p, err);
	if (rc < 0)
		return rc;
	*l = by_entry;
	links_init(&by_entry);
	return 0;
}
