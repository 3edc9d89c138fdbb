# SPDX-License-Identifier: Apache-2.0
"""A mount of a whole repository: its namespaces, groups and snapshots as folders."""

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from conftest import GOLDEN, SOON, Pxarfs
from pbs import faults

SPLIT = ["2027-01-15T08:00:02Z", "2027-01-15T08:00:09Z", "2027-01-15T08:00:10Z"]


def statistics(mount):
    """The counters that SIGUSR1 logs, as they are now."""
    before = mount.log().count("statistics:")
    mount.process.send_signal(signal.SIGUSR1)
    end = time.monotonic() + 20
    while mount.log().count("statistics:") == before:
        assert time.monotonic() < end
        time.sleep(0.005)
    line = [l for l in mount.log().splitlines() if "statistics:" in l][-1]
    return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}


def eventually(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def code_of(call, *args):
    try:
        call(*args)
    except OSError as e:
        return e.errno
    return 0


def tree_of(path):
    """Names, types and contents below a folder."""
    rows = []
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files + folders):
            full = os.path.join(folder, name)
            st = os.lstat(full)
            row = [os.path.relpath(full, path), oct(st.st_mode), st.st_uid, st.st_mtime_ns]
            if os.path.islink(full):
                row.append(os.readlink(full))
            elif os.path.isfile(full):
                with open(full, "rb") as f:
                    row += [st.st_size, hashlib.sha256(f.read()).hexdigest()]
            rows.append(row)
    return rows


def links_of(path):
    """Names and counts of hard links of the files below a folder."""
    files = (os.path.join(folder, f) for folder, _, names in os.walk(path) for f in names)
    return {os.path.relpath(f, path): os.lstat(f).st_nlink for f in files}


def assert_same(path, other):
    assert tree_of(path) == tree_of(other)
    eventually(lambda: links_of(path) == links_of(other))  # a count may come late


def forget(store, path):
    """As a prune would: nobody may have it open."""
    shutil.rmtree(store / path)


def add_copy(store, group, old, new):
    """One more snapshot, with the files of another one (whose manifest says so)."""
    shutil.copytree(store / group / old, store / group / new)


# --- what there is ---

@pytest.mark.both_backends
def test_shows_the_repository_as_folders(pxarfs, store):
    with pxarfs.mount(repository=store) as m:
        assert sorted(os.listdir(m.path)) == ["host", "ns"]
        assert "split" in os.listdir(m.path / "host")
        assert sorted(os.listdir(m.path / "host/split")) == SPLIT + ["latest"]
        assert os.readlink(m.path / "host/split/latest") == SPLIT[-1]
        assert sorted(os.listdir(m.path / "host/split/latest")) == ["index.json", "root.pxar"]
        assert os.listdir(m.path / "ns/prod/ns/eu/host/nested") == ["2027-01-15T08:00:11Z", "latest"]
        assert code_of(os.stat, m.path / "host/nobody") == errno.ENOENT
        assert code_of(os.stat, m.path / "host/split/2027-01-15T08:00:03Z") == errno.ENOENT


@pytest.mark.both_backends
def test_a_namespace_is_also_found_as_a_source_names_it(pxarfs, store):
    with pxarfs.mount(repository=store) as m:
        nested = m.path / "ns/prod/eu/host/nested/latest/root.pxar"
        assert sorted(os.listdir(nested)) == sorted(
            os.listdir(m.path / "ns/prod/ns/eu/host/nested/latest/root.pxar"))
        assert os.listdir(m.path / "ns/prod") == ["ns"]  # not twice in a walk


@pytest.mark.both_backends
def test_archives_show_what_their_own_mounts_show(pxarfs, store):
    with pxarfs.mount(repository=store) as m:
        for snapshot in ["host/split/" + SPLIT[0], "host/split/latest", "host/legacy/latest",
                         "host/data/latest"]:
            with pxarfs.mount(snapshot, "root.pxar", repository=store, name="one") as one:
                assert_same(m.path / snapshot / "root.pxar", one.path)


