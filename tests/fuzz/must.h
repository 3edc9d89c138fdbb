/* SPDX-License-Identifier: Apache-2.0 */
/*
 * must - what a fuzz target holds to be true, whatever the input.
 */
#ifndef PXARFS_FUZZ_MUST_H
#define PXARFS_FUZZ_MUST_H

#include <stdio.h>
#include <stdlib.h>

#define must(true_thing)                                                         \
	do {                                                                     \
		if (!(true_thing)) {                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, \
				#true_thing);                                    \
			abort();                                                 \
		}                                                                \
	} while (0)

#endif
