"""Several tenants in one table, kept apart by policies: those of the recipe in sql/README.md."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import sessions
from embedding.application import connected, run, use_everything
from embedding.test_rights import TABLES, grants, role_of
from support.samples import items, stored_texts, texts
from support.servers import execute_sql

_PAGE = Path(__file__).parents[2] / "sql" / "README.md"
_RECIPE = _PAGE.read_text(encoding="utf-8").partition("Several tenants in one database")[2].partition("```sql\n")[2]
POLICIES = _RECIPE.partition("```")[0].strip().split("\n")
ALL_TABLES = (*TABLES, "agent_session_leases", "agent_session_seals")
SEALED: dict[str, Any] = {"integrity_key": "a key that is long enough for a test"}


@pytest.fixture
def tenants_url(postgresql_url: str) -> Iterator[str]:
    """The URL of a role that the recipe's policies bind."""
    with sessions.connect(postgresql_url, **SEALED) as owner:
        owner.check(fix=True)
    for statement in POLICIES:
        execute_sql(postgresql_url, statement)
    with role_of(postgresql_url, *grants(postgresql_url, *ALL_TABLES)) as url:
        yield url


@contextmanager
def tenants(url: str, **options: Any) -> Iterator[list[sessions.Backend]]:
    """A backend of each of two tenants, who stay what they are."""
    with ExitStack() as stack:
        settings = [f"{url}?options={quote(f'-c app.tenant={name}')}" for name in ("ann", "bob")]
        yield [stack.enter_context(sessions.connect(each, create_tables=False, **options)) for each in settings]


def test_row_level_security_keeps_tenants_apart(postgresql_url: str, tenants_url: str) -> None:
    with connected(tenants_url) as connection:
        backend = sessions.bind(connection)

        def as_tenant(tenant: str) -> None:
            run(connection, f"SET LOCAL app.tenant = '{tenant}'")

        for tenant in ("ann", "bob"):
            as_tenant(tenant)
            use_everything(backend.session(f"{tenant}:chat_1"))
            connection.commit()

        as_tenant("ann")
        assert texts(backend.session("ann:chat_1").get_items()) == ["e"]
        theirs = backend.session("bob:chat_1")
        assert theirs.get_items() == []
        assert theirs.pop_item() is None
        theirs.clear_session()
        for write in (theirs.add_items, theirs.replace_items):
            with pytest.raises(sessions.DatabaseError, match="row-level security"):
                write(items("intruder"))
        assert texts(backend.session("ann:chat_1").get_items()) == ["e"]  # the transaction goes on
        connection.commit()
        assert backend.session("ann:chat_1").get_items() == []  # SET LOCAL has ended with its transaction
    assert len(stored_texts(postgresql_url, "bob:chat_1")) == 1


def test_leases_and_seals_of_a_tenant_are_its_own(tenants_url: str) -> None:
    with tenants(tenants_url, **SEALED) as (ann, bob):
        session = ann.session("ann:chat_1")
        with session.exclusive(), connected(tenants_url) as connection:
            session.add_items(items("a"))
            run(connection, "SET app.tenant = 'bob'")
            for table in ALL_TABLES:
                assert run(connection, f"SELECT session_id FROM {table}") == []
        with pytest.raises(sessions.DatabaseError, match="row-level security"), bob.session("ann:chat_1").exclusive():
            pass
        with session.exclusive(timeout=0):
            assert texts(session.get_items()) == ["a"]
        use_everything(bob.session("bob:chat_1"))


def test_a_policy_that_admits_other_ids_than_those_of_the_check_is_a_warning(tenants_url: str) -> None:
    with tenants(tenants_url) as (ann, _):
        [found] = [check for check in ann.check() if check.name == "rights"]
        assert (found.verdict, "only some ids" in found.found) == ("warning", True)
        ann.session("ann:chat_1").add_items(items("a"))


@pytest.fixture
def owners_url(postgresql_url: str) -> Iterator[str]:
    """The URL of a role that has the messages of the sessions that it owns: the policy looks for those."""
    with sessions.connect(postgresql_url, **SEALED) as owner:
        owner.check(fix=True)
    execute_sql(postgresql_url, "ALTER TABLE agent_sessions ADD COLUMN owner text NOT NULL DEFAULT current_user")
    for table, rule in {
        "agent_sessions": "owner = current_user",
        "agent_messages": "EXISTS (SELECT FROM agent_sessions AS session WHERE session.session_id = "
        "agent_messages.session_id AND session.owner = current_user)",
    }.items():
        execute_sql(postgresql_url, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        execute_sql(postgresql_url, f"CREATE POLICY own ON {table} USING ({rule})")
    with role_of(postgresql_url, *grants(postgresql_url, *ALL_TABLES)) as url:
        yield url


def _open(stack: ExitStack, url: str, how: str) -> sessions.Backend:
    if how in ("bound", "in autocommit"):
        return sessions.bind(stack.enter_context(connected(url, autocommit=how != "bound")))
    options: dict[str, Any] = SEALED if how == "sealed" else {}
    return stack.enter_context(sessions.connect(url, create_tables=False, **options))


@pytest.mark.parametrize("how", ["own", "sealed", "bound", "in autocommit"])
def test_a_policy_that_looks_for_the_session_admits_a_new_one(postgresql_url: str, owners_url: str, how: str) -> None:
    with ExitStack() as stack:
        backend = _open(stack, owners_url, how)
        session = backend.session("chat_1")
        writes: list[Callable[[], object]] = [
            lambda: session.add_items(items("a")),
            lambda: session.add_items(items("a"), if_position=0),
            lambda: session.replace_items(items("a")),
            lambda: session.replace_items(items("a"), if_position=0),
        ]
        for write in writes:
            write()
            assert texts(session.get_items()) == ["a"]
            session.clear_session()
        with sessions.connect(postgresql_url) as owner:
            owner.session("chat_2").add_items(items("theirs"))
        with pytest.raises(sessions.DatabaseError, match="policy"):
            backend.session("chat_2").add_items(items("b"))
        use_everything(session)


def test_a_sealed_conversation_that_is_hidden_is_not_taken_for_one_that_others_write_to(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url, **SEALED) as backend:
        backend.session("chat_1").add_items(items("theirs"))
    tables = (*TABLES, "agent_session_seals")
    for table in tables:
        for statement in ("ADD COLUMN tenant text NOT NULL DEFAULT current_user", "ENABLE ROW LEVEL SECURITY"):
            execute_sql(postgresql_url, f"ALTER TABLE {table} {statement}")
        execute_sql(postgresql_url, f"CREATE POLICY own ON {table} USING (tenant = current_user)")
    with (
        role_of(postgresql_url, *grants(postgresql_url, *tables)) as url,
        sessions.connect(url, create_tables=False, retry_timeout=1.0, **SEALED) as backend,
        pytest.raises(sessions.DatabaseError, match="policy"),
    ):
        backend.session("chat_1").add_items(items("ours"))
