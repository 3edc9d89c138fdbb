/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cmd/keys.h"

#include "archive/blob.h"
#include "archive/manifest_sign.h"
#include "archive/master_key.h"
#include "client/base/secret.h"
#include "tests/support/lib/store.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* terabytes of shadow, freed memory kept */
#else
#define SANITIZED 0
#endif

enum { MASK = 0x5a, PATTERN_SIZE = 16 };

/* --- looking for a key in this process's memory --- */

/* What is looked for is kept masked: it must not be found here. */
struct pattern {
	uint8_t masked[PATTERN_SIZE];
};

struct patterns {
	struct pattern enc_key, id_key, base64;
};

static void mask(struct pattern *p, const uint8_t *plain)
{
	for (size_t i = 0; i < PATTERN_SIZE; i++)
		p->masked[i] = plain[i] ^ MASK;
}

static bool matches(const uint8_t *at, const struct pattern *p)
{
	for (size_t i = 0; i < PATTERN_SIZE; i++)
		if ((at[i] ^ MASK) != p->masked[i])
			return false;
	return true;
}

static size_t count_in(const uint8_t *begin, const uint8_t *end, const struct pattern *p)
{
	size_t count = 0;

	for (const uint8_t *at = begin; at + PATTERN_SIZE <= end; at++)
		count += matches(at, p);
	return count;
}

/* In all memory that can be written, but for the main thread's stack: what the dynamic linker
 * saves there of a caller's registers is out of anybody's hands, and soon written over. */
static size_t count_in_memory(const struct pattern *p)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], flags[5];
	unsigned long begin, end;
	size_t count = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %4s", &begin, &end, flags) == 3 && flags[0] == 'r' &&
		    flags[1] == 'w' && !strstr(line, "[stack]"))
			count += count_in((const uint8_t *)begin, (const uint8_t *)end, p);
	fclose(maps);
	return count;
}

/* --- a key that this process has never seen --- */

static void write_key(const char *path, const char *passphrase, const uint8_t *bytes)
{
	AUTO(wbuf) struct wbuf text = WBUF_INIT(KEYFILE_SIZE_MAX);
	AUTO(crypt_key) struct crypt_key *key = NULL;
	const struct keyfile_random random = { .salt = { 1 }, .iv = { 2 } };
	struct err err = ERR_INIT;
	struct keyfile k;
	FILE *out = fopen(path, "w");

	if (crypt_key_new(&key, bytes, &err) < 0 ||
	    keyfile_seal(&k, key, passphrase ? KEYFILE_KDF_PBKDF2 : KEYFILE_KDF_NONE, passphrase,
			 passphrase ? strlen(passphrase) : 0, &random, "2026-11-22T16:55:39+00:00",
			 "2026-11-22T16:55:39+00:00", NULL, &err) < 0 ||
	    keyfile_encode(&k, false, &text, &err) < 0 || !out ||
	    fwrite(text.data, 1, text.size, out) != text.size || fclose(out) != 0)
		_exit(1);
}

static void describe_key(const uint8_t *bytes, struct patterns *out)
{
	uint8_t id_key[CRYPT_KEY_SIZE], base64[2 * CRYPT_KEY_SIZE];

	if (PKCS5_PBKDF2_HMAC((const char *)bytes, CRYPT_KEY_SIZE, (const uint8_t *)"_id_key", 7,
			      10, EVP_sha256(), CRYPT_KEY_SIZE, id_key) != 1)
		_exit(1);
	EVP_EncodeBlock(base64, bytes, CRYPT_KEY_SIZE);
	/* Their ends: malloc writes over the beginning of what is freed. */
	mask(&out->enc_key, bytes + CRYPT_KEY_SIZE - PATTERN_SIZE);
	mask(&out->id_key, id_key + CRYPT_KEY_SIZE - PATTERN_SIZE);
	mask(&out->base64, base64 + 24);
}

