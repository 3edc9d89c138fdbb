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
	(void)state;
	for (int c = -1; c < INODE_CLASSES; c++) {
		const struct inode_class *class_ = c < 0 ? inode_class_of_slot(0) : &INODE_CLASS[c];
		const uint32_t slots[] = { class_->slot_begin, class_->slot_begin + 1,
					   class_->slot_begin + 255, class_->slot_end - 1 };
		const uint64_t offsets[] = { 0, 1, 24, 96, 0xffffffff,
					     (UINT64_C(1) << class_->offset_bits) - 1 };

		for (size_t s = 0; s < sizeof(slots) / sizeof(slots[0]); s++)
			for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
				for (int folder = 0; folder < 2; folder++) {
					struct inode in = { .slot = c < 0 ? 0 : slots[s],
							    .is_folder = folder,
							    .offset = offsets[i] };
					struct inode out = inode_decode(inode_encode(&in));

					assert_int_equal(out.slot, in.slot);
					assert_int_equal(out.is_folder, in.is_folder);
					assert_true(out.offset == in.offset);
				}
	}
}

static void in_slot_0_a_number_is_the_offset(void **state)
{
	struct inode file = { .offset = 5000 };

	(void)state;
	assert_true(inode_encode(&file) == 10000);
}

/* A hash that sees the lower half of a number only would have them all in one chain. */
static void the_same_offset_of_many_archives_is_not_the_same_lower_half(void **state)
{
	static bool seen[1 << 16];
	unsigned others = 0;

	(void)state;
	for (uint32_t i = 0; i < 10000; i++) {
		struct inode root = { .slot = INODE_CLASS[0].slot_begin + i, .is_folder = true };
		uint64_t low = inode_encode(&root) >> 1 & 0xffff;

		others += !seen[low];
		seen[low] = true;
	}
	assert_true(others > 8000);
}

static void no_two_identities_share_a_number(void **state)
{
	struct inode folder = { .is_folder = true, .offset = 5000 };
	struct inode file = { .offset = 5000 };
	struct inode elsewhere = { .offset = 5000, .slot = INODE_CLASS[0].slot_begin };
	struct inode next = { .offset = 5000, .slot = INODE_CLASS[0].slot_begin + 1 };

	(void)state;
	assert_true(inode_encode(&folder) != inode_encode(&file));
	assert_true(inode_encode(&file) != inode_encode(&elsewhere));
	assert_true(inode_encode(&next) != inode_encode(&elsewhere));
	/* 0 is nobody to the kernel: no entry stands at offset 0 but the root's. */
	assert_true(inode_encode(&file) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_root_of_the_mount_is_number_one),
		cmocka_unit_test(every_identity_comes_back),
		cmocka_unit_test(in_slot_0_a_number_is_the_offset),
		cmocka_unit_test(the_same_offset_of_many_archives_is_not_the_same_lower_half),
		cmocka_unit_test(no_two_identities_share_a_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
