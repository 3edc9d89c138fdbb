/* SPDX-License-Identifier: Apache-2.0 */
#include "client/net/tls_trust.h"

#include "archive/base/wbuf.h"
#include "archive/crypt.h"
#include "client/base/io.h"
#include "client/base/secret.h"
#include "client/base/xdg.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_SIZE_MAX = 1 << 20, ANSWER_SIZE_MAX = 16, ASK_COUNT_MAX = 10 };

#define FILE_NAME "fingerprints"

struct tls_trust {
	char *host, *host_text; /* immutable */
	X509_STORE *authorities; /* immutable */
	bool from_environment; /* immutable: expected is $PBS_FINGERPRINT, nothing is stored */

	pthread_mutex_t lock; /* guards the rest */
	bool expects, refused;
	struct digest expected;
	struct digest found; /* of the last certificate that was refused */
	long why; /* X509_V_ERR_..., that its chain was not trusted for */
};

/* --- the file of fingerprints: lines of "HOST FINGERPRINT" --- */

static bool parse_line(char *line, const char **host, const char **fingerprint)
{
	char *rest = NULL;

	*host = strtok_r(line, " \t\r", &rest);
	*fingerprint = *host ? strtok_r(NULL, " \t\r", &rest) : NULL;
	return *fingerprint && !strtok_r(NULL, " \t\r", &rest);
}

/* The file's text, NUL-terminated; empty when there is none. */
static int read_file(const char *path, struct wbuf *out, struct err *err)
{
	AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int rc = fd < 0 ? -errno : io_read_all(fd, out);

	if (rc == 0 || rc == -ENOENT)
		rc = wbuf_put_u8(out, 0);
	if (rc == -E2BIG)
		return err_set(err, E2BIG, "%s: too large", path);
	return rc < 0 ? err_sys(err, -rc, "%s", path) : 0;
}

