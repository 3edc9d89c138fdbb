/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/pbs_test_server.h"

#include "tests/support/lib/store.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STORE_COUNT = 64, WORDS_PER_STORE = 2, LINE_SIZE = 256 };

static struct store folder;
static pid_t pid;
static char prefix[LINE_SIZE]; /* "root@pam@localhost:PORT:" */
static unsigned used;

static void end(void)
{
	kill(pid, SIGTERM);
	waitpid(pid, NULL, 0);
	store_remove(&folder);
}

static void run_server(int out)
{
	static char stores[STORE_COUNT][PATH_MAX + 16];
	const char *python = getenv("PYTHON");
	char *argv[WORDS_PER_STORE * STORE_COUNT + 5];
	int n = 0;

	argv[n++] = (char *)(python && python[0] ? python : "/usr/bin/python3");
	argv[n++] = (char *)"tests/support/pbs_server.py";
	argv[n++] = (char *)"--port";
	argv[n++] = (char *)"0";
	for (int i = 0; i < STORE_COUNT; i++) {
		snprintf(stores[i], sizeof(stores[i]), "store%d=%s/%d", i, folder.path, i);
		argv[n++] = (char *)"--store";
		argv[n++] = stores[i];
	}
	argv[n] = NULL;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(out, STDOUT_FILENO);
	execv(argv[0], argv);
	_exit(127);
}

/* The value of "NAME=VALUE\n". */
static const char *read_value(FILE *f, char line[LINE_SIZE])
{
	char *value = fgets(line, LINE_SIZE, f) ? strchr(line, '=') : NULL;

	if (!value)
		return NULL;
	value[strcspn(value, "\n")] = '\0';
	return value + 1;
}

static bool start(void)
{
	char line[LINE_SIZE];
	const char *value;
	char name[16];
	int ends[2];
	FILE *f;

	store_folder(&folder);
	for (int i = 0; i < STORE_COUNT; i++) {
		snprintf(name, sizeof(name), "%d", i);
		store_mkdir(&folder, name);
	}
	if (pipe(ends) < 0)
		return false;
	pid = fork();
	if (pid == 0)
		run_server(ends[1]);
	close(ends[1]);
	atexit(end);
	f = fdopen(ends[0], "r");
	value = f ? read_value(f, line) : NULL;
	if (!value)
		return false;
	snprintf(prefix, sizeof(prefix), "%.*s", (int)(strrchr(value, ':') + 1 - value), value);
	value = read_value(f, line);
	if (!value)
		return false;
	setenv("PBS_FINGERPRINT", value, 1);
	setenv("PBS_PASSWORD", "secret12", 1);
	return true; /* the pipe stays open as long as the server */
}

const char *pbs_test_server_store(void)
{
	static char spelling[2 * LINE_SIZE];

	if ((!pid && !start()) || !prefix[0] || used == STORE_COUNT)
		return NULL;
	snprintf(spelling, sizeof(spelling), "%sstore%u", prefix, used++);
	return spelling;
}
