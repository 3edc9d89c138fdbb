# SPDX-License-Identifier: Apache-2.0
"""ls and list: everything an archive holds, from the metadata stream alone."""

import json
import os
import pty
import shutil
import subprocess

import datastore
import pytest
import rows

from conftest import GOLDEN

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
    ours, theirs = pty.openpty()
    p = pxarfs.start("ls", "-r", store, "host/split", "root.pxar", "names", stdout=theirs)
    os.close(theirs)
    text = b""
    while True:
        try:
            text += os.read(ours, 65536)
        except OSError:  # the other end is gone
            break
    os.close(ours)
    assert p.wait() == 0
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
