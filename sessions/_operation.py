"""What happened, without content: one operation, and those who want to know of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Operation:
    """What a database was asked for as one: a statement or a transaction, with all attempts at it.

    name is that of the public method, dialect the kind of the database: "memory", "sqlite",
    "postgresql" or "mysql". milliseconds are those that the caller waited for the store: for a connection, for
    every attempt and between them. rows is how many rows were read, written or removed, and bytes
    the length of the items among them as UTF-8, as far as that is known without asking; else, and
    after an error, 0. attempts is 1 where nothing failed, and 0 for an item that was refused
    before the database was asked. outcome is "ok", or the name of the error's class.
    session_id is None unless operation_ids=True was given, and where several sessions are meant.
    """

    name: str
    dialect: str
    milliseconds: float
    rows: int
    bytes: int
    attempts: int
    outcome: str
    session_id: str | None = None


OperationHook = Callable[[Operation], object]
OperationHooks = OperationHook | Sequence[OperationHook]


class Thread(threading.local):
    """What is going on in this thread."""

    attempts = 1  # at the operation that runs
    waited = 0.0  # seconds, in all, that attempts have cost which failed on no collision, with the waits behind them
    is_telling = False  # what a hook, or a handler of the log, does is not told


thread = Thread()
