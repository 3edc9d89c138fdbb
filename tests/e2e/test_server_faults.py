# SPDX-License-Identifier: Apache-2.0
"""A server that stalls, dies, lies and overtakes itself."""

import json
import os
import resource
import signal
import subprocess
import threading

import pytest

import datastore
from conftest import SOON
from pbs import faults
from pbs.store import Group, Snapshot
from pbs_client import Client
from test_server import back_up, remote, same, tree  # noqa: F401 (fixtures)

MEMORY_MAX = 300 << 20


def finished(server):
    return [s.time for g in server.store.groups("") for s in server.store.snapshots(g)
            if server.store.is_finished(s)]


def copy_of(mount):
    target = mount.path.parent / "copy"
    return target, subprocess.Popen(["cp", "-r", mount.path, target])


# --- reading ---


def test_a_server_that_dies_again_and_again_in_a_copy_does_not_spoil_it(remote, server, tree):
    back_up(remote, tree, 0, "--chunk-size", "64")
    with remote.mount("host/a", "root.pxar", options="cache=4M") as mount:
        server.record.forget()
        rule = server.rule("GET /chunk", faults.hold(), nth=3)
        target, copy = copy_of(mount)
        for nth in (4, 4, None):
            assert rule.hit.wait(60)
            server.kill()
            if nth:  # while nobody can ask
                rule = server.rule("GET /chunk", faults.hold(), nth=nth)
            server.start()
        assert copy.wait(120) == 0 and same(tree, target)
        # each session has asked for the indexes it takes chunks of
        assert server.count("GET /download") >= server.count("GET /reader") >= 3


def test_a_server_that_is_away_for_a_while_is_waited_for(remote, server, tree):
    back_up(remote, tree)
    with remote.mount("host/a", "root.pxar") as mount:
        rule = server.rule("GET /chunk", faults.hold(), nth=2)
        target, copy = copy_of(mount)
        assert rule.hit.wait(60)
        server.kill()
        os.statvfs(mount.path)  # answers meanwhile
        timer = threading.Timer(0.3, server.start)
        timer.start()
        assert copy.wait(120) == 0 and same(tree, target)
        timer.join()


@pytest.mark.parametrize("fault", [
    faults.answer(503, "later"), faults.corrupt(), faults.reset(), faults.cut(100), faults.goaway(),
    faults.pieces(1000), faults.headers(("x-long", "y" * 70000))],
    ids=["503", "corrupt", "reset", "cut", "goaway", "pieces", "headers"])
def test_what_went_wrong_once_is_right_the_next_time(remote, server, tree, fault):
    back_up(remote, tree)
    with remote.mount("host/a", "root.pxar") as mount:
        server.rule("GET /chunk", fault)
        try:
            for folder in os.listdir(mount.path):
                os.listdir(mount.path / folder)
        except OSError:
            pass  # an error is fine, wrong content is not
        assert same(tree, mount.path)


def test_a_session_that_breaks_at_any_byte_is_made_again(remote, server, tree):
    back_up(remote, tree, 0, "--chunk-size", "64")
    with remote.mount("host/a", "root.pxar") as mount:
        for sent in (1, 100, 9000, 70000, 500000):
            server.rule("GET /reader", faults.cut_session(sent=sent))
        server.rule("GET /chunk", faults.drop())
        assert same(tree, mount.path)


def test_an_index_that_has_changed_meanwhile_is_not_believed(remote, server, tree):
    back_up(remote, tree)
    with remote.mount("host/a", "root.pxar") as mount:
        os.listdir(mount.path)
        snapshot = server.store.snapshots(server.store.groups("")[0])[0]
        path = server.store.path(snapshot) / "root.ppxar.didx"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        done = subprocess.run(["cat", mount.path / "d0/f0"], capture_output=True)
        assert done.returncode == 1 and b"Input/output error" in done.stderr
        assert "checksum" in mount.log()


@pytest.mark.slow  # sanitizers need the memory themselves
@pytest.mark.parametrize("fault", [
    faults.body(lambda data: b"[" * 5_000_000), faults.body(lambda data: b'{"data":[' + data),
    faults.body(lambda data: data.replace(b'"backup-time"', b'"backup-tide"')),
    faults.body(lambda data: data.replace(b"host", b"h/st")),
    faults.headers(("x-long", "y" * 5_000_000)), faults.cut(50), faults.answer(302, "", [
        ("location", "https://localhost/elsewhere")]), faults.answer(200, "")],
    ids=["deep", "open", "member", "name", "header", "cut", "redirect", "empty"])
