"""How an answer is taken apart on our own connections: as PyMySQL does, with a third of its work for each row.

The protocol's column definitions, rows and their end (MySQL internals, "Text Resultset"). What begins an answer, errors
included, is read by PyMySQL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pymysql
from pymysql.connections import MAX_PACKET_LEN, MySQLResult
from pymysql.constants import CR, SERVER_STATUS
from pymysql.protocol import MysqlPacket

from .values import DECODERS

_EOF, _ERROR = 0xFE, 0xFF

# A row may begin as that does which ends them, and is longer then.
_MAX_EOF = 9

# What stands for a length: no value, or a number of so many bytes behind it.
_NULL = 251
_WIDTHS = {252: 2, 253: 3, 254: 8}


class Column(NamedTuple):
    """What is needed of a column's definition."""

    type_code: int
    flags: int


class _AnyPacket(MysqlPacket):
    """A packet that nobody raises before it is noted that it was read."""

    __slots__ = ()

    def is_error_packet(self) -> bool:
        return False


class Answer(MySQLResult):
    """An answer whose rows are read here; nothing of it is described for cursors."""

    unbuffered_active = False  # also where it was not begun
    # It is the server's error, behind which nothing comes.
    is_error = False

    def read(self) -> None:
        connection: Any = self.connection
        try:
            packet = connection._read_packet(_AnyPacket)  # noqa: SLF001
            if packet.get_all_data()[0] == _ERROR:
                self.is_error = True
                packet.raise_for_error()
            elif packet.is_ok_packet():
                self._read_ok_packet(packet)  # type: ignore[attr-defined]
            elif packet.is_load_local_packet():
                self._read_load_local_packet(packet)  # type: ignore[attr-defined]
            else:
                self._read_result_packet(packet)
        finally:
            self.connection = None

    def _read_result_packet(self, first_packet: Any) -> None:
        self.field_count = first_packet.read_length_encoded_integer()
        # Behind the type are the flags, two bytes, and three more.
        self.fields = [Column(data[-6], data[-5] | data[-4] << 8) for data in self._packets()]
        decoders = [DECODERS[column.type_code] for column in self.fields]
        rows = []
        for data in self._packets():
            row: list[Any] = []
            end = 0
            for decode in decoders:
                start = end + 1
                length = data[end]
                if length == _NULL:
                    row.append(None)
                    end = start
                    continue
                if length > _NULL:
                    start += _WIDTHS[length]
                    length = int.from_bytes(data[end + 1 : start], "little")
                end = start + length
                row.append(decode(data[start:end]))
            if end > len(data):
                raise IndexError("a row ends before its values")
            rows.append(tuple(row))
        self.affected_rows = len(rows)
        self.rows = tuple(rows)

    def _packets(self) -> Iterator[bytes]:
        """Read packets up to the one that ends them; a connection that breaks off, or is left, is given up."""
        connection: Any = self.connection
        read = connection._rfile.read  # noqa: SLF001
        turn = connection._next_seq_id  # noqa: SLF001
        try:
            while True:
                data, turn = _next_packet(read, turn)
                if data[0] >= _EOF:
                    if data[0] == _ERROR:
                        self.is_error = True
                        MysqlPacket(data, connection.encoding).raise_for_error()
                    if len(data) < _MAX_EOF:
                        break
                yield data
        except OSError as exc:
            connection._force_close()  # noqa: SLF001
            # In PyMySQL's words.
            what = f"Lost connection to MySQL server during query ({exc})"
            raise pymysql.OperationalError(CR.CR_SERVER_LOST, what) from exc
        except BaseException:
            if not self.is_error:
                connection._force_close()  # noqa: SLF001
            raise
        connection._next_seq_id = turn  # noqa: SLF001
        self.warning_count = data[1] | data[2] << 8
        self.has_next = bool(data[3] & SERVER_STATUS.SERVER_MORE_RESULTS_EXISTS)


def _next_packet(read: Callable[[int], bytes], turn: int) -> tuple[bytes, int]:
    """Read one packet, whose turn it is, or several that are one; return the next turn too."""
    data = b""
    size = MAX_PACKET_LEN
    while size == MAX_PACKET_LEN:
        header = read(4)
        size = int.from_bytes(header[:3], "little")
        part = read(size)
        if len(header) < 4 or len(part) < size or header[3] != turn:
            raise ConnectionResetError("it broke off")
        turn = (turn + 1) % 256
        data = data + part if data else part
    return data, turn
