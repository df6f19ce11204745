"""Tell what an image is by its first bytes, whatever it is called.

SVG is none: it is a document, which may hold scripts and addresses.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import NamedTuple

from .terminal import size

# A small file can claim any area; a browser would make room for all of it.
_MOST_PIXELS = 50_000_000


class Image(NamedTuple):
    """An image that a browser may be given."""

    kind: str  # png, jpeg, gif, webp
    data: bytes
    width: int
    height: int

    @property
    def words(self) -> str:
        return f"{self.kind.upper()}, {self.width} \N{MULTIPLICATION SIGN} {self.height}, {size(len(self.data))}"

    @property
    def url(self) -> str:
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode('ascii')}"


def decoded(text: str) -> Image | None:
    """Read an image in base64; None where it is none that we know, or has no size."""
    try:
        data = base64.b64decode(text)
        kind, width, height = _look(data)
    except (binascii.Error, ValueError, IndexError, struct.error):
        return None
    return Image(kind, data, width, height) if 0 < width * height <= _MOST_PIXELS else None


def _look(data: bytes) -> tuple[str, int, int]:
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
        return "png", *struct.unpack_from(">II", data, 16)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return "gif", *struct.unpack_from("<HH", data, 6)
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg", *_size_of_jpeg(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp", *_size_of_webp(data)
    raise ValueError("no image that we know")


def _size_of_jpeg(data: bytes) -> tuple[int, int]:
    # ITU T.81, B.1.1.3: the size stands in the frame header, which is one of SOF0 to SOF15 but DHT, JPG and DAC.
    at = 2
    while True:
        marker, length = struct.unpack_from(">HH", data, at)
        if 0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        if marker < 0xFF00:
            raise ValueError("no marker")
        at += 2 + length


def _size_of_webp(data: bytes) -> tuple[int, int]:
    # RFC 9649, 2.5 to 2.7.
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF
