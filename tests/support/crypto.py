# SPDX-License-Identifier: Apache-2.0
"""Keys, signatures and encrypted blobs, in another language than the program under test.

Only what the standard library lacks, the AES block cipher, comes from the openssl program; GHASH is
done here, so this is for small blobs.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import subprocess
import zlib

import datastore

ENCRYPTED = bytes.fromhex("7b6785be222d4cf0")
ENCRYPTED_ZSTD = bytes.fromhex("e6591bbf0bbfd80b")


class Key:
    def __init__(self, enc_key):
        self.enc_key = enc_key
        self.id_key = hashlib.pbkdf2_hmac("sha256", enc_key, b"_id_key", 10, 32)
        named = hashlib.sha256(b"Proxmox Backup Encryption Key Fingerprint").digest()
        self.fingerprint = hashlib.sha256(named + self.id_key).digest().hex(":")
        self.short = self.fingerprint[:23]

    @classmethod
    def load(cls, path):
        """From a key file without passphrase."""
        value = json.loads(pathlib.Path(path).read_text())
        assert value["kdf"] is None
        return cls(base64.b64decode(value["data"]))

    def save(self, path, created="2026-11-22T16:55:39+00:00"):
        value = {"kdf": None, "created": created, "modified": created,
                 "data": base64.b64encode(self.enc_key).decode(), "fingerprint": self.fingerprint}
        pathlib.Path(path).write_text(json.dumps(value, separators=(",", ":")))
        return path

    def digest(self, data):
        """The name of a chunk of these bytes."""
        return hashlib.sha256(data + self.id_key).hexdigest()

    def signature(self, manifest):
        covered = {k: v for k, v in manifest.items() if k not in ("signature", "unprotected")}
        text = json.dumps(covered, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        return hmac.new(self.id_key, text.encode(), "sha256").hexdigest()


def aes(mode, key, data, *args):
    return subprocess.run(["openssl", "enc", f"-aes-256-{mode}", "-nopad", "-K", key.hex(), *args],
                          input=data, capture_output=True, check=True).stdout


def multiply(x, y):
    """In GF(2^128), bits mirrored as GCM wants them."""
    z = 0
    for i in range(127, -1, -1):
        if x >> i & 1:
            z ^= y
        y = y >> 1 ^ (0xe1 << 120 if y & 1 else 0)
    return z


def ghash(h, data):
    """Of whatever, padded, with its length behind it (and no authenticated data)."""
    padded = data + bytes(-len(data) % 16) + struct.pack(">QQ", 0, 8 * len(data))
    y = 0
    for at in range(0, len(padded), 16):
        y = multiply(y ^ int.from_bytes(padded[at:at + 16], "big"), h)
    return y


def gcm_open(key, iv, tag, sealed):
    """AES-256-GCM with an IV of 16 bytes, the tag proved."""
    h = int.from_bytes(aes("ecb", key, bytes(16)), "big")
    counter = ghash(h, iv)
    assert counter & 0xffffffff < 0xffff0000, "the counter would wrap around: take another IV"
    mask = int.from_bytes(aes("ecb", key, counter.to_bytes(16, "big")), "big")
    assert (ghash(h, sealed) ^ mask).to_bytes(16, "big") == tag, "wrong tag"
    return aes("ctr", key, sealed, "-iv", f"{counter + 1:032x}") if sealed else b""


def blob(data, key):
    """The plain bytes of an encrypted blob."""
    magic, crc, iv, tag, sealed = data[:8], data[8:12], data[12:28], data[28:44], data[44:]
    assert magic in (ENCRYPTED, ENCRYPTED_ZSTD), "not encrypted"
    assert struct.unpack("<I", crc)[0] == zlib.crc32(sealed)
    body = gcm_open(key.enc_key, iv, tag, sealed)
    return datastore.unzstd(body) if magic == ENCRYPTED_ZSTD else body
