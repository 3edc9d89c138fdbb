/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lib/other.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct other other_start(int (*act)(void *arg), void *arg)
{
	struct other o;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	o.pid = fork();
	assert_true(o.pid >= 0);
	if (o.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		int rc = act(arg);
		if (write(fds[1], &rc, sizeof(rc)) != (ssize_t)sizeof(rc))
			_exit(1);
		for (;;)
			pause();
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &o.rc, sizeof(o.rc)), sizeof(o.rc));
	close(fds[0]);
	return o;
}

void other_kill(struct other *o)
{
	int status;

	kill(o->pid, SIGKILL);
	assert_int_equal(waitpid(o->pid, &status, 0), o->pid);
	o->pid = -1;
}

int other_run(int (*act)(void *arg), void *arg)
{
	struct other o = other_start(act, arg);

	other_kill(&o);
	return o.rc;
}
