"""Connections inside proxies: those of tracing tools (OpenTelemetry, Datadog, Elastic, New Relic), and Flask's."""

import sqlite3
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest
from werkzeug.local import LocalProxy

import sessions
from embedding.application import orders, place_order, use_everything
from support.rivals import connection_of
from support.samples import in_threads, items, stored_texts, texts
from support.traced import Hidden, Traced

Connect = Callable[..., Any]

PROXIES: dict[str, Callable[[Any], Any]] = {
    "traced": Traced,
    "by two tools": lambda connection: Traced(Traced(connection)),
    "Flask's": lambda connection: LocalProxy(lambda: connection),
    "of a pool": lambda connection: SimpleNamespace(_con=SimpleNamespace(_con=Traced(connection))),
}


@pytest.mark.parametrize("proxy", PROXIES.values(), ids=PROXIES)
def test_the_connection_in_a_proxy_can_be_bound(app_url: str, connect: Connect, proxy: Callable[[Any], Any]) -> None:
    connection = connect()
    session = sessions.bind(proxy(connection)).session("chat_1")
    use_everything(session)
    place_order(connection, 1)
    connection.commit()
    assert (orders(app_url), len(stored_texts(app_url))) == ([1], 1)
    session.add_items(items("undone"))
    connection.rollback()
    assert len(stored_texts(app_url)) == 1


@pytest.mark.parametrize("proxy", PROXIES.values(), ids=PROXIES)
def test_a_pool_may_lend_connections_in_proxies(connect: Connect, proxy: Callable[[Any], Any]) -> None:
    lent = proxy(connect())
    use_everything(sessions.connect(pool=SimpleNamespace(connection=lambda: nullcontext(lent))).session("chat_1"))


def test_the_proxies_of_one_connection_take_turns(connect: Connect) -> None:
    connection = connect(check_same_thread=False)
    bound = [sessions.bind(Traced(connection)).session("chat_1") for _ in range(4)]
    in_threads(4, lambda number: bound[number].add_items(items("a", "b")))
    assert texts(bound[0].get_items()) == ["a", "b"] * 4


def test_a_proxy_that_hides_its_connection_is_refused(connect: Connect) -> None:
    with pytest.raises(sessions.ConfigurationError, match=r"Hidden cannot be used; pass a connection of"):
        sessions.bind(Hidden(connect()))


def test_our_own_connections_are_in_no_proxy(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of_psycopg: Any = vars(psycopg.Connection)["connect"].__func__
    in_proxies: Any = classmethod(lambda cls, **options: Traced(of_psycopg(cls, **options)))
    monkeypatch.setattr(psycopg.Connection, "connect", in_proxies)
    for module in (sqlite3, pymysql):
        connect: Any = module.connect
        monkeypatch.setattr(
            module, "connect", lambda *url, connect=connect, **options: Traced(connect(*url, **options))
        )
    with sessions.connect(sql_url) as backend:
        use_everything(backend.session("chat_1"))
        with connection_of(backend) as connection:
            assert type(connection).__module__.startswith("sessions.")
