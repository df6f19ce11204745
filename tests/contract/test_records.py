"""records(): every row as it is stored, oldest first, page by page."""

import itertools
import re
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import sessions
from support.claims import each_mysql, refused
from support.proxy import Proxy
from support.samples import item, items, make_tables_without_foreign_key, plant
from support.servers import connect_raw, execute_sql

KEYS: dict[str, Any] = {
    "encryption_key": "a key of many random characters",
    "integrity_key": "another key of many of them",
}


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def contents(records: Any) -> list[str | None]:
    return [None if record.item is None else record.item["content"] for record in records]


def test_records_are_the_rows_oldest_first(session: sessions.Session) -> None:
    session.add_items(items("a", "b"))
    session.add_items(items("c"))
    records = list(session.records())
    assert contents(records) == ["a", "b", "c"]
    assert [record.item for record in records] == session.get_items()
    assert [record.id for record in records] == sorted(record.id for record in records)
    assert records[-1].id == session.position()
    # White space before the brace is a mark that a lost write is found by.
    assert re.fullmatch(r'\{"role":"user","content":"a"[ \t]*\}', records[0].text)
    assert all(type(record) is sessions.Record for record in records)


def test_an_unused_session_has_no_records(session: sessions.Session) -> None:
    assert list(session.records()) == []
    assert list(session.records(limit=5)) == []


@pytest.mark.parametrize(("limit", "expected"), [(0, ""), (2, "bc"), (3, "abc"), (2147483647, "abc")])
def test_the_limit_takes_the_newest(session: sessions.Session, limit: int, expected: str) -> None:
    session.add_items(items("a", "b", "c"))
    assert contents(session.records(limit=limit)) == list(expected)


@pytest.mark.parametrize("limit", [None, 2500, 1001])
def test_many_pages_are_one_history(session: sessions.Session, limit: int | None) -> None:
    numbers = [str(number) for number in range(3000)]
    session.add_items(items(*numbers))
    assert contents(session.records(limit=limit)) == numbers[-(limit or 3000) :]


def test_other_sessions_are_not_seen(backend: sessions.Backend) -> None:
    one, other = backend.session("chat_1"), backend.session("chat_2")
    # Ids that alternate, more of them than the first page holds.
    for number in range(12):
        one.add_items(items(*[f"one {number}"] * 5))
        other.add_items(items(*[f"other {number}"] * 5))
    assert contents(one.records()) == [f"one {n // 5}" for n in range(60)]
    assert contents(other.records(limit=55)) == [f"other {n // 5}" for n in range(5, 60)]


def test_what_is_written_during_the_iteration_does_not_prolong_it(session: sessions.Session) -> None:
    session.add_items(items(*["old"] * 60))
    found = 0
    for _ in itertools.islice(session.records(), 1000):
        found += 1
        session.add_items(items("new"))
    assert found == 60


def test_what_is_removed_before_its_page_is_not_seen(session: sessions.Session) -> None:
    session.add_items(items(*numbers(120)))
    records = session.records()
    begun = [next(records)]
    for _ in range(10):
        session.pop_item()
    assert contents([*begun, *records]) == numbers(110)


each_key = pytest.mark.parametrize("keys", [[], ["encryption_key"], ["integrity_key"], list(KEYS)], ids="|".join)


@each_key
@pytest.mark.parametrize("read", [1, 20, 21, 60])
def test_what_was_replaced_meanwhile_is_not_given_behind_what_was_there(url: str, keys: list[str], read: int) -> None:
    with sessions.connect(url, **{key: KEYS[key] for key in keys}) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*numbers(1100)))
        records = session.records()
        list(itertools.islice(records, read))
        session.replace_items([*session.get_items()[1:], item("new")])
        with refused(sessions.ConflictError, match="rewritten while its records were read; read them again"):
            list(records)


@each_key
def test_what_was_replaced_meanwhile_is_not_given_beyond_a_limit(url: str, keys: list[str]) -> None:
    with sessions.connect(url, **{key: KEYS[key] for key in keys}) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*numbers(1100)))
        records = session.records(limit=100)
        begun = [next(records)]
        session.replace_items([*session.get_items()[1:], item("new")])
        if "integrity_key" in keys:
            # One statement has read them all.
            assert contents([*begun, *records]) == numbers(1100)[-100:]
            return
        with refused(sessions.ConflictError, match="rewritten while its records were read; read them again"):
            list(records)


