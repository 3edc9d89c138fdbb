/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/reply.h"

#include "client/cmd/log.h"
#include "fuse/descend.h"
#include "fuse/inode.h"
#include "fuse/mount.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/sysmacros.h>

enum {
	STAT_BLOCK_SIZE = 512,
	/* What the kernel's 32 bits of a device number hold. */
	DEVICE_MAJOR_MAX = 0xfff,
	DEVICE_MINOR_MAX = 0xfffff,
};

static bool is_device(const struct metadata *m)
{
	uint64_t type = m->mode & PXAR_MODE_TYPE;

	return type == PXAR_MODE_CHAR || type == PXAR_MODE_BLOCK;
}

int reply_stat(const struct tree_entry *e, uint64_t number, nlink_t names, struct stat *out)
{
	const struct metadata *m = &e->meta;

	*out = (struct stat){
		.st_ino = number,
		.st_mode = (mode_t)(m->mode & (PXAR_MODE_TYPE | PXAR_MODE_PERMISSIONS)),
		.st_nlink = 1,
		.st_uid = m->uid,
		.st_gid = m->gid,
		.st_mtim = { .tv_sec = m->mtime_sec, .tv_nsec = m->mtime_nsec },
	};
	out->st_atim = out->st_ctim = out->st_mtim;
	switch (m->mode & PXAR_MODE_TYPE) {
	case PXAR_MODE_REGULAR:
		out->st_nlink = names;
		out->st_size = (off_t)e->content_size;
		out->st_blocks = out->st_size / STAT_BLOCK_SIZE +
				 (out->st_size % STAT_BLOCK_SIZE != 0);
		break;
	case PXAR_MODE_SYMLINK:
		out->st_size = (off_t)e->text.size - 1;
		break;
	case PXAR_MODE_DIRECTORY:
		out->st_blksize = SESSION_FOLDER_BLOCK_SIZE;
		break;
	default:
		break;
	}
	if (!is_device(m))
		return 0;
	if (e->device_major > DEVICE_MAJOR_MAX || e->device_minor > DEVICE_MINOR_MAX)
		return -EOVERFLOW;
	out->st_rdev = makedev((unsigned)e->device_major, (unsigned)e->device_minor);
	return 0;
}

int reply_code(int rc)
{
	switch (rc) {
	/* of the question */
	case -ENOENT:
	case -ENODATA:
	case -ERANGE:
	case -ENOTTY:
	case -EINVAL:
	case -ENAMETOOLONG:
	case -EOVERFLOW:
	case -ESTALE:
	case -ENOKEY:
	case -EKEYREJECTED:
	/* of the moment */
	case -ENFILE:
	case -EINTR:
	case -ENOMEM:
	case -ENOTCONN:
		return -rc;
	default:
		return EIO;
	}
}

const char *reply_subject(const struct request *rq)
{
	return rq->shown ? rq->shown->name : "repository";
}

/* Of an archive, the path; the message of what is above names that itself. */
static void name_place(struct request *rq, char out[DESCEND_NAME_SIZE])
{
	const struct shown *shown = rq->shown;

	if (shown && shown->archive && inode_decode(rq->number).slot == shown->slot)
		descend_name(rq->mount, rq->shown, rq->number, out);
	else
		snprintf(out, DESCEND_NAME_SIZE, "inode %" PRIu64, rq->number);
}

/* What is not the doing of who asks. */
static bool is_worth_a_word(int code)
{
	return code == EIO || code == ENOKEY || code == EKEYREJECTED || code == ENFILE;
}

static void log_failure(struct request *rq, int rc)
{
	char path[DESCEND_NAME_SIZE];
	const char *name = rq->name.size ? (const char *)rq->name.data : "";

	name_place(rq, path);
	log_error("%s: %s of %s%s%s: %s", reply_subject(rq), rq->what,
		  path, name[0] ? ", " : "", name,
		  err_text(&rq->err, rc));
}

void reply_error(struct request *rq, int rc)
{
	int code = reply_code(rc);

	if (is_worth_a_word(code))
		log_failure(rq, rc);
	fuse_reply_err(request_settle(rq), code);
}

void reply_entry(struct request *rq, const struct fuse_entry_param *e)
{
	fuse_reply_entry(request_settle(rq), e);
}

void reply_attr(struct request *rq, const struct stat *st, double timeout)
{
	fuse_reply_attr(request_settle(rq), st, timeout);
}

void reply_readlink(struct request *rq, const char *target)
{
	fuse_reply_readlink(request_settle(rq), target);
}

void reply_bytes(struct request *rq, const void *data, size_t size)
{
	fuse_reply_buf(request_settle(rq), data, size);
}

void reply_pieces(struct request *rq, const struct iovec *iov, size_t count)
{
	fuse_reply_iov(request_settle(rq), iov, (int)count);
}

void reply_ioctl(struct request *rq, const void *data, size_t size)
{
	fuse_reply_ioctl(request_settle(rq), 0, data, size);
}

void reply_xattr(struct request *rq, const void *data, size_t size, size_t room)
{
	if (room == 0)
		fuse_reply_xattr(request_settle(rq), size);
	else if (room < size)
		fuse_reply_err(request_settle(rq), ERANGE);
	else
		fuse_reply_buf(request_settle(rq), data, size);
}
