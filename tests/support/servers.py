"""Database servers for the tests: containers of our own, or ready ones named by the environment.

Nothing is started before a test asks for it. Everything here talks to the DB-API drivers directly,
so that a test can look at a database without the code that it tests.
"""

import contextlib
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from uuid import uuid4

DIALECTS = ("postgresql", "mysql", "mariadb")
PASSWORD = "p@ss/w:rd"  # with characters that a URL has to escape
_STARTUP_SECONDS = 120.0


class ServerUnavailableError(Exception):
    """There is no such server here; the text says why, and how to get one."""


@dataclass(frozen=True)
class Image:
    """How one server is run in a container."""

    name: str
    port: int
    data: str
    user: str
    password: str  # the variable that names the password of that user
    arguments: tuple[str, ...] = ("--max-connections=300",)


IMAGES = {
    "postgresql": Image(
        "postgres:18", 5432, "/var/lib/postgresql", "postgres", "POSTGRES_PASSWORD", ("-c", "max_connections=300")
    ),
    "mysql": Image("mysql:9.7", 3306, "/var/lib/mysql", "root", "MYSQL_ROOT_PASSWORD"),
    "mariadb": Image("mariadb:11.8", 3306, "/var/lib/mysql", "root", "MARIADB_ROOT_PASSWORD"),
}


# To make a database and to drop it takes PostgreSQL ten times as long as to empty one. Whatever is left in it but
# tables, or about it, or connected to it, is seen here: then it is dropped.
_HAS_TABLES_ALONE = """
    SELECT NOT EXISTS (SELECT FROM pg_namespace WHERE nspname !~ '^pg_|^information_schema$|^public$')
        AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid())
        AND NOT EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
        AND NOT EXISTS (SELECT FROM pg_extension WHERE extname <> 'plpgsql')
        AND NOT EXISTS (SELECT FROM pg_cast WHERE oid >= 16384)
        AND NOT EXISTS (SELECT FROM pg_proc WHERE oid >= 16384 AND pronamespace = 'pg_catalog'::regnamespace)
        AND NOT EXISTS (SELECT FROM pg_event_trigger)
        AND NOT EXISTS (SELECT FROM pg_default_acl)
        AND NOT EXISTS (SELECT FROM pg_publication)
        AND NOT EXISTS (SELECT FROM pg_foreign_server)
        AND NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setdatabase = found.oid)
        AND found.datacl IS NULL
    FROM pg_database AS found
    WHERE found.datname = current_database()
"""
_EMPTY_IT = """
    DROP SCHEMA public CASCADE;
    CREATE SCHEMA public AUTHORIZATION pg_database_owner;
    GRANT USAGE ON SCHEMA public TO PUBLIC
"""


@dataclass
class Server:
    """One running server. `url` names an administrator and no database of ours."""

    dialect: str
    url: str
    version: str
    container: Any = field(default=None, repr=False)
    spare: list[str] = field(default_factory=list, repr=False)  # databases that were emptied

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Give the URL of an empty database, which is dropped afterwards with its connections, or emptied."""
        if self.spare:
            name = self.spare.pop()
        else:
            name = f"sessions_test_{uuid4().hex[:12]}"
            execute_sql(self.url, f"CREATE DATABASE {name}")
        try:
            yield with_parts(self.url, database=name)
        finally:
            if self.dialect == "postgresql" and _could_be_emptied(with_parts(self.url, database=name)):
                self.spare.append(name)
            else:
                self._drop(name)

    def drop_spare(self) -> None:
        """Drop what is left at the end."""
        while self.spare:
            self._drop(self.spare.pop())

    def _drop(self, name: str) -> None:
        if self.dialect == "postgresql":
            execute_sql(self.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            return
        for connection, *_ in mysql_processes(self.url, name):
            with contextlib.suppress(Exception):  # it may be gone by now
                execute_sql(self.url, f"KILL {int(connection)}")
        execute_sql(self.url, f"DROP DATABASE IF EXISTS {name}")

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a power cut would."""
        self.container.get_wrapped_container().kill(signal="SIGKILL")

    def start(self) -> None:
        """Start a killed server again, on the same port, and wait until it answers."""
        self.container.get_wrapped_container().start()
        _wait_until_ready(self.dialect, self.url)

    def pause(self) -> None:
        self.container.get_wrapped_container().pause()

    def unpause(self) -> None:
        self.container.get_wrapped_container().unpause()

    def run(self, *command: str, user: str = "") -> str:
        """Run a command inside the container; its output, or an AssertionError with it."""
        code, output = self.container.get_wrapped_container().exec_run(list(command), user=user)
        text: str = output.decode("utf-8", "replace")
        assert code == 0, f"{command} failed in the container with {code}: {text}"
        return text


