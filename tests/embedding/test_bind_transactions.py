"""bind(): the history is written in the application's transaction, and in nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

import sessions
from embedding.application import connected, end_connections, orders, place_order, prepare, run
from support.samples import items, refuse_poisoned_rows, stored_sessions, stored_texts, texts
from support.servers import dialect_of, execute_sql

Connect = Callable[..., Any]
Session = sessions.Session


@pytest.fixture
def session(connection: Any) -> sessions.Session:
    """The session `chat_1` on the application's connection."""
    return sessions.bind(connection).session("chat_1")


# --- the history and the order, together or not at all


@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("order_first", [True, False])
def test_the_history_shares_the_fate_of_the_order(app_url: str, connection: Any, end: str, order_first: bool) -> None:
    backend = sessions.bind(connection)
    for number in range(3):
        if order_first:
            place_order(connection, number)
        backend.session(f"chat_{number}").add_items(items("your order is placed"))
        if not order_first:
            place_order(connection, number)
    assert (orders(app_url), stored_sessions(app_url)) == ([], [])
    getattr(connection, end)()
    kept = range(3) if end == "commit" else ()
    assert orders(app_url) == list(kept)
    assert stored_sessions(app_url) == [f"chat_{number}" for number in kept]
    assert [len(stored_texts(app_url, f"chat_{number}")) for number in kept] == [1 for _ in kept]


def test_every_write_vanishes_with_the_callers_rollback(app_url: str, connection: Any) -> None:
    backend = sessions.bind(connection)
    for name in ("popped", "cleared", "replaced"):
        backend.session(name).add_items(items("a", "b"))
    connection.commit()
    before = [stored_texts(app_url, name) for name in stored_sessions(app_url)]

    assert backend.session("popped").pop_item() == items("b")[0]
    backend.session("cleared").clear_session()
    backend.session("replaced").replace_items(items("c"))
    backend.session("new").add_items(items("d"))
    connection.rollback()
    assert [stored_texts(app_url, name) for name in stored_sessions(app_url)] == before


def test_a_transaction_begun_by_hand_in_autocommit_is_the_callers_too(app_url: str, connect: Connect) -> None:
    connection = connect(autocommit=True)
    session = sessions.bind(connection).session("chat_1")
    for end in ("ROLLBACK", "COMMIT"):
        run(connection, "BEGIN")
        place_order(connection, 1)
        session.add_items(items("placed"))
        assert (orders(app_url), stored_texts(app_url)) == ([], [])
        run(connection, end)
    assert (orders(app_url), len(stored_texts(app_url))) == ([1], 1)


def test_in_autocommit_each_operation_is_a_transaction(app_url: str, connect: Connect) -> None:
    session = sessions.bind(connect(autocommit=True)).session("chat_1")
    session.add_items(items("a", "b", "c"))
    assert len(stored_texts(app_url)) == 3
    session.pop_item()
    assert len(stored_texts(app_url)) == 2
    session.replace_items(items("d"), if_position=session.position())
    assert len(stored_texts(app_url)) == 1
    session.clear_session()
    assert stored_sessions(app_url) == []


def test_reading_takes_no_part_in_the_callers_outcome(app_url: str, connection: Any, session: Session) -> None:
    place_order(connection, 1)
    assert session.get_items() == []
    assert session.position() == 0
    connection.commit()
    assert orders(app_url) == [1]


# --- errors in the middle


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_failed_add_takes_back_itself_alone(app_url: str, connect: Connect, autocommit: bool) -> None:
    refuse_poisoned_rows(app_url)
    connection = connect(autocommit=autocommit)
    session = sessions.bind(connection).session("chat_1")
    if autocommit:
        run(connection, "BEGIN")
    place_order(connection, 1)
    session.add_items(items("good"))
    with pytest.raises(sessions.DatabaseError, match=r"trigger|P0001"):
        session.add_items(items("fine", "poison"))
    place_order(connection, 2)
    session.add_items(items("better"))
    connection.commit()
    assert orders(app_url) == [1, 2]
    assert texts(session.get_items()) == ["good", "better"]


