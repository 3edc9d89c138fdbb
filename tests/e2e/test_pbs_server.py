# SPDX-License-Identifier: Apache-2.0
"""The test server holds to what the real one does: shown with a client that knows nothing of it."""

import hashlib
import json
import os
import socket
import struct
import threading
import zlib

import hyperframe.frame
import pytest

import datastore
from pbs import containers, faults
from pbs.auth import User
from pbs_client import Client, Refused, sha256
from pbs_server import Limits

D = "/admin/datastore/{store}"
ONE, TWO = os.urandom(1000), b"two" * 1000
SNAP = {"backup-type": "host", "backup-id": "elsa", "backup-time": 1000}


@pytest.fixture
def client(server):
    c = Client(server.port)
    c.login()
    return c


def didx_csum(pairs):
    """pairs: [(end, digest)]"""
    return hashlib.sha256(containers.didx_entries(pairs)).hexdigest()


def manifest(files=(), **more):
    text = {**SNAP, "files": list(files), "signature": None, "unprotected": {}, **more}
    return containers.encode(json.dumps(text).encode())


def open_index(session, name="root.mpxar.didx"):
    return session.call("POST", "/dynamic_index", {"archive-name": name}).data


def put(session, wid, data, kind="dynamic"):
    return session.put_chunk(wid, containers.encode(data), len(data), sha256(data), kind).data


def close(session, wid, pairs, kind="dynamic", **more):
    query = {"wid": wid, "chunk-count": len(pairs), "size": pairs[-1][0] if pairs else 1,
             "csum": didx_csum(pairs), **more}
    return session.call("POST", f"/{kind}_close", query)


def put_index(session, name="root.mpxar.didx", chunks=(ONE, TWO)):
    """A whole index; its entry for the manifest."""
    wid, end, pairs = open_index(session, name), 0, []
    for data in chunks:
        put(session, wid, data)
        assert session.append(wid, [(end, sha256(data))]).data is None
        end += len(data)
        pairs.append((end, sha256(data)))
    assert close(session, wid, pairs).data is None
    return {"filename": name, "size": end, "csum": didx_csum(pairs), "crypt-mode": "none"}


def back_up(client, **where):
    session = client.backup(**where)
    entry = put_index(session)
    assert session.put_blob("index.json.blob", manifest([entry])).data is None
    assert session.call("POST", "/finish").data is None
    session.close()


def refused(function, status=400):
    with pytest.raises(Refused) as e:
        function()
    assert e.value.status == status, e.value
    return e.value.text


def gone(session):
    with pytest.raises(ConnectionError):
        while True:
            session.pump()


def frames(session):
    """What still comes, to the end, past the library: it would not go on after a GOAWAY."""
    data, out = bytearray(), []
    while more := session.sock.recv(1 << 16):
        data += more
    while data:
        frame, size = hyperframe.frame.Frame.parse_frame_header(memoryview(data)[:9])
        out.append(frame)
        del data[:9 + size]
    return out


# --- login ---


def test_credentials_are_proved(server, client):
    c = Client(server.port)
    assert c.call("GET", "/ping").data == {"pong": True}
    for attempt in (lambda: c.call("GET", "/version").data, lambda: c.login(password="wrong"),
                    lambda: c.login("nobody@pam"), lambda: c.backup(), lambda: c.reader()):
        refused(attempt, 401)
    refused(lambda: c.login("root"), 400)
    assert c.login(password=client.ticket)["username"] == "root@pam"  # renewal
    assert c.call("GET", "/version").data["version"] == "4.1"
    c.headers[0] += "x"
    refused(lambda: c.call("GET", "/version").data, 401)
    r = c.call("GET", "/version")
    assert r.text and "data" not in r.text and "__Host-PBSAuthCookie=;" in r.headers["set-cookie"]
    server.auth.expire_all()
    refused(lambda: client.call("GET", "/version").data, 401)


def test_a_ticket_lives_two_hours_and_a_session_longer(server, client):
    back_up(client)
    reader = client.reader()
    now = server.auth.clock()
    server.auth.clock = lambda: now + 7300
    refused(lambda: client.call("GET", "/version").data, 401)
    refused(lambda: client.login(password=client.ticket), 401)
    assert reader.call("GET", "/speedtest").body == b"A" * (1 << 20)


