/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/link_table.h"

#include <string.h>

enum { LINK_TABLE_CAPACITY_MIN = 64 };

void link_table_release(struct link_table *t)
{
	free(t->slots);
	wbuf_release(&t->paths);
	*t = (struct link_table){ 0 };
}

static uint64_t mix(const struct link_table_inode *inode)
{
	uint64_t x = inode->ino + inode->dev * 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static bool is_same_number(const struct link_table_inode *a, const struct link_table_inode *b)
{
	return a->ino == b->ino && a->dev == b->dev;
}

/* The slot of the inode's number, or the free one where it belongs. */
static struct link_table_slot *slot_of(const struct link_table *t,
				       const struct link_table_inode *inode)
{
	size_t i = (size_t)mix(inode) & (t->capacity - 1);

	while (t->slots[i].path_end && !is_same_number(&t->slots[i].inode, inode))
		i = (i + 1) & (t->capacity - 1);
	return &t->slots[i];
}

bool link_table_find(const struct link_table *t, const struct link_table_inode *inode,
		     const char **path, uint64_t *filename_offset)
{
	const struct link_table_slot *slot;

	if (!t->count)
		return false;
	slot = slot_of(t, inode);
	if (!slot->path_end ||
	    (inode->birth && slot->inode.birth && inode->birth != slot->inode.birth))
		return false;
	*path = (const char *)t->paths.data + slot->path_end - slot->path_size;
	*filename_offset = slot->filename_offset;
	return true;
}

static int grow(struct link_table *t)
{
	struct link_table old = *t;
	size_t capacity = old.capacity ? old.capacity * 2 : LINK_TABLE_CAPACITY_MIN;

	t->slots = calloc(capacity, sizeof(*t->slots));
	if (!t->slots) {
		t->slots = old.slots;
		return -ENOMEM;
	}
	t->capacity = capacity;
	t->paths.size_max = SIZE_MAX;
	for (size_t i = 0; i < old.capacity; i++)
		if (old.slots[i].path_end)
			*slot_of(t, &old.slots[i].inode) = old.slots[i];
	free(old.slots);
	return 0;
}

int link_table_put(struct link_table *t, const struct link_table_inode *inode, const char *path,
		   uint64_t filename_offset)
{
	size_t path_size = strlen(path) + 1;
	struct link_table_slot *slot;
	int rc = 0;

	if (t->count >= t->capacity / 4 * 3)
		rc = grow(t);
	if (rc == 0)
		rc = wbuf_put(&t->paths, path, path_size);
	if (rc < 0)
		return rc;
	slot = slot_of(t, inode);
	t->count += slot->path_end == 0;
	*slot = (struct link_table_slot){
		.inode = *inode,
		.filename_offset = filename_offset,
		.path_end = t->paths.size,
		.path_size = path_size,
	};
	return 0;
}
