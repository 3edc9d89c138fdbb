# SPDX-License-Identifier: Apache-2.0
"""A server as the repository: what breaks on the way, and what a server does that it should not."""

import itertools
import json
import os
import subprocess

import pytest

from conftest import GOLDEN
from pbs import faults
from pbs.auth import User
from pbs.schema import Refused
from pbs_server import Limits
from test_server_login import on_terminal


@pytest.fixture
def remote(pxarfs, server):
    """The program, with the server as its repository."""
    pxarfs.env.update(server.env, PXARFS_REPOSITORY=server.repository)
    return pxarfs


@pytest.fixture
def tree(folder):
    source = folder / "source"
    for d in range(4):
        (source / f"d{d}").mkdir(parents=True)
        for f in range(5):
            (source / f"d{d}" / f"f{f}").write_bytes(os.urandom(60_000) + b"tail")
    return source


TIMES = itertools.count(1800000000)  # each backup is later than the one before


def back_up(remote, tree, status=0, *more):
    return remote("backup", f"root.pxar:{tree}", "--backup-id", "a", "--chunk-size", 64,
                  "--backup-time", next(TIMES), *more, status=status)


def same(a, b):
    return subprocess.run(["diff", "-r", a, b], check=False, capture_output=True).returncode == 0


def snapshots(remote):
    return remote("snapshots").stdout.splitlines()


def test_backs_up_lists_and_mounts(remote, tree):
    back_up(remote, tree)
    assert len(snapshots(remote)) == 1
    assert "root.mpxar.didx" in remote("files", "host/a").stdout
    assert remote("ls", "host/a", "root.pxar").stdout.split() == ["d0", "d1", "d2", "d3"]
    with remote.mount("host/a", "root.pxar") as m:
        assert same(tree, m.path)


def test_a_mount_fetches_the_metadata_index_alone(remote, server, tree):
    back_up(remote, tree)
    server.record.forget()
    with remote.mount("host/a", "root.pxar") as m:
        files = [r.query for r in server.record.matching("GET /download")]
        assert files == ["file-name=index.json.blob", "file-name=root.mpxar.didx"]
        assert server.count("GET /chunk") == 0
        os.listdir(m.path)


def test_an_unchanged_tree_sends_no_chunk_of_content(remote, server, tree):
    back_up(remote, tree)
    server.record.forget()
    done = back_up(remote, tree)
    assert "read: 0 files" in done.stdout + done.stderr
    assert server.count("POST /dynamic_chunk") == 0


LEGACY = ["--change-detection-mode", "legacy"]
KEY = ["--keyfile", GOLDEN / "keys/none.json"]
def test_the_servers_cache_may_be_passed_by(remote, server, tree):
    back_up(remote, tree)
    back_up(remote, tree, 0, "--no-cache")
    first, second = [r.query for r in server.record.matching("GET /backup")]
    assert "no-cache" not in first and "no-cache=true" in second.split("&")


KINDS = pytest.mark.parametrize("kind, key", [([], []), (LEGACY, []), ([], KEY), (LEGACY, KEY)],
                                ids=["split", "single", "split-encrypted", "single-encrypted"])


@KINDS
def test_a_mount_outlives_the_server(remote, server, tree, kind, key):
    back_up(remote, tree, 0, *kind, *key)
    with remote.mount(*key, "host/a", "root.pxar") as m:
        copy = m.path.parent / "copy"
        rule = server.rule("GET /chunk", faults.hold(), nth=3)
        p = subprocess.Popen(["cp", "-r", m.path, copy])
        assert rule.hit.wait(60)
        server.kill()
        server.start()
        assert p.wait(60) == 0
        assert same(tree, copy)


def test_a_connection_that_breaks_is_made_again(remote, server, tree):
    back_up(remote, tree)
    with remote.mount("host/a", "root.pxar") as m:
        server.rule("GET /chunk", faults.drop(), nth=2)
        server.rule("GET /chunk", faults.goaway(), nth=4)
        assert same(tree, m.path)


