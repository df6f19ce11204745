"""A connection of PyMySQL's with a time for each answer, its TLS context built once, and statements sent ahead."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any

import pymysql
from pymysql.constants import CLIENT, COMMAND, CR

from sessions._dialects.sockets import Deadline, TimedReader, forget_unsent, keep_alive
from sessions._reentry import own
from sessions._settings.tls import TLS, make_context

from .answers import Result, await_answers, read_answer, result_of
from .cluster import Server

# For the driver's default, which takes TLS where the server has it.
_OPPORTUNISTIC = make_context(TLS("require"))


# A packet of one byte, the first to be sent.
_PING = b"\1\0\0\0" + bytes([COMMAND.COM_PING])


class PacketConnection(pymysql.connections.Connection):
    """A connection that is ready after one round trip, with its TLS context built once."""

    packet_limit: int
    id_step: int
    multi_statements: bool
    server: Server
    requires_tls = False
    # Gives the password of now, where that may be another one by each connection.
    new_password: Callable[[], bytes] | None = None
    # What is to be sent together.
    _held: list[bytes] | None = None
    _sessions_awaited: list[Any] | None = None
    server_capabilities: int
    server_status: int
    _sock: socket.socket | None
    _reader: io.BufferedReader | None = None
    _read_timeout: float
    _write_timeout: float
    _next_seq_id: int
    _pinged = False
    # For connecting as a whole, then for each answer.
    _deadline: Deadline
    is_connecting = True

    @property
    def _rfile(self) -> io.BufferedReader | None:
        return self._reader

    @_rfile.setter
    def _rfile(self, file: Any) -> None:
        if file is not None and self._sock is not None:
            file = io.BufferedReader(TimedReader(self._sock, file.detach(), self._deadline))
        self._reader = file

    def connect(self, sock: socket.socket | None = None) -> None:
        self._deadline = Deadline(self._read_timeout)
        super().connect(sock)
        if self._sock is not None:
            keep_alive(self._sock)

    def _get_server_information(self) -> None:
        # Each address of a host gets the whole time: behind a dead one nothing of it would be left for the next.
        if self._deadline.passed:
            self._deadline.restart(self._read_timeout)
        super()._get_server_information()  # type: ignore[misc]

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        """Send nothing: it is said together with the rest (preparing.py)."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        self.requires_tls = isinstance(sslp, ssl.SSLContext)
        # PyMySQL would load the system's roots anew for each connection, and not use them.
        return sslp if self.requires_tls else _OPPORTUNISTIC

    def _request_authentication(self) -> None:
        # PyMySQL before 1.2 goes on in plain text, password included.
        if self.requires_tls and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server has no TLS, which is required")
        # Also what the TLS handshake waits for.
        self._write_timeout = self._deadline.left
        super()._request_authentication()  # type: ignore[misc]

    @property
    def takes_compounds(self) -> bool:
        """Whether a transaction is to travel as one statement, which is the quicker form: it has fewer answers."""
        return self.server.is_mariadb

    def start(self, statement_timeout: float) -> None:
        """End connecting: each answer now has this time."""
        self._read_timeout = self._write_timeout = statement_timeout
        self.is_connecting = False

    def send_ahead(self, statements: Sequence[str]) -> list[Result]:
        """Send each statement as a packet of its own, all before the first answer; raise the first error of all."""
        commands = [statement.encode(self.encoding) for statement in statements]
        await_answers(self, len(commands))
        self._held = []
        # The number of each first answer, which is higher behind a statement of several packets.
        turns: list[int] = []
        try:
            for command in commands:
                self._execute_command(COMMAND.COM_QUERY, command)  # type: ignore[attr-defined]
                turns.append(self._next_seq_id)
            packets = b"".join(self._held)
        finally:
            self._held = None
        self._write_bytes(packets)
        results: list[Result] = []
        error: pymysql.Error | None = None
        for self._next_seq_id in turns:
            try:
                read_answer(self)
                results.append(result_of(self))
            except own(pymysql.Error) as exc:
                error = error or exc
                if not self.open:
                    break
        if error is not None:
            raise error
        return results

    def _write_bytes(self, data: bytes) -> None:
        if self._held is None:
            super()._write_bytes(data)  # type: ignore[misc]
        else:
            self._held.append(data)

    def _read_query_result(self, unbuffered: bool = False) -> None:
        read_answer(self)

    def begin_answer(self) -> None:
        """Give the next answer its time; while connecting all have one together."""
        if not self.is_connecting:
            self._deadline.restart(self._read_timeout)

    def read_further_answer(self) -> None:
        """Read one more answer to what was sent as one packet, or the lack of it.

        A KILL QUERY that falls between two statements ends the packet without an error, and leaves its transaction
        open: the server is idle then, and nothing comes. So behind a second of silence a ping goes after it. Its
        answer, by its number, is none of the packet's.
        """
        if self._reader is not None:
            self._reader.raw.on_silence = self._ping  # type: ignore[attr-defined]  # a TimedReader
        try:
            read_answer(self)
        finally:
            if self._reader is not None:
                self._reader.raw.on_silence = None  # type: ignore[attr-defined]
        if self._pinged and self._sessions_awaited == [self._sock]:
            self._next_seq_id = 1
            self._read_ok_packet()  # type: ignore[attr-defined]
            self._pinged = False
            self._sessions_awaited.clear()

    def _ping(self) -> None:
        if not self._pinged and self._next_seq_id != 1 and self._sessions_awaited is not None:
            self._pinged = True
            self._sessions_awaited.append(self._sock)
            super()._write_bytes(_PING)  # type: ignore[misc]

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno() if self._sock else -1

    def _force_close(self) -> None:
        # After close() the goodbye is to arrive. Otherwise nothing is, once we have given up on the answer.
        if self._sock is not None and not self._closed:  # type: ignore[attr-defined]
            forget_unsent(self._sock)
        super()._force_close()  # type: ignore[misc]

    def drop(self) -> None:
        """Close the socket without a goodbye to the server."""
        self._force_close()

    def forget(self) -> None:
        """Close without the reader, whose lock a thread of the parent may hold for ever; it then counts as closed."""
        if self._sock is not None:
            if self._reader is not None:
                self._reader.raw.close()
            self._sock.close()
        self._rfile = self._sock = None
