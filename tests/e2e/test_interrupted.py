# SPDX-License-Identifier: Apache-2.0
"""A backup that was interrupted is gone on with."""

import json
import os
import random
import signal
import subprocess
import time

import crypto
import datastore
import pytest

from conftest import GOLDEN, SOON
from opens import Opens


@pytest.fixture
def source(folder):
    rng = random.Random(1)
    root = folder / "source"
    root.mkdir()
    for i in range(40):
        (root / f"file{i:02}").write_bytes(rng.randbytes(1 << 20))
    return root


@pytest.fixture
def image(folder):
    path = folder / "image"
    path.write_bytes(random.Random(2).randbytes((40 << 20) + 777))
    return path


def chunks(repo):
    return {path.name for path in (repo / ".chunks").glob("*/*") if "tmp" not in path.name}


def journals(pxarfs):
    return list((pxarfs.folder / "cache/pxarfs/journal").glob("*"))


def interrupt(pxarfs, repo, args, number, count=8, spelling=None):
    """Start a backup, slowly, and send it a signal when it has stored some chunks."""
    before = len(chunks(repo))
    p = pxarfs.start("backup", "-r", spelling or repo, "--backup-id", "test", "--rate", "10MiB", "--burst", "1MiB",
                     *args, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while len(chunks(repo)) < before + count:
        assert p.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    p.send_signal(number)
    p.communicate(timeout=60)
    return chunks(repo)


def backup(pxarfs, repo, args, *more):
    done = pxarfs("backup", "-r", repo, "--backup-id", "test", "--output-format", "json", *args, *more)
    return done, json.loads(done.stdout)


def check_nothing_twice(repo, summary, stored, spec):
    """What was stored is reused, the rest is new, and together they are the whole."""
    files = [f for f in summary["files"] if f["kind"] != "blob"]
    new = sum(f["new-chunks"] for f in files)
    reused = sum(f["reused-chunks"] for f in files)
    snapshot = repo / summary["snapshot"]
    used = {d for f in files for d in datastore.digests(snapshot / f["filename"])}
    assert reused >= len(stored & used) > 0
    # Nothing was put that was there: a duplicate would be one that was sent in vain.
    assert sum(f["duplicate-chunks"] for f in files) == 0
    assert new == len(used - stored)
    for f in files:
        data = datastore.stream(repo, snapshot / f["filename"])
        if f["kind"] == "image":
            assert data == spec.read_bytes()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_backup_of_a_folder_is_gone_on_with(pxarfs, repo, source, number):
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    stored = interrupt(pxarfs, repo, args, number)
    assert len(journals(pxarfs)) == 1
    done, summary = backup(pxarfs, repo, args)
    assert "going on with an interrupted backup" in done.stderr
    check_nothing_twice(repo, summary, stored, source)
    assert journals(pxarfs) == []
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        for path in source.iterdir():
            assert (mount.path / path.name).read_bytes() == path.read_bytes()


def test_a_killed_backup_of_an_image_is_gone_on_with(pxarfs, repo, image):
    args = [f"disk.img:{image}"]
    stored = interrupt(pxarfs, repo, args, signal.SIGKILL, count=3)
    _, summary = backup(pxarfs, repo, args)
    check_nothing_twice(repo, summary, stored, image)


@pytest.mark.parametrize("then", ["same", "other", "none"])
def test_what_was_interrupted_with_a_key_serves_that_key_alone(pxarfs, folder, repo, source, then):
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    same = ["--keyfile", GOLDEN / "keys/none.json"]
    keys = {"same": same, "none": [],
            "other": ["--keyfile", crypto.Key(bytes(range(32))).save(folder / "other.json")]}[then]
    stored = interrupt(pxarfs, repo, args + same, signal.SIGKILL)
    _, summary = backup(pxarfs, repo, args, *keys)
    if then == "same":
        assert sum(f["reused-chunks"] for f in summary["files"]) >= len(stored) - 1 > 0
    else:
        assert sum(f["reused-chunks"] for f in summary["files"]) == 0
        for f in summary["files"]:
            assert stored.isdisjoint(datastore.digests(repo / summary["snapshot"] / f["filename"]))
    with pxarfs.mount(*keys, "host/test", "root.pxar", repository=repo) as mount:
        for path in source.iterdir():
            assert (mount.path / path.name).read_bytes() == path.read_bytes()


def test_a_backup_killed_again_and_again_gets_done(pxarfs, repo, source):
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    for _ in range(3):
        stored = interrupt(pxarfs, repo, args, signal.SIGKILL)
    _, summary = backup(pxarfs, repo, args)
    check_nothing_twice(repo, summary, stored, source)


def test_chunks_that_were_collected_meanwhile_are_stored_again(pxarfs, repo, source):
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    stored = sorted(interrupt(pxarfs, repo, args, signal.SIGKILL))
    for digest in stored[::2]:
        datastore.chunk_path(repo, digest).unlink()
    _, summary = backup(pxarfs, repo, args)
    check_nothing_twice(repo, summary, set(stored[1::2]), source)


def test_a_server_is_told_everything_again_and_nobody_says_otherwise(pxarfs, folder, server, source):
    """It takes no chunk for known that is in no index of the last snapshot."""
    pxarfs.env.update(server.env)
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    store = folder / "server"
    interrupt(pxarfs, store, args, signal.SIGKILL, spelling=server.repository)
    end = time.monotonic() + SOON
    while list(store.glob("host/test/*Z")):  # until the server has noticed
        assert time.monotonic() < end
        time.sleep(0.01)
    done, summary = backup(pxarfs, server.repository, args)
    assert "interrupted" not in done.stderr and journals(pxarfs) == []
    assert sum(f["reused-chunks"] for f in summary["files"]) == 0
    for f in summary["files"]:
        datastore.stream(store, store / summary["snapshot"] / f["filename"])


def test_what_was_interrupted_over_an_older_snapshot(pxarfs, repo, source):
    """Files that have not changed are not read, and of the others nothing is sent twice."""
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    backup(pxarfs, repo, args, "--backup-time", "1000")
    rng = random.Random(3)
    for i in range(5, 40, 2):
        (source / f"file{i:02}").write_bytes(rng.randbytes(1 << 20))
    stored = interrupt(pxarfs, repo, args, signal.SIGKILL)
    with Opens(source) as opens:
        _, summary = backup(pxarfs, repo, args)
    check_nothing_twice(repo, summary, stored, source)
    assert len(set(opens.files)) == summary["reading"]["read-files"] == 18
    assert summary["reading"]["padding-bytes"] <= 0.1 * summary["files"][0]["bytes"]
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        for path in source.iterdir():
            assert (mount.path / path.name).read_bytes() == path.read_bytes()


def test_what_could_not_be_brought_to_the_disk_is_looked_at(pxarfs, folder, repo, source):
    """As when syncing fails: the chunks have their names and sizes, and something else in them."""
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    (folder / "conf").write_bytes(b"small")
    backup(pxarfs, repo, [f"some.conf:{folder / 'conf'}", "--backup-time", "1000"])
    manifest, = (repo / "host/test").glob("*/index.json.blob")
    p = pxarfs.start("backup", "-r", repo, "--backup-id", "test", "--rate", "50MiB", "--burst", "1MiB", *args,
                     stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not chunks(repo):
        assert p.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    manifest.unlink()  # the session cannot end well any more
    said = p.communicate(timeout=60)[1]
    assert p.returncode == 1 and b"previous snapshot was removed" in said
    stored = sorted(chunks(repo))
    for digest in stored[::2]:
        path = datastore.chunk_path(repo, digest)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    done, summary = backup(pxarfs, repo, args)
    assert "looked at" in done.stderr
    assert sum(f["duplicate-chunks"] for f in summary["files"]) == len(stored[1::2])
    for f in summary["files"]:
        datastore.stream(repo, repo / summary["snapshot"] / f["filename"])
    assert journals(pxarfs) == []


@pytest.mark.parametrize("damage", ["cut", "header", "garbage", "lies", "link"])
def test_a_journal_is_a_hint_and_no_more(pxarfs, folder, repo, source, damage):
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    stored = interrupt(pxarfs, repo, args, signal.SIGKILL)
    journal, = journals(pxarfs)
    data = journal.read_bytes()
    other = folder / "other"
    other.write_bytes(data)
    if damage == "link":
        journal.unlink()
        journal.symlink_to(other)
    else:
        journal.write_bytes({"cut": data[:-7], "header": data[:30], "garbage": os.urandom(5000),
                             "lies": data + os.urandom(32 * 1000)}[damage])
    done, summary = backup(pxarfs, repo, args)
    assert ("going on with" in done.stderr) == (damage in ("cut", "lies"))
    if damage == "lies":
        check_nothing_twice(repo, summary, stored, source)
    for f in summary["files"]:
        datastore.stream(repo, repo / summary["snapshot"] / f["filename"])
    assert other.read_bytes() == data


@pytest.mark.parametrize("whole", [True, False], ids=["file", "digests"])
@pytest.mark.parametrize("other", [
    "repository", "key", *(pytest.param(o, marks=pytest.mark.slow) for o in ("group", "namespace"))])
def test_anothers_journal_copied_over_the_own_one(pxarfs, folder, repo, source, other, whole):
    """The file as it is is believed by nobody; its digests behind a true head are asked for."""
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    theirs, more = repo, {"group": ["--backup-id", "other"], "namespace": ["--ns", "other"],
                          "key": ["--keyfile", GOLDEN / "keys/none.json"]}.get(other, [])
    if other == "repository":
        theirs = folder / "theirs"
        pxarfs("init", theirs)
    interrupt(pxarfs, theirs, args + more, signal.SIGKILL)
    copied, = journals(pxarfs)
    data = copied.read_bytes()
    copied.unlink()
    own = interrupt(pxarfs, repo, args, signal.SIGKILL, count=1)
    journal, = journals(pxarfs)
    assert journal.name != copied.name
    journal.write_bytes(data if whole else journal.read_bytes()[:64] + data[64:])
    done, summary = backup(pxarfs, repo, args)
    assert ("going on with" in done.stderr) != whole
    foreign = {data[at:at + 32].hex() for at in range(64, len(data), 32)}
    for f in summary["files"]:
        datastore.stream(repo, repo / summary["snapshot"] / f["filename"])
        if other == "key":
            assert foreign.isdisjoint(datastore.digests(repo / summary["snapshot"] / f["filename"]))
    reused = sum(f["reused-chunks"] for f in summary["files"])
    # of those that are there: none, or all that both have
    assert reused == 0 if whole or other == "key" else 0 < reused <= len(own)


def test_a_killed_backup_of_an_encrypted_image_is_gone_on_with(pxarfs, repo, image):
    key = ["--keyfile", GOLDEN / "keys/none.json"]
    args = [f"disk.img:{image}", *key]
    stored = interrupt(pxarfs, repo, args, signal.SIGKILL, count=3)
    _, summary = backup(pxarfs, repo, args)
    file, = (f for f in summary["files"] if f["kind"] == "image")
    assert file["reused-chunks"] >= len(stored) - 1 > 0  # the last may have been cut off
    assert file["duplicate-chunks"] == 0
    with pxarfs.mount(*key, repository=repo) as mount:
        assert (mount.path / summary["snapshot"] / "disk.img").read_bytes() == image.read_bytes()


def test_another_datastore_in_the_same_place_has_none_of_the_chunks(pxarfs, folder, repo, source):
    """The journal says they are known; what counts is whether they are there."""
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    assert interrupt(pxarfs, repo, args, signal.SIGKILL)
    repo.rename(folder / "unplugged")
    pxarfs("init", repo)
    done, summary = backup(pxarfs, repo, args)
    assert "going on with" in done.stderr
    assert sum(f["reused-chunks"] for f in summary["files"]) == 0
    for f in summary["files"]:
        datastore.stream(repo, repo / summary["snapshot"] / f["filename"])


def test_another_group_and_a_dry_run_know_nothing_of_it(pxarfs, repo, source):
    args = [f"root.pxar:{source}", "--chunk-size", "512"]
    interrupt(pxarfs, repo, args, signal.SIGKILL)
    done, summary = backup(pxarfs, repo, args, "--dry-run")
    assert summary["files"][0]["reused-chunks"] == 0 and len(journals(pxarfs)) == 1
    done, summary = backup(pxarfs, repo, args[:1] + ["--backup-id", "other"] + args[1:])
    assert "interrupted" not in done.stderr and len(journals(pxarfs)) == 1


def test_a_backup_does_without_a_cache_folder(pxarfs, repo, source):
    (pxarfs.folder / "cache").write_text("not a folder")
    backup(pxarfs, repo, [f"root.pxar:{source}"])
    for name in ("XDG_CACHE_HOME", "HOME"):
        pxarfs.env.pop(name, None)
    backup(pxarfs, repo, [f"root.pxar:{source}", "--backup-time", str(int(time.time()) + 10)])
    assert not os.path.exists(pxarfs.folder / "cache/pxarfs")
