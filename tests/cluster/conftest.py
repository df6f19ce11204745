"""Clusters in containers: started once for all tests of a file, left complete by each."""

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

import pytest

from cluster import clusters
from cluster.clusters import Cluster, Start
from faults.oracle import Figures

_SEED = os.environ.get("SESSIONS_TEST_FAULT_SEED") or str(random.SystemRandom().randrange(10**9))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The choices of one test."""
    print(f"SESSIONS_TEST_FAULT_SEED={_SEED}")
    return random.Random(f"{_SEED} {request.node.name}")


@pytest.fixture(scope="session")
def figures(sections: dict[str, list[str]]) -> Iterator[Figures]:
    """What the writers did, for the summary."""
    figures = Figures()
    yield figures
    sections[f"clusters (SESSIONS_TEST_FAULT_SEED={_SEED})"] = list(figures.lines())


@contextlib.contextmanager
def network_of(start: Start, dialect: str) -> Iterator[Any]:
    try:
        from testcontainers.core.network import Network

        network = Network().create()
    except Exception:
        with start(dialect):  # says what is missing
            raise
    try:
        yield network
    finally:
        network.remove()


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
