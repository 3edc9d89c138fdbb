# SPDX-License-Identifier: Apache-2.0
"""Files pushed into the page cache before they are asked for: the same content, fewer requests."""

import errno
import os
import pathlib
import random
import signal
import subprocess
import time

import datastore
import handmade
import pytest

from conftest import SOON, is_sanitized
from pbs import faults
from test_mount_life import Store, statistics, wait_for
from test_repo_mount import served  # noqa: F401, a fixture

TIME = "1970-01-01T00:16:40Z"


def content_of(rng, i):
    kind = i % 9
    if kind == 3:
        return b""
    if kind == 5:
        return b"\0" * rng.randrange(1, 30_000)
    if kind == 7 and i % 45 == 7:
        return rng.randbytes(rng.randrange(60_000, 300_000))
    return rng.randbytes(rng.randrange(1, 9000))


@pytest.fixture
def tree(folder):
    """Files of all sizes, in folders between files; holes, hard links, empty ones."""
    top = folder / "tree"
    rng = random.Random(11)
    for part in ("", "a", "m/deep", "m/deep/er", "z"):
        (top / part).mkdir(parents=True, exist_ok=True)
        for i in range(150):
            (top / part / f"f{i:03}").write_bytes(content_of(rng, i))
        os.link(top / part / "f000", top / part / "f070-link")
        os.symlink("f000", top / part / "f071-symlink")
    with open(top / "m/sparse", "wb") as f:
        f.truncate(200_000)
        f.seek(100_000)
        f.write(b"middle")
    with open(top / "m/sparse-small", "wb") as f:
        f.truncate(50_001)
    return top


@pytest.fixture
def repo(pxarfs, folder, tree):
    path = folder / "repo"
    pxarfs("init", path)
    pxarfs("backup", "-r", path, f"root.pxar:{tree}", "--backup-id", "test", "--chunk-size", 64,
           "--backup-time", 1000)
    return path


def read_in_order(top):
    """{path: content or error number}, folder by folder, in the order of the listing."""
    out = {}

    def read(folder):
        for e in list(os.scandir(folder)):
            if e.is_dir(follow_symlinks=False):
                read(e.path)
            elif e.is_file(follow_symlinks=False):
                try:
                    with open(e.path, "rb") as f:
                        out[os.path.relpath(e.path, top)] = f.read()
                except OSError as error:
                    out[os.path.relpath(e.path, top)] = error.errno

    read(top)
    return out


def files_in_order(folder):
    """Those of a size to be pushed."""
    return [p for p in sorted(folder.iterdir())
            if p.is_file() and not p.is_symlink() and 0 < p.stat().st_size <= 65536]


def begin_reading(mount, files, pushed=20):
    """Read until files are pushed, and wait until that many were; how often it took a READ."""
    before = statistics(mount)["pushed"]
    for path in files[:3]:
        path.read_bytes()
    wait_for(lambda: statistics(mount)["pushed"] >= before + pushed)
    return statistics(mount)["read"]


def test_files_read_in_order_come_before_they_are_asked_for(pxarfs, tree, repo):
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        files = files_in_order(mount.path / "z")
        reads = begin_reading(mount, files)
        assert reads <= 3
        # nothing in these is asked for, however late the pusher was or is
        for path in files[:12]:
            assert path.read_bytes() == (tree / "z" / path.name).read_bytes()
        assert statistics(mount)["read"] == reads


@pytest.mark.parametrize("option", ["push=off", "push=1", "push=7", "push=1024",
                                    "push=65536,cache=1M,readahead=0"])
def test_content_is_the_same_pushed_or_not(pxarfs, tree, repo, option):
    expected = read_in_order(tree)
    with pxarfs.mount("host/test", "root.pxar", repository=repo, options=option) as mount:
        assert read_in_order(mount.path) == expected
        after = statistics(mount)
        if option == "push=off":
            assert after["pushed"] == 0
        elif option != "push=1":
            assert after["pushed"] > 0
        # again, from the page cache, and as stat says it is
        assert read_in_order(mount.path) == expected
        for path, content in expected.items():
            assert (mount.path / path).stat().st_size == len(content)
        assert mount.log().count("\n") == 1  # the statistics


def test_a_single_stream_is_pushed_too(pxarfs, folder):
    rng = random.Random(4)
    contents = {b"f%03d" % i: content_of(rng, i) for i in range(200)}
    archive = folder / "single.pxar"
    archive.write_bytes(handmade.folder([(name, handmade.file(content))
                                         for name, content in contents.items()]))
    with pxarfs.mount(archive) as mount:
        assert begin_reading(mount, files_in_order(mount.path)) <= 3
        assert read_in_order(mount.path) == {name.decode(): c for name, c in contents.items()}


def test_only_files_that_the_kernel_knows_are_pushed(pxarfs, tree, repo):
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        for i in (0, 1, 2, 4):  # 3 is empty
            assert (mount.path / "z" / f"f{i:03}").read_bytes() == \
                (tree / "z" / f"f{i:03}").read_bytes()
        wait_for(lambda: statistics(mount)["push_refused"] >= 8)
        # nobody has listed the folder: the kernel knows what was opened
        assert statistics(mount)["pushed"] <= 4


