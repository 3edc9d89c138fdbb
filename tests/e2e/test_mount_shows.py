# SPDX-License-Identifier: Apache-2.0
"""What the mount makes of the corners of the format, and of what the kernel cannot take."""

import array
import errno
import fcntl
import os
import stat
import struct
import subprocess

import handmade
import pytest
import rows

from test_mount_life import statistics, wait_for

FS_IOC_FSGETXATTR = 0x801C581F
FAT_IOCTL_GET_ATTRIBUTES = 0x80047210


@pytest.fixture
def mount_made(pxarfs, folder):
    """Write a single-stream archive with these members and mount it."""
    def make(members, options=None, **kwargs):
        path = folder / "made.pxar"
        path.write_bytes(handmade.folder(members, **kwargs))
        return pxarfs.mount(path, options=options)
    return make


def as_user(uid, *command):
    """Run as an ordinary user; mount points lie in folders that only root may enter otherwise."""
    return subprocess.run(command, user=uid, group=uid, extra_groups=[], capture_output=True,
                          check=False)


def test_long_names_are_usable_and_too_long_ones_spoil_only_themselves(mount_made):
    longest = b"n" * 1024
    with mount_made([(b"a", handmade.file(b"a")), (b"m" * 256, handmade.file(b"256")),
                     (longest, handmade.file(b"1024")), (b"o" * 1025, handmade.file(b"1025")),
                     (b"p" * 4096, handmade.file(b"4096")), (b"z", handmade.file(b"z"))]) as mount:
        names = os.listdir(os.fsencode(mount.path))
        assert {b"a", b"m" * 256, longest, b"z"} < set(names)
        strange = sorted(set(names) - {b"a", b"m" * 256, longest, b"z"})
        assert len(strange) == 2 and all(n.startswith(b".pxarfs-unreadable-") for n in strange)
        for name in strange:
            with pytest.raises(OSError) as e:
                os.stat(os.fsencode(mount.path) + b"/" + name)
            assert e.value.errno == errno.EIO
        here = os.open(mount.path, os.O_RDONLY)
        for name, content in [(b"m" * 256, b"256"), (longest, b"1024"), (b"z", b"z")]:
            fd = os.open(name, os.O_RDONLY, dir_fd=here)
            assert os.read(fd, 10) == content
            os.close(fd)
        try:  # newer kernels let it pass when it is asked for
            assert os.stat(b"o" * 1025, dir_fd=here).st_size == 4
        except OSError as e:
            assert e.errno == errno.ENAMETOOLONG
        os.close(here)


def test_target_too_long_for_readlink_spoils_only_itself(mount_made):
    with mount_made([(b"fits", handmade.symlink(b"t" * 4095)), (b"long", handmade.symlink(b"u" * 4096)),
                     (b"file", handmade.file(b"x"))]) as mount:
        assert sorted(os.listdir(mount.path)) == ["file", "fits", "long"]
        assert os.readlink(mount.path / "fits") == "t" * 4095
        assert os.lstat(mount.path / "fits").st_size == 4095
        assert os.lstat(mount.path / "long").st_size == 4096
        with pytest.raises(OSError) as e:
            os.readlink(mount.path / "long")
        assert e.value.errno == errno.ENAMETOOLONG
        assert (mount.path / "file").read_bytes() == b"x"


def test_sizes_blocks_and_times_follow_the_stated_rule(mount_made):
    members = [(b"d", handmade.sub([])), (b"f0", handmade.file()), (b"f1", handmade.file(b"x")),
               (b"f512", handmade.file(b"x" * 512)), (b"f513", handmade.file(b"x" * 513)),
               (b"l", handmade.symlink(b"target"))]
    with mount_made(members) as mount:
        def seen(name):
            st = os.lstat(mount.path / name)
            assert st.st_mtime_ns == st.st_atime_ns == st.st_ctime_ns == 1_700_000_000_000_000_007
            return st.st_size, st.st_blocks
        assert seen("d") == (0, 0) and os.stat(mount.path / "d").st_nlink == 1
        assert seen("f0") == (0, 0)
        assert seen("f1") == (1, 1)
        assert seen("f512") == (512, 1)
        assert seen("f513") == (513, 2)
        assert seen("l") == (6, 0)


