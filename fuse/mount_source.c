/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/mount_source.h"

#include <errno.h>
#include <string.h>

enum { PARTS_COUNT = 4 }; /* TYPE, ID, TIME, ARCHIVE */

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

bool mount_source_is(const char *text)
{
	return find_split(text) != NULL;
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

/* The begin of the last `count` components of a path; NULL when it has fewer. */
static const char *last_components(const char *path, unsigned count)
{
	const char *p = path + strlen(path);

	while (p > path) {
		if (p[-1] == '/' && --count == 0)
			return p;
		p--;
	}
	return count == 1 ? path : NULL;
}

static int parse_ns(const char *begin, const char *end, struct mount_source *out,
		    struct err *err)
{
	static const char prefix[] = "ns/";

	out->ns[0] = '\0';
	if (begin == end)
		return 0;
	if (strncmp(begin, prefix, strlen(prefix)) != 0)
		return err_set(err, EINVAL, "what stands before TYPE/ID/TIME/ARCHIVE is not "
					    "ns/NAMESPACE/");
	return copy(out->ns, sizeof(out->ns), begin + strlen(prefix), end - 1, "the namespace",
		    err);
}

static int parse_parts(const char *text, struct mount_source *out, struct err *err)
{
	const char *split = find_split(text);
	const char *path = split ? split + 2 : NULL;
	const char *parts = path ? last_components(path, PARTS_COUNT) : NULL;
	const char *archive;
	int rc;

	if (!parts)
		return err_set(err, EINVAL,
			       "expected REPOSITORY::[ns/NAMESPACE/]TYPE/ID/TIME/ARCHIVE");
	archive = last_components(parts, 1);
	rc = copy(out->repository, sizeof(out->repository), text, split, "the repository", err);
	if (rc == 0)
		rc = parse_ns(path, parts, out, err);
	if (rc == 0)
		rc = copy(out->snapshot, sizeof(out->snapshot), parts, archive - 1,
			  "the snapshot", err);
	if (rc == 0)
		rc = copy(out->archive, sizeof(out->archive), archive, archive + strlen(archive),
			  "the archive", err);
	return rc;
}

int mount_source_parse(const char *text, struct mount_source *out, struct err *err)
{
	int rc = parse_parts(text, out, err);

	return rc < 0 ? err_wrap(err, rc, "%s", text) : 0;
}
