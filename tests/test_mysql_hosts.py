"""What MySQL and MariaDB say of themselves and their clusters, and how one of several hosts is chosen; for whole
clusters see tests/cluster.
"""

import contextlib
import gc
import itertools
import logging
import re
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
import pytest

import sessions
from faults.writers import at_first_retry
from sessions import ConnectionFailedError, DatabaseError, InvalidURLError, OutcomeUnknownError, Session
from sessions._dialects.mysql.cluster import Server, server_from, with_galera_status, with_members
from sessions._dialects.mysql.errors import statement_failure
from support.claims import each_mysql, refused
from support.proxy import Proxy
from support.rivals import connection_of, counted_by_mysql
from support.samples import items, texts
from support.servers import connect_raw, execute_sql, with_parts

PLAIN = [("hostname", "db1"), ("port", "3306"), ("server_id", "1"), ("read_only", "OFF"), ("super_read_only", "OFF")]
GALERA = [*PLAIN, ("wsrep_on", "ON")]
GROUP = [
    *PLAIN,
    ("group_replication_group_name", "6f0cbb8c-7ab1-11ef-9d0c-0242ac120002"),
    ("group_replication_single_primary_mode", "OFF"),
    ("group_replication_enforce_update_everywhere_checks", "ON"),
]


# --- what a server says


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        pytest.param(PLAIN, Server("db1:3306:1"), id="alone"),
        pytest.param([*PLAIN, ("wsrep_on", "OFF")], Server("db1:3306:1"), id="MariaDB alone"),
        pytest.param(GALERA, Server("db1:3306:1", "Galera"), id="Galera"),
        pytest.param(
            [*GALERA, ("version", "11.8.9-MariaDB-log")],
            Server("db1:3306:1", "Galera", is_mariadb=True),
            id="Galera of MariaDB",
        ),
        pytest.param([("read_only", "ON")], Server("::", read_only=True), id="a replica"),
        pytest.param([("read_only", "NO_LOCK_NO_ADMIN")], Server("::", read_only=True), id="a replica of MariaDB 12"),
        pytest.param([("super_read_only", "ON")], Server("::", read_only=True), id="a secondary"),
        pytest.param(
            GROUP, Server("db1:3306:1", "group replication", several_write=True, refuses_cascades=True), id="primaries"
        ),
        pytest.param(
            [*GROUP, ("group_replication_single_primary_mode", "ON")],
            Server("db1:3306:1", "group replication", refuses_cascades=True),
            id="one primary",
        ),
    ],
)
def test_a_server_is_known_by_its_variables(variables: list[tuple[str, str]], expected: Server) -> None:
    assert server_from(variables) == expected


@pytest.mark.parametrize(
    ("ready", "usable"), [("ON", True), ("OFF", False)], ids=["in the primary component", "outside it"]
)
def test_a_galera_node_that_is_not_ready_is_not_used(ready: str, usable: bool) -> None:
    status = [("wsrep_ready", ready), ("wsrep_cluster_size", "3"), ("wsrep_local_state_comment", "Synced")]
    server = with_galera_status(server_from(GALERA), status)
    assert (server.size, not server.wrong) == (3, usable)


@pytest.mark.parametrize(
    ("own", "others", "usable"),
    [
        ("ONLINE", ["ONLINE", "ONLINE"], True),
        ("ONLINE", ["ONLINE", "UNREACHABLE"], True),
        ("ONLINE", ["RECOVERING", "UNREACHABLE"], True),
        ("ONLINE", ["UNREACHABLE", "UNREACHABLE"], False),
        ("ONLINE", ["UNREACHABLE"], False),
        ("RECOVERING", ["ONLINE", "ONLINE"], False),
        ("ERROR", [], False),
    ],
)
def test_a_member_without_majority_or_in_recovery_is_not_used(own: str, others: list[str], usable: bool) -> None:
    server = with_members(server_from(GROUP), [(1, own), *((0, state) for state in others)])
    assert (server.wrong == "") is usable


def test_a_server_that_has_left_its_group_counts_as_one_alone() -> None:
    server = with_members(server_from(GROUP), [(1, "OFFLINE")])
    assert (str(server), server.several_write, server.wrong, server.has_left) == ("", False, "", True)


