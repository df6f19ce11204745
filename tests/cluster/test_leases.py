"""Leases where every node is written to: what one node lets through, the others have not given to somebody else."""

import contextlib
from collections.abc import Iterator

import pytest

import sessions
from cluster.clusters import Cluster
from sessions import LeaseLostError, Session
from support.samples import in_threads, items, texts
from support.servers import with_parts

pytestmark = pytest.mark.slow

ROUNDS = 25


@contextlib.contextmanager
def behind(cluster: Cluster) -> Iterator[list[sessions.Backend]]:
    """A backend at each node, none of which waits for what the others have acknowledged."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(cluster.database())
        urls = [with_parts(node.url, database=database) for node in cluster.nodes]
        backends = [stack.enter_context(sessions.connect(url, causal_reads=False)) for url in urls]
        with sessions.connect(urls[0]) as owner, owner.session("chat_1").exclusive():
            owner.session("chat_1").add_items(items("made"))
        for backend in backends:
            backend.session("chat_1").add_items(items("seen"))
        yield backends


def who_was_overtaken_is_refused(backends: list[sessions.Backend]) -> None:
    first, second = backends[0].session("chat_1"), backends[1].session("chat_1")
    for number in range(ROUNDS):
        with contextlib.suppress(LeaseLostError), first.exclusive(timeout=60), taken_over(first, second):
            second.add_items(items(f"second {number}"))
            with pytest.raises(LeaseLostError):
                first.add_items(items(f"first {number}"))
    history = texts(backends[2].session("chat_1").get_items())
    assert not [text for text in history if text.startswith("first")]


def taken_over(first: Session, second: Session) -> contextlib.AbstractContextManager[None]:
    """Let the second have the lease of the first, by way of its own node, as where it has expired."""
    lease = first._history._lease()
    assert lease is not None
    while not second._history.store.release_lease(lease):
        pass
    return second.exclusive(timeout=60)


def nobody_writes_in_between(backends: list[sessions.Backend]) -> None:
    def count_on(number: int) -> None:
        session = backends[number % len(backends)].session("chat_2")
        for _ in range(3):
            with session.exclusive(timeout=120):
                session.add_items(items(str(number)), if_position=session.position())

    in_threads(6, count_on)
    assert len(backends[0].session("chat_2").get_items()) == 18


@pytest.mark.mariadb
def test_on_galera_who_was_overtaken_on_another_node_is_refused(galera: Cluster) -> None:
    with behind(galera) as backends:
        who_was_overtaken_is_refused(backends)


@pytest.mark.mysql
def test_with_several_primaries_who_was_overtaken_on_another_one_is_refused(several_primaries: Cluster) -> None:
    with behind(several_primaries) as backends:
        who_was_overtaken_is_refused(backends)


@pytest.mark.mariadb
def test_on_galera_runs_on_different_nodes_follow_one_another(galera: Cluster) -> None:
    with galera.database() as database, contextlib.ExitStack() as stack:
        urls = [with_parts(node.url, database=database) for node in galera.nodes]
        backends = [stack.enter_context(sessions.connect(url)) for url in urls]
        backends[0].session("chat_2").position()
        nobody_writes_in_between(backends)