def test_changes_need_the_csrf_token(server, client):
    client.headers.pop()
    assert client.call("GET", "/version").status == 200
    for method, path in (("POST", D + "/namespace"), ("PUT", D + "/notes"),
                         ("DELETE", D + "/snapshots")):
        refused(lambda m=method, p=path: client.call(m, p).data, 401)


def test_tokens_and_their_rights(server, client):
    server.auth.users["u@pbs"] = User("password")
    server.auth.tokens = {"u@pbs!t": "se%cret", "root@pam!t": "x"}
    server.auth.roles = {"u@pbs": "DatastoreBackup", "u@pbs!t": "DatastoreAdmin"}
    c = Client(server.port)
    c.use_token("u@pbs!t", "se%cret")
    back_up(c, group="host/own")
    back_up(client, group="host/other")
    assert [r["backup-id"] for r in c.call("GET", D + "/groups").data] == ["own"]
    assert "owner" in refused(lambda: c.backup(group="host/other", time=2000))
    refused(lambda: c.call("GET", D + "/notes", {**SNAP, "backup-id": "other"}).data, 403)
    refused(lambda: c.reader(group="host/other"))
    refused(lambda: c.call("DELETE", D + "/snapshots", {**SNAP, "backup-id": "own"}).data, 403)
    user = Client(server.port)
    user.login("u@pbs", "password")
    assert user.reader(group="host/own").call("GET", "/speedtest").status == 200
    c.use_token("u@pbs!t", "wrong")
    refused(lambda: c.call("GET", "/version").data, 401)
    c.use_token("root@pam!t", "x")
    refused(lambda: c.call("GET", D + "/groups").data, 403)  # no superuser
    server.auth.users["u@pbs"].enabled = False
    refused(lambda: user.call("GET", "/version").data, 401)


def test_a_second_factor_is_asked_for(server):
    server.auth.users["root@pam"].totp = "123456"
    c = Client(server.port)
    data = c.login()
    assert data["ticket"].startswith('PBS:!tfa!{"totp"%3Atrue}:')
    assert data["CSRFPreventionToken"] == "invalid"
    refused(lambda: c.call("GET", "/version").data, 401)
    challenge = {"tfa-challenge": data["ticket"]}
    refused(lambda: c.login(password="totp:000000", **challenge), 401)
    c.login(password="totp:123456", **challenge)
    assert c.call("GET", "/version").status == 200


def test_a_ticket_may_come_as_a_cookie(server):
    c = Client(server.port)
    r = c.call("POST", "/access/ticket", body={"username": "root@pam", "password": "secret12",
                                               "http-only": True})
    assert "ticket" not in r.data and "ticket-info" in r.data
    assert r.headers["content-type"].split(";")[0] == "application/json"
    ticket = r.headers["set-cookie"].split(";")[0]
    c.headers = [f"Cookie: {ticket}"]
    assert c.call("GET", "/version").status == 200


# --- REST ---


def test_parameters_are_checked(server, client):
    def status(query=None, body=None, path=D + "/snapshots", method="GET"):
        return client.call(method, path, query, body).status

    assert status() == 200 and status({"ns": ""}) == 200 and status({"_dc": "1"}) == 200
    assert status({"what": "x"}) == 400 and status({"backup-type": "hosts"}) == 400
    assert status([("ns", ""), ("ns", "")]) == 400 and status({"ns": "a//b"}) == 400
    assert status({"ns": "none"}) == 400 and status(path="/admin/datastore/none/groups") == 400
    assert status(path=D + "/files") == 400 and status({**SNAP, "backup-time": "x"}, path=D +
                                                       "/files") == 400
    name = D + "/namespace"
    assert status({"ns": "x"}, {"name": "a"}, name, "POST") == 200  # the body wins
    assert status(None, {"name": 1}, name, "POST") == 400
    assert status(None, {"name": "a", "parent": None}, name, "POST") == 400
    assert status(None, [], name, "POST") == 400
    assert status(path="/none") == 404 and status(path=D + "/notes", method="POST") == 404
    assert client.raw("GET", "/api2/json/./version").status == 400
    assert client.raw("GET", "//api2//json///version").status == 200
    assert client.raw("POST", "/api2/json/admin/datastore/store1/namespace", b"name=b",
                      ["Content-Type: text/plain"]).status == 400
    assert client.raw("POST", "/api2/json/admin/datastore/store1/namespace", b"name=b",
                      ["Content-Type: application/x-www-form-urlencoded"]).data == "b"
    long = client.call("GET", D + "/snapshots", {"ns": "a" * 3072})
    assert long.status == 414 and not long.body
    assert status(None, {"name": "c" * (512 << 10)}, name, "POST") == 400
    assert status() == 200  # the connection has stayed good all the time


