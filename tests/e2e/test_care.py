# SPDX-License-Identifier: Apache-2.0
"""forget, notes, protect, namespaces, status."""

import fcntl
import json
import os
import subprocess

import pytest

import crypto
import datastore
from conftest import Pxarfs

OLD, NEW = "host/split/2027-01-15T08:00:09Z", "host/split/2027-01-15T08:00:10Z"


def snapshots(pxarfs, *args):
    rows = json.loads(pxarfs("snapshots", *args, "--output-format", "json").stdout)
    return [(r["backup-id"], r["backup-time"]) for r in rows]


def shown(pxarfs, command, *args):
    """In JSON, and in text."""
    value = json.loads(pxarfs(command, "show", *args, "--output-format", "json").stdout)
    text = pxarfs(command, "show", *args).stdout
    return value, text


def lock_files(store):
    folder = store / ".pxarfs/locks"
    return sorted(os.listdir(folder)) if folder.exists() else []


@pytest.mark.both_backends
def test_forgets_snapshots_and_the_group_with_the_last(pxarfs, store):
    pxarfs("forget", "-r", store, OLD, NEW)
    assert [t for _, t in snapshots(pxarfs, "-r", store, "host/split")] == [1800000002]
    (store / "host/split/notes").write_text("of the group")
    pxarfs("forget", "-r", store, "host/split/2027-01-15T08:00:02Z")
    assert not (store / "host/split").exists()
    assert len(snapshots(pxarfs, "-r", store)) == 7
    assert [n for n in lock_files(store) if "split" in n] == []
    done = pxarfs("forget", "-r", store, OLD, "host/none/2027-01-15T08:00:02Z", status=1)
    assert "no snapshot " + OLD in done.stderr and "host/none" in done.stderr
    assert [n for n in lock_files(store) if "none" in n or "split" in n] == []


@pytest.mark.both_backends
def test_the_time_must_be_said(pxarfs, store):
    for name in ("host/split", "host/split/latest"):
        assert "TYPE/ID/TIME" in pxarfs("forget", "-r", store, OLD, name, status=2).stderr
    assert len(snapshots(pxarfs, "-r", store)) == 10
    pxarfs("forget", "-r", store, status=2)


@pytest.mark.both_backends
def test_what_is_protected_stays(pxarfs, store):
    assert shown(pxarfs, "protect", "-r", store, OLD) == (False, "false\n")
    pxarfs("protect", "set", "-r", store, OLD)
    assert shown(pxarfs, "protect", "-r", store, OLD) == (True, "true\n")
    marker = store / OLD / ".protected"
    assert marker.stat().st_size == 0 and marker.stat().st_mode & 0o777 == 0o644
    done = pxarfs("forget", "-r", store, OLD, NEW, status=1)
    assert "protected" in done.stderr and OLD in done.stderr
    assert (store / OLD / "index.json.blob").exists() and not (store / NEW).exists()
    done = pxarfs("forget", "-r", store, "--group", "host/split", status=1)
    assert "protected" in done.stderr
    assert [t for _, t in snapshots(pxarfs, "-r", store, "host/split")] == [1800000009]
    pxarfs("protect", "set", "-r", store, OLD)  # once more is the same
    pxarfs("protect", "clear", "-r", store, OLD)
    pxarfs("protect", "clear", "-r", store, OLD)
    assert not marker.exists()
    pxarfs("forget", "-r", store, "--group", "host/split")
    assert not (store / "host/split").exists()
    assert "host/split" in pxarfs("forget", "-r", store, "--group", "host/split", status=1).stderr


@pytest.mark.both_backends
def test_what_is_in_use_stays(pxarfs, store):
    with pxarfs.mount(OLD, "root.pxar", repository=store) as mount:
        os.listdir(mount.path)
        for command in (("forget",), ("protect", "set")):
            message = pxarfs(*command, "-r", store, OLD, status=1).stderr
            assert "locked" in message or "in use" in message
            assert "unmount, or try again later" in message
        pxarfs("notes", "set", "-r", store, OLD, "these may change")
    pxarfs("forget", "-r", store, OLD)


def test_a_manifest_being_rewritten_is_waited_for(pxarfs, store):
    pxarfs("notes", "set", "-r", store, OLD, "one")
    name = "host-split-2027\\x2d01\\x2d15T08\\x3a00\\x3a09Z-.index.json.lck"
    with open(store / ".pxarfs/locks" / name, "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = pxarfs.start("notes", "set", "-r", store, OLD, "two")
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.3)
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert waiting.wait(60) == 0
    assert shown(pxarfs, "notes", "-r", store, OLD)[0] == "two"


