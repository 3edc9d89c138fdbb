/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { LINE_SIZE_MAX = 4096, PIPE_SIZE = 4 * LINE_SIZE_MAX, MESSAGES = 2000 };

/* Standard error is a pipe that nobody reads. */
static int read_end, real_stderr;

static int set_up(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE) >= PIPE_SIZE);
	real_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	read_end = ends[0];
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(read_end);
	return 0;
}

/* All there is, as text. */
static size_t drain(char *out, size_t size)
{
	ssize_t n = read(read_end, out, size - 1);

	assert_true(n >= 0);
	out[n] = 0;
	return (size_t)n;
}

static unsigned count_lines(const char *text)
{
	unsigned count = 0;

	for (; *text; text++)
		count += *text == '\n';
	return count;
}

static void a_full_pipe_is_not_waited_for_and_the_lost_are_counted(void **state)
{
	char text[2 * PIPE_SIZE], lost[64];
	unsigned kept;

	(void)state;
	log_never_wait();
	for (int i = 0; i < MESSAGES; i++)
		log_warn("message %d", i);
	drain(text, sizeof(text));
	kept = count_lines(text);
	assert_true(kept > 10 && kept < MESSAGES);
	assert_non_null(strstr(text, "pxarfs: warning: message 9\n"));
	assert_int_equal(text[strlen(text) - 1], '\n'); /* no half line */

	log_warn("after that");
	drain(text, sizeof(text));
	snprintf(lost, sizeof(lost), "warning: %u messages were lost", MESSAGES - kept);
	assert_non_null(strstr(text, lost));
	assert_int_equal(count_lines(text), 2);
	log_warn("and so on");
	drain(text, sizeof(text));
	assert_string_equal(text, "pxarfs: warning: and so on\n");
}

static void lines_as_long_as_can_be_are_whole(void **state)
{
	char text[2 * PIPE_SIZE], longest[2 * LINE_SIZE_MAX];

	(void)state;
	log_never_wait();
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = 0;
	for (int i = 0; i < 5; i++)
		log_warn("%s", longest);
	assert_true(drain(text, sizeof(text)) > PIPE_SIZE - LINE_SIZE_MAX);
	assert_int_equal(count_lines(text), 4);
	assert_int_equal(text[strlen(text) - 1], '\n');
	log_warn("after that");
	drain(text, sizeof(text));
	assert_non_null(strstr(text, "warning: 1 message was lost"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_full_pipe_is_not_waited_for_and_the_lost_are_counted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lines_as_long_as_can_be_are_whole, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
