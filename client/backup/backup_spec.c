/* SPDX-License-Identifier: Apache-2.0 */
#include "client/backup/backup_spec.h"

#include "archive/blob.h"
#include "client/fs/image_source.h"

#include <string.h>
#include <sys/stat.h>

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '-';
}

static bool type_from_text(const char *text, size_t size, enum backup_spec_type *out)
{
	static const struct {
		const char *text;
		enum backup_spec_type type;
	} types[] = {
		{ "pxar", BACKUP_SPEC_ARCHIVE },
		{ "conf", BACKUP_SPEC_BLOB },
		{ "log", BACKUP_SPEC_BLOB },
		{ "img", BACKUP_SPEC_IMAGE },
	};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		if (strlen(types[i].text) == size && memcmp(types[i].text, text, size) == 0) {
			*out = types[i].type;
			return true;
		}
	}
	return false;
}

int backup_spec_parse(const char *text, struct backup_spec *out, struct err *err)
{
	const char *colon = strchr(text, ':');
	struct backup_spec spec = { 0 };
	size_t name_size = 0, whole_size;

	while (is_name_byte(text[name_size]))
		name_size++;
	if (!colon || name_size == 0 || text[name_size] != '.' ||
	    !type_from_text(text + name_size + 1, (size_t)(colon - text) - name_size - 1,
			    &spec.type))
		return err_set(err, EINVAL, "'%s' is not NAME.pxar:PATH, NAME.img:PATH, "
			       "NAME.conf:FILE or NAME.log:FILE (letters, digits, '_' and '-' in "
			       "NAME)", text);
	if (colon[1] == '\0' || strchr(colon, '\n'))
		return err_set(err, EINVAL, "'%s': the path is empty or holds a newline", text);
	whole_size = (size_t)(colon - text);
	if (whole_size > BACKUP_SPEC_NAME_SIZE_MAX)
		return err_set(err, EINVAL, "'%.40s...': the name is too long", text);
	memcpy(spec.name, text, whole_size);
	spec.path = colon + 1;
	*out = spec;
	return 0;
}

static int check_archive(const struct stat *st, struct err *err)
{
	return S_ISDIR(st->st_mode) ? 0 : err_set(err, ENOTDIR, "not a directory");
}

static int check_blob(const char *path, const struct stat *st, struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, EINVAL, "not a regular file");
	if (st->st_size > BLOB_DATA_SIZE_MAX)
		return err_set(err, E2BIG, "larger than %d MiB", BLOB_DATA_SIZE_MAX >> 20);
	return access(path, R_OK) == 0 ? 0 : err_sys(err, errno, "cannot read");
}

static int check_image(struct backup_spec *spec, struct err *err)
{
	struct image_source source;
	int rc = image_source_open(spec->path, &source, err);

	if (rc < 0)
		return rc;
	close(source.fd);
	spec->image_size = source.size;
	return 0;
}

static int check_source(struct backup_spec *spec, struct err *err)
{
	struct stat st;
	int rc = 0;

	if (stat(spec->path, &st) < 0) {
		rc = -errno;
		return err_sys(err, -rc, "%s: %s", spec->name, spec->path);
	}
	if (spec->type == BACKUP_SPEC_ARCHIVE)
		rc = check_archive(&st, err);
	else if (spec->type == BACKUP_SPEC_BLOB)
		rc = check_blob(spec->path, &st, err);
	else if (S_ISDIR(st.st_mode))
		return err_set(err, EINVAL, "cannot backup directory with fixed chunk size");
	else
		rc = check_image(spec, err);
	return rc < 0 ? err_wrap(err, rc, "%s: %s", spec->name, spec->path) : 0;
}

int backup_spec_distinct(const struct backup_spec *specs, size_t count, struct err *err)
{
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(specs[i].name, specs[j].name) == 0)
				return err_set(err, EINVAL, "%s is given twice", specs[i].name);
	return 0;
}

int backup_spec_check(struct backup_spec *specs, size_t count, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < count && rc == 0; i++)
		rc = check_source(&specs[i], err);
	return rc;
}
