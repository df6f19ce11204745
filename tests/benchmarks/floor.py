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

    def stream(self) -> Iterator[Any]:
        rows = self._connection().execute(
            "SELECT message_data FROM agent_messages WHERE session_id = ? ORDER BY id", (self._id,)
        )
        for (text,) in rows:
            yield json.loads(text)

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

    def stream(self) -> Iterator[Any]:
        connection = self._connection()
        with connection.transaction(), connection.cursor("stream") as cursor:
            cursor.itersize = 2000
            cursor.execute(
                "SELECT message_data FROM agent_messages WHERE session_id = %s ORDER BY id",
                (self._id,),
                binary=self._binary,
            )
            for (text,) in cursor:
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

    def stream(self) -> Iterator[Any]:
        from pymysql.cursors import SSCursor

        with self._connection().cursor(SSCursor) as cursor:
            cursor.execute("SELECT message_data FROM agent_messages WHERE session_id = %s ORDER BY id", (self._id,))
            for (text,) in cursor:
                yield json.loads(text)

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
