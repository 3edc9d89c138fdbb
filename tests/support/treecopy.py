# SPDX-License-Identifier: Apache-2.0
"""Copy a tree with everything an archive can hold: the test suite's own unpacker.

Reads from a mounted archive, writes to a real file system: content, owner, mode, times, xattrs in
their order, ACLs, capabilities, devices, sockets, hard links, inode flags.  Not pxarfs's restore:
written apart from it, so that the two can be held against each other.
"""

import array
import fcntl
import os
import shutil
import socket
import stat
import subprocess

import rows

FS_IOC_SETFLAGS = 0x40086602
FLAGS_AT_THE_END = 0x30  # append and immutable forbid everything after them


def set_inode_flags(path, flags):
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        now = array.array("I", [0, 0])
        fcntl.ioctl(fd, rows.FS_IOC_GETFLAGS, now)
        now[0] |= flags
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, now)
    finally:
        os.close(fd)


def make(source, target, st, known):
    kind = stat.S_IFMT(st.st_mode)
    if kind == stat.S_IFDIR:
        os.mkdir(target, 0o700)
    elif kind == stat.S_IFLNK:
        os.symlink(os.readlink(source), target)
    elif kind == stat.S_IFREG:
        if st.st_ino in known:
            os.link(known[st.st_ino], target, follow_symlinks=False)
            return False
        known[st.st_ino] = target
        with open(source, "rb") as a, open(target, "xb") as b:
            shutil.copyfileobj(a, b, 1 << 20)
    elif kind == stat.S_IFSOCK:
        # bind() has a limit of 108 bytes: go there instead
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.chdir(os.path.dirname(target))
            with socket.socket(socket.AF_UNIX) as s:
                s.bind(os.path.basename(target))
        finally:
            os.fchdir(here)
            os.close(here)
    else:
        os.mknod(target, st.st_mode, st.st_rdev)
    return True


def dress(source, target, st):
    """Metadata, in the order that does not undo itself."""
    os.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(st.st_mode):
        os.chmod(target, stat.S_IMODE(st.st_mode))
        for name in os.listxattr(source):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(st.st_mtime_ns, st.st_mtime_ns), follow_symlinks=False)
    if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
        flags = rows.inode_flags(source)
        if flags:
            set_inode_flags(target, flags)


def copy(source, target):
    """Copy the tree `source` to the new folder `target`."""
    known = {}

    def visit(a, b):
        st = os.lstat(a)
        if not make(a, b, st, known):
            return
        if stat.S_ISDIR(st.st_mode):
            for name in sorted(os.listdir(a)):
                visit(a + b"/" + name, b + b"/" + name)
        dress(a, b, st)

    visit(os.fsencode(source), os.fsencode(target))


def remove(target):
    subprocess.run(["chattr", "-R", "-f", "-ia", target], check=False, capture_output=True)
    shutil.rmtree(target)
