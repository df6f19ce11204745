"""Clusters in containers: started once for all tests of a file, left complete by each.

SESSIONS_TEST_CLUSTER_ROUNDS=N lets N things happen where a test lets one happen otherwise.
"""

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from cluster import clusters, postgresql
from cluster.clusters import Cluster, Start, network_of
from cluster.postgresql import Pair
from cluster.routes import route
from cluster.trials import Trials
from faults.oracle import Figures
from support.servers import Server, ServerUnavailableError

_SEED = os.environ.get("SESSIONS_TEST_FAULT_SEED") or str(random.SystemRandom().randrange(10**9))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The choices of one test."""
    print(f"SESSIONS_TEST_FAULT_SEED={_SEED}")
    return random.Random(f"{_SEED} {request.node.name}")


@pytest.fixture(scope="session")
def rounds() -> int:
    """How often something is to happen to a cluster in a test."""
    return int(os.environ.get("SESSIONS_TEST_CLUSTER_ROUNDS", "1"))


@pytest.fixture(scope="session")
def figures(sections: dict[str, list[str]]) -> Iterator[Figures]:
    """What the writers did, for the summary."""
    figures = Figures()
    yield figures
    sections[f"clusters (SESSIONS_TEST_FAULT_SEED={_SEED})"] = list(figures.lines())


@pytest.fixture(scope="module")
def galera(start_server: Start) -> Iterator[Cluster]:
    with network_of(start_server, "mariadb") as network, clusters.galera(start_server, network) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def one_primary(start_server: Start) -> Iterator[Cluster]:
    with (
        network_of(start_server, "mysql") as network,
        clusters.group(start_server, network, several_primaries=False) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def several_primaries(start_server: Start) -> Iterator[Cluster]:
    with (
        network_of(start_server, "mysql") as network,
        clusters.group(start_server, network, several_primaries=True) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def postgresql_pair(start_server: Start) -> Iterator[Pair]:
    with network_of(start_server, "postgresql") as network, postgresql.pair(start_server, network) as pair:
        yield pair


@pytest.fixture(scope="module")
def postgresql_ports(
    postgresql_pair: Pair, tmp_path_factory: pytest.TempPathFactory, sections: dict[str, list[str]]
) -> Iterator[Callable[[str], list[int]]]:
    """A function from "hosts", "haproxy" or "pgbouncer" to the ports that lead to the primary.

    Where there is no such proxy, even required servers are no failure.
    """
    with contextlib.ExitStack() as stack:
        made: dict[str, int] = {}

        def port_of(route: str) -> int:
            if route not in made:
                made[route] = stack.enter_context(
                    postgresql.proxy(postgresql_pair.servers, tmp_path_factory.mktemp("haproxy"))
                    if route == "haproxy"
                    else postgresql.pgbouncer(postgresql_pair.primary, port_of("haproxy"))
                )
            return made[route]

        def ports_of(route: str) -> list[int]:
            if route == "hosts":
                return postgresql_pair.ports
            try:
                return [port_of(route)]
            except ServerUnavailableError as exc:
                reason = str(exc)
            _skip(sections, reason)

        yield ports_of


@pytest.fixture
def url_by(tmp_path: Path, sections: dict[str, list[str]]) -> Iterator[Callable[[str, Sequence[Server], str], str]]:
    """A function from a route, members of a cluster and a database to a URL."""
    with contextlib.ExitStack() as stack:

        def url(name: str, nodes: Sequence[Server], database: str) -> str:
            try:
                return stack.enter_context(route(name, nodes, database, tmp_path))
            except ServerUnavailableError as exc:
                reason = str(exc)
            _skip(sections, reason)

        yield url


def _skip(sections: dict[str, list[str]], reason: str) -> NoReturn:
    sections["SKIPPED: no proxy before the servers"] = [reason]
    pytest.skip(reason)


@pytest.fixture
def trials(figures: Figures, rng: random.Random, sections: dict[str, list[str]]) -> Iterator[Callable[[str], Trials]]:
    """A function that makes Trials of a name, of which the summary tells."""
    made: list[Trials] = []

    def make(name: str) -> Trials:
        made.append(Trials(figures, rng, name))
        return made[-1]

    yield make
    sections.setdefault("gaps", []).extend(str(trial) for trial in made if trial.gaps)