@pytest.mark.both_backends
def test_images_and_blobs_are_files(pxarfs, store):
    snapshot = store / "host/image/2027-01-15T08:00:08Z"
    (snapshot / "client.log.blob").write_bytes((snapshot / "etc.conf.blob").read_bytes())
    with pxarfs.mount(repository=store) as m:
        shown = m.path / "host/image/latest"
        assert sorted(os.listdir(shown)) == ["catalog.pcat1", "client.log", "disk.img", "etc.conf",
                                             "etc2.pxar", "index.json"]
        assert (shown / "etc.conf").read_bytes() == b"setting = 1\n"
        assert (shown / "client.log").stat().st_size == 12
        manifest = json.loads((shown / "index.json").read_text())
        assert manifest["backup-id"] == "image"
        size = next(f["size"] for f in manifest["files"] if f["filename"] == "disk.img.fidx")
        assert (shown / "disk.img").stat().st_size == size
        whole = (shown / "disk.img").read_bytes()
        assert len(whole) == size
        with open(shown / "disk.img", "rb") as f:
            f.seek(5000001)
            assert f.read(4096) == whole[5000001:5004097]
        assert (shown / "disk.img").stat().st_mode & 0o777 == 0o400


def test_the_root_of_a_mount_may_be_a_part(pxarfs, store):
    nested = "ns/prod/ns/eu/host/nested"
    with pxarfs.mount(f"{store}::ns/prod") as m:
        assert os.listdir(m.path / "ns/eu/host") == ["nested"]
    with pxarfs.mount(f"{store}::ns/prod/eu") as m:
        assert os.listdir(m.path) == ["host"]
    with pxarfs.mount(repository=store, options="noexec") as m, \
         pxarfs.mount(f"{store}::ns/prod/eu/host/nested", name="snap") as snap:
        assert sorted(os.listdir(snap.path)) == ["index.json", "root.pxar"]
        assert_same(snap.path, m.path / nested / "latest")
    with pxarfs.mount(store) as m:
        assert sorted(os.listdir(m.path)) == ["host", "ns"]
    with pxarfs.mount(f"{store}::host/split/latest/root.pxar") as m:
        assert "bulk" in os.listdir(m.path)
    with pxarfs.mount("--ns", "prod/eu", "host/nested", repository=store) as m:
        assert sorted(os.listdir(m.path)) == ["index.json", "root.pxar"]


def test_refuses_what_is_not_there(pxarfs, store, folder):
    point = folder / "mnt"
    point.mkdir()
    for source, words in [(f"{store}::ns/nowhere", "there is no namespace nowhere"),
                          (f"{store}::host/nobody", "no finished snapshot"),
                          (f"{folder}/none", "none"),
                          (f"{store}::host/split/2027-01-15T08:00:03Z", "there is no snapshot")]:
        assert words in pxarfs("mount", source, point, status=1).stderr
    assert "of one archive" in pxarfs("mount", "-o", "export", store, point, status=1).stderr
    assert "expected REPOSITORY" in pxarfs("mount", f"{store}::prod", point, status=2).stderr
    for source in (f"{store}::host/split", "a.pxar"):
        for option in (("-r", store), ("--ns", "prod")):
            assert "says itself" in pxarfs("mount", *option, source, point, status=2).stderr


# --- keys and damage ---

@pytest.mark.both_backends
def test_without_the_key_a_snapshot_is_listed_and_not_read(pxarfs, store):
    with pxarfs.mount(repository=store) as m:
        snapshot = m.path / "host/enc/latest"
        assert sorted(os.listdir(snapshot)) == ["index.json", "root.pxar"]
        assert (snapshot / "root.pxar").is_dir()
        assert code_of(os.listdir, snapshot / "root.pxar") == errno.ENOKEY
        assert "missing key" in m.log()
        assert b"signature" in (snapshot / "index.json").read_bytes()
        assert len((m.path / "host/master/latest/rsa-encrypted.key").read_bytes()) > 100
        assert "bulk" in os.listdir(m.path / "host/split/latest/root.pxar")


@pytest.mark.both_backends
def test_with_the_key_it_is_read(pxarfs, store):
    key = GOLDEN / "keys" / "none.json"
    with pxarfs.mount(repository=store, options=f"keyfile={key}") as m:
        assert "d00" in os.listdir(m.path / "host/enc/latest/root.pxar")
        assert "bulk" in os.listdir(m.path / "host/split/latest/root.pxar")


