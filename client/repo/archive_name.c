/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/archive_name.h"

#include "client/repo/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The kinds of stored name, by what stands behind the X of "X.pxar". */
enum kind { SINGLE, PBS_META, PBS_PAYLOAD, DESIGN_META, DESIGN_PAYLOAD, KIND_COUNT };

static const char *const SUFFIX[KIND_COUNT] = {
	[SINGLE] = ".pxar",
	[PBS_META] = ".mpxar",
	[PBS_PAYLOAD] = ".ppxar",
	[DESIGN_META] = ".pxar.meta",
	[DESIGN_PAYLOAD] = ".pxar.pld",
};

static bool strip(const char *text, size_t *size, const char *suffix)
{
	size_t n = strlen(suffix);

	/* Something must be left: ".pxar" alone names nothing. */
	if (*size <= n || memcmp(text + *size - n, suffix, n) != 0)
		return false;
	*size -= n;
	return true;
}

/* Which kind of archive name `text` is; `*stem_size` is the length of its X. */
static bool classify(const char *text, bool need_extension, enum kind *kind, size_t *stem_size)
{
	size_t size = strlen(text);

	if (!strip(text, &size, ".didx") && need_extension)
		return false;
	for (int k = 0; k < KIND_COUNT; k++) {
		if (strip(text, &size, SUFFIX[k])) {
			*kind = (enum kind)k;
			*stem_size = size;
			return true;
		}
	}
	return false;
}

static int stored_name(char out[ARCHIVE_NAME_SIZE_MAX + 1], const char *stem, size_t stem_size,
		       enum kind kind, struct err *err)
{
	int n = snprintf(out, ARCHIVE_NAME_SIZE_MAX + 1, "%.*s%s.didx", (int)stem_size, stem,
			 SUFFIX[kind]);

	if (n < 0 || n > ARCHIVE_NAME_SIZE_MAX)
		return err_set(err, ENAMETOOLONG, "archive name is longer than %d bytes",
			       ARCHIVE_NAME_SIZE_MAX);
	if (!snapshot_is_safe_id(out))
		return err_set(err, EINVAL,
			       "'%s' is no archive name: expected letters, digits, '_', '-' "
			       "and '.', the first of them a letter, digit or '_'",
			       out);
	return 0;
}

/* Fill in the pair; 1: complete, 0: neither half, -EBADMSG: one half. */
static int find_pair(const struct manifest *m, const char *stem, size_t stem_size,
		     enum archive_names convention, struct archive_name *out, struct err *err)
{
	bool pbs = convention == ARCHIVE_NAMES_PBS;
	int rc = stored_name(out->meta, stem, stem_size, pbs ? PBS_META : DESIGN_META, err);

	if (rc == 0)
		rc = stored_name(out->payload, stem, stem_size,
				 pbs ? PBS_PAYLOAD : DESIGN_PAYLOAD, err);
	if (rc < 0)
		return rc;
	bool has_meta = manifest_find(m, out->meta) != NULL;
	bool has_payload = manifest_find(m, out->payload) != NULL;
	if (has_meta == has_payload)
		return has_meta;
	return err_set(err, EBADMSG, "the snapshot has %s but not %s, the other half of it",
		       has_meta ? out->meta : out->payload,
		       has_meta ? out->payload : out->meta);
}

/* With the first ones that it has. */
static int not_found(const struct manifest *m, const char *typed, struct err *err)
{
	char shown[ARCHIVE_NAME_SIZE_MAX + 1], all[ERR_TEXT_SIZE / 2] = "";
	size_t used = 0;
	enum kind kind;

	for (size_t i = 0; i < m->file_count; i++) {
		size_t stem_size;

		if (!classify(m->files[i].name, true, &kind, &stem_size) ||
		    !archive_name_display(m->files[i].name, shown))
			continue;
		int n = snprintf(all + used, sizeof(all) - used, "%s%s", used ? ", " : "", shown);
		if (n < 0 || (size_t)n >= sizeof(all) - used) {
			all[used] = '\0';
			break;
		}
		used += (size_t)n;
	}
	return err_set(err, ENOENT, "the snapshot has no archive '%s'%s%s", typed,
		       used ? "; it has " : "", all);
}

