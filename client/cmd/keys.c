/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/keys.h"

#include "archive/master_key.h"
#include "client/base/secret.h"
#include "client/base/xdg.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { PEM_SIZE_MAX = 64 << 10, KEYS_NAME_SIZE = 64 };

/* All room at once: a buffer that is moved when it grows leaves a key behind. */
static int read_fd(int fd, const char *name, struct wbuf *out, struct err *err)
{
	size_t room = out->size_max - out->size;
	uint8_t *to = wbuf_reserve(out, room);

	secret_guard_process();
	if (!to)
		return err_set(err, ENOMEM, "%s: out of memory", name);
	for (size_t used = 0; used < room;) {
		ssize_t n = read(fd, to + used, room - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s", name);
		if (n == 0)
			return 0;
		used += (size_t)n;
		out->size += (size_t)n;
	}
	return err_set(err, E2BIG, "%s: too large for a key", name);
}

int keys_read_file(const char *path, struct wbuf *out, struct err *err)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NonNullParamChecker): it does not know asprintf */
	AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	return read_fd(fd, path, out, err);
}

static int read_numbered_fd(const char *number, const char *option, struct wbuf *out,
			    struct err *err)
{
	int fd = secret_parse_fd(number, option, err);
	int rc = fd < 0 ? fd : read_fd(fd, option, out, err);

	secret_close_fd(fd);
	return rc;
}

/* --- default places --- */

/* 1: it is not there.  What cannot be looked at, or is a link to nowhere, is not taken for missing:
 * a backup would be made without the key. */
