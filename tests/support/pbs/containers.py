# SPDX-License-Identifier: Apache-2.0
"""Blobs and indexes, as a server checks and makes them."""

import hashlib
import json
import os
import struct
import time
import uuid
import zlib

import zstd
from pbs.schema import refuse

PLAIN = bytes.fromhex("42ab3807be8370a1")
ZSTD = bytes.fromhex("31b958426fb6a37f")
ENCRYPTED = bytes.fromhex("7b6785be222d4cf0")
ENCRYPTED_ZSTD = bytes.fromhex("e6591bbf0bbfd80b")
DIDX = bytes.fromhex("1c914ea519bab3cd")
FIDX = bytes.fromhex("2f7f41ed91fd0fcd")

BLOB_SIZE_MAX = 128 << 20
FIXED_SIZE = 4 << 20


def is_encrypted(blob):
    return bytes(blob[:8]) in (ENCRYPTED, ENCRYPTED_ZSTD)


def check_magic(blob):
    if len(blob) < 12:
        refuse("blob too small")
    if bytes(blob[:8]) not in (PLAIN, ZSTD, ENCRYPTED, ENCRYPTED_ZSTD):
        refuse("unknown blob magic")
    if is_encrypted(blob) and len(blob) < 44:
        refuse("encrypted blob too small")


def _crc(blob):
    return struct.pack("<I", zlib.crc32(memoryview(blob)[44 if is_encrypted(blob) else 12:]))


def with_crc(blob):
    """The blob with the checksum that it ought to have."""
    crc = _crc(blob)
    return bytes(blob) if blob[8:12] == crc else bytes(blob[:8]) + crc + bytes(blob[12:])


def check_crc(blob):
    if _crc(blob) != bytes(blob[8:12]):
        refuse("wrong CRC")


def decode(blob, size_max=BLOB_SIZE_MAX):
    """The data of a plain or compressed blob (its CRC is not looked at)."""
    check_magic(blob)
    if is_encrypted(blob):
        refuse("the blob is encrypted")
    if bytes(blob[:8]) == PLAIN:
        return bytes(blob[12:])
    try:
        return zstd.decompress(blob[12:], size_max)
    except ValueError as e:
        return refuse(str(e))


def encode(data, compress=True):
    small = zstd.compress(data) if compress else None
    magic, body = (PLAIN, data) if small is None else (ZSTD, small)
    return magic + struct.pack("<I", zlib.crc32(body)) + body


def _head(magic, csum):
    return magic + uuid.uuid4().bytes + struct.pack("<q", int(time.time())) + csum


def didx_entries(entries):
    """entries: [(end, digest hex)]"""
    return b"".join(struct.pack("<Q", end) + bytes.fromhex(d) for end, d in entries)


def make_didx(entries):
    body = didx_entries(entries)
    return _head(DIDX, hashlib.sha256(body).digest()).ljust(4096, b"\0") + body


def make_fidx(size, digests):
    body = b"".join(map(bytes.fromhex, digests))
    head = _head(FIDX, hashlib.sha256(body).digest()) + struct.pack("<QQ", size, FIXED_SIZE)
    return head.ljust(4096, b"\0") + body


def parse_index(data):
    """[(length, digest hex)] of an index of either kind."""
    if len(data) <= 4096:
        refuse("index too small")
    if data[:8] == DIDX:
        if (len(data) - 4096) % 40:
            refuse("bad size of an index")
        out, begin = [], 0
        for end, digest in struct.iter_unpack("<Q32s", memoryview(data)[4096:]):
            if end <= begin:
                refuse("ends of an index do not rise")
            out.append((end - begin, digest.hex()))
            begin = end
        return out
    if data[:8] != FIDX:
        refuse("unknown index magic")
    size, chunk_size = struct.unpack_from("<QQ", data, 64)
    if not size or not chunk_size or len(data) - 4096 != 32 * -(-size // chunk_size):
        refuse("bad size of an index")
    return [(min(chunk_size, size - i * chunk_size), data[at:at + 32].hex())
            for i, at in enumerate(range(4096, len(data), 32))]


# --- manifest ---


def _require(ok, what):
    if not ok:
        refuse(f"manifest: {what}")


class NotAnObject(Exception):
    """An `unprotected` that the server stumbles over."""


def parse_manifest(blob):
    """The members that a server keeps."""
    try:
        m = json.loads(decode(blob))
    except ValueError:
        refuse("the manifest is not JSON")
    _require(isinstance(m, dict), "not an object")
    for key, kind in (("backup-type", str), ("backup-id", str), ("backup-time", int),
                      ("files", list)):
        _require(isinstance(m.get(key), kind) and not isinstance(m[key], bool), key)
    files = []
    for f in m["files"]:
        _require(isinstance(f, dict) and isinstance(f.get("filename"), str), "filename")
        _require(type(f.get("size")) is int and f["size"] >= 0, "size")
        csum = f.get("csum")
        _require(isinstance(csum, str) and len(csum) == 64 and
                 not set(csum) - set("0123456789abcdef"), "csum")
        mode = f.get("crypt-mode", "none")
        _require(mode in ("none", "encrypt", "sign-only"), "crypt-mode")
        files.append({"filename": f["filename"], "size": f["size"], "csum": csum,
                      "crypt-mode": mode})
    unprotected = m.get("unprotected")
    if unprotected is not None and not isinstance(unprotected, dict):
        raise NotAnObject
    return {"backup-type": m["backup-type"], "backup-id": m["backup-id"],
            "backup-time": m["backup-time"], "files": files,
            "signature": m.get("signature"), "unprotected": unprotected or {}}


def encode_manifest(m):
    return encode(json.dumps(m, indent=2, sort_keys=True, ensure_ascii=False).encode())


def random_name():
    return os.urandom(3).hex()
