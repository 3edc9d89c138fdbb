# SPDX-License-Identifier: Apache-2.0
"""Archives and stores made to cost whoever looks at them much more than they cost to make."""

import ctypes
import os
import stat
import struct
import time

import datastore
import handmade
import pytest

MIB = 1 << 20
SYS_GETDENTS64 = 217


@pytest.fixture
def hostile(folder):
    """Where to write the store."""
    return folder / "hostile"


def cut(data, size):
    return [(data[i:i + size], 1) for i in range(0, len(data), size)]


def mount(pxarfs, store, **kwargs):
    return pxarfs.mount("host/hostile", "root.pxar", repository=store, **kwargs)


def test_chunks_of_one_byte_are_read_in_reasonable_time(pxarfs, hostile):
    attributes = b"".join(handmade.xattr(b"user.%d" % i, bytes([i]) * 60_000) for i in range(2))
    archive = handmade.folder([(b"file", handmade.file(b"content", attributes=attributes))])
    datastore.write_snapshot(hostile, {"root.pxar.didx": cut(archive, 1)})
    begin = time.monotonic()
    with mount(pxarfs, hostile) as m:
        for i in range(2):
            assert os.getxattr(m.path / "file", f"user.{i}") == bytes([i]) * 60_000
        assert (m.path / "file").read_bytes() == b"content"
    assert time.monotonic() - begin < 15


class Sparse:
    """A metadata stream that is larger than anybody would store: (chunk, count) pieces."""

    def __init__(self):
        self.pieces, self.end, self.open = [], 0, b""

    def put(self, data):
        self.open += data

    def repeat(self, data, count):
        """A chunk of its own, `count` times."""
        for piece, n in ((self.open, 1), (data, count)):
            if piece and n:
                self.pieces.append((piece, n))
                self.end += len(piece) * n
        self.open = b""

    def tell(self):
        return self.end + len(self.open)


def payload_stream():
    return [(handmade.item(handmade.PAYLOAD_START) + handmade.item(handmade.PAYLOAD) +
             handmade.item(handmade.PAYLOAD_TAIL), 1)]


def heavy_members(count, chunk_count):
    """Files whose attributes are `chunk_count` times the same megabyte."""
    one = handmade.xattr(b"user.a", bytes(65_000))
    heavy = one * (MIB // len(one))
    out, slots = Sparse(), []
    out.put(handmade.version(2) + handmade.entry(stat.S_IFDIR | 0o755))
    for i in range(count):
        name, begin = b"member%d" % i, out.tell()
        out.put(handmade.item(handmade.FILENAME, name + b"\0"))
        out.put(handmade.entry(stat.S_IFREG | 0o644))
        out.repeat(heavy, chunk_count)
        out.put(handmade.payload_ref(16, 0))
        slots.append((handmade.siphash(name), begin, out.tell() - begin))
    out.put(handmade.table(slots, out.tell(), 0))
    out.repeat(b"", 0)
    return out.pieces


def first_answer(path):
    """Seconds until the kernel has a part of a listing, for which there is much room."""
    buffer = ctypes.create_string_buffer(MIB)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    begin = time.monotonic()
    size = ctypes.CDLL(None).syscall(SYS_GETDENTS64, fd, buffer, MIB)
    end = time.monotonic()
    os.close(fd)
    assert size > 0
    return end - begin


def test_one_answer_goes_through_few_heavy_members(pxarfs, hostile):
    datastore.write_snapshot(hostile, {"root.mpxar.didx": heavy_members(600, 60),
                                       "root.ppxar.didx": payload_stream()})
    with mount(pxarfs, hostile) as m:
        assert first_answer(m.path) < 3