def test_what_is_broken_does_not_break_what_is_beside_it(pxarfs, store):
    group = store / "host/split"
    os.truncate(group / SPLIT[0] / "root.mpxar.didx", 100)
    (group / SPLIT[1] / "index.json.blob").write_bytes(b"not a blob")
    (group / SPLIT[2] / "root.ppxar.didx").unlink()
    (store / "host/odd name").mkdir()
    (store / "host/data/yesterday").mkdir()
    (store / "host/data/2027-02-30T08:00:00Z").mkdir()
    (store / "host/unfinished/2027-01-15T08:00:12Z").mkdir(parents=True)
    with pxarfs.mount(repository=store) as m:
        shown = m.path / "host/split"
        assert sorted(os.listdir(shown)) == SPLIT + ["latest"]
        rows = subprocess.run(["ls", "-l", shown / SPLIT[0]], capture_output=True, text=True,
                              check=True).stdout
        assert "root.pxar" in rows
        assert code_of(os.listdir, shown / SPLIT[0] / "root.pxar") == errno.EIO
        assert json.loads((shown / SPLIT[0] / "index.json").read_text())
        assert code_of(os.listdir, shown / SPLIT[1]) == errno.EIO
        assert "bulk" in os.listdir(shown / SPLIT[2] / "root.pxar")  # its tree is whole
        first = next(p for p in (shown / SPLIT[2] / "root.pxar").rglob("*")
                     if p.is_file() and not p.is_symlink() and p.stat().st_size)
        assert code_of(first.read_bytes) == errno.EIO
        assert sorted(os.listdir(m.path / "host/data")) == ["2027-01-15T08:00:03Z", "latest"]
        assert "odd name" not in os.listdir(m.path / "host")
        assert os.listdir(m.path / "host/unfinished") == []
        assert SPLIT[1] in m.log() and "root.pxar cannot be opened" in m.log()


# --- what changes ---

@pytest.mark.both_backends
def test_new_snapshots_appear_and_forgotten_ones_go(pxarfs, store):
    with pxarfs.mount(repository=store, options="refresh=1") as m:
        group = m.path / "host/split"
        assert sorted(os.listdir(group)) == SPLIT + ["latest"]
        before = os.stat(group).st_mtime_ns
        new = "2027-01-15T08:00:30Z"
        add_copy(store, "host/split", SPLIT[0], new)
        eventually(lambda: new in os.listdir(group))
        assert os.readlink(group / "latest") == new
        assert os.stat(group).st_mtime == 1800000030
        assert os.stat(group).st_mtime_ns > before

        forget(store, f"host/split/{SPLIT[1]}")
        eventually(lambda: SPLIT[1] not in os.listdir(group))
        assert code_of(os.stat, group / SPLIT[1]) == errno.ENOENT
        assert os.stat(group).st_mtime > 1800000030 or time.time() < 1800000030

        forget(store, f"host/split/{new}")
        eventually(lambda: os.readlink(group / "latest") == SPLIT[2])
        shutil.rmtree(store / "host/legacy")
        eventually(lambda: "legacy" not in os.listdir(m.path / "host"))
        shutil.rmtree(store / "ns")
        eventually(lambda: os.listdir(m.path) == ["host"])


@pytest.mark.both_backends
def test_who_is_inside_a_forgotten_snapshot_is_told(pxarfs, store):
    with pxarfs.mount(repository=store, options="refresh=1") as m:
        group = m.path / "host/split"
        folder = os.open(group / SPLIT[1], os.O_RDONLY | os.O_DIRECTORY)
        inside = os.open(group / SPLIT[1] / "root.pxar", os.O_RDONLY | os.O_DIRECTORY)
        forget(store, f"host/split/{SPLIT[1]}")
        eventually(lambda: SPLIT[1] not in os.listdir(group))
        assert code_of(lambda: os.stat("etc.conf", dir_fd=folder)) == errno.ESTALE
        assert code_of(lambda: os.stat("small/none", dir_fd=inside)) == errno.ESTALE
        os.close(folder)
        os.close(inside)

        # made anew, it is another one
        add_copy(store, "host/split", SPLIT[0], SPLIT[1])
        eventually(lambda: SPLIT[1] in os.listdir(group))
        assert "bulk" in os.listdir(group / SPLIT[1] / "root.pxar")


