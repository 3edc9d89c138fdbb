/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/item.h"

#include "archive/base/ckd.h"
#include "archive/base/cursor.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	NSEC_PER_SEC = 1000000000,
	HARDLINK_DISTANCE_SIZE = 8,
};

static const uint64_t BODY_SIZE_ANY = UINT64_MAX;

static_assert(8 + 8 + 4 + 4 + 8 + 4 + 4 == PXAR_ENTRY_BODY_SIZE, "ENTRY");
static_assert(8 + 8 + 4 + 4 + 8 == PXAR_ENTRY_V1_BODY_SIZE, "ENTRY_V1");

/* The order is that of how often they come, as the table is searched from its start. */
static const struct item_kind {
	uint64_t type;
	uint64_t body_size_min, body_size_max;
	const char *name;
} kinds[] = {
	{ PXAR_FILENAME, 2, PXAR_NAME_SIZE_MAX + 1, "FILENAME" },
	{ PXAR_ENTRY, PXAR_ENTRY_BODY_SIZE, PXAR_ENTRY_BODY_SIZE, "ENTRY" },
	{ PXAR_PAYLOAD_REF, PXAR_PAYLOAD_REF_BODY_SIZE, PXAR_PAYLOAD_REF_BODY_SIZE,
	  "PAYLOAD_REF" },
	{ PXAR_PAYLOAD, 0, BODY_SIZE_ANY, "PAYLOAD" },
	{ PXAR_GOODBYE, PXAR_GOODBYE_SLOT_SIZE, BODY_SIZE_ANY, "GOODBYE" },
	{ PXAR_SYMLINK, 1, PXAR_TARGET_SIZE_MAX + 1, "SYMLINK" },
	{ PXAR_HARDLINK, HARDLINK_DISTANCE_SIZE + 2,
	  HARDLINK_DISTANCE_SIZE + PXAR_TARGET_SIZE_MAX + 1, "HARDLINK" },
	{ PXAR_XATTR, 2, PXAR_XATTR_SIZE_MAX, "XATTR" },
	{ PXAR_DEVICE, PXAR_DEVICE_BODY_SIZE, PXAR_DEVICE_BODY_SIZE, "DEVICE" },
	{ PXAR_ACL_USER, PXAR_ACL_NAMED_BODY_SIZE, PXAR_ACL_NAMED_BODY_SIZE, "ACL_USER" },
	{ PXAR_ACL_GROUP, PXAR_ACL_NAMED_BODY_SIZE, PXAR_ACL_NAMED_BODY_SIZE, "ACL_GROUP" },
	{ PXAR_ACL_GROUP_OBJ, PXAR_ACL_GROUP_OBJ_BODY_SIZE, PXAR_ACL_GROUP_OBJ_BODY_SIZE,
	  "ACL_GROUP_OBJ" },
	{ PXAR_ACL_DEFAULT, PXAR_ACL_DEFAULT_BODY_SIZE, PXAR_ACL_DEFAULT_BODY_SIZE,
	  "ACL_DEFAULT" },
	{ PXAR_ACL_DEFAULT_USER, PXAR_ACL_NAMED_BODY_SIZE, PXAR_ACL_NAMED_BODY_SIZE,
	  "ACL_DEFAULT_USER" },
	{ PXAR_ACL_DEFAULT_GROUP, PXAR_ACL_NAMED_BODY_SIZE, PXAR_ACL_NAMED_BODY_SIZE,
	  "ACL_DEFAULT_GROUP" },
	{ PXAR_FCAPS, 0, PXAR_FCAPS_SIZE_MAX, "FCAPS" },
	{ PXAR_QUOTA_PROJID, PXAR_QUOTA_PROJID_BODY_SIZE, PXAR_QUOTA_PROJID_BODY_SIZE,
	  "QUOTA_PROJID" },
	{ PXAR_ENTRY_V1, PXAR_ENTRY_V1_BODY_SIZE, PXAR_ENTRY_V1_BODY_SIZE, "ENTRY_V1" },
	{ PXAR_FORMAT_VERSION, PXAR_FORMAT_VERSION_BODY_SIZE, PXAR_FORMAT_VERSION_BODY_SIZE,
	  "FORMAT_VERSION" },
	{ PXAR_PRELUDE, 0, BODY_SIZE_ANY, "PRELUDE" },
	{ PXAR_PAYLOAD_START_MARKER, 0, 0, "PAYLOAD_START_MARKER" },
	{ PXAR_PAYLOAD_TAIL_MARKER, 0, 0, "PAYLOAD_TAIL_MARKER" },
};