/* In a process of its own, which alone knows the bytes. */
static void make_key(const char *path, const char *passphrase, struct patterns *out)
{
	int ends[2], status;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	if (pid == 0) {
		uint8_t bytes[CRYPT_KEY_SIZE];
		struct patterns found;

		if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
			_exit(1);
		write_key(path, passphrase, bytes);
		describe_key(bytes, &found);
		_exit(write(ends[1], &found, sizeof(found)) == sizeof(found) ? 0 : 1);
	}
	assert_int_equal(read(ends[0], out, sizeof(*out)), sizeof(*out));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(ends[0]);
	close(ends[1]);
}

/* All that a backup and a reader do with a key. */
static void use_key(const struct crypt_key *key)
{
	AUTO(blob_codec) struct blob_codec *codec = blob_codec_new();
	AUTO(manifest) struct manifest *m = manifest_new("host", "test", 1000);
	AUTO(digest_ctx) struct digest_ctx *ctx = digest_ctx_new();
	AUTO(wbuf) struct wbuf stored = WBUF_INIT(4096);
	struct digest digest;
	uint8_t plain[6];

	blob_codec_set_key(codec, key);
	crypt_digest(ctx, key, "chunk\n", 6, &digest);
	assert_int_equal(blob_encode(codec, "chunk\n", 6, true, &stored, NULL), 0);
	assert_int_equal(blob_decode_chunk(codec, stored.data, stored.size, &digest, plain, 6,
					   NULL), 0);
	assert_int_equal(manifest_sign(m, key, NULL), 0);
}

static void wrap_key(const struct keys_choice *c)
{
	AUTO(wbuf) struct wbuf block = WBUF_INIT(4096);
	struct err err = ERR_INIT;

	assert_true(c->master_pem.size > 0);
	assert_int_equal(master_key_wrap(c->master_pem.data, c->master_pem.size, c->key, c->created,
					 c->created, &block, &err), 0);
	assert_int_equal(block.size, 512);
}

static void run_with_key(const char *path, const char *passphrase)
{
	struct store s;
	struct patterns p;
	struct err err = ERR_INIT;
	struct keys_options o = { .master_pubkey_file = "tests/golden/keys/master.pub.pem" };

	if (SANITIZED)
		skip();
	store_folder(&s);
	o.keyfile = store_path(&s, "%s", path);
	make_key(o.keyfile, passphrase, &p);
	if (passphrase)
		setenv("PBS_ENCRYPTION_PASSWORD", passphrase, 1);
	{
		AUTO(keys_choice) struct keys_choice c = { .key = NULL };

		assert_int_equal(keys_for_backup(&o, &c, &err), 0);
		assert_int_equal(count_in_memory(&p.enc_key), 1); /* this way of looking finds it */
		assert_int_equal(count_in_memory(&p.id_key), 1);
		assert_int_equal(count_in_memory(&p.base64), 0);
		use_key(c.key);
		wrap_key(&c);
		assert_int_equal(count_in_memory(&p.enc_key), 1);
		assert_int_equal(count_in_memory(&p.id_key), 1);
	}
	unsetenv("PBS_ENCRYPTION_PASSWORD");
	assert_int_equal(count_in_memory(&p.enc_key), 0);
	assert_int_equal(count_in_memory(&p.id_key), 0);
	assert_int_equal(count_in_memory(&p.base64), 0);
	store_remove(&s);
}

static void a_plain_key_leaves_no_trace_in_memory(void **state)
{
	(void)state;
	run_with_key("none.json", NULL);
}

static void a_key_under_a_passphrase_leaves_no_trace_in_memory(void **state)
{
	(void)state;
	run_with_key("pbkdf2.json", "some words");
}