def _could_be_emptied(url: str) -> bool:
    try:
        connection = connect_raw(url)
    except Exception:
        return False  # the test has dropped it, or lets nobody in
    with connection:
        if not connection.execute(_HAS_TABLES_ALONE).fetchone()[0]:
            return False
        connection.execute(_EMPTY_IT)
    return True


# --- getting one


def are_required() -> bool:
    """Tell whether what is missing fails the run, as in CI."""
    return any(os.environ.get(name, "").lower() in {"1", "true", "yes"} for name in ("SESSIONS_TEST_REQUIRE", "CI"))


def shared_server(dialect: str) -> contextlib.AbstractContextManager[Server]:
    """The server that the environment names, else a container for the whole test run."""
    variable = f"SESSIONS_TEST_{dialect.upper()}_URL"
    ready = os.environ.get(variable)
    return _ready_server(dialect, ready, variable) if ready else fresh_server(dialect)


@contextlib.contextmanager
def _ready_server(dialect: str, url: str, variable: str) -> Iterator[Server]:
    try:
        version = _version(dialect, url)
    except Exception as exc:
        raise ServerUnavailableError(
            f"the {dialect} server named by {variable} does not answer "
            f"({type(exc).__name__} from {urlsplit(url).hostname}); start it, or unset {variable}"
        ) from None
    server = Server(dialect, url, version)
    try:
        yield server
    finally:
        server.drop_spare()


@contextlib.contextmanager
def fresh_server(
    dialect: str,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    volumes: Mapping[str, str] | None = None,
    durable: bool = False,
    network: Any = None,
    host: str = "",
    entrypoint: Sequence[str] = (),
) -> Iterator[Server]:
    """Run a server of one's own in a container, and remove it afterwards.

    `volumes` maps paths of this machine to paths in the container, read-only. A durable server keeps
    its data when it is killed and started again; the others hold them in memory, which is quicker.
    In a network of Docker's others call it by the name `host`. `entrypoint` is to run what the image's own would.
    """
    image = IMAGES[dialect]
    name = os.environ.get(f"SESSIONS_TEST_{dialect.upper()}_IMAGE", image.name)
    with contextlib.ExitStack() as stack:
        try:
            from testcontainers.core.container import DockerContainer

            container = DockerContainer(name)
            # A port of our own choice, since Docker's own choice changes when the server is restarted.
            port = _free_port()
            container.with_bind_ports(image.port, port)
            container.with_envs(**{image.password: PASSWORD}, **(environment or {}))
            container.with_command([*image.arguments, *arguments])
            for here, there in (volumes or {}).items():
                container.with_volume_mapping(here, there)
            if not durable:
                container.with_tmpfs_mount(image.data)
            own: dict[str, Any] = {"entrypoint": list(entrypoint)} if entrypoint else {}
            if network is not None:
                container.with_network(network).with_network_aliases(host)
                own["hostname"] = host
            container.with_kwargs(**own)
            stack.enter_context(container)
            address = container.get_container_host_ip()
        except Exception as exc:
            raise ServerUnavailableError(
                f"no {dialect} server: {_first_line(exc)}; "
                f"start Docker (the image is {name}), or name a server of yours in "
                f"SESSIONS_TEST_{dialect.upper()}_URL"
            ) from exc
        address = "127.0.0.1" if address == "localhost" else address
        scheme = f"{dialect}://{image.user}"
        url = with_parts(f"{scheme}@{address}:{port}/{_ADMIN[dialect]}", password=PASSWORD)
        try:
            version = _wait_until_ready(dialect, url)
        except TimeoutError as exc:
            out, err = container.get_logs()
            log = (out + err).decode("utf-8", "replace")[-2000:]
            raise TimeoutError(f"{exc}; its log ends:\n{log}") from None
        yield Server(dialect, url, version, container)


