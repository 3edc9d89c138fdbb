/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_name.h"

#include "client/repo/snapshot.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { STORE_SIZE_MIN = 3, REALM_SIZE_MIN = 2, REALM_SIZE_MAX = 32, AUTH_ID_SIZE_MIN = 3 };

static bool is_user_byte(unsigned char c)
{
	return c > ' ' && c != 0x7f && c != ':' && c != '/';
}

/* The realm starts behind the last '@', the token's name behind the last '!' right of it. */
bool pbs_name_is_auth_id(const char *text, bool *is_token)
{
	size_t size = strlen(text);
	const char *at = strrchr(text, '@');
	char realm[REALM_SIZE_MAX + 1];
	const char *bang;
	size_t n;

	if (size < AUTH_ID_SIZE_MIN || size > PBS_NAME_AUTH_ID_SIZE_MAX || !at || at == text)
		return false;
	for (const char *p = text; p < at; p++)
		if (!is_user_byte((unsigned char)*p))
			return false;
	bang = strrchr(at, '!');
	n = bang ? (size_t)(bang - at) - 1 : strlen(at + 1);
	if (n < REALM_SIZE_MIN || n > REALM_SIZE_MAX)
		return false;
	memcpy(realm, at + 1, n);
	realm[n] = '\0';
	if (is_token)
		*is_token = bang != NULL;
	return snapshot_is_safe_id(realm) && (!bang || snapshot_is_safe_id(bang + 1));
}

bool pbs_name_owns(const char *auth_id, const char *owner)
{
	size_t n = strlen(auth_id);

	return strncmp(owner, auth_id, n) == 0 && (owner[n] == '\0' || owner[n] == '!');
}

/* Labels of letters, digits and inner hyphens, joined by dots. */
static bool is_dns_name(const char *text)
{
	char last = '.';

	for (const char *p = text; *p; p++) {
		bool edge = last == '.' || p[1] == '.' || p[1] == '\0';

		if (*p == '.' ? last == '.' : !isalnum((unsigned char)*p) && (*p != '-' || edge))
			return false;
		last = *p;
	}
	return last != '.';
}

static int parse_host(const char *text, struct pbs_name *out, struct err *err)
{
	size_t size = strlen(text);
	struct in6_addr address;

	if (size >= sizeof(out->host))
		return err_set(err, EINVAL, "the host's name is too long");
	strcpy(out->host_text, text);
	if (text[0] != '[') {
		strcpy(out->host, text);
		return is_dns_name(text) ? 0 : err_set(err, EINVAL, "'%s' is no host", text);
	}
	if (text[size - 1] == ']') {
		memcpy(out->host, text + 1, size - 2);
		out->host[size - 2] = '\0';
		if (inet_pton(AF_INET6, out->host, &address) == 1)
			return 0;
	}
	return err_set(err, EINVAL, "'%s' is no IPv6 address in brackets", text);
}

static int parse_server(char *text, struct pbs_name *out, struct err *err)
{
	char *at = strrchr(text, '@');

	if (at) {
		*at = '\0';
		if (!pbs_name_is_auth_id(text, &out->is_token))
			return err_set(err, EINVAL, "'%s' is no user, USER@REALM or USER@REALM!TOKEN",
				       text);
		strcpy(out->auth_id, text);
		text = at + 1;
	}
	return parse_host(text, out, err);
}

/* The last colon outside brackets; NULL: none. */
static char *last_colon(char *text)
{
	char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');

	return colon && (!bracket || colon > bracket) ? colon : NULL;
}

/* "X:D" with one to five digits: D is the port.  Digits alone are a host. */
static int cut_port(char *text, struct pbs_name *out, struct err *err)
{
	char *colon = last_colon(text);
	size_t n = colon ? strlen(colon + 1) : 0;
	long port;

	if (!colon || colon == text || n < 1 || n > 5 || strspn(colon + 1, "0123456789") != n)
		return 0;
	port = strtol(colon + 1, NULL, 10);
	if (port < 1 || port > UINT16_MAX)
		return err_set(err, EINVAL, "%ld is no port", port);
	out->port = (uint16_t)port;
	*colon = '\0';
	return 0;
}

static int parse(char *text, struct pbs_name *out, struct err *err)
{
	char *colon = last_colon(text);
	const char *store = colon ? colon + 1 : text;
	size_t n = strlen(store);
	int rc;

	if (n < STORE_SIZE_MIN || n > PBS_NAME_STORE_SIZE_MAX || !snapshot_is_safe_id(store))
		return err_set(err, EINVAL, "'%s' is no datastore's name (3 to 32 of A-Z a-z 0-9 . _ -)",
			       store);
	strcpy(out->store, store);
	if (!colon)
		return 0;
	*colon = '\0';
	rc = cut_port(text, out, err);
	return rc < 0 ? rc : parse_server(text, out, err);
}

int pbs_name_parse(const char *text, struct pbs_name *out, struct err *err)
{
	struct pbs_name name = { .auth_id = "root@pam",
				 .host_text = "localhost",
				 .host = "localhost",
				 .port = PBS_NAME_PORT };
	char copy[PBS_NAME_SIZE_MAX + 1];
	int rc;

	if (strlen(text) >= sizeof(copy))
		return err_set(err, EINVAL, "a repository's name of more than %d bytes",
			       PBS_NAME_SIZE_MAX);
	strcpy(copy, text);
	rc = parse(copy, &name, err);
	if (rc == 0)
		*out = name;
	return rc;
}
