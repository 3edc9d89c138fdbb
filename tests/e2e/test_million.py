# SPDX-License-Identifier: Apache-2.0
"""A million entries: opening and listing cost what is looked at, not what is there.

The format keeps a member's name at its place in the stream, so a listing fetches the chunks of
its members' heads (and its table's), whatever lies below them.
"""

import os
import subprocess

import pytest

from test_mount_life import statistics

TOPS, FOLDERS, FILES = 5, 200, 1000


@pytest.fixture
def million(pxarfs, folder):
    """A snapshot of 5 times 200 folders with 1,000 empty files each."""
    tree = folder / "tree"
    tree.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g,nr_inodes=2m", "tmpfs", tree], check=True)
    for d in range(TOPS * FOLDERS):
        here = os.path.join(tree, f"top-{d // FOLDERS}", f"folder-{d % FOLDERS:04}")
        os.makedirs(here)
        fd = os.open(here, os.O_RDONLY)
        for f in range(FILES):
            os.close(os.open(f"a file of no content {f:04}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
    repo = folder / "repo"
    pxarfs("init", repo)
    pxarfs("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "million",
           "--entries-max", 2_000_000)
    subprocess.run(["umount", tree], check=True)
    return repo


@pytest.mark.slow
def test_first_listing_fetches_a_few_chunks(pxarfs, million):
    with pxarfs.mount("host/million", "root.pxar", repository=million) as mount:
        assert statistics(mount)["meta_chunks"] == 0
        assert sorted(os.listdir(mount.path)) == [f"top-{i}" for i in range(TOPS)]
        assert 1 <= statistics(mount)["meta_chunks"] <= 8
        assert statistics(mount)["payload_chunks"] == 0
        # below the root the pass that counts hard links begins, which reads the whole stream
        assert len(os.listdir(mount.path / "top-2/folder-0100")) == FILES
        names = sum(len(files) for _, _, files in os.walk(mount.path))
        assert names == TOPS * FOLDERS * FILES