def test_project_id_inode_flags_and_fat_attributes_are_read_by_ioctl(mount_made):
    members = [(b"f", handmade.file(b"x", flags=0x400000 | 0x20000 | 0x2000 | 0x8000,
                                    attributes=handmade.project(4242))),
               (b"plain", handmade.file(b"y")),
               (b"d", handmade.sub([], flags=0x2000000, attributes=handmade.project(7)))]
    with mount_made(members) as mount:
        def ask(name, command, size):
            fd = os.open(mount.path / name, os.O_RDONLY)
            try:
                buf = array.array("B", bytes(size))
                fcntl.ioctl(fd, command, buf)
                return buf.tobytes()
            finally:
                os.close(fd)
        assert struct.unpack("<I", ask("f", rows.FS_IOC_GETFLAGS, 8)[:4]) == (0x10 | 0x80,)
        assert struct.unpack("<I", ask("plain", rows.FS_IOC_GETFLAGS, 8)[:4]) == (0,)
        xflags, _, _, projid, _ = struct.unpack("<5I", ask("f", FS_IOC_FSGETXATTR, 28)[:20])
        assert (xflags & 0x48, projid) == (0x48, 4242)
        xflags, _, _, projid, _ = struct.unpack("<5I", ask("d", FS_IOC_FSGETXATTR, 28)[:20])
        assert (xflags & 0x200, projid) == (0x200, 7)
        assert struct.unpack("<5I", ask("plain", FS_IOC_FSGETXATTR, 28)[:20])[3] == 0
        assert struct.unpack("<I", ask("f", FAT_IOCTL_GET_ATTRIBUTES, 4)) == (2 | 32,)
        with pytest.raises(OSError) as e:
            ask("f", 0x12345, 8)
        assert e.value.errno == errno.ENOTTY
        shown = subprocess.run(["lsattr", "-d", mount.path / "f"], capture_output=True, text=True,
                               check=True).stdout
        assert "i" in shown.split()[0] and "A" in shown.split()[0]


def test_device_numbers_and_one_that_the_kernel_cannot_hold(mount_made):
    members = [(b"c", handmade.device(stat.S_IFCHR | 0o600, 4095, 0xFFFFF)),
               (b"large", handmade.device(stat.S_IFBLK | 0o600, 4096, 0)), (b"z", handmade.file(b"z"))]
    with mount_made(members) as mount:
        assert sorted(os.listdir(mount.path)) == ["c", "large", "z"]
        st = os.stat(mount.path / "c")
        assert (os.major(st.st_rdev), os.minor(st.st_rdev)) == (4095, 0xFFFFF)
        with pytest.raises(OSError) as e:
            os.stat(mount.path / "large")
        assert e.value.errno == errno.EOVERFLOW
        assert (mount.path / "z").read_bytes() == b"z"


def test_statfs_has_size_no_space_and_a_name_limit(mount_made):
    with mount_made([]) as mount:
        st = os.statvfs(mount.path)
        assert st.f_blocks > 0 and st.f_bfree == st.f_bavail == 0 and st.f_namemax == 255
        assert st.f_flag & os.ST_RDONLY
        assert os.listdir(mount.path) == []


def test_xattr_calls_keep_the_rules_of_size(mount_made):
    attributes = handmade.xattr(b"user.v", b"0123456789") + handmade.xattr(b"user.empty", b"")
    attributes += handmade.xattr(b"trusted.t", b"t")
    with mount_made([(b"f", handmade.file(b"x", attributes=attributes))], ) as mount:
        path = mount.path / "f"
        assert set(os.listxattr(path)) == {"user.v", "user.empty", "trusted.t"}
        assert os.getxattr(path, "user.v") == b"0123456789"
        assert os.getxattr(path, "user.empty") == b""
        for name in ("user.none", "security.capability", "system.posix_acl_access"):
            with pytest.raises(OSError) as e:
                os.getxattr(path, name)
            assert e.value.errno == errno.ENODATA
        small = subprocess.run(
            ["python3", "-c", "import ctypes, sys; c = ctypes.CDLL(None, use_errno=True); "
             "b = ctypes.create_string_buffer(5); p = sys.argv[1].encode(); "
             "print(c.getxattr(p, b'user.v', None, 0), c.getxattr(p, b'user.v', b, 5), "
             "ctypes.get_errno(), c.listxattr(p, b, 5), ctypes.get_errno())", path],
            capture_output=True, text=True, check=True).stdout.split()
        assert small == ["10", "-1", str(errno.ERANGE), "-1", str(errno.ERANGE)]


