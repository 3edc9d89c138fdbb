/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/listing.h"

#include "client/cmd/text.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void print_text(const char *text)
{
	fputs_unlocked(text, stdout);
}

static void print_json_text(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	putc_unlocked('"', stdout);
	while (*p) {
		const unsigned char *from = p;
		size_t n;

		while (!text_is_control(p) && *p != '"' && *p != '\\' && (n = text_utf8_length(p)) != 0)
			p += n;
		fwrite_unlocked(from, 1, (size_t)(p - from), stdout);
		if (!*p)
			break;
		if (*p == '"' || *p == '\\')
			printf("\\%c", *p);
		else if (text_is_control(p))
			printf("\\u%04x", *p == 0xc2 ? *++p : *p);
		else
			printf("\\udc%02x", *p);
		p++;
	}
	putc_unlocked('"', stdout);
}

void listing_print_name(const struct listing *l, const char *name)
{
	if (l->escapes)
		text_print_escaped(name);
	else
		print_text(name);
}

void listing_init(struct listing *l, enum listing_format format, bool numeric_ids)
{
	*l = (struct listing){ .format = format,
			       .numeric_ids = numeric_ids,
			       .escapes = isatty(STDOUT_FILENO) };
	if (format == LISTING_JSON)
		putc_unlocked('[', stdout);
}

void listing_finish(struct listing *l)
{
	if (l->format == LISTING_JSON)
		print_text(l->count ? "\n]\n" : "]\n");
}

void listing_row_of(const struct tree_entry *e, struct listing_row *out)
{
	*out = (struct listing_row){
		.mode = e->meta.mode,
		.size = e->content_size,
		.device_major = e->device_major,
		.device_minor = e->device_minor,
		.mtime_sec = e->meta.mtime_sec,
		.mtime_nsec = e->meta.mtime_nsec,
		.uid = e->meta.uid,
		.gid = e->meta.gid,
		.has_acl = metadata_has_access_acl(&e->meta) ||
			   metadata_has_default_acl(&e->meta),
		.is_hardlink = e->is_hardlink,
	};
	if ((e->meta.mode & PXAR_MODE_TYPE) == PXAR_MODE_SYMLINK)
		out->size = e->text.size - 1;
}

/* --- the long form --- */

static struct listing_owner *owner_slot(struct listing_owner *cache, uint32_t id)
{
	return &cache[id % LISTING_NAME_CACHE_SIZE];
}

static void owner_fill(struct listing_owner *o, uint32_t id, const char *name)
{
	o->is_known = true;
	o->id = id;
	if (name)
		snprintf(o->name, sizeof(o->name), "%s", name);
	else
		snprintf(o->name, sizeof(o->name), "%" PRIu32, id);
}

static const char *user_name(struct listing *l, uint32_t uid)
{
	struct listing_owner *o = owner_slot(l->users, uid);

	if (!o->is_known || o->id != uid) {
		struct passwd *pw = l->numeric_ids ? NULL : getpwuid(uid);

		owner_fill(o, uid, pw ? pw->pw_name : NULL);
	}
	return o->name;
}

static const char *group_name(struct listing *l, uint32_t gid)
{
	struct listing_owner *o = owner_slot(l->groups, gid);

	if (!o->is_known || o->id != gid) {
		struct group *gr = l->numeric_ids ? NULL : getgrgid(gid);

		owner_fill(o, gid, gr ? gr->gr_name : NULL);
	}
	return o->name;
}

static bool is_device(const struct listing_row *row)
{
	uint64_t type = row->mode & PXAR_MODE_TYPE;

	return type == PXAR_MODE_CHAR || type == PXAR_MODE_BLOCK;
}

static int format_size(const struct listing_row *row, char *out, size_t size)
{
	if (is_device(row))
		return snprintf(out, size, "%" PRIu64 ", %" PRIu64, row->device_major,
				row->device_minor);
	return snprintf(out, size, "%" PRIu64, row->size);
}

static void widen(int *width, int n)
{
	if (n > *width)
		*width = n;
}

void listing_measure(struct listing *l, const struct listing_row *row)
{
	char size[48];

	widen(&l->widths.owner, (int)strlen(user_name(l, row->uid)));
	widen(&l->widths.group, (int)strlen(group_name(l, row->gid)));
	widen(&l->widths.size, format_size(row, size, sizeof(size)));
}

