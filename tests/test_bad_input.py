"""Bad input: each gives its named error with a remedy, and leaves everything as it was."""

import logging
import math
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import sessions
from sessions import ConfigurationError, InvalidURLError, TLSError
from support.claims import SECRET, refused
from support.samples import items, texts
from support.servers import with_parts
from tls.authority import DAY, Authority

NO_SERVER = "postgresql://app@127.0.0.1:1/chat"

each_server = pytest.mark.parametrize("dialect", ["postgresql", "mysql"])


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The current directory, in which nothing may appear."""
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    "address",
    [
        pytest.param("", id="empty"),
        pytest.param("chat.db", id="a-path-alone"),
        pytest.param("/var/chat.db", id="an-absolute-path-alone"),
        pytest.param("sqlite", id="no-colon"),
        pytest.param("oracle://app:hunter2@host/chat", id="unknown-scheme"),
        pytest.param("https://app:hunter2@host/chat", id="https"),
        pytest.param(" sqlite:chat.db", id="space-before"),
        pytest.param("://app:hunter2@host/chat", id="empty-scheme"),
        pytest.param("host=localhost password=hunter2 dbname=chat", id="a-libpq-string"),
        pytest.param(None, id="None"),
        pytest.param(5, id="int"),
        pytest.param(b"sqlite:chat.db", id="bytes"),
        pytest.param("sqlite:", id="sqlite-without-file"),
        pytest.param("sqlite:///", id="sqlite-slashes-without-file"),
        pytest.param("sqlite://host/chat.db", id="sqlite-with-host"),
        pytest.param("sqlite:chat.db?cache=shared", id="sqlite-with-parameter"),
        pytest.param("sqlite:50%.db", id="sqlite-bare-percent"),
        pytest.param("sqlite:%FF.db", id="sqlite-not-UTF-8"),
        pytest.param("sqlite:a%00b.db", id="sqlite-escaped-NUL"),
        pytest.param("sqlite:a\0b.db", id="sqlite-NUL"),
        pytest.param("memory:chat", id="memory-with-name"),
        pytest.param("memory:?a=b", id="memory-with-parameter"),
        pytest.param("postgresql:chat", id="server-without-slashes"),
        pytest.param("postgresql:/host/chat", id="server-with-one-slash"),
        pytest.param("postgresql://app:hunter2@host:port/chat", id="port-of-letters"),
        pytest.param("postgresql://app:hunter2@host:0/chat", id="port-0"),
        pytest.param("postgresql://app:hunter2@host:65536/chat", id="port-65536"),
        pytest.param("postgresql://app:hunter2@host:-1/chat", id="port-negative"),
        pytest.param("postgresql://app:hunter2@host:٣/chat", id="port-of-other-digits"),
        pytest.param("postgresql://app:hunter2@[::1/chat", id="open-bracket"),
        pytest.param("postgresql://app:hunter2@::1/chat", id="IPv6-without-brackets"),
        pytest.param("postgresql://app:hunter2@db..example.com/chat", id="two-dots-in-the-host"),
        pytest.param("mysql://app:hunter2@.db/chat", id="a-dot-before-the-host"),
        pytest.param(f"postgresql:///chat?host={'a' * 64}.com", id="a-label-of-64-in-the-host"),
        pytest.param("postgresql://app:hunter2#x@host/chat", id="bare-hash-in-the-password"),
        pytest.param("postgresql://app:hunter2/x@host/chat", id="bare-slash-in-the-password"),
        pytest.param("postgresql://app:hunter2?x@host/chat", id="bare-question-mark-in-the-password"),
        pytest.param("postgresql://app:hunter2%@host/chat", id="bare-percent-in-the-password"),
        pytest.param("postgresql://app:hunter2%FF@host/chat", id="password-not-UTF-8"),
        pytest.param("postgresql://app:hunter2%00@host/chat", id="NUL-in-the-password"),
        pytest.param("postgresql://host/chat/more", id="slash-in-the-database"),
        pytest.param("postgresql://host/chat?nonsense=1", id="unknown-parameter"),
        pytest.param("postgresql://host/chat?hunter2(=1", id="parameter-that-is-no-name"),
        pytest.param("postgresql://host/chat?unix_socket=/run/my.sock", id="a-mysql-parameter"),
        pytest.param("postgresql://host/chat?client_encoding=latin1", id="client_encoding"),
        pytest.param("postgresql://host/chat?sslmode=maybe", id="unknown-sslmode"),
        pytest.param("postgresql://host/chat?sslmode", id="parameter-without-value"),
        pytest.param("postgresql://host/chat?sslmode=require&sslmode=disable", id="parameter-given-twice"),
        pytest.param("postgresql://app@host/chat?user=other", id="user-given-twice"),
        pytest.param("postgresql://host/chat?dbname=other", id="database-given-twice"),
        pytest.param("postgresql://host/chat?host=other", id="host-given-twice"),
        pytest.param("postgresql://app:hunter2@h/c?password=hunter22", id="password-given-twice"),
        pytest.param("postgresql:///chat?host=a,b,c&port=1,2", id="fewer-ports-than-hosts"),
        pytest.param("postgresql://host/chat?connect_timeout=soon", id="timeout-of-letters"),
        pytest.param("mysql://app:hunter2@host", id="mysql-without-database"),
        pytest.param("mysql://app:hunter2@host/", id="mysql-with-an-empty-database"),
        pytest.param("mysql://host/chat?unix_socket=/run/my.sock", id="mysql-host-and-socket"),
        pytest.param("mysql://host/chat?charset=latin1", id="mysql-narrow-charset"),
        pytest.param("mysql://host/chat?ssl-mode=SOMETIMES", id="mysql-unknown-ssl-mode"),
        pytest.param("mysql://host/chat?application_name=x", id="mysql-with-a-libpq-parameter"),
        pytest.param("mysql://host/chat?ssl-mode=REQUIRED&sslmode=disable", id="mysql-two-modes"),
    ],
)
def test_a_bad_url_is_refused(address: Any) -> None:
    for make in (sessions.connect, lambda url: sessions.Session.from_url("chat_1", url)):
        with refused(InvalidURLError):
            make(address)


# --- options


def assert_option_refused(url: str, **options: Any) -> None:
    for make in (sessions.connect, lambda url, **some: sessions.Session.from_url("chat_1", url, **some)):
        with refused(ConfigurationError):
            make(url, **options)


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"create_table": True}, id="unknown"),
        pytest.param({"sslmode": "require"}, id="a-libpq-parameter"),
        pytest.param({"create_tables": "no"}, id="create_tables-str"),
        pytest.param({"create_tables": None}, id="create_tables-None"),
        pytest.param({"ensure_ascii": 0}, id="ensure_ascii-int"),
        pytest.param({"prepared_statements": 1}, id="prepared_statements-int"),
        pytest.param({"multi_statements": "no"}, id="multi_statements-str"),
        pytest.param({"max_retries": -1}, id="max_retries-negative"),
        pytest.param({"max_retries": 1.5}, id="max_retries-float"),
        pytest.param({"max_retries": True}, id="max_retries-bool"),
        pytest.param({"max_retries": "3"}, id="max_retries-str"),
        pytest.param({"retry_delay": -0.1}, id="retry_delay-negative"),
        pytest.param({"retry_delay": math.nan}, id="retry_delay-NaN"),
        pytest.param({"retry_delay": math.inf}, id="retry_delay-inf"),
        pytest.param({"retry_delay": "1"}, id="retry_delay-str"),
        pytest.param({"connection_timeout": 0}, id="connection_timeout-0"),
        pytest.param({"connection_timeout": -1}, id="connection_timeout-negative"),
        pytest.param({"connection_timeout": math.nan}, id="connection_timeout-NaN"),
        pytest.param({"connection_timeout": None}, id="connection_timeout-None"),
        pytest.param({"statement_timeout": 0}, id="statement_timeout-0"),
        pytest.param({"statement_timeout": "30"}, id="statement_timeout-str"),
        pytest.param({"pool_size": 0}, id="pool_size-0"),
        pytest.param({"pool_size": -1}, id="pool_size-negative"),
        pytest.param({"pool_size": 2.0}, id="pool_size-float"),
        pytest.param({"pool_size": True}, id="pool_size-bool"),
        pytest.param({"default_limit": -1}, id="default_limit-negative"),
        pytest.param({"default_limit": True}, id="default_limit-bool"),
        pytest.param({"default_limit": "5"}, id="default_limit-str"),
        pytest.param({"sessions_table": None}, id="table-None"),
        pytest.param({"messages_table": 5}, id="table-int"),
        pytest.param({"messages_table": "agent_sessions"}, id="one-table-for-both"),
        pytest.param({"sessions_table": "AGENT_MESSAGES"}, id="one-table-for-both-but-for-case"),
        pytest.param({"sessions_table": "chat", "messages_table": "chat_leases"}, id="one-table-for-leases-too"),
        pytest.param({"messages_table": "Agent_Session_Leases"}, id="one-table-for-leases-too-but-for-case"),
        pytest.param({"sessions_table": "agent_messages_by_session"}, id="one-name-for-table-and-index"),
    ],
)
def test_a_bad_option_is_refused(options: Any) -> None:
    # Before the URL's dialect makes a difference.
    assert_option_refused("sqlite:chat.db", **options)


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize("option", ["sessions_table", "messages_table"])
@pytest.mark.parametrize(
    "name",
    [
        *("", "a.b.c", ".b", "a.", "a\0b", "a\nb", "a\ud800", "%s", "x" * 64, "ü" * 32, "t%s", "t\\", "t\n", "t\0"),
        *('a"; DROP TABLE x; --', "a`b", "x' OR '1'='1", "'; DROP TABLE agent_messages; --", "t; DROP TABLE canary"),
        *(
            "\\'; DROP TABLE agent_messages; -- ",
            "t``; DROP TABLE canary; -- ",
            "%(session_id)s %s {0} :session_id $1 ?",
        ),
        *("/*!50000 DROP TABLE agent_messages */", "t/*", "t/*!*/", "t (id) VALUES"),
    ],
    ids=ascii,
)
def test_a_bad_table_name_is_refused(option: str, name: str) -> None:
    assert_option_refused("sqlite:chat.db", **{option: name})


def test_a_form_of_statements_is_taken_where_the_database_has_it() -> None:
    sessions.connect(NO_SERVER, prepared_statements=False).close()
    sessions.connect("mysql://app@127.0.0.1:1/chat", multi_statements=False).close()
    sessions.connect("memory:", prepared_statements=True, multi_statements=True).close()


@pytest.mark.parametrize("name", ["create_table", "Ssl", "timeout"])
def test_an_unknown_option_is_named_with_the_known_ones(name: str) -> None:
    with refused(ConfigurationError, match=repr(name)) as caught:
        sessions.connect("memory:", **{name: 1})  # type: ignore[call-overload]
    for known in (
        "create_tables", "max_retries", "retry_delay", "connection_timeout", "ssl", "password",
        "sessions_table", "messages_table", "pool_size", "default_limit", "ensure_ascii",
        "prepared_statements", "multi_statements", "statement_timeout",
    ):  # fmt: skip
        assert known in str(caught.value)


def test_options_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        sessions.connect("memory:", True)  # type: ignore[call-overload]


@pytest.mark.usefixtures("empty_folder")
@pytest.mark.parametrize(
    ("address", "options"),
    [
        pytest.param("memory:", {"ssl": True}, id="ssl-in-memory"),
        pytest.param("memory:", {"password": SECRET}, id="password-in-memory"),
        pytest.param("sqlite:chat.db", {"ssl": True}, id="ssl-in-a-file"),
        pytest.param("sqlite:chat.db", {"ssl": {"verify": True}}, id="verified-ssl-in-a-file"),
        pytest.param("sqlite:chat.db", {"password": SECRET}, id="password-in-a-file"),
        pytest.param("sqlite:chat.db", {"messages_table": "sqlite_x"}, id="reserved-name-in-sqlite"),
        pytest.param(NO_SERVER, {"password": 5}, id="password-int"),
        pytest.param(NO_SERVER, {"password": SECRET.encode()}, id="password-bytes"),
        pytest.param("postgresql://app:hunter2@h/c", {"password": "hunter22"}, id="another-password-in-the-URL"),
        pytest.param("mysql://app:hunter2@h/c", {"password": lambda: ""}, id="a-callable-beside-the-URLs-password"),
        pytest.param("postgresql://h/c?sslmode=disable", {"ssl": True}, id="sslmode-disable-and-True"),
        pytest.param("postgresql://h/c?sslmode=require", {"ssl": False}, id="sslmode-require-and-False"),
        pytest.param("postgresql://h/c?sslmode=require", {"ssl": {"verify": True}}, id="sslmode-require-and-verify"),
        pytest.param("mysql://h/c?ssl-mode=DISABLED", {"ssl": {}}, id="ssl-mode-disabled-and-verify"),
        pytest.param("mysql://h/c?ssl-mode=REQUIRED", {"ssl": False}, id="ssl-mode-required-and-False"),
        pytest.param("postgresql://h/c?connect_timeout=3", {"connection_timeout": 5}, id="another-timeout"),
        pytest.param(
            "mysql://h/c?connect_timeout=3", {"connection_timeout": 10.0}, id="the-default-as-another-timeout"
        ),
        pytest.param("sqlite::memory:", {"prepared_statements": False}, id="prepared-statements-in-sqlite"),
        pytest.param("mysql://h/c", {"prepared_statements": False}, id="prepared-statements-in-mysql"),
        pytest.param("memory:", {"multi_statements": False}, id="multi-statements-in-memory"),
        pytest.param("postgresql://h/c", {"multi_statements": False}, id="multi-statements-in-postgresql"),
        pytest.param(NO_SERVER, {"ssl": "require"}, id="ssl-str"),
        pytest.param(NO_SERVER, {"ssl": 1}, id="ssl-int"),
        pytest.param(NO_SERVER, {"ssl": ["ca.pem"]}, id="ssl-list"),
        pytest.param(NO_SERVER, {"ssl": {"cafile": "ca.pem"}}, id="ssl-unknown-key"),
        pytest.param(NO_SERVER, {"ssl": {"verify": "no"}}, id="ssl-verify-str"),
        pytest.param(NO_SERVER, {"ssl": {"check_hostname": 1}}, id="ssl-check_hostname-int"),
        pytest.param(NO_SERVER, {"ssl": {"verify": False, "check_hostname": True}}, id="ssl-name-of-nothing-verified"),
        pytest.param(NO_SERVER, {"ssl": {"ca": ""}}, id="ssl-ca-empty"),
        pytest.param(NO_SERVER, {"ssl": {"ca": 5}}, id="ssl-ca-int"),
        pytest.param(NO_SERVER, {"ssl": {"key": "key.pem"}}, id="ssl-key-without-cert"),
        pytest.param("postgresql:///chat?host=/run/postgresql", {"ssl": True}, id="ssl-on-a-socket-of-postgresql"),
        pytest.param("postgresql:///chat", {"ssl": {}}, id="ssl-on-the-default-socket-of-postgresql"),
    ],
)
def test_what_contradicts_is_refused(address: str, options: Any) -> None:
    assert_option_refused(address, **options)


# --- certificates


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Certificates and keys, right and wrong."""
    folder = tmp_path_factory.mktemp("material")
    authority = Authority("test authority")
    client, other = authority.client("app"), authority.client("other")
    (folder / "text.pem").write_text("no certificate")
    (folder / "empty.pem").write_text("")
    return SimpleNamespace(
        folder=folder,
        ca=authority.cert,
        cert=client.cert,
        key=client.key,
        other_key=other.key,
        encrypted=client.encrypted_key(SECRET),
        expired=authority.client("app", until=-DAY),
        broken=client.cert.replace("\nM", "\n!", 1),
    )


