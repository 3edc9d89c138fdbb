/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_row.h"

#include "client/repo/pbs_member.h"

#include <string.h>

bool pbs_row_ns(const json_t *row, char ns[SNAPSHOT_NS_SIZE_MAX + 1])
{
	char text[SNAPSHOT_NS_SIZE_MAX + 1];

	return pbs_member_text(row, "ns", text, sizeof(text)) &&
	       snapshot_ns_parse(text, ns, NULL) == 0;
}

static bool take_group(const json_t *row, struct snapshot_group *g)
{
	return pbs_member_text(row, "backup-type", g->type, sizeof(g->type)) &&
	       pbs_member_text(row, "backup-id", g->id, sizeof(g->id)) &&
	       snapshot_is_type(g->type) && snapshot_is_safe_id(g->id);
}

bool pbs_row_group(const json_t *row, struct repo_group_info *out)
{
	int64_t count;

	if (!take_group(row, &out->group) ||
	    !pbs_member_integer(row, "backup-count", 0, INT64_MAX, &count) ||
	    !pbs_member_integer(row, "last-backup", INT64_MIN, INT64_MAX, &out->last_backup))
		return false;
	out->backup_count = (size_t)count;
	if (!pbs_member_text(row, "owner", out->owner, sizeof(out->owner)))
		out->owner[0] = '\0';
	return true;
}

/* A name alone is what is on disk while the backup still runs. */
static bool has_manifest(const json_t *row)
{
	const json_t *files = json_object_get(row, "files");

	for (size_t i = 0; i < json_array_size(files); i++) {
		const json_t *file = json_array_get(files, i);
		const char *name = json_string_value(json_object_get(file, "filename"));

		if (name && strcmp(name, MANIFEST_BLOB_NAME) == 0 && json_object_get(file, "size"))
			return true;
	}
	return false;
}

static bool is_text(const json_t *object, const char *member)
{
	const json_t *value = json_object_get(object, member);

	return !value || json_is_string(value);
}

static bool is_file(const json_t *file)
{
	const char *mode = json_string_value(json_object_get(file, "crypt-mode"));
	char name[ARCHIVE_NAME_SIZE_MAX + 1];
	enum crypt_mode known;
	int64_t size;

	return pbs_member_text(file, "filename", name, sizeof(name)) && is_text(file, "crypt-mode") &&
	       (!mode || crypt_mode_parse(mode, &known) == 0) &&
	       (!json_object_get(file, "size") ||
		pbs_member_integer(file, "size", 0, INT64_MAX, &size));
}

/* Can it stand for the manifest? */
static bool is_telling(const json_t *row)
{
	const json_t *files = json_object_get(row, "files");
	const json_t *verification = json_object_get(row, "verification");

	for (size_t i = 0; i < json_array_size(files); i++)
		if (!is_file(json_array_get(files, i)))
			return false;
	return is_text(row, "comment") && is_text(row, "fingerprint") &&
	       (!verification || json_is_object(verification));
}

bool pbs_row_snapshot(const json_t *row, struct repo_snapshot_info *out)
{
	if (!take_group(row, &out->name.group) ||
	    !pbs_member_integer(row, "backup-time", 1, INT64_MAX, &out->name.time))
		return false;
	out->finished = has_manifest(row);
	out->is_protected = json_is_true(json_object_get(row, "protected"));
	out->row = out->finished && is_telling(row) ? row : NULL;
	return true;
}