def test_answers_are_deflated_when_asked_for_only(server, client):
    back_up(client)
    plain = client.call("GET", D + "/snapshots")
    assert "content-encoding" not in plain.headers and "content-length" in plain.headers
    small = client.call("GET", D + "/snapshots", headers=["Accept-Encoding: deflate"])
    assert small.headers["transfer-encoding"] == "chunked"
    assert zlib.decompress(small.body) == plain.body
    file = client.call("GET", D + "/download", {**SNAP, "file-name": "root.mpxar.didx"})
    assert file.headers["transfer-encoding"] == "chunked"
    assert containers.parse_index(bytes(file.body))[0] == (1000, sha256(ONE))
    reader = client.reader()
    small = reader.call("GET", "/speedtest", headers=[("accept-encoding", "deflate")])
    assert zlib.decompress(small.body) == b"A" * (1 << 20)


def test_plain_http_is_sent_to_https(server):
    for method, status in (("GET", b"301"), ("POST", b"308")):
        with socket.create_connection(("localhost", server.port)) as s:
            s.sendall(b"%b /x HTTP/1.1\r\nHost: h\r\n\r\n" % method.encode())
            answer = s.recv(4096)
        assert answer.split()[1] == status and b"location: https://h/x\r\n" in answer


def test_namespaces_groups_and_snapshots_are_listed_and_go(server, client):
    def ask(method, path, **query):
        return client.call(method, D + path, {k.replace("_", "-"): v for k, v in query.items()})

    assert client.call("POST", D + "/namespace", body={"name": "a"}).data == "a"
    assert client.call("POST", D + "/namespace", body={"name": "b", "parent": "a"}).data == "a/b"
    assert client.call("POST", D + "/namespace", body={"name": "b", "parent": "x"}).status == 400
    assert [r["ns"] for r in ask("GET", "/namespace").data] == ["", "a", "a/b"]
    assert [r["ns"] for r in ask("GET", "/namespace", parent="a", max_depth=0).data] == ["a"]
    for time in (1000, 2000, 3000):
        back_up(client, ns="a/b", time=time)
    where = {"ns": "a/b", **SNAP}
    row, = ask("GET", "/groups", ns="a/b").data
    assert (row["last-backup"], row["backup-count"], row["owner"]) == (3000, 3, "root@pam")
    rows = ask("GET", "/snapshots", ns="a/b").data
    assert sorted(r["backup-time"] for r in rows) == [1000, 2000, 3000]
    assert {f["filename"]: f["size"] for f in rows[0]["files"]}["root.mpxar.didx"] == 4000
    assert client.call("PUT", D + "/notes", {**where, "notes": "one\ntwo"}).data is None
    assert client.call("GET", D + "/notes", where).data == "one\ntwo"
    assert "one" in [r.get("comment") for r in ask("GET", "/snapshots", ns="a/b").data]
    assert client.call("PUT", D + "/protected", {**where, "protected": "true"}).data is None
    assert client.call("GET", D + "/protected", where).data is True
    assert client.call("DELETE", D + "/snapshots", where).status == 400
    assert client.call("DELETE", D + "/namespace", {"ns": "a"}).status == 400
    kept = client.call("POST", D + "/prune", body={"ns": "a/b", "backup-type": "host", "backup-id":
                                                   "elsa", "keep-last": 1}).data
    assert [(r["backup-time"], r["keep"]) for r in kept] == [(1000, True), (2000, False),
                                                             (3000, True)]
    assert client.call("PUT", D + "/protected", {**where, "protected": "0"}).data is None
    for time in (1000, 3000):
        assert client.call("DELETE", D + "/snapshots", {**where, "backup-time": time}).data is None
    assert ask("GET", "/groups", ns="a/b").data == []
    assert client.call("DELETE", D + "/namespace", {"ns": "a/b"}).status == 400  # held a group once
    assert client.call("DELETE", D + "/namespace", {"ns": "a", "delete-groups": "1"}).status == 200
    assert client.call("DELETE", D + "/namespace", {"ns": "a"}).data["removed-groups"] == 0
    assert [r["ns"] for r in ask("GET", "/namespace").data] == [""]


