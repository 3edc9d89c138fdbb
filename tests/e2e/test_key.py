# SPDX-License-Identifier: Apache-2.0
"""Keys: made, shown, protected anew, recovered, printed; never overwritten, never leaked."""

import base64
import json
import os
import pty
import stat
import subprocess
import termios

import pytest

from conftest import GOLDEN

KEYS = GOLDEN / "keys"


@pytest.fixture
def config(pxarfs, folder):
    """A configuration folder of the test's own."""
    path = folder / "config"
    pxarfs.env["XDG_CONFIG_HOME"] = str(path)
    pxarfs.env["XDG_CONFIG_DIRS"] = str(folder / "nowhere")
    return path / "proxmox-backup"


def show(pxarfs, path):
    return json.loads(pxarfs("key", "show", path, "--output-format", "json").stdout)


@pytest.mark.parametrize("name, kdf", [("none", "none"), ("scrypt", "scrypt"), ("pbkdf2", "pbkdf2")])
def test_show_tells_what_a_key_of_the_official_client_says(pxarfs, name, kdf):
    want = json.loads((KEYS / f"{name}.json").read_text())
    have = show(pxarfs, KEYS / f"{name}.json")
    assert have["kdf"] == kdf
    assert have["fingerprint"] == want["fingerprint"]
    assert 1795369000 < have["created"] < 1795370000
    text = pxarfs("key", "show", KEYS / f"{name}.json").stdout
    assert want["data"] not in text


def test_default_key_is_made_where_the_official_client_looks(pxarfs, config):
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "secret words"
    pxarfs("key", "create", "--hint", "what words")
    path = config / "encryption-key.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(json.loads(path.read_text())) == ["kdf", "created", "modified", "data",
                                                  "fingerprint", "hint"]
    before = path.read_bytes()
    done = pxarfs("key", "create", status=1)
    assert "never overwritten" in done.stderr
    assert path.read_bytes() == before


@pytest.mark.parametrize("password, message", [
    ("four", "too short"), ("", "too short"), ("\nsecond line", "too short"),
    (b"Latin-1 \xfc", "UTF-8"), ("x" * 4096, "too long")])
def test_bad_passphrases_leave_no_key(pxarfs, config, password, message):
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = password
    done = pxarfs("key", "create", status=1)
    assert message in done.stderr
    assert not (config / "encryption-key.json").exists()


@pytest.mark.parametrize("args, message", [
    (["--kdf", "nope"], "nope"), (["--kdf", ""], "neither"), (["--hint", ""], "hint"),
    (["--kdf", "none", "--hint", "x"], "hint"), (["--hint", "x" * 65], "1 to 64"),
    (["--hint", "a\tb"], "control"), (["--hint", "\udcff"], "UTF-8")])
@pytest.mark.parametrize("command", [
    ["create"], ["change-passphrase"],
    ["import-with-master-key", "--master-keyfile", "a", "--encrypted-keyfile", "b"]])
def test_bad_usage_is_told_before_a_passphrase_is_asked_for(pxarfs, config, command, args, message):
    done = pxarfs("key", *command, *args, status=2, stdin=subprocess.DEVNULL)
    assert message in done.stderr
    assert not config.exists()


def test_hint_may_have_64_characters_of_any_script(pxarfs, folder):
    path = folder / "key.json"
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "Größe 鍵"
    pxarfs("key", "create", "--hint", "é" * 64, path)
    assert json.loads(path.read_text())["hint"] == "é" * 64
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "Größe 鍳"
    done = pxarfs("key", "change-passphrase", path, status=1)
    assert f"hint: {'é' * 64}" in done.stderr
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "Größe 鍵"
    pxarfs("key", "change-passphrase", path)
    assert "hint" not in json.loads(path.read_text())


