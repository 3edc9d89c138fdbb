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

	assert_false(mount_source_is_file(text));
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

static void the_archive_may_be_missing(void **state)
{
	(void)state;
	assert_parsed("/s::host/web1/latest", "/s", "", "host/web1/latest", "");
	assert_parsed("/s::host/web1", "/s", "", "host/web1", "");
	assert_parsed("/s::host/web1/root.mpxar.didx", "/s", "", "host/web1", "root.mpxar.didx");
	assert_parsed("/s::ns/prod/vm/100/2027-01-15T08:00:02Z", "/s", "prod",
		      "vm/100/2027-01-15T08:00:02Z", "");
}

static void a_repository_or_a_namespace_is_enough(void **state)
{
	(void)state;
	assert_parsed("/srv/store", "/srv/store", "", "", "");
	assert_parsed("/srv/store::", "/srv/store", "", "", "");
	assert_parsed("u@pbs@[fe80::1]:8007:store", "u@pbs@[fe80::1]:8007:store", "", "", "");
	assert_parsed("/s::ns/prod", "/s", "prod", "", "");
	assert_parsed("/s::ns/prod/eu", "/s", "prod/eu", "", "");
}

static void a_namespace_may_be_called_like_a_type(void **state)
{
	(void)state;
	assert_parsed("/s::ns/prod/host", "/s", "prod/host", "", "");
	assert_parsed("/s::ns/vm/host/web1/latest", "/s", "vm", "host/web1/latest", "");
	assert_parsed("/s::ns/prod/host/vm/100", "/s", "prod/host", "vm/100", "");
	assert_parsed("/s::ns/prod/host/vm/latest", "/s", "prod", "host/vm/latest", "");
}

static void knows_a_file_from_a_source(void **state)
{
	(void)state;
	assert_true(mount_source_is_file("/srv/a.pxar"));
	assert_true(mount_source_is_file("a:b.mpxar"));
	assert_true(mount_source_is_file("a.pxar.meta"));
	assert_false(mount_source_is_file("/srv/store"));
	assert_false(mount_source_is_file("/srv/store::host/a/latest/b.pxar"));
}

static void refuses_what_is_incomplete(void **state)
{
	static const char *const texts[] = {
		"::host/a/latest/b.pxar",
		"/srv/store::host/a/latest/",
		"/srv/store::prod/host/a/latest/b.pxar",
		"/srv/store::ns/host/a/latest/b.pxar",
		"/srv/store::host",
		"/srv/store::host/a/yesterday",
		"/srv/store::ns",
		"/srv/store::ns/",
		"/srv/store::ns/a b",
		"/srv/store::ns/a//b",
		"/srv/store::ns/prod/host/a/latest/b/c.pxar/",
		"",
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
		cmocka_unit_test(the_archive_may_be_missing),
		cmocka_unit_test(a_repository_or_a_namespace_is_enough),
		cmocka_unit_test(a_namespace_may_be_called_like_a_type),
		cmocka_unit_test(knows_a_file_from_a_source),
		cmocka_unit_test(refuses_what_is_incomplete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
