/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/mount_opts.h"

#include "fuse/loop.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum word_kind {
	WORD_IGNORED, /* no effect on a file system that is never written */
	WORD_REMOUNT, /* refused, with a reason */
	WORD_IGNORED_VALUE, /* the same, "name=anything" */
	WORD_FLAG, /* sets the bool at `field` to `value` */
	WORD_SIZE, /* bytes, with K, M, G or T; at least 1M */
	WORD_SIZE_OR_NONE, /* any number of bytes, 0 too */
	WORD_SECONDS, /* kept as milliseconds */
	WORD_READERS,
	WORD_PUSH, /* a number, or "off" */
	WORD_PATH,
	WORD_USER, /* a name or a number */
	WORD_GROUP,
	WORD_UMASK, /* octal */
	WORD_PATH_ABSOLUTE, /* made so: the process that serves works elsewhere */
};

enum { ID_NAME_SIZE_MAX = 256 };
#define ID_MAX UINT32_MAX /* which is nobody */

struct word {
	const char *name;
	enum word_kind kind;
	size_t field;
	bool value;
};

#define FIELD(name) offsetof(struct mount_opts, name)

static const struct word words[] = {
	{ "dev", WORD_FLAG, FIELD(dev), true },
	{ "nodev", WORD_FLAG, FIELD(dev), false },
	{ "suid", WORD_FLAG, FIELD(suid), true },
	{ "nosuid", WORD_FLAG, FIELD(suid), false },
	{ "noexec", WORD_FLAG, FIELD(noexec), true },
	{ "exec", WORD_FLAG, FIELD(noexec), false },
	{ "allow_other", WORD_FLAG, FIELD(allow_other), true },
	{ "noallow_other", WORD_FLAG, FIELD(allow_other), false },
	{ "export", WORD_FLAG, FIELD(exported), true },
	{ "noexport", WORD_FLAG, FIELD(exported), false },
	{ "idle_poll", WORD_FLAG, FIELD(idle_poll), true },
	{ "noidle_poll", WORD_FLAG, FIELD(idle_poll), false },
	{ "cache", WORD_SIZE, FIELD(cache_bytes), false },
	{ "cache_dir", WORD_PATH_ABSOLUTE, FIELD(cache_dir), false },
	{ "cache_dir_size", WORD_SIZE, FIELD(cache_dir_bytes), false },
	{ "metrics", WORD_PATH_ABSOLUTE, FIELD(metrics), false },
	{ "readahead", WORD_SIZE_OR_NONE, FIELD(readahead_bytes), false },
	{ "timeout", WORD_SECONDS, FIELD(timeout_ms), false },
	{ "refresh", WORD_SECONDS, FIELD(refresh_ms), false },
	{ "readers", WORD_READERS, FIELD(reader_count), false },
	{ "push", WORD_PUSH, FIELD(push_max), false },
	{ "uid", WORD_USER, 0, false },
	{ "gid", WORD_GROUP, 0, false },
	{ "umask", WORD_UMASK, 0, false },
	{ "keyfile", WORD_PATH, FIELD(keyfile), false },

	/* always so */
	{ .name = "ro" },
	{ .name = "default_permissions" },

	/* mount(8) says "rw" whenever fstab does not say "ro"; the mount is read-only all the
	 * same, as with every file system that cannot be written */
	{ .name = "rw" },
	{ .name = "async" },
	{ .name = "sync" },
	{ .name = "dirsync" },
	{ .name = "atime" },
	{ .name = "noatime" },
	{ .name = "diratime" },
	{ .name = "nodiratime" },
	{ .name = "relatime" },
	{ .name = "norelatime" },
	{ .name = "strictatime" },
	{ .name = "nostrictatime" },
	{ .name = "lazytime" },
	{ .name = "nolazytime" },
	{ .name = "mand" },
	{ .name = "nomand" },
	{ .name = "iversion" },
	{ .name = "noiversion" },
	{ .name = "silent" },
	{ .name = "loud" },

	/* for mount(8), systemd and their like */
	{ .name = "defaults" },
	{ .name = "auto" },
	{ .name = "noauto" },
	{ .name = "nofail" },
	{ .name = "_netdev" },
	{ .name = "user" },
	{ .name = "nouser" },
	{ .name = "users" },
	{ .name = "owner" },
	{ .name = "group" },
	{ .name = "user", .kind = WORD_IGNORED_VALUE },
	{ .name = "comment", .kind = WORD_IGNORED_VALUE },
	{ .name = "helper", .kind = WORD_IGNORED_VALUE },
	{ .name = "uhelper", .kind = WORD_IGNORED_VALUE },

	/* what only the kernel could do, and does not for FUSE */
	{ .name = "remount", .kind = WORD_REMOUNT },
};

void mount_opts_init(struct mount_opts *o, bool is_root)
{
	*o = (struct mount_opts){
		.allow_other = is_root,
		.cache_bytes = MOUNT_OPTS_CACHE_BYTES,
		.readahead_bytes = MOUNT_OPTS_READAHEAD_BYTES,
		.timeout_ms = MOUNT_OPTS_TIMEOUT_SECONDS * 1000,
		.refresh_ms = MOUNT_OPTS_REFRESH_SECONDS * 1000,
		.reader_count = MOUNT_OPTS_READERS,
		.push_max = MOUNT_OPTS_PUSH,
		.idle_poll = true,
	};
}

