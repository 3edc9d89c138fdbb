# SPDX-License-Identifier: Apache-2.0
"""Backups that read only what has changed."""

import fcntl
import itertools
import json
import os
import random
import shutil
import struct
import subprocess
import time

import datastore
import handmade
import pytest
import rows
import treecopy

from conftest import GOLDEN
from opens import Opens
from test_backup import make_tree

MIB = 1 << 20
ROUNDS = int(os.environ.get("PXARFS_SOAK_ROUNDS", "20"))
SEED = int(os.environ.get("PXARFS_SOAK_SEED", "1"))


class Group:
    """Backups of one tree, each a second after the last."""

    def __init__(self, pxarfs, repo, tree, *args, limit=10):
        self.pxarfs, self.repo, self.tree, self.args = pxarfs, repo, tree, args
        self.limit = limit
        self.time = 1000

    def __call__(self, *args, status=0, **kwargs):
        """Make one; returns its summary, with all that was said."""
        self.time += 1
        done = self.pxarfs("backup", "-r", self.repo, f"root.pxar:{self.tree}", "--backup-id",
                           "test", "--backup-time", self.time, "--output-format", "json",
                           *self.args, *args, status=status, **kwargs)
        out = json.loads(done.stdout)
        out["said"] = done.stderr
        out["payload"], out["meta"] = (out["files"] if len(out["files"]) == 2 else (None, None))
        if out["reading"]["compared"]:
            assert_counted(out, self.limit)
        return out

    def assert_shows(self, want=None):
        want = want or rows.observe(self.tree)
        with self.pxarfs.mount("host/test", "root.pxar", repository=self.repo) as mount:
            assert rows.differences(want, rows.observe(mount.path)) == []


def assert_counted(out, limit=10):
    """Numbers that must agree with each other whatever happened."""
    r, payload = out["reading"], out["payload"]
    assert r["read-files"] + r["unchanged-files"] == out["regular-files"]
    assert r["padding-bytes"] <= limit / 100 * payload["bytes"] + 32
    headers = 16 * r["unchanged-files"]
    markers = r["injected-bytes"] - r["unchanged-bytes"] - headers - r["padding-bytes"]
    assert markers in (0, 16, 32)
    assert payload["bytes"] == (r["injected-bytes"] + r["read-bytes"] + 16 * r["read-files"]
                                + 32 - markers)
    assert r["injected-bytes"] <= payload["reused-bytes"]


def indexes(repo, seconds):
    """The two indexes of a snapshot, as lists of (end, digest)."""
    (found,) = [p for p in (repo / "host" / "test").iterdir() if p.name.endswith(f"{seconds:02}Z")]
    return [datastore.index(p) for p in sorted(found.glob("*.didx"))]


# --- nothing has changed ---


@pytest.mark.both_backends
@pytest.mark.parametrize("args", [[], ["--chunk-size", 64]], ids=["default", "small-chunks"])
def test_unchanged_tree_is_not_opened_and_gives_the_same_chunks(pxarfs, folder, repo, args):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree, *args)
    first = backup()
    assert not first["reading"]["compared"]
    for _ in range(2):
        with Opens(tree) as opens:
            out = backup()
        assert opens.files == []
        assert out["reading"]["opened-files"] == out["reading"]["read-bytes"] == 0
        assert out["reading"]["unchanged-files"] == out["regular-files"]
        assert out["reading"]["padding-bytes"] == 0
        assert out["payload"]["new-chunks"] == out["meta"]["new-chunks"] == 0
        assert out["hard-links"] == 2
    assert indexes(repo, 41) == indexes(repo, 42) == indexes(repo, 43)
    backup.assert_shows()


@pytest.mark.slow
def test_not_one_of_very_many_small_files_is_opened(pxarfs, folder, repo):
    """More of them in a chunk than are decided on at once."""
    (folder / "tree/many").mkdir(parents=True)
    for i in range(50_000):
        (folder / f"tree/many/{i}").write_bytes(b"x" * (i % 3 * 20))
    backup = Group(pxarfs, repo, folder / "tree")
    backup()
    reading = backup()["reading"]
    assert reading["opened-files"] == reading["read-files"] == reading["padding-bytes"] == 0
    assert reading["unchanged-files"] == 50_000