def test_passphrase_is_changed_and_the_key_stays(pxarfs, folder):
    path = folder / "key.json"
    path.write_bytes((KEYS / "scrypt.json").read_bytes())
    before = show(pxarfs, path)
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "another one"
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "not this"
    done = pxarfs("key", "change-passphrase", path, status=1)
    assert "wrong passphrase" in done.stderr
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "vector-pass"
    pxarfs("key", "change-passphrase", path, "--kdf", "pbkdf2")
    after = show(pxarfs, path)
    assert after["fingerprint"] == before["fingerprint"]
    assert after["created"] == before["created"] and after["kdf"] == "pbkdf2"
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "another one"
    pxarfs("key", "change-passphrase", path, "--kdf", "none")
    assert show(pxarfs, path)["kdf"] == "none"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_changed_key_keeps_its_link_and_its_owner(pxarfs, folder):
    path, link = folder / "key.json", folder / "link.json"
    path.write_bytes((KEYS / "none.json").read_bytes())
    path.chmod(0o644)
    os.chown(path, 1234, 1235)
    link.symlink_to("key.json")
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "another one"
    pxarfs("key", "change-passphrase", "--kdf", "pbkdf2", link)
    assert link.is_symlink() and show(pxarfs, path)["kdf"] == "pbkdf2"
    now = path.stat()
    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (1234, 1235, 0o600)
    assert sorted(p.name for p in folder.iterdir() if "key" in p.name) == ["key.json"]


def test_times_are_shown_and_kept_whatever_the_zone(pxarfs, folder):
    path = folder / "key.json"
    text = (KEYS / "none.json").read_text()
    key = json.loads(text)
    pxarfs.env["TZ"] = "Asia/Kolkata"
    want = show(pxarfs, KEYS / "none.json")["created"]
    key["created"] = key["created"].replace("+00:00", "+02:00")
    path.write_text(json.dumps(key))
    assert show(pxarfs, path)["created"] == want - 7200
    # whoever cannot tell when it was made makes a key that others can read still
    for time in ("", "yesterday"):
        path.write_text(json.dumps({**key, "created": time}))
        pxarfs("key", "change-passphrase", "--kdf", "none", path)
        kept = json.loads(path.read_text())
        assert kept["created"] == kept["modified"] and kept["created"].endswith("+05:30")


def test_keys_below_the_system_s_folders_are_found(pxarfs, folder, config):
    place = folder / "nowhere/proxmox-backup"
    place.mkdir(parents=True)
    (place / "encryption-key.json").write_bytes((KEYS / "none.json").read_bytes())
    shown = json.loads(pxarfs("key", "show", "--output-format", "json").stdout)
    assert shown["path"] == str(place / "encryption-key.json")
    assert "BEGIN" in pxarfs("key", "paperkey", "--output-format", "text").stdout
    (place / "encryption-key.json").unlink()
    for command in ("show", "paperkey", "change-passphrase"):
        assert "there is no encryption-key.json" in pxarfs("key", command, status=1).stderr
    assert not config.exists()  # who only looks makes nothing


@pytest.mark.parametrize("how", ["FD", "FILE", "CMD", "credential"])
def test_passphrase_sources(pxarfs, folder, how):
    path = folder / "key.json"
    path.write_bytes((KEYS / "pbkdf2.json").read_bytes())
    secret = folder / "proxmox-backup-client.encryption-password"
    # however long what comes behind the first line is
    secret.write_text("vector-pass" + ("" if how == "credential" else "\nsecond line" * 9999))
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "whatever"
    kwargs = {}
    if how == "FD":
        fd = os.open(secret, os.O_RDONLY)
        pxarfs.env["PBS_ENCRYPTION_PASSWORD_FD"] = str(fd)
        kwargs["pass_fds"] = [fd]
    elif how == "FILE":
        pxarfs.env["PBS_ENCRYPTION_PASSWORD_FILE"] = str(secret)
    elif how == "CMD":
        pxarfs.env["PBS_ENCRYPTION_PASSWORD_CMD"] = f"cat '{secret}'"
    else:
        pxarfs.env["CREDENTIALS_DIRECTORY"] = str(folder)
    pxarfs("key", "change-passphrase", path, **kwargs)


def test_passphrase_from_a_pipe_that_stays_open(pxarfs, folder):
    path = folder / "key.json"
    path.write_bytes((KEYS / "pbkdf2.json").read_bytes())
    reading, writing = os.pipe()
    os.write(writing, b"vector-pass\n")
    pxarfs.env["PBS_ENCRYPTION_PASSWORD_FD"] = str(reading)
    # whoever is started later does not get the descriptor
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD_CMD"] = f"stat -L /proc/self/fd/{reading}"
    done = pxarfs("key", "change-passphrase", path, pass_fds=[reading], status=1, timeout=20)
    assert "No such file" in done.stderr and "command failed" in done.stderr
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("command, message", [
    ("", "no command"), ("echo 'vector-pass", "quote"), ("/nowhere/at all", "/nowhere/at"),
    ("echo vector-pass; true", None), ("echo vector-pass | cat", None), ("sh -c 'exit 3'", "failed")])