/* A decimal number at `text`, all of it up to `end`; -EINVAL when it is none or too large. */
static int parse_number(const char *text, const char *end, uint64_t *out)
{
	uint64_t n = 0;

	if (text == end)
		return -EINVAL;
	for (; text < end; text++) {
		if (*text < '0' || *text > '9' || n > UINT64_MAX / 10 - 1)
			return -EINVAL;
		n = n * 10 + (uint64_t)(*text - '0');
	}
	*out = n;
	return 0;
}

/* 268435456, 262144K, 256M, 1G; the letter in either case, "iB" or "B" behind it allowed. */
static int parse_size(const char *text, size_t length, size_t *out)
{
	static const char units[] = "KMGT";
	const char *end = text + length;
	unsigned shift = 0;
	const char *unit;
	uint64_t n;

	if (end - text > 1 && end[-1] == 'B')
		end--;
	if (end - text > 2 && end[-1] == 'i' && isalpha((unsigned char)end[-2]))
		end--;
	unit = end > text ? strchr(units, end[-1] & ~0x20) : NULL;
	if (unit && *unit) {
		shift = 10 * (unsigned)(unit - units + 1);
		end--;
	}
	if (parse_number(text, end, &n) < 0 || n > SIZE_MAX >> shift)
		return -EINVAL;
	*out = (size_t)n << shift;
	return 0;
}

static int take_size(size_t *field, const char *value, size_t length, size_t min,
		     struct err *err)
{
	size_t bytes;

	if (parse_size(value, length, &bytes) < 0)
		return err_set(err, EINVAL, "'%.*s' is not a size (like 256M)", (int)length, value);
	if (bytes < min)
		return err_set(err, EINVAL, "less than 1M is too small");
	*field = bytes;
	return 0;
}

static int take_number(unsigned *field, const char *value, size_t length, unsigned scale,
		       unsigned max, struct err *err)
{
	uint64_t n;

	if (parse_number(value, value + length, &n) < 0 || n < 1 || n > max)
		return err_set(err, EINVAL, "'%.*s' is not a number from 1 to %u", (int)length,
			       value, max);
	*field = (unsigned)n * scale;
	return 0;
}

static int take_push(unsigned *field, const char *value, size_t length, struct err *err)
{
	if (length != 3 || memcmp(value, "off", 3) != 0)
		return take_number(field, value, length, 1, MOUNT_OPTS_PUSH_MAX, err);
	*field = 0;
	return 0;
}

static int take_path(char *field, const char *value, size_t length, struct err *err)
{
	if (length == 0 || length >= PATH_MAX)
		return err_set(err, EINVAL, "not a path");
	memcpy(field, value, length);
	field[length] = '\0';
	return 0;
}

static int take_path_absolute(char *field, const char *value, size_t length, struct err *err)
{
	char path[PATH_MAX] = "", folder[PATH_MAX];
	int rc = take_path(path, value, length, err);

	if (rc)
		return rc;
	if (path[0] == '/')
		folder[0] = '\0';
	else if (!getcwd(folder, sizeof(folder)))
		return err_sys(err, EINVAL, "current directory");
	if ((size_t)snprintf(field, PATH_MAX, "%s%s%s", folder, folder[0] ? "/" : "", path) >=
	    PATH_MAX)
		return err_set(err, EINVAL, "the path is too long");
	return 0;
}

/* A number that stands for itself, or a name that somebody else looks up. */
static int parse_id(const char *value, size_t length, bool look_up(const char *name, unsigned *id),
		    unsigned *out)
{
	char name[ID_NAME_SIZE_MAX];
	uint64_t n;

	if (parse_number(value, value + length, &n) == 0 && n < ID_MAX) {
		*out = (unsigned)n;
		return 0;
	}
	if (length == 0 || length >= sizeof(name))
		return -EINVAL;
	memcpy(name, value, length);
	name[length] = '\0';
	return look_up(name, out) ? 0 : -EINVAL;
}

static bool look_up_user(const char *name, unsigned *id)
{
	const struct passwd *p = getpwnam(name);

	if (p)
		*id = p->pw_uid;
	return p != NULL;
}

static bool look_up_group(const char *name, unsigned *id)
{
	const struct group *g = getgrnam(name);

	if (g)
		*id = g->gr_gid;
	return g != NULL;
}

static int take_user(struct guise *g, const char *value, size_t length, struct err *err)
{
	if (parse_id(value, length, look_up_user, &g->uid) < 0)
		return err_set(err, EINVAL, "'%.*s' is no user", (int)length, value);
	g->has_uid = true;
	return 0;
}

static int take_group(struct guise *g, const char *value, size_t length, struct err *err)
{
	if (parse_id(value, length, look_up_group, &g->gid) < 0)
		return err_set(err, EINVAL, "'%.*s' is no group", (int)length, value);
	g->has_gid = true;
	return 0;
}

