/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/mount_source.h"

#include <errno.h>
#include <string.h>

#define NS_PREFIX "ns/"

/* The last "::" outside brackets, or NULL. */
static const char *find_split(const char *text)
{
	const char *found = NULL;
	bool inside = false;

	for (const char *p = text; *p; p++) {
		if (*p == '[' || *p == ']')
			inside = *p == '[';
		else if (!inside && p[0] == ':' && p[1] == ':')
			found = p;
	}
	return found;
}

static bool ends_with(const char *text, size_t size, const char *end)
{
	size_t end_size = strlen(end);

	return size > end_size && memcmp(text + size - end_size, end, end_size) == 0;
}

/* ".pxar" and what its halves and stored names end in. */
static bool is_archive_name(const char *text, size_t size)
{
	static const char *const ends[] = { ".pxar", ".mpxar", ".ppxar", ".pxar.meta", ".pxar.pld" };

	if (ends_with(text, size, ".didx"))
		size -= strlen(".didx");
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (ends_with(text, size, ends[i]))
			return true;
	return false;
}

bool mount_source_is_file(const char *text)
{
	return !find_split(text) && is_archive_name(text, strlen(text));
}

static int copy(char *out, size_t room, const char *begin, const char *end, const char *what,
		struct err *err)
{
	size_t size = (size_t)(end - begin);

	if (size == 0 || size >= room)
		return err_set(err, EINVAL, "%s is %s", what, size == 0 ? "missing" : "too long");
	memcpy(out, begin, size);
	out[size] = '\0';
	return 0;
}

static const char *next_component(const char *p)
{
	const char *slash = strchr(p, '/');

	return slash ? slash + 1 : NULL;
}

/* Whether `path` is all of SNAPSHOT[/ARCHIVE]; where the archive begins, NULL: nowhere. */
static bool is_snapshot(const char *path, const char **archive)
{
	char text[SNAPSHOT_PATH_SIZE];
	const char *last = strrchr(path, '/');
	struct snapshot_name name;
	size_t size;
	bool latest;

	*archive = NULL;
	if (!last)
		return false;
	if (snapshot_parse(path, NULL, &name, &latest, NULL) == 0)
		return true;
	size = (size_t)(last - path);
	if (!is_archive_name(last + 1, strlen(last + 1)) || size >= sizeof(text))
		return false;
	memcpy(text, path, size);
	text[size] = '\0';
	*archive = last + 1;
	return snapshot_parse(text, NULL, &name, &latest, NULL) == 0;
}

static int take_snapshot(const char *begin, const char *archive, struct mount_source *out,
			 struct err *err)
{
	const char *end = begin + strlen(begin);
	int rc = copy(out->snapshot, sizeof(out->snapshot), begin, archive ? archive - 1 : end,
		      "the snapshot", err);

	if (rc == 0 && archive)
		rc = copy(out->archive, sizeof(out->archive), archive, end, "the archive", err);
	return rc;
}

/* What stands behind "::", with a namespace in front or not. */
static int parse_path(const char *path, struct mount_source *out, struct err *err)
{
	bool has_ns = strncmp(path, NS_PREFIX, strlen(NS_PREFIX)) == 0;
	const char *ns = has_ns ? path + strlen(NS_PREFIX) : NULL, *archive;
	char text[SNAPSHOT_NS_SIZE_MAX + 1];
	int rc;

	if (!has_ns && is_snapshot(path, &archive))
		return take_snapshot(path, archive, out, err);
	if (!has_ns)
		return err_set(err, EINVAL, "expected REPOSITORY[::[ns/NAMESPACE/]TYPE/ID/TIME"
			       "[/ARCHIVE]]");
	/* The namespace has one component at least. */
	for (const char *p = next_component(ns); p; p = next_component(p)) {
		if (!is_snapshot(p, &archive))
			continue;
		rc = copy(text, sizeof(text), ns, p - 1, "the namespace", err);
		if (rc == 0)
			rc = snapshot_ns_parse(text, out->ns, err);
		return rc < 0 ? rc : take_snapshot(p, archive, out, err);
	}
	if (!ns[0] || is_snapshot(ns, &archive))
		return err_set(err, EINVAL, "the namespace is missing");
	return snapshot_ns_parse(ns, out->ns, err);
}

int mount_source_parse(const char *text, struct mount_source *out, struct err *err)
{
	const char *split = find_split(text), *end = split ? split : text + strlen(text);
	int rc;

	out->ns[0] = out->snapshot[0] = out->archive[0] = '\0';
	rc = copy(out->repository, sizeof(out->repository), text, end, "the repository", err);
	if (rc == 0 && split && split[2])
		rc = parse_path(split + 2, out, err);
	return rc < 0 ? err_wrap(err, rc, "%s", text) : 0;
}
