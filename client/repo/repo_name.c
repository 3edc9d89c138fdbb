/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_name.h"

#include "client/repo/pbs_name.h"
#include "client/repo/repo_dir.h"
#include "client/repo/repo_pbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *from_environment(void)
{
	static const char *const variables[] = { "PXARFS_REPOSITORY", "PBS_REPOSITORY" };

	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
		const char *value = getenv(variables[i]);

		if (value && value[0])
			return value;
	}
	return NULL;
}

int repo_open(const char *spelling, struct repo **out, struct err *err)
{
	static const char prefix[] = "dir:";

	if (!spelling)
		spelling = from_environment();
	if (!spelling)
		return err_set(err, EINVAL,
			       "no repository given: use --repository or $PXARFS_REPOSITORY");
	if (spelling[0] == '/')
		return repo_dir_open(spelling, out, err);
	if (strncmp(spelling, prefix, strlen(prefix)) == 0 && spelling[strlen(prefix)])
		return repo_dir_open(spelling + strlen(prefix), out, err);
	/* A slash belongs to a path or a URL. */
	if (!strchr(spelling, '/') && strncmp(spelling, prefix, strlen(prefix)) != 0)
		return repo_pbs_open(spelling, out, err);
	return err_set(err, EINVAL,
		       "'%s' is no repository: expected a datastore directory, /PATH or dir:PATH, or a "
		       "server's datastore, [[USER@REALM[!TOKEN]@]HOST:][PORT:]DATASTORE",
		       spelling);
}
