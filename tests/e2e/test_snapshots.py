# SPDX-License-Identifier: Apache-2.0
"""init, snapshots and files."""

import json
import os
import stat
import subprocess

import pytest

import datastore


def listed(pxarfs, store, *args, status=0):
    done = pxarfs("snapshots", "-r", store, "--output-format", "json", *args, status=status)
    return json.loads(done.stdout)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def memory(pxarfs, folder):
    """Where 65,536 folders are made and gone quickly."""
    path = folder / "memory"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    return path


@pytest.mark.both_backends
def test_lists_snapshots_in_the_servers_words_and_order(pxarfs, store):
    rows = listed(pxarfs, store)
    names = [(r["backup-type"], r["backup-id"], r["backup-time"]) for r in rows]
    assert names == sorted(names) and len(names) == 10
    master = next(r for r in rows if r["backup-id"] == "master")
    want = datastore.manifest(store / "host/master/2027-01-15T08:00:06Z")
    blob_size = (store / "host/master/2027-01-15T08:00:06Z/index.json.blob").stat().st_size
    assert {f["filename"]: f["size"] for f in master["files"]} == {
        **{f["filename"]: f["size"] for f in want["files"]}, "index.json.blob": blob_size}
    assert master["size"] == sum(f["size"] for f in want["files"]) + blob_size
    assert master["protected"] is False and master["owner"] == "test@pbs!bench"
    assert master["fingerprint"] == want["unprotected"]["key-fingerprint"]


@pytest.mark.both_backends
def test_lists_one_group_and_one_namespace(pxarfs, store):
    assert [r["backup-time"] for r in listed(pxarfs, store, "host/split")] == [
        1800000002, 1800000009, 1800000010]
    assert [r["backup-id"] for r in listed(pxarfs, store, "--ns", "prod/eu")] == ["nested"]
    assert listed(pxarfs, store, "host/none") == []
    assert listed(pxarfs, store, "--ns", "prod") == []
    done = pxarfs("snapshots", "-r", store, "--ns", "prud", status=1)
    assert "prud" in done.stderr
    done = pxarfs("snapshots", "-r", store, "host", status=2)
    assert "TYPE/ID" in done.stderr


@pytest.mark.both_backends
def test_text_table_has_a_line_per_snapshot(pxarfs, store2):
    lines = pxarfs("snapshots", "-r", store2).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "host/excludes/2027-01-15T08:16:41Z", "host/excludes/2027-01-15T08:16:42Z",
        "vm/104/2027-01-15T08:16:43Z"]
    assert [" protected " in line for line in lines] == [True, False, False]
    assert lines[1].split()[-1] == "t.pxar"
    assert [r["protected"] for r in listed(pxarfs, store2)] == [True, False, False]


def test_unfinished_snapshots_are_not_listed(pxarfs, store):
    (store / "host/split/2028-01-15T08:00:02Z").mkdir()
    (store / "host/new/2028-01-15T08:00:02Z").mkdir(parents=True)
    assert len(listed(pxarfs, store)) == 10
    done = pxarfs("files", "-r", store, "host/split/2028-01-15T08:00:02Z", status=1)
    assert "not finished" in done.stderr


def test_a_damaged_manifest_spoils_its_row_only(pxarfs, store):
    path = store / "host/split/2027-01-15T08:00:09Z/index.json.blob"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    rows = listed(pxarfs, store, status=1)
    assert len(rows) == 10
    assert [r["backup-time"] for r in rows if "error" in r] == [1800000009]
    done = pxarfs("snapshots", "-r", store, status=1)
    assert len(done.stdout.splitlines()) == 10
    assert "pxarfs: host/split/2027-01-15T08:00:09Z: index.json.blob: " in done.stderr