@each_server
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda m: {"ca": f"{m.folder}/missing.pem"}, id="ca-missing"),
        pytest.param(lambda m: {"ca": m.folder}, id="ca-is-a-directory"),
        pytest.param(lambda m: {"ca": f"{m.folder}/text.pem"}, id="ca-is-no-PEM"),
        pytest.param(lambda m: {"ca": f"{m.folder}/empty.pem"}, id="ca-is-an-empty-file"),
        pytest.param(lambda m: {"ca": b"no certificate"}, id="ca-bytes-are-no-PEM"),
        pytest.param(lambda m: {"ca": m.broken}, id="ca-is-broken"),
        pytest.param(lambda m: {"ca": m.key}, id="ca-is-a-key"),
        pytest.param(lambda m: {"cert": f"{m.folder}/missing.pem", "key": m.key}, id="cert-missing"),
        pytest.param(lambda m: {"cert": m.cert, "key": f"{m.folder}/missing.pem"}, id="key-missing"),
        pytest.param(lambda m: {"cert": m.cert}, id="cert-without-key"),
        pytest.param(lambda m: {"cert": m.key, "key": m.cert}, id="cert-and-key-exchanged"),
        pytest.param(lambda m: {"cert": m.cert, "key": m.other_key}, id="key-of-another-cert"),
        pytest.param(lambda m: {"cert": m.cert, "key": m.encrypted}, id="encrypted-key-without-password"),
        pytest.param(
            lambda m: {"cert": m.cert, "key": m.encrypted, "key_password": f"{SECRET}2"},
            id="encrypted-key-with-a-wrong-password",
        ),
        pytest.param(lambda m: {"cert": m.expired.cert, "key": m.expired.key}, id="cert-expired"),
    ],
)
def test_tls_material_that_cannot_be_used_is_refused_at_once(
    dialect: str, make: Callable[[Any], Any], material: SimpleNamespace
) -> None:
    with refused(TLSError):
        sessions.connect(f"{dialect}://app@127.0.0.1:1/chat", ssl={"ca": material.ca, **make(material)})


