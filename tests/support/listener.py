"""Servers of a few lines: for words that no server of ours can be brought to say."""

import socket
import struct
import threading
from contextlib import suppress
from typing import Self


class Listener:
    """Listens on loopback and talks with one peer after the other."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, suppress(OSError):
                self.talk(peer)

    def talk(self, peer: socket.socket) -> None:
        """Say what there is to say to one peer; asked counts those who came so far."""
        raise NotImplementedError


def startup(peer: socket.socket, *, tls_is_refused: bool = True) -> bool:
    """Read what a client of PostgreSQL begins with, without TLS; False when it goes away."""
    while head := peer.recv(8):
        length, code = struct.unpack("!II", head)
        peer.recv(length - 8)
        if code >> 16 != 1234 or not tls_is_refused:
            return True
        peer.sendall(b"N")  # it asks for TLS or GSS encryption
    return False
