"""The other forms in which statements may travel: unprepared on PostgreSQL, without CLIENT.MULTI_STATEMENTS on MySQL.

On MariaDB that is a compound statement, or for a large batch several that are sent ahead, as on MySQL.

They do what the usual form does; what they cost is in test_round_trips.py.
"""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from pymysql.constants import SERVER_STATUS

import sessions
from support.claims import OPERATIONS, WRITES, each_mysql, use_everything
from support.rivals import connection_of, eventually, locked_session, lose_a_deadlock, waiting
from support.samples import (
    assert_contiguous_and_ordered,
    in_threads,
    items,
    make_tables_without_foreign_key,
    plant,
    refuse_poisoned_rows,
    stored_sessions,
    stored_texts,
    texts,
)
from support.servers import dialect_of, execute_sql
from support.workers import add_batches

FORMS: dict[str, dict[str, Any]] = {
    "postgresql": {"prepared_statements": False},
    "mysql": {"multi_statements": False},
    "mariadb": {"multi_statements": False},
}


@pytest.fixture
def form(server_url: str) -> dict[str, Any]:
    return FORMS[dialect_of(server_url)]


@pytest.fixture
def backend(server_url: str, form: dict[str, Any]) -> Iterator[sessions.Backend]:
    with sessions.connect(server_url, retry_delay=0.01, **form) as backend:
        backend.session("chat_1").add_items(items("first"))
        yield backend


# --- the same as ever


def test_every_operation_does_what_it_does_in_the_usual_form(server_url: str, form: dict[str, Any]) -> None:
    with sessions.Session.from_url("chat_1", server_url, **form) as session:  # which makes the tables
        for _ in range(8):  # beyond the uses after which a driver would prepare a statement
            use_everything(session)
            session.replace_items([])
            assert session.pop_item() is None
            assert session.position() == 0


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


def test_writers_at_once_lose_nothing(server_url: str, form: dict[str, Any]) -> None:
    in_threads(6, lambda number: add_batches(server_url, "chat_1", f"w{number}", 5, 3, **form))
    with sessions.Session.from_url("chat_1", server_url) as session:
        assert_contiguous_and_ordered(session.get_items(), [f"w{n}" for n in range(6)], batches=5, size=3)


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
        session.replace_items(items(*reversed(large)))
        assert "".join(text[0] for text in texts(session.get_items())) == letters[::-1]


# --- without CLIENT.MULTI_STATEMENTS


@each_mysql
def test_the_server_takes_no_second_statement(backend: sessions.Backend) -> None:
    with pytest.raises(Exception, match="SQL syntax"), connection_of(backend) as connection:
        connection.query("SELECT 1; SELECT 2")


@each_mysql
def test_autocommit_is_on_again_after_each_operation(backend: sessions.Backend, server_url: str) -> None:
    refuse_poisoned_rows(server_url)
    session = backend.session("chat_1")

    def fail(session: sessions.Session) -> None:
        with pytest.raises(sessions.DatabaseError):
            session.add_items(items("poison"))

    def conflict(session: sessions.Session) -> None:
        with pytest.raises(sessions.ConflictError):
            session.add_items(items("x"), if_position=17)

    for operation in (*OPERATIONS.values(), fail, conflict):
        session.add_items(items("a", "b"))
        operation(session)
        with connection_of(backend) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@autocommit")
            assert cursor.fetchall() == ((1,),)


@each_mysql
@pytest.mark.parametrize("size", [1, 100_000])
def test_what_was_sent_ahead_of_a_deadlock_is_not_committed(
    backend: sessions.Backend, server_url: str, size: int
) -> None:
    # The server rolls back at once, and then executes the INSERT that was sent behind the statement that failed.
    refused: list[Exception] = []

    def replace() -> None:
        with sessions.Session.from_url("chat_1", server_url, multi_statements=False, max_retries=0) as session:
            try:
                session.replace_items(items("sent", "ahead" * size))
            except sessions.DatabaseError as exc:
                refused.append(exc)

    lose_a_deadlock(server_url, replace)
    assert "Deadlock" in str(refused[0])
    assert texts(backend.session("chat_1").get_items()) == ["first"]


@each_mysql
def test_a_collision_is_no_warning(
    backend: sessions.Backend, server_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "sessions"):
        lose_a_deadlock(server_url, lambda: backend.session("chat_1").replace_items(items("second")))
    assert [record.levelname for record in caplog.records if "Deadlock" in record.getMessage()] == ["INFO"]
    assert texts(backend.session("chat_1").get_items()) == ["second"]


