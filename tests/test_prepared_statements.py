"""Prepared statements of PostgreSQL: by names that say what they are, whoever has prepared or forgotten them.

Behind a pooler: embedding/test_prepared_poolers.py. Their plans: test_plans.py.
"""

from collections.abc import Callable
from typing import Any

import pytest

import sessions
from sessions._dialects.postgresql import prepared
from sessions._dialects.postgresql.prepared import PREPARED
from support.proxy import Proxy
from support.rivals import connection_of
from support.samples import items, texts
from support.servers import execute_sql

Operation = Callable[[sessions.Session], object]

# Each is one statement, another one than the others; they leave two items.
OPERATIONS: dict[str, Operation] = {
    "all_items": lambda session: session.get_items(),
    "newest_items": lambda session: session.get_items(limit=1),
    "append_items": lambda session: session.add_items(items("c")),
    "append_items_at": lambda session: session.add_items(items("d"), if_position=session.position()),
    "pop_item": lambda session: [session.pop_item(), session.pop_item()],
}
FORGETTING = ("DEALLOCATE ALL", "DISCARD ALL")


def _use(session: sessions.Session) -> None:
    for operation in OPERATIONS.values():
        operation(session)
    assert texts(session.get_items()) == ["a", "b"]


def _execute(backend: sessions.Backend, statement: str) -> list[Any]:
    """Execute a statement on the connection of a backend that has one."""
    with connection_of(backend) as connection:
        cursor = connection.execute(statement.encode(), prepare=False)
        return cursor.fetchall() if cursor.description else []


def _prepared(backend: sessions.Backend) -> dict[str, str]:
    return dict(_execute(backend, "SELECT name, statement FROM pg_prepared_statements"))


def _trips(proxy: Proxy, work: Callable[[], object]) -> int:
    with proxy.counting() as count:
        work()
    assert count.connections == 0
    return count.round_trips


def _connect(url: str, **options: Any) -> sessions.Backend:
    backend = sessions.connect(url, max_retries=0, **options)
    backend.session("chat_1").add_items(items("a", "b"))
    return backend


def test_the_statements_of_common_operations_are_prepared_once_it_is_known_where_their_tables_are(
    postgresql_url: str,
) -> None:
    with _connect(postgresql_url) as backend:
        _use(backend.session("chat_1"))
        dialect: Any = backend._store._dialect  # type: ignore[attr-defined]
        texts_of = dialect._to_be_prepared("public")
        begin = {texts_of[name].partition("%")[0] for name in PREPARED}
        assert {text.partition("$")[0] for text in _prepared(backend).values()} == begin


def test_nothing_is_prepared_without_the_option(postgresql_url: str) -> None:
    with _connect(postgresql_url, prepared_statements=False) as backend:
        for _ in range(8):
            _use(backend.session("chat_1"))
        assert _prepared(backend) == {}


def test_a_name_says_what_the_statement_is(postgresql_url: str) -> None:
    found: list[dict[str, str]] = []
    for messages_table in ("agent_messages", "agent_messages", "other_messages"):
        with _connect(postgresql_url, messages_table=messages_table) as backend:
            found.append(_prepared(backend))
    assert found[0] == found[1]
    assert not found[0].keys() & found[2].keys()


@pytest.mark.parametrize("forget", FORGETTING)
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_a_server_session_forgets_costs_one_round_trip_for_all(
    postgresql_url: str, name: str, forget: str
) -> None:
    with Proxy(postgresql_url) as proxy, _connect(proxy.url) as backend:
        session = backend.session("chat_1")
        usual = [_trips(proxy, lambda: _use(session)) for _ in range(2)][1]
        one = _trips(proxy, lambda: OPERATIONS[name](session))
        session.replace_items(items("a", "b"))
        _execute(backend, forget)
        assert _trips(proxy, lambda: OPERATIONS[name](session)) == one + 1
        session.replace_items(items("a", "b"))
        assert _trips(proxy, lambda: _use(session)) == usual


def test_a_name_that_somebody_has_given_costs_nothing(postgresql_url: str) -> None:
    with _connect(postgresql_url) as backend:
        _use(backend.session("chat_1"))
        names = list(_prepared(backend))
    with Proxy(postgresql_url) as proxy, sessions.connect(proxy.url, max_retries=0) as backend:
        backend.check()
        for name in names:
            _execute(backend, f"PREPARE {name} AS SELECT 'another one', $1::text")
        assert _trips(proxy, lambda: backend.session("chat_1").get_items()) == 1
        _use(backend.session("chat_1"))


def test_a_connection_that_keeps_losing_names_gives_none_any_more(postgresql_url: str) -> None:
    with Proxy(postgresql_url) as proxy, _connect(proxy.url) as backend:
        session = backend.session("chat_1")
        lost = 0
        for _ in range(12):
            _execute(backend, "DISCARD ALL")
            lost += _trips(proxy, lambda: session.add_items(items("x"))) - 1
        assert 0 < lost < 8
        assert _prepared(backend) == {}
        assert len(session.get_items()) == 14