def test_an_entered_snapshot_is_locked(pxarfs, store):
    def is_locked(snapshot):
        name = "host-split-" + snapshot.replace("-", "\\x2d").replace(":", "\\x3a")
        lock = store / ".pxarfs/locks" / name
        return lock.exists() and subprocess.run(["flock", "-n", "-x", lock, "true"],
                                                check=False).returncode != 0

    with pxarfs.mount(repository=store) as m:
        os.listdir(m.path / "host/split")
        assert not is_locked(SPLIT[0])
        os.listdir(m.path / "host/split" / SPLIT[0])
        assert is_locked(SPLIT[0])
        assert not is_locked(SPLIT[1])
    assert not is_locked(SPLIT[0])


# --- what it costs ---

@pytest.mark.both_backends
def test_nothing_is_fetched_before_somebody_enters(pxarfs, store):
    with pxarfs.mount(repository=store) as m:
        subprocess.run(["find", m.path, "-maxdepth", "3", "-printf", "%s %T@ %p\n"], check=True,
                       capture_output=True)
        s = statistics(m)
        assert s["snapshots_opened"] == 0 and s["meta_chunks"] == 0
        os.listdir(m.path / "host/split/latest")
        s = statistics(m)
        assert s["snapshots"] == 1 and s["archives"] == 0 and s["meta_chunks"] == 0
        os.stat(m.path / "host/split/latest/root.pxar")
        s = statistics(m)
        assert s["archives"] == 1 and 0 < s["meta_chunks"] <= 2 and s["payload_chunks"] == 0


# --- what it asks a server for ---

LISTS = {"namespaces": "GET */namespace", "groups": "GET */groups", "snapshots": "GET */snapshots"}


@pytest.fixture
def served(folder):
    """The program with servers before its datastores."""
    program = Pxarfs(folder, serves=True)
    yield program
    program.cleanup()
    for server in program.servers.values():
        assert server.record.complaints == []


def lists_of(server):
    return {name: server.count(pattern) for name, pattern in LISTS.items()}


def test_a_walk_of_the_upper_folders_asks_once_for_each(served, store):
    server = served.server(str(store))
    groups = [g for kind in ("host", "vm", "ct") for ns in ("", "ns/prod/", "ns/prod/ns/eu/")
              if (store / ns / kind).is_dir() for g in os.listdir(store / ns / kind)]
    with served.mount(repository=store, options="refresh=600") as m:
        os.listdir(m.path)
        assert lists_of(server) == {"namespaces": 1, "groups": 1, "snapshots": 0}
        subprocess.run(["ls", "-l", m.path / "host"], check=True, capture_output=True)
        assert lists_of(server) == {"namespaces": 1, "groups": 1, "snapshots": 0}
        for _ in range(2):
            subprocess.run(["find", m.path, "-maxdepth", "3", "-ls"], check=True,
                           capture_output=True)
            lists = lists_of(server)
            assert lists["namespaces"] == 1 and lists["groups"] == 2
            assert 1 <= lists["snapshots"] <= len(groups)
        # no session: of no snapshot was anything asked
        assert server.count("GET /reader") == 0 and server.count("GET /download*") == 0


def make_groups(store, count):
    """So many groups, "ct/0" and so on, each of one finished snapshot."""
    for i in range(count):
        snapshot = store / f"ct/{i}/2027-01-15T08:00:00Z"
        snapshot.mkdir(parents=True)
        (snapshot / "index.json.blob").touch()