def test_what_is_in_use_is_not_removed(server, client):
    back_up(client)
    reader = client.reader()
    assert client.call("DELETE", D + "/snapshots", SNAP).status == 400
    assert client.call("PUT", D + "/protected", {**SNAP, "protected": "1"}).status == 400
    reader.close()
    server.wait_for_sessions(0)
    backup = client.backup(time=2000)
    assert client.call("DELETE", D + "/snapshots", SNAP).status == 400  # the previous one
    assert client.call("DELETE", D + "/snapshots", {**SNAP, "backup-time": 2000}).status == 400
    refused(lambda: client.reader(time=2000))
    backup.close()
    server.wait_for_sessions(0)
    assert client.call("DELETE", D + "/snapshots", SNAP).status == 200
    assert not (server.store.root / "host/elsa").exists()


def test_a_log_is_uploaded_once(server, client):
    back_up(client)
    query = "&".join(f"{k}={v}" for k, v in SNAP.items())
    target = f"/api2/json/admin/datastore/store1/upload-backup-log?{query}"
    log = containers.encode(b"log")
    assert client.raw("POST", target, log[:-1] + b"x").status == 400
    assert client.raw("POST", target, log).status == 200
    assert client.raw("POST", target, log).status == 400
    names = [f["filename"] for f in client.call("GET", D + "/files", SNAP).data]
    assert sorted(names) == ["client.log.blob", "index.json.blob", "root.mpxar.didx"]


# --- upgrades ---


@pytest.mark.parametrize("upgrade", [None, "proxmox-backup-reader-protocol-v1", "h2c",
                                     "Proxmox-Backup-Protocol-v1"])
def test_the_upgrade_is_named_exactly(server, client, upgrade):
    refused(lambda: client.backup(upgrade=upgrade))
    assert not (server.store.root / "host/elsa").exists()


def test_upgrades_are_checked_in_order(server, client):
    refused(lambda: client.backup(benchmark="true"))
    refused(lambda: client.backup(group="host/benchmark"))
    refused(lambda: client.backup(ns="none"), 404)
    refused(lambda: client.backup(time=0))
    refused(lambda: client.backup(what=1))
    refused(lambda: client.reader(benchmark="false"))
    refused(lambda: client.reader())
    server.store.maintenance = "offline"
    refused(lambda: client.backup(ns="none"))
    server.store.maintenance = None
    back_up(client)
    refused(lambda: client.backup())
    refused(lambda: client.backup(time=999))
    first = client.backup(time=1001)
    assert "running" in refused(lambda: client.backup(time=1002))
    first.close()


@pytest.mark.parametrize("split, window, frame", [(False, 65535, 16384), (True, 2**31 - 2, 4 << 20)])
def test_sessions_start_whatever_the_windows(server, client, split, window, frame):
    server.split_upgrade = split
    server.limits = Limits(window=window if window < 32 << 20 else 32 << 20, frame=frame)
    back_up(client)
    session = client.backup(time=2000, window=window, frame=frame)
    data = os.urandom(3 << 20)
    sid = session.start("GET", "/previous_backup_time")
    assert sid == 1 and session.wait(sid).data == 1000
    assert session.announced[3] == 200 and session.announced[6] == 16384
    put(session, open_index(session), data)
    reader = client.reader(window=window, frame=frame)
    assert reader.call("GET", "/speedtest").body == b"A" * (1 << 20)
    assert (reader.largest_frame <= 16384) == (frame == 16384)


# --- backups ---


def test_a_backup_becomes_a_snapshot(server, client):
    session = client.backup()
    assert session.call("GET", "/previous_backup_time").data is None
    refused(lambda: session.call("GET", "/previous", {"archive-name": "index.json.blob"}).data)
    entry = put_index(session)
    row, = client.call("GET", D + "/snapshots").data
    assert row["files"] == [{"filename": "root.mpxar.didx"}] and "size" not in row
    blob = manifest([entry], unprotected={"notes": "n"}, other="lost")
    assert session.put_blob("index.json.blob", blob).data is None
    assert session.call("POST", "/finish").data is None
    assert session.call("POST", "/finish").status == 400
    client.backup(time=2000).close()  # the group is free though the connection stands
    stored = datastore.manifest(server.store.root / "host/elsa/1970-01-01T00:16:40Z")
    assert stored["unprotected"]["chunk_upload_stats"]["count"] == 2
    assert stored["unprotected"]["notes"] == "n" and "other" not in stored
    assert stored["files"] == [entry]
    path = server.store.root / "host/elsa/1970-01-01T00:16:40Z/root.mpxar.didx"
    assert datastore.stream(server.store.root, path) == ONE + TWO


