"""An application with a table of its own: what the library must fit into, and not disturb."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
import pytest

import sessions
from support.claims import operate
from support.rivals import others
from support.samples import items, texts
from support.servers import connect_raw, dialect_of, execute_sql


def prepare(url: str) -> None:
    """Create the application's table and ours, as a deployment does."""
    engine = " ENGINE=InnoDB" if dialect_of(url) in ("mysql", "mariadb") else ""
    execute_sql(url, f"CREATE TABLE orders (id INTEGER PRIMARY KEY, state VARCHAR(20) NOT NULL){engine}")
    with sessions.Session.from_url("prepared", url) as session:
        session.add_items([{"role": "user", "content": "prepared"}])
        session.clear_session()


def connect_as(url: str, *, autocommit: bool, **options: Any) -> Any:
    """The application's own connection; autocommit=False is every driver's default."""
    dialect = dialect_of(url)
    if dialect == "sqlite":
        path = url.removeprefix("sqlite:///")
        return sqlite3.connect(path, timeout=5, **{"isolation_level": None if autocommit else "", **options})
    connection = connect_raw(url)
    if dialect == "postgresql":
        connection.autocommit = autocommit
    else:
        connection.autocommit(autocommit)
    return connection


@contextmanager
def connected(url: str, *, autocommit: bool = False, **options: Any) -> Iterator[Any]:
    connection = connect_as(url, autocommit=autocommit, **options)
    try:
        yield connection
    finally:
        with suppress(pymysql.Error):  # it says when it is closed already
            connection.close()


def run(connection: Any, statement: str) -> list[tuple[Any, ...]]:
    """Execute a statement of the application, on its connection as it is."""
    cursor = connection.cursor()
    cursor.execute(statement)
    found = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
    cursor.close()
    return found


def place_order(connection: Any, number: int, state: str = "placed") -> None:
    run(connection, f"INSERT INTO orders (id, state) VALUES ({number}, '{state}')")


def orders(url: str) -> list[int]:
    """The orders that everybody sees."""
    return [row[0] for row in execute_sql(url, "SELECT id FROM orders ORDER BY id")]


def use_everything(session: sessions.Session) -> None:
    """Call each operation, with what goes in and out compared; an item is left."""
    session.add_items(items("ä", "b"))
    session.add_items(items("c"), if_position=session.position())
    assert texts(session.get_items()) == ["ä", "b", "c"]
    assert texts(session.get_items(limit=2)) == ["b", "c"]
    assert session.pop_item() == items("c")[0]
    with pytest.raises(sessions.ConflictError):
        session.replace_items([], if_position=0)
    session.replace_items(items("d"))
    assert session.get_items() == items("d")
    operate(session)
    session.clear_session()
    assert session.get_items() == []
    session.add_items(items("e"))


def connections(url: str) -> list[int]:
    """The server's connections to this database; none for SQLite."""
    return [] if dialect_of(url) == "sqlite" else others(url)


def end_connections(url: str) -> None:
    """Let the server end all connections to this database, as a restart would."""
    kill = "SELECT pg_terminate_backend({})" if dialect_of(url) == "postgresql" else "KILL {}"
    ended = set(connections(url))
    for number in ended:
        with suppress(pymysql.OperationalError):  # it may be gone by now
            execute_sql(url, kill.format(number))
    # A pool may have opened others meanwhile.
    wait_until(lambda: ended.isdisjoint(connections(url)))


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Ask again and again; what a server does for another connection shows a moment later."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"


def someone_waits_for_a_lock(url: str) -> bool:
    """Tell whether a statement on this server waits for a lock."""
    if dialect_of(url) == "postgresql":
        statement = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return bool(execute_sql(url, statement))
    # Not innodb_trx, a copy that is not renewed for who asks too often.
    return str(execute_sql(url, "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0][1]) != "0"
