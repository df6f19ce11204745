"""Servers that run and admit nobody, or not everybody."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faults.writers import at_first_retry
from sessions import DriverNotInstalledError, Session
from support.claims import refused
from support.rivals import eventually
from support.samples import items, texts
from support.servers import Server, connect_raw, execute_sql, with_parts

QUICK: dict[str, Any] = {"retry_delay": 0.05, "max_retries": 20}


@pytest.mark.postgresql
def test_a_server_that_is_shutting_down_is_tried_again_until_it_is_back(own_servers: Callable[[str], Server]) -> None:
    server = own_servers("postgresql")
    with server.database() as url:
        with Session.from_url("chat_1", url) as session:
            session.add_items(items("a"))
        # A "smart" shutdown waits for this one, and refuses the others.
        last = connect_raw(url)
        container = server.container.get_wrapped_container()

        def come_back() -> None:
            last.close()
            container.wait(timeout=60)
            server.start()

        with contextlib.closing(last):
            container.kill(signal="SIGTERM")
            assert eventually(lambda: "shutting down" in refusal_of(url))
            with Session.from_url("chat_1", url, **QUICK) as session, at_first_retry(come_back) as retries:
                session.add_items(items("b"))
        assert retries.count >= 1
        with Session.from_url("chat_1", url) as session:
            assert texts(session.get_items()) == ["a", "b"]


def refusal_of(url: str) -> str:
    try:
        connect_raw(url).close()
    except Exception as exc:
        return str(exc)
    return ""


@pytest.fixture
def ed25519(start_server: Callable[..., Any]) -> Iterator[Server]:
    with start_server("mariadb", arguments=("--plugin-load-add=auth_ed25519",)) as server:
        yield server


@pytest.mark.mariadb
def test_the_package_that_ed25519_needs_is_named(ed25519: Server) -> None:
    """The extra does not bring it."""
    with ed25519.database() as url:
        execute_sql(url, "CREATE USER modern IDENTIFIED VIA ed25519 USING PASSWORD('x')")
        execute_sql(url, f"GRANT ALL ON {url.rpartition('/')[2]}.* TO modern")
        session = Session.from_url("chat_1", with_parts(url, user="modern", password="x"))
        with session, refused(DriverNotInstalledError, match=r"PyMySQL\[ed25519\]"):
            session.get_items()
