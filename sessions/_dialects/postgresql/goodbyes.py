"""Whether the other side has closed a connection of the application while it was idle.

Nothing is sent to learn it. What else is read then, notices and notifications, psycopg keeps for whose it is.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from sessions._dialects.sockets import is_readable
from sessions._reentry import own

# How often there may be something to read: notices, the server's last words, and the end.
_LOOKS = 10


def check_not_closed(connection: psycopg.Connection[Any]) -> None:
    """Raise what the server, or libpq, says of a connection that was closed while it was idle, in no transaction."""
    if not _has_something_to_read(connection):
        return
    said = _LastWords()
    connection.add_notice_handler(said.hear)
    try:
        # Else it might be the answer that another thread waits for.
        with connection.lock:
            for _ in range(_LOOKS):
                if said.error is None and _has_something_to_read(connection):
                    connection.pgconn.consume_input()
                    connection.pgconn.is_busy()  # by which libpq reads them
    except own(psycopg.OperationalError) as exc:
        # Given up here, so that a pool does not lend it again.
        connection.close()
        raise said.error or exc from None
    finally:
        connection.remove_notice_handler(said.hear)
    if said.error is not None:
        connection.close()
        raise said.error


class _LastWords:
    """Hears why the server closes a connection, which libpq takes for a notice when nothing was asked."""

    error: psycopg.Error | None = None

    def hear(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if "FATAL" in (diagnostic.severity, diagnostic.severity_nonlocalized):
            try:
                kind = psycopg.errors.lookup(diagnostic.sqlstate or "")
            except KeyError:
                kind = psycopg.OperationalError
            # A copy, for the fields are libpq's of this moment.
            self.error = kind(diagnostic.message_primary or "", info=copy(diagnostic)._info)  # noqa: SLF001


def _has_something_to_read(connection: psycopg.Connection[Any]) -> bool:
    return connection.pgconn.transaction_status == TransactionStatus.IDLE and is_readable(connection.fileno())
