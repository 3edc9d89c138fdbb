/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup - release by scope, hand over by steal().
 *
 *	AUTO(fd) int fd = open(...);               closed when the scope ends
 *	AUTO(didx) struct didx *ix = NULL;         freed when the scope ends
 *	*out = steal(&ix);                         ... unless it was handed over
 *
 * AUTO(x) runs x_cleanup(&variable).  A module with a heap type `struct x` and x_free() says
 * DEFINE_AUTO_PTR(x); one with an embedded type and x_release() says DEFINE_AUTO_STRUCT(x).
 * Cleanups keep errno.
 */
#ifndef PXARFS_BASE_CLEANUP_H
#define PXARFS_BASE_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define AUTO(name) __attribute__((cleanup(name##_cleanup)))

#define steal(pointer)                                 \
	({                                             \
		__typeof__(pointer) steal_p = (pointer); \
		__typeof__(*steal_p) steal_v = *steal_p; \
		*steal_p = NULL;                       \
		steal_v;                               \
	})

#define DEFINE_AUTO_PTR(name)                                              \
	static inline __attribute__((unused)) void name##_cleanup(struct name **p) \
	{                                                                  \
		int saved = errno;                                         \
		if (*p)                                                    \
			name##_free(*p);                                   \
		errno = saved;                                             \
	}

#define DEFINE_AUTO_STRUCT(name)                                           \
	static inline __attribute__((unused)) void name##_cleanup(struct name *p)  \
	{                                                                  \
		int saved = errno;                                         \
		name##_release(p);                                         \
		errno = saved;                                             \
	}

/* AUTO(free) on any pointer from malloc. */
static inline __attribute__((unused)) void free_cleanup(void *p)
{
	int saved = errno;

	free(*(void **)p);
	errno = saved;
}

/* AUTO(fd) on a descriptor; -1 is none. */
static inline __attribute__((unused)) void fd_cleanup(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

static inline __attribute__((unused)) void file_cleanup(FILE **f)
{
	int saved = errno;

	if (*f)
		fclose(*f);
	errno = saved;
}

/* Take a descriptor out of the hands of AUTO(fd). */
static inline int steal_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

#endif
