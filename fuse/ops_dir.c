/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listing.  A listing must tell all there is, or fail: what is left out of it without a word
 * is lost to whoever copies the folder.  So a member whose entry is damaged is listed by its
 * name, and looking it up fails; one whose very name is damaged, or too long for the kernel,
 * is listed under a stand-in name that cannot be looked up either.
 *
 * Cookies: 0 is the start, 1 is behind ".", 2 behind "..", k + 3 behind the folder's member k.
 */
#include "fuse/ops.h"

#include "archive/base/siphash.h"
#include "client/cmd/log.h"
#include "fuse/descend.h"
#include "fuse/inode.h"
#include "fuse/reply.h"

#include <inttypes.h>
#include <string.h>

enum {
	DOTS_COUNT = 2, /* "." and ".." */
	LIST_SIZE_MAX = 1 << 20, /* of one answer */
	/* Attributes that one answer goes through: there may be 64 MiB of them in each member. */
	LIST_WORK_MAX = 8 << 20,
	/* Members behind a missing one whose chunks are asked for together with its: folders lie
	 * far from each other when there is much in them. */
	AHEAD_COUNT = 64,
};

bool ops_put_row(struct request *rq, const char *name, struct fuse_entry_param *e,
		 uint64_t cookie)
{
	char *at = (char *)rq->out.data + rq->out.size;
	size_t room = rq->size - rq->out.size, n;

	if (rq->plus)
		n = fuse_add_direntry_plus(rq->fuse, at, room, name, e, (off_t)cookie);
	else
		n = fuse_add_direntry(rq->fuse, at, room, name, &e->attr, (off_t)cookie);
	if (n > room)
		return false;
	rq->out.size += n;
	return true;
}

/* Names without a number to look up. */
bool ops_put_dots(struct request *rq, uint64_t k)
{
	struct fuse_entry_param e = { 0 };
	bool is_self = k == 0 || rq->number == INODE_ROOT;

	e.attr.st_ino = is_self ? rq->number : INODE_UNKNOWN;
	e.attr.st_mode = S_IFDIR;
	return ops_put_row(rq, k == 0 ? "." : "..", &e, k + 1);
}

static void hint_members(struct request *rq, size_t i)
{
	const struct folder *f = rq->folder;
	size_t count = (size_t)f->dir.member_count;
	size_t end = count - i < AHEAD_COUNT ? count : i + AHEAD_COUNT;

	for (; i < end; i++)
		stream_hint(rq->meta.stream, f->slots[i].filename_offset,
			    f->slots[i].filename_offset + 1);
}

/* Read member `i` into rq->entry; chunks that are known to be damaged are no reason to wait. */
static int read_member(struct request *rq, const struct tree *tree, size_t i)
{
	const struct folder *f = rq->folder;
	int rc = tree_window_member(&rq->window, tree, &rq->meta.base, &f->dir, f->slots,
				    (size_t)f->dir.member_count, i, &rq->entry, &rq->err);

	if (rc != -EAGAIN)
		return rc;
	if (!request_is_damaged(rq)) {
		hint_members(rq, i);
		return rc;
	}
	/* It may be that only what lies behind this member is damaged. */
	rc = tree_member(tree, &rq->meta.base, &f->dir, &f->slots[i], &rq->entry, &rq->err);
	if (rc != -EAGAIN || !request_is_damaged(rq))
		return rc;
	rq->err = rq->bad_err;
	return -EBADMSG;
}

/* Whether a look-up of the name that rq->entry has would come to this member. */
static bool is_own_name(struct request *rq, const struct tree_slot *slot)
{
	size_t size = rq->entry.name.size;

	return size > 1 && size - 1 <= SESSION_NAME_SIZE_MAX &&
	       siphash_name(tree_entry_name(&rq->entry), size - 1) == slot->name_hash;
}

/* The row of a member that cannot be shown: its name if possible, no attributes, no number. */
static void describe_unreadable(struct request *rq, const struct tree_slot *slot,
				const char **name, char stand_in[OPS_STAND_IN_SIZE],
				struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){ .attr.st_ino = INODE_UNKNOWN };
	*name = tree_entry_name(&rq->entry);
	if (!is_own_name(rq, slot)) {
		ops_stand_in_name(slot->filename_offset, stand_in);
		*name = stand_in;
	}
}

