"""Tables that were made by others, with columns of other types, keys and collations than ours."""

import contextlib
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

import sessions
from sessions import Record, Session
from support.claims import OPERATIONS, each_mysql, refused
from support.samples import items, texts
from support.servers import connect_raw, dialect_of, execute_sql


def make(url: str, *, session_id: str = "VARCHAR(255)", row_id: str = "BIGINT", key: str = "", end: str = "") -> None:
    """Make the two tables with these types of session_id and id."""
    times = "created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
    execute_sql(
        url,
        f"CREATE TABLE agent_sessions (session_id {session_id} NOT NULL PRIMARY KEY, {times}, "
        f"updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP){end}",
    )
    execute_sql(
        url,
        f"CREATE TABLE agent_messages (id {row_id}, session_id {session_id} NOT NULL, message_data TEXT NOT NULL, "
        f"{times}{key})",
    )


def stored(url: str) -> int:
    count: int = execute_sql(url, "SELECT COUNT(*) FROM agent_messages")[0][0]
    return count


@pytest.mark.parametrize("row_id", ["NUMERIC(20)", "DOUBLE PRECISION", "INTEGER", "SMALLINT"])
@pytest.mark.parametrize("lender", ["own", "bound"])
def test_ids_of_another_type_are_written_and_popped_once(row_id: str, lender: str, postgresql_url: str) -> None:
    execute_sql(postgresql_url, "CREATE SEQUENCE numbers")
    make(postgresql_url, row_id=f"{row_id} DEFAULT nextval('numbers') PRIMARY KEY")
    with contextlib.closing(connect_raw(postgresql_url)) as connection:
        connection.autocommit = True
        backend = sessions.connect(postgresql_url) if lender == "own" else sessions.bind(connection)
        with backend, backend.session("chat_1") as session:
            session.add_items(items(*"abc"))
            session.add_items(items("d"), if_position=int(session.position()))
            assert texts(session.get_items()) == ["a", "b", "c", "d"]
            assert texts([session.pop_item() or {}]) == ["d"]
            assert texts(session.get_items()) == ["a", "b", "c"]
            session.replace_items(items(*"ef"))
            assert texts(session.get_items()) == ["e", "f"]


@pytest.mark.parametrize("kind", ["NUMERIC(20)", "DOUBLE PRECISION"])
def test_numeric_ids_are_ints(kind: str, postgresql_url: str) -> None:
    execute_sql(postgresql_url, "CREATE SEQUENCE numbers")
    make(postgresql_url, row_id=f"{kind} DEFAULT nextval('numbers') PRIMARY KEY")
    with Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items(*"ab"))
        assert [type(record.id) for record in session.records()] == [int, int]
        assert type(session.position()) is int
        session.add_items(items("c"), if_position=session.position())


@pytest.mark.parametrize("kind", ["NUMERIC", "DOUBLE PRECISION"])
@pytest.mark.parametrize("fraction", [1, 2])
@pytest.mark.parametrize("name", ["pop_item", "add_items", "replace_items", "clear_session"])
def test_what_stops_at_an_id_that_is_no_whole_number_has_changed_nothing(
    name: str, fraction: int, kind: str, postgresql_url: str
) -> None:
    execute_sql(postgresql_url, "CREATE SEQUENCE numbers")
    make(postgresql_url, row_id=f"{kind} DEFAULT nextval('numbers') PRIMARY KEY")
    with Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items(*"ab"))
        execute_sql(postgresql_url, f"UPDATE agent_messages SET id = id - 0.5 WHERE id = {fraction}")
        try:
            OPERATIONS[name](session)
        except sessions.SchemaError:
            assert stored(postgresql_url) == 2
        else:
            assert name != "pop_item"


@pytest.mark.parametrize("name", ["add_items", "replace_items"])
def test_rows_that_get_no_whole_number_on_postgresql_are_refused_and_not_written(
    name: str, postgresql_url: str
) -> None:
    execute_sql(postgresql_url, "CREATE SEQUENCE numbers")
    make(postgresql_url, row_id="NUMERIC DEFAULT nextval('numbers') + 0.5 PRIMARY KEY")
    with Session.from_url("chat_1", postgresql_url) as session, pytest.raises(sessions.SchemaError, match="id"):
        getattr(session, name)(items(*"ab"))
    assert stored(postgresql_url) == 0