def test_a_damaged_manifest_is_told_where_a_path_is_no_utf8(pxarfs, store):
    odd = store.rename(store.with_name("odd\udcff"))
    os.truncate(odd / "host/split/2027-01-15T08:00:09Z/index.json.blob", 1 << 40)
    done = pxarfs("snapshots", "-r", odd, "--output-format", "json", status=1, text=False)
    assert b"odd" in done.stderr and b"index.json.blob" in done.stderr
    row = next(r for r in json.loads(done.stdout) if r["backup-time"] == 1800000009)
    assert row["files"] == [] and "odd?" in row["error"]


def put_manifest(snapshot, change):
    """Rewrite a manifest whose files `change` has changed."""
    text = datastore.manifest(snapshot)
    change(text["files"])
    datastore.put_blob(snapshot / "index.json.blob", json.dumps(text).encode())


@pytest.mark.parametrize("mode", ["x\nhost/forged/2027-01-15T08:00:09Z  1 B", "\u00e9" * 2000,
                                  "x" + "\u00e9" * 2000], ids=["line", "even", "odd"])
def test_what_a_manifest_says_is_one_row_and_one_error(pxarfs, store, mode):
    """A line's end in it, or a character that the end of the message cuts in two."""
    def change(files):
        files[0]["crypt-mode"] = mode
    put_manifest(store / "host/split/2027-01-15T08:00:09Z", change)
    assert pxarfs("snapshots", "-r", store, status=1, text=False).stdout.count(b"\n") == 10
    rows = json.loads(pxarfs("snapshots", "-r", store, "--output-format", "json", status=1,
                             text=False).stdout)
    errors = [r["error"] for r in rows if "error" in r]
    assert len(errors) == 1 and "unknown crypt mode" in errors[0]


def test_an_owner_may_be_anything(pxarfs, store):
    (store / "host/split/owner").write_bytes(b"caf\xe9\x1b@pam\n")
    assert len(pxarfs("snapshots", "-r", store).stdout.splitlines()) == 10
    assert {r["owner"] for r in listed(pxarfs, store, "host/split")} == {"caf?\x1b@pam"}


def test_sizes_that_no_number_can_hold_are_as_large_as_one_can(pxarfs, store):
    def change(files):
        for row in files:
            row["size"] = 2**63 - 1
    put_manifest(store / "host/split/2027-01-15T08:00:09Z", change)
    row, = [r for r in listed(pxarfs, store, "host/split") if r["backup-time"] == 1800000009]
    assert len(row["files"]) > 2 and row["size"] == 2**63 - 1
    assert "  8 EiB  " in pxarfs("snapshots", "-r", store, "host/split").stdout


@pytest.mark.both_backends
def test_files_of_a_snapshot(pxarfs, store):
    rows = json.loads(pxarfs("files", "-r", store, "host/image", "--output-format",
                             "json").stdout)
    assert [r["filename"] for r in rows] == ["catalog.pcat1.didx", "disk.img.fidx",
                                             "etc.conf.blob", "etc2.pxar.didx", "index.json.blob"]
    assert {r["crypt-mode"] for r in rows} == {"none"}
    text = pxarfs("files", "-r", store, "host/image/latest").stdout
    assert [line.split()[0] for line in text.splitlines()] == [r["filename"] for r in rows]
    done = pxarfs("files", "-r", store, "host/none", status=1)
    assert "host/none" in done.stderr


def test_bad_usage(pxarfs, store):
    done = pxarfs("snapshots", "-r", store, "--output-format", "xml", status=2)
    assert "text or json" in done.stderr
    assert pxarfs("snapshots", "-r", store, "--output-format", "json-pretty").stdout == \
        pxarfs("snapshots", "-r", store, "--output-format", "json").stdout
    done = pxarfs("ls", "-r", store, "host/split", "rot.pxar", status=1)
    assert "no archive 'rot.pxar'; it has root.pxar" in done.stderr
    pxarfs("files", "-r", store, "--output-format", "", "host/image", status=2)
    pxarfs("files", "-r", store, status=2)
    assert "store1" in pxarfs("snapshots", "-r", "store1", status=1).stderr


