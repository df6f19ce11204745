"""The other forms in which statements may travel: prepared on PostgreSQL, without CLIENT.MULTI_STATEMENTS on MySQL.

They do what the usual form does, and cost what the documentation says.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from support.proxy import Proxy
from support.rivals import eventually, locked_session, waiting
from support.samples import (
    in_threads,
    items,
    make_tables_without_foreign_key,
    plant,
    refuse_poisoned_rows,
    stored_sessions,
    stored_texts,
    texts,
)
from support.servers import connect_raw, dialect_of, execute_sql

FORMS: dict[str, dict[str, Any]] = {
    "postgresql": {"prepared_statements": True},
    "mysql": {"multi_statements": False},
    "mariadb": {"multi_statements": False},
}
WRITES: dict[str, Callable[[sessions.Session], object]] = {
    "add_items": lambda session: session.add_items(items("a", "b")),
    "add_items(if_position)": lambda session: session.add_items(items("a"), if_position=session._seen),
    "replace_items": lambda session: session.replace_items(items("a", "b")),
    "replace_items of nothing": lambda session: session.replace_items([]),
    "pop_item": lambda session: session.pop_item(),
    "clear_session": lambda session: session.clear_session(),
}
READS: dict[str, Callable[[sessions.Session], object]] = {
    "get_items": lambda session: session.get_items(),
    "get_items(limit)": lambda session: session.get_items(limit=5),
    "position": lambda session: session.position(),
}


@pytest.fixture
def form(server_url: str) -> dict[str, Any]:
    return FORMS[dialect_of(server_url)]


@pytest.fixture
def backend(server_url: str, form: dict[str, Any]) -> Iterator[sessions.Backend]:
    with sessions.connect(server_url, retry_delay=0.01, **form) as backend:
        backend.session("chat_1").add_items(items("first"))
        yield backend


def _connection(backend: Any) -> Any:
    """The backend's one connection."""
    return backend._lender.connection(writes=False)


# --- the same as ever


def test_every_operation_does_what_it_does_in_the_usual_form(backend: sessions.Backend) -> None:
    session = backend.session("chat_1")
    for _ in range(8):  # beyond the uses after which a statement is prepared
        session.clear_session()
        session.add_items(items("a", "b"))
        session.add_items(items("c"), if_position=session.position())
        assert texts(session.get_items()) == ["a", "b", "c"]
        assert session.pop_item() == items("c")[0]
        with pytest.raises(sessions.ConflictError):
            session.add_items(items("x"), if_position=session.position() + 1)
        with pytest.raises(sessions.ConflictError):
            session.replace_items(items("x"), if_position=session.position() + 1)
        assert texts(session.get_items(limit=1)) == ["b"]
        session.replace_items(items("d", "e"), if_position=session.position())
        assert [record.item for record in session.records()] == items("d", "e")
        session.replace_items([])
        assert session.pop_item() is None
        assert session.position() == 0


def test_tables_are_made_when_they_are_missing(server_url: str, form: dict[str, Any]) -> None:
    with sessions.Session.from_url("chat_1", server_url, **form) as session:
        session.add_items(items("a"))
        assert session.get_items() == items("a")


def test_a_corrupt_row_is_skipped(backend: sessions.Backend, server_url: str) -> None:
    plant(server_url, "chat_1", "{")
    assert texts(backend.session("chat_1").get_items()) == ["first"]
    assert backend.session("chat_1").pop_item() == items("first")[0]


def test_a_failed_write_leaves_nothing_and_a_usable_connection(backend: sessions.Backend, server_url: str) -> None:
    refuse_poisoned_rows(server_url)
    session = backend.session("chat_2")
    for _ in range(3):
        with pytest.raises(sessions.DatabaseError):
            session.add_items(items("a", "poison"))
        with pytest.raises(sessions.DatabaseError):
            backend.session("chat_1").replace_items(items("poison"))
    assert stored_sessions(server_url) == ["chat_1"]
    # Nothing is left open that would keep the connection from seeing what others write.
    assert session.get_items() == []
    with sessions.Session.from_url("chat_2", server_url) as other:
        other.add_items(items("b"))
    assert texts(session.get_items()) == ["b"]
    assert texts(backend.session("chat_1").get_items()) == ["first"]


