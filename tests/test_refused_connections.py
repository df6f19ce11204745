"""Who is not let in: which error, whether it is tried again, and what is said about it."""

import contextlib
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pymysql
import pytest

import sessions
from sessions import AuthenticationError, ConfigurationError, ConnectionFailedError, DriverNotInstalledError, TLSError
from sessions._dialects.mysql import refusals as mysql
from sessions._dialects.postgresql import refusals as postgresql
from support.claims import each_mysql, refused
from support.listener import Listener
from support.one_answer import OneAnswer
from support.servers import connect_raw, dialect_of, execute_sql, with_parts

QUICK: dict[str, Any] = {"max_retries": 2, "retry_delay": 0.0}
Error = type[sessions.SessionsError]


def use(url: str, **options: Any) -> None:
    with sessions.Session.from_url("chat_1", url, **QUICK | options) as session:
        session.get_items()


# --- PostgreSQL and its poolers: by SQLSTATE, whatever the words

AGAIN = [
    ("53300", "sorry, too many clients already"),
    ("53300", 'too many connections for role "app"'),
    ("53300", 'too many connections for database "agents"'),
    ("53300", "tut mir leid, schon zu viele Verbindungen"),
    ("53200", "out of memory"),
    ("57P01", "terminating connection due to administrator command"),
    ("57P03", "the database system is starting up"),
    ("57P03", "Datenbanksystem startet"),
    ("57014", "canceling authentication due to timeout"),
    ("55000", 'database "agents" is not currently accepting connections'),
    ("08P01", "no more connections allowed (max_client_conn)"),  # PgBouncer
    ("08P01", "client connections exceeded (max_db_client_connections)"),
    ("08P01", "server login has been failing, try again later (server_login_retry)"),
    ("08P01", "pgbouncer cannot connect to server"),
    ("08P01", "query_wait_timeout"),
    ("XX000", "(EMAXCONNSESSION) max clients reached in session mode"),  # Supavisor
    ("XX000", "Max client connections reached"),
    ("08000", "Timed-out waiting to acquire database connection"),  # RDS Proxy
    ("08006", "odyssey: c1: failed to get remote server connection"),
    ("58000", "could not get connection from the pool - AllServersDown"),  # pgcat
    ("XX000", "words that nobody has seen before"),
    ("ZZ999", "password authentication failed, says a pooler that is full"),
]
NEVER = [
    ("28P01", 'password authentication failed for user "app"', AuthenticationError),
    ("28P01", "Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen", AuthenticationError),
    ("28P01", 'пользователь "app" не прошёл проверку подлинности (по паролю)', AuthenticationError),
    ("28000", 'role "too many connections" does not exist', AuthenticationError),
    ("28000", "Rolle »app« existiert nicht", AuthenticationError),
    ("28000", 'no pg_hba.conf entry for host "::1", user "app", database "agents", no encryption', TLSError),
    ("28000", "connection requires a valid client certificate", AuthenticationError),
    ("3D000", 'database "agents" does not exist', ConnectionFailedError),
    ("42501", "keine Berechtigung für Datenbank »agents«", ConnectionFailedError),
    ("42704", 'unrecognized configuration parameter "x"', ConnectionFailedError),
    ("08P01", "unsupported startup parameter: statement_timeout", ConnectionFailedError),
    ("08P01", "no such database: agents", ConnectionFailedError),
    ("08P01", "bouncer config error", ConnectionFailedError),
    ("08P01", "no such user: app", AuthenticationError),
    ("08P01", "password authentication failed", AuthenticationError),
    ("XX000", "Tenant or user not found", AuthenticationError),
    ("28000", "This RDS proxy has no credentials for the role app", AuthenticationError),
]


@pytest.mark.parametrize(("sqlstate", "words"), AGAIN)
def test_a_refusal_that_may_pass_is_tried_again(sqlstate: str, words: str) -> None:
    with OneAnswer(sqlstate, words) as server:
        with refused(ConnectionFailedError) as caught:
            use(server.url)
        assert server.asked == 3
        assert not isinstance(caught.value, (AuthenticationError, TLSError))


@pytest.mark.parametrize(("sqlstate", "words", "error"), NEVER)
def test_a_refusal_that_lasts_is_not_tried_again(sqlstate: str, words: str, error: Error) -> None:
    with OneAnswer(sqlstate, words) as server:
        with refused(error) as caught:
            use(server.url)
        assert server.asked == 1
        assert type(caught.value) is error


def test_the_severity_may_be_translated_too() -> None:
    with OneAnswer("28P01", "не прошёл проверку", severity="ВАЖНО") as server, refused(AuthenticationError):
        use(server.url)


