"""The contract holds whatever the connection's settings are, or the setting is refused by name.

Each row of support/settings.py is tried on a connection of the application, bound and lent by a
pool, and on our own connections where a server can set it for them: by ALTER DATABASE, by init_connect.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from typing import Any

import pymysql
import pytest

import sessions
from sessions._dialects.mysql.connection import PacketConnection
from sessions._leases import new_lease
from support.claims import each_mysql, operate, refused
from support.proxy import Proxy
from support.rivals import connection_of
from support.samples import item, items, stored_sessions, stored_texts, texts
from support.servers import Server, connect_raw, dialect_of, execute_sql, with_parts
from support.settings import SETTINGS, Setting

ROWS = [
    pytest.param(dialect, setting, id=f"{dialect}: {setting.statement}", marks=getattr(pytest.mark, dialect))
    for setting in SETTINGS
    for dialect in setting.dialects
]
by_setting = pytest.mark.parametrize(("dialect", "setting"), ROWS)

# Each was read as another, or as a statement, in some character set or mode.
NAMES = (
    "\xa5' or 1=1 -- ",
    "\\' or 1=1 -- ",
    "\\",
    "\xa5",
    "\u203e~",
    "chat",
    "chat ",
    "CHAT",
    "ch\xe0t",
    "\u8868\U0001f600",
)
TEXTS = ("\\'\"`", "\xa5\\n%s %(x)s", "\U0001f600\u8868\xe4\0\x1a", "{}[]", " ", "''", "a", "b")


def set_up(connection: Any, setting: Setting) -> Any:
    cursor = connection.cursor()
    for statement in setting.statement.split("; "):
        cursor.execute(statement)
    cursor.close()
    return connection


def live(backend: sessions.Backend, names: tuple[str, ...]) -> None:
    """Each operation, in conversations that must not be taken for each other."""
    for name in names:
        session = backend.session(name)
        session.add_items(items(*TEXTS, name))
        assert texts(session.get_items()) == [*TEXTS, name]
        assert texts(session.get_items(limit=7)) == [*TEXTS[-6:], name]
    for name in names:
        session = backend.session(name)
        assert [record.item for record in session.records()] == items(*TEXTS, name)
        assert all(record.created_at is not None for record in session.records(limit=2))
        assert session.pop_item() == item(name)
        session.add_items(items("\xa5"), if_position=session.position())
        with pytest.raises(sessions.ConflictError):
            session.add_items(items("x"), if_position=session.position() + 1)
        assert texts(session.get_items()) == [*TEXTS, "\xa5"]
        session.replace_items(items("c", *TEXTS))
        session.replace_items(items(name), if_position=session.position())
    for name in names[1:]:
        session = backend.session(name)
        assert session.get_items() == items(name)
        session.clear_session()
        assert (session.get_items(), session.pop_item()) == ([], None)
    assert backend.session(names[0]).get_items() == items(names[0])
    operate(backend.session(names[0]))


def hold(backend: sessions.Backend, name: str, setting: Setting) -> None:
    """The lease of somebody who has gone is taken over, and then held."""
    if "SET timestamp" in setting.statement:
        return  # time does not pass there
    session = backend.session(name)
    session._history.store.take_lease(new_lease(name, 0.001))
    with (
        session.exclusive(timeout=10),
        pytest.raises(sessions.BusyError),
        backend.session(name).exclusive(timeout=0),
    ):
        pass


def make_tables(url: str) -> None:
    with sessions.Session.from_url("chat_1", url) as session:
        session.clear_session()
        session.get_items()
        with session.exclusive():
            pass


def ascii_alone(setting: Setting) -> bool:
    return "LATIN1" in setting.statement


# --- bound


@pytest.fixture(scope="module")
def url_with_tables(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A function from a dialect to a database with the tables, in which nobody commits anything."""
    made: dict[str, str] = {"sqlite": f"sqlite:///{tmp_path_factory.mktemp('settings')}/chat.db"}
    with ExitStack() as stack:

        def make(dialect: str) -> str:
            if dialect not in made:
                made[dialect] = stack.enter_context(request.getfixturevalue(f"{dialect}_server").database())
            make_tables(made[dialect])
            return made[dialect]

        yield make


