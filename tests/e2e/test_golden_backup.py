# SPDX-License-Identifier: Apache-2.0
"""A backup of what the official client has backed up makes the official client's chunks."""

import dataclasses

import datastore
import pytest
import rows
import treecopy

from conftest import GOLDEN, unpack

# Of a payload stream's bytes.  Where the official client cuts one depends on its timing, too.
SHARE_MIN = 0.95


@dataclasses.dataclass
class Golden:
    """A snapshot of the official client, and how it was made (tests/golden/README.md)."""

    snapshot: str
    archive: str = "root.pxar"
    mode: str = "data"
    key: str = ""
    args: tuple = ("--chunk-size", "64")
    store: str = "datastore.tar"
    ns: str = ""
    rows: str = ""

    def where(self, store):
        ns = "".join(f"ns/{part}/" for part in self.ns.split("/") if part)
        return store / f"{ns}{self.snapshot}"


GOLDENS = [
    Golden("host/legacy/2027-01-15T08:00:01Z", mode="legacy", rows="tree1"),
    Golden("host/split/2027-01-15T08:00:02Z", rows="tree1"),
    Golden("host/data/2027-01-15T08:00:03Z", args=(
        "--chunk-size", "64", "--exclude", "/many", "--exclude", "*.log", "--exclude", "!keep.log")),
    Golden("host/enc/2027-01-15T08:00:04Z", key="none"),
    Golden("host/signed/2027-01-15T08:00:05Z", key="none", args=(
        "--chunk-size", "64", "--crypt-mode", "sign-only")),
    Golden("host/master/2027-01-15T08:00:06Z", key="none"),
    Golden("host/scrypt/2027-01-15T08:00:07Z", key="scrypt"),
    Golden("host/image/2027-01-15T08:00:08Z", "etc2.pxar", "legacy", args=()),
    Golden("host/nested/2027-01-15T08:00:11Z", ns="prod/eu"),
    Golden("vm/104/2027-01-15T08:16:43Z", "t.pxar", "legacy", "none", store="datastore2.tar"),
]


def shared(ours, theirs):
    """How many bytes of an index's stream lie in chunks that the other has too; its size."""
    known = set(datastore.digests(theirs))
    begin = found = 0
    for end, digest in datastore.index(ours):
        found += end - begin if digest in known else 0
        begin = end
    return found, begin


def entry(snapshot, name):
    found, = (f for f in datastore.manifest(snapshot)["files"] if f["filename"] == name)
    return found


def check_payload(ours, theirs):
    found, size = shared(ours, theirs)
    assert size == datastore.index(theirs)[-1][0]
    assert found >= SHARE_MIN * size, f"only {found} of {size} bytes are shared: {found / size:.2%}"
    print(f"{theirs.parent.parent.name}: {found} of {size} payload bytes are shared: {found / size:.2%}")


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda g: g.snapshot.split("/")[1])
def test_the_same_tree_makes_the_same_chunks(pxarfs, folder, golden):
    store = unpack(golden.store, folder / "store")
    key = ["--keyfile", GOLDEN / f"keys/{golden.key}.json"] if golden.key else []
    pxarfs.env["PBS_ENCRYPTION_PASSWORD"] = "vector-pass"
    tree, new = folder / "tree", folder / "new"
    ns = ["--ns", golden.ns] if golden.ns else []
    with pxarfs.mount(*key, *ns, golden.snapshot, golden.archive, repository=store) as mount:
        treecopy.copy(mount.path, tree)
    pxarfs("init", new)
    names = [] if golden.mode == "legacy" else ["--archive-names", "pbs"]
    for group, threads in ("first", 4), ("again", 1):
        pxarfs("backup", "-r", new, f"{golden.archive}:{tree}", *names, "--change-detection-mode",
               golden.mode, *golden.args, *key, "--backup-id", group, "--backup-time", 1000,
               "--threads", threads)
    first, again = (new / "host" / group / "1970-01-01T00:16:40Z" for group in ("first", "again"))

    theirs = golden.where(store)
    stem = golden.archive.removesuffix(".pxar")
    alike = ([f"{stem}.mpxar.didx"] if golden.mode == "data"
             else [f"{stem}.pxar.didx", "catalog.pcat1.didx"])
    for name in alike:
        assert datastore.index(first / name) == datastore.index(theirs / name), name
        assert entry(first, name) == entry(theirs, name)  # its csum, size and crypt mode
    if golden.mode == "data":
        name = f"{stem}.ppxar.didx"
        assert datastore.index(again / name) == datastore.index(first / name)
        check_payload(first / name, theirs / name)
    if golden.rows:
        with pxarfs.mount("host/first", golden.archive, repository=new) as mount:
            assert rows.differences(rows.load(GOLDEN / f"{golden.rows}.jsonl"),
                                    rows.observe(mount.path)) == []


def test_the_reduced_tree_and_its_exclude_rules_make_the_same_chunks(pxarfs, folder, store2):
    """What was left out is gone, the rules for it must still be recorded alike."""
    legacy, split = (f"host/excludes/2027-01-15T08:16:4{n}Z" for n in (1, 2))
    tree, new = folder / "tree", folder / "new"
    with pxarfs.mount(legacy, "t.pxar", repository=store2) as mount:
        treecopy.copy(mount.path, tree)
    patterns = (tree / ".pxarexclude-cli").read_text().splitlines()
    assert patterns
    common = ["-r", new, f"t.pxar:{tree}", "--chunk-size", 64, "--backup-id", "excludes",
              *(arg for p in patterns for arg in ("--exclude", p))]
    pxarfs("init", new)
    pxarfs("backup", *common, "--change-detection-mode", "legacy", "--backup-time", 1800001001)
    assert (datastore.index(new / legacy / "t.pxar.didx")
            == datastore.index(store2 / legacy / "t.pxar.didx"))
    pxarfs("backup", *common, "--archive-names", "pbs", "--change-detection-mode", "data",
           "--backup-time", 1800001002)
    assert (datastore.index(new / split / "t.mpxar.didx")
            == datastore.index(store2 / split / "t.mpxar.didx"))
    check_payload(new / split / "t.ppxar.didx", store2 / split / "t.ppxar.didx")
