# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the whole-program tests.

Every test has a folder of its own.  What it mounts is unmounted and what it starts is ended when it
is over, whatever happened: mounts below its folder go lazily, processes by their own ids.
"""

import fcntl
import os
import pathlib
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = TOP / "tests" / "golden"
BUILD = pathlib.Path(os.environ.get("PXARFS_BUILD", TOP / "build"))

sys.path.insert(0, str(TOP / "tests" / "support"))

# A shell starts what is put in the background deaf to ^C, and so would the programs of the tests be.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Seconds within which something happens at once, on a machine that is loaded too, and under a
# sanitizer; what would wait for a dead repository takes longer (-o timeout= is 60).
# How soon it is on a quiet machine is for scripts/bench.
SOON = 30


def is_sanitized():
    """Whether the program's memory and time are those of a sanitizer."""
    return any(name in (BUILD / "pxarfs").read_bytes() for name in (b"__asan_init", b"__tsan_init"))


def mounts_below(folder):
    prefix = str(folder)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        points = [line.split()[4].encode("latin-1", "surrogateescape").decode("unicode_escape")
                  for line in f]
    return [p for p in points if p == prefix or p.startswith(prefix + "/")]


class Pxarfs:
    """Runs the program under test inside one folder."""

    def __init__(self, folder, serves=False):
        self.folder = folder
        self.program = BUILD / "pxarfs"
        self.daemons = []
        self.servers = {} if serves else None  # of directories that are used as repositories
        self.env = dict(os.environ, LC_ALL="C.UTF-8", TZ="UTC",
                        XDG_CACHE_HOME=str(folder / "cache"))
        for name in ("PXARFS_REPOSITORY", "PBS_REPOSITORY", "PXARFS_LOG", "PBS_LOG"):
            self.env.pop(name, None)
        # no default keys of whoever runs the tests, and no passphrases
        self.env["XDG_CONFIG_HOME"] = str(folder / "config")
        self.env["XDG_CONFIG_DIRS"] = str(folder / "nowhere")
        for name in [n for n in self.env if n.startswith(("PBS_ENC", "PXARFS_NEW", "PXARFS_MAS",
                                                          "PBS_PASS", "PBS_FINGER"))]:
            del self.env[name]
        self.env.pop("XDG_RUNTIME_DIR", None)
        self.env.pop("ALL_PROXY", None)

    def server(self, path):
        """The server in front of a datastore directory; its password is in the environment."""
        import pbs_server
        if path not in self.servers:
            self.servers[path] = pbs_server.Server({"store1": path}).start()
            self.env.update(self.servers[path].env)
        return self.servers[path]

    def arguments(self, args):
        """With every directory behind -r turned into its server, if they are served."""
        args = [str(arg) for arg in args]
        for i in range(1, len(args) if self.servers is not None else 0):
            if args[i - 1] == "-r" and os.path.isdir(os.path.join(args[i], ".chunks")):
                args[i] = self.server(args[i]).repository
        return args

    def __call__(self, *args, status=0, timeout=300, **kwargs):
        """Run to the end; `status` is the exit status it must have (None: any)."""
        args = self.arguments(args)
        done = subprocess.run([self.program, *args], capture_output=True,
                              env=self.env, timeout=timeout, text=kwargs.pop("text", True), **kwargs)
        if status is not None:
            assert done.returncode == status, (
                f"pxarfs {' '.join(args)}: exit status {done.returncode}, "
                f"not {status}\n{done.stdout}\n{done.stderr}")
        return done

    def start(self, *args, **kwargs):
        """Start without waiting."""
        p = subprocess.Popen([self.program, *self.arguments(args)], env=self.env, **kwargs)
        self.daemons.append(p)
        return p

    def on_terminal(self, *args):
        """What a terminal gets of a command that ends well."""
        ours, theirs = pty.openpty()
        p = self.start(*args, stdout=theirs)
        os.close(theirs)
        text = b""
        while True:
            try:
                text += os.read(ours, 65536)
            except OSError:  # the other end is gone
                break
        os.close(ours)
        assert p.wait() == 0
        return text

    def mount(self, *args, options=None, name="mnt", **kwargs):
        """Mount in the foreground (so that its process is ours); returns the Mount."""
        point = self.folder / name
        point.mkdir(exist_ok=True)
        return Mount(self, args, point, options, **kwargs)

    def cleanup(self):
        for point in sorted(mounts_below(self.folder), key=len, reverse=True):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        for p in self.daemons:
            if p.poll() is None:
                p.terminate()
                try:
                    p.wait(5)
                except subprocess.TimeoutExpired:
                    p.kill()
                    p.wait()
        for server in (self.servers or {}).values():
            server.stop()


