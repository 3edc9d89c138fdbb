# SPDX-License-Identifier: Apache-2.0
"""Archives and stores made to cost whoever looks at them much more than they cost to make."""

import ctypes
import errno
import os
import pathlib
import stat
import struct

import datastore
import handmade
import pytest

from conftest import is_sanitized

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


def cpu_seconds(pid):
    """What a process has used so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_chunks_of_one_byte_are_read_in_reasonable_time(pxarfs, hostile):
    attributes = b"".join(handmade.xattr(b"user.%d" % i, bytes([i]) * 30_000) for i in range(2))
    archive = handmade.folder([(b"file", handmade.file(b"content", attributes=attributes))])
    datastore.write_snapshot(hostile, {"root.pxar.didx": cut(archive, 1)})
    with mount(pxarfs, hostile, options="timeout=3600") as m:
        begin = cpu_seconds(m.process.pid)
        for i in range(2):
            assert os.getxattr(m.path / "file", f"user.{i}") == bytes([i]) * 30_000
        assert (m.path / "file").read_bytes() == b"content"
        assert cpu_seconds(m.process.pid) - begin < (50 if is_sanitized() else 8)


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
    return [(handmade.item(handmade.PAYLOAD_START_MARKER) + handmade.item(handmade.PAYLOAD) +
             handmade.item(handmade.PAYLOAD_TAIL_MARKER), 1)]


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


def huge_folder(chunk_count):
    """A folder of `chunk_count` times 699,050 slots (16 MiB of them), all for the same member."""
    per_chunk = 16 * MIB // 24
    count = chunk_count * per_chunk
    out = Sparse()
    out.put(handmade.version(2) + handmade.entry(stat.S_IFDIR | 0o755))
    out.put(handmade.item(handmade.FILENAME, b"file\0") + handmade.entry(stat.S_IFREG | 0o644))
    out.put(handmade.payload_ref(16, 0))
    out.repeat(bytes(16 * MIB), count * 44 // (16 * MIB) + 1)
    at, size = out.tell(), 16 + 24 * (count + 1)
    out.put(struct.pack("<QQ", handmade.GOODBYE, size))
    out.repeat(struct.pack("<QQQ", 1, 1000, 50) * per_chunk, chunk_count)
    out.put(struct.pack("<QQQ", handmade.TAIL, at, size))
    out.repeat(b"", 0)
    return out.pieces


def peak_memory(pid):
    """In bytes, of a process so far."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


def test_a_folder_of_60_million_members_does_not_fill_the_memory(pxarfs, hostile):
    datastore.write_snapshot(hostile, {"root.mpxar.didx": huge_folder(90),
                                       "root.ppxar.didx": payload_stream()})
    with mount(pxarfs, hostile) as m:
        before = peak_memory(m.process.pid)
        with pytest.raises(OSError) as e:
            os.listdir(m.path)
        assert e.value.errno == errno.EIO
        assert "-o cache=" in m.log()
        assert peak_memory(m.process.pid) - before < 200 * MIB


def first_answer(path):
    """How many names are in a listing's first answer, for which there is much room."""
    buffer = ctypes.create_string_buffer(MIB)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    size = ctypes.CDLL(None).syscall(SYS_GETDENTS64, fd, buffer, MIB)
    os.close(fd)
    count, at = 0, 0
    while at < size:
        at += struct.unpack_from("<H", buffer, at + 16)[0]
        count += 1
    return count


def test_one_answer_goes_through_few_heavy_members(pxarfs, hostile):
    datastore.write_snapshot(hostile, {"root.mpxar.didx": heavy_members(600, 60),
                                       "root.ppxar.didx": payload_stream()})
    with mount(pxarfs, hostile) as m:
        assert 3 <= first_answer(m.path) <= 4  # "." and ".." too
