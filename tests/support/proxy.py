"""A TCP proxy on loopback that counts round trips, delays, and cuts at a chosen packet.

A packet is what one read gives, at most 64 KiB. A round trip begins when the client sends after the
server did, or first: what a server sends of its own accord, as MySQL's greeting, costs none.
"""

import contextlib
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from support.servers import with_parts

When = Literal["before", "half", "after"]
_CHUNK = 65536
_CONNECT_SECONDS = 10.0


class Proxy:
    """Stands in front of the server of `url`; clients use `proxy.url`."""

    def __init__(self, url: str, *, delay_to_server: float = 0.0, delay_to_client: float = 0.0) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._delays = (delay_to_server, delay_to_client)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = with_parts(url, host="127.0.0.1", port=self.port)
        self.round_trips = 0
        self.connections = 0
        self.was_cut = False
        self.refusing = False  # True: new connections are closed at once
        self.dripping = False  # True: what the server sends arrives a byte at a time
        self.drip_seconds = 1.0  # from one byte to the next
        self.pace = 0.0  # seconds from one of the server's packets to the next
        self._lock = threading.Lock()
        self._cut: _Cut | None = None
        self._garble: Callable[[bytes], bytes] | None = None
        self._flowing = threading.Event()
        self._released = threading.Event()
        self._holding = False
        self._flowing.set()
        self._closed = False
        self._links: list[_Link] = []

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.resume()
        self.drop()

    @contextlib.contextmanager
    def counting(self) -> Iterator["Count"]:
        """Count what happens inside the block."""
        count = Count(self, self.round_trips, self.connections)
        try:
            yield count
        finally:
            count.stop()

    def cut(self, *, packet: int = 1, when: When = "before", reset: bool = False) -> None:
        """Cut the connection at that client packet from now on, once; 1 is the next.

        "before": the server receives nothing of it. "half": its first half. "after": all of it; the
        server finishes what it was asked for, and its answer is thrown away. With `reset` the client
        sees a reset, else an orderly end.
        """
        with self._lock:
            self.was_cut = False
            self._cut = _Cut(packet, when, reset)

    def garble(self, garble: Callable[[bytes], bytes]) -> None:
        """Let the client have something else for what the server says next, once."""
        self._garble = garble

    def drop(self, *, reset: bool = False) -> None:
        """Cut all connections now."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.close(reset=reset)

    def pause(self) -> None:
        """Forward nothing, either way, until resume(): a hang."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def hold(self) -> None:
        """Keep the next client packet, and deliver it at release(), whatever has become of its sender."""
        self._released.clear()
        self._holding = True

    def release(self) -> None:
        """Deliver what was held."""
        self._released.set()

    def forget(self) -> None:
        """Forward nothing more on the connections of now, without a word to either end; new ones are well."""
        with self._lock:
            for link in self._links:
                link.forgotten = True

    # --- what the pumps ask

    def _wait_if_held(self) -> None:
        with self._lock:
            held, self._holding = self._holding, False
        if held:
            self._released.wait()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                if self.refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(self._target, timeout=_CONNECT_SECONDS)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            link = _Link(self, client, server)
            with self._lock:
                self._links = [other for other in self._links if not other.closed]
                self._links.append(link)
            link.start(*self._delays)

    def _client_packet(self, link: "_Link") -> "_Cut | None":
        """Count a packet of the client's; the cut, if it is to happen here."""
        with self._lock:
            if not link.client_spoke_last:
                self.round_trips += 1
                link.client_spoke_last = True
            cut = self._cut
            if cut is None:
                return None
            cut.packet -= 1
            if cut.packet > 0:
                return None
            self._cut = None
            self.was_cut = True
            return cut

    def _garbled(self, data: bytes) -> bytes:
        with self._lock:
            garble, self._garble = self._garble, None
        return garble(data) if garble else data

    def _server_packet(self, link: "_Link") -> None:
        with self._lock:
            link.client_spoke_last = False