static const struct item_kind *find_kind(uint64_t type)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].type == type)
			return &kinds[i];
	return NULL;
}

const char *item_type_name(uint64_t type)
{
	const struct item_kind *kind = find_kind(type);

	return kind ? kind->name : "unknown";
}

int item_header_decode(const uint8_t bytes[PXAR_HEADER_SIZE], struct item_header *out,
		       struct err *err)
{
	uint64_t type = le64_get(bytes);
	uint64_t size = le64_get(bytes + 8);
	const struct item_kind *kind = find_kind(type);

	if (!kind)
		return err_set(err, EBADMSG, "unknown item type %016" PRIx64, type);
	if (size < PXAR_HEADER_SIZE)
		return err_set(err, EBADMSG, "%s item of %" PRIu64 " bytes", kind->name, size);
	size -= PXAR_HEADER_SIZE;
	if (size < kind->body_size_min || size > kind->body_size_max)
		return err_set(err, EBADMSG, "%s item has a body of %" PRIu64 " bytes",
			       kind->name, size);
	if (type == PXAR_GOODBYE && size % PXAR_GOODBYE_SLOT_SIZE)
		return err_set(err, EBADMSG,
			       "GOODBYE item has a body of %" PRIu64 " bytes, not of whole slots",
			       size);
	*out = (struct item_header){ .type = type, .body_size = size };
	return 0;
}

bool item_is_attribute(uint64_t type)
{
	switch (type) {
	case PXAR_XATTR:
	case PXAR_ACL_USER:
	case PXAR_ACL_GROUP:
	case PXAR_ACL_GROUP_OBJ:
	case PXAR_ACL_DEFAULT:
	case PXAR_ACL_DEFAULT_USER:
	case PXAR_ACL_DEFAULT_GROUP:
	case PXAR_FCAPS:
	case PXAR_QUOTA_PROJID:
		return true;
	}
	return false;
}

static const char *mode_name(uint64_t mode)
{
	switch (mode & PXAR_MODE_TYPE) {
	case PXAR_MODE_SOCKET:
		return "socket";
	case PXAR_MODE_SYMLINK:
		return "symlink";
	case PXAR_MODE_REGULAR:
		return "regular file";
	case PXAR_MODE_BLOCK:
		return "block device";
	case PXAR_MODE_DIRECTORY:
		return "directory";
	case PXAR_MODE_CHAR:
		return "character device";
	case PXAR_MODE_FIFO:
		return "fifo";
	}
	return NULL;
}

int item_check_after(uint64_t mode, unsigned version, uint64_t type, struct err *err)
{
	uint64_t closing = 0;

	switch (mode & PXAR_MODE_TYPE) {
	case PXAR_MODE_REGULAR:
		closing = version == PXAR_VERSION_1 ? PXAR_PAYLOAD : PXAR_PAYLOAD_REF;
		break;
	case PXAR_MODE_SYMLINK:
		closing = PXAR_SYMLINK;
		break;
	case PXAR_MODE_CHAR:
	case PXAR_MODE_BLOCK:
		closing = PXAR_DEVICE;
		break;
	}
	if (closing ? type == closing : type == PXAR_FILENAME || type == PXAR_GOODBYE)
		return 0;
	return err_set(err, EBADMSG, "%s item after the ENTRY of a %s in version %u",
		       item_type_name(type), mode_name(mode), version);
}

const char *item_name_fault(const char *name, size_t size)
{
	if (!size)
		return "is empty";
	if (size > PXAR_NAME_SIZE_MAX)
		return "is too long";
	if (memchr(name, 0, size))
		return "holds a NUL";
	if (memchr(name, '/', size))
		return "holds a slash";
	if (name[0] == '.' && (size == 1 || (size == 2 && name[1] == '.')))
		return "is \".\" or \"..\"";
	return NULL;
}

