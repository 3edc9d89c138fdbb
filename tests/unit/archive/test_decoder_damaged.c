/* SPDX-License-Identifier: Apache-2.0 */
/* Row by row: archive/FORMAT.md, "Damaged input". */
#include "archive/decoder.h"

#include "archive/base/le.h"
#include "tests/support/build_archive.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/decode_all.h"

static int decode_built(struct build *a)
{
	struct pipe meta = { .data = a->b.data, .size = a->b.size };

	assert_int_equal(a->b.failed, 0);
	return decode(&meta, NULL, true, NULL, NULL);
}

static void start_root(struct build *a, unsigned version)
{
	if (version == PXAR_VERSION_2)
		build_version(a, 2);
	build_entry(a, PXAR_MODE_DIRECTORY | 0755);
}

static void refuses_lies_about_sizes(void **state)
{
	static const uint64_t sizes[] = { 0, 15, UINT64_MAX, 16, 55, 57, 1 << 20 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		AUTO(build) struct build a = BUILD_INIT;

		start_root(&a, 1);
		build_filename(&a, "f");
		build_entry(&a, PXAR_MODE_FIFO);
		build_goodbye(&a);
		le64_put(a.b.data + 8, sizes[i]); /* the root's ENTRY */
		assert_int_equal(decode_built(&a), -EBADMSG);
		le64_put(a.b.data + 8, 56);
		assert_int_equal(decode_built(&a), 0);
		le64_put(a.b.data + 56 + 8, sizes[i]); /* FILENAME */
		assert_true(decode_built(&a) < 0);
	}
}

static void refuses_a_payload_that_never_ends(void **state)
{
	static const uint64_t sizes[] = { 15, 1 << 20, UINT64_MAX, UINT64_MAX - 200 };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		AUTO(build) struct build a = BUILD_INIT;

		start_root(&a, 1);
		build_filename(&a, "f");
		build_entry(&a, PXAR_MODE_REGULAR);
		build_header(&a, PXAR_PAYLOAD, sizes[i]);
		build_goodbye(&a);
		assert_int_equal(decode_built(&a), -EBADMSG);
	}
}

static void refuses_attributes_of_the_wrong_size(void **state)
{
	static const struct {
		uint64_t type;
		size_t size;
	} v[] = {
		{ PXAR_ACL_USER, 16 },	       { PXAR_ACL_GROUP, 16 },	{ PXAR_ACL_GROUP_OBJ, 8 },
		{ PXAR_ACL_DEFAULT, 32 },      { PXAR_ACL_DEFAULT_USER, 16 },
		{ PXAR_ACL_DEFAULT_GROUP, 16 }, { PXAR_QUOTA_PROJID, 8 },
	};
	static const uint8_t zeros[64];

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		for (int delta = -8; delta <= 8; delta++) {
			AUTO(build) struct build a = BUILD_INIT;

			build_entry(&a, PXAR_MODE_DIRECTORY);
			build_item(&a, v[i].type, zeros, v[i].size + delta);
			build_goodbye(&a);
			assert_int_equal(decode_built(&a), delta ? -EBADMSG : 0);
		}
	}
}

static void refuses_a_second_of_what_there_is_one(void **state)
{
	static const uint64_t types[] = { PXAR_ACL_GROUP_OBJ, PXAR_ACL_DEFAULT, PXAR_FCAPS,
					  PXAR_QUOTA_PROJID };
	static const size_t sizes[] = { 8, 32, 20, 8 };
	static const uint8_t zeros[32];

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		AUTO(build) struct build a = BUILD_INIT;

		build_entry(&a, PXAR_MODE_DIRECTORY);
		build_item(&a, types[i], zeros, sizes[i]);
		build_item(&a, types[i], zeros, sizes[i]);
		build_goodbye(&a);
		assert_int_equal(decode_built(&a), -EBADMSG);
	}
}

