/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_trust - whether a server's certificate is to be believed.
 *
 * It is, when its chain leads to an authority that the system trusts and it is for the host;
 * else when its fingerprint is the expected one ($PBS_FINGERPRINT, else the host's in the file
 * of fingerprints); else when a person at the terminal says so, which the file remembers.
 *
 * The person is asked between two connections, not during one: a server waits 10 s.  So a
 * handshake that is refused leaves its fingerprint here, tls_trust_ask() asks, and the caller
 * connects again.
 *
 * Layout:  client/PROTOCOL.md, "Connection" and "Local files".
 * Threads: any number.
 */
#ifndef PXARFS_TLS_TRUST_H
#define PXARFS_TLS_TRUST_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <openssl/ssl.h>

struct tls_trust;

/* `host` is the name or address that the certificate must be for, `host_text` how the file of
 * fingerprints calls it.  -EINVAL: $PBS_FINGERPRINT is no fingerprint. */
int tls_trust_new(struct tls_trust **out, const char *host, const char *host_text,
		  struct err *err);
void tls_trust_free(struct tls_trust *t);
DEFINE_AUTO_PTR(tls_trust)

/* Let the rule decide for all connections of `ctx`, which must not outlive it.  A handshake
 * with a certificate that is refused fails.  -ENOMEM. */
int tls_trust_install(struct tls_trust *t, SSL_CTX *ctx);

/* After a failed handshake: 1 when no certificate was refused.  0: a person has accepted the
 * certificate, connect again.  -EACCES: refused; the message says why and tells the fingerprint. */
int tls_trust_ask(struct tls_trust *t, struct err *err);

#endif
