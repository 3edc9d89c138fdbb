/* SPDX-License-Identifier: Apache-2.0 */
#include "client/net/net.h"

#include "archive/crypt.h"
#include "client/base/clock.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <poll.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

enum {
	KEEPALIVE_IDLE_S = 120,
	KEEPALIVE_INTERVAL_S = 15,
	KEEPALIVE_COUNT = 4,
	UNACKNOWLEDGED_MS = 180 * 1000,
};

int net_wait(int fd, short events, int64_t deadline_ms, int abort_fd)
{
	struct pollfd fds[] = { { .fd = fd, .events = events },
				{ .fd = abort_fd, .events = POLLIN } };

	for (;;) {
		int64_t left = deadline_ms - clock_now_ms();
		int n = poll(fds, 2, left < 0 ? 0 : left > 60000 ? 60000 : (int)left);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && fds[1].revents)
			return -ECANCELED;
		if (n > 0)
			return 0;
		if (n == 0 && left <= 0)
			return -ETIMEDOUT;
	}
}

/* --- proxy --- */

void net_proxy_release(struct net_proxy *p)
{
	crypt_wipe(p, sizeof(*p));
}

int net_proxy_refused(const struct net_proxy *p, const char *host, uint16_t port, int status,
		      struct err *err)
{
	return err_set(err, status == 407 ? EACCES : EPROTO,
		       "proxy %s:%u refuses a tunnel to %s:%u%s (status %d)", p->host, p->port, host,
		       port, status == 407 ? ": it wants another user or password" : "", status);
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *at;

	if (c >= 'A' && c <= 'F')
		c = (char)(c + 'a' - 'A');
	at = c ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* Copy `size` bytes of a URL, %XX decoded; false: too long, or no text. */
static bool decode(const char *text, size_t size, char *out, size_t out_size)
{
	size_t used = 0;

	for (size_t i = 0; i < size; i++) {
		char c = text[i];

		if (c == '%' && i + 2 < size && hex_digit(text[i + 1]) >= 0 &&
		    hex_digit(text[i + 2]) >= 0) {
			c = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
			i += 2;
		}
		if (used + 1 >= out_size || (unsigned char)c < ' ')
			return false;
		out[used++] = c;
	}
	out[used] = '\0';
	return true;
}

static int parse_proxy_port(const char *text, struct net_proxy *out)
{
	char *end;
	long port = strtol(text, &end, 10);

	if (end == text || port < 1 || port > UINT16_MAX || (*end && strcmp(end, "/") != 0))
		return -EINVAL;
	out->port = (uint16_t)port;
	return 0;
}

/* "HOST[:PORT][/]", the host perhaps an IPv6 address in brackets. */
static int parse_proxy_host(const char *text, struct net_proxy *out)
{
	bool is_bracketed = text[0] == '[';
	size_t n = is_bracketed ? strcspn(++text, "]") : strcspn(text, ":/");
	const char *rest = text + n;

	if (n == 0 || n >= sizeof(out->host) || (is_bracketed && *rest != ']'))
		return -EINVAL;
	memcpy(out->host, text, n);
	out->host[n] = '\0';
	rest += is_bracketed;
	if (*rest == ':')
		return parse_proxy_port(rest + 1, out);
	return *rest && strcmp(rest, "/") != 0 ? -EINVAL : 0;
}

int net_proxy_from_environment(struct net_proxy *out, struct err *err)
{
	static const char scheme[] = "http://";
	const char *text = getenv("ALL_PROXY"), *at;

	*out = (struct net_proxy){ .port = NET_PROXY_PORT };
	if (!text || !text[0])
		return 0;
	if (strncasecmp(text, scheme, strlen(scheme)) == 0)
		text += strlen(scheme);
	else if (strstr(text, "://"))
		return err_set(err, EINVAL, "ALL_PROXY: only http:// is known");
	at = strrchr(text, '@');
	if (at && !decode(text, (size_t)(at - text), out->login, sizeof(out->login)))
		return err_set(err, EINVAL, "ALL_PROXY: user and password are too long, or no text");
	if (parse_proxy_host(at ? at + 1 : text, out) < 0)
		return err_set(err, EINVAL, "ALL_PROXY: expected [http://][USER:PASSWORD@]HOST[:PORT]");
	out->is_set = true;
	return 0;
}

int net_http_status(const char *head)
{
	int status = 0;

	if (strncmp(head, "HTTP/1.", 7) != 0 || (head[7] != '0' && head[7] != '1') || head[8] != ' ')
		return 0;
	for (int i = 9; i < 12; i++) {
		if (head[i] < '0' || head[i] > '9')
			return 0;
		status = status * 10 + head[i] - '0';
	}
	return (head[12] == ' ' || head[12] == '\r') && status >= 100 ? status : 0;
}

static int send_all(int fd, const char *data, size_t size, int64_t deadline_ms, int abort_fd)
{
	while (size > 0) {
		ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
		int rc = 0;

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0)
			rc = net_wait(fd, POLLOUT, deadline_ms, abort_fd);
		if (rc < 0)
			return rc;
		data += n < 0 ? 0 : n;
		size -= n < 0 ? 0 : (size_t)n;
	}
	return 0;
}