@pytest.mark.both_backends
def test_notes_are_kept_in_the_manifest_which_stays_the_same(pxarfs, store):
    before = datastore.manifest(store / OLD)
    assert shown(pxarfs, "notes", "-r", store, OLD) == ("", "")
    text = "first “line”\nsecond\t\\n"
    pxarfs("notes", "set", "-r", store, OLD, text)
    assert shown(pxarfs, "notes", "-r", store, OLD) == (text, text + "\n")
    after = datastore.manifest(store / OLD)
    assert after["unprotected"].pop("notes") == text and after == before
    rows = json.loads(pxarfs("snapshots", "-r", store, "host/split", "--output-format",
                             "json").stdout)
    assert [r.get("comment") for r in rows] == [None, "first “line”", None]
    assert (store / OLD / "index.json.blob").stat().st_mode & 0o777 == 0o644
    pxarfs("notes", "clear", "-r", store, OLD)
    after = datastore.manifest(store / OLD)
    assert after["unprotected"].pop("notes", "") == "" and after == before
    assert sorted(os.listdir(store / OLD)) == sorted(
        [f["filename"] for f in before["files"]] + ["index.json.blob"])
    done = pxarfs("notes", "set", "-r", store, OLD, b"\xff".decode(errors="surrogateescape"),
                  status=2)
    assert "UTF-8" in done.stderr and shown(pxarfs, "notes", "-r", store, OLD)[0] == ""
    assert "host/none" in pxarfs("notes", "show", "-r", store, "host/none", status=1).stderr


def test_signatures_stay_valid_even_over_what_we_do_not_know(pxarfs, store, folder):
    key = crypto.Key(bytes(range(32)))
    path = store / OLD / "index.json.blob"
    manifest = datastore.manifest(store / OLD)
    manifest["new-member"] = {"b": [1, "two", None][:2], "a": True}
    manifest["unprotected"]["key-fingerprint"] = key.fingerprint
    manifest["signature"] = key.signature(manifest)
    datastore.write_blob(path, json.dumps(manifest).encode())
    keyfile = key.save(folder / "key")
    pxarfs("files", "-r", store, OLD, "--keyfile", keyfile)
    pxarfs("notes", "set", "-r", store, OLD, "note")
    pxarfs("files", "-r", store, OLD, "--keyfile", keyfile)
    after = datastore.manifest(store / OLD)
    assert after["new-member"] == manifest["new-member"]
    assert after["signature"] == key.signature(after)


def test_a_damaged_manifest_is_not_rewritten(pxarfs, store):
    path = store / OLD / "index.json.blob"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    for command in (("show",), ("set", "text")):
        done = pxarfs("notes", command[0], "-r", store, OLD, *command[1:], status=1)
        assert "index.json.blob" in done.stderr
    assert path.read_bytes() == data
    pxarfs("forget", "-r", store, OLD)


@pytest.mark.both_backends
def test_namespaces_are_made_listed_and_removed(pxarfs, store):
    def listed(*args):
        rows = json.loads(pxarfs("namespaces", "list", "-r", store, "--output-format", "json",
                                 *args).stdout)
        text = pxarfs("namespaces", "list", "-r", store, *args).stdout
        assert text.splitlines() == [r["ns"] for r in rows]
        return text.splitlines()

    old = listed()
    pxarfs("namespaces", "create", "-r", store, "x/y/z")
    pxarfs("namespaces", "create", "-r", store, "x/y")
    assert listed() == sorted(old + ["x", "x/y", "x/y/z"]) and listed("x") == ["x/y", "x/y/z"]
    assert "no namespace" in pxarfs("namespaces", "list", "-r", store, "none", status=1).stderr
    for bad in ("a//b", "/".join("abcdefgh"), ".x", ""):
        pxarfs("namespaces", "delete", "-r", store, bad, status=2)
    pxarfs("namespaces", "delete", "-r", store, "x")
    assert listed() == old
    assert "not empty" in pxarfs("namespaces", "delete", "-r", store, "prod", status=1).stderr
    group = next((store / "ns/prod/ns/eu/host").iterdir())
    pxarfs("protect", "set", "-r", store, "--ns", "prod/eu", f"host/{group.name}")
    done = pxarfs("namespaces", "delete", "-r", store, "prod", "--delete-groups", status=1)
    assert "prod" in done.stderr and listed() == old
    pxarfs("protect", "clear", "-r", store, "--ns", "prod/eu", f"host/{group.name}")
    pxarfs("namespaces", "delete", "-r", store, "prod", "--delete-groups")
    assert [ns for ns in listed() if ns.startswith("prod")] == []


def test_a_directory_and_its_server_say_the_same(folder, store):
    """In text and in JSON; who changes something is told nothing."""
    shows = [["snapshots"], ["snapshots", "host/split"], ["snapshots", "--ns", "prod/eu"], ["files", OLD],
             ["notes", "show", OLD], ["notes", "show", "--group", "host/split"], ["protect", "show", OLD],
             ["namespaces"], ["namespaces", "list"], ["namespaces", "list", "prod"]]
    changes = [["notes", "set", OLD, "of one"], ["notes", "set", "--group", "host/split", "of all"],
               ["protect", "set", OLD], ["namespaces", "create", "x/y"], ["forget", NEW]]
    said = {}
    for backend in ("directory", "server"):
        copy = folder / backend
        subprocess.run(["cp", "-a", store, copy], check=True)
        pxarfs = Pxarfs(folder, serves=backend == "server")
        try:
            for command in changes:
                done = pxarfs(*command, "-r", copy)
                assert (done.stdout, done.stderr) == ("", "")
            said[backend] = [(command, pxarfs(*command, "-r", copy, *form).stdout)
                             for command in shows for form in ([], ["--output-format", "json"])]
        finally:
            pxarfs.cleanup()
    assert said["directory"] == said["server"]
    assert all(text for _, text in said["server"])


