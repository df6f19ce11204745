"""What an attacker on the network sees and does.

`Wire` sits between client and server, keeps what the client sends, and can pretend that
the server has no TLS. `Impostor` is a server of its own that asks for the clear password.
"""

from __future__ import annotations

import contextlib
import select
import socket
import socketserver
import ssl
import struct
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tls.authority import Identity

if TYPE_CHECKING:
    from typing import Self

# PostgreSQL manual, "Message Formats"
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_CLEAR_PASSWORD = b"R" + struct.pack("!ii", 8, 3)
# MySQL internals manual, "Capabilities Flags"
_CLIENT_SSL = 0x0800
_CAPABILITIES = 0x000FF7FF | _CLIENT_SSL


class _Listener(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Accepts on a loopback port, one thread per connection; leaving the context ends and joins all."""

    def __init__(self, address: Any = ("127.0.0.1", 0)) -> None:
        super().__init__(address, socketserver.BaseRequestHandler)
        self.sent = b""
        self.accepted = 0
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.accepted += 1
        request.settimeout(10)
        with contextlib.suppress(OSError):
            self._serve(request)

    def _serve(self, client: socket.socket) -> None:
        raise NotImplementedError


class Wire(_Listener):
    """A proxy to a server; `sent` is all that clients sent. With strip, it hides the server's TLS."""

    def __init__(self, dialect: str, port: int, *, strip: bool = False) -> None:
        super().__init__()
        self._dialect, self._target, self._strip = dialect, port, strip

    def _serve(self, client: socket.socket) -> None:
        with socket.create_connection(("localhost", self._target), 10) as server:
            if self._strip and self._dialect == "postgresql":
                self.sent += client.recv(len(SSL_REQUEST))
                client.sendall(b"N")
            elif self._strip:
                client.sendall(_without_tls(server.recv(4096)))
            self._forward(client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([client, server], [], [], 10)
            for source in ready:
                data = source.recv(65536)
                if not data:
                    return
                if source is client:
                    self.sent += data
                (server if source is client else client).sendall(data)
            if not ready:
                return


class SocketListener(_Listener):
    """Listens on a Unix socket and answers nothing; `sent` is the first that it is told."""

    address_family = socket.AF_UNIX

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))

    def _serve(self, client: socket.socket) -> None:
        self.sent += client.recv(4096)


class Leaver(_Listener):
    """A server that ends each connection in the middle of the handshake, as one that restarts does."""

    def __init__(self, dialect: str) -> None:
        super().__init__()
        self._dialect = dialect

    def _serve(self, client: socket.socket) -> None:
        _offer_tls(self._dialect, client)
        client.recv(1)  # the first of the handshake


class Impostor(_Listener):
    """Claims to be the server and asks for the password; `sent` is what it gets to read of the client's words."""

    def __init__(self, dialect: str, identity: Identity, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        super().__init__()
        self._dialect = dialect
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.maximum_version = newest
        with tempfile.TemporaryDirectory() as folder:
            pem = Path(folder, "impostor.pem")
            pem.write_text(identity.cert + identity.key)
            self._context.load_cert_chain(pem)

    def allow_from(self, oldest: ssl.TLSVersion) -> None:
        self._context.minimum_version = oldest

    def _serve(self, client: socket.socket) -> None:
        _offer_tls(self._dialect, client)
        with self._context.wrap_socket(client, server_side=True) as wrapped:
            self.sent += wrapped.recv(4096)
            if self._dialect == "postgresql":
                wrapped.sendall(_CLEAR_PASSWORD)
                self.sent += wrapped.recv(4096)


def _offer_tls(dialect: str, client: socket.socket) -> None:
    if dialect == "postgresql":
        client.recv(len(SSL_REQUEST))
        client.sendall(b"S")
    else:
        client.sendall(_greeting())
        client.recv(36)  # the SSL request: a packet of 32 bytes without a user name


def _without_tls(greeting: bytes) -> bytes:
    """Clear CLIENT_SSL in a MySQL greeting (MySQL internals manual, "Protocol::HandshakeV10")."""
    at = greeting.index(b"\0", 5) + 1 + 4 + 8 + 1
    (flags,) = struct.unpack_from("<H", greeting, at)
    return greeting[:at] + struct.pack("<H", flags & ~_CLIENT_SSL) + greeting[at + 2 :]


def _greeting() -> bytes:
    salt = b"12345678901234567890"
    body = b"\x0a9.7.0\0" + struct.pack("<i", 1) + salt[:8] + b"\0"
    body += struct.pack("<HBHHB", _CAPABILITIES & 0xFFFF, 255, 2, _CAPABILITIES >> 16, len(salt) + 1) + bytes(10)
    # Over TLS this plug-in has the client send its password as it is.
    body += salt[8:] + b"\0" + b"sha256_password\0"
    return struct.pack("<I", len(body)) + body
