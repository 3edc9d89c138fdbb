# SPDX-License-Identifier: Apache-2.0
"""Damaged archives (tests/golden/must-fail): what is wrong is told, the rest is used, and nothing
ends in a signal."""

import errno
import json
import os
import re
import stat
import subprocess

import datastore
import must_fail
import pytest

from conftest import BUILD, GOLDEN

REENCODE = BUILD / "tests" / "support" / "reencode"
FOLDER = GOLDEN / "must-fail"
PLACE = r"offset \d+"

FAULTS = must_fail.FAULTS.items()


def some(*kinds):
    return pytest.mark.parametrize("name, fault", [f for f in FAULTS if f[1].kind in kinds],
                                   ids=[n for n, f in FAULTS if f.kind in kinds])


def meta_file(name, fault):
    return FOLDER / (name + next(iter(fault.files)))


def assert_told(text, file_name, fault):
    line = [row for row in text.splitlines() if fault.say in row]
    assert line and file_name in line[0] and re.search(PLACE, line[0]), text


def names_below(folder):
    """{path: error number or None} of looking at everything there is."""
    out = {}

    def visit(path, below):
        try:
            entries = sorted(os.listdir(path))
        except OSError as e:
            out[below] = e.errno
            return
        for entry in entries:
            inner = os.path.join(below, entry)
            try:
                st = os.lstat(os.path.join(path, entry))
                out[inner] = None
            except OSError as e:
                out[inner] = e.errno
                continue
            if stat.S_ISDIR(st.st_mode):
                visit(os.path.join(path, entry), inner)

    visit(os.fspath(folder), "")
    return out


def test_files_are_what_their_generator_makes():
    assert {p.name: p.read_bytes() for p in FOLDER.iterdir()} == must_fail.files()


@some("refused", "isolated", "inside", "lazy")
def test_sequential_reader_refuses(folder, name, fault):
    meta, *payload = [FOLDER / (name + suffix) for suffix in fault.files]
    out = [folder / "meta"] + ([folder / "payload"] if payload else [])
    done = subprocess.run([REENCODE, meta, *payload, *out], capture_output=True, text=True)
    assert done.returncode == 1 and meta.name in done.stderr, done


@some("refused")
def test_list_and_mount_refuse(pxarfs, folder, name, fault):
    path = meta_file(name, fault)
    done = pxarfs("list", path, status=1)
    assert done.stdout == ""
    assert_told(done.stderr, path.name, fault)
    done = pxarfs("list", "--output-format", "json", path, status=1)
    assert done.stdout == ""
    point = folder / "mnt"
    point.mkdir()
    for options in ([], ["-f"]):
        done = pxarfs("mount", *options, path, point, status=1)
        assert_told(done.stderr, path.name, fault)
        assert not os.path.ismount(point)


@some("isolated", "inside")
def test_list_tells_and_goes_on(pxarfs, name, fault):
    path = meta_file(name, fault)
    done = pxarfs("list", path, status=1)
    assert_told(done.stderr, path.name, fault)
    listed = done.stdout.splitlines()
    assert {"/", "/good"} <= set(listed)
    assert ("/bad" in listed) == (fault.kind == "inside")
    done = pxarfs("list", "--output-format", "json", path, status=1)
    assert ["/" + row["path"] for row in json.loads(done.stdout)] == listed


@some("isolated", "inside")
def test_mount_isolates(pxarfs, name, fault):
    path = meta_file(name, fault)
    with pxarfs.mount(path) as mount:
        seen = names_below(mount.path)
        assert seen.pop("good") is None and (mount.path / "good").read_bytes() == b"good"
        bad = {n for n, error in seen.items() if error}
        assert bad and {seen[n] for n in bad} == {errno.EIO}
        for n in bad:
            last = n.rsplit("/", 1)[-1]
            assert last == "bad" or last.startswith(".pxarfs-unreadable-"), n
        assert any(n.startswith(".pxarfs-unreadable-") for n in bad) == fault.is_nameless or (
            fault.kind == "inside")
        assert_told(mount.log(), path.name, fault)


@some("lazy")
def test_wrong_contents_show_when_they_are_read(pxarfs, name, fault):
    path = meta_file(name, fault)
    assert pxarfs("list", path).stdout.splitlines() == ["/", "/good", "/bad"]
    with pxarfs.mount(path) as mount:
        assert names_below(mount.path) == {"good": None, "bad": None}
        fd = os.open(mount.path / "bad", os.O_RDONLY)
        with pytest.raises(OSError) as e:
            os.read(fd, 4)
        os.close(fd)
        assert e.value.errno == errno.EIO
        assert (mount.path / "good").read_bytes() == b"good"
        assert_told(mount.log(), path.name, fault)


def test_snapshots_of_them_fare_the_same(pxarfs, folder):
    """A server checks chunks, not what is in them: anybody who may back up can store these."""
    store = folder / "store"
    pxarfs("init", store)
    for i, (name, fault) in enumerate(FAULTS):
        datastore.put_snapshot(store, name, 1000 + i,
                               {f"root{s}.didx": d for s, d in fault.files.items()})
    for name, fault in FAULTS:
        done = pxarfs("ls", "-lR", "-r", store, f"host/{name}", "root.pxar",
                      status=0 if fault.kind == "lazy" else 1)
        if fault.kind == "refused":
            assert done.stdout == "", name
        else:
            assert re.search(r" good$", done.stdout, re.MULTILINE), name
        if fault.kind != "lazy":
            stored = f"root{next(iter(fault.files))}"
            assert stored in done.stderr or "root.pxar" in done.stderr, done.stderr
            assert re.search(PLACE, done.stderr) and fault.say in done.stderr, done.stderr
