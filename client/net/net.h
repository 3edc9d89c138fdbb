/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net - a TCP connection to a host, directly or through an HTTP proxy.
 *
 * Every wait ends: at its time-out, or when `abort_fd` becomes readable (-1: never).
 * Layout:  client/PROTOCOL.md, "Connection" and "Environment variables".
 * Trust:   a proxy's answer is hostile: its size is bounded.
 */
#ifndef PXARFS_NET_H
#define PXARFS_NET_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	NET_CONNECT_TIMEOUT_MS = 10 * 1000,
	NET_ANSWER_TIMEOUT_MS = 120 * 1000,
	NET_PROXY_PORT = 1080,
	NET_HEAD_SIZE_MAX = 16 << 10,
};

/* $ALL_PROXY: [http://][USER:PASSWORD@]HOST[:PORT]. */
struct net_proxy {
	bool is_set;
	char host[256];
	uint16_t port;
	char login[512]; /* "USER:PASSWORD", decoded; "" none */
};

void net_proxy_release(struct net_proxy *p);
DEFINE_AUTO_STRUCT(net_proxy)

/* Unset and empty mean none.  -EINVAL: another scheme, or no host; the message does not show
 * the password. */
int net_proxy_from_environment(struct net_proxy *out, struct err *err);

/* What a proxy's answer to CONNECT means that is not 200: -EACCES, -EPROTO. */
int net_proxy_refused(const struct net_proxy *p, const char *host, uint16_t port, int status,
		      struct err *err);

/* Connect a non-blocking socket: each address of the host in turn, 10 s each.  TCP keep-alive
 * finds a peer that is gone within some 3 minutes, also while it is to receive. */
int net_connect(const char *host, uint16_t port, const struct net_proxy *proxy, int abort_fd,
		int *fd, struct err *err);

/* What net_connect() sets: no delay, keep-alive. */
void net_set_options(int fd);

/* Wait for `events` (poll(2)) until `deadline_ms` (clock_now_ms()).  -ETIMEDOUT, -ECANCELED. */
int net_wait(int fd, short events, int64_t deadline_ms, int abort_fd);

/* The status of an answer's head "HTTP/1.1 200 OK\r\n...", NUL-terminated; 0: it is none. */
int net_http_status(const char *head);

#endif
