# SPDX-License-Identifier: Apache-2.0
"""Encrypted and signed backups: what is stored, what is reused, who gets at it again."""

import errno
import hashlib
import itertools
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import time
import zlib

import crypto
import datastore
import pytest
import rows
import treecopy

from conftest import GOLDEN, mounts_below
from test_backup import make_tree

KEYS = GOLDEN / "keys"
OTHER = crypto.Key(bytes(range(32)))
SPLIT = ("root.mpxar.didx", "root.ppxar.didx")


@pytest.fixture
def config(folder):
    """Where default keys lie."""
    return folder / "config" / "proxmox-backup"


@pytest.fixture
def other(folder):
    return OTHER.save(folder / "other.json")


@pytest.fixture
def text_tree(folder):
    """Names and contents that would be found again."""
    tree = folder / "tree"
    for d in range(4):
        (tree / f"directory-called-{d}").mkdir(parents=True)
        for i in range(20):
            path = tree / f"directory-called-{d}" / f"letter-{d}-{i:02}.txt"
            path.write_text("".join(f"Sentence {n} of letter {i} in directory {d}.\n"
                                    for n in range(60)))
    noise = random.Random(3).randbytes(300_000)
    (tree / "incompressible").write_bytes(noise)
    os.symlink("target-of-the-link/somewhere", tree / "symbolic-link")
    os.setxattr(tree / "incompressible", "user.attribute-name", b"attribute value in full")
    (folder / "settings.conf").write_text("password-in-a-blob = swordfish\n" * 3)
    return tree


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def backup(pxarfs, repo, tree, seconds, *args, **kwargs):
    names = [] if "legacy" in args else ["--archive-names", "pbs"]
    done = pxarfs("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "test", "--backup-time",
                  seconds, "--chunk-size", 64, *names, "--output-format", "json", *args, **kwargs)
    return json.loads(done.stdout) if done.returncode == 0 else done


def snapshot_folder(repo, seconds):
    return repo / "host/test" / stamp(seconds)


def shown(pxarfs, repo, seconds, *args):
    with pxarfs.mount(*args, f"host/test/{stamp(seconds)}", "root.pxar", repository=repo,
                      name=f"mnt{seconds}") as mount:
        return rows.observe(mount.path)


def digests(repo, seconds):
    return {d for name in SPLIT for d in datastore.digests(snapshot_folder(repo, seconds) / name)}


def stored_chunks(repo):
    return {p.name for p in (repo / ".chunks").glob("*/*")}


# --- what is stored ---

@pytest.mark.both_backends
@pytest.mark.parametrize("args", [
    [], ["--crypt-mode", "sign-only"], ["--change-detection-mode", "legacy"],
    ["--change-detection-mode", "data"]], ids=["encrypt", "sign-only", "legacy", "data"])
def test_what_was_backed_up_is_shown_with_the_key(pxarfs, folder, repo, args):
    tree = make_tree(folder / "tree")
    want = rows.observe(tree)
    backup(pxarfs, repo, tree, 1000, "--keyfile", KEYS / "none.json", *args)
    assert rows.differences(want, shown(pxarfs, repo, 1000, "--keyfile", KEYS / "none.json")) == []
    done = pxarfs("ls", "-r", repo, "host/test", "root.pxar", status=1)
    assert "missing key" in done.stderr


def test_chunks_and_blobs_open_with_another_implementation(pxarfs, folder, repo, text_tree):
    """The same tree stored plain says what must be in them, and what they must be called."""
    key = crypto.Key.load(KEYS / "none.json")
    conf = f"etc.conf:{folder}/settings.conf"
    backup(pxarfs, repo, text_tree, 1000, conf)
    backup(pxarfs, repo, text_tree, 2000, conf, "--keyfile", KEYS / "none.json")
    plain, secret = snapshot_folder(repo, 1000), snapshot_folder(repo, 2000)
    for name in SPLIT:
        stream = datastore.stream(repo, plain / name)
        want, begin = [], 0
        for end, _ in datastore.index(plain / name):
            want.append((end, key.digest(stream[begin:end])))
            begin = end
        assert datastore.index(secret / name) == want
    first = datastore.digests(plain / SPLIT[0])[0], datastore.digests(secret / SPLIT[0])[0]
    data = datastore.chunk_path(repo, first[1]).read_bytes()
    assert crypto.blob(data, key) == datastore.blob(datastore.chunk_path(repo, first[0]))
    data = (secret / "etc.conf.blob").read_bytes()
    assert crypto.blob(data, key) == (folder / "settings.conf").read_bytes()
    for digest in digests(repo, 2000):
        magic = datastore.chunk_path(repo, digest).read_bytes()[:8]
        assert magic in (crypto.ENCRYPTED, crypto.ENCRYPTED_ZSTD)