static void refuses_bad_xattrs(void **state)
{
	static const struct {
		const char *body;
		size_t size;
	} v[] = { { "user.a", 6 }, { "\0v", 2 }, { "", 1 } };

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		AUTO(build) struct build a = BUILD_INIT;

		build_entry(&a, PXAR_MODE_DIRECTORY);
		build_item(&a, PXAR_XATTR, v[i].body, v[i].size);
		build_goodbye(&a);
		assert_int_equal(decode_built(&a), -EBADMSG);
	}
}

static void refuses_items_where_they_do_not_belong(void **state)
{
	static const uint64_t types[] = {
		0x1234,		PXAR_FORMAT_VERSION, PXAR_PRELUDE,    PXAR_ENTRY,
		PXAR_ENTRY_V1,	PXAR_HARDLINK,	     PXAR_PAYLOAD,    PXAR_PAYLOAD_REF,
		PXAR_SYMLINK,	PXAR_DEVICE,	     PXAR_XATTR,      PXAR_GOODBYE_TAIL,
		PXAR_PAYLOAD_START_MARKER, PXAR_PAYLOAD_TAIL_MARKER,
	};
	static const size_t sizes[] = { 8, 8, 8, 40, 32, 10, 8, 16, 1, 16, 8, 8, 0, 0 };
	static const uint8_t body[40] = { 2, [8] = 'a' };

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		/* at the start, after the root's ENTRY, after a FILENAME, after a member */
		for (int place = 0; place < 4; place++) {
			AUTO(build) struct build a = BUILD_INIT;
			bool attribute = types[i] == PXAR_XATTR;

			if (place == 0)
				build_item(&a, types[i], body, sizes[i]);
			build_version(&a, 2);
			build_entry(&a, PXAR_MODE_DIRECTORY);
			if (place == 1)
				build_item(&a, types[i], attribute ? (void *)"user.a\0" : body,
					   sizes[i]);
			build_filename(&a, "d");
			if (place == 2)
				build_item(&a, types[i], body, sizes[i]);
			build_entry(&a, PXAR_MODE_DIRECTORY);
			build_goodbye(&a);
			if (place == 3)
				build_item(&a, types[i], body, sizes[i]);
			build_filename(&a, "e");
			build_entry(&a, PXAR_MODE_FIFO);
			build_goodbye(&a);
			assert_int_equal(decode_built(&a), place == 1 && attribute ? 0 : -EBADMSG);
		}
	}
}

static void refuses_versions_and_preludes_out_of_place(void **state)
{
	(void)state;
	for (int fault = 0; fault < 4; fault++) {
		AUTO(build) struct build a = BUILD_INIT;

		build_version(&a, fault == 0 ? 3 : 2);
		if (fault == 1)
			build_version(&a, 2);
		build_item(&a, PXAR_PRELUDE, "{}", 2);
		if (fault == 2)
			build_item(&a, PXAR_PRELUDE, "{}", 2);
		if (fault == 3)
			build_version(&a, 2);
		build_entry(&a, PXAR_MODE_DIRECTORY);
		build_goodbye(&a);
		assert_int_equal(decode_built(&a), fault ? -EBADMSG : -EOPNOTSUPP);
	}
	AUTO(build) struct build a = BUILD_INIT;
	build_item(&a, PXAR_PRELUDE, "{}", 2); /* without a version */
	build_entry(&a, PXAR_MODE_DIRECTORY);
	build_goodbye(&a);
	assert_int_equal(decode_built(&a), -EBADMSG);
}

static void refuses_a_prelude_over_the_limit_before_reading_it(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;

	(void)state;
	build_version(&a, 2);
	build_header(&a, PXAR_PRELUDE, PXAR_HEADER_SIZE + (uint64_t)PXAR_PRELUDE_SIZE_MAX + 1);
	assert_int_equal(decode_built(&a), -E2BIG);
	le64_put(a.b.data + 24 + 8, UINT64_MAX);
	assert_int_equal(decode_built(&a), -E2BIG);
	le64_put(a.b.data + 24 + 8, PXAR_HEADER_SIZE + (uint64_t)PXAR_PRELUDE_SIZE_MAX);
	assert_int_equal(decode_built(&a), -EBADMSG); /* cut short */
}

