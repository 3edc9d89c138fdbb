/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls - an encrypted connection to a server: TCP (client/net/net.h), then a handshake that the
 * rule of client/net/tls_trust.h lets pass.
 *
 * Threads: one at a time.
 */
#ifndef PXARFS_TLS_H
#define PXARFS_TLS_H

#include "client/net/net.h"
#include "client/net/tls_trust.h"

#include <sys/types.h>

/* Lent for the call. */
struct tls_target {
	const char *host; /* no brackets */
	uint16_t port;
	const struct net_proxy *proxy; /* may be NULL */
	struct tls_trust *trust;
};

struct tls;

/* Asks a person about the certificate where that is possible, and connects again. */
int tls_connect(struct tls **out, const struct tls_target *target, int abort_fd,
		struct err *err);

/* Tells the peer that it is the end, without waiting, and closes. */
void tls_free(struct tls *t);
DEFINE_AUTO_PTR(tls)

/* Bytes that were read or written, at least 1; 0: the peer has ended the connection (reads
 * only); -EAGAIN: wait for tls_events(); other errors: the connection is broken.  A write that
 * gave -EAGAIN must be repeated with the same bytes first. */
ssize_t tls_read(struct tls *t, void *data, size_t size);
ssize_t tls_write(struct tls *t, const void *data, size_t size);

/* What poll(2) is to wait for on tls_fd() so that the last read or write can go on. */
short tls_events(const struct tls *t);
int tls_fd(const struct tls *t);

/* The same, waiting: all of it; some of it.  -ECONNRESET: the peer has ended the connection. */
int tls_write_all(struct tls *t, const void *data, size_t size, int64_t deadline_ms,
		  int abort_fd);
ssize_t tls_read_some(struct tls *t, void *data, size_t size, int64_t deadline_ms, int abort_fd);

#endif
