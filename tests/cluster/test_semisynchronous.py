"""A primary of MySQL or MariaDB that is killed, and its semisynchronous replica in its place."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

import sessions
from cluster.clusters import Start, network_of
from cluster.routes import ROUTES, UrlBy, any_can_write
from cluster.semisynchronous import Replicated, replicated
from cluster.trials import Outage, Trials

pytestmark = pytest.mark.slow


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mysql", "mariadb")]
)
def pair(request: pytest.FixtureRequest, start_server: Start) -> Iterator[Replicated]:
    with network_of(start_server, request.param) as network, replicated(start_server, network, request.param) as pair:
        yield pair


@pytest.mark.parametrize("way", ROUTES)
def test_a_replica_in_its_primarys_place_loses_doubles_and_splits_nothing(
    pair: Replicated, trials: Callable[[str], Trials], rounds: int, url_by: UrlBy, way: str
) -> None:
    trial = trials(f"{pair.primary.dialect}, semisynchronous, the primary is killed, {way}")

    def fail_over() -> None:
        pair.kill()
        pair.promote()

    with (
        pair.database() as database,
        sessions.connect(url := url_by(way, pair.nodes, database)) as backend,
    ):
        backend.session("chat_1").position()
        for _ in range(rounds):
            trial.run(backend, partial(Outage, partial(any_can_write, url), fail_over), pair.bring_back)