def test_writers_at_once_lose_nothing(backend: sessions.Backend) -> None:
    def write(number: int) -> None:
        session = backend.session("chat_1")
        for part in range(5):
            session.add_items(items(*[f"{number} {part} {n}" for n in range(3)]))

    in_threads(6, write)
    history = texts(backend.session("chat_1").get_items())[1:]
    batches = [history[start : start + 3] for start in range(0, len(history), 3)]
    assert sorted(batches) == sorted(
        [f"{number} {part} {n}" for n in range(3)] for number in range(6) for part in range(5)
    )


def test_pops_at_once_give_each_item_once(backend: sessions.Backend) -> None:
    session = backend.session("chat_1")
    session.replace_items(items(*map(str, range(40))))
    popped: list[Any] = []
    in_threads(4, lambda _: popped.extend(session.pop_item() for _ in range(10)))
    assert sorted(texts(popped)) == sorted(map(str, range(40)))
    assert session.pop_item() is None


@pytest.mark.parametrize("usual", [True, False], ids=["usual", "other"])
def test_a_batch_of_many_statements_is_one_transaction(server_url: str, form: dict[str, Any], *, usual: bool) -> None:
    # 20 MB: more than a statement of ours holds on any server.
    letters = "abcdefghijklmnopqrst"
    large = [letter * 1_000_000 for letter in letters]
    with sessions.Session.from_url("chat_1", server_url, retry_delay=0.01, **({} if usual else form)) as session:
        session.add_items(items("first"))
        refuse_poisoned_rows(server_url)
        for write in (session.add_items, session.replace_items):
            with pytest.raises(sessions.DatabaseError):
                write(items(*large, "poison"))
            with pytest.raises(sessions.ConflictError):
                write(items(*large), if_position=session.position() + 1)
        assert texts(session.get_items()) == ["first"]
        session.add_items(items(*large), if_position=session.position())
        assert "".join(text[0] for text in texts(session.get_items())) == "f" + letters
        assert session.position() == session._seen
        session.replace_items(items(*reversed(large)))
        assert "".join(text[0] for text in texts(session.get_items())) == letters[::-1]


# --- what they cost


@pytest.fixture
def proxied(server_url: str, form: dict[str, Any]) -> Iterator[tuple[Proxy, sessions.Session]]:
    """A session whose statements are prepared, if they ever are."""
    with Proxy(server_url) as proxy, sessions.connect(proxy.url, **form) as backend:
        session = backend.session("chat_1")
        for _ in range(7):
            for operation in (*READS.values(), *WRITES.values()):
                operation(session)
            session.add_items(items("first", "second"))
        yield proxy, session


@pytest.mark.parametrize("name", [*READS, *WRITES])
def test_the_round_trips_of_each_form(
    proxied: tuple[Proxy, sessions.Session], server_url: str, form: dict[str, Any], name: str
) -> None:
    proxy, session = proxied
    with proxy.counting() as count:
        (READS | WRITES)[name](session)
    # Without multi-statements the end of a transaction waits for the answers to what comes before it.
    commit = name in WRITES and form == {"multi_statements": False}
    assert (count.round_trips, count.connections) == (1 + commit, 0)


def test_opening_costs_no_more_than_in_the_usual_form(server_url: str, form: dict[str, Any]) -> None:
    with sessions.Session.from_url("chat_1", server_url) as session:
        session.add_items(items("the first login"))
    trips = []
    for options in ({}, form):
        with (
            Proxy(server_url) as proxy,
            sessions.Session.from_url("chat_1", proxy.url, ssl=False, **options) as session,
        ):
            with proxy.counting() as count:
                session.get_items()
            trips.append(count.round_trips)
    assert trips[0] == trips[1]


# --- prepared statements


def test_statements_are_prepared_after_some_uses(postgresql_url: str) -> None:
    prepared: dict[bool, list[str]] = {}
    for on in (True, False):
        with sessions.connect(postgresql_url, prepared_statements=on) as backend:
            session = backend.session("chat_1")
            for _ in range(7):
                session.add_items(items("a"))
            with _connection(backend) as connection:
                rows = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
            prepared[on] = [statement for (statement,) in rows]
    assert prepared[False] == []
    assert [statement.split()[0] for statement in prepared[True]] == ["WITH"]


