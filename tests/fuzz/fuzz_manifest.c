/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest that decodes is encoded to text that decodes and encodes to itself. */
#include "archive/manifest.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(manifest) struct manifest *m = NULL;
	AUTO(manifest) struct manifest *again = NULL;
	AUTO(wbuf) struct wbuf text = WBUF_INIT(8 * MANIFEST_SIZE_MAX);
	AUTO(wbuf) struct wbuf second = WBUF_INIT(8 * MANIFEST_SIZE_MAX);
	struct err err = ERR_INIT;

	if (manifest_decode(data, size, &m, &err) < 0) {
		must(err.text[0] != '\0' && !m);
		return 0;
	}
	for (size_t i = 0; i < m->file_count; i++) {
		must(!strchr(m->files[i].name, '/') && m->files[i].name[0] != '.');
		must(manifest_find(m, m->files[i].name) == &m->files[i]);
	}
	must(manifest_encode(m, &text, NULL) == 0);
	must(manifest_decode(text.data, text.size, &again, NULL) == 0);
	must(manifest_encode(again, &second, NULL) == 0);
	must(second.size == text.size && memcmp(second.data, text.data, text.size) == 0);
	return 0;
}
