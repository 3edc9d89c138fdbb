# SPDX-License-Identifier: Apache-2.0
"""ls and list: everything an archive holds, from the metadata stream alone."""

import json
import os
import shutil
import subprocess

import datastore
import handmade
import pytest
import rows

from conftest import GOLDEN, is_sanitized

TYPES = {0o14: "socket", 0o12: "symlink", 0o10: "file", 0o06: "block", 0o04: "directory",
         0o02: "char", 0o01: "fifo"}

SPLIT = "2027-01-15T08:00:02Z"
LATEST = "2027-01-15T08:00:10Z"

# snapshot -> what it holds
SNAPSHOTS = {
    "host/legacy/2027-01-15T08:00:01Z": "tree1.jsonl",
    "host/split/" + SPLIT: "tree1.jsonl",
    "host/split/2027-01-15T08:00:09Z": "tree2.jsonl",
    "host/split/" + LATEST: "tree3.jsonl",
    "host/split/latest": "tree3.jsonl",
    "host/split": "tree3.jsonl",
}


def listed(output):
    """The JSON rows in the form of the golden ones, by path."""
    out = {}
    for row in json.loads(output):
        path = os.fsencode(row["path"]).decode("latin-1")
        assert path not in out
        assert row["type"] == TYPES[int(row["mode"], 8) >> 12]
        out[path] = row
    return out


def compare(found, wanted):
    for path, row in wanted.items():
        got = found.pop(path)
        for key in ("mode", "uid", "gid"):
            assert got[key] == row[key], path
        assert got["mtime"] * 10**9 + got["mtime_nsec"] == row["mtime_ns"], path
        assert got.get("size") == row.get("size"), path
        assert got.get("rdev") == row.get("rdev"), path
        target = os.fsencode(got["target"]).decode("latin-1") if "target" in got else None
        assert target == row.get("target"), path
    links = {name for row in wanted.values() for name in row.get("links", [])}
    assert not found
    return links


@pytest.mark.both_backends
@pytest.mark.parametrize("snapshot", SNAPSHOTS)
def test_recursive_json_is_the_golden_tree(pxarfs, store, snapshot):
    wanted = rows.load(GOLDEN / SNAPSHOTS[snapshot])
    del wanted[""]  # a folder's own row is not part of its listing
    found = listed(pxarfs("ls", "-R", "--output-format", "json", "-r", store, snapshot,
                          "root.pxar").stdout)
    further = {path for path, row in found.items() if row.get("hardlink")}
    links = compare(found, wanted)
    assert further < links  # all names of an inode but its first


@pytest.mark.parametrize("name", ["legacy.pxar", "split.mpxar"])
def test_list_is_the_golden_tree_and_needs_no_payload(pxarfs, folder, name):
    shutil.copy(GOLDEN / "files" / name, folder)
    wanted = rows.load(GOLDEN / "files/tree.jsonl")
    compare(listed(pxarfs("list", "--output-format", "json", folder / name).stdout), wanted)
    lines = pxarfs("list", folder / name, text=False).stdout
    for path in wanted:
        assert b"/" + path.encode("latin-1") + b"\n" in lines


def test_ls_reads_no_payload(pxarfs, store):
    snapshot = store / "host/split" / SPLIT
    kept = set(datastore.digests(snapshot / "root.mpxar.didx"))
    for chunk in (store / ".chunks").glob("*/*"):
        if chunk.name not in kept:
            chunk.unlink()
    (snapshot / "root.ppxar.didx").unlink()
    pxarfs("ls", "-lR", "-r", store, "host/split/" + SPLIT, "root.pxar", text=False)


def test_ls_is_sorted_and_raw(pxarfs, store):
    wanted = sorted(path.encode("latin-1")[6:] for path in rows.load(GOLDEN / "tree3.jsonl")
                    if path.startswith("names/"))
    done = pxarfs("ls", "-r", store, "host/split", "root.pxar", "names", text=False)
    assert done.stdout == b"".join(name + b"\n" for name in wanted)


def test_a_terminal_gets_no_control_characters(pxarfs, store):
    text = pxarfs.on_terminal("ls", "-r", store, "host/split", "root.pxar", "names")
    assert b"\\012" in text and b"\\377\\376" in text
    assert all(c >= 0x20 or c in b"\r\n" for c in text)


def test_long_form_and_headings(pxarfs, store):
    tree = rows.load(GOLDEN / "tree3.jsonl")
    lines = pxarfs("ls", "-lR", "--numeric-ids", "-r", store, "host/split", "root.pxar",
                   text=False).stdout
    assert lines.startswith(b"/:\n")
    for path, row in tree.items():
        if row["mode"].startswith("4") and path:
            assert b"\n\n/" + path.encode("latin-1") + b":\n" in lines
    link = next(r for r in tree.values() if "target" in r)
    name = link["path"].rsplit("/", 1)[-1]
    assert f" {name} -> {link['target']}\n".encode("latin-1") in lines
    assert any(line.split()[0].endswith(b"+") for line in lines.split(b"\n") if line)
    device = next(r for r in tree.values() if "rdev" in r)
    assert "{}, {} ".format(*device["rdev"]).encode() in lines