@pytest.mark.parametrize("mode", ["encrypt", "sign-only"])
def test_manifest_is_signed_as_another_implementation_signs(pxarfs, folder, repo, text_tree, mode):
    key = crypto.Key.load(KEYS / "none.json")
    summary = backup(pxarfs, repo, text_tree, 1000, f"etc.conf:{folder}/settings.conf", "--keyfile",
                     KEYS / "none.json", "--crypt-mode", mode)
    assert summary["crypt-mode"] == mode and summary["fingerprint"] == key.fingerprint
    folder = snapshot_folder(repo, 1000)
    manifest = datastore.manifest(folder)
    assert manifest["signature"] == key.signature(manifest)
    assert manifest["unprotected"]["key-fingerprint"] == key.fingerprint
    assert [f["filename"] for f in manifest["files"]] == ["root.ppxar.didx", "root.mpxar.didx",
                                                          "etc.conf.blob"]
    assert {f["crypt-mode"] for f in manifest["files"]} == {mode}
    data = (folder / "etc.conf.blob").read_bytes()
    assert manifest["files"][2]["csum"] == hashlib.sha256(data).hexdigest()
    rows_ = json.loads(pxarfs("files", "-r", repo, "host/test", "--output-format", "json").stdout)
    assert {r["filename"]: r["crypt-mode"] for r in rows_} == {
        "root.ppxar.didx": mode, "root.mpxar.didx": mode, "etc.conf.blob": mode,
        "index.json.blob": "sign-only"}
    assert f" {mode} " in pxarfs("snapshots", "-r", repo).stdout


def test_image_is_encrypted(pxarfs, folder, repo):
    key = crypto.Key.load(KEYS / "none.json")
    words = b"words on a disk that nobody else may read; " * 3000
    data = words + bytes((9 << 20) - len(words)) + words
    (folder / "disk").write_bytes(data)
    args = ["-r", repo, f"disk.img:{folder}/disk", "--backup-id", "test", "--keyfile",
            KEYS / "none.json", "--output-format", "json"]
    pxarfs("backup", *args, "--backup-time", 1000)
    index = (snapshot_folder(repo, 1000) / "disk.img.fidx").read_bytes()
    want = [key.digest(data[at:at + (4 << 20)]) for at in range(0, len(data), 4 << 20)]
    assert [d.hex() for d, in struct.iter_unpack("32s", index[4096:])] == want
    assert stored_chunks(repo) == set(want)
    assert found_in(repo, {words[:12]}) == set()
    summary = json.loads(pxarfs("backup", *args, "--backup-time", 2000).stdout)
    assert summary["files"][0]["new-chunks"] == 0
    done = pxarfs("backup", *args, "--backup-time", 3000, "--crypt-mode", "sign-only")
    assert json.loads(done.stdout)["files"][0]["reused-chunks"] < 2  # zeros, in this one
    assert "its crypt mode is encrypt, not sign-only" in done.stderr


def secrets_of(tree, folder):
    """Names and pieces of content, each long enough that chance does not make it."""
    out = {b"target-of-the-link", b"attribute-name", b"attribute value in full",
           b"password-in-a-blob", b"swordfish"}
    for path in tree.rglob("*"):
        if len(path.name) >= 8:
            out.add(os.fsencode(path.name))
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            out.update(data[at:at + 12] for at in range(0, len(data) - 12, 997))
    out.add(os.fsencode(folder))
    return out


def found_in(repo, secrets):
    found = set()
    for path in repo.rglob("*"):
        data = os.fsencode(path.relative_to(repo)) + (path.read_bytes() if path.is_file() else b"")
        found |= {s for s in secrets if s in data}
    return found


