/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes and what is read by ioctl: inode flags, project id.
 *
 * An archive keeps ACLs and file capabilities as items of their own; here they are attributes
 * again.  Stored attributes of those names are not shown: what the kernel enforces comes from
 * the items that mean it.
 */
#include "fuse/ops.h"

#include "fuse/reply.h"

#include <linux/fs.h>
#include <linux/msdos_fs.h>
#include <string.h>
#include <sys/ioctl.h>

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define FCAPS "security.capability"
#define SYSTEM_PREFIX "system."
#define TRUSTED_PREFIX "trusted."

static bool begins_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* Of an attribute as stored: may it be seen under its own name, by this caller? */
static bool is_shown(const struct request *rq, const char *name)
{
	if (begins_with(name, SYSTEM_PREFIX) || strcmp(name, FCAPS) == 0)
		return false;
	return rq->privileged || !begins_with(name, TRUSTED_PREFIX);
}

/* --- getxattr --- */

static int reply_stored(struct request *rq, const char *name)
{
	const struct metadata *m = &rq->entry.meta;

	for (size_t i = 0; i < m->xattr_count; i++)
		if (strcmp(metadata_xattr_name(m, i), name) == 0 && is_shown(rq, name)) {
			reply_xattr(rq, metadata_xattr_value(m, i), m->xattrs[i].value_size,
				    rq->size);
			return 0;
		}
	return -ENODATA;
}

static int reply_acl(struct request *rq, bool has, int encode(const struct metadata *,
							      struct wbuf *))
{
	int rc;

	if (!has || !guise_has_acl(&rq->mount->guise))
		return -ENODATA;
	wbuf_clear(&rq->out);
	rc = encode(&rq->entry.meta, &rq->out);
	if (rc < 0)
		return err_set(&rq->err, -rc, "the ACL cannot be shown");
	reply_xattr(rq, rq->out.data, rq->out.size, rq->size);
	return 0;
}

static int run_getxattr(struct request *rq)
{
	const struct metadata *m = &rq->entry.meta;
	const char *name = (const char *)rq->name.data;
	int rc = ops_read_entry(rq);

	if (rc < 0)
		return rc;
	if (strcmp(name, ACL_ACCESS) == 0)
		return reply_acl(rq, metadata_has_access_acl(m), metadata_access_acl_xattr);
	if (strcmp(name, ACL_DEFAULT) == 0)
		return reply_acl(rq, metadata_has_default_acl(m), metadata_default_acl_xattr);
	if (strcmp(name, FCAPS) != 0)
		return reply_stored(rq, name);
	if (!m->has_fcaps)
		return -ENODATA;
	reply_xattr(rq, metadata_fcaps(m), m->fcaps_size, rq->size);
	return 0;
}

void ops_getxattr(fuse_req_t fuse, fuse_ino_t number, const char *name, size_t size)
{
	struct request *rq = ops_request(fuse, "getxattr", run_getxattr, number, MOUNT_XATTR);

	if (!rq)
		return;
	rq->size = size;
	rq->privileged = fuse_req_ctx(fuse)->uid == 0;
	ops_go_named(rq, name);
}

/* --- listxattr --- */

static void put_name(struct request *rq, bool has, const char *name)
{
	if (has)
		wbuf_put(&rq->out, name, strlen(name) + 1);
}

static int run_listxattr(struct request *rq)
{
	const struct metadata *m = &rq->entry.meta;
	bool acl = guise_has_acl(&rq->mount->guise);
	int rc = ops_read_entry(rq);

	if (rc < 0)
		return rc;
	wbuf_clear(&rq->out);
	for (size_t i = 0; i < m->xattr_count; i++)
		put_name(rq, is_shown(rq, metadata_xattr_name(m, i)), metadata_xattr_name(m, i));
	put_name(rq, m->has_fcaps, FCAPS);
	put_name(rq, acl && metadata_has_access_acl(m), ACL_ACCESS);
	put_name(rq, acl && metadata_has_default_acl(m), ACL_DEFAULT);
	if (rq->out.failed)
		return err_set(&rq->err, -rq->out.failed, "too many attributes");
	reply_xattr(rq, rq->out.data, rq->out.size, rq->size);
	return 0;
}

