"""Whose turn it is on a connection of the application, and whose it is at all."""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakValueDictionary

from sessions._reentry import Lock
from sessions.errors import ClosedError

from .fork import process_lock


def check_owner(process: int, what: str, remedy: str) -> None:
    """Raise ClosedError in a forked child, where the parent's connection would give the parent's answers."""
    if process != os.getpid():
        raise ClosedError(f"the {what} belongs to the process that forked; {remedy}")


class _Turns:
    """What operations on one connection take in turn, whoever's they are."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection  # kept, so that its id stays its own
        self.lock = Lock()


_turns: WeakValueDictionary[tuple[int, int], _Turns] = WeakValueDictionary()


def turns_on(connection: Any) -> _Turns:
    """Return the turns of a connection: of threads that share a handle, or have one each.

    Whether threads may share a connection its driver says. A forked child has turns of its own.
    """
    key = (os.getpid(), id(connection))
    with process_lock():
        found = _turns.get(key)
        if found is None:
            found = _turns[key] = _Turns(connection)
        return found
