"""Conversation history of LLM agents in SQLite, PostgreSQL, MySQL/MariaDB or memory.

    with sessions.Session.from_url("chat_123", "sqlite:chat.db") as session:
        session.add_items([{"role": "user", "content": "Hello"}])
        session.get_items()

connect() serves many conversations over one pool. A driver is imported only when a
URL asks for it.
"""

from __future__ import annotations

import atexit
import sys

from .errors import (
    AuthenticationError,
    BusyError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    DatabaseError,
    DecryptionError,
    DriverNotInstalledError,
    InvalidItemError,
    InvalidURLError,
    LeaseLostError,
    OutcomeUnknownError,
    SchemaError,
    SealBrokenError,
    SessionsError,
    TLSError,
    UnsupportedEngineError,
)

# As type checkers know it: typing is most of what an import would cost.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._checks import Check
    from ._items import Item, Record
    from ._listing import SessionInfo
    from ._operation import Operation
    from ._rekeying import Rekeyed
    from ._retention import Pruned
    from ._sealing import Verified
    from ._search import Match
    from ._selftest.run import selftest
    from ._statistics import DayStats, SessionSize, Stats
    from .backend import Backend, MemoryBackend, MySQLBackend, PostgresBackend, SQLiteBackend, bind, connect
    from .session import InMemorySession, Session

__version__ = "0.2.0"

__all__ = [
    "AuthenticationError",
    "Backend",
    "BusyError",
    "Check",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DatabaseError",
    "DayStats",
    "DecryptionError",
    "DriverNotInstalledError",
    "InMemorySession",
    "InvalidItemError",
    "InvalidURLError",
    "Item",
    "LeaseLostError",
    "Match",
    "MemoryBackend",
    "MySQLBackend",
    "Operation",
    "OutcomeUnknownError",
    "PostgresBackend",
    "Pruned",
    "Record",
    "Rekeyed",
    "SQLiteBackend",
    "SchemaError",
    "SealBrokenError",
    "Session",
    "SessionInfo",
    "SessionSize",
    "SessionsError",
    "Stats",
    "TLSError",
    "UnsupportedEngineError",
    "Verified",
    "bind",
    "connect",
    "selftest",
]

# Imported when first asked for: `import sessions` costs a few milliseconds and no driver.
_LAZY = {
    **dict.fromkeys(("InMemorySession", "Session"), "session"),
    **dict.fromkeys(("Item", "Record"), "_items"),
    "SessionInfo": "_listing",
    "Check": "_checks",
    "Operation": "_operation",
    "selftest": "_selftest.run",
    "Match": "_search",
    "Pruned": "_retention",
    "Verified": "_sealing",
    "Rekeyed": "_rekeying",
    **dict.fromkeys(("DayStats", "SessionSize", "Stats"), "_statistics"),
    **dict.fromkeys(
        ("Backend", "MemoryBackend", "MySQLBackend", "PostgresBackend", "SQLiteBackend", "bind", "connect"), "backend"
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    return value


def _close_all() -> None:
    stores = sys.modules.get(f"{__name__}._stores.sql")
    if stores is not None:
        stores.close_all()


# At once, and so after whatever an application registers from now on: its last words are still to be saved.
atexit.register(_close_all)
