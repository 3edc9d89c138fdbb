/* SPDX-License-Identifier: Apache-2.0 */
#include "client/base/clock.h"
#include "client/repo/repo_rate.h"

#include "tests/support/lib/repo_conformance.h"
#include "tests/support/lib/repo_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static atomic_bool stop;
static struct repo_rate rate = { .rate = 1ull << 50, .burst = 1ull << 50, .stop = &stop };

/* A repository in memory whose writers are all held back. */
static struct repo_ops ops;
static const struct repo_ops *memory_ops;

static int write_limited(struct repo *r, const struct repo_writer_params *params,
			 struct repo_writer **out, struct err *err)
{
	int rc = memory_ops->write(r, params, out, err);

	return rc < 0 ? rc : repo_rate_limit(out, &rate, err);
}

static struct repo *make(void)
{
	struct repo *r = repo_memory_new();

	memory_ops = r->ops;
	ops = *r->ops;
	ops.write = write_limited;
	r->ops = &ops;
	return r;
}

/* Six chunks of 5,000 bytes, two indexes, a blob and a manifest. */
static void holds_back_what_is_put(void **state)
{
	struct repo *r = make();
	struct snapshot_name name = repo_conformance_name("host/a", "", 1800000000);
	uint64_t begin = clock_now_ms(), ms;

	(void)state;
	rate.rate = 100000;
	rate.burst = 10000;
	assert_int_equal(repo_conformance_backup(r, &name, 1, NULL), 0);
	ms = clock_now_ms() - begin;
	assert_in_range(ms, 200, 5000); /* (30,000 + a little - 10,000) / 100,000 */
	assert_int_equal(repo_conformance_check(r, &name, 1, NULL), 0);
	repo_free(r);
}

static void a_wait_ends_when_it_is_told_to(void **state)
{
	struct repo *r = make();
	struct snapshot_name name = repo_conformance_name("host/a", "", 1800000000);
	uint64_t begin = clock_now_ms();

	(void)state;
	rate.rate = 1;
	rate.burst = 1;
	atomic_store(&stop, true);
	assert_int_equal(repo_conformance_backup(r, &name, 1, NULL), -ECANCELED);
	assert_true(clock_now_ms() - begin < 5000);
	atomic_store(&stop, false);
	repo_free(r);
}

int main(void)
{
	const struct repo_conformance limited = { "repo_rate", make, repo_free, false };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_back_what_is_put),
		cmocka_unit_test(a_wait_ends_when_it_is_told_to),
	};

	return repo_conformance_run(&limited) + cmocka_run_group_tests(tests, NULL, NULL);
}
