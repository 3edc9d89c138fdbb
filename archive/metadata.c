/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/metadata.h"

#include "archive/base/cursor.h"
#include "archive/base/grow.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	/* system.posix_acl_*: a version, then 8 bytes an entry. */
	ACL_XATTR_VERSION = 2,
	ACL_XATTR_ENTRY_SIZE = 8,
	ACL_PERMISSIONS_MAX = 7,
};

enum acl_tag {
	ACL_TAG_USER_OBJ = 0x01,
	ACL_TAG_USER = 0x02,
	ACL_TAG_GROUP_OBJ = 0x04,
	ACL_TAG_GROUP = 0x08,
	ACL_TAG_MASK = 0x10,
	ACL_TAG_OTHER = 0x20,
};

static const uint32_t ACL_NO_ID = UINT32_MAX;

void metadata_init(struct metadata *m)
{
	*m = (struct metadata){ .bytes = WBUF_INIT(PXAR_ATTRIBUTE_BYTES_MAX) };
}

void metadata_release(struct metadata *m)
{
	free(m->xattrs);
	free(m->acl_users.items);
	free(m->acl_groups.items);
	free(m->acl_default_users.items);
	free(m->acl_default_groups.items);
	wbuf_release(&m->bytes);
	metadata_init(m);
}

void metadata_clear(struct metadata *m)
{
	m->mode = m->flags = 0;
	m->uid = m->gid = 0;
	m->mtime_sec = 0;
	m->mtime_nsec = 0;
	m->xattr_count = 0;
	m->acl_users.count = m->acl_groups.count = 0;
	m->acl_default_users.count = m->acl_default_groups.count = 0;
	m->has_acl_group_obj = m->has_acl_default = false;
	m->has_fcaps = m->has_quota_projid = false;
	wbuf_clear(&m->bytes);
}

/* Append to m->bytes; a failure is this attribute's alone and leaves the buffer usable. */
static int put_bytes(struct metadata *m, const void *data, size_t size)
{
	int rc = wbuf_put(&m->bytes, data, size);

	m->bytes.failed = 0;
	return rc;
}

int metadata_add_xattr(struct metadata *m, const char *name, size_t name_size,
		       const void *value, size_t value_size)
{
	size_t begin = m->bytes.size;
	int rc;

	if (!name_size || memchr(name, 0, name_size))
		return -EINVAL;
	if (name_size >= PXAR_XATTR_SIZE_MAX ||
	    value_size > PXAR_XATTR_SIZE_MAX - 1 - name_size)
		return -E2BIG;
	rc = grow(&m->xattrs, &m->xattr_capacity, m->xattr_count + 1, PXAR_ATTRIBUTE_COUNT_MAX,
		  sizeof(*m->xattrs));
	if (rc < 0)
		return rc;

	rc = put_bytes(m, name, name_size);
	if (!rc)
		rc = put_bytes(m, "", 1);
	if (!rc)
		rc = put_bytes(m, value, value_size);
	if (rc < 0) {
		m->bytes.size = begin;
		return rc;
	}
	m->xattrs[m->xattr_count++] = (struct metadata_xattr){
		.name_begin = begin,
		.value_begin = begin + name_size + 1,
		.value_size = value_size,
	};
	return 0;
}

int metadata_add_acl(struct metadata_acl_list *list, uint64_t id, uint64_t permissions)
{
	int rc = grow(&list->items, &list->capacity, list->count + 1, PXAR_ATTRIBUTE_COUNT_MAX,
		      sizeof(*list->items));

	if (rc < 0)
		return rc;
	list->items[list->count++] =
		(struct metadata_acl){ .id = id, .permissions = permissions };
	return 0;
}

int metadata_set_fcaps(struct metadata *m, const void *value, size_t value_size)
{
	size_t begin = m->bytes.size;
	int rc;

	if (value_size > PXAR_FCAPS_SIZE_MAX)
		return -E2BIG;
	rc = put_bytes(m, value, value_size);
	if (rc < 0)
		return rc;
	m->has_fcaps = true;
	m->fcaps_begin = begin;
	m->fcaps_size = value_size;
	return 0;
}