def test_the_account_of_opened_files_is_to_be_trusted(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    with Opens(tree) as opens:
        Group(pxarfs, repo, tree)()
    assert len(set(opens.files)) > 300


@pytest.mark.both_backends
def test_metadata_is_stored_anew_without_opening_anything(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    backup()
    before = indexes(repo, 41)
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.chown(path, 77, 88)
            os.chmod(path, 0o640)
            os.setxattr(path, "user.new", os.fsencode(path.name))
    subprocess.run(["chattr", "+A", *tree.glob("d01/f*")], check=True)
    subprocess.run(["setfacl", "-m", "u:99:r", *tree.glob("d02/f*")], check=True)
    with Opens(tree) as opens:
        out = backup()
    assert opens.files == []
    assert out["payload"]["new-chunks"] == 0
    assert out["meta"]["new-chunks"] > 0
    assert indexes(repo, 42)[1] == before[1], "the payload"
    backup.assert_shows()


# --- something has ---


def touch(path, data=None):
    """Change a file so that it shows."""
    st = os.lstat(path)
    if data is not None:
        path.write_bytes(data)
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns + 10**9))


@pytest.mark.both_backends
def test_all_kinds_of_change_are_found(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree, "--chunk-size", 64)
    backup()
    touch(tree / "d01/f0013", b"other content")
    touch(tree / "d01/f0025")
    (tree / "d02/f0002").unlink()
    (tree / "d02/new").write_bytes(b"new")
    (tree / "d04/f0004").rename(tree / "d04/renamed")
    shutil.move(tree / "d05", tree / "d02/moved")
    os.link(tree / "d07/suid", tree / "a-first-name")
    (tree / "big").unlink()  # d00/hard and zz-hard are left
    (tree / "d08/f0008").unlink()
    (tree / "d08/f0008").mkdir()
    (tree / "d08/f0008/inside").write_bytes(b"x")
    shutil.rmtree(tree / "d09")
    (tree / "d09").write_bytes(b"a file now")
    with Opens(tree) as opens:
        out = backup()
    backup.assert_shows()
    touched = {os.fsencode(tree / p) for p in ("d01/f0013", "d01/f0025", "d02/new", "d04/renamed",
                                               "d08/f0008/inside", "d09", "a-first-name")}
    assert touched <= set(opens.files)
    assert out["reading"]["unchanged-files"] > 200
    # content under a name that used to be a further one is found, too
    assert os.fsencode(tree / "zz-hard") not in opens.files
    assert out["reading"]["read-bytes"] < 5 * MIB
    out = backup()
    assert out["reading"]["read-bytes"] == 0
    backup.assert_shows()