def test_a_failed_removal_takes_back_itself_alone(app_url: str, connection: Any, session: Session) -> None:
    session.add_items(items("a", "precious", "c"))
    connection.commit()
    refuse_poisoned_rows(app_url)
    place_order(connection, 1)
    for remove in (session.clear_session, lambda: session.replace_items(items("d"))):
        with pytest.raises(sessions.DatabaseError):
            remove()
    assert session.pop_item() == items("c")[0]
    with pytest.raises(sessions.DatabaseError):
        session.pop_item()
    connection.commit()
    assert orders(app_url) == [1]
    assert texts(session.get_items()) == ["a", "precious"]


@pytest.mark.parametrize("autocommit", [False, True])
def test_a_failed_add_in_autocommit_or_first_in_a_transaction_leaves_none_open(
    app_url: str, connect: Connect, autocommit: bool
) -> None:
    refuse_poisoned_rows(app_url)
    connection = connect(autocommit=autocommit)
    with pytest.raises(sessions.DatabaseError):
        sessions.bind(connection).session("chat_1").add_items(items("poison"))
    # Another connection can write at once: no lock was left behind.
    with sessions.connect(app_url, statement_timeout=2, max_retries=0) as other:
        other.session("chat_1").add_items(items("other"))
    assert len(stored_texts(app_url)) == 1
    connection.rollback()


def test_a_refused_write_takes_back_nothing_of_the_callers(app_url: str, connection: Any, session: Session) -> None:
    place_order(connection, 1)
    session.add_items(items("a"))
    for write in (session.add_items, session.replace_items):
        with pytest.raises(sessions.ConflictError):
            write(items("b"), if_position=session.position() + 1)
        with pytest.raises(sessions.InvalidItemError):
            write([{"fine": 1}, {"bad": float("nan")}])
    connection.commit()
    assert orders(app_url) == [1]
    assert texts(session.get_items()) == ["a"]


def test_an_error_of_the_application_is_the_applications_to_undo(connection: Any, session: Session) -> None:
    place_order(connection, 1)
    connection.commit()
    session.add_items(items("a"))
    with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
        place_order(connection, 1)
    connection.rollback()
    session.add_items(items("b"))
    connection.commit()
    assert texts(session.get_items()) == ["b"]


