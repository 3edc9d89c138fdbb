/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Count the hard links of a metadata stream, the input.  Two passes must agree.
 */
#include "archive/links.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(links) struct links once, twice;
	struct read_at_memory meta;
	struct tree tree;
	struct err err;
	int rc;

	links_init(&once);
	links_init(&twice);
	read_at_memory_init(&meta, data, size);
	if (tree_open(&tree, &meta.base, &err) < 0)
		return 0;
	rc = links_read(&once, &tree, &meta.base, 1, &err);
	must(links_read(&twice, &tree, &meta.base, UINT64_MAX, &err) == rc);
	must(once.count == twice.count);
	for (size_t i = 0; i < once.capacity; i++)
		if (once.files[i].offset) {
			must(once.files[i].offset < size);
			must(once.files[i].names >= 2);
		}
	return 0;
}
