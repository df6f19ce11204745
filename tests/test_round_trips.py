"""What an operation costs on a warm connection, exactly: round trips, and the statements in them.

Times vary with the machine and are only reported, by the benchmarks; these figures do not, and a
change that adds a trip fails here.
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from support.proxy import Proxy
from support.samples import items
from support.servers import connect_raw, dialect_of, execute_sql

Operation = Callable[[sessions.Session], object]


def _add_100(session: sessions.Session) -> None:
    session.add_items(items(*map(str, range(100))))


def _add_at_position(session: sessions.Session) -> None:
    assert session._history._seen is not None
    session.add_items(items("next"), if_position=session._history._seen)


def _replace_at_position(session: sessions.Session) -> None:
    assert session._history._seen is not None
    session.replace_items(items("only"), if_position=session._history._seen)


OPERATIONS: dict[str, Operation] = {
    "get_items": lambda session: session.get_items(),
    "get_items(limit=20)": lambda session: session.get_items(limit=20),
    "position": lambda session: session.position(),
    "add_items of 1": lambda session: session.add_items(items("one")),
    "add_items of 100": _add_100,
    "add_items(if_position)": _add_at_position,
    "pop_item": lambda session: session.pop_item(),
    "replace_items": lambda session: session.replace_items(items("a", "b", "c")),
    "replace_items(if_position)": _replace_at_position,
    "replace_items of nothing": lambda session: session.replace_items([]),
    "clear_session": lambda session: session.clear_session(),
}

_ADD = ("begin", "insert", "insert", "commit")
_READ = ("select",)

# The statements of each operation, in the words of MySQL's counters Com_*.
MYSQL_STATEMENTS = {
    "get_items": _READ,
    "get_items(limit=20)": _READ,
    "position": _READ,
    "add_items of 1": _ADD,
    "add_items of 100": _ADD,
    "add_items(if_position)": (*_ADD, "select"),
    "pop_item": ("begin", "update", "select", "delete", "commit"),
    "replace_items": (*_ADD, "delete"),
    "replace_items(if_position)": (*_ADD, "select", "delete"),
    "replace_items of nothing": ("begin", "insert", "delete", "commit"),
    "clear_session": ("begin", "update", "delete", "delete", "commit"),
}

# The first words of the statements, in order; SQLite runs each item of a batch by itself.
SQLITE_STATEMENTS = {
    "get_items": ("SELECT",),
    "get_items(limit=20)": ("SELECT",),
    "position": ("SELECT",),
    "add_items of 1": ("BEGIN", "INSERT", "INSERT", "COMMIT"),
    "add_items of 100": ("BEGIN", "INSERT", *["INSERT"] * 100, "COMMIT"),
    "add_items(if_position)": ("BEGIN", "INSERT", "SELECT", "INSERT", "COMMIT"),
    "pop_item": ("BEGIN", "SELECT", "DELETE", "COMMIT"),
    "replace_items": ("BEGIN", "INSERT", "DELETE", "INSERT", "INSERT", "INSERT", "COMMIT"),
    "replace_items(if_position)": ("BEGIN", "INSERT", "SELECT", "DELETE", "INSERT", "COMMIT"),
    "replace_items of nothing": ("BEGIN", "INSERT", "DELETE", "COMMIT"),
    "clear_session": ("BEGIN", "DELETE", "DELETE", "COMMIT"),
}

by_operation = pytest.mark.parametrize("name", OPERATIONS)


@pytest.fixture
def proxy(server_url: str) -> Iterator[Proxy]:
    with Proxy(server_url) as proxy:
        yield proxy


def _warm(url: str) -> sessions.Session:
    """Open a session that has a history and an idle connection."""
    session = sessions.Session.from_url("chat_1", url)
    session.add_items(items("first", "second"))
    session.position()
    return session


def _own_connection(session: sessions.Session) -> Any:
    """The one connection of the session's pool."""
    return session._history.store._attempts._lender.connection(writes=False)  # type: ignore[attr-defined]


# --- round trips


@by_operation
def test_a_warm_operation_is_one_round_trip(proxy: Proxy, name: str) -> None:
    with _warm(proxy.url) as session, proxy.counting() as count:
        OPERATIONS[name](session)
    assert (count.round_trips, count.connections) == (1, 0)


def test_the_hundredth_operation_costs_what_the_first_did(proxy: Proxy) -> None:
    # psycopg prepares a statement that was used five times, if it is allowed to: one more trip.
    with _warm(proxy.url) as session, proxy.counting() as count:
        for _ in range(10):
            for name in ("add_items of 1", "get_items", "get_items(limit=20)", "position", "pop_item"):
                OPERATIONS[name](session)
    assert (count.round_trips, count.connections) == (50, 0)


def test_a_history_beyond_one_packet_of_the_network_is_still_one_round_trip(proxy: Proxy) -> None:
    with _warm(proxy.url) as session:
        with proxy.counting() as adding:
            session.add_items(items(*["x" * 4000] * 300))
        with proxy.counting() as reading:
            assert len(session.get_items()) == 302
    assert (adding.round_trips, reading.round_trips) == (1, 1)


def test_a_light_handle_costs_nothing(proxy: Proxy) -> None:
    with sessions.connect(proxy.url) as backend, proxy.counting() as count:
        backend.session("chat_1").close()
    assert (count.round_trips, count.connections) == (0, 0)


