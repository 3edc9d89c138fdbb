# SPDX-License-Identifier: Apache-2.0
"""Images of files and devices come back byte by byte."""

import hashlib
import json
import os
import random
import resource
import subprocess
import time

import datastore
import pytest
from conftest import GOLDEN

CHUNK = 4 << 20
ZERO_CHUNK = "bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8"


class Backups:
    """Backups of one group, one after another."""

    def __init__(self, pxarfs, repo):
        self.pxarfs, self.repo, self.time = pxarfs, repo, 1800000000

    def __call__(self, *args, status=0):
        """The snapshot's folder and the summary."""
        self.time += 1
        done = self.pxarfs("backup", "-r", self.repo, "--backup-id", "test", "--backup-time",
                           self.time, "--output-format", "json", *args, status=status)
        if status:
            return done
        name = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.time))
        return self.repo / "host/test" / name, json.loads(done.stdout)


@pytest.fixture
def backup(pxarfs, repo):
    return Backups(pxarfs, repo)


@pytest.fixture
def loop():
    devices = []

    def attach(path):
        done = subprocess.run(["losetup", "-f", "--show", path], check=True, capture_output=True,
                              text=True)
        devices.append(done.stdout.strip())
        return devices[-1]

    yield attach
    for device in devices:
        subprocess.run(["losetup", "-d", device], check=False)


def make_image(path):
    """Data, zeros, a hole, data, and an odd end."""
    rng = random.Random(1)
    with open(path, "wb") as f:
        f.write(rng.randbytes(CHUNK) + bytes(CHUNK))
        f.seek(5 * CHUNK)
        f.write(rng.randbytes(CHUNK // 2))
        f.truncate(7 * CHUNK + 1234)
    return path


def check(repo, snapshot, source, size=None):
    index = snapshot / "disk.img.fidx"
    content = source.read_bytes()
    assert datastore.stream(repo, index) == content
    entry, = (f for f in datastore.manifest(snapshot)["files"] if f["filename"] == "disk.img.fidx")
    assert entry["size"] == len(content)
    assert entry["csum"] == hashlib.sha256(index.read_bytes()[4096:]).hexdigest()


@pytest.mark.both_backends
def test_an_image_of_a_file_comes_back(pxarfs, repo, backup, folder):
    image = make_image(folder / "image")
    snapshot, summary = backup(f"disk.img:{image}")
    check(repo, snapshot, image)
    stats, = summary["files"]
    assert stats["kind"] == "image" and stats["filename"] == "disk.img.fidx"
    assert stats["bytes"] == image.stat().st_size and stats["chunks"] == 8
    assert datastore.digests(snapshot / "disk.img.fidx").count(ZERO_CHUNK) == 5
    assert "disk.img.fidx" in pxarfs("files", "-r", repo, "host/test").stdout
    assert not [f for f in os.listdir(snapshot) if "tmp" in f]


@pytest.mark.both_backends
def test_only_what_has_changed_is_stored_again(repo, backup, folder):
    image = make_image(folder / "image")
    backup(f"disk.img:{image}")
    with open(image, "r+b") as f:
        f.seek(3 * CHUNK + 100)
        f.write(b"changed")
    snapshot, summary = backup(f"disk.img:{image}")
    check(repo, snapshot, image)
    assert summary["files"][0]["new-chunks"] == 1
    assert summary["files"][0]["new-bytes"] == CHUNK


def test_an_image_of_a_device_comes_back(repo, backup, folder, loop):
    image = folder / "image"
    make_image(image)
    os.truncate(image, 7 * CHUNK + 4096)
    device = loop(image)
    snapshot, _ = backup(f"disk.img:{device}")
    check(repo, snapshot, image)
    link = folder / "link"
    link.symlink_to(device)
    _, summary = backup(f"disk.img:{link}")
    assert summary["files"][0]["new-chunks"] == 0


def test_a_device_without_size_is_refused(backup, folder, loop):
    (folder / "empty").touch()
    device = loop(folder / "empty")
    done = backup(f"disk.img:{device}", status=1)
    assert f"disk.img: {device}: is empty" in done.stderr


def test_an_image_of_the_official_client_is_made_again(store, repo, backup, folder):
    golden = store / "host/image/2027-01-15T08:00:08Z/disk.img.fidx"
    image = folder / "image"
    image.write_bytes(datastore.stream(store, golden))
    assert hashlib.sha256(image.read_bytes()).hexdigest() == (
        (GOLDEN / "disk.img.sha256").read_text().split()[0])
    snapshot, _ = backup(f"disk.img:{image}")
    made = snapshot / "disk.img.fidx"
    assert made.read_bytes()[32:] == golden.read_bytes()[32:]
    for digest in datastore.digests(golden):
        theirs, ours = (datastore.chunk_path(s, digest).read_bytes() for s in (store, repo))
        # Another version of zstd may differ in some bytes, not in what is worth compressing.
        assert ours[:8] == theirs[:8] and abs(len(ours) - len(theirs)) < 100
    assert (datastore.manifest(snapshot)["files"][0]["csum"] ==
            golden.read_bytes()[32:64].hex())


def test_holes_are_not_read(pxarfs, repo, folder):
    image = folder / "image"
    with open(image, "wb") as f:
        f.truncate(1 << 40)
        f.seek(1 << 39)
        f.write(b"in the middle")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = pxarfs("backup", "-r", repo, f"disk.img:{image}", "--output-format", "json")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # to look at a terabyte takes minutes
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 50
    stats, = json.loads(done.stdout)["files"]
    assert stats["bytes"] == 1 << 40 and stats["new-chunks"] == 2


@pytest.mark.parametrize("what, why", [
    ("", "is empty"), ("none", "No such file"), ("folder", "cannot backup directory with fixed"),
    ("/dev/null", "neither a regular file nor a block device")])
def test_what_cannot_be_an_image_is_refused_before_anything_is_done(pxarfs, repo, folder, what,
                                                                    why):
    (folder / "folder").mkdir()
    (folder / "empty").touch()
    source = folder / (what or "empty")
    done = pxarfs("backup", "-r", repo, f"disk.img:{source}", status=1)
    assert why in done.stderr
    assert not (repo / "host").exists()


def test_an_encrypted_image_has_its_own_zeros(pxarfs, repo, backup, folder):
    key = folder / "key"
    image = make_image(folder / "image")
    pxarfs("key", "create", key, "--kdf", "none")
    snapshot, summary = backup(f"disk.img:{image}", "--keyfile", key)
    assert summary["files"][0]["new-chunks"] == 4
    digests = datastore.digests(snapshot / "disk.img.fidx")
    assert ZERO_CHUNK not in digests and len(set(digests)) == 4
    for digest in digests:
        data = datastore.chunk_path(repo, digest).read_bytes()
        assert data[:8] not in (datastore.PLAIN, datastore.ZSTD)
    _, summary = backup(f"disk.img:{image}", "--keyfile", key)
    assert summary["files"][0]["new-chunks"] == 0
