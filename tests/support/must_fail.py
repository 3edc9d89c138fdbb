#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Small damaged archives, each named for what is wrong with it, and what must become of it.

	must_fail.py            write tests/golden/must-fail/ anew

All hold a file `good` with the content `good` beside the damage, but where there is nothing to
reach.  tests/e2e/test_must_fail.py compares the files with what is made here, so neither goes its
own way.
"""

import dataclasses
import pathlib
import struct
import sys

import handmade as h

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "golden" / "must-fail"

# --- what archives consist of ---

GOOD = (b"good", h.file(b"good"))
START = h.item(h.PAYLOAD_START_MARKER)
PAYLOADS = START + h.item(h.PAYLOAD, b"good") + h.item(h.PAYLOAD, b"bad!")
PAYLOAD_STREAM = PAYLOADS + h.item(h.PAYLOAD_TAIL_MARKER)
GOOD_REF = (b"good", h.file_ref(16, 4))


def single(*members):
    return h.folder([GOOD, *members])


def split(*members, version=2):
    """The metadata stream of a split archive; its payload stream is PAYLOAD_STREAM."""
    head = h.item(h.FORMAT_VERSION, struct.pack("<Q", version))
    data = bytearray(h.folder([GOOD_REF, *members], at=len(head)))
    # The root's tail leads to the begin of the stream.
    data[-16:-8] = struct.pack("<Q", struct.unpack("<Q", data[-16:-8])[0] + len(head))
    return head + data


def table(at, members, tail):
    """A GOODBYE at offset `at` of [(name, offset of its FILENAME, size)]."""
    slots = h.tree_order([(h.siphash(name), at - begin, size) for name, begin, size in members])
    size = 16 + 24 * (len(slots) + 1)
    return h.item(h.GOODBYE, b"".join(struct.pack("<QQQ", *slot) for slot in slots) +
                  struct.pack("<QQQ", h.TAIL, at - tail, size))


def own_parent(at):
    """A folder `bad` at offset `at` whose members are a file and itself."""
    begin = at - len(h.item(h.FILENAME, b"bad\0"))
    head = h.entry(0o40755)
    member = h.item(h.FILENAME, b"file\0") + h.file(b"file")
    goodbye = at + len(head) + len(member)
    members = [(b"file", at + len(head), len(member)),
               (b"bad", begin, goodbye + 16 + 24 * 3 - begin)]
    return head + member + table(goodbye, members, tail=at)


def tail_to_root(at):
    """An empty folder at offset `at` whose table says that it begins where the archive does."""
    head = h.entry(0o40755)
    return head + table(at + len(head), [], tail=0)


def tail_to_sibling():
    """A folder `bad` whose table says that it begins where the folder `good-room` does, and shows
    that one's file."""
    begin = len(h.entry(0o40755) + h.item(h.FILENAME, b"good\0") + GOOD[1])
    room = begin + len(h.item(h.FILENAME, b"good-room\0"))
    inside = room + len(h.entry(0o40755))
    size = len(h.item(h.FILENAME, b"file\0") + h.file(b"file"))

    def bad(at):
        head = h.entry(0o40755)
        return head + table(at + len(head), [(b"file", inside, size)], tail=room)

    return single((b"good-room", h.sub([(b"file", h.file(b"file"))])), (b"bad", bad))


def past_its_parent():
    """A folder `bad` whose slot lets it end where the whole archive does."""
    data = bytearray(single((b"bad", h.sub([]))))
    goodbye = len(data) - (16 + 24 * 3)
    at = data.index(struct.pack("<Q", h.siphash(b"bad")), goodbye)
    offset = struct.unpack("<Q", data[at + 8:at + 16])[0]
    data[at + 16:at + 24] = struct.pack("<Q", len(data) - (goodbye - offset))
    return bytes(data)


def wrong_hash():
    data = bytearray(single((b"bad", h.file(b"bad!"))))
    at = data.rindex(struct.pack("<Q", h.siphash(b"bad")))
    # the same bytes in their order, so that the search tree stays one
    data[at:at + 8] = struct.pack("<Q", h.siphash(b"bad") ^ 1)
    return bytes(data)


def slot_before_archive():
    data = bytearray(single((b"bad", h.file(b"bad!"))))
    at = data.rindex(struct.pack("<Q", h.siphash(b"bad")))
    data[at + 8:at + 16] = struct.pack("<Q", 1 << 40)
    return bytes(data)


def chained_link():
    """`bad` is a link to `link`, which is a link to `good`."""
    root = len(h.entry(0o40755))
    good = root
    link = good + len(h.item(h.FILENAME, b"good\0") + GOOD[1])
    first = h.hardlink(link - good, b"good")
    bad = link + len(h.item(h.FILENAME, b"link\0") + first)
    return single((b"link", first), (b"bad", h.hardlink(bad - link, b"link")))


