"""What a URL means: parsed forms, and what they do where no server is needed."""

from collections.abc import Mapping
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import sessions
from sessions._dialects.registry import parse
from support.claims import each_mysql
from support.samples import items, texts
from support.servers import execute_sql

Parts = Mapping[str, Any]


def parts(
    dialect: str,
    database: str | None = None,
    hosts: tuple[tuple[str, int | None], ...] = (),
    user: str | None = None,
    password: str | None = None,
    **parameters: str,
) -> Parts:
    return {
        "dialect": dialect,
        "database": database,
        "hosts": hosts,
        "user": user,
        "password": password,
        "parameters": parameters,
    }


def server(dialect: str, **changes: Any) -> Parts:
    return parts(dialect, **{"database": "chat", "hosts": (("host", None),), **changes})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # SQLite
        ("sqlite::memory:", parts("sqlite")),
        ("sqlite:///:memory:", parts("sqlite")),
        ("sqlite:rel.db", parts("sqlite", "rel.db")),
        ("sqlite:sub/rel.db", parts("sqlite", "sub/rel.db")),
        ("sqlite:../rel.db", parts("sqlite", "../rel.db")),
        ("sqlite:///rel.db", parts("sqlite", "rel.db")),
        ("sqlite:///sub/rel.db", parts("sqlite", "sub/rel.db")),
        ("sqlite:////abs.db", parts("sqlite", "/abs.db")),
        ("sqlite:/abs.db", parts("sqlite", "/abs.db")),
        ("sqlite+aiosqlite:///rel.db", parts("sqlite", "rel.db")),
        ("sqlite+aiosqlite:////var/lib/abs.db", parts("sqlite", "/var/lib/abs.db")),
        ("SQLite:rel.db", parts("sqlite", "rel.db")),
        ("sqlite:two%20words.db", parts("sqlite", "two words.db")),
        ("sqlite:two words.db", parts("sqlite", "two words.db")),
        ("sqlite:k%C3%B6ln.db", parts("sqlite", "köln.db")),
        ("sqlite:köln.db", parts("sqlite", "köln.db")),
        ("sqlite:50%25.db", parts("sqlite", "50%.db")),
        ("sqlite:why%3F.db", parts("sqlite", "why?.db")),
        ("sqlite:a:b@c#d.db", parts("sqlite", "a:b@c#d.db")),
        # memory
        ("memory:", parts("memory")),
        # PostgreSQL
        ("postgresql://host/chat", server("postgresql")),
        ("postgres://host/chat", server("postgresql")),
        ("POSTGRESQL://host/chat", server("postgresql")),
        ("postgresql+asyncpg://host/chat", server("postgresql")),
        ("postgresql+psycopg://host/chat", server("postgresql")),
        ("postgres+anything://host/chat", server("postgresql")),
        ("postgresql://host:5433/chat", server("postgresql", hosts=(("host", 5433),))),
        ("postgresql://app@host/chat", server("postgresql", user="app")),
        ("postgresql://app:secret@host/chat", server("postgresql", user="app", password="secret")),
        ("postgresql://app:@host/chat", server("postgresql", user="app", password="")),
        (
            "postgresql://a%40b:p%3Aw%2F%40%23%3F%25@host/my%2Fchat",
            server("postgresql", user="a@b", password="p:w/@#?%", database="my/chat"),
        ),
        ("postgresql://app:a+b@host/chat", server("postgresql", user="app", password="a+b")),
        ("postgresql://app:a:b@host/chat", server("postgresql", user="app", password="a:b")),
        (
            "postgresql://k%C3%B6ln:%F0%9F%91%8B@host/chat",
            server("postgresql", user="köln", password="👋"),
        ),
        ("postgresql://[::1]/chat", server("postgresql", hosts=(("::1", None),))),
        ("postgresql://app@[2001:db8::7]:5433/chat",
         server("postgresql", hosts=(("2001:db8::7", 5433),), user="app")),
        ("postgresql://127.0.0.1:5433/chat", server("postgresql", hosts=(("127.0.0.1", 5433),))),
        ("postgresql://one,two:5433,[::1]:5434/chat",
         server("postgresql", hosts=(("one", None), ("two", 5433), ("::1", 5434)))),
        ("postgresql://one,two/chat?target_session_attrs=read-write",
         server("postgresql", hosts=(("one", None), ("two", None)), target_session_attrs="read-write")),
        ("postgresql:///chat", server("postgresql", hosts=())),
        ("postgresql://", parts("postgresql")),
        ("postgresql://host", server("postgresql", database=None)),
        ("postgresql://host/", server("postgresql", database=None)),
        ("postgresql:///chat?host=/run/postgresql", server("postgresql", hosts=(("/run/postgresql", None),))),
        ("postgresql://%2Frun%2Fpostgresql/chat", server("postgresql", hosts=(("/run/postgresql", None),))),
        ("postgresql:///chat?host=one,two&port=5433,5434",
         server("postgresql", hosts=(("one", 5433), ("two", 5434)))),
        ("postgresql:///?dbname=chat&user=app&password=secret&host=host",
         server("postgresql", user="app", password="secret")),
        ("postgresql://host/chat?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
         server("postgresql", sslmode="verify-full", sslrootcert="/etc/ca.pem")),
        ("postgresql://host/chat?application_name=my%20app%26more",
         server("postgresql", application_name="my app&more")),
        ("postgresql://host/chat?", server("postgresql")),
        # MySQL and MariaDB
        ("mysql://host/chat", server("mysql")),
        ("mariadb://host/chat", server("mysql")),
        ("mysql+aiomysql://host/chat", server("mysql")),
        ("mysql+pymysql://app:secret@host:3307/chat",
         server("mysql", hosts=(("host", 3307),), user="app", password="secret")),
        ("mariadb+asyncmy://[::1]:3307/chat", server("mysql", hosts=(("::1", 3307),))),
        ("mysql://app:p%40ss@host/my%20chat",
         server("mysql", user="app", password="p@ss", database="my chat")),
        ("mysql:///chat?unix_socket=%2Frun%2Fmysqld.sock",
         server("mysql", hosts=(), unix_socket="/run/mysqld.sock")),
        ("mysql://host/chat?ssl-mode=VERIFY_IDENTITY&ssl-ca=ca.pem",
         server("mysql", sslmode="VERIFY_IDENTITY", sslrootcert="ca.pem")),
        ("mysql://host/chat?charset=utf8mb4", server("mysql", charset="utf8mb4")),
        ("mysql://app@one:3307,two,[::1]:3308/chat?target_session_attrs=prefer-standby&load_balance_hosts=random",
         server("mysql", hosts=(("one", 3307), ("two", None), ("::1", 3308)), user="app",
                target_session_attrs="prefer-standby", load_balance_hosts="random")),
    ],
)  # fmt: skip
def test_a_url_is_read_exactly(text: str, expected: Parts) -> None:
    address = parse(text)[0]
    assert {name: getattr(address, name) for name in expected} == expected


