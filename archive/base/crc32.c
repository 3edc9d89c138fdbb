/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/base/crc32.h"

#include <zlib.h>

uint32_t crc32_update(uint32_t crc, const void *data, size_t size)
{
	return (uint32_t)crc32_z(crc, data, size);
}