def test_random_reads_push_nothing(pxarfs, tree, repo):
    paths = [p for p in read_in_order(tree)]
    random.Random(5).shuffle(paths)
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        subprocess.run(["find", mount.path, "-size", "+1000000"], check=True)
        for path in paths[:40]:
            (mount.path / path).read_bytes()
        assert statistics(mount)["pushed"] < 200


def test_a_damaged_chunk_is_told_to_who_reads_its_files_only(pxarfs, folder, tree, repo):
    index = datastore.index(repo / "host/test" / TIME / "root.pxar.pld.didx")
    expected = read_in_order(tree)
    begin = index[len(index) // 2 - 1][0]
    end, digest = index[len(index) // 2]
    chunk = datastore.chunk_path(repo, digest)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(chunk, 0o644)
    chunk.write_bytes(data)
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        got = read_in_order(mount.path)
        log = mount.log()
    bad = {path for path in expected if got[path] != expected[path]}
    assert {got[path] for path in bad} == {errno.EIO}
    assert 1 <= len(bad) <= (end - begin) // 1000 + 3
    # one line for each READ that failed
    assert 1 <= len([line for line in log.splitlines() if digest in line]) <= 2 * len(bad)


def test_a_damaged_chunk_ends_a_push_without_a_word(pxarfs, folder):
    size, rng = 8192, random.Random(12)
    (folder / "tree").mkdir()
    for i in range(100):
        (folder / "tree" / f"f{i:03}").write_bytes(rng.randbytes(size))
    repo = folder / "repo"
    pxarfs("init", repo)
    pxarfs("backup", "-r", repo, f"root.pxar:{folder}/tree", "--backup-id", "test",
           "--chunk-size", 64, "--backup-time", 1000)
    index = datastore.index(repo / "host/test" / TIME / "root.pxar.pld.didx")
    digest = next(digest for (begin, _), (_, digest) in zip(index, index[1:])
                  if begin > 6 * (size + 16))
    chunk = datastore.chunk_path(repo, digest)
    os.chmod(chunk, 0o644)
    chunk.write_bytes(b"")
    with pxarfs.mount("host/test", "root.pxar", repository=repo, options="readahead=0") as mount:
        files = files_in_order(mount.path)
        assert begin_reading(mount, files, pushed=1) <= 3
        wait_for(lambda: statistics(mount)["fetch_errors"] > 0)
        assert digest not in mount.log()
        errors = 0
        for path in files:
            try:
                path.read_bytes()
            except OSError as e:
                assert e.errno == errno.EIO
                errors += 1
        assert errors >= 1 and digest in mount.log()


def resident_mib(mount):
    with open(f"/proc/{mount.process.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:")) / 1024


def cached_bytes(mount):
    now = statistics(mount)
    return now["cache_bytes"] + now["folder_bytes"]


def test_memory_is_bounded_by_the_cache_when_all_was_read(pxarfs, folder):
    top = folder / "tree"
    rng = random.Random(6)
    for d in range(20):
        (top / f"d{d}").mkdir(parents=True)
        for i in range(400):
            (top / f"d{d}" / f"f{i}").write_bytes(rng.randbytes(10_000))
    repo = folder / "repo"
    pxarfs("init", repo)
    pxarfs("backup", "-r", repo, f"root.pxar:{top}", "--backup-id", "test")
    with pxarfs.mount("host/test", "root.pxar", repository=repo, options="cache=32M") as mount:
        subprocess.run(f"tar -cf - -C {mount.path} . | cat >/dev/null", shell=True, check=True)
        after = statistics(mount)
        assert after["pushed"] > 0
        wait_for(lambda: cached_bytes(mount) <= 32 << 20)
        if not is_sanitized():
            wait_for(lambda: resident_mib(mount) <= 32 + 25)


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.4])
def test_a_signal_in_the_midst_of_pushing_ends_it_at_once(pxarfs, tree, repo, delay):
    mount = pxarfs.mount("host/test", "root.pxar", repository=repo)
    reader = subprocess.Popen(f"while tar -cf - -C {mount.path} . | cat >/dev/null; do "
                              f"[ -e {mount.path}/m ] || exit; done",
                              shell=True, stderr=subprocess.DEVNULL)
    time.sleep(delay)
    mount.process.send_signal(signal.SIGTERM)
    assert mount.process.wait(SOON) == 0
    assert not os.path.ismount(mount.path)
    reader.wait(SOON)


class SmallFiles(Store):
    """A store that can hang, of an archive of many small files."""

    def __init__(self, pxarfs, folder):
        rng = random.Random(8)
        self.contents = [rng.randbytes(8000) for _ in range(1500)]
        inner = handmade.folder([(b"f%04d" % i, handmade.file(c))
                                 for i, c in enumerate(self.contents)])
        outer = folder / "outer.pxar"
        outer.write_bytes(handmade.folder([(b"inner.pxar", handmade.file(inner))]))
        self.pxarfs = pxarfs
        self.mount = pxarfs.mount(outer, name="outer", options="readahead=0")
        self.path = self.mount.path / "inner.pxar"