# --- items


@pytest.mark.parametrize("position", [0, 1, 7])
def test_the_first_bad_item_is_named_by_its_index(position: int) -> None:
    batch: list[Any] = [{"n": n} for n in range(9)]
    batch[position] = {"n": math.nan}
    batch[8] = object()
    with sessions.InMemorySession("chat_1") as session, refused(sessions.InvalidItemError, match=rf"\b{position}\b"):
        session.add_items(batch)


CIRCULAR = """
import sys, threading, sessions
sys.setrecursionlimit(100_000)
item = {}
item["self"] = [item]
def add():
    try:
        sessions.InMemorySession("chat_1").add_items([item])
    except sessions.InvalidItemError as error:
        print(error)
threading.stack_size(256 * 1024)
thread = threading.Thread(target=add)
thread.start()
thread.join()
"""


def test_a_circular_item_is_refused_however_small_the_stack_is() -> None:
    # In a process of its own: what exhausts the C stack ends it.
    done = subprocess.run([sys.executable, "-c", CIRCULAR], capture_output=True, text=True, check=True)
    assert "Circular reference" in done.stdout


# --- servers that cannot be reached, or refuse


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"password": SECRET}, sessions.AuthenticationError, id="wrong-password"),
        pytest.param({"password": ""}, sessions.AuthenticationError, id="empty-password"),
        pytest.param({"user": "nobody_here", "password": SECRET}, sessions.AuthenticationError, id="unknown-user"),
        pytest.param({"database": "no_such_chat"}, sessions.ConnectionFailedError, id="unknown-database"),
        pytest.param({"port": 1}, sessions.ConnectionFailedError, id="nobody-listens"),
    ],
)
def test_a_server_that_lets_nobody_in_is_not_quoted_with_the_password(
    server_url: str, change: Any, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    url = with_parts(server_url, **change)
    with caplog.at_level(logging.DEBUG), sessions.Session.from_url("chat_1", url, max_retries=0) as session:
        with refused(error) as caught:
            session.get_items()
        said = f"{caught.value!r} {''.join(traceback.format_exception(caught.value))} {caplog.text}"
        secret = SECRET if "password" in change else unquote(urlsplit(server_url).password or "")
        assert secret not in said


def without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    userinfo, _, rest = rest.rpartition("@")
    return f"{scheme}://{userinfo.partition(':')[0]}@{rest}"


class Passwords(list[str]):
    """A function that gives a wrong password, and notes that it was asked."""

    def __call__(self) -> str:
        self.append(SECRET)
        return SECRET


def test_a_wrong_password_is_not_tried_again(server_url: str) -> None:
    asked = Passwords()
    with (
        sessions.Session.from_url("chat_1", without_password(server_url), password=asked, retry_delay=0.001) as session,
        pytest.raises(sessions.AuthenticationError),
    ):
        session.get_items()
    assert len(asked) == 1


@each_server
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_refused_connection_is_tried_again_as_often_as_asked(dialect: str, retries: int) -> None:
    asked, url = Passwords(), f"{dialect}://app@127.0.0.1:1/chat"
    options: Any = {"password": asked, "max_retries": retries, "retry_delay": 0}
    with sessions.Session.from_url("chat_1", url, **options) as session, refused(sessions.ConnectionFailedError):
        session.get_items()
    assert len(asked) == retries + 1


def test_a_password_may_come_from_a_callable(server_url: str) -> None:
    right = unquote(urlsplit(server_url).password or "")
    with sessions.Session.from_url("chat_1", without_password(server_url), password=lambda: right) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


@each_server
@pytest.mark.parametrize("bad", [None, 5, b"hunter2"], ids=["None", "int", "bytes"])
def test_a_callable_that_gives_no_password_is_refused(dialect: str, bad: Any) -> None:
    url = f"{dialect}://app@127.0.0.1:1/chat"
    options: Any = {"password": lambda: bad, "max_retries": 0}
    with sessions.Session.from_url("chat_1", url, **options) as session, refused(ConfigurationError):
        session.get_items()


# --- drivers that are not installed

WITHOUT_A_DRIVER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("psycopg", "pymysql"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import sessions
for url in sys.argv[1:]:
    try:
        sessions.connect(url).close()
    except sessions.DriverNotInstalledError as exc:
        assert isinstance(exc, ImportError)
        print(exc)
    else:
        print("worked")
"""


def test_a_driver_that_is_there_and_cannot_be_imported_is_told_in_its_own_words() -> None:
    program = "import sessions; sessions.connect('postgresql://app@host/chat')"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env=os.environ | {"PSYCOPG_IMPL": "another"},
        capture_output=True,
        text=True,
        check=False,
    )
    told = done.stderr.splitlines()[-1]
    assert "sessions.errors.DriverNotInstalledError: " in told
    assert "'another'" in told
    assert "install it" not in told


def test_a_missing_driver_is_named_with_its_extra_and_sqlite_and_memory_need_none() -> None:
    addresses = {
        "postgresql://app:hunter2@h/c": "[postgresql]'",
        "postgres+asyncpg://app:hunter2@h/c": "[postgresql]'",
        "mysql://app:hunter2@h/c": "[mysql]'",
        "mariadb+aiomysql://app:hunter2@h/c": "[mysql]'",
        "sqlite::memory:": "worked",
        "memory:": "worked",
    }
    command = [sys.executable, "-W", "error", "-c", WITHOUT_A_DRIVER, *addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout
    for said, expected in zip(done.stdout.splitlines(), addresses.values(), strict=True):
        assert said.endswith(expected)
        assert said == "worked" or "; install it with: pip install 'agent-sql-sessions[" in said


# --- what is shown of a password


@pytest.mark.parametrize(
    ("address", "options"),
    [
        pytest.param("postgresql://app:hunter2@h/c", {}, id="postgresql-URL"),
        pytest.param("postgresql://h/c?user=app&password=hunter2", {}, id="postgresql-parameter"),
        pytest.param("postgresql://app@h/c", {"password": "hunter2"}, id="postgresql-option"),
        pytest.param("mysql://app:hunter2@h/c", {}, id="mysql-URL"),
        pytest.param("mysql://app@h/c", {"password": "hunter2"}, id="mysql-option"),
    ],
)
def test_nothing_of_ours_shows_a_password(address: str, options: Any) -> None:
    with sessions.connect(address, **options) as backend:
        session = backend.session("chat_1")
        for thing in (backend, session):
            assert "hunter2" not in f"{thing!r} {thing!s} {thing}"
        assert "chat_1" in repr(session)


# --- errors are good citizens

ERRORS = [getattr(sessions, name) for name in sessions.__all__ if name.endswith("Error") and name != "SessionsError"]


def test_the_table_of_errors_is_the_designs() -> None:
    assert {error.__name__: {base.__name__ for base in error.__mro__} & BUILTINS for error in ERRORS} == {
        "InvalidURLError": {"ValueError"},
        "ConfigurationError": {"ValueError"},
        "UnsupportedEngineError": {"ValueError"},
        "DriverNotInstalledError": {"ImportError"},
        "ConnectionFailedError": {"ConnectionError"},
        "TLSError": {"ConnectionError"},
        "AuthenticationError": {"ConnectionError"},
        "SchemaError": set(),
        "InvalidItemError": {"ValueError"},
        "DecryptionError": set(),
        "SealBrokenError": set(),
        "ConflictError": set(),
        "BusyError": {"TimeoutError"},
        "LeaseLostError": set(),
        "ClosedError": {"RuntimeError"},
        "OutcomeUnknownError": set(),
        "DatabaseError": set(),
    }


BUILTINS = {"ValueError", "ImportError", "ConnectionError", "RuntimeError", "TimeoutError"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_a_sessions_error_and_can_be_pickled(error: type[Exception]) -> None:
    original = error("what is wrong; what to do")
    copy = pickle.loads(pickle.dumps(original))  # noqa: S301 -- our own
    assert isinstance(copy, sessions.SessionsError)
    assert type(copy) is error
    assert str(copy) == "what is wrong; what to do"


def test_a_relative_path_in_a_directory_that_was_removed_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with refused(sessions.ConfigurationError, match=r"current directory.*sqlite:////chat\.db for an absolute path"):
        sessions.connect("sqlite:chat.db")
    with sessions.connect(f"sqlite:///{tmp_path}/chat.db") as backend:
        backend.session("chat_1").add_items([{"n": 1}])
    monkeypatch.undo()