const char *item_path_fault(const char *path, size_t size)
{
	const char *end = path + size;

	if (size > PXAR_TARGET_SIZE_MAX)
		return "is too long";
	for (;;) {
		const char *slash = size ? memchr(path, '/', size) : NULL;
		size_t name_size = slash ? (size_t)(slash - path) : size;
		const char *fault = item_name_fault(path, name_size);

		if (fault)
			return size ? fault : "has an empty component";
		if (!slash)
			return NULL;
		path = slash + 1;
		size = (size_t)(end - path);
	}
}

/* --- bodies to values --- */

static int wrong_size(const char *what, size_t size, struct err *err)
{
	return err_set(err, EBADMSG, "%s item has a body of %zu bytes", what, size);
}

int item_version_decode(const uint8_t *body, size_t size, unsigned *version, struct err *err)
{
	struct cursor c = cursor_of(body, size);
	uint64_t v = cursor_u64(&c);

	if (!cursor_done(&c))
		return wrong_size("FORMAT_VERSION", size, err);
	if (v != PXAR_VERSION_1 && v != PXAR_VERSION_2)
		return err_set(err, EOPNOTSUPP, "unknown format version %" PRIu64, v);
	*version = (unsigned)v;
	return 0;
}

int item_stat_decode(uint64_t type, const uint8_t *body, size_t size, struct metadata *m,
		     struct err *err)
{
	struct cursor c = cursor_of(body, size);

	metadata_clear(m);
	m->mode = cursor_u64(&c);
	m->flags = cursor_u64(&c);
	m->uid = cursor_u32(&c);
	m->gid = cursor_u32(&c);
	if (type == PXAR_ENTRY) {
		m->mtime_sec = (int64_t)cursor_u64(&c);
		m->mtime_nsec = cursor_u32(&c);
		cursor_u32(&c); /* padding */
	} else {
		uint64_t nsec = cursor_u64(&c);

		m->mtime_sec = (int64_t)(nsec / NSEC_PER_SEC);
		m->mtime_nsec = (uint32_t)(nsec % NSEC_PER_SEC);
	}
	if (!cursor_done(&c))
		return wrong_size(item_type_name(type), size, err);
	if (m->mtime_nsec >= NSEC_PER_SEC)
		return err_set(err, EBADMSG, "ENTRY has %" PRIu32 " nanoseconds", m->mtime_nsec);
	if (!mode_name(m->mode))
		return err_set(err, EBADMSG, "ENTRY of unknown type, mode %" PRIo64, m->mode);
	return 0;
}

static int attribute_error(int rc, uint64_t type, struct err *err)
{
	return rc < 0 ? err_sys(err, -rc, "%s item", item_type_name(type)) : 0;
}

static int xattr_decode(const uint8_t *body, size_t size, struct metadata *m, struct err *err)
{
	const uint8_t *nul = size ? memchr(body, 0, size) : NULL;
	size_t name_size;

	if (!nul)
		return err_set(err, EBADMSG, "XATTR item without a NUL");
	name_size = (size_t)(nul - body);
	if (!name_size)
		return err_set(err, EBADMSG, "XATTR item with an empty name");
	return attribute_error(metadata_add_xattr(m, (const char *)body, name_size, nul + 1,
						  size - name_size - 1),
			       PXAR_XATTR, err);
}

static int acl_named_decode(uint64_t type, struct cursor *c, struct metadata_acl_list *list,
			    struct err *err)
{
	uint64_t id = cursor_u64(c);
	uint64_t permissions = cursor_u64(c);

	if (!cursor_done(c))
		return wrong_size(item_type_name(type), c->size, err);
	return attribute_error(metadata_add_acl(list, id, permissions), type, err);
}

/* Notes a kind of which an entry has at most one. */
static int only_once(bool *has, uint64_t type, struct cursor *c, struct err *err)
{
	if (!cursor_done(c))
		return wrong_size(item_type_name(type), c->size, err);
	if (*has)
		return err_set(err, EBADMSG, "second %s item", item_type_name(type));
	*has = true;
	return 0;
}

