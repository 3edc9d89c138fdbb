/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/meta_read.h"

#include "archive/base/hex.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include <cmocka.h>

struct fixture {
	char dir[64];
	char file[80];
	int dir_fd, file_fd;
	struct metadata m;
	struct meta_features f;
};

static void set_up_in(struct fixture *x, const char *parent)
{
	struct statfs fs;

	snprintf(x->dir, sizeof(x->dir), "%s/test-meta-XXXXXX", parent);
	assert_non_null(mkdtemp(x->dir));
	snprintf(x->file, sizeof(x->file), "%s/f", x->dir);
	x->dir_fd = open(x->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	x->file_fd = open(x->file, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	assert_true(x->dir_fd >= 0 && x->file_fd >= 0);
	metadata_init(&x->m);
	assert_int_equal(fstatfs(x->dir_fd, &fs), 0);
	meta_features_of((uint32_t)fs.f_type, &x->f);
}

static void tear_down(struct fixture *x)
{
	unsigned none = 0;

	ioctl(x->file_fd, FS_IOC_SETFLAGS, &none);
	ioctl(x->dir_fd, FS_IOC_SETFLAGS, &none);
	close(x->dir_fd);
	close(x->file_fd);
	unlink(x->file);
	rmdir(x->dir);
	metadata_release(&x->m);
}

static int set_up(void **state)
{
	static struct fixture x;

	set_up_in(&x, "/tmp");
	*state = &x;
	return 0;
}

static int tear_down_test(void **state)
{
	tear_down(*state);
	return 0;
}

static int read_fd(struct fixture *x, int fd, bool skip_e2big, struct err *err)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return meta_read(&x->m, fd, &st, &x->f, skip_e2big, err);
}

static void read_file(struct fixture *x)
{
	assert_int_equal(read_fd(x, x->file_fd, false, NULL), 0);
}

static void set_hex(int fd, const char *name, const char *hex)
{
	uint8_t value[256];
	size_t size = strlen(hex) / 2;

	assert_int_equal(hex_decode(hex, value, size), 0);
	assert_int_equal(fsetxattr(fd, name, value, size, 0), 0);
}

static void need_root(void)
{
	if (geteuid() != 0)
		skip();
}

static void takes_what_stat_says(void **state)
{
	struct fixture *x = *state;
	struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = -5, .tv_nsec = 250000000 } };

	assert_int_equal(fchmod(x->file_fd, 04751), 0);
	assert_int_equal(futimens(x->file_fd, times), 0);
	read_file(x);
	assert_int_equal(x->m.mode, 0104751);
	assert_int_equal(x->m.mtime_sec, -5);
	assert_int_equal(x->m.mtime_nsec, 250000000);
	assert_int_equal(x->m.uid, geteuid());
	assert_int_equal(x->m.xattr_count, 0);
	assert_false(x->m.has_acl_group_obj || x->m.has_fcaps || x->m.has_quota_projid);
}

static void keeps_the_order_of_the_kernel(void **state)
{
	struct fixture *x = *state;
	char list[1000];
	const char *name = list;
	ssize_t size;

	fsetxattr(x->file_fd, "user.zz", "1", 1, 0);
	fsetxattr(x->file_fd, "user.a", "", 0, 0);
	fsetxattr(x->file_fd, "user.middle", "a\0b", 3, 0);
	size = flistxattr(x->file_fd, list, sizeof(list));
	read_file(x);
	assert_int_equal(x->m.xattr_count, 3);
	for (size_t i = 0; i < 3; i++, name += strlen(name) + 1) {
		assert_true(name < list + size);
		assert_string_equal(metadata_xattr_name(&x->m, i), name);
		if (strcmp(name, "user.middle") == 0) {
			assert_int_equal(x->m.xattrs[i].value_size, 3);
			assert_memory_equal(metadata_xattr_value(&x->m, i), "a\0b", 3);
		}
	}
}

