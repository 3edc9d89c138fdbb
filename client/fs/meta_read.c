/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/meta_read.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/msdos_fs.h>
#include <linux/stat.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/xattr.h>

/* Newer than many a libc: Linux 6.13 and 6.17.  One number on all machines but alpha. */
#if !defined(SYS_getxattrat) && !defined(__alpha__)
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#endif
#if !defined(SYS_file_getattr) && !defined(__alpha__)
#define SYS_file_getattr 468
#endif

enum fs_magic {
	FS_BINFMT_MISC = 0x42494e4d,
	FS_BTRFS = 0x9123683e,
	FS_CGROUP = 0x0027e0eb,
	FS_CGROUP2 = 0x63677270,
	FS_CONFIGFS = 0x62656570,
	FS_DEBUGFS = 0x64626720,
	FS_DEVPTS = 0x00001cd1,
	FS_EFIVARFS = 0xde5e81e4,
	FS_EXT4 = 0x0000ef53,
	FS_FUSE = 0x65735546,
	FS_FUSECTL = 0x65735543,
	FS_HUGETLBFS = 0x958458f6,
	FS_MQUEUE = 0x19800202,
	FS_MSDOS = 0x00004d44,
	FS_NFSD = 0x6e667364,
	FS_PROC = 0x00009fa0,
	FS_PSTORE = 0x6165676c,
	FS_RPC_PIPEFS = 0x67596969,
	FS_SECURITYFS = 0x73636673,
	FS_SELINUXFS = 0xf97cff8c,
	FS_SMACKFS = 0x43415d53,
	FS_SYSFS = 0x62656572,
	FS_TMPFS = 0x01021994,
	FS_XFS = 0x58465342,
	FS_ZFS = 0x2fc12fc1,
};

enum {
	/* The kernel allocates (and clears) as much as is asked for, so ask for little first. */
	XATTR_SIZE_USUAL = 512,
	XATTR_NAME_SIZE_MAX = 255,
};

/* Neither the list nor a value is ever longer: the kernel answers E2BIG then. */
static_assert(XATTR_LIST_MAX == 65536 && XATTR_SIZE_MAX == 65536, "xattr sizes");

bool meta_fs_is_virtual(uint64_t fs_magic)
{
	switch (fs_magic) {
	case FS_BINFMT_MISC:
	case FS_CGROUP:
	case FS_CGROUP2:
	case FS_CONFIGFS:
	case FS_DEBUGFS:
	case FS_DEVPTS:
	case FS_EFIVARFS:
	case FS_FUSECTL:
	case FS_HUGETLBFS:
	case FS_MQUEUE:
	case FS_NFSD:
	case FS_PROC:
	case FS_PSTORE:
	case FS_RPC_PIPEFS:
	case FS_SECURITYFS:
	case FS_SELINUXFS:
	case FS_SMACKFS:
	case FS_SYSFS:
		return true;
	default:
		return false;
	}
}

void meta_features_of(uint64_t fs_magic, struct meta_features *out)
{
	bool is_fat = fs_magic == FS_MSDOS;

	*out = (struct meta_features){
		.fs_magic = fs_magic,
		.xattrs = !is_fat,
		.acls = !is_fat,
		.fcaps = !is_fat,
		.projid = fs_magic == FS_EXT4 || fs_magic == FS_XFS || fs_magic == FS_ZFS ||
			  fs_magic == FS_FUSE,
		.fat = is_fat || fs_magic == FS_FUSE,
	};
}

/* --- the file: open, or by its name --- */

struct subject {
	int fd; /* -1: by name */
	int dir_fd;
	const char *name;
};

/* The kernel's struct xattr_args and struct file_attr. */
struct xattr_args {
	uint64_t value;
	uint32_t size, flags;
};

struct file_attr {
	uint64_t xflags;
	uint32_t extsize, nextents, projid, cowextsize;
};

static_assert(sizeof(struct xattr_args) == 16 && sizeof(struct file_attr) == 24, "kernel ABI");

static ssize_t get_by_name(const struct subject *s, const char *name, void *value, size_t size)
{
#ifdef SYS_getxattrat
	struct xattr_args args = { .value = (uintptr_t)value, .size = (uint32_t)size };

	return syscall(SYS_getxattrat, s->dir_fd, s->name, AT_SYMLINK_NOFOLLOW, name, &args,
		       sizeof(args));
#else
	errno = ENOSYS;
	return -1;
#endif
}

