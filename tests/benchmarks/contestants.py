"""The floor, ours and the peers, behind the same four operations.

The floor is the least driver code that does the same work with the same durability: its
statements and loops are written down here once more, without a library around them. The
peers that are not installed do not take part.
"""

import asyncio
import contextlib
import json
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import sessions
from benchmarks.corpus import Item
from servers import dialect_of


class Handle(Protocol):
    """One conversation."""

    def get(self, limit: int | None = None) -> list[Any]: ...
    def add(self, items: list[Item]) -> None: ...
    def pop(self) -> Any: ...
    def clear(self) -> None: ...


class Store:
    """One contestant on one database, made ready before anything is measured."""

    name: str
    limits = True  # whether it can read the newest few, and pop

    def __init__(self, url: str) -> None:
        self.url = url
        # Kept, so that a thread's connection is there when its turn comes again.
        self.threads = ThreadPoolExecutor(8)

    def handle(self, session_id: str) -> Any:
        """Make a handle that satisfies Handle."""
        raise NotImplementedError

    def close(self) -> None:
        """Close everything."""

    def run_at_once(self, handles: Sequence[Any], turns: int, batch: list[Item]) -> None:
        """Let every handle do its turns, all at the same time."""

        def work(handle: Handle) -> None:
            for _ in range(turns):
                handle.get(20) if self.limits else handle.get()
                handle.add(batch)

        list(self.threads.map(work, handles))

    def open_read_close(self, session_id: str) -> None:
        """Do what a script does that starts, reads and ends."""
        store = type(self)(self.url)
        try:
            store.handle(session_id).get()
        finally:
            store.close()


# --- ours


class Ours(Store):
    """The library as its users call it."""

    name = "ours"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._backend = sessions.connect(url + _plain(url))

    def handle(self, session_id: str) -> Any:
        return _OurHandle(self._backend.session(session_id))

    def close(self) -> None:
        self._backend.close()


def _plain(url: str) -> str:
    # MySQL's server has a certificate of its own making; nobody else here would use it.
    return "?ssl-mode=DISABLED" if dialect_of(url) in ("mysql", "mariadb") else ""


class _OurHandle:
    def __init__(self, session: sessions.Session) -> None:
        self.get = session.get_items
        self.add = session.add_items
        self.pop = session.pop_item
        self.clear = session.clear_session


# --- the floor

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Floor(Store):
    """Driver calls, a connection for each thread."""

    name = "floor"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._local = threading.local()
        self._all: list[Any] = []
        self._lock = threading.Lock()

    def connection(self) -> Any:
        """This thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self.connect()
            self._all.append(connection)
        return connection

    def connect(self) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        for connection in self._all:
            connection.close()


class SQLiteFloor(Floor):
    def connect(self) -> Any:
        path = unquote(self.url.partition(":")[2].removeprefix("///"))
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def handle(self, session_id: str) -> Any:
        return _SQLiteHandle(self, session_id)


class _SQLiteHandle:
    def __init__(self, store: SQLiteFloor, session_id: str) -> None:
        self._connection = store.connection
        self._lock = store._lock
        self._id = session_id

    def get(self, limit: int | None = None) -> list[Any]:
        if limit is None:
            rows = self._connection().execute(
                "SELECT message_data FROM agent_messages WHERE session_id = ? ORDER BY id", (self._id,)
            )
            return [json.loads(text) for (text,) in rows]
        rows = self._connection().execute(
            "SELECT message_data FROM agent_messages WHERE session_id = ? ORDER BY id DESC LIMIT ?", (self._id, limit)
        )
        return [json.loads(text) for (text,) in rows][::-1]

    def add(self, items: list[Item]) -> None:
        rows = [(self._id, _encode(item)) for item in items]
        connection = self._connection()
        with self._lock:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO agent_sessions (session_id) VALUES (?) "
                "ON CONFLICT (session_id) DO UPDATE SET updated_at = CURRENT_TIMESTAMP",
                (self._id,),
            )
            connection.executemany("INSERT INTO agent_messages (session_id, message_data) VALUES (?, ?)", rows)
            connection.execute("COMMIT")

    def pop(self) -> Any:
        with self._lock:
            row = (
                self._connection()
                .execute(
                    "DELETE FROM agent_messages WHERE id = (SELECT id FROM agent_messages WHERE session_id = ? "
                    "ORDER BY id DESC LIMIT 1) RETURNING message_data",
                    (self._id,),
                )
                .fetchone()
            )
        return json.loads(row[0]) if row else None

    def clear(self) -> None:
        connection = self._connection()
        with self._lock:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM agent_messages WHERE session_id = ?", (self._id,))
            connection.execute("DELETE FROM agent_sessions WHERE session_id = ?", (self._id,))
            connection.execute("COMMIT")


class PostgresFloor(Floor):
    prepare_threshold: int | None = None
    binary = False

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.url, autocommit=True, prepare_threshold=self.prepare_threshold)

    def handle(self, session_id: str) -> Any:
        return _PostgresHandle(self, session_id)


class PreparedPostgresFloor(PostgresFloor):
    """Statements prepared by psycopg after five uses, and binary results: not behind every pooler."""

    name = "floor, prepared"
    prepare_threshold = 5
    binary = True


class _PostgresHandle:
    def __init__(self, store: PostgresFloor, session_id: str) -> None:
        self._connection = store.connection
        self._id = session_id
        self._binary = store.binary

    def get(self, limit: int | None = None) -> list[Any]:
        if limit is None:
            rows = self._connection().execute(
                "SELECT message_data FROM agent_messages WHERE session_id = %s ORDER BY id",
                (self._id,),
                binary=self._binary,
            )
            return [json.loads(text) for (text,) in rows.fetchall()]
        rows = self._connection().execute(
            "SELECT message_data FROM agent_messages WHERE session_id = ANY (ARRAY[%s]) "
            "ORDER BY session_id DESC, id DESC LIMIT %s",
            (self._id, limit),
            binary=self._binary,
        )
        return [json.loads(text) for (text,) in rows.fetchall()][::-1]

    def add(self, items: list[Item]) -> None:
        self._connection().execute(
            """
            WITH session AS (
                INSERT INTO agent_sessions (session_id) VALUES (%s)
                ON CONFLICT (session_id) DO UPDATE SET updated_at = clock_timestamp()
                RETURNING session_id, clock_timestamp() AS locked_at
            )
            INSERT INTO agent_messages (session_id, message_data, created_at)
            SELECT session.session_id, item.text, session.locked_at
            FROM session CROSS JOIN unnest(%b::text[]) WITH ORDINALITY AS item (text, n)
            ORDER BY item.n
            """,
            (self._id, [_encode(item) for item in items]),
        )

    def pop(self) -> Any:
        row = (
            self._connection()
            .execute(
                "DELETE FROM agent_messages WHERE id = (SELECT id FROM agent_messages "
                "WHERE session_id = ANY (ARRAY[%s]) ORDER BY session_id DESC, id DESC LIMIT 1 FOR UPDATE) "
                "RETURNING message_data",
                (self._id,),
            )
            .fetchone()
        )
        return json.loads(row[0]) if row else None

    def clear(self) -> None:
        self._connection().execute(
            "WITH message AS (DELETE FROM agent_messages WHERE session_id = %(id)s) "
            "DELETE FROM agent_sessions WHERE session_id = %(id)s",
            {"id": self._id},
        )


class MySQLFloor(Floor):
    packets = "one"

    def connect(self) -> Any:
        import pymysql
        from pymysql.constants import CLIENT

        parts = urlsplit(self.url)
        return pymysql.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=parts.path.lstrip("/"),
            charset="utf8mb4",
            autocommit=None,
            client_flag=CLIENT.MULTI_STATEMENTS,
            ssl_disabled=True,
        )

    def handle(self, session_id: str) -> Any:
        return _MySQLHandle(self, session_id)


class SeparateMySQLFloor(MySQLFloor):
    """The same statements without CLIENT.MULTI_STATEMENTS: a packet, and a round trip, for each."""

    name = "floor, no multi-statements"
    packets = "separate"


class _MySQLHandle:
    def __init__(self, store: MySQLFloor, session_id: str) -> None:
        self._connection = store.connection
        self._id = session_id
        self._separate = store.packets == "separate"

    def get(self, limit: int | None = None) -> list[Any]:
        cursor = self._connection().cursor()
        if limit is None:
            cursor.execute("SELECT message_data FROM agent_messages WHERE session_id = %s ORDER BY id", (self._id,))
            return [json.loads(text) for (text,) in cursor.fetchall()]
        cursor.execute(
            "SELECT message_data FROM agent_messages WHERE session_id = %s ORDER BY id DESC LIMIT %s", (self._id, limit)
        )
        return [json.loads(text) for (text,) in cursor.fetchall()][::-1]

    def _send(self, statements: list[str]) -> list[Any]:
        cursor = self._connection().cursor()
        answers = []
        for packet in statements if self._separate else ["; ".join(statements)]:
            cursor.execute(packet)
            answers.append(cursor.fetchall())
            while cursor.nextset():
                answers.append(cursor.fetchall())
        return answers

    def add(self, items: list[Item]) -> None:
        quoted = self._connection().escape
        session_id = quoted(self._id)
        rows = [f"({session_id},{quoted(_encode(item))})" for item in items]
        statements = [
            "START TRANSACTION",
            (
                f"INSERT INTO agent_sessions (session_id) VALUES ({session_id}) "
                "ON DUPLICATE KEY UPDATE updated_at = CURRENT_TIMESTAMP"
            ),
        ]
        # No packet may be larger than the server's max_allowed_packet, 16 MiB on MariaDB.
        for start in range(0, len(rows), 3000):
            values = ",".join(rows[start : start + 3000])
            statements.append(f"INSERT INTO agent_messages (session_id, message_data) VALUES {values}")
            if start + 3000 < len(rows):
                self._send(statements)
                statements = []
        self._send([*statements, "COMMIT"])

    def pop(self) -> Any:
        where = f"WHERE session_id = {self._connection().escape(self._id)} ORDER BY session_id DESC, id DESC LIMIT 1"
        _, rows, _, _ = self._send(
            [
                "START TRANSACTION",
                f"SELECT message_data FROM agent_messages {where} FOR UPDATE",
                f"DELETE FROM agent_messages {where}",
                "COMMIT",
            ]
        )
        return json.loads(rows[0][0]) if rows else None

    def clear(self) -> None:
        where = f"WHERE session_id = {self._connection().escape(self._id)}"
        self._send(
            [
                "START TRANSACTION",
                f"DELETE FROM agent_messages {where}",
                f"DELETE FROM agent_sessions {where}",
                "COMMIT",
            ]
        )


# --- the SDK's sessions


class _OnLoop(Store):
    """Asynchronous sessions as a synchronous program uses them best: on one event loop that is kept."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.loop = asyncio.new_event_loop()

    def session(self, session_id: str) -> Any:
        raise NotImplementedError

    def handle(self, session_id: str) -> Any:
        return _AsyncHandle(self.loop, self.session(session_id))

    def run_at_once(self, handles: Sequence[Any], turns: int, batch: list[Item]) -> None:
        async def work(session: Any) -> None:
            for _ in range(turns):
                await session.get_items(limit=20)
                await session.add_items(batch)

        async def all_of_them() -> None:
            await asyncio.gather(*[work(handle.session) for handle in handles])

        self.loop.run_until_complete(all_of_them())

    def close(self) -> None:
        self.loop.close()


