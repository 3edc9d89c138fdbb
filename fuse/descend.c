/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/descend.h"

#include "fuse/inode.h"
#include "fuse/mount.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

static int get_folder(struct descend *d, uint64_t dir_end, struct folder **out, struct err *err)
{
	struct inode i = { .slot = d->slot,
			   .is_folder = true,
			   .offset = dir_end == d->tree->meta_size ? 0 : dir_end };
	uint64_t number = inode_encode(&i);

	*out = dir_cache_get(d->folders, number);
	if (*out)
		return 0;
	return dir_cache_read(d->folders, number, d->tree, d->meta, dir_end, out, err);
}

/* The last member that begins before `offset`; -ENOENT. */
static int member_before(const struct folder *f, uint64_t offset, size_t *index)
{
	size_t low = 0, high = (size_t)f->dir.member_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (f->slots[middle].filename_offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	*index = low - 1;
	return low > 0 ? 0 : -ENOENT;
}

/* The member on the way to `offset`, into d->entry. */
static int step(struct descend *d, const struct folder *f, uint64_t offset, size_t *index,
		struct err *err)
{
	int rc = member_before(f, offset, index);

	if (rc == 0)
		rc = tree_window_member(d->window, d->tree, &d->meta->base, &f->dir, f->slots,
					(size_t)f->dir.member_count, *index, d->entry, err);
	if (rc < 0 || !d->path)
		return rc;
	wbuf_put_u8(d->path, '/');
	wbuf_put_text(d->path, tree_entry_name(d->entry));
	return d->path->failed ? -ENOMEM : 0;
}

static bool is_wanted(const struct descend *d, const struct inode *wanted)
{
	if (wanted->is_folder)
		return d->entry->dir_end == wanted->offset;
	return !d->entry->dir_end && d->entry->entry_offset == wanted->offset;
}

int descend_to(struct descend *d, uint64_t number, struct folder **out, size_t *index,
	       struct err *err)
{
	struct inode wanted = inode_decode(number);
	uint64_t dir_end = d->tree->meta_size;

	if (wanted.offset == 0 || wanted.slot != d->slot)
		return -ENOENT;
	if (d->path)
		wbuf_clear(d->path);
	for (int depth = 0; depth < DESCEND_DEPTH_MAX; depth++) {
		struct folder *f;
		int rc = get_folder(d, dir_end, &f, err);

		if (rc < 0)
			return rc;
		rc = step(d, f, wanted.offset, index, err);
		if (rc == 0 && is_wanted(d, &wanted)) {
			*out = f;
			return 0;
		}
		folder_unref(f);
		if (rc < 0)
			return rc;
		if (!d->entry->dir_end)
			return -ENOENT;
		dir_end = d->entry->dir_end;
	}
	return err_set(err, E2BIG, "folders are nested too deep");
}

static int find_path(struct mount *m, struct shown *shown, uint64_t number, struct wbuf *path)
{
	struct stream_view meta;
	struct tree_window window;
	struct tree_entry entry;
	struct descend d = { .folders = m->folders,
			     .slot = shown->slot,
			     .meta = &meta,
			     .window = &window,
			     .entry = &entry,
			     .path = path };
	struct folder *f;
	size_t index;
	int rc;

	stream_view_init(&meta, archive_meta(shown->archive));
	tree_window_init(&window);
	tree_entry_init(&entry);
	rc = archive_tree_try(shown->archive, &meta, &d.tree, NULL);
	if (rc == 0)
		rc = descend_to(&d, number, &f, &index, NULL);
	if (rc == 0)
		folder_unref(f);
	tree_entry_release(&entry);
	tree_window_release(&window);
	stream_view_release(&meta);
	return rc;
}

void descend_name(struct mount *m, struct shown *shown, uint64_t number,
		  char out[DESCEND_NAME_SIZE])
{
	AUTO(wbuf) struct wbuf path = WBUF_INIT(DESCEND_PATH_SIZE_MAX);
	const char *dots = "";
	size_t skip = 0;

	if (number == INODE_ROOT)
		wbuf_put_u8(&path, '/');
	else if (find_path(m, shown, number, &path) < 0)
		wbuf_clear(&path);
	if (path.failed || path.size == 0) {
		snprintf(out, DESCEND_NAME_SIZE, "inode %" PRIu64, number);
		return;
	}
	if (path.size >= DESCEND_NAME_SIZE) {
		dots = "...";
		skip = path.size + 4 - DESCEND_NAME_SIZE;
	}
	snprintf(out, DESCEND_NAME_SIZE, "%s%.*s", dots, (int)(path.size - skip),
		 (const char *)path.data + skip);
}
