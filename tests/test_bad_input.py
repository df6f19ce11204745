"""Bad input: each gives its named error with a remedy, and leaves everything as it was."""

import logging
import math
import os
import pickle
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import sessions
from sessions import ConfigurationError, InvalidURLError, TLSError
from support.samples import item, items, stored_texts, texts
from support.servers import connect_raw, execute_sql, with_parts
from tls.authority import DAY, Authority

PASSWORD = "hunter2"


def assert_helpful(error: BaseException) -> None:
    """What is wrong, a semicolon, what to do; no password; and the error can be pickled."""
    text = str(error)
    what, _, remedy = text.partition("; ")
    assert what, text
    assert len(remedy.split()) >= 2, f"no remedy: {text}"
    assert not text.endswith("."), text
    assert not text.split(maxsplit=1)[0].istitle(), text  # an acronym may begin it
    assert PASSWORD not in "".join(traceback.format_exception(error))
    assert PASSWORD not in repr(error)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own
    assert (type(again), str(again)) == (type(error), text)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, in which nothing may appear."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert contents(tmp_path) == {}


# --- URLs


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
        pytest.param("postgresql://app:hunter2#x@host/chat", id="bare-hash-in-the-password"),
        pytest.param("postgresql://app:hunter2/x@host/chat", id="bare-slash-in-the-password"),
        pytest.param("postgresql://app:hunter2?x@host/chat", id="bare-question-mark-in-the-password"),
        pytest.param("postgresql://app:hunter2%@host/chat", id="bare-percent-in-the-password"),
        pytest.param("postgresql://app:hunter2%FF@host/chat", id="password-not-UTF-8"),
        pytest.param("postgresql://app:hunter2%00@host/chat", id="NUL-in-the-password"),
        pytest.param("postgresql://host/chat/more", id="slash-in-the-database"),
        pytest.param("postgresql://host/chat?nonsense=1", id="unknown-parameter"),
        pytest.param("postgresql://host/chat?ssl-mode=REQUIRED", id="a-mysql-parameter"),
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
        pytest.param("mysql://app:hunter2@one,two/chat", id="mysql-with-two-hosts"),
        pytest.param("mysql://host/chat?unix_socket=/run/my.sock", id="mysql-host-and-socket"),
        pytest.param("mysql://host/chat?charset=latin1", id="mysql-narrow-charset"),
        pytest.param("mysql://host/chat?ssl-mode=SOMETIMES", id="mysql-unknown-ssl-mode"),
        pytest.param("mysql://host/chat?application_name=x", id="mysql-with-a-libpq-parameter"),
        pytest.param("mysql://host/chat?ssl-mode=REQUIRED&sslmode=disable", id="mysql-two-modes"),
    ],
)
def test_a_bad_url_is_refused(address: Any, empty_folder: Path) -> None:
    with pytest.raises(InvalidURLError) as caught:
        sessions.connect(address)
    assert isinstance(caught.value, ValueError)
    assert_helpful(caught.value)
    with pytest.raises(InvalidURLError):
        sessions.Session.from_url("chat_1", address)


# --- options

NO_SERVER = "postgresql://app@127.0.0.1:1/chat"

BAD_OPTIONS: list[Any] = [
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
    pytest.param({"sessions_table": ""}, id="table-empty"),
    pytest.param({"sessions_table": None}, id="table-None"),
    pytest.param({"messages_table": 5}, id="table-int"),
    pytest.param({"messages_table": "a.b.c"}, id="table-of-three-parts"),
    pytest.param({"messages_table": ".b"}, id="table-without-schema"),
    pytest.param({"messages_table": "a."}, id="table-without-name"),
    pytest.param({"messages_table": "a\0b"}, id="table-with-NUL"),
    pytest.param({"messages_table": "a\nb"}, id="table-with-line-break"),
    pytest.param({"messages_table": 'a"; DROP TABLE x; --'}, id="table-with-SQL"),
    pytest.param({"messages_table": "a`b"}, id="table-with-backtick"),
    pytest.param({"messages_table": "%s"}, id="table-with-placeholder"),
    pytest.param({"messages_table": "a\ud800"}, id="table-with-surrogate"),
    pytest.param({"messages_table": "x" * 64}, id="table-too-long"),
    pytest.param({"messages_table": "ü" * 32}, id="table-too-long-in-UTF-8"),
    pytest.param({"messages_table": "agent_sessions"}, id="one-table-for-both"),
    pytest.param({"sessions_table": "AGENT_MESSAGES"}, id="one-table-for-both-but-for-case"),
]


