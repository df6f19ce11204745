"""Group replication of three MySQL servers, with one primary."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

import sessions
from cluster.clusters import Cluster
from cluster.routes import ROUTES, UrlBy, any_can_write
from cluster.trials import Outage, Trials
from sessions import ConnectionFailedError, Session
from support.claims import refused
from support.rivals import connection_of
from support.samples import items, texts
from support.servers import execute_sql, with_parts

pytestmark = [pytest.mark.mysql, pytest.mark.slow]


@pytest.fixture
def url(one_primary: Cluster) -> Iterator[str]:
    """All members, the primary not the first."""
    with one_primary.database() as name:
        yield one_primary.url(name, first=_primary(one_primary) - 2)


def _primary(cluster: Cluster) -> int:
    [primary] = [
        number
        for number, node in enumerate(cluster.nodes)
        if not execute_sql(node.url, "SELECT @@super_read_only")[0][0]
    ]
    return primary


def test_the_primary_is_found(url: str) -> None:
    with sessions.connect(url, max_retries=0) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
        assert repr(backend).endswith("(group replication of 3, statements in one packet)>")


@pytest.mark.parametrize(
    ("wanted", "read_only"), [("primary", 0), ("standby", 1), ("read-only", 1), ("prefer-standby", 1)]
)
def test_a_url_says_whether_a_primary_is_wanted(url: str, wanted: str, read_only: int) -> None:
    with (
        sessions.connect(f"{url}?target_session_attrs={wanted}") as backend,
        connection_of(backend) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT @@super_read_only")
        assert cursor.fetchall() == ((read_only,),)


@pytest.mark.parametrize(
    ("switch", "reason"), [("ON", "it is read-only"), ("OFF", "it is not in its group")], ids=["read-only", "writable"]
)
def test_a_member_that_has_left_its_group_is_not_written_to(
    one_primary: Cluster, url: str, switch: str, reason: str
) -> None:
    stopped = one_primary.nodes[_primary(one_primary) - 1].url
    execute_sql(stopped, "STOP GROUP_REPLICATION")
    try:
        for variable in ("super_read_only", "read_only"):
            execute_sql(stopped, f"SET GLOBAL {variable} = {switch}")
        with Session.from_url("chat_1", url, max_retries=0) as session:
            session.add_items(items("a"))
        alone = with_parts(stopped, database="mysql", query="target_session_attrs=read-write")
        with (
            Session.from_url("chat_1", alone, max_retries=0) as session,
            refused(ConnectionFailedError, match=reason),
        ):
            session.get_items()
    finally:
        execute_sql(stopped, "START GROUP_REPLICATION")
        one_primary.wait_for(3)


@pytest.mark.parametrize("event", ["killed", "changed"])
@pytest.mark.parametrize("way", ROUTES)
def test_a_primary_that_goes_loses_nothing(
    one_primary: Cluster, trials: Callable[[str], Trials], rounds: int, url_by: UrlBy, way: str, event: str
) -> None:
    trial = trials(f"group of one primary, which is {event}, {way}")
    with (
        one_primary.database() as database,
        sessions.connect(url := url_by(way, one_primary.nodes, database)) as backend,
    ):
        backend.session("chat_1").position()
        for _ in range(rounds):
            number = _primary(one_primary)
            act: Callable[[], object]
            mend: Callable[[], object]
            if event == "killed":
                victim = one_primary.nodes[number]
                act, mend = victim.kill, partial(one_primary.bring_back, victim)
            else:
                act = partial(_make_primary, one_primary.nodes[number - 1].url)
                mend = partial(one_primary.wait_for, 3)
            trial.run(backend, partial(Outage, partial(any_can_write, url), act), mend)


def _make_primary(url: str) -> None:
    [(uuid,)] = execute_sql(url, "SELECT @@server_uuid")
    execute_sql(url, f"SELECT group_replication_set_as_primary('{uuid}')")
