# SPDX-License-Identifier: Apache-2.0
"""mount(8), fstab, automount points and ordinary users."""

import os
import subprocess
import sys

import pytest

from conftest import BUILD, GOLDEN, SOON, TOP
from namespace import Namespace
from test_mount_life import wait_for

SPLIT = GOLDEN / "files" / "split.mpxar"
USER = 1000


@pytest.fixture
def space(pxarfs):
    namespace = Namespace(pxarfs)
    yield namespace
    namespace.close()


@pytest.fixture
def files(folder):
    for name in ("split.mpxar", "split.ppxar"):
        (folder / name).write_bytes((GOLDEN / "files" / name).read_bytes())
    point = folder / "mnt"
    point.mkdir()
    return folder / "split.mpxar", point


@pytest.mark.parametrize("kind", ["pxarfs", "fuse.pxarfs"])
def test_mount_of_either_type_runs_our_helper(space, files, store, kind):
    point = files[1]
    source = f"{store}::host/split/latest/root.pxar"
    done = space.run("mount", "-v", "-t", kind, "-o", "noexec,cache=8M", source, point)
    assert done.returncode == 0 and done.stderr == ""
    assert f"{source} mounted on {point}" in done.stdout
    assert space.mounts()[str(point)][0] == "fuse.pxarfs"
    options = space.mounts()[str(point)][1].split(",")
    assert {"ro", "noexec", "nosuid", "nodev"} <= set(options)
    assert "links" in space.run("ls", point).stdout
    assert space.run("umount", point).returncode == 0
    assert not space.mounts()


def test_every_option_of_fstab_is_accepted(space, files):
    source, point = files
    words = ("noauto,x-systemd.automount,x-systemd.idle-timeout=60,_netdev,nofail,user,users,"
             "comment=a comment,x-anything,X-more=1,noatime,nodiratime,relatime,lazytime,rw,owner,"
             "group,nouser,nosuid,nodev,exec,sync,silent").replace(" ", "\\040")
    (space.folder / "fstab").write_text(f"{source} {point} pxarfs {words} 0 0\n")
    done = space.run("mount", point)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(point) in space.mounts()
    assert space.run("umount", point).returncode == 0
    assert space.run("mount", "-a").returncode == 0
    assert not space.mounts()


def test_exit_status_is_that_of_mount(space, files, folder):
    source, point = files
    (folder / "garbage.pxar").write_bytes(b"no archive" * 100)
    for want, args in [
            (1, ["-o", "nosuch", source, point]),
            (1, ["-o", "cache=1", source, point]),
            (1, ["-o", "remount", source, point]),
            (1, ["-o", f"cache_dir={folder}/c", source, point]),
            (32, [folder / "none.mpxar", point]),
            (32, [folder / "garbage.pxar", point]),
            (32, ["/nowhere::host/a/latest/b.pxar", point]),
            (0, ["-s", "-o", "nosuch,cache=8M", source, point]),
            (0, ["-f", source, point])]:
        done = space.run("mount", "-n", "-t", "pxarfs", *args)
        assert done.returncode == want, (args, done.stderr)
        assert bool(done.stderr) == (want != 0)
        if "-s" in args:
            space.run("umount", point)
        assert not space.mounts(), args
    helper = BUILD / "mount.fuse.pxarfs"
    for args in [[], [source], ["-x", source, point], [source, point, "more"]]:
        done = subprocess.run([helper, *args], capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "usage" in done.stderr
    done = subprocess.run([helper, source, folder / "none"], capture_output=True, check=False)
    assert done.returncode == 32
    # no descriptors left: a failure of the system
    done = subprocess.run(["prlimit", "--nofile=4", helper, source, point], capture_output=True,
                          check=False)
    assert done.returncode == 2 and b"Too many open files" in done.stderr


def test_ordinary_user_mounts_and_unmounts_what_fstab_lets_him(space, files):
    source, point = files
    os.chown(point, USER, USER)
    (space.folder / "fstab").write_text(f"{source} {point} pxarfs noauto,user 0 0\n")
    done = space.run("mount", point, uid=USER)
    assert (done.returncode, done.stderr) == (0, "")
    kind, options = space.mounts()[str(point)]
    assert kind == "fuse.pxarfs" and f"user_id={USER}" in options and "noexec" in options
    assert "links" in space.run("ls", point, uid=USER).stdout
    assert space.run("ls", point).returncode != 0  # not even root, unless it was asked for
    done = space.run("umount", point, uid=USER)
    assert (done.returncode, done.stderr) == (0, "")
    assert not space.mounts()


def test_ordinary_user_mounts_without_fstab(space, files):
    source, point = files
    os.chown(point, USER, USER)
    program = space.folder / "pxarfs"
    done = space.run(program, "mount", source, point, uid=USER)
    assert (done.returncode, done.stderr) == (0, "")
    assert "links" in space.run("ls", point, uid=USER).stdout
    assert space.run("fusermount3", "-u", point, uid=USER).returncode == 0
    wait_for(lambda: not space.mounts(), SOON)
    done = space.run(program, "mount", "-o", "allow_other", source, point, uid=USER)
    assert done.returncode == 1 and "user_allow_other" in done.stderr


# What systemd does for x-systemd.automount: hold an autofs mount point, and when somebody goes
# there, have it mounted by a process of its own group; all others wait until it says so.
AUTOMOUNTER = r"""
import ctypes, fcntl, os, struct, subprocess, sys
point, command, visitor = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
READY, FAIL = 0x9360, 0x9361
libc = ctypes.CDLL(None, use_errno=True)
r, w = os.pipe()
os.setpgid(0, 0)
options = f"fd={w},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct".encode()
if libc.mount(b"automount", point.encode(), b"autofs", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
os.close(w)
root = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
guest = subprocess.Popen(["ls", visitor], stdout=subprocess.PIPE, text=True, start_new_session=True)
token, = struct.unpack_from("=I", os.read(r, 4096), 8)
status = subprocess.run(command).returncode
fcntl.ioctl(root, READY if status == 0 else FAIL, token)
print(guest.communicate()[0])
sys.exit(status or guest.returncode)
"""


def test_an_automount_point_is_mounted_on(space, files):
    source, point = files
    done = space.run(sys.executable, "-c", AUTOMOUNTER, point, "mount", "-t", "pxarfs", "-o",
                     "noauto,x-systemd.automount", source, point, f"{point}/small")
    assert done.returncode == 0 and done.stdout.strip(), done.stderr
    assert str(point) in space.mounts()


def test_install_puts_program_helpers_and_manuals_in_place(pxarfs, folder):
    if pxarfs.program.parent != TOP / "build":
        pytest.skip("make install takes a build without sanitizers")
    stage = folder / "stage"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "SAN"))}
    command = ["make", "-s", f"DESTDIR={stage}", "PREFIX=/usr", "-o", "all"]
    subprocess.run([*command, "install"], cwd=TOP, env=env, check=True)
    for helper in ("mount.pxarfs", "mount.fuse.pxarfs"):
        assert os.readlink(stage / "sbin" / helper) == "/usr/bin/pxarfs"
    assert (stage / "usr/bin/pxarfs").read_bytes() == pxarfs.program.read_bytes()
    assert (stage / "usr/share/man/man8/mount.pxarfs.8").exists()
    subprocess.run([*command, "uninstall"], cwd=TOP, env=env, check=True)
    assert [p for p in stage.rglob("*") if not p.is_dir()] == []