bool metadata_has_access_acl(const struct metadata *m)
{
	return m->acl_users.count || m->acl_groups.count || m->has_acl_group_obj;
}

bool metadata_has_default_acl(const struct metadata *m)
{
	/* An item may hold nothing but absent components: that is no ACL. */
	return m->has_acl_default && metadata_is_directory(m) &&
	       ((m->acl_default.user_obj & m->acl_default.group_obj & m->acl_default.other &
		 m->acl_default.mask) != PXAR_ACL_NONE ||
		m->acl_default_users.count || m->acl_default_groups.count);
}

/* --- to the kernel's form --- */

static int put_acl_entry(struct wbuf *out, enum acl_tag tag, uint64_t permissions, uint32_t id)
{
	uint8_t *p;

	if (permissions > ACL_PERMISSIONS_MAX)
		return -EBADMSG;
	p = wbuf_reserve(out, ACL_XATTR_ENTRY_SIZE);
	if (!p)
		return out->failed;
	le16_put(p, (uint16_t)tag);
	le16_put(p + 2, (uint16_t)permissions);
	le32_put(p + 4, id);
	out->size += ACL_XATTR_ENTRY_SIZE;
	return 0;
}

static int compare_acl_entries(const void *a, const void *b)
{
	uint32_t x = le32_get((const uint8_t *)a + 4);
	uint32_t y = le32_get((const uint8_t *)b + 4);

	return (x > y) - (x < y);
}

/* The kernel wants named entries by ascending id; the archive only should have them so. */
static int put_acl_list(struct wbuf *out, enum acl_tag tag, const struct metadata_acl_list *list)
{
	size_t begin = out->size;
	bool sorted = true;

	for (size_t i = 0; i < list->count; i++) {
		const struct metadata_acl *acl = &list->items[i];
		int rc;

		if (acl->id >= ACL_NO_ID)
			return -EBADMSG;
		rc = put_acl_entry(out, tag, acl->permissions, (uint32_t)acl->id);
		if (rc < 0)
			return rc;
		if (i && acl->id < list->items[i - 1].id)
			sorted = false;
	}
	if (!sorted)
		qsort(out->data + begin, list->count, ACL_XATTR_ENTRY_SIZE,
		      compare_acl_entries);
	return 0;
}

struct acl_parts {
	uint64_t user_obj, group_obj, mask, other; /* PXAR_ACL_NONE: left out */
	const struct metadata_acl_list *users, *groups;
};

static int put_acl_part(struct wbuf *out, enum acl_tag tag, uint64_t permissions)
{
	if (permissions == PXAR_ACL_NONE)
		return 0;
	return put_acl_entry(out, tag, permissions, ACL_NO_ID);
}

static int put_acl(struct wbuf *out, const struct acl_parts *acl)
{
	int rc = wbuf_put_u32(out, ACL_XATTR_VERSION);

	if (!rc)
		rc = put_acl_part(out, ACL_TAG_USER_OBJ, acl->user_obj);
	if (!rc)
		rc = put_acl_list(out, ACL_TAG_USER, acl->users);
	if (!rc)
		rc = put_acl_part(out, ACL_TAG_GROUP_OBJ, acl->group_obj);
	if (!rc)
		rc = put_acl_list(out, ACL_TAG_GROUP, acl->groups);
	if (!rc)
		rc = put_acl_part(out, ACL_TAG_MASK, acl->mask);
	if (!rc)
		rc = put_acl_part(out, ACL_TAG_OTHER, acl->other);
	return rc;
}

int metadata_access_acl_xattr(const struct metadata *m, struct wbuf *out)
{
	uint64_t group_bits = m->mode >> 3 & 7;
	struct acl_parts acl = {
		.user_obj = m->mode >> 6 & 7,
		.users = &m->acl_users,
		.group_obj = m->has_acl_group_obj ? m->acl_group_obj : group_bits,
		.groups = &m->acl_groups,
		.mask = metadata_has_access_acl(m) ? group_bits : PXAR_ACL_NONE,
		.other = m->mode & 7,
	};

	/* All ones say "absent" only inside ACL_DEFAULT. */
	if (acl.group_obj == PXAR_ACL_NONE)
		return -EBADMSG;
	return put_acl(out, &acl);
}