static void refuses_a_root_that_is_no_directory(void **state)
{
	static const uint64_t modes[] = { PXAR_MODE_REGULAR, PXAR_MODE_FIFO, PXAR_MODE_SYMLINK };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);
		struct metadata m;
		struct goodbye_slot tail = { PXAR_GOODBYE_TAIL, 56, 40 };

		metadata_init(&m);
		m.mode = modes[i];
		item_metadata_encode(&b, &m);
		if (m.mode == PXAR_MODE_REGULAR)
			item_header_encode(&b, PXAR_PAYLOAD, 0);
		item_header_encode(&b, PXAR_GOODBYE, 24);
		goodbye_slot_encode(&b, &tail);
		struct pipe meta = { .data = b.data, .size = b.size };
		assert_int_equal(decode(&meta, NULL, false, NULL, NULL), -EBADMSG);
	}
	AUTO(build) struct build a = BUILD_INIT;
	build_hardlink(&a, 0, "a");
	assert_int_equal(decode_built(&a), -EBADMSG);
}

static void refuses_bad_member_names(void **state)
{
	static const struct {
		const char *name;
		size_t size;
	} v[] = { { "", 1 },	 { ".", 2 },	 { "..", 3 }, { "a/b", 4 },
		  { "/", 2 },	 { "a\0b", 4 }, { "ab", 2 } };

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		AUTO(build) struct build a = BUILD_INIT;

		start_root(&a, 1);
		build_item(&a, PXAR_FILENAME, v[i].name, v[i].size);
		build_entry(&a, PXAR_MODE_FIFO);
		build_goodbye(&a);
		assert_int_equal(decode_built(&a), -EBADMSG);
	}
	AUTO(build) struct build a = BUILD_INIT;
	static const char longer[4098];
	start_root(&a, 1);
	build_item(&a, PXAR_FILENAME, longer, 4098);
	assert_int_equal(decode_built(&a), -EBADMSG);
}

static void refuses_bad_symlink_targets(void **state)
{
	static const struct {
		const char *body;
		size_t size;
	} v[] = { { "", 0 }, { "ab", 2 }, { "a\0b", 4 } };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		AUTO(build) struct build a = BUILD_INIT;

		start_root(&a, 1);
		build_filename(&a, "l");
		build_entry(&a, PXAR_MODE_SYMLINK);
		build_item(&a, PXAR_SYMLINK, v[i].body, v[i].size);
		build_goodbye(&a);
		assert_int_equal(decode_built(&a), -EBADMSG);
	}
}

