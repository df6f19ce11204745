"""The plans of the statements whose cost must not grow with what they do not touch.

The measured conversation is the oldest of many: an index that does not begin with its id would
lead through all newer rows of the others first.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

import sessions
from interop.tables import make_tables
from sessions._dialects.postgresql import prepared
from sessions._dialects.postgresql.prepared import PREPARED
from sessions._items import MAX_ID
from support.claims import each_mysql
from support.rivals import connection_of, counted_by_mysql
from support.samples import items
from support.servers import connect_raw, dialect_of, execute_sql

OTHERS = 30
ROWS = 1000

# What a plan of each statement is asked with.
PARAMETERS: dict[str, dict[str, Any]] = {
    "newest_items": {"session_id": "chat_1", "count": 20, "upto": MAX_ID},
    "sealed_rows": {"session_id": "chat_1", "count": 20},
    "records": {"session_id": "chat_1", "after": 17, "upto": MAX_ID, "count": 20},
    "newest_range": {"session_id": "chat_1", "count": 20},
    "pop_item": {"session_id": "chat_1"},
    "lock_newest_items": {"session_id": "chat_1", "count": 2},
    "delete_newest_item": {"session_id": "chat_1"},
    "delete_item": {"session_id": "chat_1", "id": 17},
    "check_position": {"session_id": "chat_1", "position": 17},
    "append_items_at": {"session_id": "chat_1", "position": 17, "items": ["{}"]},
}

LISTINGS = ["sessions_newest_first", "sessions_oldest_first", "sessions_by_id", "sessions_by_id_descending"]
COUNTED = 50
PARAMETERS |= {
    name: {
        **dict.fromkeys(("updated", "session_id", "idle", "above_prefix")),
        "prefix": "",
        "count": 100,
        "count_limit": COUNTED,
    }
    for name in LISTINGS
}


def _fill(url: str) -> None:
    """Give chat_1 the oldest 1,000 rows of 31,000, and the planner its statistics."""
    with contextlib.closing(connect_raw(url)) as connection:
        mark = "?" if dialect_of(url) == "sqlite" else "%s"
        digits = " UNION ALL ".join(f"SELECT {n} AS n" for n in range(10))
        rows = f"FROM ({digits}) AS a CROSS JOIN ({digits}) AS b CROSS JOIN ({digits}) AS c"
        for session_id in ("chat_1", *(f"other_{number}" for number in range(OTHERS))):
            cursor = connection.cursor()
            cursor.execute(f"INSERT INTO agent_sessions (session_id) VALUES ({mark})", (session_id,))
            cursor.execute(
                f'INSERT INTO agent_messages (session_id, message_data) SELECT {mark}, \'{{"role":"user"}}\' {rows}',
                (session_id,),
            )
        for table in ("agent_sessions", "agent_messages"):
            analyze = "ANALYZE TABLE" if dialect_of(url) in ("mysql", "mariadb") else "ANALYZE"
            cursor = connection.cursor()
            cursor.execute(f"{analyze} {table}")
            if cursor.description:
                cursor.fetchall()


def filled(url: str, maker: str = "ours") -> str:
    """The URL of the empty database, filled; whoever makes the tables."""
    if maker == "ours":
        with sessions.Session.from_url("first", url) as session:
            session.add_items(items("makes the tables"))
            session.clear_session()
    else:
        asyncio.run(make_tables(maker, url))
    _fill(url)
    return url


def _statement(url: str, name: str) -> str:
    with sessions.connect(url) as backend:
        return str(backend._store._dialect.statements[name])  # type: ignore[attr-defined]


# --- PostgreSQL

SLOW = {"Seq Scan", "Bitmap Heap Scan"}
SORTS = {"Sort", "Incremental Sort"}


def _postgresql_plan(url: str, name: str, how: str = "") -> list[Mapping[str, Any]]:
    """The nodes of the plan."""
    with contextlib.closing(connect_raw(url)) as connection:
        statement = f"EXPLAIN (FORMAT JSON{how}) " + _statement(url, name)
        [(plans,)] = connection.execute(statement.encode(), PARAMETERS[name], prepare=False).fetchall()

    return list(_nodes(plans[0]["Plan"]))


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _looks(plan: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [node for node in plan if node.get("Relation Name") == "agent_messages" and "Index Name" in node]


@pytest.mark.parametrize("name", ["newest_items", "records", "newest_range", "pop_item", "append_items_at"])
def test_postgresql_walks_the_index_of_the_session(postgresql_url: str, name: str) -> None:
    plan = _postgresql_plan(filled(postgresql_url), name)
    looks = _looks(plan)
    assert [node["Index Name"] for node in looks][:1] == ["agent_messages_session_id_id_key"]
    assert "session_id" in looks[0]["Index Cond"]
    # pop finds the row once more, and the one below it.
    others = {"pop_item": 2 * ["agent_messages_session_id_id_key"]}
    assert [node["Index Name"] for node in looks][1:] == others.get(name, [])
    assert not any("Filter" in node for node in looks)
    assert not {node["Node Type"] for node in plan if "agent_messages" in str(node.get("Relation Name"))} & SLOW
    # append_items_at sorts the items that it is given, not the table's.
    assert name == "append_items_at" or not {node["Node Type"] for node in plan} & SORTS


@pytest.mark.parametrize("name", LISTINGS)
def test_postgresql_reads_of_a_conversation_no_more_rows_than_a_listing_counts(postgresql_url: str, name: str) -> None:
    looks = [
        node
        for node in _postgresql_plan(filled(postgresql_url), name, ", ANALYZE")
        if node.get("Relation Name") == "agent_messages"
    ]
    assert [node["Actual Loops"] for node in looks] == [OTHERS + 1]
    assert [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in looks] == [COUNTED + 1]


@pytest.mark.parametrize("maker", ["sdk-asyncpg", "npm"])
@pytest.mark.parametrize("name", ["newest_items", "records", "newest_range", "pop_item", "append_items_at"])
def test_postgresql_reads_no_other_conversation_in_tables_of_others(postgresql_url: str, maker: str, name: str) -> None:
    # Their index is (session_id, created_at): the conversation has to be sorted, which is as much as
    # can be had without an index of ours.
    plan = _postgresql_plan(filled(postgresql_url, maker), name)
    looks = _looks(plan)
    assert looks[0]["Index Name"] == "idx_agent_messages_session_time"
    assert "session_id" in looks[0]["Index Cond"]
    assert not {node["Node Type"] for node in plan if node.get("Relation Name") == "agent_messages"} & SLOW


@pytest.mark.parametrize("name", ["newest_items", "records", "pop_item"])
def test_one_more_index_makes_the_tables_of_the_sdk_as_quick_as_ours(postgresql_url: str, name: str) -> None:
    url = filled(postgresql_url, "sdk-asyncpg")
    execute_sql(url, "CREATE INDEX agent_messages_by_session ON agent_messages (session_id, id)")
    plan = _postgresql_plan(url, name)
    assert not {node["Node Type"] for node in plan} & SORTS
    direction = "Forward" if name == "records" else "Backward"
    walks = [node["Index Name"] for node in plan if node.get("Scan Direction") == direction]
    assert walks[:1] == ["agent_messages_by_session"]


# How rows may be spread over sessions: how many have how many.
SPREADS = {
    "even": [(31, 1000)],
    "one has nearly all, of many": [(1, 27_000), (300, 10)],
    "one has nearly all, of two": [(1, 27_000), (1, 1000)],
    "one has all": [(1, 20_000), (1, 0)],
}


@pytest.fixture
def spread(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[sessions.Backend]:
    """A backend with one connection, and rows of sessions called 0, 1 and so on, in random order."""
    with sessions.connect(postgresql_url, pool_size=1) as backend:
        _spread(backend, postgresql_url, SPREADS[request.param])
        yield backend


def _spread(backend: sessions.Backend, url: str, counts: list[tuple[int, int]]) -> None:
    backend.session("0").add_items(items("makes the tables"))
    numbers = [count for many, count in counts for _ in range(many)]
    rows = " UNION ALL ".join(
        f"SELECT '{name}' AS name, random() AS place FROM generate_series(1, {count})"
        for name, count in enumerate(numbers)
    )
    with contextlib.closing(connect_raw(url)) as connection:
        connection.execute(
            f"INSERT INTO agent_sessions (session_id) SELECT generate_series(1, {len(numbers) - 1})::text"
        )
        connection.execute(
            "INSERT INTO agent_messages (session_id, message_data) "
            f"""SELECT name, '{{"role":"user"}}' || repeat(' ', 200) FROM ({rows}) AS r ORDER BY place""".encode()
        )
        connection.execute("ANALYZE")


def _touched(backend: sessions.Backend, work: Callable[[], object]) -> int:
    """How many rows of messages the server has fetched for the backend's only connection."""
    count = (
        "SELECT seq_tup_read + idx_tup_fetch + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes "
        "WHERE relname = 'agent_messages') FROM pg_stat_user_tables WHERE relname = 'agent_messages'"
    )

    def counted() -> int:
        with connection_of(backend) as connection:
            connection.execute("SELECT pg_stat_force_next_flush()")
            [(number,)] = connection.execute(count).fetchall()
        return int(number)

    before = counted()
    work()
    return counted() - before


