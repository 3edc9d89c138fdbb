/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_ticket.h"

#include "archive/crypt.h"
#include "archive/json_text.h"
#include "client/repo/pbs_member.h"

#include <string.h>
#include <strings.h>

#define PARTIAL "PBS:!tfa!"

void pbs_ticket_release(struct pbs_ticket *t)
{
	crypt_wipe(t, sizeof(*t));
}

static bool is_header_text(const char *text)
{
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return false;
	return text[0] != '\0';
}

int pbs_ticket_decode(const void *text, size_t size, const char *cookie, struct pbs_ticket *out,
		      struct err *err)
{
	AUTO(pbs_ticket) struct pbs_ticket t = { .is_host_cookie = cookie[0] != '\0' };
	AUTO(json) json_t *all = NULL;
	const json_t *data;
	int rc = json_text_decode(text, size, &all, err);

	if (rc < 0)
		return err_wrap(err, rc == -ENOMEM ? rc : -EPROTO, "login: the answer");
	data = json_object_get(all, "data");
	if (t.is_host_cookie)
		snprintf(t.ticket, sizeof(t.ticket), "%s", cookie);
	else if (!pbs_member_text(data, "ticket", t.ticket, sizeof(t.ticket)))
		return err_set(err, EPROTO, "login: an answer without a good ticket");
	if (!pbs_member_text(data, "CSRFPreventionToken", t.csrf, sizeof(t.csrf)))
		return err_set(err, EPROTO, "login: an answer without a good CSRFPreventionToken");
	if (!is_header_text(t.ticket) || !is_header_text(t.csrf))
		return err_set(err, EPROTO, "login: a ticket that no header can hold");
	*out = t;
	return 0;
}

bool pbs_ticket_is_partial(const struct pbs_ticket *t)
{
	return strncmp(t->ticket, PARTIAL, strlen(PARTIAL)) == 0;
}

/* Between "!tfa!" and the next ':', as JSON whose own colons are percent-encoded. */
void pbs_ticket_challenge(const struct pbs_ticket *t, bool *totp, bool *recovery)
{
	const char *begin = t->ticket + strlen(PARTIAL), *end = strchrnul(begin, ':');
	AUTO(wbuf) struct wbuf text = WBUF_INIT(PBS_TICKET_SIZE_MAX);
	AUTO(json) json_t *kinds = NULL;

	for (const char *p = begin; p < end; p++) {
		bool is_colon = end - p >= 3 && strncasecmp(p, "%3a", 3) == 0;

		wbuf_put_u8(&text, is_colon ? ':' : (uint8_t)*p);
		p += is_colon ? 2 : 0;
	}
	*totp = *recovery = false;
	if (json_text_decode(text.data, text.size, &kinds, NULL) < 0)
		return;
	*totp = json_is_true(json_object_get(kinds, "totp"));
	*recovery = json_array_size(json_object_get(kinds, "recovery")) > 0;
}
