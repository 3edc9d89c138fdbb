/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pxar - the constants of the archive format: item types, sizes, limits, flag bits.
 *
 * Layout:  archive/FORMAT.md, "Items" and "Flag bits".
 */
#ifndef PXARFS_PXAR_H
#define PXARFS_PXAR_H

#include <stdint.h>

enum pxar_item_type {
	PXAR_FORMAT_VERSION = 0x730f6c75df16a40d,
	PXAR_PRELUDE = 0xe309d79d9f7b771b,
	PXAR_FILENAME = 0x16701121063917b3,
	PXAR_ENTRY = 0xd5956474e588acef,
	PXAR_ENTRY_V1 = 0x11da850a1c1cceff, /* read only */
	PXAR_XATTR = 0x0dab0229b57dcd03,
	PXAR_ACL_USER = 0x2ce8540a457d55b8,
	PXAR_ACL_GROUP = 0x136e3eceb04c03ab,
	PXAR_ACL_GROUP_OBJ = 0x10868031e9582876,
	PXAR_ACL_DEFAULT = 0xbbbb13415a6896f5,
	PXAR_ACL_DEFAULT_USER = 0xc89357b40532cd1f,
	PXAR_ACL_DEFAULT_GROUP = 0xf90a8a5816038ffe,
	PXAR_FCAPS = 0x2da9dd9db5f7fb67,
	PXAR_QUOTA_PROJID = 0xe07540e82f7d1cbb,
	PXAR_SYMLINK = 0x27f971e7dbf5dc5f,
	PXAR_DEVICE = 0x9fc9e906586d5ce9,
	PXAR_HARDLINK = 0x51269c8422bd7275,
	PXAR_PAYLOAD = 0x28147a1b0b7c1a25,
	PXAR_PAYLOAD_REF = 0x419d3d6bc4ba977e,
	PXAR_GOODBYE = 0x2fec4fa642d5731d,
	PXAR_GOODBYE_TAIL = 0xef5eed5b753e1555, /* hash of the last slot, no item type */
	PXAR_PAYLOAD_START_MARKER = 0x834c68c2194a4ed2,
	PXAR_PAYLOAD_TAIL_MARKER = 0x6c72b78b984c81b5,
};

/* Sizes of whole items include the header; body sizes do not. */
enum {
	PXAR_HEADER_SIZE = 16,
	PXAR_FORMAT_VERSION_BODY_SIZE = 8,
	PXAR_ENTRY_BODY_SIZE = 40,
	PXAR_ENTRY_V1_BODY_SIZE = 32,
	PXAR_ACL_NAMED_BODY_SIZE = 16, /* ACL_USER, ACL_GROUP and their defaults */
	PXAR_ACL_GROUP_OBJ_BODY_SIZE = 8,
	PXAR_ACL_DEFAULT_BODY_SIZE = 32,
	PXAR_QUOTA_PROJID_BODY_SIZE = 8,
	PXAR_DEVICE_BODY_SIZE = 16,
	PXAR_PAYLOAD_REF_BODY_SIZE = 16,
	PXAR_GOODBYE_SLOT_SIZE = 24,

	PXAR_NAME_SIZE_MAX = 4096, /* without the NUL */
	PXAR_TARGET_SIZE_MAX = 4096, /* symlink target or hard link path, without NUL */
	PXAR_XATTR_SIZE_MAX = 65791, /* name, NUL and value */
	PXAR_FCAPS_SIZE_MAX = 65791,

	/* Our own bounds on what a decoder keeps in memory; the format has none. */
	PXAR_PRELUDE_SIZE_MAX = 16 << 20,
	PXAR_ATTRIBUTE_COUNT_MAX = 65536, /* items of one entry */
	PXAR_ATTRIBUTE_BYTES_MAX = 64 << 20, /* of one entry */
	PXAR_DEPTH_MAX = 65536, /* nested directories */
};

/* Members of one directory that a decoder will hold: 24-byte slots. */
#define PXAR_MEMBER_COUNT_MAX ((uint64_t)64 << 20)

enum {
	PXAR_VERSION_1 = 1, /* one stream; carries no FORMAT_VERSION item */
	PXAR_VERSION_2 = 2, /* metadata stream and payload stream */
};

/* The bits of ENTRY.flags that are stored. */
enum pxar_flag {
	PXAR_FLAG_HIDDEN = 0x2000,
	PXAR_FLAG_SYSTEM = 0x4000,
	PXAR_FLAG_ARCHIVE = 0x8000,
	PXAR_FLAG_APPEND = 0x10000,
	PXAR_FLAG_NOATIME = 0x20000,
	PXAR_FLAG_COMPR = 0x40000,
	PXAR_FLAG_NOCOW = 0x80000,
	PXAR_FLAG_NODUMP = 0x100000,
	PXAR_FLAG_DIRSYNC = 0x200000,
	PXAR_FLAG_IMMUTABLE = 0x400000,
	PXAR_FLAG_SYNC = 0x800000,
	PXAR_FLAG_NOCOMP = 0x1000000,
	PXAR_FLAG_PROJINHERIT = 0x2000000,
};

/* A component of ACL_DEFAULT that does not exist. */
#define PXAR_ACL_NONE UINT64_MAX

/* `mode` has the values of Linux's st_mode, fixed by the format. */
enum {
	PXAR_MODE_TYPE = 0170000,
	PXAR_MODE_SOCKET = 0140000,
	PXAR_MODE_SYMLINK = 0120000,
	PXAR_MODE_REGULAR = 0100000,
	PXAR_MODE_BLOCK = 0060000,
	PXAR_MODE_DIRECTORY = 0040000,
	PXAR_MODE_CHAR = 0020000,
	PXAR_MODE_FIFO = 0010000,
	PXAR_MODE_PERMISSIONS = 07777,
};

#endif
