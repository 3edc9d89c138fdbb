/* SPDX-License-Identifier: Apache-2.0 */
/* pxarfs key: make, show, keep and recover keys. */
#include "archive/blob.h"
#include "archive/json_text.h"
#include "archive/master_key.h"
#include "client/base/io.h"
#include "client/base/secret.h"
#include "client/cmd/cmd.h"
#include "client/cmd/keys.h"
#include "client/cmd/log.h"
#include "client/cmd/paperkey.h"

#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define NEW_PASSWORD "PXARFS_NEW_ENCRYPTION_PASSWORD"
#define MASTER_PASSWORD "PXARFS_MASTER_PASSWORD"

static int write_fd(int fd, const char *path, const struct wbuf *text, struct err *err)
{
	int rc = io_write(fd, text->data, text->size);

	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	return rc < 0 ? err_sys(err, -rc, "%s", path) : 0;
}

/* A name is safe when its folder is; not every file system, or folder, lets us make sure. */
static int sync_folder(const char *path, struct err *err)
{
	AUTO(free) char *copy = strdup(path);
	AUTO(fd) int fd = -1;

	if (!copy)
		return err_set(err, ENOMEM, "out of memory");
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if ((fd < 0 && errno != EACCES) || (fd >= 0 && fsync(fd) < 0 && errno != EINVAL))
		return err_sys(err, errno, "%s: its folder", path);
	return 0;
}