/* Call for each good line with its words; the text is cut up. */
static void each_line(struct wbuf *text, void (*visit)(void *arg, const char *host,
						       const char *fingerprint), void *arg)
{
	char *rest = NULL;

	for (char *line = strtok_r((char *)text->data, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		const char *host, *fingerprint;

		if (parse_line(line, &host, &fingerprint))
			visit(arg, host, fingerprint);
	}
}

static void look(void *arg, const char *host, const char *fingerprint)
{
	struct tls_trust *t = arg;

	if (strcmp(host, t->host_text) == 0)
		t->expects = crypt_fingerprint_parse(fingerprint, &t->expected) == 0;
}

static int load(struct tls_trust *t, struct err *err)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(FILE_SIZE_MAX);
	AUTO(free) char *folder = xdg_config_folder();
	AUTO(free) char *path = NULL;
	int rc;

	if (!folder)
		return 0;
	if (asprintf(&path, "%s/%s", folder, FILE_NAME) < 0) {
		path = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	rc = read_file(path, &text, err);
	if (rc == 0)
		each_line(&text, look, t);
	return rc;
}

struct rewrite {
	const char *host_text;
	struct wbuf out;
};

static void keep_other(void *arg, const char *host, const char *fingerprint)
{
	struct rewrite *r = arg;

	if (strcmp(host, r->host_text) != 0)
		wbuf_printf(&r->out, "%s %s\n", host, fingerprint);
}

/* The host's line is replaced, the new one comes last. */
static int store(const struct tls_trust *t, const char *fingerprint, struct err *err)
{
	struct rewrite r = { .host_text = t->host_text, .out = WBUF_INIT(FILE_SIZE_MAX) };
	AUTO(wbuf) struct wbuf old = WBUF_INIT(FILE_SIZE_MAX);
	AUTO(free) char *path = NULL;
	int rc = xdg_config_path(FILE_NAME, &path, err);

	if (rc == 0)
		rc = read_file(path, &old, err);
	if (rc == 0) {
		each_line(&old, keep_other, &r);
		wbuf_printf(&r.out, "%s %s\n", t->host_text, fingerprint);
		rc = r.out.failed ? err_set(err, -r.out.failed, "%s: too large", path) :
				    xdg_replace(path, &r.out, err);
	}
	wbuf_release(&r.out);
	return rc;
}

/* --- the rule --- */

static int load_environment(struct tls_trust *t, struct err *err)
{
	AUTO(secret) struct secret value = { .size = 0 };
	int rc = secret_from_environment("PBS_FINGERPRINT", "proxmox-backup-client.fingerprint",
					 &value, err);

	if (rc != 0)
		return rc;
	while (value.size && strchr(" \t\r\n", value.bytes[value.size - 1]))
		value.size--;
	t->from_environment = true;
	if (value.size == 0) /* none is the expected one */
		return 0;
	if (value.size == sizeof(value.bytes))
		value.size--;
	value.bytes[value.size] = '\0';
	if (crypt_fingerprint_parse(value.bytes, &t->expected) < 0)
		return err_set(err, EINVAL, "PBS_FINGERPRINT: expected 32 bytes as hex pairs, aa:bb:...");
	t->expects = true;
	return 0;
}

int tls_trust_new(struct tls_trust **out, const char *host, const char *host_text,
		  struct err *err)
{
	AUTO(tls_trust) struct tls_trust *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(err, ENOMEM, "out of memory");
	pthread_mutex_init(&t->lock, NULL);
	t->host = strdup(host);
	t->host_text = strdup(host_text);
	t->authorities = X509_STORE_new();
	if (!t->host || !t->host_text || !t->authorities)
		return err_set(err, ENOMEM, "out of memory");
	X509_STORE_set_default_paths(t->authorities);
	rc = load_environment(t, err);
	if (rc == 1)
		rc = load(t, err);
	if (rc == 0)
		*out = steal(&t);
	return rc;
}

void tls_trust_free(struct tls_trust *t)
{
	if (!t)
		return;
	X509_STORE_free(t->authorities);
	pthread_mutex_destroy(&t->lock);
	free(t->host);
	free(t->host_text);
	free(t);
}

static bool set_host(X509_STORE_CTX *chain, const char *host)
{
	X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(chain);
	unsigned char address[sizeof(struct in6_addr)];

	if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
	return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

/* OpenSSL's question, within a handshake: 1 accepts. */
static int decide(X509_STORE_CTX *chain, void *arg)
{
	struct tls_trust *t = arg;
	X509 *leaf = X509_STORE_CTX_get0_cert(chain);
	struct digest found;
	unsigned size = 0;
	bool is_expected;

	if (set_host(chain, t->host) && X509_verify_cert(chain) == 1)
		return 1;
	if (!leaf || X509_digest(leaf, EVP_sha256(), found.bytes, &size) != 1 || size != DIGEST_SIZE)
		return 0;
	pthread_mutex_lock(&t->lock);
	is_expected = t->expects && digest_equal(&found, &t->expected);
	if (!is_expected) {
		t->refused = true;
		t->found = found;
		t->why = X509_STORE_CTX_get_error(chain);
	}
	pthread_mutex_unlock(&t->lock);
	if (is_expected)
		X509_STORE_CTX_set_error(chain, X509_V_OK);
	else if (X509_STORE_CTX_get_error(chain) == X509_V_OK)
		X509_STORE_CTX_set_error(chain, X509_V_ERR_CERT_UNTRUSTED);
	return is_expected;
}

int tls_trust_install(struct tls_trust *t, SSL_CTX *ctx)
{
	if (SSL_CTX_set1_verify_cert_store(ctx, t->authorities) != 1)
		return -ENOMEM;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, decide, t);
	return 0;
}

/* --- asking --- */

/* 'y' or 'n'. */
static int read_answer(void)
{
	for (int i = 0; i < ASK_COUNT_MAX; i++) {
		char line[ANSWER_SIZE_MAX];
		ssize_t n;

		fputs("Are you sure you want to continue connecting? (y/n): ", stderr);
		do
			n = read(STDIN_FILENO, line, sizeof(line));
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			return 'n';
		if (n == 2 && strchr("yY", line[0]))
			return 'y';
		if (n == 2 && strchr("nN", line[0]))
			return 'n';
	}
	return 'n';
}

static int refuse(const struct tls_trust *t, const char *fingerprint, struct err *err)
{
	char expected[CRYPT_FINGERPRINT_TEXT_SIZE];

	if (t->expects) {
		crypt_fingerprint_text(&t->expected, expected);
		return err_set(err, EACCES, "the certificate of %s has the fingerprint %s, not the "
			       "expected %s", t->host_text, fingerprint, expected);
	}
	return err_set(err, EACCES, "the certificate of %s is not trusted (%s); if its fingerprint "
		       "%s is right, set $PBS_FINGERPRINT to it", t->host_text,
		       X509_verify_cert_error_string(t->why), fingerprint);
}

int tls_trust_ask(struct tls_trust *t, struct err *err)
{
	char fingerprint[CRYPT_FINGERPRINT_TEXT_SIZE];
	int rc = 0;

	pthread_mutex_lock(&t->lock);
	if (!t->refused) {
		pthread_mutex_unlock(&t->lock);
		return 1;
	}
	t->refused = false;
	crypt_fingerprint_text(&t->found, fingerprint);
	refuse(t, fingerprint, err);
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		rc = -EACCES;
	} else {
		fprintf(stderr, "%s\nfingerprint: %s\n", err_text(err, -EACCES), fingerprint);
		rc = read_answer() == 'y' ? 0 : -EACCES;
	}
	if (rc == 0) {
		t->expected = t->found;
		t->expects = true;
	}
	pthread_mutex_unlock(&t->lock);
	if (rc == 0 && !t->from_environment)
		rc = store(t, fingerprint, err);
	return rc;
}
