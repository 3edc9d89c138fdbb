/* SPDX-License-Identifier: Apache-2.0 */
#define ERR_C /* the functions themselves */
#include "archive/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* glibc's strerrordesc_np() needs no buffer and knows no locale: messages stay greppable. */
static const char *errno_text(int code)
{
	const char *text = strerrordesc_np(code);

	return text ? text : "unknown error";
}

int err_set(struct err *err, int code, const char *format, ...)
{
	va_list ap;

	if (err) {
		va_start(ap, format);
		vsnprintf(err->text, sizeof(err->text), format, ap);
		va_end(ap);
	}
	return -code;
}

int err_sys(struct err *err, int code, const char *format, ...)
{
	va_list ap;
	int n;

	if (!err)
		return -code;
	va_start(ap, format);
	n = vsnprintf(err->text, sizeof(err->text), format, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(err->text))
		snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s",
			 errno_text(code));
	return -code;
}

int err_wrap(struct err *err, int rc, const char *format, ...)
{
	char inner[ERR_TEXT_SIZE];
	va_list ap;
	int n;

	if (!err)
		return rc;
	memcpy(inner, err->text, sizeof(inner));
	va_start(ap, format);
	n = vsnprintf(err->text, sizeof(err->text), format, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(err->text))
		snprintf(err->text + n, sizeof(err->text) - (size_t)n, ": %s",
			 inner[0] ? inner : errno_text(-rc));
	return rc;
}

const char *err_text(const struct err *err, int rc)
{
	return err && err->text[0] ? err->text : errno_text(rc < 0 ? -rc : rc);
}
