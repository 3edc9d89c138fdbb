/* SPDX-License-Identifier: Apache-2.0 */
#include "client/net/tls.h"

#include "client/base/clock.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

enum {
	HANDSHAKE_TIMEOUT_MS = 30 * 1000,
	READ_AHEAD_SIZE = 256 << 10, /* many records with one system call */
	RECORD_SIZE = SSL3_RT_MAX_PLAIN_LENGTH,
	ASK_COUNT_MAX = 2,
};

struct tls {
	SSL *ssl;
	int fd;
	bool has_more; /* behind what is being sent */
	short read_events, write_events; /* what the last call of each kind waits for */
};

/* --- the socket as OpenSSL sees it: no SIGPIPE --- */

static int bio_write(BIO *bio, const char *data, size_t size, size_t *written)
{
	const struct tls *t = BIO_get_data(bio);
	ssize_t n = send(t->fd, data, size, MSG_NOSIGNAL | (t->has_more ? MSG_MORE : 0));

	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_write(bio);
	*written = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static int bio_read(BIO *bio, char *data, size_t size, size_t *got)
{
	const struct tls *t = BIO_get_data(bio);
	ssize_t n = recv(t->fd, data, size, 0);

	BIO_clear_retry_flags(bio);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		BIO_set_retry_read(bio);
	*got = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static long bio_ctrl(BIO *bio, int what, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
	bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
	if (!bio_method)
		return;
	BIO_meth_set_write_ex(bio_method, bio_write);
	BIO_meth_set_read_ex(bio_method, bio_read);
	BIO_meth_set_ctrl(bio_method, bio_ctrl);
}

static BIO *bio_of(struct tls *t)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	BIO *bio;

	pthread_once(&once, make_bio_method);
	bio = bio_method ? BIO_new(bio_method) : NULL;
	if (bio) {
		BIO_set_data(bio, t);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* --- handshake --- */

static SSL_CTX *make_ctx(struct tls_trust *trust)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx)
		return NULL;
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_AHEAD_SIZE);
	/* A server that is stopped closes TCP alone; HTTP says where things end. */
	SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (tls_trust_install(trust, ctx) < 0) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

static bool is_address(const char *host)
{
	unsigned char address[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* An SSL object of its own context, so that the context goes with it. */
static int attach(struct tls *t, const struct tls_target *target)
{
	SSL_CTX *ctx = make_ctx(target->trust);
	BIO *bio = ctx ? bio_of(t) : NULL;

	t->ssl = bio ? SSL_new(ctx) : NULL;
	SSL_CTX_free(ctx);
	if (!t->ssl) {
		BIO_free(bio);
		return -ENOMEM;
	}
	SSL_set_bio(t->ssl, bio, bio);
	SSL_set_connect_state(t->ssl);
	if (!is_address(target->host) && SSL_set_tlsext_host_name(t->ssl, target->host) != 1)
		return -ENOMEM;
	return 0;
}

/* The outcome of a call: 0 at the end, -EAGAIN with *events, or what broke. */
static int outcome(struct tls *t, int result, short *events)
{
	switch (SSL_get_error(t->ssl, result)) {
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_WANT_READ:
		*events = POLLIN;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		*events = POLLOUT;
		return -EAGAIN;
	case SSL_ERROR_SYSCALL:
		return errno && errno != EAGAIN ? -errno : -ECONNRESET;
	default:
		return -EPROTO;
	}
}

static int handshake(struct tls *t, const char *host, int abort_fd, struct err *err)
{
	int64_t deadline_ms = clock_now_ms() + HANDSHAKE_TIMEOUT_MS;
	const char *why;

	for (;;) {
		short events = 0;
		int n, rc;

		ERR_clear_error();
		errno = 0;
		n = SSL_do_handshake(t->ssl);
		if (n == 1)
			return 0;
		rc = outcome(t, n, &events);
		if (rc == -EAGAIN)
			rc = net_wait(t->fd, events, deadline_ms, abort_fd);
		else if (rc == 0)
			rc = -ECONNRESET;
		if (rc == 0)
			continue;
		why = ERR_reason_error_string(ERR_peek_error());
		if (rc == -EPROTO && why)
			return err_set(err, EPROTO, "%s: TLS handshake: %s", host, why);
		return err_sys(err, -rc, "%s: TLS handshake", host);
	}
}

static int connect_once(struct tls **out, const struct tls_target *target, int abort_fd,
			struct err *err)
{
	AUTO(tls) struct tls *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(err, ENOMEM, "out of memory");
	t->fd = -1;
	rc = net_connect(target->host, target->port, target->proxy, abort_fd, &t->fd, err);
	if (rc < 0)
		return rc;
	if (attach(t, target) < 0)
		return err_set(err, ENOMEM, "TLS: out of memory");
	rc = handshake(t, target->host, abort_fd, err);
	if (rc == 0)
		*out = steal(&t);
	return rc;
}

int tls_connect(struct tls **out, const struct tls_target *target, int abort_fd,
		struct err *err)
{
	for (int i = 0;; i++) {
		struct err why = ERR_INIT;
		int asked, rc = connect_once(out, target, abort_fd, err);

		if (rc == 0)
			return 0;
		asked = tls_trust_ask(target->trust, &why);
		if (asked < 0) {
			if (err)
				*err = why;
			return asked;
		}
		if (asked == 1 || i == ASK_COUNT_MAX)
			return rc;
	}
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (t->ssl) {
		ERR_clear_error();
		SSL_shutdown(t->ssl);
		SSL_free(t->ssl);
		ERR_clear_error();
	}
	if (t->fd >= 0)
		close(t->fd);
	free(t);
}

/* --- bytes --- */

ssize_t tls_read(struct tls *t, void *data, size_t size)
{
	size_t n = 0;

	ERR_clear_error();
	errno = 0;
	t->read_events = 0;
	if (SSL_read_ex(t->ssl, data, size, &n) == 1)
		return (ssize_t)n;
	return outcome(t, 0, &t->read_events);
}

ssize_t tls_write(struct tls *t, const void *data, size_t size)
{
	size_t n = 0;

	ERR_clear_error();
	errno = 0;
	t->write_events = 0;
	t->has_more = size > RECORD_SIZE; /* a record is written at a time: they go out together */
	int done = SSL_write_ex(t->ssl, data, size, &n);
	t->has_more = false; /* what OpenSSL writes by itself waits for nothing */
	if (done == 1)
		return (ssize_t)n;
	int rc = outcome(t, 0, &t->write_events);
	return rc == 0 ? -ECONNRESET : rc;
}

short tls_events(const struct tls *t)
{
	return (short)(t->read_events | t->write_events);
}

int tls_fd(const struct tls *t)
{
	return t->fd;
}

int tls_write_all(struct tls *t, const void *data, size_t size, int64_t deadline_ms,
		  int abort_fd)
{
	const uint8_t *p = data;

	while (size > 0) {
		ssize_t n = tls_write(t, p, size);
		int rc = n == -EAGAIN ? net_wait(t->fd, t->write_events, deadline_ms, abort_fd) :
		         n < 0	      ? (int)n :
					0;

		if (rc < 0)
			return rc;
		p += n > 0 ? n : 0;
		size -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

ssize_t tls_read_some(struct tls *t, void *data, size_t size, int64_t deadline_ms, int abort_fd)
{
	for (;;) {
		ssize_t n = tls_read(t, data, size);
		int rc;

		if (n == 0)
			return -ECONNRESET;
		if (n != -EAGAIN)
			return n;
		rc = net_wait(t->fd, t->read_events, deadline_ms, abort_fd);
		if (rc < 0)
			return rc;
	}
}
