"""A TCP proxy on loopback that cuts a connection when a statement is under way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Literal

When = Literal["before", "after"]

_CHUNK = 65_536
_CONNECT_SECONDS = 10.0


class Proxy:
    """Stands in front of servers; clients use the port of `ports` that stands in the place of theirs."""

    def __init__(self, servers: Sequence[tuple[str, int]]) -> None:
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in servers]
        self.ports: list[int] = [listener.getsockname()[1] for listener in self._listeners]
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._cut: When | None = None
        for listener, server in zip(self._listeners, servers, strict=True):
            _start(partial(self._accept, listener, server))

    def cut_next(self, when: When) -> None:
        """Cut the connection on which a client sends next, before the server has it, or before its answer."""
        with self._lock:
            self._cut = when

    def was_cut(self) -> bool:
        """Tell whether that has happened."""
        return self._cut is None

    def close(self) -> None:
        """End all connections."""
        for end in (*self._listeners, *self._ends):
            _end(end)

    def _accept(self, listener: socket.socket, target: tuple[str, int]) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(target, timeout=_CONNECT_SECONDS)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            self._ends += [client, server]
            answers = threading.Event()
            answers.set()
            _start(partial(self._to_server, client, server, answers))
            _start(partial(_to_client, client, server, answers))

    def _to_server(self, client: socket.socket, server: socket.socket, answers: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(_CHUNK):
                with self._lock:
                    cut, self._cut = self._cut, None
                if cut == "before":
                    _end(client)
                    break
                if cut == "after":
                    # The server works it off and closes, which ends the other direction, and only then the client's.
                    answers.clear()
                    server.sendall(data)
                    break
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)


def _to_client(client: socket.socket, server: socket.socket, answers: threading.Event) -> None:
    with suppress(OSError):
        while data := server.recv(_CHUNK):
            if answers.is_set():
                client.sendall(data)
    _end(client)
    server.close()


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _start(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="selftest-proxy", daemon=True).start()