def test_an_address_cannot_be_changed() -> None:
    address = parse("postgresql://host/chat")[0]
    with pytest.raises(FrozenInstanceError):
        address.database = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app:hunter2@host/chat",
        "postgresql://host/chat?user=app&password=hunter2",
        "postgresql://host/chat?sslpassword=hunter2",
        "mysql://app:hunter2@host/chat",
    ],
)
def test_an_address_shows_no_password(text: str) -> None:
    address = parse(text)[0]
    assert "hunter2" not in f"{address!r} {address}"


# --- what they do


def test_a_relative_path_starts_at_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("sqlite:rel.db", "sqlite:///rel.db", "sqlite+aiosqlite:///rel.db"):
        with sessions.Session.from_url("chat_1", url) as session:
            session.add_items(items("a"))
    with sessions.Session.from_url("chat_1", f"sqlite:///{tmp_path}/rel.db") as session:
        assert texts(session.get_items()) == ["a", "a", "a"]


def test_a_path_stays_the_same_file_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with sessions.Session.from_url("chat_1", "sqlite:rel.db") as session:
        session.add_items(items("a"))
        monkeypatch.chdir(tmp_path / "elsewhere")
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "name", ["two words.db", "köln.db", "50%.db", "why?.db", "a#b.db", "a&b=c.db", "'; --.db", ":memory:x"]
)
def test_any_file_name_can_be_written_as_a_url(tmp_path: Path, name: str) -> None:
    with sessions.Session.from_url("chat_1", f"sqlite:///{tmp_path}/{quote(name)}") as session:
        session.add_items(items("a"))
    assert (tmp_path / name).stat().st_size > 0


@pytest.mark.parametrize("suffix", ["psycopg", "asyncpg", "psycopg2"])
def test_a_postgresql_url_of_the_sdk_works_as_it_is(postgresql_url: str, suffix: str) -> None:
    url = postgresql_url.replace("postgresql://", f"postgresql+{suffix}://")
    with sessions.Session.from_url("chat_1", url) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


@each_mysql
@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+aiomysql", "mariadb+pymysql"])
def test_either_scheme_serves_either_server(server_url: str, scheme: str) -> None:
    url = f"{scheme}://{server_url.partition('://')[2]}"
    with sessions.Session.from_url("chat_1", url) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


def test_several_hosts_are_tried_in_turn(postgresql_url: str) -> None:
    before, _, host = postgresql_url.rpartition("@")
    url = f"{before}@127.0.0.1:1,{host}?target_session_attrs=read-write"
    with sessions.Session.from_url("chat_1", url, max_retries=0) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


def test_parameters_of_libpq_reach_the_server(postgresql_url: str) -> None:
    with sessions.Session.from_url("chat_1", f"{postgresql_url}?application_name=my%20agent") as session:
        session.get_items()
        names = execute_sql(
            postgresql_url,
            "SELECT application_name FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
    assert ("my agent",) in names