static char type_letter(uint64_t mode)
{
	switch (mode & PXAR_MODE_TYPE) {
	case PXAR_MODE_DIRECTORY:
		return 'd';
	case PXAR_MODE_SYMLINK:
		return 'l';
	case PXAR_MODE_BLOCK:
		return 'b';
	case PXAR_MODE_CHAR:
		return 'c';
	case PXAR_MODE_FIFO:
		return 'p';
	case PXAR_MODE_SOCKET:
		return 's';
	}
	return '-';
}

/* As ls does: "rwsr-x--T". */
static void format_mode(const struct listing_row *row, char out[12])
{
	static const char letters[] = "rwxrwxrwx";

	out[0] = type_letter(row->mode);
	for (unsigned i = 0; i < 9; i++)
		out[1 + i] = row->mode >> (8 - i) & 1 ? letters[i] : '-';
	for (unsigned i = 0; i < 3; i++) { /* setuid, setgid, sticky */
		char *x = &out[3 + 3 * i];

		if (row->mode >> (11 - i) & 1)
			*x = *x == 'x' ? "sst"[i] : "SST"[i];
	}
	out[10] = row->has_acl ? '+' : ' ';
	out[11] = '\0';
}

static void format_time(int64_t seconds, char *out, size_t size)
{
	time_t t = seconds;
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(out, size, "%Y-%m-%d %H:%M", &tm))
		snprintf(out, size, "%" PRId64, seconds);
}

static void print_long(struct listing *l, const struct listing_row *row)
{
	const char *owner = user_name(l, row->uid);
	const char *group = group_name(l, row->gid);
	char mode[12], size[48], when[64];

	format_mode(row, mode);
	format_size(row, size, sizeof(size));
	format_time(row->mtime_sec, when, sizeof(when));
	printf("%s %-*s %-*s %*s %s ", mode, l->widths.owner, owner, l->widths.group, group,
	       l->widths.size, size, when);
}

/* --- JSON --- */

static const char *type_name(uint64_t mode)
{
	switch (mode & PXAR_MODE_TYPE) {
	case PXAR_MODE_DIRECTORY:
		return "directory";
	case PXAR_MODE_SYMLINK:
		return "symlink";
	case PXAR_MODE_BLOCK:
		return "block";
	case PXAR_MODE_CHAR:
		return "char";
	case PXAR_MODE_FIFO:
		return "fifo";
	case PXAR_MODE_SOCKET:
		return "socket";
	}
	return "file";
}

static void print_json(struct listing *l, const struct listing_row *row, const char *path,
		       const char *target)
{
	print_text(l->count ? ",\n{\"path\": " : "\n{\"path\": ");
	print_json_text(path);
	printf(", \"type\": \"%s\", \"mode\": \"%" PRIo64 "\", \"uid\": %" PRIu32
	       ", \"gid\": %" PRIu32 ", \"mtime\": %" PRId64 ", \"mtime_nsec\": %" PRIu32,
	       type_name(row->mode), row->mode, row->uid, row->gid, row->mtime_sec,
	       row->mtime_nsec);
	if ((row->mode & PXAR_MODE_TYPE) == PXAR_MODE_REGULAR)
		printf(", \"size\": %" PRIu64, row->size);
	if (is_device(row))
		printf(", \"rdev\": [%" PRIu64 ", %" PRIu64 "]", row->device_major,
		       row->device_minor);
	if (target) {
		print_text(", \"target\": ");
		print_json_text(target);
	}
	if (row->is_hardlink)
		print_text(", \"hardlink\": true");
	putc_unlocked('}', stdout);
}

void listing_print(struct listing *l, const struct listing_row *row, const char *name,
		   const char *path, const char *target)
{
	if (l->format == LISTING_JSON) {
		print_json(l, row, path, target);
	} else {
		if (l->format == LISTING_LONG)
			print_long(l, row);
		listing_print_name(l, name);
		if (l->format == LISTING_LONG && target) {
			print_text(" -> ");
			listing_print_name(l, target);
		}
		putc_unlocked('\n', stdout);
	}
	l->count++;
}
