/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay - run one fuzz target over the files of its corpus, with an ordinary compiler.
 *
 * Arguments are files or folders (not recursive).  Each input lies in memory of exactly its
 * size, so that the address sanitizer sees a byte too far.
 */
#include "archive/base/cleanup.h"

#include <dirent.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
	AUTO(file) FILE *f = fopen(path, "rb");
	AUTO(free) uint8_t *data = NULL;
	struct stat st;

	if (!f || fstat(fileno(f), &st) < 0) {
		perror(path);
		return -1;
	}
	data = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!data || fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		fprintf(stderr, "%s: cannot be read whole\n", path);
		return -1;
	}
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	return 1;
}

/* The number of inputs run, or -1. */
static int replay(const char *path)
{
	struct dirent **names = NULL;
	int count = scandir(path, &names, NULL, alphasort), done = 0;

	if (count < 0)
		return errno == ENOTDIR ? replay_file(path) : (perror(path), -1);
	for (int i = 0; i < count; i++) {
		AUTO(free) char *file = NULL;

		if (done >= 0 && names[i]->d_name[0] != '.' &&
		    asprintf(&file, "%s/%s", path, names[i]->d_name) > 0)
			done = replay_file(file) < 0 ? -1 : done + 1;
		free(names[i]);
	}
	free(names);
	return done;
}

int main(int argc, char **argv)
{
	int total = 0;

	for (int i = 1; i < argc; i++) {
		int done = replay(argv[i]);

		if (done < 0)
			return 1;
		total += done;
	}
	printf("%s: %d inputs\n", argv[0], total);
	return total ? 0 : 1;
}
