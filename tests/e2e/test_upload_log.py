# SPDX-License-Identifier: Apache-2.0
"""upload-log: the log that belongs to a snapshot and comes after it."""

import errno
import json
import os

import pytest

import crypto
import datastore
from conftest import GOLDEN

SNAPSHOT = "host/split/2027-01-15T08:00:09Z"
LOG = "client.log.blob"
KEY = GOLDEN / "keys" / "none.json"
TEXT = "1 file skipped\n" * 1000

pytestmark = pytest.mark.both_backends


@pytest.fixture
def store(store):
    """On a server only the owner may."""
    for path in store.glob("host/*/owner"):
        path.write_text("root@pam\n")
    return store


@pytest.fixture
def log(folder):
    path = folder / "backup.log"
    path.write_text(TEXT)
    return path


def listed(pxarfs, store, *args):
    return json.loads(pxarfs("files", "-r", store, SNAPSHOT, "--output-format", "json",
                             *args).stdout)


def test_is_stored_once_and_shown(pxarfs, store, log):
    before, names = listed(pxarfs, store), sorted(os.listdir(store / SNAPSHOT))
    manifest = (store / SNAPSHOT / "index.json.blob").read_bytes()
    assert pxarfs("upload-log", "-r", store, SNAPSHOT, log).stdout == ""
    stored = store / SNAPSHOT / LOG
    assert datastore.blob(stored) == TEXT.encode()
    assert stored.stat().st_size < len(TEXT) and stored.stat().st_mode & 0o777 == 0o644
    assert (stored.stat().st_uid, stored.stat().st_gid) == (store.stat().st_uid,
                                                            store.stat().st_gid)
    assert listed(pxarfs, store) == sorted(before + [{"filename": LOG}],
                                           key=lambda row: row["filename"])
    assert LOG in pxarfs("files", "-r", store, SNAPSHOT).stdout.splitlines()
    with pxarfs.mount(repository=store) as mount:
        assert (mount.path / SNAPSHOT / "client.log").read_text() == TEXT
    data = stored.read_bytes()
    log.write_text("another")
    done = pxarfs("upload-log", "-r", store, SNAPSHOT, log, status=1)
    assert f"{SNAPSHOT}: {LOG}: there is one already" in done.stderr
    assert stored.read_bytes() == data
    assert sorted(os.listdir(store / SNAPSHOT)) == sorted(names + [LOG])
    assert (store / SNAPSHOT / "index.json.blob").read_bytes() == manifest
    pxarfs("forget", "-r", store, SNAPSHOT)
    assert not (store / SNAPSHOT).exists()


def test_goes_to_the_newest_and_may_be_empty_and_come_while_it_is_mounted(pxarfs, store, log):
    log.write_text("")
    with pxarfs.mount("host/split", "root.pxar", repository=store) as mount:
        os.listdir(mount.path)
        pxarfs("upload-log", "-r", store, "host/split", log)
    assert datastore.blob(store / "host/split/2027-01-15T08:00:10Z" / LOG) == b""


def test_an_encrypted_one_needs_the_key(pxarfs, store, log, folder):
    (folder / "source").mkdir()
    pxarfs("backup", "-r", store, "--backup-id", "secret", "--backup-time", 1000, "--keyfile", KEY,
           f"root.pxar:{folder / 'source'}")
    key = crypto.Key.load(KEY)
    for snapshot in ("host/secret/1970-01-01T00:16:40Z", SNAPSHOT):  # and where nothing else is
        pxarfs("upload-log", "-r", store, "--keyfile", KEY, snapshot, log)
        assert crypto.blob((store / snapshot / LOG).read_bytes(), key) == TEXT.encode()
        with pxarfs.mount(repository=store, options=f"keyfile={KEY}") as mount:
            assert (mount.path / snapshot / "client.log").read_text() == TEXT
        with pxarfs.mount(repository=store) as mount:
            with pytest.raises(OSError) as e:
                (mount.path / snapshot / "client.log").read_text()
            assert e.value.errno in (errno.EACCES, errno.ENOKEY, errno.EIO)
        assert {"filename": LOG} in json.loads(pxarfs("files", "-r", store, snapshot,
                                                      "--output-format", "json").stdout)


@pytest.mark.parametrize("args, encrypted", [((), True), (("--crypt-mode", "encrypt"), True),
                                             (("--crypt-mode", "sign-only"), False),
                                             (("--crypt-mode", "none"), False)])
def test_the_default_key_is_used_as_in_a_backup(pxarfs, store, log, folder, args, encrypted):
    config = folder / "config/proxmox-backup"
    config.mkdir(parents=True)
    (config / "encryption-key.json").write_bytes(KEY.read_bytes())
    (config / "master-public.pem").write_text("none of its business")
    pxarfs("upload-log", "-r", store, *args, SNAPSHOT, log)
    data = (store / SNAPSHOT / LOG).read_bytes()
    if encrypted:
        assert crypto.blob(data, crypto.Key.load(KEY)) == TEXT.encode()
    else:
        assert datastore.blob(store / SNAPSHOT / LOG) == TEXT.encode()


def test_what_cannot_be_a_log_is_refused_and_leaves_nothing(pxarfs, store, log, folder):
    names = sorted(os.listdir(store / SNAPSHOT))
    os.mkfifo(folder / "pipe")
    (folder / "large").touch()
    os.truncate(folder / "large", (128 << 20) + 1)
    for path, words in ((folder / "none", "No such file"), (folder, "not a regular file"),
                        (folder / "pipe", "not a regular file"), (folder / "large", "128 MiB")):
        done = pxarfs("upload-log", "-r", store, SNAPSHOT, path, status=1)
        assert words in done.stderr and str(path) in done.stderr
    for snapshot in ("host/split/2027-01-15T08:00:11Z", "host/none/2027-01-15T08:00:09Z"):
        done = pxarfs("upload-log", "-r", store, snapshot, log, status=1)
        assert "no snapshot " + snapshot in done.stderr
        assert not (store / snapshot).exists()
    assert "default key" in pxarfs("upload-log", "-r", store, "--crypt-mode", "encrypt", SNAPSHOT,
                                   log, status=1).stderr
    assert sorted(os.listdir(store / SNAPSHOT)) == names


def test_a_server_asks_who_owns_the_group(pxarfs, store, log, backend):
    (store / "host/split/owner").write_text("other@pbs\n")
    done = pxarfs("upload-log", "-r", store, SNAPSHOT, log, status=None)
    assert done.returncode == (1 if backend == "server" else 0)
    assert ("permission" in done.stderr) == (backend == "server")
    assert (store / SNAPSHOT / LOG).exists() == (backend == "directory")


def test_bad_usage(pxarfs, store, log):
    for args in ((), (SNAPSHOT,), (SNAPSHOT, log, log), ("host", log),
                 ("--crypt-mode", "what", SNAPSHOT, log),
                 ("--crypt-mode", "none", "--keyfile", KEY, SNAPSHOT, log),
                 ("--keyfile", KEY, "--keyfd", "0", SNAPSHOT, log)):
        pxarfs("upload-log", "-r", store, *args, status=2)
    assert not (store / SNAPSHOT / LOG).exists()
