"""The proxy's own claims, since round trips and faults are measured with it."""

import threading
import time
from typing import Any

import pytest

from support.proxy import Proxy, When
from support.servers import connect_raw, execute_sql


def _connect(proxy: Proxy) -> Any:
    return connect_raw(proxy.url)


def _run(connection: Any, statement: str) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(statement)
    return list(cursor.fetchall()) if cursor.description else []


def test_a_statement_is_one_round_trip(server_url: str) -> None:
    with Proxy(server_url) as proxy:
        connection = _connect(proxy)
        with proxy.counting() as count:
            _run(connection, "SELECT 1")
            _run(connection, "SELECT 2")
        connection.close()
    assert (count.round_trips, count.connections, proxy.connections) == (2, 0, 1)


def test_a_large_answer_is_one_round_trip(server_url: str) -> None:
    with Proxy(server_url) as proxy:
        connection = _connect(proxy)
        with proxy.counting() as count:
            ((text,),) = _run(connection, "SELECT REPEAT('x', 1000000)")
        connection.close()
    assert (len(text), count.round_trips) == (1_000_000, 1)


@pytest.mark.parametrize(("when", "stored"), [("before", []), ("half", []), ("after", [(1,)])])
@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_a_cut_tells_exactly_what_the_server_received(
    server_url: str, when: When, stored: list[tuple[int]], *, reset: bool
) -> None:
    execute_sql(server_url, "CREATE TABLE t (a INTEGER)")
    with Proxy(server_url) as proxy:
        connection = _connect(proxy)
        proxy.cut(packet=2, when=when, reset=reset)
        _run(connection, "SELECT 1")
        with pytest.raises(Exception, match=r"(?i)lost connection|closed|gone away|reset"):
            _run(connection, "INSERT INTO t VALUES (1)")
        assert proxy.was_cut
        connection.close()
        again = _connect(proxy)
        assert [tuple(row) for row in _run(again, "SELECT a FROM t")] == stored
        again.close()


def test_a_paused_proxy_forwards_nothing_until_it_resumes(server_url: str) -> None:
    with Proxy(server_url) as proxy:
        connection = _connect(proxy)
        proxy.pause()
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.extend(_run(connection, "SELECT 1")))
        asking.start()
        asking.join(timeout=0.3)
        assert asking.is_alive()
        proxy.resume()
        asking.join(timeout=10)
        connection.close()
    assert len(answers) == 1


def test_delays_are_added_each_way(server_url: str) -> None:
    with Proxy(server_url, delay_to_server=0.03, delay_to_client=0.02) as proxy:
        connection = _connect(proxy)
        start = time.perf_counter()
        _run(connection, "SELECT 1")
        elapsed = time.perf_counter() - start
        connection.close()
    assert 0.05 <= elapsed < 0.5