/* "X.pxar": the single stream, else the first complete pair. */
static int find_any(const struct manifest *m, const char *stem, size_t stem_size,
		    struct archive_name *out, struct err *err)
{
	struct err half = ERR_INIT;
	int result = 0;
	int rc = stored_name(out->meta, stem, stem_size, SINGLE, err);

	if (rc < 0)
		return rc;
	out->payload[0] = '\0';
	if (manifest_find(m, out->meta))
		return 1;
	for (int c = ARCHIVE_NAMES_PBS; c <= ARCHIVE_NAMES_DESIGN; c++) {
		rc = find_pair(m, stem, stem_size, (enum archive_names)c, out, &half);
		if (rc > 0)
			return 1;
		if (rc < 0 && result == 0) {
			result = rc;
			if (err)
				*err = half;
		}
	}
	return result;
}

int archive_name_check(const char *typed, struct err *err)
{
	char name[ARCHIVE_NAME_SIZE_MAX + 1];
	enum kind kind;
	size_t stem_size;

	if (!classify(typed, false, &kind, &stem_size))
		return err_set(err, EINVAL, "'%s' is no archive name: expected NAME.pxar", typed);
	return stored_name(name, typed, stem_size, kind, err);
}

int archive_name_find(const struct manifest *m, const char *typed, struct archive_name *out,
		      struct err *err)
{
	struct archive_name found;
	enum kind kind;
	size_t stem_size;
	int rc;

	if (!classify(typed, false, &kind, &stem_size))
		return err_set(err, EINVAL, "'%s' is no archive name: expected NAME.pxar", typed);
	if (kind == SINGLE)
		rc = find_any(m, typed, stem_size, &found, err);
	else
		rc = find_pair(m, typed, stem_size,
			       kind == PBS_META || kind == PBS_PAYLOAD ? ARCHIVE_NAMES_PBS :
									 ARCHIVE_NAMES_DESIGN,
			       &found, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return not_found(m, typed, err);
	*out = found;
	return 0;
}

int archive_name_make(const char *typed, bool is_split, enum archive_names convention,
		      struct archive_name *out, struct err *err)
{
	struct archive_name made = { .payload = "" };
	bool pbs = convention == ARCHIVE_NAMES_PBS;
	size_t stem_size = strlen(typed);

	if (!strip(typed, &stem_size, SUFFIX[SINGLE]))
		return err_set(err, EINVAL, "'%s' is no archive name: expected NAME.pxar", typed);
	int rc = stored_name(made.meta, typed, stem_size,
			     !is_split ? SINGLE : pbs ? PBS_META : DESIGN_META, err);
	if (rc == 0 && is_split)
		rc = stored_name(made.payload, typed, stem_size,
				 pbs ? PBS_PAYLOAD : DESIGN_PAYLOAD, err);
	if (rc == 0)
		*out = made;
	return rc;
}

bool archive_name_display(const char *stored, char out[ARCHIVE_NAME_SIZE_MAX + 1])
{
	enum kind kind;
	size_t size = strlen(stored);

	if (classify(stored, true, &kind, &size)) {
		snprintf(out, ARCHIVE_NAME_SIZE_MAX + 1, "%.*s%s", (int)size, stored,
			 SUFFIX[SINGLE]);
		return kind != PBS_PAYLOAD && kind != DESIGN_PAYLOAD;
	}
	if (!strip(stored, &size, ".didx") && !strip(stored, &size, ".fidx"))
		strip(stored, &size, ".blob");
	snprintf(out, ARCHIVE_NAME_SIZE_MAX + 1, "%.*s", (int)size, stored);
	return true;
}

bool archive_name_convention(const struct manifest *m, enum archive_names *convention)
{
	for (size_t i = 0; i < m->file_count; i++) {
		enum kind kind;
		size_t stem_size;

		if (!classify(m->files[i].name, true, &kind, &stem_size) || kind == SINGLE)
			continue;
		*convention = kind == PBS_META || kind == PBS_PAYLOAD ? ARCHIVE_NAMES_PBS :
									ARCHIVE_NAMES_DESIGN;
		return true;
	}
	return false;
}