def assert_option_refused(url: str, options: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sessions.connect(url, **options)
    assert isinstance(caught.value, ValueError)
    assert_helpful(caught.value)
    with pytest.raises(ConfigurationError):
        sessions.Session.from_url("chat_1", url, **options)


@pytest.mark.parametrize("dialect", ["memory", "sqlite", "postgresql", "mysql"])
@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_a_bad_option_is_refused(dialect: str, options: Any, empty_folder: Path) -> None:
    url = {"memory": "memory:", "sqlite": "sqlite:chat.db"}.get(dialect, f"{dialect}://app:{PASSWORD}@127.0.0.1:1/chat")
    assert_option_refused(url, options)


@pytest.mark.parametrize("name", ["create_table", "Ssl", "timeout"])
def test_an_unknown_option_is_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sessions.connect("memory:", **{name: cast("Any", 1)})
    for known in (
        "create_tables", "max_retries", "retry_delay", "connection_timeout", "ssl", "password",
        "sessions_table", "messages_table", "pool_size", "default_limit", "ensure_ascii",
        "prepared_statements", "multi_statements",
    ):  # fmt: skip
        assert known in str(caught.value)
    assert repr(name) in str(caught.value)


def test_options_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        sessions.connect("memory:", True)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("address", "options"),
    [
        pytest.param("memory:", {"ssl": True}, id="ssl-in-memory"),
        pytest.param("memory:", {"password": PASSWORD}, id="password-in-memory"),
        pytest.param("sqlite:chat.db", {"ssl": True}, id="ssl-in-a-file"),
        pytest.param("sqlite:chat.db", {"ssl": {"verify": True}}, id="verified-ssl-in-a-file"),
        pytest.param("sqlite:chat.db", {"password": PASSWORD}, id="password-in-a-file"),
        pytest.param("sqlite:chat.db", {"messages_table": "sqlite_x"}, id="reserved-name-in-sqlite"),
        pytest.param(NO_SERVER, {"password": 5}, id="password-int"),
        pytest.param(NO_SERVER, {"password": PASSWORD.encode()}, id="password-bytes"),
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
def test_what_contradicts_is_refused(address: str, options: Any, empty_folder: Path) -> None:
    assert_option_refused(address, options)


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
        encrypted=client.encrypted_key(PASSWORD),
        expired=authority.client("app", until=-DAY),
        broken=client.cert.replace("\nM", "\n!", 1),
    )


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
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
            lambda m: {"cert": m.cert, "key": m.encrypted, "key_password": f"{PASSWORD}2"},
            id="encrypted-key-with-a-wrong-password",
        ),
        pytest.param(lambda m: {"cert": m.expired.cert, "key": m.expired.key}, id="cert-expired"),
    ],
)
def test_tls_material_that_cannot_be_used_is_refused_at_once(
    dialect: str, make: Callable[[Any], Any], material: SimpleNamespace
) -> None:
    options = {"ca": material.ca, **make(material)}
    with pytest.raises(TLSError) as caught:
        sessions.connect(f"{dialect}://app@127.0.0.1:1/chat", ssl=options)
    assert_helpful(caught.value)


# --- ids, limits, items