static ssize_t list_by_name(const struct subject *s, char *list, size_t size)
{
#ifdef SYS_listxattrat
	return syscall(SYS_listxattrat, s->dir_fd, s->name, AT_SYMLINK_NOFOLLOW, list, size);
#else
	errno = ENOSYS;
	return -1;
#endif
}

static int attr_by_name(int dir_fd, const char *name, struct file_attr *out)
{
#ifdef SYS_file_getattr
	return (int)syscall(SYS_file_getattr, dir_fd, name, out, sizeof(*out),
			    AT_SYMLINK_NOFOLLOW);
#else
	errno = ENOSYS;
	return -1;
#endif
}

static ssize_t subject_get(const struct subject *s, const char *name, void *value, size_t size)
{
	return s->fd >= 0 ? fgetxattr(s->fd, name, value, size) :
			    get_by_name(s, name, value, size);
}

static ssize_t subject_list(const struct subject *s, char *list, size_t size)
{
	return s->fd >= 0 ? flistxattr(s->fd, list, size) : list_by_name(s, list, size);
}

/* --- extended attributes --- */

/* The value of one attribute: `*value` is `small` or, when that is too small, `*heap`.
 * Returns its size, or a negative errno. */
static ssize_t get_xattr(const struct subject *s, const char *name, uint8_t small[XATTR_SIZE_USUAL],
			 uint8_t **heap, const uint8_t **value)
{
	ssize_t size = subject_get(s, name, small, XATTR_SIZE_USUAL);

	*value = small;
	if (size >= 0 || errno != ERANGE)
		return size >= 0 ? size : -errno;
	if (!*heap)
		*heap = malloc(XATTR_SIZE_MAX);
	if (!*heap)
		return -ENOMEM;
	*value = *heap;
	size = subject_get(s, name, *heap, XATTR_SIZE_MAX);
	return size >= 0 ? size : -errno;
}

enum xattr_kind { XATTR_IGNORED, XATTR_PLAIN, XATTR_FCAPS, XATTR_ACL, XATTR_ACL_DEFAULT };

static enum xattr_kind kind_of(const char *name)
{
	if (strcmp(name, "security.capability") == 0)
		return XATTR_FCAPS;
	if (strcmp(name, "system.posix_acl_access") == 0)
		return XATTR_ACL;
	if (strcmp(name, "system.posix_acl_default") == 0)
		return XATTR_ACL_DEFAULT;
	if (strlen(name) > XATTR_NAME_SIZE_MAX)
		return XATTR_IGNORED;
	if (strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0 ||
	    strcmp(name, "security.NTACL") == 0)
		return XATTR_PLAIN;
	return XATTR_IGNORED;
}

/* Where a kind is switched on and off; NULL: it goes with the others. */
static bool *feature_of(struct meta_features *f, enum xattr_kind kind)
{
	switch (kind) {
	case XATTR_FCAPS:
		return &f->fcaps;
	case XATTR_ACL:
	case XATTR_ACL_DEFAULT:
		return &f->acls;
	default:
		return NULL;
	}
}

static int store(struct metadata *m, enum xattr_kind kind, const char *name,
		 const uint8_t *value, size_t size, struct err *err)
{
	int rc;

	switch (kind) {
	case XATTR_FCAPS:
		rc = metadata_set_fcaps(m, value, size);
		break;
	case XATTR_ACL:
		return metadata_set_access_acl(m, value, size, err);
	case XATTR_ACL_DEFAULT:
		if (!metadata_is_directory(m))
			return 0;
		return metadata_set_default_acl(m, value, size, err);
	default:
		rc = metadata_add_xattr(m, name, strlen(name), value, size);
		break;
	}
	if (rc == -E2BIG)
		return err_set(err, E2BIG,
			       "its %zu bytes are too many for an archive"
			       " (--skip-e2big-xattr leaves them out)",
			       size);
	return rc < 0 ? err_sys(err, -rc, "storing it") : 0;
}

