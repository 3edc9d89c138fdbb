/* SPDX-License-Identifier: Apache-2.0 */
/* Key files: whatever decodes must encode, and decode to the same again. */
#include "archive/keyfile.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(wbuf) struct wbuf once = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(wbuf) struct wbuf twice = WBUF_INIT(KEYFILE_SIZE_MAX);
	struct err err = ERR_INIT;
	struct keyfile k;

	if (keyfile_decode(data, size, &k, &err) < 0) {
		assert(err.text[0]);
		return 0;
	}
	assert(keyfile_encode(&k, false, &once, &err) == 0);
	assert(keyfile_decode(once.data, once.size, &k, &err) == 0);
	assert(keyfile_encode(&k, false, &twice, &err) == 0);
	assert(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
	return 0;
}
