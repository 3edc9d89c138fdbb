# SPDX-License-Identifier: Apache-2.0
"""Just enough of the datastore formats, in another language than the program under test."""

import datetime
import hashlib
import json
import pathlib
import struct
import subprocess
import zlib

PLAIN = bytes.fromhex("42ab3807be8370a1")
ZSTD = bytes.fromhex("31b958426fb6a37f")
DIDX = bytes.fromhex("1c914ea519bab3cd")
FIDX = bytes.fromhex("2f7f41ed91fd0fcd")


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
    """[(end, digest hex)] of an index of either kind, its checksum proved."""
    data = pathlib.Path(path).read_bytes()
    assert hashlib.sha256(data[4096:]).digest() == data[32:64]
    if data[:8] == FIDX:
        size, chunk_size = struct.unpack_from("<QQ", data, 64)
        found = [data[at:at + 32].hex() for at in range(4096, len(data), 32)]
        assert data[80:4096] == bytes(4016) and size > 0
        assert len(found) == -(-size // chunk_size) and (len(data) - 4096) % 32 == 0
        return [(min((i + 1) * chunk_size, size), digest) for i, digest in enumerate(found)]
    assert data[:8] == DIDX and (len(data) - 4096) % 40 == 0
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


def put_blob(path, data):
    path.write_bytes(PLAIN + struct.pack("<I", zlib.crc32(data)) + data)
    return path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()


def put_stream(store, path, data):
    """Store `data` as one chunk and its index; (size, csum) as a manifest has them."""
    digest = hashlib.sha256(data)
    chunk = chunk_path(store, digest.hexdigest())
    chunk.parent.mkdir(exist_ok=True)
    put_blob(chunk, data)
    entries = struct.pack("<Q32s", len(data), digest.digest())
    csum = hashlib.sha256(entries)
    head = DIDX + bytes(16) + struct.pack("<q", 1) + csum.digest()
    path.write_bytes(head.ljust(4096, b"\0") + entries)
    return len(data), csum.hexdigest()


def put_snapshot(store, name, time, streams):
    """A finished snapshot host/NAME/TIME of whole streams {"root.mpxar.didx": bytes}."""
    when = datetime.datetime.fromtimestamp(time, datetime.timezone.utc)
    folder = pathlib.Path(store) / "host" / name / when.strftime("%Y-%m-%dT%H:%M:%SZ")
    folder.mkdir(parents=True)
    (folder.parent / "owner").write_text("root@pam\n")
    files = []
    for file, data in streams.items():
        size, csum = put_stream(store, folder / file, data)
        files.append({"filename": file, "crypt-mode": "none", "size": size, "csum": csum})
    put_blob(folder / "index.json.blob", json.dumps({
        "backup-type": "host", "backup-id": name, "backup-time": time, "files": files,
        "unprotected": {}, "signature": None}).encode())


# --- making what no client would ---

TIME = "1970-01-01T00:16:40Z"


def write_blob(path, data):
    """Plain, as a blob file; large ones as zstd."""
    magic, body = PLAIN, data
    if len(data) > 1 << 16:
        magic, body = ZSTD, subprocess.run(["zstd", "-1cq"], input=data, capture_output=True,
                                           check=True).stdout
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(magic + struct.pack("<I", zlib.crc32(body)) + body)


def write_index(store, path, pieces):
    """pieces: [(bytes of a chunk, how often it comes)]; (size, checksum) of the stream."""
    end, entries = 0, bytearray()
    for data, count in pieces:
        digest = hashlib.sha256(data)
        chunk = chunk_path(store, digest.hexdigest())
        if not chunk.exists():
            write_blob(chunk, data)
        for _ in range(count):
            end += len(data)
            entries += struct.pack("<Q", end) + digest.digest()
    csum = hashlib.sha256(entries)
    head = DIDX + bytes(24) + csum.digest()
    path.write_bytes(head.ljust(4096, b"\0") + entries)
    return end, csum.hexdigest()


def write_snapshot(store, streams, group="host/hostile"):
    """A datastore with one snapshot of `streams`: {index's name: pieces as above}."""
    folder = pathlib.Path(store) / group / TIME
    folder.mkdir(parents=True)
    (pathlib.Path(store) / ".chunks").mkdir(exist_ok=True)
    files = []
    for name, pieces in streams.items():
        size, csum = write_index(store, folder / name, pieces)
        files.append({"filename": name, "crypt-mode": "none", "size": size, "csum": csum})
    kind, name = group.split("/")
    text = {"backup-type": kind, "backup-id": name, "backup-time": 1000, "files": files,
            "signature": None, "unprotected": {}}
    write_blob(folder / "index.json.blob", json.dumps(text).encode())