def _plans_without_values(backend: sessions.Backend) -> list[int]:
    """How often each statement was executed by a plan that knows no values."""
    with connection_of(backend) as connection:
        rows = connection.execute("SELECT generic_plans FROM pg_prepared_statements").fetchall()
    return [number for (number,) in rows]


@pytest.mark.parametrize("spread", SPREADS, indirect=True)
def test_postgresql_touches_few_rows_however_often_it_was_asked(
    spread: sessions.Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "monotonic", lambda: 0.0)  # nothing is planned anew on a slow machine
    large, small = spread.session("0"), spread.session("1")

    def use(session: sessions.Session) -> None:
        position = session.position()
        session.get_items(limit=20)
        session.add_items(items("x"), if_position=position)
        session.add_items(items("y"))
        session.pop_item()
        session.pop_item()

    # The one that has most makes a plan for it dear, so that one without values may be preferred.
    for _ in range(7):
        large.get_items()
        use(large)
        use(small)
    # The server may go on to plan with values what reads a whole conversation, or only its end.
    plans = _plans_without_values(spread)
    assert sum(number > 0 for number in plans) >= len(plans) - 2 > 3
    for session in (large, small):
        assert _touched(spread, lambda: use(session)) < 2 * 60  # noqa: B023
    mine = len(small.get_items())
    # A few of the rows that were popped may not have been tidied away.
    assert _touched(spread, small.get_items) <= 2 * mine + 60