class _AsyncHandle:
    def __init__(self, loop: asyncio.AbstractEventLoop, session: Any) -> None:
        self._run = loop.run_until_complete
        self.session = session

    def get(self, limit: int | None = None) -> list[Any]:
        return list(self._run(self.session.get_items(limit=limit)))

    def add(self, items: list[Item]) -> None:
        self._run(self.session.add_items(items))

    def pop(self) -> Any:
        return self._run(self.session.pop_item())

    def clear(self) -> None:
        self._run(self.session.clear_session())


class SDKSQLite(_OnLoop):
    name = "SDK SQLiteSession"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._sessions: list[Any] = []

    def session(self, session_id: str) -> Any:
        from agents import SQLiteSession

        session = SQLiteSession(session_id, unquote(self.url.partition(":")[2].removeprefix("///")))
        self._sessions.append(session)
        return session

    def close(self) -> None:
        for session in self._sessions:
            session.close()
        super().close()


class SDKSQLAlchemy(_OnLoop):
    """SQLAlchemySession on our tables, which it shares."""

    driver: str

    def __init__(self, url: str) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        super().__init__(url)
        scheme, _, rest = url.partition(":")
        scheme = "mysql" if scheme == "mariadb" else scheme
        rest = "///" + rest.removeprefix("///") if scheme == "sqlite" else rest
        self._engine = create_async_engine(f"{scheme}+{self.driver}:{rest}")

    def session(self, session_id: str) -> Any:
        from agents.extensions.memory import SQLAlchemySession

        return SQLAlchemySession(session_id, engine=self._engine, create_tables=False)

    def close(self) -> None:
        self.loop.run_until_complete(self._engine.dispose())
        super().close()