/* Byte by byte: what follows the head is not ours. */
static int read_head(int fd, char head[NET_HEAD_SIZE_MAX], int64_t deadline_ms, int abort_fd)
{
	for (size_t used = 0; used < NET_HEAD_SIZE_MAX - 1;) {
		ssize_t n = recv(fd, head + used, 1, 0);
		int rc = 0;

		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0)
			rc = net_wait(fd, POLLIN, deadline_ms, abort_fd);
		if (rc < 0)
			return rc;
		used += n > 0;
		head[used] = '\0';
		if (n > 0 && used >= 4 && memcmp(head + used - 4, "\r\n\r\n", 4) == 0)
			return 0;
	}
	return -E2BIG;
}

static int tunnel_request(const char *host, uint16_t port, const struct net_proxy *proxy,
			  char *out, size_t size)
{
	const char *open = strchr(host, ':') ? "[" : "", *close = open[0] ? "]" : "";
	unsigned char login[4 * sizeof(proxy->login) / 3 + 4] = "";
	int n;

	if (proxy->login[0])
		EVP_EncodeBlock(login, (const unsigned char *)proxy->login,
				(int)strlen(proxy->login));
	n = snprintf(out, size, "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n%s%s%s\r\n", open,
		     host, close, port, open, host, close, port,
		     login[0] ? "Proxy-Authorization: Basic " : "", login, login[0] ? "\r\n" : "");
	crypt_wipe(login, sizeof(login));
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

static int open_tunnel(int fd, const char *host, uint16_t port, const struct net_proxy *proxy,
		       int abort_fd, struct err *err)
{
	int64_t deadline_ms = clock_now_ms() + NET_ANSWER_TIMEOUT_MS;
	AUTO(free) char *head = malloc(NET_HEAD_SIZE_MAX);
	int rc = head ? tunnel_request(host, port, proxy, head, NET_HEAD_SIZE_MAX) : -ENOMEM;
	int status;

	if (rc == 0)
		rc = send_all(fd, head, strlen(head), deadline_ms, abort_fd);
	if (head)
		crypt_wipe(head, NET_HEAD_SIZE_MAX);
	if (rc == 0)
		rc = read_head(fd, head, deadline_ms, abort_fd);
	if (rc < 0)
		return err_sys(err, -rc, "proxy %s", proxy->host);
	status = net_http_status(head);
	return status == 200 ? 0 : net_proxy_refused(proxy, host, port, status, err);
}

/* --- connecting --- */

void net_set_options(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_NODELAY, 1 },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT },
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS },
	};

	/* None of them is needed to get on. */
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

static int connect_one(const struct addrinfo *a, int abort_fd, int *out)
{
	AUTO(fd) int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int error = 0, rc = 0;
	socklen_t size = sizeof(error);

	if (fd < 0)
		return -errno;
	net_set_options(fd);
	if (connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		rc = net_wait(fd, POLLOUT, clock_now_ms() + NET_CONNECT_TIMEOUT_MS, abort_fd);
	}
	if (rc == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0)
		rc = -error;
	if (rc == 0)
		*out = steal_fd(&fd);
	return rc;
}

static int connect_host(const char *host, uint16_t port, int abort_fd, int *fd, struct err *err)
{
	const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list = NULL;
	char service[8];
	int rc = -EHOSTUNREACH, failed;

	snprintf(service, sizeof(service), "%u", port);
	failed = getaddrinfo(host, service, &hints, &list);
	if (failed)
		return err_set(err, EHOSTUNREACH, "%s: %s", host, gai_strerror(failed));
	for (const struct addrinfo *a = list; a && rc < 0 && rc != -ECANCELED; a = a->ai_next)
		rc = connect_one(a, abort_fd, fd);
	freeaddrinfo(list);
	return rc < 0 ? err_sys(err, -rc, "cannot connect to %s:%u", host, port) : 0;
}

int net_connect(const char *host, uint16_t port, const struct net_proxy *proxy, int abort_fd,
		int *out, struct err *err)
{
	bool is_direct = !proxy || !proxy->is_set;
	AUTO(fd) int fd = -1;
	int rc = is_direct ? connect_host(host, port, abort_fd, &fd, err) :
			     connect_host(proxy->host, proxy->port, abort_fd, &fd, err);

	if (rc == 0 && !is_direct)
		rc = open_tunnel(fd, host, port, proxy, abort_fd, err);
	if (rc == 0)
		*out = steal_fd(&fd);
	return rc;
}
