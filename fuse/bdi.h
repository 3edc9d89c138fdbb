/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bdi - let the kernel read large files of a mount further ahead than by default.
 *
 * Its 128 KiB make many small requests of one large read.  FUSE's INIT can lower that figure
 * only; who may write to /sys (root, outside a container) can raise it, in the backing device's
 * read_ahead_kb.
 */
#ifndef PXARFS_BDI_H
#define PXARFS_BDI_H

#include <sys/types.h>

enum {
	/* Measured: 2.2 GB/s out of the cache at 128 KiB, 3.5 at 1 to 4 MiB, less at 16; and a
	 * fault in a mapped file reads as much around it. */
	BDI_READ_AHEAD_KB = 2048,
};

/* The device number of what is mounted on `mount_point` (absolute, no symbolic links), by
 * `mountinfo`, the text of /proc/self/mountinfo: no call that would reach the mounted file
 * system.  The last mount on it counts.  -ENOENT: nothing is mounted there. */
int bdi_find(const char *mountinfo, const char *mount_point, dev_t *out);

/* The same, by that text as it is now. */
int bdi_find_now(const char *mount_point, dev_t *out);

/* Raise it to `read_ahead_kb`, never lower it.  0, or why not: -EACCES and -EROFS for those who
 * may not, -ENOENT. */
int bdi_raise(dev_t device, unsigned read_ahead_kb);

#endif
