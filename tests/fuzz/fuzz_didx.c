/* SPDX-License-Identifier: Apache-2.0 */
/* A dynamic index that opens leads to a chunk from every byte, and is written the same again. */
#include "archive/didx_writer.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_chunk(const struct didx *ix, size_t i, struct didx_writer *w)
{
	uint64_t begin, end;
	struct digest d;
	size_t found;

	didx_chunk(ix, i, &begin, &end, &d);
	must(begin < end && end <= ix->size);
	must(didx_find(ix, begin, &found) == 0 && found == i);
	must(didx_find(ix, end - 1, &found) == 0 && found == i);
	must(didx_writer_add(w, end - begin, &d, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(didx_writer) struct didx_writer w = { .count = 0 };
	struct err err = ERR_INIT;
	struct digest csum;
	struct didx ix;
	size_t found;

	if (didx_open(&ix, data, size, &err) < 0) {
		must(err.text[0] != '\0');
		return 0;
	}
	must(didx_writer_init(&w, ix.uuid, ix.ctime, NULL) == 0);
	for (size_t i = 0; i < ix.count; i++)
		check_chunk(&ix, i, &w);
	must(didx_find(&ix, ix.size, &found) == -ERANGE);
	must(didx_writer_finish(&w, &csum, NULL) == 0);
	must(digest_equal(&csum, &ix.csum));
	must(w.bytes.size == size);
	must(memcmp(w.bytes.data + DIDX_HEADER_SIZE, data + DIDX_HEADER_SIZE,
		    size - DIDX_HEADER_SIZE) == 0);
	return 0;
}