# --- the archives ---

@dataclasses.dataclass
class Fault:
    """What is made of an archive.  REFUSED: it cannot be opened.  ISOLATED: the member `bad` (or a
    nameless one, `is_nameless`) is reported and stepped over, `good` is not hurt.  INSIDE: the same
    of a member of the folder `bad`.  LAZY: only the content is wrong, so lists do not notice.
    `say` is in the message beside the file's name and the place."""
    files: dict
    kind: str
    say: str
    is_nameless: bool = False


def one(data, kind, say, **kwargs):
    return Fault({".pxar": data}, kind, say, **kwargs)


def two(data, kind, say, payload=PAYLOAD_STREAM, **kwargs):
    return Fault({".mpxar": data, ".ppxar": payload}, kind, say, **kwargs)


BAD = h.file(b"bad!")
WHOLE = single((b"bad", BAD))

FAULTS = {
    # names
    "parent-name": two(split((b"..", h.file_ref(36, 4))), "isolated", '".."', is_nameless=True),
    "dot-name": one(single((b".", BAD)), "isolated", '"."', is_nameless=True),
    "slash-in-name": one(single((b"../bad", BAD)), "isolated", "slash", is_nameless=True),
    "empty-name": one(single((b"", BAD)), "isolated", "FILENAME", is_nameless=True),
    "nul-in-name": one(single((b"bad\0name", BAD)), "isolated", "NUL", is_nameless=True),
    # folders
    "cycle": one(single((b"bad", own_parent)), "inside", "outside its directory"),
    "tail-to-root": one(single((b"bad", tail_to_root)), "inside", "wrong start"),
    "tail-to-sibling": one(tail_to_sibling(), "inside", "at 179"),
    "past-its-parent": one(past_its_parent(), "isolated", "into what follows"),
    "wrong-hash": one(wrong_hash(), "isolated", "hash", is_nameless=True),
    "slot-before-archive": one(slot_before_archive(), "isolated", "outside its directory",
                               is_nameless=True),
    # the root
    "truncated-goodbye": one(WHOLE[:-10], "refused", "goodbye"),
    "truncated-content": one(WHOLE[:150], "refused", "goodbye"),
    "trailing-bytes": one(WHOLE + bytes(16), "refused", "goodbye"),
    "root-is-a-file": one(h.file(bytes(64)), "refused", "no directory"),
    "version-3": two(split(version=3), "refused", "version 3"),
    "no-archive": one(b"#!/bin/sh\n" + bytes(200), "refused", "unknown item"),
    # entries
    "unknown-type": one(single((b"bad", h.entry(0o170644) + h.item(h.PAYLOAD, b"bad!"))),
                        "isolated", "unknown type"),
    "no-content": one(single((b"bad", h.entry(0o100644))), "isolated", "regular file"),
    "huge-item": one(single((b"bad", h.entry(0o100644) + struct.pack("<QQ", h.XATTR, 1 << 62))),
                     "isolated", "XATTR"),
    "content-past-its-member": one(
        single((b"bad", h.entry(0o100644) + struct.pack("<QQ", h.PAYLOAD, 1 << 40))),
        "isolated", "reaches past"),
    "target-without-end": one(single((b"bad", h.entry(0o120777) + h.item(h.SYMLINK, b"good"))),
                              "isolated", "SYMLINK"),
    # hard links
    "link-to-link": one(chained_link(), "isolated", "hard link"),
    "link-before-archive": one(single((b"bad", h.hardlink(1 << 40, b"good"))), "isolated",
                               "reaches back"),
    "link-through-parent": one(single((b"bad", h.hardlink(82, b"../good"))), "isolated", '".."'),
    # contents of split archives
    "ref-outside-payload": two(split((b"bad", h.file_ref(36, 1 << 40))), "lazy",
                               "inside the payload stream"),
    "ref-of-another-size": two(split((b"bad", h.file_ref(36, 3))), "lazy", "PAYLOAD"),
    "ref-to-no-header": two(split((b"bad", h.file_ref(17, 4))), "lazy", "PAYLOAD"),
    "truncated-payload": two(split((b"bad", h.file_ref(36, 4))), "lazy",
                             "inside the payload stream", payload=PAYLOADS[:-1]),
    "content-in-metadata": two(split((b"bad", BAD)), "isolated", "PAYLOAD"),
}


def files():
    """{file name: bytes}"""
    return {name + suffix: data for name, fault in FAULTS.items()
            for suffix, data in fault.files.items()}


def main():
    FOLDER.mkdir(exist_ok=True)
    for name, data in files().items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    sys.exit(main())
