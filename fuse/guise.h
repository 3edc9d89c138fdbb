/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guise - an archive shown as somebody else's: -o uid=, gid=, umask=.
 *
 * uid and gid take the place of every owner.  Permissions and ACLs stay, and mean the new owner
 * and group where they say "owner" and "group"; users whom an ACL names by number stay the ones
 * with that number.
 *
 * umask takes the place of all permissions: read and write for everybody, execute where the
 * archive lets anybody, and for folders; less what is in the mask.  ACLs are then neither shown
 * nor enforced, or they would take away again what the mask gives.
 *
 * With any of them, set-user-ID and set-group-ID bits go: they were meant for another owner.
 */
#ifndef PXARFS_GUISE_H
#define PXARFS_GUISE_H

#include <stdbool.h>
#include <sys/stat.h>

struct guise {
	bool has_uid, has_gid, has_umask;
	uid_t uid;
	gid_t gid;
	mode_t umask; /* at most 0777 */
};

static inline void guise_apply(const struct guise *g, struct stat *st)
{
	const mode_t all = S_IRWXU | S_IRWXG | S_IRWXO, execute = S_IXUSR | S_IXGRP | S_IXOTH;

	if (g->has_uid)
		st->st_uid = g->uid;
	if (g->has_gid)
		st->st_gid = g->gid;
	if (g->has_uid || g->has_gid || g->has_umask)
		st->st_mode &= ~(mode_t)(S_ISUID | S_ISGID);
	if (g->has_umask) {
		mode_t bits = S_ISDIR(st->st_mode) || st->st_mode & execute ? all : all & ~execute;

		st->st_mode = (st->st_mode & ~all) | (bits & ~g->umask);
	}
}

/* Whether ACLs speak for an entry. */
static inline bool guise_has_acl(const struct guise *g)
{
	return !g->has_umask;
}

#endif
