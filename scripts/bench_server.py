# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench measures of a server: each figure beside the same with the datastore directory
that is behind it.

The server runs on the same cores, and does the work of one: TLS, decoding and digest of each chunk,
the datastore (tests/support/pbs_peer.c).
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time

from bench_tools import BUILD, PXARFS, TOP, beside, figure, mounted, timed

sys.path.insert(0, str(TOP / "tests" / "support"))

PEER = BUILD / "tests/support/pbs_peer"
SLOWLINE = BUILD / "tests/support/slowline"
LINE_MB = 25  # on the way at 10 Gbit/s and 20 ms
RATE_MIN = 0.7
UNCHANGED_MAX = 1.5
ENTRIES = 150_000


@contextlib.contextmanager
def program(*command):
    """One that prints its port and serves until it is killed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as p:
        try:
            yield int(p.stdout.readline())
        finally:
            p.kill()


@contextlib.contextmanager
def served(store, away_ms=None):
    """The spelling of the datastore behind a server, perhaps some way off; what a login needs is in the
    environment."""
    import pbs_server  # pylint: disable=import-outside-toplevel
    pem = pbs_server.identity()
    os.environ.update(PBS_PASSWORD="any", PBS_FINGERPRINT=pbs_server.fingerprint(pem))
    with program(PEER, store, pem) as port, \
            contextlib.nullcontext(port) if away_ms is None else \
            program(SLOWLINE, str(port), str(away_ms)) as seen:
        yield f"root@pam!bench@localhost:{seen}:store"


class ServerBench:
    """Sections; `self` has the members of scripts/bench's Bench."""

    def measure(self, store, command):
        """Seconds of command(spelling) with the store itself and behind a server, in turn."""
        seconds = {"directory": [], "server": []}
        for i in range(self.runs):
            for kind in list(seconds)[::-1 if i % 2 else 1]:
                if not store.exists():
                    timed([PXARFS, "init", store])
                with served(store) if kind == "server" else contextlib.nullcontext(store) as name:
                    seconds[kind].append(command(name))
        return seconds["server"], "directory", seconds["directory"]

    def server(self):
        """First backup, unchanged backup and sequential read."""
        self.server_backup()
        self.server_unchanged()
        self.server_read()

    def server_backup(self):
        self.warm()
        store = self.work / "store-server"

        def first(name):
            seconds = timed(self.backup_command(name))
            shutil.rmtree(store)
            return seconds

        def first_cpu(name):
            before = os.times()
            first(name)
            after = os.times()
            return (after.children_user + after.children_system - before.children_user -
                    before.children_system)
        beside("first backup, server", *self.measure(store, first), at_least=RATE_MIN, rate=True)
        beside("first backup, the client's CPU", *self.measure(store, first_cpu))

    def server_unchanged(self):
        tree, store = self.work / "entries", self.work / "store-server"
        for d in range(150):
            (tree / f"d{d}").mkdir(parents=True)
            for f in range(ENTRIES // 150):
                (tree / f"d{d}" / f"f{f}").write_bytes(b"%d" % f)

        def again(name):
            time.sleep(1.1)  # backup times have whole seconds
            return timed([PXARFS, "backup", "-r", name, "--backup-id", "same", f"root.pxar:{tree}"])
        timed([PXARFS, "init", store])
        again(store)
        beside(f"{ENTRIES} unchanged entries, server", *self.measure(store, again),
               at_most=UNCHANGED_MAX)
        shutil.rmtree(store)
        shutil.rmtree(tree)

    def server_read(self):
        tree, store = self.large_file("large-server"), self.work / "store-server"
        point = self.work / "mnt"
        timed([PXARFS, "init", store])
        timed([PXARFS, "backup", "-r", store, "--backup-id", "big", f"big.pxar:{tree}"])
        snapshot = "host/big/" + next((store / "host/big").glob("*Z")).name

        def read(name):
            with mounted([PXARFS, "mount", "-f", "-r", name, snapshot, "big.pxar"], point):
                return timed(["dd", f"if={point}/big", "of=/dev/null", "bs=1M"])
        beside("1.5 GiB file, first read, server", *self.measure(store, read), at_least=RATE_MIN,
               rate=True)
        shutil.rmtree(store)
        shutil.rmtree(tree)

    def line(self):
        """How much is on the way to and from a server far off: what it must be able to be, at any rate.

        A machine that cannot do 10 Gbit/s shows it with a longer way: what counts is the product.
        """
        tree, store, point = self.work / "line", self.work / "store-line", self.work / "mnt"
        tree.mkdir()
        size = 800  # MB, nothing in it twice
        with open(tree / "big", "wb") as f:
            for _ in range(size):
                f.write(os.urandom(1_000_000))
        for away_ms in (0, 20, 100, 200):
            timed([PXARFS, "init", store])
            with served(store, away_ms) as name:
                put = timed([PXARFS, "backup", "-r", name, "--backup-id", "big", "--compression", "0",
                             f"big.pxar:{tree}"])
                snapshot = "host/big/" + next((store / "host/big").glob("*Z")).name
                with mounted([PXARFS, "mount", "-f", "-r", name, snapshot, "big.pxar"], point):
                    get = timed(["dd", f"if={point}/big", "of=/dev/null", "bs=1M"])
            for what, seconds in (("backup", put), ("read", get)):
                figure(f"{what}, {away_ms} ms away", [size / seconds], "MB/s")
                if away_ms:
                    figure("  on the way", [size / seconds * away_ms / 1000], "MB",
                           at_least=LINE_MB if away_ms >= 100 else None)
            shutil.rmtree(store)
        shutil.rmtree(tree)
