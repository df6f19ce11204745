"""A PostgreSQL server that refuses everybody with one error."""

import socket
import struct

from support.listener import Listener, startup


class OneAnswer(Listener):
    """Answers each with the same FATAL error."""

    def __init__(self, sqlstate: str, words: str, severity: str = "FATAL", *, before_tls: bool = False) -> None:
        super().__init__()
        fields = {b"S": severity, b"V": "FATAL", b"C": sqlstate, b"M": words, b"F": "auth.c", b"L": "1", b"R": "auth"}
        body = b"".join(key + value.encode() + b"\0" for key, value in fields.items()) + b"\0"
        self._error = b"E" + struct.pack("!I", len(body) + 4) + body
        self._before_tls = before_tls
        self.url = f"postgresql://app:secret@127.0.0.1:{self.port}/agents"

    def talk(self, peer: socket.socket) -> None:
        if startup(peer, tls_is_refused=not self._before_tls):
            self.asked += 1
            peer.sendall(self._error)