def test_without_finish_nothing_stays_but_the_group(server, client):
    session = client.backup()
    put_index(session)
    session.close()
    server.wait_for_sessions(0)
    assert client.call("GET", D + "/snapshots").data == []
    assert client.call("GET", D + "/groups").data[0]["backup-count"] == 0


def test_chunks_must_be_known(server, client):
    session = client.backup()
    wid = open_index(session)
    put(session, wid, ONE)
    r = session.append(wid, [(0, sha256(ONE)), (1000, sha256(TWO))])
    assert r.status == 400
    put(session, wid, TWO)
    assert session.append(wid, [(0, sha256(TWO))]).status == 400  # the first entry was applied
    assert session.append(wid, [(1000, sha256(TWO))]).status == 200
    assert session.append(wid, []).status == 200
    assert session.json("PUT", "/dynamic_index", {"wid": wid, "digest-list": [sha256(ONE)],
                                                  "offset-list": []}).status == 400
    assert session.append(wid + 1, [(0, sha256(ONE))]).status == 400
    assert session.append(wid, [(4000, sha256(ONE).upper())]).status == 400
    pairs = [(1000, sha256(ONE)), (4000, sha256(TWO))]
    assert close(session, wid, pairs, size=4001).status == 400
    assert close(session, wid, pairs, **{"chunk-count": 3}).status == 400
    assert close(session, wid, pairs, "fixed").status == 400
    assert close(session, wid, pairs).status == 200
    assert close(session, wid, pairs).status == 400


def test_previous_indexes_make_their_chunks_known(server, client):
    back_up(client)
    session = client.backup(time=2000)
    wid = open_index(session, "a.ppxar.didx")
    assert session.append(wid, [(0, sha256(TWO))]).status == 400
    for name, status in (("none.didx", 400), ("none.blob", 404), ("none.txt", 400)):
        assert session.call("GET", "/previous", {"archive-name": name}).status == status
    r = session.call("GET", "/previous", {"archive-name": "root.mpxar.didx"})
    assert r.status == 200 and "content-length" not in r.headers
    assert session.append(wid, [(0, sha256(TWO)), (3000, sha256(TWO))]).status == 200
    r = session.call("GET", "/previous", {"archive-name": "index.json.blob"})
    assert json.loads(containers.decode(bytes(r.body)))["backup-id"] == "elsa"
    session.close()
    server.wait_for_sessions(0)
    snapshot = server.store.snapshots(server.store.groups("")[0])[-1]
    server.store.change_manifest(snapshot, lambda m: m["unprotected"].update(
        verify_state={"state": "failed", "upid": "UPID:"}))
    assert client.backup(time=900, group="host/elsa").call(
        "GET", "/previous_backup_time").data is None


def test_a_wrong_checksum_spoils_the_backup(server, client):
    session = client.backup()
    wid = open_index(session)
    put(session, wid, ONE)
    assert session.append(wid, [(0, sha256(ONE))]).status == 200
    assert close(session, wid, [(1000, sha256(ONE))], csum="0" * 64).status == 400
    assert close(session, wid, [(1000, sha256(ONE))]).status == 400
    assert session.append(wid, [(1000, sha256(ONE))]).status == 400
    session.put_blob("index.json.blob", manifest())
    assert "open" in session.call("POST", "/finish").text


