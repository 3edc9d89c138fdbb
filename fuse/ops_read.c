/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/ops.h"

#include "fuse/loop.h"
#include "fuse/reply.h"

enum {
	/* An answer of more pieces than this is put together in memory first; chunks so small
	 * are not written by anyone we know. */
	READ_PIECES_MAX = 64,
};

/* Where the content of rq->entry begins, in the view that *view then is. */
static int find_content(struct request *rq, const struct tree *tree, struct stream_view **view,
			uint64_t *begin)
{
	struct mount *m = rq->mount;
	struct stream *payload;
	int rc;

	if (tree->version == PXAR_VERSION_1) {
		*view = &rq->meta;
		*begin = rq->entry.content_offset;
		return 0;
	}
	rc = archive_payload_try(rq->shown->archive, &payload, &rq->err);
	rq->wants_payload_index = rc == -EAGAIN;
	if (rc < 0)
		return rc;
	if (!rq->has_payload) {
		stream_view_init(&rq->payload, payload);
		rq->has_payload = true;
	}
	*view = &rq->payload;
	if (mount_is_proven(m, rq->number)) {
		*begin = rq->entry.content_offset + PXAR_HEADER_SIZE;
		return 0;
	}
	rc = tree_payload_check(&rq->entry, &rq->payload.base, begin, &rq->err);
	if (rc == 0)
		mount_set_proven(m, rq->number);
	return rc;
}

/* From the chunks as they lie in the cache. */
int ops_reply_content(struct request *rq, struct stream_view *view, uint64_t from, size_t size)
{
	struct iovec pieces[READ_PIECES_MAX];
	size_t count = READ_PIECES_MAX;
	int rc = stream_view_map(view, from, size, pieces, &count, &rq->err);

	if (rc == 0) {
		reply_pieces(rq, pieces, count);
		return 0;
	}
	if (rc != -E2BIG)
		return rc;
	wbuf_clear(&rq->out);
	if (!wbuf_reserve(&rq->out, size))
		return -ENOMEM;
	rc = read_at_exact(&view->base, rq->out.data, size, from, &rq->err);
	if (rc == 0)
		reply_bytes(rq, rq->out.data, size);
	return rc;
}

static int run_read(struct request *rq)
{
	const struct tree_entry *e = &rq->entry;
	struct stream_view *view;
	const struct tree *tree;
	uint64_t begin, left;
	size_t size = rq->size;
	int rc = ops_tree(rq, &tree);

	/* What it reads must not depend on what was read before: push.c goes by that. */
	wbuf_clear(&rq->entry.scratch.bytes);
	if (rc == 0)
		rc = ops_read_entry(rq);
	if (rc < 0)
		return rc;
	if ((e->meta.mode & PXAR_MODE_TYPE) != PXAR_MODE_REGULAR)
		return -EINVAL;
	left = rq->offset < e->content_size ? e->content_size - rq->offset : 0;
	if (size > left)
		size = (size_t)left;
	if (size == 0) {
		reply_bytes(rq, NULL, 0);
		return 0;
	}
	rc = find_content(rq, tree, &view, &begin);
	if (rc == 0)
		rc = ops_reply_content(rq, view, begin + rq->offset, size);
	if (rc < 0)
		return rc;
	mount_count(rq->mount, MOUNT_READ_BYTES, size);
	if (rq->offset == 0 && push_saw(rq->mount->push, rq->shown, tree, e))
		loop_unhurried();
	return 0;
}

void ops_read(fuse_req_t fuse, fuse_ino_t number, size_t size, off_t offset,
	      struct fuse_file_info *fi)
{
	struct request *rq = ops_request(fuse, "read", run_read, number, MOUNT_READ);

	(void)fi;
	if (!rq)
		return;
	rq->size = size < OPS_READ_SIZE_MAX ? size : OPS_READ_SIZE_MAX;
	rq->offset = (uint64_t)offset;
	request_go(rq);
}
