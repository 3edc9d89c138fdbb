/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/bdi.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/sysmacros.h>

#include <cmocka.h>

static const char text[] =
	"22 28 0:20 / /proc rw,nosuid shared:13 - proc proc rw\n"
	"28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
	"90 28 0:51 / /mnt ro,nosuid - fuse.pxarfs a ro\n"
	"91 28 0:52 / /mnt/with\\040blank ro - fuse.pxarfs b ro\n"
	"92 28 0:53 /sub /mnt\\134\\011x ro - fuse.pxarfs c ro\n"
	"93 90 0:54 / /mnt ro,nosuid - fuse.pxarfs d ro\n"
	"garbage\n"
	"94 28 0:55 / /last ro - fuse.pxarfs e ro";

static void assert_at(const char *path, unsigned minor)
{
	dev_t device = 0;

	assert_int_equal(bdi_find(text, path, &device), 0);
	assert_int_equal(device, makedev(0, minor));
}

static void finds_the_last_mount_on_a_path(void **state)
{
	(void)state;
	assert_at("/mnt", 54);
	assert_at("/last", 55);
}

static void knows_escaped_letters(void **state)
{
	(void)state;
	assert_at("/mnt/with blank", 52);
	assert_at("/mnt\\\tx", 53);
}

static void refuses_what_is_no_mount(void **state)
{
	static const char *const paths[] = { "/mn", "/mnt/", "/mnt/with", "/sub", "", "garbage" };
	dev_t device;

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		assert_int_equal(bdi_find(text, paths[i], &device), -ENOENT);
	assert_int_equal(bdi_find("", "/mnt", &device), -ENOENT);
	assert_int_equal(bdi_find_now("/no/such/mount", &device), -ENOENT);
	assert_int_equal(bdi_raise(makedev(0, 0xfffff), 1), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_last_mount_on_a_path),
		cmocka_unit_test(knows_escaped_letters),
		cmocka_unit_test(refuses_what_is_no_mount),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
