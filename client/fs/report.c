/* SPDX-License-Identifier: Apache-2.0 */
#include "client/fs/report.h"

#include "client/fs/content.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SHOWN_SIZE_MAX = 600 /* of a path in a message, which must end with the reason */ };

void report_init(struct report *r)
{
	wbuf_init(&r->shown, SIZE_MAX);
	wbuf_init(&r->message, SIZE_MAX);
}

void report_release(struct report *r)
{
	wbuf_release(&r->shown);
	wbuf_release(&r->message);
}

/* The entry as a person would name it; of a long path the end, where the file is. */
static const char *shown(struct report *r, const char *path)
{
	size_t size = strlen(r->source);

	while (size && r->source[size - 1] == '/')
		size--;
	wbuf_clear(&r->shown);
	wbuf_put(&r->shown, r->source, size);
	if (!size && !*path)
		wbuf_put_u8(&r->shown, '/');
	wbuf_put(&r->shown, path, strlen(path) + 1);
	if (r->shown.failed)
		return r->source;
	size = r->shown.size - 1;
	if (size <= SHOWN_SIZE_MAX)
		return (const char *)r->shown.data;
	return memcpy(r->shown.data + size - SHOWN_SIZE_MAX, "...", 3);
}

void report_warn(struct report *r, const char *path, bool lost, const char *format, ...)
{
	char reason[ERR_TEXT_SIZE];
	va_list ap;

	if (lost)
		atomic_fetch_add_explicit(r->lost, 1, memory_order_relaxed);
	if (!r->warn)
		return;
	va_start(ap, format);
	vsnprintf(reason, sizeof(reason), format, ap);
	va_end(ap);
	wbuf_clear(&r->message);
	wbuf_put_text(&r->message, shown(r, path));
	wbuf_put_text(&r->message, ": ");
	wbuf_put(&r->message, reason, strlen(reason) + 1);
	r->warn(r->warn_arg, lost,
		r->message.failed ? reason : (const char *)r->message.data);
}

int report_fatal(struct report *r, const char *path, int rc, struct err *err)
{
	return err_wrap(err, rc, "%s", shown(r, path));
}

int report_unreadable(struct report *r, const char *path, int rc, struct err *err)
{
	switch (-rc) {
	case ENOENT:
		report_warn(r, path, false, "vanished before it could be read");
		return 0;
	case EACCES:
	case EPERM:
	case ESTALE:
	case ENOKEY: /* an encrypted folder that is locked */
	case EBADMSG: /* a malformed ACL */
		report_warn(r, path, true, "left out: %s", err_text(err, rc));
		return 0;
	case ECANCELED:
		return rc;
	default:
		if (!r->skip_damage || !content_is_damage(-rc))
			return report_fatal(r, path, rc, err);
		report_warn(r, path, true, "left out: %s", err_text(err, rc));
		return 0;
	}
}
