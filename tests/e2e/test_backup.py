# SPDX-License-Identifier: Apache-2.0
"""A backup comes back as it was; one that dies leaves the repository as it was."""

import json
import os
import random
import resource
import signal
import socket
import stat
import subprocess
import time

import datastore
import pytest
import rows

from conftest import SOON

SNAPSHOT = "host/test"


def make_tree(root, seed=1, files=300):
    """A tree with one of everything, its content from `seed`."""
    rng = random.Random(seed)
    root.mkdir()
    for d in range(12):
        (root / f"d{d:02}" / "sub").mkdir(parents=True)
    for i in range(files):
        path = root / f"d{i % 12:02}" / (f"f{i:04}" if i % 3 else f"sub/g{i:04}")
        path.write_bytes(rng.randbytes(rng.choice([0, 1, 15, 16, 17, 4096, 70000])))
        os.utime(path, ns=(0, rng.randrange(-10**18, 4 * 10**18)))
    (root / "big").write_bytes(rng.randbytes(9 << 20) + bytes(3 << 20))
    with open(root / "sparse", "wb") as f:
        f.truncate(5 << 20)
        f.seek(2 << 20)
        f.write(b"middle")
    os.symlink("../somewhere/else", root / "link")
    os.link(root / "big", root / "d00" / "hard")
    os.link(root / "big", root / "zz-hard")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod(root / "blk", stat.S_IFBLK | 0o640, os.makedev(259, 70000))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(root / "sock"))
    name = os.fsencode(root) + b"/\xff\xfe not utf-8\n"
    with open(name, "wb") as f:
        f.write(b"name")
    os.setxattr(root / "big", "user.b", b"\0binary\xff")
    os.setxattr(root / "big", "user.a", b"")
    os.setxattr(root / "d01", "trusted.t", b"x" * 300)
    subprocess.run(["setfacl", "-m", "u:1234:rw,g:99:r", root / "d02"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", root / "d02"], check=True)
    subprocess.run(["setcap", "cap_net_raw+ep", root / "d03" / "f0003"], check=False)
    subprocess.run(["chattr", "+d", root / "d04"], check=True)
    os.chown(root / "d05", 3_000_000_000, 4_000_000_000)
    os.chmod(root / "d06", 0o1777)
    (root / "d07" / "suid").write_bytes(b"#!")
    os.chmod(root / "d07" / "suid", 0o6755)
    return root


def backup(pxarfs, repo, tree, *args, **kwargs):
    return pxarfs("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "test", *args, **kwargs)


def assert_shows(pxarfs, repo, want, snapshot=SNAPSHOT):
    with pxarfs.mount(snapshot, "root.pxar", repository=repo) as mount:
        assert rows.differences(want, rows.observe(mount.path)) == []


@pytest.mark.both_backends
@pytest.mark.parametrize("args", [
    [], ["--chunk-size", 64], ["--archive-names", "pbs"],
    ["--change-detection-mode", "legacy", "--chunk-size", 128]],
    ids=["default", "small-chunks", "pbs-names", "legacy"])
def test_what_was_backed_up_is_what_the_mount_shows(pxarfs, folder, repo, args):
    tree = make_tree(folder / "tree")
    want = rows.observe(tree)
    backup(pxarfs, repo, tree, *args)
    assert_shows(pxarfs, repo, want)
    assert rows.differences(want, rows.observe(tree)) == []


@pytest.mark.both_backends
def test_second_backup_stores_nothing_new(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup(pxarfs, repo, tree, "--backup-time", 1000)
    before = {p.name for p in (repo / ".chunks").glob("*/*")}
    backup(pxarfs, repo, tree, "--backup-time", 2000)
    assert {p.name for p in (repo / ".chunks").glob("*/*")} == before


@pytest.mark.both_backends
def test_backups_of_a_group_may_follow_within_a_second(pxarfs, folder, repo):
    tree = make_tree(folder / "tree", files=12)
    done = [backup(pxarfs, repo, tree) for _ in range(3)]
    shown = pxarfs("snapshots", "-r", repo, "host/test").stdout.split("\n")[:-1]
    assert len(shown) == 3
    assert [d.stdout.split()[1] for d in done] == [line.split()[0] for line in shown]
    now = int(json.loads(pxarfs("snapshots", "-r", repo, "--output-format", "json").stdout)
              [-1]["backup-time"])
    failed = backup(pxarfs, repo, tree, "--backup-time", now, status=1)
    assert "must be later" in failed.stderr


def test_one_is_not_many(pxarfs, folder, repo):
    tree = folder / "tree"
    tree.mkdir()
    done = backup(pxarfs, repo, tree, "--backup-time", 1000)
    assert "\n1 entry, 0 files; " in done.stdout
    (tree / "file").write_text("one")
    os.link(tree / "file", tree / "link")
    backup(pxarfs, repo, tree, "--backup-time", 1001)
    done = backup(pxarfs, repo, tree, "--backup-time", 1002)
    assert "\nUnchanged and not read: 1 file, 3 B; read: 0 files, 0 B\n" in done.stdout
    assert "\nTaken over: 1 chunk, " in done.stdout
    assert "\n3 entries, 1 file, 1 hard link; " in done.stdout


def test_what_the_official_client_cannot_open_is_told_of_a_new_group_only(pxarfs, folder, repo):
    tree = make_tree(folder / "tree", files=12)
    assert "official client" in backup(pxarfs, repo, tree, "--backup-time", 1000).stderr
    assert backup(pxarfs, repo, tree, "--backup-time", 1001).stderr == ""
    done = pxarfs("backup", "-r", repo, f"one.img:{tree}/big", "--backup-id", "image")
    assert "entries" not in done.stdout and done.stdout.endswith(" s\n")


def test_reused_chunks_are_marked_as_in_use(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    backup(pxarfs, repo, tree, "--backup-time", 1000)
    chunks = list((repo / ".chunks").glob("*/*"))
    for c in chunks:
        os.utime(c, (1, 1))
    backup(pxarfs, repo, tree, "--backup-time", 2000)
    now = time.time()
    for c in chunks:
        st = c.stat()
        assert st.st_atime > now - 300, "garbage collection would take this chunk"
        assert st.st_mtime == 1


def test_chunk_that_vanished_is_stored_again(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    want = rows.observe(tree)
    backup(pxarfs, repo, tree, "--backup-time", 1000)
    for c in (repo / ".chunks").glob("*/*"):
        c.unlink()
    backup(pxarfs, repo, tree, "--backup-time", 2000)
    assert_shows(pxarfs, repo, want)


def test_manifest_lists_both_streams_and_their_checksums(pxarfs, folder, repo):
    tree = make_tree(folder / "tree")
    (folder / "x.conf").write_text("key = value\n")
    pxarfs("backup", "-r", repo, f"root.pxar:{tree}", f"etc.conf:{folder}/x.conf",
           "--backup-id", "test", "--backup-time", 1000)
    snapshot = repo / "host/test/1970-01-01T00:16:40Z"
    manifest = datastore.manifest(snapshot)
    assert [f["filename"] for f in manifest["files"]] == [
        "root.pxar.pld.didx", "root.pxar.meta.didx", "etc.conf.blob"]
    for f in manifest["files"][:2]:
        entries = datastore.index(snapshot / f["filename"])
        data = (snapshot / f["filename"]).read_bytes()
        assert f["size"] == entries[-1][0]
        assert f["csum"] == data[32:64].hex()
        assert f["crypt-mode"] == "none"
    assert datastore.blob(snapshot / "etc.conf.blob") == b"key = value\n"


@pytest.mark.slow
def test_kill_at_any_moment_leaves_older_snapshots_whole(pxarfs, folder, repo):
    tree = make_tree(folder / "tree", files=1500)
    want = rows.observe(tree)
    backup(pxarfs, repo, tree, "--chunk-size", 64, "--backup-time", 1000)
    begin = time.monotonic()
    backup(pxarfs, repo, tree, "--chunk-size", 64, "--backup-time", 1001, "--exclude", "none")
    whole = time.monotonic() - begin
    rng = random.Random(7)
    listed = 2
    for i in range(50):
        # new content, so that chunks are stored and not only found
        (tree / "new").write_bytes(rng.randbytes(8 << 20))
        p = pxarfs.start("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "test",
                         "--chunk-size", 64, "--backup-time", 2000 + i,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, 1.5 * whole))
        p.kill()
        died = p.wait() != 0
        out = pxarfs("snapshots", "-r", repo, "--output-format", "json").stdout
        now = out.count('"backup-time"')
        # the kill may come when all is done: then the snapshot must be whole
        assert now == listed + 1 or (died and now == listed)
        if died and now == listed + 1:
            with pxarfs.mount(SNAPSHOT, "root.pxar", repository=repo) as mount:
                assert rows.sha256(mount.path / "new") == rows.sha256(tree / "new")
        listed = now
    assert_shows(pxarfs, repo, want, "host/test/1970-01-01T00:16:40Z")
    (tree / "new").unlink()
    want = rows.observe(tree)
    backup(pxarfs, repo, tree, "--backup-time", 5000)
    assert_shows(pxarfs, repo, want)


@pytest.mark.both_backends
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_backup_cleanly(pxarfs, folder, repo, number):
    tree = folder / "tree"
    tree.mkdir()
    with open(tree / "endless", "wb") as f:
        f.truncate(1 << 40)
    p = pxarfs.start("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "test",
                     "--backup-time", 1000, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not list((repo / ".chunks").glob("*/*")):
        assert p.poll() is None
        time.sleep(0.01)
    p.send_signal(number)
    out, messages = p.communicate(timeout=SOON)
    assert p.returncode == 1
    assert out == b"" and b"interrupted" in messages
    assert not list(repo.glob("host/test/*Z"))


def test_full_disk_leaves_no_snapshot(pxarfs, folder):
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", small], check=True)
    pxarfs("init", small / "repo")
    tree = folder / "tree"
    tree.mkdir()
    (tree / "first").write_bytes(os.urandom(1 << 20))
    want = rows.observe(tree)
    backup(pxarfs, small / "repo", tree, "--backup-time", 1000)
    want = rows.observe(tree)
    (tree / "large").write_bytes(os.urandom(30 << 20))
    done = backup(pxarfs, small / "repo", tree, "--backup-time", 2000, status=1)
    assert "No space left on device" in done.stderr
    out = pxarfs("snapshots", "-r", small / "repo", "--output-format", "json").stdout
    assert out.count('"backup-time"') == 1
    assert not (small / "repo/host/test/1970-01-01T00:33:20Z").exists()
    assert_shows(pxarfs, small / "repo", want)


def test_limit_of_file_sizes_leaves_no_snapshot(pxarfs, folder, repo):
    tree = folder / "tree"
    tree.mkdir()
    (tree / "large").write_bytes(os.urandom(3 << 20))
    done = backup(pxarfs, repo, tree, status=1, preexec_fn=lambda: resource.setrlimit(
        resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)))
    assert "File too large" in done.stderr
    assert pxarfs("snapshots", "-r", repo).stdout == ""


def test_repository_that_cannot_be_written_is_a_clear_error(pxarfs, folder, repo):
    tree = make_tree(folder / "tree", files=10)
    subprocess.run(["mount", "--bind", repo, repo], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", repo], check=True)
    done = backup(pxarfs, repo, tree, status=1)
    assert "Read-only file system" in done.stderr


@pytest.mark.both_backends
def test_unreadable_file_is_named_and_makes_status_3(pxarfs, folder, repo):
    tree = folder / "tree"
    tree.mkdir()
    (tree / "good").write_text("good")
    (tree / "secret").write_text("secret")
    (tree / "secret").chmod(0)
    repo.chmod(0o777)
    subprocess.run(["chmod", "-R", "a+rwX", repo], check=True)
    folder.chmod(0o755)
    done = backup(pxarfs, repo, tree, status=3, user=65534, group=65534, extra_groups=[])
    assert "secret" in done.stderr
    with pxarfs.mount(SNAPSHOT, "root.pxar", repository=repo) as mount:
        assert sorted(os.listdir(mount.path)) == ["good"]


@pytest.mark.parametrize("spec, message", [
    ("root.pxar:/nonexistent", "nonexistent"),
    ("root.pxar:/etc/passwd", "passwd"),
    ("root.tar:/etc", "root.tar"),
    ("root.pxar", "root.pxar"),
    ("a/b.pxar:/etc", "a/b.pxar"),
    ("disk.img:/etc", "cannot backup directory with fixed chunk size"),
    ("disk.img:/dev/null", "disk.img"),
    ("x.conf:/etc", "x.conf"),
])
def test_bad_specs_are_refused_before_anything_is_written(pxarfs, folder, repo, spec, message):
    done = pxarfs("backup", "-r", repo, spec, "--backup-id", "test", status=None)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert not (repo / "host").exists()


def test_same_name_twice_is_refused(pxarfs, folder, repo):
    done = pxarfs("backup", "-r", repo, "a.pxar:/etc/apt", "a.pxar:/etc/init.d", status=2)
    assert "a.pxar is given twice" in done.stderr


@pytest.mark.parametrize("time", [0, 1 << 63, 10**15])
def test_time_that_no_snapshot_can_have_is_refused(pxarfs, repo, time):
    done = pxarfs("backup", "-r", repo, "a.conf:/etc/passwd", "--backup-time", time, status=2)
    assert "--backup-time" in done.stderr


def test_dry_run_stores_nothing(pxarfs, folder, repo):
    tree = make_tree(folder / "tree", files=20)
    before = sorted(repo.rglob("*"))
    done = backup(pxarfs, repo, tree, "--dry-run")
    assert sorted(repo.rglob("*")) == before
    assert "root.pxar" in done.stdout + done.stderr


@pytest.mark.both_backends
def test_two_backups_of_one_group_at_once(pxarfs, folder, repo):
    """The second is refused with a message, or waits: never both under one name."""
    tree = make_tree(folder / "tree", files=50)
    fifo_backup = [pxarfs.start("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "test",
                                "--backup-time", 1000 + i, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE) for i in range(4)]
    results = [(p.communicate(timeout=60)[1].decode(), p.returncode) for p in fifo_backup]
    assert any(rc == 0 for _, rc in results)
    for text, rc in results:
        assert rc == 0 or text.strip()
    out = pxarfs("snapshots", "-r", repo, "--output-format", "json").stdout
    assert out.count('"backup-time"') == sum(rc == 0 for _, rc in results)
