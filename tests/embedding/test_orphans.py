"""A statement whose connection was lost while it waited for a lock is not executed in addition to its repetition.

PostgreSQL alone lets such a statement go on behind a pooler, or as a role that is not the one of the login.
"""

import contextlib
import threading
from collections.abc import Iterator

import pytest

import sessions
from embedding.test_rights import TABLES, grants, role_of
from support.proxy import Proxy
from support.rivals import eventually, waiting
from support.samples import items, texts
from support.servers import connect_raw, execute_sql, with_parts

# When a connection has last asked whether the other one's statement has ended.
_ASKED = (
    r"SELECT query_start FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%make\_interval%'"
)


@pytest.fixture(params=["direct", "another role", "pooler"])
def writers_url(request: pytest.FixtureRequest, postgresql_url: str) -> Iterator[str]:
    with sessions.Session.from_url("chat_1", postgresql_url) as session:
        session.add_items(items("a"))
    if request.param == "pooler":
        host, port = request.getfixturevalue("pgbouncer")
        yield with_parts(postgresql_url, host=host, port=port)
    elif request.param == "another role":
        with role_of(postgresql_url, *grants(postgresql_url, *TABLES)) as owner, role_of(postgresql_url) as url:
            names = [each.partition("//")[2].partition(":")[0] for each in (owner, url)]
            execute_sql(postgresql_url, f"GRANT {names[0]} TO {names[1]}")
            execute_sql(postgresql_url, f"ALTER ROLE {names[1]} SET role = '{names[0]}'")
            yield url
    else:
        yield postgresql_url


@pytest.mark.parametrize("at_position", [False, True])
def test_a_statement_that_outlives_its_connection_is_waited_for(
    request: pytest.FixtureRequest, writers_url: str, postgresql_url: str, at_position: bool
) -> None:
    asked: set[object] = set()

    def settles() -> bool:
        """Whether the repetition waits: for the other one's end, or behind it for the lock."""
        asked.update(execute_sql(postgresql_url, _ASKED))
        return len(asked) > 2 or waiting(postgresql_url) > 1

    with (
        Proxy(writers_url) as proxy,
        sessions.Session.from_url("chat_1", proxy.url, create_tables=False, retry_delay=0.001) as session,
        contextlib.closing(connect_raw(postgresql_url)) as other,
    ):
        position = session.position()
        writer = threading.Thread(
            target=session.add_items, args=(items("b", "c"),), kwargs={"if_position": position if at_position else None}
        )
        with other.transaction():
            other.execute("LOCK TABLE agent_messages IN ACCESS EXCLUSIVE MODE")
            writer.start()
            assert eventually(lambda: waiting(postgresql_url) == 1)
            proxy.drop()
            assert eventually(settles)
        writer.join()
        assert eventually(lambda: waiting(postgresql_url) == 0)
        assert texts(session.get_items()) == ["a", "b", "c"]
