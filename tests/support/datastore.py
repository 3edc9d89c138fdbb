# SPDX-License-Identifier: Apache-2.0
"""Just enough of the datastore formats, in another language than the program under test."""

import hashlib
import json
import pathlib
import struct
import subprocess

PLAIN = bytes.fromhex("42ab3807be8370a1")
ZSTD = bytes.fromhex("31b958426fb6a37f")
DIDX = bytes.fromhex("1c914ea519bab3cd")


def unzstd(data):
    """Decompress any number of frames behind each other."""
    return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, check=True).stdout


def blob(path):
    """The plain bytes of a blob file."""
    data = pathlib.Path(path).read_bytes()
    if data[:8] == ZSTD:
        return unzstd(data[12:])
    assert data[:8] == PLAIN, f"{path}: neither plain nor zstd"
    return data[12:]


def manifest(snapshot):
    return json.loads(blob(pathlib.Path(snapshot) / "index.json.blob"))


def index(path):
    """[(end, digest hex)] of a dynamic index, its checksum proved."""
    data = pathlib.Path(path).read_bytes()
    assert data[:8] == DIDX and (len(data) - 4096) % 40 == 0
    assert hashlib.sha256(data[4096:]).digest() == data[32:64]
    return [(end, digest.hex()) for end, digest in struct.iter_unpack("<Q32s", data[4096:])]


def digests(path):
    return [digest for _, digest in index(path)]


def chunk_path(store, digest):
    return pathlib.Path(store) / ".chunks" / digest[:4] / digest


def stream(store, path):
    """The bytes of the stream that an index lists, each chunk's digest proved."""
    out, frames = bytearray(), bytearray()

    def flush():
        if frames:
            out.extend(unzstd(bytes(frames)))
            frames.clear()

    for _, digest in index(path):
        data = chunk_path(store, digest).read_bytes()
        if data[:8] == ZSTD:
            frames.extend(data[12:])
        else:
            assert data[:8] == PLAIN
            flush()
            out.extend(data[12:])
    flush()
    begin = 0
    for end, digest in index(path):
        assert hashlib.sha256(out[begin:end]).hexdigest() == digest
        begin = end
    assert begin == len(out)
    return bytes(out)