def test_adding_nothing_costs_nothing(proxy: Proxy) -> None:
    with _warm(proxy.url) as session, proxy.counting() as count:
        session.add_items([])
    assert count.round_trips == 0


# --- opening


@pytest.mark.parametrize("name", ["get_items", "add_items of 1", "pop_item", "position", "clear_session"])
def test_opening_is_the_handshake_and_at_most_one_round_trip(proxy: Proxy, server_url: str, name: str) -> None:
    # With tables that are there, whoever made them: they are neither looked for nor created. This is
    # also the first login of the user, which takes MySQL longer than the next ones.
    with _warm(server_url):
        pass
    with proxy.counting() as raw:
        connection = connect_raw(proxy.url)
    # PyMySQL's SET NAMES is that one trip; ours says more in it. psycopg needs none, but asks for TLS,
    # as it does in a raw connect.
    with sessions.Session.from_url("chat_1", proxy.url + _NO_TLS[dialect_of(server_url)]) as session:
        with proxy.counting() as count:
            OPERATIONS[name](session)
        assert (count.round_trips, count.connections) == (raw.round_trips + 1, 1)
    # Not before: its goodbye would be counted too.
    connection.close()


_NO_TLS = {"postgresql": "", "mysql": "?ssl-mode=DISABLED", "mariadb": "?ssl-mode=DISABLED"}


def test_making_the_tables_is_left_to_whoever_finds_them_missing(proxy: Proxy) -> None:
    with sessions.Session.from_url("chat_1", proxy.url) as session:
        session.add_items(items("first"))
        with proxy.counting() as count:
            session.add_items(items("second"))
    with sessions.Session.from_url("chat_1", proxy.url) as again, proxy.counting() as opening:
        again.add_items(items("third"))
    assert count.round_trips == 1
    assert opening.connections == 1


# --- statements


@by_operation
def test_a_warm_operation_is_one_statement_on_postgresql(postgresql_url: str, name: str) -> None:
    with _warm(postgresql_url) as session:
        messages = _messages_to_postgresql(session, lambda: OPERATIONS[name](session))
    # The extended protocol, unprepared; nothing begins or commits.
    assert messages == ["Parse", "Bind", "Describe", "Execute", "Sync"]


def _messages_to_postgresql(session: sessions.Session, work: Callable[[], object]) -> list[str]:
    """The messages that libpq itself says it sent meanwhile."""
    with tempfile.TemporaryFile("w+") as file:
        with _own_connection(session) as connection:
            connection.pgconn.trace(file.fileno())
        work()
        with _own_connection(session) as connection:
            connection.pgconn.untrace()
        file.seek(0)
        lines = [line.split("\t") for line in file]
    # Time, direction, length, message; libpq's own continuation lines have no direction.
    return [line[3].strip() for line in lines if len(line) > 3 and line[1] == "F"]


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
@by_operation
def test_a_warm_operation_sends_no_statement_too_many_to_mysql(
    make_url: Callable[[str], str], dialect: str, name: str
) -> None:
    with _warm(make_url(dialect)) as session:
        before = _counted_by_mysql(session)
        OPERATIONS[name](session)
        after = _counted_by_mysql(session)
    assert after - before == Counter(MYSQL_STATEMENTS[name])


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_the_first_operation_on_prepared_tables_looks_for_none_on_mysql(
    make_url: Callable[[str], str], dialect: str
) -> None:
    url = make_url(dialect)
    with _warm(url):
        pass
    with sessions.Session.from_url("chat_1", url) as session:
        session.add_items(items("one"))
        counted = _counted_by_mysql(session)
    # The SELECT is @@max_allowed_packet; a look at the tables would be another, or SHOW.
    assert counted == Counter([*_ADD, "select", "set_option", "set_option"])


def _counted_by_mysql(session: sessions.Session) -> Counter[str]:
    """What the server has executed on this connection so far, without our own SHOW STATUS."""
    with _own_connection(session) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW SESSION STATUS LIKE 'Com\\_%'")
        rows = cursor.fetchall()
    counts = {name.removeprefix("Com_").lower(): int(value) for name, value in rows}
    ignored = ("show_status", "admin_commands", "stmt_", "ping", "multi", "quit")
    return Counter({name: count for name, count in counts.items() if count and not name.startswith(ignored)})


@by_operation
def test_a_warm_operation_is_one_transaction_on_sqlite(sqlite_url: str, name: str) -> None:
    statements: list[str] = []
    with _warm(sqlite_url) as session:
        with _own_connection(session) as connection:
            connection.set_trace_callback(statements.append)
        OPERATIONS[name](session)
        with _own_connection(session) as connection:
            connection.set_trace_callback(None)
    assert tuple(statement.split(maxsplit=1)[0] for statement in statements) == SQLITE_STATEMENTS[name]


def test_statements_are_the_same_however_long_the_history_is(postgresql_url: str) -> None:
    with _warm(postgresql_url) as session:
        for _, size in zip(range(3), itertools.count(100, 400)):
            session.add_items(items(*["x"] * size))
            assert _messages_to_postgresql(session, session.get_items).count("Execute") == 1
    assert execute_sql(postgresql_url, "SELECT count(*) FROM agent_messages") == [(1502,)]
