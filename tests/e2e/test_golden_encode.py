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


def excludes_of(text):
    return [arg for line in text.decode().splitlines() for arg in ("--exclude", line)]


def test_backup_of_a_tree_makes_the_official_client_s_chunks(pxarfs, folder, store):
    """Single streams and metadata streams are cut alike, so their chunks are the same."""
    tree = unpacked(pxarfs, "host/legacy", "root.pxar", repository=store)
    new = folder / "new"
    pxarfs("init", new)
    common = ["-r", new, f"root.pxar:{tree}", "--chunk-size", 64, "--archive-names", "pbs"]
    pxarfs("backup", *common, "--backup-id", "legacy", "--change-detection-mode", "legacy",
           "--backup-time", 1800000001)
    golden = store / "host/legacy/2027-01-15T08:00:01Z"
    ours = new / "host/legacy/2027-01-15T08:00:01Z"
    for name in ("root.pxar.didx", "catalog.pcat1.didx"):
        assert datastore.index(ours / name) == datastore.index(golden / name), name

    pxarfs("backup", *common, "--backup-id", "split", "--change-detection-mode", "data",
           "--backup-time", 1800000002)
    ours = new / "host/split/2027-01-15T08:00:02Z"
    golden = store / "host/split/2027-01-15T08:00:02Z"
    assert (datastore.index(ours / "root.mpxar.didx")
            == datastore.index(golden / "root.mpxar.didx"))
    assert (datastore.stream(new, ours / "root.ppxar.didx")
            == datastore.stream(store, golden / "root.ppxar.didx"))

    pxarfs("backup", *common, "--backup-id", "data", "--change-detection-mode", "data",
           "--backup-time", 1800000003, "--exclude", "/many", "--exclude", "*.log",
           "--exclude", "!keep.log")
    ours = new / "host/data/2027-01-15T08:00:03Z"
    golden = store / "host/data/2027-01-15T08:00:03Z"
    assert (datastore.index(ours / "root.mpxar.didx")
            == datastore.index(golden / "root.mpxar.didx"))
    theirs = datastore.index(golden / "root.ppxar.didx")
    known = {digest for _, digest in theirs}
    begin = shared = 0
    for end, digest in datastore.index(ours / "root.ppxar.didx"):
        shared += (end - begin) if digest in known else 0
        begin = end
    assert begin == theirs[-1][0]
    assert shared >= 0.95 * begin


def test_backup_of_the_reduced_tree_keeps_its_exclude_rules(pxarfs, folder, store2):
    legacy = "host/excludes/2027-01-15T08:16:41Z"
    tree = unpacked(pxarfs, legacy, "t.pxar", repository=store2)
    text = (tree / ".pxarexclude-cli").read_bytes()
    new = folder / "new"
    pxarfs("init", new)
    pxarfs("backup", "-r", new, f"t.pxar:{tree}", "--chunk-size", 64, "--backup-id", "excludes",
           "--change-detection-mode", "legacy", "--backup-time", 1800001001, *excludes_of(text))
    assert (datastore.digests(new / legacy / "t.pxar.didx")
            == datastore.digests(store2 / legacy / "t.pxar.didx"))
    split = "host/excludes/2027-01-15T08:16:42Z"
    pxarfs("backup", "-r", new, f"t.pxar:{tree}", "--chunk-size", 64, "--backup-id", "excludes",
           "--change-detection-mode", "data", "--archive-names", "pbs",
           "--backup-time", 1800001002, *excludes_of(text))
    assert (datastore.digests(new / split / "t.mpxar.didx")
            == datastore.digests(store2 / split / "t.mpxar.didx"))
