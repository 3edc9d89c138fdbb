# SPDX-License-Identifier: Apache-2.0
"""What becomes of a source that cannot be read whole."""

import errno
import os
import random
import subprocess
import time

import datastore
import pytest
from conftest import BUILD

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def faulty(folder):
    """Mount a folder through faultfs, with its rules."""
    running = []

    def mount(source, *rules):
        point = folder / "faulty"
        point.mkdir()
        running.append((subprocess.Popen([BUILD / "tests/support/faultfs", source, point, *rules]),
                        point))
        end = time.monotonic() + 10
        while not os.path.ismount(point):
            assert running[-1][0].poll() is None and time.monotonic() < end
            time.sleep(0.005)
        return point

    yield mount
    for process, point in running:
        subprocess.run(["umount", point], check=False)
        process.wait(10)


@pytest.fixture
def source(folder):
    rng = random.Random(1)
    root = folder / "source"
    (root / "sub").mkdir(parents=True)
    (root / "good").write_bytes(rng.randbytes(300 * KIB))
    (root / "large").write_bytes(rng.randbytes(9 * MIB + 77))
    (root / "small").write_bytes(b"small")
    (root / "sub" / "a").write_bytes(b"a")
    (root / "sub" / "z").write_bytes(b"z")
    return root


def backup(pxarfs, repo, spec, *args, status=0):
    return pxarfs("backup", "-r", repo, "--backup-id", "test", spec, *args, status=status)


def test_a_read_error_ends_a_backup(pxarfs, repo, source, faulty):
    root = faulty(source, f"read:{errno.EIO}:/large:{5 * MIB}:{5 * MIB + 1}")
    done = backup(pxarfs, repo, f"root.pxar:{root}", status=1)
    assert f"{root}/large: read: Input/output error" in done.stderr
    assert not list((repo / "host").glob("test/*"))


def test_after_an_error_what_was_stored_is_looked_at(pxarfs, repo, source, faulty):
    """It may have been the store's disk, pulled out: what has a name is perhaps not whole."""
    (source / "large").write_bytes(random.Random(2).randbytes(16 * MIB))
    root = faulty(source, f"read:{errno.EIO}:/large:{14 * MIB}:{14 * MIB + 1}")
    args = ["--chunk-size", "64"]
    backup(pxarfs, repo, f"root.pxar:{root}", *args, status=1)
    chunks = [c for c in (repo / ".chunks").glob("*/*") if len(c.name) == 64]
    assert len(chunks) > 10
    for chunk in chunks[::2]:
        data = bytearray(chunk.read_bytes())
        data[-1] ^= 1
        chunk.write_bytes(data)
    done = backup(pxarfs, repo, f"root.pxar:{source}", *args)
    assert "looked at" in done.stderr
    for index in (repo / "host/test").glob("*/*.didx"):
        datastore.stream(repo, index)


def test_what_cannot_be_read_becomes_zeros_and_is_listed(pxarfs, repo, source, faulty):
    begin, end = 5 * MIB, 5 * MIB + 12 * KIB
    root = faulty(source, f"read:{errno.EIO}:/large:{begin}:{end}")
    done = backup(pxarfs, repo, f"root.pxar:{root}", "--on-read-error", "skip", status=3)
    lines = done.stderr.splitlines()
    at = next(i for i, line in enumerate(lines) if "not, or not wholly, in the snapshot" in line)
    assert [f"{root}/large" in line for line in lines[at + 1:at + 3]] == [True]
    assert f"the first of them at {begin}" in lines[at + 1]
    assert "1 SKIPPED" in done.stdout
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        assert (mount.path / "good").read_bytes() == (source / "good").read_bytes()
        content = (mount.path / "large").read_bytes()
        expected = bytearray((source / "large").read_bytes())
        assert len(content) == len(expected)
        assert content[begin:end] == bytes(end - begin)
        lost = sum(content[i] != expected[i] for i in range(end, end + 64 * KIB))
        assert lost <= 8 * KIB, "more is given up than is needed"
        assert content[:begin] == expected[:begin]
        assert content[end + 64 * KIB:] == expected[end + 64 * KIB:]