@pytest.mark.parametrize("mode", ["metadata", "legacy"])
def test_nothing_of_the_plain_text_reaches_the_repository(pxarfs, folder, repo, text_tree, mode):
    secrets = secrets_of(text_tree, folder)
    assert len(secrets) > 300
    args = ["--change-detection-mode", "legacy"] if mode == "legacy" else []
    backup(pxarfs, repo, text_tree, 1000, f"etc.conf:{folder}/settings.conf", "--keyfile",
           KEYS / "none.json", *args)
    assert found_in(repo, secrets) == set()
    # this way of looking finds what is there: incompressible content of a signed backup
    backup(pxarfs, repo, text_tree, 2000, "--keyfile", KEYS / "none.json", "--crypt-mode",
           "sign-only", *args)
    assert len(found_in(repo, secrets)) > 100


# --- what is reused ---

def test_second_encrypted_backup_stores_nothing_new(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    key = ["--keyfile", KEYS / "none.json"]
    backup(pxarfs, repo, tree, 1000, *key)
    before = stored_chunks(repo)
    summary = backup(pxarfs, repo, tree, 2000, *key)
    assert stored_chunks(repo) == before
    assert [f["new-chunks"] for f in summary["files"]] == [0, 0]
    (tree / "d00" / "fresh").write_bytes(b"something new")
    summary = backup(pxarfs, repo, tree, 3000, *key)
    assert sum(f["reused-chunks"] for f in summary["files"]) > 20
    assert 0 < sum(f["new-chunks"] for f in summary["files"]) < 10
    assert rows.differences(rows.observe(tree), shown(pxarfs, repo, 3000, *key)) == []


def test_key_or_mode_that_changes_reuses_nothing_wrong(pxarfs, folder, repo, text_tree, other):
    want = rows.observe(text_tree)
    mine = ["--keyfile", KEYS / "none.json"]
    theirs = ["--keyfile", other]
    made = [([], "none", ""),
            (mine, "encrypt", "it was made without a key"),
            (theirs, "encrypt", "wrong key - manifest's key"),
            ([*theirs, "--crypt-mode", "sign-only"], "sign-only", "its crypt mode is encrypt"),
            ([*mine, "--crypt-mode", "sign-only"], "sign-only", "wrong key - manifest's key"),
            (mine, "encrypt", "its crypt mode is sign-only"),
            ([], "none", "missing key - manifest was created with key"),
            (["--dry-run", *theirs], "encrypt", "it was made without a key")]
    for i, (args, mode, message) in enumerate(made):
        done = pxarfs("backup", "-r", repo, f"root.pxar:{text_tree}", "--backup-id", "test",
                      "--backup-time", 1000 + i, "--chunk-size", 64, "--archive-names", "pbs",
                      "--output-format", "json", *args)
        summary = json.loads(done.stdout)
        assert summary["crypt-mode"] == mode
        assert message in done.stderr
        assert [f["reused-chunks"] for f in summary["files"]] == [0, 0], f"step {i}"
        assert ("not used" in done.stderr) == bool(message)
    for i, (args, mode, _) in enumerate(made[:-1]):
        assert rows.differences(want, shown(pxarfs, repo, 1000 + i, *args[:2])) == [], f"step {i}"
        for digest in digests(repo, 1000 + i):
            magic = datastore.chunk_path(repo, digest).read_bytes()[:8]
            assert (magic in (crypto.ENCRYPTED, crypto.ENCRYPTED_ZSTD)) == (mode == "encrypt")
    # each key has its own digests, plain chunks have theirs in common
    assert digests(repo, 1001) == digests(repo, 1005)
    assert digests(repo, 1000) == digests(repo, 1003) == digests(repo, 1004)
    sets = [digests(repo, 1000), digests(repo, 1001), digests(repo, 1002)]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(sets, 2))


def test_dry_run_with_a_key_stores_nothing(pxarfs, repo, text_tree):
    backup(pxarfs, repo, text_tree, 1000, "--dry-run", "--keyfile", KEYS / "none.json")
    assert stored_chunks(repo) == set() and not (repo / "host").exists()


# --- damage ---

def rewrite_crc(data):
    struct.pack_into("<I", data, 8, zlib.crc32(bytes(data[44:])))


def read_all(pxarfs, repo, key):
    """Whether the whole of it could be read: (status, messages)."""
    point = pxarfs.folder / "mnt"
    point.mkdir(exist_ok=True)
    log = pxarfs.folder / "mnt.log"
    with open(log, "wb") as out:
        p = pxarfs.start("mount", "-f", "--keyfile", key, "-r", repo, "host/test", "root.pxar",
                         point, stderr=out)
    # not os.path.ismount(), which wants the root's attributes: they may be what is damaged
    while not mounts_below(point) and p.poll() is None:
        time.sleep(0.002)
    if p.poll() is not None:
        return p.returncode, log.read_text()
    status = 0
    try:
        for path in sorted(point.rglob("*")):
            if path.is_file():
                path.read_bytes()
    except OSError as e:
        status = e.errno
    finally:
        subprocess.run(["umount", "-l", point], check=True)
        p.wait(10)
    return status, log.read_text()


