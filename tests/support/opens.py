# SPDX-License-Identifier: Apache-2.0
"""Which files of a tree are opened meanwhile: inotify's account, not the program's own."""

import ctypes
import os
import stat
import struct

IN_OPEN = 0x20
IN_ISDIR = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)


class Opens:
    """with Opens(tree) as o: ...; then o.files has the paths of regular files that were opened."""

    def __init__(self, tree):
        self.tree = os.fsencode(tree)
        self.files = []

    def watch(self, path):
        number = libc.inotify_add_watch(self.fd, path, IN_OPEN)
        assert number >= 0, os.strerror(ctypes.get_errno())
        self.folders[number] = path

    def __enter__(self):
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self.fd >= 0, os.strerror(ctypes.get_errno())
        self.folders = {}
        for path, _, _ in os.walk(self.tree):
            self.watch(path)
        return self

    def __exit__(self, *_):
        while True:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                break
            while data:
                number, mask, _, size = struct.unpack_from("iIII", data)
                name = data[16:16 + size].rstrip(b"\0")
                data = data[16 + size:]
                assert number >= 0, "events were lost"
                if not name or mask & IN_ISDIR:
                    continue
                path = self.folders[number] + b"/" + name
                if os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode):
                    self.files.append(path)
        os.close(self.fd)
