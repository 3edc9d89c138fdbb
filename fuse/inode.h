/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inode - who is who: inode numbers and places in an archive are the same thing.
 *
 * Three identities meet here.
 *
 *   1. The archive's.  A folder is known by its end, the offset just behind its goodbye table
 *      (the table's last slot leads back to its start).  Everything else is known by the
 *      offset of its ENTRY item.  A hard link is no entry: its member leads to the ENTRY of
 *      its target, so both names have one identity, as they had in the source.  At a folder's
 *      end there is never an ENTRY, so the two kinds could share one space of numbers; a bit
 *      keeps them apart all the same, because what a number means must be known before a byte
 *      was read.
 *   2. The kernel's: 64 bits, 1 is the root of the mount, 0 is nobody.
 *   3. The user's, st_ino: the kernel's number, unchanged.
 *
 * The mapping needs no table and no memory: it is written down in the bits.
 *
 *	 63        48 47                                  1   0
 *	+------------+-------------------------------------+---+
 *	|    slot    |       offset in the stream          | F |     F: folder
 *	+------------+-------------------------------------+---+
 *
 * `slot` says which archive, 0 where a mount shows just one; where it shows many, 0 is what lies
 * above them, and `offset` the number of a node (repo_tree.h).  "Folder, offset 0, slot 0" is
 * number 1, and no folder can end at offset 0: so that is the root of the mount, wherever its
 * archive ends.
 *
 * What follows from it: FORGET has nothing to forget; a number is good for as long as the
 * archive exists, across remounts; nothing is looked up to decode it.  What is *not* possible:
 * to go from a number to a name, or from anything to its parent, or to tell that a number was
 * never given out, but by going down from the root (descend.h), as is done for those that come
 * out of file handles.  Other numbers from the kernel are those that we gave it.  The tree checks what
 * it finds at an offset, so that a made-up number leads to an error or to a piece of the same
 * archive, never outside it.
 *
 * Limits: streams of up to 2^47 bytes (128 TiB), 65,535 archives in the life of a mount of many.
 */
#ifndef PXARFS_INODE_H
#define PXARFS_INODE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

enum {
	INODE_OFFSET_BITS = 47,
	INODE_SLOT_BITS = 16,
	INODE_ROOT = 1,
};

/* d_ino where we do not know better (".." has no number here): as libfuse says it. */
#define INODE_UNKNOWN UINT64_C(0xffffffff)

#define INODE_OFFSET_MAX ((UINT64_C(1) << INODE_OFFSET_BITS) - 1)
#define INODE_SLOT_MAX ((1u << INODE_SLOT_BITS) - 1)

struct inode {
	unsigned slot;
	bool is_folder;
	uint64_t offset; /* a folder's end or an ENTRY's offset; 0: the root of the slot */
};

static_assert(1 + INODE_OFFSET_BITS + INODE_SLOT_BITS == 64, "an inode number has 64 bits");

static inline uint64_t inode_encode(const struct inode *i)
{
	return (uint64_t)i->slot << (INODE_OFFSET_BITS + 1) | i->offset << 1 | i->is_folder;
}

static inline struct inode inode_decode(uint64_t number)
{
	return (struct inode){ .slot = (unsigned)(number >> (INODE_OFFSET_BITS + 1)),
			       .is_folder = number & 1,
			       .offset = number >> 1 & INODE_OFFSET_MAX };
}

#endif
