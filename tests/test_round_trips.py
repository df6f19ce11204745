"""What an operation costs on a warm connection, exactly: round trips, and the statements in them.

Times vary with the machine and are only reported, by the benchmarks; these figures do not, and a
change that adds a trip fails here. The other forms, unprepared on PostgreSQL and without
CLIENT.MULTI_STATEMENTS on MySQL, cost what the documentation says.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from support.claims import each_mysql
from support.proxy import Proxy
from support.rivals import connection_of, counted_by_mysql
from support.samples import items
from support.servers import connect_raw, dialect_of

# Each is given the session and its position.
OPERATIONS: dict[str, Callable[[sessions.Session, int], object]] = {
    "get_items": lambda session, _: session.get_items(),
    "get_items(limit=20)": lambda session, _: session.get_items(limit=20),
    "position": lambda session, _: session.position(),
    "add_items of 1": lambda session, _: session.add_items(items("one")),
    "add_items of 100": lambda session, _: session.add_items(items(*map(str, range(100)))),
    "add_items(if_position)": lambda session, at: session.add_items(items("next"), if_position=at),
    "pop_item": lambda session, _: session.pop_item(),
    "replace_items": lambda session, _: session.replace_items(items("a", "b", "c")),
    "replace_items(if_position)": lambda session, at: session.replace_items(items("only"), if_position=at),
    "replace_items of nothing": lambda session, _: session.replace_items([]),
    "clear_session": lambda session, _: session.clear_session(),
}
SEALED: dict[str, Any] = {"integrity_key": "a key that is long enough for a test"}
# On PostgreSQL a plan that is made without values could walk other conversations.
ALWAYS_PARSED = ("replace_items", "replace_items(if_position)", "replace_items of nothing", "clear_session")
READS = ("get_items", "get_items(limit=20)", "position")

# The statements of each operation, in the words of MySQL's counters Com_*.
# The DO behind the INSERTs, on MariaDB a SELECT, looks whether the rows are where they belong.
_ADD = ("begin", "insert", "insert", "do", "commit")
MYSQL_STATEMENTS = {
    **dict.fromkeys(READS, ("select",)),
    "add_items of 1": _ADD,
    "add_items of 100": _ADD,
    "add_items(if_position)": (*_ADD, "select"),
    "pop_item": ("begin", "update", "select", "delete", "commit"),
    "replace_items": (*_ADD, "delete", "update"),
    "replace_items(if_position)": (*_ADD, "select", "delete", "update"),
    "replace_items of nothing": ("begin", "insert", "delete", "update", "commit"),
    "clear_session": ("begin", "update", "delete", "delete", "commit"),
}

# The first words of the statements, in order; SQLite runs each item of a batch by itself.
SQLITE_STATEMENTS = {
    **dict.fromkeys(READS, "SELECT"),
    # The SELECT behind an INSERT looks whether the row has the number that it was given.
    "add_items of 1": "BEGIN INSERT INSERT SELECT COMMIT",
    "add_items of 100": f"BEGIN INSERT {'INSERT ' * 100}SELECT COMMIT",
    "add_items(if_position)": "BEGIN INSERT SELECT INSERT SELECT COMMIT",
    "pop_item": "BEGIN UPDATE SELECT DELETE COMMIT",
    "replace_items": "BEGIN INSERT SELECT DELETE SELECT INSERT INSERT INSERT SELECT COMMIT",
    "replace_items(if_position)": "BEGIN INSERT SELECT SELECT DELETE SELECT INSERT SELECT COMMIT",
    "replace_items of nothing": "BEGIN INSERT SELECT DELETE SELECT COMMIT",
    "clear_session": "BEGIN UPDATE SELECT DELETE SELECT DELETE COMMIT",
}

by_operation = pytest.mark.parametrize("name", OPERATIONS)
by_form = pytest.mark.parametrize("usual", [True, False], ids=["usual", "other"])


def mysql_statements(url: str, operation: str, *more: str) -> Counter[str]:
    """Name what the server counts for an operation and more; MariaDB counts a compound, too, and none of its IFs."""
    names = (*MYSQL_STATEMENTS[operation], *more)
    if dialect_of(url) == "mysql":
        return Counter(names)
    counted = Counter("select" if name == "do" else name for name in names)
    if "commit" in names:
        counted["compound_sql"] += 1
    if "if_position" in operation:
        counted["select"] -= 1
    return counted


@pytest.fixture
def proxy(server_url: str) -> Iterator[Proxy]:
    with Proxy(server_url) as proxy:
        yield proxy


def _form(url: str, *, usual: bool) -> dict[str, Any]:
    if usual:
        return {}
    return {"prepared_statements": False} if dialect_of(url) == "postgresql" else {"multi_statements": False}


def _warm(url: str, **options: Any) -> sessions.Session:
    """Open a session that has a history and an idle connection."""
    session = sessions.Session.from_url("chat_1", url, **options)
    session.add_items(items("first", "second"))
    session.get_items()
    return session


def _run(session: sessions.Session, name: str) -> None:
    OPERATIONS[name](session, session.position())


def _cost(proxy: Proxy, session: sessions.Session, name: str, *, usual: bool) -> tuple[int, int]:
    """The round trips and the connections of an operation."""
    for _ in range(0 if usual else 7):  # more often than a driver needs to decide to prepare a statement
        _run(session, name)
        session.add_items(items("first", "second"))
    position = session.position()
    with proxy.counting() as count:
        OPERATIONS[name](session, position)
    return count.round_trips, count.connections


def _expected(url: str, name: str, *, usual: bool) -> tuple[int, int]:
    # Without multi-statements the end of a transaction waits for MySQL's answers to what comes before it.
    return 1 + (name not in READS and not usual and dialect_of(url) == "mysql"), 0


# --- round trips


@by_form
@by_operation
def test_a_warm_operation_is_one_round_trip(proxy: Proxy, server_url: str, name: str, *, usual: bool) -> None:
    with _warm(proxy.url, **_form(server_url, usual=usual)) as session:
        assert _cost(proxy, session, name, usual=usual) == _expected(server_url, name, usual=usual)


@by_operation
def test_with_a_key_an_operation_takes_as_many_round_trips_but_for_a_pop(
    proxy: Proxy, server_url: str, name: str
) -> None:
    with _warm(proxy.url, encryption_key="a key of many random characters") as session:
        trips, _ = _expected(server_url, name, usual=True)
        assert _cost(proxy, session, name, usual=True) == (6 if name == "pop_item" else trips, 0)


@by_form
@by_operation
def test_under_a_lease_an_operation_takes_as_many_round_trips(server_url: str, name: str, *, usual: bool) -> None:
    # Late, so that the end of a pipeline is not counted as sent behind an answer for which it did not wait.
    with (
        Proxy(server_url, delay_to_server=0.02) as proxy,
        _warm(proxy.url, **_form(server_url, usual=usual)) as session,
        session.exclusive(),
    ):
        assert _cost(proxy, session, name, usual=usual) == _expected(server_url, name, usual=usual)


@by_operation
def test_under_seals_an_operation_takes_one_round_trip_where_the_end_is_known(server_url: str, name: str) -> None:
    with Proxy(server_url, delay_to_server=0.02) as proxy, _warm(proxy.url, **SEALED) as session:
        assert _cost(proxy, session, name, usual=True) == (1, 0)


@pytest.mark.parametrize("name", ["add_items of 1", "pop_item", "replace_items", "clear_session"])
def test_under_seals_a_write_takes_one_more_where_the_end_is_not_known(server_url: str, name: str) -> None:
    with _warm(server_url, **SEALED):
        pass
    with (
        Proxy(server_url, delay_to_server=0.02) as proxy,
        sessions.connect(proxy.url, **SEALED) as backend,
    ):
        backend.session("another").get_items()
        with proxy.counting() as count:
            OPERATIONS[name](backend.session("chat_1"), 0)
    assert count.round_trips == 2


@by_form
def test_a_lease_is_taken_as_a_write_is_and_given_back_in_one_round_trip(
    proxy: Proxy, server_url: str, *, usual: bool
) -> None:
    with _warm(proxy.url, **_form(server_url, usual=usual)) as session:
        with session.exclusive():
            pass  # makes the table
        block = session.exclusive()
        with proxy.counting() as taking:
            block.__enter__()
        with proxy.counting() as giving_back:
            block.__exit__(None, None, None)
    as_a_write, _ = _expected(server_url, "add_items", usual=usual)
    assert (taking.round_trips, giving_back.round_trips) == (as_a_write, 1)


def test_the_hundredth_operation_costs_what_the_first_did(proxy: Proxy) -> None:
    with _warm(proxy.url) as session, proxy.counting() as count:
        for _ in range(10):
            for name in (*READS, "add_items of 1", "pop_item"):
                OPERATIONS[name](session, 0)
    assert (count.round_trips, count.connections) == (50, 0)


def test_a_history_beyond_one_packet_of_the_network_is_still_one_round_trip(proxy: Proxy) -> None:
    with _warm(proxy.url) as session:
        with proxy.counting() as adding:
            session.add_items(items(*["x" * 4000] * 300))
        with proxy.counting() as reading:
            assert len(session.get_items()) == 302
    assert (adding.round_trips, reading.round_trips) == (1, 1)


def test_a_light_handle_and_adding_nothing_cost_nothing(proxy: Proxy) -> None:
    with sessions.connect(proxy.url) as backend, proxy.counting() as count:
        session = backend.session("chat_1")
        session.add_items([])
        session.close()
    assert (count.round_trips, count.connections) == (0, 0)


# --- opening


@by_form
@pytest.mark.parametrize("name", ["get_items", "add_items of 1", "pop_item", "position", "clear_session"])
def test_opening_is_the_handshake_and_at_most_one_round_trip(
    proxy: Proxy, server_url: str, name: str, *, usual: bool
) -> None:
    # With tables that are there, whoever made them: they are neither looked for nor created. This is
    # also the first login of the user, which takes MySQL longer than the next ones.
    with _warm(server_url):
        pass
    with proxy.counting() as raw:
        connection = connect_raw(proxy.url)
    # PyMySQL's SET NAMES is that one trip; ours says more in it. psycopg needs none, but asks for TLS,
    # as it does in a raw connect.
    postgresql = dialect_of(server_url) == "postgresql"
    options = _form(server_url, usual=usual) | ({} if postgresql else {"ssl": False})
    with sessions.Session.from_url("chat_1", proxy.url, **options) as session:
        with proxy.counting() as count:
            OPERATIONS[name](session, 0)
        commit = name not in READS and not usual and dialect_of(server_url) == "mysql"
        assert (count.round_trips, count.connections) == (raw.round_trips + 1 + commit, 1)
    # Not before: its goodbye would be counted too.
    connection.close()


# --- statements


@by_operation
def test_a_warm_operation_is_one_statement_on_postgresql(postgresql_url: str, name: str) -> None:
    with _warm(postgresql_url) as session:
        position = session.position()
        first = _messages_to_postgresql(session, lambda: OPERATIONS[name](session, position))
        # The same however long the history is.
        session.add_items(items(*["x"] * 900))
        position = session.position()
        second = _messages_to_postgresql(session, lambda: OPERATIONS[name](session, position))
    # The extended protocol; nothing begins or commits.
    one = ["Bind", "Describe", "Execute", "Sync"]
    if name in ALWAYS_PARSED:
        assert first == second == ["Parse", *one]
    else:
        guard = ["Parse", "Bind", "Describe", "Execute"]
        assert first in ([*guard, "Close", "Parse", *one], one)  # what opened the session was of the same kind
        assert second == one


def _messages_to_postgresql(session: sessions.Session, work: Callable[[], object]) -> list[str]:
    """The messages that libpq itself says it sent meanwhile."""
    with tempfile.TemporaryFile("w+") as file:
        with connection_of(session) as connection:
            connection.pgconn.trace(file.fileno())
        work()
        with connection_of(session) as connection:
            connection.pgconn.untrace()
        file.seek(0)
        lines = [line.split("\t") for line in file]
    # Time, direction, length, message; libpq's own continuation lines have no direction.
    return [line[3].strip() for line in lines if len(line) > 3 and line[1] == "F"]


@each_mysql
@by_operation
def test_a_warm_operation_sends_no_statement_too_many_to_mysql(server_url: str, name: str) -> None:
    with _warm(server_url) as session:
        position, before = session.position(), counted_by_mysql(session)
        OPERATIONS[name](session, position)
        assert counted_by_mysql(session) - before == mysql_statements(server_url, name)


@each_mysql
@by_operation
def test_a_lease_takes_two_statements_more_on_mysql(server_url: str, name: str) -> None:
    with _warm(server_url) as session, session.exclusive():
        position, before = session.position(), counted_by_mysql(session)
        OPERATIONS[name](session, position)
        lease = () if name in READS else ("update", "select")
        assert counted_by_mysql(session) - before == mysql_statements(server_url, name, *lease)


@each_mysql
def test_the_first_operation_on_prepared_tables_looks_for_none_on_mysql(server_url: str) -> None:
    with _warm(server_url):
        pass
    with sessions.Session.from_url("chat_1", server_url) as session:
        session.add_items(items("one"))
        # The SELECT is about_server. A look at the tables would be another one.
        opening = ("select", *["set_option"] * 3)
        assert counted_by_mysql(session) == mysql_statements(server_url, "add_items of 1", *opening)


@by_operation
def test_a_warm_operation_is_one_transaction_on_sqlite(sqlite_url: str, name: str) -> None:
    statements: list[str] = []
    with _warm(sqlite_url) as session:
        position = session.position()
        with connection_of(session) as connection:
            connection.set_trace_callback(statements.append)
        OPERATIONS[name](session, position)
        with connection_of(session) as connection:
            connection.set_trace_callback(None)
    assert [statement.split(maxsplit=1)[0] for statement in statements] == SQLITE_STATEMENTS[name].split()