@pytest.mark.both_backends
def test_a_backup_has_notes_and_makes_its_namespace_on_request(pxarfs, store, folder):
    (folder / "source").mkdir()
    pxarfs("backup", "-r", store, "--ns", "new/one", "--create-ns", "--notes", "from\nbackup",
           "--backup-id", "n", f"root.pxar:{folder / 'source'}")
    assert shown(pxarfs, "notes", "-r", store, "--ns", "new/one", "host/n")[0] == "from\nbackup"
    pxarfs("backup", "-r", store, "--ns", "dry", "--create-ns", "--dry-run",
           f"root.pxar:{folder / 'source'}")
    assert not (store / "ns/dry").exists()


@pytest.mark.both_backends
def test_status_is_that_of_the_file_system(pxarfs, store):
    value = json.loads(pxarfs("status", "-r", store, "--output-format", "json").stdout)
    st = os.statvfs(store)
    sizes = [s.sizes[0] for s in (pxarfs.servers or {}).values()]
    assert [value["total"]] == (sizes or [st.f_blocks * st.f_frsize])
    assert 0 < value["avail"] <= value["total"]
    assert [line.split()[0] for line in pxarfs("status", "-r", store).stdout.splitlines()] == [
        "Total", "Used", "Available"]


def test_bad_usage(pxarfs, store):
    for args in (["notes"], ["notes", "what"], ["notes", "set", OLD], ["protect", "show"],
                 ["namespaces", "create"], ["status", "x"], ["protect", "set", OLD, "yes"],
                 ["notes", "show", "--output-format", "xml", OLD]):
        pxarfs(*args, status=2)


@pytest.mark.both_backends
def test_a_group_has_notes_of_its_own(pxarfs, store):
    group = ("-r", store, "--group", "host/split")
    assert shown(pxarfs, "notes", *group) == ("", "")
    text = "of the “group”\nline two"
    pxarfs("notes", "set", *group, text)
    assert shown(pxarfs, "notes", *group) == (text, text + "\n")
    assert (store / "host/split/notes").read_text() == text
    assert (store / "host/split/notes").stat().st_mode & 0o777 == 0o644
    assert shown(pxarfs, "notes", "-r", store, "host/split")[0] == ""  # the newest snapshot's
    pxarfs("notes", "clear", *group)
    pxarfs("notes", "clear", *group)
    assert shown(pxarfs, "notes", *group) == ("", "")
    locks = lock_files(store)
    for command in (("show", "--group", "host/none"), ("set", "--group", "host/none", "text")):
        assert "no group host/none" in pxarfs("notes", *command, "-r", store, status=1).stderr
    assert lock_files(store) == locks
    for bad in ("host/split/latest", OLD, "host", ""):
        pxarfs("notes", "show", "-r", store, "--group", bad, status=2)
    done = pxarfs("notes", "set", *group, b"\xff".decode(errors="surrogateescape"), status=2)
    assert "UTF-8" in done.stderr
    assert sorted(os.listdir(store / "host/split")) == sorted(
        [os.path.basename(n) for n in (OLD, NEW)] + ["2027-01-15T08:00:02Z", "owner"] +
        ["notes"] * (store / "host/split/notes").exists())


def test_notes_of_a_group_may_be_anything(pxarfs, store):
    (store / "host/split/notes").write_bytes(b"caf\xe9 \x9b2J\0\xc2\x9b\x1b\tend\xc3\n")
    show = ("notes", "show", "-r", store, "--group", "host/split")
    assert pxarfs(*show, text=False).stdout == b"caf\xe9 \x9b2J\0\xc2\x9b\x1b\tend\xc3\n"
    text = json.loads(pxarfs(*show, "--output-format", "json").stdout)
    assert text == "caf? ?2J\0\u009b\x1b\tend?\n"
    assert pxarfs.on_terminal(*show).expandtabs() == b"caf? ?2J????\tend?\r\n".expandtabs()


def test_notes_of_a_group_with_a_backup_stay(pxarfs, store):
    pxarfs("notes", "set", "-r", store, "--group", "host/split", "one")
    with open(store / ".pxarfs/locks/host-split", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = pxarfs("notes", "set", "-r", store, "--group", "host/split", "two", status=1)
        assert "host/split" in done.stderr
        assert shown(pxarfs, "notes", "-r", store, "--group", "host/split")[0] == "one"
