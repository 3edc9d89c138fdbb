/* SPDX-License-Identifier: Apache-2.0 */
#include "client/repo/pbs_member.h"

#include <string.h>

bool pbs_member_text(const json_t *object, const char *member, char *out, size_t size)
{
	const json_t *value = json_object_get(object, member);
	size_t length = json_string_length(value);

	if (!json_is_string(value) || length >= size || strlen(json_string_value(value)) != length)
		return false;
	memcpy(out, json_string_value(value), length + 1);
	return true;
}

bool pbs_member_integer(const json_t *object, const char *member, int64_t min, int64_t max,
			int64_t *out)
{
	const json_t *value = json_object_get(object, member);
	json_int_t v = json_integer_value(value);

	if (!json_is_integer(value) || v < min || v > max)
		return false;
	*out = v;
	return true;
}