def test_a_table_that_changes_under_a_prepared_statement_costs_one_more_attempt(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url, prepared_statements=True, retry_delay=0.01) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        for _ in range(7):
            session.get_items()
        execute_sql(postgresql_url, "ALTER TABLE agent_messages ALTER COLUMN message_data TYPE varchar")
        assert texts(session.get_items()) == ["a"]


def test_another_feature_that_is_missing_is_no_reason_to_try_again(
    postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with sessions.connect(postgresql_url, retry_delay=0.01) as backend:
        backend.session("chat_1").add_items(items("a"))
        execute_sql(postgresql_url, "CREATE RULE one AS ON INSERT TO agent_sessions DO ALSO NOTIFY written")
        caplog.clear()
        with pytest.raises(sessions.DatabaseError):
            backend.session("chat_1").add_items(items("b"))
        assert "trying again" not in caplog.text


@pytest.mark.parametrize("sabotage", ["DEALLOCATE ALL", "prepared by another"])
def test_a_pooler_that_keeps_no_prepared_statements_is_named(postgresql_url: str, sabotage: str) -> None:
    with sessions.connect(postgresql_url, prepared_statements=True) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        uses = 7 if sabotage == "DEALLOCATE ALL" else 4
        for _ in range(uses):
            session.get_items()
        # What another server session looks like that the pooler has lent.
        with _connection(backend) as connection:
            if sabotage == "DEALLOCATE ALL":
                connection.pgconn.exec_(b"DEALLOCATE ALL")
            else:
                for number in range(5):
                    connection.pgconn.exec_(b"PREPARE _pg3_%d AS SELECT 1" % number)
        with pytest.raises(sessions.DatabaseError, match="drop prepared_statements"):
            _read(session, times=7)
        # The connection that does not know what it has prepared is gone.
        _read(session, times=7)


def _read(session: sessions.Session, *, times: int) -> None:
    for _ in range(times):
        session.get_items()


ADDRESSES = {
    "memory": "memory:",
    "sqlite": "sqlite::memory:",
    "postgresql": "postgresql://app@127.0.0.1:1/chat",
    "mysql": "mysql://app@127.0.0.1:1/chat",
}


@pytest.mark.parametrize(
    ("option", "usual", "kind"), [("prepared_statements", False, "postgresql"), ("multi_statements", True, "mysql")]
)
def test_a_form_that_the_database_does_not_have_is_refused(option: str, usual: Any, kind: str) -> None:
    as_usual: dict[str, Any] = {option: usual}
    otherwise: dict[str, Any] = {option: not usual}
    for dialect, address in ADDRESSES.items():
        sessions.connect(address, **as_usual).close()
        if dialect == kind:
            sessions.connect(address, **otherwise).close()
        else:
            with pytest.raises(sessions.ConfigurationError, match=f"{option}={not usual} is for .*; drop it"):
                sessions.connect(address, **otherwise)


# --- without CLIENT.MULTI_STATEMENTS


@pytest.fixture(params=["mysql", "mariadb"])
def plain(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> Iterator[tuple[str, Any]]:
    """A URL and a backend without multi-statements."""
    url = make_url(request.param)
    with sessions.connect(url, multi_statements=False, retry_delay=0.01) as backend:
        backend.session("chat_1").add_items(items("first"))
        yield url, backend


def test_the_server_takes_no_second_statement(plain: tuple[str, Any]) -> None:
    _, backend = plain
    with pytest.raises(Exception, match="SQL syntax"), _connection(backend) as connection:
        connection.query("SELECT 1; SELECT 2")


def test_autocommit_is_on_again_after_each_operation(plain: tuple[str, Any]) -> None:
    url, backend = plain
    refuse_poisoned_rows(url)
    session = backend.session("chat_1")

    def fail(session: sessions.Session) -> None:
        with pytest.raises(sessions.DatabaseError):
            session.add_items(items("poison"))

    def conflict(session: sessions.Session) -> None:
        with pytest.raises(sessions.ConflictError):
            session.add_items(items("x"), if_position=17)

    operations: list[Callable[[sessions.Session], object]] = [*WRITES.values(), *READS.values(), fail, conflict]
    for operation in operations:
        session.add_items(items("a", "b"))
        operation(session)
        with _connection(backend) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@autocommit")
            assert cursor.fetchall() == ((1,),)


def test_what_was_sent_ahead_of_a_deadlock_is_not_committed(plain: tuple[str, Any]) -> None:
    # The server rolls back at once, and then executes the INSERT that was sent behind the statement that failed.
    url, backend = plain
    backend.session("heavy").add_items(items("start"))
    other = connect_raw(url)
    refused: list[Exception] = []

    def replace() -> None:
        with sessions.Session.from_url("chat_1", url, multi_statements=False, max_retries=0) as session:
            try:
                session.replace_items(items("sent", "ahead"))
            except sessions.DatabaseError as exc:
                refused.append(exc)

    try:
        cursor = other.cursor()
        cursor.execute("BEGIN")
        # InnoDB gives up the smaller transaction: this one is to be the larger.
        for _ in range(60):
            cursor.execute("INSERT INTO agent_messages (session_id, message_data) VALUES ('heavy', '{}')")
        cursor.execute("SELECT id FROM agent_messages WHERE session_id = 'chat_1' FOR UPDATE")
        cursor.fetchall()
        thread = threading.Thread(target=replace)
        thread.start()
        assert eventually(lambda: waiting(url) > 0)
        cursor.execute("UPDATE agent_sessions SET updated_at = updated_at WHERE session_id = 'chat_1'")
        other.rollback()
        thread.join(60)
    finally:
        other.close()
    assert "Deadlock" in str(refused[0])
    assert texts(backend.session("chat_1").get_items()) == ["first"]


@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_committed_when_the_first_statement_fails(plain: tuple[str, Any], name: str) -> None:
    # As KILL QUERY can make it: what was sent behind it is executed all the same.
    url, backend = plain
    session = backend.session("chat_1")
    session.position()
    refused = {"suspend_autocommit": "SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1317, MESSAGE_TEXT = 'interrupted'"}
    backend._statements = {**backend._statements, **refused}
    with pytest.raises(sessions.DatabaseError, match="interrupted"):
        WRITES[name](session)
    assert stored_texts(url) == ['{"role":"user","content":"first"}']


def test_an_item_of_several_packets_of_the_protocol_is_stored(plain: tuple[str, Any]) -> None:
    url, _ = plain
    execute_sql(url, "SET GLOBAL max_allowed_packet = 67108864")
    try:
        with sessions.Session.from_url("chat_1", url, multi_statements=False) as session:
            session.add_items(items("x" * 17_000_000, "y"))
            assert [len(text) for text in texts(session.get_items(limit=2))] == [17_000_000, 1]
            assert session.pop_item() == items("y")[0]
    finally:
        execute_sql(url, "SET GLOBAL max_allowed_packet = DEFAULT")


@pytest.mark.parametrize("multi_statements", [True, False])
def test_the_position_is_that_of_the_messages(plain: tuple[str, Any], *, multi_statements: bool) -> None:
    # Where the sessions are numbered as well, their number is no position.
    url, _ = plain
    execute_sql(url, "ALTER TABLE agent_sessions ADD COLUMN number BIGINT NOT NULL AUTO_INCREMENT UNIQUE")
    execute_sql(url, "ALTER TABLE agent_sessions AUTO_INCREMENT = 1000")
    with sessions.Session.from_url("chat_2", url, multi_statements=multi_statements) as session:
        session.add_items(items("a", "b"))
        assert session._seen == session.position()


def test_what_was_sent_ahead_of_a_lock_timeout_is_rolled_back(make_url: Callable[[str], str]) -> None:
    # Without a foreign key the INSERT waits for no lock, and goes well.
    url = make_url("mysql")
    make_tables_without_foreign_key(url)
    options: Any = {"multi_statements": False, "max_retries": 0, "statement_timeout": 3.0}
    with sessions.Session.from_url("chat_1", url, **options) as session:
        session.add_items(items("first"))
        with locked_session(url), pytest.raises(sessions.DatabaseError, match="Lock wait timeout"):
            session.add_items(items("second"))
        assert texts(session.get_items()) == ["first"]


def test_a_killed_connection_between_the_two_trips_writes_once(plain: tuple[str, Any]) -> None:
    url, backend = plain
    session = backend.session("chat_1")
    with _connection(backend) as connection:
        number = connection.thread_id()
    with locked_session(url):
        thread = threading.Thread(target=session.add_items, args=(items("second"),))
        thread.start()
        assert eventually(lambda: waiting(url) > 0)
        execute_sql(url, f"KILL {number}")
    thread.join(60)
    assert texts(session.get_items()) == ["first", "second"]
