"""What others do on the same database: look, lock, terminate; and a look at our own connection."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from support.servers import connect_raw, dialect_of, execute_sql, mysql_processes


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Ask until it is so: a server notices a moment later what has happened to a client."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


@contextlib.contextmanager
def connection_of(ours: Any) -> Iterator[Any]:
    """Borrow a connection from the pool of a backend or a session."""
    pool = lender_of(ours)
    lease = pool.lease()
    keep = False
    try:
        yield pool.take(lease)
        keep = True
    finally:
        pool.give_back(lease, keep=keep)


def lender_of(ours: Any) -> Any:
    """What lends the connections of a backend or a session."""
    return _attempts_of(ours)._lender


def driver_of(ours: Any) -> Any:
    """What the statements of a backend or a session go through."""
    return _attempts_of(ours)._dialect


def _attempts_of(ours: Any) -> Any:
    store = ours._store if hasattr(ours, "_store") else ours._history.store
    while not hasattr(store, "_attempts"):
        store = store._store  # behind one that changes texts
    return store._attempts


def counted_by_mysql(ours: Any, pattern: str = r"Com\_%") -> Counter[str]:
    """What the server has counted on this connection so far, without our own SHOW STATUS."""
    with connection_of(ours) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE %s", (pattern,))
        counts = {name.removeprefix("Com_").lower(): int(value) for name, value in cursor.fetchall()}
    ignored = ("show_status", "admin_commands", "stmt_", "ping", "multi", "quit")
    return Counter({name: count for name, count in counts.items() if count and not name.startswith(ignored)})


def others(url: str) -> list[int]:
    """The server's numbers of the connections to this database.

    Asked from another database: the connection that asked before may not have gone yet.
    """
    parts = urlsplit(url)
    database = unquote(parts.path.lstrip("/"))
    if dialect_of(url) != "postgresql":
        return sorted(process[0] for process in mysql_processes(urlunsplit(parts._replace(path="/")), database))
    statement = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' ORDER BY pid"
    return [row[0] for row in execute_sql(urlunsplit(parts._replace(path="/postgres")), statement, (database,))]


def terminate(url: str, number: int, *, query_only: bool = False) -> None:
    """End a connection, or what it is executing; it may be gone by now."""
    if dialect_of(url) == "postgresql":
        function = "pg_cancel_backend" if query_only else "pg_terminate_backend"
        execute_sql(url, f"SELECT {function}({number})")
    else:
        with contextlib.suppress(Exception):
            execute_sql(url, f"KILL {'QUERY ' if query_only else ''}{number}")


def waiting(url: str) -> int:
    """How many connections to this server wait for a lock."""
    if dialect_of(url) == "postgresql":
        statement = (
            "SELECT '', COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
    else:
        # Not the tables of locks, copies that are not renewed for who asks too often.
        statement = "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'"
    return int(execute_sql(url, statement)[0][1])


def open_transactions(url: str) -> int:
    """How many transactions of others are open in this database."""
    if dialect_of(url) == "sqlite":
        with contextlib.closing(connect_raw(url)) as connection:
            connection.execute("PRAGMA busy_timeout = 0")
            connection.execute("BEGIN EXCLUSIVE")  # fails while any transaction is open
            connection.execute("ROLLBACK")
        return 0
    if dialect_of(url) == "postgresql":
        statement = (
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'"
        )
    else:
        # A copy that is renewed only when nobody has read it for 0.1 s.
        execute_sql(url, "DO SLEEP(0.11)")
        transactions = execute_sql(url, "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx")
        here = mysql_processes(url, execute_sql(url, "SELECT DATABASE()")[0][0])
        return len({row[0] for row in transactions} & {process[0] for process in here})
    count: int = execute_sql(url, statement)[0][0]
    return count


@contextlib.contextmanager
def locked_session(url: str, session_id: str = "chat_1") -> Iterator[Any]:
    """A foreign transaction that holds the session's row; rolled back at the end, or before by the test."""
    connection = connect_raw(url)
    try:
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE" if dialect_of(url) == "sqlite" else "BEGIN")
            if dialect_of(url) != "sqlite":
                cursor.execute("SELECT session_id FROM agent_sessions WHERE session_id = %s FOR UPDATE", (session_id,))
                cursor.fetchall()
        yield connection
        connection.rollback()
    finally:
        connection.close()


def lose_a_deadlock(url: str, work: Callable[[], object]) -> None:
    """Run work, which writes to chat_1, against a transaction that locks its messages first and its row after them."""
    execute_sql(url, "INSERT INTO agent_sessions (session_id) VALUES ('heavy')")
    with contextlib.closing(connect_raw(url)) as other, contextlib.closing(other.cursor()) as cursor:
        cursor.execute("BEGIN")
        # InnoDB gives up the smaller transaction: this one is to be the larger.
        for _ in range(60):
            cursor.execute("INSERT INTO agent_messages (session_id, message_data) VALUES ('heavy', '{}')")
        cursor.execute("SELECT id FROM agent_messages WHERE session_id = 'chat_1' FOR UPDATE")
        cursor.fetchall()
        thread = threading.Thread(target=work)
        thread.start()
        assert eventually(lambda: waiting(url) > 0)
        cursor.execute("UPDATE agent_sessions SET updated_at = updated_at WHERE session_id = 'chat_1'")
        other.rollback()
        thread.join(60)


def set_updated_at(ours: Any, session_id: str, seconds: float) -> None:
    """Let a conversation of a backend have been written to for the last time then, in Unix seconds."""
    store = ours._store
    if store.dialect_name == "memory":
        store._sessions[session_id].updated_at = seconds
        return
    moment = {"sqlite": "datetime(?, 'unixepoch')", "postgresql": "to_timestamp(%s)", "mysql": "FROM_UNIXTIME(%s)"}
    mark = "?" if store.dialect_name == "sqlite" else "%s"
    statement = f"UPDATE agent_sessions SET updated_at = {moment[store.dialect_name]} WHERE session_id = {mark}"
    store._attempts._lender.lend(
        lambda connection: connection.cursor().execute(statement, (seconds, session_id)), writes=True
    )
