"""How many faults, by which seed, and what came of them.

SESSIONS_TEST_FAULTS=N makes the runs long: N servers killed, 20 N connections cut and 5 N SQLite
writers killed for each dialect. SESSIONS_TEST_FAULT_SEED=S replays the choices of a run.
"""

import gc
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.oracle import Figures
from support import servers
from support.servers import Server

DIALECTS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in servers.DIALECTS]

_HERE = Path(__file__).parent
_SEED = os.environ.get("SESSIONS_TEST_FAULT_SEED") or str(random.SystemRandom().randrange(10**9))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # CPython: ssl.wrap_socket() leaves the socket to the collector when it finds it reset.
    harmless = pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(harmless)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Let the collector find such a socket here, not in somebody else's test."""
    yield
    gc.collect()


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The choices of one test: the same for the same seed, whichever tests run beside it."""
    print(f"SESSIONS_TEST_FAULT_SEED={_SEED}")
    return random.Random(f"{_SEED} {request.node.path.name}::{request.node.name}")


@pytest.fixture
def scaled() -> Callable[[int, int], int]:
    """A function of the short run's count and of what each N of the long one stands for."""
    times = int(os.environ.get("SESSIONS_TEST_FAULTS", "0"))

    def scale(short: int, each: int) -> int:
        return times * each if times else short

    return scale


@pytest.fixture(scope="session")
def figures(sections: dict[str, list[str]]) -> Iterator[Figures]:
    """What the faults did, for the summary."""
    figures = Figures()
    yield figures
    sections[f"faults (SESSIONS_TEST_FAULT_SEED={_SEED})"] = list(figures.lines())


@pytest.fixture(scope="session")
def own_servers(start_server: Callable[..., Any]) -> Iterator[Callable[[str], Server]]:
    """A function from a dialect to a durable server that only the fault tests use: to kill, pause and configure."""
    running: dict[str, Any] = {}
    arguments = {"postgresql": ("-c", "max_connections=24")}

    def own(dialect: str) -> Server:
        if dialect not in running:
            making = start_server(dialect, durable=True, arguments=arguments.get(dialect, ()))
            running[dialect] = (making, making.__enter__())
        server: Server = running[dialect][1]
        return server

    yield own
    for making, _ in running.values():
        making.__exit__(None, None, None)


@pytest.fixture(params=DIALECTS)
def own_server(request: pytest.FixtureRequest, own_servers: Callable[[str], Server]) -> Server:
    """Such a server of each dialect in turn; leave it running and with its settings as they were."""
    return own_servers(request.param)


@pytest.fixture(params=DIALECTS)
def any_dialect(request: pytest.FixtureRequest) -> str:
    """The name of each server dialect in turn."""
    dialect: str = request.param
    return dialect
