# SPDX-License-Identifier: Apache-2.0
"""The zstd library, as much of it as blobs need: whole buffers, bounded."""

import ctypes

_lib = ctypes.CDLL("libzstd.so.1")
for _name in ("ZSTD_compress", "ZSTD_decompress", "ZSTD_findFrameCompressedSize"):
    getattr(_lib, _name).restype = ctypes.c_size_t
_lib.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
_lib.ZSTD_isError.argtypes = [ctypes.c_size_t]
_CONTENT_SIZE_ERRORS = (2**64 - 1, 2**64 - 2)


def _address(data, at=0):
    return ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value + at


def compress(data, level=1):
    """One frame no longer than `data`, or None."""
    data = bytes(data)
    out = bytearray(len(data))
    if not out:
        return None
    n = _lib.ZSTD_compress((ctypes.c_char * len(out)).from_buffer(out), ctypes.c_size_t(len(out)),
                           ctypes.c_void_p(_address(data)), ctypes.c_size_t(len(data)), level)
    return None if _lib.ZSTD_isError(n) else bytes(memoryview(out)[:n])


def _content_size(data, size_max):
    """What all frames together hold, or the bound when one does not say."""
    at = total = 0
    while at < len(data):
        rest = ctypes.c_size_t(len(data) - at)
        place = ctypes.c_void_p(_address(data, at))
        size = _lib.ZSTD_getFrameContentSize(place, rest)
        frame = _lib.ZSTD_findFrameCompressedSize(place, rest)
        if _lib.ZSTD_isError(frame):
            raise ValueError("not zstd")
        if size in _CONTENT_SIZE_ERRORS:
            return size_max
        at, total = at + frame, total + size
    return total


def decompress(data, size_max):
    """Any number of frames behind each other; ValueError when they hold more than `size_max`."""
    data = bytes(data)
    size = _content_size(data, size_max)
    if size > size_max:
        raise ValueError("decompresses to too much")
    out = bytearray(size + 1)
    n = _lib.ZSTD_decompress((ctypes.c_char * len(out)).from_buffer(out), ctypes.c_size_t(size),
                             ctypes.c_void_p(_address(data)), ctypes.c_size_t(len(data)))
    if _lib.ZSTD_isError(n):
        raise ValueError("damaged zstd data")
    return bytes(memoryview(out)[:n])