@pytest.mark.parametrize("spread", SPREADS, indirect=True)
def test_postgresql_needs_no_values_to_walk_the_index_of_the_session(spread: sessions.Backend) -> None:
    for name in PREPARED:
        scans = [
            node
            for node in _plan_without_values(spread, name)
            if node.get("Relation Name") == "agent_messages" and "Scan" in node["Node Type"]
        ]
        assert scans
        for scan in scans:
            if scan["Index Name"] == "agent_messages_pkey":  # pop finds its row once more
                assert "(id = " in scan["Index Cond"]
            else:
                assert scan["Index Name"] == "agent_messages_session_id_id_key"
                assert "Filter" not in scan


def _plan_without_values(backend: sessions.Backend, name: str) -> list[Mapping[str, Any]]:
    statement: str = backend._store._dialect.statements[name]  # type: ignore[attr-defined]
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)", statement)))
    types = {"session_id": "text", "items": "text[]"}
    declared = ", ".join(types.get(each, "bigint") for each in names)
    text = re.sub(r"%\((\w+)\)[sb]", lambda match: f"${names.index(match[1]) + 1}", statement)
    with connection_of(backend) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE {name} ({declared}) AS {text}".encode())
        values = ", ".join(["NULL"] * len(names))
        [(plans,)] = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {name} ({values})".encode()).fetchall()
    return list(_nodes(plans[0]["Plan"]))


