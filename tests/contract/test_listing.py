"""list_sessions(): which conversations there are, page by page."""

import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import sessions
from sessions import Backend, SessionInfo
from support.claims import each_mysql
from support.proxy import Proxy
from support.rivals import set_updated_at
from support.samples import items, plant
from support.servers import connect_raw, execute_sql, with_parts

AGES = {"a": 5, "b": 3, "c": 4, "d": 1, "e": 2}
BY_AGE = ["d", "e", "b", "c", "a"]


SetAge = Callable[[str, timedelta], None]


def ids(page: list[SessionInfo]) -> list[str]:
    return [info.session_id for info in page]


def pages(backend: Backend, **query: Any) -> list[list[str]]:
    """All pages of a listing, each from the one before."""
    found: list[list[str]] = []
    page = backend.list_sessions(**query)
    while page:
        found.append(ids(page))
        page = backend.list_sessions(**query, after=page[-1])
    return found


def joined(found: list[list[str]]) -> list[str]:
    return [session_id for page in found for session_id in page]


@pytest.fixture
def set_age(backend: Backend) -> SetAge:
    """A function that moves a conversation's last write into the past."""
    now = int(time.time())

    def set_age(session_id: str, age: timedelta) -> None:
        set_updated_at(backend, session_id, now - age.total_seconds())

    return set_age


@pytest.fixture
def aged(backend: Backend, set_age: SetAge) -> Backend:
    """Five conversations, written to for the last time on five days."""
    for name in AGES:
        backend.session(name).add_items(items("x"))
    for name, days in AGES.items():
        set_age(name, timedelta(days=days))
    return backend


def test_a_new_database_lists_nothing(backend: Backend) -> None:
    assert backend.list_sessions() == []
    assert backend.list_sessions(order="id", prefix="x", idle_since=timedelta(days=1)) == []


def test_a_conversation_is_listed_with_its_times_and_its_number_of_items(backend: Backend) -> None:
    backend.session("chat_1").add_items(items("a", "b"))
    backend.session("empty").replace_items([])
    before = backend.list_sessions(order="id")
    assert [(info.session_id, info.items) for info in before] == [("chat_1", 2), ("empty", 0)]
    assert all(type(info) is SessionInfo for info in before)
    written = next(iter(backend.session("chat_1").records())).created_at
    assert written is not None
    for info in before:
        assert info.created_at is not None
        assert info.updated_at is not None
        assert abs(info.updated_at - written) < timedelta(minutes=1)
        assert abs(info.created_at - written) < timedelta(minutes=1)


@pytest.mark.parametrize("write", ["add", "pop", "replace"])
def test_the_time_is_that_of_the_last_write(backend: Backend, set_age: SetAge, write: str) -> None:
    session = backend.session("chat_1")
    session.add_items(items("a", "b"))
    backend.session("chat_2").add_items(items("a"))
    for name in ("chat_1", "chat_2"):
        set_age(name, timedelta(days=2))
    if write == "add":
        session.add_items(items("c"))
    elif write == "pop":
        session.pop_item()
    else:
        session.replace_items([])
    assert ids(backend.list_sessions(idle_since=timedelta(days=1))) == ["chat_2"]


def test_a_cleared_conversation_is_not_listed(backend: Backend) -> None:
    session = backend.session("chat_1")
    session.add_items(items("a"))
    session.clear_session()
    assert backend.list_sessions() == []


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_pages_go_from_the_newest_write_to_the_oldest(aged: Backend, limit: int) -> None:
    found = pages(aged, limit=limit)
    assert joined(found) == BY_AGE
    assert {len(page) for page in found[:-1]} <= {limit}
    assert joined(pages(aged, limit=limit, newest_first=False)) == BY_AGE[::-1]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_pages_go_by_id(aged: Backend, limit: int) -> None:
    assert joined(pages(aged, order="id", limit=limit)) == sorted(AGES)
    assert joined(pages(aged, order="id", limit=limit, newest_first=True)) == sorted(AGES, reverse=True)


def test_conversations_of_one_moment_are_told_apart_by_their_ids(backend: Backend, set_age: SetAge) -> None:
    names = ["Z", "a", "b", "ä", "€", "😀"]  # in the order of their code points
    for name in names:
        backend.session(name).add_items(items("x"))
        set_age(name, timedelta(days=1))
    for limit in (1, 2, 5):
        assert joined(pages(backend, limit=limit)) == names[::-1]
        assert joined(pages(backend, limit=limit, newest_first=False)) == names
        assert joined(pages(backend, limit=limit, order="id")) == names