void ops_listxattr(fuse_req_t fuse, fuse_ino_t number, size_t size)
{
	struct request *rq = ops_request(fuse, "listxattr", run_listxattr, number, MOUNT_XATTR);

	if (!rq)
		return;
	rq->size = size;
	rq->privileged = fuse_req_ctx(fuse)->uid == 0;
	request_go(rq);
}

/* --- ioctl --- */

static uint32_t fat_attributes(uint64_t flags)
{
	return (flags & PXAR_FLAG_HIDDEN ? ATTR_HIDDEN : 0) |
	       (flags & PXAR_FLAG_SYSTEM ? ATTR_SYS : 0) |
	       (flags & PXAR_FLAG_ARCHIVE ? ATTR_ARCH : 0);
}

static uint32_t xflags(uint64_t flags)
{
	static const struct {
		uint64_t flag;
		uint32_t xflag;
	} rows[] = {
		{ PXAR_FLAG_IMMUTABLE, FS_XFLAG_IMMUTABLE }, { PXAR_FLAG_APPEND, FS_XFLAG_APPEND },
		{ PXAR_FLAG_SYNC, FS_XFLAG_SYNC },	     { PXAR_FLAG_NOATIME, FS_XFLAG_NOATIME },
		{ PXAR_FLAG_NODUMP, FS_XFLAG_NODUMP },
		{ PXAR_FLAG_PROJINHERIT, FS_XFLAG_PROJINHERIT },
	};
	uint32_t out = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (flags & rows[i].flag)
			out |= rows[i].xflag;
	return out;
}

static int reply_flags(struct request *rq, uint32_t flags)
{
	/* The size in the commands' number is that of a long; what is passed has 32 bits. */
	if (rq->size < sizeof(flags))
		return -EINVAL;
	reply_ioctl(rq, &flags, sizeof(flags));
	return 0;
}

static int reply_fsxattr(struct request *rq)
{
	const struct metadata *m = &rq->entry.meta;
	struct fsxattr x = { .fsx_xflags = xflags(m->flags),
			     .fsx_projid = m->has_quota_projid ? (uint32_t)m->quota_projid : 0 };

	if (rq->size < sizeof(x))
		return -EINVAL;
	reply_ioctl(rq, &x, sizeof(x));
	return 0;
}

static int run_ioctl(struct request *rq)
{
	int rc = ops_read_entry(rq);

	if (rc < 0)
		return rc;
	switch (rq->command) {
	case FS_IOC_GETFLAGS:
	case FS_IOC32_GETFLAGS:
		return reply_flags(rq, metadata_flags_to_inode(rq->entry.meta.flags));
	case FAT_IOCTL_GET_ATTRIBUTES:
		return reply_flags(rq, fat_attributes(rq->entry.meta.flags));
	default:
		return reply_fsxattr(rq);
	}
}

void ops_ioctl(fuse_req_t fuse, fuse_ino_t number, unsigned command, void *arg,
	       struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_size,
	       size_t out_size)
{
	struct request *rq;

	(void)arg;
	(void)fi;
	(void)flags;
	(void)in;
	(void)in_size;
	if (command != FS_IOC_GETFLAGS && command != FS_IOC32_GETFLAGS &&
	    command != FS_IOC_FSGETXATTR && command != FAT_IOCTL_GET_ATTRIBUTES) {
		fuse_reply_err(fuse, ENOTTY);
		return;
	}
	rq = ops_request(fuse, "ioctl", run_ioctl, number, MOUNT_IOCTL);
	if (!rq)
		return;
	rq->command = command;
	rq->size = out_size;
	request_go(rq);
}