def test_finish_demands_files_and_a_manifest(server, client):
    session = client.backup()
    wid = open_index(session)
    assert "open" in session.call("POST", "/finish").text
    put(session, wid, ONE)
    assert close(session, wid, []).status == 400  # an empty index
    session.append(wid, [(0, sha256(ONE))])
    assert close(session, wid, [(1000, sha256(ONE))]).status == 200
    assert "manifest" in session.call("POST", "/finish").text
    assert session.put_blob("index.json.blob", manifest()).status == 400
    assert session.call("POST", "/finish").status == 400  # stuck
    assert session.call("POST", "/dynamic_index", {"archive-name": "b.didx"}).status == 400
    session.close()
    empty = client.backup(group="host/empty")
    assert "no files" in empty.call("POST", "/finish").text
    for bad in (b"{", b"{}", b'{"backup-type":"host","backup-id":"e","backup-time":"1","files":[]}'):
        session = client.backup(group=f"host/bad{len(bad)}")
        assert session.put_blob("index.json.blob", containers.encode(bad)).status == 200
        assert session.call("POST", "/finish").status == 400
    session = client.backup(group="host/odd")
    session.put_blob("index.json.blob", manifest(unprotected="text"))
    r = session.call("POST", "/finish")
    assert r.status is None and r.reset


def test_chunks_are_what_they_say(server, client):
    session = client.backup()
    wid = open_index(session)
    blob, name = containers.encode(TWO), sha256(TWO)

    def status(blob=blob, size=len(TWO), name=name, wid=wid, **more):
        return session.put_chunk(wid, blob, size, name, **more).status

    assert status(name=sha256(ONE)) == 400 and status(size=2999) == 400
    assert status(b"x" * 40) == 400 and status(name="x") == 400 and status(size=0) == 400
    assert status(size=(16 << 20) + 1) == 400 and status(**{"encoded-size": len(blob) + 1}) == 400
    assert status(**{"encoded-size": 12}) == 400 and status(what=1) == 400
    assert status(wid=wid + 1) == 400 and status(kind="fixed") == 400
    assert session.append(wid, [(0, name)]).status == 400  # none of these made it known
    assert status(blob[:8] + b"crc!" + blob[12:]) == 200
    path = datastore.chunk_path(server.store.root, name)
    assert path.read_bytes() == blob  # the server puts its own CRC there
    assert status() == 200
    sealed = containers.ENCRYPTED + bytes(36) + b"sealed"
    assert status(sealed, 3, "ab" * 32) == 200
    assert datastore.chunk_path(server.store.root, "ab" * 32).read_bytes()[8:12] == \
        struct.pack("<I", zlib.crc32(b"sealed"))
    assert status(sealed[:40], 3, "ac" * 32) == 400
    assert status(sealed, len(TWO), name) == 400  # in place of a plain one


def test_blobs_are_checked(server, client):
    session = client.backup()
    blob = containers.encode(b"data")
    assert session.put_blob("a.blob", blob[:-1] + b"x").status == 400
    assert session.put_blob("a.didx", blob).status == 400
    assert session.put_blob("a.blob", blob, **{"encoded-size": 17}).status == 400
    assert session.put_blob("../a.blob", blob).status == 400
    assert session.put_blob("a.blob", blob).status == 200
    assert session.put_blob("a.blob", containers.encode(b"more")).status == 200


def test_fixed_indexes_have_rules_of_their_own(server, client):
    full, rest = os.urandom(4 << 20), ONE
    size = 2 * len(full) + len(rest)
    session = client.backup()
    fixed = {"archive-name": "disk.img.fidx", "size": size}
    assert session.call("POST", "/fixed_index", {**fixed, "archive-name": "a.didx"}).status == 400
    assert session.call("POST", "/fixed_index", {**fixed, "reuse-csum": "0" * 64}).status == 400
    wid = session.call("POST", "/fixed_index", fixed).data
    for data in (full, rest):
        put(session, wid, data, "fixed")
    big = bytes((4 << 20) + 1)
    assert session.put_chunk(wid, containers.encode(big), len(big), sha256(big),
                             "fixed").status == 400
    assert session.put_chunk(wid, containers.encode(TWO), len(TWO), sha256(TWO),
                             "fixed").status == 400  # a second short one
    f, r = sha256(full), sha256(rest)
    for bad in ((1, f), (8 << 20, f), (4 << 20, r), (0, r)):
        assert session.append(wid, [bad], "fixed").status == 400
    assert session.append(wid, [(8 << 20, r), (0, f)], "fixed").status == 200
    csum = hashlib.sha256(bytes.fromhex(f + f + r)).hexdigest()
    end = {"wid": wid, "chunk-count": 3, "size": size, "csum": csum}
    assert session.call("POST", "/fixed_close", {**end, "chunk-count": 2}).status == 400  # a hole
    assert session.append(wid, [(4 << 20, f)], "fixed").status == 200
    assert session.call("POST", "/fixed_close", {**end, "size": size - 1}).status == 400
    assert session.call("POST", "/fixed_close", end).status == 200
    session.put_blob("index.json.blob", manifest())
    assert session.call("POST", "/finish").status == 200
    path = server.store.root / "host/elsa/1970-01-01T00:16:40Z/disk.img.fidx"
    assert datastore.digests(path) == [f, f, r]
    session = client.backup(time=2000)
    assert session.call("POST", "/fixed_index", {**fixed, "reuse-csum": csum, "size": 1}
                        ).status == 400
    wid = session.call("POST", "/fixed_index", {**fixed, "reuse-csum": csum}).data
    assert session.call("POST", "/fixed_close", {**end, "wid": wid, "chunk-count": 0}).status == 200


