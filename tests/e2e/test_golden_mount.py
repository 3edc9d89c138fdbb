# SPDX-License-Identifier: Apache-2.0
"""Every unencrypted snapshot and file of the golden data mounts and shows what it must."""

import subprocess

import pytest
import rows

from conftest import GOLDEN

TREE1 = "host/legacy/2027-01-15T08:00:01Z"
SPLIT1 = "host/split/2027-01-15T08:00:02Z"
DATA = "host/data/2027-01-15T08:00:03Z"
SPLIT2 = "host/split/2027-01-15T08:00:09Z"
SPLIT3 = "host/split/2027-01-15T08:00:10Z"


def wanted(name):
    return rows.load(GOLDEN / name)


def without_data_excludes(all_rows):
    """--exclude /many --exclude *.log --exclude !keep.log: the last pattern that matches wins."""
    out = {}
    for path, row in all_rows.items():
        name = path.rsplit("/", 1)[-1]
        if path == "many" or path.startswith("many/"):
            continue
        if name.endswith(".log") and name != "keep.log":
            continue
        out[path] = dict(row)
    for row in out.values():
        if "links" in row:
            row["links"] = [p for p in row["links"] if p in out]
            if len(row["links"]) < 2:
                del row["links"]
    return out


def assert_same(want, have):
    assert rows.differences(want, have) == []


@pytest.mark.both_backends
@pytest.mark.parametrize("snapshot, want", [
    (TREE1, lambda: wanted("tree1.jsonl")),
    (SPLIT1, lambda: wanted("tree1.jsonl")),
    (DATA, lambda: without_data_excludes(wanted("tree1.jsonl"))),
    (SPLIT2, lambda: wanted("tree2.jsonl")),
    (SPLIT3, lambda: wanted("tree3.jsonl")),
    ("host/split/latest", lambda: wanted("tree3.jsonl")),
    ("host/split", lambda: wanted("tree3.jsonl")),
], ids=["legacy", "split-1", "data", "split-2-reused", "split-3-reused", "latest", "group"])
def test_snapshot_shows_its_tree(pxarfs, store, snapshot, want):
    with pxarfs.mount(snapshot, "root.pxar", repository=store) as mount:
        assert_same(want(), rows.observe(mount.path))


@pytest.mark.both_backends
def test_archive_of_a_mixed_snapshot(pxarfs, store):
    with pxarfs.mount("host/image", "etc2.pxar", repository=store) as mount:
        assert_same(rows.sub(wanted("tree1.jsonl"), "names"), rows.observe(mount.path))


@pytest.mark.both_backends
def test_archive_in_a_namespace(pxarfs, store):
    point = pxarfs.folder / "ns"
    point.mkdir()
    pxarfs("mount", "-r", store, "--ns", "prod/eu", "host/nested", "root.pxar", point)
    assert_same(rows.sub(wanted("tree3.jsonl"), "links"), rows.observe(point))
    subprocess.run(["umount", point], check=True)


@pytest.mark.parametrize("time, lacks", [("2027-01-15T08:16:41Z", []),
                                         ("2027-01-15T08:16:42Z", [".pxarexclude-cli"])],
                         ids=["legacy", "split"])
def test_excludes(pxarfs, store2, time, lacks):
    want = wanted("excludes.jsonl")
    for path in lacks:
        del want[path]
    with pxarfs.mount(f"host/excludes/{time}", "t.pxar", repository=store2) as mount:
        assert_same(want, rows.observe(mount.path))


@pytest.mark.parametrize("file", ["legacy.pxar", "split.mpxar"])
def test_plain_file_shows_its_tree(pxarfs, file):
    with pxarfs.mount(GOLDEN / "files" / file) as mount:
        assert_same(wanted("files/tree.jsonl"), rows.observe(mount.path))