/* One listed attribute.  1: it is too large and nothing more is to be read. */
static int read_one(struct metadata *m, const struct subject *s, const char *name, struct meta_features *f,
		    bool skip_e2big, uint8_t **heap, struct err *err)
{
	enum xattr_kind kind = kind_of(name);
	bool *feature = feature_of(f, kind);
	uint8_t small[XATTR_SIZE_USUAL];
	const uint8_t *value;
	ssize_t size;
	int rc;

	if (kind == XATTR_IGNORED || (feature && !*feature))
		return 0;
	size = get_xattr(s, name, small, heap, &value);
	if (size == -ENODATA || size == -EBADF)
		return 0; /* gone since it was listed */
	if (size == -EOPNOTSUPP && feature) {
		*feature = false;
		return 0;
	}
	rc = size < 0 ? err_sys(err, (int)-size, "reading it") :
			store(m, kind, name, value, (size_t)size, err);
	if (rc == -E2BIG && skip_e2big)
		return 1;
	return rc < 0 ? err_wrap(err, rc, "extended attribute %s", name) : 0;
}

static int read_listed(struct metadata *m, const struct subject *s, const char *list, size_t size,
		       struct meta_features *f, bool skip_e2big, struct err *err)
{
	AUTO(free) uint8_t *heap = NULL;
	const char *end = list + size;
	int rc = 0;

	for (; list < end && rc == 0; list += strlen(list) + 1)
		rc = read_one(m, s, list, f, skip_e2big, &heap, err);
	return rc < 0 ? rc : 0;
}

static int read_long_list(struct metadata *m, const struct subject *s, struct meta_features *f,
			  bool skip_e2big, struct err *err)
{
	AUTO(free) char *list = malloc(XATTR_LIST_MAX);
	ssize_t size;

	if (!list)
		return err_sys(err, ENOMEM, "extended attributes");
	size = subject_list(s, list, XATTR_LIST_MAX);
	if (size < 0 && (errno == E2BIG || errno == ERANGE)) {
		if (skip_e2big)
			return 0;
		return err_set(err, E2BIG, "the list of extended attributes is too long"
					   " (--skip-e2big-xattr leaves them out)");
	}
	if (size < 0)
		return err_sys(err, errno, "listing extended attributes");
	return read_listed(m, s, list, (size_t)size, f, skip_e2big, err);
}

static int read_xattrs(struct metadata *m, const struct subject *s, struct meta_features *f,
		       bool skip_e2big, struct err *err)
{
	char list[XATTR_SIZE_USUAL];
	ssize_t size = subject_list(s, list, sizeof(list));

	if (size > 0)
		return read_listed(m, s, list, (size_t)size, f, skip_e2big, err);
	if (size == 0 || errno == EBADF)
		return 0;
	if (errno == EOPNOTSUPP) {
		f->xattrs = false;
		return 0;
	}
	if (errno == ERANGE || errno == E2BIG)
		return read_long_list(m, s, f, skip_e2big, err);
	return err_sys(err, errno, "listing extended attributes");
}

/* --- inode flags --- */

/* What the file systems that lack an ioctl answer. */
static bool lacks_ioctl(int error)
{
	return error == ENOTTY || error == ENOSYS || error == EBADF || error == EOPNOTSUPP ||
	       error == EINVAL;
}

static int read_flags(struct metadata *m, int fd, const struct meta_features *f,
		      struct err *err)
{
	/* The kernel writes 32 bits, whatever the ioctl's number says. */
	uint32_t flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0)
		m->flags |= metadata_flags_from_inode(flags);
	else if (!lacks_ioctl(errno))
		return err_sys(err, errno, "reading inode flags");
	if (!f->fat)
		return 0;
	if (ioctl(fd, FAT_IOCTL_GET_ATTRIBUTES, &flags) == 0)
		m->flags |= metadata_flags_from_fat(flags);
	else if (!lacks_ioctl(errno))
		return err_sys(err, errno, "reading FAT attributes");
	return 0;
}

static int read_projid(struct metadata *m, int fd, struct err *err)
{
	struct fsxattr fsx = { 0 };

	if (ioctl(fd, FS_IOC_FSGETXATTR, &fsx) < 0)
		return lacks_ioctl(errno) ? 0 : err_sys(err, errno, "reading the project id");
	m->has_quota_projid = fsx.fsx_projid != 0;
	m->quota_projid = fsx.fsx_projid;
	return 0;
}

