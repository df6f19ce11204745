"""The items of a batch as one parameter: a text[] in PostgreSQL's binary form."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import psycopg

# The catalogue pg_type.
TEXT_OID = 25
TEXT_ARRAY_OID = 1009


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
