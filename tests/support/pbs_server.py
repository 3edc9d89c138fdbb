#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A strict Proxmox Backup server on loopback, over a directory in the datastore layout.

In a test:

    with Server({"store1": folder}) as server:
        server.repository              # "root@pam@localhost:PORT:store1"
        server.env                     # password and fingerprint
        server.rule("GET /chunk", faults.corrupt())
        server.count("GET /chunk")
        server.kill(); server.start()  # same port, same tickets

By hand:

    tests/support/pbs_server.py --store store1=/srv/store --port 8007
"""

import argparse
import atexit
import functools
import hashlib
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from pbs import faults  # noqa: E402
from pbs.auth import Auth, User  # noqa: E402
from pbs.http1 import Connection  # noqa: E402
from pbs.schema import Refused  # noqa: E402
from pbs.store import Store  # noqa: E402

__all__ = ["Server", "Limits", "User", "faults", "identity"]


@functools.lru_cache(maxsize=None)
def identity(name="localhost"):
    """A certificate and its key, self-signed: one file, made once for each name."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pxarfs-test-cert-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    both = folder / "both.pem"
    done = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "30", "-subj", f"/CN={name}", "-addext",
         f"subjectAltName=DNS:{name},IP:127.0.0.1,IP:::1", "-keyout", "-", "-out", "-"],
        capture_output=True, check=True)
    both.write_bytes(done.stdout)
    return both


def fingerprint(pem):
    text = pem.read_text()
    begin = text.index("-----BEGIN CERTIFICATE-----")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[begin:])).digest().hex(":")


class Limits:
    """What HTTP/2 sessions announce."""

    def __init__(self, window=32 << 20, frame=4 << 20, streams=200):
        self.window, self.frame, self.streams = window, frame, streams


class Task:
    """A session, as the task list has it."""

    def __init__(self, number, kind, who, worker_id, connection):
        self.kind, self.who, self.worker_id, self.connection = kind, who, worker_id, connection
        self.start, self.number, self.exit_status = int(time.time()), number, None
        self.upid = (f"UPID:localhost:{os.getpid():08X}:{0:08X}:{number:08X}:{self.start:08X}:"
                     f"{kind}:{worker_id}:{who}:")

    def row(self):
        row = {"upid": self.upid, "node": "localhost", "pid": os.getpid(), "pstart": 0,
               "starttime": self.start, "worker_type": self.kind, "worker_id": self.worker_id,
               "user": self.who}
        if self.exit_status is not None:
            row.update(endtime=self.start, status=self.exit_status)
        return row

    def status(self):
        out = {"upid": self.upid, "node": "localhost", "pid": os.getpid(), "pstart": 0,
               "starttime": self.start, "type": self.kind, "id": self.worker_id, "user": self.who,
               "status": "running" if self.exit_status is None else "stopped"}
        if self.exit_status is not None:
            out["exitstatus"] = self.exit_status
        return out

    def stop(self):
        self.connection.end()


class Server:
    """`stores`: {name: folder}.  The members up to the blank line may be changed at any time."""

    def __init__(self, stores, port=0, pem=None, host="127.0.0.1"):
        self.auth = Auth()
        self.delay_401 = self.delay_403 = 0
        self.limits = Limits()
        self.split_upgrade = False  # the 101 and what follows, byte by byte
        self.sizes = (1 << 40, 1 << 30, (1 << 40) - (1 << 30))  # total, used, available

        self.stores = {name: Store(name, root) for name, root in stores.items()}
        self.record = faults.Record()
        self.rule, self.count = self.record.rule, self.record.count
        self.wait_for, self.wait_for_sessions = (self.record.wait_for,
                                                 self.record.wait_for_sessions)
        self.host, self.port, self.pem = host, port, pem or identity()
        self.connections, self.tasks = set(), []
        self.listener = None
        self.is_killed = False

    @property
    def store(self):
        return next(iter(self.stores.values()))

    @property
    def fingerprint(self):
        return fingerprint(self.pem)

    @property
    def repository(self):
        return f"root@pam@localhost:{self.port}:{self.store.name}"

    @property
    def env(self):
        return {"PBS_PASSWORD": self.auth.users["root@pam"].password,
                "PBS_FINGERPRINT": self.fingerprint}

    # --- life ---

    def start(self):
        self.is_killed = False
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
        self.tls.load_cert_chain(self.pem)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((self.host, self.port))
        self.port = self.listener.getsockname()[1]
        self.listener.listen(128)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            connection = Connection(self, sock)
            self.connections.add(connection)
            if listener is not self.listener:
                connection.end(cut=True)
            connection.start()

    def _end(self, cut):
        listener, self.listener = self.listener, None
        if not listener:
            return
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        listener.close()
        self.record.clear_rules(cancel=True)
        for connection in list(self.connections):
            connection.end(cut)
        for connection in list(self.connections):
            if connection is not threading.current_thread():
                connection.join(10)

    def stop(self):
        """In good order: running backups are cleared away."""
        self._end(cut=False)

    def kill(self):
        """As SIGKILL would: connections are reset, unfinished snapshots stay, locks are gone."""
        self.is_killed = True
        self._end(cut=True)
        for store in self.stores.values():
            store.locks.held.clear()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # --- tasks ---

    def add_task(self, kind, request, session, connection):
        s = session.snapshot
        worker_id = f"{session.store.name}\\x3a{s.group.type}-{s.group.id}"
        task = Task(len(self.tasks) + 1, kind, request.who, worker_id, connection)
        self.tasks.append(task)
        return task

    def task(self, upid):
        for task in self.tasks:
            if task.upid == upid:
                return task
        raise Refused(400, "no such task")


def main():
    parser = argparse.ArgumentParser(description="A test server of the Proxmox Backup protocols.")
    parser.add_argument("--store", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--port", type=int, default=8007)
    parser.add_argument("--password", default="secret12", help="of root@pam")
    args = parser.parse_args()
    server = Server(dict(s.split("=", 1) for s in args.store), port=args.port)
    server.auth.users["root@pam"].password = args.password
    with server:
        print(f"PBS_REPOSITORY={server.repository}\nPBS_FINGERPRINT={server.fingerprint}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
