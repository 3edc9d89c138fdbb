/* SPDX-License-Identifier: Apache-2.0 */
#include "client/read/chunk_load.h"

#include "archive/blob.h"
#include "client/base/clock.h"

#include <assert.h>

/* A chunk as it is stored: in worker->encoded, or so that its bytes lie where they shall be. */
struct stored {
	const uint8_t *data;
	size_t size;
};

static struct stored stored_of(const struct wbuf *encoded)
{
	return (struct stored){ .data = encoded->data, .size = encoded->size };
}

/* An index refers to encrypted chunks only, or to plain ones only. */
static int check_kind(const struct stored *stored, bool is_encrypted, struct err *err)
{
	enum blob_kind kind;
	int rc = blob_kind(stored->data, stored->size, &kind, err);

	if (rc < 0 || blob_kind_is_encrypted(kind) == is_encrypted)
		return rc;
	if (is_encrypted)
		return err_set(err, EBADMSG, "the chunk is not encrypted, its index is");
	return err_set(err, EBADMSG, "the chunk is encrypted, its index is not");
}

static int decode(struct fetch_worker *worker, const struct crypt_key *key, struct stored stored,
		  struct chunk *chunk, struct err *err)
{
	int rc = check_kind(&stored, key != NULL, err);

	if (rc < 0)
		return rc;
	blob_codec_set_key(worker->codec, key);
	return blob_decode_chunk(worker->codec, stored.data, stored.size, &worker->digest,
				 chunk->data, chunk->size, err);
}

/* Whatever is wrong with a chunk on disk, the repository has another. */
static bool load_from_disk(struct fetch_worker *worker, const struct crypt_key *key,
			   struct chunk *chunk)
{
	wbuf_clear(&worker->encoded);
	if (!worker->disk || disk_cache_get(worker->disk, &worker->digest, &worker->encoded) < 0)
		return false;
	if (decode(worker, key, stored_of(&worker->encoded), chunk, NULL) == 0)
		return true;
	disk_cache_drop(worker->disk, &worker->digest);
	return false;
}

/* What has the size of a chunk that is not compressed goes straight into place: copying it there
 * takes a tenth of what the whole load does.  Unless it goes to disk, where it must be whole after
 * the chunk was decrypted, or is gone. */
static int get_stored(struct fetch_worker *worker, struct repo_reader *reader,
		      const struct crypt_key *key, struct chunk *chunk, struct stored *out,
		      struct err *err)
{
	const size_t header = key ? BLOB_ENCRYPTED_HEADER_SIZE : BLOB_HEADER_SIZE;
	int rc = 1;

	static_assert((int)CHUNK_ROOM_BEFORE >= BLOB_ENCRYPTED_HEADER_SIZE, "room for a header");
	*out = (struct stored){ chunk->data - header, header + chunk->size };
	if (!worker->disk)
		rc = repo_reader_get_chunk_of_size(reader, &worker->digest, chunk->data - header,
						   out->size, err);
	if (rc <= 0)
		return rc;
	wbuf_clear(&worker->encoded);
	rc = repo_reader_get_chunk(reader, &worker->digest, &worker->encoded, err);
	*out = stored_of(&worker->encoded);
	return rc;
}

int chunk_load(struct fetch_worker *worker, struct repo_reader *reader,
	       const struct crypt_key *key, struct chunk *chunk, struct readahead_costs *costs,
	       struct err *err)
{
	uint64_t begin_us, got_us;
	struct stored stored;
	int rc;

	if (load_from_disk(worker, key, chunk))
		return 1;
	begin_us = clock_now_us();
	rc = get_stored(worker, reader, key, chunk, &stored, err);
	if (rc < 0)
		return rc;
	got_us = clock_now_us();
	rc = decode(worker, key, stored, chunk, err);
	if (rc < 0)
		return rc;
	*costs = (struct readahead_costs){ .wait_us = got_us - begin_us,
					   .work_us = clock_now_us() - got_us };
	worker->keep = worker->disk != NULL;
	return 0;
}