/* Why a member is shown without its attributes. */
static void log_unreadable(struct request *rq, const struct tree_slot *slot, int rc)
{
	char path[DESCEND_NAME_SIZE];

	descend_name(rq->mount, rq->shown, rq->number, path);
	if (rc < 0)
		log_error("%s: %s of %s: %s", rq->shown->name, rq->what, path,
			  err_text(&rq->err, rc));
	else
		log_warn("%s: %s: the member at offset %" PRIu64 " has a name of %zu bytes, too "
			 "long for the kernel",
			 rq->shown->name, path, slot->filename_offset,
			 rq->entry.name.size - 1);
}

/* 0: the row was appended; 1: the answer is full; -EAGAIN and others. */
static int put_member(struct request *rq, const struct tree *tree, size_t i, bool attributes)
{
	const struct tree_slot *slot = &rq->folder->slots[i];
	char stand_in[OPS_STAND_IN_SIZE];
	struct fuse_entry_param e;
	const char *name;
	int rc = read_member(rq, tree, i);

	if (rc == 0 && rq->entry.name.size - 1 <= SESSION_NAME_SIZE_MAX) {
		rc = ops_describe(rq, tree, &e);
		if (rc == 0) {
			if (!attributes)
				e.ino = 0;
			return ops_put_row(rq, tree_entry_name(&rq->entry), &e, i + 3) ? 0 : 1;
		}
	}
	if (rc < 0 && rc != -EBADMSG && rc != -EOVERFLOW)
		return rc;
	describe_unreadable(rq, slot, &name, stand_in, &e);
	if (!ops_put_row(rq, name, &e, i + 3))
		return 1;
	log_unreadable(rq, slot, rc);
	return 0;
}

static int find_folder(struct request *rq, const struct tree *tree)
{
	uint64_t end;
	int rc = ops_folder_end(rq, tree, &end);

	if (rc < 0)
		return rc;
	rq->folder = dir_cache_get(rq->mount->folders, rq->number);
	if (!rq->folder)
		rc = dir_cache_read(rq->mount->folders, rq->number, tree, &rq->meta, end,
				    &rq->folder, &rq->err);
	return rc < 0 ? rc : ops_check_start(rq, &rq->folder->dir);
}

/* Append rows from rq->offset on, which goes along with them: what has been appended stays when
 * the request runs again, so a folder whose members lie in many chunks is not read from its
 * start for each of them. */
static int fill(struct request *rq, const struct tree *tree)
{
	uint64_t count = rq->folder->dir.member_count;
	bool attributes = rq->plus && plus_wanted(&rq->mount->plus, count);

	for (; rq->offset < DOTS_COUNT; rq->offset++)
		if (!ops_put_dots(rq, rq->offset))
			return 0;
	for (; rq->offset - DOTS_COUNT < count; rq->offset++) {
		int rc;

		if (rq->work > LIST_WORK_MAX)
			return 0;
		rc = put_member(rq, tree, (size_t)(rq->offset - DOTS_COUNT), attributes);
		if (rc != 0)
			return rc < 0 ? rc : 0;
		rq->work += rq->entry.meta.bytes.size;
	}
	return 0;
}

static int run_list(struct request *rq)
{
	const struct tree *tree;
	uint64_t begin = rq->offset;
	int rc = ops_tree(rq, &tree);

	ops_went_below(rq);
	if (rc == 0 && !rq->folder)
		rc = find_folder(rq, tree);
	if (rc < 0)
		return rc;
	if (!rq->out.size && !wbuf_reserve(&rq->out, rq->size))
		return -ENOMEM;
	rq->steps_over_damage = true;
	rc = fill(rq, tree);
	if (rc == -EAGAIN && rq->offset != begin)
		stream_view_forget(&rq->meta);
	if (rc < 0)
		return rc;
	reply_bytes(rq, rq->out.data, rq->out.size);
	return 0;
}

void ops_list(struct request *rq, size_t size, off_t offset, bool plus)
{
	if (!rq)
		return;
	rq->size = size < LIST_SIZE_MAX ? size : LIST_SIZE_MAX;
	rq->offset = (uint64_t)offset;
	rq->plus = plus;
	rq->work = 0;
	wbuf_clear(&rq->out);
	request_go(rq);
}

void ops_readdir(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
		 struct fuse_file_info *fi)
{
	(void)fi;
	ops_list(ops_request(fuse, "readdir", run_list, number, MOUNT_READDIR), size, offset, false);
}

void ops_readdirplus(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	(void)fi;
	ops_list(ops_request(fuse, "readdirplus", run_list, number, MOUNT_READDIRPLUS), size, offset,
	     true);
}
