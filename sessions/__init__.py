"""Conversation history of LLM agents in SQLite, PostgreSQL, MySQL/MariaDB or memory.

    with sessions.Session.from_url("chat_123", "sqlite:chat.db") as session:
        session.add_items([{"role": "user", "content": "Hello"}])
        session.get_items()

connect() serves many conversations over one pool. A driver is imported only when a
URL asks for it.
"""

from __future__ import annotations

from .errors import (
    AuthenticationError,
    ClosedError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    DatabaseError,
    DriverNotInstalledError,
    InvalidItemError,
    InvalidURLError,
    OutcomeUnknownError,
    SchemaError,
    SessionsError,
    TLSError,
)
from .session import InMemorySession, Session

TYPE_CHECKING = False  # as in _items
if TYPE_CHECKING:
    from typing import Any

    from ._open import bind, connect
    from ._records import Item, Record
    from .backend import Backend
    from .memory import MemoryBackend
    from .mysql import MySQLBackend
    from .postgresql import PostgresBackend
    from .sqlite import SQLiteBackend

__version__ = "0.1.0"

__all__ = [
    "AuthenticationError",
    "Backend",
    "ClosedError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DatabaseError",
    "DriverNotInstalledError",
    "InMemorySession",
    "InvalidItemError",
    "InvalidURLError",
    "Item",
    "MemoryBackend",
    "MySQLBackend",
    "OutcomeUnknownError",
    "PostgresBackend",
    "Record",
    "SQLiteBackend",
    "SchemaError",
    "Session",
    "SessionsError",
    "TLSError",
    "bind",
    "connect",
]

# Imported when first asked for: `import sessions` costs a few milliseconds and no driver.
_LAZY = {
    "bind": "_open",
    "connect": "_open",
    "Item": "_records",
    "Record": "_records",
    "Backend": "backend",
    "MemoryBackend": "memory",
    "SQLiteBackend": "sqlite",
    "PostgresBackend": "postgresql",
    "MySQLBackend": "mysql",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    return value
