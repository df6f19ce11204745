"""What puts rows of ours elsewhere, numbers them in another order, or not at all: refused, or said by check()."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from contract.test_tables_of_others import make, stored
from sessions import Backend
from sessions._items import MAX_ID
from support.claims import assert_helpful, each_mysql
from support.samples import items, texts
from support.servers import connect_raw, dialect_of, execute_sql, with_parts

WRITES: dict[str, Callable[[Backend], object]] = {
    "add": lambda backend: backend.session("Chat").add_items(items("a", "b")),
    "add at": lambda backend: backend.session("Chat").add_items(items("a", "b"), if_position=0),
    "replace": lambda backend: backend.session("Chat").replace_items(items("a", "b")),
    "large": lambda backend: backend.session("Chat").add_items([{"text": "x" * 9_000_000}] * 2),
    "fork": lambda backend: backend.session("low").fork("Chat"),
}
COUNTS = ("SELECT COUNT(*) FROM agent_sessions", "SELECT COUNT(*) FROM agent_messages")


def lower(url: str, *tables: str, event: str = "INSERT") -> None:
    """Let what is written to these tables have its session id in lower case."""
    if dialect_of(url) == "postgresql":
        execute_sql(
            url,
            "CREATE FUNCTION low() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN NEW.session_id = lower(NEW.session_id); RETURN NEW; END'",
        )
    for table in tables:
        what = (
            "EXECUTE FUNCTION low()"
            if dialect_of(url) == "postgresql"
            else "SET NEW.session_id = LOWER(NEW.session_id)"
        )
        execute_sql(url, f"CREATE TRIGGER {table}_low BEFORE {event} ON {table} FOR EACH ROW {what}")


def counts(url: str) -> list[Any]:
    return [execute_sql(url, statement) for statement in COUNTS]


@contextlib.contextmanager
def lent(url: str, lender: str) -> Iterator[Backend]:
    if lender != "bound":
        options: dict[str, Any] = {} if dialect_of(url) == "postgresql" else {"multi_statements": lender == "packets"}
        with sessions.connect(url, retry_timeout=0, **options) as backend:
            yield backend
        return
    with contextlib.closing(connect_raw(url)) as connection:
        yield sessions.bind(connection)


by_lender = pytest.mark.parametrize("lender", ["packets", "one by one", "bound"])


@by_lender
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "large" else []) for name in WRITES]
)
@pytest.mark.parametrize("tables", ["both", "agent_sessions", "agent_messages"])
def test_a_write_that_a_trigger_puts_elsewhere_is_refused(server_url: str, tables: str, name: str, lender: str) -> None:
    if lender == "one by one" and dialect_of(server_url) == "postgresql":
        pytest.skip("a form of MySQL's")
    with sessions.connect(server_url) as backend:
        backend.session("low").add_items(items("x"))
    with lent(server_url, lender) as backend:
        backend.session("low").replace_items(items("x"))  # what a connection has done once is no proof
        lower(server_url, *(("agent_sessions", "agent_messages") if tables == "both" else (tables,)))
        before = counts(server_url)
        for _ in range(2):
            with pytest.raises(sessions.DatabaseError) as caught:
                WRITES[name](backend)
            assert_helpful(caught.value)
            assert counts(server_url) == before
        backend.session("low").add_items(items("y"))
        assert texts(backend.session("low").get_items()) == ["x", "y"]


def test_a_record_that_a_trigger_moves_is_refused(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("Chat")
        session.add_items(items("a"))
        if dialect_of(sql_url) == "sqlite":
            moved = "UPDATE agent_messages SET session_id = 'low' WHERE id = NEW.id"
            execute_sql(
                sql_url, f"CREATE TRIGGER low AFTER UPDATE OF message_data ON agent_messages BEGIN {moved}; END"
            )
        else:
            lower(sql_url, "agent_messages", event="UPDATE")
        backend.session("chat").add_items(items("b"))
        backend.session("low").add_items(items("c"))
        with pytest.raises(sessions.DatabaseError, match="trigger"):
            session.replace_record(session.position(), items("d")[0])
        assert texts(session.get_items()) == ["a"]
        assert texts(backend.session("chat").get_items()) == ["b"]


def test_a_trigger_that_changes_the_case_of_ids_is_an_error_of_a_check(server_url: str) -> None:
    with sessions.connect(server_url) as backend:
        backend.session("low").add_items(items("x"))
        lower(server_url, "agent_sessions", "agent_messages")
        [found] = [check for check in backend.check() if check.name == "rights"]
        assert found.verdict == "error"
        assert "trigger" in found.remedy


# --- rows without a number


@each_mysql
@by_lender
@pytest.mark.parametrize("name", ["add_items", "replace_items"])
@pytest.mark.parametrize("row_id", ["BIGINT NULL", "BIGINT NOT NULL DEFAULT 0"])
def test_rows_that_get_no_number_on_mysql_are_refused_and_not_written(
    server_url: str, row_id: str, name: str, lender: str
) -> None:
    make(server_url, row_id=row_id)
    with lent(server_url, lender) as backend:
        for _ in range(2):
            with pytest.raises(sessions.SchemaError, match="AUTO_INCREMENT"):
                getattr(backend.session("chat_1"), name)(items(*"ab"))
        assert backend.session("chat_1").get_items() == []
        assert counts(server_url) == [[(0,)], [(0,)]]
        [found] = [check for check in backend.check() if check.name == "rights"]
        assert found.verdict == "error"
        assert "AUTO_INCREMENT" in found.remedy


# What numbers rows instead, from some moment on; higher than before, so that order by id would not tell.
RENUMBERING = {
    "sequence": ["CREATE SEQUENCE ids START WITH 1000", "{modify} DEFAULT NEXTVAL(ids)"],
    "uuid": ["{modify} DEFAULT (UUID_SHORT())"],
    "trigger": [
        "{modify} DEFAULT 0",
        "CREATE TRIGGER t BEFORE INSERT ON agent_messages FOR EACH ROW SET NEW.id = UUID_SHORT()",
    ],
}


@each_mysql
@by_lender
@pytest.mark.parametrize("name", ["add_items", "replace_items"])
@pytest.mark.parametrize("how", RENUMBERING)
def test_rows_that_are_no_longer_numbered_on_mysql_are_refused_and_not_written(
    server_url: str, how: str, name: str, lender: str
) -> None:
    if how == "sequence" and dialect_of(server_url) == "mysql":
        pytest.skip("it has none")
    with sessions.connect(server_url) as backend:
        backend.session("chat_1").clear_session()
    with lent(server_url, lender) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        for statement in RENUMBERING[how]:
            execute_sql(server_url, statement.format(modify="ALTER TABLE agent_messages MODIFY id BIGINT NOT NULL"))
        for number in (1, 2):
            with pytest.raises(sessions.SchemaError, match="AUTO_INCREMENT"):
                getattr(session, name)(items(*"bc"[:number]))
            assert texts(session.get_items()) == ["a"]


# --- rows in another order


NUMBERED = "BIGINT DEFAULT nextval('numbers') PRIMARY KEY"


@pytest.mark.parametrize("how", ["CACHE 50", "CYCLE", "CACHE 50 CYCLE"])
@pytest.mark.parametrize("row_id", [NUMBERED, "BIGINT GENERATED BY DEFAULT AS IDENTITY ({}) PRIMARY KEY"])
def test_a_sequence_that_numbers_rows_in_another_order_is_a_warning_and_mended(
    postgresql_url: str, row_id: str, how: str
) -> None:
    execute_sql(postgresql_url, f"CREATE SEQUENCE numbers {how}")
    make(postgresql_url, row_id=row_id.format(how))
    with sessions.connect(postgresql_url) as backend:
        [found] = [check for check in backend.check() if check.name == "sequence"]
        assert (found.verdict, how.replace("CACHE 50 ", "CACHE 50, ") in found.found) == ("warning", True)
        assert [check for check in backend.check(fix=True) if check.name == "sequence"] == []


def test_a_sequence_that_counts_down_is_a_warning_with_a_remedy(postgresql_url: str) -> None:
    execute_sql(postgresql_url, "CREATE SEQUENCE numbers INCREMENT -1")
    make(postgresql_url, row_id=NUMBERED)
    with sessions.connect(postgresql_url) as backend:
        [found] = [check for check in backend.check(fix=True) if check.name == "sequence"]
        assert "INCREMENT -1" in found.found
        execute_sql(postgresql_url, found.remedy.replace("<above every id>", "1"))
        assert [check for check in backend.check() if check.name == "sequence"] == []


LATER: dict[str, Callable[[Backend], object]] = {
    "add": lambda backend: backend.session("chat_1").add_items(items("c", "d")),
    "add at": lambda backend: backend.session("chat_1").add_items(items("c", "d"), if_position=102),
    "blank": lambda backend: backend.session("chat_2 ").add_items(items("c", "d")),
    "large": lambda backend: backend.session("chat_1").add_items([{"text": "x" * 9_000_000}] * 2),
    "load": lambda backend: backend.load("chat_1", backend.session("chat_2 ").records(), on_existing="append"),
    "under a lease": lambda backend: add_under_a_lease(backend.session("chat_1")),
}


def ids(url: str) -> list[int]:
    return [row_id for (row_id,) in execute_sql(url, "SELECT id FROM agent_messages ORDER BY id")]


def add_under_a_lease(session: sessions.Session) -> None:
    with session.exclusive():
        session.add_items(items("c", "d"))


@pytest.fixture
def behind_url(postgresql_url: str) -> str:
    """A database with rows that came with their ids, as by logical replication, of which the sequence knows nothing."""
    with sessions.connect(postgresql_url) as backend:
        for session_id in ("chat_1", "chat_2 "):
            with backend.session(session_id).exclusive():  # which makes the table of leases
                backend.session(session_id).add_items(items("a", "b"))
    execute_sql(postgresql_url, "UPDATE agent_messages SET id = id + 100")
    execute_sql(postgresql_url, "ALTER TABLE agent_messages ALTER id RESTART")
    return postgresql_url


@pytest.mark.parametrize("lender", ["own", "bound"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "large" else []) for name in LATER]
)
def test_a_batch_that_would_stand_before_what_is_there_is_refused(behind_url: str, name: str, lender: str) -> None:
    before = ids(behind_url)
    with lent(behind_url, lender) as backend:
        for _ in range(2):
            with pytest.raises(sessions.SchemaError, match="not above those before") as caught:
                LATER[name](backend)
            assert_helpful(caught.value)
            assert ids(behind_url) == before
        execute_sql(behind_url, str(caught.value).rpartition("does: ")[2])
        LATER[name](backend)
    assert ids(behind_url)[: len(before)] == before
    assert len(ids(behind_url)) == len(before) + 2


def test_check_says_that_a_sequence_is_behind_and_mends_it(behind_url: str) -> None:
    with sessions.connect(behind_url) as backend:
        [found] = [check for check in backend.check() if check.name == "sequence"]
        assert (found.verdict, "gives 1 next" in found.found) == ("error", True)
        assert [check for check in backend.check(fix=True) if check.name == "sequence"] == []
        backend.session("chat_1").add_items(items("c"))
        assert texts(backend.session("chat_1").get_items()) == ["a", "b", "c"]


def test_check_says_that_a_sequence_is_behind_on_a_server_that_was_built_without_xml(behind_url: str) -> None:
    """As those are that some packages bring along; each function of XML raises an error there."""
    execute_sql(
        behind_url,
        """
        CREATE FUNCTION query_to_xml(text, boolean, boolean, text) RETURNS xml LANGUAGE plpgsql AS $$
        BEGIN RAISE feature_not_supported USING MESSAGE = 'unsupported XML feature'; END $$
        """,
    )
    lacking = with_parts(behind_url, query="options=-csearch_path%3Dpublic,pg_catalog")
    with sessions.connect(lacking) as backend:
        assert [check.found for check in backend.check() if check.name == "sequence"]


FIRST: dict[str, Callable[[Backend], object]] = {
    "add": lambda backend: backend.session("chat_1").add_items(items("a", "b")),
    "replace": lambda backend: backend.session("chat_1").replace_items(items("a", "b")),
    "load": lambda backend: backend.load("chat_1", list(backend.session("chat_2").records())),
}


@pytest.mark.parametrize("lender", ["own", "bound"])
@pytest.mark.parametrize("how", ["sequence", "trigger"])
@pytest.mark.parametrize("name", FIRST)
def test_a_batch_that_is_numbered_backwards_is_refused(postgresql_url: str, name: str, how: str, lender: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_2").add_items(items("a", "b"))
    step = "INCREMENT -1" if how == "sequence" else ""
    execute_sql(postgresql_url, f"CREATE SEQUENCE numbers MINVALUE 1 MAXVALUE 1000 START 900 {step}")
    execute_sql(postgresql_url, "ALTER TABLE agent_messages ALTER id DROP IDENTITY")
    execute_sql(postgresql_url, "ALTER TABLE agent_messages ALTER id SET DEFAULT nextval('numbers')")
    if how == "trigger":
        execute_sql(
            postgresql_url,
            "CREATE FUNCTION turn() RETURNS trigger LANGUAGE plpgsql "
            "AS 'BEGIN NEW.id = 2000 - NEW.id; RETURN NEW; END'",
        )
        execute_sql(
            postgresql_url,
            "CREATE TRIGGER turn BEFORE INSERT ON agent_messages FOR EACH ROW EXECUTE FUNCTION turn()",
        )
    with lent(postgresql_url, lender) as backend:
        with pytest.raises(sessions.SchemaError, match="not above those before"):
            FIRST[name](backend)
        assert backend.session("chat_1").get_items() == []


def test_ids_that_sqlite_gives_at_random_are_refused(sqlite_url: str) -> None:
    make(sqlite_url, row_id="INTEGER PRIMARY KEY")
    with sessions.connect(sqlite_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        execute_sql(sqlite_url, f"UPDATE agent_messages SET id = {MAX_ID - 1}")
        session.add_items(items("b"))
        for write in (session.add_items, backend.session("chat_2").add_items, backend.session("chat_2").replace_items):
            with pytest.raises(sessions.SchemaError, match="used up"):
                write(items("c", "d"))
        assert texts(session.get_items()) == ["a", "b"]


@pytest.mark.parametrize(
    ("row_id", "verdict"), [("INTEGER PRIMARY KEY", "warning"), ("integer primary key autoincrement", "ok")]
)
def test_ids_that_sqlite_gives_again_are_a_warning(sqlite_url: str, row_id: str, verdict: str) -> None:
    make(sqlite_url, row_id=row_id)
    with sessions.connect(sqlite_url) as backend:
        assert [check.verdict for check in backend.check() if check.name == "ids"] == [verdict]


# --- views


def test_a_view_in_the_place_of_a_table_is_named(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        execute_sql(postgresql_url, "ALTER TABLE agent_sessions RENAME TO behind")
        execute_sql(postgresql_url, "CREATE VIEW agent_sessions AS SELECT * FROM behind")
        [found] = [check for check in backend.check() if check.name == "kind"]
        assert (found.verdict, "agent_sessions" in found.found) == ("error", True)
        with pytest.raises(sessions.SchemaError, match="it is a view"):
            backend.session("chat_1").pop_item()
        assert stored(postgresql_url) == 1