@pytest.mark.parametrize("held", LISTS)
def test_lists_that_are_held_hold_nothing_else(served, store, held):
    """There is a mount; who looks is interrupted, or told after the time-out; df and SIGTERM work."""
    server = served.server(str(store))
    served("snapshots", "-r", store)  # logged in
    rule = server.rule(LISTS[held], faults.hold(), times=0)
    with served.mount(repository=store, options="timeout=1") as m:
        looked_at = m.path / ("host/split" if held == "snapshots" else "")
        with pytest.raises(OSError) as e:
            os.listdir(looked_at)
        assert e.value.errno == errno.EIO
        assert rule.hit.is_set()
        p = subprocess.Popen(["ls", looked_at], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        subprocess.run(["df", m.path], check=True, capture_output=True, timeout=SOON)
        p.send_signal(signal.SIGINT)
        p.wait(SOON)
        assert held == "snapshots" or "slow to answer" in m.log()
        server.record.clear_rules()
        eventually(lambda: code_of(os.listdir, looked_at) == 0 and code_of(os.listdir, m.path) == 0)


def test_two_thousand_groups_are_one_list(served, folder):
    served("init", folder / "store")
    make_groups(folder / "store", 2000)
    server = served.server(str(folder / "store"))
    with served.mount(repository=folder / "store", options="refresh=600") as m:
        assert os.listdir(m.path) == ["ct"]
        for _ in range(2):
            rows = subprocess.run(["ls", "-l", m.path / "ct"], check=True, capture_output=True)
            assert rows.stdout.count(b"\n") == 2001
        for i in (0, 1000, 1999):
            assert os.listdir(m.path / f"ct/{i}") == ["2027-01-15T08:00:00Z", "latest"]
        assert lists_of(server) == {"namespaces": 1, "groups": 1, "snapshots": 0}
        asked = statistics(m)
        assert asked["lookup"] + asked["getattr"] + asked["readdirplus"] < 3 * 2000


def test_a_snapshot_is_one_session_whatever_is_read_in_it(served, store):
    server = served.server(str(store))
    with served.mount(repository=store, options="refresh=600") as m:
        snapshot = m.path / "host/image/latest"
        for name in ("etc.conf", "disk.img", "index.json"):
            (snapshot / name).read_bytes()
        os.listdir(snapshot / "etc2.pxar")
        assert server.count("GET /reader") == 1


def test_a_server_that_is_started_anew_is_not_noticed(served, store):
    server = served.server(str(store))
    with served.mount(repository=store, options="refresh=1") as m, \
         served.mount("host/split/latest", "root.pxar", repository=store, name="one") as one:
        root = m.path / "host/split/latest/root.pxar"
        assert "bulk" in os.listdir(root)
        server.kill()
        server.start()
        assert_same(one.path, root)
        assert len(tree_of(root)) > 100
        add_copy(store, "host/split", SPLIT[0], "2027-01-15T08:00:30Z")
        eventually(lambda: "2027-01-15T08:00:30Z" in os.listdir(m.path / "host/split"))


def test_while_the_server_is_away_the_last_listing_is_shown(served, store):
    server = served.server(str(store))
    with served.mount(repository=store, options="refresh=1,timeout=10") as m:
        shown = sorted(os.listdir(m.path / "host"))
        server.kill()
        eventually(lambda: "shown as it was before" in m.log() or not os.listdir(m.path / "host"))
        assert sorted(os.listdir(m.path / "host")) == shown
        server.start()
        add_copy(store, "host/split", SPLIT[0], "2027-01-15T08:00:30Z")
        eventually(lambda: "2027-01-15T08:00:30Z" in os.listdir(m.path / "host/split"))


def stamp(minutes):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1800000000 + 60 * minutes))


def many_snapshots(store, count):
    """A group, "host/many", of so many snapshots, all with the same files."""
    one = store / "host/split" / SPLIT[0]
    for i in range(count):
        target = store / "host/many" / stamp(i)
        target.mkdir(parents=True)
        for name in os.listdir(one):
            os.link(one / name, target / name)


@contextlib.contextmanager
def readers_of(command, count=2):
    """So many processes that go on reading meanwhile."""
    readers = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
        assert [p.poll() for p in readers] == [None] * count
    finally:
        for p in readers:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()


def test_nothing_is_kept_of_forgotten_snapshots(pxarfs, store):
    """However many came, were entered and went; readers all the time, and one who stays inside."""
    stays = "2027-01-15T07:00:00Z"
    shutil.copytree(store / "host/split" / SPLIT[0], store / "host/many" / stays)
    read = ("while :; do ls -lR $0/host/many/20*/root.pxar/types $0/host/many/.versions/root.pxar/types; "
            "cat $0/host/many/20*/index.json; done >/dev/null 2>&1")
    with pxarfs.mount(repository=store, options="refresh=1") as m:
        group = m.path / "host/many"
        assert (group / "latest/root.pxar/types").is_dir()
        assert os.readlink(group / ".versions/root.pxar/types" / stays)
        before = statistics(m)["nodes"]
        with readers_of(["sh", "-c", read, m.path]):
            for _ in range(2):
                many_snapshots(store, 40)
                eventually(lambda: len(os.listdir(group)) == 42)
                for i in range(40):
                    assert os.listdir(group / stamp(i) / "root.pxar/types")
                    assert (group / stamp(i) / "index.json").read_bytes()
                    assert os.readlink(group / ".versions/root.pxar/types" / stamp(i))
                assert statistics(m)["nodes"] >= before + 40 * 4
                inside = os.open(group / stamp(7) / "root.pxar", os.O_RDONLY | os.O_DIRECTORY)
                for i in range(40):
                    forget(store, f"host/many/{stamp(i)}")
                eventually(lambda: statistics(m)["nodes"] == before)
                assert code_of(lambda: os.stat("small/none", dir_fd=inside)) == errno.ESTALE
                assert code_of(os.lstat, group / ".versions/root.pxar/types" / stamp(7)) == errno.ENOENT
                os.close(inside)
        assert statistics(m)["nodes"] == before


