# SPDX-License-Identifier: Apache-2.0
"""Sources on file systems of every kind: what a mount of the backup shows is what was there, and
the next backup reads nothing of it."""

import contextlib
import os
import random
import shutil
import subprocess

import pytest
import rows

from test_backup import make_tree
from test_metadata import Group

KINDS = {
    "ext4": ["mkfs.ext4", "-q", "-F"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
    "vfat": ["mkfs.vfat", "-n", "PXARFS"],
}


def kernel_knows(kind):
    with open("/proc/filesystems", encoding="ascii") as f:
        return any(line.split()[-1] == kind for line in f)


@contextlib.contextmanager
def on_loop(kind, folder):
    """A new file system of that kind, mounted."""
    if not kernel_knows(kind) or not shutil.which(KINDS[kind][0]):
        pytest.skip(f"no {kind} here")
    image, point = folder / "image", folder / "source"
    with open(image, "wb") as f:
        f.truncate(512 << 20)
    subprocess.run([*KINDS[kind], image], check=True, capture_output=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-l", point], check=True)


def assert_faithful(pxarfs, repo, tree):
    """Backed up, shown, and not read again."""
    backup = Group(pxarfs, repo, tree)
    backup()
    backup.assert_shows()
    out = backup()
    assert out["reading"]["read-files"] == out["reading"]["read-bytes"] == 0
    assert out["reading"]["unchanged-files"] > 10
    backup.assert_shows()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_disks_of_linux(pxarfs, folder, repo, kind):
    with on_loop(kind, folder) as point:
        assert_faithful(pxarfs, repo, make_tree(point / "tree", files=60))


def test_fat(pxarfs, folder, repo):
    """No owners, links, holes or attributes; times of two seconds."""
    with on_loop("vfat", folder) as point:
        rng = random.Random(1)
        for i in range(30):
            (point / f"Name {i}").write_bytes(rng.randbytes(rng.choice([0, 1, 5000, 200_000])))
        (point / "d").mkdir()
        (point / "d" / "last").write_bytes(b"x")
        assert_faithful(pxarfs, repo, point)


def test_tmpfs(pxarfs, folder, repo):
    point = folder / "source"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", point], check=True)
    assert_faithful(pxarfs, repo, make_tree(point / "tree", files=60))


def test_fuse(pxarfs, folder, repo):
    """A backup of what a mount of a backup shows."""
    first = Group(pxarfs, repo, make_tree(folder / "tree", files=60))
    first()
    pxarfs("init", folder / "second")
    with pxarfs.mount("host/test", "root.pxar", repository=repo, name="source") as mount:
        assert_faithful(pxarfs, folder / "second", mount.path)


def test_subvolumes_of_btrfs_are_other_file_systems(pxarfs, folder, repo):
    with on_loop("btrfs", folder) as point:
        (point / "file").write_bytes(b"one")
        if subprocess.run(["btrfs", "-q", "subvolume", "create", point / "sub"],
                          capture_output=True, check=False).returncode:
            pytest.skip("no subvolumes here")
        (point / "sub" / "file").write_bytes(b"two")
        backup = Group(pxarfs, repo, point)
        assert "sub: mount point" in backup()["said"]
        backup("--all-file-systems")
        backup.assert_shows()


def test_ten_thousand_names_of_one_file(pxarfs, folder, repo):
    tree = folder / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "first").write_bytes(os.urandom(100_000))
    for i in range(10_000):
        os.link(tree / "d" / "first", tree / f"name-{i:05}")
    backup = Group(pxarfs, repo, tree)
    out = backup()
    assert out["regular-files"] == 1
    assert out["reading"]["read-bytes"] == 100_000
    out = backup()
    assert out["reading"]["read-bytes"] == 0
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        found = {os.stat(mount.path / f"name-{i:05}").st_ino for i in range(10_000)}
        assert found == {os.stat(mount.path / "d" / "first").st_ino}
        assert rows.sha256(mount.path / "name-09999") == rows.sha256(tree / "d" / "first")
