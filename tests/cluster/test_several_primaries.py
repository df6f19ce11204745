"""Group replication of three MySQL servers, each of them a primary."""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import sessions
from cluster.clusters import Cluster, backends_of, everywhere
from cluster.routes import ROUTES, UrlBy, any_can_write
from cluster.trials import Outage, Trials
from sessions import DatabaseError
from support.claims import refused
from support.samples import items, texts
from support.servers import execute_sql, with_parts

pytestmark = [pytest.mark.mysql, pytest.mark.slow]


@pytest.fixture
def database(several_primaries: Cluster) -> Iterator[str]:
    with several_primaries.database() as name:
        yield name


@pytest.mark.parametrize("way", ROUTES)
def test_writers_on_every_member_lose_double_and_split_nothing_while_one_is_killed(
    several_primaries: Cluster,
    database: str,
    trials: Callable[[str], Trials],
    rounds: int,
    url_by: UrlBy,
    way: str,
) -> None:
    trial = trials(f"group of several primaries, one is killed, {way}")
    victim = several_primaries.nodes[1]
    with contextlib.ExitStack() as stack:
        if way == "hosts":
            url = several_primaries.url(database)
            backend = everywhere(stack.enter_context(backends_of(several_primaries, database)))
        else:
            url = url_by(way, several_primaries.nodes, database)
            backend = stack.enter_context(sessions.connect(url))
        backend.session("chat_1").position()
        for _ in range(rounds):
            trial.run(
                backend,
                lambda: Outage(partial(any_can_write, url), victim.kill),
                lambda: several_primaries.bring_back(victim),
                batches=20,
            )


def test_a_foreign_key_that_cascades_is_named_at_once_and_mended(several_primaries: Cluster, database: str) -> None:
    url = with_parts(several_primaries.nodes[0].url, database=database)
    with sessions.connect(url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        assert "error" not in [check.verdict for check in backend.check()]
        execute_sql(
            url,
            "ALTER TABLE agent_messages ADD CONSTRAINT cascading FOREIGN KEY (session_id) "
            "REFERENCES agent_sessions (session_id) ON DELETE CASCADE",
        )
        with refused(DatabaseError, match="ON DELETE CASCADE"):
            session.add_items(items("b"))
        assert ("foreign key", "error") in [(check.name, check.verdict) for check in backend.check()]
        backend.check(fix=True)
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]
