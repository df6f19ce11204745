"""bind() on what Django and SQLAlchemy call a connection: the error says how to get at the driver's, and that works."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy
import sqlalchemy.orm
from django.db.utils import ConnectionHandler

import sessions
from examples import django_raw
from support.samples import items, texts
from support.servers import dialect_of

README = Path(__file__).parent / "README.md"


@pytest.fixture
def url(sqlite_url: str) -> str:
    with sessions.connect(sqlite_url) as backend:
        backend.session("deployment").get_items()
    return sqlite_url


@pytest.fixture
def engine(url: str) -> Iterator[sqlalchemy.Engine]:
    engine = sqlalchemy.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def django(url: str) -> Iterator[Any]:
    """Django's own wrapper, not connected yet."""
    handler = ConnectionHandler({"default": django_raw.database_of(url)})
    yield handler["default"]
    handler["default"].close()


def _written(url: str) -> list[str]:
    with sessions.connect(url) as backend:
        return texts(backend.session("chat_1").get_items())


def test_sqlalchemys_wrappers_are_answered_with_the_way_inside(engine: sqlalchemy.Engine) -> None:
    way = r"engine\.begin\(\).*connection\.connection\.driver_connection.*session\.connection\(\)\.connection\.driver"
    with engine.connect() as connection, sqlalchemy.orm.Session(engine) as unit:
        scoped: Any = sqlalchemy.orm.scoped_session(sqlalchemy.orm.sessionmaker(engine))
        for wrapper in (engine, connection, unit, scoped):
            with pytest.raises(sessions.ConfigurationError, match=way):
                sessions.bind(wrapper)
            with pytest.raises(sessions.ConfigurationError, match=way), sessions.connect(str(engine.url)) as backend:
                backend.bind(wrapper)


def test_a_pool_of_wrappers_is_answered_with_the_way_inside(engine: sqlalchemy.Engine) -> None:
    with pytest.raises(sessions.ConfigurationError, match=r"connection\.connection\.driver_connection"):
        sessions.connect(pool=SimpleNamespace(connection=engine.connect))


def test_djangos_wrapper_is_answered_with_the_way_inside(django: Any) -> None:
    way = r"connection\.ensure_connection\(\); bind\(connection\.connection\)"
    with pytest.raises(sessions.ConfigurationError, match=way):
        sessions.bind(django)
    with pytest.raises(sessions.ConfigurationError, match=r"ensure_connection\(\)"):
        sessions.bind(django.connection)  # None


def test_other_things_are_answered_without_it() -> None:
    with pytest.raises(sessions.ConfigurationError, match=r"psycopg 3 or pymysql$"):
        sessions.bind(object())


def test_djangos_connection_in_autocommit_writes_after_ensure_connection(url: str, django: Any) -> None:
    django.ensure_connection()
    sessions.bind(django.connection).session("chat_1").add_items(items("a"))
    assert _written(url) == ["a"]


@pytest.mark.parametrize("ends_well", [True, False])
def test_begin_of_sqlalchemy_commits_or_takes_back(url: str, engine: sqlalchemy.Engine, ends_well: bool) -> None:
    connection = engine.connect()
    transaction = connection.begin()
    sessions.bind(connection.connection.driver_connection).session("chat_1").add_items(items("a"))
    transaction.commit() if ends_well else transaction.rollback()
    connection.close()
    assert _written(url) == (["a"] if ends_well else [])


@pytest.mark.parametrize("ends_well", [True, False])
def test_an_orm_session_commits_or_takes_back(url: str, engine: sqlalchemy.Engine, ends_well: bool) -> None:
    with sqlalchemy.orm.Session(engine) as unit:
        inside = unit.connection().connection.driver_connection
        assert inside is not None
        sessions.bind(inside).session("chat_1").add_items(items("a"))
        unit.commit() if ends_well else unit.rollback()
    assert _written(url) == (["a"] if ends_well else [])


_MIGRATE = """
import sys
from django.conf import settings
from examples.django_raw import database_of
settings.configure(DATABASES={"default": database_of(sys.argv[1])}, INSTALLED_APPS=["chats"])
import django
django.setup()
from django.core.management import call_command
call_command("migrate", *sys.argv[2:], verbosity=0)
"""


@pytest.mark.slow
def test_the_migration_makes_the_tables_and_removes_them(sql_url: str, tmp_path: Path) -> None:
    [migration] = [part for part in README.read_text("utf-8").split("```py\n") if "RunSQL" in part.partition("```")[0]]
    migrations = tmp_path / "chats" / "migrations"
    migrations.mkdir(parents=True)
    for package in (migrations, migrations.parent):
        (package / "__init__.py").touch()
    (migrations / "0001_agent_sessions.py").write_text(migration.partition("```")[0])
    dialect = "mysql" if dialect_of(sql_url) == "mariadb" else dialect_of(sql_url)
    command = [sys.executable, "-m", "sessions", "schema", dialect]
    schema = subprocess.run(command, check=True, capture_output=True, text=True)
    (migrations / "agent_sessions.sql").write_text(schema.stdout)

    def migrate(*arguments: str) -> None:
        # A process of its own: Django is configured once for a process.
        subprocess.run(
            [sys.executable, "-c", _MIGRATE, sql_url, *arguments],
            env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"},
            check=True,
        )

    with sessions.connect(sql_url, create_tables=False) as backend:
        migrate()
        for name in ("chat", "Chat", "chat "):
            backend.session(name).add_items(items(name))
        assert texts(backend.session("chat").get_items()) == ["chat"]
        assert [check for check in backend.check() if check.verdict == "error"] == []
        migrate("chats", "zero")
        with pytest.raises(sessions.SchemaError):
            backend.session("chat").get_items()
