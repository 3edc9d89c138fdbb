/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secret - passwords and passphrases from where the official client takes them, and never from
 * an argument.
 *
 * Sources, the first that is set wins: $NAME, $NAME_FD (number of an open descriptor),
 * $NAME_FILE, $NAME_CMD (run without a shell, its output is taken): of each the first line; then
 * the file of the credential's name in $CREDENTIALS_DIRECTORY, whole; then the terminal.
 *
 * Owner:   the bytes are wiped by secret_release().
 */
#ifndef PXARFS_SECRET_H
#define PXARFS_SECRET_H

#include "archive/base/cleanup.h"
#include "archive/base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum { SECRET_SIZE_MAX = 4096 };

struct secret {
	char bytes[SECRET_SIZE_MAX];
	size_t size;
};

void secret_release(struct secret *s);
DEFINE_AUTO_STRUCT(secret)

/* Before the first secret is read: from now on the process leaves no core dump, lets nobody of
 * the same user look into it, and wipes the memory of its JSON.  struct crypt_key keeps itself out
 * of dumps, but OpenSSL's expanded keys and what a passphrase leaves behind lie anywhere. */
void secret_guard_process(void);

/* From the environment or a credential.  1: none of them is set. */
int secret_from_environment(const char *name, const char *credential, struct secret *out,
			    struct err *err);

/* The number of an open descriptor, or -EINVAL; `from` is who says so. */
int secret_parse_fd(const char *number, const char *from, struct err *err);

/* What was given to be read is read: nobody else shall find it open, but for the standard
 * descriptors, whose numbers others count on. */
void secret_close_fd(int fd);

/* Ask on the terminal, without echo.  -ENOTTY: standard input is none, and `name` is the variable
 * that could have been set; -ECANCELED: ^C or ^D. */
int secret_ask(const char *name, const char *prompt, struct secret *out, struct err *err);

/* The passphrase of an existing key: environment, credential, terminal. */
int secret_encryption_password(struct secret *out, struct err *err);

/* A new passphrase, UTF-8 of at least five bytes: $`name` and its kin, else the terminal, twice. */
int secret_new_password(const char *name, const char *what, struct secret *out,
			struct err *err);

#endif
