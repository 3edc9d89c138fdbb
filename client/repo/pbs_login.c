/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_login.h"

#include "archive/crypt.h"
#include "archive/json_text.h"
#include "client/base/clock.h"
#include "client/base/secret.h"
#include "client/base/wait.h"
#include "client/repo/pbs_ticket.h"
#include "client/repo/pbs_tickets.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum {
	ANSWER_SIZE_MAX = 64 << 10,
	CODE_SIZE_MAX = 64, /* of a second factor */
};

/* What must not leave the process: pages of its own that no core dump holds. */
struct vault {
	struct secret secret; /* password, or the token's secret */
	struct pbs_ticket ticket;
};

struct pbs_login {
	const struct pbs_name *name;
	struct pbs_http *http;

	/* Held over a login, so that there is one at a time; guards the rest. */
	pthread_mutex_t lock;
	struct vault *vault;
	bool has_secret, is_typed; /* by a person, who may mistype it */
	int64_t made_ms; /* when the ticket was, of a clock that goes on in suspend */
	int64_t renew_ms; /* set before the first login */

	pthread_mutex_t timer_lock; /* guards stopping */
	pthread_cond_t stop;
	bool stopping, has_thread;
	pthread_t thread;
};

static int64_t now_ms(void)
{
	return clock_ns_of(CLOCK_BOOTTIME) / 1000000;
}

/* --- the call --- */

/* `challenge`: the partial ticket that `password` answers; NULL: none. */
static int call(struct pbs_login *l, const char *password, size_t size, const char *challenge,
		struct err *err)
{
	AUTO(pbs_http_reply) struct pbs_http_reply reply = { .body = WBUF_INIT(ANSWER_SIZE_MAX) };
	AUTO(json) json_t *params = json_pack("{s:s,s:s%}", "username", l->name->auth_id, "password",
					      password, size);
	char *text;
	int rc;

	if (!params)
		return err_set(err, EINVAL, "the password is not UTF-8");
	if (challenge)
		json_object_set_new(params, "tfa-challenge", json_string(challenge));
	text = json_dumps(params, JSON_COMPACT);
	if (!text)
		return err_set(err, ENOMEM, "out of memory");
	rc = pbs_http_send(l->http,
			   &(struct pbs_http_request){ .method = "POST",
						       .path = "/api2/json/access/ticket",
						       .content_type = "application/json",
						       .body = text,
						       .body_size = strlen(text) },
			   &reply, err);
	crypt_wipe(text, strlen(text));
	free(text);
	if (rc < 0)
		return rc;
	if (reply.status != 200)
		return pbs_http_refused(reply.status, reply.body.data, reply.body.size, "login", err);
	return pbs_ticket_decode(reply.body.data, reply.body.size, reply.cookie, &l->vault->ticket, err);
}

/* --- second factor --- */

/* The login is a partial one: answer its challenge, where someone can be asked. */
static int answer_challenge(struct pbs_login *l, bool may_ask, struct err *err)
{
	AUTO(secret) struct secret code = { .size = 0 };
	struct pbs_ticket partial = l->vault->ticket;
	char text[CODE_SIZE_MAX + 16];
	bool totp, recovery, is_code;
	int rc;

	pbs_ticket_release(&l->vault->ticket);
	pbs_ticket_challenge(&partial, &totp, &recovery);
	if (!may_ask || !isatty(STDIN_FILENO) || !(totp || recovery))
		return err_set(err, EACCES, "%s needs a second factor, which %s; use an API token",
			       l->name->auth_id,
			       totp || recovery ? "takes a terminal" : "can only be given in a browser");
	rc = secret_ask("PBS_PASSWORD", totp ? "TOTP code, or recovery key" : "Recovery key", &code,
			err);
	if (rc < 0)
		return rc;
	if (code.size == 0 || code.size > CODE_SIZE_MAX)
		return err_set(err, EACCES, "that is no code");
	is_code = totp && code.size == 6;
	for (size_t i = 0; i < code.size; i++)
		is_code = is_code && code.bytes[i] >= '0' && code.bytes[i] <= '9';
	snprintf(text, sizeof(text), "%s:%.*s", is_code ? "totp" : "recovery", (int)code.size,
		 code.bytes);
	rc = call(l, text, strlen(text), partial.ticket, err);
	crypt_wipe(text, sizeof(text));
	return rc;
}

/* --- logging in, with the lock held --- */

static void *renew(void *arg);

