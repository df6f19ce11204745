"""The driver converts nothing that we did not ask for, whatever the application has told it to convert."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any, NoReturn

import psycopg
import pymysql
import pymysql.cursors
import pytest
from psycopg.adapt import Dumper, Loader

import sessions
from embedding.application import connected, prepare
from embedding.test_bind_drivers import MYSQL
from support.claims import SECRET, use_everything
from support.samples import items
from support.servers import connect_raw, execute_sql


def no(*_: Any) -> NoReturn:
    raise AssertionError("the application's converter was asked")


# --- PostgreSQL


class Converter(Loader):
    def load(self, data: Any) -> NoReturn:
        no(data)


class Louder(Dumper):
    def dump(self, obj: str) -> bytes:
        return obj.upper().encode()


TYPES = ("int2", "int4", "int8", "bool", "text", "varchar", "name", "json", "jsonb", "timestamp", "timestamptz")


def convert_everything(adapters: psycopg.adapt.AdaptersMap) -> None:
    for name in TYPES:
        adapters.register_loader(name, Converter)
    for kind in (str, int, list):
        adapters.register_dumper(kind, Louder)


def test_adapters_on_a_connection_of_psycopg_are_not_asked(postgresql_url: str) -> None:
    prepare(postgresql_url)
    with closing(connect_raw(postgresql_url)) as connection:
        convert_everything(connection.adapters)
        use_everything(sessions.bind(connection).session("chat_1"))
        with pytest.raises(AssertionError):
            connection.execute("SELECT 1").fetchall()  # they stay


GLOBAL = """
import sys
sys.path[:0] = sys.argv[2:]
import psycopg
from embedding.test_conversions import convert_everything
convert_everything(psycopg.adapters)
import sessions
from support.claims import use_everything
with sessions.connect(sys.argv[1]) as backend:
    use_everything(backend.session("chat_1"))
"""


def test_global_adapters_of_psycopg_are_not_asked(postgresql_url: str) -> None:
    # In a process of its own: nothing takes them back.
    subprocess.run([sys.executable, "-c", GLOBAL, postgresql_url, *sys.path], check=True)


# --- MySQL and MariaDB


@pytest.fixture(params=MYSQL)
def my_url(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> str:
    url = make_url(request.param)
    prepare(url)
    return url


CHARSETS = ("sjis", "cp932", "ujis", "gbk", "big5", "euckr", "latin1", "ascii", "utf8mb3")
OPTIONS: dict[str, dict[str, Any]] = {
    "no conversions": {"conv": {}},
    "other conversions": {"conv": {**dict.fromkeys(range(256), no), str: no, int: no, float: no}},
    "bytes": {"use_unicode": False},
    "dictionaries": {"cursorclass": pymysql.cursors.DictCursor},
    "streams": {"cursorclass": pymysql.cursors.SSCursor},
    **{name: {"charset": name} for name in CHARSETS},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_what_a_connection_of_pymysql_was_opened_with_does_not_matter(my_url: str, name: str) -> None:
    with closing(connect_raw(my_url)) as plain:
        known = {"host": plain.host, "port": plain.port, "user": plain.user.decode(), "password": plain.password}
        known |= {"database": plain.db.decode(), "charset": "utf8mb4", "ssl_disabled": True, "autocommit": None}
    with closing(pymysql.connect(**{**known, **OPTIONS[name]})) as connection:
        before = (connection.use_unicode, connection.decoders, connection.encoders)
        backend = sessions.bind(connection, ensure_ascii=False)
        backend.session("a\\b").add_items(items("\\"))
        for hostile in ("\xa5' or 1=1 -- ", "a\xa5b", "\u8868"):
            use_everything(backend.session(hostile))
        assert backend.session("a\\b").get_items() == items("\\")
        assert before == (connection.use_unicode, connection.decoders, connection.encoders)


def test_a_write_whose_warnings_are_hidden_is_refused(my_url: str) -> None:
    # Outside strict mode a warning tells that something was cut.
    with closing(connect_raw(my_url)) as connection:
        cursor = connection.cursor()
        cursor.execute("ALTER TABLE agent_messages MODIFY message_data VARCHAR(100) NOT NULL")
        cursor.execute("SET sql_mode = '', max_error_count = 0")
        session = sessions.bind(connection).session("chat_1")
        session.add_items(items("short"))
        with pytest.raises(sessions.ConfigurationError, match="max_error_count"):
            session.add_items(items("x" * 200))
        assert session.get_items() == items("short")


@pytest.mark.parametrize(
    ("kind", "stored", "read"),
    [
        pytest.param("LONGTEXT", "7B2261223A22C3A9227D", [{"a": "\xe9"}], id="text"),
        pytest.param("LONGTEXT CHARACTER SET latin1", "7B2261223A22E9227D", [{"a": "\xe9"}], id="latin1"),
        pytest.param("LONGBLOB", "7B2261223A22C3A9227D", [{"a": "\xe9"}], id="bytes"),
        pytest.param("LONGBLOB", "7B2261223A22EDA080227D", [{"a": "\ud800"}], id="a lone surrogate"),
        pytest.param("LONGBLOB", "7B00220061002200 3A0031007D00", [{"a": 1}], id="UTF-16"),
        pytest.param("LONGBLOB", "7B2261223A22FF227D", [], id="no text"),
        pytest.param("JSON", "7B2261223A22C3A9227D", [{"a": "\xe9"}], id="JSON"),
    ],
)
@pytest.mark.parametrize("bound", [False, True], ids=["own", "bound"])
def test_a_message_is_read_whatever_its_column_holds(
    my_url: str, kind: str, stored: str, read: list[Any], bound: bool
) -> None:
    with sessions.connect(my_url) as backend, closing(connect_raw(my_url)) as connection:
        backend.session("chat_1").add_items(items("a"))
        cursor = connection.cursor()
        cursor.execute(f"ALTER TABLE agent_messages MODIFY message_data {kind}")
        charset = "_latin1" if "latin1" in kind else "_utf8mb4" if "BLOB" not in kind else ""
        cursor.execute(f"UPDATE agent_messages SET message_data = {charset} X'{stored.replace(' ', '')}'")
        cursor.execute("SET NAMES sjis")
        session = sessions.bind(connection).session("chat_1") if bound else backend.session("chat_1")
        assert session.get_items() == read
        assert [record.item for record in session.records()] == (read or [None])


@pytest.mark.mariadb
def test_a_lone_surrogate_that_mariadb_keeps_is_read(mariadb_url: str) -> None:
    with sessions.Session.from_url("chat_1", mariadb_url) as session:
        session.add_items(items("a"))
        execute_sql(mariadb_url, "UPDATE agent_messages SET message_data = _utf8mb4 X'7B2261223A22EDA080227D'")
        assert session.get_items() == [{"a": "\ud800"}]


# --- SQLite


@pytest.mark.parametrize("autocommit", [True, False])
def test_converters_of_sqlite3_are_not_asked(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, autocommit: bool
) -> None:
    prepare(sqlite_url)
    for name in ("TEXT", "VARCHAR", "INTEGER", "TIMESTAMP"):
        monkeypatch.setitem(sqlite3.converters, name, no)
    types = sqlite3.PARSE_DECLTYPES | sqlite3.PARSE_COLNAMES
    with connected(sqlite_url, autocommit=autocommit, detect_types=types) as connection:
        connection.text_factory = no
        connection.row_factory = no
        use_everything(sessions.bind(connection).session("chat_1"))
        assert (connection.text_factory, connection.row_factory) == (no, no)


ADAPTED = """
import sqlite3, sys
sys.path[:0] = sys.argv[2:]
for kind, adapter in ((str, str.casefold), (int, lambda n: n + 1), (float, lambda n: n / 2), (type(None), repr)):
    sqlite3.register_adapter(kind, adapter)