@pytest.mark.parametrize("name", ["add_items", "replace_items"])
@pytest.mark.parametrize(
    "row_id", ["BIGINT", "TEXT DEFAULT nextval('numbers')::text PRIMARY KEY"], ids=["none", "text"]
)
def test_rows_that_get_no_number_on_postgresql_are_refused_and_not_written(
    row_id: str, name: str, postgresql_url: str
) -> None:
    execute_sql(postgresql_url, "CREATE SEQUENCE numbers")
    make(postgresql_url, row_id=row_id)
    with Session.from_url("chat_1", postgresql_url) as session:
        with pytest.raises(sessions.SchemaError, match="id"):
            getattr(session, name)(items(*"ab"))
        assert session.get_items() == []
    assert stored(postgresql_url) == 0


@pytest.mark.parametrize("row_id", ["INT PRIMARY KEY", "INTEGER PRIMARY KEY DESC", "BIGINT"])
@pytest.mark.parametrize("name", ["add_items", "replace_items"])
def test_rows_that_get_no_number_on_sqlite_are_refused_and_not_written(row_id: str, name: str, sqlite_url: str) -> None:
    make(sqlite_url, row_id=row_id)
    with Session.from_url("chat_1", sqlite_url) as session:
        with pytest.raises(sessions.SchemaError, match="INTEGER PRIMARY KEY"):
            getattr(session, name)(items(*"ab"))
        assert session.get_items() == []
    assert stored(sqlite_url) == 0


def test_a_pop_leaves_rows_of_other_sessions_that_have_its_id(server_url: str) -> None:
    key = ", PRIMARY KEY (session_id, id)" + ("" if dialect_of(server_url) == "postgresql" else ", KEY (id)")
    generated = " GENERATED BY DEFAULT AS IDENTITY" if dialect_of(server_url) == "postgresql" else " AUTO_INCREMENT"
    make(server_url, row_id=f"BIGINT{generated}", key=key)
    for session_id in ("chat_1", "chat_2", "chat_3"):
        execute_sql(server_url, "INSERT INTO agent_sessions (session_id) VALUES (%s)", (session_id,))
        for row_id, text in enumerate("ab", start=1):
            execute_sql(
                server_url,
                "INSERT INTO agent_messages (id, session_id, message_data) VALUES (%s, %s, %s)",
                (row_id, session_id, f'{{"role": "user", "content": "{text}"}}'),
            )
    with sessions.connect(server_url) as backend:
        assert texts([backend.session("chat_1").pop_item() or {}]) == ["b"]
        assert [texts(backend.session(f"chat_{n}").get_items()) for n in (1, 2, 3)] == [["a"], ["a", "b"], ["a", "b"]]


def test_ids_that_sqlite_does_not_tell_apart_are_a_warning(sqlite_url: str) -> None:
    for session_id, confused in {
        "TEXT COLLATE NOCASE": "case",
        "TEXT COLLATE RTRIM": "trailing blanks",
        "STRING": "how a number is written",
    }.items():
        execute_sql(sqlite_url, "DROP TABLE IF EXISTS agent_messages")
        execute_sql(sqlite_url, "DROP TABLE IF EXISTS agent_sessions")
        make(sqlite_url, session_id=session_id, row_id="INTEGER PRIMARY KEY")
        assert _confused(sqlite_url) == f"ids that differ in {confused} are one conversation"
        assert stored(sqlite_url) == 0


