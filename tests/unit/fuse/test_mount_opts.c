/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/mount_opts.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct mount_opts parsed(const char *text)
{
	struct mount_opts o;
	struct err err = ERR_INIT;

	mount_opts_init(&o, true);
	if (mount_opts_parse(&o, text, &err) != 0)
		fail_msg("'%s': %s", text, err.text);
	return o;
}

static void assert_refused(const char *text, const char *why)
{
	struct mount_opts o;
	struct err err = ERR_INIT;

	mount_opts_init(&o, true);
	assert_int_equal(mount_opts_parse(&o, text, &err), -EINVAL);
	if (!strstr(err.text, why))
		fail_msg("'%s': '%s' does not say '%s'", text, err.text, why);
}

static void defaults_are_closed(void **state)
{
	struct mount_opts o;

	(void)state;
	mount_opts_init(&o, false);
	assert_false(o.dev || o.suid || o.noexec || o.allow_other);
	assert_int_equal(o.timeout_ms, 60000);
	assert_int_equal(o.cache_bytes, 256 << 20);
	mount_opts_init(&o, true);
	assert_true(o.allow_other);
}

static void the_last_word_wins(void **state)
{
	(void)state;
	assert_true(parsed("nodev,dev").dev);
	assert_false(parsed("suid,nosuid").suid);
	assert_true(parsed("").idle_poll);
	assert_false(parsed("noidle_poll").idle_poll);
	assert_true(parsed("noidle_poll,idle_poll").idle_poll);
	assert_true(parsed("exec,noexec").noexec);
	assert_false(parsed("allow_other,noallow_other").allow_other);
	assert_int_equal(parsed("timeout=5,timeout=7").timeout_ms, 7000);
}

static void accepts_what_fstab_and_mount_add(void **state)
{
	(void)state;
	parsed("");
	parsed("rw,defaults,noauto,nofail,_netdev,user,users,noatime,relatime");
	parsed("x-systemd.automount,x-systemd.idle-timeout=60,X-mount.mkdir=0755,comment=a b");
	parsed("user=joe,,ro,");
}