def test_a_bad_list_is_an_error_and_costs_no_memory(remote, server, tree, fault):
    back_up(remote, tree)
    server.rule("GET /admin/*", fault, times=0)

    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))

    done = remote("snapshots", status=1, preexec_fn=limit)
    assert done.stderr and len(done.stderr) < 4000


@pytest.mark.slow  # as above
def test_a_manifest_without_end_costs_no_memory(remote, server, tree):
    back_up(remote, tree)
    server.rule("GET /download", faults.endless())

    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_MAX, MEMORY_MAX))

    assert "more than" in remote("ls", "host/a", "root.pxar", status=1,
                                 preexec_fn=limit).stderr


def test_a_server_that_breaks_each_session_is_not_stormed(remote, server, tree):
    back_up(remote, tree)
    server.rule("GET /chunk", faults.drop(), times=0)
    p = remote.start("ls", "-R", "host/a", "root.pxar", stderr=subprocess.DEVNULL)
    server.wait_for("GET /reader", 5)
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(1)
    assert server.count("GET /reader") <= 12
    p.kill()
    p.wait()


# --- writing ---


def test_nothing_is_indexed_before_its_chunk_is_there(remote, server, tree):
    """The server would refuse it: here every third chunk is answered when others have overtaken it."""
    held = [server.rule("POST /dynamic_chunk", faults.hold_answer(), nth=nth) for nth in (2, 5, 8)]

    def release():
        for rule in held:
            rule.hit.wait(60)
        server.wait_for("POST /dynamic_chunk", 20)
        for rule in reversed(held):
            rule.release.set()

    thread = threading.Thread(target=release)
    thread.start()
    back_up(remote, tree, 0, "--chunk-size", "64")
    thread.join()
    with remote.mount("host/a", "root.pxar") as mount:
        assert same(tree, mount.path)
    assert [r for r in server.record.requests if r.status is None or r.status >= 400] == []


@pytest.mark.parametrize("call, fault", [
    ("POST /dynamic_chunk", faults.drop()), ("PUT /dynamic_index", faults.reset()),
    ("PUT /dynamic_index", faults.goaway()), ("POST /dynamic_close", faults.cut(5)),
    ("POST /blob", faults.answer(503, "later")), ("POST /finish", faults.drop()),
    ("GET /backup", faults.cut_session(received=300_000)),
    ("GET /backup", faults.answer(101, "")), ("POST /dynamic_chunk", faults.endless())],
    ids=["chunk-drop", "append-reset", "append-goaway", "close-cut", "blob-503", "finish-drop",
         "cut", "no-upgrade", "endless"])
def test_a_backup_that_breaks_leaves_no_snapshot(remote, server, tree, call, fault):
    server.rule(call, fault)
    done = back_up(remote, tree, status=None)
    if done.returncode == 0:  # what came with the GOAWAY may have been the last thing it needed
        assert fault and finished(server)
        return
    assert done.returncode == 1 and done.stderr.strip()
    server.record.clear_rules()
    server.wait_for_sessions(0)
    assert finished(server) == []
    back_up(remote, tree)
    assert len(finished(server)) == 1


def test_a_backup_that_is_stopped_on_the_server_fails(remote, server, tree):
    rule = server.rule("POST /dynamic_chunk", faults.hold(), nth=3)
    p = remote.start("backup", f"root.pxar:{tree}", "--backup-id", "a", stderr=subprocess.PIPE)
    assert rule.hit.wait(60)
    client = Client(server.port)
    client.login()
    upid = server.tasks[-1].upid.replace(":", "%3A").replace("\\", "%5C")
    assert client.call("DELETE", f"/nodes/localhost/tasks/{upid}").status == 200
    rule.release.set()
    assert p.wait(60) == 1 and p.stderr.read()
    server.wait_for_sessions(0)
    assert finished(server) == []


def test_a_slow_finish_is_waited_for(remote, server, tree):
    rule = server.rule("POST /finish", faults.hold_answer())
    p = remote.start("backup", f"root.pxar:{tree}", "--backup-id", "a", stdout=subprocess.DEVNULL)
    assert rule.hit.wait(60)
    with pytest.raises(subprocess.TimeoutExpired):
        p.wait(0.5)
    rule.release.set()
    assert p.wait(60) == 0 and len(finished(server)) == 1