static void takes_listed_kinds_only(void **state)
{
	struct fixture *x = *state;
	static const char fcaps[] = "0100000200040000000000000000000000000000";

	need_root();
	fsetxattr(x->file_fd, "security.ima", "x", 1, 0);
	set_hex(x->file_fd, "security.NTACL", "00ff");
	set_hex(x->file_fd, "trusted.t", "01");
	set_hex(x->file_fd, "security.capability", fcaps);
	set_hex(x->file_fd, "security.other", "01");
	read_file(x);
	assert_int_equal(x->m.xattr_count, 2);
	assert_true(x->m.has_fcaps);
	assert_int_equal(x->m.fcaps_size, 20);
	assert_int_equal(metadata_fcaps(&x->m)[4], 0);
	x->f.fcaps = false;
	read_file(x);
	assert_false(x->m.has_fcaps);
}

static void reads_values_longer_than_usual(void **state)
{
	struct fixture *x = *state;
	char value[3000], name[40];

	memset(value, 'v', sizeof(value));
	assert_int_equal(fsetxattr(x->file_fd, "user.long", value, 3000, 0), 0);
	for (int i = 0; i < 20; i++) { /* the list is long as well */
		snprintf(name, sizeof(name), "user.%030d", i);
		assert_int_equal(fsetxattr(x->file_fd, name, "x", 1, 0), 0);
	}
	read_file(x);
	assert_int_equal(x->m.xattr_count, 21);
	for (size_t i = 0; i < 21; i++)
		if (strcmp(metadata_xattr_name(&x->m, i), "user.long") == 0)
			assert_int_equal(x->m.xattrs[i].value_size, 3000);
}

static void takes_acls_apart(void **state)
{
	struct fixture *x = *state;

	/* u::rw-, u:1000:rwx, u:2000:r--, g::r--, g:50:r-x, m::rwx, o::--- */
	set_hex(x->file_fd, "system.posix_acl_access",
		"02000000"
		"01000600ffffffff"
		"02000700e8030000"
		"02000400d0070000"
		"04000400ffffffff"
		"0800050032000000"
		"10000700ffffffff"
		"20000000ffffffff");
	read_file(x);
	assert_int_equal(x->m.mode, 0100670);
	assert_int_equal(x->m.acl_users.count, 2);
	assert_int_equal(x->m.acl_users.items[0].id, 1000);
	assert_int_equal(x->m.acl_groups.count, 1);
	assert_true(x->m.has_acl_group_obj);
	assert_int_equal(x->m.acl_group_obj, 4);
	assert_int_equal(x->m.xattr_count, 0);
	assert_false(x->m.has_acl_default);
}

static void takes_default_acls_of_folders(void **state)
{
	struct fixture *x = *state;

	set_hex(x->dir_fd, "system.posix_acl_default",
		"02000000"
		"01000700ffffffff"
		"04000500ffffffff"
		"20000000ffffffff");
	assert_int_equal(read_fd(x, x->dir_fd, false, NULL), 0);
	assert_true(x->m.has_acl_default);
	assert_int_equal(x->m.acl_default.user_obj, 7);
	assert_int_equal(x->m.acl_default.group_obj, 5);
	assert_true(x->m.acl_default.mask == PXAR_ACL_NONE);
	assert_false(x->m.has_acl_group_obj);
	x->f.acls = false;
	assert_int_equal(read_fd(x, x->dir_fd, false, NULL), 0);
	assert_false(x->m.has_acl_default);
}

static void takes_inode_flags(void **state)
{
	struct fixture *x = *state;
	unsigned flags = FS_NODUMP_FL | FS_NOATIME_FL | FS_IMMUTABLE_FL;

	need_root();
	if (ioctl(x->file_fd, FS_IOC_SETFLAGS, &flags) < 0)
		skip();
	read_file(x);
	assert_int_equal(x->m.flags,
			 PXAR_FLAG_NODUMP | PXAR_FLAG_NOATIME | PXAR_FLAG_IMMUTABLE);
}

