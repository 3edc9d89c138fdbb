# SPDX-License-Identifier: Apache-2.0
"""-o export: file handles, as an NFS server uses them."""

import ctypes
import errno
import os
import pathlib
import shutil
import struct
import subprocess

import pytest

from conftest import GOLDEN

SNAPSHOT = ("host/split/2027-01-15T08:00:02Z", "root.pxar")
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
ROOM = 128


def call(name, *args):
    result = getattr(LIBC, name)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), name)
    return result


def handle_of(path):
    """(type, bytes) of a file: what an NFS client keeps."""
    buffer = ctypes.create_string_buffer(struct.pack("=Ii", ROOM, 0) + bytes(ROOM))
    mount_id = ctypes.c_int()
    call("name_to_handle_at", AT_FDCWD, os.fsencode(path), buffer, ctypes.byref(mount_id), 0)
    size, kind = struct.unpack_from("=Ii", buffer.raw)
    return kind, buffer.raw[8:8 + size]


def open_handle(mount, handle, flags=os.O_RDONLY):
    kind, data = handle
    fd = os.open(mount.path, os.O_RDONLY)
    try:
        buffer = ctypes.create_string_buffer(struct.pack("=Ii", len(data), kind) + data)
        return call("open_by_handle_at", fd, buffer, flags)
    finally:
        os.close(fd)


def forge(handle, number):
    """The same handle with another inode number."""
    kind, data = handle
    return kind, struct.pack("=II", number >> 32, number & 0xffffffff) + data[8:]


def is_stale(mount, handle):
    try:
        os.close(open_handle(mount, handle, os.O_PATH))
    except OSError as e:
        assert e.errno == errno.ESTALE, e
        return True
    return False


def everything(mount):
    """{path below the mount: handle} of all files and folders."""
    out = {}
    for at, folders, files in os.walk(mount.path):
        for name in folders + files:
            path = pathlib.Path(at, name)
            if not path.is_symlink():
                out[path.relative_to(mount.path)] = handle_of(path)
    return out


def forget(mount):
    """Have the kernel forget every name and file: a remount does, of this mount alone."""
    subprocess.run(["mount", "-i", "-o", "remount,ro", mount.path], check=True)


def test_handles_work_after_the_kernel_forgot_and_after_a_remount(pxarfs, store):
    with pxarfs.mount(*SNAPSHOT, repository=store, options="export") as mount:
        handles = everything(mount)
        numbers = {p: os.stat(mount.path / p).st_ino for p in handles}
        forget(mount)
        for path, handle in handles.items():
            fd = open_handle(mount, handle, os.O_PATH)
            assert os.fstat(fd).st_ino == numbers[path]
            os.close(fd)
    with pxarfs.mount(*SNAPSHOT, repository=store, options="export", name="again") as mount:
        # not a name has been looked up here
        for path, handle in handles.items():
            fd = open_handle(mount, handle, os.O_PATH)
            st = os.fstat(fd)
            assert st.st_ino == numbers[path]
            os.close(fd)
        for path in handles:
            assert os.stat(mount.path / path).st_ino == numbers[path]
        files = [p for p in handles if (mount.path / p).is_file()]
        fd = open_handle(mount, handles[files[0]])
        assert os.read(fd, 100) == (mount.path / files[0]).read_bytes()[:100]
        os.close(fd)


def test_parents_are_found(pxarfs, folder):
    names = [f"d{i}" for i in range(30)]
    at = folder / "tree"
    at.mkdir()
    for name in names:
        for other in ("before", "later"):
            (at / other).write_text(other)
        at /= name
        at.mkdir()
    (at / "file").write_text("text")
    archive = folder / "tree.mpxar"
    pxarfs("create", archive, folder / "tree")
    with pxarfs.mount(archive, options="export") as mount:
        handle = handle_of(mount.path.joinpath(*names))
        root = handle_of(mount.path)
    with pxarfs.mount(archive, options="export", name="again") as mount:
        fd = open_handle(mount, handle)
        # the kernel has found the names up to the root
        want = str(mount.path.joinpath(*names))
        assert os.readlink(f"/proc/self/fd/{fd}") == want
        assert os.stat("..", dir_fd=fd).st_ino == os.stat(pathlib.Path(want).parent).st_ino
        assert os.listdir(fd) == ["file"]
        os.close(fd)
        fd = open_handle(mount, root)
        assert os.fstat(fd).st_ino == os.stat(mount.path).st_ino
        os.close(fd)


def test_forged_handles_are_stale(pxarfs, store):
    with pxarfs.mount(*SNAPSHOT, repository=store, options="export") as mount:
        handles = everything(mount)
        known = {os.stat(mount.path / p).st_ino for p in handles} | {os.stat(mount.path).st_ino}
        some = next(iter(handles.values()))
    with pxarfs.mount(*SNAPSHOT, repository=store, options="export", name="again") as mount:
        top = max(known)
        tried = set()
        for number in sorted(known):
            tried |= {number ^ 1, number + 2, number - 2, number + 16, number - 32, number + 112}
        tried |= {0, 2, 3, top + 2, top * 2, 1 << 47, 1 << 48, (1 << 48) + 1, (1 << 63) + 5,
                  (1 << 64) - 1, *(n | 1 << 48 for n in known)}
        tried = {n & (1 << 64) - 1 for n in tried} - known
        assert len(tried) > 300
        for number in sorted(tried):
            assert is_stale(mount, forge(some, number)), number
        assert not is_stale(mount, some)
        assert "error" not in mount.log()


def test_handle_of_another_archive_is_stale(pxarfs, folder, store):
    with pxarfs.mount(*SNAPSHOT, repository=store, options="export") as mount:
        kind, data = next(iter(everything(mount).values()))
    with pxarfs.mount(*SNAPSHOT, repository=store, options="export", name="again") as mount:
        other = data[:8] + struct.pack("=I", struct.unpack_from("=I", data, 8)[0] ^ 2) + data[12:]
        assert is_stale(mount, (kind, other)) and not is_stale(mount, (kind, data))
    # the same numbers, in a file with another time
    for name in ("split.mpxar", "split.ppxar"):
        shutil.copy(GOLDEN / "files" / name, folder / name)
    with pxarfs.mount(folder / "split.mpxar", options="export", name="one") as mount:
        handle = next(iter(everything(mount).values()))
    os.utime(folder / "split.mpxar", (1, 1))
    with pxarfs.mount(folder / "split.mpxar", options="export", name="two") as mount:
        assert is_stale(mount, handle)


def test_without_the_option_forgotten_files_are_stale(pxarfs, store):
    with pxarfs.mount(*SNAPSHOT, repository=store, options="export") as mount:
        handles = everything(mount)
    with pxarfs.mount(*SNAPSHOT, repository=store, name="again") as mount:
        for handle in handles.values():
            assert is_stale(mount, handle)


def test_it_takes_no_value(pxarfs, folder):
    done = pxarfs("mount", "-o", "export=1", GOLDEN / "files" / "split.mpxar", folder, status=2)
    assert "'export' takes no value" in done.stderr


@pytest.mark.parametrize("cache", ["1M", "64M"])
def test_handles_of_a_single_stream(pxarfs, cache):
    legacy = GOLDEN / "files" / "legacy.pxar"
    with pxarfs.mount(legacy, options=f"export,cache={cache}") as mount:
        handles = everything(mount)
    with pxarfs.mount(legacy, options=f"export,cache={cache}", name="again") as mount:
        for path, handle in handles.items():
            fd = open_handle(mount, handle, os.O_PATH)
            assert os.fstat(fd).st_ino == os.stat(mount.path / path).st_ino
            os.close(fd)