@pytest.mark.parametrize(
    "bad",
    ["", "x" * 256, "a\0b", "a\udc80", 5, None, b"chat", ("chat",), True, 1.5],
    ids=["empty", "256", "NUL", "surrogate", "int", "None", "bytes", "tuple", "bool", "float"],
)
def test_a_bad_id_says_what_an_id_is(bad: Any) -> None:
    with sessions.connect("memory:") as backend:
        with pytest.raises((TypeError, ValueError)) as caught:
            backend.session(bad)
        assert_helpful(caught.value)


@pytest.mark.parametrize("bad", [-1, True, False, "5", 1.0, [1]], ids=repr)
def test_a_bad_limit_says_what_a_limit_is(session: sessions.Session, bad: Any) -> None:
    session.add_items(items("a"))
    with pytest.raises((TypeError, ValueError)) as caught:
        session.get_items(limit=bad)
    assert_helpful(caught.value)
    assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param([{"content": "hunter2", "n": math.nan}], id="NaN"),
        pytest.param([{"content": "hunter2", "n": -math.inf}], id="minus-inf"),
        pytest.param([{"content": {"hunter2"}}], id="set"),
        pytest.param([{"content": b"hunter2"}], id="bytes-inside"),
        pytest.param([{("hunter2",): 1}], id="tuple-as-a-key"),
        pytest.param([["hunter2"]], id="list-as-an-item"),
        pytest.param(["hunter2"], id="str-as-an-item"),
        pytest.param([None], id="None-as-an-item"),
        pytest.param([{"hunter2": 10**5000}], id="too-many-digits"),
        pytest.param("hunter2", id="str-as-a-batch"),
        pytest.param({"content": "hunter2"}, id="dict-as-a-batch"),
        pytest.param(None, id="None-as-a-batch"),
    ],
)
def test_a_bad_item_says_what_is_wrong_and_quotes_nothing(session: sessions.Session, bad: Any) -> None:
    session.add_items(items("a"))
    with pytest.raises(sessions.InvalidItemError) as caught:
        session.add_items(bad)
    assert isinstance(caught.value, ValueError)
    assert_helpful(caught.value)
    assert texts(session.get_items()) == ["a"]


def test_a_closed_session_says_how_to_get_another(session: sessions.Session) -> None:
    session.close()
    with pytest.raises(sessions.ClosedError) as caught:
        session.get_items()
    assert_helpful(caught.value)


# --- databases that are not as they should be

OPERATIONS = [
    pytest.param(lambda session: session.get_items(), id="get"),
    pytest.param(lambda session: session.add_items(items("b")), id="add"),
    pytest.param(lambda session: session.pop_item(), id="pop"),
    pytest.param(lambda session: session.clear_session(), id="clear"),
]
Operation = Callable[[sessions.Session], Any]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_missing_tables_are_a_schema_error(sql_url: str, operation: Operation) -> None:
    with sessions.Session.from_url("chat_1", sql_url, create_tables=False) as session:
        with pytest.raises(sessions.SchemaError) as caught:
            operation(session)
        assert_helpful(caught.value)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_table_of_another_shape_is_a_schema_error(sql_url: str, operation: Operation) -> None:
    execute_sql(sql_url, "CREATE TABLE agent_sessions (name VARCHAR(50) PRIMARY KEY)")
    execute_sql(sql_url, "CREATE TABLE agent_messages (name VARCHAR(50) PRIMARY KEY)")
    execute_sql(sql_url, "INSERT INTO agent_messages VALUES ('kept')")
    with sessions.Session.from_url("chat_1", sql_url) as session:
        with pytest.raises(sessions.SchemaError) as caught:
            operation(session)
        assert_helpful(caught.value)
    assert execute_sql(sql_url, "SELECT * FROM agent_messages") == [("kept",)]