@pytest.mark.parametrize("full_first", [True, False])
def test_of_several_servers_one_that_may_pass_counts(full_first: bool) -> None:
    with OneAnswer("57P03", "startet") as starting, OneAnswer("28P01", "nein") as other:
        order = [starting, other] if full_first else [other, starting]
        hosts = ",".join(server.url.partition("@")[2].partition("/")[0] for server in order)
        with refused(ConnectionFailedError, match="wait"):
            use(f"postgresql://app:secret@{hosts}/agents")
        assert starting.asked == 3


def test_a_wrong_password_counts_where_another_address_does_not_answer() -> None:
    # Kept, or the other server might get its port; nobody listens there.
    with socket.socket() as kept, OneAnswer("28P01", "nein") as server:
        kept.bind(("127.0.0.1", 0))
        with refused(AuthenticationError):
            use(server.url.replace("@", f"@127.0.0.1:{kept.getsockname()[1]},"))
        assert server.asked == 1


def test_a_server_that_refuses_before_tls_has_begun_is_tried_again() -> None:
    """It may be out of processes, or full."""
    with OneAnswer("53300", "sorry, too many clients already", before_tls=True) as server:
        with refused(ConnectionFailedError) as caught:
            use(server.url, ssl=True)
        assert server.asked == 3
        assert not isinstance(caught.value, TLSError)


def test_where_the_server_has_raised_it_is_not_told() -> None:
    with OneAnswer("28P01", "no") as server, refused(AuthenticationError) as caught:
        use(server.url)
    assert "auth.c" not in str(caught.value)


# A libpq that does not tell SQLSTATEs: by PostgreSQL's own English words.
TERSE_AGAIN = [
    "sorry, too many clients already",
    "remaining connection slots are reserved for roles with the SUPERUSER attribute",
    'too many connections for role "app"',
    'too many connections for database "password authentication failed"',
    "the database system is shutting down",
    "terminating connection due to administrator command",
    "words that nobody has seen before",
]
TERSE_NEVER = [
    'password authentication failed for user "app"',
    'role "too many connections" does not exist',
    'database "agents" does not exist',
    'permission denied for database "too many clients"',
]


def terse(words: str) -> psycopg.OperationalError:
    return psycopg.OperationalError(f'connection failed: connection to server at "h", port 1 failed: FATAL:  {words}')


@pytest.mark.parametrize("words", TERSE_AGAIN)
def test_without_a_sqlstate_the_words_of_what_may_pass_are_known(words: str) -> None:
    assert postgresql.connect_failure(terse(words)).transient


@pytest.mark.parametrize("words", TERSE_NEVER)
def test_without_a_sqlstate_the_words_of_what_lasts_are_known(words: str) -> None:
    assert not postgresql.connect_failure(terse(words)).transient


SETTINGS = [
    ('weak sslmode "prefer" may not be used with sslnegotiation=direct (use "require")', ConfigurationError),
    ('definition of service "nosuch" not found', ConfigurationError),
    ('service file "/nonexistent" not found', ConfigurationError),
    ("could not match 1 host names with 2 hostaddr values", ConfigurationError),
    ("could not match 2 port numbers to 3 hosts", ConfigurationError),
    ('could not parse network address "banana": Name or service not known', ConfigurationError),
    ('"min_protocol_version" is greater than "max_protocol_version"', ConfigurationError),
    ("GSSAPI encryption required but no credential cache", ConfigurationError),
    ("server doesn't support GSSAPI encryption, but it was required", ConfigurationError),
    ('gssencmode value "require" invalid when GSSAPI support is not compiled in', ConfigurationError),
    ('sslmode value "require" invalid when SSL support is not compiled in', ConfigurationError),
    ('Unix-domain socket path "/x" is too long (maximum 107 bytes)', ConfigurationError),
    ('requirepeer specifies "postgres", but actual peer user name is "mallory"', AuthenticationError),
    ("channel binding required, but SSL not in use", TLSError),
]


@pytest.mark.parametrize(("words", "error"), SETTINGS)
def test_a_setting_that_is_wrong_for_good_is_not_tried_again(words: str, error: Error) -> None:
    failure = postgresql.connect_failure(psycopg.OperationalError(f"connection failed: {words}"))
    assert (failure.error, failure.transient) == (error, False)