@pytest.mark.parametrize(
    ("errno", "error", "soon"),
    [
        (1047, ConnectionFailedError, False),
        (1213, DatabaseError, True),
        (3098, DatabaseError, False),
        (3100, DatabaseError, False),
        (3101, DatabaseError, True),
    ],
)
def test_what_a_cluster_refuses_is_tried_again_and_not_in_doubt(errno: int, error: type, soon: bool) -> None:
    failure = statement_failure(pymysql.OperationalError(errno, "refused"))
    assert (failure.error, failure.transient, failure.in_doubt) == (error, True, False)
    assert failure.is_collision is soon


@each_mysql
def test_a_server_alone_has_nothing_around_it(server_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sessions"), sessions.connect(server_url) as backend:
        backend.session("chat_1").position()
        assert "(" not in repr(backend)
        assert "cluster" not in [check.name for check in backend.check()]
    assert caplog.messages == []


# --- what a server is asked


def asked(url: str, change: Callable[[str], str], **options: Any) -> Counter[str]:
    """What the server has counted when a first operation was done, and what it is asked about itself is changed."""
    backend: Any
    with sessions.connect(url, **options) as backend:
        preparation = backend._store._attempts._lender._connector._preparation
        changed = {"about_server": change(preparation._statements["about_server"])}
        preparation._statements = {**preparation._statements, **changed}
        backend.session("chat_1").add_items(items("a"))
        assert texts(backend.session("chat_1").get_items()) == ["a"]
        return counted_by_mysql(backend)


@each_mysql
@pytest.mark.parametrize("multi_statements", [True, False])
def test_a_server_that_does_not_know_a_variable_is_asked_for_all(server_url: str, *, multi_statements: bool) -> None:
    def unheard_of(statement: str) -> str:
        return statement.replace("@@port", "@@unheard_of")

    assert asked(server_url, unheard_of, multi_statements=multi_statements)["show_variables"] == 1


@pytest.mark.mysql
@pytest.mark.parametrize(("plugin", "asked_further"), [("binlog", 1), ("group_replication", 0)])
def test_a_server_with_the_plugin_of_a_cluster_is_asked_whether_it_is_in_one(
    mysql_url: str, plugin: str, asked_further: int
) -> None:
    found = asked(mysql_url, lambda statement: statement.replace("group_replication", plugin))
    assert found["show_variables"] == asked_further


# --- several hosts


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a,b/chat?target_session_attrs=master",
        "mysql://a,b/chat?load_balance_hosts=round-robin",
        "mysql://a,,b/chat",
        "mysql://a,b/chat?unix_socket=%2Fs",
        "mysql://localhost,b/chat?unix_socket=%2Fs",
    ],
)
def test_a_url_of_several_hosts_says_what_is_meant(url: str) -> None:
    with refused(InvalidURLError):
        sessions.connect(url)


# PyMySQL leaves that socket to the collector.
@pytest.mark.filterwarnings("ignore:.*<socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("is_there", [False, True])
def test_a_unix_socket_that_nobody_is_reached_by_is_named(tmp_path: Path, is_there: bool) -> None:
    path = tmp_path / "my.sock"
    if is_there:
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(path))
    url = f"mysql://app:x@/agents?unix_socket={quote(str(path), safe='')}"
    with (
        Session.from_url("chat_1", url, max_retries=0) as session,
        refused(ConnectionFailedError, match=re.escape(f"check that the server runs and listens at {str(path)!r}")),
    ):
        session.get_items()
    gc.collect()


@each_mysql
def test_a_host_that_is_not_there_is_passed_over(server_url: str) -> None:
    before, _, host = server_url.rpartition("@")
    with Session.from_url("chat_1", f"{before}@127.0.0.1:1,{host}", max_retries=0) as session:
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]


