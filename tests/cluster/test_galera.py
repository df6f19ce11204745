"""A Galera cluster of three nodes, written to on all of them."""

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import sessions
from cluster.clusters import Cluster, backends_of, everywhere
from cluster.routes import UrlBy, any_can_write
from cluster.trials import Outage, Trials
from sessions import ConnectionFailedError, Session
from support.claims import refused
from support.rivals import connection_of, eventually
from support.samples import assert_contiguous_and_ordered, batch, in_threads, items, texts
from support.servers import execute_sql, with_parts

pytestmark = [pytest.mark.mariadb, pytest.mark.slow]


@pytest.fixture
def database(galera: Cluster) -> Iterator[str]:
    with galera.database() as name:
        yield name


@pytest.fixture
def backends(galera: Cluster, database: str) -> Iterator[list[sessions.Backend]]:
    with backends_of(galera, database) as backends:
        backends[0].session("chat_1").position()
        yield backends


def keep_whole_seconds(url: str) -> None:
    for column in ("created_at", "updated_at"):
        execute_sql(url, f"ALTER TABLE agent_sessions MODIFY {column} TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP")


@pytest.mark.parametrize("seconds", ["microseconds", "whole seconds"])
def test_writers_on_every_node_lose_double_and_split_nothing_while_one_is_killed(
    galera: Cluster,
    database: str,
    backends: list[sessions.Backend],
    rng: random.Random,
    trials: Callable[[str], Trials],
    rounds: int,
    seconds: str,
) -> None:
    if seconds == "whole seconds":
        keep_whole_seconds(with_parts(galera.nodes[0].url, database=database))
    trial = trials("Galera, a node is killed, several hosts")
    for _ in range(rounds):
        kill_a_node(galera, galera.url(database), everywhere(backends), rng, trial)


def test_writers_behind_a_balancer_lose_double_and_split_nothing_while_a_node_is_killed(
    galera: Cluster,
    database: str,
    rng: random.Random,
    trials: Callable[[str], Trials],
    rounds: int,
    url_by: UrlBy,
) -> None:
    trial = trials("Galera, a node is killed, HAProxy")
    with sessions.connect(url := url_by("haproxy", galera.nodes, database)) as backend:
        backend.session("chat_1").position()
        for _ in range(rounds):
            kill_a_node(galera, url, backend, rng, trial)


def kill_a_node(galera: Cluster, url: str, backend: sessions.Backend, rng: random.Random, trial: Trials) -> None:
    victim = galera.nodes[rng.choice((1, 2))]
    trial.run(
        backend, lambda: Outage(partial(any_can_write, url), victim.kill), lambda: galera.bring_back(victim), batches=40
    )