def test_a_cursor_is_text_that_stands_for_the_last_conversation(aged: Backend) -> None:
    first = aged.list_sessions(limit=2)
    assert isinstance(first[-1].cursor, str)
    assert ids(aged.list_sessions(after=first[-1].cursor)) == BY_AGE[2:]
    assert ids(aged.list_sessions(after=first[0])) == BY_AGE[1:]


def test_others_writes_make_pages_lose_and_repeat_nothing(aged: Backend) -> None:
    first = aged.list_sessions(limit=2)
    aged.session("new").add_items(items("x"))
    aged.session("c").add_items(items("x"))  # moves to the front
    aged.session("b").clear_session()
    assert ids(aged.list_sessions(after=first[-1])) == ["a"]
    assert set(ids(aged.list_sessions(limit=2))) == {"new", "c"}


PREFIXES = ["chat", "chat_", "chat%", "chat|", "Chat_", "chat_1", "chat ", "ch", "CH", "chät", "c😀", "\\", "x", "'"]
NAMES = ["chat_1", "chat_12", "chat%1", "chat|1", "chatA1", "Chat_1", "chat ", "chat", "chät_1", "c😀1", "\\1", "'1"]


@pytest.mark.parametrize("order", ["id", "updated"])
def test_a_prefix_is_exact(backend: Backend, order: Any) -> None:
    for name in NAMES:
        backend.session(name).add_items(items("x"))
    for prefix in PREFIXES:
        expected = sorted(name for name in NAMES if name.startswith(prefix))
        for newest_first in (True, False):
            found = joined(pages(backend, prefix=prefix, order=order, newest_first=newest_first, limit=2))
            assert sorted(found) == expected, prefix


@pytest.mark.parametrize("prefix", ["c:", "\U0001f600", "c:\uffff", "\U0010ffff"], ids=ascii)
def test_a_prefix_finds_every_character_behind_it(backend: Backend, prefix: str) -> None:
    tails = sorted(["", "a", "ü", "\uffff", "\U0001f600", "\U0010ffff", "\U0001f600" * 50, "\U0010ffff" * 100])
    for session_id in ("b", *(prefix + tail for tail in tails), "d"):
        backend.session(session_id).add_items(items("x"))
    found = [prefix + tail for tail in tails]
    assert ids(backend.list_sessions(prefix=prefix, order="id")) == found
    assert ids(backend.list_sessions(prefix=prefix, order="id", newest_first=True)) == found[::-1]
    assert sorted(ids(backend.list_sessions(prefix=prefix))) == found
    assert sorted(ids(backend.list_sessions(prefix=prefix, newest_first=False))) == found
    assert backend.stats(prefix=prefix).items == len(found)


def test_idle_since_is_a_moment_or_a_time_before_now(aged: Backend) -> None:
    assert ids(aged.list_sessions(idle_since=timedelta(days=2, hours=12))) == ["b", "c", "a"]
    moment = datetime.now(UTC) - timedelta(days=3, hours=12)
    assert ids(aged.list_sessions(idle_since=moment)) == ["c", "a"]
    assert ids(aged.list_sessions(idle_since=moment, order="id", newest_first=True)) == ["c", "a"]
    assert joined(pages(aged, idle_since=moment, limit=1)) == ["c", "a"]
    assert aged.list_sessions(idle_since=timedelta(days=30)) == []


def test_rows_are_counted_up_to_the_limit(backend: Backend) -> None:
    backend.session("chat_1").add_items([{"n": n} for n in range(12)])
    counts = {limit: backend.list_sessions(count_limit=limit)[0].items for limit in (1, 11, 12, None)}
    assert counts == {1: 2, 11: 12, 12: 12, None: 12}
    assert backend.list_sessions()[0].items == 12


def test_corrupt_rows_are_counted_too(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        plant(sql_url, "chat_1", "CORRUPT")
        assert backend.list_sessions()[0].items == 2


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": -1}, ValueError),
        ({"limit": True}, TypeError),
        ({"limit": "5"}, TypeError),
        ({"count_limit": 0}, ValueError),
        ({"order": "size"}, ValueError),
        ({"prefix": b"x"}, TypeError),
        ({"after": "chat_1"}, ValueError),
        ({"after": 17}, TypeError),
        ({"idle_since": datetime(2026, 1, 1)}, ValueError),  # noqa: DTZ001
        ({"idle_since": 90}, TypeError),
    ],
    ids=str,
)
def test_arguments_that_mean_nothing_are_errors(
    backend: Backend, wrong: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(wrong))):
        backend.list_sessions(**wrong)


def test_a_closed_backend_lists_nothing(backend: Backend) -> None:
    backend.close()
    with pytest.raises(sessions.ClosedError):
        backend.list_sessions()