static void refuses_bad_hard_links(void **state)
{
	static const struct {
		uint64_t distance;
		const char *path;
		bool after_entry;
	} v[] = {
		{ 0, "a", false },    { 1000, "a", false },  { UINT64_MAX, "a", false },
		{ 74, "", false },    { 74, "../a", false }, { 74, "/a", false },
		{ 74, "a", true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		AUTO(build) struct build a = BUILD_INIT;

		start_root(&a, 1);
		build_filename(&a, "a");
		build_entry(&a, PXAR_MODE_REGULAR);
		build_payload(&a, "");
		build_filename(&a, "b");
		if (v[i].after_entry)
			build_entry(&a, PXAR_MODE_REGULAR);
		build_hardlink(&a, v[i].distance, v[i].path);
		build_goodbye(&a);
		assert_int_equal(decode_built(&a), -EBADMSG);
	}
}

static void refuses_entries_closed_by_the_wrong_item(void **state)
{
	static const uint64_t modes[] = { PXAR_MODE_REGULAR, PXAR_MODE_SYMLINK, PXAR_MODE_CHAR,
					  PXAR_MODE_BLOCK,   PXAR_MODE_FIFO,	PXAR_MODE_SOCKET,
					  PXAR_MODE_DIRECTORY };
	static const uint64_t closings[] = { PXAR_PAYLOAD, PXAR_PAYLOAD_REF, PXAR_SYMLINK,
					     PXAR_DEVICE, 0 };
	static const uint8_t body[16] = { 16 };
	/* for version 1 and 2: which of the closings fits */
	static const int fits[2][7] = { { 0, 2, 3, 3, 4, 4, 4 }, { 1, 2, 3, 3, 4, 4, 4 } };

	(void)state;
	for (unsigned version = 1; version <= 2; version++) {
		for (size_t m = 0; m < 7; m++) {
			for (int c = 0; c < 5; c++) {
				AUTO(build) struct build a = BUILD_INIT;

				start_root(&a, version);
				build_filename(&a, "x");
				build_entry(&a, modes[m]);
				if (closings[c])
					build_item(&a, closings[c], body,
						   closings[c] == PXAR_SYMLINK ? 2 : 16);
				if (modes[m] == PXAR_MODE_DIRECTORY)
					build_goodbye(&a);
				build_goodbye(&a);
				/* "\20" is a fine target; a reference to 16 is, too */
				assert_int_equal(decode_built(&a),
						 fits[version - 1][m] == c ? 0 : -EBADMSG);
			}
		}
	}
}

static void refuses_unknown_types_in_the_mode(void **state)
{
	(void)state;
	for (uint64_t type = 0; type < 16; type++) {
		AUTO(build) struct build a = BUILD_INIT;
		bool known = type == 1 || type == 12;

		if (type == 2 || type == 4 || type == 6 || type == 8 || type == 10)
			continue; /* known, but closed by something else */
		start_root(&a, 1);
		build_filename(&a, "x");
		build_entry(&a, type << 12 | 0644);
		build_goodbye(&a);
		assert_int_equal(decode_built(&a), known ? 0 : -EBADMSG);
	}
}

static void refuses_bytes_behind_the_end(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;

	(void)state;
	start_root(&a, 1);
	build_goodbye(&a);
	assert_int_equal(decode_built(&a), 0);
	wbuf_put_u8(&a.b, 0);
	assert_int_equal(decode_built(&a), -EBADMSG);
}

/* --- goodbye tables --- */

/* root: a (fifo), d (with x), z (fifo); `goodbye` is where the root's table begins. */
static void build_three(struct build *a, size_t *goodbye)
{
	start_root(a, 1);
	build_filename(a, "a");
	build_entry(a, PXAR_MODE_FIFO);
	build_filename(a, "d");
	build_entry(a, PXAR_MODE_DIRECTORY);
	build_filename(a, "x");
	build_entry(a, PXAR_MODE_FIFO);
	build_goodbye(a);
	build_filename(a, "z");
	build_entry(a, PXAR_MODE_FIFO);
	*goodbye = a->b.size;
	build_goodbye(a);
}

static int decode_loosely(struct build *a)
{
	struct pipe meta = { .data = a->b.data, .size = a->b.size };

	return decode(&meta, NULL, false, NULL, NULL);
}

/* One bit of the slots flipped: found when tables are asked for, and only then. */
static void proves_every_bit_of_the_slots_when_asked(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;
	size_t goodbye, sizes_accepted = 0;

	(void)state;
	build_three(&a, &goodbye);
	assert_int_equal(decode_built(&a), 0);
	for (size_t at = goodbye + 16; at < goodbye + 16 + 3 * 24; at++) {
		bool in_size = (at - goodbye - 16) % 24 >= 16;

		for (int bit = 0; bit < 8; bit++) {
			int rc;

			a.b.data[at] ^= (uint8_t)(1 << bit);
			rc = decode_built(&a);
			assert_int_equal(decode_loosely(&a), 0);
			a.b.data[at] ^= (uint8_t)(1 << bit);
			if (rc == 0 && in_size)
				sizes_accepted++; /* an upper bound for what is no directory */
			else
				assert_int_equal(rc, -EBADMSG);
		}
	}
	/* 74 is 0b1001010: of 64 bits, 3 make it smaller; and there are two such members */
	assert_int_equal(sizes_accepted, 2 * (64 - 3));
}

static void refuses_a_damaged_tail(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;
	size_t goodbye;

	(void)state;
	build_three(&a, &goodbye);
	for (size_t at = goodbye; at < a.b.size; at++) {
		if (at == goodbye + 16)
			at += 3 * 24;
		for (int bit = 0; bit < 8; bit++) {
			a.b.data[at] ^= (uint8_t)(1 << bit);
			assert_true(decode_loosely(&a) < 0);
			a.b.data[at] ^= (uint8_t)(1 << bit);
		}
	}
}

static void refuses_a_table_out_of_order_or_with_a_slot_twice(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;
	uint8_t slot[24];
	size_t goodbye;

	(void)state;
	build_three(&a, &goodbye);
	memcpy(slot, a.b.data + goodbye + 16, 24);
	memcpy(a.b.data + goodbye + 16, a.b.data + goodbye + 40, 24);
	assert_int_equal(decode_built(&a), -EBADMSG); /* one twice */
	memcpy(a.b.data + goodbye + 40, slot, 24);
	assert_int_equal(decode_built(&a), -EBADMSG); /* two exchanged */
	assert_int_equal(decode_loosely(&a), 0);
}

static void refuses_a_table_of_the_wrong_count(void **state)
{
	for (size_t count = 0; count <= 3; count++) {
		AUTO(build) struct build a = BUILD_INIT;
		struct goodbye_slot slot = { 1, 1, 1 };
		uint64_t goodbye;

		(void)state;
		start_root(&a, 1);
		build_filename(&a, "a");
		build_entry(&a, PXAR_MODE_FIFO);
		goodbye = a.b.size;
		if (count == 1)
			slot = (struct goodbye_slot){ siphash_name("a", 1), 74, 74 };
		build_header(&a, PXAR_GOODBYE, goodbye_item_size(count));
		for (size_t i = 0; i < count; i++)
			goodbye_slot_encode(&a.b, &slot);
		slot = (struct goodbye_slot){ PXAR_GOODBYE_TAIL, goodbye,
					      goodbye_item_size(count) };
		goodbye_slot_encode(&a.b, &slot);
		assert_int_equal(decode_built(&a), count == 1 ? 0 : -EBADMSG);
		assert_int_equal(decode_loosely(&a), 0);
	}
}

static void refuses_a_table_over_the_limit_before_reading_it(void **state)
{
	AUTO(build) struct build a = BUILD_INIT;

	(void)state;
	start_root(&a, 1);
	build_header(&a, PXAR_GOODBYE, goodbye_item_size(PXAR_MEMBER_COUNT_MAX + 1));
	assert_int_equal(decode_built(&a), -E2BIG);
	le64_put(a.b.data + 56 + 8, 16 + 24 * ((UINT64_MAX - 16) / 24));
	assert_int_equal(decode_built(&a), -E2BIG);
	le64_put(a.b.data + 56 + 8, goodbye_item_size(0) + 1);
	assert_int_equal(decode_built(&a), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_lies_about_sizes),
		cmocka_unit_test(refuses_a_payload_that_never_ends),
		cmocka_unit_test(refuses_attributes_of_the_wrong_size),
		cmocka_unit_test(refuses_a_second_of_what_there_is_one),
		cmocka_unit_test(refuses_bad_xattrs),
		cmocka_unit_test(refuses_items_where_they_do_not_belong),
		cmocka_unit_test(refuses_versions_and_preludes_out_of_place),
		cmocka_unit_test(refuses_a_prelude_over_the_limit_before_reading_it),
		cmocka_unit_test(refuses_a_root_that_is_no_directory),
		cmocka_unit_test(refuses_bad_member_names),
		cmocka_unit_test(refuses_bad_symlink_targets),
		cmocka_unit_test(refuses_bad_hard_links),
		cmocka_unit_test(refuses_entries_closed_by_the_wrong_item),
		cmocka_unit_test(refuses_unknown_types_in_the_mode),
		cmocka_unit_test(refuses_bytes_behind_the_end),
		cmocka_unit_test(proves_every_bit_of_the_slots_when_asked),
		cmocka_unit_test(refuses_a_damaged_tail),
		cmocka_unit_test(refuses_a_table_out_of_order_or_with_a_slot_twice),
		cmocka_unit_test(refuses_a_table_of_the_wrong_count),
		cmocka_unit_test(refuses_a_table_over_the_limit_before_reading_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
