"""On MySQL and MariaDB an operation reads and locks the rows of its own conversation, whoever has made the tables.

The measured conversation is a large part of the table, with rows of others before, between and behind its own: an
optimizer that is not told otherwise walks the table, or all conversations by id.
"""

import asyncio
import contextlib
from collections.abc import Callable

import pytest

import sessions
from interop.tables import make_tables
from support.claims import each_mysql
from support.rivals import counted_by_mysql
from support.samples import items
from support.servers import connect_raw, execute_sql

Work = Callable[[sessions.Session, sessions.Backend], object]

pytestmark = pytest.mark.slow

OWN = 1_000
TOTAL = 11_000
SMALL = 5

# What an operation may read beside the rows of its conversation: further looks, and the rows that it adds.
FEW = 100

# "stale": counted while they were empty.
TABLES = {
    "ours": ("ours", False),
    "ours, stale": ("ours", True),
    "the SDK's": ("sdk-by-hand", False),
    "the SDK's, stale": ("sdk-by-hand", True),
    "of npm": ("npm", False),
}

# How often an operation may look at each row of its conversation: to find it, to lock it, to read or delete it.
OPERATIONS: dict[str, tuple[int, Work]] = {
    "get_items": (3, lambda session, _: session.get_items()),
    "get_items(20)": (1, lambda session, _: session.get_items(limit=20)),
    "records(20)": (2, lambda session, _: list(session.records(limit=20))),
    "records": (8, lambda session, _: list(session.records())),
    "position": (1, lambda session, _: session.position()),
    "add_items": (1, lambda session, _: session.add_items(items("a", "b"))),
    "add_items(if_position)": (2, lambda session, _: session.add_items(items("a"), if_position=session.position())),
    "pop_item": (2, lambda session, _: session.pop_item()),
    "replace_items": (4, lambda session, _: session.replace_items(items("a", "b"))),
    "clear_session": (4, lambda session, _: session.clear_session()),
    "fork": (10, lambda session, _: session.fork("copy")),
    "delete_record": (2, lambda session, _: session.delete_record(session.position())),
    "list_sessions": (2, lambda _, backend: backend.list_sessions(prefix="chat_")),
    "first_messages": (3, lambda _, backend: backend.first_messages(["chat_1"])),
    "delete_sessions": (5, lambda _, backend: backend.delete_sessions(["chat_1"])),
}
WRITES = ("add_items", "pop_item", "replace_items", "clear_session", "fork", "delete_record", "delete_sessions")

each_table = pytest.mark.parametrize("tables", TABLES.values(), ids=TABLES)


_DIGITS = " UNION ALL ".join(f"SELECT {n} AS n" for n in range(10))
_SERIES = (
    "(SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n AS n FROM "
    + " CROSS JOIN ".join(f"({_DIGITS}) AS {letter}" for letter in "abcde")
    + f") AS series WHERE n < {TOTAL}"
)
_SESSION = f"IF(n BETWEEN 4000 AND 7999 AND n MOD 4 = 0, 'chat_1', CONCAT('other_', n DIV {SMALL}))"
_TEXT = '{"role":"user","content":"hello"}'
_SESSION_ROWS = f"INSERT IGNORE INTO agent_sessions (session_id) SELECT DISTINCT {_SESSION} FROM {_SERIES}"
_ROWS = (
    "INSERT IGNORE INTO agent_messages (id, session_id, message_data, created_at) "
    f"SELECT n + 1, {_SESSION}, '{_TEXT}', TIMESTAMP '2026-01-01 00:00:00' + INTERVAL n SECOND FROM {_SERIES} "
    "ORDER BY n"
)
_ANALYZE = "ANALYZE TABLE agent_messages, agent_sessions"


def _fill(url: str, maker: str, *, stale: bool) -> None:
    if maker == "ours":
        with sessions.Session.from_url("first", url) as session:
            session.add_items(items("makes the tables"))
            session.clear_session()
    else:
        asyncio.run(make_tables(maker, url))
    if stale:
        execute_sql(url, "ALTER TABLE agent_messages STATS_PERSISTENT = 1, STATS_AUTO_RECALC = 0")
        execute_sql(url, _ANALYZE)
    execute_sql(url, _SESSION_ROWS)
    execute_sql(url, _ROWS)
    if not stale:
        execute_sql(url, _ANALYZE)


def _mend(url: str) -> None:
    """Let chat_1 be as it was."""
    execute_sql(url, "DELETE FROM agent_messages WHERE session_id IN ('chat_1', 'copy')")
    execute_sql(url, "DELETE FROM agent_sessions WHERE session_id = 'copy'")
    execute_sql(url, "INSERT IGNORE INTO agent_sessions (session_id) VALUES ('chat_1')")
    execute_sql(url, _ROWS.replace(" ORDER BY", " AND n BETWEEN 4000 AND 7999 AND n MOD 4 = 0 ORDER BY"))


def _rows_looked_at(backend: sessions.Backend, work: Work) -> int:
    """How often the storage engine was asked for a row: exact, not what the optimizer means to do."""
    before = counted_by_mysql(backend, "Handler_read%")
    work(backend.session("chat_1"), backend)
    # Of the tables that the server makes for itself, too.
    return (counted_by_mysql(backend, "Handler_read%") - before).total()


@each_mysql
@each_table
def test_an_operation_reads_no_other_conversation(server_url: str, tables: tuple[str, bool]) -> None:
    maker, stale = tables
    _fill(server_url, maker, stale=stale)
    found = {}
    for name, (_, work) in OPERATIONS.items():
        # The first time nothing is known of the tables.
        for turn in ("the first time", "later"):
            with sessions.connect(server_url) as backend:
                if turn == "later":
                    backend.session("none").get_items(limit=1)
                    backend.session("none").add_items(items("a"))
                found[name, turn] = _rows_looked_at(backend, work)
            _mend(server_url)
    allowed = {name: times * OWN + FEW for name, (times, _) in OPERATIONS.items()}
    assert {case: count for case, count in found.items() if count > allowed[case[0]]} == {}


@each_mysql
@each_table
def test_a_write_locks_no_other_conversation(server_url: str, tables: tuple[str, bool]) -> None:
    maker, stale = tables
    _fill(server_url, maker, stale=stale)
    free = "SELECT id FROM agent_messages WHERE session_id <> 'chat_1' FOR UPDATE SKIP LOCKED"
    locked = {}
    for name in WRITES:
        with contextlib.closing(connect_raw(server_url)) as connection:
            connection.autocommit(False)
            backend = sessions.bind(connection)
            OPERATIONS[name][1](backend.session("chat_1"), backend)
            locked[name] = TOTAL - OWN - len(execute_sql(server_url, free))
            connection.rollback()
    # The row behind a conversation's last one stands for the gap between them.
    assert {name: count for name, count in locked.items() if count > SMALL} == {}
