/* SPDX-License-Identifier: Apache-2.0 */
/* What a walk of a catalog reports makes a catalog whose walk makes itself. */
#include "archive/catalog.h"
#include "tests/fuzz/must.h"

enum { FILE_SIZE_MAX = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int sink(void *arg, const void *data, size_t size, struct err *err)
{
	(void)err;
	return wbuf_put(arg, data, size);
}

static int rewrite(const uint8_t *data, size_t size, struct wbuf *out, struct err *err)
{
	AUTO(catalog_writer) struct catalog_writer w = { .depth = 0 };
	struct catalog_visitor visitor = { catalog_writer_dir_begin, catalog_writer_dir_end,
					   catalog_writer_entry, &w };
	struct catalog c;
	int rc = catalog_open(&c, data, size, err);

	if (rc < 0)
		return rc;
	must(catalog_writer_init(&w, sink, out, NULL) == 0);
	rc = catalog_walk(&c, c.root, &visitor, err);
	if (rc == 0)
		must(catalog_writer_finish(&w, NULL) == 0);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(wbuf) struct wbuf first = WBUF_INIT(FILE_SIZE_MAX);
	AUTO(wbuf) struct wbuf second = WBUF_INIT(FILE_SIZE_MAX);
	struct err err = ERR_INIT;

	if (rewrite(data, size, &first, &err) < 0) {
		must(err.text[0] != '\0');
		return 0;
	}
	must(rewrite(first.data, first.size, &second, NULL) == 0);
	must(second.size == first.size);
	must(memcmp(second.data, first.data, first.size) == 0);
	return 0;
}
