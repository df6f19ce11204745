"""What a dialect says about its connections: how they are opened, judged and given up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar

C = TypeVar("C")

# Where wrappers keep the driver's connection: SQLAlchemy's, DBUtils', and wrapt's proxies, as tracing tools have them.
_WRAPPED_AS = ("driver_connection", "_con", "__wrapped__")
# How many may be around one another. A bound, for of a mock each attribute is another mock.
_WRAPPERS = 4


class Connector(Protocol[C]):
    """Opens the connections of one backend."""

    max_connections: int | None  # more of them would not be the same database; None: as many as you like
    quiesce_at_fork: bool  # a connection in use during fork() would harm the database

    def open(self) -> C:
        """Connect; raise AttemptFailed when that fails."""

    def close(self, connection: C) -> None:
        """Close; never raises."""

    def is_alive(self, connection: C) -> bool:
        """Tell without a round trip whether an idle connection can be used."""

    def restore(self, connection: C, exc: BaseException) -> bool:
        """After a failed operation end its transaction; False when the connection must go."""

    def before_fork(self, idle: Iterator[C]) -> None:
        """Take and close idle ones, where a forked child could harm them; never raises."""

    def inherit(self, idle: Sequence[C], busy: Sequence[C | None]) -> None:
        """In a forked child: let go of the parent's connections so that the parent feels nothing.

        busy were in use, or (None) being opened, by threads that the child does not have. Never raises.
        """

    def release(self) -> None:
        """No connection is left: free what they shared; never raises."""


def unwrap(connection: Any) -> Any:
    """Return the driver's connection from inside what pools, tracing tools and Flask (LocalProxy) have around it.

    A proxy passes for one, by its __class__, until it is copied or given to a function of C's.
    """
    current = getattr(connection, "_get_current_object", None)
    if current is not None:
        connection = current()
    for name in _WRAPPED_AS * _WRAPPERS:
        connection = getattr(connection, name, None) or connection
    return connection
