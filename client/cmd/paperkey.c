/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/paperkey.h"

#include "archive/keyfile.h"

#include <openssl/evp.h>
#include <qrencode.h>
#include <stdio.h>
#include <string.h>

enum {
	PEM_LINE_COUNT_MIN = 20,
	PEM_LINE_COUNT_MAX = 200,
	PEM_BLOCK_TEXT = 5, /* lines to a QR code */
	PEM_BLOCK_HTML = 20,
	QR_PIXEL = 4, /* of a module in the SVG */
};

/* Lines of the key as they are printed; they point into the text, which was cut up. */
struct lines {
	char *items[PEM_LINE_COUNT_MAX];
	size_t count;
};

static void qrcode_cleanup(QRcode **code)
{
	QRcode_free(*code);
}

static bool is_dark(const QRcode *code, int x, int y)
{
	return y < code->width && (code->data[y * code->width + x] & 1);
}

/* Two rows of modules to a line of half blocks, dark on light paper. */
static void put_qr_text(const QRcode *code, struct wbuf *out)
{
	static const char *const blocks[2][2] = { { " ", "\u2584" }, { "\u2580", "\u2588" } };

	for (int y = 0; y < code->width; y += 2) {
		for (int x = 0; x < code->width; x++)
			wbuf_put_text(out, blocks[is_dark(code, x, y)][is_dark(code, x, y + 1)]);
		wbuf_put_u8(out, '\n');
	}
}

static void put_svg(const QRcode *code, struct wbuf *out)
{
	int size = code->width * QR_PIXEL;

	wbuf_printf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
			 "viewBox=\"0 0 %d %d\" shape-rendering=\"crispEdges\">"
			 "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/><path d=\"",
		    size, size, code->width, code->width);
	for (int y = 0; y < code->width; y++)
		for (int x = 0; x < code->width; x++)
			if (is_dark(code, x, y))
				wbuf_printf(out, "M%d %dh1v1h-1z", x, y);
	wbuf_put_text(out, "\"/></svg>");
}

/* As an image with a data URI, so that the page is one file. */
static int put_qr_html(const QRcode *code, struct wbuf *out)
{
	AUTO(wbuf) struct wbuf svg = WBUF_INIT(4 << 20);
	uint8_t *to;

	put_svg(code, &svg);
	if (svg.failed)
		return svg.failed;
	wbuf_put_text(out, "<center><img class=\"qr\" alt=\"QR code\" "
			   "src=\"data:image/svg+xml;base64,");
	to = wbuf_reserve(out, svg.size / 3 * 4 + 8);
	if (!to)
		return out->failed;
	out->size += (size_t)EVP_EncodeBlock(to, svg.data, (int)svg.size);
	return wbuf_put_text(out, "\"></center>\n");
}

static int put_qr(const char *text, bool html, struct wbuf *out, struct err *err)
{
	AUTO(qrcode) QRcode *code = QRcode_encodeString(text, 0, QR_ECLEVEL_M, QR_MODE_8, 1);

	if (!code)
		return err_sys(err, errno, "cannot make a QR code");
	if (html)
		put_qr_html(code, out);
	else
		put_qr_text(code, out);
	return out->failed;
}

static void put_escaped(const char *text, bool html, struct wbuf *out)
{
	for (; *text; text++) {
		if (html && *text == '<')
			wbuf_put_text(out, "&lt;");
		else if (html && *text == '&')
			wbuf_put_text(out, "&amp;");
		else
			wbuf_put_u8(out, (uint8_t)*text);
	}
}

static void put_head(const char *subject, bool html, struct wbuf *out)
{
	if (html)
		wbuf_put_text(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n"
				   "<meta charset=\"utf-8\">\n<title>Proxmox Backup Paperkey</title>\n"
				   "<style>\n p { font-size: 12pt; font-family: monospace;"
				   " white-space: pre-wrap; line-break: anywhere; }\n"
				   " img.qr { width: 100%; max-width: 14cm; }\n"
				   " .block { page-break-after: always; }\n</style>\n</head>\n<body>\n");
	if (!subject)
		return;
	wbuf_put_text(out, html ? "<p>Subject: " : "Subject: ");
	put_escaped(subject, html, out);
	wbuf_put_text(out, html ? "</p>\n" : "\n\n");
}

