"""A primary of MySQL or MariaDB that is killed, and its semisynchronous replica in its place."""

import contextlib
import random
from collections.abc import Callable, Iterator

import pytest

import sessions
from cluster.conftest import network_of
from cluster.semisynchronous import Replicated, replicated
from faults.oracle import Figures
from faults.writers import Writers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "dialect", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mysql", "mariadb")]
)
def test_a_killed_primary_loses_nothing(start_server, dialect, rng, figures) -> None:
    with network_of(start_server, dialect) as network, replicated(start_server, network, dialect) as pair:
        with pair.database(pair.ports) as url, sessions.connect(url) as backend:
            writers = Writers(backend, "chat_1", rng)
            with writers.working():
                writers.wait_for(30)
                pair.kill()
                pair.promote()
                writers.wait_for(20)
                pair.bring_back()
                writers.wait_for(20)
            writers.judge(backend, figures, f"{dialect}, semisynchronous", "kills")
            assert writers.errors == []
