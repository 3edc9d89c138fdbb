# SPDX-License-Identifier: Apache-2.0
"""Programs that nobody here wrote find nothing wrong with a mount."""

import ctypes
import os
import random
import re
import subprocess

import pytest

from conftest import SOON
from test_mount_life import statistics, wait_for

MIB = 1 << 20


def run(*command, **kwargs):
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True,
                          **kwargs).stdout


def make_tree(top):
    """Something of everything; times that are not now."""
    rng = random.Random(31)
    for name in ("", "plain", "links", "odd", "deep/er/est"):
        (top / name).mkdir(parents=True, exist_ok=True)
        for i in range(30):
            (top / name / f"file {i}").write_bytes(rng.randbytes(rng.choice((0, 1, 3000, 90_000))))
    for i in range(20):
        os.link(top / "plain" / f"file {i}", top / "links" / f"hard {i}")
        os.symlink(f"../plain/file {i}", top / "links" / f"soft {i}")
    with open(top / "odd/sparse", "wb") as f:
        f.truncate(3 * MIB)
        f.seek(MIB)
        f.write(b"middle")
    os.mkfifo(top / "odd/fifo")
    os.mknod(top / "odd/device", 0o20640, os.makedev(5, 77))
    os.setxattr(top / "odd/file 1", "user.name", b"value")
    os.setxattr(top / "odd", "trusted.of-a-folder", bytes(range(256)))
    run("setfacl", "-m", "u:1234:rw,g:77:r", top / "odd/file 2")
    run("setfacl", "-d", "-m", "u:1234:rwx", top / "odd")
    os.chown(top / "odd/file 3", 1234, 4321)
    os.chmod(top / "odd/file 4", 0o6711)
    for folder, folders, files in os.walk(top, topdown=False):
        for name in files + folders + ["."]:
            when = rng.randrange(10 ** 18)
            os.utime(os.path.join(folder, name), ns=(when, when), follow_symlinks=False)
    for i in (5, 6):
        run("chattr", "+i" if i == 5 else "+a", top / f"odd/file {i}")


@pytest.fixture
def mounted(pxarfs, folder):
    """A tree and a mount of its snapshot."""
    tree, repo = folder / "tree", folder / "repo"
    make_tree(tree)
    # so large that it comes in many chunks, in a form that fio can check
    run("fio", "--name=w", f"--filename={tree}/plain/big", "--rw=write", "--bs=4k", "--size=24m",
        "--verify=crc32c", "--do_verify=0", "--ioengine=psync",
        cwd=folder)
    os.utime(tree / "plain", ns=(10 ** 18, 10 ** 18))
    pxarfs("init", repo)
    pxarfs("backup", "-r", repo, f"root.pxar:{tree}", "--backup-id", "test", "--chunk-size", 256)
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        yield tree, mount


def test_rsync_finds_no_difference(mounted):
    tree, mount = mounted[0], mounted[1].path
    command = ["rsync", "-aHAX", "--checksum", "--delete", "-n", "-i"]
    assert run(*command, f"{tree}/", f"{mount}/") == ""
    assert run(*command, f"{mount}/", f"{tree}/") == ""
    os.utime(tree / "plain/file 1", (1, 1))
    assert "file 1" in run(*command, f"{tree}/", f"{mount}/")


def mtree(top):
    """What bsdtar sees; folders without their count of links, which is not shown."""
    keys = "type,mode,uid,gid,size,time,nlink,link,device,sha256,flags"
    text = run("bsdtar", "-cf", "-", "--format=mtree", "--options", f"!all,{keys}", "-C", top, ".")
    return sorted(re.sub(r" (nlink|size)=\d+", "", line) if "type=dir" in line else line
                  for line in text.splitlines())


def test_bsdtar_sees_the_same(mounted):
    tree, mount = mounted[0], mounted[1].path
    want = mtree(tree)
    # the files of the top are said to have 2 links until a second after somebody goes below
    mtree(mount)
    wait_for(lambda: os.lstat(mount / "file 0").st_nlink == 1)
    have = mtree(mount)
    assert want == have
    assert len([line for line in have if "sha256digest=" in line or "sha256=" in line]) > 100
    assert any("flags=" in line and "uchg" in line or "schg" in line for line in have)


VERIFY = ["fio", "--name=r", "--bs=4k", "--verify=crc32c", "--verify_fatal=1", "--ioengine=psync",
          "--readonly"]


def test_fio_verifies_a_large_file(mounted, folder):
    mount = mounted[1].path
    command = [*VERIFY, "--size=24m"]
    for how in ("read", "randread"):
        run(*command, f"--rw={how}", f"--filename={mount}/plain/big", cwd=folder)
    copy = bytearray((mount / "plain/big").read_bytes())
    copy[12 * MIB + 2000] ^= 1
    (folder / "wrong").write_bytes(copy)
    with pytest.raises(subprocess.CalledProcessError):
        run(*command, "--rw=read", f"--filename={folder}/wrong", cwd=folder)


