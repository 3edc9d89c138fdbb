/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/metadata.h"

#include "archive/base/hex.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The example of the specification: u::rw-, u:1000:rwx, u:2000:r--, g::r--, g:50:r-x, m::rwx,
 * o::---, as getxattr gives it. */
static const char EXAMPLE_ACL[] = "02000000"
				  "01000600ffffffff"
				  "02000700e8030000"
				  "02000400d0070000"
				  "04000400ffffffff"
				  "0800050032000000"
				  "10000700ffffffff"
				  "20000000ffffffff";

static size_t from_hex(const char *text, uint8_t *out)
{
	size_t size = strlen(text) / 2;

	assert_int_equal(hex_decode(text, out, size), 0);
	return size;
}

static void assert_hex(const struct wbuf *b, const char *want)
{
	char text[1024];

	assert_true(2 * b->size < sizeof(text));
	hex_encode(b->data, b->size, text);
	assert_string_equal(text, want);
}

static int set_access(struct metadata *m, const char *hex)
{
	uint8_t value[512];

	return metadata_set_access_acl(m, value, from_hex(hex, value), NULL);
}

static int set_default(struct metadata *m, const char *hex)
{
	uint8_t value[512];

	return metadata_set_default_acl(m, value, from_hex(hex, value), NULL);
}

static void takes_an_access_acl_apart_and_puts_it_together(void **state)
{
	AUTO(metadata) struct metadata m;
	AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);

	(void)state;
	metadata_init(&m);
	m.mode = PXAR_MODE_REGULAR | 0670;
	assert_false(metadata_has_access_acl(&m));
	assert_int_equal(set_access(&m, EXAMPLE_ACL), 0);
	assert_true(metadata_has_access_acl(&m));
	assert_int_equal(m.acl_users.count, 2);
	assert_int_equal(m.acl_users.items[0].id, 1000);
	assert_int_equal(m.acl_users.items[0].permissions, 7);
	assert_int_equal(m.acl_users.items[1].id, 2000);
	assert_int_equal(m.acl_groups.count, 1);
	assert_int_equal(m.acl_groups.items[0].id, 50);
	assert_true(m.has_acl_group_obj);
	assert_int_equal(m.acl_group_obj, 4);

	assert_int_equal(metadata_access_acl_xattr(&m, &b), 0);
	assert_hex(&b, EXAMPLE_ACL);
}

static void sorts_named_entries_both_ways(void **state)
{
	static const char unsorted[] = "02000000"
				       "01000600ffffffff"
				       "02000400d0070000"
				       "02000700e8030000"
				       "04000400ffffffff"
				       "0800050032000000"
				       "10000700ffffffff"
				       "20000000ffffffff";
	AUTO(metadata) struct metadata m;
	AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);
	struct metadata_acl swapped;

	(void)state;
	metadata_init(&m);
	m.mode = PXAR_MODE_REGULAR | 0670;
	assert_int_equal(set_access(&m, unsorted), 0);
	assert_int_equal(m.acl_users.items[0].id, 1000);

	swapped = m.acl_users.items[0];
	m.acl_users.items[0] = m.acl_users.items[1];
	m.acl_users.items[1] = swapped;
	assert_int_equal(metadata_access_acl_xattr(&m, &b), 0);
	assert_hex(&b, EXAMPLE_ACL);
}

static void minimal_access_acl_is_only_the_mode(void **state)
{
	AUTO(metadata) struct metadata m;

	(void)state;
	metadata_init(&m);
	m.mode = PXAR_MODE_REGULAR | 0640;
	assert_int_equal(set_access(&m, "0200000001000600ffffffff04000400ffffffff20000000ffffffff"),
			 0);
	assert_false(metadata_has_access_acl(&m));
}

static void named_entry_without_group_obj_gets_a_mask(void **state)
{
	AUTO(metadata) struct metadata m;
	AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);

	(void)state;
	metadata_init(&m);
	m.mode = PXAR_MODE_REGULAR | 0640;
	assert_int_equal(metadata_add_acl(&m.acl_users, 5, 6), 0);
	assert_int_equal(metadata_access_acl_xattr(&m, &b), 0);
	assert_hex(&b, "0200000001000600ffffffff020006000500000004000400ffffffff"
		       "10000400ffffffff20000000ffffffff");
}

