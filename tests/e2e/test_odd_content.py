# SPDX-License-Identifier: Apache-2.0
"""Whatever a file system can hold comes back: the largest, the oddest and the emptiest."""

import os
import socket
import stat
import subprocess

import pytest
import rows

# Held by an archive or not: security labels are not.
NOT_HELD = "security.selinux"


@pytest.fixture
def xfs(folder):
    """A file system with large attributes, project ids and inode flags."""
    image, point = folder / "image", folder / "xfs"
    with open(image, "wb") as f:
        f.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", image, point], check=True)
    yield point
    subprocess.run(["chattr", "-R", "-f", "-ai", point], check=False, capture_output=True)
    subprocess.run(["umount", point], check=True)


def write(path, data=b"x"):
    with open(path, "wb") as f:
        f.write(data)


def names(top):
    for name in (b"n" * 255, bytes(range(1, 47)) + bytes(range(48, 256)), b" ", b"-", b"--help",
                 b"\n", b"\\", b"...", b"\xff\xfe", b"\xc2\x9b31m", b"\x1b[31m"):
        write(top + b"/" + name, name)
    os.makedirs(top + b"/" + b"d" * 255 + b"/empty")
    os.symlink(b"t" * 1000, top + b"/link")
    os.symlink(b"\n\x1b[0m", top + b"/odd-link")


def attributes(top):
    for name, attribute, value in (
            ("big", "user.big", os.urandom(65_000)), ("longest-name", "user." + "n" * 250, b"v"),
            ("largest", "user.largest", bytes(65_536)), ("empty", "user.empty", b""),
            ("trusted", "trusted.t", b"\0\1"), ("label", NOT_HELD, b"label")):
        write(top + b"/" + name.encode())
        os.setxattr(top + b"/" + name.encode(), attribute, value)
    for i in range(200):
        os.setxattr(top + b"/empty", f"user.{i}", b"%d" % i)
    write(top + b"/capable")
    subprocess.run(["setcap", "cap_net_raw+ep", top + b"/capable"], check=True)
    for name, acl in (("default-only", "d:u::rwx,d:g::rx,d:o::-"), ("default", "d:u:1:rwx,d:m::r"),
                      ("both", "u:1000:rwx,u:4294967290:r,d:g:50:-"), ("mask-only", "m::r")):
        os.mkdir(top + b"/" + name.encode())
        subprocess.run(["setfacl", "-m", acl, top + b"/" + name.encode()], check=True)
    for flag in "AdSai":
        write(top + b"/flag-" + flag.encode())
        subprocess.run(["chattr", "+" + flag, top + b"/flag-" + flag.encode()], check=True)


def others(top):
    here = os.getcwd()
    os.chdir(top)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("socket")
    os.mkfifo("fifo")
    os.mknod("char", stat.S_IFCHR | 0o600, os.makedev(511, 262_143))
    os.mknod("block", stat.S_IFBLK | 0o660, os.makedev(259, 300))
    for name, ns in (("before-1970", -1_500_000_000), ("1901", -(1 << 31) * 10**9), ("epoch", 0),
                     ("after-2038", 2_190_000_000_123_456_789)):
        write(name)
        os.utime(name, ns=(0, ns))
    for name, ids in (("large-ids", (2**31 + 5, 2**32 - 2)), ("nobody", (65534, 65534))):
        write(name)
        os.chown(name, *ids)
    for mode in (0, 0o7777, 0o4755, 0o2755, 0o111):
        write(f"mode-{mode:o}")
        os.chmod(f"mode-{mode:o}", mode)
    os.makedirs("links/below")
    write("links/below/first", b"linked" * 1000)
    os.link("links/below/first", "links/again")
    os.link("links/below/first", "z-last-link")
    with open("sparse", "wb") as f:
        f.truncate(100 << 20)
        f.seek(50 << 20)
        f.write(b"middle")
    os.makedirs("empty/deeper")
    write("z-empty-1", b"")
    write("z-empty-2", b"")
    os.chdir(here)


@pytest.fixture
def tree(xfs):
    top = os.fsencode(xfs / "tree")
    for name, make in ((b"names", names), (b"attributes", attributes), (b"others", others)):
        os.makedirs(top + b"/" + name)
        make(top + b"/" + name)
    return xfs / "tree"


def held(tree):
    out = rows.observe(tree)
    del out["attributes/label"]["xattrs"]
    return out


def test_odd_content_comes_back(pxarfs, folder, tree):
    want = held(tree)
    pxarfs("init", folder / "store")
    for i, mode in enumerate(("legacy", "data", "metadata")):
        pxarfs("backup", "-r", folder / "store", "--backup-id", "odd", f"root.pxar:{tree}",
               "--change-detection-mode", mode, "--chunk-size", 64, "--backup-time", 1000 + i)
        with pxarfs.mount("host/odd", "root.pxar", repository=folder / "store") as mount:
            assert rows.differences(want, rows.observe(mount.path)) == [], mode


@pytest.mark.parametrize("mode", ["legacy", "data", "metadata"])
def test_an_empty_folder_is_an_archive(pxarfs, folder, mode):
    (folder / "empty").mkdir(mode=0o711)
    pxarfs("init", folder / "store")
    for time in 1000, 1001:
        pxarfs("backup", "-r", folder / "store", "--backup-id", "none", f"e.pxar:{folder}/empty",
               "--change-detection-mode", mode, "--backup-time", time)
        with pxarfs.mount("host/none", "e.pxar", repository=folder / "store") as mount:
            assert rows.differences(rows.observe(folder / "empty"),
                                    rows.observe(mount.path)) == []
    assert pxarfs("ls", "-r", folder / "store", "host/none", "e.pxar").stdout == ""
