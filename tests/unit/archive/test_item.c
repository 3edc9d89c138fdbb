/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/item.h"

#include "archive/base/le.h"
#include "archive/base/siphash.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static uint64_t hash_of(const char *name)
{
	return siphash_name(name, strlen(name));
}

/* Every constant is the name hash of a text. */
static void item_types_are_hashes_of_their_names(void **state)
{
	static const struct {
		uint64_t type;
		const char *name;
	} v[] = {
		{ PXAR_FORMAT_VERSION, "VERSION" },
		{ PXAR_ENTRY_V1, "ENTRY" },
		{ PXAR_ENTRY, "ENTRY_V2" },
		{ PXAR_PRELUDE, "PRELUDE" },
		{ PXAR_FILENAME, "FILENAME" },
		{ PXAR_XATTR, "XATTR" },
		{ PXAR_ACL_USER, "ACL_USER" },
		{ PXAR_ACL_GROUP, "ACL_GROUP" },
		{ PXAR_ACL_GROUP_OBJ, "ACL_GROUP_OBJ" },
		{ PXAR_ACL_DEFAULT, "ACL_DEFAULT" },
		{ PXAR_ACL_DEFAULT_USER, "ACL_DEFAULT_USER" },
		{ PXAR_ACL_DEFAULT_GROUP, "ACL_DEFAULT_GROUP" },
		{ PXAR_FCAPS, "FCAPS" },
		{ PXAR_QUOTA_PROJID, "QUOTA_PROJID" },
		{ PXAR_SYMLINK, "SYMLINK" },
		{ PXAR_DEVICE, "DEVICE" },
		{ PXAR_HARDLINK, "HARDLINK" },
		{ PXAR_PAYLOAD, "PXAR_PAYLOAD" },
		{ PXAR_PAYLOAD_REF, "PXAR_PAYLOAD_REF" },
		{ PXAR_GOODBYE, "GOODBYE" },
		{ PXAR_GOODBYE_TAIL, "PXAR_GOODBYE_TAIL_MARKER" },
		{ PXAR_PAYLOAD_START_MARKER, "PXAR_PAYLOAD_START_MARKER" },
		{ PXAR_PAYLOAD_TAIL_MARKER, "PXAR_PAYLOAD_TAIL_MARKER" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		char text[64];

		snprintf(text, sizeof(text), "__PROXMOX_FORMAT_%s__", v[i].name);
		assert_true(hash_of(text) == v[i].type);
	}
}

static void name_hash_gives_the_test_vectors(void **state)
{
	(void)state;
	assert_true(hash_of("") == 0x76614015f8d1bb6c);
	assert_true(hash_of("a") == 0x0c26e9067c2c7bcf);
	assert_true(hash_of("dir") == 0x2a98c23ed399e2bc);
	assert_true(hash_of("0123456") == 0xe72ff47567a4e7e2);
	assert_true(hash_of("01234567") == 0xf908965382193a1f);
	assert_true(hash_of("file.txt") == 0x967764f630c3da14);
	assert_true(hash_of("lost+found") == 0xedc93cb8247896c7);
	assert_true(hash_of(".pxarexclude-cli") == 0x046975ce672e09eb);
	assert_true(hash_of("\xff\xfe") == 0xd40f34bd0209240a);
}

static int header_decode(uint64_t type, uint64_t size)
{
	struct item_header h;
	uint8_t bytes[PXAR_HEADER_SIZE];

	le64_put(bytes, type);
	le64_put(bytes + 8, size);
	return item_header_decode(bytes, &h, NULL);
}

/* The smallest and the largest body of each type, and what lies just outside. */
static void body_sizes_are_limited_by_type(void **state)
{
	static const uint64_t ANY = UINT64_MAX - PXAR_HEADER_SIZE;
	static const struct {
		uint64_t type, min, max;
	} v[] = {
		{ PXAR_FORMAT_VERSION, 8, 8 },
		{ PXAR_PRELUDE, 0, ANY },
		{ PXAR_FILENAME, 2, 4097 },
		{ PXAR_ENTRY, 40, 40 },
		{ PXAR_ENTRY_V1, 32, 32 },
		{ PXAR_XATTR, 2, 65791 },
		{ PXAR_ACL_USER, 16, 16 },
		{ PXAR_ACL_GROUP, 16, 16 },
		{ PXAR_ACL_GROUP_OBJ, 8, 8 },
		{ PXAR_ACL_DEFAULT, 32, 32 },
		{ PXAR_ACL_DEFAULT_USER, 16, 16 },
		{ PXAR_ACL_DEFAULT_GROUP, 16, 16 },
		{ PXAR_FCAPS, 0, 65791 },
		{ PXAR_QUOTA_PROJID, 8, 8 },
		{ PXAR_SYMLINK, 1, 4097 },
		{ PXAR_DEVICE, 16, 16 },
		{ PXAR_HARDLINK, 10, 4105 },
		{ PXAR_PAYLOAD, 0, ANY },
		{ PXAR_PAYLOAD_REF, 16, 16 },
		{ PXAR_PAYLOAD_START_MARKER, 0, 0 },
		{ PXAR_PAYLOAD_TAIL_MARKER, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		uint64_t min = v[i].min + PXAR_HEADER_SIZE, max = v[i].max + PXAR_HEADER_SIZE;

		assert_int_equal(header_decode(v[i].type, min), 0);
		assert_int_equal(header_decode(v[i].type, max), 0);
		assert_int_equal(header_decode(v[i].type, min - 1), -EBADMSG);
		if (v[i].max != ANY)
			assert_int_equal(header_decode(v[i].type, max + 1), -EBADMSG);
		assert_int_equal(header_decode(v[i].type, 15), -EBADMSG);
		assert_int_equal(header_decode(v[i].type, 0), -EBADMSG);
	}
	assert_int_equal(header_decode(PXAR_GOODBYE, 16 + 24), 0);
	assert_int_equal(header_decode(PXAR_GOODBYE, 16), -EBADMSG);
	assert_int_equal(header_decode(PXAR_GOODBYE, 16 + 25), -EBADMSG);
}

static void refuses_unknown_item_types(void **state)
{
	(void)state;
	assert_int_equal(header_decode(0, 16), -EBADMSG);
	assert_int_equal(header_decode(PXAR_ENTRY + 1, 56), -EBADMSG);
	assert_int_equal(header_decode(PXAR_GOODBYE_TAIL, 40), -EBADMSG);
}

static void item_that_follows_must_fit_the_mode(void **state)
{
	static const uint64_t types[] = { PXAR_PAYLOAD, PXAR_PAYLOAD_REF, PXAR_SYMLINK,
					  PXAR_DEVICE,	PXAR_FILENAME,	  PXAR_GOODBYE,
					  PXAR_ENTRY,	PXAR_HARDLINK,	  PXAR_PRELUDE };
	static const struct {
		uint64_t mode, v1, v2;
	} v[] = {
		{ PXAR_MODE_REGULAR, PXAR_PAYLOAD, PXAR_PAYLOAD_REF },
		{ PXAR_MODE_SYMLINK, PXAR_SYMLINK, PXAR_SYMLINK },
		{ PXAR_MODE_CHAR, PXAR_DEVICE, PXAR_DEVICE },
		{ PXAR_MODE_BLOCK, PXAR_DEVICE, PXAR_DEVICE },
		{ PXAR_MODE_DIRECTORY, 0, 0 },
		{ PXAR_MODE_FIFO, 0, 0 },
		{ PXAR_MODE_SOCKET, 0, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
			bool next = types[t] == PXAR_FILENAME || types[t] == PXAR_GOODBYE;

			assert_int_equal(item_check_after(v[i].mode, 1, types[t], NULL),
					 (v[i].v1 ? types[t] == v[i].v1 : next) ? 0 : -EBADMSG);
			assert_int_equal(item_check_after(v[i].mode, 2, types[t], NULL),
					 (v[i].v2 ? types[t] == v[i].v2 : next) ? 0 : -EBADMSG);
		}
	}
}

static int filename_check(const char *name, size_t size)
{
	return item_filename_check((const uint8_t *)name, size, NULL);
}

static void accepts_names_of_any_bytes(void **state)
{
	char longest[4097];

	(void)state;
	memset(longest, 'x', 4096);
	longest[4096] = 0;
	assert_int_equal(filename_check("a", 2), 0);
	assert_int_equal(filename_check("...", 4), 0);
	assert_int_equal(filename_check(".a", 3), 0);
	assert_int_equal(filename_check("\xff\n\\ *", 6), 0);
	assert_int_equal(filename_check(longest, 4097), 0);
}

static void refuses_bad_names(void **state)
{
	char longer[4098];

	(void)state;
	memset(longer, 'x', 4097);
	longer[4097] = 0;
	assert_int_equal(filename_check("", 0), -EBADMSG);
	assert_int_equal(filename_check("", 1), -EBADMSG);
	assert_int_equal(filename_check("ab", 2), -EBADMSG); /* no NUL */
	assert_int_equal(filename_check("a\0b", 4), -EBADMSG);
	assert_int_equal(filename_check(".", 2), -EBADMSG);
	assert_int_equal(filename_check("..", 3), -EBADMSG);
	assert_int_equal(filename_check("/", 2), -EBADMSG);
	assert_int_equal(filename_check("a/b", 4), -EBADMSG);
	assert_int_equal(filename_check(longer, 4098), -EBADMSG);
}

static int symlink_check(const char *target, size_t size)
{
	return item_symlink_check((const uint8_t *)target, size, NULL);
}

static void checks_symlink_targets(void **state)
{
	(void)state;
	assert_int_equal(symlink_check("", 1), 0);
	assert_int_equal(symlink_check("../../etc//x", 13), 0);
	assert_int_equal(symlink_check("", 0), -EBADMSG);
	assert_int_equal(symlink_check("ab", 2), -EBADMSG);
	assert_int_equal(symlink_check("a\0b", 4), -EBADMSG);
}

static void checks_paths_of_hard_links(void **state)
{
	static const char *const good[] = { "a", "dir/file", ".a/..b/...", "a b/\xff" };
	static const char *const bad[] = { "",	   "/a",   "a/",  "a//b", ".",	 "..",
					   "../a", "a/..", "./a", "a/./b", "a/../b", "/" };
	char longest[4098];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_null(item_path_fault(good[i], strlen(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_non_null(item_path_fault(bad[i], strlen(bad[i])));
	memset(longest, 'x', 4097);
	longest[2000] = '/';
	assert_null(item_path_fault(longest, 4096));
	assert_non_null(item_path_fault(longest, 4097));
}

static int hardlink_decode(uint64_t distance, const char *path, size_t size,
			   struct item_hardlink *out)
{
	uint8_t body[64];

	le64_put(body, distance);
	memcpy(body + 8, path, size);
	return item_hardlink_decode(body, 8 + size, 1000, out, NULL);
}

static void takes_a_hard_link_apart(void **state)
{
	struct item_hardlink link;
	uint8_t body[32];

	(void)state;
	le64_put(body, 100);
	memcpy(body + 8, "dir/file", 9);
	assert_int_equal(item_hardlink_decode(body, 17, 1000, &link, NULL), 0);
	assert_int_equal(link.target_offset, 900);
	assert_string_equal(link.path, "dir/file");
	assert_int_equal(link.path_size, 8);
	assert_int_equal(hardlink_decode(1000, "a", 2, &link), 0);
	assert_int_equal(link.target_offset, 0);
}

static void refuses_bad_hard_links(void **state)
{
	struct item_hardlink link;

	(void)state;
	assert_int_equal(hardlink_decode(0, "a", 2, &link), -EBADMSG);
	assert_int_equal(hardlink_decode(1001, "a", 2, &link), -EBADMSG);
	assert_int_equal(hardlink_decode(UINT64_MAX, "a", 2, &link), -EBADMSG);
	assert_int_equal(hardlink_decode(100, "a", 0, &link), -EBADMSG);
	assert_int_equal(hardlink_decode(100, "", 1, &link), -EBADMSG);
	assert_int_equal(hardlink_decode(100, "ab", 2, &link), -EBADMSG);
	assert_int_equal(hardlink_decode(100, "a\0b", 4, &link), -EBADMSG);
	assert_int_equal(hardlink_decode(100, "../a", 5, &link), -EBADMSG);
	assert_int_equal(hardlink_decode(100, "/a", 3, &link), -EBADMSG);
	for (size_t cut = 0; cut < 8; cut++)
		assert_int_equal(item_hardlink_decode((const uint8_t *)"\1\0\0\0\0\0\0", cut, 1000,
						      &link, NULL),
				 -EBADMSG);
}

static int ref_decode(uint64_t offset, uint64_t size)
{
	struct item_payload_ref ref;
	uint8_t body[16];

	le64_put(body, offset);
	le64_put(body + 8, size);
	return item_payload_ref_decode(body, 16, &ref, NULL);
}

static void checks_payload_refs(void **state)
{
	struct item_payload_ref ref;
	uint8_t body[16] = { 0 };

	(void)state;
	assert_int_equal(ref_decode(16, 0), 0);
	assert_int_equal(ref_decode(16, UINT64_MAX - 32), 0);
	assert_int_equal(ref_decode(15, 0), -EBADMSG);
	assert_int_equal(ref_decode(0, 0), -EBADMSG);
	assert_int_equal(ref_decode(16, UINT64_MAX - 31), -EBADMSG);
	assert_int_equal(ref_decode(UINT64_MAX, 0), -EBADMSG);
	for (size_t cut = 0; cut < 16; cut++)
		assert_int_equal(item_payload_ref_decode(body, cut, &ref, NULL), -EBADMSG);
}

static void payload_header_must_be_what_the_ref_says(void **state)
{
	struct item_payload_ref ref = { .offset = 16, .size = 5 };
	uint8_t bytes[16];

	(void)state;
	le64_put(bytes, PXAR_PAYLOAD);
	le64_put(bytes + 8, 21);
	assert_int_equal(item_payload_check(bytes, &ref, NULL), 0);
	le64_put(bytes + 8, 22);
	assert_int_equal(item_payload_check(bytes, &ref, NULL), -EBADMSG);
	ref.size = UINT64_MAX - 10;
	le64_put(bytes + 8, 5); /* 5 - 16 wraps to just that */
	assert_int_equal(item_payload_check(bytes, &ref, NULL), -EBADMSG);
	ref.size = 5;
	le64_put(bytes, PXAR_PAYLOAD_REF);
	le64_put(bytes + 8, 21);
	assert_int_equal(item_payload_check(bytes, &ref, NULL), -EBADMSG);
}

static void markers_must_be_whole(void **state)
{
	uint8_t bytes[16];

	(void)state;
	le64_put(bytes, PXAR_PAYLOAD_START_MARKER);
	le64_put(bytes + 8, 16);
	assert_int_equal(item_marker_check(bytes, PXAR_PAYLOAD_START_MARKER, NULL), 0);
	assert_int_equal(item_marker_check(bytes, PXAR_PAYLOAD_TAIL_MARKER, NULL), -EBADMSG);
	le64_put(bytes + 8, 17);
	assert_int_equal(item_marker_check(bytes, PXAR_PAYLOAD_START_MARKER, NULL), -EBADMSG);
}

static void knows_versions_1_and_2_only(void **state)
{
	uint8_t body[8] = { 0 };
	unsigned version = 0;

	(void)state;
	body[0] = 1;
	assert_int_equal(item_version_decode(body, 8, &version, NULL), 0);
	assert_int_equal(version, 1);
	body[0] = 2;
	assert_int_equal(item_version_decode(body, 8, &version, NULL), 0);
	assert_int_equal(version, 2);
	body[0] = 3;
	assert_int_equal(item_version_decode(body, 8, &version, NULL), -EOPNOTSUPP);
	body[0] = 0;
	assert_int_equal(item_version_decode(body, 8, &version, NULL), -EOPNOTSUPP);
	body[0] = 2;
	body[7] = 1;
	assert_int_equal(item_version_decode(body, 8, &version, NULL), -EOPNOTSUPP);
	assert_int_equal(item_version_decode(body, 7, &version, NULL), -EBADMSG);
}

static void put_stat(uint8_t *body, uint64_t mode, uint64_t sec, uint32_t nsec, uint32_t padding)
{
	le64_put(body, mode);
	le64_put(body + 8, 0xf000000000010000); /* unknown bits are kept */
	le32_put(body + 16, 1000);
	le32_put(body + 20, 100);
	le64_put(body + 24, sec);
	le32_put(body + 32, nsec);
	le32_put(body + 36, padding);
}

static void takes_entries_of_both_kinds_apart(void **state)
{
	AUTO(metadata) struct metadata m;
	uint8_t body[40];

	(void)state;
	metadata_init(&m);
	put_stat(body, 0104755, (uint64_t)-2, 500000000, 0xffffffff);
	assert_int_equal(item_stat_decode(PXAR_ENTRY, body, 40, &m, NULL), 0);
	assert_int_equal(m.mode, 0104755);
	assert_true(m.flags == 0xf000000000010000);
	assert_int_equal(m.uid, 1000);
	assert_int_equal(m.gid, 100);
	assert_true(m.mtime_sec == -2);
	assert_int_equal(m.mtime_nsec, 500000000);

	le64_put(body + 24, 1704164645678901234);
	assert_int_equal(item_stat_decode(PXAR_ENTRY_V1, body, 32, &m, NULL), 0);
	assert_true(m.mtime_sec == 1704164645);
	assert_int_equal(m.mtime_nsec, 678901234);
	le64_put(body + 24, UINT64_MAX);
	assert_int_equal(item_stat_decode(PXAR_ENTRY_V1, body, 32, &m, NULL), 0);
	assert_true(m.mtime_sec == 18446744073);
	assert_int_equal(m.mtime_nsec, 709551615);
}

static void refuses_bad_entries(void **state)
{
	AUTO(metadata) struct metadata m;
	uint8_t body[48] = { 0 };

	(void)state;
	metadata_init(&m);
	put_stat(body, 0100644, 0, 999999999, 0);
	assert_int_equal(item_stat_decode(PXAR_ENTRY, body, 40, &m, NULL), 0);
	put_stat(body, 0100644, 0, 1000000000, 0);
	assert_int_equal(item_stat_decode(PXAR_ENTRY, body, 40, &m, NULL), -EBADMSG);
	put_stat(body, 0100644, 0, 0, 0);
	for (size_t size = 0; size <= 48; size++) {
		if (size != 40)
			assert_int_equal(item_stat_decode(PXAR_ENTRY, body, size, &m, NULL),
					 -EBADMSG);
		if (size != 32)
			assert_int_equal(item_stat_decode(PXAR_ENTRY_V1, body, size, &m, NULL),
					 -EBADMSG);
	}
	for (unsigned type = 0; type < 16; type++) {
		bool known = type == 1 || type == 2 || type == 4 || type == 6 || type == 8 ||
			     type == 10 || type == 12;

		put_stat(body, (uint64_t)type << 12 | 0644, 0, 0, 0);
		assert_int_equal(item_stat_decode(PXAR_ENTRY, body, 40, &m, NULL),
				 known ? 0 : -EBADMSG);
	}
}

static int attribute(struct metadata *m, uint64_t type, size_t size)
{
	static const uint8_t body[64] = "user.x\0value";

	return item_attribute_decode(type, body, size, m, NULL);
}

static void accepts_every_attribute_and_some_only_once(void **state)
{
	static const struct {
		uint64_t type;
		size_t size;
		bool once;
	} v[] = {
		{ PXAR_XATTR, 12, false },	     { PXAR_ACL_USER, 16, false },
		{ PXAR_ACL_GROUP, 16, false },	     { PXAR_ACL_GROUP_OBJ, 8, true },
		{ PXAR_ACL_DEFAULT, 32, true },	     { PXAR_ACL_DEFAULT_USER, 16, false },
		{ PXAR_ACL_DEFAULT_GROUP, 16, false }, { PXAR_FCAPS, 20, true },
		{ PXAR_QUOTA_PROJID, 8, true },
	};
	AUTO(metadata) struct metadata m;

	(void)state;
	metadata_init(&m);
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		assert_true(item_is_attribute(v[i].type));
		assert_int_equal(attribute(&m, v[i].type, v[i].size), 0);
		assert_int_equal(attribute(&m, v[i].type, v[i].size), v[i].once ? -EBADMSG : 0);
	}
	assert_int_equal(m.xattr_count, 2);
	assert_string_equal(metadata_xattr_name(&m, 1), "user.x");
	assert_int_equal(m.xattrs[1].value_size, 5);
	assert_int_equal(m.acl_default_groups.count, 2);
	assert_int_equal(m.fcaps_size, 20);
	assert_false(item_is_attribute(PXAR_ENTRY));
	assert_false(item_is_attribute(PXAR_SYMLINK));
}

static void refuses_attributes_of_the_wrong_size(void **state)
{
	static const uint64_t types[] = { PXAR_ACL_USER,	 PXAR_ACL_GROUP,
					  PXAR_ACL_GROUP_OBJ,	 PXAR_ACL_DEFAULT,
					  PXAR_ACL_DEFAULT_USER, PXAR_ACL_DEFAULT_GROUP,
					  PXAR_QUOTA_PROJID };
	static const size_t sizes[] = { 16, 16, 8, 32, 16, 16, 8 };

	(void)state;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		for (size_t size = 0; size <= 40; size++) {
			AUTO(metadata) struct metadata m;

			metadata_init(&m);
			assert_int_equal(attribute(&m, types[i], size),
					 size == sizes[i] ? 0 : -EBADMSG);
		}
	}
}

static void refuses_bad_xattrs(void **state)
{
	AUTO(metadata) struct metadata m;

	(void)state;
	metadata_init(&m);
	assert_int_equal(attribute(&m, PXAR_XATTR, 0), -EBADMSG);
	assert_int_equal(attribute(&m, PXAR_XATTR, 6), -EBADMSG); /* no NUL */
	assert_int_equal(attribute(&m, PXAR_XATTR, 7), 0); /* an empty value */
	assert_int_equal(item_attribute_decode(PXAR_XATTR, (const uint8_t *)"\0v", 2, &m, NULL),
			 -EBADMSG);
	assert_int_equal(m.xattr_count, 1);
}

static void encodes_what_it_decodes(void **state)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(4096);
	AUTO(metadata) struct metadata m, n;
	struct item_header h;
	size_t position = 0;

	(void)state;
	metadata_init(&m);
	metadata_init(&n);
	m.mode = PXAR_MODE_DIRECTORY | 0755;
	m.mtime_sec = -1;
	m.mtime_nsec = 5;
	metadata_add_xattr(&m, "user.x", 6, "v\0", 2);
	metadata_set_fcaps(&m, NULL, 0);
	metadata_add_acl(&m.acl_users, 1, 7);
	metadata_add_acl(&m.acl_groups, 2, 6);
	metadata_add_acl(&m.acl_default_users, 3, 5);
	metadata_add_acl(&m.acl_default_groups, 4, 4);
	m.has_acl_group_obj = m.has_acl_default = m.has_quota_projid = true;
	m.acl_group_obj = 3;
	m.quota_projid = 77;
	assert_int_equal(item_metadata_encode(&b, &m), 0);

	while (position < b.size) {
		const uint8_t *body = b.data + position + PXAR_HEADER_SIZE;

		assert_int_equal(item_header_decode(b.data + position, &h, NULL), 0);
		assert_int_equal(position == 0 ?
					 item_stat_decode(h.type, body, h.body_size, &n, NULL) :
					 item_attribute_decode(h.type, body, h.body_size, &n, NULL),
				 0);
		position += PXAR_HEADER_SIZE + h.body_size;
	}
	AUTO(wbuf) struct wbuf again = WBUF_INIT(4096);
	assert_int_equal(item_metadata_encode(&again, &n), 0);
	assert_int_equal(again.size, b.size);
	assert_memory_equal(again.data, b.data, b.size);
	assert_int_equal(n.quota_projid, 77);
	assert_true(n.has_fcaps);
}

static void refuses_to_encode_what_it_would_not_decode(void **state)
{
	AUTO(wbuf) struct wbuf b = WBUF_INIT(1 << 20);
	AUTO(metadata) struct metadata m;
	char longer[4098];

	(void)state;
	metadata_init(&m);
	memset(longer, 'x', 4097);
	longer[4097] = 0;
	assert_int_equal(item_filename_encode(&b, ""), -EINVAL);
	assert_int_equal(item_filename_encode(&b, ".."), -EINVAL);
	assert_int_equal(item_filename_encode(&b, "a/b"), -EINVAL);
	assert_int_equal(item_filename_encode(&b, longer), -E2BIG);
	assert_int_equal(item_symlink_encode(&b, longer), -E2BIG);
	assert_int_equal(item_hardlink_encode(&b, 1, longer), -E2BIG);
	assert_int_equal(item_hardlink_encode(&b, 1, "/a"), -EINVAL);
	assert_int_equal(item_hardlink_encode(&b, 0, "a"), -EINVAL);
	assert_int_equal(item_header_encode(&b, PXAR_PAYLOAD, UINT64_MAX), -E2BIG);
	assert_int_equal(item_metadata_encode(&b, &m), -EINVAL); /* no type */
	m.mode = PXAR_MODE_REGULAR;
	m.mtime_nsec = 1000000000;
	assert_int_equal(item_metadata_encode(&b, &m), -EINVAL);
	assert_int_equal(b.size, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(item_types_are_hashes_of_their_names),
		cmocka_unit_test(name_hash_gives_the_test_vectors),
		cmocka_unit_test(body_sizes_are_limited_by_type),
		cmocka_unit_test(refuses_unknown_item_types),
		cmocka_unit_test(item_that_follows_must_fit_the_mode),
		cmocka_unit_test(accepts_names_of_any_bytes),
		cmocka_unit_test(refuses_bad_names),
		cmocka_unit_test(checks_symlink_targets),
		cmocka_unit_test(checks_paths_of_hard_links),
		cmocka_unit_test(takes_a_hard_link_apart),
		cmocka_unit_test(refuses_bad_hard_links),
		cmocka_unit_test(checks_payload_refs),
		cmocka_unit_test(payload_header_must_be_what_the_ref_says),
		cmocka_unit_test(markers_must_be_whole),
		cmocka_unit_test(knows_versions_1_and_2_only),
		cmocka_unit_test(takes_entries_of_both_kinds_apart),
		cmocka_unit_test(refuses_bad_entries),
		cmocka_unit_test(accepts_every_attribute_and_some_only_once),
		cmocka_unit_test(refuses_attributes_of_the_wrong_size),
		cmocka_unit_test(refuses_bad_xattrs),
		cmocka_unit_test(encodes_what_it_decodes),
		cmocka_unit_test(refuses_to_encode_what_it_would_not_decode),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
