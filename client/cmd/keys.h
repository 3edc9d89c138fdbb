/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keys - which key and which crypt mode a command works with.
 *
 * The default key and master key lie where the official client keeps them:
 * $XDG_CONFIG_HOME/proxmox-backup/ (~/.config/proxmox-backup/), for reading also below
 * $XDG_CONFIG_DIRS.
 */
#ifndef PXARFS_KEYS_H
#define PXARFS_KEYS_H

#include "archive/base/wbuf.h"
#include "archive/crypt.h"
#include "archive/keyfile.h"
#include "archive/manifest.h"
#include "client/cmd/opts.h"
#include "client/read/archive_open.h"

#include <stdbool.h>

#define KEYS_DEFAULT_KEY "encryption-key.json"
#define KEYS_DEFAULT_MASTER "master-public.pem"

/* What the command line said; zero is "nothing". */
struct keys_options {
	const char *keyfile;
	const char *keyfd; /* the number as text */
	const char *crypt_mode;
	const char *master_pubkey_file;
	const char *master_pubkey_fd;
};

/* Lines for a command's table of options. */
#define KEYS_OPT_READ(o)                                                             \
	{ "keyfile", 0, OPT_STRING, &(o).keyfile, "FILE",                             \
	  "key of an encrypted or signed snapshot (default: the default key, if needed)" }, \
	{                                                                            \
		"keyfd", 0, OPT_STRING, &(o).keyfd, "FD",                            \
			"read the key from an open descriptor"                       \
	}
#define KEYS_OPT_BLOB(o)                                                             \
	{ "keyfile", 0, OPT_STRING, &(o).keyfile, "FILE",                             \
	  "encryption key (default: the default key, if there is one)" },            \
	{ "keyfd", 0, OPT_STRING, &(o).keyfd, "FD",                                   \
	  "read the key from an open descriptor" },                                  \
	{                                                                            \
		"crypt-mode", 0, OPT_STRING, &(o).crypt_mode, "MODE",                \
			"encrypt, sign-only or none (default: encrypt when there is a key)" \
	}
#define KEYS_OPT_WRITE(o)                                                            \
	KEYS_OPT_BLOB(o),                                                            \
	{ "master-pubkey-file", 0, OPT_STRING, &(o).master_pubkey_file, "FILE",       \
	  "public master key that can recover the key (default: the default one, if any)" }, \
	{                                                                            \
		"master-pubkey-fd", 0, OPT_STRING, &(o).master_pubkey_fd, "FD",      \
			"read the public master key from an open descriptor"         \
	}

/* What a backup does. */
struct keys_choice {
	enum crypt_mode mode;
	struct crypt_key *key; /* NULL for mode none */
	char created[KEYFILE_TIME_SIZE]; /* of the key in use */
	struct wbuf master_pem; /* size 0: no master key */
};
void keys_choice_release(struct keys_choice *c);
DEFINE_AUTO_STRUCT(keys_choice)

/* Bad usage: words that nobody knows, or that exclude each other.  Nothing is read. */
int keys_check(const struct keys_options *o, struct err *err);

/* Check the options, load the key (may ask for its passphrase) and the master key. */
int keys_for_backup(const struct keys_options *o, struct keys_choice *out, struct err *err);

/* The same for a single blob: a master key is not looked for. */
int keys_for_blob(const struct keys_options *o, struct keys_choice *out, struct err *err);

/* The key given on the command line; NULL in *out when none was. */
int keys_given(const struct keys_options *o, struct crypt_key **out, struct err *err);

/* The default key.  1: there is none. */
int keys_default(struct crypt_key **out, struct err *err);

/* archive_open() with the key at hand (*key, NULL: none); when it turns out that one is needed,
 * with the default key, which *key then is: the caller's, to be freed after the archive. */
int keys_open_archive(struct archive **out, struct fetch *fetch, struct repo_reader *reader,
		      struct crypt_key **key, const char *typed, struct err *err);

/* A default file that is there; from malloc.  -ENOENT: none is. */
int keys_find_default(const char *name, char **out, struct err *err);

/* Where default files are written, folders made when missing; from malloc. */
int keys_default_path(const char *name, char **out, struct err *err);

/* Read and decode a key file. */
int keys_load_file(const char *path, struct keyfile *out, struct err *err);

/* The key of a key file; asks for the passphrase, if it has one. */
int keys_open(const struct keyfile *k, struct crypt_key **out, struct err *err);

/* A whole small file into `out`. */
int keys_read_file(const char *path, struct wbuf *out, struct err *err);

/* Now, as key files have it: "2026-11-22T16:55:39+00:00", local time. */
void keys_now(char out[KEYFILE_TIME_SIZE]);

/* Unix seconds of such a time, or of another form of RFC 3339.  -EBADMSG. */
int keys_parse_time(const char *text, int64_t *epoch);

/* A time that was found in a key file, in the form that others expect; now, if it is none. */
void keys_keep_time(const char *found, char out[KEYFILE_TIME_SIZE]);

#endif
