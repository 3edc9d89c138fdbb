/* SPDX-License-Identifier: Apache-2.0 */
/* The key of the format's examples: bytes 0 to 31.  Header only, as golden.h is. */
#ifndef PXARFS_TESTS_COUNTING_KEY_H
#define PXARFS_TESTS_COUNTING_KEY_H

#include "archive/crypt.h"

#include <stdlib.h>

static inline struct crypt_key *counting_key(void)
{
	uint8_t bytes[CRYPT_KEY_SIZE];
	struct crypt_key *key = NULL;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	if (crypt_key_new(&key, bytes, NULL) < 0)
		abort();
	return key;
}

#endif