class Count:
    """Round trips and new connections since a moment; frozen when its block ends."""

    def __init__(self, proxy: Proxy, round_trips: int, connections: int) -> None:
        self._proxy = proxy
        self._start = (round_trips, connections)
        self._end: tuple[int, int] | None = None

    def stop(self) -> None:
        self._end = (self._proxy.round_trips, self._proxy.connections)

    @property
    def round_trips(self) -> int:
        return (self._end[0] if self._end else self._proxy.round_trips) - self._start[0]

    @property
    def connections(self) -> int:
        return (self._end[1] if self._end else self._proxy.connections) - self._start[1]


@dataclass
class _Cut:
    packet: int
    when: When
    reset: bool


class _Link:
    """One client's connection and the proxy's own to the server."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self.client_spoke_last = False
        self.closed = False
        self.forgotten = False
        self._proxy = proxy
        self._client = client
        self._server = server
        self._silenced: _Cut | None = None
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self, delay_to_server: float, delay_to_client: float) -> None:
        for pump, end, delay in (
            (self._pump_to_server, self._server, delay_to_server),
            (self._pump_to_client, self._client, delay_to_client),
        ):
            _thread(pump, _Sender(end, delay))

    def _pump_to_server(self, sender: "_Sender") -> None:
        with contextlib.suppress(OSError):
            while data := self._client.recv(_CHUNK):
                self._proxy._wait_if_held()
                self._proxy._flowing.wait()
                if self.forgotten:
                    continue
                cut = self._proxy._client_packet(self)
                if cut is None:
                    sender.send(data)
                    continue
                if cut.when == "after":
                    # The end of input behind the packet: the server works it off, answers, and closes,
                    # which ends the other pump; only then does the client see its connection cut.
                    self._silenced = cut
                    sender.send(data)
                    break
                if cut.when == "half":
                    self._server.sendall(data[: len(data) // 2])
                self.close(reset=cut.reset)
                return
        sender.finish()

    def _pump_to_client(self, sender: "_Sender") -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(_CHUNK):
                self._proxy._flowing.wait()
                if self._silenced is not None or self.forgotten:
                    continue
                # Noted before the client can see it, so that its next packet is counted as a turn.
                self._proxy._server_packet(self)
                data = self._proxy._garbled(data)
                while self._proxy.dripping and len(data) > 1:
                    sender.send(data[:1])
                    data = data[1:]
                    time.sleep(self._proxy.drip_seconds)
                if self._proxy.pace:
                    time.sleep(self._proxy.pace)
                sender.send(data)
        if self._silenced is not None:
            self.close(reset=self._silenced.reset)
        sender.finish()

    def close(self, *, reset: bool) -> None:
        self.closed = True
        for end in (self._server, self._client):
            with contextlib.suppress(OSError):
                if reset:
                    # No lingering makes close() send a reset; SHUT_RD wakes a reader and sends nothing.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.shutdown(socket.SHUT_RD)
                else:
                    end.shutdown(socket.SHUT_RDWR)
            end.close()


class _Sender:
    """One direction's output: at once, or each packet a fixed time after it arrived."""

    def __init__(self, end: socket.socket, delay: float) -> None:
        self._end = end
        self._delay = delay
        self._waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        if delay:
            _thread(self._send_later)

    def send(self, data: bytes) -> None:
        if self._delay:
            self._waiting.put((time.monotonic() + self._delay, data))
        else:
            self._end.sendall(data)

    def finish(self) -> None:
        """End the output behind what was sent."""
        if self._delay:
            self._waiting.put((time.monotonic() + self._delay, b""))
        else:
            self._shut()

    def _send_later(self) -> None:
        data = b"first"
        while data:
            due, data = self._waiting.get()
            time.sleep(max(0.0, due - time.monotonic()))
            with contextlib.suppress(OSError):
                self._end.sendall(data)
        self._shut()

    def _shut(self) -> None:
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)


def _thread(target: object, *args: object) -> None:
    threading.Thread(target=target, args=args, name="proxy-pump", daemon=True).start()  # type: ignore[arg-type]