static void default_acl_without_mask_survives(void **state)
{
	static const char acl[] = "0200000001000700ffffffff04000500ffffffff20000000ffffffff";
	AUTO(metadata) struct metadata m;
	AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);

	(void)state;
	metadata_init(&m);
	m.mode = PXAR_MODE_DIRECTORY | 0755;
	assert_int_equal(set_default(&m, acl), 0);
	assert_true(metadata_has_default_acl(&m));
	assert_false(metadata_has_access_acl(&m));
	assert_int_equal(m.acl_default.user_obj, 7);
	assert_int_equal(m.acl_default.group_obj, 5);
	assert_int_equal(m.acl_default.other, 0);
	assert_true(m.acl_default.mask == PXAR_ACL_NONE);
	assert_int_equal(metadata_default_acl_xattr(&m, &b), 0);
	assert_hex(&b, acl);
}

static void default_acl_with_names_survives(void **state)
{
	AUTO(metadata) struct metadata m;
	AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);

	(void)state;
	metadata_init(&m);
	m.mode = PXAR_MODE_DIRECTORY | 0755;
	assert_int_equal(set_default(&m, EXAMPLE_ACL), 0);
	assert_int_equal(m.acl_default.mask, 7);
	assert_int_equal(m.acl_default_users.count, 2);
	assert_int_equal(m.acl_default_groups.count, 1);
	assert_int_equal(metadata_default_acl_xattr(&m, &b), 0);
	assert_hex(&b, EXAMPLE_ACL);
}

static void empty_default_acl_is_none(void **state)
{
	AUTO(metadata) struct metadata m;

	(void)state;
	metadata_init(&m);
	m.mode = PXAR_MODE_DIRECTORY | 0755;
	assert_int_equal(set_default(&m, "02000000"), 0);
	assert_false(metadata_has_default_acl(&m));

	/* what a strange writer may leave */
	m.has_acl_default = true;
	m.acl_default.user_obj = m.acl_default.group_obj = m.acl_default.other =
		m.acl_default.mask = PXAR_ACL_NONE;
	assert_false(metadata_has_default_acl(&m));
	assert_int_equal(metadata_add_acl(&m.acl_default_users, 5, 7), 0);
	assert_true(metadata_has_default_acl(&m));
}

static void refuses_a_malformed_acl_value(void **state)
{
	static const char *const bad[] = {
		"01000000", /* version */
		"0200000001000600ffffffff04000400ffffffff", /* no other */
		"0200000001000600ffffffff01000600ffffffff04000400ffffffff20000000ffffffff",
		"0200000001000800ffffffff04000400ffffffff20000000ffffffff", /* permission 8 */
		"0200000003000600ffffffff04000400ffffffff20000000ffffffff", /* tag 3 */
		/* a name without a mask */
		"0200000001000600ffffffff020006000500000004000400ffffffff20000000ffffffff",
	};
	AUTO(metadata) struct metadata m;

	(void)state;
	metadata_init(&m);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(set_access(&m, bad[i]), -EBADMSG);
		assert_false(metadata_has_access_acl(&m));
		assert_int_equal(set_default(&m, bad[i]), -EBADMSG);
		assert_false(m.has_acl_default);
	}
}

static void refuses_an_acl_value_cut_at_every_byte(void **state)
{
	uint8_t value[512];
	size_t size = from_hex(EXAMPLE_ACL, value);

	(void)state;
	for (size_t cut = 0; cut < size; cut++) {
		AUTO(metadata) struct metadata m;
		AUTO(free) uint8_t *copy = malloc(cut + 1);

		metadata_init(&m);
		memcpy(copy, value, cut);
		assert_int_equal(metadata_set_access_acl(&m, copy, cut, NULL), -EBADMSG);
	}
}

static void refuses_acl_items_the_kernel_cannot_hold(void **state)
{
	AUTO(metadata) struct metadata m;
	AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);

	(void)state;
	metadata_init(&m);
	m.mode = PXAR_MODE_DIRECTORY | 0755;
	assert_int_equal(metadata_add_acl(&m.acl_users, UINT32_MAX, 7), 0);
	assert_int_equal(metadata_access_acl_xattr(&m, &b), -EBADMSG);
	m.acl_users.items[0] = (struct metadata_acl){ .id = 1, .permissions = 8 };
	assert_int_equal(metadata_access_acl_xattr(&m, &b), -EBADMSG);
	m.acl_users.count = 0;
	m.has_acl_group_obj = true;
	m.acl_group_obj = PXAR_ACL_NONE;
	assert_int_equal(metadata_access_acl_xattr(&m, &b), -EBADMSG);
	m.has_acl_default = true;
	m.acl_default.user_obj = 8;
	assert_int_equal(metadata_default_acl_xattr(&m, &b), -EBADMSG);
}

