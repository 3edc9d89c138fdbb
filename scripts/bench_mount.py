# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench measures of a mount: each figure beside a plain tool's, with its aim.

A mount begins with nothing in memory; the page cache has the source and the store.
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

from bench_tools import (BUILD, FIND, MIB, PXARFS, beside, figure, mounted, pieces, timed,
                         touch_memory)

NULLFS = BUILD / "tests/support/nullfs"
STOREFS = BUILD / "tests/support/storefs"


class MountBench:
    """A mixin: needs source, runs, prepare_only, work (a folder) and kept (one that may stay)."""

    # --- what is measured is prepared once ---

    def prepared(self, name, make):
        """A folder in which make(folder) was run to its end, now or in an earlier run."""
        folder = self.kept / name
        done = self.kept / (name + ".done")
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            done.touch()
        return folder

    def backed_up(self, folder, tree, *args):
        timed([PXARFS, "init", folder / "store"])
        timed([PXARFS, "backup", "-r", folder / "store", "--backup-id", "bench",
               f"root.pxar:{tree}", "--entries-max", "2000000", *args])

    def mount(self, folder, options=None, store=None):
        command = [PXARFS, "mount", "-f", "-r", store or folder / "store"]
        return mounted([*command, *(["-o", options] if options else []), "host/bench",
                        "root.pxar"], self.work / "mnt")

    def warm_store(self, folder):
        timed(f"find {folder}/store -type f -print0 | xargs -0 cat >/dev/null", shell=True)

    def whole_source(self):
        return self.prepared("source", lambda f: self.backed_up(f, self.source))

    # --- 1: names and attributes ---

    def walk(self):
        """find and ls -R over the mount, beside the null server and the source."""
        folder = self.whole_source()
        if self.prepare_only:
            return
        self.warm_store(folder)
        first, again, null, source = [], [], [], []
        ls, null_ls = [], []
        timed(FIND, cwd=self.source)
        for _ in range(self.runs):
            with mounted([NULLFS, self.source], self.work / "mnt") as m:
                null.append(timed(FIND, cwd=m.point))
            with self.mount(folder) as m:
                first.append(timed(FIND, cwd=m.point))
                again.append(timed(FIND, cwd=m.point))
            source.append(timed(FIND, cwd=self.source))
            with mounted([NULLFS, self.source], self.work / "mnt") as m:
                null_ls.append(timed(["ls", "-R"], cwd=m.point))
            with self.mount(folder) as m:
                ls.append(timed(["ls", "-R"], cwd=m.point))
        beside("find, first", first, "null server", null, at_most=1.3)
        beside("find, first", first, "source", source, at_most=3.2)
        beside("find, again", again, "source", source, at_most=1.2)
        beside("ls -R, first", ls, "null server", null_ls, at_most=1.3)

    # --- 2: a large file ---

    def make_large(self, folder, compressible):
        rng = random.Random(1)
        (folder / "tree").mkdir()
        with open(folder / "tree" / "big", "wb") as f:
            for piece in pieces(rng, 1536 * MIB, compressible):
                f.write(piece)
        self.backed_up(folder, folder / "tree")

    def read(self):
        """A 1.5 GiB file's first read and the next, beside SHA-256 of it and the source."""
        self.read_one("large-half", True, "half compressible", 0.6)
        self.read_one("large-full", False, "incompressible", 0.7)

    def read_one(self, name, compressible, words, aim):
        folder = self.prepared(name, lambda f: self.make_large(f, compressible))
        if self.prepare_only:
            return
        big = folder / "tree/big"
        self.warm_store(folder)
        timed(["cat", big])
        first, again, sha, source = [], [], [], []
        for _ in range(self.runs):
            sha.append(timed(["openssl", "dgst", "-sha256", big]))
            touch_memory()
            with self.mount(folder) as m:
                first.append(timed(["dd", f"if={m.point}/big", "of=/dev/null", "bs=1M"]))
                again.append(timed(["dd", f"if={m.point}/big", "of=/dev/null", "bs=1M"]))
            source.append(timed(["dd", f"if={big}", "of=/dev/null", "bs=1M"]))
        beside(f"1.5 GiB, {words}, first read", first, "openssl dgst -sha256", sha,
               at_least=aim, rate=True)
        beside("the same again", again, "source", source, at_least=0.8, rate=True)

    # --- 3: small files ---

    def make_small(self, folder):
        rng = random.Random(2)
        for d in range(300):
            here = folder / "tree" / f"d{d:03}"
            here.mkdir(parents=True)
            for i in range(1000):
                (here / f"file-{i:04}").write_bytes(rng.randbytes(rng.randrange(8193)))
        self.backed_up(folder, folder / "tree")

    def small(self):
        """300,000 files of 0 to 8 KiB: tar, and random reads by four at once."""
        folder = self.prepared("small", self.make_small)
        if self.prepare_only:
            return
        self.warm_store(folder)
        tar = "tar cf - -C {} . | cat >/dev/null"
        timed(tar.format(folder / "tree"), shell=True)
        ours, source, reads = [], [], []
        for _ in range(self.runs):
            source.append(timed(tar.format(folder / "tree"), shell=True))
            touch_memory()
            with self.mount(folder) as m:
                ours.append(timed(tar.format(m.point), shell=True))
                reads.append(m.statistics()["read"])
        beside("tar of 300,000 small files", ours, "source", source, at_most=2.5)
        figure("READ requests of that", reads, "", at_most=10_000)

    def copy(self):
        """The same files with cp -a into memory, and compared with their source by rsync."""
        folder = self.prepared("small", self.make_small)
        if self.prepare_only:
            return
        self.warm_store(folder)
        tree = folder / "tree"
        timed(f"tar cf - -C {tree} . | cat >/dev/null", shell=True)
        ours, source, rsync, itself = [], [], [], []
        for _ in range(self.runs):
            source.append(self.copied(tree))
            itself.append(self.compared(tree, tree))
            touch_memory()
            with self.mount(folder) as m:
                ours.append(self.copied(m.point))
            touch_memory()
            with self.mount(folder) as m:
                rsync.append(self.compared(m.point, tree))
        beside("cp -a of 300,000 small files", ours, "source", source)
        beside("rsync -aHAXn --checksum with the source", rsync, "source with itself", itself)

    def copied(self, tree):
        """Seconds of cp -a to a file system in memory."""
        out = self.work / "copy"
        out.mkdir(exist_ok=True)
        timed(["mount", "-t", "tmpfs", "-o", "size=6g,nr_inodes=1m", "tmpfs", out])
        try:
            return timed(["cp", "-a", f"{tree}/.", out])
        finally:
            timed(["umount", out])

    @staticmethod
    def compared(tree, other):
        """Seconds of an rsync that must find no difference."""
        begin = time.monotonic()
        told = subprocess.run(["rsync", "-aHAXni", "--checksum", "--delete", f"{tree}/",
                               f"{other}/"], check=True, capture_output=True, text=True).stdout
        if told:
            sys.exit(f"bench: {tree} differs: {told[:500]}")
        return time.monotonic() - begin

    def randomly(self):
        """Random 4 KiB reads over the small files by four at once, chunks in the cache."""
        folder = self.prepared("small", self.make_small)
        if self.prepare_only:
            return
        rates = []
        for _ in range(self.runs):
            with self.mount(folder, "cache=3G") as m:
                timed(f"tar cf - -C {m.point} . | cat >/dev/null", shell=True)
                pathlib.Path("/proc/sys/vm/drop_caches").write_text("1", encoding="ascii")
                paths = [f"{m.point}/d{d:03}/file-{i:04}" for d in range(300)
                         for i in range(1000)]
                random.Random(3).shuffle(paths)
                count = 40_000
                before = m.statistics()["read"]
                seconds = self.read_randomly([paths[k * count:(k + 1) * count]
                                              for k in range(4)])
                asked = m.statistics()["read"] - before
                rates.append(4 * count / seconds)
        figure("random 4 KiB reads, 4 readers", rates, "/s", at_least=20_000)
        figure("READ requests of each such read", [asked / count / 4], "")

    @staticmethod
    def read_randomly(parts):
        """Seconds until each of some processes has read its part."""
        pids = []
        begin = time.monotonic()
        for part in parts:
            pid = os.fork()
            if pid == 0:
                for path in part:
                    fd = os.open(path, os.O_RDONLY)
                    os.pread(fd, 4096, 0)
                    os.close(fd)
                os._exit(0)
            pids.append(pid)
        for pid in pids:
            os.waitpid(pid, 0)
        return time.monotonic() - begin

    # --- 4: mount, and folders of many ---

    def make_million(self, folder):
        for d in range(1000):
            here = folder / "tree" / f"top-{d // 200}" / f"folder-{d % 200:03}"
            here.mkdir(parents=True)
            for i in range(1000):
                os.close(os.open(here / f"entry {i:04}", os.O_CREAT | os.O_WRONLY))
        self.backed_up(folder, folder / "tree")

    def make_wide(self, folder):
        (folder / "tree/wide").mkdir(parents=True)
        for i in range(300_000):
            os.close(os.open(folder / f"tree/wide/entry {i:06}", os.O_CREAT | os.O_WRONLY))
        self.backed_up(folder, folder / "tree")

    def start(self):
        """Mount to first ls /; mounted in the same time whatever is in the archive.

        One mount directly after the other, the first not counted: a virtual machine that did
        nothing, or gave back gigabytes (touch_memory), just before is three times slower for a
        moment, at anything.
        """
        folders = {"source": self.whole_source(),
                   "million": self.prepared("million", self.make_million),
                   "wide": self.prepared("wide", self.make_wide)}
        if self.prepare_only:
            return
        names = {"source": "mount to first ls /", "million": "the same, 1,000,000 entries",
                 "wide": "the same, 300,000 in one folder"}
        first = None
        for name, folder in folders.items():
            self.warm_store(folder)
            with self.mount(folder) as m:
                os.listdir(m.point)
            ready, times, chunks = [], [], []
            for _ in range(self.runs * 3):
                with self.mount(folder) as m:
                    ready.append((m.ready - m.begin) * 1000)
                    os.listdir(m.point)
                    times.append((time.monotonic() - m.begin) * 1000)
                    chunks.append(m.statistics()["meta_chunks"])
            figure(names[name], times, "ms", at_most=30)
            if first:
                beside("until it was mounted", [t / 1000 for t in ready], "source",
                       [t / 1000 for t in first], at_most=1.5)
            else:
                figure("until it was mounted", ready, "ms")
                first = ready
            figure("chunks fetched for that", chunks, "", at_most=8)

    def wide(self):
        """ls of a folder of 300,000, beside the source's file system."""
        folder = self.prepared("wide", self.make_wide)
        if self.prepare_only:
            return
        self.warm_store(folder)
        ours, long, source, source_long = [], [], [], []
        for _ in range(self.runs):
            source.append(timed(["ls", folder / "tree/wide"]))
            with self.mount(folder) as m:
                ours.append(timed(["ls", m.point / "wide"]))
            source_long.append(timed(["ls", "-l", folder / "tree/wide"]))
            with self.mount(folder) as m:
                long.append(timed(["ls", "-l", m.point / "wide"]))
        beside("ls of 300,000 in one folder", ours, "source", source, at_most=3)
        beside("ls -l of 300,000 in one folder", long, "source", source_long)

    # --- 5: memory ---

    def memory(self):
        """Peak memory after find and tar over everything."""
        folders = {"source": self.whole_source(), "small": self.prepared("small", self.make_small),
                   "million": self.prepared("million", self.make_million)}
        if self.prepare_only:
            return
        for name, folder in folders.items():
            with self.mount(folder) as m:
                timed(FIND, cwd=m.point)
                timed(f"tar cf - -C {m.point} . | cat >/dev/null", shell=True)
                figure(f"memory after find and tar, {name}", [m.peak_mib()], "MiB",
                       at_most=256 + 25)

    # --- all snapshots in one place ---

    def make_many_snapshots(self, folder):
        """10,000 snapshots of a group: one backup, and the same files under other times."""
        rng = random.Random(6)
        for d in range(10):
            here = folder / "tree" / f"d{d}"
            here.mkdir(parents=True)
            for i in range(50):
                (here / f"file-{i:02}").write_bytes(rng.randbytes(rng.randrange(8193)))
        self.backed_up(folder, folder / "tree")
        group = folder / "store/host/bench"
        first = next(p for p in group.iterdir() if p.is_dir())
        for i in range(10_000 - 1):
            later = group / time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1900000000 + 60 * i))
            later.mkdir()
            for path in first.iterdir():
                os.link(path, later / path.name)

    def mount_all(self, folder):
        return mounted([PXARFS, "mount", "-f", "-r", folder / "store"], self.work / "mnt")

    def snapshots(self):
        """10,000 snapshots: listed, entered, and what is kept of them."""
        folder = self.prepared("many-snapshots", self.make_many_snapshots)
        if self.prepare_only:
            return
        group = folder / "store/host/bench"
        timed(["ls", "-lR", group])
        ours, source = [], []
        for _ in range(self.runs):
            source.append(timed(["ls", group]))
            with self.mount_all(folder) as m:
                ours.append(timed(["ls", m.point / "host/bench"]))
        beside("ls of 10,000 snapshots", ours, "their folder", source)
        figure("the same, seconds", ours, "s", at_most=1)
        with self.mount_all(folder) as m:
            names = sorted(n for n in os.listdir(m.point / "host/bench") if n != "latest")
            for name in names[:500]:
                root = m.point / "host/bench" / name / "root.pxar"
                timed(["find", root, "-size", "+0", "-name", "file-0*", "-exec", "cat", "{}", "+"])
            figure("memory after 500 snapshots read", [m.peak_mib()], "MiB", at_most=256 + 25)
        for count in (100, 10_000):
            with self.mount_all(folder) as m:
                group = m.point / "host/bench"
                os.listdir(group)
                begin = time.monotonic()
                for name in names[:count]:
                    os.listdir(group / name / "root.pxar")
                milliseconds = (time.monotonic() - begin) * 1000 / count
                figure(f"{count:,} snapshots entered, each", [milliseconds], "ms")
                figure("memory then", [m.peak_mib()], "MiB", at_most=256 + 25)

    # --- 6 and 7: a slow store, a dead store ---

    def make_ten_thousand(self, folder):
        rng = random.Random(4)
        for d in range(20):
            here = folder / "tree" / f"d{d:02}"
            here.mkdir(parents=True)
            for i in range(500):
                (here / f"file-{i:03}").write_bytes(rng.randbytes(rng.randrange(8193)))
        self.backed_up(folder, folder / "tree", "--chunk-size", "64")

    def latency(self):
        """cp -r of 10,000 small files where each chunk comes 20 ms late."""
        folder = self.prepared("ten-thousand", self.make_ten_thousand)
        if self.prepare_only:
            return
        ours, serial = [], []
        for _ in range(self.runs):
            out = self.work / "copy"
            with mounted([STOREFS, folder / "store"], self.work / "slow") as slow:
                slow.process.stdin.write(b"delay 20\n")
                slow.process.stdin.flush()
                slow.process.stdout.readline()
                with self.mount(folder, store=slow.point) as m:
                    ours.append(timed(["cp", "-r", m.point, out]))
                    after = m.statistics()
                    serial.append(0.02 * (after["meta_chunks"] + after["payload_chunks"]))
            shutil.rmtree(out)
        beside("cp -r of 10,000 files, 20 ms a chunk", ours, "one chunk after the other", serial,
               at_least=8, rate=True)

    def make_sixty_four(self, folder):
        rng = random.Random(5)
        (folder / "tree").mkdir()
        for i in range(64):
            (folder / "tree" / f"file{i:02}").write_bytes(rng.randbytes(MIB))
        self.backed_up(folder, folder / "tree", "--chunk-size", "64")

    def stuck(self):
        """64 readers of a dead store: df, ^C, SIGTERM."""
        folder = self.prepared("sixty-four", self.make_sixty_four)
        if self.prepare_only:
            return
        df, interrupted, ended = [], [], []
        for _ in range(self.runs):
            with mounted([STOREFS, folder / "store"], self.work / "slow") as slow:
                with self.mount(folder, "readahead=0", store=slow.point) as m:
                    os.listdir(m.point)
                    slow.process.send_signal(signal.SIGSTOP)
                    readers = self.stuck_readers(m)
                    df.append(timed(["df", m.point]) * 1000)
                    begin = time.monotonic()
                    for p in readers:
                        p.send_signal(signal.SIGINT)
                    for p in readers:
                        p.wait()
                    interrupted.append((time.monotonic() - begin) * 1000)
                    readers = self.stuck_readers(m)
                    begin = time.monotonic()
                    m.process.terminate()
                    m.process.wait()
                    ended.append((time.monotonic() - begin) * 1000)
                    slow.process.send_signal(signal.SIGCONT)
                    for p in readers:
                        p.wait()
        figure("df beside 64 stuck readers", df, "ms", at_most=100)
        figure("^C to all of them, till the last is gone", interrupted, "ms")
        figure("SIGTERM to the end of the process", ended, "ms", at_most=1000)

    @staticmethod
    def stuck_readers(m):
        readers = [subprocess.Popen(["cat", m.point / f"file{i:02}"], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL) for i in range(64)]
        while m.statistics()["waiting"] < 64:
            time.sleep(0.01)
        return readers