@KINDS
def test_a_server_killed_in_a_backup_leaves_nothing(remote, server, tree, kind, key):
    rule = server.rule("POST /dynamic_chunk", faults.hold(), nth=2)
    p = remote.start("backup", f"root.pxar:{tree}", "--chunk-size", "64", *kind, *key,
                     stderr=subprocess.PIPE, text=True)
    assert rule.hit.wait(60)
    server.kill()
    server.start()
    assert p.wait(60) == 1
    assert "connection" in p.stderr.read()
    assert not any(line for line in snapshots(remote) if "root.pxar" in line)


@pytest.mark.parametrize("call", ["POST /dynamic_index", "POST /dynamic_chunk", "PUT /dynamic_index",
                                  "POST /dynamic_close", "POST /blob", "POST /finish"])
def test_a_refused_call_ends_the_backup(remote, server, tree, call):
    server.rule(call, faults.answer(400, "no, not this\x1b[2J"))
    done = back_up(remote, tree, status=1)
    assert "no, not this" in done.stderr and "\x1b" not in done.stderr
    server.wait_for_sessions(0)
    assert snapshots(remote) == []
    back_up(remote, tree)


@pytest.mark.parametrize("fault", [faults.reset(), faults.answer(500, "x" * 100000),
                                   faults.body(lambda data: b"{" * len(data))],
                         ids=["reset", "long text", "bad JSON"])
def test_a_bad_answer_ends_the_backup(remote, server, tree, fault):
    server.rule("POST /dynamic_index", fault)
    done = back_up(remote, tree, status=1)
    assert len(done.stderr) < 4000
    assert snapshots(remote) == []


@pytest.mark.parametrize("fault", [faults.corrupt(), faults.truncate(100), faults.reset(),
                                   faults.answer(401, "not yours")],
                         ids=["corrupt", "short", "reset", "refused"])
def test_a_bad_chunk_is_an_error(remote, server, tree, fault):
    back_up(remote, tree)
    server.rule("GET /chunk", fault, times=0)
    done = remote("ls", "-R", "host/a", "root.pxar", status=1)
    assert done.stderr


def test_an_endless_answer_is_cut_off(remote, server, tree):
    back_up(remote, tree)
    server.rule("GET /chunk", faults.endless(), times=0)
    done = remote("ls", "-R", "host/a", "root.pxar", status=1)
    assert "more than" in done.stderr


def test_small_windows_and_split_upgrades_work(remote, server, tree):
    server.limits = Limits(window=65535, frame=16384, streams=3)
    server.split_upgrade = True
    back_up(remote, tree)
    with remote.mount("host/a", "root.pxar") as m:
        assert same(tree, m.path)


def test_an_expired_ticket_is_made_anew(remote, server, tree):
    back_up(remote, tree)
    with remote.mount("host/a", "root.pxar") as m:
        server.rule("GET /reader", faults.answer(401, "ticket expired"))
        server.rule("GET /chunk", faults.drop())
        assert same(tree, m.path)


def test_a_namespace_is_made_and_listed(remote, tree):
    assert "no namespace x/y" in back_up(remote, tree, 1, "--ns", "x/y").stderr
    back_up(remote, tree, 0, "--ns", "x/y", "--create-ns")
    assert len(remote("snapshots", "--ns", "x/y").stdout.splitlines()) == 1
    assert snapshots(remote) == []


def test_who_may_make_a_namespace_in_another_need_not_be_able_to_make_that(remote, server, tree):
    remote("namespaces", "create", "mine")
    create, asked = server.store.create_ns, []

    def create_ns(parent, name):
        asked.append((parent, name))
        if not parent:
            raise Refused(403, "permission check failed")
        return create(parent, name)

    server.store.create_ns = create_ns
    back_up(remote, tree, 0, "--create-ns", "--ns", "mine/a/b")
    assert asked == [("mine/a", "b"), ("mine", "a"), ("mine/a", "b")]
    assert "permission check failed" in remote("namespaces", "create", "x/y", status=1).stderr


def as_user(remote, server, role):
    """The program, as another user with that role."""
    server.auth.users["u@pbs"] = User("u-secret")
    server.auth.roles["u@pbs"] = role
    remote.env.update(PXARFS_REPOSITORY=server.repository.replace("root@pam", "u@pbs"),
                      PBS_PASSWORD="u-secret")


JSON = ("--output-format", "json")


