# SPDX-License-Identifier: Apache-2.0
"""-o uid=, gid=, umask=: a backup shown as somebody else's."""

import os
import stat
import subprocess

import pytest

USER, OTHER = 1000, 1001


@pytest.fixture
def archive(pxarfs, folder):
    """Files that only root may read, one with an ACL, one set-user-ID."""
    os.chmod(folder, 0o755)
    tree = folder / "tree"
    tree.mkdir(mode=0o700)
    (tree / "sub").mkdir(mode=0o700)
    for name, mode in [("secret", 0o600), ("sub/script", 0o700), ("suid", 0o6755), ("acl", 0o640)]:
        (tree / name).write_text(name)
        os.chmod(tree / name, mode)
    (tree / "link").symlink_to("secret")
    subprocess.run(["setfacl", "-m", f"u:{OTHER}:r,g::-,m::rw", tree / "acl"], check=True)
    pxarfs("create", folder / "a.mpxar", tree)
    return folder / "a.mpxar"


def reads(path, uid, gid=None):
    """What a user gets of a file; None: nothing."""
    done = subprocess.run(["cat", path], user=uid, group=gid or uid, extra_groups=[],
                          capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def test_owner_is_the_one_that_is_asked_for(pxarfs, archive):
    with pxarfs.mount(archive, options=f"uid={USER},gid={USER + 5}") as mount:
        for path in [mount.path, *mount.path.rglob("*")]:
            st = os.lstat(path)
            assert (st.st_uid, st.st_gid) == (USER, USER + 5), path
        assert mode(mount.path / "secret") == 0o600 and mode(mount.path / "suid") == 0o755
        assert reads(mount.path / "secret", USER) == "secret"
        assert reads(mount.path / "sub/script", USER) == "sub/script"
        assert reads(mount.path / "secret", OTHER) is None


def test_acls_are_enforced_for_the_new_owner(pxarfs, archive):
    with pxarfs.mount(archive, options=f"uid={USER},gid={USER}") as mount:
        assert os.getxattr(mount.path / "acl", "system.posix_acl_access")
        assert reads(mount.path / "acl", USER) == "acl"
        # the folder is the new owner's; inside it the ACL says who may read
        fd = os.open(mount.path / "acl", os.O_PATH)
        inside = f"/proc/{os.getpid()}/fd/{fd}"
        probe = ("import os, sys\nfd = os.open(sys.argv[1], os.O_PATH)\nos.setgroups([])\n"
                 "os.setgid(int(sys.argv[3]))\nos.setuid(int(sys.argv[2]))\n"
                 "sys.exit(0 if os.access(f'/proc/self/fd/{fd}', os.R_OK) else 1)")

        def may_read(uid, gid):
            return subprocess.run(["/usr/bin/python3", "-c", probe, inside, str(uid), str(gid)],
                                  check=False).returncode == 0

        assert may_read(USER, USER)
        assert may_read(OTHER, OTHER)  # named in the ACL
        assert not may_read(1002, USER)  # the group's entry gives nothing, though the mask would
        os.close(fd)


def test_mask_takes_the_place_of_permissions_and_acls(pxarfs, archive):
    with pxarfs.mount(archive, options="umask=022") as mount:
        assert mode(mount.path) == mode(mount.path / "sub") == mode(mount.path / "suid") == 0o755
        assert mode(mount.path / "secret") == mode(mount.path / "acl") == 0o644
        assert mode(mount.path / "sub/script") == 0o755
        assert os.lstat(mount.path / "acl").st_uid == 0
        assert os.listxattr(mount.path / "acl") == []
        with pytest.raises(OSError):
            os.getxattr(mount.path / "acl", "system.posix_acl_access")
        for name in ("secret", "acl", "sub/script"):
            assert reads(mount.path / name, OTHER) == name
    with pxarfs.mount(archive, options="umask=0077", name="closed") as mount:
        assert reads(mount.path / "suid", OTHER) is None


@pytest.mark.parametrize("options", ["uid=nobody-of-that-name", "gid=4294967295", "umask=8"])
def test_bad_values_are_refused(pxarfs, archive, folder, options):
    done = pxarfs("mount", "-o", options, archive, folder, status=2)
    assert f"'{options.split('=')[0]}'" in done.stderr
