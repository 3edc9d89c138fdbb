/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/xdg.h"

#include "archive/base/cleanup.h"
#include "client/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A service may have no $HOME. */
static const char *home_folder(void)
{
	const char *home = getenv("HOME");
	const struct passwd *user = home && home[0] ? NULL : getpwuid(getuid());

	return user ? user->pw_dir : home;
}

char *xdg_config_folder(void)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = home_folder();
	char *out = NULL;
	int n = -1;

	if (config && config[0] == '/')
		n = asprintf(&out, "%s/proxmox-backup", config);
	else if (home)
		n = asprintf(&out, "%s/.config/proxmox-backup", home);
	return n < 0 ? NULL : out;
}

static void make_folders(const char *path)
{
	AUTO(free) char *copy = strdup(path);

	for (char *p = copy ? strchr(copy + 1, '/') : NULL; p; p = strchr(p + 1, '/')) {
		*p = '\0';
		mkdir(copy, 0700);
		*p = '/';
	}
}

int xdg_config_path(const char *name, char **out, struct err *err)
{
	AUTO(free) char *folder = xdg_config_folder();

	if (!folder)
		return err_set(err, ENOENT, "no place for %s: neither $XDG_CONFIG_HOME nor a home "
			       "folder is known", name);
	if (asprintf(out, "%s/%s", folder, name) < 0) {
		*out = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	make_folders(*out);
	return 0;
}

int xdg_replace(const char *path, const struct wbuf *text, struct err *err)
{
	AUTO(free) char *tmp = NULL;
	AUTO(fd) int fd = -1;
	int rc;

	if (asprintf(&tmp, "%s.XXXXXX", path) < 0) {
		tmp = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "%s", tmp);
	rc = io_write(fd, text->data, text->size);
	if (rc == 0 && (fsync(fd) < 0 || rename(tmp, path) < 0))
		rc = -errno;
	if (rc == 0)
		return 0;
	unlink(tmp);
	return err_sys(err, -rc, "%s", path);
}
