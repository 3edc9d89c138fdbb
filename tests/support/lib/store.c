/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Run a program without a shell between us and the path. */
static void run(const char *const argv[])
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

void store_folder(struct store *s)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(s->path, sizeof(s->path), "%s/pxarfs-test-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	assert_non_null(mkdtemp(s->path));
	assert_int_equal(chmod(s->path, 0755), 0);
}

void store_unpack(struct store *s, const char *tar)
{
	store_folder(s);
	run((const char *const[]){ "tar", "-C", s->path, "--no-same-owner", "-xf", tar, NULL });
}

void store_remove(struct store *s)
{
	run((const char *const[]){ "rm", "-rf", "--", s->path, NULL });
	s->path[0] = '\0';
}

const char *store_path(const struct store *s, const char *format, ...)
{
	static _Thread_local char buffers[8][PATH_MAX];
	static _Thread_local unsigned next;
	char *out = buffers[next++ % 8];
	va_list ap;
	int n = snprintf(out, PATH_MAX, "%s/", s->path);

	va_start(ap, format);
	vsnprintf(out + n, PATH_MAX - (size_t)n, format, ap);
	va_end(ap);
	return out;
}

void store_write(const struct store *s, const char *name, const char *text)
{
	FILE *f = fopen(store_path(s, "%s", name), "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

void store_mkdir(const struct store *s, const char *name)
{
	run((const char *const[]){ "mkdir", "-p", store_path(s, "%s", name), NULL });
}

bool store_exists(const struct store *s, const char *name)
{
	struct stat st;

	return lstat(store_path(s, "%s", name), &st) == 0;
}

int store_count(const struct store *s, const char *name)
{
	DIR *dir = opendir(store_path(s, "%s", name));
	int count = 0;
	struct dirent *e;

	if (!dir)
		return 0;
	while ((e = readdir(dir)) != NULL)
		count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(dir);
	return count;
}