def test_init_makes_the_servers_layout(pxarfs, folder):
    pxarfs("init", folder / "new")
    new = folder / "new"
    assert sorted(os.listdir(new)) == [".chunks", ".lock"]
    assert mode(new) == 0o750 and mode(new / ".chunks") == 0o750 and mode(new / ".lock") == 0o644
    assert listed(pxarfs, new) == []
    assert "datastore already" in pxarfs("init", new, status=1).stderr


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_init_is_independent_of_the_umask(pxarfs, folder, umask):
    pxarfs("init", folder / "new", umask=umask)
    assert mode(folder / "new") == (0o750 if umask == 0 else 0o700)
    assert mode(folder / "new/.chunks") == 0o750
    assert mode(folder / "new/.lock") == 0o644


def test_a_datastore_beside_is_found_by_a_relative_path(pxarfs, folder):
    made = pxarfs("init", "store", cwd=folder).stderr
    assert "./store" in made
    (folder / "sub").mkdir()
    for spelling, cwd in (("./store", folder), ("../store", folder / "sub"), ("dir:store", folder)):
        assert pxarfs("snapshots", "-r", spelling, cwd=cwd).stdout == ""
    pxarfs("init", "dir:other", cwd=folder)
    assert (folder / "other/.chunks").is_dir()
    for word in ("localhost:store1", "root@pam@pbs.example:8007:store1"):
        assert "./" + word in pxarfs("init", word, cwd=folder, status=2).stderr
        assert not (folder / word).exists()
    assert "repository /no/where" in pxarfs("snapshots", "-r", "/no/where", status=1).stderr


def test_init_lets_nobody_else_at_the_blobs(pxarfs, folder, memory):
    for name, before, after in (("open", 0o755, 0o750), ("closed", 0o700, 0o700)):
        (folder / name).mkdir(mode=before)
        pxarfs("init", folder / name)
        assert mode(folder / name) == after
    pxarfs("init", "--full", memory / "adopted")
    assert mode(memory / "adopted") == 0o755
    (folder / "secret").write_text("hash\n")
    pxarfs("backup", "-r", folder / "open", "--backup-id", "a", f"secret.conf:{folder}/secret")
    folder.chmod(0o755)
    blob, = (folder / "open/host/a").glob("*/secret.conf.blob")
    done = subprocess.run(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "cat", blob],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Permission denied" in done.stderr


def test_init_full_makes_every_chunk_folder_and_can_be_repeated(pxarfs, memory):
    chunks = memory / "new/.chunks"
    (chunks / "0007").mkdir(parents=True)  # an init that was interrupted
    pxarfs("init", "--full", memory / "new", umask=0o077)
    assert sorted(os.listdir(chunks)) == [f"{i:04x}" for i in range(65536)]
    assert {mode(chunks / name) for name in ("0000", "0001", "0007", "ffff")} == {0o750}


def test_init_refuses_what_is_not_empty_but_not_hidden_files(pxarfs, folder):
    old = folder / "old"
    old.mkdir()
    (old / "lost+found").mkdir()
    (old / ".bashrc").touch()
    (old / "data").touch()
    assert "data" in pxarfs("init", old, status=1).stderr
    assert not (old / ".chunks").exists()
    (old / "data").unlink()
    pxarfs("init", old)
    assert "No such file" in pxarfs("init", folder / "a/b/c", status=1).stderr
    (folder / "file").touch()
    assert "Not a directory" in pxarfs("init", folder / "file", status=1).stderr


def test_reading_as_another_user_works_without_locks(pxarfs, store):
    subprocess.run(["chmod", "-R", "a+rX", store], check=True)
    store.parent.chmod(0o755)
    done = pxarfs("snapshots", "-r", store, user=65534, group=65534, extra_groups=[])
    assert len(done.stdout.splitlines()) == 10
    assert not (store / ".pxarfs").exists()