@pytest.fixture
def hanging(pxarfs, folder):
    store = SmallFiles(pxarfs, folder)
    yield store
    store.go_on()


@pytest.mark.alone  # as those of test_mount_life
def test_a_pusher_that_waits_for_a_dead_store_holds_nobody_up(pxarfs, hanging):
    # a cache that does not hold what the count of hard links reads
    mount = pxarfs.mount(hanging.path, options="readahead=0,cache=1M")
    os.listdir(mount.path)
    hanging.hang()
    readers = [subprocess.Popen(["cat", *(mount.path / f"f{i:04}" for i in range(k, k + 300))],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for k in (0, 400, 800, 1100)]
    wait_for(lambda: statistics(mount)["waiting"] >= 4)
    subprocess.run(["df", mount.path], check=True, capture_output=True, timeout=SOON)
    hanging.go_on()
    for p in readers:
        assert p.wait(SOON) == 0
    hanging.hang()
    reader = subprocess.Popen(["cat", *(mount.path / f"f{i:04}" for i in range(1450, 1500))],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    mount.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not os.path.ismount(mount.path), SOON)
    reader.wait(SOON)
    hanging.go_on()
    assert mount.process.wait(SOON) == 0


@pytest.mark.parametrize("how", ["umount", "term"])
def test_a_pusher_that_waits_for_a_dead_store_does_not_delay_the_end(served, folder, how):
    tree, rng = folder / "tree", random.Random(13)
    tree.mkdir()
    for i in range(100):
        (tree / f"f{i:03}").write_bytes(rng.randbytes(8000))
    served("init", folder / "store")
    served("backup", "-r", folder / "store", f"root.pxar:{tree}", "--backup-id", "test",
           "--chunk-size", 64)
    server = served.server(str(folder / "store"))
    mount = served.mount("host/test", "root.pxar", repository=folder / "store",
                         options="readahead=0,timeout=600")
    files = files_in_order(mount.path)
    files[0].read_bytes()
    rule = server.rule("GET /chunk", faults.hold(), nth=2, times=0)
    begin_reading(mount, files, pushed=1)
    # nobody else asks for it
    assert rule.hit.wait(SOON) and statistics(mount)["waiting"] == 0
    if how == "term":
        mount.process.send_signal(signal.SIGTERM)
    else:
        subprocess.run(["umount", mount.path], check=True)
    assert mount.process.wait(SOON) == 0
    assert not os.path.ismount(mount.path) and not rule.release.is_set()


def pusher_state(mount):
    for task in pathlib.Path(f"/proc/{mount.process.pid}/task").iterdir():
        if (task / "comm").read_text(encoding="ascii") == "push\n":
            return (task / "stat").read_text(encoding="ascii").split()[2]


def test_a_push_waits_for_no_read_that_waits_for_the_store(served, folder):
    """Or who unmounts would wait for both.  The store of a file waits for the READ of it; so that one
    must find all it needs in memory: here it would not, as a large folder was listed meanwhile."""
    tree, rng, size = folder / "tree", random.Random(14), 8000
    for name, count in (("a", 100), ("big", 500)):
        (tree / name).mkdir(parents=True)
        for i in range(count):
            (tree / name / f"f{i:03}").write_bytes(rng.randbytes(size) if name == "a" else b"")
            if name == "big":
                os.setxattr(tree / name / f"f{i:03}", "user.x", rng.randbytes(3500))
    served("init", folder / "store")
    served("backup", "-r", folder / "store", f"root.pxar:{tree}", "--backup-id", "test",
           "--chunk-size", 64, "--backup-time", 1000)
    index = datastore.index(folder / "store/host/test" / TIME / "root.ppxar.didx")
    begin, digest = index[0][0], index[1][1]  # of the second chunk
    server = served.server(str(folder / "store"))
    mount = served.mount("host/test", "root.pxar", repository=folder / "store",
                         options="readahead=0,timeout=600,cache=1M")
    files = files_in_order(mount.path / "a")
    files[0].read_bytes()
    wait_for(lambda: files[0].stat().st_nlink == 1)  # counted: nobody else reads the large folder
    content = server.rule("GET /chunk", faults.hold(), matching=lambda r: digest in str(r.query))
    files[1].read_bytes()
    assert content.hit.wait(SOON)  # the pusher waits
    assert len(os.listdir(mount.path / "big")) == 500
    head = server.rule("GET /chunk", faults.hold(), times=0)
    reader = subprocess.Popen(["cat", files[(begin - 16) // (size + 16)]], stdout=subprocess.DEVNULL)
    wait_for(lambda: statistics(mount)["waiting"] == 1)
    content.release.set()
    # he has what he waits for, or the pusher waits for him, in the kernel
    wait_for(lambda: reader.poll() == 0 or pusher_state(mount) == "D")
    reader.kill()
    reader.wait(SOON)
    subprocess.run(["umount", mount.path], check=True, timeout=SOON)
    assert mount.process.wait(SOON) == 0
    assert not head.release.is_set()
