"""Databases with a table of the application, the application's own connections to them, and a pooler."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from embedding.application import connected, prepare
from embedding.pooler import pooler
from support.servers import Server, ServerUnavailableError


@pytest.fixture
def app_url(sql_url: str) -> str:
    """A database of each kind with the application's table, and ours, empty."""
    prepare(sql_url)
    return sql_url


@pytest.fixture
def connect(app_url: str) -> Iterator[Callable[..., Any]]:
    """A function that opens connections of the application, closed at the end."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(connected(app_url, **options))


@pytest.fixture
def connection(connect: Callable[..., Any]) -> Any:
    """One, as every driver opens it: not in autocommit mode."""
    return connect()


@pytest.fixture(scope="module")
def start_pgbouncer(
    postgresql_server: Server, sections: dict[str, list[str]]
) -> Iterator[Callable[..., tuple[str, int]]]:
    """A function from settings to the host and port of a PgBouncer in transaction mode.

    Where there is none, even required servers are no failure.
    """
    with ExitStack() as stack:

        def start(**settings: str) -> tuple[str, int]:
            reason = ""
            try:
                return stack.enter_context(pooler(postgresql_server, **settings))
            except ServerUnavailableError as exc:
                reason = str(exc)
            sections["SKIPPED: no PgBouncer"] = [reason]
            pytest.skip(reason)

        yield start


@pytest.fixture(scope="module")
def pgbouncer(start_pgbouncer: Callable[..., tuple[str, int]]) -> tuple[str, int]:
    """Host and port of a PgBouncer in transaction mode."""
    return start_pgbouncer()
