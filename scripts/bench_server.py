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

from bench_mount import BUILD, PXARFS, TOP, beside, mounted, timed

sys.path.insert(0, str(TOP / "tests" / "support"))

PEER = BUILD / "tests/support/pbs_peer"
RATE_MIN = 0.7
UNCHANGED_MAX = 1.5
ENTRIES = 150_000


@contextlib.contextmanager
def served(store):
    """The spelling of the datastore behind a server; what a login needs is in the environment."""
    import pbs_server  # pylint: disable=import-outside-toplevel
    pem = pbs_server.identity()
    with subprocess.Popen([PEER, store, pem], stdout=subprocess.PIPE, text=True) as p:
        os.environ.update(PBS_PASSWORD="any", PBS_FINGERPRINT=pbs_server.fingerprint(pem))
        try:
            yield f"root@pam!bench@localhost:{int(p.stdout.readline())}:store"
        finally:
            p.kill()


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
