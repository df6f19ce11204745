"""The other programs that share our tables, each behind the same four operations.

The SDK's sessions run themselves. The npm package runs under Node.js, so its statements are
written down here, from its documentation and the tables that it makes.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from agents import SQLiteSession
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.pool import NullPool

import sessions
from sessions.openai_agents import AgentsSession
from support.servers import connect_raw, dialect_of

Item = dict[str, Any]

# Who can open a database of each dialect, apart from us.
PEERS = {
    "sqlite": ("sdk-sqlite", "sdk-aiosqlite", "npm"),
    "postgresql": ("sdk-asyncpg", "sdk-psycopg", "npm"),
    "mysql": ("sdk-aiomysql", "npm"),
    "mariadb": ("sdk-aiomysql", "npm"),
}


class Peer(Protocol):
    """One program's view of one conversation."""

    async def get_items(self, limit: int | None = None) -> list[Any]: ...
    async def add_items(self, items: list[Any]) -> None: ...
    async def pop_item(self) -> Any: ...
    async def clear_session(self) -> None: ...


@contextlib.asynccontextmanager
async def open_peer(name: str, url: str, session_id: str, *, create_tables: bool = False) -> AsyncIterator[Peer]:
    """Open a conversation as one of PEERS, or as "ours" or "ours-async"."""
    if name == "ours":
        with sessions.Session.from_url(session_id, url, create_tables=create_tables) as session:
            yield OurSession(session)
    elif name == "ours-async":
        async with AgentsSession.from_url(session_id, url, create_tables=create_tables) as adapter:
            yield adapter
    elif name == "npm":
        with contextlib.closing(NpmSession(url, session_id)) as npm:
            yield npm
    elif name == "sdk-sqlite":
        with contextlib.closing(SQLiteSession(session_id, sqlite_path(url))) as sqlite:
            yield sqlite
    else:
        engine_options: dict[str, Any] = {"poolclass": NullPool}
        if dialect_of(url) == "mariadb":
            # With MariaDB's default, the SDK's writers fail with error 1020 where they overlap.
            engine_options["isolation_level"] = "READ COMMITTED"
        sqlalchemy = SQLAlchemySession.from_url(
            session_id,
            url=sqlalchemy_url(url, name.removeprefix("sdk-")),
            engine_kwargs=engine_options,
            create_tables=create_tables,
        )
        try:
            yield sqlalchemy
        finally:
            await sqlalchemy.engine.dispose()


class OurSession:
    """The synchronous session, called as a script calls it."""

    def __init__(self, session: sessions.Session) -> None:
        self.session = session

    async def get_items(self, limit: int | None = None) -> list[Item]:
        return self.session.get_items(limit)

    async def add_items(self, items: list[Item]) -> None:
        self.session.add_items(items)

    async def pop_item(self) -> Item | None:
        return self.session.pop_item()

    async def clear_session(self) -> None:
        self.session.clear_session()


class NpmSession:
    """What the npm package's DrizzleSession sends to the database.

    It orders by (created_at, id), writes integer timestamps on SQLite, and leaves the
    messages of a cleared session to the foreign key's cascade.
    """

    def __init__(self, url: str, session_id: str) -> None:
        self.session_id = session_id
        self.sqlite = dialect_of(url) == "sqlite"
        self.connection = connect_raw(url)
        if self.sqlite:
            self._execute("PRAGMA foreign_keys = ON")  # better-sqlite3's default

    def close(self) -> None:
        self.connection.close()

    async def get_items(self, limit: int | None = None) -> list[Item]:
        rows = self._execute(
            "SELECT message_data FROM agent_messages WHERE session_id = %s ORDER BY created_at, id",
            self.session_id,
        )
        items = [json.loads(text) for (text,) in rows]
        return items if limit is None else items[max(0, len(items) - limit) :]

    async def add_items(self, items: list[Item]) -> None:
        now = "unixepoch()" if self.sqlite else "CURRENT_TIMESTAMP"
        found = self._execute("SELECT session_id FROM agent_sessions WHERE session_id = %s", self.session_id)
        if not found:
            self._execute(
                f"INSERT INTO agent_sessions (session_id, created_at, updated_at) VALUES (%s, {now}, {now})",
                self.session_id,
            )
        values = ", ".join(f"(%s, %s, {now})" for _ in items)
        texts = [json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in items]
        self._execute(
            f"INSERT INTO agent_messages (session_id, message_data, created_at) VALUES {values}",
            *(part for text in texts for part in (self.session_id, text)),
        )
        self._execute(f"UPDATE agent_sessions SET updated_at = {now} WHERE session_id = %s", self.session_id)

    async def pop_item(self) -> Item | None:
        rows = self._execute(
            "SELECT id, message_data FROM agent_messages WHERE session_id = %s "
            "ORDER BY created_at DESC, id DESC LIMIT 1",
            self.session_id,
        )
        if not rows:
            return None
        [(row_id, text)] = rows
        self._execute("DELETE FROM agent_messages WHERE id = %s", row_id)
        item: Item = json.loads(text)
        return item

    async def clear_session(self) -> None:
        self._execute("DELETE FROM agent_sessions WHERE session_id = %s", self.session_id)

    def _execute(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        cursor = self.connection.cursor()
        cursor.execute(statement.replace("%s", "?") if self.sqlite else statement, parameters)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def sqlite_path(url: str) -> Path:
    """Return the file of a URL that the make_url fixture gave."""
    return Path(url.removeprefix("sqlite:///"))


def sqlalchemy_url(url: str, driver: str) -> str:
    """Put SQLAlchemy's driver name into one of our URLs."""
    if dialect_of(url) == "sqlite":
        return f"sqlite+{driver}:///{sqlite_path(url)}"
    parts = urlsplit(url)
    return urlunsplit((f"{dialect_of(url)}+{driver}", *parts[1:]))
