"""What is asked of a socket behind the driver's back."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from contextlib import suppress


def is_readable(fileno: int) -> bool:
    """Tell whether a socket has something to read; when idle, that is the server's goodbye."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fileno, select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([fileno], [], [], 0)[0])


def forget_unsent(end: socket.socket) -> None:
    """Let close() reset the connection, so that the kernel does not go on sending what nobody waits for.

    A network that was gone for a while would deliver it after the outcome has been settled.
    """
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def raised_by_a_handler(exc: BaseException, *driver_files: str) -> bool:
    """Tell whether a signal handler has raised an exception, and not the socket or who uses it."""
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    own = (socket.__file__, ssl.__file__, *driver_files)
    return traceback is not None and traceback.tb_frame.f_code.co_filename not in own
