"""Ids below 1, which stand for none: no write gives them, and of what is there nothing is left out."""

import re
from collections.abc import Callable

import pytest

import sessions
from sessions import Session
from support.samples import items, texts
from support.servers import execute_sql


@pytest.fixture
def low_url(sql_url: str) -> str:
    """A conversation whose first two rows are below 1, as another program may have numbered them."""
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("c"))
    for row_id, text in ((-5, "a"), (-4, "b")):
        execute_sql(
            sql_url,
            "INSERT INTO agent_messages (id, session_id, message_data) "
            f"""VALUES ({row_id}, 'chat_1', '{{"role": "user", "content": "{text}"}}')""",
        )
    return sql_url


def test_rows_below_1_are_read_wherever_rows_are(low_url: str) -> None:
    with sessions.connect(low_url) as backend:
        session = backend.session("chat_1")
        assert texts(session.get_items()) == ["a", "b", "c"]
        assert texts([record.item or {} for record in session.records()]) == ["a", "b", "c"]
        assert texts([record.item or {} for record in session.records(2)]) == ["b", "c"]
        assert texts([match.record.item or {} for match in backend.search("user")]) == []
        assert [match.record.id for match in backend.search("b")] == [-4]
        assert texts(session.fork("chat_2").get_items()) == ["a", "b", "c"]
        backend.load("chat_3", session.records())
        assert texts(backend.session("chat_3").get_items()) == ["a", "b", "c"]


def test_check_names_a_row_below_1(low_url: str) -> None:
    with sessions.connect(low_url) as backend:
        [found] = [check for check in backend.check() if check.name == "low ids"]
    assert found.verdict == "error"
    assert "-5" in found.found


def test_a_conversation_of_rows_below_1_has_no_position(low_url: str) -> None:
    with sessions.connect(low_url) as backend:
        session = backend.session("chat_1")
        session.pop_item()
        for use in (session.position, lambda: session.add_items(items("d"), if_position=0)):
            with pytest.raises(sessions.SchemaError, match="ids begin at 1"):
                use()
        assert texts(session.get_items()) == ["a", "b"]
        session.clear_session()
        assert session.get_items() == []


_WRITES: dict[str, Callable[[sessions.Backend, Session], object]] = {
    "add_items": lambda _, session: session.add_items(items("b", "c")),
    "add_items if_position": lambda _, session: session.add_items(items("b", "c"), if_position=session.position()),
    "replace_items": lambda _, session: session.replace_items(items("b", "c")),
    "fork": lambda _, session: session.fork("chat_2"),
    "load": lambda backend, session: backend.load("chat_2", list(session.records())),
}


@pytest.mark.parametrize("start", [-7, -2, -1, 0])
@pytest.mark.parametrize("name", _WRITES)
def test_no_write_gives_an_id_below_1(name: str, start: int, postgresql_url: str) -> None:
    # PostgreSQL alone: the others number from 1, whatever is there.
    with sessions.connect(postgresql_url) as backend:
        session = backend.session("chat_1")
        session.get_items()
        [[sequence]] = execute_sql(postgresql_url, "SELECT pg_get_serial_sequence('agent_messages', 'id')")
        execute_sql(postgresql_url, f"ALTER SEQUENCE {sequence} RESTART WITH 100")
        session.add_items(items("a", "b"))
        execute_sql(postgresql_url, f"ALTER SEQUENCE {sequence} MINVALUE -100 RESTART WITH {start}")
        try:
            _WRITES[name](backend, session)
        except sessions.SchemaError as exc:
            assert re.search("ids begin at 1|not above those before", str(exc))  # noqa: PT017
            assert texts(session.get_items()) == ["a", "b"]
        else:
            # What was refused is tried in another form; a number is gone, whether or not it was used.
            assert start >= -2
            assert (
                texts(session.get_items())
                == {"fork": ["a", "b"], "load": ["a", "b"], "replace_items": ["b", "c"]}[name]
            )
        assert execute_sql(postgresql_url, "SELECT id FROM agent_messages WHERE id < 1") == []


def test_sqlite_gives_no_id_below_1(sqlite_url: str) -> None:
    # As in a table that SQLite numbers from the highest row on, whatever that is.
    execute_sql(
        sqlite_url,
        "CREATE TABLE agent_messages (id INTEGER PRIMARY KEY, session_id TEXT NOT NULL, message_data TEXT NOT NULL, "
        "created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP)",
    )
    with sessions.connect(sqlite_url) as backend:
        session = backend.session("chat_1")
        execute_sql(sqlite_url, "INSERT INTO agent_messages (id, session_id, message_data) VALUES (-2, 'chat_2', '{}')")
        with pytest.raises(sessions.SchemaError, match="ids begin at 1"):
            session.add_items(items("a", "b", "c"))
        assert session.get_items() == []
