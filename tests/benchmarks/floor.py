"""The floor: the least driver code that does the same work with the same durability.

Its statements and loops are written down here once more, without a library around them.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from benchmarks.corpus import Item
from benchmarks.stores import Store

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Floor(Store):
    """Driver calls, a connection for each thread."""

    name = "floor"
    handles: Any

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.lock = threading.Lock()
        self._local = threading.local()
        self._all: list[Any] = []

    def connection(self) -> Any:
        """This thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self.connect()
            self._all.append(connection)
        return connection

    def connect(self) -> Any:
        raise NotImplementedError

    def handle(self, session_id: str) -> Any:
        return self.handles(self, session_id)

    def close(self) -> None:
        for connection in self._all:
            connection.close()


class _Handle:
    """One conversation; what to send to read it is the dialect's."""

    everything = "SELECT message_data FROM agent_messages WHERE session_id = %s ORDER BY id"
    newest = everything + " DESC LIMIT %s"

    def __init__(self, store: Any, session_id: str) -> None:
        self._store = store
        self._connection = store.connection
        self._id = session_id

    def rows(self, statement: str, *parameters: object) -> Any:
        raise NotImplementedError

    def get(self, limit: int | None = None) -> list[Any]:
        if limit is None:
            return [json.loads(text) for (text,) in self.rows(self.everything, self._id)]
        return [json.loads(text) for (text,) in self.rows(self.newest, self._id, limit)][::-1]


# --- SQLite


class _SQLiteHandle(_Handle):
    everything = _Handle.everything.replace("%s", "?")
    newest = _Handle.newest.replace("%s", "?")

    def rows(self, statement: str, *parameters: object) -> Any:
        return self._connection().execute(statement, parameters)

    def stream(self) -> Iterator[Any]:
        for (text,) in self.rows(self.everything, self._id):
            yield json.loads(text)

    def add(self, items: list[Item]) -> None:
        rows = [(self._id, _encode(item)) for item in items]
        connection = self._connection()
        with self._store.lock:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(
                "INSERT INTO agent_sessions (session_id) VALUES (?) "
                "ON CONFLICT (session_id) DO UPDATE SET updated_at = CURRENT_TIMESTAMP",
                (self._id,),
            )
            connection.executemany("INSERT INTO agent_messages (session_id, message_data) VALUES (?, ?)", rows)
            connection.execute("COMMIT")

    def pop(self) -> Any:
        statement = (
            "DELETE FROM agent_messages WHERE id = (SELECT id FROM agent_messages WHERE session_id = ? "
            "ORDER BY id DESC LIMIT 1) RETURNING message_data"
        )
        with self._store.lock:
            row = self._connection().execute(statement, (self._id,)).fetchone()
        return json.loads(row[0]) if row else None

    def clear(self) -> None:
        connection = self._connection()
        with self._store.lock:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("DELETE FROM agent_messages WHERE session_id = ?", (self._id,))
            connection.execute("DELETE FROM agent_sessions WHERE session_id = ?", (self._id,))
            connection.execute("COMMIT")


class SQLiteFloor(Floor):
    handles = _SQLiteHandle

    def connect(self) -> Any:
        path = unquote(self.url.partition(":")[2].removeprefix("///"))
        connection = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection


# --- PostgreSQL


class _PostgresHandle(_Handle):
    newest = (
        "SELECT message_data FROM agent_messages WHERE session_id = ANY (ARRAY[%s]) "
        "ORDER BY session_id DESC, id DESC LIMIT %s"
    )

    def rows(self, statement: str, *parameters: object) -> Any:
        return self._connection().execute(statement, parameters).fetchall()

    def stream(self) -> Iterator[Any]:
        connection = self._connection()
        with connection.transaction(), connection.cursor("stream") as cursor:
            cursor.itersize = 2000
            for (text,) in cursor.execute(self.everything, (self._id,)):
                yield json.loads(text)

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
        statement = (
            "DELETE FROM agent_messages WHERE id = (SELECT id FROM agent_messages "
            "WHERE session_id = ANY (ARRAY[%s]) ORDER BY session_id DESC, id DESC LIMIT 1 FOR UPDATE) "
            "RETURNING message_data"
        )
        row = self._connection().execute(statement, (self._id,)).fetchone()
        return json.loads(row[0]) if row else None

    def clear(self) -> None:
        self._connection().execute(
            "WITH message AS (DELETE FROM agent_messages WHERE session_id = %(id)s) "
            "DELETE FROM agent_sessions WHERE session_id = %(id)s",
            {"id": self._id},
        )


class PostgresFloor(Floor):
    """Statements prepared by psycopg after five uses, as it does by default: not behind every pooler."""

    handles = _PostgresHandle
    prepare_threshold: int | None = 5

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(self.url, autocommit=True, prepare_threshold=self.prepare_threshold)


class UnpreparedPostgresFloor(PostgresFloor):
    """Works behind every pooler."""

    name = "floor, unprepared"
    prepare_threshold = None


# --- MySQL and MariaDB


class _MySQLHandle(_Handle):
    def rows(self, statement: str, *parameters: object) -> Any:
        cursor = self._connection().cursor()
        cursor.execute(statement, parameters)
        return cursor.fetchall()

    def stream(self) -> Iterator[Any]:
        from pymysql.cursors import SSCursor

        with self._connection().cursor(SSCursor) as cursor:
            cursor.execute(self.everything, (self._id,))
            for (text,) in cursor:
                yield json.loads(text)

    def _send(self, *statements: str) -> list[Any]:
        cursor = self._connection().cursor()
        answers = []
        for packet in statements if self._store.separate else ["; ".join(statements)]:
            cursor.execute(packet)
            answers.append(cursor.fetchall())
            while cursor.nextset():
                answers.append(cursor.fetchall())
        return answers

    def add(self, items: list[Item]) -> None:
        quoted = self._connection().escape
        session_id = quoted(self._id)
        rows = [f"({session_id},{quoted(_encode(item))})" for item in items]
        touch = "ON DUPLICATE KEY UPDATE updated_at = CURRENT_TIMESTAMP"
        statements = ["START TRANSACTION", f"INSERT INTO agent_sessions (session_id) VALUES ({session_id}) {touch}"]
        # No packet may be larger than the server's max_allowed_packet, 16 MiB on MariaDB.
        for start in range(0, len(rows), 3000):
            values = ",".join(rows[start : start + 3000])
            statements.append(f"INSERT INTO agent_messages (session_id, message_data) VALUES {values}")
            if start + 3000 < len(rows):
                self._send(*statements)
                statements = []
        self._send(*statements, "COMMIT")

    def pop(self) -> Any:
        where = f"WHERE session_id = {self._connection().escape(self._id)} ORDER BY session_id DESC, id DESC LIMIT 1"
        _, rows, _, _ = self._send(
            "START TRANSACTION",
            f"SELECT message_data FROM agent_messages {where} FOR UPDATE",
            f"DELETE FROM agent_messages {where}",
            "COMMIT",
        )
        return json.loads(rows[0][0]) if rows else None

    def clear(self) -> None:
        where = f"WHERE session_id = {self._connection().escape(self._id)}"
        deletions = [f"DELETE FROM {table} {where}" for table in ("agent_messages", "agent_sessions")]
        self._send("START TRANSACTION", *deletions, "COMMIT")


class MySQLFloor(Floor):
    handles = _MySQLHandle
    separate = False

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


class SeparateMySQLFloor(MySQLFloor):
    """The same statements without CLIENT.MULTI_STATEMENTS: a packet, and a round trip, for each."""

    name = "floor, no multi-statements"
    separate = True