@each_mysql
def test_the_host_that_was_good_last_is_asked_first(server_url: str) -> None:
    before, _, path = server_url.rpartition("@")
    with Proxy(server_url) as first, Proxy(server_url) as second:
        hosts = ",".join(f"127.0.0.1:{proxy.url.rpartition(':')[2].partition('/')[0]}" for proxy in (first, second))
        url = f"{before}@{hosts}/{path.partition('/')[2]}"
        with sessions.connect(url, max_idle=0, retry_delay=0.01) as backend:
            first.cut()
            backend.session("chat_1").position()
            with first.counting() as counted, second.counting() as other:
                backend.session("chat_1").position()
            assert (counted.connections, other.connections) == (0, 1)


@each_mysql
def test_an_error_names_each_host_and_what_is_wrong_with_it(server_url: str) -> None:
    before, _, host = server_url.rpartition("@")
    url = f"{before}@127.0.0.1:1,{host}?target_session_attrs=read-only"
    with (
        Session.from_url("chat_1", url, max_retries=0) as session,
        refused(ConnectionFailedError, match=r"127\.0\.0\.1:1: .*; 127\.0\.0\.1:\d+: it is not read-only"),
    ):
        session.get_items()


@each_mysql
def test_another_host_is_not_asked_after_a_wrong_password(server_url: str) -> None:
    with Proxy(server_url) as proxy:
        before, _, host = with_parts(proxy.url, password="wrong").rpartition("@")
        port = host.partition("/")[0]
        with (
            Session.from_url("chat_1", f"{before}@{port},{host}", max_retries=0) as session,
            proxy.counting() as counted,
            refused(sessions.AuthenticationError),
        ):
            session.get_items()
        assert counted.connections == 1


# --- a row that always changes, or a cluster would not notice that two wrote


def in_one_second(url: str) -> Any:
    """A connection whose clock stands still, to tables that keep whole seconds."""
    for table, column in (("agent_sessions", "updated_at"), ("agent_sessions", "created_at")):
        execute_sql(url, f"ALTER TABLE {table} MODIFY {column} TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP")
    connection = connect_raw(url)
    connection.cursor().execute("SET timestamp = UNIX_TIMESTAMP()")
    return connection


@each_mysql
@pytest.mark.parametrize("write", ["add", "pop", "add and pop"])
def test_each_write_changes_the_row_of_the_session_within_one_second_too(server_url: str, write: str) -> None:
    with sessions.connect(server_url) as backend:
        backend.session("chat_1").add_items(items(*"abcdefgh"))
    with contextlib.closing(in_one_second(server_url)) as connection:
        session = sessions.bind(connection).session("chat_1")
        seen = []
        for number in range(6):
            if "add" in write and (write == "add" or number % 2):
                session.add_items(items("x"))
            else:
                session.pop_item()
            [(moment,)] = execute_sql(server_url, "SELECT updated_at FROM agent_sessions")
            seen.append(moment)
        assert all(before != after for before, after in itertools.pairwise(seen))


@each_mysql
@pytest.mark.parametrize("writes", [1, 2, 3])
def test_what_others_wrote_within_one_second_is_not_cleared(server_url: str, writes: int) -> None:
    with (
        Proxy(server_url) as proxy,
        sessions.connect(server_url) as direct,
        sessions.connect(proxy.url, retry_delay=0.001) as behind,
    ):
        direct.session("chat_1").add_items(items("hello"))
        with contextlib.closing(in_one_second(server_url)) as connection:
            execute_sql(server_url, "UPDATE agent_sessions SET updated_at = updated_at - INTERVAL 1 HOUR")
            rival = sessions.bind(connection).session("chat_1")
            behind.session("another").position()

            def gap() -> None:
                connection.cursor().execute("SET timestamp = UNIX_TIMESTAMP(SYSDATE())")
                for number in range(writes):
                    rival.add_items(items(str(number)))

            proxy.cut()
            with at_first_retry(gap), refused(OutcomeUnknownError):
                behind.session("chat_1").clear_session()
        assert texts(direct.session("chat_1").get_items()) == ["hello", *map(str, range(writes))]


@each_mysql
def test_the_connection_of_an_application_needs_no_recognition(server_url: str) -> None:
    with sessions.connect(server_url) as backend:
        backend.session("chat_1").add_items(items("a"))
        with connection_of(backend) as ours:
            assert ours.server.name
    with contextlib.closing(connect_raw(server_url)) as connection:
        assert sessions.bind(connection).session("chat_1").pop_item() == items("a")[0]