def test_older_times_are_refused(remote, server, tree):
    back_up(remote, tree, 0, "--backup-time", "2000")
    for time in ("2000", "1000"):
        assert back_up(remote, tree, 1, "--backup-time", time).stderr
    assert finished(server) == [2000]


def test_nothing_is_reused_of_a_snapshot_that_failed_verification(remote, server, tree):
    back_up(remote, tree, 0, "--backup-time", "1000")
    snapshot = server.store.snapshots(server.store.groups("")[0])[0]
    server.store.change_manifest(snapshot, lambda m: m["unprotected"].update(
        verify_state={"state": "failed", "upid": "UPID:"}))
    server.record.forget()
    back_up(remote, tree, 0, "--backup-time", "2000")
    assert server.count("POST /dynamic_chunk") > 0
    with remote.mount("host/a", "root.pxar") as mount:
        assert same(tree, mount.path)


def test_the_manifest_is_the_servers_and_has_our_notes(remote, server, tree):
    back_up(remote, tree, 0, "--backup-time", "1000", "--notes", "first\nsecond")
    manifest = datastore.manifest(server.store.root / "host/a/1970-01-01T00:16:40Z")
    assert [f["filename"] for f in manifest["files"]] == ["root.ppxar.didx", "root.mpxar.didx"]
    assert manifest["unprotected"]["notes"] == "first\nsecond"
    assert manifest["unprotected"]["chunk_upload_stats"]["count"] == server.count(
        "POST /dynamic_chunk")
    row, = json.loads(remote("snapshots", "--output-format", "json").stdout)
    assert row["comment"] == "first" and row["owner"] == "root@pam"


@pytest.mark.parametrize("call", ["GET /previous_backup_time", "POST /dynamic_index",
                                  "POST /dynamic_chunk", "POST /dynamic_close"])
def test_a_stop_is_heeded_while_the_server_says_nothing(remote, server, tree, call):
    rule = server.rule(call, faults.hold(), times=0)
    p = remote.start("backup", f"root.pxar:{tree}", "--backup-id", "a", stderr=subprocess.PIPE, text=True)
    assert rule.hit.wait(60)
    p.send_signal(signal.SIGTERM)
    assert "interrupted" in p.communicate(timeout=SOON)[1] and p.returncode == 1
    server.wait_for_sessions(0)
    assert finished(server) == []


def test_a_stop_is_heeded_while_the_last_snapshot_is_read(remote, server, tree):
    back_up(remote, tree)
    rule = server.rule("GET /chunk", faults.hold(), times=0)
    p = remote.start("backup", f"root.pxar:{tree}", "--backup-id", "a", "--backup-time", "1900000000",
                     stderr=subprocess.PIPE, text=True)
    assert rule.hit.wait(60)
    p.send_signal(signal.SIGTERM)
    assert "interrupted" in p.communicate(timeout=SOON)[1] and p.returncode == 1
    server.wait_for_sessions(0)
    assert len(finished(server)) == 1


def test_a_lock_that_is_about_to_go_is_waited_for(remote, server, tree):
    """A server clears away what it was left with only when it notices."""
    back_up(remote, tree)
    group = Group("", "host", "a")
    left = server.store.path(Snapshot(group, 1700000000))
    left.mkdir()
    assert server.store.locks.take(group, exclusive=True)

    def clear_away():
        server.wait_for("GET /backup", 3, answered=True)
        left.rmdir()
        server.store.locks.drop(group)

    thread = threading.Thread(target=clear_away)
    thread.start()
    back_up(remote, tree)
    thread.join()
    assert server.store.locks.take(group, exclusive=True)
    left.mkdir()
    assert "seems to be running" in back_up(remote, tree, 1).stderr
    server.store.locks.drop(group)


def test_it_is_told_why_a_backup_fails_not_that_it_was_given_up(remote, server, tree):
    """A chunk is refused while the entries of those before it are on their way."""
    (tree / "large").write_bytes(os.urandom(90 << 20))
    held = server.rule("PUT /dynamic_index", faults.hold())
    for action in (faults.run(lambda: held.hit.wait(5)), faults.answer(400, "the disk is full")):
        server.rule("POST /dynamic_chunk", action, nth=1035)
    assert "the disk is full" in back_up(remote, tree, 1).stderr
