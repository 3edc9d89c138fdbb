# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench measures servers with: a peer that is right, and a line that is long."""

import contextlib
import os
import socket
import subprocess
import threading
import time

import pytest

import pbs_server
from conftest import BUILD, SOON

SUPPORT = BUILD / "tests/support"
MANY = 64 << 20  # more than the sockets of a connection hold
DAY_MS = 86_400_000


@contextlib.contextmanager
def program(name, *args):
    """One that prints its port and serves until it is ended."""
    with subprocess.Popen([SUPPORT / name, *map(str, args)], stdout=subprocess.PIPE, text=True) as p:
        try:
            yield int(p.stdout.readline())
        finally:
            p.kill()


@pytest.fixture
def peer(pxarfs, folder):
    """The peer's port; its repository is that of the program."""
    pem = pbs_server.identity()
    pxarfs("init", folder / "store")
    pxarfs.env.update(PBS_PASSWORD="any", PBS_FINGERPRINT=pbs_server.fingerprint(pem))
    with program("pbs_peer", folder / "store", pem) as port:
        yield port


def spelling(port):
    return f"root@pam!bench@localhost:{port}:store"


def make_tree(folder):
    tree = folder / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d/random").write_bytes(os.urandom(3_000_000))
    (tree / "d/text").write_bytes(b"what can be compressed " * 100_000)
    (tree / "empty").touch()
    return tree


def back_up(pxarfs, repository, tree, when):
    pxarfs("backup", "-r", repository, "--backup-id", "a", "--backup-time", when, "--chunk-size", 64,
           f"root.pxar:{tree}")


def same(pxarfs, repository, tree, name):
    with pxarfs.mount("-r", repository, name, "root.pxar") as m:
        return subprocess.run(["diff", "-r", tree, m.path], check=False).returncode == 0


def test_a_backup_to_the_peer_is_mounted_from_it_and_from_its_directory(pxarfs, folder, peer):
    tree = make_tree(folder)
    back_up(pxarfs, spelling(peer), tree, 1800000000)
    (tree / "d/new").write_bytes(os.urandom(200_000))
    back_up(pxarfs, spelling(peer), tree, 1800000060)  # builds upon the first
    last = "host/a/2027-01-15T08:01:00Z"
    assert same(pxarfs, spelling(peer), tree, last)
    assert same(pxarfs, folder / "store", tree, last)
    chunks = sum(1 for p in (folder / "store/.chunks").rglob("*") if p.is_file())
    assert chunks > 10


def test_the_peer_refuses_a_backup_that_is_not_later(pxarfs, folder, peer):
    tree = make_tree(folder)
    back_up(pxarfs, spelling(peer), tree, 1800000000)
    pxarfs("backup", "-r", spelling(peer), "--backup-id", "a", "--backup-time", 1800000000,
           f"root.pxar:{tree}", status=1)


def test_a_backup_goes_over_the_line_and_back(pxarfs, folder, peer):
    tree = make_tree(folder)
    with program("slowline", peer, 10) as port:
        back_up(pxarfs, spelling(port), tree, 1800000000)
        assert same(pxarfs, spelling(port), tree, "host/a/2027-01-15T08:00:00Z")


@contextlib.contextmanager
def line(way_ms):
    """Both ends of a connection over a line."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SOON)
        with program("slowline", listener.getsockname()[1], way_ms) as port, \
                socket.create_connection(("127.0.0.1", port), SOON) as near:
            far, _ = listener.accept()
            with far:
                far.settimeout(SOON)
                yield near, far


def receive(sock, size):
    got = bytearray()
    while len(got) < size:
        piece = sock.recv(size - len(got))
        assert piece
        got += piece
    return bytes(got)


def test_the_line_holds_what_is_on_its_way():
    with line(DAY_MS) as (near, far):
        near.sendall(os.urandom(MANY))  # nobody takes it, and yet it goes out
        far.sendall(os.urandom(MANY))
        for end in (near, far):
            end.setblocking(False)
            with pytest.raises(BlockingIOError):
                end.recv(1)


def test_the_line_changes_nothing_and_tells_the_end():
    data = os.urandom(MANY)
    with line(0) as (near, far):
        for sender, receiver in ((near, far), (far, near)):
            thread = threading.Thread(target=sender.sendall, args=(data,))
            thread.start()
            assert receive(receiver, MANY) == data
            thread.join()
            sender.shutdown(socket.SHUT_WR)
            assert receiver.recv(1) == b""


def test_nothing_comes_over_the_line_too_early():
    """A loaded machine makes it later only."""
    with line(400) as (near, far):
        for sender, receiver in ((near, far), (far, near)):
            begin = time.monotonic()
            sender.sendall(b"x")
            assert receive(receiver, 1) == b"x"
            assert time.monotonic() - begin >= 0.2