static int look_for(const char *folder, const char *name, char **out, struct err *err)
{
	AUTO(free) char *path = NULL;
	struct stat st;

	if (asprintf(&path, "%s/%s", folder, name) < 0) {
		path = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	if (lstat(path, &st) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 1 : err_sys(err, errno, "%s", path);
	*out = steal(&path);
	return 0;
}

static int find_default(const char *name, char **out, struct err *err)
{
	const char *dirs = getenv("XDG_CONFIG_DIRS");
	AUTO(free) char *folder = xdg_config_folder();
	AUTO(free) char *list = strdup(dirs && dirs[0] ? dirs : "/etc/xdg");
	char below[KEYS_NAME_SIZE], *rest = NULL;
	int rc = folder ? look_for(folder, name, out, err) : 1;

	if (!list)
		return err_set(err, ENOMEM, "out of memory");
	snprintf(below, sizeof(below), "proxmox-backup/%s", name);
	for (char *dir = strtok_r(list, ":", &rest); dir && rc == 1;
	     dir = strtok_r(NULL, ":", &rest))
		if (dir[0] == '/')
			rc = look_for(dir, below, out, err);
	return rc;
}

int keys_find_default(const char *name, char **out, struct err *err)
{
	AUTO(free) char *folder = xdg_config_folder();
	int rc = find_default(name, out, err);

	if (rc == 1)
		return err_set(err, ENOENT, "there is no %s in %s or below $XDG_CONFIG_DIRS", name,
			       folder ? folder : "$XDG_CONFIG_HOME/proxmox-backup");
	return rc;
}

int keys_default_path(const char *name, char **out, struct err *err)
{
	return xdg_config_path(name, out, err);
}

/* --- keys --- */

int keys_load_file(const char *path, struct keyfile *out, struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	int rc = keys_read_file(path, &text, err);

	if (rc == 0) {
		rc = keyfile_decode(text.data, text.size, out, err);
		if (rc < 0)
			err_wrap(err, rc, "%s", path);
	}
	return rc;
}

int keys_open(const struct keyfile *k, struct crypt_key **out, struct err *err)
{
	AUTO(secret) struct secret passphrase = { .size = 0 };
	int rc = 0;

	if (k->kdf != KEYFILE_KDF_NONE)
		rc = secret_encryption_password(&passphrase, err);
	if (rc < 0)
		return rc;
	return keyfile_open(k, passphrase.bytes, passphrase.size, out, err);
}

/* Open text from `name`; `created` may be NULL. */
static int open_text(const struct wbuf *text, const char *name, struct crypt_key **out,
		     char *created, struct err *err)
{
	struct keyfile k;
	int rc = keyfile_decode(text->data, text->size, &k, err);

	if (rc == 0)
		rc = keys_open(&k, out, err);
	if (rc == 0 && created)
		keys_keep_time(k.created, created);
	keyfile_wipe(&k);
	return rc < 0 ? err_wrap(err, rc, "%s", name) : 0;
}

static int open_path(const char *path, struct crypt_key **out, char *created, struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	int rc = keys_read_file(path, &text, err);

	return rc < 0 ? rc : open_text(&text, path, out, created, err);
}

static int open_given(const struct keys_options *o, struct crypt_key **out, char *created,
		      struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	int rc;

	*out = NULL;
	if (o->keyfile)
		return open_path(o->keyfile, out, created, err);
	if (!o->keyfd)
		return 0;
	rc = read_numbered_fd(o->keyfd, "--keyfd", &text, err);
	return rc < 0 ? rc : open_text(&text, "--keyfd", out, created, err);
}

int keys_given(const struct keys_options *o, struct crypt_key **out, struct err *err)
{
	int rc = keys_check(o, err);

	return rc < 0 ? rc : open_given(o, out, NULL, err);
}

static int open_default(struct crypt_key **out, char *created, struct err *err)
{
	AUTO(free) char *path = NULL;
	int rc = find_default(KEYS_DEFAULT_KEY, &path, err);

	return rc ? rc : open_path(path, out, created, err);
}

int keys_default(struct crypt_key **out, struct err *err)
{
	return open_default(out, NULL, err);
}

int keys_open_archive(struct archive **out, struct fetch *fetch, struct repo_reader *reader,
		      struct crypt_key **key, const char *typed, struct err *err)
{
	int rc = archive_open(out, fetch, reader, *key, typed, err);
	struct err why = ERR_INIT;
	int found;

	if (rc != -ENOKEY || *key)
		return rc;
	found = keys_default(key, &why);
	if (found == 1) {
		why = *err;
		return err_set(err, ENOKEY, "%s; give it with --keyfile", why.text);
	}
	if (found < 0) {
		*err = why;
		return found;
	}
	return archive_open(out, fetch, reader, *key, typed, err);
}

/* --- what a backup does --- */

void keys_choice_release(struct keys_choice *c)
{
	crypt_key_free(c->key);
	wbuf_release(&c->master_pem);
	c->key = NULL;
}

static int parse_mode(const char *text, enum crypt_mode *out, struct err *err)
{
	if (crypt_mode_parse(text, out) == 0)
		return 0;
	return err_set(err, EINVAL, "--crypt-mode: '%s' is neither encrypt, sign-only nor none",
		       text);
}

/* The given master key beats the default one, and there may be none.  An empty file is a bad one. */
static int load_master(const struct keys_options *o, struct wbuf *pem, struct err *err)
{
	const char *from = o->master_pubkey_fd ? "--master-pubkey-fd" : o->master_pubkey_file;
	AUTO(free) char *path = NULL;
	int rc = from ? 0 : find_default(KEYS_DEFAULT_MASTER, &path, err);

	if (rc)
		return rc < 0 ? rc : 0;
	if (!from)
		from = path;
	rc = o->master_pubkey_fd ? read_numbered_fd(o->master_pubkey_fd, from, pem, err) :
				   keys_read_file(from, pem, err);
	if (rc < 0)
		return rc;
	rc = master_key_check(pem->data, pem->size, err);
	return rc < 0 ? err_wrap(err, rc, "%s", from) : 0;
}

static bool master_given(const struct keys_options *o)
{
	return o->master_pubkey_file || o->master_pubkey_fd;
}

int keys_check(const struct keys_options *o, struct err *err)
{
	enum crypt_mode mode = CRYPT_MODE_ENCRYPT;
	int rc = o->crypt_mode ? parse_mode(o->crypt_mode, &mode, err) : 0;

	if (rc < 0)
		return rc;
	if ((o->keyfd && secret_parse_fd(o->keyfd, "--keyfd", err) < 0) ||
	    (o->master_pubkey_fd &&
	     secret_parse_fd(o->master_pubkey_fd, "--master-pubkey-fd", err) < 0))
		return -EINVAL;
	if (o->keyfile && o->keyfd)
		return err_set(err, EINVAL, "--keyfile and --keyfd exclude each other");
	if (o->master_pubkey_file && o->master_pubkey_fd)
		return err_set(err, EINVAL,
			       "--master-pubkey-file and --master-pubkey-fd exclude each other");
	if (mode == CRYPT_MODE_NONE && (o->keyfile || o->keyfd))
		return err_set(err, EINVAL, "--crypt-mode none and a key exclude each other");
	if (mode == CRYPT_MODE_NONE && master_given(o))
		return err_set(err, EINVAL,
			       "--crypt-mode none and a master key exclude each other");
	return 0;
}

static int choose(const struct keys_options *o, struct keys_choice *c, struct err *err)
{
	int rc = open_given(o, &c->key, c->created, err);

	if (rc < 0)
		return rc;
	if (!c->key)
		rc = open_default(&c->key, c->created, err);
	if (rc < 0)
		return rc;
	if (!c->key && o->crypt_mode)
		return err_set(err, ENOKEY, "--crypt-mode %s: no key given, and there is no "
			       "default key", o->crypt_mode);
	if (!c->key && master_given(o))
		return err_set(err, ENOKEY, "a master key without a key to encrypt with");
	if (!c->key)
		c->mode = CRYPT_MODE_NONE;
	return 0;
}

static int decide(const struct keys_options *o, bool with_master, struct keys_choice *out,
		  struct err *err)
{
	AUTO(keys_choice) struct keys_choice c = { .mode = CRYPT_MODE_ENCRYPT,
						   .master_pem = WBUF_INIT(PEM_SIZE_MAX) };
	int rc = keys_check(o, err);

	if (rc == 0 && o->crypt_mode)
		rc = parse_mode(o->crypt_mode, &c.mode, err);
	if (rc == 0 && c.mode != CRYPT_MODE_NONE)
		rc = choose(o, &c, err);
	if (rc == 0 && c.key && with_master)
		rc = load_master(o, &c.master_pem, err);
	if (rc < 0)
		return rc;
	*out = c;
	c = (struct keys_choice){ .key = NULL };
	return 0;
}

int keys_for_backup(const struct keys_options *o, struct keys_choice *out, struct err *err)
{
	return decide(o, true, out, err);
}

int keys_for_blob(const struct keys_options *o, struct keys_choice *out, struct err *err)
{
	return decide(o, false, out, err);
}

/* "2026-11-22T16:55:39+00:00", local time. */
static void put_time(time_t when, char out[KEYFILE_TIME_SIZE])
{
	char zone[8];
	struct tm tm;
	size_t n;

	localtime_r(&when, &tm);
	n = strftime(out, KEYFILE_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%z", &tm); /* "+0100": RFC 3339 wants a colon */
	snprintf(out + n, KEYFILE_TIME_SIZE - n, "%.3s:%.2s", zone, zone + 3);
}

void keys_now(char out[KEYFILE_TIME_SIZE])
{
	put_time(time(NULL), out);
}

int keys_parse_time(const char *text, int64_t *epoch)
{
	struct tm tm = { .tm_gmtoff = 0 };
	long offset;
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);

	if (rest && *rest == '.') /* fractions, which others may write */
		rest += 1 + strspn(rest + 1, "0123456789");
	if (rest && strcmp(rest, "Z") != 0)
		rest = strptime(rest, "%z", &tm);
	else if (rest)
		rest += 1;
	if (!rest || *rest)
		return -EBADMSG;
	offset = tm.tm_gmtoff; /* which timegm() resets */
	*epoch = timegm(&tm) - offset;
	return 0;
}

void keys_keep_time(const char *found, char out[KEYFILE_TIME_SIZE])
{
	const size_t size = sizeof("2026-11-22T16:55:39+00:00");
	int64_t epoch;

	if (keys_parse_time(found, &epoch) < 0)
		keys_now(out);
	else if (strlen(found) == size - 1)
		memcpy(out, found, size);
	else
		put_time(epoch, out);
}