/* --- a key file --- */

static int put_key_file(const struct keyfile *k, const char *subject, bool html,
			struct wbuf *out, struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	int rc = keyfile_encode(k, true, &text, err);

	if (rc == 0)
		rc = wbuf_put_u8(&text, 0);
	if (rc < 0)
		return rc;
	put_head(subject, html, out);
	wbuf_put_text(out, html ? "<p>" : "");
	wbuf_put_text(out, "-----BEGIN PROXMOX BACKUP KEY-----\n");
	put_escaped((const char *)text.data, html, out);
	wbuf_put_text(out, "\n-----END PROXMOX BACKUP KEY-----");
	wbuf_put_text(out, html ? "</p>\n" : "\n");
	rc = put_qr((const char *)text.data, html, out, err);
	wbuf_put_text(out, html ? "</body>\n</html>\n" : "\n");
	return rc;
}

/* --- a private key in PEM form --- */

static bool is_private_pem(const char *text)
{
	static const char *const heads[] = { "-----BEGIN ENCRYPTED PRIVATE KEY-----",
					     "-----BEGIN RSA PRIVATE KEY-----" };

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		if (strncmp(text, heads[i], strlen(heads[i])) == 0)
			return true;
	return false;
}

/* Blanks at the ends of lines and empty lines are dropped. */
static int cut_lines(char *text, struct lines *out, struct err *err)
{
	char *rest = NULL;

	out->count = 0;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		size_t n = strlen(line);

		while (n && strchr(" \t\r", line[n - 1]))
			line[--n] = '\0';
		if (!n)
			continue;
		if (out->count == PEM_LINE_COUNT_MAX)
			return err_set(err, EBADMSG, "private key: more than %d lines",
				       PEM_LINE_COUNT_MAX);
		out->items[out->count++] = line;
	}
	if (out->count < PEM_LINE_COUNT_MIN)
		return err_set(err, EBADMSG, "private key: only %zu lines", out->count);
	return 0;
}

static int put_block(const struct lines *lines, size_t begin, size_t end, bool html,
		     struct wbuf *out, struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf code = WBUF_INIT(KEYFILE_SIZE_MAX);
	int rc;

	wbuf_put_text(out, html ? "<div class=\"block\">\n<p>" : "");
	for (size_t i = begin; i < end; i++) {
		wbuf_printf(out, html ? "%02zu: " : "%2zu: ", i);
		put_escaped(lines->items[i], html, out);
		wbuf_put_u8(out, '\n');
		wbuf_printf(&code, "%s%s", i > begin ? "\n" : "", lines->items[i]);
	}
	wbuf_put_text(out, html ? "</p>\n" : "");
	wbuf_put_u8(&code, 0);
	rc = code.failed ? code.failed : put_qr((const char *)code.data, html, out, err);
	wbuf_put_text(out, html ? "</div>\n" : "\n\f\n");
	return rc;
}

static int put_pem(char *text, const char *subject, bool html, struct wbuf *out,
		   struct err *err)
{
	size_t step = html ? PEM_BLOCK_HTML : PEM_BLOCK_TEXT;
	struct lines lines;
	int rc = cut_lines(text, &lines, err);

	if (rc < 0)
		return rc;
	put_head(subject, html, out);
	for (size_t i = 0; rc == 0 && i < lines.count; i += step) {
		size_t end = i + step < lines.count ? i + step : lines.count;

		rc = put_block(&lines, i, end, html, out, err);
	}
	wbuf_put_text(out, html ? "</body>\n</html>\n" : "");
	return rc;
}

int paperkey_make(const void *key, size_t size, const char *subject, bool html,
		  struct wbuf *out, struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	struct keyfile k;
	int rc;

	if (wbuf_put(&text, key, size) < 0 || wbuf_put_u8(&text, 0) < 0)
		return err_set(err, EBADMSG, "too large for a key");
	if (is_private_pem((const char *)text.data)) {
		rc = put_pem((char *)text.data, subject, html, out, err);
	} else {
		rc = keyfile_decode(text.data, size, &k, err);
		if (rc == 0) {
			rc = put_key_file(&k, subject, html, out, err);
			keyfile_wipe(&k);
		}
	}
	if (rc == 0 && out->failed)
		return err_sys(err, -out->failed, "paper key");
	return rc;
}
