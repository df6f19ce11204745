"""A PostgreSQL server that refuses everybody with one error: for words that no server of ours can be brought to say."""

import socket
import struct
import threading


class OneAnswer:
    """Listens on loopback, counts who asks, and answers each with the same FATAL error."""

    def __init__(self, sqlstate: str, words: str, severity: str = "FATAL", *, before_tls: bool = False) -> None:
        fields = {b"S": severity, b"V": "FATAL", b"C": sqlstate, b"M": words, b"F": "auth.c", b"L": "1", b"R": "auth"}
        body = b"".join(key + value.encode() + b"\0" for key, value in fields.items()) + b"\0"
        self._error = b"E" + struct.pack("!I", len(body) + 4) + body
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._before_tls = before_tls
        self.asked = 0
        self.url = f"postgresql://app:secret@127.0.0.1:{self._listener.getsockname()[1]}/agents"

    def __enter__(self) -> "OneAnswer":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                self._answer(peer)

    def _answer(self, peer: socket.socket) -> None:
        while head := peer.recv(8):
            length, code = struct.unpack("!II", head)
            peer.recv(length - 8)
            if code >> 16 == 1234 and not self._before_tls:  # asks for TLS or GSS encryption
                peer.sendall(b"N")
                continue
            self.asked += 1
            peer.sendall(self._error)
            return
