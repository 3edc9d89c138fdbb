/* SPDX-License-Identifier: Apache-2.0 */
/*
 * goodbye - the lookup table that ends a directory: order, encode, take apart, search.
 *
 * One slot for each member, then the tail slot.  The member slots, sorted by hash, are laid
 * out as a complete binary tree: root in slot 0, children of slot i in 2i + 1 and 2i + 2.
 *
 * Layout:  archive/FORMAT.md, "Goodbye tables".
 * Owner:   plain data; nothing here allocates.
 * Trust:   decoded slots are as stored.  Whoever follows an offset checks where it leads; a
 *          size is exact for directories and only an upper bound for everything else.
 */
#ifndef PXARFS_GOODBYE_H
#define PXARFS_GOODBYE_H

#include "archive/base/err.h"
#include "archive/base/wbuf.h"
#include "archive/pxar.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A slot.  On the wire `offset` counts backwards from the GOODBYE item's header. */
struct goodbye_slot {
	uint64_t hash; /* of the member's name; the tail slot: PXAR_GOODBYE_TAIL */
	uint64_t offset; /* to the member's FILENAME; tail: to the directory's ENTRY */
	uint64_t size; /* of the member, FILENAME included; tail: of the GOODBYE item */
};

/* Size of the whole GOODBYE item of a directory with `count` members. */
static inline uint64_t goodbye_item_size(uint64_t count)
{
	return PXAR_HEADER_SIZE + PXAR_GOODBYE_SLOT_SIZE * (count + 1);
}

/* Sort ascending by hash; among equal hashes ascending by `offset`, so an encoder that sorts
 * absolute offsets keeps the order of emission.  In place, O(n log n) at worst. */
void goodbye_sort(struct goodbye_slot *slots, size_t count);

/* Which of `count` members, counted in ascending order of hash, stands in slot `slot`
 * (< count).  O(1), so a table can be written front to back without a copy. */
uint64_t goodbye_rank(uint64_t slot, uint64_t count);

/* True when the slots, in table order, are a search tree by hash. */
bool goodbye_is_search_tree(const struct goodbye_slot *slots, size_t count);

/* Append one slot, the item's header and tail are the caller's business. */
int goodbye_slot_encode(struct wbuf *b, const struct goodbye_slot *slot);

/* Take apart the 24 bytes of a slot. */
void goodbye_slot_decode(const uint8_t *bytes, struct goodbye_slot *out);

/* Take apart and check a tail slot: marker, and a size that a GOODBYE item can have.  `*count`
 * is the number of member slots.  -EBADMSG; -E2BIG: more than PXAR_MEMBER_COUNT_MAX. */
int goodbye_tail_decode(const uint8_t *bytes, struct goodbye_slot *out, uint64_t *count,
			struct err *err);

/*
 * Looking a name up, slot by slot, whoever reads them:
 *
 *	goodbye_search_init(&s, siphash_name(name, size), count);
 *	while (goodbye_search_next(&s, &i)) {
 *		... read slot i ...
 *		if (goodbye_search_seen(&s, i, slot.hash))
 *			... the hash fits: read the FILENAME, compare, stop if it is the one ...
 *	}
 *
 * Names with equal hashes may lie on both sides of each other; the search goes on until it
 * has offered all of them.  A hostile table costs at most `count` steps.
 */
enum { GOODBYE_SEARCH_STACK_MAX = 64 }; /* a tree of 2^58 slots is 58 deep */

struct goodbye_search {
	uint64_t hash, count;
	uint64_t stack[GOODBYE_SEARCH_STACK_MAX];
	unsigned depth;
};

void goodbye_search_init(struct goodbye_search *s, uint64_t hash, uint64_t count);
bool goodbye_search_next(struct goodbye_search *s, uint64_t *slot);
bool goodbye_search_seen(struct goodbye_search *s, uint64_t slot, uint64_t hash);

#endif