def cut_off_database(path: Path) -> None:
    """A database of many pages of which only the first is left."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE agent_sessions (session_id TEXT PRIMARY KEY, updated_at TEXT)")
    connection.execute("CREATE TABLE agent_messages (id INTEGER PRIMARY KEY, session_id TEXT, message_data TEXT)")
    row = ("chat_1", '{"content": "%s"}' % ("x" * 500))
    connection.executemany("INSERT INTO agent_messages (session_id, message_data) VALUES (?, ?)", [row] * 100)
    connection.commit()
    connection.close()
    os.truncate(path, 4096)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        pytest.param(lambda path: path.mkdir(), sessions.ConnectionFailedError, id="a-directory"),
        pytest.param(
            lambda path: path.write_text("no database at all " * 100),
            sessions.DatabaseError,
            id="a-text-file",
        ),
        pytest.param(
            lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(8000)),
            sessions.DatabaseError,
            id="a-damaged-header",
        ),
        pytest.param(cut_off_database, sessions.DatabaseError, id="a-cut-off-file"),
    ],
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_no_database_is_refused_and_not_overwritten(
    tmp_path: Path, make: Callable[[Path], Any], error: type[Exception], operation: Operation
) -> None:
    path = tmp_path / "chat.db"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with sessions.Session.from_url("chat_1", f"sqlite:///{path}", max_retries=0) as session:
        with pytest.raises(error) as caught:
            operation(session)
        assert_helpful(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with sessions.Session.from_url("chat_1", f"sqlite:///{tmp_path}/missing/chat.db", max_retries=0) as session:
        with pytest.raises(sessions.ConnectionFailedError, match="missing") as caught:
            session.get_items()
        assert_helpful(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_locked_file_is_given_up_in_the_end(sqlite_url: str) -> None:
    with sessions.Session.from_url("chat_1", sqlite_url, statement_timeout=0.05, max_retries=0) as session:
        session.add_items(items("a"))
        other = connect_raw(sqlite_url)
        try:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sessions.DatabaseError) as caught:
                session.add_items(items("b"))
            assert_helpful(caught.value)
            other.execute("ROLLBACK")
        finally:
            other.close()
        session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "c"]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """A function that mounts a small file system of its own, and mounts it again with other options."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder = tmp_path / "mounted"
    folder.mkdir()
    mounted = False

    def run(options: str) -> Path:
        nonlocal mounted
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted = True
        return folder

    yield run
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_loses_nothing_that_was_acknowledged(mount: Callable[..., Path]) -> None:
    folder = mount("size=512k")
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(200 * 1024))
    url = f"sqlite:///{folder}/chat.db"
    acknowledged = []
    with sessions.Session.from_url("chat_1", url, max_retries=0) as session:

        def fill() -> None:
            for number in range(1000):
                session.add_items([item(f"{number}"), {"content": "x" * 4000}])
                acknowledged.append(f"{number}")

        with pytest.raises(sessions.DatabaseError) as caught:
            fill()
        assert_helpful(caught.value)
        assert acknowledged
        assert texts(session.get_items())[::2] == acknowledged
        ballast.unlink()
        session.add_items(items("more"))
        assert texts(session.get_items())[::2] == [*acknowledged, "more"]
    assert execute_sql(url, "PRAGMA integrity_check") == [("ok",)]


def test_a_read_only_file_system_can_be_read_and_refuses_writes(mount: Callable[..., Path]) -> None:
    folder = mount("size=1m")
    url = f"sqlite:///{folder}/chat.db"
    with sessions.Session.from_url("chat_1", url) as session:
        session.add_items(items("a"))
    execute_sql(url, "PRAGMA journal_mode = DELETE")  # as a database has it that is to be read only
    before = contents(folder)
    mount("remount,ro")
    with sessions.Session.from_url("chat_1", url, max_retries=0) as session:
        for write in (lambda: session.add_items(items("b")), session.pop_item, session.clear_session):
            with pytest.raises(sessions.DatabaseError) as caught:
                write()
            assert_helpful(caught.value)
        assert texts(session.get_items()) == ["a"]
    assert contents(folder) == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_write_ahead_log_on_a_read_only_file_system_is_a_clear_error(
    mount: Callable[..., Path], operation: Operation
) -> None:
    # SQLite cannot even read there: the log's index is a file that it has to make.
    folder = mount("size=1m")
    url = f"sqlite:///{folder}/chat.db"
    with sessions.Session.from_url("chat_1", url) as session:
        session.add_items(items("a"))
    before = contents(folder)
    mount("remount,ro")
    with sessions.Session.from_url("chat_1", url, max_retries=0) as session:
        with pytest.raises((sessions.DatabaseError, sessions.ConnectionFailedError)) as caught:
            operation(session)
        assert_helpful(caught.value)
    assert contents(folder) == before


