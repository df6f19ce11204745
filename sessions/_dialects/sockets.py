"""What is asked of a socket behind the driver's back."""

from __future__ import annotations

import io
import os
import select
import socket
import struct
from collections.abc import Callable
from time import monotonic
from typing import Any

from sessions._reentry import suppress_own

# A flow that is used so often no middlebox forgets, and one that was lost is noticed while it is idle.
KEEPALIVE_SECONDS = 60
KEEPALIVE_INTERVAL_SECONDS = 10
KEEPALIVE_PROBES = 3
# How long the other side's kernel may leave unacknowledged what we sent; a busy server's answers at once.
UNACKNOWLEDGED_SECONDS = 15

# Names differ: macOS calls the first one TCP_KEEPALIVE.
_TCP_OPTIONS = {
    "TCP_KEEPIDLE": KEEPALIVE_SECONDS,
    "TCP_KEEPALIVE": KEEPALIVE_SECONDS,
    "TCP_KEEPINTVL": KEEPALIVE_INTERVAL_SECONDS,
    "TCP_KEEPCNT": KEEPALIVE_PROBES,
    "TCP_USER_TIMEOUT": UNACKNOWLEDGED_SECONDS * 1000,
}

# An answer that has taken its time is read on as long as it flows, so many bytes in a second, and for a second more.
FLOW = 256 * 1024
_PAUSE_SECONDS = 0.1
_GRACE_SECONDS = 1.0
_PEEK = 64 * 1024
_SILENT_SECONDS = 1.0


def is_readable(fileno: int, seconds: float = 0.0) -> bool:
    """Tell whether a socket has something to read, within seconds; when idle, that is the server's goodbye."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fileno, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    return bool(select.select([fileno], [], [], seconds)[0])


def waiting_bytes(fileno: int) -> int:
    """Return how much a socket has to read, up to a bound."""
    with suppress_own(OSError), socket.socket(fileno=os.dup(fileno)) as end:
        return len(end.recv(_PEEK, socket.MSG_PEEK))
    return 0


def forget_unsent(end: socket.socket) -> None:
    """Let close() reset the connection, so that the kernel does not go on sending what nobody waits for.

    A network that was gone for a while would deliver it after the outcome has been settled.
    """
    with suppress_own(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def keep_alive(end: socket.socket) -> None:
    """Let the kernel notice that a connection is dead, in use or idle, as far as this platform can."""
    if end.family == getattr(socket, "AF_UNIX", None):
        return
    with suppress_own(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS.items():
        if hasattr(socket, name):
            with suppress_own(OSError):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Deadline:
    """A moment of time.monotonic(), which what flows may overstep."""

    def __init__(self, seconds: float) -> None:
        self.restart(seconds)

    def restart(self, seconds: float) -> None:
        self._moment = monotonic() + seconds
        self._late = 0

    def note(self, count: int) -> None:
        """Count bytes that have arrived behind it."""
        self._late += count

    @property
    def is_over(self) -> bool:
        """Whether it has passed and what arrives since then does not flow."""
        flows = _GRACE_SECONDS + self._late / FLOW if self._late else 0.0
        return monotonic() >= self._moment + flows

    @property
    def passed(self) -> bool:
        return monotonic() >= self._moment

    @property
    def left(self) -> float:
        """The seconds until then, at least what an answer on its way takes."""
        return max(self._moment - monotonic(), _PAUSE_SECONDS)


class TimedReader(io.RawIOBase):
    """Reads from a socket up to a deadline; its own timeout would begin anew with each byte that drips in.

    on_silence is called, once, where nothing comes for a second.
    """

    def __init__(self, end: socket.socket, file: Any, deadline: Deadline) -> None:
        self._end = end
        self._file = file
        self._deadline = deadline
        self.on_silence: Callable[[], object] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.on_silence is not None and self._is_silent():
            called, self.on_silence = self.on_silence, None
            called()
        late = self._deadline.passed
        usual, left = self._end.gettimeout(), self._deadline.left
        # Seldom: each settimeout() lets other threads run, and may have to wait for them.
        shorten = usual is not None and left < usual - _PAUSE_SECONDS
        if shorten:
            self._end.settimeout(left)
        count: int | None = self._file.readinto(buffer)
        if shorten:
            self._end.settimeout(usual)
        if late:
            self._deadline.note(count or 0)
            if self._deadline.is_over:
                raise TimeoutError("timed out")  # as the socket's own
        return count

    def _is_silent(self) -> bool:
        pending = getattr(self._end, "pending", None)  # of TLS
        return not (pending and pending()) and not is_readable(
            self._end.fileno(), min(_SILENT_SECONDS, self._deadline.left)
        )

    def close(self) -> None:
        self._file.close()
        super().close()