@pytest.mark.both_backends
def test_fio_verifies_an_image_and_finds_one_wrong_byte(pxarfs, folder):
    """The second snapshot's image differs from the first one's by a bit."""
    image, repo = folder / "image", folder / "repo"
    run("fio", "--name=w", f"--filename={image}", "--rw=write", "--bs=4k", "--size=18m",
        "--verify=crc32c", "--do_verify=0", "--ioengine=psync", cwd=folder)
    pxarfs("init", repo)
    for seconds in (1800000000, 1800000060):
        pxarfs("backup", "-r", repo, f"disk.img:{image}", "--backup-id", "test",
               "--backup-time", seconds)
        with open(image, "r+b") as f:
            byte = os.pread(f.fileno(), 1, 9 * MIB + 2000)[0]
            os.pwrite(f.fileno(), bytes([byte ^ 1]), 9 * MIB + 2000)
    with pxarfs.mount(repository=repo) as mount:
        right, wrong = (mount.path / f"host/test/2027-01-15T08:0{i}:00Z/disk.img" for i in (0, 1))
        assert right.stat().st_size == 18 * MIB

        def verify(how, path):
            name = str(path).replace(":", "\\:")  # a colon is between two names
            return subprocess.run([*VERIFY, "--size=18m", f"--rw={how}", f"--filename={name}"],
                                  capture_output=True, text=True, cwd=folder, check=False)

        for how in ("read", "randread"):
            done = verify(how, right)
            assert done.returncode == 0, done.stderr
            done = verify(how, wrong)
            assert done.returncode != 0 and f"offset {9 * MIB}" in done.stderr, done.stderr


def stress(*args, folder, under=()):
    """stress-ng; what it makes lies in `folder`."""
    return run(*under, "stress-ng", *args, "--temp-path", folder, cwd=folder, timeout=10 * SOON)


def test_stress_ng_on_the_mount(mounted, folder):
    """fstat and getdent, which write nothing.

    getdent reads /proc, /dev, /tmp, /sys and /run and can be told no other folder, so it is given
    a namespace in which the mount is /tmp.
    """
    mount = mounted[1]
    scratch = folder / "scratch"
    scratch.mkdir()
    stress("--fstat", 2, "--fstat-dir", mount.path / "plain", "--timeout", 1, folder=scratch)
    before = statistics(mount)
    assert before["readdirplus"] > 0
    stress("--getdent", 2, "--timeout", 2, folder=scratch,
           under=["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c",
                  'mount --bind "$0" /tmp && "$@"', mount.path])
    # it has been in the folders where fstat was not
    assert statistics(mount)["readdirplus"] > before["readdirplus"]


def test_readahead_of_the_mount_harms_no_read(mounted):
    """As stress-ng's readahead does it: sixteen times asked for, then read.

    That one makes the file it reads, so it can only run on an overlay, where the file lies above.
    """
    tree, mount = mounted[0], mounted[1].path
    want, rng = (tree / "plain/big").read_bytes(), random.Random(51)
    readahead = ctypes.CDLL(None, use_errno=True).readahead
    readahead.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_size_t]
    with open(mount / "plain/big", "rb") as f:
        for _ in range(20):
            places = [rng.randrange(len(want)) for _ in range(16)]
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert [readahead(f.fileno(), at, 4096) for at in places] == [0] * 16
            for at in places:
                assert os.pread(f.fileno(), 4096, at) == want[at:at + 4096]


def test_stress_ng_and_overlayfs_on_top(mounted, folder):
    """dir and readahead, which make the folders and files they work on: stress-ng does not begin
    where it cannot write.  On the overlay their names are looked up in the mount."""
    tree, mount = mounted[0], mounted[1].path
    for name in ("upper", "work", "over"):
        (folder / name).mkdir()
    over = folder / "over"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        run("stress-ng", "--dir", 1, "--readahead", 1, "--timeout", 1, "--temp-path", mount)
    assert "must be readable and writeable" in refused.value.stderr
    run("mount", "-t", "overlay", "overlay", "-o",
        f"lowerdir={mount},upperdir={folder}/upper,workdir={folder}/work", over)
    stress("--dir", 1, "--readahead", 1, "--readahead-bytes", "16m", "--fstat", 1, "--fstat-dir",
           over / "plain", "--timeout", 2, folder=over)
    exercise(over / "plain/big", random.Random(41))
    # immutable and append-only files can be read through it, and taken out
    for i in (5, 6):
        assert (over / f"odd/file {i}").read_bytes() == (tree / f"odd/file {i}").read_bytes()
        run("cp", "-a", over / f"odd/file {i}", over / f"copy {i}")
    with open(over / "odd/file 6", "ab") as f:
        f.write(b"more")
    assert (over / "odd/file 6").read_bytes() == (tree / "odd/file 6").read_bytes() + b"more"
    assert (mount / "odd/file 6").read_bytes() == (tree / "odd/file 6").read_bytes()
    run("umount", over)


def exercise(path, rng):
    """What fsx does: reads, writes and truncations at random, held against a model in memory."""
    model = bytearray(path.read_bytes())
    fd = os.open(path, os.O_RDWR)
    for _ in range(400):
        at, size = rng.randrange(len(model) + 1), rng.randrange(200_000)
        what = rng.randrange(10)
        if what < 5:
            assert os.pread(fd, size, at) == model[at:at + size]
        elif what < 8:
            data = rng.randbytes(size)
            assert os.pwrite(fd, data, at) == size
            model[at:at + size] = data
        else:
            size = max(1, len(model) + rng.randrange(-100_000, 100_000))
            os.ftruncate(fd, size)
            model[size:] = bytes(max(0, size - len(model)))
    os.close(fd)
    assert path.read_bytes() == model
