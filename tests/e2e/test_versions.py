# SPDX-License-Identifier: Apache-2.0
"""The versions of a file through time: TYPE/ID/.versions/ARCHIVE/PATH/."""

import errno
import os
import shutil
import threading
import time

import datastore
import pytest

from conftest import SOON
from pbs import faults
from test_repo_mount import code_of, eventually, served, statistics  # noqa: F401, a fixture


def stamp(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


FIRST = 1800000000


@pytest.fixture
def history(pxarfs, folder):
    """Five backups of a folder; what changes when is written here."""
    store, source = folder / "store", folder / "src"
    pxarfs("init", store)
    (source / "etc").mkdir(parents=True)
    (source / "etc/same").write_text("never changed")
    (source / "late").mkdir()
    for i in range(5):
        if i in (0, 2, 3):
            (source / "etc/conf").write_text(f"version {i}")
            os.utime(source / "etc/conf", (1000 + i, 1000 + i))
        if i == 1:
            (source / "etc/conf").chmod(0o600)
        if i == 3:
            (source / "late/new").write_text("born late")
        if i == 4:
            os.remove(source / "etc/conf")
            (source / "etc/link").symlink_to("same")
        pxarfs("backup", f"root.pxar:{source}", "-r", store, "--backup-id", "web1",
               "--backup-time", FIRST + 60 * i)
    return store


TIMES = [stamp(FIRST + 60 * i) for i in range(5)]


def test_lists_what_changed_and_nothing_twice(pxarfs, history):
    with pxarfs.mount(repository=history) as m:
        versions = m.path / "host/web1/.versions/root.pxar"
        assert sorted(os.listdir(versions / "etc/conf")) == TIMES[:4]
        assert os.listdir(versions / "etc/same") == TIMES[:1]
        assert os.listdir(versions / "late/new") == TIMES[3:4]
        assert os.listdir(versions / "etc/link") == TIMES[4:]
        assert os.listdir(m.path / "host/web1/.versions") == ["root.pxar"]


def test_a_version_is_the_file_itself(pxarfs, history):
    with pxarfs.mount(repository=history) as m:
        group = m.path / "host/web1"
        conf = group / ".versions/root.pxar/etc/conf"
        texts = [(conf / t).read_text() for t in sorted(os.listdir(conf))]
        assert texts == ["version 0", "version 0", "version 2", "version 3"]
        assert [(conf / t).stat().st_mode & 0o777 for t in TIMES[:2]] == [0o644, 0o600]
        there = group / TIMES[2] / "root.pxar/etc/conf"
        assert os.stat(conf / TIMES[2]).st_ino == os.stat(there).st_ino
        assert os.stat(conf / TIMES[2]).st_mtime == 1002
        assert os.readlink(conf.parent / "link" / TIMES[4]) == "same"


def test_a_version_of_a_folder_is_a_link_to_it(pxarfs, history):
    with pxarfs.mount(repository=history) as m:
        group = m.path / "host/web1"
        late = group / ".versions/root.pxar/late"
        assert sorted(os.listdir(late)) == [TIMES[0], TIMES[3]]
        assert os.readlink(late / TIMES[3]) == f"../../../{TIMES[3]}/root.pxar/late"
        assert os.listdir(late / TIMES[3]) == ["new"]
        root = group / ".versions/root.pxar"
        assert TIMES[0] in os.listdir(root)
        assert sorted(os.listdir(root / TIMES[0])) == ["etc", "late"]


def test_any_snapshot_can_be_looked_up_but_not_what_it_lacks(pxarfs, history):
    with pxarfs.mount(repository=history) as m:
        versions = m.path / "host/web1/.versions"
        assert (versions / "root.pxar/etc/same" / TIMES[4]).read_text() == "never changed"
        assert code_of(os.stat, versions / "root.pxar/etc/conf" / TIMES[4]) == errno.ENOENT
        assert code_of(os.stat, versions / "root.pxar/etc/none") == errno.ENOENT
        assert code_of(os.stat, versions / "root.pxar/etc/same/below") == errno.ENOENT
        assert code_of(os.stat, versions / "none.pxar") == errno.ENOENT
        assert code_of(os.stat, versions / "root.pxar/etc/conf/2027-01-15T08:00:59Z") == errno.ENOENT


def test_is_in_no_listing(pxarfs, history):
    with pxarfs.mount(repository=history) as m:
        group = m.path / "host/web1"
        assert os.path.isdir(group / ".versions/root.pxar/etc")
        assert sorted(os.listdir(group)) == TIMES + ["latest"]


def test_new_snapshots_are_new_versions(pxarfs, history, folder):
    with pxarfs.mount(repository=history, options="refresh=1") as m:
        conf = m.path / "host/web1/.versions/root.pxar/etc/conf"
        assert len(os.listdir(conf)) == 4
        (folder / "src/etc/conf").write_text("back again")
        pxarfs("backup", f"root.pxar:{folder}/src", "-r", history, "--backup-id", "web1",
               "--backup-time", FIRST + 600)
        end = time.monotonic() + 60
        while len(os.listdir(conf)) < 5:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert (conf / stamp(FIRST + 600)).read_text() == "back again"


def test_a_snapshot_that_goes_meanwhile_is_not_taken_for_the_next(served, folder):  # noqa: F811
    """The listing waits for a chunk of the second one when that is forgotten; the third one is as the
    first."""
    store, conf = folder / "store", folder / "src/conf"
    served("init", store)
    conf.parent.mkdir()
    for i in range(3):
        conf.write_text("changed" if i == 1 else "as ever")
        os.utime(conf, (1000 + i % 2, 1000 + i % 2))
        os.utime(conf.parent, (1000, 1000))
        served("backup", f"root.pxar:{folder}/src", "-r", store, "--backup-id", "web1",
               "--backup-time", FIRST + 60 * i)
    second = store / "host/web1" / TIMES[1]
    digest = datastore.digests(second / "root.mpxar.didx")[0]
    with served.mount(repository=store, options="refresh=1") as m:
        names = []
        listing = threading.Thread(
            target=lambda: names.extend(os.listdir(m.path / "host/web1/.versions/root.pxar/conf")))
        rule = served.server(str(store)).rule("GET /chunk", faults.hold(),
                                              matching=lambda r: digest in str(r.query))
        listing.start()
        assert rule.hit.wait(SOON)
        shutil.rmtree(second)
        eventually(lambda: TIMES[1] not in os.listdir(m.path / "host/web1"))
        rule.release.set()
        listing.join(SOON)
        assert names == TIMES[:1]


def test_a_broken_snapshot_is_listed_and_hides_no_other(pxarfs, history):
    broken = history / "host/web1" / TIMES[1]
    (broken / "index.json.blob").write_bytes(b"nonsense")
    with pxarfs.mount(repository=history) as m:
        conf = m.path / "host/web1/.versions/root.pxar/etc/conf"
        assert sorted(os.listdir(conf)) == TIMES[:4]
        assert (conf / TIMES[0]).read_text() == "version 0"
        assert code_of(os.stat, conf / TIMES[1]) == errno.EIO
        assert TIMES[1] in m.log()


def test_shared_metadata_is_fetched_once(pxarfs, history):
    with pxarfs.mount(repository=history) as m:
        os.listdir(m.path / "host/web1/.versions/root.pxar/etc/same")
        s = statistics(m)
        # one small chunk holds all of this archive's metadata; the five differ
        assert s["snapshots_opened"] == 5 and s["meta_chunks"] <= 5
        os.listdir(m.path / "host/web1/.versions/root.pxar/late")
        assert statistics(m)["meta_chunks"] == s["meta_chunks"]
        assert s["payload_chunks"] == 0


@pytest.mark.both_backends
def test_of_many_chunks_each_is_fetched_once(pxarfs, folder):
    """Four snapshots whose metadata are many chunks, most of them the same ones."""
    store, source = folder / "store", folder / "src"
    pxarfs("init", store)
    folders, name = [f"folder{i:02}" for i in range(20)], "a name that takes its room" * 8
    for folder in folders:
        (source / folder).mkdir(parents=True)
        for i in range(200):
            (source / folder / f"{name} {i}").touch()
    (source / folders[6] / "conf").touch()
    for i in range(4):
        (source / folders[6] / "conf").chmod(0o600 + i)
        pxarfs("backup", f"root.pxar:{source}", "-r", store, "--backup-id", "web1",
               "--backup-time", FIRST + 60 * i, "--chunk-size", 64, "--archive-names", "pbs")
    chunks = [datastore.digests(store / "host/web1" / t / "root.mpxar.didx") for t in TIMES[:4]]
    different = set().union(*chunks)
    assert 2 * len(different) < sum(len(c) for c in chunks)
    if pxarfs.servers:
        pxarfs.server(str(store)).record.forget()  # backups ask for chunks, too
    with pxarfs.mount(repository=store) as m:
        versions = m.path / "host/web1/.versions/root.pxar"
        assert sorted(os.listdir(versions / folders[6] / "conf")) == TIMES[:4]
        assert statistics(m)["meta_chunks"] < len(chunks[0])  # what is not on the way is not read
        for folder in folders:
            assert os.listdir(versions / folder / f"{name} 199") == TIMES[:1]
        s = statistics(m)
        assert s["snapshots_opened"] == 4
        assert len(chunks[0]) / 2 < s["meta_chunks"] <= len(different)
    if pxarfs.servers:
        asked = [r.query for r in pxarfs.server(str(store)).record.matching("GET /chunk")]
        assert len(asked) == len(set(asked)) == s["meta_chunks"]


def test_many_versions_come_in_order_and_whole(pxarfs, store):
    from test_repo_mount import many_snapshots
    many_snapshots(store, 300)
    with pxarfs.mount(repository=store) as m:
        group = m.path / "host/many"
        names = os.listdir(group / ".versions/root.pxar/types")
        assert names == [min(set(os.listdir(group)) - {"latest"})]
        s = statistics(m)
        assert s["meta_chunks"] < 20  # all have the same
        assert s["snapshots_opened"] < 310  # each was gone through once