class SDKAsyncpg(SDKSQLAlchemy):
    name, driver = "SDK SQLAlchemy asyncpg", "asyncpg"


class SDKPsycopg(SDKSQLAlchemy):
    name, driver = "SDK SQLAlchemy psycopg", "psycopg"


class SDKAiomysql(SDKSQLAlchemy):
    name, driver = "SDK SQLAlchemy aiomysql", "aiomysql"


class SDKAiosqlite(SDKSQLAlchemy):
    name, driver = "SDK SQLAlchemy aiosqlite", "aiosqlite"


# --- LangChain's histories


class LangChainSQL(Store):
    """SQLChatMessageHistory: each message with its item in additional_kwargs."""

    name = "LangChain SQL"
    limits = False

    def __init__(self, url: str) -> None:
        from sqlalchemy import create_engine

        super().__init__(url)
        scheme, _, rest = url.partition(":")
        drivers = {"sqlite": "", "postgresql": "+psycopg", "mysql": "+pymysql", "mariadb": "+pymysql"}
        rest = "///" + rest.removeprefix("///") if scheme == "sqlite" else rest
        self._engine = create_engine(f"{'mysql' if scheme == 'mariadb' else scheme}{drivers[scheme]}:{rest}")

    def handle(self, session_id: str) -> Any:
        from langchain_community.chat_message_histories import SQLChatMessageHistory

        return _LangChainHandle(SQLChatMessageHistory(session_id, connection=self._engine))

    def close(self) -> None:
        self._engine.dispose()


class LangChainPostgres(Store):
    name = "LangChain Postgres"
    limits = False

    def __init__(self, url: str) -> None:
        import psycopg

        super().__init__(url)
        self._connection = psycopg.connect(url)
        self._made = False

    def handle(self, session_id: str) -> Any:
        import uuid

        from langchain_postgres import PostgresChatMessageHistory

        if not self._made:
            PostgresChatMessageHistory.create_tables(self._connection, "chat_history")
            self._made = True
        name = str(uuid.uuid5(uuid.NAMESPACE_DNS, session_id))
        return _LangChainHandle(PostgresChatMessageHistory("chat_history", name, sync_connection=self._connection))

    def close(self) -> None:
        self._connection.close()


class _LangChainHandle:
    def __init__(self, history: Any) -> None:
        self._history = history

    def get(self, limit: int | None = None) -> list[Any]:
        return [message.additional_kwargs["item"] for message in self._history.messages]

    def add(self, items: list[Item]) -> None:
        from langchain_core.messages import HumanMessage

        self._history.add_messages([HumanMessage("", additional_kwargs={"item": item}) for item in items])

    def pop(self) -> Any:
        raise NotImplementedError

    def clear(self) -> None:
        self._history.clear()


# --- who takes part

_CONTESTANTS: dict[str, tuple[type[Store], ...]] = {
    "sqlite": (SQLiteFloor, Ours, SDKSQLite, SDKAiosqlite, LangChainSQL),
    "postgresql": (
        PostgresFloor,
        Ours,
        PreparedPostgresFloor,
        SDKAsyncpg,
        SDKPsycopg,
        LangChainSQL,
        LangChainPostgres,
    ),
    "mysql": (MySQLFloor, Ours, SeparateMySQLFloor, SDKAiomysql, LangChainSQL),
    "mariadb": (MySQLFloor, Ours, SeparateMySQLFloor, SDKAiomysql, LangChainSQL),
}
_NEEDS = {
    "SDK": ("agents", "sqlalchemy"),
    "LangChain SQL": ("langchain_community",),
    "LangChain Postgres": ("langchain_postgres",),
}


def contestants(dialect: str) -> list[type[Store]]:
    """The contestants of a dialect whose packages are installed; floor and ours first."""
    return [
        contestant
        for contestant in _CONTESTANTS[dialect]
        if all(
            find_spec(package) is not None
            for prefix, packages in _NEEDS.items()
            if contestant.name.startswith(prefix)
            for package in packages
        )
    ]


def is_peer(name: str) -> bool:
    """Tell whether a contestant is another library, not a floor or ours."""
    return name != "ours" and not name.startswith("floor")


@contextlib.contextmanager
def opened(kinds: Sequence[type[Store]], url: str) -> Iterator[list[Store]]:
    """Open the contestants on one database and close them afterwards."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        stores = []
        for kind in kinds:
            store = kind(url)
            stack.callback(store.close)
            stores.append(store)
        yield stores