static int take_umask(struct guise *g, const char *value, size_t length, struct err *err)
{
	unsigned mask = 0;
	size_t i = 0;

	while (i < length && value[i] >= '0' && value[i] <= '7' && mask <= 0777)
		mask = mask * 8 + (unsigned)(value[i++] - '0');
	if (i == 0 || i < length || mask > 0777)
		return err_set(err, EINVAL, "'%.*s' is not an octal number up to 0777", (int)length,
			       value);
	g->umask = mask;
	g->has_umask = true;
	return 0;
}

static int take_word(struct mount_opts *o, const struct word *w, const char *value,
		     size_t length, struct err *err)
{
	void *field = (char *)o + w->field;

	switch (w->kind) {
	case WORD_REMOUNT:
		return err_set(err, EINVAL, "unmount it and mount it again");
	case WORD_FLAG:
		*(bool *)field = w->value;
		return 0;
	case WORD_SIZE:
		return take_size(field, value, length, MOUNT_OPTS_CACHE_BYTES_MIN, err);
	case WORD_SIZE_OR_NONE:
		return take_size(field, value, length, 0, err);
	case WORD_SECONDS:
		return take_number(field, value, length, 1000, MOUNT_OPTS_TIMEOUT_SECONDS_MAX, err);
	case WORD_READERS:
		return take_number(field, value, length, 1, LOOP_READERS_MAX, err);
	case WORD_PUSH:
		return take_push(field, value, length, err);
	case WORD_PATH:
		return take_path(field, value, length, err);
	case WORD_USER:
		return take_user(&o->guise, value, length, err);
	case WORD_GROUP:
		return take_group(&o->guise, value, length, err);
	case WORD_UMASK:
		return take_umask(&o->guise, value, length, err);
	case WORD_PATH_ABSOLUTE:
		return take_path_absolute(field, value, length, err);
	default:
		return 0;
	}
}

static bool has_value(const struct word *w)
{
	return w->kind != WORD_IGNORED && w->kind != WORD_FLAG && w->kind != WORD_REMOUNT;
}

static const struct word *find_word(const char *name, size_t length, bool value)
{
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i].name) == length && memcmp(words[i].name, name, length) == 0 &&
		    has_value(&words[i]) == value)
			return &words[i];
	return NULL;
}

static int parse_word(struct mount_opts *o, const char *text, size_t length, struct err *err)
{
	const char *equals = memchr(text, '=', length);
	size_t name_length = equals ? (size_t)(equals - text) : length;
	const struct word *w = find_word(text, name_length, equals != NULL);
	int rc;

	if (length == 0 || (length > 2 && (memcmp(text, "x-", 2) == 0 || memcmp(text, "X-", 2) == 0)))
		return 0;
	if (!w && find_word(text, name_length, !equals))
		return err_set(err, EINVAL, "mount option '%.*s' %s", (int)name_length, text,
			       equals ? "takes no value" : "needs a value");
	if (!w && o->sloppy)
		return 0;
	if (!w)
		return err_set(err, EINVAL, "unknown mount option '%.*s'", (int)length, text);
	rc = take_word(o, w, equals ? equals + 1 : "",
		       equals ? length - name_length - 1 : 0, err);
	return rc < 0 ? err_wrap(err, rc, "mount option '%.*s'", (int)name_length, text) : 0;
}

int mount_opts_parse(struct mount_opts *o, const char *text, struct err *err)
{
	for (;;) {
		size_t length = strcspn(text, ",");
		int rc = parse_word(o, text, length, err);

		if (rc < 0)
			return rc;
		text += length;
		if (*text == '\0')
			return 0;
		text++;
	}
}

int mount_opts_check(struct mount_opts *o, struct err *err)
{
	if (o->cache_dir_bytes && !o->cache_dir[0])
		return err_set(err, EINVAL, "mount option 'cache_dir_size' needs 'cache_dir'");
	if (!o->cache_dir_bytes)
		o->cache_dir_bytes = MOUNT_OPTS_CACHE_DIR_BYTES;
	return 0;
}

/* libfuse splits at commas and takes a backslash for an escape. */
static void put_escaped(struct wbuf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == ',' || *text == '\\')
			wbuf_put_u8(out, '\\');
		wbuf_put_u8(out, (uint8_t)*text);
	}
}

int mount_opts_kernel(const struct mount_opts *o, const char *source, const char *subtype,
		      struct wbuf *out)
{
	wbuf_put_text(out, "ro,default_permissions");
	wbuf_put_text(out, o->suid ? ",suid" : ",nosuid");
	wbuf_put_text(out, o->dev ? ",dev" : ",nodev");
	if (o->noexec)
		wbuf_put_text(out, ",noexec");
	if (o->allow_other)
		wbuf_put_text(out, ",allow_other");
	wbuf_put_text(out, ",subtype=");
	put_escaped(out, subtype);
	wbuf_put_text(out, ",fsname=");
	put_escaped(out, source);
	return wbuf_put_u8(out, 0);
}
