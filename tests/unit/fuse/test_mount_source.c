/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/mount_source.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void assert_parsed(const char *text, const char *repository, const char *ns,
			  const char *snapshot, const char *archive)
{
	struct mount_source s;
	struct err err = ERR_INIT;

	assert_true(mount_source_is(text));
	if (mount_source_parse(text, &s, &err) != 0)
		fail_msg("%s", err.text);
	assert_string_equal(s.repository, repository);
	assert_string_equal(s.ns, ns);
	assert_string_equal(s.snapshot, snapshot);
	assert_string_equal(s.archive, archive);
}

static void takes_a_source_apart(void **state)
{
	(void)state;
	assert_parsed("/srv/store::host/web1/latest/root.pxar", "/srv/store", "",
		      "host/web1/latest", "root.pxar");
	assert_parsed("/s::ns/prod/eu/vm/100/2027-01-15T08:00:02Z/a.pxar", "/s", "prod/eu",
		      "vm/100/2027-01-15T08:00:02Z", "a.pxar");
}

static void splits_at_the_last_colons_outside_brackets(void **state)
{
	(void)state;
	assert_parsed("u@pam@[fe80::1]:8007:store::ct/1/latest/r.pxar", "u@pam@[fe80::1]:8007:store",
		      "", "ct/1/latest", "r.pxar");
	assert_parsed("/odd::name::host/a/latest/b.pxar", "/odd::name", "", "host/a/latest",
		      "b.pxar");
}

static void knows_a_file_from_a_source(void **state)
{
	(void)state;
	assert_false(mount_source_is("/srv/a.pxar"));
	assert_false(mount_source_is("a:b.mpxar"));
	assert_false(mount_source_is("[::1]"));
}

static void refuses_what_is_incomplete(void **state)
{
	static const char *const texts[] = {
		"/srv/store::",
		"/srv/store::host/a/latest",
		"::host/a/latest/b.pxar",
		"/srv/store::host/a/latest/",
		"/srv/store::prod/host/a/latest/b.pxar",
		"/srv/store::ns/host/a/latest/b.pxar",
		"/srv/a.pxar",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct mount_source s;
		struct err err = ERR_INIT;

		if (mount_source_parse(texts[i], &s, &err) != -EINVAL)
			fail_msg("accepted: %s", texts[i]);
		assert_non_null(strstr(err.text, texts[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_a_source_apart),
		cmocka_unit_test(splits_at_the_last_colons_outside_brackets),
		cmocka_unit_test(knows_a_file_from_a_source),
		cmocka_unit_test(refuses_what_is_incomplete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