static void reads_sizes(void **state)
{
	static const struct {
		const char *text;
		size_t bytes;
	} rows[] = {
		{ "cache=1048576", 1 << 20 },	{ "cache=2048K", 2 << 20 },
		{ "cache=64M", 64 << 20 },	{ "cache=64m", 64 << 20 },
		{ "cache=64MiB", 64 << 20 },	{ "cache=64MB", 64 << 20 },
		{ "cache=3G", (size_t)3 << 30 }, { "cache=1T", (size_t)1 << 40 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(parsed(rows[i].text).cache_bytes, rows[i].bytes);
}

static void read_ahead_may_be_nothing(void **state)
{
	(void)state;
	assert_int_equal(parsed("ro").readahead_bytes, MOUNT_OPTS_READAHEAD_BYTES);
	assert_int_equal(parsed("readahead=0").readahead_bytes, 0);
	assert_int_equal(parsed("readahead=100").readahead_bytes, 100);
	assert_int_equal(parsed("readahead=16M").readahead_bytes, 16 << 20);
	assert_refused("readahead=off", "is not a size");
	assert_refused("readahead=16iB", "is not a size");
	assert_refused("readahead=1e9", "is not a size");
	assert_refused("readahead=-1", "is not a size");
	assert_refused("readahead", "needs a value");
}

static void push_may_be_off(void **state)
{
	(void)state;
	assert_int_equal(parsed("ro").push_max, MOUNT_OPTS_PUSH);
	assert_int_equal(parsed("push=off").push_max, 0);
	assert_int_equal(parsed("push=off,push=1").push_max, 1);
	assert_int_equal(parsed("push=65536").push_max, 65536);
	assert_refused("push=0", "not a number from 1 to 65536");
	assert_refused("push=of", "not a number");
	assert_refused("push=offf", "not a number");
	assert_refused("push", "needs a value");
}

static void takes_a_cache_on_disk_with_or_without_its_size(void **state)
{
	struct mount_opts o = parsed("cache_dir=/c");
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(mount_opts_check(&o, &err), 0);
	assert_string_equal(o.cache_dir, "/c");
	assert_true(o.cache_dir_bytes == MOUNT_OPTS_CACHE_DIR_BYTES);
	o = parsed("cache_dir=c/d,cache_dir_size=3M,metrics=m");
	assert_int_equal(mount_opts_check(&o, &err), 0);
	assert_int_equal(o.cache_dir[0], '/');
	assert_non_null(strstr(o.cache_dir, "/c/d"));
	assert_int_equal(o.metrics[0], '/');
	assert_int_equal(o.cache_dir_bytes, 3 << 20);
	o = parsed("cache_dir_size=3M");
	assert_int_equal(mount_opts_check(&o, &err), -EINVAL);
}

static void shows_as_somebody_else(void **state)
{
	struct guise g = parsed("uid=1000,gid=4294967294,umask=027").guise;

	(void)state;
	assert_true(g.has_uid && g.has_gid && g.has_umask);
	assert_int_equal(g.uid, 1000);
	assert_true(g.gid == 4294967294u);
	assert_int_equal(g.umask, 027);
	g = parsed("uid=root,gid=root,umask=0").guise;
	assert_true(g.has_uid && g.has_gid && g.has_umask);
	assert_int_equal(g.uid + g.gid + g.umask, 0);
	g = parsed("ro").guise;
	assert_false(g.has_uid || g.has_gid || g.has_umask);
	assert_refused("uid=no-such-user", "'no-such-user' is no user");
	assert_refused("uid=", "is no user");
	assert_refused("uid=4294967295", "is no user");
	assert_refused("gid=-1", "'-1' is no group");
	assert_refused("umask=", "octal");
	assert_refused("umask=0888", "octal");
	assert_refused("umask=1000", "octal");
	assert_refused("umask=77777777777777777777777777", "octal");
}

static void the_guise_changes_owner_and_permissions(void **state)
{
	struct guise owner = { .has_uid = true, .uid = 5 }, mask = { .has_umask = true, .umask = 022 };
	struct stat st = { .st_mode = S_IFREG | 06750, .st_gid = 7 };

	(void)state;
	guise_apply(&owner, &st);
	assert_int_equal(st.st_mode, S_IFREG | 0750);
	assert_int_equal(st.st_uid, 5);
	assert_int_equal(st.st_gid, 7);
	assert_true(guise_has_acl(&owner));
	guise_apply(&mask, &st);
	assert_int_equal(st.st_mode, S_IFREG | 0755);
	st.st_mode = S_IFREG | 0600;
	guise_apply(&mask, &st);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	st.st_mode = S_IFDIR | 01000;
	guise_apply(&mask, &st);
	assert_int_equal(st.st_mode, S_IFDIR | 01755);
	assert_int_equal(st.st_uid, 5);
	assert_false(guise_has_acl(&mask));
}

static void refuses_unknown_words_by_name(void **state)
{
	(void)state;
	assert_refused("nosuid,nosuch", "unknown mount option 'nosuch'");
	assert_refused("nosuch=1", "unknown mount option 'nosuch=1'");
	assert_refused("x-", "unknown mount option 'x-'");
	assert_refused("ro ", "unknown mount option 'ro '");
	assert_refused("subtype=evil", "unknown mount option");
}

static void refuses_bad_values(void **state)
{
	(void)state;
	assert_refused("cache", "'cache' needs a value");
	assert_refused("nodev=1", "'nodev' takes no value");
	assert_refused("cache=", "mount option 'cache'");
	assert_refused("cache=M", "is not a size");
	assert_refused("cache=12X", "is not a size");
	assert_refused("cache=-1", "is not a size");
	assert_refused("cache=99999999999999999999", "is not a size");
	assert_refused("cache=99999999T", "is not a size");
	assert_refused("cache=4K", "too small");
	assert_refused("timeout=0", "not a number from 1");
	assert_refused("timeout=1s", "not a number from 1");
	assert_refused("readers=65", "not a number from 1 to 64");
}

static void kernel_text_holds_what_was_asked(void **state)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(1024);
	struct mount_opts o = parsed("noallow_other,dev");

	(void)state;
	assert_int_equal(mount_opts_kernel(&o, "/srv/a,b\\c", "pxarfs", &text), 0);
	assert_string_equal(text.data, "ro,default_permissions,nosuid,dev,subtype=pxarfs,"
				       "fsname=/srv/a\\,b\\\\c");
	wbuf_clear(&text);
	o = parsed("suid,noexec");
	assert_int_equal(mount_opts_kernel(&o, "a", "b", &text), 0);
	assert_string_equal(text.data, "ro,default_permissions,suid,nodev,noexec,allow_other,"
				       "subtype=b,fsname=a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_closed),
		cmocka_unit_test(the_last_word_wins),
		cmocka_unit_test(accepts_what_fstab_and_mount_add),
		cmocka_unit_test(reads_sizes),
		cmocka_unit_test(read_ahead_may_be_nothing),
		cmocka_unit_test(push_may_be_off),
		cmocka_unit_test(takes_a_cache_on_disk_with_or_without_its_size),
		cmocka_unit_test(shows_as_somebody_else),
		cmocka_unit_test(the_guise_changes_owner_and_permissions),
		cmocka_unit_test(refuses_unknown_words_by_name),
		cmocka_unit_test(refuses_bad_values),
		cmocka_unit_test(kernel_text_holds_what_was_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