@pytest.mark.parametrize(
    ("session_id", "confused"),
    [
        ("TEXT COLLATE ignoring_case", "case"),
        ("TEXT COLLATE ignoring_accents", "case or accents"),
    ],
)
def test_ids_that_postgresql_does_not_tell_apart_are_a_warning(
    session_id: str, confused: str, postgresql_url: str
) -> None:
    for name, level in {"ignoring_case": 2, "ignoring_accents": 1}.items():
        locale = f"und-u-ks-level{level}"
        execute_sql(
            postgresql_url, f"CREATE COLLATION {name} (provider = icu, locale = '{locale}', deterministic = false)"
        )
    make(postgresql_url, session_id=session_id, row_id="BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
    assert _confused(postgresql_url) == f"ids that differ in {confused} are one conversation"


@pytest.mark.parametrize("name", ["add_items", "replace_items", "load", "fork"])
@pytest.mark.parametrize("kind", ["NAME", "short_name", '"char"', "CHAR(255)"])
def test_an_id_that_postgresql_would_store_as_another_is_refused_and_never_read(
    kind: str, name: str, postgresql_url: str
) -> None:
    execute_sql(postgresql_url, "CREATE DOMAIN short_name AS NAME")
    make(postgresql_url, session_id=kind, row_id="BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
    cut = {"NAME": "x" * 63, "short_name": "x" * 63, '"char"': "x"}.get(kind, "chat_1")
    other = f"{cut} " if kind == "CHAR(255)" else f"{cut}y"
    with sessions.connect(postgresql_url) as backend:
        backend.session(cut).add_items(items("a"))
        writes: dict[str, Callable[[], object]] = {
            "add_items": lambda: backend.session(other).add_items(items("b")),
            "replace_items": lambda: backend.session(other).replace_items(items("b")),
            "load": lambda: backend.load(other, []),
            "fork": lambda: backend.session(cut).fork(other),
        }
        with pytest.raises(sessions.DatabaseError, match=r"as another one, and nothing was changed; .*VARCHAR\(255\)"):
            writes[name]()
        assert backend.session(other).get_items() == []
        assert backend.session(other).pop_item() is None
        backend.session(other).clear_session()
        assert texts(backend.session(cut).get_items()) == ["a"]


def test_narrow_ids_of_either_table_are_a_warning_on_postgresql(postgresql_url: str) -> None:
    make(postgresql_url, session_id="NAME", row_id="BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY")
    with sessions.connect(postgresql_url) as backend:
        found = {check.name: check for check in backend.check() if check.name.startswith("session_id")}
    assert {name: (check.verdict, check.found) for name, check in found.items()} == {
        "session_id": ("warning", "name"),
        "session_id of messages": ("warning", "name"),
    }
    assert all("varchar(255)" in check.remedy for check in found.values())


@each_mysql
def test_ids_that_mysql_does_not_tell_apart_are_a_warning(server_url: str) -> None:
    collation = "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci"
    make(server_url, session_id=collation, row_id="BIGINT AUTO_INCREMENT PRIMARY KEY")
    assert _confused(server_url) == "ids that differ in case or accents or trailing blanks are one conversation"


def test_ids_are_told_apart_in_tables_of_ours(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        assert _confused(sql_url) is None


def test_sessions_without_numbers_of_rows_are_checked(sqlite_url: str) -> None:
    make(sqlite_url, row_id="INTEGER PRIMARY KEY", end=" WITHOUT ROWID")
    with sessions.connect(sqlite_url) as backend:
        assert not [check for check in backend.check() if check.verdict == "error"]


def _confused(url: str) -> str | None:
    with sessions.connect(url) as backend:
        return next((check.found for check in backend.check() if check.name == "exact ids"), None)


@each_mysql
@pytest.mark.parametrize("character_set", ["latin1", "utf8mb3"])
def test_an_id_that_the_columns_cannot_hold_keeps_no_other_from_being_deleted(
    server_url: str, character_set: str
) -> None:
    with sessions.connect(server_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        kind = f"VARCHAR(190) CHARACTER SET {character_set} COLLATE {character_set}_bin NOT NULL"
        for statement in (
            "ALTER TABLE agent_messages DROP FOREIGN KEY agent_messages_ibfk_1",
            f"ALTER TABLE agent_messages MODIFY session_id {kind}",
            f"ALTER TABLE agent_sessions MODIFY session_id {kind}",
        ):
            execute_sql(server_url, statement)
        backend.session("chat_2").add_items(items("b"))
        assert backend.delete_sessions(["\U0001f600"]) == 0
        assert backend.delete_sessions(["chat_1", "\U0001f600"]) == 1
        assert [info.session_id for info in backend.list_sessions()] == ["chat_2"]


@each_mysql
@pytest.mark.parametrize("key", ["KEY (id)", "UNIQUE (id)"])
def test_messages_without_a_primary_key_have_titles_and_are_a_warning(server_url: str, key: str) -> None:
    make(server_url, row_id="BIGINT NOT NULL AUTO_INCREMENT", key=f", {key}, KEY (session_id, id)")
    with contextlib.closing(connect_raw(server_url)) as connection:
        for backend in (sessions.connect(server_url), sessions.bind(connection)):
            with backend:
                backend.session("chat_1").replace_items([{"role": "user", "content": "Hello"}])
                assert backend.first_messages(["chat_1"]) == {"chat_1": "Hello"}
                [found] = [check for check in backend.check() if check.name == "message key"]
                assert (found.verdict, "ADD PRIMARY KEY (id)" in found.remedy) == ("warning", True)
            connection.rollback()


@each_mysql
def test_a_prefix_of_ids_that_are_bytes_is_found(server_url: str) -> None:
    make(server_url, session_id="VARBINARY(255)", row_id="BIGINT AUTO_INCREMENT", key=", PRIMARY KEY (id)")
    with sessions.connect(server_url) as backend:
        for session_id in ("müller:1", "muller:1", "mü", "Müller:2"):
            backend.session(session_id).add_items(items("a"))
        for order in ("id", "updated"):
            assert [info.session_id for info in backend.list_sessions(prefix="müll", order=order)] == ["müller:1"]
        assert [match.session_id for match in backend.search("a", prefix="müll")] == ["müller:1"]
        verdicts = {check.name: check.verdict for check in backend.check()}
        assert (verdicts["session_id"], verdicts["session_id of messages"]) == ("ok", "ok")


@each_mysql
def test_an_id_that_the_columns_cannot_hold_keeps_nothing_from_the_others(server_url: str) -> None:
    make(
        server_url,
        session_id="VARCHAR(255) CHARACTER SET latin1 COLLATE latin1_bin",
        row_id="BIGINT AUTO_INCREMENT",
        key=", PRIMARY KEY (id)",
    )
    with sessions.connect(server_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        ids = ["chat_1", "чат"]
        assert backend.first_messages(ids) == {"chat_1": "a"}
        assert backend.sizes(ids)["chat_1"].items == 1
        assert backend.delete_sessions(ids) == 1


@each_mysql
@pytest.mark.parametrize(("character_set", "session_id"), [("latin1", "чат"), ("utf8mb3", "😀")])
def test_an_id_that_the_columns_cannot_hold_has_an_empty_history_and_a_remedy(
    server_url: str, character_set: str, session_id: str
) -> None:
    kind = f"VARCHAR(255) CHARACTER SET {character_set} COLLATE {character_set}_bin"
    make(server_url, session_id=kind, row_id="BIGINT AUTO_INCREMENT", key=", PRIMARY KEY (id)")
    with contextlib.closing(connect_raw(server_url)) as connection:
        for backend in (sessions.connect(server_url), sessions.bind(connection)):
            with backend, backend.session(session_id) as session:
                for limit in (None, 1):
                    assert (session.get_items(limit), list(session.records(limit))) == ([], [])
                assert (session.position(), session.get_items(1, whole_turns=True)) == (0, [])
                for write in OPERATIONS["add_items"], OPERATIONS["pop_item"], OPERATIONS["clear_session"]:
                    with refused(sessions.DatabaseError, match="character set utf8mb4 and one collation"):
                        write(session)


@each_mysql
def test_an_id_that_only_the_messages_cannot_hold_has_a_remedy(server_url: str) -> None:
    make(server_url, session_id=MYSQL_ID, row_id="BIGINT AUTO_INCREMENT", key=", PRIMARY KEY (id)")
    narrow = "VARCHAR(255) CHARACTER SET latin1 COLLATE latin1_bin NOT NULL"
    execute_sql(server_url, f"ALTER TABLE agent_messages MODIFY session_id {narrow}")
    with sessions.connect(server_url) as backend, backend.session("чат") as session:
        for write in (session.add_items, session.replace_items):
            with refused(sessions.DatabaseError, match="character set utf8mb4 and one collation"):
                write(items("a"))
        assert (list(session.records()), session.position()) == ([], 0)


MYSQL_ID = "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
MOVING = "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"


@each_mysql
@pytest.mark.parametrize("key", [None, os.urandom(32)], ids=["plain", "sealed"])
def test_a_time_that_mysql_moves_at_each_change_stays(server_url: str, key: bytes | None) -> None:
    make(server_url, session_id=MYSQL_ID, row_id="BIGINT PRIMARY KEY AUTO_INCREMENT")
    for table in ("agent_sessions", "agent_messages"):
        execute_sql(server_url, f"ALTER TABLE {table} MODIFY created_at {MOVING}")
    long_ago = datetime(2026, 3, 14, 9, 26, 4, tzinfo=UTC).replace(tzinfo=None)
    with sessions.connect(server_url, integrity_key=key) as backend:
        records = [Record(n, long_ago, json.loads(text), text) for n, text in enumerate(['{"n":1}', '{"n":2}'], 1)]
        backend.load("chat_1", records, created_at=long_ago)
        session = backend.session("chat_1")
        first, *_ = session.records()
        session.replace_record(first.id, {"n": 3})
        session.add_items([{"n": 4}])
        session.pop_item()
        assert session.get_items() == [{"n": 3}, {"n": 2}]
        assert [record.created_at for record in session.records()] == [long_ago] * 2
        assert backend.list_sessions()[0].created_at == long_ago


@each_mysql
@pytest.mark.parametrize("kind", ["INT UNSIGNED", "BIGINT UNSIGNED", "INT"])
def test_a_sealed_conversation_may_have_unsigned_ids(server_url: str, kind: str) -> None:
    make(server_url, session_id=MYSQL_ID, row_id=f"{kind} PRIMARY KEY AUTO_INCREMENT")
    with sessions.connect(server_url, integrity_key=os.urandom(32)) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        session.add_items(items("b", "c"))
        assert texts([session.pop_item() or {}]) == ["c"]
        assert texts(session.get_items()) == ["a", "b"]
        assert session.verify().records == 2


@each_mysql
def test_a_redaction_may_be_repeated_where_texts_are_json(server_url: str) -> None:
    make(server_url, session_id=MYSQL_ID, row_id="BIGINT PRIMARY KEY AUTO_INCREMENT")
    execute_sql(server_url, "ALTER TABLE agent_messages MODIFY message_data JSON NOT NULL")
    with sessions.connect(server_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        for _ in range(2):
            session.replace_record(session.position(), {"redacted": True})
        assert session.get_items() == [{"redacted": True}]


@each_mysql
@pytest.mark.parametrize("odd", ["deep", "surrogate"])
def test_what_a_column_of_json_does_not_take_has_a_remedy_that_helps(server_url: str, odd: str) -> None:
    make(server_url, session_id=MYSQL_ID, row_id="BIGINT PRIMARY KEY AUTO_INCREMENT")
    execute_sql(server_url, "ALTER TABLE agent_messages MODIFY message_data JSON NOT NULL")
    deep = json.loads('{"a": ' * 120 + "1" + "}" * 120)
    item = deep if odd == "deep" else {"text": "\ud800"}
    with sessions.connect(server_url) as backend:
        with refused(sessions.DatabaseError, match="LONGTEXT"):
            backend.session("chat_1").add_items([item])
        name = "message_data" if dialect_of(server_url) == "mysql" else "JSON"
        [found] = [check for check in backend.check() if check.name == name]
        assert (found.verdict, f"{odd}" in found.found + found.remedy) == ("warning", True)
        execute_sql(server_url, "ALTER TABLE agent_messages MODIFY message_data LONGTEXT NOT NULL")
        backend.session("chat_1").add_items([item])
        assert backend.session("chat_1").get_items() == [item]
        assert not any("JSON" in check.found + check.remedy for check in backend.check())


@each_mysql
@pytest.mark.parametrize("kind", ["BIGINT", "DECIMAL(30)", "DATE"])
def test_ids_that_are_no_text_are_an_error_of_a_check(server_url: str, kind: str) -> None:
    make(server_url, session_id=kind, row_id="BIGINT PRIMARY KEY AUTO_INCREMENT")
    with sessions.connect(server_url) as backend:
        found = {check.name: check for check in backend.check()}
        for name in ("session_id", "session_id of messages"):
            assert (found[name].verdict, "no text" in found[name].found) == ("error", True)


def type_of_ids(url: str) -> str:
    """The type of session_id, with the collation that a foreign key to it wants."""
    if dialect_of(url) not in ("mysql", "mariadb"):
        return "VARCHAR(255)"
    [(_, made)] = execute_sql(url, "SHOW CREATE TABLE agent_sessions")
    return re.search(r"`session_id` (varchar[^,]*?) NOT NULL", made)[1]  # type: ignore[index]


@pytest.mark.parametrize("table", ["agent_sessions", "agent_messages"])
def test_a_row_that_our_tables_are_to_refer_to_and_that_is_missing_is_named_at_once(
    server_url: str, table: str, caplog: pytest.LogCaptureFixture
) -> None:
    with sessions.connect(server_url) as backend:
        session = backend.session("chat_1")
        session.get_items()
        execute_sql(server_url, f"CREATE TABLE chats (id {type_of_ids(server_url)} NOT NULL PRIMARY KEY)")
        key = "CONSTRAINT of_chat FOREIGN KEY (session_id) REFERENCES chats (id)"
        execute_sql(server_url, f"ALTER TABLE {table} ADD {key}")
        for write in (session.add_items, session.replace_items):
            with refused(sessions.DatabaseError, match="of_chat.*is missing: write it first"):
                write(items("a"))
        assert caplog.records == []
        execute_sql(server_url, "INSERT INTO chats VALUES ('chat_1')")
        session.add_items(items("a"))


def test_sqlite_says_of_a_missing_row_that_it_may_be_one(sqlite_url: str) -> None:
    execute_sql(sqlite_url, "CREATE TABLE chats (id TEXT PRIMARY KEY)")
    make(sqlite_url, row_id="INTEGER PRIMARY KEY", key=", FOREIGN KEY (session_id) REFERENCES chats (id)")
    with contextlib.closing(connect_raw(sqlite_url)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with refused(sessions.DatabaseError, match="is missing: write it first"):
            sessions.bind(connection).session("chat_1").add_items(items("a"))


def test_a_conversation_that_another_table_refers_to_says_so_at_once(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    kind = type_of_ids(sql_url)
    execute_sql(
        sql_url, f"CREATE TABLE orders (chat {kind}, FOREIGN KEY (chat) REFERENCES agent_sessions (session_id))"
    )
    execute_sql(sql_url, "INSERT INTO orders VALUES ('chat_1')")
    with contextlib.closing(connect_raw(sql_url)) as connection:
        if dialect_of(sql_url) == "sqlite":
            connection.execute("PRAGMA foreign_keys = ON")
        backend = sessions.bind(connection)
        for work in (backend.session("chat_1").clear_session, lambda: backend.delete_sessions(["chat_1"])):
            with refused(sessions.DatabaseError, match="another table refers to"):
                work()
        assert texts(backend.session("chat_1").get_items()) == ["a"]
        # More than would be tried one by one if their number counted.
        for number in range(2, 30):
            backend.session(f"chat_{number}").add_items(items("a"))
            if number < 20:
                execute_sql(sql_url, f"INSERT INTO orders VALUES ('chat_{number}')")
        with refused(sessions.DatabaseError, match="another table refers to"):
            backend.prune(timedelta(seconds=-60))
        assert len(backend.list_sessions()) == 19
