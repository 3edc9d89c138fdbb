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
 *	+-----------+--------------------------+---+
 *	|   slot    |   offset in the stream   | F |     F: folder
 *	+-----------+--------------------------+---+
 *
 *	slot          archives of up to   so many in the life of a mount
 *	00 + 14 bits  2^47 bytes          16,383, and 0
 *	1  + 21 bits  2^41 bytes          2 million
 *	01 + 27 bits  2^34 bytes          134 million
 *
 * `slot` says which archive, 0 where a mount shows just one; where it shows many, 0 is what lies
 * above them, and `offset` the number of a node (repo_tree.h).  "Folder, offset 0, slot 0" is
 * number 1, and no folder can end at offset 0: so that is the root of the mount, wherever its
 * archive ends.  A slot is never another archive's, in the life of a mount: the kernel may come
 * back to a number at any time.  There is no end to archives, so a slot has the more bits the
 * fewer its offsets need: hourly snapshots of a hundred machines are a million a year.
 *
 * The kernel finds its inodes by a hash that sees little of a number's upper half, and the
 * archives of a group have the same things at the same offsets: so offsets are scattered by the
 * slot, or all roots would lie in one chain, and going into the ten-thousandth snapshot took 30 ms.
 *
 * What follows from it: FORGET has nothing to forget; a number is good for as long as the
 * archive exists, across remounts; nothing is looked up to decode it.  What is *not* possible:
 * to go from a number to a name, or from anything to its parent, or to tell that a number was
 * never given out, but by going down from the root (descend.h), as is done for those that come
 * out of file handles.  Other numbers from the kernel are those that we gave it.  The tree checks what
 * it finds at an offset, so that a made-up number leads to an error or to a piece of the same
 * archive, never outside it.
 */
#ifndef PXARFS_INODE_H
#define PXARFS_INODE_H

#include <stdbool.h>
#include <stdint.h>

enum {
	INODE_ROOT = 1,
	INODE_CLASSES = 3, /* of archives, by size */
};

/* d_ino where we do not know better (".." has no number here): as libfuse says it. */
#define INODE_UNKNOWN UINT64_C(0xffffffff)

struct inode_class {
	unsigned offset_bits;
	uint32_t slot_begin, slot_end;
};

/* Smallest archives first. */
static const struct inode_class INODE_CLASS[INODE_CLASSES] = {
	{ .offset_bits = 34, .slot_begin = 1u << 27, .slot_end = 1u << 28 },
	{ .offset_bits = 41, .slot_begin = 1u << 21, .slot_end = 1u << 22 },
	{ .offset_bits = 47, .slot_begin = 1, .slot_end = 1u << 14 },
};

#define INODE_OFFSET_MAX ((UINT64_C(1) << 47) - 1)

struct inode {
	uint32_t slot;
	bool is_folder;
	uint64_t offset; /* a folder's end or an ENTRY's offset; 0: the root of the slot */
};

static inline const struct inode_class *inode_class_of_slot(uint32_t slot)
{
	unsigned i = slot >= INODE_CLASS[0].slot_begin ? 0 : slot >= INODE_CLASS[1].slot_begin ? 1 : 2;

	return &INODE_CLASS[i];
}

static inline const struct inode_class *inode_class_of_number(uint64_t number)
{
	return &INODE_CLASS[number >> 63 ? 1 : number >> 62 ? 0 : 2];
}

/* What offsets are scattered by; 0 for slot 0. */
static inline uint64_t inode_scatter(uint32_t slot, unsigned offset_bits)
{
	uint64_t mixed = slot * UINT64_C(0x9e3779b97f4a7c15);

	mixed = (mixed ^ mixed >> 32) * UINT64_C(0x9e3779b97f4a7c15);
	return mixed >> (64 - offset_bits);
}

static inline uint64_t inode_encode(const struct inode *i)
{
	unsigned bits = inode_class_of_slot(i->slot)->offset_bits;

	return (uint64_t)i->slot << (bits + 1) | (i->offset ^ inode_scatter(i->slot, bits)) << 1 |
	       i->is_folder;
}

static inline struct inode inode_decode(uint64_t number)
{
	unsigned bits = inode_class_of_number(number)->offset_bits;
	uint32_t slot = (uint32_t)(number >> (bits + 1));
	uint64_t mask = (UINT64_C(1) << bits) - 1;

	return (struct inode){ .slot = slot,
			       .is_folder = number & 1,
			       .offset = (number >> 1 & mask) ^ inode_scatter(slot, bits) };
}

#endif
