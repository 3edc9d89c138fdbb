/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/repo_name.h"

#include "client/base/secret.h"
#include "client/repo/pbs_name.h"
#include "client/repo/repo_dir.h"
#include "client/repo/repo_pbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* $PXARFS_REPOSITORY, else what the official client takes; 1: neither is set. */
static int from_environment(struct secret *out, struct err *err)
{
	const char *value = getenv("PXARFS_REPOSITORY");
	int rc = 0;

	*out = (struct secret){ .size = 0 };
	if (!value || !value[0])
		rc = secret_from_environment("PBS_REPOSITORY", "proxmox-backup-client.repository", out,
					     err);
	else if (strlen(value) < sizeof(out->bytes))
		out->size = strlen(strcpy(out->bytes, value));
	else
		rc = err_set(err, EINVAL, "PXARFS_REPOSITORY is too long");
	while (out->size && strchr(" \t\r\n", out->bytes[out->size - 1]))
		out->size--;
	out->bytes[out->size < sizeof(out->bytes) ? out->size : sizeof(out->bytes) - 1] = '\0';
	return rc == 0 && out->size == 0 ? 1 : rc;
}

#define DIR_PREFIX "dir:"

static bool begins_with(const char *text, const char *begin)
{
	return strncmp(text, begin, strlen(begin)) == 0;
}

const char *repo_name_directory(const char *spelling)
{
	if (spelling[0] == '/' || begins_with(spelling, "./") || begins_with(spelling, "../"))
		return spelling;
	if (begins_with(spelling, DIR_PREFIX) && spelling[strlen(DIR_PREFIX)])
		return spelling + strlen(DIR_PREFIX);
	return NULL;
}

static int check(const char *spelling, struct err *err)
{
	struct pbs_name name;

	if (repo_name_directory(spelling))
		return 0;
	/* A slash belongs to a path or a URL. */
	if (strchr(spelling, '/') || begins_with(spelling, DIR_PREFIX))
		return err_set(err, EINVAL,
			       "'%s' is no repository: expected a datastore directory, /PATH, ./PATH or "
			       "dir:PATH, or a server's datastore, "
			       "[[USER@REALM[!TOKEN]@]HOST:][PORT:]DATASTORE", spelling);
	return pbs_name_parse(spelling, &name, err);
}

int repo_name_find(const char *spelling, char out[REPO_NAME_SIZE], struct err *err)
{
	AUTO(secret) struct secret found = { .size = 0 };
	int rc = spelling ? 0 : from_environment(&found, err);

	if (rc < 0)
		return rc;
	if (rc == 1)
		return err_set(err, EINVAL,
			       "no repository given: use --repository or $PXARFS_REPOSITORY");
	if (!spelling)
		spelling = found.bytes;
	if ((size_t)snprintf(out, REPO_NAME_SIZE, "%s", spelling) >= REPO_NAME_SIZE)
		return err_set(err, EINVAL, "the repository's name is too long");
	return check(out, err);
}

int repo_open(const char *spelling, struct repo **out, struct err *err)
{
	char found[REPO_NAME_SIZE];
	int rc = repo_name_find(spelling, found, err);
	const char *directory = rc == 0 ? repo_name_directory(found) : NULL;

	if (rc < 0)
		return rc;
	return directory ? repo_dir_open(directory, out, err) : repo_pbs_open(found, out, err);
}