@pytest.mark.parametrize(
    ("query", "error", "remedy"),
    [
        ("service=nosuch", ConfigurationError, "correct the parameter"),
        ("hostaddr=127.0.0.1,127.0.0.2", ConfigurationError, "correct the parameter"),
        ("hostaddr=banana", ConfigurationError, "correct the parameter"),
        ("channel_binding=require&sslmode=disable", TLSError, "channel_binding=require needs TLS"),
    ],
)
def test_a_parameter_that_no_server_can_satisfy_is_told_at_once(
    postgresql_url: str, query: str, error: Error, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    with refused(error, match=remedy):
        use(with_parts(postgresql_url, query=query))
    assert not caplog.records


def test_libpq_is_found_and_tells_sqlstates() -> None:
    with OneAnswer("ZZ999", "no") as server, refused(ConnectionFailedError, match="ZZ999: no"):
        use(server.url, max_retries=0)


# --- real limits of PostgreSQL


@pytest.fixture
def role(postgresql_url: str) -> Iterator[str]:
    """A role that may log in, with the password "x"."""
    name = f"role_{uuid4().hex[:12]}"
    execute_sql(postgresql_url, f"CREATE ROLE {name} LOGIN PASSWORD 'x'")
    yield name
    execute_sql(postgresql_url, f"DROP OWNED BY {name}")
    execute_sql(postgresql_url, f"DROP ROLE {name}")


@pytest.mark.parametrize("what", ["ROLE {role}", "DATABASE {database}"])
def test_a_limit_of_a_role_or_a_database_is_tried_again(
    postgresql_url: str, role: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    limited = what.format(role=role, database=postgresql_url.rpartition("/")[2])
    execute_sql(postgresql_url, f"ALTER {limited} CONNECTION LIMIT 0")
    with refused(ConnectionFailedError, match="pool_size") as caught:
        use(with_parts(postgresql_url, user=role, password="x"))
    assert not isinstance(caught.value, AuthenticationError)
    assert len(caplog.records) == 2


def test_the_missing_right_to_connect_is_named(postgresql_url: str, role: str) -> None:
    name = postgresql_url.rpartition("/")[2]
    execute_sql(postgresql_url, f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    with refused(ConnectionFailedError, match=f'GRANT CONNECT ON DATABASE "{name}"'):
        use(with_parts(postgresql_url, user=role, password="x"))


def test_a_role_that_may_not_log_in_is_told_so(postgresql_url: str, role: str) -> None:
    execute_sql(postgresql_url, f"ALTER ROLE {role} NOLOGIN")
    with refused(AuthenticationError, match="ALTER ROLE <role> LOGIN"):
        use(with_parts(postgresql_url, user=role, password="x"))


def test_a_way_to_authenticate_that_is_not_allowed_is_no_wrong_password(postgresql_url: str, role: str) -> None:
    with refused(AuthenticationError, match="require_auth") as caught:
        use(with_parts(postgresql_url, user=role, password="x", query="require_auth=gss"))
    assert "password" not in str(caught.value)


# --- users of MySQL and MariaDB


@pytest.fixture
def make_user(server_url: str) -> Iterator[Callable[[str], str]]:
    """A function from how a user is identified to the URL of one who may do everything in the database."""
    made: list[str] = []

    def make(identified: str) -> str:
        made.append(f"user_{uuid4().hex[:12]}")
        execute_sql(server_url, f"CREATE USER {made[-1]} {identified}")
        execute_sql(server_url, f"GRANT ALL ON {server_url.rpartition('/')[2]}.* TO {made[-1]}")
        return with_parts(server_url, user=made[-1], password="x")

    yield make
    for name in made:
        execute_sql(server_url, f"DROP USER {name}")


@each_mysql
@pytest.mark.parametrize(
    ("identified", "remedy"),
    [("IDENTIFIED BY 'x' ACCOUNT LOCK", "unlock"), ("IDENTIFIED BY 'x' PASSWORD EXPIRE", "ALTER USER")],
)
def test_a_locked_or_expired_user_is_refused_with_a_remedy(
    server_url: str, make_user: Callable[[str], str], identified: str, remedy: str, caplog: pytest.LogCaptureFixture
) -> None:
    with refused(AuthenticationError, match=remedy):
        use(make_user(identified))
    assert not caplog.records


@pytest.mark.parametrize("server_url", ["mariadb"], indirect=True)
def test_a_user_of_the_unix_socket_is_told_so(server_url: str, make_user: Callable[[str], str]) -> None:
    with refused(AuthenticationError, match="unix_socket="):
        use(make_user("IDENTIFIED VIA unix_socket"))


@each_mysql
def test_the_limit_of_a_user_is_tried_again(
    server_url: str, make_user: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    limited = make_user("IDENTIFIED BY 'x' WITH MAX_USER_CONNECTIONS 1")
    with contextlib.closing(connect_raw(limited)), refused(ConnectionFailedError, match="pool_size"):
        use(limited)
    assert len(caplog.records) == 2


MYSQL_REFUSALS: list[tuple[int, Error, bool]] = [
    (1040, ConnectionFailedError, True),
    (1203, ConnectionFailedError, True),
    (1226, ConnectionFailedError, True),
    (1053, ConnectionFailedError, True),
    (3032, ConnectionFailedError, True),
    (9999, ConnectionFailedError, True),
    (1044, ConnectionFailedError, False),
    (1049, ConnectionFailedError, False),
    (1045, AuthenticationError, False),
    (1129, AuthenticationError, False),
    (1130, AuthenticationError, False),
    (1251, AuthenticationError, False),
    (1275, AuthenticationError, False),
    (1524, AuthenticationError, False),
    (1698, AuthenticationError, False),
    (1820, AuthenticationError, False),
    (1862, AuthenticationError, False),
    (2059, AuthenticationError, False),
    (3118, AuthenticationError, False),
    (3955, AuthenticationError, False),
    (4150, AuthenticationError, False),
    (4151, AuthenticationError, False),
    (3159, TLSError, False),
]


@pytest.mark.parametrize(("errno", "error", "transient"), MYSQL_REFUSALS)
def test_a_refusal_of_mysql_is_known_by_its_number(errno: int, error: Error, transient: bool) -> None:
    failure = mysql.connect_failure(pymysql.OperationalError(errno, "Zugriff verweigert, too many connections"))
    assert (failure.error, failure.transient) == (error, transient)
    assert failure.remedy != "see the cause"


# What OpenSSL calls an alert of the server's, which error it is, whether it is tried again, and what is said.
ALERTS = [
    ("TLSV13_ALERT_CERTIFICATE_REQUIRED", TLSError, False, "pass a client certificate"),
    ("SSLV3_ALERT_CERTIFICATE_REVOKED", TLSError, False, "pass a client certificate"),
    ("SSLV3_ALERT_CERTIFICATE_EXPIRED", TLSError, False, "pass a client certificate"),
    ("SSLV3_ALERT_BAD_CERTIFICATE", TLSError, False, "pass a client certificate"),
    ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", TLSError, False, "pass a client certificate"),
    ("TLSV1_ALERT_UNKNOWN_CA", TLSError, False, "a client certificate that"),
    ("TLSV1_ALERT_ACCESS_DENIED", TLSError, False, "pass a client certificate"),
    ("SSLV3_ALERT_HANDSHAKE_FAILURE", TLSError, False, "ciphers"),
    ("TLSV1_ALERT_INSUFFICIENT_SECURITY", TLSError, False, "ciphers"),
    ("TLSV1_ALERT_PROTOCOL_VERSION", TLSError, False, "no version of TLS in common"),
    ("TLSV1_ALERT_DECODE_ERROR", ConnectionFailedError, True, "firewall"),
    ("TLSV1_ALERT_INTERNAL_ERROR", ConnectionFailedError, True, "firewall"),
    ("SSLV3_ALERT_BAD_RECORD_MAC", ConnectionFailedError, True, "firewall"),
    ("SSLV3_ALERT_UNEXPECTED_MESSAGE", ConnectionFailedError, True, "firewall"),
    ("DECRYPTION_FAILED_OR_BAD_RECORD_MAC", ConnectionFailedError, True, "firewall"),
    ("WRONG_VERSION_NUMBER", ConnectionFailedError, True, "firewall"),
]


@pytest.mark.parametrize(("alert", "error", "transient", "remedy"), ALERTS)
def test_an_alert_of_mysql_says_what_is_to_be_done(alert: str, error: Error, transient: bool, remedy: str) -> None:
    words = f"Can't connect to MySQL server on '127.0.0.1' ([SSL: {alert}] {alert.lower()} (_ssl.c:1006))"
    failure = mysql.connect_failure(pymysql.OperationalError(2003, words))
    assert (failure.error, failure.transient) == (error, transient)
    assert remedy in failure.remedy


@pytest.mark.parametrize("behind", ["", '\nFATAL:  28000: no pg_hba.conf entry for host "::1", no encryption'])
@pytest.mark.parametrize(("alert", "error", "transient", "remedy"), ALERTS[:-1])
def test_an_alert_of_postgresql_says_what_is_to_be_done(
    alert: str, error: Error, transient: bool, remedy: str, behind: str
) -> None:
    words = f"connection failed: SSL error: {alert.lower().replace('_', ' ')}{behind}"
    failure = postgresql.connect_failure(psycopg.OperationalError(words))
    assert (failure.error, failure.transient) == (error, transient)
    assert remedy in failure.remedy


def test_a_plugin_that_needs_a_package_names_it() -> None:
    failure = mysql.connect_failure(RuntimeError("'pynacl' package is required for ed25519_password auth method"))
    assert failure.error is DriverNotInstalledError
    assert "PyMySQL[ed25519]" in failure.remedy


# --- no user's name

_WITHOUT_ACCOUNT = """
import contextlib, getpass, os, sys
import sessions

def no_account():
    raise KeyError("getpwuid(): uid not found: 54321")

def use(url):
    sessions.connect(url, max_retries=0).session("chat_1").get_items()

getpass.getuser = no_account  # PyMySQL asks when it is imported, and libpq when it connects
with contextlib.suppress(sessions.ConnectionFailedError):
    use(sys.argv[1].replace("//", "//app:x@", 1) + "_of_nobody")  # imports what the number may not read
os.setgid(54321)
os.setuid(54321)
try:
    use(sys.argv[1])
except sessions.ConfigurationError as exc:
    print(exc)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a number without a name")
@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_a_process_without_an_account_is_asked_for_a_user_in_the_url(
    dialect: str, make_url: Callable[[str], str], tmp_path: Path
) -> None:
    with pytest.raises(KeyError):
        pwd.getpwuid(54321)
    scheme, _, address = make_url(dialect).partition("://")
    names = ("LOGNAME", "USER", "LNAME", "USERNAME", "PGUSER")
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_ACCOUNT, f"{scheme}://{address.partition('@')[2]}"],
        env={name: value for name, value in os.environ.items() if name not in names},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "name the user in the URL" in done.stdout, done.stderr


# --- servers of another kind


class Talker(Listener):
    """Says one thing to everybody, at once or once it was asked, and hangs up."""

    def __init__(self, words: bytes, *, asked: bool) -> None:
        super().__init__()
        self._words, self._is_asked = words, asked

    def talk(self, peer: socket.socket) -> None:
        if self._is_asked:
            peer.recv(1024)
        peer.sendall(self._words)
        while peer.recv(1024) and not self._is_asked:
            pass


HTTP, SSH = b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n"


@pytest.mark.parametrize("ssl", [True, False])
@pytest.mark.parametrize(
    ("scheme", "words", "asked"),
    [("postgresql", HTTP, True), ("postgresql", b"220 mail\r\n", False), ("mysql", SSH, False)],
)
def test_a_server_of_another_kind_is_told_so_at_once(scheme: str, words: bytes, asked: bool, ssl: bool) -> None:
    with Talker(words, asked=asked) as talker, refused(ConnectionFailedError, match="server listens there") as caught:
        use(f"{scheme}://app:x@127.0.0.1:{talker.port}/agents", ssl=ssl)
    assert not isinstance(caught.value, (AuthenticationError, TLSError))


def test_an_error_before_postgresql_has_read_anything_may_be_another_servers() -> None:
    with Talker(b"ERROR\r\n", asked=True) as memcached, refused(ConnectionFailedError, match="no PostgreSQL server"):
        use(f"postgresql://app:x@127.0.0.1:{memcached.port}/agents", max_retries=0)


def test_an_ssl_module_that_was_replaced_is_no_other_server() -> None:
    words = "super(type, obj): obj must be an instance or subtype of type"
    failure = mysql.connect_failure(TypeError(words))
    assert (failure.error, "monkey.patch_all()" in failure.remedy) == (TLSError, True)


@each_mysql
@pytest.mark.parametrize("ssl", [None, True, False])
def test_mysql_behind_a_url_of_postgresql_is_told_so(server_url: str, ssl: bool | None) -> None:
    other = server_url.replace(dialect_of(server_url), "postgresql", 1)
    with refused(ConnectionFailedError, match="no PostgreSQL server listens there") as caught:
        use(other, ssl=ssl)
    assert not isinstance(caught.value, (AuthenticationError, TLSError))


def test_postgresql_behind_a_url_of_mysql_is_suspected(postgresql_url: str) -> None:
    """It waits for us to speak, and we for it."""
    other = postgresql_url.replace("postgresql", "mysql", 1)
    with refused(ConnectionFailedError, match="one of another kind"):
        use(other, max_retries=0, connection_timeout=0.5)


def test_a_parameter_that_libpq_refuses_is_a_configuration_error() -> None:
    with refused(ConfigurationError):
        use("postgresql://app:x@127.0.0.1:1/agents?target_session_attrs=nonsense")
