# SPDX-License-Identifier: Apache-2.0
"""A mount as a service: systemd hears of it, its log goes to the journal."""

import contextlib
import os
import signal
import socket

import pytest

from conftest import GOLDEN, SOON, mounts_below
from namespace import Namespace
from test_mount_life import signal_is_pending, wait_for

SPLIT = GOLDEN / "files" / "split.mpxar"


def listen(name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(name)
    s.settimeout(SOON)
    return s


def lines(s):
    return s.recv(4096).decode().splitlines()


@pytest.mark.parametrize("abstract", [False, True])
def test_service_manager_hears_of_readiness_and_end(pxarfs, folder, abstract):
    name = f"@pxarfs-test-{os.getpid()}" if abstract else str(folder / "notify")
    s = listen("\0" + name[1:] if abstract else name)
    pxarfs.env["NOTIFY_SOCKET"] = name
    point = folder / "mnt"
    point.mkdir()
    p = pxarfs.start("mount", "-f", SPLIT, point)
    assert lines(s) == ["READY=1", f"MAINPID={p.pid}"]
    assert mounts_below(point) and "links" in os.listdir(point)
    p.send_signal(signal.SIGTERM)
    assert lines(s) == ["STOPPING=1"]
    assert p.wait(SOON) == 0


def test_a_service_manager_that_does_not_listen_is_not_waited_for(pxarfs, folder):
    s = listen(str(folder / "notify"))
    pxarfs.env["NOTIFY_SOCKET"] = str(folder / "notify")
    mount = pxarfs.mount(SPLIT)
    assert lines(s)[0] == "READY=1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, \
            contextlib.suppress(BlockingIOError):
        other.setblocking(False)
        while True:  # until there is no more room
            other.sendto(b"X=1", pxarfs.env["NOTIFY_SOCKET"])
    mount.process.send_signal(signal.SIGTERM)
    assert mount.process.wait(SOON) == 0 and not mounts_below(mount.path)
    assert "NOTIFY_SOCKET" in mount.log()


def test_service_manager_hears_who_serves_in_the_background(pxarfs, folder):
    s = listen(str(folder / "notify"))
    pxarfs.env["NOTIFY_SOCKET"] = str(folder / "notify")
    point = folder / "mnt"
    point.mkdir()
    pxarfs("mount", SPLIT, point)
    ready, pid = lines(s)
    assert ready == "READY=1"
    os.kill(int(pid.removeprefix("MAINPID=")), signal.SIGTERM)
    assert lines(s) == ["STOPPING=1"]


def test_nobody_hears_of_a_mount_that_failed(pxarfs, folder):
    s = listen(str(folder / "notify"))
    pxarfs.env["NOTIFY_SOCKET"] = str(folder / "notify")
    (folder / "mnt").mkdir()
    pxarfs("mount", "-f", folder / "none.mpxar", folder / "mnt", status=1)
    s.setblocking(False)
    with pytest.raises(BlockingIOError):
        s.recv(4096)


@pytest.mark.parametrize("name", ["nonsense", "@", "/no/such/socket", "/" + "x" * 200])
def test_a_bad_socket_is_told_and_is_no_reason_not_to_mount(pxarfs, name):
    pxarfs.env["NOTIFY_SOCKET"] = name
    with pxarfs.mount(SPLIT) as mount:
        assert "links" in os.listdir(mount.path)
    assert mount.log().count("NOTIFY_SOCKET") == 2


def mount_in(space, pxarfs, folder):
    """A mount in the background: the socket that hears of it, and its process."""
    point = folder / "mnt"
    point.mkdir()
    for name in ("split.mpxar", "split.ppxar"):
        (folder / name).write_bytes((GOLDEN / "files" / name).read_bytes())
    pxarfs.env["NOTIFY_SOCKET"] = str(folder / "notify")
    s = listen(pxarfs.env["NOTIFY_SOCKET"])
    assert space.run(folder / "pxarfs", "mount", folder / "split.mpxar", point).returncode == 0
    return s, int(lines(s)[1].removeprefix("MAINPID="))


def test_background_mount_logs_to_syslog(pxarfs, folder):
    space = Namespace(pxarfs)
    try:
        space.log.settimeout(SOON)
        s, pid = mount_in(space, pxarfs, folder)
        os.kill(pid, signal.SIGUSR1)
        text = space.log.recv(65536).decode()
        # <daemon.info>TIME pxarfs[PID]: ...
        assert text.startswith("<30>") and f" pxarfs[{pid}]: statistics: lookup=" in text
        os.kill(pid, signal.SIGTERM)
        assert lines(s) == ["STOPPING=1"]
    finally:
        space.close()


def test_a_syslog_that_nobody_reads_holds_up_nothing(pxarfs, folder):
    with open("/proc/sys/net/unix/max_dgram_qlen", encoding="ascii") as f:
        room = int(f.read()) + 1
    space = Namespace(pxarfs)
    try:
        s, pid = mount_in(space, pxarfs, folder)
        for _ in range(room + 3):
            os.kill(pid, signal.SIGUSR1)
            # it is taken when the signal is no more pending
            wait_for(lambda: not signal_is_pending(pid, signal.SIGUSR1), SOON)
        texts = []

        def drain():
            with contextlib.suppress(BlockingIOError):
                while True:
                    texts.append(space.log.recv(65536).decode())
            return texts

        space.log.setblocking(False)
        assert 1 <= len(drain()) <= room + 2
        os.kill(pid, signal.SIGUSR1)
        # <daemon.warning>TIME pxarfs[PID]: ...
        wait_for(lambda: [t for t in drain() if t.startswith("<28>") and "messages were lost" in t], SOON)
        wait_for(lambda: "statistics: lookup=" in drain()[-1], SOON)
        os.kill(pid, signal.SIGTERM)
        assert lines(s) == ["STOPPING=1"]
        wait_for(lambda: not space.mounts(), SOON)
    finally:
        space.close()


def test_log_on_a_journal_stream_has_priorities(pxarfs):
    pxarfs.env["JOURNAL_STREAM"] = "1:1"
    mount = pxarfs.mount(SPLIT)
    mount.process.send_signal(signal.SIGUSR1)
    wait_for(lambda: mount.log().endswith("\n"))  # the end of the mount would overtake it
    mount.unmount()
    assert mount.log().startswith("<6>pxarfs: statistics: ")
