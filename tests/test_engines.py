"""An engine on which the promises are not known to hold is recognised, and refused unless it is named.

The stand-ins say the words of the engines, and nothing more: whether an engine keeps the promises is not tested here.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest

import sessions
from sessions._command.main import main
from support.claims import each_mysql, refused
from support.greetings import Greeting, MySQLGreeting, PostgresGreeting
from support.samples import items
from support.servers import connect_raw, dialect_of

_MYSQL_COMMENT = "MySQL Community Server - GPL"

# What each engine says of itself; Aurora DSQL nothing, but its endpoint is named after it.
ENGINES: dict[str, tuple[str, Callable[[], Greeting]]] = {
    "YugabyteDB": ("yugabytedb", lambda: PostgresGreeting({"server_version": "15.2-YB-2025.2.1.0-b0"})),
    "CockroachDB": (
        "cockroachdb",
        lambda: PostgresGreeting({"server_version": "13.0.0", "crdb_version": "CockroachDB CCL v24.3.1"}),
    ),
    "Aurora DSQL": ("aurora-dsql", lambda: PostgresGreeting({"server_version": "16"})),
    "TiDB": ("tidb", lambda: MySQLGreeting("8.0.11-TiDB-v7.5.0", "TiDB Server")),
    "TiDB, by its comment": (
        "tidb",
        lambda: MySQLGreeting("5.7.25", "TiDB Server (Apache License 2.0) Community Edition, MySQL 5.7 compatible"),
    ),
    "Vitess": ("vitess", lambda: MySQLGreeting("8.0.30-Vitess", "Version: 16.0.0")),
    "SingleStore": (
        "singlestore",
        lambda: MySQLGreeting(
            "5.7.32", "SingleStoreDB source distribution (compatible; MySQL Enterprise & MySQL Commercial)"
        ),
    ),
    "MemSQL": ("singlestore", lambda: MySQLGreeting("5.5.58", "MemSQL source distribution")),
}
each_engine = pytest.mark.parametrize(("name", "greeting"), ENGINES.values(), ids=ENGINES)
# Those that a connection of the application's is known by, without asking.
at_the_greeting = pytest.mark.parametrize(
    ("name", "greeting"),
    [value for key, value in ENGINES.items() if key in ("YugabyteDB", "CockroachDB", "TiDB", "Vitess")],
)


def url_of(server: Greeting, name: str) -> str:
    if name != "aurora-dsql":
        return server.url
    return f"postgresql://app:secret@abc.dsql.us-east-1.on.aws:{server.port}/agents?hostaddr=127.0.0.1"


@contextmanager
def connection_to(server: Greeting) -> Iterator[Any]:
    if isinstance(server, PostgresGreeting):
        with closing(psycopg.connect(server.url, autocommit=True)) as postgres:
            yield postgres
    else:
        parameters: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "user": "app", "password": "secret"}
        # PyMySQL's SET NAMES, which the stand-in takes for ours, is the only statement that it answers.
        with closing(pymysql.connect(**parameters, database="agents", autocommit=None, ssl_disabled=True)) as mysql:
            yield mysql


@each_engine
@pytest.mark.parametrize("operation", ["get_items", "pop_item", "clear_session"])
def test_an_engine_is_refused_once_with_its_remedy(name: str, greeting: Callable[[], Greeting], operation: str) -> None:
    with greeting() as server, sessions.Session.from_url("chat_1", url_of(server, name)) as session:
        with refused(sessions.UnsupportedEngineError, match=f"; .*, and then pass engine='{name}'$") as caught:
            getattr(session, operation)()
        assert caught.value.engine == name
        assert server.asked == 1


@each_engine
def test_an_engine_that_is_named_is_worked_with(name: str, greeting: Callable[[], Greeting]) -> None:
    with (
        greeting() as server,
        sessions.Session.from_url("chat_1", url_of(server, name), engine=name, max_retries=0) as session,
        # The stand-in hangs up at the first statement.
        pytest.raises(sessions.ConnectionFailedError),
    ):
        session.get_items()


@at_the_greeting
def test_an_engine_is_refused_on_a_connection_of_the_application(name: str, greeting: Callable[[], Greeting]) -> None:
    with greeting() as server, connection_to(server) as connection:
        session = sessions.bind(connection).session("chat_1")
        for operation in (session.get_items, session.pop_item):
            with refused(sessions.UnsupportedEngineError, match=name):
                operation()


@at_the_greeting
def test_an_engine_is_refused_in_a_pool_of_the_application(name: str, greeting: Callable[[], Greeting]) -> None:
    with greeting() as server:
        pool = SimpleNamespace(connection=lambda: connection_to(server))
        with refused(sessions.UnsupportedEngineError, match=name):
            sessions.connect(pool=pool)


@pytest.mark.parametrize("url", ["postgresql://app@localhost/agents", "mysql://app@localhost/agents"])
@pytest.mark.parametrize("name", ["yugabyte", "", 5])
def test_an_unknown_name_is_refused_with_the_list(url: str, name: Any) -> None:
    known = "yugabytedb, cockroachdb, aurora-dsql" if url.startswith("postgresql") else "tidb, vitess, singlestore"
    with refused(sessions.ConfigurationError, match=f"use one of {known}"):
        sessions.connect(url, engine=name)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://app@localhost/agents", "tidb"),
        ("mysql://app@localhost/agents", "cockroachdb"),
        ("sqlite::memory:", "tidb"),
        ("memory:", "tidb"),
    ],
)
def test_an_engine_of_another_kind_of_database_is_refused_at_once(url: str, name: str) -> None:
    with refused(sessions.ConfigurationError, match="engine"):
        sessions.connect(url, engine=name)


def test_an_engine_that_is_named_and_not_found_is_an_error(server_url: str) -> None:
    name = "cockroachdb" if dialect_of(server_url) == "postgresql" else "singlestore"
    with (
        sessions.Session.from_url("chat_1", server_url, engine=name) as session,
        refused(sessions.ConfigurationError, match=f"engine is '{name}', but the server is no engine that is known"),
    ):
        session.get_items()


@each_mysql
def test_what_a_greeting_does_not_say_is_found_out_by_the_first_write_on_a_connection_of_the_application(
    server_url: str,
) -> None:
    with sessions.Session.from_url("chat_1", server_url) as session:
        session.get_items()  # makes the tables
    with closing(connect_raw(server_url)) as connection:
        session = sessions.bind(connection, engine="singlestore").session("chat_1")
        assert session.get_items() == []
        with refused(sessions.ConfigurationError, match="but the server is no engine that is known"):
            session.add_items(items("a"))


def test_an_engine_that_is_another_one_is_an_error() -> None:
    with (
        PostgresGreeting({"server_version": "11.2-YB-2.18.0.1-b0"}) as server,
        sessions.Session.from_url("chat_1", server.url, engine="cockroachdb") as session,
        refused(sessions.ConfigurationError, match="but the server is YugabyteDB"),
    ):
        session.get_items()


def test_the_command_refuses_an_engine_unless_it_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with MySQLGreeting("8.0.11-TiDB-v7.5.0", "TiDB Server") as server:
        assert main(["ls", "--url", server.url]) == 2
        assert "engine='tidb'" in capsys.readouterr().err
        assert main(["ls", "--url", server.url, "--engine", "singlestore"]) == 2
        assert "engine is 'singlestore', but the server is TiDB" in capsys.readouterr().err