def test_acls_are_enforced(pxarfs, folder):
    tree = folder / "tree"
    tree.mkdir()
    (tree / "secret").write_bytes(b"for 1234 only\n")
    os.chmod(tree / "secret", 0o600)
    subprocess.run(["setfacl", "-m", "u:1234:r", tree / "secret"], check=True)
    (tree / "room").mkdir(mode=0o700)
    (tree / "room" / "inside").write_bytes(b"inside\n")
    subprocess.run(["setfacl", "-m", "g:4321:rx", tree / "room"], check=True)
    pxarfs("create", folder / "a.mpxar", tree, "--payload-output", folder / "a.ppxar")
    os.chmod(folder, 0o755)
    with pxarfs.mount(folder / "a.mpxar") as mount:
        assert as_user(1234, "cat", mount.path / "secret").stdout == b"for 1234 only\n"
        for uid in (1235, 4321):
            done = as_user(uid, "cat", mount.path / "secret")
            assert done.returncode == 1 and b"Permission denied" in done.stderr
        assert as_user(4321, "cat", mount.path / "room" / "inside").stdout == b"inside\n"
        assert b"Permission denied" in as_user(1234, "ls", mount.path / "room").stderr


def test_other_users_stay_out_when_asked_for(mount_made, folder):
    os.chmod(folder, 0o755)
    with mount_made([(b"f", handmade.file(b"x"))], options="noallow_other") as mount:
        assert b"Permission denied" in as_user(1000, "ls", mount.path).stderr
        assert (mount.path / "f").read_bytes() == b"x"


def test_nothing_can_be_changed(mount_made):
    with mount_made([(b"f", handmade.file(b"x"))], options="rw") as mount:
        for attempt in (lambda: (mount.path / "f").write_bytes(b"y"),
                        lambda: os.unlink(mount.path / "f"), lambda: os.mkdir(mount.path / "d"),
                        lambda: os.utime(mount.path / "f"), lambda: os.chmod(mount.path / "f", 0)):
            with pytest.raises(OSError) as e:
                attempt()
            assert e.value.errno == errno.EROFS


@pytest.mark.parametrize("options, shown, hidden", [
    (None, ["nosuid", "nodev"], ["noexec"]), ("suid,dev,noexec", ["noexec"], ["nosuid", "nodev"])])
def test_options_reach_the_kernel(mount_made, options, shown, hidden):
    with mount_made([], options=options) as mount:
        with open("/proc/self/mounts", encoding="utf-8") as f:
            row = [line.split() for line in f if line.split()[1] == str(mount.path)][0]
        assert row[2] == "fuse.pxarfs" and row[0].endswith("/made.pxar")
        words = row[3].split(",")
        assert {"ro", "default_permissions", *shown} <= set(words)
        assert not set(hidden) & set(words)


def test_large_folder_lists_every_member_once(mount_made):
    names = [b"%05d-%s" % (i, b"x" * (i % 200)) for i in range(30_000)]
    with mount_made([(n, handmade.file()) for n in names]) as mount:
        assert sorted(os.listdir(os.fsencode(mount.path))) == names
        assert sum(e.stat().st_size == 0 for e in os.scandir(mount.path)) == len(names)
        fd = os.open(mount.path, os.O_RDONLY)
        assert sorted(map(os.fsencode, os.listdir(fd))) == names
        os.close(fd)