def test_of_many_entered_snapshots_few_stay_open(pxarfs, store):
    many_snapshots(store, 250)
    with pxarfs.mount(repository=store) as m:
        for name in sorted(os.listdir(m.path / "host/many")):
            assert os.listdir(m.path / "host/many" / name / "root.pxar/types")
        eventually(lambda: statistics(m)["snapshots"] <= 100)
        s = statistics(m)
        assert s["snapshots_opened"] >= 250 and s["archives"] <= 100
        # whoever was closed opens again
        oldest = min(os.listdir(m.path / "host/many"))
        assert (m.path / "host/many" / oldest / "root.pxar/small").is_dir()
        files = sorted(os.listdir(m.path / "host/many" / oldest / "root.pxar/many"))
        assert files


def test_ten_thousand_snapshots_are_a_listing(pxarfs):
    # in memory: this is not about the disk
    with tempfile.TemporaryDirectory(prefix="pxarfs-test-", dir="/dev/shm") as top:
        pxarfs("init", f"{top}/store")
        for i in range(10000):
            snapshot = pathlib.Path(top) / "store/host/many" / stamp(i)
            snapshot.mkdir(parents=True)
            (snapshot / "index.json.blob").touch()
        with pxarfs.mount(repository=f"{top}/store") as m:
            names = os.listdir(m.path / "host/many")
            assert len(names) == 10001 and len(set(names)) == 10001
            out = subprocess.run(["ls", "-l", m.path / "host/many"], check=True,
                                 capture_output=True)
            assert out.stdout.count(b"\n") == 10002
            assert statistics(m)["snapshots_opened"] == 0


def test_links_are_counted_and_files_pushed_inside(pxarfs, store):
    with pxarfs.mount(repository=store) as m, \
         pxarfs.mount("host/split/latest", "root.pxar", repository=store, name="one") as one:
        for path in [m.path / "host/split/latest/root.pxar", one.path]:
            subprocess.run(["tar", "cf", "/dev/null", "--sort=none", path], check=True,
                           capture_output=True)
            subprocess.run(["find", path, "-type", "f", "-exec", "cat", "{}", "+"], check=True,
                           capture_output=True)
        links = [os.lstat(p.path / sub / "links" / n).st_nlink
                 for p, sub in [(m, "host/split/latest/root.pxar"), (one, "")]
                 for n in sorted(os.listdir(one.path / "links"))]
        half = len(links) // 2
        assert links[:half] == links[half:] and max(links) > 1
        assert statistics(m)["pushed"] > 500 and statistics(one)["pushed"] > 500


def test_many_groups_are_no_harm(pxarfs, store):
    for i in range(1000):
        (store / f"ct/{i}/2027-01-15T08:00:00Z").mkdir(parents=True)
    with pxarfs.mount(repository=store) as m:
        assert len(os.listdir(m.path / "ct")) == 1000
        subprocess.run(["ls", "-l", m.path / "ct"], check=True, capture_output=True)
        assert os.listdir(m.path / "ct/7") == []
        assert "bulk" in os.listdir(m.path / "host/split/latest/root.pxar")


@pytest.mark.slow
def test_memory_stays_bounded_after_many_snapshots(pxarfs, store):
    many_snapshots(store, 500)
    with pxarfs.mount(repository=store, options="cache=64M") as m:
        for name in sorted(os.listdir(m.path / "host/many")):
            root = m.path / "host/many" / name / "root.pxar"
            for folder in ["small", "many"]:
                files = [f.path for f in os.scandir(root / folder) if f.is_file(follow_symlinks=False)]
                for path in files[:2]:
                    with open(path, "rb") as f:
                        f.read(1)
        with open(f"/proc/{m.process.pid}/status", encoding="ascii") as f:
            rss = next(int(l.split()[1]) for l in f if l.startswith("VmRSS"))
        assert rss < (64 + 25) * 1024