# --- readers ---


def test_chunks_are_given_out_after_their_index_only(server, client):
    back_up(client)
    reader = client.reader()
    chunk = {"digest": sha256(TWO)}
    assert reader.call("GET", "/chunk", chunk).status == 401
    for name, status in (("none.didx", 400), ("none.blob", 404), ("index.json", 400)):
        assert reader.call("GET", "/download", {"file-name": name}).status == status
    index = reader.call("GET", "/download", {"file-name": "root.mpxar.didx"})
    assert containers.parse_index(bytes(index.body)) == [(1000, sha256(ONE)), (3000, sha256(TWO))]
    r = reader.call("GET", "/chunk", chunk)
    assert containers.decode(bytes(r.body)) == TWO and "content-length" in r.headers
    datastore.chunk_path(server.store.root, sha256(TWO)).unlink()
    assert reader.call("GET", "/chunk", chunk).status == 400
    assert reader.call("GET", "/chunk", {"digest": "0" * 64}).status == 401
    assert reader.call("GET", "/chunk", {"digest": sha256(TWO).upper()}).status == 400
    assert client.reader().call("GET", "/chunk", chunk).status == 401


# --- HTTP/2 ---


def test_answers_overtake_each_other(server, client):
    session = client.backup()
    wid = open_index(session)
    rule = server.rule("POST /dynamic_chunk", faults.hold())
    slow = session.start("POST", "/dynamic_chunk", {
        "wid": wid, "digest": sha256(TWO), "size": len(TWO),
        "encoded-size": len(containers.encode(TWO))}, body=containers.encode(TWO))
    assert rule.hit.wait(60)
    put(session, wid, ONE)
    assert session.append(wid, [(0, sha256(ONE)), (1000, sha256(TWO))]).status == 400  # too soon
    rule.release.set()
    assert session.wait(slow).status == 200
    assert session.append(wid, [(1000, sha256(TWO))]).status == 200


def test_what_needs_no_body_is_refused_at_once(server, client):
    session = client.backup()
    for path, status in (("/none", 404), ("/dynamic_chunk?wid=1", 400)):
        sid = session.start("POST", path, end=False)
        r = session.wait(sid)
        assert (r.status, r.done) == (status, True)
        while r.reset is None:
            session.pump()
        assert r.reset == 0
    blob = containers.encode(os.urandom(1 << 20))
    wid = open_index(session)
    r = session.put_chunk(wid, blob, 1 << 20, "0" * 64, **{"encoded-size": 1000})
    assert r.status == 400
    assert session.put_chunk(wid, blob[:900], 888, "0" * 64, **{"encoded-size": 1000}).status == 400
    put(session, wid, TWO)  # all goes on
    many = [("x-many", "y" * 1000)] * 17
    r = session.call("GET", "/previous_backup_time", headers=many)
    assert r.status == 431 and not r.body


def test_bodies_have_limits(server, client):
    session = client.backup()
    wid = open_index(session)
    put(session, wid, ONE)
    lists = {"wid": wid, "digest-list": [sha256(ONE)] * 7000, "offset-list":
             [1000 * i for i in range(7000)]}
    assert session.json("PUT", "/dynamic_index", lists).status == 400
    half = {k: v[:5000] if isinstance(v, list) else v for k, v in lists.items()}
    assert session.json("PUT", "/dynamic_index", half).status == 200


def test_breaking_the_protocol_ends_the_session(server, client):
    session = client.backup()
    session.sock.sendall(b"\0\0\4\x08\0\0\0\0\7\0\0\0\0")  # WINDOW_UPDATE by 0
    gone(session)
    assert server.record.complaints.pop().startswith("backup: ")


