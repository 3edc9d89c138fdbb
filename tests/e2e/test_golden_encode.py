# SPDX-License-Identifier: Apache-2.0
"""What the encoder makes is what the official tools made, byte for byte."""

import subprocess

import datastore
import pytest
import treecopy

from conftest import BUILD, GOLDEN

REENCODE = BUILD / "tests" / "support" / "reencode"

SPLICED = {"host/split/2027-01-15T08:00:09Z", "host/split/2027-01-15T08:00:10Z"}
SPLIT = ["host/data/2027-01-15T08:00:03Z", "host/signed/2027-01-15T08:00:05Z",
         "host/split/2027-01-15T08:00:02Z", *sorted(SPLICED),
         "ns/prod/ns/eu/host/nested/2027-01-15T08:00:11Z"]


def assert_same_bytes(have, want):
    if have == want:
        return
    at = next((i for i, (a, b) in enumerate(zip(have, want)) if a != b),
              min(len(have), len(want)))
    pytest.fail(f"bytes differ at {at} ({len(have)} and {len(want)} long): "
                f"{have[at - 8:at + 24].hex()} instead of {want[at - 8:at + 24].hex()}")


def reencode(folder, meta, payload=None):
    """Run the streams through decoder and encoder; returns the new streams."""
    (folder / "meta").write_bytes(meta)
    command = [REENCODE, folder / "meta"]
    if payload is not None:
        (folder / "payload").write_bytes(payload)
        command += [folder / "payload"]
    command += [folder / "meta.new"]
    if payload is not None:
        command += [folder / "payload.new"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ((folder / "meta.new").read_bytes(),
            (folder / "payload.new").read_bytes() if payload is not None else None)


@pytest.mark.parametrize("snapshot", SPLIT)
def test_metadata_stream_is_reencoded_to_the_same_bytes(folder, store, snapshot):
    want = datastore.stream(store, store / snapshot / "root.mpxar.didx")
    have, _ = reencode(folder, want)
    assert_same_bytes(have, want)


@pytest.mark.parametrize("snapshot", [s for s in SPLIT if s not in SPLICED])
def test_both_streams_are_reencoded_to_the_same_bytes(folder, store, snapshot):
    meta = datastore.stream(store, store / snapshot / "root.mpxar.didx")
    payload = datastore.stream(store, store / snapshot / "root.ppxar.didx")
    new_meta, new_payload = reencode(folder, meta, payload)
    assert_same_bytes(new_meta, meta)
    assert_same_bytes(new_payload, payload)


@pytest.mark.parametrize("snapshot, name", [
    ("host/legacy/2027-01-15T08:00:01Z", "root.pxar.didx"),
    ("host/image/2027-01-15T08:00:08Z", "etc2.pxar.didx")])
def test_single_stream_is_reencoded_to_the_same_bytes(folder, store, snapshot, name):
    want = datastore.stream(store, store / snapshot / name)
    have, _ = reencode(folder, want)
    assert_same_bytes(have, want)


def test_plain_files_are_reencoded_to_the_same_bytes(folder):
    files = GOLDEN / "files"
    legacy = (files / "legacy.pxar").read_bytes()
    assert_same_bytes(reencode(folder, legacy)[0], legacy)
    meta, payload = ((files / name).read_bytes() for name in ("split.mpxar", "split.ppxar"))
    new_meta, new_payload = reencode(folder, meta, payload)
    assert_same_bytes(new_meta, meta)
    assert_same_bytes(new_payload, payload)


def unpacked(pxarfs, *args, repository=None):
    """The archive's tree on a real file system."""
    target = pxarfs.folder / "tree"
    with pxarfs.mount(*args, repository=repository) as mount:
        treecopy.copy(mount.path, target)
    return target


def test_create_writes_what_the_official_tool_writes(pxarfs, folder):
    files = GOLDEN / "files"
    tree = unpacked(pxarfs, files / "legacy.pxar")
    pxarfs("create", folder / "new.pxar", tree)
    assert_same_bytes((folder / "new.pxar").read_bytes(), (files / "legacy.pxar").read_bytes())
    pxarfs("create", folder / "new.mpxar", tree, "--payload-output", folder / "new.ppxar")
    assert_same_bytes((folder / "new.mpxar").read_bytes(), (files / "split.mpxar").read_bytes())
    assert_same_bytes((folder / "new.ppxar").read_bytes(), (files / "split.ppxar").read_bytes())


@pytest.mark.parametrize("name", ["legacy.pxar", "split.mpxar"])
def test_create_from_a_mount_writes_the_same_again(pxarfs, folder, name):
    """All that the format holds gets through the kernel, to the byte."""
    files = GOLDEN / "files"
    with pxarfs.mount(files / name) as mount:
        pxarfs("create", folder / "new.pxar", mount.path)
        pxarfs("create", folder / "new.mpxar", mount.path, "--payload-output",
               folder / "new.ppxar")
    for new, old in (("new.pxar", "legacy.pxar"), ("new.mpxar", "split.mpxar"),
                     ("new.ppxar", "split.ppxar")):
        assert_same_bytes((folder / new).read_bytes(), (files / old).read_bytes())
