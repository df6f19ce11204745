"""Packets of several statements on MySQL and MariaDB: nothing gets in, and none grows too large.

CLIENT.MULTI_STATEMENTS is what makes one round trip of a transaction, and what would make a
statement of a badly escaped value. Here the values try to.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from support.claims import refused
from support.injections import INJECTIONS, put_everywhere
from support.proxy import Proxy
from support.rivals import counted_by_mysql
from support.samples import item, items, refuse_poisoned_rows, stored_sessions, stored_texts
from support.servers import Server, connect_raw, execute_sql, with_parts

NUL_IN_ITEMS = "\0'; DROP TABLE canary; -- "

SQL_MODES = ("", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT")

by_server = pytest.mark.parametrize(
    "dialect", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mysql", "mariadb")], scope="module"
)


@pytest.fixture(scope="module")
def own_server(dialect: str, start_server: Callable[..., Any]) -> Iterator[Server]:
    """A server whose settings these tests change: packets of at most 1 MiB, and its sql_mode."""
    with start_server(dialect, arguments=("--max-allowed-packet=1M", "--innodb-buffer-pool-size=64M")) as server:
        yield server


@pytest.fixture
def database(own_server: Server) -> Iterator[str]:
    with own_server.database() as url:
        yield url
    execute_sql(own_server.url, "SET GLOBAL sql_mode = DEFAULT")


@pytest.fixture(params=SQL_MODES, ids=["default mode", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"])
def moded(request: pytest.FixtureRequest, database: str, own_server: Server) -> str:
    """A database with a canary, on a server with that sql_mode for every new connection."""
    execute_sql(database, "CREATE TABLE canary (id INTEGER PRIMARY KEY)")
    execute_sql(database, "INSERT INTO canary (id) VALUES (1)")
    if request.param:
        execute_sql(own_server.url, "SET GLOBAL sql_mode = %s", (request.param,))
    return database


@contextlib.contextmanager
def _raw_with_multi_statements(url: str) -> Iterator[Any]:
    """An application's connection that takes several statements in a packet, the worst that could be bound."""
    import pymysql
    from pymysql.constants import CLIENT

    plain = connect_raw(url)
    connection = pymysql.connect(
        host=plain.host,
        port=plain.port,
        user=plain.user,
        password=plain.password,
        database=plain.db,
        charset="utf8mb4",
        autocommit=True,
        client_flag=CLIENT.MULTI_STATEMENTS,
    )
    plain.close()
    with contextlib.closing(connection):
        yield connection


# --- values stay values


@by_server
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="ASCII"),
        pytest.param({"ensure_ascii": False}, id="Unicode"),
        pytest.param({"ensure_ascii": False, "multi_statements": False}, id="one by one"),
    ],
)
def test_no_value_turns_into_a_statement(moded: str, options: dict[str, Any]) -> None:
    with sessions.connect(moded, **options) as backend:
        for text in INJECTIONS.values():
            put_everywhere(backend.session(text), text)
        put_everywhere(backend.session("chat_1"), NUL_IN_ITEMS)
    assert execute_sql(moded, "SELECT id FROM canary") == [(1,)]
    assert set(stored_sessions(moded)) == {*INJECTIONS.values(), "chat_1"}


@by_server
def test_no_value_turns_into_a_statement_on_a_bound_connection(moded: str) -> None:
    with sessions.connect(moded) as backend:
        backend.session("chat_1").add_items(items("makes the tables"))
    with _raw_with_multi_statements(moded) as connection, sessions.bind(connection) as backend:
        for text in INJECTIONS.values():
            put_everywhere(backend.session(text), text)
    assert execute_sql(moded, "SELECT id FROM canary") == [(1,)]


@by_server
def test_a_mode_that_changes_under_a_bound_connection_changes_its_escaping(moded: str) -> None:
    with sessions.connect(moded) as backend:
        backend.session("chat_1").add_items(items("makes the tables"))
    with _raw_with_multi_statements(moded) as connection, sessions.bind(connection) as backend:
        session = backend.session("'\\")
        for mode in ("NO_BACKSLASH_ESCAPES", "", "ANSI_QUOTES"):
            connection.cursor().execute("SET sql_mode = %s", (mode,))
            for text in INJECTIONS.values():
                session.replace_items(items(text))
                assert session.get_items() == items(text)
    assert execute_sql(moded, "SELECT id FROM canary") == [(1,)]


@by_server
def test_the_server_executes_as_many_statements_as_for_harmless_values(moded: str) -> None:
    with sessions.connect(moded) as backend:
        backend.session("harmless").add_items(items("makes the tables"))
        backend.session("harmless").get_items()  # from here on it is known how they are laid out
        counts = {}
        for text in ("harmless", "harmless ", *INJECTIONS.values()):
            before = counted_by_mysql(backend)
            put_everywhere(backend.session(text), text)
            counts[text] = counted_by_mysql(backend) - before
    # An id that ends in a blank is looked for after it was written.
    for text, count in counts.items():
        assert count == counts["harmless " if text.endswith(" ") else "harmless"], text