def test_what_copies_and_removes_sees_whole_batches(backends: list[sessions.Backend]) -> None:
    names = [f"w{number}" for number in range(4)]

    def work(number: int) -> None:
        session = backends[number % 3].session("chat_1")
        if number < len(names):
            for turn in range(40):
                session.add_items(batch(names[number], turn, 3))
        elif number == len(names):
            for turn in range(20):
                session.fork(f"copy_{turn}")
        else:
            for turn in range(20):
                victim = backends[turn % 3].session("chat_2")
                victim.add_items(items("a", "b"))
                victim.clear_session()
                backends[(turn + 1) % 3].session("chat_2").add_items(items("c", "d"))
                assert backends[turn % 3].delete_sessions(["chat_2"]) == 1

    in_threads(len(names) + 2, work)
    assert_contiguous_and_ordered(backends[1].session("chat_1").get_items(), names, batches=40, size=3)
    for turn in range(20):
        copy = backends[turn % 3].session(f"copy_{turn}").get_items()
        assert [item["part"] for item in copy] == [0, 1, 2] * (len(copy) // 3)
    assert backends[0].session("chat_2").get_items() == []


def test_what_one_node_has_acknowledged_is_read_on_another(backends: list[sessions.Backend]) -> None:
    one, other = backends[0].session("chat_1"), backends[1].session("chat_1")
    for number in range(200):
        one.add_items(items(str(number)))
        assert texts(other.get_items(limit=1)) == [str(number)]
        other.add_items(items("more"), if_position=one.position())


def test_a_position_holds_when_a_node_has_gone(galera: Cluster, backends: list[sessions.Backend]) -> None:
    # Ids then have another step, on connections that are open too.
    session = backends[0].session("chat_1")
    session.add_items(items("a", "b"))
    galera.nodes[2].kill()
    try:
        assert eventually(lambda: _size(galera) == 2)
        # What a handle remembers, and the SDK's adapter compares.
        position = session._history.add(items("c", "d", "e"))
        assert position == session.position()
    finally:
        galera.bring_back(galera.nodes[2])


def test_ids_that_two_nodes_took_at_once_are_taken_anew(
    galera: Cluster, database: str, backends: list[sessions.Backend]
) -> None:
    # As two may for a moment when another node comes or goes.
    url = with_parts(galera.nodes[0].url, database=database)
    [(until,)] = execute_sql(url, "SELECT CAST(SYSDATE(6) + INTERVAL 1 SECOND AS CHAR)")
    execute_sql(
        url,
        f"CREATE TRIGGER taken BEFORE INSERT ON agent_messages FOR EACH ROW IF SYSDATE(6) < '{until}' THEN "
        "SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1062; END IF",
    )
    backends[0].session("chat_1").add_items(items("a"))
    assert texts(backends[1].session("chat_1").get_items()) == ["a"]


def _size(cluster: Cluster) -> int:
    return int(execute_sql(cluster.nodes[0].url, "SHOW STATUS LIKE 'wsrep_cluster_size'")[0][1])


@contextlib.contextmanager
def isolated(cluster: Cluster, number: int) -> Iterator[str]:
    """Let a node look for its cluster in the wrong place; its URL."""
    url = cluster.nodes[number].url
    [(address,)] = execute_sql(url, "SELECT @@wsrep_cluster_address")
    # It is answered when the node gives up looking.
    thread = threading.Thread(
        target=execute_sql, args=(url, "SET GLOBAL wsrep_cluster_address = 'gcomm://127.0.0.1:1'")
    )
    thread.start()
    try:
        assert eventually(lambda: execute_sql(url, "SHOW STATUS LIKE 'wsrep_ready'")[0][1] == "OFF")
        yield url
    finally:
        thread.join()
        execute_sql(url, f"SET GLOBAL wsrep_cluster_address = '{address}'")
        cluster.wait_for(len(cluster.nodes))


def test_a_node_outside_the_primary_component_is_left(
    galera: Cluster, database: str, backends: list[sessions.Backend]
) -> None:
    session = backends[2].session("chat_1")
    session.add_items(items("a"))  # on a connection to the node that is cut off next
    with isolated(galera, 2) as url:
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]
        with (
            Session.from_url("chat_1", with_parts(url, database=database), max_retries=0) as alone,
            refused(ConnectionFailedError, match="primary component"),
        ):
            alone.get_items()


def test_the_cluster_and_the_form_are_said(
    galera: Cluster, database: str, backends: list[sessions.Backend], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "sessions"), sessions.connect(galera.url(database)) as backend:
        backend.session("chat_1").position()
        assert repr(backend).endswith("(Galera of 3, compound statements)>")
        assert "Galera of 3, compound statements; Synced" in [check.found for check in backend.check()]
    assert "Galera of 3, compound statements" in caplog.text


def test_connections_are_spread_where_that_is_asked_for(galera: Cluster, database: str) -> None:
    url = galera.url(database, query="?load_balance_hosts=random")
    with sessions.connect(url, max_idle=0) as backend:
        names = set()
        for _ in range(40):
            with connection_of(backend) as connection:
                names.add(connection.server.name)
        assert len(names) == 3