import sessions
from contextlib import closing
from support.claims import use_everything
own, bound = sessions.connect(sys.argv[1]), sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"))
with own, closing(bound):
    for name, backend in {"Own": own, "Bound": sessions.bind(bound)}.items():
        use_everything(backend.session(name))
        backend.session(name).add_items([{"content": "TEXT"}])
        assert backend.session(name.lower()).get_items() == []
        assert backend.session(name).get_items() == [{"content": "TEXT"}]
        bound.commit()
    [(seen,)] = bound.execute("SELECT ?", ("TEXT",))
    assert seen == "text"  # they stay
"""


def test_adapters_of_sqlite3_are_not_asked(sqlite_url: str) -> None:
    # In a process of its own: sqlite3 never forgets that there was an adapter for a type that it binds itself.
    prepare(sqlite_url)
    subprocess.run([sys.executable, "-c", ADAPTED, sqlite_url, *sys.path], check=True)


# --- what a driver says of a value that it could not convert


@pytest.mark.parametrize(("wrong", "words"), [("\udc80", "lone surrogate"), ("\0", "NUL")])
def test_a_password_that_cannot_be_sent_is_in_no_error(server_url: str, wrong: str, words: str) -> None:
    without = re.sub(r":[^:@/]*@", "@", server_url)
    with (
        sessions.connect(without, password=f"{SECRET}{wrong}", max_retries=0) as backend,
        pytest.raises(sessions.ConfigurationError, match=words) as caught,
    ):
        backend.session("chat_1").get_items()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__cause__ or error.__context__


def test_an_item_that_cannot_be_sent_is_in_no_error(postgresql_url: str) -> None:
    prepare(postgresql_url)
    with closing(connect_raw(postgresql_url)) as connection:
        connection.execute("SET client_encoding = 'LATIN1'")
        session = sessions.bind(connection, ensure_ascii=False).session("chat_1")
        with pytest.raises(sessions.DatabaseError, match="character set") as caught:
            session.add_items(items(SECRET + "\u8868"))
    assert SECRET not in repr(caught.value.__cause__)