static void start_thread(struct pbs_login *l)
{
	sigset_t all, before;

	if (l->has_thread)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* Without it the ticket is renewed when it is next used. */
	l->has_thread = pthread_create(&l->thread, NULL, renew, l) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int log_in(struct pbs_login *l, const char *password, size_t size, bool may_ask,
		  struct err *err)
{
	struct pbs_ticket *t = &l->vault->ticket;
	int rc = call(l, password, size, NULL, err);

	if (rc == 0 && pbs_ticket_is_partial(t))
		rc = answer_challenge(l, may_ask, err);
	if (rc == 0 && pbs_ticket_is_partial(t)) {
		pbs_ticket_release(t);
		rc = err_set(err, EPROTO, "login: the second factor is asked for again");
	}
	if (rc < 0)
		return rc;
	l->made_ms = now_ms();
	pbs_tickets_put(l->name->host_text, l->name->auth_id, t->ticket, t->csrf);
	start_thread(l);
	return 0;
}

/* With the present ticket in place of a password.  -EACCES: it is worth nothing any more. */
static int renew_ticket(struct pbs_login *l, struct err *err)
{
	AUTO(pbs_ticket) struct pbs_ticket old = l->vault->ticket;
	int rc = log_in(l, old.ticket, strlen(old.ticket), false, err);

	if (rc < 0)
		pbs_ticket_release(&l->vault->ticket);
	if (rc < 0 && rc != -EACCES) /* it may be good still */
		l->vault->ticket = old;
	return rc;
}

/* 1: no password is given, and no ticket is cached. */
static int use_cache(struct pbs_login *l, struct err *err)
{
	char ticket[PBS_TICKET_SIZE_MAX];
	int rc;

	if (!pbs_tickets_get(l->name->host_text, l->name->auth_id, ticket, sizeof(ticket)))
		return 1;
	rc = log_in(l, ticket, strlen(ticket), false, err);
	crypt_wipe(ticket, sizeof(ticket));
	if (rc != -EACCES)
		return rc;
	pbs_tickets_put(l->name->host_text, l->name->auth_id, NULL, NULL);
	return 1;
}

static int ask(struct pbs_login *l, struct err *err)
{
	char prompt[PBS_NAME_AUTH_ID_SIZE_MAX + 32];
	int rc;

	snprintf(prompt, sizeof(prompt), "%s \"%s\"",
		 l->name->is_token ? "Secret of API token" : "Password for", l->name->auth_id);
	rc = secret_ask("PBS_PASSWORD", prompt, &l->vault->secret, err);
	return rc == -ENOTTY ? -EACCES : rc;
}

/* Have a secret, or be logged in by the cache.  1: logged in. */
static int find_secret(struct pbs_login *l, bool may_ask, struct err *err)
{
	int rc;

	if (l->has_secret)
		return 0;
	secret_guard_process();
	rc = secret_from_environment("PBS_PASSWORD", "proxmox-backup-client.password",
				     &l->vault->secret, err);
	if (rc == 1 && !l->name->is_token) {
		rc = use_cache(l, err);
		if (rc <= 0)
			return rc < 0 ? rc : 1;
	}
	l->is_typed = rc == 1;
	if (rc == 1)
		rc = may_ask ? ask(l, err) :
			       err_set(err, EACCES, "the login of %s has expired", l->name->auth_id);
	l->has_secret = rc == 0;
	return rc;
}

static int ensure(struct pbs_login *l, bool may_ask, struct err *err)
{
	int64_t age = now_ms() - l->made_ms;
	int rc;

	if (!l->name->is_token && l->vault->ticket.ticket[0]) {
		if (age < l->renew_ms)
			return 0;
		rc = age < PBS_TICKETS_LIFE_S * 1000 ? renew_ticket(l, err) : -EACCES;
		if (rc != -EACCES) /* renewed; or the old one will do for this time */
			return 0;
	}
	rc = find_secret(l, may_ask, err);
	if (rc != 0 || l->name->is_token)
		return rc < 0 ? rc : 0;
	rc = log_in(l, l->vault->secret.bytes, l->vault->secret.size, may_ask, err);
	/* The environment would give the same again, and a descriptor was read and closed: by now its number
	 * may be somebody else's. */
	if (rc == -EACCES && l->is_typed)
		l->has_secret = false;
	return rc;
}

static void *renew(void *arg)
{
	struct pbs_login *l = arg;

	pthread_mutex_lock(&l->timer_lock);
	while (!l->stopping) {
		/* From now on: the ticket is older than that then, else ensure() would keep it. */
		const struct timespec until = wait_until(CLOCK_MONOTONIC, (unsigned)l->renew_ms);

		while (!l->stopping &&
		       pthread_cond_timedwait(&l->stop, &l->timer_lock, &until) != ETIMEDOUT)
			continue;
		if (l->stopping)
			break;
		pthread_mutex_unlock(&l->timer_lock);
		pthread_mutex_lock(&l->lock);
		ensure(l, false, NULL); /* who needs it tries again, and is told */
		pthread_mutex_unlock(&l->lock);
		pthread_mutex_lock(&l->timer_lock);
	}
	pthread_mutex_unlock(&l->timer_lock);
	return NULL;
}

/* --- headers --- */

/* The server decodes cookies, so what means something in one is encoded; what a ticket has of other
 * marks stays as it is, as the official client has it.  So an ordinary ticket is sent as it came, and
 * is right even to who does not decode it. */
static void put_cookie(struct wbuf *out, const char *ticket)
{
	for (const char *p = ticket; *p; p++)
		if (strchr(":@/+!=", *p))
			wbuf_put_u8(out, (uint8_t)*p);
		else
			pbs_http_escape(out, p, 1);
}

int pbs_login_headers(struct pbs_login *l, struct wbuf *out, struct err *err)
{
	struct vault *v = l->vault;
	int rc;

	pthread_mutex_lock(&l->lock);
	rc = ensure(l, true, err);
	if (rc == 0 && l->name->is_token) {
		wbuf_printf(out, "Authorization: PBSAPIToken %s:", l->name->auth_id);
		pbs_http_escape(out, v->secret.bytes, v->secret.size);
		wbuf_put_text(out, "\r\n");
	} else if (rc == 0) {
		const struct pbs_ticket *t = &v->ticket;

		wbuf_printf(out, "Cookie: %sPBSAuthCookie=", t->is_host_cookie ? "__Host-" : "");
		put_cookie(out, t->ticket);
		wbuf_printf(out, "\r\nCSRFPreventionToken: %s\r\n", t->csrf);
	}
	pthread_mutex_unlock(&l->lock);
	if (rc == 0 && out->failed)
		rc = err_set(err, -out->failed, "out of memory");
	return rc;
}

bool pbs_login_expire(struct pbs_login *l, const struct wbuf *headers)
{
	struct pbs_ticket *t = &l->vault->ticket;
	bool is_same;

	if (l->name->is_token)
		return false;
	pthread_mutex_lock(&l->lock);
	is_same = t->csrf[0] && memmem(headers->data, headers->size, t->csrf, strlen(t->csrf));
	if (is_same)
		pbs_ticket_release(t);
	pthread_mutex_unlock(&l->lock);
	return true;
}

/* --- life --- */

int pbs_login_new(struct pbs_login **out, const struct pbs_name *name, struct pbs_http *http,
		  struct err *err)
{
	struct pbs_login *l = calloc(1, sizeof(*l));
	void *vault;

	vault = mmap(NULL, sizeof(*l->vault), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		     0);
	if (!l || vault == MAP_FAILED) {
		if (vault != MAP_FAILED)
			munmap(vault, sizeof(*l->vault));
		free(l);
		return err_set(err, ENOMEM, "out of memory");
	}
	/* Neither may fail: they only make a secret harder to lose. */
	madvise(vault, sizeof(*l->vault), MADV_DONTDUMP);
	mlock(vault, sizeof(*l->vault));
	l->vault = vault;
	l->name = name;
	l->http = http;
	l->renew_ms = PBS_LOGIN_RENEW_MS;
	pthread_mutex_init(&l->lock, NULL);
	pthread_mutex_init(&l->timer_lock, NULL);
	wait_cond_init(&l->stop);
	*out = l;
	return 0;
}

void pbs_login_renew_every(struct pbs_login *l, int64_t ms)
{
	l->renew_ms = ms;
}

void pbs_login_free(struct pbs_login *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->timer_lock);
	l->stopping = true;
	pthread_cond_signal(&l->stop);
	pthread_mutex_unlock(&l->timer_lock);
	if (l->has_thread) {
		pbs_http_abort(l->http);
		pthread_join(l->thread, NULL);
	}
	crypt_wipe(l->vault, sizeof(*l->vault));
	munmap(l->vault, sizeof(*l->vault));
	pthread_cond_destroy(&l->stop);
	pthread_mutex_destroy(&l->timer_lock);
	pthread_mutex_destroy(&l->lock);
	free(l);
}