static int fcaps_decode(struct cursor *c, struct metadata *m, struct err *err)
{
	const uint8_t *value = cursor_bytes(c, c->size);
	bool has = m->has_fcaps;
	int rc = only_once(&has, PXAR_FCAPS, c, err);

	if (rc < 0)
		return rc;
	return attribute_error(metadata_set_fcaps(m, value, c->size), PXAR_FCAPS, err);
}

int item_attribute_decode(uint64_t type, const uint8_t *body, size_t size, struct metadata *m,
			  struct err *err)
{
	struct cursor c = cursor_of(body, size);

	switch (type) {
	case PXAR_XATTR:
		return xattr_decode(body, size, m, err);
	case PXAR_ACL_USER:
		return acl_named_decode(type, &c, &m->acl_users, err);
	case PXAR_ACL_GROUP:
		return acl_named_decode(type, &c, &m->acl_groups, err);
	case PXAR_ACL_DEFAULT_USER:
		return acl_named_decode(type, &c, &m->acl_default_users, err);
	case PXAR_ACL_DEFAULT_GROUP:
		return acl_named_decode(type, &c, &m->acl_default_groups, err);
	case PXAR_ACL_GROUP_OBJ:
		m->acl_group_obj = cursor_u64(&c);
		return only_once(&m->has_acl_group_obj, type, &c, err);
	case PXAR_ACL_DEFAULT:
		m->acl_default.user_obj = cursor_u64(&c);
		m->acl_default.group_obj = cursor_u64(&c);
		m->acl_default.other = cursor_u64(&c);
		m->acl_default.mask = cursor_u64(&c);
		return only_once(&m->has_acl_default, type, &c, err);
	case PXAR_FCAPS:
		return fcaps_decode(&c, m, err);
	case PXAR_QUOTA_PROJID:
		m->quota_projid = cursor_u64(&c);
		return only_once(&m->has_quota_projid, type, &c, err);
	}
	return err_set(err, EINVAL, "%s item is no attribute", item_type_name(type));
}

/* A text that ends in the body's last byte, the only NUL. */
static int check_text(const char *what, const uint8_t *body, size_t size, struct err *err)
{
	const uint8_t *nul = size ? memchr(body, 0, size) : NULL;

	if (!nul)
		return err_set(err, EBADMSG, "%s item has no NUL at its end", what);
	if (nul != body + size - 1)
		return err_set(err, EBADMSG, "%s item holds a NUL before its end", what);
	return 0;
}

int item_filename_check(const uint8_t *body, size_t size, struct err *err)
{
	int rc = check_text("FILENAME", body, size, err);
	const char *fault;

	if (rc < 0)
		return rc;
	fault = item_name_fault((const char *)body, size - 1);
	return fault ? err_set(err, EBADMSG, "member name %s", fault) : 0;
}

int item_symlink_check(const uint8_t *body, size_t size, struct err *err)
{
	if (size > PXAR_TARGET_SIZE_MAX + 1)
		return wrong_size("SYMLINK", size, err);
	return check_text("SYMLINK", body, size, err);
}

int item_device_decode(const uint8_t *body, size_t size, uint64_t *major, uint64_t *minor,
		       struct err *err)
{
	struct cursor c = cursor_of(body, size);
	uint64_t a = cursor_u64(&c);
	uint64_t b = cursor_u64(&c);

	if (!cursor_done(&c))
		return wrong_size("DEVICE", size, err);
	*major = a;
	*minor = b;
	return 0;
}

int item_hardlink_decode(const uint8_t *body, size_t size, uint64_t filename_offset,
			 struct item_hardlink *out, struct err *err)
{
	struct cursor c = cursor_of(body, size);
	uint64_t distance = cursor_u64(&c);
	const char *fault;
	int rc;

