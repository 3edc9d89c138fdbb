/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reencode - decode an archive and encode it again.
 *
 *	reencode META OUTMETA                        version 1, or a metadata stream alone
 *	reencode META PAYLOAD OUTMETA OUTPAYLOAD     version 2
 *
 * What comes out of an archive of the official tools is the same archive.
 */
#include "tests/support/copy_archive.h"

#include <stdio.h>

static int write_file(void *arg, const void *data, size_t size, struct err *err)
{
	if (fwrite(data, 1, size, arg) != size)
		return err_sys(err, errno, "write");
	return 0;
}

static int read_file(struct wbuf *b, const char *path)
{
	AUTO(file) FILE *f = fopen(path, "rb");

	while (f && !b->failed) {
		uint8_t *p = wbuf_reserve(b, 1 << 16);
		size_t got = p ? fread(p, 1, 1 << 16, f) : 0;

		if (!got)
			break;
		b->size += got;
	}
	if (f && !ferror(f) && !b->failed)
		return 0;
	fprintf(stderr, "reencode: cannot read %s\n", path);
	return -1;
}

static FILE *create(const char *path)
{
	FILE *f = fopen(path, "wb");

	if (!f)
		perror(path);
	return f;
}

static int close_file(FILE **f)
{
	int rc = *f ? fclose(steal(f)) : 0;

	if (rc)
		perror("reencode: close");
	return rc;
}

int main(int argc, char **argv)
{
	AUTO(wbuf) struct wbuf meta = WBUF_INIT(SIZE_MAX), payload = WBUF_INIT(SIZE_MAX);
	AUTO(file) FILE *out_meta = NULL, *out_payload = NULL;
	struct input_memory meta_memory, payload_memory;
	struct copy copy = { .tables = true };
	struct err err = ERR_INIT;
	int rc;

	if (argc != 3 && argc != 5) {
		fprintf(stderr, "usage: reencode META [PAYLOAD] OUTMETA [OUTPAYLOAD]\n");
		return 2;
	}
	if (read_file(&meta, argv[1]) < 0 || (argc == 5 && read_file(&payload, argv[2]) < 0))
		return 1;
	meta_memory = (struct input_memory){ .data = meta.data, .size = meta.size };
	payload_memory = (struct input_memory){ .data = payload.data, .size = payload.size };
	copy.meta = input_memory_source(&meta_memory);
	out_meta = create(argv[argc == 5 ? 3 : 2]);
	if (!out_meta)
		return 1;
	copy.out_meta = (struct encoder_sink){ write_file, out_meta };
	if (argc == 5) {
		out_payload = create(argv[4]);
		if (!out_payload)
			return 1;
		copy.payload = input_memory_source(&payload_memory);
		copy.payload_bytes = payload.data;
		copy.payload_size = payload.size;
		copy.out_payload = (struct encoder_sink){ write_file, out_payload };
	}
	rc = copy_archive(&copy, &err);
	if (rc < 0)
		fprintf(stderr, "reencode: %s: %s\n", argv[1], err_text(&err, rc));
	return rc < 0 || close_file(&out_meta) || close_file(&out_payload);
}