def test_a_page_takes_one_round_trip(server_url: str) -> None:
    with Proxy(server_url) as proxy, sessions.connect(proxy.url) as backend:
        for name in AGES:
            backend.session(name).add_items(items("x"))
        last = backend.list_sessions(limit=2)[-1]  # neither first nor last: MariaDB is asked twice for a page of none
        for order in ("updated", "id"):
            for newest_first in (True, False):
                with proxy.counting() as count:
                    backend.list_sessions(order=order, newest_first=newest_first, after=last)
                assert count.round_trips == 1


def test_a_bound_connection_lists_what_its_transaction_has_written(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend, contextlib.closing(connect_raw(sql_url)) as connection:
        backend.session("chat_1").add_items(items("x"))
        connection.cursor().execute("BEGIN")
        inner = sessions.bind(connection)
        inner.session("chat_2").add_items(items("x"))
        assert sorted(ids(inner.list_sessions())) == ["chat_1", "chat_2"]
        assert ids(backend.list_sessions()) == ["chat_1"]


def test_times_that_the_npm_package_writes_are_in_one_order_with_the_others(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        for name in ("old", "middle", "new"):
            backend.session(name).add_items(items("x"))
        for name, age in (("old", "3 days"), ("new", "1 days")):
            execute_sql(
                sqlite_url,
                f"UPDATE agent_sessions SET updated_at = datetime('now', '-{age}') WHERE session_id = %s",
                (name,),
            )
        seconds = "unixepoch('now', '-2 days')"
        execute_sql(
            sqlite_url,
            f"UPDATE agent_sessions SET updated_at = {seconds}, created_at = {seconds} WHERE session_id = 'middle'",
        )
        found = backend.list_sessions()
        assert ids(found) == ["new", "middle", "old"]
        assert ids(backend.list_sessions(idle_since=timedelta(hours=36))) == ["middle", "old"]
        assert joined(pages(backend, limit=1, newest_first=False)) == ["old", "middle", "new"]
        assert found[1].updated_at == found[1].created_at


@pytest.mark.parametrize("sign", [1, -1])
def test_a_time_before_all_times_is_no_error(backend: Backend, sign: int) -> None:
    backend.session("chat_1").add_items(items("x"))
    if sign > 0:
        assert backend.list_sessions(idle_since=timedelta(days=999_999)) == []
        assert backend.prune(timedelta(days=999_999), dry_run=True) == (0, 0)
        assert backend.prune(timedelta(days=999_999)) == (0, 0)
    else:
        backend.list_sessions(idle_since=timedelta(days=-9_999_999))


def test_an_empty_id_of_another_program_ends_no_listing(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("x"))
        execute_sql(sql_url, "INSERT INTO agent_sessions (session_id) VALUES ('')")
        for newest_first in (True, False):
            assert sorted(joined(pages(backend, limit=1, newest_first=newest_first))) == ["", "chat_1"]
        assert backend.prune(timedelta(days=1)) == (0, 0)
        assert backend.prune(timedelta(days=-1), keep_prefix="chat") == (1, 0)


# --- prefixes where texts are not ordered by their code points


def assert_prefixes_are_exact(backend: Backend, prefixes: list[str]) -> None:
    for prefix in prefixes:
        for tail in ("", "1", "z"):
            backend.session(prefix + tail).add_items(items("x"))
    for prefix in prefixes:
        for order in ("id", "updated"):
            for newest_first in (True, False):
                found = pages(backend, prefix=prefix, order=order, newest_first=newest_first, limit=2)
                assert sorted(joined(found)) == sorted([prefix, f"{prefix}1", f"{prefix}z"])


@pytest.mark.sqlite
@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_prefix_is_exact_in_a_file_of_another_encoding(make_url: Callable[[str], str], encoding: str) -> None:
    url = make_url("sqlite")
    with contextlib.closing(connect_raw(url)) as connection:
        connection.executescript(f"PRAGMA encoding = '{encoding}'; CREATE TABLE first (id INTEGER)")
    with sessions.connect(url) as backend:
        assert_prefixes_are_exact(backend, ["chat", "cha\u0174", "\xff", "\u0100", "\uff5e", "\U0001f600"])


@pytest.mark.parametrize(
    ("encoding", "prefixes"),
    [
        ("KOI8R", "\u0430\u0431\u0432\u0433\u0446\u044e"),
        ("LATIN1", "\xff\xfe"),
        ("EUC_JP", "\u8868\u4e9c\u30fe"),
        ("SQL_ASCII", "\u0431\u0446"),
    ],
)
def test_a_prefix_is_exact_in_a_database_of_another_encoding(postgresql_url: str, encoding: str, prefixes: str) -> None:
    name = f"encoded_{encoding.lower()}"
    execute_sql(postgresql_url, f"DROP DATABASE IF EXISTS {name}")
    execute_sql(postgresql_url, f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")
    try:
        with sessions.connect(with_parts(postgresql_url, database=name)) as backend:
            assert_prefixes_are_exact(backend, list(prefixes))
    finally:
        execute_sql(postgresql_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize(
    ("dialect", "collation"),
    [
        ("mariadb", "utf8mb4_uca1400_nopad_as_cs"),
        ("mariadb", "utf8mb4_uca1400_as_cs"),
        ("mysql", "utf8mb4_0900_as_cs"),
        ("mysql", "utf8mb4_0900_ai_ci"),
    ],
)
def test_every_id_is_listed_once_whatever_orders_them(
    dialect: str, collation: str, make_url: Callable[[str], str]
) -> None:
    url = make_url(dialect)
    name, time = f"VARCHAR(255) CHARACTER SET utf8mb4 COLLATE {collation} NOT NULL", "DATETIME DEFAULT '2026-01-01'"
    execute_sql(
        url, f"CREATE TABLE agent_sessions (session_id {name} PRIMARY KEY, created_at {time}, updated_at {time})"
    )
    execute_sql(
        url,
        f"CREATE TABLE agent_messages (id BIGINT PRIMARY KEY AUTO_INCREMENT, session_id {name}, message_data LONGTEXT, "
        f"created_at {time}, KEY (session_id, id))",
    )
    letters = "abcABC\u00e4\u00c4zZ" if collation.endswith("_cs") else "abcz"
    names = sorted(f"chat {letter}x" for letter in letters)
    for each in names:
        execute_sql(url, "INSERT INTO agent_sessions (session_id) VALUES (%s)", (each,))
    with sessions.connect(url) as backend:
        for order in ("id", "updated"):
            for newest_first in (True, False):
                assert sorted(joined(pages(backend, order=order, newest_first=newest_first, limit=3))) == names


@each_mysql
@pytest.mark.parametrize("collation", ["utf8mb4_bin", "utf8mb4_unicode_ci", "utf8mb4_general_ci", "latin1_bin"])
def test_control_characters_behind_a_prefix_are_found_where_a_collation_pads(server_url: str, collation: str) -> None:
    name = f"VARCHAR(100) CHARACTER SET {collation.partition('_')[0]} COLLATE {collation} NOT NULL"
    time = "DATETIME DEFAULT CURRENT_TIMESTAMP"
    execute_sql(
        server_url, f"CREATE TABLE agent_sessions (session_id {name} PRIMARY KEY, created_at {time}, updated_at {time})"
    )
    execute_sql(
        server_url,
        f"CREATE TABLE agent_messages (id BIGINT PRIMARY KEY AUTO_INCREMENT, session_id {name}, message_data LONGTEXT, "
        f"created_at {time}, KEY (session_id, id))",
    )
    control = ["\t", "\n", "\x1f"] + ["\x01"] * collation.endswith("_bin")
    mine = sorted(["chat", *(f"chat{character}1" for character in control), "chat:2"])
    with sessions.connect(server_url) as backend:
        for session_id in [*mine, "cha", "chas\t", "other"]:
            backend.session(session_id).add_items(items("x"))
        for order in ("id", "updated"):
            for newest_first in (True, False):
                found = pages(backend, prefix="chat", order=order, newest_first=newest_first, limit=2)
                assert sorted(joined(found)) == mine
        execute_sql(server_url, "DELETE FROM agent_sessions")
        backend.session("\t").add_items(items("x"))
        execute_sql(server_url, "DELETE FROM agent_sessions")
        assert sorted(backend.unlisted_sessions()) == sorted(["\t", *mine, "cha", "chas\t", "other"])


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_a_prefix_is_exact_in_columns_of_another_character_set(make_url: Callable[[str], str], dialect: str) -> None:
    url = make_url(dialect)
    name, time = "VARCHAR(100) CHARACTER SET cp1251 COLLATE cp1251_bin", "DATETIME DEFAULT CURRENT_TIMESTAMP"
    execute_sql(
        url, f"CREATE TABLE agent_sessions (session_id {name} PRIMARY KEY, created_at {time}, updated_at {time})"
    )
    execute_sql(
        url,
        f"CREATE TABLE agent_messages (id BIGINT PRIMARY KEY AUTO_INCREMENT, session_id {name}, message_data LONGTEXT, "
        f"created_at {time}, KEY (session_id, id))",
    )
    with sessions.connect(url) as backend:
        assert_prefixes_are_exact(backend, list("\u0430\u0451\u0435\u0436"))
        assert backend.delete_sessions(["\u0430", "\u0451"]) == 2