@by_server
@pytest.mark.parametrize("name", ["select", "a--b", "-- a", "$$", "100", "a b c", "ALL-ÜÑÎ"])
def test_odd_table_names_that_are_allowed_are_names(moded: str, name: str) -> None:
    with sessions.connect(moded, messages_table=name, sessions_table=f"{name}_sessions") as backend:
        put_everywhere(backend.session("chat_1"), "'; DROP TABLE canary; -- ")
    assert execute_sql(moded, "SELECT id FROM canary") == [(1,)]


@by_server
def test_a_database_name_stays_a_name(own_server: Server) -> None:
    bad = with_parts(own_server.url, database="mysql`; DROP DATABASE mysql; -- ")
    with sessions.connect(bad, max_retries=0) as backend, pytest.raises(sessions.SessionsError):
        backend.session("chat_1").get_items()
    assert execute_sql(own_server.url, "SELECT COUNT(*) > 0 FROM mysql.user") == [(1,)]


# --- packets stay below the server's limit


def _large(count: int) -> list[dict[str, Any]]:
    return [{"number": number, "content": "x'\\" * 4000} for number in range(count)]


@by_server
def test_a_large_batch_is_one_transaction_in_several_packets(database: str) -> None:
    with Proxy(database) as proxy, sessions.Session.from_url("chat_1", proxy.url + "?ssl-mode=DISABLED") as session:
        session.add_items(items("first"))
        before = counted_by_mysql(session)
        with proxy.counting() as count:
            session.add_items(_large(300))
        statements = counted_by_mysql(session) - before
        assert session.get_items() == [*items("first"), *_large(300)]
    assert (statements["begin"], statements["commit"]) == (1, 1)
    # 7.3 MB as SQL, two of three characters being escaped, in packets of a little less than 1 MiB.
    assert 7 <= count.round_trips <= 10
    assert statements["insert"] == 1 + count.round_trips


@by_server
@pytest.mark.parametrize("bad", [0, 150, 299], ids=["first packet", "in the middle", "last packet"])
@pytest.mark.parametrize("name", ["add_items", "replace_items"])
def test_a_large_batch_that_fails_in_any_packet_leaves_everything(database: str, name: str, bad: int) -> None:
    with sessions.Session.from_url("chat_1", database) as session:
        session.add_items(items("first"))
        refuse_poisoned_rows(database)
        batch = _large(300)
        batch[bad] = {"content": "poison"}
        with pytest.raises(sessions.DatabaseError):
            getattr(session, name)(batch)
        assert session.get_items() == items("first")
        getattr(session, name)(_large(300))
        assert session.get_items()[-300:] == _large(300)


@by_server
@pytest.mark.parametrize("bound", [False, True], ids=["pooled", "bound"])
def test_an_item_above_the_limit_is_a_named_error_and_writes_nothing(database: str, *, bound: bool) -> None:
    batch = [*items("before"), {"content": "x" * (1 << 20)}, *items("after")]
    with sessions.Session.from_url("chat_1", database) as session:
        session.add_items(items("first"))
    with contextlib.ExitStack() as stack:
        if bound:
            connection = stack.enter_context(_raw_with_multi_statements(database))
            backend = stack.enter_context(sessions.bind(connection))
        else:
            backend = stack.enter_context(sessions.connect(database))
        session = backend.session("chat_1")
        for write in (session.add_items, session.replace_items):
            with refused(sessions.DatabaseError, match="max_allowed_packet"):
                write(batch)
        [first] = session.records()
        for size in (1 << 20, 3 << 20):  # of the larger one a server hears nothing to its end
            with refused(sessions.DatabaseError, match="max_allowed_packet"):
                session.replace_record(first.id, item("x" * size))
        assert session.get_items() == items("first")
        session.add_items(items("second"))
    assert len(stored_texts(database)) == 2


@by_server
@pytest.mark.parametrize("letter", ["x", "'", "\u00e9", "\U0001f600"], ids=["ASCII", "escaped", "2 bytes", "4 bytes"])
def test_an_item_near_the_limit_is_stored_or_refused_by_name(database: str, letter: str) -> None:
    # The limit is one of bytes of SQL: what counts is the item escaped and encoded.
    bytes_each = len(letter.encode()) + (letter == "'")
    stored = 0
    with sessions.Session.from_url("chat_'\\" * 20, database, ensure_ascii=False, max_retries=0) as session:
        for distance in (40_000, 17_000, 16_500, 16_400, 16_300, 16_000, 1000, 100, 0, -100):
            entry = {"content": letter * (((1 << 20) - distance) // bytes_each)}
            try:
                session.replace_items([{"small": 1}, entry])
            except sessions.DatabaseError as exc:
                assert "max_allowed_packet" in str(exc)  # noqa: PT017  (some of them are small enough)
                continue
            stored += 1
            assert session.get_items() == [{"small": 1}, entry]
    assert stored >= 2