# --- faults ---


def test_scripted_faults_do_what_they_say(server, client):
    back_up(client)

    def chunk():
        reader = client.reader()
        reader.call("GET", "/download", {"file-name": "root.mpxar.didx"})
        return reader, reader.call("GET", "/chunk", {"digest": sha256(TWO)})

    server.rule("GET /chunk", faults.answer(503, "later"), nth=2)
    assert chunk()[1].status == 200 and chunk()[1].text == "later" and chunk()[1].status == 200
    server.rule("GET /chunk", faults.corrupt())
    assert chunk()[1].body != chunk()[1].body
    server.rule("GET /chunk", faults.truncate(20))
    assert len(chunk()[1].body) == 20
    server.rule("GET /chunk", faults.reset())
    assert chunk()[1].reset == 2
    server.rule("GET /chunk", faults.goaway())
    reader = client.reader()
    reader.call("GET", "/download", {"file-name": "root.mpxar.didx"})
    reader.start("GET", "/chunk", {"digest": sha256(TWO)})
    assert [f.type for f in frames(reader)][-3:] == [7, 1, 0]  # GOAWAY, HEADERS, DATA
    for fault in (faults.drop(), faults.cut(10)):
        server.rule("GET /chunk", fault)
        with pytest.raises(ConnectionError):
            chunk()
    server.rule("GET /reader", faults.cut_session(sent=3000))
    with pytest.raises(ConnectionError):
        chunk()
    server.rule("GET /chunk", faults.endless())
    reader = client.reader()
    reader.call("GET", "/download", {"file-name": "root.mpxar.didx"})
    sid = reader.start("GET", "/chunk", {"digest": sha256(TWO)})
    while len(reader.responses[sid].body) < 1 << 20:
        reader.pump()
    reader.close()
    server.rule("GET /version", faults.answer(500))
    assert [client.call("GET", "/version").status for _ in range(2)] == [500, 200]


def test_a_killed_server_leaves_what_it_had_and_starts_again(server, client):
    back_up(client)
    session = client.backup(time=2000)
    put_index(session)
    server.kill()
    gone(session)
    with pytest.raises(OSError):
        Client(server.port).call("GET", "/ping")
    server.start()
    client.stream = None
    done = {r["backup-time"]: "size" in r for r in client.call("GET", D + "/snapshots").data}
    assert done == {1000: True, 2000: False}
    back_up(client, time=3000)


def test_a_call_that_a_dying_server_holds_is_not_done(server, client):
    session = client.backup()
    entry = put_index(session)
    session.put_blob("index.json.blob", manifest([entry]))
    rule = server.rule("POST /finish", faults.hold())
    session.start("POST", "/finish")
    assert rule.hit.wait(60)
    server.kill()
    gone(session)
    server.start()
    client.stream = None
    row, = client.call("GET", D + "/snapshots").data
    stored = datastore.manifest(server.store.root / "host/elsa/1970-01-01T00:16:40Z")
    assert row["backup-time"] == 1000 and "chunk_upload_stats" not in stored["unprotected"]


def test_requests_are_on_record(server, client):
    assert server.count("POST /access/ticket") == 1
    back_up(client)
    assert server.count("POST /dynamic_chunk") == 2 and server.count("GET /backup") == 1
    server.record.forget()
    session = client.backup(time=2000)
    rule = server.rule("GET /previous_backup_time", faults.hold_answer())
    waiter = threading.Thread(target=server.wait_for, args=("GET /previous*",))
    waiter.start()
    sid = session.start("GET", "/previous_backup_time")
    waiter.join(60)
    assert not waiter.is_alive() and not server.record.matching("GET /previous*", answered=True)
    rule.release.set()
    assert session.wait(sid).data == 1000


def test_a_task_can_be_stopped(server, client):
    session = client.backup()
    task, = client.call("GET", "/nodes/localhost/tasks", {"running": "1"}).data
    assert task["worker_type"] == "backup"
    upid = task["upid"].replace(":", "%3A").replace("\\", "%5C")
    assert client.call("GET", f"/nodes/localhost/tasks/{upid}/status").data["status"] == "running"
    assert client.call("DELETE", f"/nodes/localhost/tasks/{upid}").status == 200
    gone(session)
