"""A proxy that goes on cutting, at packets of a seed's choice."""

import random

from support.proxy import Proxy, _Cut, _Link


class CuttingProxy(Proxy):
    """Cuts a connection every few client packets, before, within or after the packet, when enraged."""

    def __init__(self, url: str, rng: random.Random, *, most_packets: int) -> None:
        super().__init__(url)
        self.cuts = 0
        self._rng = rng
        self._most_packets = most_packets
        self._left = 0

    def __enter__(self) -> "CuttingProxy":
        super().__enter__()
        return self

    def rage(self, cuts: int) -> None:
        """Cut so often, or until calm(). Not for ever: the waits between retries double."""
        self._left = cuts
        self._choose()

    def calm(self) -> None:
        with self._lock:
            self._left, self._cut = 0, None

    def _choose(self) -> None:
        self.cut(
            packet=self._rng.randint(1, self._most_packets),
            when=self._rng.choice(("before", "half", "after", "after")),
            reset=self._rng.random() < 0.5,
        )

    def _client_packet(self, link: _Link) -> _Cut | None:
        cut = super()._client_packet(link)
        if cut is not None:
            self.cuts += 1
            self._left -= 1
            if self._left > 0:
                self._choose()
        return cut
