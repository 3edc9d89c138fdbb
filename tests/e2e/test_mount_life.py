# SPDX-License-Identifier: Apache-2.0
"""The life of a mount: ready or failed, stuck or not, gone in the end.

A store that hangs is made of two mounts: the one under test reads its archive from another one,
whose process is stopped and let go on.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import time

import handmade
import pytest

from conftest import GOLDEN, SOON, TOP, mounts_below

SPLIT = GOLDEN / "files" / "split.mpxar"
pytestmark = pytest.mark.alone  # stores hang, for which the caches of all are dropped

CONTENT = os.urandom(3 << 20)
FILES = 24


def statistics(mount):
    """Ask for the line of numbers in the log."""
    before = mount.log().count("statistics:")
    mount.process.send_signal(signal.SIGUSR1)
    end = time.monotonic() + 60
    while mount.log().count("statistics:") == before:
        assert time.monotonic() < end
        time.sleep(0.01)
    line = [text for text in mount.log().splitlines() if "statistics:" in text][-1]
    return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)}


def signal_is_pending(pid, number):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        pending = next(int(line.split()[1], 16) for line in f if line.startswith("ShdPnd:"))
    return bool(pending & 1 << (number - 1))


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


class Store:
    """An archive file on a file system that can hang."""

    def __init__(self, pxarfs, folder, inner):
        outer = folder / "outer.pxar"
        outer.write_bytes(handmade.folder([(b"inner.pxar", handmade.file(inner))]))
        self.pxarfs = pxarfs
        self.mount = pxarfs.mount(outer, name="outer")
        self.path = self.mount.path / "inner.pxar"

    def hang(self):
        os.kill(self.mount.process.pid, signal.SIGSTOP)
        # what is in the page cache would still be there
        subprocess.run(["sync"], check=True)
        with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
            f.write("1")

    def go_on(self):
        os.kill(self.mount.process.pid, signal.SIGCONT)


@pytest.fixture
def hanging_store(pxarfs, folder):
    stores = []

    def make(inner):
        stores.append(Store(pxarfs, folder, inner))
        return stores[-1]

    yield make
    for store in stores:
        store.go_on()


@pytest.fixture
def hanging(hanging_store):
    members = [(b"file%02d" % i, handmade.file(CONTENT)) for i in range(FILES)]
    leaf = handmade.sub([(b"leaf", handmade.file(b"leaf"))])
    return hanging_store(handmade.folder(members + [(b"sub", leaf)]))


def reader(path):
    """A process that reads a file where nothing is in memory yet; ^C ends it, as it does cat."""
    return subprocess.Popen(
        ["python3", "-c", "import os, signal, sys\n"
         "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
         "f = os.open(sys.argv[1], os.O_RDONLY)\nos.pread(f, 4096, 2 << 20)", path],
        stderr=subprocess.PIPE)


def test_stuck_readers_can_be_killed_and_df_answers(pxarfs, hanging):
    with pxarfs.mount(hanging.path) as mount:
        os.listdir(mount.path)
        hanging.hang()
        readers = [reader(mount.path / f"file{i:02}") for i in range(FILES)]
        wait_for(lambda: statistics(mount)["waiting"] >= FILES)
        subprocess.run(["df", mount.path], check=True, capture_output=True, timeout=SOON)
        subprocess.run(["ls", "-l", mount.path], check=True, capture_output=True, timeout=SOON)
        assert statistics(mount)["waiting"] >= FILES
        for p in readers:
            p.send_signal(signal.SIGINT)
        for p in readers:
            assert p.wait(SOON) != 0
        assert statistics(mount)["timeouts"] == 0
        hanging.go_on()
        for i in range(FILES):
            assert (mount.path / f"file{i:02}").read_bytes() == CONTENT


def test_interrupted_lookup_gets_eintr(pxarfs, hanging):
    with pxarfs.mount(hanging.path) as mount:
        hanging.hang()
        p = subprocess.Popen(
            ["python3", "-c", "import ctypes, os, signal, sys\n"
             "signal.signal(signal.SIGALRM, lambda *a: None)\n"
             "signal.siginterrupt(signal.SIGALRM, True)\n"
             "c = ctypes.CDLL(None, use_errno=True)\n"
             "signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)\n"
             "b = ctypes.create_string_buffer(144)\n"
             "r = c.stat(sys.argv[1].encode(), b)\n"
             "print(r, ctypes.get_errno())", mount.path / "file07"],
            stdout=subprocess.PIPE, text=True)
        assert p.communicate(timeout=SOON)[0].split() == ["-1", str(errno.EINTR)]
        assert statistics(mount)["interrupts"] >= 1
        hanging.go_on()
        assert (mount.path / "file07").stat().st_size == len(CONTENT)


def test_time_out_is_an_error_and_passes(pxarfs, hanging):
    with pxarfs.mount(hanging.path, options="timeout=1") as mount:
        hanging.hang()
        begin = time.monotonic()
        p = reader(mount.path / "file03")
        assert p.wait(SOON) == 1
        assert b"Input/output error" in p.stderr.read()
        assert 0.9 < time.monotonic() - begin
        assert "no answer from the repository for 1 s" in mount.log()
        hanging.go_on()
        assert (mount.path / "file03").read_bytes() == CONTENT


def links_behind_much(at):
    """A folder: a file of three names, and one of one name."""
    first = []

    def three(begin):
        first.append(begin - len(b"three0") - 17)  # where its FILENAME is
        return handmade.file(b"three")

    def again(name):
        return lambda begin: handmade.hardlink(begin - len(name) - 17 - first[0], b"last/three0")

    members = [(b"three0", three), (b"three1", again(b"three1")), (b"three2", again(b"three2")),
               (b"one", handmade.file(b"one"))]
    return handmade.folder(members, at=at)


def test_counts_of_links_that_come_late_are_corrected(pxarfs, hanging_store):
    """The count hangs at a file that nobody has looked at; the folder behind it was looked at."""
    middle = handmade.sub([(b"big%d" % i, handmade.file(CONTENT)) for i in range(3)])
    inner = handmade.folder([(b"middle", middle), (b"last", links_behind_much)])
    store = hanging_store(inner)
    with pxarfs.mount(store.path) as mount:
        assert sorted(os.listdir(mount.path)) == ["last", "middle"]
        store.hang()
        fds = {name: os.open(mount.path / "last" / name, os.O_PATH) for name in ("one", "three0")}

        def links():
            return [os.stat(fd).st_nlink for fd in fds.values()]

        assert links() == [2, 2]
        assert statistics(mount)["corrected"] == 0
        store.go_on()
        wait_for(lambda: statistics(mount)["corrected"] >= 2)
        wait_for(lambda: links() == [1, 3])
        for fd in fds.values():
            os.close(fd)


def test_sigterm_ends_it_whatever_is_stuck(pxarfs, hanging):
    mount = pxarfs.mount(hanging.path)
    os.listdir(mount.path)
    hanging.hang()
    readers = [reader(mount.path / f"file{i:02}") for i in range(8)]
    wait_for(lambda: statistics(mount)["waiting"] >= 8)
    mount.process.send_signal(signal.SIGTERM)
    wait_for(lambda: not os.path.ismount(mount.path), SOON)
    for p in readers:
        assert p.wait(SOON) != 0
    # loads of its own may hang in the stopped file system until that goes on
    hanging.go_on()
    assert mount.process.wait(SOON) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_unmount_an_idle_mount(pxarfs, number):
    mount = pxarfs.mount(SPLIT)
    os.listdir(mount.path)
    mount.process.send_signal(number)
    assert mount.process.wait(SOON) == 0
    assert not os.path.ismount(mount.path)


def test_signal_unmounts_a_busy_mount(pxarfs):
    mount = pxarfs.mount(SPLIT)
    fd = os.open(mount.path, os.O_RDONLY)
    mount.process.send_signal(signal.SIGTERM)
    assert mount.process.wait(SOON) == 0
    assert not os.path.ismount(mount.path)
    with pytest.raises(OSError):
        os.stat("links", dir_fd=fd)
    os.close(fd)


def abort(mount, folder):
    """As an administrator ends a connection that hangs."""
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        number = next(w[2] for w in map(str.split, f) if w[4] == str(mount.path)).split(":")[1]
    (folder / "fusectl").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "fusectl", "none", folder / "fusectl"], check=True)
    (folder / "fusectl" / number / "abort").write_text("1")
    subprocess.run(["umount", folder / "fusectl"], check=True)


def test_an_aborted_connection_leaves_no_dead_mount(pxarfs, folder):
    mount = pxarfs.mount(SPLIT)
    os.listdir(mount.path)
    abort(mount, folder)
    assert mount.process.wait(SOON) == 0
    assert not os.path.ismount(mount.path)


CLIENTS = ["find {0} -printf '%s %T@\\n'", "tar cf - -C {0} . | cat", "ls -lR {0}", "cat {0}/*/file0*"]


@contextlib.contextmanager
def busy(path):
    """Programs that read PATH until the block ends, or this process; gives what kills them before."""
    programs = [subprocess.Popen(["sh", "-c", "while kill -0 $PPID; do " + c.format(path) + "; done"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                 start_new_session=True) for c in CLIENTS]

    def kill():
        for p in programs:
            os.killpg(p.pid, signal.SIGKILL)
    try:
        yield kill
    finally:
        kill()
        for p in programs:
            assert p.wait(SOON) == -signal.SIGKILL


@pytest.mark.parametrize("push", [1, 1024])
def test_it_ends_whatever_is_under_way_and_however_it_is_told(pxarfs, folder, push):
    """Small files to push, links to correct, programs in the middle of it, and the next one."""
    tree, n = folder / "tree", 0
    for d in range(6):
        (tree / f"d{d}").mkdir(parents=True)
        for i in range(60):
            (tree / f"d{d}" / f"file{i:02}").write_bytes(b"%d" % i * 900)
        os.link(tree / f"d{d}" / "file00", tree / f"d{d}" / "link")
    pxarfs("create", folder / "a.pxar", tree)
    for number in range(2):
        for how in ("umount", "lazily", "term", "int", "abort", "killed clients"):
            n += 1
            mount = pxarfs.mount(folder / "a.pxar", name=f"m{n}", options=f"push={push},readers=2")
            with busy(mount.path) as kill_clients:
                wait_for(lambda: sum(map(statistics(mount).get, ("read", "pushed"))) > number * 100)
                if how in ("umount", "killed clients"):
                    kill_clients()
                if how == "umount":
                    wait_for(lambda: subprocess.run(["umount", mount.path], stderr=subprocess.DEVNULL,
                                                    check=False).returncode == 0, SOON)
                elif how == "lazily":  # it goes with the last one that is in it
                    subprocess.run(["umount", "-l", mount.path], check=True)
                    kill_clients()
                elif how == "abort":
                    abort(mount, folder)
                else:
                    mount.process.send_signal(signal.SIGINT if how == "int" else signal.SIGTERM)
                assert mount.process.wait(SOON) == 0, (how, mount.log())
                assert not mounts_below(mount.path), how


def test_a_log_that_nobody_reads_holds_up_nothing(pxarfs, folder):
    point, (log, end) = folder / "mnt", os.pipe()
    point.mkdir()
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
    process = pxarfs.start("mount", "-f", SPLIT, point, stderr=end)
    os.close(end)
    wait_for(lambda: mounts_below(point))
    for _ in range(30):  # more than the pipe can hold
        process.send_signal(signal.SIGUSR1)
        # it is taken when the signal is no more pending
        wait_for(lambda: not signal_is_pending(process.pid, signal.SIGUSR1))
    assert "links" in os.listdir(point)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SOON) == 0 and not mounts_below(point)
    assert os.read(log, 8192).count(b"statistics:") < 30
    os.close(log)


def test_hangup_is_ignored(pxarfs):
    with pxarfs.mount(SPLIT) as mount:
        mount.process.send_signal(signal.SIGHUP)
        assert statistics(mount)["waiting"] == 0
        assert "links" in os.listdir(mount.path)


def daemon_of(point):
    """The process that serves a mount made in the background."""
    out = subprocess.run(["pgrep", "-f", f"mount .*{point}$"], capture_output=True, text=True,
                         check=False).stdout.split()
    return [int(pid) for pid in out]


def test_background_mount_is_ready_when_the_command_returns(pxarfs, folder):
    point = folder / "mnt"
    point.mkdir()
    done = pxarfs("mount", SPLIT, point)
    assert done.stdout == done.stderr == ""
    assert os.path.ismount(point) and "links" in os.listdir(point)
    (pid,) = daemon_of(point)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not daemon_of(point), SOON)
    assert not os.path.ismount(point)


def test_unmounting_ends_the_background_process(pxarfs, folder):
    point = folder / "mnt"
    point.mkdir()
    pxarfs("mount", SPLIT, point)
    subprocess.run(["umount", point], check=True)
    wait_for(lambda: not daemon_of(point), SOON)


@pytest.mark.parametrize("foreground", [[], ["-f"]])
def test_failing_mount_says_why_with_status_1(pxarfs, folder, foreground):
    point = folder / "mnt"
    point.mkdir()
    garbage = folder / "garbage.pxar"
    garbage.write_bytes(b"no archive" * 100)
    for source, words in [(folder / "none.pxar", "No such file"), (garbage, "garbage.pxar"),
                          ("/nowhere::host/a/latest/b.pxar", "/nowhere")]:
        done = pxarfs("mount", *foreground, source, point, status=1)
        assert words in done.stderr and not done.stdout, done.stderr
        assert not os.path.ismount(point)
    done = pxarfs("mount", *foreground, SPLIT, folder / "none", status=1)
    assert "none: No such file" in done.stderr
    done = pxarfs("mount", *foreground, SPLIT, garbage, status=1)
    assert "not a directory" in done.stderr
    assert not daemon_of(point)


def test_unknown_options_are_bad_usage(pxarfs, folder):
    done = pxarfs("mount", "-o", "ro,nosuch", SPLIT, folder, status=2)
    assert "unknown mount option 'nosuch'" in done.stderr
    done = pxarfs("mount", "-o", "cache=1", SPLIT, folder, status=2)
    assert "'cache'" in done.stderr
    pxarfs("mount", status=2)
    done = pxarfs("mount", "-r", folder, "nosuch", "root.pxar", folder, status=2)
    assert "'nosuch' is no snapshot" in done.stderr
    done = pxarfs("mount", "-r", folder, SPLIT, status=1)  # all snapshots of it, there
    assert f"{SPLIT}: not a directory" in done.stderr


def test_manual_page_has_every_mount_option():
    table = (TOP / "fuse/mount_opts.c").read_text().split("words[] = {", 1)[1].split("\n};", 1)[0]
    words = set(re.findall(r'{ (?:\.name = )?"(\w+)"', table))
    page = (TOP / "fuse/mount.pxarfs.8").read_text().split(".Sh MOUNT OPTIONS", 1)[1]
    documented = set(re.findall(r"\w+", " ".join(re.findall(r"^\.It (Cm .*)$", page, re.M))))
    assert len(words) > 30 and words - documented == set()


def test_mount_8_finds_its_helper(pxarfs, store, folder):
    helper = pxarfs.program.parent / "mount.pxarfs"
    point = folder / "mnt"
    point.mkdir()
    for source in [SPLIT, f"{store}::host/split/latest/root.pxar",
                   f"{store}::ns/prod/eu/host/nested/latest/root.pxar"]:
        # as mount(8) calls it
        done = subprocess.run([helper, source, point, "-o", "rw,noauto,_netdev,x-systemd.automount"],
                              capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert os.path.ismount(point) and os.listdir(point)
        with open("/proc/self/mounts", encoding="utf-8") as f:
            assert any(line.startswith(f"{source} {point} fuse.pxarfs ro,") for line in f)
        subprocess.run(["umount", point], check=True)
    done = subprocess.run([helper, SPLIT, point, "-f"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not os.path.ismount(point)
    done = subprocess.run([helper, SPLIT, point, "-o", "nosuch"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and "nosuch" in done.stderr


def test_relative_paths_are_those_of_the_caller(pxarfs, folder):
    for name in ("split.mpxar", "split.ppxar"):
        (folder / name).write_bytes((GOLDEN / "files" / name).read_bytes())
    (folder / "mnt").mkdir()
    pxarfs("mount", "split.mpxar", "mnt", cwd=folder)
    content = [p for p in (folder / "mnt" / "small").rglob("*.txt")]
    assert content and content[0].read_bytes()


def test_nothing_is_fetched_before_it_is_asked_for(pxarfs, store):
    with pxarfs.mount("host/split/2027-01-15T08:00:02Z", "root.pxar", repository=store) as mount:
        # ismount() has looked at the root
        assert statistics(mount)["payload_chunks"] == 0
        os.listdir(mount.path)
        os.statvfs(mount.path)
        after = statistics(mount)
        assert after["payload_chunks"] == 0 and after["meta_chunks"] <= 2
        (mount.path / "bulk" / "r0000.bin").read_bytes()
        after = statistics(mount)
        # 1 MiB of chunks of about 64 KiB, and the one with its header
        assert 1 <= after["payload_chunks"] <= 64
        (mount.path / "bulk" / "r0000.bin").read_bytes()
        assert statistics(mount)["payload_chunks"] == after["payload_chunks"]


def test_who_looks_at_the_root_has_its_listing_asked_for(pxarfs, folder):
    """As much as the listing reads, and no more: these folders lie in chunks of their own."""
    for d in range(4):
        (folder / f"tree/folder-{d}").mkdir(parents=True)
        for i in range(1500):
            (folder / f"tree/folder-{d}/a file of no content {i:04}").touch()
    for path in [folder / "tree", *(folder / "tree").rglob("*")]:
        os.utime(path, (0, 0))  # or the chunks would be others in each run
    pxarfs("init", folder / "repo")
    pxarfs("backup", "-r", folder / "repo", f"root.pxar:{folder}/tree", "--backup-id", "test",
           "--chunk-size", 64)
    with pxarfs.mount("host/test", "root.pxar", repository=folder / "repo") as mount:
        assert len(os.listdir(mount.path)) == 4
        listed = statistics(mount)["meta_chunks"]
        assert listed >= 5  # both ends, and where the other folders begin
    with pxarfs.mount("host/test", "root.pxar", repository=folder / "repo") as mount:
        os.stat(mount.path)
        wait_for(lambda: statistics(mount)["meta_chunks"] == listed)
        assert len(os.listdir(mount.path)) == 4
        assert statistics(mount)["meta_chunks"] == listed


def test_a_mount_of_a_directory_does_without_libcurl(pxarfs, store):
    """It takes longer to load than an archive to open."""
    with pxarfs.mount("host/split/2027-01-15T08:00:02Z", "root.pxar", repository=store) as mount:
        maps = pathlib.Path(f"/proc/{mount.process.pid}/maps").read_text(encoding="utf-8")
    assert "libcrypto.so" in maps and "libcurl.so" not in maps


def test_reopening_asks_the_process_nothing(pxarfs):
    with pxarfs.mount(SPLIT) as mount:
        def walk():
            for folder, _, files in os.walk(mount.path):
                for name in files:
                    path = os.path.join(folder, name)
                    if os.path.isfile(path) and not os.path.islink(path):
                        with open(path, "rb") as f:
                            f.read()
        walk()
        time.sleep(1.1)  # links of the root's files are known a second late
        walk()
        before = statistics(mount)
        walk()
        after = statistics(mount)
        assert before["open"] == before["opendir"] == 1
        for name in ("lookup", "readdirplus", "read", "open", "opendir"):
            assert after[name] == before[name], name


def test_many_walks_at_once_agree(pxarfs):
    with pxarfs.mount(GOLDEN / "files" / "legacy.pxar", options="cache=1M,readers=8") as mount:
        results = []

        def walk():
            out = []
            for folder, folders, files in os.walk(mount.path):
                folders.sort()
                out.append((folder, sorted(files)))
            results.append(out)

        threads = [threading.Thread(target=walk) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert len(results) == 8 and all(r == results[0] for r in results)


@pytest.mark.parametrize("background", [False, True])
def test_a_mount_that_waits_for_a_dead_repository_can_be_interrupted(pxarfs, folder, background):
    point = folder / "mnt"
    point.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        pxarfs.env.update(PBS_PASSWORD="secret", PBS_FINGERPRINT=":".join(["00"] * 32))
        p = pxarfs.start("mount", *([] if background else ["-f"]), "-r",
                         f"root@pam@127.0.0.1:{port}:store", point, stderr=subprocess.PIPE,
                         start_new_session=True)
        server.settimeout(SOON)
        connection = server.accept()[0]  # and never a word
        os.killpg(p.pid, signal.SIGINT)
        log = p.communicate(timeout=SOON)[1]  # its end is that of all who could write to it
        assert p.returncode == (-signal.SIGINT if background else 1)
        assert b"interrupted before it was mounted" in log
        connection.close()
    assert not mounts_below(point)
