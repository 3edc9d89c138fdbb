/* SPDX-License-Identifier: Apache-2.0 */
/* A server's JSON: rows of its lists, and the answer to a login.  What is taken is good. */
#include "client/repo/pbs_row.h"
#include "client/repo/pbs_ticket.h"
#include "tests/fuzz/must.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_group(const struct snapshot_group *g)
{
	must(snapshot_is_type(g->type));
	must(snapshot_is_safe_id(g->id));
}

static bool is_text(const json_t *object, const char *member)
{
	return !json_object_get(object, member) || json_is_string(json_object_get(object, member));
}

/* What stands for a manifest. */
static void check_telling(const json_t *row)
{
	const json_t *file, *size;
	size_t i;

	must(is_text(row, "comment") && is_text(row, "fingerprint"));
	json_array_foreach(json_object_get(row, "files"), i, file) {
		must(json_is_string(json_object_get(file, "filename")));
		must(strlen(json_string_value(json_object_get(file, "filename"))) <=
		     ARCHIVE_NAME_SIZE_MAX);
		size = json_object_get(file, "size");
		must(!size || (json_is_integer(size) && json_integer_value(size) >= 0));
		must(is_text(file, "crypt-mode"));
	}
}

static void check_row(const json_t *row)
{
	struct repo_group_info group = { .backup_count = 0 };
	struct repo_snapshot_info snapshot = { .finished = false };
	char ns[SNAPSHOT_NS_SIZE_MAX + 1], again[SNAPSHOT_NS_SIZE_MAX + 1];

	if (pbs_row_ns(row, ns))
		must(snapshot_ns_parse(ns, again, NULL) == 0 && strcmp(ns, again) == 0);
	if (pbs_row_group(row, &group)) {
		check_group(&group.group);
		must(memchr(group.owner, 0, sizeof(group.owner)));
	}
	if (pbs_row_snapshot(row, &snapshot)) {
		check_group(&snapshot.name.group);
		must(snapshot.name.time >= 1);
		must(!snapshot.row || snapshot.finished);
		if (snapshot.row)
			check_telling(snapshot.row);
	}
}

static void check_ticket(const uint8_t *data, size_t size)
{
	struct pbs_ticket t;
	bool totp, recovery;
	struct err err = ERR_INIT;

	if (pbs_ticket_decode(data, size, "", &t, &err) < 0) {
		must(err.text[0]);
		return;
	}
	must(t.ticket[0] && t.csrf[0]);
	for (const char *p = t.ticket; *p; p++)
		must((unsigned char)*p >= ' ' && *p != 0x7f);
	for (const char *p = t.csrf; *p; p++)
		must((unsigned char)*p >= ' ' && *p != 0x7f);
	if (pbs_ticket_is_partial(&t))
		pbs_ticket_challenge(&t, &totp, &recovery);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(json) json_t *all = NULL;
	const json_t *rows;

	check_ticket(data, size);
	if (json_text_decode(data, size, &all, NULL) < 0)
		return 0;
	rows = json_object_get(all, "data");
	for (size_t i = 0; i < json_array_size(rows); i++)
		check_row(json_array_get(rows, i));
	check_row(all);
	return 0;
}
