/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/idle_poll.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ANY = 2000000000, VALUES_MAX = 64, SECOND_US = 1000000 };

/* Files in place of the kernel's: the device keeps all values that were written to it. */
struct machine {
	char folder[32], driver[64], device[64];
	struct idle_poll *poll;
	uint64_t now_us;
};

static struct machine m;

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fputs(text, f) < 0, 0);
	assert_int_equal(fclose(f), 0);
}

static void begin(const char *driver, long cpu_count)
{
	struct idle_poll_params params = { m.driver, m.device, cpu_count };
	struct err err = ERR_INIT;

	write_file(m.driver, driver);
	assert_int_equal(idle_poll_new(&m.poll, &params, &err), 0);
}

static int setup(void **state)
{
	(void)state;
	strcpy(m.folder, "/tmp/idle_poll.XXXXXX");
	assert_non_null(mkdtemp(m.folder));
	snprintf(m.driver, sizeof(m.driver), "%s/driver", m.folder);
	snprintf(m.device, sizeof(m.device), "%s/device", m.folder);
	write_file(m.device, "");
	m.now_us = 12345678;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	idle_poll_free(m.poll);
	m.poll = NULL;
	unlink(m.driver);
	unlink(m.device);
	rmdir(m.folder);
	return 0;
}

static void requests(unsigned count, unsigned every_us)
{
	for (unsigned i = 0; i < count; i++) {
		m.now_us += every_us;
		idle_poll_request(m.poll, m.now_us);
	}
}

static void assert_written(size_t count, const int32_t *values)
{
	int32_t all[VALUES_MAX];
	AUTO(fd) int fd = open(m.device, O_RDONLY);

	assert_int_equal(read(fd, all, sizeof(all)), count * sizeof(all[0]));
	assert_int_equal(memcmp(all, values, count * sizeof(all[0])), 0);
}

#define assert_said(...)                                                              \
	do {                                                                          \
		const int32_t said[] = { 0, __VA_ARGS__ };                            \
		assert_written(sizeof(said) / sizeof(said[0]) - 1, said + 1);         \
	} while (0)

/* What the loop does when no request comes: sleep, and ask again each time it slept in vain. */
static unsigned sleeps_until_it_may_halt(void)
{
	unsigned count = 0;
	int wait_ms;

	while ((wait_ms = idle_poll_wait_ms(m.poll, m.now_us)) >= 0) {
		assert_in_range(wait_ms, 1, 50);
		m.now_us += (uint64_t)wait_ms * 1000;
		count++;
	}
	return count;
}

static void polls_during_a_burst_and_halts_after_it(void **state)
{
	struct idle_poll_stats stats;

	(void)state;
	begin("haltpoll\n", 2);
	requests(IDLE_POLL_REQUESTS_MIN - 1, 30);
	assert_said();
	requests(1, 30);
	assert_said(0);
	requests(10000, 30);
	assert_said(0);
	assert_in_range(sleeps_until_it_may_halt(), 1, 2);
	assert_said(0, ANY);
	idle_poll_stats(m.poll, &stats);
	assert_int_equal(stats.bursts, 1);
	assert_in_range(stats.us, 300000, 320000);
	requests(IDLE_POLL_REQUESTS_MIN, 30);
	assert_said(0, ANY, 0);
}

static void a_few_requests_are_no_burst(void **state)
{
	(void)state;
	begin("haltpoll\n", 2);
	requests(100, SECOND_US);
	requests(1000, 2000);
	for (int i = 0; i < 100; i++) {
		m.now_us += IDLE_POLL_PERIOD_US;
		requests(IDLE_POLL_REQUESTS_MIN - 1, 30);
	}
	assert_said();
	assert_int_equal(idle_poll_wait_ms(m.poll, m.now_us), -1);
}

static void a_burst_that_gets_thin_ends_although_requests_come(void **state)
{
	(void)state;
	begin("haltpoll\n", 2);
	requests(1000, 30);
	assert_said(0);
	requests(20, 2000);
	assert_said(0, ANY);
}

/* The loop's threads were all busy, so nobody asked. */
static void a_late_request_ends_it_too(void **state)
{
	(void)state;
	begin("haltpoll\n", 2);
	requests(1000, 30);
	requests(1, 5 * SECOND_US);
	assert_said(0, ANY);
}

static void clocks_read_on_other_cpus_may_be_behind(void **state)
{
	(void)state;
	begin("haltpoll\n", 2);
	requests(1000, 30);
	idle_poll_request(m.poll, 0);
	assert_true(idle_poll_wait_ms(m.poll, 0) > 0);
	assert_said(0);
}

static void leaves_other_idle_drivers_alone(void **state)
{
	static const char *const drivers[] = { "intel_idle\n", "none\n", "", "haltpoll2\n", "halt" };

	(void)state;
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		begin(drivers[i], 2);
		requests(1000, 30);
		assert_said();
		assert_int_equal(idle_poll_wait_ms(m.poll, m.now_us), -1);
		idle_poll_free(m.poll);
	}
	begin("", 2);
	unlink(m.driver);
	requests(1000, 30);
	assert_said();
}

static void leaves_machines_of_many_cpus_alone(void **state)
{
	(void)state;
	begin("haltpoll\n", IDLE_POLL_CPUS_MAX + 1);
	requests(1000, 30);
	assert_said();
	idle_poll_free(m.poll);
	begin("haltpoll\n", IDLE_POLL_CPUS_MAX);
	requests(1000, 30);
	assert_said(0);
}

static void goes_on_without_where_it_is_not_permitted(void **state)
{
	struct idle_poll_stats stats;

	(void)state;
	begin("haltpoll\n", 2);
	unlink(m.device);
	requests(1000, 30);
	assert_int_equal(access(m.device, F_OK), -1);
	assert_int_equal(idle_poll_wait_ms(m.poll, m.now_us), -1);
	write_file(m.device, "");
	requests(1000, 30); /* asked once only */
	assert_said();
	idle_poll_stats(m.poll, &stats);
	assert_int_equal(stats.bursts + stats.us, 0);
	idle_poll_stats(NULL, &stats);
	assert_int_equal(stats.bursts + stats.us, 0);
}

static void goes_on_without_where_writing_fails(void **state)
{
	(void)state;
	begin("haltpoll\n", 2);
	unlink(m.device);
	assert_int_equal(symlink("/dev/full", m.device), 0);
	requests(1000, 30);
	assert_int_equal(idle_poll_wait_ms(m.poll, m.now_us), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(polls_during_a_burst_and_halts_after_it, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_few_requests_are_no_burst, setup, teardown),
		cmocka_unit_test_setup_teardown(a_burst_that_gets_thin_ends_although_requests_come,
						setup, teardown),
		cmocka_unit_test_setup_teardown(a_late_request_ends_it_too, setup, teardown),
		cmocka_unit_test_setup_teardown(clocks_read_on_other_cpus_may_be_behind, setup,
						teardown),
		cmocka_unit_test_setup_teardown(leaves_other_idle_drivers_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(leaves_machines_of_many_cpus_alone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(goes_on_without_where_it_is_not_permitted, setup,
						teardown),
		cmocka_unit_test_setup_teardown(goes_on_without_where_writing_fails, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