def begin(connection: Any) -> None:
    """Let the application's transaction be open, as its driver does it."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("BEGIN")
    elif callable(connection.autocommit):
        connection.autocommit(False)
    else:
        connection.autocommit = False


@by_setting
def test_a_bound_connection_keeps_the_contract_or_refuses_the_setting(
    url_with_tables: Callable[[str], str], dialect: str, setting: Setting
) -> None:
    names: tuple[str, ...] = NAMES if " NAMES" in setting.statement or "coll" in setting.statement else NAMES[:2]
    names = ("chat", "chat ", "CHAT", "\\", "ch\xe0t") if ascii_alone(setting) else names
    with closing(set_up(connect_raw(url_with_tables(dialect)), setting)) as connection:
        begin(connection)
        backend = sessions.bind(connection, ensure_ascii=ascii_alone(setting))
        if setting.refused:
            with refused(sessions.SessionsError, match=setting.refused):
                live(backend, names)
        else:
            live(backend, names)
            hold(backend, names[0], setting)
        connection.rollback()


def test_an_encoding_that_lacks_a_character_is_refused(postgresql_url: str) -> None:
    make_tables(postgresql_url)
    with closing(connect_raw(postgresql_url)) as connection:
        connection.execute("SET client_encoding = 'LATIN1'")
        backend = sessions.bind(connection, ensure_ascii=False)
        with refused(sessions.SessionsError, match="character set"):
            backend.session("\u8868").get_items()
        with refused(sessions.SessionsError, match="character set"):
            backend.session("chat").add_items(items("\u8868"))


# --- lent by a pool


class Pool:
    """Lends one connection, with the setting, to one borrower at a time; a lost one is replaced."""

    def __init__(self, url: str, setting: Setting) -> None:
        self.url = url
        self.setting = setting
        self.idle: Any = None

    @contextmanager
    def connection(self) -> Iterator[Any]:
        connection, self.idle = self.idle or set_up(connect_raw(self.url), self.setting), None
        try:
            yield connection
        except BaseException:
            with suppress(Exception):
                connection.close()
            raise
        self.idle = connection

    def close(self) -> None:
        if self.idle is not None:
            self.idle.close()
        self.idle = None


@by_setting
def test_a_pool_keeps_the_contract_or_refuses_the_setting(
    make_url: Callable[[str], str], dialect: str, setting: Setting
) -> None:
    url = make_url(dialect)
    pool = Pool(url, setting)
    names = ("chat", "chat ", "ch\xe0t") if ascii_alone(setting) else NAMES[:2]
    with (
        refused(sessions.SessionsError, match=setting.refused) if setting.refused else nullcontext(),
        sessions.connect(pool=pool, retry_delay=0.001, max_retries=1, ensure_ascii=ascii_alone(setting)) as backend,
    ):
        live(backend, names)
        hold(backend, names[0], setting)
        pool.close()
        # Not only read back as they were written.
        assert stored_sessions(url) == [names[0]]
        assert [json.loads(text) for text in stored_texts(url, names[0])] == items(names[0])
        assert_our_tables(url)
    pool.close()


def assert_our_tables(url: str) -> None:
    """The tables that were made are as they are on a connection of ours."""
    if dialect_of(url) in ("mysql", "mariadb"):
        made = "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = DATABASE()"
        assert execute_sql(url, made) == [("InnoDB",)]
        times = "SELECT DISTINCT extra LIKE '%on update%' FROM information_schema.columns "
        assert execute_sql(url, times + "WHERE table_schema = DATABASE() AND column_name LIKE '%_at'") == [(0,)]


# Where a lost write is looked for, the settings that could hide it.
UNSETTLING = (
    "sql_select_limit",
    "NAMES sjis",
    "'ORACLE'",
    "CHAIN",
    "RELEASE",
    "results = ucs2",
    "DateStyle",
    "autocommit",
)


@pytest.mark.parametrize(
    ("dialect", "setting"), [row for row in ROWS if any(word in str(row.id) for word in UNSETTLING)]
)
def test_a_pool_settles_a_lost_write_whatever_the_setting(
    make_url: Callable[[str], str], dialect: str, setting: Setting
) -> None:
    url = make_url(dialect)
    make_tables(url)
    with Proxy(url) as proxy:
        pool = Pool(proxy.url, setting)
        with sessions.connect(pool=pool, retry_delay=0.001) as backend:
            session = backend.session("\\chat")
            session.add_items(items(*TEXTS))
            with proxy.counting() as count:
                session.add_items(items("warm"))
            proxy.cut(packet=count.round_trips, when="after")
            session.add_items(items("lost"))
            assert proxy.was_cut
            assert texts(session.get_items()) == [*TEXTS, "warm", "lost"]
        pool.close()


# --- our own


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "setting", [row.values[1] for row in ROWS if row.values[0] == "postgresql"], ids=lambda s: s.statement
)
def test_our_own_connection_to_postgresql_keeps_the_contract(postgresql_url: str, setting: Setting) -> None:
    database = postgresql_url.rpartition("/")[2]
    for statement in setting.statement.split("; "):
        execute_sql(postgresql_url, f"ALTER DATABASE {database} {statement}")
    read_only = "read_only" in setting.statement
    with sessions.connect(postgresql_url, ensure_ascii=False, max_retries=0) as backend:
        if read_only:
            with refused(sessions.SessionsError, match="read-only"):
                live(backend, NAMES)
        else:
            live(backend, NAMES)
            hold(backend, NAMES[0], setting)


def test_the_environment_of_libpq_does_not_matter(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGTZ": "Asia/Kathmandu",
        "PGDATESTYLE": "German",
        "PGCLIENTENCODING": "SJIS",
        "PGGEQO": "off",
        "PGOPTIONS": "-c intervalstyle=sql_standard -c bytea_output=escape -c standard_conforming_strings=off",
    }.items():
        monkeypatch.setenv(name, value)
    with sessions.connect(postgresql_url, ensure_ascii=False) as backend:
        live(backend, NAMES)


def test_a_lost_write_is_settled_in_any_date_style(postgresql_url: str) -> None:
    database = postgresql_url.rpartition("/")[2]
    for setting in ("DateStyle = 'German, DMY'", "TimeZone = 'Asia/Kathmandu'", "track_activities = off"):
        execute_sql(postgresql_url, f"ALTER DATABASE {database} SET {setting}")
    with Proxy(postgresql_url) as proxy, sessions.connect(proxy.url, retry_delay=0.001) as backend:
        session = backend.session("chat")
        session.add_items(items("first"))
        proxy.cut(when="after")
        session.add_items(items("lost"))
        assert proxy.was_cut
        assert texts(session.get_items()) == ["first", "lost"]


@pytest.fixture(scope="module")
def own_server(dialect: str, start_server: Callable[..., Any]) -> Iterator[Server]:
    """A server whose init_connect these tests change."""
    with start_server(dialect, arguments=("--innodb-buffer-pool-size=64M",)) as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize(
    "dialect", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mysql", "mariadb")], scope="module"
)
def test_an_init_connect_that_fails_is_named(own_server: Server) -> None:
    with own_server.database() as admin_url, user_of(admin_url) as url:
        execute_sql(own_server.url, "SET GLOBAL init_connect = 'SELECT * FROM nowhere.logins'")
        with refused(sessions.ConnectionFailedError, match="init_connect"), sessions.connect(url) as backend:
            backend.session("chat_1").get_items()


@pytest.mark.slow
@pytest.mark.parametrize(
    "dialect", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mysql", "mariadb")], scope="module"
)
def test_our_own_connection_to_mysql_keeps_the_contract_whatever_init_connect_says(
    own_server: Server, dialect: str
) -> None:
    for setting in SETTINGS:
        if dialect not in setting.dialects:
            continue
        with own_server.database() as admin_url, user_of(admin_url) as url, Proxy(url) as proxy:
            if not may_set(url, setting):
                continue
            execute_sql(own_server.url, "SET GLOBAL init_connect = %s", (setting.statement,))
            with sessions.connect(proxy.url, retry_delay=0.001, ensure_ascii=False) as backend:
                if setting.refused in ("READ ONLY", "insert_id"):
                    with refused(sessions.SessionsError, match=setting.refused):
                        live(backend, NAMES)
                    continue
                live(backend, NAMES[:2])
                hold(backend, NAMES[0], setting)
                session = backend.session("\\chat")
                proxy.cut(when="after")
                session.add_items(items("lost"))
                assert proxy.was_cut, setting
                assert texts(session.get_items()) == ["lost"], setting
            assert_our_tables(admin_url)


@each_mysql
def test_our_own_connection_whose_next_id_is_given_is_refused(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by init_connect, which is for all users of a server."""
    connect = PacketConnection.connect

    def connect_and_set(connection: PacketConnection, *arguments: Any) -> None:
        connect(connection, *arguments)
        connection.query("SET insert_id = 7")

    make_tables(server_url)
    monkeypatch.setattr(PacketConnection, "connect", connect_and_set)
    with sessions.connect(server_url) as backend, refused(sessions.ConfigurationError, match="insert_id is 7"):
        backend.session("chat_1").add_items(items("a", "b"))


