"""The items of a batch as one parameter: a text[] in PostgreSQL's binary form."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

# The catalogue pg_type.
TEXT_OID = 25
TEXT_ARRAY_OID = 1009

# A larger batch, in characters, is a transaction of several statements: libpq and the server hold each of
# them as a whole, and take none above 1 GB.
_STATEMENT = 16 * 1024 * 1024


class TextArray(bytearray):
    """A text[] in PostgreSQL's binary form, which psycopg makes of a list in several times as long."""

    def __init__(self, texts: Sequence[str], encoding: str = "utf-8") -> None:
        # Dimensions, no NULL among them, their type; then elements and first subscript of the one dimension.
        super().__init__(struct.pack("!5I", 1, 0, TEXT_OID, len(texts), 1))
        self.length = len(texts)
        for text in texts:
            element = text.encode(encoding)
            self += len(element).to_bytes(4, "big")
            self += element


class TextArrayDumper(psycopg.adapt.Dumper):
    """Sends a TextArray as it is."""

    format = psycopg.pq.Format.BINARY
    oid = TEXT_ARRAY_OID

    def dump(self, obj: TextArray) -> TextArray:
        return obj


def array_of(connection: psycopg.Connection[Any], texts: Sequence[str]) -> TextArray:
    """Return texts as one parameter, in the connection's encoding."""
    return TextArray(texts, connection.info.encoding)


def is_large(texts: Sequence[str]) -> bool:
    """Tell whether a batch takes several statements."""
    return sum(map(len, texts)) > _STATEMENT


def parts_of(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut a batch into parts of at most a statement's size; an item that is larger is a part of its own."""
    start = room = 0
    for end, text in enumerate(texts):
        room -= len(text)
        if room < 0:
            if end > start:
                yield texts[start:end]
            start, room = end, _STATEMENT - len(text)
    if start < len(texts):
        yield texts[start:]