def test_who_may_list_snapshots_need_not_be_able_to_read_them(remote, server, tree):
    back_up(remote, tree, 0, *KEY, "--notes", "first\nsecond")
    (tree / "log").write_text("a log")
    remote("upload-log", "host/a", tree / "log")
    back_up(remote, tree, 0, *LEGACY)
    remote("protect", "set", "host/a")
    old = remote("snapshots").stdout.split()[0]

    def seen(*repository):
        return [remote(*command, *repository, *form).stdout
                for command in (("snapshots",), ("files", old), ("files", "host/a")) for form in ((), JSON)]

    wanted = seen("-r", server.store.root)
    as_user(remote, server, "DatastoreAudit")
    server.record.forget()
    assert seen() == wanted
    assert "client.log.blob" in wanted[2] and "client.log.blob" not in wanted[4]
    first, second = json.loads(wanted[1])
    assert first["comment"] == "first" and first["fingerprint"] and second["protected"]
    assert server.count("GET /reader") == 0  # each would be a task on the server


@pytest.mark.parametrize("old, new", [
    (b'"filename": "root.ppxar.didx"', b'"filename": 7'),
    (b'"crypt-mode": "none"', b'"crypt-mode": "\\u001b[2J"'),
    (b'"filename": "root.ppxar.didx"', b'"filename": "' + b"x" * 300 + b'"'), (b'"size": ', b'"size": -'),
    (b'"protected"', b'"verification": [], "comment": 5, "protected"')],
    ids=["number", "mode", "long", "size", "rest"])
def test_what_cannot_be_of_a_manifest_is_not_believed(remote, server, tree, old, new):
    back_up(remote, tree)
    wanted = remote("snapshots").stdout
    rule = server.rule("GET /admin/*/snapshots", faults.body(lambda data: data.replace(old, new)))
    done = remote("snapshots", status=None)
    assert rule.hit.is_set() and done.stdout == wanted and "\x1b" not in done.stderr


def test_a_certificate_that_is_not_expected_is_refused(remote, server, tree):
    remote.env["PBS_FINGERPRINT"] = ":".join(["00"] * 32)
    done = back_up(remote, tree, status=1)
    assert server.fingerprint in done.stderr.lower() and "not the expected" in done.stderr
    del remote.env["PBS_FINGERPRINT"]
    done = back_up(remote, tree, status=1)
    assert "PBS_FINGERPRINT" in done.stderr
    assert server.count("*") == 0  # nobody has seen the password
    remote.env["SSL_CERT_FILE"] = str(server.pem)
    back_up(remote, tree)
    remote.env["PBS_FINGERPRINT"] = ""  # none is expected
    back_up(remote, tree)
    del remote.env["SSL_CERT_FILE"]
    assert "not trusted" in back_up(remote, tree, status=1).stderr


def test_a_wrong_password_is_refused(remote, server, tree):
    remote.env["PBS_PASSWORD"] = "wrong-password"
    done = back_up(remote, tree, status=1)
    assert "login" in done.stderr and "wrong-password" not in done.stderr
    assert server.count("GET /backup") == 0


def test_a_token_owns_what_it_makes_and_may_do_what_it_may(remote, server, tree):
    server.auth.users["u@pbs"] = User("unused")
    server.auth.tokens["u@pbs!t"] = "se%c:ret/+ x"
    server.auth.roles = {"u@pbs": "DatastoreBackup", "u@pbs!t": "DatastoreBackup"}
    remote.env["PXARFS_REPOSITORY"] = f"u@pbs!t@localhost:{server.port}:store1"
    remote.env["PBS_PASSWORD"] = "se%c:ret/+ x"
    back_up(remote, tree)
    assert (server.store.root / "host/a/owner").read_text() == "u@pbs!t\n"
    remote("notes", "set", "host/a", "its own")
    assert "403" in remote("forget", "--group", "host/a", status=1).stderr


def test_secrets_are_in_no_argument_and_no_message(remote, server, tree):
    rule = server.rule("POST /dynamic_chunk", faults.hold())
    p = remote.start("backup", f"root.pxar:{tree}", "--chunk-size", "64", stdout=subprocess.PIPE,
                     stderr=subprocess.STDOUT, text=True)
    assert rule.hit.wait(60)
    with open(f"/proc/{p.pid}/cmdline") as f:
        seen = f.read()
    rule.release.set()
    seen += p.communicate(timeout=60)[0]
    assert p.returncode == 0, seen
    for failure in (faults.answer(401, "no"), faults.answer(500, "no"), faults.drop()):
        server.rule("GET /admin/*", failure, times=0)
        seen += remote("snapshots", status=1).stderr
        server.record.clear_rules()
    for secret in ("secret12", "PBSAuthCookie", "CSRFPrevention", "PBS:root@pam"):
        assert secret not in seen


@pytest.mark.parametrize("call", ["GET /chunk", "GET /download"])
def test_headers_that_do_not_end_break_the_connection_only(remote, server, tree, call):
    back_up(remote, tree)
    server.rule(call, faults.headers(*((f"x-{i}", "y" * 1000) for i in range(500))))
    with remote.mount("host/a", "root.pxar", timeout=130) as m:
        assert same(tree, m.path) or same(tree, m.path)


@pytest.mark.parametrize("call, fault", [("POST /access/ticket", faults.endless()),
                                         ("GET /admin/*", faults.body(lambda _: bytes(65 << 20)))])
def test_an_endless_answer_outside_a_session_is_cut_off(remote, server, call, fault):
    server.rule(call, fault, times=0)
    done = remote("snapshots", status=1)
    assert "more than" in done.stderr


@pytest.mark.parametrize("text", [b"", b"null", b"{}", b'{"data":{}}', b'{"data":[[]]}',
                                  b'{"data":[{"backup-type":"x","backup-id":"a"}]}',
                                  b'{"data":[{"backup-type":"host","backup-id":"../a",'
                                  b'"backup-count":1,"last-backup":1}]}', b"[" * 100000])
def test_a_list_that_is_none_is_an_error(remote, server, text):
    server.rule("GET /admin/*", faults.body(lambda _: text), times=0)
    done = remote("snapshots", status=1)
    assert done.stderr and len(done.stderr) < 2000


NOTES, PROTECTED, STATUS = ("notes", "show", "host/a"), ("protect", "show", "host/a"), ("status",)


@pytest.mark.parametrize("command, call", [(NOTES, "GET /admin/*/notes"),
                                           (PROTECTED, "GET /admin/*/protected"),
                                           (STATUS, "GET /admin/*/status")])
def test_an_answer_of_another_kind_is_an_error(remote, server, tree, command, call):
    back_up(remote, tree)
    remote(*command)
    for text in (b"", b"null", b'{"data":', b'{"data":{"total":-1,"used":"x","avail":1.5}}',
                 b'{"data":{"total":1}}', b'{"data":[true]}', b'{"data":1}', b'{"data":null}',
                 b'{"data":"\\ud800"}', b"[" * 100000, bytes(65 << 20)):
        server.rule(call, faults.body(lambda _, text=text: text))
        done = remote(*command, status=1)
        assert done.stderr and len(done.stderr) < 2000 and not done.stdout
    server.rule(call, faults.endless())
    assert "more than" in remote(*command, status=1).stderr


def test_notes_of_a_server_do_not_reach_the_terminal_raw(remote, server, tree):
    back_up(remote, tree)
    server.rule("GET /admin/*/notes", faults.body(lambda _: b'{"data":"a\\u001b[2Jb\\u0000c"}'),
                times=0)
    shown = on_terminal(remote, [], *NOTES)[1]
    assert "\x1b" not in shown and "\0" not in shown and "a?[2Jb?c" in shown
    assert remote(*NOTES, "--output-format", "json").stdout == '"a\\u001b[2Jb\\u0000c"\n'


@pytest.mark.parametrize("backend", ["directory", "server"], indirect=True)
def test_an_unfinished_snapshot_is_named_so(pxarfs, store):
    name = "host/split/2027-01-15T08:00:09Z"
    (store / name / "index.json.blob").unlink()
    done = pxarfs("files", "-r", store, name, status=1)
    assert "is not finished (it has no index.json.blob)" in done.stderr and name in done.stderr


def test_a_manifest_that_cannot_be_read_is_not_called_unfinished(remote, server, tree):
    back_up(remote, tree)
    server.rule("GET /download", faults.answer(400, "the disk is broken"))
    done = remote("ls", "host/a", "root.pxar", status=1)
    assert "the disk is broken" in done.stderr and "not finished" not in done.stderr
