/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/entry.h"

#include <string.h>

enum { ENTRY_KEPT_SIZE_MAX = 4096 };

void entry_init(struct entry *e)
{
	*e = (struct entry){ .text = WBUF_INIT(SIZE_MAX) };
	metadata_init(&e->meta);
}

void entry_release(struct entry *e)
{
	wbuf_release(&e->text);
	metadata_release(&e->meta);
}

size_t entry_bytes(const struct entry *e)
{
	const struct metadata *m = &e->meta;
	size_t acls = m->acl_users.capacity + m->acl_groups.capacity +
		      m->acl_default_users.capacity + m->acl_default_groups.capacity;

	return e->text.capacity + m->bytes.capacity + acls * sizeof(*m->acl_users.items) +
	       m->xattr_capacity * sizeof(*m->xattrs);
}

int entry_set(struct entry *e, enum entry_kind kind, const char *name, const struct stat *st)
{
	if (entry_bytes(e) > ENTRY_KEPT_SIZE_MAX) {
		entry_release(e);
		entry_init(e);
	}
	wbuf_clear(&e->text);
	e->kind = kind;
	e->target = 0;
	e->birth = 0;
	e->st = *st;
	e->is_unchanged = e->is_counted = false;
	return wbuf_put(&e->text, name, strlen(name) + 1);
}

int entry_set_target(struct entry *e, const char *target)
{
	e->target = e->text.size;
	return wbuf_put(&e->text, target, strlen(target) + 1);
}
