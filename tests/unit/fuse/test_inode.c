/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/inode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void the_root_of_the_mount_is_number_one(void **state)
{
	struct inode root = { .is_folder = true };

	(void)state;
	assert_int_equal(inode_encode(&root), INODE_ROOT);
	assert_true(inode_decode(INODE_ROOT).is_folder);
	assert_int_equal(inode_decode(INODE_ROOT).offset, 0);
}

static void every_identity_comes_back(void **state)
{
	static const uint64_t offsets[] = { 1, 24, 96, 0xffffffff, UINT64_C(1) << 40,
					    INODE_OFFSET_MAX };
	static const unsigned slots[] = { 0, 1, 255, INODE_SLOT_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
		for (size_t s = 0; s < sizeof(slots) / sizeof(slots[0]); s++)
			for (int folder = 0; folder < 2; folder++) {
				struct inode in = { .slot = slots[s],
						    .is_folder = folder,
						    .offset = offsets[i] };
				struct inode out = inode_decode(inode_encode(&in));

				assert_int_equal(out.slot, in.slot);
				assert_int_equal(out.is_folder, in.is_folder);
				assert_true(out.offset == in.offset);
			}
}

static void no_two_identities_share_a_number(void **state)
{
	struct inode folder = { .is_folder = true, .offset = 5000 };
	struct inode file = { .offset = 5000 };
	struct inode elsewhere = { .offset = 5000, .slot = 1 };

	(void)state;
	assert_true(inode_encode(&folder) != inode_encode(&file));
	assert_true(inode_encode(&file) != inode_encode(&elsewhere));
	/* 0 is nobody to the kernel: no entry stands at offset 0 but the root's. */
	assert_true(inode_encode(&file) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_root_of_the_mount_is_number_one),
		cmocka_unit_test(every_identity_comes_back),
		cmocka_unit_test(no_two_identities_share_a_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
