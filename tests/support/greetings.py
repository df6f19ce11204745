"""Servers that say which engine they are, and do nothing else: for engines that cannot be run here.

What they prove is that the words are recognised, and nothing about the engine.
"""

import itertools
import socket
import struct
from collections.abc import Mapping

from support.listener import Listener, startup

# Of the MySQL protocol: CLIENT_LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION,
# MULTI_STATEMENTS, MULTI_RESULTS, PLUGIN_AUTH.
_CAPABILITIES = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x10000 | 0x20000 | 0x80000
_AUTOCOMMIT, _MORE_RESULTS = 0x2, 0x8
_LONGLONG, _VAR_STRING = 0x08, 0xFD


class Greeting(Listener):
    """Lets everybody in with the greeting."""

    dialect: str

    def __init__(self) -> None:
        super().__init__()
        self.url = f"{self.dialect}://app:secret@127.0.0.1:{self.port}/agents"


class PostgresGreeting(Greeting):
    """Reports parameters, as a PostgreSQL server does behind the login, and hangs up at the first statement."""

    dialect = "postgresql"

    def __init__(self, parameters: Mapping[str, str]) -> None:
        super().__init__()
        reported = {"client_encoding": "UTF8", "standard_conforming_strings": "on", **parameters}
        self._hello = _message(b"R", struct.pack("!I", 0))
        for name, value in reported.items():
            self._hello += _message(b"S", f"{name}\0{value}\0".encode())
        self._hello += _message(b"K", struct.pack("!II", 4711, 1)) + _message(b"Z", b"I")

    def talk(self, peer: socket.socket) -> None:
        if startup(peer):
            self.asked += 1
            peer.sendall(self._hello)
            peer.recv(65536)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


class MySQLGreeting(Greeting):
    """Greets with a version, answers what is asked of a new connection, and hangs up behind it."""

    dialect = "mysql"

    def __init__(self, version: str, comment: str) -> None:
        super().__init__()
        self._version = version.encode()
        self._comment = comment.encode()

    def talk(self, peer: socket.socket) -> None:
        salt = b"s" * 20
        low, high = struct.pack("<I", _CAPABILITIES)[:2], struct.pack("<I", _CAPABILITIES)[2:]
        hello = b"\x0a" + self._version + b"\0" + struct.pack("<I", 4711) + salt[:8] + b"\0" + low
        hello += b"\x2d" + struct.pack("<H", _AUTOCOMMIT) + high + b"\x15" + b"\0" * 10 + salt[8:] + b"\0"
        _send(peer, itertools.count(), hello + b"mysql_native_password\0")
        if not peer.recv(65536):
            return
        self.asked += 1
        _send(peer, itertools.count(2), _ok(0))
        statements = peer.recv(65536)
        if statements[4:5] != b"\x03":
            return
        numbers = itertools.count(1)
        _send(peer, numbers, *[_ok(_MORE_RESULTS)] * statements.count(b"; "))
        about = (self._version, b"db.example.com", b"3306", b"1", b"0", b"0", b"0", b"0")
        values = (b"67108864", b"1", b"0", self._comment, *about)
        kinds = [_LONGLONG if value.isdigit() else _VAR_STRING for value in values]
        end = b"\xfe\0\0" + struct.pack("<H", _AUTOCOMMIT)
        _send(peer, numbers, bytes([len(values)]), *map(_column, kinds), end, b"".join(map(_text, values)), end)
        peer.recv(65536)


def _send(peer: socket.socket, numbers: "itertools.count[int]", *bodies: bytes) -> None:
    peer.sendall(b"".join(struct.pack("<I", len(body))[:3] + bytes([next(numbers)]) + body for body in bodies))


def _ok(flags: int) -> bytes:
    return b"\0\0\0" + struct.pack("<H", _AUTOCOMMIT | flags) + b"\0\0"


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def _column(kind: int) -> bytes:
    names = _text(b"def") + _text(b"") * 3 + _text(b"value") + _text(b"")
    return names + b"\x0c" + struct.pack("<HIBHB", 45, 256, kind, 0, 0) + b"\0\0"
