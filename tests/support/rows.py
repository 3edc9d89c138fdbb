# SPDX-License-Identifier: Apache-2.0
"""What a directory tree shows, as rows like those of tests/golden/*.jsonl.

A row is a dict: path (bytes as Latin-1, the root is empty), mode (octal digits), uid, gid, mtime_ns,
and where they apply size, sha256, target, rdev, xattrs, links, attrs.
"""

import array
import fcntl
import hashlib
import json
import os
import stat

FS_IOC_GETFLAGS = 0x80086601

# Inode flags that an archive can hold (archive/FORMAT.md, "Flag bits").
ATTRS_MASK = (0x20 | 0x80 | 0x04 | 0x800000 | 0x40 | 0x10000 | 0x10 | 0x08 | 0x400 | 0x20000000)


def load(path):
    """The rows of a .jsonl file, by path."""
    with open(path, encoding="utf-8") as f:
        return {row["path"]: row for row in map(json.loads, f)}


def sub(rows, folder):
    """The rows of `folder` with itself as the root."""
    out = {}
    for path, row in rows.items():
        if path == folder:
            name = ""
        elif path.startswith(folder + "/"):
            name = path[len(folder) + 1:]
        else:
            continue
        row = dict(row, path=name)
        if "links" in row:
            row["links"] = [p[len(folder) + 1:] for p in row["links"]
                            if p.startswith(folder + "/")]
            if len(row["links"]) < 2:
                del row["links"]
        out[name] = row
    return out


def inode_flags(path):
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        # The ioctl's number says long, the kernel writes 32 bits: a longer reply shows here.
        buf = array.array("I", [0, 0xdeadbeef])
        try:
            fcntl.ioctl(fd, FS_IOC_GETFLAGS, buf)
        except OSError:
            return 0
        assert buf[1] == 0xdeadbeef, "FS_IOC_GETFLAGS wrote more than 32 bits"
        return buf[0] & ATTRS_MASK
    finally:
        os.close(fd)


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb", buffering=0) as f:
        while data := f.read(1 << 20):
            h.update(data)
    return h.hexdigest()


def row_of(path, name, content=True):
    st = os.lstat(path)
    row = {"path": name.decode("latin-1"), "mode": format(st.st_mode, "o"), "uid": st.st_uid,
           "gid": st.st_gid, "mtime_ns": st.st_mtime_ns}
    if stat.S_ISREG(st.st_mode):
        row["size"] = st.st_size
        if content:
            row["sha256"] = sha256(path)
    if stat.S_ISLNK(st.st_mode):
        row["target"] = os.readlink(path).decode("latin-1")
    if stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
        row["rdev"] = [os.major(st.st_rdev), os.minor(st.st_rdev)]
    xattrs = {n: os.getxattr(path, n, follow_symlinks=False).hex()
              for n in os.listxattr(path, follow_symlinks=False)}
    if xattrs:
        row["xattrs"] = xattrs
    if stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode):
        attrs = inode_flags(path)
        if attrs:
            row["attrs"] = attrs
    return row, st


def observe(root, content=True):
    """The rows of the live tree below `root`, by path."""
    root = os.fsencode(root)
    rows, inodes = {}, {}

    def visit(path, name):
        row, st = row_of(path, name, content)
        rows[row["path"]] = row
        if stat.S_ISREG(st.st_mode):
            inodes.setdefault((st.st_dev, st.st_ino), []).append(row["path"])
        if stat.S_ISDIR(st.st_mode):
            for child in sorted(os.listdir(path)):
                visit(path + b"/" + child, name + b"/" + child if name else child)

    visit(root, b"")
    for names in inodes.values():
        if len(names) > 1:
            for name in names:
                rows[name]["links"] = sorted(names)
    return rows


def differences(want, have, limit=20):
    """Lines that say where two sets of rows differ; empty when they are equal."""
    out = []
    for path in sorted(want.keys() | have.keys()):
        a, b = want.get(path), have.get(path)
        if a is None or b is None:
            out.append(f"{path!r}: {'unexpected' if a is None else 'missing'}")
            continue
        for key in sorted(a.keys() | b.keys()):
            if a.get(key) != b.get(key):
                out.append(f"{path!r}: {key}: want {a.get(key)!r}, have {b.get(key)!r}")
    return out[:limit] + ([f"... {len(out) - limit} more"] if len(out) > limit else [])
