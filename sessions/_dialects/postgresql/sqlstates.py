"""Connect so that a refusal tells its SQLSTATE.

While connecting libpq gives an error as text alone, in the server's language, and has the SQLSTATE in it only where it
is asked to be verbose: between the start of a connection and its end, which psycopg does in one go.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Generator
from functools import cache
from time import monotonic
from typing import Any

import psycopg
from psycopg import pq
from psycopg.waiting import Ready, Wait

# PGVerbosity of libpq-fe.h.
_DEFAULT, _VERBOSE = 1, 2

# The last line of a verbose error: where in the server's source it was raised.
_SOURCE = re.compile(r"\n[^\n]*:\s+\w*, \w+\.\w+:\d+(?=\n|$)")


class SQLStateConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection; when none can be made, the error has the server's SQLSTATE in its text."""

    # Not in psycopg's documentation. Where it is not called, the text is without.
    @classmethod
    def _connect_gen(cls, conninfo: str = "", *, timeout: float = 0.0) -> Any:
        return _connect(cls, conninfo, timeout)


def _connect(
    make: Callable[[pq.abc.PGconn], psycopg.Connection[Any]], conninfo: str, timeout: float
) -> Generator[tuple[int, Wait], Ready, psycopg.Connection[Any]]:
    """Connect as psycopg does; timeout is how psycopg before 3.3 says when to give up, 0 for never."""
    deadline = monotonic() + timeout
    pgconn: Any = pq.PGconn.connect_start(conninfo.encode())
    set_verbosity = _set_verbosity()
    set_verbosity(pgconn.pgconn_ptr, _VERBOSE)
    while pgconn.status != pq.ConnStatus.BAD:
        polled = pgconn.connect_poll()
        if polled == pq.PollingStatus.OK:
            set_verbosity(pgconn.pgconn_ptr, _DEFAULT)
            pgconn.nonblocking = 1
            return make(pgconn)
        if polled == pq.PollingStatus.FAILED:
            break
        wanted = Wait.R if polled == pq.PollingStatus.READING else Wait.W
        while not (yield pgconn.socket, wanted):
            if timeout and monotonic() > deadline:
                raise psycopg.errors.ConnectionTimeout("connection timeout expired")
    text = pgconn.get_error_message()
    pgconn.finish()
    raise psycopg.OperationalError(f"connection failed: {_SOURCE.sub('', text)}")


@cache
def _set_verbosity() -> Callable[[int, int], object]:
    """Return libpq's PQsetErrorVerbosity, which psycopg does not wrap; where it is not found, one that does nothing."""
    module = sys.modules[pq.PGconn.__module__]
    try:
        # The compiled modules bring libpq with them; the other one finds the system's.
        library = ctypes.CDLL(pq.misc.find_libpq_full_path() if pq.__impl__ == "python" else module.__file__)
        function = library.PQsetErrorVerbosity
    except (OSError, AttributeError):
        return lambda *_: None
    function.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return function