@each_key
@pytest.mark.parametrize("read", [1, 21, 60])
def test_what_was_cleared_meanwhile_ends_there(url: str, keys: list[str], read: int) -> None:
    with sessions.connect(url, **{key: KEYS[key] for key in keys}) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*numbers(1100)))
        records = session.records()
        begun = list(itertools.islice(records, read))
        session.clear_session()
        found = contents([*begun, *records])
        assert found == numbers(20 if read == 1 else 1020)


@pytest.mark.parametrize("read", [1, 20, 60])
def test_a_new_end_follows_what_it_goes_on_from(session: sessions.Session, read: int) -> None:
    session.add_items(items(*numbers(60)))
    records = session.records()
    begun = list(itertools.islice(records, read))
    for _ in range(5):
        session.pop_item()
    session.add_items(items("new"))
    found = contents([*begun, *records])
    assert found == (numbers(60) if read == 60 else [*numbers(55), "new"])


def test_a_loop_that_deletes_what_it_reads_sees_all(session: sessions.Session) -> None:
    session.add_items(items(*numbers(120)))
    found = []
    for record in session.records():
        session.delete_record(record.id)
        found.append(record)
    assert contents(found) == numbers(120)
    assert session.get_items() == []


def test_a_loop_that_mends_what_it_reads_sees_all(session: sessions.Session) -> None:
    session.add_items(items(*numbers(60)))
    for record in session.records():
        assert record.item is not None
        session.replace_record(record.id, item(f"{record.item['content']} seen"))
    assert [one["content"] for one in session.get_items()] == [f"{number} seen" for number in numbers(60)]


def test_between_two_pages_no_connection_is_held(url: str) -> None:
    with sessions.connect(url, pool_size=1) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*["old"] * 120))
        for number, _ in enumerate(session.records()):
            if number in (0, 19, 20, 119):
                backend.session("chat_2").add_items(items("meanwhile"))
        assert len(backend.session("chat_2").get_items()) == 4


def test_a_closed_session_ends_the_iteration_with_an_error(session: sessions.Session) -> None:
    session.add_items(items(*["old"] * 120))
    records = session.records()
    next(records)
    session.close()
    with pytest.raises(sessions.ClosedError):
        list(records)
    with pytest.raises(sessions.ClosedError):
        session.records()


def test_created_at_is_when_it_was_written(session: sessions.Session, url: str) -> None:
    session.add_items(items("a"))
    [record] = session.records()
    assert record.created_at is not None
    assert record.created_at.tzinfo is None
    now = datetime.now(UTC).replace(tzinfo=None)
    if url.startswith(("postgresql", "mysql", "mariadb")):
        [(now,)] = execute_sql(url, "SELECT LOCALTIMESTAMP")
    assert abs(record.created_at - now) < timedelta(minutes=1)


def test_a_corrupt_row_is_a_record_without_an_item(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a"))
        [corrupt] = plant(sql_url, "chat_1", '{"cut": off')
        session.add_items(items("b"))
        records = list(session.records(limit=2))
        assert contents(records) == [None, "b"]
        assert (records[0].id, records[0].text) == (corrupt, '{"cut": off')
        assert contents(session.records()) == ["a", None, "b"]


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        (1700000000, "2023-11-14T22:13:20"),
        ("2023-11-14 22:13:20", "2023-11-14T22:13:20"),
        ("2023-11-14T22:13:20.500+00:00", "2023-11-14T22:13:20.500000"),
        ("2023-11-15T00:13:20+02:00", "2023-11-14T22:13:20"),
        ("2023-11-14 22:13:20.25", "2023-11-14T22:13:20.250000"),
        ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20"),
        ("yesterday", None),
        (1e30, None),
        (b"\xff", None),
    ],
)
def test_a_time_of_another_store_is_read_or_none(sqlite_url: str, stored: object, read: str | None) -> None:
    make_tables_without_foreign_key(sqlite_url)
    with sessions.Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("a"))
        execute_sql(sqlite_url, "UPDATE agent_messages SET created_at = %s", (stored,))
        [record] = session.records()
        assert record.item == item("a")
        assert (record.created_at and record.created_at.isoformat()) == read


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("infinity", None),
        ("-infinity", None),
        ("0044-03-15 BC", None),
        ("12000-01-01", None),
        ("2023-11-14 22:13:20", "2023-11-14T22:13:20"),
        ("2023-11-14 22:13:20.25", "2023-11-14T22:13:20.250000"),
    ],
)
def test_a_time_that_python_does_not_know_is_none_on_postgresql(
    postgresql_url: str, stored: str, read: str | None
) -> None:
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a", "b"))
        execute_sql(postgresql_url, "UPDATE agent_messages SET created_at = %s WHERE id = 1", (stored,))
        first, second = session.records()
        assert (first.item, second.item) == (item("a"), item("b"))
        assert (first.created_at and first.created_at.isoformat()) == read
        assert second.created_at is not None


