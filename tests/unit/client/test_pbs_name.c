/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_name.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void takes_every_part_or_its_default(void **state)
{
	static const struct {
		const char *text, *auth_id, *host_text, *host;
		unsigned port;
		const char *store;
		bool is_token;
	} cases[] = {
		{ "st1", "root@pam", "localhost", "localhost", 8007, "st1", false },
		{ "h:st1", "root@pam", "h", "h", 8007, "st1", false },
		{ "h:900:st1", "root@pam", "h", "h", 900, "st1", false },
		{ "1234:st1", "root@pam", "1234", "1234", 8007, "st1", false },
		{ "u@pbs@h:st1", "u@pbs", "h", "h", 8007, "st1", false },
		{ "u@pbs!tok@h:900:st1", "u@pbs!tok", "h", "h", 900, "st1", true },
		{ "a@b!c@pam@h.example:st1", "a@b!c@pam", "h.example", "h.example", 8007, "st1", false },
		{ "[fe80::1]:900:st1", "root@pam", "[fe80::1]", "fe80::1", 900, "st1", false },
		{ "u@pam@[::1]:st1", "u@pam", "[::1]", "::1", 8007, "st1", false },
		{ "10.0.0.1:st1", "root@pam", "10.0.0.1", "10.0.0.1", 8007, "st1", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pbs_name n;
		struct err err = ERR_INIT;

		if (pbs_name_parse(cases[i].text, &n, &err) < 0)
			fail_msg("%s: %s", cases[i].text, err.text);
		assert_string_equal(n.auth_id, cases[i].auth_id);
		assert_string_equal(n.host_text, cases[i].host_text);
		assert_string_equal(n.host, cases[i].host);
		assert_int_equal(n.port, cases[i].port);
		assert_string_equal(n.store, cases[i].store);
		assert_int_equal(n.is_token, cases[i].is_token);
	}
}

static void refuses_what_is_no_repository(void **state)
{
	static const char *const cases[] = {
		"", "s", "st", "st1/", "-st1", "h:", ":st1", "h:st 1", "h:0:st1", "h:65536:st1",
		"h:900x:st1", "-h:st1", "h-:st1", "h..a:st1", "h_:st1", "fe80::1:st1", "[fe80::1:st1",
		"[fe80::1%eth0]:st1", "[1.2.3.4]:st1", "[]:st1", "u@h:st1:", "u@p@h:st1", "u:x@pam@h:st1",
		"u@pam!@h:st1", "@pam@h:st1", "u\x01@pam@h:st1",
		"a123456789012345678901234567890123",
	};
	char text[300];

	(void)state;
	memset(text, 'a', sizeof(text));
	memcpy(text + sizeof(text) - 5, ":st1", 5);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct pbs_name n;

		if (pbs_name_parse(cases[i], &n, NULL) != -EINVAL)
			fail_msg("'%s' is accepted", cases[i]);
	}
	struct pbs_name n;
	assert_int_equal(pbs_name_parse(text, &n, NULL), -EINVAL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_every_part_or_its_default),
		cmocka_unit_test(refuses_what_is_no_repository),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