static void keeps_attributes_and_forgets_them_when_cleared(void **state)
{
	AUTO(metadata) struct metadata m;

	(void)state;
	metadata_init(&m);
	assert_int_equal(metadata_add_xattr(&m, "user.a", 6, "x\0y", 3), 0);
	assert_int_equal(metadata_add_xattr(&m, "user.empty", 10, NULL, 0), 0);
	assert_int_equal(metadata_set_fcaps(&m, "cap", 3), 0);
	assert_string_equal(metadata_xattr_name(&m, 0), "user.a");
	assert_memory_equal(metadata_xattr_value(&m, 0), "x\0y", 3);
	assert_string_equal(metadata_xattr_name(&m, 1), "user.empty");
	assert_int_equal(m.xattrs[1].value_size, 0);
	assert_memory_equal(metadata_fcaps(&m), "cap", 3);

	metadata_clear(&m);
	assert_int_equal(m.xattr_count, 0);
	assert_false(m.has_fcaps);
	assert_int_equal(m.bytes.size, 0);
	assert_non_null(m.bytes.data);
}

static void refuses_attributes_over_their_bounds(void **state)
{
	AUTO(metadata) struct metadata m;
	AUTO(free) char *value = calloc(1, PXAR_XATTR_SIZE_MAX);
	size_t most = PXAR_XATTR_SIZE_MAX - 7;
	int rc = 0;

	(void)state;
	metadata_init(&m);
	assert_int_equal(metadata_add_xattr(&m, "user.a", 6, value, most), 0);
	assert_int_equal(metadata_add_xattr(&m, "user.a", 6, value, most + 1), -E2BIG);
	assert_int_equal(metadata_add_xattr(&m, "user.a", 6, value, SIZE_MAX), -E2BIG);
	assert_int_equal(metadata_add_xattr(&m, "", 0, value, 1), -EINVAL);
	assert_int_equal(metadata_add_xattr(&m, "a\0b", 3, value, 1), -EINVAL);
	assert_int_equal(metadata_set_fcaps(&m, value, PXAR_FCAPS_SIZE_MAX + 1), -E2BIG);
	assert_false(m.has_fcaps);

	/* All of them together: the next one fails, those before it stay. */
	while (!rc)
		rc = metadata_add_xattr(&m, "user.a", 6, value, most);
	assert_int_equal(rc, -E2BIG);
	assert_true(m.bytes.size <= PXAR_ATTRIBUTE_BYTES_MAX);
	assert_int_equal(metadata_add_xattr(&m, "user.b", 6, value, 1), 0);

	rc = 0;
	for (size_t i = 0; i < PXAR_ATTRIBUTE_COUNT_MAX; i++)
		assert_int_equal(metadata_add_acl(&m.acl_users, i, 7), 0);
	assert_int_equal(metadata_add_acl(&m.acl_users, 0, 7), -E2BIG);
}

static void maps_inode_flags_both_ways(void **state)
{
	static const uint32_t known = 0x20 | 0x80 | 0x4 | 0x800000 | 0x40 | 0x10000 | 0x10 | 0x8 |
				      0x400 | 0x20000000;

	(void)state;
	for (unsigned bit = 0; bit < 32; bit++) {
		uint32_t flag = (uint32_t)1 << bit;
		uint64_t stored = metadata_flags_from_inode(flag);

		assert_int_equal(metadata_flags_to_inode(stored), flag & known);
		assert_int_equal(__builtin_popcountll(stored), flag & known ? 1 : 0);
	}
	assert_int_equal(metadata_flags_from_inode(0x40), PXAR_FLAG_NODUMP);
	assert_int_equal(metadata_flags_from_inode(0x10), PXAR_FLAG_IMMUTABLE);
	assert_int_equal(metadata_flags_to_inode(PXAR_FLAG_HIDDEN), 0);
	assert_int_equal(metadata_flags_from_fat(2 | 4 | 32 | 1),
			 PXAR_FLAG_HIDDEN | PXAR_FLAG_SYSTEM | PXAR_FLAG_ARCHIVE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_an_access_acl_apart_and_puts_it_together),
		cmocka_unit_test(sorts_named_entries_both_ways),
		cmocka_unit_test(minimal_access_acl_is_only_the_mode),
		cmocka_unit_test(named_entry_without_group_obj_gets_a_mask),
		cmocka_unit_test(default_acl_without_mask_survives),
		cmocka_unit_test(default_acl_with_names_survives),
		cmocka_unit_test(empty_default_acl_is_none),
		cmocka_unit_test(refuses_a_malformed_acl_value),
		cmocka_unit_test(refuses_an_acl_value_cut_at_every_byte),
		cmocka_unit_test(refuses_acl_items_the_kernel_cannot_hold),
		cmocka_unit_test(keeps_attributes_and_forgets_them_when_cleared),
		cmocka_unit_test(refuses_attributes_over_their_bounds),
		cmocka_unit_test(maps_inode_flags_both_ways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
