"""What suppresses rows and raises nothing: a write works in spite of it, or is refused and changes nothing.

MySQL and MariaDB have no trigger that suppresses a row.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest

import sessions
from embedding.application import connected, place_order, prepare, run
from embedding.test_rights import TABLES, grants, role_of
from support.claims import assert_helpful
from support.samples import items, texts
from support.servers import dialect_of, execute_sql

Session = sessions.Session

# Done to the history a, b, but for a new session; what each leaves.
WRITES: dict[str, tuple[Callable[[Session], object], list[str]]] = {
    "add": (lambda session: session.add_items(items("c", "d")), [*"abcd"]),
    "add at": (lambda session: session.add_items(items("c", "d"), if_position=session.position()), [*"abcd"]),
    "replace": (lambda session: session.replace_items(items("c", "d")), [*"cd"]),
    "pop": (lambda session: session.pop_item(), [*"a"]),
    "delete one": (lambda session: session.delete_record(session.position()), [*"a"]),
    "clear": (lambda session: session.clear_session(), []),
    "add to a new one": (lambda session: session.add_items(items("c", "d")), [*"cd"]),
}
ADDS = {"add", "add at", "replace", "add to a new one"}
SINGLE_REMOVALS = {"pop", "delete one"}
REMOVALS = {*SINGLE_REMOVALS, "clear", "replace"}

# The statements that suppress, and which writes are refused then.
ON_POSTGRESQL: dict[str, tuple[list[str], set[str]]] = {
    "an update of the session": (["CREATE TRIGGER t BEFORE UPDATE ON agent_sessions {each} nothing()"], set()),
    "a redundant update of the session": (
        [
            "ALTER TABLE agent_sessions ALTER updated_at TYPE timestamp(0)",
            "CREATE TRIGGER t BEFORE UPDATE ON agent_sessions {each} suppress_redundant_updates_trigger()",
        ],
        set(),
    ),
    "a new session": (["CREATE TRIGGER t BEFORE INSERT ON agent_sessions {each} nothing()"], {"add to a new one"}),
    "one of the messages": (
        [
            "CREATE TRIGGER t BEFORE INSERT ON agent_messages {each_of_d} nothing()",
        ],
        ADDS,
    ),
    "messages that go to a partition": (
        [
            "CREATE TABLE newer () INHERITS (agent_messages)",
            "{pass_on}",
            "CREATE TRIGGER t BEFORE INSERT ON agent_messages {each} pass_on()",
        ],
        ADDS,
    ),
    "deleted messages, which are marked": (
        ["{mark_messages}", "CREATE TRIGGER t BEFORE DELETE ON agent_messages {each} mark()"],
        REMOVALS,
    ),
    "deleted messages, which the trigger deletes itself": (
        ["{delete_itself}", "CREATE TRIGGER t BEFORE DELETE ON agent_messages {each} delete_itself()"],
        SINGLE_REMOVALS,
    ),
    "deleted messages of a view": (
        [
            "ALTER TABLE agent_messages RENAME TO kept",
            "CREATE VIEW agent_messages AS SELECT id, session_id, message_data, created_at FROM kept",
            "{delete_kept}",
            "CREATE TRIGGER t INSTEAD OF DELETE ON agent_messages {each} delete_kept()",
        ],
        SINGLE_REMOVALS,
    ),
    "deleted sessions, which are marked": (
        ["{mark_sessions}", "CREATE TRIGGER t BEFORE DELETE ON agent_sessions {each} mark()"],
        {"clear"},
    ),
    "new messages, by a rule": (["CREATE RULE r AS ON INSERT TO agent_messages DO INSTEAD NOTHING"], ADDS),
    "deleted messages, by a rule": (["CREATE RULE r AS ON DELETE TO agent_messages DO INSTEAD NOTHING"], REMOVALS),
    "deleted sessions, by a rule": (["CREATE RULE r AS ON DELETE TO agent_sessions DO INSTEAD NOTHING"], {"clear"}),
    "updates of the session, by a rule": (
        ["CREATE RULE r AS ON UPDATE TO agent_sessions DO INSTEAD NOTHING"],
        {*ADDS, "pop"},
    ),
    "deleted messages, by a policy": (
        [
            "ALTER TABLE agent_messages ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY reads ON agent_messages FOR SELECT USING (TRUE)",
            "CREATE POLICY adds ON agent_messages FOR INSERT WITH CHECK (TRUE)",
            "CREATE POLICY locks ON agent_messages FOR UPDATE USING (TRUE)",
        ],
        REMOVALS,
    ),
    "deleted sessions, by a policy": (
        [
            "ALTER TABLE agent_sessions ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY reads ON agent_sessions FOR SELECT USING (TRUE)",
            "CREATE POLICY adds ON agent_sessions FOR INSERT WITH CHECK (TRUE)",
            "CREATE POLICY locks ON agent_sessions FOR UPDATE USING (TRUE)",
        ],
        {"clear"},
    ),
    "messages that a policy hides": (
        [
            "ALTER TABLE agent_messages ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY hides ON agent_messages USING (message_data NOT LIKE '%\"d\"%') WITH CHECK (TRUE)",
        ],
        ADDS,
    ),
}
ON_SQLITE: dict[str, tuple[list[str], set[str]]] = {
    "an update of the session": (["CREATE TRIGGER t BEFORE UPDATE ON agent_sessions BEGIN {ignore} END"], set()),
    "a new session": (
        ["CREATE TRIGGER t BEFORE INSERT ON agent_sessions BEGIN {ignore} END"],
        {"add to a new one"},
    ),
    "one of the messages": (
        ["CREATE TRIGGER t BEFORE INSERT ON agent_messages WHEN instr(NEW.message_data, '\"c\"') BEGIN {ignore} END"],
        ADDS,
    ),
    "the last of the messages": (
        ["CREATE TRIGGER t BEFORE INSERT ON agent_messages WHEN instr(NEW.message_data, '\"d\"') BEGIN {ignore} END"],
        ADDS,
    ),
    "messages that go to a partition": (
        [
            "CREATE TABLE newer AS SELECT * FROM agent_messages",
            "CREATE TRIGGER t BEFORE INSERT ON agent_messages BEGIN {copy} {ignore} END",
        ],
        ADDS,
    ),
    "deleted messages": (["CREATE TRIGGER t BEFORE DELETE ON agent_messages BEGIN {ignore} END"], REMOVALS),
    "deleted messages, which the trigger deletes itself": (
        [
            "CREATE TABLE archive (text TEXT)",
            "CREATE TRIGGER t BEFORE DELETE ON agent_messages BEGIN {archive} {delete_old} END",
        ],
        SINGLE_REMOVALS,
    ),
    "messages of a view": (
        [
            "ALTER TABLE agent_messages RENAME TO kept",
            "CREATE VIEW agent_messages AS SELECT * FROM kept",
            "CREATE TRIGGER i INSTEAD OF INSERT ON agent_messages BEGIN {keep} END",
            "CREATE TRIGGER d INSTEAD OF DELETE ON agent_messages BEGIN DELETE FROM kept WHERE id = OLD.id; END",
        ],
        ADDS | SINGLE_REMOVALS,
    ),
    "deleted sessions": (["CREATE TRIGGER t BEFORE DELETE ON agent_sessions BEGIN {ignore} END"], {"clear"}),
}
_MARK = (
    "ALTER TABLE {table} ADD deleted boolean DEFAULT FALSE; CREATE FUNCTION mark() RETURNS trigger LANGUAGE plpgsql "
    "AS 'BEGIN UPDATE {table} SET deleted = TRUE WHERE {key} = OLD.{key}; RETURN NULL; END'"
)
_WORDS = {
    "each": "FOR EACH ROW EXECUTE FUNCTION",
    "each_of_d": "FOR EACH ROW WHEN (NEW.message_data LIKE '%\"d\"%') EXECUTE FUNCTION",
    "pass_on": "CREATE FUNCTION pass_on() RETURNS trigger LANGUAGE plpgsql "
    "AS 'BEGIN INSERT INTO newer SELECT NEW.*; RETURN NULL; END'",
    "delete_itself": "CREATE FUNCTION delete_itself() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN "
    "IF pg_trigger_depth() > 1 THEN RETURN OLD; END IF; "
    "DELETE FROM agent_messages WHERE id = OLD.id; RETURN NULL; END'",
    "delete_kept": "CREATE FUNCTION delete_kept() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN "
    "DELETE FROM kept WHERE id = OLD.id; RETURN NULL; END'",
    "copy": "INSERT INTO newer (message_data) VALUES (NEW.message_data);",
    "archive": "INSERT INTO archive VALUES (OLD.message_data);",
    "delete_old": "DELETE FROM agent_messages WHERE id = OLD.id;",
    "keep": "INSERT INTO kept (session_id, message_data) VALUES (NEW.session_id, NEW.message_data);",
    "ignore": "SELECT RAISE(IGNORE);",
    "mark_messages": _MARK.format(table="agent_messages", key="id"),
    "mark_sessions": _MARK.format(table="agent_sessions", key="session_id"),
}

KINDS = [
    pytest.param(dialect, *kind, id=f"{dialect}: {name}", marks=getattr(pytest.mark, dialect))
    for dialect, kinds in (("postgresql", ON_POSTGRESQL), ("sqlite", ON_SQLITE))
    for name, kind in kinds.items()
]


@contextmanager
def suppressing(url: str, statements: list[str]) -> Iterator[str]:
    """The tables with the histories, and what suppresses; the URL of a user whom it concerns."""
    prepare(url)
    with sessions.connect(url) as backend:
        for name in WRITES:
            if name != "add to a new one":
                backend.session(name).add_items(items("a", "b"))
    if dialect_of(url) == "postgresql":
        execute_sql(url, "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    for statement in statements:
        execute_sql(url, statement.format(**_WORDS))
    # No policy binds an administrator.
    tables = (*TABLES, "orders", *(["newer"] if "newer" in str(statements) else []))
    role = role_of(url, *grants(url, *tables)) if dialect_of(url) == "postgresql" else nullcontext(url)
    with role as user_url:
        yield user_url


def stored(url: str) -> list[Any]:
    return [
        execute_sql(url, "SELECT session_id FROM agent_sessions ORDER BY 1"),
        execute_sql(url, "SELECT id, session_id, message_data FROM agent_messages ORDER BY 1"),
    ]


def refuses_to(name: str, backend: sessions.Backend) -> bool:
    """Write; tell whether that was refused. What was not refused has worked."""
    write, left = WRITES[name]
    try:
        write(backend.session(name))
    except sessions.DatabaseError as error:
        assert_helpful(error)
        return True
    assert texts(backend.session(name).get_items()) == left, name
    return False


@pytest.mark.parametrize("bound", [False, True], ids=["own", "bound"])
@pytest.mark.parametrize(("dialect", "statements", "refused"), KINDS)
def test_a_suppressed_write_is_refused_and_changes_nothing(
    make_url: Callable[[str], str], dialect: str, statements: list[str], refused: set[str], bound: bool
) -> None:
    url = make_url(dialect)
    if bound and "ON UPDATE TO agent_sessions" in statements[0]:
        refused = refused - {"pop"}  # which locks the session's row there, and does not update it
    with suppressing(url, statements) as user_url, ExitStack() as stack:
        backend = stack.enter_context(sessions.connect(user_url, create_tables=False))
        connection = stack.enter_context(connected(user_url))
        for name in WRITES:
            before = stored(url)
            if bound:
                place_order(connection, 1)
                assert refuses_to(name, sessions.bind(connection)) == (name in refused), name
                if name in refused:
                    assert run(connection, "SELECT id FROM orders") == [(1,)]
                connection.rollback()
            else:
                assert refuses_to(name, backend) == (name in refused), name
            if bound or name in refused:
                assert stored(url) == before, name


@pytest.mark.parametrize(("name", "table"), [("pop", "messages"), ("clear", "sessions")])
def test_a_refused_removal_marks_nothing_as_removed(postgresql_url: str, name: str, table: str) -> None:
    statements, _ = ON_POSTGRESQL[f"deleted {table}, which are marked"]
    with suppressing(postgresql_url, statements) as url, sessions.connect(url, create_tables=False) as backend:
        assert refuses_to(name, backend)
        assert execute_sql(url, f"SELECT count(*) FROM agent_{table} WHERE deleted") == [(0,)]
