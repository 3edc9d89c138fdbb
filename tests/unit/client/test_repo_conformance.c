/* SPDX-License-Identifier: Apache-2.0 */
/* Every backend passes the one suite. */
#include "client/repo/repo_dir.h"
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

int main(void)
{
	static const struct repo_conformance dir = { "repo_dir", make_dir, unmake_dir };

	static const struct repo_conformance memory = { "repo_memory", repo_memory_new, repo_free };

	return repo_conformance_run(&dir) + repo_conformance_run(&memory);
}
