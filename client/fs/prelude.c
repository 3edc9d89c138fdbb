/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/prelude.h"

#include "archive/json_text.h"

#include <string.h>

static void put_escaped(struct wbuf *out, unsigned char c)
{
	static const char plain[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
	const char *short_form = c ? strchr(plain, c) : NULL;

	if (short_form)
		wbuf_printf(out, "\\%c", letters[short_form - plain]);
	else if (c < 0x20)
		wbuf_printf(out, "\\u%04x", c);
	else
		wbuf_put_u8(out, c);
}

int prelude_encode(const struct match_list *patterns, struct wbuf *out, struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(out->size_max);
	AUTO(json) json_t *checked = NULL;

	if (match_list_text(patterns, &text) < 0)
		return err_sys(err, -text.failed, "exclude patterns");
	checked = json_stringn((const char *)text.data, text.size);
	if (!checked)
		return err_set(err, EINVAL, "an exclude pattern is not UTF-8, which a split"
					    " archive cannot record");
	/* Escapes to the byte as the official client writes them, which jansson does not. */
	wbuf_put_text(out, "{\"exclude-patterns\":\"");
	for (size_t i = 0; i < text.size; i++)
		put_escaped(out, text.data[i]);
	wbuf_put_text(out, "\"}");
	return out->failed ? err_sys(err, -out->failed, "exclude patterns") : 0;
}
