/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metadata - all that is known of one entry but its name and content: stat data, xattrs,
 * ACLs, file capabilities, project id.
 *
 * Layout:  archive/FORMAT.md, "Item bodies" and "ACLs as Linux xattrs".
 * Owner:   embedded; release with metadata_release().  Meant to be reused for many entries:
 *          metadata_clear() keeps the memory, so a walk does not allocate per entry.
 * Threads: one owner at a time; a filled one may be read by many.
 * Trust:   a decoded one was checked by decoder or tree; sizes and counts are bounded by
 *          PXAR_ATTRIBUTE_COUNT_MAX and PXAR_ATTRIBUTE_BYTES_MAX.
 */
#ifndef PXARFS_METADATA_H
#define PXARFS_METADATA_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"
#include "archive/pxar.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One stored attribute; the bytes lie in metadata.bytes, which moves as it grows. */
struct metadata_xattr {
	size_t name_begin; /* NUL-terminated */
	size_t value_begin;
	size_t value_size;
};

struct metadata_acl {
	uint64_t id;
	uint64_t permissions; /* 4 read, 2 write, 1 execute */
};

struct metadata_acl_list {
	struct metadata_acl *items;
	size_t count;
	size_t capacity;
};

struct metadata {
	/* ENTRY */
	uint64_t mode; /* type and permissions, as st_mode */
	uint64_t flags; /* enum pxar_flag; unknown bits are kept */
	uint32_t uid, gid;
	int64_t mtime_sec; /* floor of the time */
	uint32_t mtime_nsec; /* 0..999999999, forward from mtime_sec */

	/* Attributes, in archive order within each kind. */
	struct metadata_xattr *xattrs;
	size_t xattr_count, xattr_capacity;
	struct metadata_acl_list acl_users, acl_groups;
	struct metadata_acl_list acl_default_users, acl_default_groups;
	bool has_acl_group_obj, has_acl_default, has_fcaps, has_quota_projid;
	uint64_t acl_group_obj;
	struct {
		uint64_t user_obj, group_obj, other, mask; /* PXAR_ACL_NONE: absent */
	} acl_default;
	size_t fcaps_begin, fcaps_size; /* in bytes */
	uint64_t quota_projid;

	struct wbuf bytes; /* names and values */
};

void metadata_init(struct metadata *m);
void metadata_release(struct metadata *m);
DEFINE_AUTO_STRUCT(metadata)
void metadata_clear(struct metadata *m);

/* Each appends one attribute; -ENOMEM, or -E2BIG over the bounds above. */
int metadata_add_xattr(struct metadata *m, const char *name, size_t name_size,
		       const void *value, size_t value_size);
int metadata_add_acl(struct metadata_acl_list *list, uint64_t id, uint64_t permissions);
int metadata_set_fcaps(struct metadata *m, const void *value, size_t value_size);

/* Borrowed until `m` next changes. */
static inline const char *metadata_xattr_name(const struct metadata *m, size_t i)
{
	return (const char *)m->bytes.data + m->xattrs[i].name_begin;
}

static inline const uint8_t *metadata_xattr_value(const struct metadata *m, size_t i)
{
	return m->bytes.data + m->xattrs[i].value_begin;
}

static inline const uint8_t *metadata_fcaps(const struct metadata *m)
{
	return m->bytes.data + m->fcaps_begin;
}

static inline bool metadata_is_directory(const struct metadata *m)
{
	return (m->mode & PXAR_MODE_TYPE) == PXAR_MODE_DIRECTORY;
}

/* True when the entry has an access ACL beyond its mode, or (directories) a default ACL. */
bool metadata_has_access_acl(const struct metadata *m);
bool metadata_has_default_acl(const struct metadata *m);

/* The kernel's form of system.posix_acl_access and _default, complete (owner, group, mask and
 * other included): appended to `out`.  Call only where the matching metadata_has_...() is
 * true.  Fields that the kernel's form cannot hold (ids over 32 bits, permissions over 7):
 * -EBADMSG. */
int metadata_access_acl_xattr(const struct metadata *m, struct wbuf *out);
int metadata_default_acl_xattr(const struct metadata *m, struct wbuf *out);

/* The other way round, for collecting: take a kernel ACL value apart into the archive's form
 * (lists sorted by id, then permissions; owner and other dropped as they are in `mode`).
 * -EBADMSG when the value is malformed. */
int metadata_set_access_acl(struct metadata *m, const uint8_t *value, size_t size,
			    struct err *err);
int metadata_set_default_acl(struct metadata *m, const uint8_t *value, size_t size,
			     struct err *err);

/* ENTRY.flags <-> Linux inode flags (FS_IOC_GETFLAGS); other bits are dropped. */
uint64_t metadata_flags_from_inode(uint32_t inode_flags);
uint32_t metadata_flags_to_inode(uint64_t flags);

/* ENTRY.flags from FAT attribute bits (FAT_IOCTL_GET_ATTRIBUTES). */
uint64_t metadata_flags_from_fat(uint32_t fat_attributes);

#endif
