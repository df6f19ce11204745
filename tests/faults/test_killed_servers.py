"""The server is killed with SIGKILL and started again while threads of this process write."""

import random
from collections.abc import Callable

import sessions
from faults.oracle import Figures
from faults.writers import Popper, Writers
from support.servers import Server


def test_writers_outlive_killed_servers(
    own_server: Server, rng: random.Random, scaled: Callable[[int, int], int], figures: Figures
) -> None:
    with own_server.database() as url, sessions.connect(url, max_retries=30, retry_delay=0.2) as backend:
        for kill in range(scaled(1, 1)):
            writers = Writers(backend, f"kill_{kill}", rng)
            popper = Popper(backend, f"stack_{kill}", 2000)
            with writers.working(), popper.working():
                writers.wait_for(rng.randint(1, 40))
                own_server.kill()
                own_server.start()
                writers.wait_for(2)
            writers.judge(backend, figures, own_server.dialect, "kills")
            figures.add(
                own_server.dialect,
                servers_killed=1,
                items_popped_across_kills=len(popper.popped),
                pops_of_unknown_outcome=popper.unknown,
            )
            popper.check()
            assert writers.errors == [], f"kill {kill}"