	if (c.overrun || !cursor_left(&c))
		return wrong_size("HARDLINK", size, err);
	if (!distance || distance > filename_offset)
		return err_set(err, EBADMSG,
			       "hard link reaches back %" PRIu64 " bytes from %" PRIu64,
			       distance, filename_offset);
	rc = check_text("HARDLINK", body + HARDLINK_DISTANCE_SIZE, cursor_left(&c), err);
	if (rc < 0)
		return rc;
	fault = item_path_fault((const char *)body + HARDLINK_DISTANCE_SIZE, cursor_left(&c) - 1);
	if (fault)
		return err_set(err, EBADMSG, "path of a hard link's target %s", fault);
	*out = (struct item_hardlink){
		.target_offset = filename_offset - distance,
		.path = (const char *)body + HARDLINK_DISTANCE_SIZE,
		.path_size = cursor_left(&c) - 1,
	};
	return 0;
}

int item_payload_ref_decode(const uint8_t *body, size_t size, struct item_payload_ref *out,
			    struct err *err)
{
	struct cursor c = cursor_of(body, size);
	struct item_payload_ref ref;
	uint64_t end;

	ref.offset = cursor_u64(&c);
	ref.size = cursor_u64(&c);
	if (!cursor_done(&c))
		return wrong_size("PAYLOAD_REF", size, err);
	if (ref.offset < PXAR_HEADER_SIZE || ckd_add(&end, ref.offset, PXAR_HEADER_SIZE) ||
	    ckd_add(&end, end, ref.size))
		return err_set(err, EBADMSG,
			       "PAYLOAD_REF to %" PRIu64 " bytes at payload offset %" PRIu64,
			       ref.size, ref.offset);
	*out = ref;
	return 0;
}

int item_payload_check(const uint8_t bytes[PXAR_HEADER_SIZE],
		       const struct item_payload_ref *ref, struct err *err)
{
	uint64_t type = le64_get(bytes);
	uint64_t size = le64_get(bytes + 8);

	if (type != PXAR_PAYLOAD)
		return err_set(err, EBADMSG, "no PAYLOAD item at payload offset %" PRIu64,
			       ref->offset);
	if (size < PXAR_HEADER_SIZE || size - PXAR_HEADER_SIZE != ref->size)
		return err_set(err, EBADMSG,
			       "PAYLOAD item at payload offset %" PRIu64 " has a size of %" PRIu64
			       ", its PAYLOAD_REF says %" PRIu64 " bytes of content",
			       ref->offset, size, ref->size);
	return 0;
}

int item_marker_check(const uint8_t bytes[PXAR_HEADER_SIZE], uint64_t type, struct err *err)
{
	if (le64_get(bytes) != type || le64_get(bytes + 8) != PXAR_HEADER_SIZE)
		return err_set(err, EBADMSG, "payload stream %s without its %s marker",
			       type == PXAR_PAYLOAD_START_MARKER ? "starts" : "ends",
			       type == PXAR_PAYLOAD_START_MARKER ? "start" : "tail");
	return 0;
}

/* --- values to items --- */

int item_header_encode(struct wbuf *b, uint64_t type, uint64_t body_size)
{
	uint64_t size;
	uint8_t *p;

	if (ckd_add(&size, body_size, PXAR_HEADER_SIZE))
		return -E2BIG;
	p = wbuf_reserve(b, PXAR_HEADER_SIZE);
	if (!p)
		return b->failed;
	le64_put(p, type);
	le64_put(p + 8, size);
	b->size += PXAR_HEADER_SIZE;
	return 0;
}

int item_version_encode(struct wbuf *b, unsigned version)
{
	item_header_encode(b, PXAR_FORMAT_VERSION, PXAR_FORMAT_VERSION_BODY_SIZE);
	return wbuf_put_u64(b, version);
}

int item_filename_encode(struct wbuf *b, const char *name)
{
	size_t size = strlen(name);

	if (size > PXAR_NAME_SIZE_MAX)
		return -E2BIG;
	if (item_name_fault(name, size))
		return -EINVAL;
	item_header_encode(b, PXAR_FILENAME, size + 1);
	return wbuf_put(b, name, size + 1);
}

static void acl_named_encode(struct wbuf *b, uint64_t type, const struct metadata_acl_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		item_header_encode(b, type, PXAR_ACL_NAMED_BODY_SIZE);
		wbuf_put_u64(b, list->items[i].id);
		wbuf_put_u64(b, list->items[i].permissions);
	}
}