_ADMIN = {"postgresql": "postgres", "mysql": "mysql", "mariadb": "mysql"}


def _first_line(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0].partition(": HTTPConnectionPool")[0][:160]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_ready(dialect: str, url: str) -> str:
    """Connect until it works: the official images' first, private start does not listen on TCP."""
    deadline = time.monotonic() + _STARTUP_SECONDS
    while True:
        try:
            return _version(dialect, url)
        except Exception as exc:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{dialect} is not ready: {_first_line(exc)}") from None
            time.sleep(0.1)


def _version(dialect: str, url: str) -> str:
    statement = "SHOW server_version" if dialect == "postgresql" else "SELECT VERSION()"
    return str(execute_sql(url, statement)[0][0])


# --- URLs and raw connections


def dialect_of(url: str) -> str:
    """Say which backend a URL names: memory, sqlite, postgresql, mysql or mariadb."""
    scheme = url.partition(":")[0].partition("+")[0]
    return "postgresql" if scheme == "postgres" else scheme


def with_parts(
    url: str,
    *,
    user: str | None = None,
    password: str | None = None,
    host: str | None = None,
    port: int | None = None,
    database: str | None = None,
    query: str | None = None,
) -> str:
    """Exchange parts of a server's URL; user, password and database are given unescaped."""
    parts = urlsplit(url)
    old_user = unquote(parts.username or "")
    old_password = unquote(parts.password) if parts.password is not None else None
    new_password = password if password is not None else old_password
    credentials = _quoted(user if user is not None else old_user)
    if new_password is not None:
        credentials += ":" + _quoted(new_password)
    address = f"{host or parts.hostname}:{port or parts.port}"
    path = parts.path if database is None else "/" + _quoted(database)
    return urlunsplit((parts.scheme, f"{credentials}@{address}", path, parts.query if query is None else query, ""))


def _quoted(text: str) -> str:
    return quote(text, safe="")


def connect_raw(url: str) -> Any:
    """Open the driver's own connection, in autocommit mode; the caller closes it."""
    dialect = dialect_of(url)
    if dialect == "sqlite":
        return sqlite3.connect(_sqlite_path(url), isolation_level=None, timeout=10)
    parts = urlsplit(url)
    address: dict[str, Any] = {
        "host": parts.hostname,
        "port": parts.port,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "connect_timeout": 10,
    }
    database = unquote(parts.path.lstrip("/"))
    if dialect == "postgresql":
        import psycopg

        return psycopg.connect(**address, dbname=database, autocommit=True)
    import pymysql

    return pymysql.connect(**address, database=database or None, charset="utf8mb4", autocommit=True, ssl_disabled=True)


def execute_sql(url: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run one statement on a connection of its own and commit; the rows, if it gives any.

    Placeholders are `%s` on every database. `sqlite::memory:` and `memory:` cannot be reached.
    """
    connection = connect_raw(url)
    try:
        cursor = connection.cursor()
        if dialect_of(url) == "sqlite":
            cursor.execute(statement.replace("%s", "?"), tuple(parameters))
        else:
            cursor.execute(statement, tuple(parameters) or None)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
    finally:
        connection.close()


def mysql_processes(url: str, database: str) -> list[tuple[Any, ...]]:
    """The connections to a database, in the columns of SHOW PROCESSLIST.

    MySQL's information_schema.processlist is refused (3854) while anybody executes a statement with an emoji in it.
    """
    return [process for process in execute_sql(url, "SHOW PROCESSLIST") if process[3] == database]


def _sqlite_path(url: str) -> str:
    path = url.partition(":")[2].partition("?")[0]
    path = path.removeprefix("///")
    assert path != ":memory:", "a database in memory belongs to the connection that made it"
    return unquote(path)