@pytest.mark.mysql
@pytest.mark.parametrize("name", WRITES)
def test_nothing_is_committed_when_the_first_statement_fails(mysql_url: str, name: str) -> None:
    # As KILL QUERY can make it: what was sent behind it is executed all the same.
    backend: Any = sessions.connect(mysql_url, **FORMS["mysql"])
    session = backend.session("chat_1")
    session.add_items(items("first"))
    session.position()
    refused = {"suspend_autocommit": "SIGNAL SQLSTATE '70100' SET MYSQL_ERRNO = 1317, MESSAGE_TEXT = 'interrupted'"}
    backend._store._dialect.statements = {**backend._store._dialect.statements, **refused}
    with pytest.raises(sessions.DatabaseError, match="interrupted"):
        OPERATIONS[name](session)
    backend.close()
    assert [json.loads(text) for text in stored_texts(mysql_url)] == items("first")


@pytest.mark.mariadb
@pytest.mark.parametrize("size", [1, 100_000])
@pytest.mark.parametrize("name", ["add_items", "replace_items"])
def test_an_error_within_a_compound_statement_leaves_nothing(mariadb_url: str, name: str, size: int) -> None:
    with sessions.Session.from_url("chat_1", mariadb_url, **FORMS["mariadb"]) as session:
        session.add_items(items("first"))
        refuse_poisoned_rows(mariadb_url)
        with pytest.raises(sessions.DatabaseError, match="trigger"):
            getattr(session, name)(items("a" * size, "poison"))
        with connection_of(session) as connection:
            assert not connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS
        assert texts(session.get_items()) == ["first"]


@each_mysql
def test_an_item_of_several_packets_of_the_protocol_is_stored(server_url: str, form: dict[str, Any]) -> None:
    execute_sql(server_url, "SET GLOBAL max_allowed_packet = 67108864")
    try:
        with sessions.Session.from_url("chat_1", server_url, **form) as session:
            session.add_items(items("x" * 17_000_000, "y"))
            assert [len(text) for text in texts(session.get_items(limit=2))] == [17_000_000, 1]
            assert session.pop_item() == items("y")[0]
    finally:
        execute_sql(server_url, "SET GLOBAL max_allowed_packet = DEFAULT")


@each_mysql
@pytest.mark.parametrize("multi_statements", [True, False])
def test_the_position_is_that_of_the_messages(
    backend: sessions.Backend, server_url: str, *, multi_statements: bool
) -> None:
    # Where the sessions are numbered as well, their number is no position.
    execute_sql(server_url, "ALTER TABLE agent_sessions ADD COLUMN number BIGINT NOT NULL AUTO_INCREMENT UNIQUE")
    execute_sql(server_url, "ALTER TABLE agent_sessions AUTO_INCREMENT = 1000")
    with sessions.Session.from_url("chat_2", server_url, multi_statements=multi_statements) as session:
        session.add_items(items("a", "b"))
        [*_, newest] = session.records()
        assert session.position() == newest.id


@pytest.mark.mysql
def test_what_was_sent_ahead_of_a_lock_timeout_is_rolled_back(mysql_url: str) -> None:
    # Without a foreign key the INSERT waits for no lock, and goes well.
    make_tables_without_foreign_key(mysql_url)
    options: Any = {"multi_statements": False, "max_retries": 0, "statement_timeout": 3.0}
    with sessions.Session.from_url("chat_1", mysql_url, **options) as session:
        session.add_items(items("first"))
        with locked_session(mysql_url), pytest.raises(sessions.DatabaseError, match="Lock wait timeout"):
            session.add_items(items("second"))
        assert texts(session.get_items()) == ["first"]


@each_mysql
def test_a_killed_connection_between_the_two_trips_writes_once(backend: sessions.Backend, server_url: str) -> None:
    session = backend.session("chat_1")
    with connection_of(backend) as connection:
        number = connection.thread_id()
    with locked_session(server_url):
        thread = threading.Thread(target=session.add_items, args=(items("second"),))
        thread.start()
        assert eventually(lambda: waiting(server_url) > 0)
        execute_sql(server_url, f"KILL {number}")
    thread.join(60)
    assert texts(session.get_items()) == ["first", "second"]