def test_damaged_entry_spoils_only_itself(pxarfs, folder):
    members = [(b"a", handmade.file(b"a")), (b"bad", handmade.file(b"b")), (b"c", handmade.file(b"c"))]
    data = bytearray(handmade.folder(members))
    # the type bits of the mode of "bad"
    at = data.index(b"bad\0") + 4 + 16
    data[at:at + 8] = struct.pack("<Q", 0o170644)
    # the name of "c" no longer fits its hash
    data[data.index(b"c\0" + struct.pack("<Q", handmade.ENTRY))] = ord("d")
    path = folder / "damaged.pxar"
    path.write_bytes(data)
    with pxarfs.mount(path) as mount:
        names = os.listdir(mount.path)
        assert {"a", "bad"} < set(names) and len(names) == 3
        assert (set(names) - {"a", "bad"}).pop().startswith(".pxarfs-unreadable-")
        assert (mount.path / "a").read_bytes() == b"a"
        for name in set(names) - {"a"}:
            with pytest.raises(OSError) as e:
                os.stat(mount.path / name)
            assert e.value.errno == errno.EIO
        assert "damaged.pxar: lookup of /, bad: " in mount.log() and "offset" in mount.log()


def link_tree(root):
    """Links whose last names lie at the archive's very end."""
    (root / "a").mkdir(parents=True)
    (root / "zz").mkdir()
    for i in range(50):
        (root / "a" / f"single{i}").write_bytes(b"single")
        (root / "a" / f"linked{i}").write_bytes(b"linked %d" % i)
        os.link(root / "a" / f"linked{i}", root / "zz" / f"last{i}")
    os.link(root / "a" / "linked0", root / "zz" / "third")
    (root / "top").write_bytes(b"top")
    os.link(root / "top", root / "zz" / "top")


def test_tar_started_with_the_mount_keeps_every_hard_link(pxarfs, folder):
    tree, point, out = folder / "tree", folder / "mnt", folder / "out"
    link_tree(tree)
    point.mkdir()
    out.mkdir()
    pxarfs("create", folder / "a.mpxar", tree, "--payload-output", folder / "a.ppxar")
    subprocess.run(f"{pxarfs.program} mount {folder}/a.mpxar {point} && tar cf - -C {point} . | "
                   f"tar xf - -C {out}", shell=True, check=True)
    want, have = rows.observe(tree), rows.observe(out)
    assert {p: r.get("links") for p, r in want.items()} == {p: r.get("links") for p, r in have.items()}


def test_wrong_counts_of_links_are_corrected_when_the_count_ends(pxarfs, folder):
    path = folder / "a.pxar"
    below = handmade.sub([(b"leaf", handmade.file(b"leaf"))])
    path.write_bytes(handmade.folder([(b"sub", below), (b"top", handmade.file(b"top"))]))
    with pxarfs.mount(path) as mount:
        assert os.stat(mount.path / "top").st_nlink == 2
        assert statistics(mount)["corrected"] == 0
        os.stat(mount.path / "sub/leaf")
        # not because a second has passed
        wait_for(lambda: statistics(mount)["corrected"] > 0)
        assert os.stat(mount.path / "top").st_nlink == 1


def test_links_are_counted_once_somebody_went_below_the_top(pxarfs, folder):
    tree = folder / "tree"
    link_tree(tree)
    pxarfs("create", folder / "a.mpxar", tree, "--payload-output", folder / "a.ppxar")
    with pxarfs.mount(folder / "a.mpxar") as mount:
        # the top alone is no reason to count; 2 is the safe answer, for a second
        assert os.stat(mount.path / "top").st_nlink == 2
        assert os.stat(mount.path / "zz/third").st_ino == os.stat(mount.path / "a/linked0").st_ino
        for path, _, files in os.walk(mount.path):
            for name in files:
                seen = os.path.join(path, name)
                links = os.lstat(tree / os.path.relpath(seen, mount.path)).st_nlink
                assert os.lstat(seen).st_nlink in (links, 2), seen
                wait_for(lambda: os.lstat(seen).st_nlink == links)
