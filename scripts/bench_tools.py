# SPDX-License-Identifier: Apache-2.0
"""What the sections of scripts/bench share: commands timed, figures printed, servers mounted."""

import contextlib
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[1]
BUILD = pathlib.Path(os.environ.get("PXARFS_BUILD", TOP / "build"))
PXARFS = BUILD / "pxarfs"
FIND = ["find", ".", "-printf", r"%s %T@ %p\n"]
MIB = 1 << 20


def run(command, cwd=None, shell=False):
    """Wall seconds, CPU seconds and peak MiB (largest process) of a command that must succeed."""
    begin = time.monotonic()
    p = subprocess.Popen(command, cwd=cwd, shell=shell, stdout=subprocess.DEVNULL,
                         stderr=subprocess.PIPE)
    error = p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    wall = time.monotonic() - begin
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"bench: {command}: {error.decode(errors='replace')}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def timed(command, cwd=None, shell=False):
    """Wall seconds of a command that must succeed."""
    return run(command, cwd, shell)[0]


def aim_of(at_most, at_least):
    """How it is printed; 0 is an aim, too."""
    if at_most is not None:
        return f"   aim <= {at_most}"
    return f"   aim >= {at_least}" if at_least is not None else ""


def beside(what, ours, name, theirs, at_most=None, at_least=None, rate=False):
    """The median of each run's ratio, and how far they lie apart."""
    ratios = sorted(t / o if rate else o / t for o, t in zip(ours, theirs))
    aim = aim_of(at_most, at_least)
    print(f"{what:42} {statistics.median(ours):8.3f} s   {name:26} {statistics.median(theirs):8.3f} s"
          f"   {'rate' if rate else 'time'} {statistics.median(ratios):6.2f}"
          f" ({ratios[0]:.2f}-{ratios[-1]:.2f}){aim}", flush=True)


def figure(what, values, unit, at_most=None, at_least=None):
    aim = aim_of(at_most, at_least)
    values = sorted(values)
    print(f"{what:42} {statistics.median(values):8.1f} {unit}"
          f" ({values[0]:.1f}-{values[-1]:.1f}){aim}", flush=True)


def touch_memory():
    """Have the free pages that the next run will use.

    The host of a virtual machine may take back what was free for a while (free page reporting);
    the first use of such a page then costs 2.5 ms a MiB, more than anything measured here.
    """
    with open("/proc/meminfo", encoding="ascii") as f:
        free = int(re.search(r"MemFree:\s*(\d+)", f.read())[1]) << 10
    # by another process: peaks of memory are told of whoever starts what is measured, too
    subprocess.run([sys.executable, "-c", "import mmap, sys; mmap.mmap(-1, int(sys.argv[1]), "
                    "mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)",
                    str(min(3 << 30, free // 2))], check=True)


def is_mounted(point):
    """Without asking the mount."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
        return any(line.split()[4] == str(point) for line in f)


class Mount:
    """A server in the foreground, from before it starts until it is gone."""

    def __init__(self, command, point):
        self.point = point
        self.begin = time.monotonic()
        self.log = open(str(point) + ".log", "w+b")  # pylint: disable=consider-using-with
        self.process = subprocess.Popen([*command, point], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log)
        while not is_mounted(point):
            if self.process.poll() is not None or time.monotonic() > self.begin + 120:
                sys.exit(f"bench: {command} did not mount: {self.said()}")
            time.sleep(0.0005)
        self.ready = time.monotonic()

    def said(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def statistics(self):
        before = self.said().count("statistics:")
        self.process.send_signal(signal.SIGUSR1)
        while self.said().count("statistics:") == before:
            time.sleep(0.001)
        line = [text for text in self.said().splitlines() if "statistics:" in text][-1]
        return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}

    def peak_mib(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(errors="replace")
        return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) / 1024

    def end(self):
        subprocess.run(["umount", "-l", self.point], check=False, capture_output=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()


@contextlib.contextmanager
def mounted(command, point):
    point.mkdir(exist_ok=True)
    m = Mount(command, point)
    try:
        yield m
    finally:
        m.end()


def pieces(rng, size, compressible):
    """`size` bytes in 4 MiB pieces, every other one compressible, or none."""
    for i in range(size // (4 * MIB)):
        if compressible and i % 2:
            yield (b"pxarfs bench " * 400_000)[:4 * MIB]
        else:
            yield rng.randbytes(4 * MIB)