def test_a_read_only_file_refuses_writes(tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("root writes a read-only file all the same")
    path = tmp_path / "chat.db"
    with sessions.Session.from_url("chat_1", f"sqlite:///{path}") as session:
        session.add_items(items("a"))
    path.chmod(0o400)
    with sessions.Session.from_url("chat_1", f"sqlite:///{path}", max_retries=0) as session:
        assert texts(session.get_items()) == ["a"]
        with pytest.raises(sessions.DatabaseError) as caught:
            session.add_items(items("b"))
        assert_helpful(caught.value)


# --- servers that cannot be reached, or refuse


def everything_said(error: BaseException, log: pytest.LogCaptureFixture) -> str:
    return f"{error!r} {''.join(traceback.format_exception(error))} {log.text}"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        pytest.param({"password": "hunter2"}, sessions.AuthenticationError, id="wrong-password"),
        pytest.param({"password": ""}, sessions.AuthenticationError, id="empty-password"),
        pytest.param({"user": "nobody_here", "password": "hunter2"}, sessions.AuthenticationError, id="unknown-user"),
        pytest.param({"database": "no_such_chat"}, sessions.ConnectionFailedError, id="unknown-database"),
        pytest.param({"port": 1}, sessions.ConnectionFailedError, id="nobody-listens"),
    ],
)
def test_a_server_that_lets_nobody_in_is_not_quoted_with_the_password(
    server_url: str, change: Any, error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG),
        sessions.Session.from_url("chat_1", with_parts(server_url, **change), max_retries=0) as session,
    ):
        with pytest.raises(error) as caught:
            session.get_items()
        assert_helpful(caught.value)
        assert isinstance(caught.value, ConnectionError)
        secret = "hunter2" if "password" in change else "p@ss/w:rd"
        assert secret not in everything_said(caught.value, caplog)


def test_a_wrong_password_is_not_tried_again(server_url: str) -> None:
    asked = []

    def password() -> str:
        asked.append(1)
        return "hunter2"

    url = without_password(server_url)
    with (
        sessions.Session.from_url("chat_1", url, password=password, retry_delay=0.001) as session,
        pytest.raises(sessions.AuthenticationError),
    ):
        session.get_items()
    assert len(asked) == 1


def without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    userinfo, _, rest = rest.rpartition("@")
    return f"{scheme}://{userinfo.partition(':')[0]}@{rest}"


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_refused_connection_is_tried_again_as_often_as_asked(dialect: str, retries: int) -> None:
    asked = []

    def password() -> str:
        asked.append(1)
        return "hunter2"

    with sessions.connect(
        f"{dialect}://app@127.0.0.1:1/chat", password=password, max_retries=retries, retry_delay=0
    ) as backend:
        with pytest.raises(sessions.ConnectionFailedError) as caught:
            backend.session("chat_1").get_items()
        assert_helpful(caught.value)
    assert len(asked) == retries + 1


def test_a_password_may_come_from_a_callable(server_url: str) -> None:
    from urllib.parse import unquote, urlsplit

    right = unquote(urlsplit(server_url).password or "")
    with sessions.Session.from_url("chat_1", without_password(server_url), password=lambda: right) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