def may_set(url: str, setting: Setting) -> bool:
    """Tell whether a user without special rights may."""
    with closing(connect_raw(url)) as connection:
        try:
            set_up(connection, setting)
        except pymysql.OperationalError:
            return False
    return True


@contextmanager
def user_of(url: str) -> Iterator[str]:
    """The URL of a user for whom the server executes init_connect."""
    execute_sql(url, "CREATE USER plain IDENTIFIED BY 'secret'")
    execute_sql(url, f"GRANT ALL ON {url.rpartition('/')[2]}.* TO plain")
    yield with_parts(url, user="plain", password="secret", query="ssl-mode=REQUIRED")
    execute_sql(url, "SET GLOBAL init_connect = ''")
    execute_sql(url, "DROP USER plain")


def test_behind_a_pooler_a_session_that_hides_what_it_does_may_be_busy(postgresql_url: str) -> None:
    make_tables(postgresql_url)
    with closing(connect_raw(postgresql_url)) as other, sessions.connect(postgresql_url) as backend:
        other.execute("SET track_activities = off")
        with connection_of(backend) as connection:
            # A number that is not this connection's own: a pooler invents them.
            look = {"id": 1, "age": 0.0, "waiting": 0.0, "own": 1}
            dialect = backend._store._dialect  # type: ignore[attr-defined]
            assert dialect.execute(connection, "orphan_is_busy", look) == [(True,)]
            other.execute("SET track_activities = on")
            assert dialect.execute(connection, "orphan_is_busy", look) == []


@pytest.mark.sqlite
@pytest.mark.parametrize("encoding", ["UTF-16le", "UTF-16be"])
def test_a_file_in_another_encoding_keeps_the_contract(make_url: Callable[[str], str], encoding: str) -> None:
    url = make_url("sqlite")
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        connection.execute("CREATE TABLE first (id INTEGER)")
    with sessions.connect(url, ensure_ascii=False) as backend:
        live(backend, NAMES)
        # SQLite puts another character there in place of these.
        for name in ("user\uffff", "user\ufffe"):
            for call in (backend.session(name).get_items, lambda: backend.session(name).add_items(items("a"))):  # noqa: B023
                with refused(sessions.DatabaseError, match="UTF-16"):
                    call()
            with refused(sessions.DatabaseError, match="UTF-16"):
                backend.delete_sessions([name])
        session = backend.session("user\ufffd")
        with refused(sessions.DatabaseError, match="UTF-16"):
            session.add_items(items("a\uffff"))
        assert session.get_items() == []
    with sessions.connect(url) as backend:
        backend.session("user\ufffd").add_items(items("a\uffff"))
        assert texts(backend.session("user\ufffd").get_items()) == ["a\uffff"]