static void acl_encode(struct wbuf *b, const struct metadata *m)
{
	acl_named_encode(b, PXAR_ACL_USER, &m->acl_users);
	acl_named_encode(b, PXAR_ACL_GROUP, &m->acl_groups);
	if (m->has_acl_group_obj) {
		item_header_encode(b, PXAR_ACL_GROUP_OBJ, PXAR_ACL_GROUP_OBJ_BODY_SIZE);
		wbuf_put_u64(b, m->acl_group_obj);
	}
	if (m->has_acl_default) {
		item_header_encode(b, PXAR_ACL_DEFAULT, PXAR_ACL_DEFAULT_BODY_SIZE);
		wbuf_put_u64(b, m->acl_default.user_obj);
		wbuf_put_u64(b, m->acl_default.group_obj);
		wbuf_put_u64(b, m->acl_default.other);
		wbuf_put_u64(b, m->acl_default.mask);
	}
	acl_named_encode(b, PXAR_ACL_DEFAULT_USER, &m->acl_default_users);
	acl_named_encode(b, PXAR_ACL_DEFAULT_GROUP, &m->acl_default_groups);
}

static void stat_encode(struct wbuf *b, const struct metadata *m)
{
	uint8_t *p;

	item_header_encode(b, PXAR_ENTRY, PXAR_ENTRY_BODY_SIZE);
	p = wbuf_reserve(b, PXAR_ENTRY_BODY_SIZE);
	if (!p)
		return;
	le64_put(p, m->mode);
	le64_put(p + 8, m->flags);
	le32_put(p + 16, m->uid);
	le32_put(p + 20, m->gid);
	le64_put(p + 24, (uint64_t)m->mtime_sec);
	le32_put(p + 32, m->mtime_nsec);
	le32_put(p + 36, 0);
	b->size += PXAR_ENTRY_BODY_SIZE;
}

int item_metadata_encode(struct wbuf *b, const struct metadata *m)
{
	if (!mode_name(m->mode) || m->mtime_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	stat_encode(b, m);
	for (size_t i = 0; i < m->xattr_count; i++) {
		const struct metadata_xattr *x = &m->xattrs[i];
		size_t size = x->value_begin - x->name_begin + x->value_size;

		item_header_encode(b, PXAR_XATTR, size);
		wbuf_put(b, metadata_xattr_name(m, i), size);
	}
	acl_encode(b, m);
	if (m->has_fcaps) {
		item_header_encode(b, PXAR_FCAPS, m->fcaps_size);
		wbuf_put(b, metadata_fcaps(m), m->fcaps_size);
	}
	if (m->has_quota_projid) {
		item_header_encode(b, PXAR_QUOTA_PROJID, PXAR_QUOTA_PROJID_BODY_SIZE);
		wbuf_put_u64(b, m->quota_projid);
	}
	return b->failed;
}

int item_symlink_encode(struct wbuf *b, const char *target)
{
	size_t size = strlen(target);

	if (size > PXAR_TARGET_SIZE_MAX)
		return -E2BIG;
	item_header_encode(b, PXAR_SYMLINK, size + 1);
	return wbuf_put(b, target, size + 1);
}

int item_device_encode(struct wbuf *b, uint64_t major, uint64_t minor)
{
	item_header_encode(b, PXAR_DEVICE, PXAR_DEVICE_BODY_SIZE);
	wbuf_put_u64(b, major);
	return wbuf_put_u64(b, minor);
}

int item_hardlink_encode(struct wbuf *b, uint64_t distance, const char *path)
{
	size_t size = strlen(path);

	if (size > PXAR_TARGET_SIZE_MAX)
		return -E2BIG;
	if (!distance || item_path_fault(path, size))
		return -EINVAL;
	item_header_encode(b, PXAR_HARDLINK, HARDLINK_DISTANCE_SIZE + size + 1);
	wbuf_put_u64(b, distance);
	return wbuf_put(b, path, size + 1);
}

int item_payload_ref_encode(struct wbuf *b, uint64_t offset, uint64_t size)
{
	item_header_encode(b, PXAR_PAYLOAD_REF, PXAR_PAYLOAD_REF_BODY_SIZE);
	wbuf_put_u64(b, offset);
	return wbuf_put_u64(b, size);
}
