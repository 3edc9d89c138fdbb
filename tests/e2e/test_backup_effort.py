# SPDX-License-Identifier: Apache-2.0
"""How much a backup may take of the machine changes nothing about what is in it."""

import random
import time

import datastore
import pytest


@pytest.fixture
def source(folder):
    rng = random.Random(1)
    words = [rng.randbytes(6) for _ in range(300)]
    root = folder / "source"
    root.mkdir()
    for i in range(20):
        (root / f"text{i}").write_bytes(b"".join(rng.choices(words, k=50000)))
    (root / "noise").write_bytes(rng.randbytes(2 << 20))
    return root


@pytest.fixture
def backup(pxarfs, folder, source):
    """Back up into a repository of its own; returns it and the snapshot."""
    def run(name, *args):
        repo = folder / name
        pxarfs("init", repo)
        pxarfs("backup", "-r", repo, "--backup-id", "test", "--backup-time", "1800000000",
               f"root.pxar:{source}", *args)
        return repo, repo / "host/test/2027-01-15T08:00:00Z"
    return run


def streams(snapshot):
    return {f["filename"]: (f["size"], f["csum"]) for f in datastore.manifest(snapshot)["files"]}


def stored(repo):
    return {path.name: path.read_bytes() for path in (repo / ".chunks").glob("*/*")}


def test_any_number_of_threads_stores_the_same(backup):
    first = backup("first", "--chunk-size", "64")
    for count in 1, 3, 64:
        repo, snapshot = backup(f"threads{count}", "--chunk-size", "64", "--threads", count)
        assert streams(snapshot) == streams(first[1])
        assert stored(repo) == stored(first[0])


def test_levels_change_the_stored_form_alone(backup, pxarfs):
    sizes = {}
    first = backup("first")
    for level in 0, 1, 15:
        repo, snapshot = backup(f"level{level}", "--compression", level)
        assert streams(snapshot) == streams(first[1])
        chunks = stored(repo)
        assert set(chunks) == set(stored(first[0]))
        sizes[level] = sum(map(len, chunks.values()))
        assert (level == 1) == (chunks == stored(first[0]))
        if level == 0:
            assert all(data[:8] == datastore.PLAIN for data in chunks.values())
        for name in streams(snapshot):
            datastore.stream(repo, snapshot / name)  # proves every digest
    assert sizes[0] > sizes[1] > sizes[15]


def test_a_rate_is_kept(backup):
    begin = time.monotonic()
    repo, _ = backup("slow", "--rate", "2MiB", "--burst", "512 KiB", "--chunk-size", "64")
    elapsed = time.monotonic() - begin
    size = sum(map(len, stored(repo).values()))
    assert size > 3 << 20
    assert elapsed > (size - (600 << 10)) / (2 << 20)
    assert elapsed < size / (2 << 20) + 60  # not held back more than that


@pytest.mark.parametrize("option, beyond", [
    ("--backup-time", 1 << 63), ("--backup-time", (1 << 64) - 1), ("--padding-limit", 101),
    ("--chunk-size", 0), ("--entries-max", 1 << 64), ("--threads", 65), ("--compression", 20),
    ("--rate", 0), ("--burst", "9e18"),
])
def test_a_number_that_is_none_or_too_large_is_refused(pxarfs, folder, source, option, beyond):
    pxarfs("init", folder / "repo")
    for value in beyond, -1, "1e99", "", "4x", " 4", "+4", "0x10":
        before = ["--rate", "1M"] if option == "--burst" else []
        done = pxarfs("backup", "-r", folder / "repo", f"root.pxar:{source}", *before,
                      f"{option}={value}", status=2)
        assert option in done.stderr
    assert not (folder / "repo/host").exists()


def test_no_threads_are_the_default_and_no_burst_is_none(backup):
    first, snapshot = backup("first")
    repo, other = backup("zero", "--threads", 0, "--rate", "100MiB", "--burst", 0)
    assert streams(other) == streams(snapshot)
    assert stored(repo) == stored(first)