def test_nothing_is_sent_twice_behind_the_callers_back(
    connection: Any, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    connection.close()
    for operation in (session.get_items, session.pop_item, lambda: session.add_items(items("a"))):
        with pytest.raises(sessions.ConnectionFailedError):
            operation()
    assert "again" not in caplog.text


def test_savepoints_of_the_caller_work_across_ours(app_url: str, connection: Any, session: Session) -> None:
    place_order(connection, 1)
    session.add_items(items("kept"))
    run(connection, "SAVEPOINT mine")
    session.add_items(items("undone"))
    place_order(connection, 2)
    run(connection, "ROLLBACK TO SAVEPOINT mine")
    assert texts(session.get_items()) == ["kept"]
    session.add_items(items("kept too"))
    connection.commit()
    assert orders(app_url) == [1]
    assert texts(session.get_items()) == ["kept", "kept too"]


# --- tables are made only where that was asked for


@pytest.mark.parametrize("autocommit", [False, True])
def test_missing_tables_are_not_created(sql_url: str, autocommit: bool) -> None:
    with connected(sql_url, autocommit=autocommit) as connection:
        session = sessions.bind(connection).session("chat_1")
        for operation in (session.get_items, session.pop_item, lambda: session.add_items(items("a"))):
            with pytest.raises(sessions.SchemaError, match=r"check\(fix=True\)"):
                operation()
        # The caller's connection is as usable as before.
        assert run(connection, "SELECT 1") == [(1,)]
    with pytest.raises(Exception, match=r"(?i)no such table|does not exist|doesn't exist"):
        execute_sql(sql_url, "SELECT 1 FROM agent_sessions")


def test_what_a_missing_table_advises_helps_a_bound_connection(sql_url: str) -> None:
    with sessions.connect(sql_url) as owner, connected(sql_url) as connection:
        owner.session("chat_1").position()
        session = sessions.bind(connection).session("chat_1")
        with pytest.raises(sessions.SchemaError, match=r"check\(fix=True\)"), session.exclusive():
            pass
        connection.rollback()
        owner.check(fix=True)
        with session.exclusive():
            session.add_items(items("a"))
        connection.commit()
        assert texts(owner.session("chat_1").get_items()) == ["a"]


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("first", ["read", "write"])
def test_tables_that_are_asked_for_belong_to_the_transaction(sql_url: str, first: str, autocommit: bool) -> None:
    with connected(sql_url, autocommit=autocommit) as connection:
        if dialect_of(sql_url) in ("mysql", "mariadb"):
            with pytest.raises(sessions.ConfigurationError, match="would commit"):
                sessions.bind(connection, create_tables=True)
            return
        session = sessions.bind(connection, create_tables=True).session("chat_1")
        for end in ("ROLLBACK", "COMMIT"):
            if autocommit:
                run(connection, "BEGIN")
            if first == "read":
                assert session.get_items() == []
            session.add_items(items("a"))
            assert texts(session.get_items()) == ["a"]
            run(connection, end)
            if end == "ROLLBACK":
                with pytest.raises(Exception, match=r"(?i)no such table|does not exist"):
                    execute_sql(sql_url, "SELECT 1 FROM agent_sessions")
    assert len(stored_texts(sql_url)) == 1


# --- the handle and the connection


def test_closing_the_handle_leaves_the_connection_open(app_url: str, connection: Any) -> None:
    with sessions.bind(connection) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        place_order(connection, 1)
    for operation in (session.get_items, lambda: session.add_items([]), lambda: backend.session("chat_2")):
        with pytest.raises(sessions.ClosedError):
            operation()
    place_order(connection, 2)
    with sessions.bind(connection) as again:
        again.session("chat_1").add_items(items("b"))
    connection.commit()
    assert orders(app_url) == [1, 2]
    assert len(stored_texts(app_url)) == 2


def test_two_handles_on_one_connection_share_its_transaction(connection: Any) -> None:
    one, two = (sessions.bind(connection).session("chat_1") for _ in range(2))
    one.add_items(items("a"))
    two.add_items(items("b"))
    assert texts(one.get_items()) == ["a", "b"]
    connection.rollback()
    assert (one.get_items(), two.get_items()) == ([], [])


def test_a_backend_binds_with_its_own_tables_and_limits(app_url: str, connection: Any) -> None:
    options: Any = {"sessions_table": "chats", "messages_table": "chat_rows", "default_limit": 1}
    with sessions.connect(app_url, **options) as pooled:
        pooled.session("chat_1").add_items(items("committed"))
        session = pooled.bind(connection).session("chat_1")
        session.add_items(items("bound"))
        assert texts(session.get_items()) == ["bound"]
        assert texts(pooled.session("chat_1").get_items()) == ["committed"]
        connection.commit()
        assert texts(pooled.session("chat_1").get_items()) == ["bound"]
    assert stored_texts(app_url) == []


@pytest.mark.parametrize("begun", [True, False])
def test_a_bound_connection_that_was_ended_says_what_to_do(server_url: str, begun: bool) -> None:
    prepare(server_url)
    with connected(server_url, autocommit=not begun) as connection:
        session = sessions.bind(connection).session("chat")
        if begun:
            place_order(connection, 1)
        end_connections(server_url)
        for call in (session.get_items, lambda: session.add_items(items("a"))):
            with pytest.raises(sessions.ConnectionFailedError, match="open another one and bind that"):
                call()
    assert orders(server_url) == []
