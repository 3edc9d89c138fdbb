/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel ACL values: what is taken apart is put together to a value that says the same.
 *
 * Input: a byte (bit 0: the default ACL), then the value.
 */
#include "archive/metadata.h"
#include "tests/fuzz/must.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

static int set(struct metadata *m, bool is_default, const uint8_t *value, size_t size)
{
	int rc = is_default ? metadata_set_default_acl(m, value, size, NULL) :
			      metadata_set_access_acl(m, value, size, NULL);

	must(rc == 0 || rc == -EBADMSG || rc == -E2BIG);
	return rc;
}

static int get(const struct metadata *m, bool is_default, struct wbuf *out)
{
	int rc = is_default ? metadata_default_acl_xattr(m, out) :
			      metadata_access_acl_xattr(m, out);

	must(rc == 0 || rc == -EBADMSG);
	return rc;
}

static bool same_list(const struct metadata_acl_list *a, const struct metadata_acl_list *b)
{
	if (a->count != b->count)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->items[i].id != b->items[i].id ||
		    a->items[i].permissions != b->items[i].permissions)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(wbuf) struct wbuf first = WBUF_INIT(1 << 24), second = WBUF_INIT(1 << 24);
	AUTO(metadata) struct metadata m, again;
	bool is_default;

	metadata_init(&m);
	metadata_init(&again);
	if (!size)
		return 0;
	is_default = data[0] & 1;
	m.mode = again.mode = PXAR_MODE_DIRECTORY | 0754;
	if (set(&m, is_default, data + 1, size - 1) < 0)
		return 0;
	if (is_default ? !metadata_has_default_acl(&m) : !metadata_has_access_acl(&m))
		return 0;
	/* Only an id that is nobody's cannot be said again. */
	if (get(&m, is_default, &first) < 0)
		return 0;
	must(set(&again, is_default, first.data, first.size) == 0);
	must(m.has_acl_group_obj == again.has_acl_group_obj);
	must(!m.has_acl_group_obj || m.acl_group_obj == again.acl_group_obj);
	must(same_list(&m.acl_users, &again.acl_users));
	must(same_list(&m.acl_groups, &again.acl_groups));
	must(get(&again, is_default, &second) == 0);
	must(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
	return 0;
}
