# SPDX-License-Identifier: Apache-2.0
"""Damage is told, by name, and costs no more than what it hit."""

import errno
import os
import random

import datastore
import pytest
import rows

from conftest import GOLDEN

TIME = "1970-01-01T00:16:40Z"


@pytest.fixture
def repo(pxarfs, folder):
    """A small snapshot with many chunks; its tree is in folder/tree."""
    tree = folder / "tree"
    tree.mkdir()
    rng = random.Random(3)
    for i in range(40):
        body = rng.randbytes(100_000) if i % 2 else b"compressible %d\n" % i * 8000
        (tree / f"file{i:02}").write_bytes(body)
    for i in range(2500):
        (tree / f"name-{'x' * 40}-{i}").write_bytes(b"")
    for path in [*tree.iterdir(), tree]:
        os.utime(path, ns=(0, 1_700_000_000_000_000_000))  # the cuts depend on what is cut
    path = folder / "repo"
    pxarfs("init", path)
    pxarfs("backup", "-r", path, f"root.pxar:{tree}", "--backup-id", "test", "--chunk-size", 64,
           "--backup-time", 1000, "--archive-names", "pbs")
    return path


def flip(path, rng, begin=0):
    data = bytearray(path.read_bytes())
    at = rng.randrange(begin, len(data))
    data[at] ^= 1 << rng.randrange(8)
    os.chmod(path, 0o644)
    path.write_bytes(data)


def mount_fails(pxarfs, repo, *words):
    point = pxarfs.folder / "bad"
    point.mkdir(exist_ok=True)
    done = pxarfs("mount", "-r", repo, "host/test", "root.pxar", point, status=1)
    for word in words:
        assert word in done.stderr, done.stderr
    assert not os.path.ismount(point)


@pytest.mark.parametrize("name", ["index.json.blob", "root.mpxar.didx"])
def test_any_flipped_bit_refuses_the_mount(pxarfs, repo, name):
    path = repo / "host/test" / TIME / name
    good = path.read_bytes()
    rng = random.Random(1)
    for _ in range(20):
        # The index's head has a random id, a time and zeros that nothing depends on.
        flip(path, rng, begin=4096 if name.endswith(".didx") else 0)
        mount_fails(pxarfs, repo, name)
        path.write_bytes(good)


def read_all(point):
    """{name: error number or None} of reading each file."""
    out = {}
    for name in sorted(os.listdir(point)):
        try:
            with open(point / name, "rb") as f:
                f.read()
            out[name] = None
        except OSError as e:
            out[name] = e.errno
    return out


@pytest.mark.parametrize("how", ["flip", "truncate", "remove", "empty", "other"])
def test_damaged_payload_chunk_spoils_its_files_only(pxarfs, folder, repo, how):
    index = datastore.index(repo / "host/test" / TIME / "root.ppxar.didx")
    rng = random.Random(2)
    # behind the contents come the headers of 2500 empty files, which nobody reads
    content = sum(f.stat().st_size for f in (folder / "tree").glob("file*"))
    index = [row for row in index if row[0] <= content]
    assert len(index) > 10
    # behind the contents come the headers of the empty files, which nobody reads
    contents = sum(16 + f.stat().st_size for f in (folder / "tree").glob("file*"))
    for i in range(0, sum(end <= contents for end, _ in index), 5):
        digest = index[i][1]
        chunk = datastore.chunk_path(repo, digest)
        good = chunk.read_bytes()
        if how == "flip":
            flip(chunk, rng)
        elif how == "truncate":
            os.truncate(chunk, len(good) - 1)
        elif how == "empty":
            os.truncate(chunk, 0)
        elif how == "other":
            # a perfectly good chunk, but not this one
            chunk.write_bytes(datastore.chunk_path(repo, index[i - 1][1]).read_bytes())
        else:
            chunk.unlink()
        with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
            result = read_all(mount.path)
            log = mount.log()
        bad = [name for name, error in result.items() if error]
        assert 1 <= len(bad) <= 4, bad
        assert {result[name] for name in bad} == {errno.EIO}
        assert digest in log and "root.ppxar" in log, log
        assert all(f": read of /{name}: " in log for name in bad), log
        chunk.write_bytes(good)
    assert_whole(pxarfs, folder, repo)


def assert_whole(pxarfs, folder, repo):
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        assert rows.differences(rows.observe(folder / "tree"), rows.observe(mount.path)) == []


def test_damaged_metadata_chunk_is_an_error_with_its_name(pxarfs, folder, repo):
    index = datastore.index(repo / "host/test" / TIME / "root.mpxar.didx")
    rng = random.Random(5)
    assert len(index) > 2
    for _, digest in index:
        chunk = datastore.chunk_path(repo, digest)
        good = chunk.read_bytes()
        flip(chunk, rng)
        done = pxarfs("ls", "-R", "-r", repo, "host/test", "root.pxar", status=1)
        assert digest in done.stderr and "root.mpxar" in done.stderr
        chunk.write_bytes(good)
    assert_whole(pxarfs, folder, repo)


@pytest.mark.parametrize("file", ["legacy.pxar", "split.mpxar"])
def test_flipped_bits_of_an_archive_never_crash_a_list(pxarfs, folder, file):
    """Without checksums not every flip can be noticed; but none may end in a signal."""
    good = (GOLDEN / "files" / file).read_bytes()
    rng = random.Random(9)
    path = folder / file
    noticed = 0
    for _ in range(150):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        done = pxarfs("list", path, status=None, text=False)
        assert done.returncode in (0, 1), done
        if done.returncode == 1:
            noticed += 1
            assert file.encode() in done.stderr, done.stderr
            assert b"offset" in done.stderr or b"version" in done.stderr, done.stderr
    assert noticed > 10


def test_truncated_archive_is_refused_at_every_length(pxarfs, folder):
    good = (GOLDEN / "files" / "split.mpxar").read_bytes()
    path = folder / "split.mpxar"
    for size in [0, 1, 23, 24, 119, len(good) // 2, len(good) - 24, len(good) - 1]:
        path.write_bytes(good[:size])
        done = pxarfs("list", path, status=1)
        assert "split.mpxar" in done.stderr
