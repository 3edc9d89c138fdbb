# SPDX-License-Identifier: Apache-2.0
"""Archives built item by item, right or wrong: for what no source tree can hold."""

import functools
import stat
import struct

FORMAT_VERSION = 0x730F6C75DF16A40D
FILENAME = 0x16701121063917B3
ENTRY = 0xD5956474E588ACEF
SYMLINK = 0x27F971E7DBF5DC5F
PAYLOAD = 0x28147A1B0B7C1A25
DEVICE = 0x9FC9E906586D5CE9
HARDLINK = 0x51269C8422BD7275
PAYLOAD_REF = 0x419D3D6BC4BA977E
PAYLOAD_START_MARKER = 0x834C68C2194A4ED2
PAYLOAD_TAIL_MARKER = 0x6C72B78B984C81B5
QUOTA_PROJID = 0xE07540E82F7D1CBB
XATTR = 0x0DAB0229B57DCD03
GOODBYE = 0x2FEC4FA642D5731D
TAIL = 0xEF5EED5B753E1555

MASK = (1 << 64) - 1


@functools.cache
def siphash(data):
    """SipHash-2-4 with the format's key."""
    k0, k1 = 0x83AC3F1CFBB450DB, 0xAA4F1B6879369FBD
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D,
         k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotate(x, n):
        return (x << n | x >> (64 - n)) & MASK

    def rounds(count):
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = rotate(v[1], 13) ^ v[0]
            v[0] = rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = rotate(v[1], 17) ^ v[2]
            v[2] = rotate(v[2], 32)

    tail = len(data) % 8
    padded = data + bytes(7 - tail) + bytes([len(data) & 255])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


assert siphash(b"file.txt") == 0x967764F630C3DA14


def item(kind, body=b""):
    return struct.pack("<QQ", kind, 16 + len(body)) + body


def entry(mode, flags=0, uid=0, gid=0, mtime=(1_700_000_000, 7)):
    return item(ENTRY, struct.pack("<QQIIqII", mode, flags, uid, gid, *mtime, 0))


def file(content=b"", mode=0o644, attributes=b"", **kwargs):
    return entry(stat.S_IFREG | mode, **kwargs) + attributes + item(PAYLOAD, content)


def payload_ref(offset, size):
    return item(PAYLOAD_REF, struct.pack("<QQ", offset, size))


def file_ref(offset, size, mode=0o644):
    """A file of a split archive; its PAYLOAD header is at `offset` of the payload stream."""
    return entry(stat.S_IFREG | mode) + payload_ref(offset, size)


def hardlink(distance, path):
    return item(HARDLINK, struct.pack("<Q", distance) + path + b"\0")


def symlink(target):
    return entry(stat.S_IFLNK | 0o777) + item(SYMLINK, target + b"\0")


def device(mode, major, minor):
    return entry(mode) + item(DEVICE, struct.pack("<QQ", major, minor))


def version(number):
    return item(FORMAT_VERSION, struct.pack("<Q", number))


def project(number):
    return item(QUOTA_PROJID, struct.pack("<Q", number))


def xattr(name, value):
    return item(XATTR, name + b"\0" + value)


def tree_order(slots):
    """Sorted slots as the search tree that the table is."""
    out = [None] * len(slots)
    rest = iter(sorted(slots))

    def fill(i):
        if i < len(out):
            fill(2 * i + 1)
            out[i] = next(rest)
            fill(2 * i + 2)

    fill(0)
    return out


def table(slots, at, begin):
    """The goodbye table at `at` of a folder that begins at `begin`: [(hash, offset, size)]."""
    body = b"".join(struct.pack("<QQQ", h, at - offset, n) for h, offset, n in tree_order(slots))
    return item(GOODBYE, body + struct.pack("<QQQ", TAIL, at - begin, 16 + len(body) + 24))


def folder(members, mode=0o755, at=0, attributes=b"", **kwargs):
    """members: [(name, bytes of its entry | function of the offset where its entry begins)]."""
    data = bytearray(entry(stat.S_IFDIR | mode, **kwargs) + attributes)
    slots = []
    for name, body in members:
        begin = at + len(data)
        data += item(FILENAME, name + b"\0")
        data += body(at + len(data)) if callable(body) else body
        slots.append((siphash(name), begin, at + len(data) - begin))
    return bytes(data) + table(slots, at + len(data), at)


def sub(members, **kwargs):
    """A folder as a member."""
    return lambda at: folder(members, at=at, **kwargs)
