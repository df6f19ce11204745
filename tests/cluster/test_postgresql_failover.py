"""A PostgreSQL primary that is killed or stopped, and its synchronous standby in its place, behind what stands before
them.
"""

import random
import time
from collections.abc import Callable
from functools import partial

import pytest

import sessions
from cluster.postgresql import Pair, can_write
from cluster.trials import Outage, Trials

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

# How long whoever promotes takes to notice that the primary is gone.
_NOTICED_AFTER = (1.0, 4.0)


@pytest.mark.parametrize("event", ["kill", "switchover"])
@pytest.mark.parametrize("route", ["hosts", "haproxy", "pgbouncer"])
def test_a_standby_in_its_primarys_place_loses_doubles_and_splits_nothing(
    postgresql_pair: Pair,
    postgresql_ports: Callable[[str], list[int]],
    trials: Callable[[str], Trials],
    rounds: int,
    rng: random.Random,
    route: str,
    event: str,
) -> None:
    pair, ports, trial = postgresql_pair, postgresql_ports(route), trials(f"{route}, {event}")

    def fail_over() -> None:
        if event == "kill":
            pair.primary.kill()
            time.sleep(rng.uniform(*_NOTICED_AFTER))
        else:
            pair.stop()
        pair.promote()

    with pair.database(ports) as url, sessions.connect(url) as backend:
        for _ in range(rounds):
            trial.run(backend, lambda: Outage(partial(can_write, url), fail_over), pair.bring_back)