def test_flipped_bits_of_an_encrypted_snapshot_are_noticed(pxarfs, folder, repo):
    """A dense sample through the whole program; every bit of everything is in the unit tests."""
    tree = folder / "tree"
    tree.mkdir()
    (tree / "letter").write_text("Some words to keep secret.\n" * 9)
    (tree / "noise").write_bytes(os.urandom(700))
    key = KEYS / "none.json"
    backup(pxarfs, repo, tree, 1000, "--keyfile", key)
    snapshot = snapshot_folder(repo, 1000)
    assert read_all(pxarfs, repo, key)[0] == 0
    victims = [(snapshot / "index.json.blob", 0), *((snapshot / name, 4096) for name in SPLIT),
               *((p, 0) for p in (repo / ".chunks").glob("*/*"))]
    assert len(victims) == 5
    rng = random.Random(11)
    for path, begin in victims:
        good = path.read_bytes()
        places = set(range(begin, min(begin + 44, len(good)), 3))
        places |= set(rng.sample(range(begin, len(good)), min(12, len(good) - begin)))
        for at in sorted(places):
            bad = bytearray(good)
            bad[at] ^= 1 << rng.randrange(8)
            if ".chunks" in str(path) and at >= 12 and at % 2:
                rewrite_crc(bad)  # by somebody who means it
            path.write_bytes(bad)
            status, log = read_all(pxarfs, repo, key)
            assert status != 0, f"{path} with byte {at} changed reads well"
            assert path.name in log, log
            # the contents' index is read when content is
            early = path.name in ("index.json.blob", "root.mpxar.didx")
            assert status == (1 if early else errno.EIO), log
        path.write_bytes(good)
    assert read_all(pxarfs, repo, key)[0] == 0


# --- master key ---

@pytest.mark.both_backends
def test_master_key_recovers_the_key(pxarfs, folder, repo, text_tree):
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "vector-pass"
    summary = backup(pxarfs, repo, text_tree, 1000, "--keyfile", KEYS / "scrypt.json",
                     "--master-pubkey-file", KEYS / "master.pub.pem")
    del pxarfs.env["PBS_ENCRYPTION_PASSWORD"]
    snapshot = snapshot_folder(repo, 1000)
    last = datastore.manifest(snapshot)["files"][-1]
    assert last["filename"] == "rsa-encrypted.key.blob" and last["crypt-mode"] == "encrypt"
    data = (snapshot / "rsa-encrypted.key.blob").read_bytes()
    assert data[:8] == datastore.PLAIN and len(data) == 12 + 512 == last["size"]
    private = folder / "private.pem"
    subprocess.run(["openssl", "pkey", "-inform", "DER", "-in", KEYS / "master.private.der", "-out",
                    private], check=True)
    # with the openssl program
    text = subprocess.run(["openssl", "pkeyutl", "-decrypt", "-inkey", private], input=data[12:],
                          capture_output=True, check=True).stdout
    wrapped = json.loads(text)
    assert len(text) == 255
    assert list(wrapped) == ["kdf", "created", "modified", "data", "fingerprint"]
    assert wrapped["kdf"] is None and wrapped["fingerprint"] == summary["fingerprint"]
    assert wrapped["created"] == json.loads((KEYS / "scrypt.json").read_text())["created"]
    # and with our own
    pxarfs("key", "import-with-master-key", "--kdf", "none", "--master-keyfile", private,
           "--encrypted-keyfile", snapshot / "rsa-encrypted.key.blob", folder / "recovered.json")
    want = rows.observe(text_tree)
    assert rows.differences(want, shown(pxarfs, repo, 1000, "--keyfile",
                                        folder / "recovered.json")) == []


@pytest.mark.parametrize("content, message", [
    (b"no key at all", "bad.pem: master key: "), (b"", "bad.pem: master key: ")])
def test_bad_master_key_makes_no_snapshot(pxarfs, folder, repo, text_tree, content, message):
    (folder / "bad.pem").write_bytes(content)
    done = backup(pxarfs, repo, text_tree, 1000, "--keyfile", KEYS / "none.json",
                  "--master-pubkey-file", folder / "bad.pem", status=1)
    assert message in done.stderr
    assert not (repo / "host").exists()


