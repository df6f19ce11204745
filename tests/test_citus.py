"""Tables as they are distributed on Citus, in a plain PostgreSQL that refuses and fails as Citus does.

What Citus does is not run here. The tables have the key of sql/postgresql/citus.sql; what Citus does not plan over
several shards, rows that are locked and subqueries with a LIMIT that take a column, is refused by a policy with its
code; a worker that is lost is a trigger that says so in its words.
"""

import itertools
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest

import sessions
from embedding.test_rights import TABLES, grants, role_of
from sessions import OutcomeUnknownError
from support.claims import refused, use_everything
from support.rivals import lender_of, set_updated_at
from support.samples import in_threads, items, texts
from support.servers import connect_raw, execute_sql
from test_distributed_tables import SQL

DAY = timedelta(days=1)
NAMES = ("a", "b", "c", "d")
_REFUSING = """
CREATE FUNCTION is_on_one_shard(session_id text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    statement text := statement_timestamp()::text;
    before text := current_setting('test.before', TRUE);
BEGIN
    IF current_query() ~ 'AS counted' OR (
        current_query() ~ 'FOR UPDATE|left[(]'
        AND starts_with(before, statement)
        AND before <> statement || session_id
    ) THEN
        RAISE EXCEPTION 'could not run distributed query' USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM set_config('test.before', statement || session_id, FALSE);
    RETURN TRUE;
END $$
"""

# Once, on a connection that stays.
_LOSING_A_WORKER = (
    "CREATE SEQUENCE losses",
    """
    CREATE FUNCTION lose_a_worker() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF nextval('losses') = 1 THEN
            RAISE EXCEPTION 'failure on connection marked as essential: 10.0.0.2:5432' USING ERRCODE = 'XX000';
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE CONSTRAINT TRIGGER lose AFTER INSERT OR UPDATE OR DELETE ON agent_sessions {deferred}
    FOR EACH ROW EXECUTE FUNCTION lose_a_worker()
    """,
)


@pytest.fixture
def distributed(postgresql_url: str) -> str:
    """The URL of a database with the tables, which it takes for distributed ones."""
    execute_sql(
        postgresql_url,
        "CREATE FUNCTION create_distributed_table(name regclass, key text, colocate_with text DEFAULT 'default') "
        "RETURNS void LANGUAGE sql AS ''",
    )
    for statement in (SQL / "citus.sql").read_text(encoding="utf-8").split(";")[:-1]:
        execute_sql(postgresql_url, statement)
    return postgresql_url


@contextmanager
def refusing(url: str) -> Iterator[str]:
    """The URL of a user who is refused what Citus refuses."""
    execute_sql(url, _REFUSING)
    execute_sql(url, "ALTER TABLE agent_sessions ENABLE ROW LEVEL SECURITY")
    execute_sql(url, "CREATE POLICY one ON agent_sessions USING (is_on_one_shard(session_id))")
    with role_of(url, *grants(url, *TABLES)) as role:
        yield role


@pytest.fixture(params=["autocommit", "in a transaction", "without autocommit", "ours"])
def backend(request: pytest.FixtureRequest, distributed: str) -> Iterator[sessions.Backend]:
    with refusing(distributed) as url:
        if request.param == "ours":
            with sessions.connect(url) as backend:
                yield backend
            return
        with closing(connect_raw(url)) as connection:
            connection.autocommit = request.param != "without autocommit"
            if request.param == "in a transaction":
                connection.execute("BEGIN")
            yield sessions.bind(connection)
            connection.commit()


def fill(backend: sessions.Backend) -> None:
    for days, name in enumerate(NAMES):
        backend.session(name).add_items([{"role": "user", "content": name}, *items("x", "y")])
        set_updated_at(backend, name, time.time() - days * 86_400)


def test_every_operation_works_with_the_key_of_distributed_tables(distributed: str) -> None:
    with sessions.Session.from_url("chat_1", distributed) as session:
        use_everything(session)


def test_check_finds_nothing_wrong_with_the_key_of_distributed_tables(distributed: str) -> None:
    with sessions.connect(distributed) as backend:
        assert {check.verdict for check in backend.check()} <= {"ok", "skipped"}


def test_writers_at_once_are_kept_in_order_with_the_key_of_distributed_tables(distributed: str) -> None:
    with sessions.connect(distributed) as backend:

        def write(number: int) -> None:
            for _ in range(10):
                backend.session("chat_1").add_items(items(f"{number}", "x"))

        in_threads(4, write)
        stored = texts(backend.session("chat_1").get_items())
        assert len(stored) == 80
        assert set(stored[1::2]) == {"x"}


def test_a_listing_that_is_refused_over_several_shards_is_the_same(backend: sessions.Backend) -> None:
    fill(backend)
    for order, newest_first in itertools.product(("updated", "id"), (True, False)):
        options: dict[str, Any] = {"order": order, "newest_first": newest_first, "limit": 3, "count_limit": 2}
        page = backend.list_sessions(**options)
        found = page + backend.list_sessions(**options, after=page[-1])
        upwards = newest_first == (order == "updated")
        assert [info.session_id for info in found] == list(NAMES if upwards else NAMES[::-1])
        assert {info.items for info in found} == {3}
    assert [info.session_id for info in backend.list_sessions(prefix="b")] == ["b"]
    assert [info.session_id for info in backend.list_sessions(idle_since=1.5 * DAY)] == ["c", "d"]


def test_first_messages_that_are_refused_over_several_shards_are_asked_one_by_one(backend: sessions.Backend) -> None:
    fill(backend)
    assert backend.first_messages([*NAMES, "unknown"]) == {name: name for name in NAMES}


def test_conversations_that_cannot_be_locked_at_once_are_deleted(backend: sessions.Backend) -> None:
    fill(backend)
    assert backend.delete_sessions(["a", "b", "a", "unknown"]) == 2
    assert [info.session_id for info in backend.list_sessions(order="id")] == ["c", "d"]
    assert backend.session("a").get_items() == []


def test_conversations_that_cannot_be_locked_at_once_are_pruned(backend: sessions.Backend) -> None:
    fill(backend)
    older = "UPDATE agent_messages SET created_at = now() - interval '9 days' WHERE session_id <> 'd'"
    lender_of(backend).lend(lambda connection: connection.execute(older), writes=True)
    assert backend.prune(1.5 * DAY) == (1, 3)
    assert [info.session_id for info in backend.list_sessions(order="id")] == ["a", "b", "d"]


@pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["within", "at the end"])
def test_a_write_during_which_a_worker_was_lost_is_settled(distributed: str, deferred: str) -> None:
    with sessions.connect(distributed, retry_delay=0.01) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a", "b"))
        for statement in _LOSING_A_WORKER:
            execute_sql(distributed, statement.format(deferred=deferred))
        session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "b", "c"]
        execute_sql(distributed, "ALTER SEQUENCE losses RESTART")
        session.replace_items(items("a"))
        execute_sql(distributed, "ALTER SEQUENCE losses RESTART")
        with refused(OutcomeUnknownError):
            session.pop_item()
        assert texts(session.get_items()) == ["a"]
        execute_sql(distributed, "ALTER SEQUENCE losses RESTART")
        session.clear_session()
        assert session.get_items() == []
