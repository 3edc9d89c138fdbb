/* SPDX-License-Identifier: Apache-2.0 */
#include "archive/index_writer.h"

int index_writer_init(struct index_writer *w, const uint8_t uuid[16], int64_t ctime,
		      uint64_t image_size, struct err *err)
{
	*w = (struct index_writer){ .is_fixed = image_size > 0, .image_size = image_size };
	return w->is_fixed ? fidx_writer_init(&w->fidx, uuid, ctime, image_size, FIDX_CHUNK_SIZE,
					      err) :
			     didx_writer_init(&w->didx, uuid, ctime, err);
}

void index_writer_release(struct index_writer *w)
{
	if (w->is_fixed)
		fidx_writer_release(&w->fidx);
	else
		didx_writer_release(&w->didx);
}

/* Full chunks, and what is left of the image in the last one. */
static int check_chunk_of_image(const struct index_writer *w, uint64_t chunk_size,
				struct err *err)
{
	uint64_t left = w->image_size - w->size;
	uint64_t expected = left < FIDX_CHUNK_SIZE ? left : FIDX_CHUNK_SIZE;

	if (left && chunk_size == expected)
		return 0;
	return err_set(err, EINVAL, "a chunk of %llu bytes at byte %llu of an image of %llu",
		       (unsigned long long)chunk_size, (unsigned long long)w->size,
		       (unsigned long long)w->image_size);
}

int index_writer_add(struct index_writer *w, uint64_t chunk_size, const struct digest *digest,
		     struct err *err)
{
	int rc = 0;

	if (!w->is_fixed) {
		rc = didx_writer_add(&w->didx, chunk_size, digest, err);
	} else {
		rc = check_chunk_of_image(w, chunk_size, err);
		if (rc == 0)
			rc = fidx_writer_add(&w->fidx, digest, err);
	}
	if (rc == 0)
		w->size += chunk_size;
	return rc;
}

int index_writer_finish(struct index_writer *w, uint64_t *size, struct digest *csum,
			struct err *err)
{
	int rc = w->is_fixed ? fidx_writer_finish(&w->fidx, csum, err) :
			       didx_writer_finish(&w->didx, csum, err);

	if (rc == 0)
		*size = w->size;
	return rc;
}

const struct wbuf *index_writer_bytes(const struct index_writer *w)
{
	return w->is_fixed ? &w->fidx.bytes : &w->didx.bytes;
}
