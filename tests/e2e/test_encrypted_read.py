# SPDX-License-Identifier: Apache-2.0
"""Snapshots that the official client encrypted or signed: shown with the right key only."""

import json
import os
import shutil

import datastore
import pytest
import rows

from conftest import GOLDEN

KEYS = GOLDEN / "keys"
SMALL = [("host/enc", "none"), ("host/master", "none"), ("host/scrypt", "scrypt"),
         ("host/signed", "none")]


@pytest.fixture(autouse=True)
def environment(pxarfs, folder):
    pxarfs.env["XDG_CONFIG_HOME"] = str(folder / "config")
    pxarfs.env["XDG_CONFIG_DIRS"] = str(folder / "nowhere")
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "vector-pass"


def small_rows():
    return rows.sub(rows.load(GOLDEN / "tree1.jsonl"), "small")


@pytest.mark.both_backends
@pytest.mark.parametrize("snapshot, key", SMALL)
def test_snapshot_shows_its_tree_with_its_key(pxarfs, store, snapshot, key):
    with pxarfs.mount("--keyfile", KEYS / f"{key}.json", snapshot, "root.pxar",
                      repository=store) as mount:
        assert rows.differences(small_rows(), rows.observe(mount.path)) == []


def test_encrypted_single_stream_shows_its_tree(pxarfs, store2):
    want = rows.sub(rows.load(GOLDEN / "excludes.jsonl"), "plain")
    with pxarfs.mount("--keyfile", KEYS / "none.json", "vm/104", "t.pxar",
                      repository=store2) as mount:
        assert rows.differences(want, rows.observe(mount.path)) == []


def test_key_as_a_mount_option_and_in_the_background(pxarfs, store):
    point = pxarfs.folder / "mnt"
    point.mkdir()
    pxarfs("mount", "-r", store, "-o", f"keyfile={KEYS}/scrypt.json", "host/scrypt", "root.pxar",
           point)
    assert rows.differences(small_rows(), rows.observe(point)) == []


def test_key_from_a_descriptor(pxarfs, store):
    fd = os.open(KEYS / "none.json", os.O_RDONLY)
    done = pxarfs("ls", "-R", "--keyfd", fd, "-r", store, "host/enc", "root.pxar", pass_fds=[fd])
    assert len(done.stdout.splitlines()) > 10


def test_default_key_is_used_when_it_is_needed(pxarfs, folder, store):
    place = folder / "config/proxmox-backup"
    place.mkdir(parents=True)
    shutil.copy(KEYS / "none.json", place / "encryption-key.json")
    with_key = pxarfs("ls", "-R", "-r", store, "host/enc", "root.pxar").stdout
    assert with_key
    # and does not get in the way of what was made without one
    pxarfs("ls", "-r", store, "host/split", "root.pxar")
    with pxarfs.mount("host/legacy", "root.pxar", repository=store) as mount:
        assert list(mount.path.iterdir())


def test_given_key_wants_a_signature(pxarfs, store):
    done = pxarfs("ls", "-r", store, "--keyfile", KEYS / "none.json", "host/split", "root.pxar",
                  status=1)
    assert "made without one, or its signature was taken away" in done.stderr


@pytest.mark.parametrize("snapshot", [s for s, _ in SMALL])
def test_missing_key_is_said(pxarfs, store, snapshot):
    done = pxarfs("ls", "-r", store, snapshot, "root.pxar", status=1)
    assert "missing key - manifest was created with key" in done.stderr
    assert "--keyfile" in done.stderr


@pytest.mark.parametrize("snapshot, key", [("host/enc", "scrypt"), ("host/signed", "pbkdf2")])
def test_wrong_key_is_said(pxarfs, store, snapshot, key):
    point = pxarfs.folder / "mnt"
    point.mkdir()
    done = pxarfs("mount", "--keyfile", KEYS / f"{key}.json", "-r", store, snapshot, "root.pxar",
                  point, status=1)
    assert "wrong key" in done.stderr
    assert not os.path.ismount(point)


def test_wrong_passphrase_is_said(pxarfs, store):
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "not this one"
    done = pxarfs("ls", "--keyfile", KEYS / "scrypt.json", "-r", store, "host/scrypt", "root.pxar",
                  status=1)
    assert "wrong passphrase" in done.stderr


def snapshot_folder(store, name):
    return next((store / "host" / name).glob("*T*Z"))


def rewrite(folder, edit):
    """Change a manifest as someone without the key could; its blob stays well formed."""
    import struct
    import zlib
    manifest = datastore.manifest(folder)
    edit(manifest)
    body = json.dumps(manifest, indent=2, sort_keys=True).encode()
    blob = datastore.PLAIN + struct.pack("<I", zlib.crc32(body)) + body
    (folder / "index.json.blob").write_bytes(blob)


def change_size(m):
    m["files"][0]["size"] += 1


def change_mode(m):
    for f in m["files"]:
        f["crypt-mode"] = "none"


def change_time(m):
    m["backup-time"] += 1


def strip_signature(m):
    m["signature"] = None


def strip_all(m):
    m["signature"] = None
    m["unprotected"] = {}
    change_mode(m)


@pytest.mark.parametrize("edit, message", [
    (change_size, "wrong signature in manifest"), (change_mode, "wrong signature in manifest"),
    (change_time, "wrong signature in manifest"), (strip_signature, "not signed"),
    (strip_all, "not signed")])
@pytest.mark.parametrize("name", ["enc", "signed"])
def test_changed_manifest_is_refused(pxarfs, store, name, edit, message):
    rewrite(snapshot_folder(store, name), edit)
    point = pxarfs.folder / "mnt"
    point.mkdir()
    done = pxarfs("mount", "--keyfile", KEYS / "none.json", "-r", store, f"host/{name}",
                  "root.pxar", point, status=1)
    assert message in done.stderr
    assert not os.path.ismount(point)


def test_stripped_signature_is_noticed_without_a_key_too(pxarfs, store):
    rewrite(snapshot_folder(store, "signed"), strip_signature)
    done = pxarfs("ls", "-r", store, "host/signed", "root.pxar", status=1)
    assert "key" in done.stderr


def test_chunks_of_another_kind_are_refused(pxarfs, store):
    """A plain chunk in the place of an encrypted one (and the other way round) is damage."""
    for name, other in (("enc", "signed"), ("signed", "enc")):
        ours = datastore.digests(snapshot_folder(store, name) / "root.ppxar.didx")
        theirs = datastore.digests(snapshot_folder(store, other) / "root.ppxar.didx")
        chunk = datastore.chunk_path(store, ours[0])
        good = chunk.read_bytes()
        chunk.write_bytes(datastore.chunk_path(store, theirs[0]).read_bytes())
        with pxarfs.mount("--keyfile", KEYS / "none.json", f"host/{name}", "root.pxar",
                          repository=store, name=f"mnt-{name}") as mount:
            bad = 0
            for path in sorted(p for p in mount.path.rglob("*") if p.is_file()):
                try:
                    path.read_bytes()
                except OSError:
                    bad += 1
            assert bad > 0
            assert ours[0] in mount.log() and "encrypted" in mount.log()
        chunk.write_bytes(good)
