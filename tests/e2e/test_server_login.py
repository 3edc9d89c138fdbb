# SPDX-License-Identifier: Apache-2.0
"""Logging in to a server: where the secret comes from, tickets, tokens, second factors, certificates,
and the way there."""

import base64
import json
import os
import pty
import select
import socket
import threading
import time

import pytest

import pbs_server
from pbs import faults
from pbs.auth import User

LOGIN = "POST /access/ticket"


@pytest.fixture
def remote(pxarfs, server):
    """The program, with the server as its repository."""
    pxarfs.env.update(server.env, PXARFS_REPOSITORY=server.repository)
    return pxarfs


def on_terminal(remote, answers, *args):
    """Run on a terminal of its own, each answer given to the prompt that ends with its key; returns the
    exit status and all that was shown."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(remote.program, ["pxarfs", *args], remote.env)
    shown, answers, end = "", list(answers), time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([fd], [], [], 60)[0]:
            break
        try:
            data = os.read(fd, 4096)
        except OSError:  # its end is closed
            break
        shown += data.decode()
        if answers and shown.rstrip().endswith(answers[0][0]):
            os.write(fd, answers.pop(0)[1].encode() + b"\n")
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


@pytest.mark.parametrize("source", ["_FD", "_FILE", "_CMD", "credential"])
def test_the_password_comes_from(remote, folder, source):
    password = remote.env.pop("PBS_PASSWORD")
    (folder / "password").write_text(password + ("" if source == "credential" else "\nmore\n"))
    if source == "_FD":
        with open(folder / "password", "rb") as f:
            remote.env["PBS_PASSWORD_FD"] = str(f.fileno())
            remote("snapshots", pass_fds=[f.fileno()])
        return
    if source == "_CMD":
        remote.env["PBS_PASSWORD_CMD"] = f"cat {folder}/password"
    elif source == "_FILE":
        remote.env["PBS_PASSWORD_FILE"] = str(folder / "password")
    else:
        (folder / "password").rename(folder / "proxmox-backup-client.password")
        remote.env["CREDENTIALS_DIRECTORY"] = str(folder)
    remote("snapshots")


def test_without_a_password_and_a_terminal_it_says_what_to_set(remote):
    del remote.env["PBS_PASSWORD"]
    assert "PBS_PASSWORD" in remote("snapshots", status=1, stdin=open(os.devnull)).stderr


def test_a_ticket_is_kept_and_renewed(remote, server, folder):
    run = folder / "run"
    run.mkdir()
    remote.env["XDG_RUNTIME_DIR"] = str(run)
    remote("snapshots")
    cache = run / "proxmox-backup" / "tickets"
    assert cache.stat().st_mode & 0o777 == 0o600
    first = json.loads(cache.read_text())["localhost"]["root@pam"]
    assert first["ticket"].startswith("PBS:root@pam:") and first["token"]

    del remote.env["PBS_PASSWORD"]
    remote("snapshots", stdin=open(os.devnull))
    assert server.count(LOGIN) == 2

    server.auth.expire_all()
    assert "PBS_PASSWORD" in remote("snapshots", status=1, stdin=open(os.devnull)).stderr
    assert json.loads(cache.read_text()) == {}  # it is dropped


def test_a_cache_that_is_none_is_no_error(remote, folder):
    (folder / "proxmox-backup").mkdir()
    remote.env["XDG_RUNTIME_DIR"] = str(folder)
    for text in ["", "{", "[]", '{"localhost": 3}', '{"localhost": {"root@pam": {"ticket": 1}}}']:
        (folder / "proxmox-backup" / "tickets").write_text(text)
        remote("snapshots")


def test_a_token_needs_no_login(remote, server):
    server.auth.tokens["root@pam!backup"] = "s%c;t ä"
    server.auth.roles["root@pam!backup"] = "DatastoreAdmin"
    remote.env["PXARFS_REPOSITORY"] = server.repository.replace("root@pam", "root@pam!backup")
    remote.env["PBS_PASSWORD"] = "s%c;t ä"
    remote("snapshots")
    assert server.count(LOGIN) == 0
    remote.env["PBS_PASSWORD"] = "wrong"
    remote("snapshots", status=1)


def test_a_ticket_may_come_as_a_cookie(remote, server):
    server.auth.cookie_only = True
    remote("snapshots")


def test_a_refused_ticket_is_made_anew(remote, server):
    rule = server.rule("GET /admin/*", faults.answer(401, "invalid ticket"))
    remote("snapshots")
    assert rule.hit.is_set() and server.count(LOGIN) == 2


def test_a_second_factor_is_asked_for_on_a_terminal(remote, server):
    server.auth.users["root@pam"] = User("secret12", totp="123456")
    done = remote("snapshots", status=1, stdin=open(os.devnull))
    assert "second factor" in done.stderr and "API token" in done.stderr
    status, shown = on_terminal(remote, [("recovery key:", "123456")], "snapshots")
    assert status == 0 and "123456" not in shown
    assert on_terminal(remote, [("recovery key:", "654321")], "snapshots")[0] == 1


def test_a_terminal_is_asked_for_password_and_certificate(remote, server, folder):
    del remote.env["PBS_PASSWORD"], remote.env["PBS_FINGERPRINT"]
    answers = [('"root@pam":', "secret12"), ("(y/n):", "y")]
    known = folder / "config" / "proxmox-backup" / "fingerprints"
    known.parent.mkdir(parents=True)
    known.write_text("other aa:bb\nbad line here\nlocalhost " + ":".join(["00"] * 32) + "\n")
    status, shown = on_terminal(remote, answers, "snapshots")
    assert status == 0 and "secret12" not in shown
    assert server.fingerprint in shown
    assert known.read_text() == f"other aa:bb\nlocalhost {server.fingerprint}\n"
    remote.env["PBS_PASSWORD"] = "secret12"
    remote("snapshots", stdin=open(os.devnull))


def test_a_certificate_that_a_person_refuses_is_refused(remote, server):
    del remote.env["PBS_FINGERPRINT"]
    assert on_terminal(remote, [("(y/n):", "n")], "snapshots")[0] == 1
    assert server.count("*") == 0


def test_an_address_in_brackets(pxarfs, folder):
    (folder / "six").mkdir()
    try:
        server = pbs_server.Server({"store1": folder / "six"}, host="::1").start()
    except OSError:
        pytest.skip("no IPv6")
    pxarfs.env.update(server.env)
    pxarfs("snapshots", "-r", f"root@pam@[::1]:{server.port}:store1")
    server.stop()


class Proxy:
    """An HTTP proxy that tunnels, for who has the right password."""

    def __init__(self, login=None):
        self.expected = login and b"Basic " + base64.b64encode(login.encode())
        self.tunnels = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1)
        words = head.split()
        if self.expected and b"Proxy-Authorization: " + self.expected not in head:
            client.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
            client.close()
            return
        self.tunnels.append(words[1].decode())
        host, port = words[1].decode().rsplit(":", 1)
        server = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for a, b in ((client, server), (server, client)):
            threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(source, to):
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_RDWR)


def test_everything_goes_through_a_proxy(remote, server, folder):
    (folder / "source").mkdir()
    proxy = Proxy("me:p@ss")
    backup = ["backup", f"root.pxar:{folder}/source", "--backup-id", "a"]
    remote.env["ALL_PROXY"] = f"http://me:wrong@127.0.0.1:{proxy.port}"
    server.auth.tokens["root@pam!t"], server.auth.roles["root@pam!t"] = "t", "DatastoreAdmin"
    for user, password in (("root@pam", "secret12"), ("root@pam!t", "t")):  # by REST; by a session
        remote.env.update(PXARFS_REPOSITORY=server.repository.replace("root@pam", user),
                          PBS_PASSWORD=password)
        done = remote(*backup, status=1)
        assert f"proxy 127.0.0.1:{proxy.port} refuses" in done.stderr and "407" in done.stderr
        assert "wrong" not in done.stderr
    remote.env.update(server.env, PXARFS_REPOSITORY=server.repository)
    remote.env["ALL_PROXY"] = f"http://me:p%40ss@127.0.0.1:{proxy.port}/"
    remote(*backup)
    assert set(proxy.tunnels) == {f"localhost:{server.port}"} and len(proxy.tunnels) >= 2
    remote.env["ALL_PROXY"] = "socks5://127.0.0.1:1"
    assert "ALL_PROXY" in remote("snapshots", status=1).stderr


def test_the_secret_is_in_no_core_and_no_log(remote, server, folder):
    folder.chmod(0o755)
    (folder / "source").mkdir()
    (folder / "source" / "f").write_bytes(os.urandom(100000))
    rule = server.rule("POST /dynamic_chunk", faults.hold())
    remote.env["PXARFS_LOG"] = "debug"
    with open(folder / "log", "wb") as log:
        p = remote.start("backup", f"root.pxar:{folder}/source", "--backup-id", "a", stderr=log,
                         user=65534)
        assert rule.hit.wait(60)
        with open(f"/proc/{p.pid}/cmdline", "rb") as f:
            assert b"secret12" not in f.read()
        # what a process that can be dumped has there is its own
        assert os.stat(f"/proc/{p.pid}/mem").st_uid == 0
        rule.release.set()
        assert p.wait(60) == 0
    assert "secret12" not in (folder / "log").read_text()


@pytest.mark.parametrize("name", ["REPOSITORY", "FINGERPRINT"])
@pytest.mark.parametrize("source", ["", "_FD", "_FILE", "_CMD", "credential"])
def test_repository_and_fingerprint_come_from(remote, server, folder, name, source):
    del remote.env["PXARFS_REPOSITORY"]
    remote.env["PBS_REPOSITORY"] = server.repository
    value = remote.env.pop("PBS_" + name)
    (folder / "value").write_text(value + "\nmore\n" * (source != "credential"))
    # nothing else says it
    assert remote("snapshots", status={"REPOSITORY": 2, "FINGERPRINT": 1}[name],
                  stdin=open(os.devnull)).stderr
    if source == "_FD":
        with open(folder / "value", "rb") as f:
            remote.env[f"PBS_{name}_FD"] = str(f.fileno())
            remote("snapshots", pass_fds=[f.fileno()])
        return
    if source == "credential":
        (folder / "value").rename(folder / f"proxmox-backup-client.{name.lower()}")
        remote.env["CREDENTIALS_DIRECTORY"] = str(folder)
    else:
        remote.env[f"PBS_{name}{source}"] = {"": value, "_FILE": f"{folder}/value",
                                             "_CMD": f"cat {folder}/value"}[source]
    remote("snapshots")


def test_a_ticket_is_sent_as_it_came(remote, server):
    """The server decodes it; one that did not would be content, too."""
    seen = []
    who = server.auth.who
    server.auth.who = lambda method, headers: seen.append(headers["cookie"]) or who(method, headers)
    for server.auth.cookie_only in (False, True):
        remote("snapshots")
    assert seen[0].startswith("PBSAuthCookie=PBS:root@pam:")
    assert seen[-1].startswith("__Host-PBSAuthCookie=PBS:root@pam:")
