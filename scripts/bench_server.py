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
LINE_MS = 400
LINE_SIZES = (200, 600)  # MB
LINE_SIZES_AND_WINDOWS = [(size, window) for size in LINE_SIZES for window in (32, 128)]  # MiB
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
def one_core(core):
    """What is started meanwhile has that one alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def served(store, away_ms=None, window_mib=32, core=None):
    """The spelling of the datastore behind a server, perhaps some way off; what a login needs is in the
    environment."""
    import pbs_server  # pylint: disable=import-outside-toplevel
    pem = pbs_server.identity()
    os.environ.update(PBS_PASSWORD="any", PBS_FINGERPRINT=pbs_server.fingerprint(pem))
    pin = [] if core is None else ["taskset", "-c", str(core)]
    with program(*pin, PEER, store, pem, str(window_mib)) as port, \
            contextlib.nullcontext(port) if away_ms is None else \
            program(SLOWLINE, str(port), str(away_ms)) as seen:
        yield f"root@pam!bench@localhost:{seen}:store"


class ServerBench:
    """Sections; `self` has the members of scripts/bench's Bench."""

    def measure(self, store, command, peer_core=None):
        """Seconds of command(spelling) with the store itself and behind a server, in turn."""
        seconds = {"directory": [], "server": []}
        for i in range(self.runs):
            for kind in list(seconds)[::-1 if i % 2 else 1]:
                if not store.exists():
                    timed([PXARFS, "init", store])
                with served(store, core=peer_core) if kind == "server" else \
                        contextlib.nullcontext(store) as name:
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
        with one_core(0):
            beside("first backup, client and server a core each",
                   *self.measure(store, first, peer_core=1), at_least=RATE_MIN, rate=True)

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
        """How much one session has on the way, to a server so far off that nothing else bounds it.

        10 Gbit/s and 20 ms are 25 MB.  A machine that cannot do 10 Gbit/s shows it with a longer way: bytes
        a second times the way's time.  The round trips that a session begins and ends with take no
        part: what is timed is the difference of two sizes.  The official server has a window of 32 MiB, and what
        it takes in a round trip is its bound; ours shows with a larger one.
        """
        point, seconds = self.work / "mnt", {}
        trees = {size: self.work / f"line-{size}" for size in LINE_SIZES}
        for size, tree in trees.items():
            tree.mkdir()
            with open(tree / "big", "wb") as f:
                for _ in range(size):
                    f.write(os.urandom(1_000_000))  # nothing in it twice
        for size, window in LINE_SIZES_AND_WINDOWS * self.runs:
            for what, value in self.over_line(trees[size], window, point).items():
                seconds.setdefault(what, {}).setdefault(size, []).append(value)
        for what, by_size in seconds.items():
            rates = [(LINE_SIZES[1] - LINE_SIZES[0]) / (long - short) for short, long in
                     zip(by_size[LINE_SIZES[0]], by_size[LINE_SIZES[1]])]
            figure(f"{what}, {LINE_MS} ms away", rates, "MB/s")
            figure("  on the way", [r * LINE_MS / 1000 for r in rates], "MB",
                   at_least=None if "32 MiB" in what else LINE_MB)
        for tree in trees.values():
            shutil.rmtree(tree)

    def over_line(self, tree, window_mib, point):
        """Seconds of a first backup, and of a first read if the window is the official one."""
        store, seconds = self.work / "store-line", {}
        timed([PXARFS, "init", store])
        with served(store, LINE_MS, window_mib) as name:
            seconds[f"backup, window {window_mib} MiB"] = timed(
                [PXARFS, "backup", "-r", name, "--backup-id", "big", "--compression", "0",
                 f"big.pxar:{tree}"])
            snapshot = "host/big/" + next((store / "host/big").glob("*Z")).name
            if window_mib == 32:  # what is sent to us has our windows
                with mounted([PXARFS, "mount", "-f", "-r", name, "-o", "cache=512M", snapshot,
                              "big.pxar"], point):
                    seconds["read"] = timed(["dd", f"if={point}/big", "of=/dev/null", "bs=1M"])
        shutil.rmtree(store)
        return seconds