void meta_read_stat(struct metadata *m, const struct stat *st)
{
	metadata_clear(m);
	m->mode = st->st_mode;
	m->uid = st->st_uid;
	m->gid = st->st_gid;
	m->mtime_sec = st->st_mtim.tv_sec;
	m->mtime_nsec = (uint32_t)st->st_mtim.tv_nsec;
}

int meta_read(struct metadata *m, int fd, const struct stat *st, struct meta_features *f,
	      bool skip_e2big, struct err *err)
{
	int rc = 0;

	meta_read_stat(m, st);
	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return 0;
	if (f->xattrs)
		rc = read_xattrs(m, &(struct subject){ .fd = fd }, f, skip_e2big, err);
	if (rc == 0)
		rc = read_flags(m, fd, f, err);
	if (rc == 0 && f->projid)
		rc = read_projid(m, fd, err);
	return rc;
}

/* --- without opening it --- */

/* Whether the kernel has what it takes: asked once. */
static bool kernel_reads_by_name(void)
{
	enum { UNKNOWN, NO, YES };
	static atomic_int answer = UNKNOWN;
	const struct subject here = { .fd = -1, .dir_fd = AT_FDCWD, .name = "/" };
	struct file_attr attr;

	if (answer == UNKNOWN) {
		/* Where system calls are filtered, unknown ones may give EPERM. */
		bool lacks = (list_by_name(&here, NULL, 0) < 0 &&
			      (errno == ENOSYS || errno == EPERM)) ||
			     (attr_by_name(AT_FDCWD, "/", &attr) < 0 &&
			      (errno == ENOSYS || errno == EPERM));

		answer = lacks ? NO : YES;
	}
	return answer == YES;
}

/* The generic attributes tell nothing of compression and copy on write: of the file systems
 * where they say all that FS_IOC_GETFLAGS does, together with statx. */
static bool attr_is_complete(uint64_t fs_magic)
{
	return fs_magic == FS_EXT4 || fs_magic == FS_XFS || fs_magic == FS_TMPFS;
}

static uint32_t inode_flags_of(uint64_t xflags, uint64_t attributes)
{
	static const struct {
		uint64_t from;
		uint32_t to;
	} map[] = {
		{ FS_XFLAG_IMMUTABLE, FS_IMMUTABLE_FL }, { FS_XFLAG_APPEND, FS_APPEND_FL },
		{ FS_XFLAG_SYNC, FS_SYNC_FL },		 { FS_XFLAG_NOATIME, FS_NOATIME_FL },
		{ FS_XFLAG_NODUMP, FS_NODUMP_FL },	 { FS_XFLAG_PROJINHERIT, FS_PROJINHERIT_FL },
	};
	uint32_t flags = attributes & STATX_ATTR_COMPRESSED ? FS_COMPR_FL : 0;

	for (size_t i = 0; i < sizeof(map) / sizeof(map[0]); i++)
		if (xflags & map[i].from)
			flags |= map[i].to;
	return flags;
}

static int read_attr_by_name(struct metadata *m, int dir_fd, const char *name,
			     uint64_t attributes, const struct meta_features *f, struct err *err)
{
	struct file_attr attr = { 0 };

	if (attr_by_name(dir_fd, name, &attr) < 0)
		return lacks_ioctl(errno) ? 0 : err_sys(err, errno, "reading inode flags");
	m->flags |= metadata_flags_from_inode(inode_flags_of(attr.xflags, attributes));
	m->has_quota_projid = f->projid && attr.projid != 0;
	m->quota_projid = attr.projid;
	return 0;
}

int meta_read_at(struct metadata *m, int dir_fd, const char *name, const struct stat *st,
		 uint64_t attributes, struct meta_features *f, bool skip_e2big, struct err *err)
{
	const struct subject s = { .fd = -1, .dir_fd = dir_fd, .name = name };
	int rc = 0;

	if (!attr_is_complete(f->fs_magic) || !kernel_reads_by_name())
		return 1;
	meta_read_stat(m, st);
	if (f->xattrs)
		rc = read_xattrs(m, &s, f, skip_e2big, err);
	return rc < 0 ? rc : read_attr_by_name(m, dir_fd, name, attributes, f, err);
}