def test_postgresql_forgets_the_plan_of_a_small_table_after_some_seconds(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.connect(postgresql_url, pool_size=1) as backend:
        session = backend.session("0")
        session.add_items(items("a"))
        execute_sql(postgresql_url, "VACUUM ANALYZE")
        for _ in range(8):
            session.get_items(limit=20)
        # Which nobody tells the planner.
        execute_sql(postgresql_url, "ALTER TABLE agent_messages SET (autovacuum_enabled = off)")
        for _ in range(8):
            session.get_items(limit=20)
        backend.session("1").add_items(items(*["x" * 200] * 20_000))
        monkeypatch.setattr(prepared, "monotonic", lambda: monotonic() + 60)
        session.get_items(limit=20)
        assert _touched(backend, lambda: session.get_items(limit=20)) <= 4


# --- MySQL and MariaDB


def _mysql_plan(url: str, name: str, tables: tuple[str, ...] = ("agent_messages",)) -> list[dict[str, Any]]:
    from pymysql.cursors import DictCursor

    with contextlib.closing(connect_raw(url)) as connection:
        cursor = connection.cursor(DictCursor)
        cursor.execute("EXPLAIN FORMAT=TRADITIONAL " + _statement(url, name), PARAMETERS[name])
        return [row for row in cursor.fetchall() if row["table"] in tables]


MYSQL_STATEMENTS = (
    *("newest_items", "records", "newest_range", "check_position"),
    *("lock_newest_items", "delete_newest_item", "delete_item"),
)


@each_mysql
def test_mysql_walks_the_primary_key(server_url: str) -> None:
    url = filled(server_url)
    for row in (row for name in MYSQL_STATEMENTS for row in _mysql_plan(url, name)):
        assert "filesort" not in (row["Extra"] or "")
        # Optimized away: the answer is one look into an index.
        assert row["key"] in ("PRIMARY", None)
        assert row["type"] in ("ref", "range", "const") or "optimized away" in row["Extra"]


@each_mysql
def test_mysql_touches_only_the_rows_that_it_returns_or_removes(server_url: str) -> None:
    # Exact, as the storage engine counts: not what the optimizer means to do.
    with sessions.Session.from_url("chat_1", filled(server_url)) as session:
        session.get_items(limit=1)  # a connection's first read asks as on tables of others
        assert _rows_read(session, lambda: session.get_items(limit=20)) <= 22
        assert _rows_read(session, lambda: list(session.records(limit=20))) <= 2 * 22
        position = session.position()
        # The last two are what the write looks at behind itself: the session, and the row that is there now.
        assert _rows_read(session, lambda: session.add_items(items("x"), if_position=position)) <= 6 + 2
        assert _rows_read(session, session.pop_item) <= 6


@each_mysql
def test_mysql_reads_of_a_conversation_no_more_rows_than_a_listing_counts(server_url: str) -> None:
    with sessions.connect(filled(server_url)) as backend:
        number = len(backend.list_sessions())
        few = 3 * (COUNTED + 1) * number
        for order, newest_first in (("updated", True), ("updated", False), ("id", False), ("id", True)):

            def page(order: Any = order, newest_first: bool = newest_first) -> object:
                return backend.list_sessions(order=order, newest_first=newest_first, count_limit=COUNTED)

            assert _rows_read(backend, page) <= few
        # Once to see whether there are more, and once to count.
        every = 2 * ROWS * number + few
        assert _rows_read(backend, backend.list_sessions) <= every
        assert _rows_read(backend, lambda: backend.list_sessions(count_limit=None)) <= every
        assert _rows_read(backend, lambda: backend.prune(timedelta(0), dry_run=True)) <= every
        assert _rows_read(backend, lambda: backend.first_messages(["chat_1", "other_7"])) <= 20
        assert _rows_read(backend, backend.stats) <= 2 * every


@each_mysql
@pytest.mark.parametrize("maker", ["sdk-by-hand", "npm"])
def test_mysql_reads_no_other_conversation_in_tables_of_others(server_url: str, maker: str) -> None:
    url = filled(server_url, maker)
    with sessions.Session.from_url("chat_1", url) as session:
        session.position()
        assert _rows_read(session, lambda: session.get_items(limit=20)) <= ROWS + 100
        assert _rows_read(session, lambda: list(session.records(limit=20))) <= 2 * ROWS + 100
        assert _rows_read(session, session.pop_item) <= 2 * ROWS + 100


def _rows_read(ours: sessions.Session | sessions.Backend, work: Callable[[], object]) -> int:
    before = counted_by_mysql(ours, "Handler_read%")
    work()
    read = counted_by_mysql(ours, "Handler_read%") - before
    return sum(count for name, count in read.items() if not name.endswith("rnd_next"))


# --- SQLite


def _sqlite_plan(url: str, name: str) -> list[str]:
    with contextlib.closing(connect_raw(url)) as connection:
        rows = connection.execute("EXPLAIN QUERY PLAN " + _statement(url, name), PARAMETERS[name]).fetchall()
    return [row[3] for row in rows]


def test_sqlite_walks_the_index_of_the_session(sqlite_url: str) -> None:
    url = filled(sqlite_url)
    for name, bounds in {"newest_items": " AND id<?", "records": " AND id>? AND id<?", "newest_range": ""}.items():
        plan = _sqlite_plan(url, name)
        index = f"sqlite_autoindex_agent_messages_1 (session_id=?{bounds})"
        looks = [step for step in plan if "agent_messages" in step]
        assert looks in ([f"SEARCH agent_messages USING {kind} {index}"] for kind in ("INDEX", "COVERING INDEX"))
        assert not any("TEMP B-TREE" in step for step in plan)
    assert _sqlite_plan(url, "delete_item") == BY_ID


@pytest.mark.parametrize("name", LISTINGS)
def test_sqlite_counts_by_the_index_of_the_session_in_a_listing(sqlite_url: str, name: str) -> None:
    plan = _sqlite_plan(filled(sqlite_url), name)
    index = "sqlite_autoindex_agent_messages_1 (session_id=?)"
    assert [step for step in plan if "agent_messages" in step] == [
        f"SEARCH agent_messages USING COVERING INDEX {index}"
    ]


BY_ID = ["SEARCH agent_messages USING INTEGER PRIMARY KEY (rowid=?)"]


@pytest.mark.parametrize("maker", ["sdk-sqlite", "sdk-aiosqlite", "npm"])
def test_sqlite_reads_no_other_conversation_in_tables_of_others(sqlite_url: str, maker: str) -> None:
    url = filled(sqlite_url, maker)
    for name in ("newest_items", "records", "newest_range"):
        plan = _sqlite_plan(url, name)
        [look] = [step for step in plan if "agent_messages" in step]
        assert look.startswith("SEARCH agent_messages USING"), json.dumps(plan)
        assert "INDEX idx_agent_messages_session_" in look, json.dumps(plan)
    assert _sqlite_plan(url, "delete_item") == BY_ID


# --- under seals


@pytest.mark.parametrize("tables", ["ours", "of others"])
def test_a_sealed_read_walks_an_index_of_the_session(sql_url: str, tables: str) -> None:
    dialect = dialect_of(sql_url)
    maker = {"sqlite": "sdk-sqlite", "postgresql": "sdk-asyncpg"}.get(dialect, "npm")
    url = filled(sql_url, *([] if tables == "ours" else [maker]))
    with sessions.connect(url, integrity_key="of a length that a key should have") as backend:
        backend.session("another").get_items()  # makes the table of ends
    name = "sealed_rows"
    if dialect == "sqlite":
        [step] = [step for step in _sqlite_plan(url, name) if "agent_messages" in step]
        assert step.startswith("SEARCH agent_messages USING")
        assert "session_id=?" in step
    elif dialect == "postgresql":
        [node] = _looks(_postgresql_plan(url, name))
        assert "session_id" in node["Index Cond"]
    else:
        [found, message] = _mysql_plan(url, name, ("found", "message"))
        assert found["type"] in ("ref", "range")
        assert message["type"] in ("eq_ref", "const")
