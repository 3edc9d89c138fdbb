/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_tickets.h"

#include "archive/crypt.h"
#include "archive/json_text.h"
#include "client/base/io.h"
#include "client/base/xdg.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { FILE_SIZE_MAX = 1 << 20 };

static char *cache_path(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char *path = NULL;

	if (!run || run[0] != '/' || asprintf(&path, "%s/proxmox-backup/tickets", run) < 0)
		return NULL;
	return path;
}

/* The cache's object; an empty one when there is no good one.  NULL: out of memory. */
static json_t *load(const char *path)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(FILE_SIZE_MAX);
	AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	AUTO(json) json_t *all = NULL;

	if (fd >= 0 && io_read_all(fd, &text) == 0 &&
	    json_text_decode(text.data, text.size, &all, NULL) < 0)
		all = NULL;
	return json_is_object(all) ? steal(&all) : json_object();
}

static bool is_valid(const json_t *entry)
{
	const json_t *made = json_object_get(entry, "timestamp");
	json_int_t age = time(NULL) - json_integer_value(made);

	return json_is_integer(made) && age >= 0 && age < PBS_TICKETS_LIFE_S &&
	       json_is_string(json_object_get(entry, "ticket"));
}

bool pbs_tickets_get(const char *host, const char *user, char *ticket, size_t size)
{
	AUTO(free) char *path = cache_path();
	AUTO(json) json_t *all = path ? load(path) : NULL;
	const json_t *entry = json_object_get(json_object_get(all, host), user);
	const json_t *found = json_object_get(entry, "ticket");

	if (!is_valid(entry) || json_string_length(found) >= size)
		return false;
	strcpy(ticket, json_string_value(found));
	return true;
}

static void drop_expired(json_t *all)
{
	const char *host, *user;
	json_t *users, *entry;
	void *next, *next_user;

	json_object_foreach_safe(all, next, host, users) {
		json_object_foreach_safe(users, next_user, user, entry)
			if (!is_valid(entry))
				json_object_del(users, user);
		if (json_object_size(users) == 0)
			json_object_del(all, host);
	}
}

static void store(const char *path, const json_t *all)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(FILE_SIZE_MAX);
	AUTO(free) char *folder = strdup(path);

	if (folder && json_text_canonical(all, &text) == 0) {
		*strrchr(folder, '/') = '\0';
		mkdir(folder, 0700);
		xdg_replace(path, &text, NULL);
	}
}

void pbs_tickets_put(const char *host, const char *user, const char *ticket, const char *token)
{
	AUTO(free) char *path = cache_path();
	AUTO(json) json_t *all = path ? load(path) : NULL;
	json_t *users = json_object_get(all, host);

	if (!all)
		return;
	if (!json_is_object(users)) {
		users = json_object();
		if (json_object_set_new(all, host, users) < 0)
			return;
	}
	json_object_del(users, user);
	if (ticket)
		json_object_set_new(users, user, json_pack("{s:I,s:s,s:s}", "timestamp",
							   (json_int_t)time(NULL), "ticket", ticket,
							   "token", token));
	drop_expired(all);
	store(path, all);
}
