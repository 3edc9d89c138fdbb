/* SPDX-License-Identifier: Apache-2.0 */
/* Every backend passes the one suite. */
#include "client/repo/repo_dir.h"
#include "client/repo/repo_pbs.h"
#include "tests/support/lib/pbs_test_server.h"
#include "tests/support/lib/repo_conformance.h"
#include "tests/support/lib/repo_memory.h"
#include "tests/support/lib/store.h"

static struct store folder;

static struct repo *make_dir(void)
{
	struct repo *r = NULL;

	store_folder(&folder);
	if (repo_dir_init(folder.path, false, NULL) < 0)
		return NULL;
	return repo_dir_open(folder.path, &r, NULL) < 0 ? NULL : r;
}

static void unmake_dir(struct repo *r)
{
	repo_free(r);
	store_remove(&folder);
}

static struct repo *make_pbs(void)
{
	const char *spelling = pbs_test_server_store();
	struct repo *r = NULL;

	return spelling && repo_pbs_open(spelling, &r, NULL) == 0 ? r : NULL;
}

int main(void)
{
	static const struct repo_conformance dir = { "repo_dir", make_dir, unmake_dir, false };
	static const struct repo_conformance memory = { "repo_memory", repo_memory_new, repo_free,
							false };
	static const struct repo_conformance pbs = { "repo_pbs", make_pbs, repo_free, true };

	return repo_conformance_run(&dir) + repo_conformance_run(&memory) +
	       repo_conformance_run(&pbs);
}