static void takes_project_ids(void **state)
{
	struct fixture *x = *state;
	struct fsxattr fsx;

	need_root();
	if (ioctl(x->file_fd, FS_IOC_FSGETXATTR, &fsx) < 0)
		skip();
	fsx.fsx_projid = 77;
	if (ioctl(x->file_fd, FS_IOC_FSSETXATTR, &fsx) < 0)
		skip(); /* made without project ids */
	read_file(x);
	assert_true(x->m.has_quota_projid);
	assert_int_equal(x->m.quota_projid, 77);
}

/* With every flag that it takes, one by one: what is read by name is what is read when open. */
static void reads_the_same_by_name_as_when_open(void **state)
{
	struct fixture *x = *state;
	AUTO(metadata) struct metadata named;
	struct statx sx;
	struct stat st;
	int rc;

	metadata_init(&named);
	fsetxattr(x->file_fd, "user.zz", "1", 1, 0);
	fsetxattr(x->file_fd, "user.a", "", 0, 0);
	set_hex(x->file_fd, "system.posix_acl_access",
		"0200000001000600ffffffff02000700d204000004000400ffffffff"
		"10000700ffffffff20000000ffffffff");
	for (unsigned bit = 0; bit < 32; bit++) {
		unsigned flags = 1u << bit;

		if (ioctl(x->file_fd, FS_IOC_SETFLAGS, &flags) < 0)
			continue;
		assert_int_equal(fstat(x->file_fd, &st), 0);
		assert_int_equal(statx(x->dir_fd, "f", 0, STATX_BASIC_STATS, &sx), 0);
		rc = meta_read_at(&named, x->dir_fd, "f", &st, sx.stx_attributes, &x->f, false,
				  NULL);
		if (rc == 1)
			skip(); /* an older kernel */
		assert_int_equal(rc, 0);
		read_file(x);
		assert_int_equal(named.flags, x->m.flags);
		assert_int_equal(named.mode, x->m.mode);
		assert_int_equal(named.mtime_nsec, x->m.mtime_nsec);
		assert_int_equal(named.xattr_count, x->m.xattr_count);
		assert_int_equal(named.bytes.size, x->m.bytes.size);
		assert_memory_equal(named.bytes.data, x->m.bytes.data, x->m.bytes.size);
		assert_int_equal(named.acl_users.count, x->m.acl_users.count);
		assert_int_equal(named.acl_group_obj, x->m.acl_group_obj);
	}
}

static void does_not_read_by_name_where_that_hides_something(void **state)
{
	struct fixture *x = *state;
	struct stat st;

	assert_int_equal(fstat(x->file_fd, &st), 0);
	meta_features_of(0x9123683e, &x->f);
	assert_int_equal(meta_read_at(&x->m, x->dir_fd, "f", &st, 0, &x->f, false, NULL), 1);
}

static void special_files_have_what_stat_says(void **state)
{
	struct fixture *x = *state;
	struct stat st = { .st_mode = S_IFLNK | 0777, .st_uid = 5 };

	assert_int_equal(meta_read(&x->m, -1, &st, &x->f, false, NULL), 0);
	assert_int_equal(x->m.mode, 0120777);
	assert_int_equal(x->m.uid, 5);
	assert_true(x->f.xattrs);
}

static void takes_xattrs_and_acls_on_tmpfs(void **state)
{
	struct fixture x;

	(void)state;
	set_up_in(&x, "/dev/shm");
	set_hex(x.file_fd, "system.posix_acl_access",
		"02000000"
		"01000600ffffffff"
		"02000700e8030000"
		"04000400ffffffff"
		"10000700ffffffff"
		"20000000ffffffff");
	if (geteuid() == 0)
		set_hex(x.file_fd, "trusted.t", "01");
	read_file(&x);
	assert_int_equal(x.m.acl_users.count, 1);
	assert_int_equal(x.m.xattr_count, geteuid() == 0);
	tear_down(&x);
}

