/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grow - room for more items in an array, which doubles.
 *
 * Owner:   the array is the caller's, from malloc; NULL with a capacity of 0 before the first.
 */
#ifndef PXARFS_BASE_GROW_H
#define PXARFS_BASE_GROW_H

#include <stddef.h>

int grow_more(void *items, size_t *capacity, size_t wanted, size_t max, size_t item_size);

/* Make `*items` (`items` is the address of any object pointer) hold `wanted` items at least, `max`
 * at most; what is new is not initialised.  -ENOMEM, -E2BIG: all is as it was. */
static inline int grow(void *items, size_t *capacity, size_t wanted, size_t max, size_t item_size)
{
	return wanted <= *capacity ? 0 : grow_more(items, capacity, wanted, max, item_size);
}

#endif