int metadata_default_acl_xattr(const struct metadata *m, struct wbuf *out)
{
	struct acl_parts acl = {
		.user_obj = m->acl_default.user_obj,
		.users = &m->acl_default_users,
		.group_obj = m->acl_default.group_obj,
		.groups = &m->acl_default_groups,
		.mask = m->acl_default.mask,
		.other = m->acl_default.other,
	};

	assert(m->has_acl_default);
	return put_acl(out, &acl);
}

/* --- from the kernel's form --- */

static int compare_acls(const void *a, const void *b)
{
	const struct metadata_acl *x = a, *y = b;

	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return (x->permissions > y->permissions) - (x->permissions < y->permissions);
}

static void sort_acl_list(struct metadata_acl_list *list)
{
	for (size_t i = 1; i < list->count; i++) {
		if (compare_acls(&list->items[i - 1], &list->items[i]) > 0) {
			qsort(list->items, list->count, sizeof(*list->items), compare_acls);
			return;
		}
	}
}

struct parsed_acl {
	uint64_t user_obj, group_obj, mask, other;
	struct metadata_acl_list *users, *groups; /* filled in place */
};

/* A part that may occur once. */
static int set_acl_part(uint64_t *part, uint64_t permissions, struct err *err)
{
	if (*part != PXAR_ACL_NONE)
		return err_set(err, EBADMSG, "ACL names a part twice");
	*part = permissions;
	return 0;
}

static int parse_acl_entry(struct cursor *c, struct parsed_acl *acl, struct err *err)
{
	uint16_t tag = cursor_u16(c);
	uint16_t permissions = cursor_u16(c);
	uint32_t id = cursor_u32(c);
	int rc;

	if (permissions > ACL_PERMISSIONS_MAX)
		return err_set(err, EBADMSG, "ACL grants unknown permissions %#x", permissions);
	switch (tag) {
	case ACL_TAG_USER_OBJ:
		return set_acl_part(&acl->user_obj, permissions, err);
	case ACL_TAG_GROUP_OBJ:
		return set_acl_part(&acl->group_obj, permissions, err);
	case ACL_TAG_MASK:
		return set_acl_part(&acl->mask, permissions, err);
	case ACL_TAG_OTHER:
		return set_acl_part(&acl->other, permissions, err);
	case ACL_TAG_USER:
		rc = metadata_add_acl(acl->users, id, permissions);
		break;
	case ACL_TAG_GROUP:
		rc = metadata_add_acl(acl->groups, id, permissions);
		break;
	default:
		return err_set(err, EBADMSG, "ACL has an entry of unknown kind %#x", tag);
	}
	return rc < 0 ? err_set(err, -rc, "ACL has too many entries") : 0;
}

static int parse_acl(struct parsed_acl *acl, const uint8_t *value, size_t size,
		     struct err *err)
{
	struct cursor c = cursor_of(value, size);
	uint32_t version = cursor_u32(&c);

	acl->user_obj = acl->group_obj = acl->mask = acl->other = PXAR_ACL_NONE;
	acl->users->count = acl->groups->count = 0;
	if (c.overrun || version != ACL_XATTR_VERSION)
		return err_set(err, EBADMSG, "ACL of unknown version %" PRIu32, version);
	if (cursor_left(&c) % ACL_XATTR_ENTRY_SIZE)
		return err_set(err, EBADMSG, "ACL ends inside an entry");
	while (cursor_left(&c)) {
		int rc = parse_acl_entry(&c, acl, err);

		if (rc < 0)
			return rc;
	}
	sort_acl_list(acl->users);
	sort_acl_list(acl->groups);
	return 0;
}

