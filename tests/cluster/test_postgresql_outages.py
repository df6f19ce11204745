"""A PostgreSQL primary that hangs, or that is cut off, and comes back as the primary that it was."""

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import sessions
from cluster.postgresql import Pair, can_write
from cluster.trials import Outage, Trials
from faults.writers import at_first_retry
from sessions import OutcomeUnknownError
from support.claims import refused
from support.proxy import Proxy
from support.rivals import eventually
from support.samples import items, texts
from support.servers import execute_sql, with_parts

pytestmark = [pytest.mark.postgresql, pytest.mark.slow]

_OUTAGE_SECONDS = 15.0
# Statements are given up within the outage, and settled behind it.
_OPTIONS: dict[str, Any] = {"statement_timeout": 4.0, "connection_timeout": 2.0}


@pytest.mark.parametrize("event", ["pause", "cut"])
@pytest.mark.parametrize("route", ["hosts", "haproxy", "pgbouncer"])
def test_a_primary_that_is_silent_for_a_while_loses_doubles_and_splits_nothing(
    postgresql_pair: Pair,
    postgresql_ports: Callable[[str], list[int]],
    trials: Callable[[str], Trials],
    rounds: int,
    route: str,
    event: str,
) -> None:
    pair, trial = postgresql_pair, trials(f"{route}, {event}")
    with contextlib.ExitStack() as stack:
        inner = [with_parts(pair.primary.url, host="127.0.0.1", port=port) for port in postgresql_ports(route)]
        proxies = [stack.enter_context(Proxy(url)) for url in inner]
        url = stack.enter_context(pair.database([proxy.port for proxy in proxies]))
        backend = stack.enter_context(sessions.connect(url, **_OPTIONS))

        def fall_silent() -> None:
            if event == "pause":
                pair.primary.pause()
            else:
                for proxy in proxies:
                    proxy.pause()
            time.sleep(_OUTAGE_SECONDS)
            if event == "pause":
                pair.primary.unpause()
            else:
                for proxy in proxies:
                    proxy.resume()

        for _ in range(rounds):
            trial.run(backend, lambda: Outage(partial(can_write, url), fall_silent), lambda: None)


@pytest.mark.parametrize("hidden", [False, True], ids=["as it is", "with warnings hidden"])
def test_what_no_standby_has_is_not_acknowledged(
    postgresql_pair: Pair, postgresql_ports: Callable[[str], list[int]], hidden: bool
) -> None:
    # PostgreSQL answers that it is done when it is told to stop waiting for its standby.
    options = "&options=-c%20client_min_messages=error" if hidden else ""
    with (
        postgresql_pair.database(postgresql_ports("hosts")) as url,
        sessions.connect(url + options, statement_timeout=1.0, retry_timeout=2.0) as backend,
    ):
        session = backend.session("chat_1")
        session.add_items(items("a"))
        postgresql_pair.standby.pause()
        try:
            with refused(OutcomeUnknownError):
                session.add_items(items("b"))
        finally:
            postgresql_pair.standby.unpause()
        session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "b", "c"]


def test_a_write_that_waits_for_its_standby_is_acknowledged_when_that_is_back(
    postgresql_pair: Pair, postgresql_ports: Callable[[str], list[int]]
) -> None:
    with (
        postgresql_pair.database(postgresql_ports("hosts")) as url,
        sessions.connect(url, statement_timeout=1.0) as backend,
    ):
        session = backend.session("chat_1")
        session.add_items(items("a"))
        postgresql_pair.standby.pause()
        with at_first_retry(postgresql_pair.standby.unpause) as retries:
            session.add_items(items("b"))
        assert retries.count >= 1
        assert texts(session.get_items()) == ["a", "b"]


def test_a_wait_for_the_standby_that_somebody_cancels_is_no_acknowledgement(
    postgresql_pair: Pair, postgresql_ports: Callable[[str], list[int]]
) -> None:
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    with postgresql_pair.database(postgresql_ports("hosts")) as url, sessions.connect(url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        postgresql_pair.standby.pause()
        thread = threading.Thread(
            target=eventually, args=(lambda: execute_sql(postgresql_pair.primary.url, cancel) != [],)
        )
        thread.start()
        with at_first_retry(postgresql_pair.standby.unpause) as retries:
            session.add_items(items("b"))
        thread.join()
        assert retries.count >= 1
        assert texts(session.get_items()) == ["a", "b"]
