# SPDX-License-Identifier: Apache-2.0
"""Trees deeper than any path can say, and files of very many names."""

import contextlib
import hashlib
import itertools
import os
import resource
import stat
import subprocess

import pytest

from test_metadata import Group


@pytest.fixture
def tree(folder):
    """Removed by a program that can: shutil.rmtree() calls itself for each folder."""
    yield folder / "tree"
    subprocess.run(["rm", "-rf", folder / "tree"], check=True)


@pytest.fixture(autouse=True)
def _many_descriptors():
    """For the walk of the test, which keeps one for each folder; the program gets by with few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (8192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))


def down(fd, name):
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)


def put(fd, name, data):
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o640, dir_fd=fd)
    os.write(file, data)
    os.close(file)


def make_chain(root, names):
    """Folders in each other, some of them with a file and a link beside the next one."""
    root.mkdir()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for i, name in enumerate(names):
        os.mkdir(name, dir_fd=fd)
        below = down(fd, name)
        os.close(fd)
        fd = below
        if i % 100 == 0 or i == len(names) - 1:
            put(fd, "file", b"%d\n" % i * 50)
            os.symlink(f"target-{i}", "link", dir_fd=fd)
    os.close(fd)


def change_last(root, names):
    """The file at the very end gets longer."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name in names:
        below = down(fd, name)
        os.close(fd)
        fd = below
    put(fd, "file", b"more")
    os.close(fd)


def content(fd, name):
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
    with os.fdopen(file, "rb") as f:
        return f.read()


def walk(root):
    """What is there, by a hash of its path, without ever naming one."""
    found = {}
    with contextlib.ExitStack() as open_folders:
        todo = [(os.open(root, os.O_RDONLY | os.O_DIRECTORY), b"")]
        while todo:
            fd, above = todo.pop()
            open_folders.callback(os.close, fd)
            for name in os.listdir(fd):
                st = os.stat(name, dir_fd=fd, follow_symlinks=False)
                path = hashlib.sha256(above + os.fsencode(name)).digest()
                what = None
                if stat.S_ISDIR(st.st_mode):
                    todo.append((down(fd, name), path))
                elif stat.S_ISLNK(st.st_mode):
                    what = os.readlink(name, dir_fd=fd)
                else:
                    what = content(fd, name)
                found[path] = (name, st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, what)
    return found


@pytest.mark.parametrize("names", [["d"] * 4096, [f"{i:03}" * 83 for i in range(100)]],
                         ids=["depth", "length"])
def test_a_tree_deeper_than_a_path_is_long(pxarfs, folder, repo, tree, names):
    make_chain(tree, names)
    assert sum(len(name) + 1 for name in names) > 4096
    backup = Group(pxarfs, repo, tree, "--chunk-size", 64)
    for change in (False, False, True):
        if change:
            change_last(tree, names)
        out = backup(preexec_fn=few_descriptors)
        if backup.time == 1002:
            assert out["reading"]["opened-files"] == 0
        with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
            assert walk(mount.path) == walk(tree)
    listed = pxarfs("ls", "-R", "-r", repo, "host/test", "root.pxar").stdout.splitlines()
    assert listed.count("file") == 2 + (len(names) - 1) // 100
    pxarfs("create", folder / "a.mpxar", tree, preexec_fn=few_descriptors)
    assert len(pxarfs("list", folder / "a.mpxar").stdout.splitlines()) == len(walk(tree)) + 1


def test_ten_thousand_names_of_one_file(pxarfs, repo, tree):
    for d in "ab":
        (tree / d).mkdir(parents=True)
    (tree / "b/0").write_bytes(os.urandom(300_000))
    for i, d in zip(range(1, 10_000), itertools.cycle("ab")):
        os.link(tree / "b/0", tree / d / f"{i}")

    def names(root):
        found = {}
        for path in root.glob("?/*"):
            st = path.stat()
            found.setdefault((st.st_ino, st.st_size), set()).add(str(path.relative_to(root)))
        return sorted(map(sorted, found.values()))

    backup = Group(pxarfs, repo, tree)
    out = backup()
    assert (out["regular-files"], out["hard-links"]) == (1, 9_999)
    out = backup()
    assert out["reading"]["opened-files"] == 0 and out["hard-links"] == 9_999
    # the first name goes, another becomes a file of its own
    (tree / "a/1").unlink()
    (tree / "a/3").unlink()
    (tree / "a/3").write_bytes(b"its own")
    out = backup()
    assert (out["regular-files"], out["hard-links"]) == (2, 9_997)
    assert out["reading"]["read-bytes"] == 7
    with pxarfs.mount("host/test", "root.pxar", repository=repo) as mount:
        assert names(mount.path) == names(tree)
        assert (mount.path / "b/0").read_bytes() == (tree / "b/0").read_bytes()
        assert (mount.path / "a/3").read_bytes() == b"its own"
