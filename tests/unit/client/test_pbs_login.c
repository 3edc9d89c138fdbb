/* SPDX-License-Identifier: Apache-2.0 */
/* A login keeps itself good.  Every ticket that is got goes to the cache, whose folder tells. */
#include "client/repo/pbs_login.h"
#include "tests/support/lib/pbs_test_server.h"
#include "tests/support/lib/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>

enum { SOON_MS = 30 * 1000 };

struct fixture {
	struct store run; /* $XDG_RUNTIME_DIR */
	int watch_fd;
	struct pbs_name name;
	struct tls_trust *trust;
	struct net_proxy proxy;
	struct pbs_http *http;
	struct pbs_login *login;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *spelling = pbs_test_server_store();
	char path[PATH_MAX + 32];

	assert_non_null(f);
	assert_non_null(spelling);
	store_folder(&f->run);
	store_mkdir(&f->run, "proxmox-backup");
	setenv("XDG_RUNTIME_DIR", f->run.path, 1);
	f->watch_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	snprintf(path, sizeof(path), "%s/proxmox-backup", f->run.path);
	assert_true(inotify_add_watch(f->watch_fd, path, IN_MOVED_TO) >= 0);
	assert_int_equal(pbs_name_parse(spelling, &f->name, NULL), 0);
	assert_int_equal(tls_trust_new(&f->trust, f->name.host, f->name.host_text, NULL), 0);
	assert_int_equal(pbs_http_new(&f->http, &f->name, f->trust, &f->proxy, NULL), 0);
	assert_int_equal(pbs_login_new(&f->login, &f->name, f->http, NULL), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	pbs_login_free(f->login);
	pbs_http_free(f->http);
	tls_trust_free(f->trust);
	close(f->watch_fd);
	store_remove(&f->run);
	free(f);
	return 0;
}

/* Until that many tickets more have come; false: they do not. */
static bool await_tickets(struct fixture *f, size_t wanted)
{
	char events[sizeof(struct inotify_event) + NAME_MAX + 1]
		__attribute__((aligned(__alignof__(struct inotify_event))));
	struct pollfd fd = { .fd = f->watch_fd, .events = POLLIN };

	while (wanted > 0 && poll(&fd, 1, SOON_MS) == 1) {
		const struct inotify_event *e = (const struct inotify_event *)events;
		ssize_t n = read(f->watch_fd, events, sizeof(events));

		for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof(*e) + e->len)) {
			e = (const struct inotify_event *)(events + at);
			wanted -= wanted > 0 && strcmp(e->name, "tickets") == 0;
		}
	}
	return wanted == 0;
}

static int log_in(struct fixture *f)
{
	AUTO(wbuf) struct wbuf headers = WBUF_INIT(1 << 16);

	return pbs_login_headers(f->login, &headers, NULL);
}

/* Nobody asks for anything after the first time. */
static void is_renewed_by_itself(void **state)
{
	struct fixture *f = *state;

	pbs_login_renew_every(f->login, 20);
	assert_int_equal(log_in(f), 0);
	assert_true(await_tickets(f, 4));
}

static void is_not_renewed_before_its_time(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(log_in(f), 0);
	assert_true(await_tickets(f, 1));
	for (int i = 0; i < 3; i++)
		assert_int_equal(log_in(f), 0);
	/* It ends at once, too, with its thread in the middle of 15 minutes. */
	pbs_login_free(steal(&f->login));
	struct pollfd fd = { .fd = f->watch_fd, .events = POLLIN };
	assert_int_equal(poll(&fd, 1, 0), 0);
}

/* With the ticket, and with the password when that is worth nothing. */
static void is_made_anew_when_it_is_refused(void **state)
{
	AUTO(wbuf) struct wbuf headers = WBUF_INIT(1 << 16);
	struct fixture *f = *state;

	assert_int_equal(pbs_login_headers(f->login, &headers, NULL), 0);
	assert_true(await_tickets(f, 1));
	assert_true(pbs_login_expire(f->login, &headers));
	assert_int_equal(log_in(f), 0);
	assert_true(await_tickets(f, 1));
}

/* A descriptor is read and closed, once: then its number is somebody else's. */
static void a_refused_password_is_not_read_again(void **state)
{
	const char *password = getenv("PBS_PASSWORD");
	AUTO(free) char *kept = password ? strdup(password) : NULL;
	struct fixture *f = *state;
	int ends[2], other;
	char number[16];

	assert_non_null(kept);
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "wrong\n", 6), 6);
	snprintf(number, sizeof(number), "%d", ends[0]);
	unsetenv("PBS_PASSWORD");
	setenv("PBS_PASSWORD_FD", number, 1);
	assert_int_equal(log_in(f), -EACCES);
	other = dup2(ends[1], ends[0]);
	assert_int_equal(log_in(f), -EACCES);
	assert_true(fcntl(other, F_GETFD) >= 0);
	close(ends[0]);
	close(ends[1]);
	unsetenv("PBS_PASSWORD_FD");
	setenv("PBS_PASSWORD", kept, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_renewed_by_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(is_not_renewed_before_its_time, set_up, tear_down),
		cmocka_unit_test_setup_teardown(is_made_anew_when_it_is_refused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_refused_password_is_not_read_again, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
