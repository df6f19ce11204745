"""Group replication of three MySQL servers, each of them a primary."""

import random
from collections.abc import Iterator

import pytest

import sessions
from cluster.clusters import Cluster, backends_of, everywhere
from faults.oracle import Figures
from faults.writers import Writers
from sessions import DatabaseError
from support.claims import refused
from support.samples import items, texts
from support.servers import execute_sql, with_parts

pytestmark = [pytest.mark.mysql, pytest.mark.slow]


@pytest.fixture
def database(several_primaries: Cluster) -> Iterator[str]:
    with several_primaries.database() as name:
        yield name


def test_writers_on_every_member_lose_double_and_split_nothing_while_one_is_killed(
    several_primaries: Cluster, database: str, rng: random.Random, figures: Figures
) -> None:
    with backends_of(several_primaries, database) as backends:
        backends[0].session("chat_1").position()
        writers = Writers(everywhere(backends), "chat_1", rng)
        with writers.working():
            writers.wait_for(30)
            several_primaries.nodes[1].kill()
            writers.wait_for(20)
            several_primaries.bring_back(several_primaries.nodes[1])
            writers.wait_for(20)
        writers.judge(backends[0], figures, "several primaries", "kills")
        assert writers.errors == []


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
