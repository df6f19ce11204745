"""Which of several PostgreSQL hosts is asked, and for how long; for a whole pair of them see tests/cluster."""

import contextlib

import psycopg

import sessions
from sessions._dialects.postgresql.errors import statement_failure
from support.proxy import Proxy
from support.rivals import connection_of
from support.servers import with_parts

_READ_WRITE = "target_session_attrs=read-write"


def of_hosts(url: str, *ports: int) -> str:
    """A URL of several ports of this machine."""
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return with_parts(url, query=_READ_WRITE).replace(url.partition("@")[2].partition("/")[0], hosts, 1)


def test_a_host_that_is_silent_is_waited_for_once(postgresql_url: str) -> None:
    with Proxy(postgresql_url) as silent, Proxy(postgresql_url) as other:
        silent.pause()
        url = of_hosts(postgresql_url, silent.port, other.port)
        with sessions.connect(url, connection_timeout=4.0) as backend, contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connection_of(backend))
        assert (silent.connections, other.connections) == (1, 3)


def test_a_loss_that_the_driver_counts_as_a_second_answer_is_a_loss() -> None:
    # What psycopg makes of a server or a pooler that says goodbye to a BEGIN, and has gone before that is read.
    failure = statement_failure(psycopg.InternalError("received 2 results from command 'BEGIN'"))
    assert (failure.transient, failure.in_doubt) == (True, True)