class Mount:
    """A mount in the foreground; `with` unmounts it and demands a clean exit."""

    def __init__(self, pxarfs, args, point, options, repository=None, timeout=60):
        self.path = point
        self.log_path = pxarfs.folder / (point.name + ".log")
        command = ["mount", "-f"]
        if repository:
            command += ["-r", str(repository)]
        if options:
            command += ["-o", options]
        with open(self.log_path, "wb") as log:
            self.process = pxarfs.start(*command, *args, point, stderr=log)
        end = time.monotonic() + timeout
        # not os.path.ismount(), which would ask for the root and so fetch it
        while not mounts_below(point):
            assert self.process.poll() is None, f"mount failed: {self.log()}"
            assert time.monotonic() < end, f"mount is not ready: {self.log()}"
            time.sleep(0.005)

    def log(self):
        return self.log_path.read_text(errors="replace")

    def unmount(self):
        # Who mounts looks at it himself for a moment, before he says that it is ready.
        end = time.monotonic() + SOON
        while (done := subprocess.run(["umount", self.path], capture_output=True,
                                      text=True)).returncode != 0:
            assert "busy" in done.stderr and time.monotonic() < end, done.stderr
            time.sleep(0.01)
        assert self.process.wait(4 * SOON) == 0, self.log()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None and self.process.poll() is None:
            self.unmount()
        elif self.process.poll() is None:
            subprocess.run(["umount", "-l", self.path], check=False)
            self.process.send_signal(signal.SIGTERM)


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("the end-to-end tests mount file systems and make device nodes: run them as root",
                    returncode=2)
    if not (BUILD / "pxarfs").exists():
        pytest.exit(f"{BUILD / 'pxarfs'} is not there: run make first", returncode=2)


@pytest.fixture(autouse=True)
def others(request):
    """Tests run beside those of other processes, but for those that are marked `alone`."""
    alone = request.node.get_closest_marker("alone")
    here = pathlib.Path(__file__)
    with open(here, "rb") as running, open(here.with_name("pytest.ini"), "rb") as turnstile:
        fcntl.flock(turnstile, fcntl.LOCK_EX)  # who waits to be alone lets nobody past
        fcntl.flock(running, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        yield


@pytest.fixture
def folder():
    """A folder on a real file system (not tmpfs), removed afterwards."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="pxarfs-test-", dir="/var/tmp"))
    yield path
    subprocess.run(["chattr", "-R", "-ia", path], check=False, capture_output=True)
    shutil.rmtree(path, ignore_errors=True)


def pytest_generate_tests(metafunc):
    if metafunc.definition.get_closest_marker("both_backends"):
        metafunc.parametrize("backend", ["directory", "server"], indirect=True)


@pytest.fixture
def backend(request):
    return getattr(request, "param", "directory")


@pytest.fixture
def pxarfs(folder, backend):
    """The program; under @pytest.mark.both_backends also with every repository behind a server."""
    program = Pxarfs(folder, serves=backend == "server")
    yield program
    program.cleanup()
    for server in (program.servers or {}).values():
        assert server.record.complaints == []


@pytest.fixture
def server(folder):
    """A PBS server with one empty datastore, "store1"; nobody may break HTTP/2 with it."""
    import pbs_server
    (folder / "server").mkdir()
    with pbs_server.Server({"store1": folder / "server"}) as running:
        yield running
    assert running.record.complaints == []


def unpack(archive, target):
    target.mkdir(mode=0o755)
    subprocess.run(["tar", "-x", "-p", "-f", GOLDEN / archive, "-C", target], check=True)
    return target


@pytest.fixture
def store(folder):
    """The first golden datastore, unpacked: a private copy."""
    return unpack("datastore.tar", folder / "store")


@pytest.fixture
def repo(pxarfs, folder):
    """A datastore with nothing in it."""
    pxarfs("init", folder / "repo")
    return folder / "repo"


@pytest.fixture
def store2(folder):
    """The second golden datastore."""
    return unpack("datastore2.tar", folder / "store2")