/* A list over 64 KiB: no file system but one in memory can hold it. */
static void refuses_too_long_a_list_unless_told_to_skip_it(void **state)
{
	struct fixture x;
	struct err err = ERR_INIT;
	char name[251];

	(void)state;
	need_root();
	set_up_in(&x, "/dev/shm");
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "trusted.%0240d", i);
		assert_int_equal(fsetxattr(x.file_fd, name, "x", 1, 0), 0);
	}
	assert_int_equal(read_fd(&x, x.file_fd, false, &err), -E2BIG);
	assert_non_null(strstr(err.text, "--skip-e2big-xattr"));
	assert_int_equal(read_fd(&x, x.file_fd, true, &err), 0);
	assert_int_equal(x.m.xattr_count, 0);
	tear_down(&x);
}

/* The longest name with the longest value: one byte more than an archive can hold. */
static void refuses_too_large_a_value_unless_told_to_skip_it(void **state)
{
	struct fixture x;
	struct err err = ERR_INIT;
	char name[256];
	static const char value[65536];

	(void)state;
	need_root();
	set_up_in(&x, "/dev/shm");
	snprintf(name, sizeof(name), "trusted.%0247d", 1);
	assert_int_equal(fsetxattr(x.file_fd, name, value, sizeof(value), 0), 0);
	assert_int_equal(read_fd(&x, x.file_fd, false, &err), -E2BIG);
	assert_non_null(strstr(err.text, "too many for an archive"));
	assert_non_null(strstr(err.text, "--skip-e2big-xattr"));
	assert_int_equal(read_fd(&x, x.file_fd, true, &err), 0);
	assert_int_equal(x.m.xattr_count, 0);

	assert_int_equal(fsetxattr(x.file_fd, name, value, sizeof(value) - 1, 0), 0);
	read_file(&x);
	assert_int_equal(x.m.xattr_count, 1);
	tear_down(&x);
}

static void knows_virtual_file_systems(void **state)
{
	struct statfs fs;

	(void)state;
	assert_int_equal(statfs("/proc", &fs), 0);
	assert_true(meta_fs_is_virtual((uint32_t)fs.f_type));
	assert_true(meta_fs_is_virtual(0xde5e81e4));
	assert_false(meta_fs_is_virtual(0xef53));
	assert_false(meta_fs_is_virtual(0x01021994));
}

static void says_what_file_systems_can_hold(void **state)
{
	struct meta_features f;

	(void)state;
	meta_features_of(0x4d44, &f);
	assert_false(f.xattrs || f.acls || f.fcaps || f.projid);
	assert_true(f.fat);
	meta_features_of(0x9123683e, &f);
	assert_true(f.xattrs && f.acls && f.fcaps && !f.projid && !f.fat);
	meta_features_of(0xef53, &f);
	assert_true(f.xattrs && f.acls && f.fcaps && f.projid && !f.fat);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down_test)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(takes_what_stat_says),
		TEST(keeps_the_order_of_the_kernel),
		TEST(takes_listed_kinds_only),
		TEST(reads_values_longer_than_usual),
		TEST(takes_acls_apart),
		TEST(takes_default_acls_of_folders),
		TEST(takes_inode_flags),
		TEST(takes_project_ids),
		TEST(reads_the_same_by_name_as_when_open),
		TEST(does_not_read_by_name_where_that_hides_something),
		TEST(special_files_have_what_stat_says),
		cmocka_unit_test(takes_xattrs_and_acls_on_tmpfs),
		cmocka_unit_test(refuses_too_long_a_list_unless_told_to_skip_it),
		cmocka_unit_test(refuses_too_large_a_value_unless_told_to_skip_it),
		cmocka_unit_test(knows_virtual_file_systems),
		cmocka_unit_test(says_what_file_systems_can_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
