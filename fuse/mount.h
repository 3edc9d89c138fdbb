/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount - what one mount consists of, for the operations.
 *
 * Owner:   made by cmd_mount, which outlives every request; the pointers are borrowed.
 * Threads: set up before the loop starts; afterwards fields change only where they say so.
 */
#ifndef PXARFS_MOUNT_H
#define PXARFS_MOUNT_H

#include "client/read/archive_open.h"
#include "fuse/dir_cache.h"
#include "fuse/guise.h"
#include "fuse/nlink.h"
#include "fuse/plus.h"
#include "fuse/push.h"
#include "fuse/request.h"
#include "fuse/starts.h"

#include <semaphore.h>
#include <stdatomic.h>

enum {
	MOUNT_PROVEN_BITS = 13, /* files whose payload header is known to be right: 64 KiB */
};

enum mount_count {
	MOUNT_LOOKUP,
	MOUNT_GETATTR,
	MOUNT_READDIR,
	MOUNT_READDIRPLUS,
	MOUNT_READ,
	MOUNT_READ_BYTES,
	MOUNT_READLINK,
	MOUNT_XATTR,
	MOUNT_IOCTL,
	MOUNT_STATFS,
	MOUNT_OPEN,
	MOUNT_OPENDIR,
	MOUNT_PUSHED, /* files */
	MOUNT_PUSHED_BYTES,
	MOUNT_PUSH_REFUSED, /* files that the kernel did not know */
	MOUNT_CORRECTED, /* files whose counts of links the kernel was told to ask anew */
	MOUNT_COUNTERS
};

struct snaps;

/* An archive that is shown, with what is kept for it alone. */
struct shown {
	struct archive *archive;
	struct nlink *nlink;
	const char *name; /* for messages */
	uint32_t slot; /* of its inode numbers */

	/* For who goes on using it when his request is over; NULL: it is there all the time. */
	void (*hold)(struct shown *shown);
	void (*let_go)(struct shown *shown);
};

static inline void shown_hold(struct shown *shown)
{
	if (shown->hold)
		shown->hold(shown);
}

static inline void shown_let_go(struct shown *shown)
{
	if (shown->let_go)
		shown->let_go(shown);
}

struct mount {
	struct shown single; /* the archive, where the mount shows just one */
	struct snaps *snaps; /* the snapshots, where it shows many; else NULL */
	struct fetch *fetch;
	struct requests *requests;
	struct dir_cache *folders;
	struct push *push; /* NULL: nothing is pushed */
	struct guise guise;
	bool exported; /* file handles may come */
	atomic_bool root_was_hinted; /* what lists the archive's root was asked for ahead */
	struct plus plus; /* atomic */
	struct starts starts; /* has its lock */

	/* What the kernel can do; set by the init operation, before any other. */
	bool can_skip_open, can_skip_opendir;
	sem_t ready; /* posted by the init operation */

	/* For threads that tell the kernel something and may outlive the session. */
	pthread_mutex_t told_lock; /* taken by them and at the session's end alone */
	struct fuse_session *told; /* told_lock; NULL: before the session begins, after it ends */

	/* Inode numbers of files whose payload header was found right: a read deep in a file
	 * need not fetch the header's chunk again.  A row is overwritten by the next file
	 * that hashes there. */
	atomic_uint_least64_t proven[1 << MOUNT_PROVEN_BITS];

	atomic_uint_least64_t counters[MOUNT_COUNTERS];
};

static inline void mount_count(struct mount *m, enum mount_count what, uint64_t n)
{
	atomic_fetch_add_explicit(&m->counters[what], n, memory_order_relaxed);
}

static inline atomic_uint_least64_t *mount_proven_row(struct mount *m, uint64_t number)
{
	return &m->proven[number * UINT64_C(0x9e3779b97f4a7c15) >>
			  (64 - MOUNT_PROVEN_BITS)];
}

static inline bool mount_is_proven(struct mount *m, uint64_t number)
{
	return atomic_load_explicit(mount_proven_row(m, number), memory_order_relaxed) == number;
}

static inline void mount_set_proven(struct mount *m, uint64_t number)
{
	atomic_store_explicit(mount_proven_row(m, number), number, memory_order_relaxed);
}

#endif
