# SPDX-License-Identifier: Apache-2.0
"""A store that is slow, fails now and then, or counts; or a mount whose process is gone.

PXARFS_CHAOS_SECONDS: for how long the readers of a failing store go on (else some hundred reads).
"""

import errno
import os
import random
import subprocess
import sys

import pytest
import rows

from conftest import BUILD, SOON, mounts_below
from test_mount_life import SPLIT, statistics, wait_for
from test_repo_mount import make_groups

CHAOS_SECONDS = float(os.environ.get("PXARFS_CHAOS_SECONDS", "0"))

# Reads of random parts, compared with the source, past every cache; prints (errors, reads).
READER = """
import errno, os, random, sys, time
mount, source, seed, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
rng = random.Random(seed)
names = sorted(os.listdir(source))
end, errors, reads = time.monotonic() + seconds, 0, 0
while reads < 60 or time.monotonic() < end:
    name = rng.choice(names)
    size = os.path.getsize(source + "/" + name)
    at, length = rng.randrange(size), rng.choice((1, 4096, 70_000, 700_000))
    with open(source + "/" + name, "rb") as f:
        want = os.pread(f.fileno(), length, at)
    reads += 1
    try:
        fd = os.open(mount + "/" + name, os.O_RDONLY)
    except OSError as e:
        assert e.errno == errno.EIO, e
        errors += 1
        continue
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        got = os.pread(fd, length, at)
        # the kernel may give what it has of a range whose end it could not get
        assert got == want or (got and want.startswith(got)), (name, at, length, len(got))
    except OSError as e:
        assert e.errno == errno.EIO, e
        errors += 1
    os.close(fd)
print(errors, reads)
"""


class BadStore:
    """A datastore through storefs."""

    def __init__(self, store, point):
        self.path = point
        point.mkdir()
        self.process = subprocess.Popen([BUILD / "tests/support/storefs", store, point], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        wait_for(lambda: mounts_below(point))

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"

    def lists(self):
        """How many folders were listed so far."""
        self.process.stdin.write("lists 0\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self):
        subprocess.run(["umount", "-l", self.path], check=False)
        self.process.stdin.close()
        self.process.wait(SOON)


@pytest.fixture
def bad_store(folder):
    stores = []

    def make(store):
        stores.append(BadStore(store, folder / "bad"))
        return stores[-1]

    yield make
    for store in stores:
        store.end()


@pytest.fixture
def backed_up(pxarfs, folder):
    def make(tree):
        pxarfs("init", folder / "repo")
        pxarfs("backup", "-r", folder / "repo", f"root.pxar:{tree}", "--backup-id", "test",
               "--chunk-size", 64)
        return folder / "repo"

    return make


def test_readers_of_a_failing_store_get_what_is_right_or_an_error(pxarfs, folder, backed_up,
                                                                  bad_store):
    tree, rng = folder / "tree", random.Random(21)
    tree.mkdir()
    for i in range(60):
        (tree / f"file{i:02}").write_bytes(rng.randbytes(rng.choice((100, 5000, 60_000, 900_000))))
    store = bad_store(backed_up(tree))
    with pxarfs.mount("host/test", "root.pxar", repository=store.path,
                      options="cache=4M,readahead=1M") as mount:
        store.tell("fail 7")
        readers = [subprocess.Popen([sys.executable, "-c", READER, mount.path, tree, str(seed),
                                     str(CHAOS_SECONDS)], stdout=subprocess.PIPE, text=True)
                   for seed in range(16)]
        results = [p.communicate(timeout=CHAOS_SECONDS + 300)[0].split() for p in readers]
        assert [p.returncode for p in readers] == [0] * 16
        errors, reads = (sum(int(r[i]) for r in results) for i in (0, 1))
        assert 0 < errors < reads
        assert statistics(mount)["fetch_errors"] > 0
        # nothing of it stays
        store.tell("fail 0")
        for path in tree.iterdir():
            assert (mount.path / path.name).read_bytes() == path.read_bytes()
        after = statistics(mount)
        assert after["waiting"] == 0 and after["timeouts"] == 0


def test_tar_keeps_links_at_the_very_end_that_are_found_late(pxarfs, folder, backed_up, bad_store):
    tree, point, out = folder / "tree", folder / "mnt", folder / "out"
    for name in ("a", "m", "zz"):
        (tree / name).mkdir(parents=True)
    for i in range(1500):
        (tree / "m" / f"some longer name of no interest {i}").write_bytes(b"")
    for i in range(20):
        (tree / "a" / f"linked{i}").write_bytes(b"linked %d" % i)
        os.link(tree / "a" / f"linked{i}", tree / "zz" / f"last{i}")
    store = bad_store(backed_up(tree))
    store.tell("delay 400")  # longer than an answer waits for the count
    point.mkdir()
    out.mkdir()
    subprocess.run(f"{pxarfs.program} mount -r {store.path} host/test root.pxar {point} && "
                   f"tar cf - -C {point} . | tar xf - -C {out}", shell=True, check=True)
    want, have = rows.observe(tree), rows.observe(out)
    assert len(have["zz/last3"]["links"]) == 2
    assert {p: r.get("links") for p, r in want.items()} == {p: r.get("links") for p, r in have.items()}
    store.tell("delay 0")
    subprocess.run(["umount", point], check=True)


@pytest.mark.parametrize("count", [200, 2000])
def test_each_group_of_a_directory_is_looked_into_once(pxarfs, folder, bad_store, count):
    pxarfs("init", folder / "store")
    make_groups(folder / "store", count)
    store = bad_store(folder / "store")
    with pxarfs.mount(repository=store.path, options="refresh=600") as m:
        for _ in range(2):
            assert os.listdir(m.path) == ["ct"]
            assert len(os.listdir(m.path / "ct")) == count
        assert count <= store.lists() <= count + 10


def test_a_crash_leaves_not_connected_and_can_be_mounted_again(pxarfs):
    mount = pxarfs.mount(SPLIT)
    assert "links" in os.listdir(mount.path)
    fd = os.open(mount.path, os.O_RDONLY)
    mount.process.kill()
    mount.process.wait(SOON)
    for ask in (lambda: os.stat(mount.path / "not looked up yet"), lambda: os.statvfs(fd)):
        with pytest.raises(OSError) as e:
            ask()
        assert e.value.errno == errno.ENOTCONN
    os.close(fd)
    # The new one takes the place of what is left, and does not lie on top of it.
    assert "was taken away" in pxarfs("mount", SPLIT, mount.path).stderr
    assert "links" in os.listdir(mount.path) and len(mounts_below(mount.path)) == 1
    subprocess.run(["umount", mount.path], check=True)
    assert not mounts_below(mount.path)