def test_a_file_is_listed_by_itself(pxarfs, store):
    file = next(p for p, r in rows.load(GOLDEN / "tree3.jsonl").items()
                if r["mode"].startswith("100") and "/" in p and p.isascii())
    assert pxarfs("ls", "-r", store, "host/split", "root.pxar", "//" + file).stdout == f"//{file}\n"
    row, = json.loads(pxarfs("ls", "--output-format", "json", "-r", store, "host/split",
                             "root.pxar", "//" + file).stdout)
    assert row["path"] == file


@pytest.mark.parametrize("path", ["nothing", "names/../names", "small/nothing/x"])
def test_what_is_not_there_is_said(pxarfs, store, path):
    done = pxarfs("ls", "-r", store, "host/split", "root.pxar", path, status=1)
    assert path.split("/")[0] in done.stderr and not done.stdout


def test_a_lost_chunk_costs_what_it_held_only(pxarfs, store):
    wanted = rows.load(GOLDEN / "tree3.jsonl")
    args = ["ls", "-R", "-r", store, "host/split", "root.pxar", "--output-format", "json"]
    # The first chunk holds the root's entry and the last its table.
    for _, digest in datastore.index(store / "host/split" / LATEST / "root.mpxar.didx")[1:-1]:
        chunk = datastore.chunk_path(store, digest)
        chunk.rename(chunk.with_suffix(".away"))
        done = pxarfs(*args, status=1)
        chunk.with_suffix(".away").rename(chunk)
        found = listed(done.stdout)
        assert digest in done.stderr and "root.pxar: /" in done.stderr
        assert "more members cannot be read" in done.stderr
        assert len(wanted) // 3 < len(found) < len(wanted) - 1
        assert set(found) < set(wanted)
        assert done.stderr.count("\n") < 100


def test_damage_in_a_file_names_path_and_offset(pxarfs, folder):
    data = bytearray((GOLDEN / "files/split.mpxar").read_bytes())
    at = data.index(b"deep05\0")
    data[at:at + 6] = b"dee/05"
    (folder / "bad.mpxar").write_bytes(data)
    done = pxarfs("list", folder / "bad.mpxar", status=1, text=False)
    assert b"deep00/deep01/deep02/deep03/deep04" in done.stderr
    assert f"offset {at - 16}:".encode() in done.stderr
    assert b"deep04\n" in done.stdout and b"deep05" not in done.stdout
    assert done.stdout.count(b"\n") > 60


def test_a_full_output_is_an_error(pxarfs):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([pxarfs.program, "list", GOLDEN / "files/split.mpxar"], stdout=full,
                              stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1 and b"No space left" in done.stderr


def deep_archive(depth, members):
    """Folders in each other, all of the longest name; `members` are those of the last."""
    name = b"d" * 4096
    at = handmade.sub(members)
    for _ in range(depth - 1):
        at = handmade.sub([(name, at)])
    return handmade.folder([(name, at)])


def test_folders_behind_a_long_path_cost_little_memory(pxarfs, folder):
    store = folder / "store"
    archive = deep_archive(100, [(b"%d" % i, handmade.sub([])) for i in range(1000)])
    datastore.write_snapshot(store, {"root.pxar.didx": [(archive, 1)]})
    # the paths of all together: 390 MiB
    limit = [] if is_sanitized() else ["prlimit", f"--data={100 << 20}"]
    subprocess.run([*limit, pxarfs.program, "ls", "-R", "-r", store, "host/hostile", "root.pxar"],
                   stdout=subprocess.DEVNULL, check=True)


def test_a_path_of_more_than_a_mebibyte_is_listed(pxarfs, folder):
    archive = deep_archive(260, [(b"0", handmade.sub([]))])
    store = folder / "store"
    datastore.write_snapshot(store, {"root.pxar.didx": [(archive, 1)]})
    (folder / "deep.pxar").write_bytes(archive)
    for command in (["ls", "-R", "-r", store, "host/hostile", "root.pxar"], ["list", folder / "deep.pxar"]):
        with open(folder / "out", "w+b") as out:
            p = pxarfs.start(*command, stdout=out)
            assert p.wait() == 0
            out.seek(-260 * 4097 - 2, os.SEEK_END)
            last = out.read().strip(b":\n")
        assert last.count(b"d" * 4096) >= 259 and last.endswith(b"/0")


def test_what_is_wrong_is_told_behind_a_long_path_too(pxarfs, folder):
    bad = handmade.item(handmade.SYMLINK, b"x\0")
    (folder / "deep.pxar").write_bytes(deep_archive(3, [(b"bad", bad), (b"e" * 4096, bad)]))
    told = pxarfs("list", folder / "deep.pxar", status=1).stderr.splitlines()
    assert len(told) == 2
    assert told[0].startswith("pxarfs: deep.pxar: /...d") and "d/bad: member at offset " in told[0]
    assert "ddd/...eee" in told[1]
    assert all(line.endswith(": expected ENTRY, found SYMLINK") for line in told)