@pytest.mark.parametrize("style", ["ISO", "German", "SQL, DMY", "Postgres"])
@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("timestamptz", "2023-11-14T16:28:20"),
        ("timestamp", "2023-11-14T22:13:20"),
        ("date", "2023-11-14T00:00:00"),
    ],
)
def test_a_time_is_read_in_any_date_style_and_type(postgresql_url: str, style: str, kind: str, read: str) -> None:
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    database = postgresql_url.rpartition("/")[2]
    for setting in (f"DateStyle = '{style}'", "TimeZone = 'Asia/Kathmandu'"):
        execute_sql(postgresql_url, f"ALTER DATABASE {database} SET {setting}")
    execute_sql(postgresql_url, f"ALTER TABLE agent_messages ALTER created_at TYPE {kind}")
    execute_sql(postgresql_url, "UPDATE agent_messages SET created_at = timestamp '2023-11-14 22:13:20'")
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        [record] = session.records()
    assert record.created_at is not None
    assert record.created_at.isoformat() == read


@each_mysql
@pytest.mark.parametrize(
    ("kind", "stored", "read"),
    [
        ("DATETIME", "0000-00-00 00:00:00", None),
        ("DATETIME(6)", "2023-11-14 22:13:20.25", "2023-11-14T22:13:20.250000"),
        ("DATE", "2023-11-14", "2023-11-14T00:00:00"),
        ("BIGINT", "1700000000", "2023-11-14T22:13:20"),
        ("DOUBLE", "1700000000.5", "2023-11-14T22:13:20.500000"),
        ("VARCHAR(40)", "yesterday", None),
    ],
)
def test_a_time_of_any_type_is_read_or_none_on_mysql(server_url: str, kind: str, stored: str, read: str | None) -> None:
    with sessions.Session.from_url("chat_1", server_url) as session:
        session.add_items(items("a"))
        execute_sql(server_url, f"ALTER TABLE agent_messages DROP created_at, ADD created_at {kind}")
        with closing(connect_raw(server_url)) as connection:
            connection.cursor().execute("SET sql_mode = ''")
            connection.cursor().execute("UPDATE agent_messages SET created_at = %s", (stored,))
        [record] = session.records()
    assert record.item == item("a")
    assert (record.created_at and record.created_at.isoformat()) == read


def test_a_page_is_one_round_trip(server_url: str) -> None:
    with Proxy(server_url) as proxy, sessions.Session.from_url("chat_1", proxy.url) as session:
        session.add_items(items(*["x"] * 19))
        with proxy.counting() as short:
            assert len(list(session.records())) == 19
        session.add_items(items(*["x"] * 2000))
        with proxy.counting() as long:
            assert len(list(session.records())) == 2019
    assert short.round_trips == 1
    # 20, the newest id, whether the 20th is still there, 1,000, and 999, which end it.
    assert long.round_trips == 5


def test_large_items_make_small_pages(sql_url: str) -> None:
    large = "x" * 200_000
    with sessions.Session.from_url("chat_1", sql_url) as session:
        for _ in range(5):
            session.add_items(items(*[large] * 20))
        total = 100 * len(large)
        tracemalloc.start()
        try:
            assert sum(len(record.text) for record in session.records()) > total
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < total / 2


def test_a_row_without_a_text_is_a_corrupt_record(sqlite_url: str) -> None:
    # What get_items() skips is no error here either; another store's column may admit it.
    execute_sql(sqlite_url, "CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, updated_at TEXT)")
    execute_sql(
        sqlite_url,
        "CREATE TABLE agent_messages (id INTEGER PRIMARY KEY, session_id TEXT, message_data, created_at TEXT)",
    )
    with sessions.Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items(*["a"] * 30))
        execute_sql(sqlite_url, "UPDATE agent_messages SET message_data = NULL WHERE id = 7")
        execute_sql(sqlite_url, "UPDATE agent_messages SET message_data = 17 WHERE id = 8")
        assert [record.id for record in session.records() if record.item is None] == [7, 8]
