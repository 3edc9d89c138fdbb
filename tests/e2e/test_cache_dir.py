# SPDX-License-Identifier: Apache-2.0
"""-o cache_dir=: chunks on disk, believed only when proved, and never in the way."""

import os
import shutil
import stat
import subprocess

import pytest
import rows

from conftest import GOLDEN
from test_mount_life import statistics, wait_for

SNAPSHOT = ("host/split/2027-01-15T08:00:02Z", "root.pxar")
ENCRYPTED_MAGICS = (bytes([123, 103, 133, 190, 34, 45, 76, 240]),
                    bytes([230, 89, 27, 191, 11, 191, 216, 11]))


def chunks(cache):
    return [p for p in cache.glob("??/*") if p.is_file()]


def read_all(mount):
    """Everything, and hold it against what the golden data says."""
    assert rows.differences(rows.load(GOLDEN / "tree1.jsonl"), rows.observe(mount.path)) == []


def forget_content(mount):
    """Have the kernel ask for the content of files again."""
    for folder, _, names in os.walk(mount.path):
        for path in (os.path.join(folder, name) for name in names):
            if stat.S_ISREG(os.lstat(path).st_mode):
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def test_chunks_come_from_disk_the_second_time(pxarfs, folder, store):
    cache = folder / "chunks"
    with pxarfs.mount(*SNAPSHOT, repository=store, options=f"cache_dir={cache}") as mount:
        read_all(mount)
        first = statistics(mount)
        assert first["disk_hits"] == 0
    # what was being written at the end of the mount has been written
    assert os.stat(cache).st_mode & 0o7777 == 0o700
    assert len(chunks(cache)) == first["disk_misses"] > 50
    for path in chunks(cache):
        stored = store / ".chunks" / path.name[:4] / path.name
        assert path.read_bytes() == stored.read_bytes()
    for path in chunks(cache):
        (store / ".chunks" / path.name[:4] / path.name).unlink()
    with pxarfs.mount(*SNAPSHOT, repository=store, options=f"cache_dir={cache}") as mount:
        read_all(mount)
        second = statistics(mount)
        assert second["disk_misses"] == second["disk_damaged"] == 0


def test_encrypted_chunks_stay_encrypted(pxarfs, folder, store):
    cache = folder / "chunks"
    key = GOLDEN / "keys" / "none.json"
    options = f"cache_dir={cache},keyfile={key}"
    with pxarfs.mount("host/enc", "root.pxar", repository=store, options=options) as mount:
        want = rows.sub(rows.load(GOLDEN / "tree1.jsonl"), "small")
        assert rows.differences(want, rows.observe(mount.path)) == []
    assert chunks(cache)
    for path in chunks(cache):
        assert path.read_bytes()[:8] in ENCRYPTED_MAGICS


def test_damage_and_loss_cost_nothing_but_time(pxarfs, folder, store):
    cache = folder / "chunks"
    options = f"cache_dir={cache},cache=1M"
    with pxarfs.mount(*SNAPSHOT, repository=store, options=options) as mount:
        read_all(mount)
    for i, path in enumerate(chunks(cache)):
        if i % 4 == 0:
            os.truncate(path, 0)
        elif i % 4 == 1:
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        elif i % 4 == 2:
            path.unlink()
    (cache / "usage").write_text("nonsense")
    with pxarfs.mount(*SNAPSHOT, repository=store, options=options) as mount:
        read_all(mount)
        assert statistics(mount)["disk_damaged"] > 10
        while cache.exists():  # under its feet; it may be writing
            shutil.rmtree(cache, ignore_errors=True)
        forget_content(mount)
        read_all(mount)
        assert "warning:" not in mount.log() and statistics(mount)["fetch_errors"] == 0
    assert chunks(cache)


def test_killed_mount_leaves_a_cache_that_works(pxarfs, folder, store):
    cache = folder / "chunks"
    options = f"cache_dir={cache}"
    mount = pxarfs.mount(*SNAPSHOT, repository=store, options=options)
    reader = subprocess.Popen(["cp", "-r", mount.path, folder / "copy"], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(chunks(cache)) > 10)
    mount.process.kill()
    mount.process.wait()
    reader.wait()
    subprocess.run(["umount", "-l", mount.path], check=True)
    with pxarfs.mount(*SNAPSHOT, repository=store, options=options, name="again") as again:
        read_all(again)
        assert statistics(again)["disk_hits"] >= 10


def test_bound_holds_for_several_mounts_at_once(pxarfs, folder, store):
    cache = folder / "chunks"
    options = f"cache_dir={cache},cache_dir_size=2M,cache=1M"
    mounts = [pxarfs.mount(*SNAPSHOT, repository=store, options=options, name=f"mnt{i}")
              for i in range(3)]
    readers = [subprocess.Popen(f"tar cf - -C {m.path} . | cat >/dev/null", shell=True)
               for m in mounts]
    for p in readers:
        assert p.wait(60) == 0
    with mounts[0], mounts[1], mounts[2]:
        for mount in mounts:
            assert "warning:" not in mount.log()
        sizes = [-(-p.stat().st_size // 4096) * 4096 for p in chunks(cache)]
        # what the three were writing at one moment may be over it
        assert (1 << 19) < sum(sizes) <= (2 << 20) + 3 * (1 << 20)
        for mount in mounts:
            read_all(mount)


def test_full_disk_is_told_once_and_hurts_nobody(pxarfs, folder, store):
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M,mode=700", "none", disk], check=True)
    options = f"cache_dir={disk}/chunks,cache=1M"
    with pxarfs.mount(*SNAPSHOT, repository=store, options=options) as mount:
        read_all(mount)
        wait_for(lambda: "No space left on device" in mount.log())
        now = statistics(mount)
        assert 0 < mount.log().count("cannot keep chunks") <= now["disk_failures"]
        assert now["disk_stored"] > 0
    assert chunks(disk / "chunks") and not list((disk / "chunks").glob("*/*.tmp_*"))
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("options, words", [
    ("cache_dir_size=1G", "needs 'cache_dir'"),
    ("cache_dir=", "not a path"),
    ("cache_dir=/tmp/x,cache_dir_size=1K", "too small"),
    ("cache_dir=/tmp/x,cache_dir_size=many", "is not a size"),
])
def test_bad_words_are_refused(pxarfs, folder, options, words):
    assert words in pxarfs("mount", "-o", options, "host/x", "root.pxar", folder, status=2).stderr


def test_unfit_folders_are_refused(pxarfs, folder, store):
    point = folder / "mnt"
    point.mkdir()
    shared = folder / "shared"
    shared.mkdir(mode=0o755)
    foreign = folder / "foreign"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, 1000, 1000)
    for path, words in [(shared, "0755"), (foreign, "belongs to user 1000"),
                        (folder / "none" / "x", "No such file"), ("/dev/null", "Not a directory")]:
        done = pxarfs("mount", "-r", store, "-o", f"cache_dir={path}", *SNAPSHOT, point, status=1)
        assert words in done.stderr and "cache_dir" in done.stderr, done.stderr
        assert not os.path.ismount(point)
    done = pxarfs("mount", "-o", f"cache_dir={folder}/c", GOLDEN / "files" / "split.mpxar", point,
                  status=2)
    assert "cache_dir" in done.stderr and not (folder / "c").exists()


def test_relative_folder_is_the_callers(pxarfs, folder, store):
    (folder / "mnt").mkdir()
    pxarfs("mount", "-r", store, "-o", "cache_dir=chunks", *SNAPSHOT, "mnt", cwd=folder)
    assert os.listdir(folder / "mnt")
    wait_for(lambda: chunks(folder / "chunks"))
