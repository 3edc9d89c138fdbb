/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crc32 - the checksum of a blob: reflected polynomial 0xEDB88320, as zlib's crc32().
 *
 * Layout:  archive/FORMAT.md, "Blob".
 * Cost:    6 GB/s with carry-less multiplication, chosen at run time, else zlib's 1 to 2.
 */
#ifndef PXARFS_BASE_CRC32_H
#define PXARFS_BASE_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* Continue `crc` (0 at the start) over more bytes. */
uint32_t crc32_update(uint32_t crc, const void *data, size_t size);

#endif