def test_password_commands_that_are_none(pxarfs, folder, command, message):
    """No shell runs them, so nothing in them does more than it says."""
    path = folder / "key.json"
    path.write_bytes((KEYS / "pbkdf2.json").read_bytes())
    pxarfs.env["PBS_ENCRYPTION_PASSWORD_CMD"] = command
    done = pxarfs("key", "change-passphrase", path, status=1)
    assert (message or "wrong passphrase") in done.stderr


def test_credential_is_taken_whole_and_must_be_readable(pxarfs, folder):
    path = folder / "key.json"
    path.write_bytes((KEYS / "pbkdf2.json").read_bytes())
    pxarfs.env["CREDENTIALS_DIRECTORY"] = str(folder)
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "whatever"
    secret = folder / "proxmox-backup-client.encryption-password"
    secret.write_text("vector-pass\n")
    assert "wrong passphrase" in pxarfs("key", "change-passphrase", path, status=1).stderr
    secret.unlink()
    secret.symlink_to("proxmox-backup-client.encryption-password")
    assert "symbolic links" in pxarfs("key", "change-passphrase", path, status=1).stderr


def test_failing_password_command_is_an_error(pxarfs, folder):
    pxarfs.env["PBS_ENCRYPTION_PASSWORD_CMD"] = "sh -c 'echo vector-pass; false'"
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "whatever"
    path = folder / "key.json"
    path.write_bytes((KEYS / "pbkdf2.json").read_bytes())
    pxarfs("key", "change-passphrase", path, status=1)
    assert path.read_bytes() == (KEYS / "pbkdf2.json").read_bytes()


def test_terminal_is_asked_twice_without_echo(pxarfs, folder):
    main, terminal = pty.openpty()
    path = folder / "key.json"
    p = subprocess.Popen([pxarfs.program, "key", "create", path], stdin=terminal, stderr=terminal,
                         stdout=terminal, env=pxarfs.env)
    os.close(terminal)
    seen = b""
    for prompt in (b"Encryption Key Password: ", b"Verify Password: "):
        while prompt not in seen:
            seen += os.read(main, 1000)
        os.write(main, b"typed words\n")
        seen = seen.split(prompt)[1]
    assert p.wait(30) == 0
    try:
        seen += os.read(main, 1000)
    except OSError:
        pass
    assert b"typed" not in seen
    os.close(main)
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "typed words"
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "other"
    pxarfs("key", "change-passphrase", path)


@pytest.mark.parametrize("typed", [b"\x03", b"typed\x03", b"\x04"])
def test_asking_can_be_given_up_at_once(pxarfs, folder, typed):
    main, terminal = pty.openpty()
    p = subprocess.Popen([pxarfs.program, "key", "create", folder / "key.json"], stdin=terminal,
                         stderr=terminal, env=pxarfs.env)
    seen = b""
    while b"Password: " not in seen:
        seen += os.read(main, 1000)
    os.write(main, typed)  # and no line end
    assert p.wait(30) == 1
    assert termios.tcgetattr(terminal)[3] & termios.ECHO
    assert not (folder / "key.json").exists()
    os.close(terminal)
    os.close(main)


def test_without_terminal_and_password_it_fails_at_once(pxarfs, folder):
    done = pxarfs("key", "create", folder / "key.json", status=1, stdin=subprocess.DEVNULL,
                  timeout=20)
    assert "terminal" in done.stderr and "$PXARFS_NEW_ENCRYPTION_PASSWORD is not" in done.stderr
    assert not (folder / "key.json").exists()