# --- which mode, which key ---

def decide(mode, given, default, master_given, master_default):
    """The table: (exit status, mode, key, whether a master key) or None for an error."""
    if mode == "none":
        return None if given or master_given else ("none", None, False)
    key = "given" if given else "default" if default else None
    if not key:
        return None if mode or master_given else ("none", None, False)
    return (mode or "encrypt", key, bool(master_given or master_default))


@pytest.mark.parametrize("mode", [None, "none", "encrypt", "sign-only"])
@pytest.mark.parametrize("given", [None, "file", "fd"])
def test_mode_and_key_are_chosen_by_the_table(pxarfs, folder, repo, config, mode, given):
    """FORMAT.md, "Key files": every combination of options and default files."""
    tree = folder / "tree"
    tree.mkdir()
    (tree / "file").write_text("content\n")
    given_path = OTHER.save(folder / "given.json")
    fingerprints = {"given": OTHER.fingerprint,
                    "default": crypto.Key.load(KEYS / "none.json").fingerprint, None: None}
    count = 0
    for default, master, master_default in itertools.product((False, True), (None, "file", "fd"),
                                                             (False, True)):
        shutil.rmtree(config, ignore_errors=True)
        config.mkdir(parents=True)
        if default:
            shutil.copy(KEYS / "none.json", config / "encryption-key.json")
        if master_default:
            shutil.copy(KEYS / "master.pub.pem", config / "master-public.pem")
        count += 1
        args, fds = [], []
        for option, how, path in (("key", given, given_path),
                                  ("master-pubkey-", master, KEYS / "master.pub.pem")):
            if how == "file":
                args += [f"--{option}file", path]
            elif how == "fd":
                fds.append(os.open(path, os.O_RDONLY))
                args += [f"--{option}fd", fds[-1]]
        args += ["--crypt-mode", mode] if mode else []
        done = pxarfs("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "test",
                      "--backup-time", 1000 + count, "--output-format", "json", *args, status=None,
                      pass_fds=fds, stdin=subprocess.DEVNULL)
        for fd in fds:
            os.close(fd)
        want = decide(mode, given, default, master, master_default)
        case = f"{args}, default key {default}, default master key {master_default}"
        if not want:
            assert done.returncode in (1, 2) and done.stderr, case
            assert not snapshot_folder(repo, 1000 + count).exists(), case
            continue
        assert done.returncode == 0, case + done.stderr
        summary = json.loads(done.stdout)
        manifest = datastore.manifest(snapshot_folder(repo, 1000 + count))
        assert summary["crypt-mode"] == want[0], case
        assert {f["crypt-mode"] for f in manifest["files"]} == {want[0]}, case
        assert manifest["unprotected"].get("key-fingerprint") == fingerprints[want[1]], case
        assert summary.get("fingerprint") == fingerprints[want[1]], case
        has_master = manifest["files"][-1]["filename"] == "rsa-encrypted.key.blob"
        assert has_master == want[2], case


@pytest.mark.parametrize("args, message", [
    (["--crypt-mode", "both"], "neither encrypt, sign-only nor none"),
    (["--keyfile", "a", "--keyfd", "9"], "exclude each other"),
    (["--keyfd", "x"], "--keyfd: 'x' is no descriptor's number"),
    (["--master-pubkey-fd", "-1"], "--master-pubkey-fd: '-1' is no descriptor's number"),
    (["--master-pubkey-file", "a", "--master-pubkey-fd", "9"], "exclude each other"),
    (["--crypt-mode", "none", "--keyfile", "a"], "exclude each other")])
def test_bad_usage_is_told_before_anything_is_read(pxarfs, folder, args, message):
    done = pxarfs("backup", "-r", folder / "none", f"root.pxar:{folder}", *args, status=2)
    assert message in done.stderr


@pytest.mark.parametrize("args, password, message", [
    (["--keyfile", "missing.json"], None, "missing.json: No such file"),
    (["--keyfile", KEYS / "scrypt.json"], None, "PBS_ENCRYPTION_PASSWORD"),
    (["--keyfile", KEYS / "scrypt.json"], "not this one", "wrong passphrase"),
    (["--keyfile", KEYS / "master.pub.pem"], None, "master.pub.pem: key file: bad JSON"),
    (["--keyfd", "987"], None, "keyfd: Bad file descriptor"),
    (["--crypt-mode", "encrypt"], None, "there is no default key")])
