/* SPDX-License-Identifier: Apache-2.0 */
/*
 * siphash - SipHash-2-4 with the format's fixed key: the hash of a member name.
 *
 * Layout:  archive/FORMAT.md, "Name hash".
 */
#ifndef PXARFS_BASE_SIPHASH_H
#define PXARFS_BASE_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* Over exactly the bytes of the name: no terminator, no path. */
uint64_t siphash_name(const void *name, size_t size);

#endif