/* What the kernel itself demands of an ACL that it stores. */
static int check_acl(const struct parsed_acl *acl, struct err *err)
{
	if (acl->user_obj == PXAR_ACL_NONE || acl->group_obj == PXAR_ACL_NONE ||
	    acl->other == PXAR_ACL_NONE)
		return err_set(err, EBADMSG, "ACL lacks its owner, group or other");
	if ((acl->users->count || acl->groups->count) && acl->mask == PXAR_ACL_NONE)
		return err_set(err, EBADMSG, "ACL names users or groups but has no mask");
	return 0;
}

int metadata_set_access_acl(struct metadata *m, const uint8_t *value, size_t size,
			    struct err *err)
{
	struct parsed_acl acl = { .users = &m->acl_users, .groups = &m->acl_groups };
	int rc = parse_acl(&acl, value, size, err);

	if (!rc)
		rc = check_acl(&acl, err);
	if (rc < 0) {
		m->acl_users.count = m->acl_groups.count = 0;
		return rc;
	}
	/* Without a mask the group bits of the mode are the owning group's own. */
	m->has_acl_group_obj = acl.mask != PXAR_ACL_NONE;
	m->acl_group_obj = acl.group_obj;
	return 0;
}

int metadata_set_default_acl(struct metadata *m, const uint8_t *value, size_t size,
			     struct err *err)
{
	struct parsed_acl acl = { .users = &m->acl_default_users,
				  .groups = &m->acl_default_groups };
	int rc = parse_acl(&acl, value, size, err);

	if (!rc && size > sizeof(uint32_t)) /* no entries at all: no default ACL */
		rc = check_acl(&acl, err);
	if (rc < 0) {
		m->acl_default_users.count = m->acl_default_groups.count = 0;
		return rc;
	}
	m->has_acl_default = size > sizeof(uint32_t);
	m->acl_default.user_obj = acl.user_obj;
	m->acl_default.group_obj = acl.group_obj;
	m->acl_default.other = acl.other;
	m->acl_default.mask = acl.mask;
	return 0;
}

/* --- inode flags --- */

/* archive/FORMAT.md, "Flag bits"; the values on the right are the kernel's ABI. */
static const struct {
	uint64_t flag;
	uint32_t inode_flag;
} inode_flags[] = {
	{ PXAR_FLAG_APPEND, 0x00000020 },  { PXAR_FLAG_NOATIME, 0x00000080 },
	{ PXAR_FLAG_COMPR, 0x00000004 },   { PXAR_FLAG_NOCOW, 0x00800000 },
	{ PXAR_FLAG_NODUMP, 0x00000040 },  { PXAR_FLAG_DIRSYNC, 0x00010000 },
	{ PXAR_FLAG_IMMUTABLE, 0x00000010 }, { PXAR_FLAG_SYNC, 0x00000008 },
	{ PXAR_FLAG_NOCOMP, 0x00000400 },  { PXAR_FLAG_PROJINHERIT, 0x20000000 },
}, fat_flags[] = {
	{ PXAR_FLAG_HIDDEN, 2 },
	{ PXAR_FLAG_SYSTEM, 4 },
	{ PXAR_FLAG_ARCHIVE, 32 },
};

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))

uint64_t metadata_flags_from_inode(uint32_t bits)
{
	uint64_t flags = 0;

	for (size_t i = 0; i < ARRAY_COUNT(inode_flags); i++)
		if (bits & inode_flags[i].inode_flag)
			flags |= inode_flags[i].flag;
	return flags;
}

uint32_t metadata_flags_to_inode(uint64_t flags)
{
	uint32_t bits = 0;

	for (size_t i = 0; i < ARRAY_COUNT(inode_flags); i++)
		if (flags & inode_flags[i].flag)
			bits |= inode_flags[i].inode_flag;
	return bits;
}

uint64_t metadata_flags_from_fat(uint32_t fat_attributes)
{
	uint64_t flags = 0;

	for (size_t i = 0; i < ARRAY_COUNT(fat_flags); i++)
		if (fat_attributes & fat_flags[i].inode_flag)
			flags |= fat_flags[i].flag;
	return flags;
}