@pytest.mark.parametrize("bad", [None, 5, b"hunter2"], ids=["None", "int", "bytes"])
def test_a_callable_that_gives_no_password_is_refused(dialect: str, bad: Any) -> None:
    with sessions.connect(f"{dialect}://app@127.0.0.1:1/chat", password=lambda: bad, max_retries=0) as backend:
        with pytest.raises(ConfigurationError) as caught:
            backend.session("chat_1").get_items()
        assert_helpful(caught.value)


def test_a_read_only_server_can_be_read_and_refuses_writes(postgresql_url: str) -> None:
    # PostgreSQL alone lets a connection ask for it; MySQL's switch is for the whole server.
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    read_only = with_parts(postgresql_url, query="options=-c%20default_transaction_read_only%3Don")
    with sessions.Session.from_url("chat_1", read_only, max_retries=0) as session:
        for write in (lambda: session.add_items(items("b")), session.pop_item, session.clear_session):
            with pytest.raises(sessions.DatabaseError) as caught:
                write()
            assert_helpful(caught.value)
        assert texts(session.get_items()) == ["a"]


@pytest.mark.slow
def test_an_item_beyond_the_servers_packet_limit_is_refused(mariadb_url: str) -> None:
    # MariaDB's default limit is 16 MiB, which a test can exceed; the others' is larger.
    with sessions.Session.from_url("chat_1", mariadb_url, retry_delay=0) as session:
        session.add_items(items("a"))
        with pytest.raises(sessions.DatabaseError) as caught:
            session.add_items([item("b"), {"content": "x" * (17 << 20)}])
        assert_helpful(caught.value)
        assert "max_allowed_packet" in str(caught.value)
        assert len(stored_texts(mariadb_url)) == 1
        session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "c"]


# --- drivers that are not installed

WITHOUT_A_DRIVER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("psycopg", "pymysql"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import sessions
try:
    sessions.connect(sys.argv[1]).close()
except sessions.DriverNotInstalledError as exc:
    assert isinstance(exc, ImportError)
    print(exc)
else:
    print("worked")
"""


def said_without_a_driver(url: str) -> str:
    command = [sys.executable, "-W", "error", "-c", WITHOUT_A_DRIVER, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("address", "extra"),
    [
        ("postgresql://app:hunter2@h/c", "agent-sql-sessions[postgresql]"),
        ("postgres+asyncpg://app:hunter2@h/c", "agent-sql-sessions[postgresql]"),
        ("mysql://app:hunter2@h/c", "agent-sql-sessions[mysql]"),
        ("mariadb+aiomysql://app:hunter2@h/c", "agent-sql-sessions[mysql]"),
    ],
)
def test_a_missing_driver_is_named_with_its_extra(address: str, extra: str) -> None:
    said = said_without_a_driver(address)
    assert extra in said
    assert "pip install" in said
    assert "; " in said
    assert PASSWORD not in said


@pytest.mark.parametrize("address", ["sqlite::memory:", "memory:"])
def test_the_embedded_backends_need_no_driver(address: str) -> None:
    assert said_without_a_driver(address) == "worked"


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
        "DriverNotInstalledError": {"ImportError"},
        "ConnectionFailedError": {"ConnectionError"},
        "TLSError": {"ConnectionError"},
        "AuthenticationError": {"ConnectionError"},
        "SchemaError": set(),
        "InvalidItemError": {"ValueError"},
        "ConflictError": set(),
        "ClosedError": {"RuntimeError"},
        "OutcomeUnknownError": set(),
        "DatabaseError": set(),
    }


BUILTINS = {"ValueError", "ImportError", "ConnectionError", "RuntimeError"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_a_sessions_error_and_can_be_pickled(error: type[Exception]) -> None:
    original = error("what is wrong; what to do")
    copy = pickle.loads(pickle.dumps(original))  # noqa: S301 -- our own
    assert isinstance(copy, sessions.SessionsError)
    assert type(copy) is error
    assert str(copy) == "what is wrong; what to do"
