/* SPDX-License-Identifier: Apache-2.0 */
/* A fixed index that opens covers its image without a gap, and is written the same again. */
#include "archive/fidx.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(fidx_writer) struct fidx_writer w = { .count = 0 };
	struct err err = ERR_INIT;
	struct digest d, csum;
	uint64_t at = 0;
	struct fidx ix;
	size_t found;

	if (fidx_open(&ix, data, size, &err) < 0) {
		must(err.text[0] != '\0');
		return 0;
	}
	must(fidx_writer_init(&w, ix.uuid, ix.ctime, ix.size, ix.chunk_size, NULL) == 0);
	for (size_t i = 0; i < ix.count; i++) {
		uint64_t begin, end;

		fidx_chunk(&ix, i, &begin, &end, &d);
		must(begin == at && begin < end && end <= ix.size);
		must(fidx_find(&ix, begin, &found) == 0 && found == i);
		must(fidx_find(&ix, end - 1, &found) == 0 && found == i);
		must(fidx_writer_add(&w, &d, NULL) == 0);
		at = end;
	}
	must(at == ix.size);
	must(fidx_find(&ix, at, &found) == -ERANGE);
	must(fidx_writer_finish(&w, &csum, NULL) == 0);
	must(digest_equal(&csum, &ix.csum));
	must(w.bytes.size == size);
	must(memcmp(w.bytes.data + FIDX_HEADER_SIZE, data + FIDX_HEADER_SIZE,
		    size - FIDX_HEADER_SIZE) == 0);
	return 0;
}