/* A new file, mode 0600; an existing one is never touched. */
static int write_new(const char *path, const struct wbuf *text, struct err *err)
{
	AUTO(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc;

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	rc = write_fd(fd, path, text, err);
	if (rc == 0 && close(steal_fd(&fd)) < 0)
		rc = err_sys(err, errno, "%s", path);
	if (rc < 0)
		unlink(path);
	return rc < 0 ? rc : sync_folder(path, err);
}

/* Root may change the passphrase of a user's key, which stays the user's. */
static int keep_owner(int fd, const char *path, struct err *err)
{
	struct stat old, new;

	if (stat(path, &old) < 0 || fstat(fd, &new) < 0)
		return err_sys(err, errno, "%s", path);
	if ((old.st_uid != new.st_uid || old.st_gid != new.st_gid) &&
	    fchown(fd, old.st_uid, old.st_gid) < 0)
		return err_sys(err, errno, "%s: cannot keep its owner", path);
	return 0;
}

/* Put another file in the place of an old one, of the one that a link leads to: whole or not at
 * all. */
static int replace(const char *name, const struct wbuf *text, struct err *err)
{
	AUTO(free) char *path = realpath(name, NULL);
	AUTO(free) char *temporary = NULL;
	AUTO(fd) int fd = -1;
	int rc;

	if (!path)
		return err_sys(err, errno, "%s", name);
	if (asprintf(&temporary, "%s.tmp_XXXXXX", path) < 0) {
		temporary = NULL;
		return err_set(err, ENOMEM, "out of memory");
	}
	fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
	if (fd < 0)
		return err_sys(err, errno, "%s", temporary);
	rc = keep_owner(fd, path, err);
	if (rc == 0)
		rc = write_fd(fd, temporary, text, err);
	if (rc == 0 && rename(temporary, path) < 0)
		rc = err_sys(err, errno, "%s", path);
	if (rc < 0)
		unlink(temporary);
	return rc < 0 ? rc : sync_folder(path, err);
}

/* How a key is going to be protected. */
struct protection {
	const char *kdf_name, *hint;
	enum keyfile_kdf kdf;
};

/* Lines for a command's table of options. */
#define OPT_PROTECTION(p)                                                      \
	{ "kdf", 0, OPT_STRING, &(p).kdf_name, "KDF",                          \
	  "how the passphrase protects the key: scrypt (default), pbkdf2 or none" }, \
	{                                                                      \
		"hint", 0, OPT_STRING, &(p).hint, "TEXT", "shown when the passphrase is wrong" \
	}

static const char *const kdf_names[] = { [KEYFILE_KDF_NONE] = "none",
					 [KEYFILE_KDF_SCRYPT] = "scrypt",
					 [KEYFILE_KDF_PBKDF2] = "pbkdf2" };

static int parse_kdf(const char *text, enum keyfile_kdf *out, struct err *err)
{
	for (size_t i = 0; i < sizeof(kdf_names) / sizeof(kdf_names[0]); i++) {
		if (strcmp(text, kdf_names[i]) == 0) {
			*out = (enum keyfile_kdf)i;
			return 0;
		}
	}
	return err_set(err, EINVAL, "--kdf: '%s' is neither none, scrypt nor pbkdf2", text);
}

/* Before a passphrase is asked for in vain. */
static int check_protection(struct protection *p, struct err *err)
{
	int rc = 0;

	p->kdf = KEYFILE_KDF_SCRYPT;
	if (p->kdf_name)
		rc = parse_kdf(p->kdf_name, &p->kdf, err);
	return rc < 0 ? rc : keyfile_check_hint(p->kdf, p->hint, err);
}

/* The path of a key that is going to be made, or the default one; from malloc. */
static int new_path(char **args, size_t count, char **out, struct err *err)
{
	if (count == 0)
		return keys_default_path(KEYS_DEFAULT_KEY, out, err);
	*out = strdup(args[0]);
	return *out ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* The path of a key that is there. */
static int old_path(char **args, size_t count, char **out, struct err *err)
{
	return count == 0 ? keys_find_default(KEYS_DEFAULT_KEY, out, err) :
			    new_path(args, count, out, err);
}

/* The text of a key file around `key`; asks for the new passphrase where there is to be one. */
static int seal_text(const struct crypt_key *key, const struct protection *p, const char *created,
		     struct wbuf *out, struct err *err)
{
	AUTO(secret) struct secret passphrase = { .size = 0 };
	char now[KEYFILE_TIME_SIZE], since[KEYFILE_TIME_SIZE];
	struct keyfile_random random;
	struct keyfile k;
	int rc = 0;

	if (p->kdf != KEYFILE_KDF_NONE)
		rc = secret_new_password(NEW_PASSWORD, "Encryption Key Password", &passphrase, err);
	if (rc == 0)
		rc = crypt_random(&random, sizeof(random), err);
	keys_now(now);
	keys_keep_time(created, since);
	if (rc == 0)
		rc = keyfile_seal(&k, key, p->kdf, passphrase.bytes, passphrase.size, &random,
				  since, now, p->hint, err);
	if (rc < 0)
		return rc;
	rc = keyfile_encode(&k, false, out, err);
	keyfile_wipe(&k);
	return rc;
}

/* --- create --- */

static int create(const char *path, const struct protection *how, struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(crypt_key) struct crypt_key *key = NULL;
	uint8_t bytes[CRYPT_KEY_SIZE];
	int rc;

	/* Do not ask for a passphrase in vain. */
	if (access(path, F_OK) == 0)
		return err_set(err, EEXIST, "%s: exists already; keys are never overwritten", path);
	rc = crypt_random(bytes, sizeof(bytes), err);
	if (rc == 0)
		rc = crypt_key_new(&key, bytes, err);
	crypt_wipe(bytes, sizeof(bytes));
	if (rc == 0)
		rc = seal_text(key, how, "", &text, err);
	if (rc == 0)
		rc = write_new(path, &text, err);
	return rc;
}

static int run_create(const struct cmd *self, int argc, char **argv)
{
	struct protection how = { 0 };
	const struct opt table[] = { OPT_PROTECTION(how), { 0 } };
	AUTO(free) char *path = NULL;
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	int rc = opts_parse(self, table, argc, argv, 0, 1, &args, &count);

	if (rc >= 0)
		return rc;
	if (check_protection(&how, &err) < 0)
		return opts_usage(self, "%s", err.text);
	rc = new_path(args, count, &path, &err);
	if (rc == 0)
		rc = create(path, &how, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	log_info("%s: key created; without it and its passphrase no backup can be restored", path);
	return EXIT_DONE;
}

/* --- show --- */

/* -1: nobody knows. */
static json_int_t epoch(const char *text)
{
	int64_t out;

	return keys_parse_time(text, &out) < 0 ? -1 : (json_int_t)out;
}

static int show_json(const char *path, const struct keyfile *k, const char *fingerprint)
{
	AUTO(json) json_t *json = json_pack("{s:s,s:s,s:I,s:I}", "path", path, "kdf",
					    kdf_names[k->kdf], "created", epoch(k->created),
					    "modified", epoch(k->modified));

	if (json && k->has_fingerprint)
		json_object_set_new(json, "fingerprint", json_string(fingerprint));
	if (json && k->hint[0])
		json_object_set_new(json, "hint", json_string(k->hint));
	if (json)
		return cmd_print_json(json);
	log_error("%s: cannot print it as JSON", path);
	return EXIT_FAILED;
}

static void show_line(const char *label, const char *value)
{
	printf("%-11s  ", label);
	cmd_print_name(value);
	putchar('\n');
}

static int run_show(const struct cmd *self, int argc, char **argv)
{
	char fingerprint[CRYPT_FINGERPRINT_TEXT_SIZE] = "";
	bool json = false;
	const struct opt table[] = { CMD_OPT_OUTPUT_FORMAT(json), { 0 } };
	AUTO(free) char *path = NULL;
	struct err err = ERR_INIT;
	struct keyfile k;
	char **args;
	size_t count;
	int rc = opts_parse(self, table, argc, argv, 0, 1, &args, &count);

	if (rc >= 0)
		return rc;
	rc = old_path(args, count, &path, &err);
	if (rc == 0)
		rc = keys_load_file(path, &k, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	crypt_wipe(k.data, sizeof(k.data));
	if (k.has_fingerprint)
		crypt_fingerprint_text(&k.fingerprint, fingerprint);
	if (json)
		return show_json(path, &k, fingerprint);
	show_line("path", path);
	show_line("kdf", kdf_names[k.kdf]);
	show_line("created", k.created);
	show_line("modified", k.modified);
	if (k.has_fingerprint)
		show_line("fingerprint", fingerprint);
	if (k.hint[0])
		show_line("hint", k.hint);
	return EXIT_DONE;
}

/* --- change-passphrase --- */

static int change_passphrase(const char *path, const struct protection *how, struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(crypt_key) struct crypt_key *key = NULL;
	struct keyfile k;
	int rc = keys_load_file(path, &k, err);

	if (rc == 0)
		rc = keys_open(&k, &key, err);
	if (rc == 0)
		rc = seal_text(key, how, k.created, &text, err);
	keyfile_wipe(&k);
	if (rc == 0)
		rc = replace(path, &text, err);
	return rc;
}

static int run_change_passphrase(const struct cmd *self, int argc, char **argv)
{
	struct protection how = { 0 };
	const struct opt table[] = { OPT_PROTECTION(how), { 0 } };
	AUTO(free) char *path = NULL;
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	int rc = opts_parse(self, table, argc, argv, 0, 1, &args, &count);

	if (rc >= 0)
		return rc;
	if (check_protection(&how, &err) < 0)
		return opts_usage(self, "%s", err.text);
	rc = old_path(args, count, &path, &err);
	if (rc == 0)
		rc = change_passphrase(path, &how, &err);
	return rc < 0 ? cmd_failed(&err, rc) : EXIT_DONE;
}

/* --- master keys --- */

static int run_create_master_key(const struct cmd *self, int argc, char **argv)
{
	static const char public_path[] = "master-public.pem", private_path[] = "master-private.pem";
	const struct opt table[] = { { 0 } };
	AUTO(wbuf) struct wbuf public_pem = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(crypt_wbuf) struct wbuf private_pem = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(secret) struct secret passphrase = { .size = 0 };
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	int rc = opts_parse(self, table, argc, argv, 0, 0, &args, &count);

	if (rc >= 0)
		return rc;
	rc = 0;
	if (access(public_path, F_OK) == 0 || access(private_path, F_OK) == 0)
		rc = err_set(&err, EEXIST, "%s or %s exists already in this folder; keys are never "
			     "overwritten", public_path, private_path);
	if (rc == 0)
		rc = secret_new_password(MASTER_PASSWORD, "Master Key Password", &passphrase, &err);
	if (rc == 0)
		rc = master_key_new(passphrase.bytes, passphrase.size, &public_pem, &private_pem,
				    &err);
	if (rc == 0)
		rc = write_new(private_path, &private_pem, &err);
	if (rc == 0 && (rc = write_new(public_path, &public_pem, &err)) < 0)
		unlink(private_path); /* nobody has used it */
	if (rc < 0)
		return cmd_failed(&err, rc);
	log_info("wrote %s and %s; keep the private one away from this machine", public_path,
		 private_path);
	return EXIT_DONE;
}

static int run_import_master_pubkey(const struct cmd *self, int argc, char **argv)
{
	const struct opt table[] = { { 0 } };
	AUTO(wbuf) struct wbuf pem = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(free) char *path = NULL;
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	int rc = opts_parse(self, table, argc, argv, 1, 1, &args, &count);

	if (rc >= 0)
		return rc;
	rc = keys_read_file(args[0], &pem, &err);
	if (rc == 0) {
		rc = master_key_check(pem.data, pem.size, &err);
		if (rc < 0)
			err_wrap(&err, rc, "%s", args[0]);
	}
	if (rc == 0)
		rc = keys_default_path(KEYS_DEFAULT_MASTER, &path, &err);
	if (rc == 0)
		rc = write_new(path, &pem, &err);
	if (rc < 0)
		return cmd_failed(&err, rc);
	log_info("imported as %s", path);
	return EXIT_DONE;
}

/* The RSA block as it is, or still in the blob that a snapshot keeps it in. */
static int read_block(const char *path, struct wbuf *out, struct err *err)
{
	AUTO(wbuf) struct wbuf file = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	enum blob_kind kind;
	int rc = keys_read_file(path, &file, err);

	if (rc < 0)
		return rc;
	if (!codec)
		return err_set(err, ENOMEM, "out of memory");
	if (blob_kind(file.data, file.size, &kind, NULL) < 0)
		return wbuf_put(out, file.data, file.size);
	rc = blob_decode(codec, file.data, file.size, KEYFILE_SIZE_MAX, out, err);
	return rc < 0 ? err_wrap(err, rc, "%s", path) : 0;
}

static int recover(const char *private_path, const char *block_path, struct crypt_key **out,
		   char created[KEYFILE_TIME_SIZE], struct err *err)
{
	AUTO(crypt_wbuf) struct wbuf pem = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(wbuf) struct wbuf block = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(secret) struct secret passphrase = { .size = 0 };
	struct keyfile k;
	int rc = keys_read_file(private_path, &pem, err);

	if (rc == 0)
		rc = read_block(block_path, &block, err);
	if (rc == 0 && memmem(pem.data, pem.size, "ENCRYPTED", 9)) {
		rc = secret_from_environment(MASTER_PASSWORD, NULL, &passphrase, err);
		if (rc == 1)
			rc = secret_ask(MASTER_PASSWORD, "Master Key Password", &passphrase, err);
	}
	if (rc == 0)
		rc = master_key_unwrap(pem.data, pem.size, passphrase.bytes, passphrase.size,
				       block.data, block.size, &k, err);
	if (rc < 0)
		return rc;
	memcpy(created, k.created, KEYFILE_TIME_SIZE);
	rc = keyfile_open(&k, NULL, 0, out, err);
	keyfile_wipe(&k);
	return rc;
}

static int run_import_with_master_key(const struct cmd *self, int argc, char **argv)
{
	const char *private_path = NULL, *block_path = NULL;
	struct protection how = { 0 };
	const struct opt table[] = {
		{ "master-keyfile", 0, OPT_STRING, &private_path, "FILE", "private master key (PEM)" },
		{ "encrypted-keyfile", 0, OPT_STRING, &block_path, "FILE",
		  "the encrypted key: rsa-encrypted.key of a snapshot, decoded or as its blob" },
		OPT_PROTECTION(how), { 0 }
	};
	AUTO(crypt_wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(crypt_key) struct crypt_key *key = NULL;
	AUTO(free) char *path = NULL;
	char created[KEYFILE_TIME_SIZE];
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	int rc = opts_parse(self, table, argc, argv, 0, 1, &args, &count);

	if (rc >= 0)
		return rc;
	if (!private_path || !block_path)
		return opts_usage(self, "needs --master-keyfile and --encrypted-keyfile");
	if (check_protection(&how, &err) < 0)
		return opts_usage(self, "%s", err.text);
	rc = new_path(args, count, &path, &err);
	if (rc == 0 && access(path, F_OK) == 0)
		rc = err_set(&err, EEXIST, "%s: exists already; keys are never overwritten", path);
	if (rc == 0)
		rc = recover(private_path, block_path, &key, created, &err);
	if (rc == 0)
		rc = seal_text(key, &how, created, &text, &err);
	if (rc == 0)
		rc = write_new(path, &text, &err);
	return rc < 0 ? cmd_failed(&err, rc) : EXIT_DONE;
}

/* --- paperkey --- */

static int run_paperkey(const struct cmd *self, int argc, char **argv)
{
	const char *format = NULL, *subject = NULL;
	const struct opt table[] = {
		{ "output-format", 0, OPT_STRING, &format, "FORMAT", "html (default) or text" },
		{ "subject", 0, OPT_STRING, &subject, "TEXT", "printed above the key" },
		{ 0 }
	};
	AUTO(crypt_wbuf) struct wbuf key = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(crypt_wbuf) struct wbuf page = WBUF_INIT(16 << 20);
	AUTO(free) char *path = NULL;
	struct err err = ERR_INIT;
	char **args;
	size_t count;
	bool html;
	int rc = opts_parse(self, table, argc, argv, 0, 1, &args, &count);

	if (rc >= 0)
		return rc;
	html = !format || strcmp(format, "html") == 0;
	if (!html && strcmp(format, "text") != 0)
		return opts_usage(self, "--output-format is html or text, not '%s'", format);
	rc = old_path(args, count, &path, &err);
	if (rc == 0)
		rc = keys_read_file(path, &key, &err);
	if (rc == 0) {
		rc = paperkey_make(key.data, key.size, subject, html, &page, &err);
		if (rc < 0)
			err_wrap(&err, rc, "%s", path);
	}
	if (rc == 0)
		fwrite(page.data, 1, page.size, stdout);
	return rc < 0 ? cmd_failed(&err, rc) : EXIT_DONE;
}

/* --- the family --- */

#define PASSPHRASES                                                                    \
	"A passphrase is asked for on the terminal, unless PBS_ENCRYPTION_PASSWORD (of an\n" \
	"existing key) or " NEW_PASSWORD " (of a new one) is set, or\n"                \
	"one of these names with _FD, _FILE or _CMD behind it."

static const struct cmd key_commands[] = {
	{ "key create", "[PATH]", "Make a new key", PASSPHRASES, run_create },
	{ "key show", "[PATH]", "Show what a key file says of its key", NULL, run_show },
	{ "key change-passphrase", "[PATH]", "Protect a key by another passphrase", PASSPHRASES,
	  run_change_passphrase },
	{ "key import-with-master-key", "[PATH]", "Recover a key from a backup with the master key",
	  PASSPHRASES "\nThe master key's own comes from " MASTER_PASSWORD ".",
	  run_import_with_master_key },
	{ "key create-master-key", "", "Make a master key pair in the current folder",
	  "The passphrase of the private half is asked for on the terminal, unless\n" MASTER_PASSWORD
	  " (or the same with _FD, _FILE or _CMD behind it) is set.",
	  run_create_master_key },
	{ "key import-master-pubkey", "FILE", "Use a public master key by default from now on", NULL,
	  run_import_master_pubkey },
	{ "key paperkey", "[PATH]", "Print a key for safe keeping on paper, with QR codes", NULL,
	  run_paperkey },
};

static int run(const struct cmd *self, int argc, char **argv)
{
	secret_guard_process();
	return cmd_run_family(self, key_commands, sizeof(key_commands) / sizeof(key_commands[0]),
			      "A PATH that is left out means the default key.", argc, argv);
}

const struct cmd cmd_key = {
	.name = "key",
	.synopsis = "COMMAND",
	.summary = "Make, show, keep and recover keys",
	.run = run,
};