CHANGES = {
    "a column is added": "ALTER TABLE agent_messages ADD COLUMN more TEXT DEFAULT 'x'",
    "a type changes": "ALTER TABLE agent_messages ALTER COLUMN message_data TYPE VARCHAR",
    "an id narrows": "ALTER TABLE agent_messages ALTER COLUMN id TYPE INTEGER",
    "a table is copied": (
        "ALTER TABLE agent_messages RENAME TO old; CREATE TABLE agent_messages (LIKE old INCLUDING ALL); "
        "ALTER TABLE agent_messages ALTER COLUMN id RESTART WITH 1000; INSERT INTO agent_messages SELECT * FROM old"
    ),
    "a table is made anew": (
        "CREATE TABLE copy AS SELECT * FROM agent_messages; DROP TABLE agent_messages; "
        "CREATE TABLE agent_messages (id INTEGER GENERATED BY DEFAULT AS IDENTITY (START 1000) PRIMARY KEY, "
        "session_id TEXT NOT NULL, message_data TEXT NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP); "
        "INSERT INTO agent_messages SELECT id, session_id, message_data, created_at FROM copy"
    ),
    "an index is dropped": "ALTER TABLE agent_messages DROP CONSTRAINT agent_messages_session_id_id_key",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_table_that_changes_costs_no_attempt(postgresql_url: str, change: str) -> None:
    with Proxy(postgresql_url) as proxy, _connect(proxy.url) as backend:  # which tries once
        session = backend.session("chat_1")
        for _ in range(7):
            _use(session)
        usual = _trips(proxy, lambda: _use(session))
        for statement in change.split("; "):
            execute_sql(postgresql_url, statement)
        assert _trips(proxy, lambda: _use(session)) <= usual + 1
        assert _trips(proxy, lambda: _use(session)) == usual


def test_what_cannot_be_prepared_any_more_keeps_nothing_else_from_it(postgresql_url: str) -> None:
    with _connect(postgresql_url) as backend:
        session = backend.session("chat_1")
        _use(session)
        execute_sql(postgresql_url, "ALTER TABLE agent_sessions RENAME COLUMN updated_at TO changed_at")
        _execute(backend, "DISCARD ALL")
        assert texts(session.get_items()) == ["a", "b"]
        with pytest.raises(sessions.SchemaError):
            session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "b"]


def test_a_search_path_that_changes_leads_to_the_other_tables_once_they_are_looked_for(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "_FRESH_SECONDS", 0.0)
    with _connect(postgresql_url) as backend:
        session = backend.session("chat_1")
        for _ in range(7):
            _use(session)
        _execute(backend, "CREATE SCHEMA other")
        for table in ("agent_sessions", "agent_messages"):
            _execute(backend, f"CREATE TABLE other.{table} (LIKE {table} INCLUDING ALL)")
        _execute(backend, "SET search_path = other")
        assert session.get_items() == []
        session.add_items(items("b"))
        _execute(backend, "SET search_path = public")
        _use(session)
        assert execute_sql(postgresql_url, "SELECT count(*) FROM other.agent_messages") == [(1,)]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("change", ["RENAME TO was_messages", "SET SCHEMA apart"])
def test_what_is_prepared_does_not_lead_to_the_tables_of_another_schema(
    postgresql_url: str, name: str, change: str
) -> None:
    with sessions.connect(postgresql_url) as others:
        others.session("chat_1").add_items(items("theirs"))
        for schema in ("tenant", "apart"):
            execute_sql(postgresql_url, f"CREATE SCHEMA {schema}")
        for table in ("agent_sessions", "agent_messages"):
            execute_sql(postgresql_url, f"CREATE TABLE tenant.{table} (LIKE {table} INCLUDING ALL)")
        with _connect(f"{postgresql_url}?options=-csearch_path%3Dtenant,public") as backend:
            session = backend.session("chat_1")
            for _ in range(2):
                _use(session)
            execute_sql(postgresql_url, f"ALTER TABLE tenant.agent_messages {change}")
            with pytest.raises(sessions.SchemaError):
                OPERATIONS[name](session)
        assert texts(others.session("chat_1").get_items()) == ["theirs"]


def test_tables_that_go_missing_are_made_anew(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        session = backend.session("chat_1")
        for _ in range(2):
            execute_sql(postgresql_url, "DROP TABLE IF EXISTS agent_messages, agent_sessions")
            assert session.get_items() == []
            session.add_items(items("a"))


def test_an_operation_of_several_statements_needs_no_name(postgresql_url: str) -> None:
    large = [letter * 1_000_000 for letter in "abcdefghijklmnopqrst"]  # more than a statement of ours holds
    with _connect(postgresql_url) as backend:
        session = backend.session("chat_1")
        _use(session)
        _execute(backend, "DISCARD ALL")
        session.add_items(items(*large), if_position=session.position())
        with session.exclusive():
            _execute(backend, "DISCARD ALL")
            session.add_items(items("under a lease"))
        assert len(session.get_items()) == 23
