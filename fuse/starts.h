/* SPDX-License-Identifier: Apache-2.0 */
/*
 * starts - where folders begin that the kernel was told of lately.
 *
 * A folder's number says where it ends; its own entry stands at its start, which its goodbye
 * table knows.  But who asks for a folder's attributes or ACL (`ls -l` does, of every one) does
 * not need its table, which may lie chunks away: when a folder was shown, its start was at
 * hand, and is kept here for a while.
 *
 * It also proves something.  A folder is shown by its parent, entered by its number; a hostile
 * table may begin elsewhere than where the parent's member does, and so bring the same
 * sub-folders into the tree again and again.  What is known here must be found there.
 *
 * Threads: any number.  Bounds: fixed; a folder is forgotten when another needs its place.
 */
#ifndef PXARFS_STARTS_H
#define PXARFS_STARTS_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

enum { STARTS_BITS = 12 };

struct starts {
	pthread_mutex_t lock; /* guards `rows` */
	struct {
		uint64_t number, entry_offset; /* the folder's inode number, 0: none */
	} rows[1 << STARTS_BITS];
};

static inline size_t starts_row(uint64_t number)
{
	return (size_t)(number * UINT64_C(0x9e3779b97f4a7c15) >> (64 - STARTS_BITS));
}

static inline void starts_set(struct starts *s, uint64_t number, uint64_t entry_offset)
{
	size_t i = starts_row(number);

	pthread_mutex_lock(&s->lock);
	s->rows[i].number = number;
	s->rows[i].entry_offset = entry_offset;
	pthread_mutex_unlock(&s->lock);
}

/* The ENTRY's offset of a folder; 0: not known. */
static inline uint64_t starts_get(struct starts *s, uint64_t number)
{
	size_t i = starts_row(number);
	uint64_t offset;

	pthread_mutex_lock(&s->lock);
	offset = s->rows[i].number == number ? s->rows[i].entry_offset : 0;
	pthread_mutex_unlock(&s->lock);
	return offset;
}

#endif
