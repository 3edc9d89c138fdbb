/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_source - what an image is made of: a regular file or a block device.
 */
#ifndef PXARFS_IMAGE_SOURCE_H
#define PXARFS_IMAGE_SOURCE_H

#include "archive/base/err.h"

#include <stdint.h>
#include <sys/stat.h>

struct image_source {
	int fd; /* the caller's */
	uint64_t size; /* at least 1 */
	struct stat st;
};

/* Open it for reading; a symbolic link is followed.  -EINVAL: something else, or empty.
 * Messages do not name it. */
int image_source_open(const char *path, struct image_source *out, struct err *err);

/* Its size by now. */
int image_source_size(const struct image_source *s, uint64_t *size, struct err *err);

#endif