def test_what_became_zeros_is_read_again_by_the_next_backup(pxarfs, repo, source, folder, faulty):
    root = faulty(source, f"read:{errno.EIO}:/large:{5 * MIB}:{5 * MIB + 1}")
    backup(pxarfs, repo, f"root.pxar:{root}", "--on-read-error", "skip", status=3)
    subprocess.run(["umount", root], check=True)
    subprocess.run(["mount", "--bind", source, root], check=True)
    time.sleep(1.1)
    done = backup(pxarfs, repo, f"root.pxar:{root}")
    assert "every file is read" in done.stderr
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        assert (mount.path / "large").read_bytes() == (source / "large").read_bytes()
    time.sleep(1.1)
    assert "every file is read" not in backup(pxarfs, repo, f"root.pxar:{root}").stderr


def test_what_cannot_be_opened_or_listed_is_left_out(pxarfs, repo, source, faulty):
    rules = [f"open:{errno.EIO}:/small", f"readdir:{errno.EUCLEAN}:/sub", f"getattr:{errno.EIO}:/good"]
    root = faulty(source, *rules)
    backup(pxarfs, repo, f"root.pxar:{root}", status=1)
    done = backup(pxarfs, repo, f"root.pxar:{root}", "--on-read-error", "skip", status=3)
    assert "3 SKIPPED" in done.stdout
    for text in (f"{root}/small: left out: open: Input/output error",
                 f"{root}/good: left out: stat: Input/output error",
                 f"{root}/sub: its list of entries ends early: "):
        assert done.stderr.count(text) == 2, text
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        assert sorted(os.listdir(mount.path)) == ["large", "sub"]
        assert os.listdir(mount.path / "sub") == ["a"]


def test_errors_of_another_kind_still_end_a_backup(pxarfs, repo, source, faulty):
    root = faulty(source, f"open:{errno.EMFILE}:/small")
    backup(pxarfs, repo, f"root.pxar:{root}", "--on-read-error", "skip", status=1)


def test_a_wholly_unreadable_file_costs_few_reads(pxarfs, repo, source, faulty):
    root = faulty(source, f"read:{errno.EIO}:/large:0:{20 * MIB}")
    done = backup(pxarfs, repo, f"root.pxar:{root}", "--on-read-error", "skip", status=3)
    assert f"{9 * MIB + 77} bytes, the first of them at 0, could not be read" in done.stderr
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        assert (mount.path / "large").read_bytes() == bytes(9 * MIB + 77)


def test_bad_blocks_of_an_image(pxarfs, repo, source, faulty):
    begin, end = 4 * MIB - 4 * KIB, 4 * MIB + 4 * KIB
    root = faulty(source, f"read:{errno.EIO}:/large:{begin}:{end}")
    done = backup(pxarfs, repo, f"disk.img:{root}/large", status=1)
    assert f"disk.img: {root}/large: at byte " in done.stderr
    assert "read: Input/output error" in done.stderr
    done = backup(pxarfs, repo, f"disk.img:{root}/large", "--on-read-error", "skip", status=3)
    assert f"{root}/large: {end - begin} bytes, the first of them at {begin}, could" in done.stderr
    snapshot, = (repo / "host/test").glob("*Z")
    expected = bytearray((source / "large").read_bytes())
    expected[begin:end] = bytes(end - begin)
    assert datastore.stream(repo, snapshot / "disk.img.fidx") == bytes(expected)


@pytest.mark.parametrize("args", [
    ["--on-read-error", "ignore"], ["--threads", "65"], ["--compression", "20"], ["--rate", "0"],
    ["--rate", "fast"], ["--rate", "1", "--burst", "x"], ["--burst", "1"]])
def test_bad_values_are_refused(pxarfs, repo, source, args):
    done = backup(pxarfs, repo, f"root.pxar:{source}", *args, status=2)
    assert args[-2] in done.stderr