def test_key_that_cannot_be_had_makes_no_snapshot(pxarfs, repo, text_tree, args, password, message):
    if password:
        pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = password
    done = backup(pxarfs, repo, text_tree, 1000, *args, status=1, stdin=subprocess.DEVNULL)
    assert message in done.stderr
    assert not (repo / "host").exists()


def test_default_key_that_cannot_be_reached_is_not_taken_for_none(pxarfs, folder, repo, text_tree,
                                                                  config):
    """Or the backup would be made in the clear."""
    config.mkdir(parents=True, exist_ok=True)
    (config / "encryption-key.json").symlink_to(folder / "not-plugged-in/key.json")
    done = backup(pxarfs, repo, text_tree, 1000, status=1)
    assert "encryption-key.json: No such file" in done.stderr
    (config / "encryption-key.json").unlink()
    (config / "encryption-key.json").symlink_to("encryption-key.json")
    backup(pxarfs, repo, text_tree, 1000, status=1)
    assert not (repo / "host").exists()
    backup(pxarfs, repo, text_tree, 1000, "--crypt-mode", "none")


# --- who sees the key ---

def test_key_and_passphrase_are_in_no_message(pxarfs, folder, repo, text_tree):
    pxarfs.env.update(PBS_ENCRYPTION_PASSWORD="vector-pass", PXARFS_LOG="debug")
    done = pxarfs("backup", "-r", repo, f"root.pxar:{text_tree}", "--backup-id", "test",
                  "--keyfile", KEYS / "scrypt.json", "--master-pubkey-file",
                  KEYS / "master.pub.pem")
    done2 = pxarfs("backup", "-r", repo, f"root.pxar:{text_tree}", "--backup-id", "two",
                   "--keyfile", KEYS / "none.json")
    said = done.stdout + done.stderr + done2.stdout + done2.stderr
    short = json.loads((KEYS / "none.json").read_text())["fingerprint"][:23]
    assert f"key {short}" in said
    data = json.loads((KEYS / "none.json").read_text())["data"]
    for secret in ("vector-pass", data, crypto.Key.load(KEYS / "none.json").enc_key.hex()):
        assert secret not in said


def abort_mount(pxarfs, folder, repo, name, *args):
    """Kill a mount so that it would leave a core; the cores that it left."""
    where = folder / name
    (where / "mnt").mkdir(parents=True)
    p = pxarfs.start("mount", "-f", "-r", repo, *args, "root.pxar", where / "mnt", cwd=where,
                     stderr=subprocess.DEVNULL, preexec_fn=lambda: resource.setrlimit(
                         resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))
    while not os.path.ismount(where / "mnt"):
        assert p.poll() is None
        time.sleep(0.005)
    list((where / "mnt").iterdir())
    p.send_signal(signal.SIGABRT)
    assert p.wait(20) == -signal.SIGABRT
    subprocess.run(["umount", "-l", where / "mnt"], check=True)
    return [path for path in where.iterdir() if path.name.startswith("core")]


def test_mount_with_a_key_leaves_no_core_dump(pxarfs, folder, store):
    if pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core":
        pytest.skip("cores do not go to the working directory here")
    if not abort_mount(pxarfs, folder, store, "plain", "host/split"):
        pytest.skip("no cores here at all")
    assert abort_mount(pxarfs, folder, store, "secret", "--keyfile", KEYS / "none.json",
                       "host/enc") == []


def test_another_user_backs_up_with_a_key(pxarfs, folder, repo, text_tree):
    """Closed to debuggers the process must still get at its own descriptors."""
    shutil.chown(repo, 1234, 1234)
    for path in repo.rglob("*"):
        shutil.chown(path, 1234, 1234)
    os.chmod(folder, 0o755)
    key = folder / "key.json"
    key.write_bytes((KEYS / "none.json").read_bytes())
    key.chmod(0o644)
    os.removexattr(text_tree / "incompressible", "user.attribute-name")
    backup(pxarfs, repo, text_tree, 1000, "--keyfile", key, user=1234, group=1234, extra_groups=[])
    listed = pxarfs("ls", "-R", "-r", repo, "--keyfile", key, "host/test", "root.pxar", user=1234,
                    group=1234, extra_groups=[]).stdout
    assert "letter-3-19.txt" in listed
