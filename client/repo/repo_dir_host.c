/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_dir_host.h"

#include "archive/base/cleanup.h"
#include "client/repo/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const struct repo_dir_host REPO_DIR_HOST = {
	.datastore_cfg = "/etc/proxmox-backup/datastore.cfg",
	.run_dir = "/run/proxmox-backup",
	.mount_dir = "/mnt/datastore",
	.user = "backup",
};

struct line {
	const char *text;
	size_t size; /* without the newline and blanks at the end */
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static struct line next_line(const char *text, size_t size, size_t *position)
{
	struct line l = { .text = text + *position };
	const char *end = memchr(l.text, '\n', size - *position);

	l.size = end ? (size_t)(end - l.text) : size - *position;
	*position += l.size + (end != NULL);
	while (l.size > 0 && is_blank(l.text[l.size - 1]))
		l.size--;
	return l;
}

static size_t line_number(const char *text, const char *at)
{
	size_t n = 1;

	for (; text < at; text++)
		n += *text == '\n';
	return n;
}

/* "datastore: NAME" or "OTHER: ID"; false: no header. */
static bool parse_header(const struct line *l, struct repo_dir_host_store *out)
{
	static const char type[] = "datastore";
	const char *colon = memchr(l->text, ':', l->size);
	const char *end = l->text + l->size;

	memset(out, 0, sizeof(*out));
	if (!colon || colon == l->text)
		return false;
	const char *name = colon + 1;
	while (name < end && is_blank(*name))
		name++;
	if (name == end)
		return false;
	if ((size_t)(colon - l->text) != strlen(type) || memcmp(l->text, type, strlen(type)) != 0)
		return true;
	if (end - name > REPO_DIR_HOST_STORE_SIZE_MAX)
		return false;
	memcpy(out->name, name, (size_t)(end - name));
	/* A NUL inside would cut the name short: then the lengths differ. */
	return snapshot_is_safe_id(out->name) && strlen(out->name) == (size_t)(end - name);
}

static bool is_key(const struct line *l, const char *key, const char **value, size_t *value_size)
{
	size_t size = strlen(key);

	if (l->size <= size || memcmp(l->text, key, size) != 0 || !is_blank(l->text[size]))
		return false;
	while (size < l->size && is_blank(l->text[size]))
		size++;
	*value = l->text + size;
	*value_size = l->size - size;
	return true;
}

static bool has_word(const char *text, size_t size, const char *word)
{
	return memmem(text, size, word, strlen(word)) != NULL;
}

/* An indented line; false: a path that cannot be one. */
static bool parse_property(struct line l, struct repo_dir_host_store *out)
{
	const char *value;
	size_t size;

	while (l.size > 0 && is_blank(l.text[0])) {
		l.text++;
		l.size--;
	}
	if (is_key(&l, "path", &value, &size)) {
		if (size >= sizeof(out->path) || memchr(value, '\0', size))
			return false;
		memcpy(out->path, value, size);
		out->path[size] = '\0';
	} else if (is_key(&l, "backing-device", &value, &size)) {
		out->is_removable = true;
	} else if (is_key(&l, "backend", &value, &size)) {
		out->is_s3 = has_word(value, size, "type=s3") ||
			     (size >= 2 && memcmp(value, "s3", 2) == 0);
	} else if (is_key(&l, "maintenance-mode", &value, &size)) {
		out->is_in_maintenance = true;
	}
	return true;
}

/* One section, whatever its type; 1: no more. */
static int next_section(const char *text, size_t size, size_t *position,
			struct repo_dir_host_store *out, struct err *err)
{
	bool in_section = false;

	while (*position < size) {
		size_t before = *position;
		struct line l = next_line(text, size, position);
		bool ok = true;

		if (l.size == 0 || l.text[0] == '#')
			continue;
		if (is_blank(l.text[0])) {
			ok = in_section && parse_property(l, out);
		} else if (in_section) {
			*position = before;
			return 0;
		} else {
			ok = in_section = parse_header(&l, out);
		}
		if (!ok)
			return err_set(err, EBADMSG, "line %zu makes no sense",
				       line_number(text, l.text));
	}
	return in_section ? 0 : 1;
}

int repo_dir_host_next(const char *text, size_t size, size_t *position,
		       struct repo_dir_host_store *out, struct err *err)
{
	int rc;

	do {
		rc = next_section(text, size, position, out, err);
	} while (rc == 0 && !out->name[0]);
	return rc;
}

static bool is_directory_at(const char *path, const struct stat *root)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == root->st_dev && st.st_ino == root->st_ino;
}

static bool is_store_at(const struct repo_dir_host *host, const struct repo_dir_host_store *s,
			const struct stat *root)
{
	char path[PATH_MAX];
	int n;

	if (!s->is_removable)
		return s->path[0] == '/' && is_directory_at(s->path, root);
	n = snprintf(path, sizeof(path), "%s/%s/%s", host->mount_dir, s->name, s->path);
	return n > 0 && (size_t)n < sizeof(path) && is_directory_at(path, root);
}

int repo_dir_host_find(const struct repo_dir_host *host, int root_fd,
		       struct repo_dir_host_store *out, struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(REPO_DIR_HOST_CFG_SIZE_MAX);
	struct repo_dir_host_store s;
	struct stat root;
	size_t position = 0;

	memset(out, 0, sizeof(*out));
	if (fstat(root_fd, &root) < 0)
		return err_sys(err, errno, "stat");
	int rc = repo_dir_file_read(AT_FDCWD, host->datastore_cfg, REPO_DIR_HOST_CFG_SIZE_MAX,
				    &text, err);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return rc;
	while ((rc = repo_dir_host_next((const char *)text.data, text.size, &position, &s,
					err)) == 0) {
		if (is_store_at(host, &s, &root)) {
			*out = s;
			return 0;
		}
	}
	return rc < 0 ? err_wrap(err, rc, "%s", host->datastore_cfg) : 0;
}

int repo_dir_host_owner(const struct repo_dir_host *host, struct repo_dir_owner *out,
			struct err *err)
{
	enum { ENTRY_SIZE_MAX = 16384 };
	AUTO(free) char *buffer = malloc(ENTRY_SIZE_MAX);
	struct passwd entry, *found = NULL;

	if (!buffer)
		return err_set(err, ENOMEM, "out of memory");
	int code = getpwnam_r(host->user, &entry, buffer, ENTRY_SIZE_MAX, &found);
	if (code != 0)
		return err_sys(err, code, "look up user %s", host->user);
	if (!found)
		return err_set(err, ENOENT, "there is no user %s", host->user);
	*out = (struct repo_dir_owner){ .set = true, .uid = entry.pw_uid, .gid = entry.pw_gid };
	return 0;
}