static void whoever_reads_a_key_leaves_no_core_dump(void **state)
{
	struct keys_options o = { .keyfile = "tests/golden/keys/none.json" };
	struct crypt_key *key = NULL;

	(void)state;
	prctl(PR_SET_DUMPABLE, 1);
	assert_int_equal(keys_given(&o, &key, NULL), 0);
	crypt_key_free(key);
	assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
	prctl(PR_SET_DUMPABLE, 1);
}

static void times_are_kept_in_the_form_that_others_expect(void **state)
{
	static const struct {
		const char *found, *kept; /* NULL: the present */
		int64_t epoch;
	} rows[] = {
		{ "2026-11-22T16:55:39+00:00", "2026-11-22T16:55:39+00:00", 1795366539 },
		{ "2026-11-22T16:55:39+02:00", "2026-11-22T16:55:39+02:00", 1795359339 },
		{ "2026-11-22T16:55:39-11:30", "2026-11-22T16:55:39-11:30", 1795407939 },
		{ "2026-11-22T16:55:39Z", "2026-11-22T13:25:39-03:30", 1795366539 },
		{ "2026-11-22T16:55:39.123456789+02:00", "2026-11-22T11:25:39-03:30", 1795359339 },
		{ "", NULL, 0 },
		{ "yesterday", NULL, 0 },
		{ "2026-11-22T16:55:39", NULL, 0 },
		{ "2026-11-22T16:55:39Zulu", NULL, 0 },
		{ "2026-13-22T16:55:39+00:00", NULL, 0 },
	};
	char kept[KEYFILE_TIME_SIZE];
	int64_t epoch, now = time(NULL);

	(void)state;
	setenv("TZ", "NST3:30", 1);
	tzset();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		keys_keep_time(rows[i].found, kept);
		if (rows[i].kept) {
			assert_int_equal(keys_parse_time(rows[i].found, &epoch), 0);
			assert_int_equal(epoch, rows[i].epoch);
			assert_string_equal(kept, rows[i].kept);
		} else {
			assert_int_equal(keys_parse_time(rows[i].found, &epoch), -EBADMSG);
			assert_int_equal(strlen(kept), 25);
			assert_int_equal(keys_parse_time(kept, &epoch), 0);
			assert_true(epoch >= now && epoch < now + 600);
		}
	}
	unsetenv("TZ");
	tzset();
}

static void whoever_has_no_home_variable_has_a_home_still(void **state)
{
	struct passwd *user = getpwuid(getuid());
	AUTO(free) char *path = NULL, *wanted = NULL;
	struct keys_options o = { .keyfile = NULL };
	AUTO(keys_choice) struct keys_choice c = { .key = NULL };
	struct store s;
	struct err err = ERR_INIT;

	(void)state;
	store_folder(&s);
	unsetenv("HOME");
	unsetenv("XDG_CONFIG_HOME");
	setenv("XDG_CONFIG_DIRS", s.path, 1);
	assert_true(asprintf(&wanted, "there is no none.json in %s/.config/proxmox-backup",
			     user->pw_dir) > 0);
	assert_int_equal(keys_find_default("none.json", &path, &err), -ENOENT);
	assert_ptr_equal(strstr(err.text, wanted), err.text);
	/* A key that cannot be reached is not one that is missing. */
	store_mkdir(&s, "proxmox-backup");
	assert_int_equal(symlink("nowhere", store_path(&s, "proxmox-backup/encryption-key.json")), 0);
	setenv("XDG_CONFIG_HOME", store_path(&s, "none"), 1);
	assert_int_equal(keys_for_backup(&o, &c, &err), -ENOENT);
	unsetenv("XDG_CONFIG_DIRS");
	store_remove(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_plain_key_leaves_no_trace_in_memory),
		cmocka_unit_test(a_key_under_a_passphrase_leaves_no_trace_in_memory),
		cmocka_unit_test(times_are_kept_in_the_form_that_others_expect),
		cmocka_unit_test(whoever_has_no_home_variable_has_a_home_still),
		cmocka_unit_test(whoever_reads_a_key_leaves_no_core_dump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
