/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/grow.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MIN = 16 };

int grow_more(void *items, size_t *capacity, size_t wanted, size_t max, size_t item_size)
{
	size_t n = *capacity ? *capacity : CAPACITY_MIN;
	void *p;

	if (wanted > max || wanted > SIZE_MAX / 2)
		return -E2BIG;
	while (n < wanted)
		n *= 2;
	n = n < max ? n : max;
	memcpy(&p, items, sizeof(p)); /* not through a void **: it is another type */
	p = reallocarray(p, n, item_size);
	if (!p)
		return -ENOMEM;
	memcpy(items, &p, sizeof(p));
	*capacity = n;
	return 0;
}