class SixOf62:
    """62 files of about `unit` bytes in six folders, of which six change at a time."""

    def __init__(self, tree, unit, size):
        self.tree, self.rng, self.unit = tree, random.Random(62), unit
        self.size = lambda: int(unit * size(self.rng))
        self.names = itertools.count()
        for d in range(6):
            (tree / f"{d}").mkdir(parents=True)
        self.files = []
        for _ in range(62):
            self.add()

    def add(self):
        n = next(self.names)
        path = self.tree / f"{n % 6}" / f"{self.rng.randrange(10**6):06}-{n}"
        path.write_bytes(self.rng.randbytes(self.size()))
        self.files.append(path)

    def write(self, paths, size=None):
        for path in paths:
            touch(path, self.rng.randbytes(size or self.size()))

    def six(self):
        return self.rng.sample(self.files, 6)

    def every(self, step):
        begin = self.rng.randrange(62 - 5 * step)
        return sorted(self.files)[begin:begin + 5 * step + 1:step]

    def remove(self, paths):
        for path in paths:
            path.unlink()
            self.files.remove(path)

    def rename(self, paths):
        for path in paths:
            new = path.with_name(f"{self.rng.randrange(10**6):06}-{next(self.names)}")
            self.files[self.files.index(path)] = path.rename(new)

    def ways(self):
        return [
            lambda: self.write(self.six()),
            lambda: self.write(self.every(10)),
            lambda: self.write(self.every(2)),
            lambda: self.write(self.every(1)),
            lambda: self.write([*sorted(self.files)[:3], *sorted(self.files)[-3:]]),
            lambda: [touch(p, p.read_bytes() + bytes(self.unit // 3)) for p in self.six()],
            lambda: self.write(self.six(), self.unit // 10),
            lambda: self.write(self.six()),
            lambda: self.rename(self.six()),
            lambda: (self.remove(self.six()[:3]), [self.add() for _ in range(3)]),
            lambda: (self.write(self.six()[:2]), self.rename(self.six()[:2]),
                     self.remove(self.six()[:2]), self.add(), self.add()),
        ]


# Two files a chunk (the worst: half of what a chunk holds dies with one of them), one, or as it comes.
SIZES = {"below": lambda rng: 0.97 + 0.02 * rng.random(), "above": lambda rng: 1 + 0.1 * rng.random(),
         "about": lambda rng: 0.96 + 0.08 * rng.random(), "wide": lambda rng: 0.6 + 0.8 * rng.random()}


@pytest.mark.parametrize("size", SIZES)
def test_any_six_changed_files_of_62_cost_little_again_and_again(pxarfs, folder, repo, size):
    """To scale, 1 to 16: files of 64 KiB, chunks of 256 KiB.  The official client reads 53 of 61 MiB
    again; dead bytes must not gather from backup to backup."""
    unit = MIB // 16
    tree = SixOf62(folder / "tree", unit, SIZES[size])
    backup = Group(pxarfs, repo, tree.tree, "--chunk-size", 256)
    backup()
    worst = [0, 0, 0]
    for n, change in enumerate(2 * tree.ways()):
        change()
        out = backup()
        padding = out["reading"]["padding-bytes"] / out["payload"]["bytes"]
        found = [out["reading"]["read-bytes"], out["payload"]["new-bytes"], padding]
        assert found[0] <= 16 * unit and found[1] <= 16 * unit and padding <= 0.1, f"{n}: {found}"
        worst = [max(pair) for pair in zip(worst, found)]
    print(f"{size}: at most {worst[0] / unit:.1f} files read, {worst[1] / unit:.1f} stored, "
          f"{worst[2]:.1%} padding")
    with Opens(tree.tree) as opens:
        out = backup()
    assert opens.files == [] and out["reading"]["read-bytes"] == out["payload"]["new-bytes"] == 0
    backup.assert_shows()


def test_six_changed_files_of_61_mib(pxarfs, folder, repo):
    tree = SixOf62(folder / "tree", MIB, SIZES["about"])
    backup = Group(pxarfs, repo, tree.tree)
    backup()
    for _ in range(4):
        tree.write(tree.six())
        out = backup()
        assert out["reading"]["read-bytes"] <= 16 * MIB, out["reading"]
        assert out["payload"]["new-bytes"] <= 16 * MIB, out["payload"]
        assert out["reading"]["padding-bytes"] <= 0.1 * out["payload"]["bytes"], out["reading"]
    with Opens(tree.tree) as opens:
        backup()
    assert opens.files == []


@pytest.mark.skipif(not os.path.isdir("/usr/share"), reason="needs /usr/share")
def test_one_changed_file_in_a_large_tree_costs_little(pxarfs, folder, repo):
    tree = folder / "tree"
    tree.mkdir()
    source = next(p for p in ("/usr/share/doc", "/usr/share") if os.path.isdir(p))
    subprocess.run(["cp", "-a", source, tree / "share"], check=True)
    files = sorted(p for p in tree.rglob("*") if p.is_file() and not p.is_symlink()
                   and p.lstat().st_nlink == 1 and p.lstat().st_size < MIB)
    backup = Group(pxarfs, repo, tree)
    backup()
    for path in random.Random(5).sample(files, 5):
        touch(path, b"changed\n")
        out = backup()
        assert out["reading"]["read-bytes"] <= 8 * MIB
        assert out["payload"]["new-bytes"] <= 8 * MIB
    backup.assert_shows()


def test_content_behind_a_restored_mtime_is_missed_unless_ctime_is_looked_at(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    path = next(p for p in sorted((tree / "d01").iterdir()) if p.is_file() and p.stat().st_size > 9)
    def replace():
        st = path.stat()
        path.write_bytes(bytes(b ^ 1 for b in path.read_bytes()))
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    relative = path.relative_to(tree)
    def stored():
        with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
            return (mount.path / relative).read_bytes()

    backup = Group(pxarfs, repo, tree)
    backup()
    old = path.read_bytes()
    replace()
    assert backup()["reading"]["read-files"] == 0
    assert stored() == old
    out = backup("--detect-ctime")
    assert 0 < out["reading"]["read-files"]
    assert stored() == path.read_bytes()


def test_what_shrank_under_a_backup_is_read_by_the_next(pxarfs, folder, repo):
    """A file is written anew by what keeps mtimes (cp -p, say), and read halfway: afterwards it has
    the size and mtime that the archive says."""
    tree = folder / "tree"
    tree.mkdir()
    path = tree / "file"
    content = random.Random(3).randbytes(16 * MIB)
    path.write_bytes(content)
    os.utime(path, ns=(0, 10**18))
    p = pxarfs.start("backup", "-r", repo, "--backup-id", "test", "--backup-time", 1001, "--chunk-size", 64,
                     "--rate", "8MiB", "--burst", "1MiB", f"root.pxar:{tree}", stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not any((repo / ".chunks").glob("*/" + "?" * 64)):
        assert p.poll() is None and time.monotonic() < end
        time.sleep(0.002)
    os.truncate(path, 15 * MIB)
    said = p.communicate(timeout=60)[1]
    assert p.returncode == 3 and b"shrank while it was read" in said
    path.write_bytes(content)
    os.utime(path, ns=(0, 10**18))
    backup = Group(pxarfs, repo, tree)
    backup.time = 1001
    assert backup()["reading"]["read-files"] == 1
    backup.assert_shows()


def test_ctime_is_held_against_the_true_time_of_the_last_backup(pxarfs, folder, repo):
    """Its snapshot may have been given another one, of the future, say."""
    tree = folder / "tree"
    tree.mkdir()
    path = tree / "file"
    path.write_bytes(b"what it was")
    os.utime(path, ns=(0, 10**18))
    backup = Group(pxarfs, repo, tree, "--detect-ctime")
    backup.time = int(time.time()) + 10**7
    backup()
    path.write_bytes(b"what it is.")
    os.utime(path, ns=(0, 10**18))
    assert backup()["reading"]["read-files"] == 1
    backup.assert_shows()
    # what has not changed since the second began, in another second, is not read
    end = int(os.stat(path).st_ctime) + 2
    while time.time() < end:
        time.sleep(0.05)
    backup()
    assert backup()["reading"]["read-files"] == 0


def test_padding_limit_is_kept(pxarfs, folder, repo):
    rng = random.Random(9)
    tree = folder / "tree"
    tree.mkdir()
    for i in range(800):
        (tree / f"{i:04}").write_bytes(rng.randbytes(rng.randrange(30000)))
    for limit in (0, 3, 50):
        backup = Group(pxarfs, repo, tree, "--chunk-size", 256, "--backup-id", f"limit{limit}",
                       "--padding-limit", limit, limit=limit)
        backup()
        read = 0
        for _ in range(3):
            for path in rng.sample(sorted(tree.iterdir()), 40):
                touch(path, rng.randbytes(rng.randrange(30000)))
            out = backup()
            read += out["reading"]["read-bytes"]
        assert read > 0


# --- what stands in the way ---


def test_chunks_that_vanished_are_made_again(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree, "--chunk-size", 64)
    backup()
    payload = [digest for _, digest in indexes(repo, 41)[1]]
    gone = random.Random(3).sample(sorted(set(payload)), 20)
    for digest in gone:
        (repo / ".chunks" / digest[:4] / digest).unlink()
    out = backup()
    assert 0 < out["reading"]["read-bytes"] < 14 * MIB
    backup.assert_shows()
    for digest in payload:
        path = repo / ".chunks" / digest[:4] / digest
        if path.exists():
            path.unlink()
    out = backup()
    assert out["reading"]["unchanged-files"] == 0
    backup.assert_shows()


@pytest.mark.parametrize("args", [[], ["--rate", "1GiB"]], ids=["", "rate"])
def test_damaged_metadata_of_the_last_snapshot_means_reading(pxarfs, folder, repo, args):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree, "--chunk-size", 64)
    backup()
    for _, digest in indexes(repo, 41)[0]:
        path = repo / ".chunks" / digest[:4] / digest
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    out = backup(*args)
    assert "files are read" in out["said"] or "every file is read" in out["said"]
    assert out["reading"]["unchanged-files"] == 0
    backup.assert_shows()
    for f in out["files"]:
        datastore.stream(repo, repo / out["snapshot"] / f["filename"])  # proves every digest
    assert "files are read" not in backup()["said"]


def test_one_damaged_chunk_of_metadata_is_stored_anew(pxarfs, folder, repo):
    """Found in the midst of it: what was taken over before that is whole."""
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree, "--chunk-size", 64)
    backup()
    for where in 0.5, 0.9, 0.1:
        found = indexes(repo, 41)[0]
        path = datastore.chunk_path(repo, found[int(where * len(found))][1])
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        out = backup()
        assert "the previous snapshot is damaged" in out["said"] or "every file is" in out["said"]
        for f in out["files"]:
            datastore.stream(repo, repo / out["snapshot"] / f["filename"])
        backup.assert_shows()


@pytest.mark.parametrize("before", ["nothing", "legacy", "other-name", "index-gone"])
def test_without_a_last_archive_every_file_is_read(pxarfs, folder, repo, before):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    if before == "legacy":
        backup("--change-detection-mode", "legacy")
    elif before == "other-name":
        pxarfs("backup", "-r", repo, f"other.pxar:{tree}", "--backup-id", "test", "--backup-time", 5)
    elif before == "index-gone":
        backup()
        next((repo / "host/test").glob("*/root.pxar.pld.didx")).unlink()
    out = backup("--change-detection-mode", "metadata")
    assert not out["reading"]["compared"]
    assert out["reading"]["read-files"] == out["regular-files"]
    assert out["said"].strip() != ""
    backup.assert_shows()


@pytest.mark.parametrize("name", ["root.pxar.meta.didx", "root.pxar.pld.didx"])
@pytest.mark.parametrize("size", [0, 4096, -40])
def test_a_cut_index_of_the_last_snapshot_is_no_reference(pxarfs, folder, repo, name, size):
    """Not even where it is cut between two entries: its checksum is in the manifest."""
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree, "--chunk-size", 64)
    backup()
    path = next((repo / "host/test").glob(f"*/{name}"))
    os.truncate(path, size if size >= 0 else path.stat().st_size + size)
    out = backup()
    assert f"the previous {name} is not used" in out["said"]
    assert out["reading"]["read-files"] == out["regular-files"]
    backup.assert_shows()
    assert backup()["reading"]["read-files"] == 0


def test_a_dead_backup_hides_no_reference(pxarfs, folder, repo):
    """Its folder is the newest of the group, but without a manifest it is no snapshot."""
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    first = backup()
    dead = repo / first["snapshot"].replace(":41Z", ":42Z")
    shutil.copytree(repo / first["snapshot"], dead)
    (dead / "index.json.blob").unlink()
    backup.time += 1
    assert backup()["reading"]["read-files"] == 0
    assert not dead.exists()
    backup.assert_shows()


def test_a_namespace_has_references_of_its_own(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    Group(pxarfs, repo, tree)()
    inside = Group(pxarfs, repo, tree, "--ns", "other")
    out = inside("--create-ns")
    assert not out["reading"]["compared"]
    assert out["payload"]["duplicate-chunks"] == out["payload"]["new-chunks"] > 0  # all there
    assert inside()["reading"]["read-files"] == 0


def test_who_does_not_own_the_group_gets_no_reference(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    backup()
    owner = repo / "host/test/owner"
    mine = owner.read_text()
    owner.write_text("somebody@pbs\n")
    done = pxarfs("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "test", status=1)
    assert "somebody@pbs" in done.stderr
    assert len(list((repo / "host/test").glob("*Z"))) == 1
    owner.write_text(mine)
    assert backup()["reading"]["read-files"] == 0


def test_a_last_snapshot_that_somebody_is_removing_is_no_reference(pxarfs, folder, repo):
    """Who removes it has locked it for himself: its chunks are not to be relied on."""
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    backup()
    with open(repo / r".pxarfs/locks/host-test-1970\x2d01\x2d01T00\x3a16\x3a41Z", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        out = backup()
    assert "nothing is reused from the last snapshot host/test/1970-01-01T00:16:41Z" in out["said"]
    assert out["reading"]["read-files"] == out["regular-files"]
    assert backup()["reading"]["read-files"] == 0
    backup.assert_shows()


@pytest.mark.both_backends
def test_names_of_either_convention_serve_as_reference(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    backup("--archive-names", "pbs")
    assert backup("--archive-names", "design")["reading"]["read-files"] == 0
    out = backup("--archive-names", "pbs")
    assert out["reading"]["read-files"] == 0
    assert [f["filename"] for f in out["files"]] == ["root.ppxar.didx", "root.mpxar.didx"]
    backup.assert_shows()


def test_other_chunk_size_does_not_matter(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    backup("--chunk-size", 64)
    out = backup("--chunk-size", 1024)
    assert out["reading"]["read-files"] == 0
    backup.assert_shows()


def test_data_mode_reads_everything(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    backup()
    out = backup("--change-detection-mode", "data")
    assert out["reading"]["read-files"] == out["regular-files"]
    assert out["payload"]["new-chunks"] == 0
    for args in (["data", "--detect-ctime"], ["data", "--padding-limit", 10],
                 ["legacy", "--archive-names", "pbs"], ["metadata", "--padding-limit", 101]):
        pxarfs("backup", "-r", repo, f"root.pxar:{tree}", "--change-detection-mode", *args,
               status=2)


def test_dry_run_says_what_would_be_read(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    backup()
    touch(tree / "d01/f0013", b"other content")
    before = sorted(p for p in repo.rglob("*") if ".pxarfs" not in p.parts)
    dry = backup("--dry-run")
    assert sorted(p for p in repo.rglob("*") if ".pxarfs" not in p.parts) == before
    real = backup()
    assert dry["reading"] == real["reading"]
    assert dry["payload"]["new-bytes"] == real["payload"]["new-bytes"] > 0


def test_excluded_and_included_files(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup = Group(pxarfs, repo, tree)
    backup("--exclude", "/d03", "--exclude", "f0004")
    out = backup()
    assert 0 < out["reading"]["read-files"] < 120
    backup.assert_shows()
    out = backup("--exclude", "/d0*")
    assert out["reading"]["unchanged-files"] > 0


def test_files_are_opened_for_metadata_where_there_is_no_other_way(pxarfs, folder, repo):
    """On overlayfs: names do not tell all inode flags of the file system below."""
    tree, lower = folder / "tree", folder / "lower"
    make_tree(lower)
    for name in ("tree", "upper", "work"):
        (folder / name).mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                    f"lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work", tree],
                   check=True)
    try:
        backup = Group(pxarfs, repo, tree)
        backup()
        out = backup()
        assert out["reading"]["read-bytes"] == 0
        assert out["reading"]["opened-files"] == out["reading"]["unchanged-files"] > 0
        backup.assert_shows()
    finally:
        subprocess.run(["umount", "-l", tree], check=True)


def test_the_key_must_be_the_same(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    keys = [folder / "a.json", folder / "b.json"]
    for key in keys:
        pxarfs("key", "create", key, "--kdf", "none")
    backup = Group(pxarfs, repo, tree)
    for mode in ("encrypt", "sign-only"):
        args = ["--keyfile", keys[0], "--crypt-mode", mode]
        assert backup(*args)["reading"]["unchanged-files"] == 0
        out = backup(*args)
        assert out["reading"]["read-files"] == out["payload"]["new-chunks"] == 0
    assert backup("--keyfile", keys[1], "--crypt-mode",
                  "sign-only")["reading"]["unchanged-files"] == 0
    assert backup("--crypt-mode", "none")["reading"]["unchanged-files"] == 0
    backup.assert_shows()


# --- a last snapshot that lies ---


def hostile_refs(size):
    """References of files a, b and c into a payload stream of `size` bytes."""
    last = (1 << 64) - 1
    return {
        "backwards": [216, 116, 16],
        "all-the-same": [16, 16, 16],
        "overlapping": [16, 17, 18],
        "before-the-marker": [0, 1, 15],
        "past-the-end": [size, size - 16, size - 115],
        "wrapping": [last, last - 99, last - 115],
        "no-payload-there": [50, 150, 200],
    }


@pytest.mark.parametrize("kind", hostile_refs(0))
def test_references_of_the_last_snapshot_are_not_trusted(pxarfs, folder, repo, kind):
    tree = folder / "tree"
    tree.mkdir()
    contents = [bytes([65 + i]) * 84 for i in range(3)]
    payload = handmade.item(handmade.PAYLOAD_START_MARKER)
    for content in contents:
        payload += handmade.item(handmade.PAYLOAD, content)
    payload += handmade.item(handmade.PAYLOAD_TAIL_MARKER)
    refs = hostile_refs(len(payload))[kind]
    members = []
    for name, ref, content in zip("abc", refs, contents):
        (tree / name).write_bytes(content)
        os.utime(tree / name, ns=(0, 1_700_000_000 * 10**9 + 7))
        members.append((name.encode(), handmade.file_ref(ref & (1 << 64) - 1, 84)))
    head = handmade.item(handmade.FORMAT_VERSION, struct.pack("<Q", 2))
    meta = bytearray(head + handmade.folder(members, at=len(head)))
    tail = struct.unpack("<Q", meta[-16:-8])[0] + len(head)  # the root's leads to the begin
    meta[-16:-8] = struct.pack("<Q", tail)
    datastore.put_snapshot(repo, "test", 1000, {"root.mpxar.didx": bytes(meta),
                                                "root.ppxar.didx": payload})
    backup = Group(pxarfs, repo, tree)
    out = backup()
    assert out["reading"]["compared"] or "every file is read" in out["said"]
    true = {16 + 100 * i: i for i in range(3)}
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        for i, ref in enumerate(refs):
            inside = 16 <= ref <= len(payload) - 116
            if inside and ref not in true and out["reading"]["unchanged-files"]:
                continue  # broken, as in the snapshot that it was taken from
            want = contents[true[ref]] if inside and ref in true else contents[i]
            assert (mount.path / "abc"[i]).read_bytes() in (want, contents[i])


# --- the official client's snapshots ---


def test_the_golden_sequence_reuses_at_least_as_much(pxarfs, folder, store):
    """Snapshots 2, 9 and 10 of group split, made again: the last two over the one before."""
    tree = folder / "tree"
    times = {2: "2027-01-15T08:00:02Z", 9: "2027-01-15T08:00:09Z", 10: "2027-01-15T08:00:10Z"}
    golden = store / "host/split"
    official = {}
    for n, text in times.items():
        official[n] = {d for _, d in datastore.index(golden / text / "root.ppxar.didx")}
    ours = folder / "ours"
    shutil.copytree(store, ours)
    for n in (9, 10):
        shutil.rmtree(ours / "host/split" / times[n])
    (ours / "host/split/owner").write_text("root@pam\n")
    for n, previous in ((9, 2), (10, 9)):
        with pxarfs.mount(f"host/split/{times[n]}", "root.pxar", repository=store) as mount:
            if tree.exists():
                treecopy.remove(tree)
            treecopy.copy(mount.path, tree)
        done = pxarfs("backup", "-r", ours, f"root.pxar:{tree}", "--backup-id", "split",
                      "--backup-time", 1800000000 + n, "--chunk-size", 64, "--output-format",
                      "json")
        out = json.loads(done.stdout)
        assert [f["filename"] for f in out["files"]] == ["root.ppxar.didx", "root.mpxar.didx"]
        out["payload"] = out["files"][0]
        assert_counted(out)

        want = rows.load(GOLDEN / f"tree{2 if n == 9 else 3}.jsonl")
        with pxarfs.mount(f"host/split/{times[n]}", "root.pxar", repository=ours) as mount:
            assert rows.differences(want, rows.observe(mount.path)) == []

        # bytes of the official snapshot's chunks that its predecessor had
        begin = taken = 0
        for end, digest in datastore.index(golden / times[n] / "root.ppxar.didx"):
            taken += end - begin if digest in official[previous] else 0
            begin = end
        assert out["payload"]["reused-bytes"] >= taken, f"snapshot {n}"


# --- at random ---

def change_identity(rng, kind, path, new, other, clock):
    """What is behind a name becomes something else."""
    st = path.stat()
    if kind == 12:  # a file of its own again, the same or not
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data if rng.random() < 0.5 else rng.randbytes(len(data)))
        os.utime(path, ns=(0, next(clock)))
    elif kind == 13 and other != path and other.is_file() and not other.is_symlink():
        other.unlink()  # a further name of one that has not changed
        os.link(path, other)
    elif kind == 14:  # older than before
        path.write_bytes(rng.randbytes(st.st_size))
        os.utime(path, ns=(0, -next(clock)))
    elif kind == 15:  # another inode of the same content and time
        shutil.copy2(path, new)
        new.rename(path)
    elif kind == 16:  # holes come and go
        with open(path, "r+b") as f:
            f.truncate(rng.choice([st.st_size // 2, st.st_size + 200000]))
        os.utime(path, ns=(0, next(clock)))
    elif kind == 17:
        path.unlink()
        if rng.random() < 0.5:
            path.symlink_to("nowhere")
        else:
            path.mkdir()
            (path / "inside").write_bytes(b"inside")



def change_at_random(rng, tree, clock):
    """A handful of changes of every kind; `clock` gives times that never come again."""
    files = [p for p in tree.rglob("*") if p.is_file() and not p.is_symlink()]
    folders = [tree, *(p for p in tree.rglob("*") if p.is_dir() and not p.is_symlink())]
    for _ in range(rng.choice([0, 1, 3, 10, 40])):
        path = rng.choice(files) if files else None
        where = rng.choice(folders)
        new = where / f"n{next(clock)}"
        kind = rng.randrange(18)
        if (path and not path.is_file()) or not where.exists():
            continue
        if kind in (0, 1, 2) and path:
            path.write_bytes(rng.randbytes(rng.choice([0, 10, 5000, 60000, 300000])))
            os.utime(path, ns=(0, next(clock)))
        elif kind in (3, 4):
            new.write_bytes(rng.randbytes(rng.choice([0, 10, 5000, 60000, 1 << 20])))
            os.utime(new, ns=(0, next(clock)))
            files.append(new)
        elif kind == 5 and path:
            path.unlink()
        elif kind == 6 and path:
            path.rename(new)
        elif kind == 7 and path:
            os.link(path, new)
        elif kind == 8:
            new.mkdir()
            folders.append(new)
        elif kind == 9 and where != tree and rng.random() < 0.3:
            shutil.rmtree(where)
        elif kind == 10 and path:
            os.chmod(path, rng.choice([0o600, 0o644, 0o4755]))
            os.setxattr(path, "user.r", rng.randbytes(9))
        elif kind == 11 and where != tree and not str(new).startswith(str(where) + "/"):
            where.rename(new)
        elif path:
            change_identity(rng, kind, path, new, rng.choice(files), clock)


def test_soak_of_changes_backups_and_mounts(pxarfs, folder, repo):
    """PXARFS_SOAK_ROUNDS and PXARFS_SOAK_SEED make it longer, and other."""
    rng = random.Random(SEED)
    clock = iter(range(1, 10**9))
    tree = make_tree(folder / "tree", seed=SEED)
    modes = [[], [], [], ["--chunk-size", "1024"], ["--padding-limit", "2"],
             ["--detect-ctime"], ["--exclude", "f00*"], ["--change-detection-mode", "data"]]
    backup = Group(pxarfs, repo, tree, "--chunk-size", "64")
    for n in range(ROUNDS):
        change_at_random(rng, tree, clock)
        args = rng.choice(modes)
        if rng.random() < 0.1:
            chunks = [p for p in (repo / ".chunks").glob("*/*")]
            for chunk in rng.sample(chunks, len(chunks) // 20):
                chunk.unlink()  # older snapshots break; the next one must not
        backup(*args)
        if "--exclude" not in args:
            backup.assert_shows()
        if rng.random() < 0.3:
            out = backup(*args)
            assert out["reading"]["read-bytes"] == 0 or args