def test_master_key_pair_is_made_and_used(pxarfs, folder, config):
    pxarfs.env["PXARFS_MASTER_PASSWORD"] = "master words"
    pxarfs("key", "create-master-key", cwd=folder)
    for name in ("master-public.pem", "master-private.pem"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    pxarfs("key", "create-master-key", cwd=folder, status=1)
    pxarfs("key", "import-master-pubkey", folder / "master-private.pem", status=1)
    pxarfs("key", "import-master-pubkey", folder / "master-public.pem")
    assert (config / "master-public.pem").read_bytes() == (folder / "master-public.pem").read_bytes()
    checked = subprocess.run(["openssl", "rsa", "-in", folder / "master-private.pem", "-noout",
                              "-check", "-passin", "pass:master words"], capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_master_key_that_is_too_small_is_not_imported(pxarfs, folder, config):
    """No backup could be made with it."""
    subprocess.run(["openssl", "genrsa", "-out", folder / "small.pem", "2048"], check=True,
                   capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", folder / "small.pem", "-pubout", "-out",
                    folder / "public.pem"], check=True, capture_output=True)
    done = pxarfs("key", "import-master-pubkey", folder / "public.pem", status=1)
    assert "2048 bits, at least 2128" in done.stderr
    assert not (config / "master-public.pem").exists()


def private_pem(folder):
    der = (KEYS / "master.private.der").read_bytes()
    path = folder / "private.pem"
    path.write_bytes(b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(der)
                     + b"-----END PRIVATE KEY-----\n")
    return path


def test_master_key_recovers_the_key_of_an_official_backup(pxarfs, folder, store):
    blob = store / "host/master/2027-01-15T08:00:06Z/rsa-encrypted.key.blob"
    block = folder / "block"
    block.write_bytes(blob.read_bytes()[12:])
    pxarfs.env["PXARFS_NEW_ENCRYPTION_PASSWORD"] = "recovered"
    want = show(pxarfs, KEYS / "none.json")["fingerprint"]
    for i, source in enumerate((blob, block)):
        path = folder / f"recovered{i}.json"
        pxarfs("key", "import-with-master-key", path, "--master-keyfile", private_pem(folder),
               "--encrypted-keyfile", source)
        assert show(pxarfs, path)["fingerprint"] == want
    pxarfs("key", "import-with-master-key", path, "--master-keyfile", private_pem(folder),
           "--encrypted-keyfile", blob, status=1)
    damaged = bytearray(block.read_bytes())
    damaged[5] ^= 1
    block.write_bytes(damaged)
    done = pxarfs("key", "import-with-master-key", folder / "no.json", "--master-keyfile",
                  private_pem(folder), "--encrypted-keyfile", block, status=1)
    assert "does not open this encrypted key" in done.stderr
    assert not (folder / "no.json").exists()


def test_paper_key_holds_the_key_file(pxarfs, folder):
    page = pxarfs("key", "paperkey", KEYS / "scrypt.json", "--output-format", "text",
                  "--subject", "my key").stdout
    assert page.startswith("Subject: my key\n\n-----BEGIN PROXMOX BACKUP KEY-----\n")
    text = page.split("-----BEGIN PROXMOX BACKUP KEY-----\n")[1].split(
        "\n-----END PROXMOX BACKUP KEY-----")[0]
    assert json.loads(text) == json.loads((KEYS / "scrypt.json").read_text())
    assert "█" in page
    html = pxarfs("key", "paperkey", KEYS / "scrypt.json", "--subject", "<b>").stdout
    assert html.startswith("<!DOCTYPE html>") and "&lt;b>" in html and "data:image/svg" in html


@pytest.mark.parametrize("text", ["", "{}", "[1]", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nx\n"])
def test_what_is_no_key_is_refused(pxarfs, folder, text):
    path = folder / "bad.json"
    path.write_text(text)
    done = pxarfs("key", "paperkey", path, status=1)
    assert "bad.json" in done.stderr
    if "BEGIN" not in text:
        assert "bad.json" in pxarfs("key", "show", path, status=1).stderr


def test_a_terminal_obeys_nothing_in_a_key_file(pxarfs, folder):
    text = json.loads((KEYS / "scrypt.json").read_text())
    text["hint"] = "\x9b2Jgone"
    (folder / "key.json").write_text(json.dumps(text))
    shown = pxarfs.on_terminal("key", "show", folder / "key.json")
    assert b"\nhint         \\302\\2332Jgone" in shown and b"\x9b" not in shown


@pytest.mark.parametrize("variable", ["PXARFS_LOG", "PBS_LOG"])
def test_the_log_has_the_official_levels(pxarfs, tmp_path, variable):
    for level, told in [("off", False), ("error", False), ("warn", False), ("info", True),
                        ("debug", True), ("trace", True)]:
        pxarfs.env[variable] = level
        assert bool(pxarfs("key", "create", "--kdf", "none", tmp_path / level).stderr) == told
        assert pxarfs("key", "create", "--kdf", "none", tmp_path / level, status=1).stderr
