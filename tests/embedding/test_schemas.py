"""Schemas on PostgreSQL: of two tables with one name, those that stand beside the sessions are theirs."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

import sessions
from sessions._dialects.postgresql import prepared
from sessions._dialects.statements import load_statements
from support.claims import Loaded, refused, use_everything
from support.samples import items, texts
from support.servers import execute_sql

KEY = os.urandom(32)


def made_in(schema: str) -> Mapping[str, str]:
    return load_statements("postgresql", f"{schema}.agent_sessions", f"{schema}.agent_messages", quote='"')


@pytest.fixture
def tenant_url(postgresql_url: str) -> str:
    """A URL by which a tenant's pair of tables is found, and behind it the public tables, all of which are in use."""
    with sessions.connect(postgresql_url, integrity_key=KEY) as backend, backend.session("chat_1").exclusive():
        backend.session("chat_1").add_items(items("public"))
    execute_sql(postgresql_url, "CREATE SCHEMA tenant")
    for name in ("create_sessions", "create_messages"):
        execute_sql(postgresql_url, made_in("tenant")[name])
    return f"{postgresql_url}?options={quote('-c search_path=tenant,public')}"


def test_seals_and_leases_of_other_sessions_are_not_taken_for_ours(tenant_url: str, postgresql_url: str) -> None:
    with sessions.connect(tenant_url, integrity_key=KEY) as backend:
        session = backend.session("chat_1")
        for work in (
            session.get_items,
            lambda: session.add_items(items("a")),
            lambda: session.replace_items([]),
            session.clear_session,
            session.pop_item,
            lambda: backend.delete_sessions(["chat_1"]),
            lambda: list(backend.verify()),
        ):
            with refused(sessions.SchemaError, match="SET SCHEMA tenant"):
                work()
        with refused(sessions.SchemaError, match="SET SCHEMA tenant"), session.exclusive():
            pass
    with sessions.connect(postgresql_url, integrity_key=KEY) as public:
        assert texts(public.session("chat_1").get_items()) == ["public"]
        assert public.session("chat_1").verify().records == 1


def test_made_in_the_tenants_schema_they_are_its_own(tenant_url: str, postgresql_url: str) -> None:
    for name in ("create_leases", "create_seals"):
        execute_sql(postgresql_url, made_in("tenant")[name])
    with sessions.connect(tenant_url, integrity_key=KEY) as backend, backend.session("chat_1").exclusive():
        backend.session("chat_1").clear_session()
        backend.session("chat_1").add_items(items("tenant"))
        assert texts(backend.session("chat_1").get_items()) == ["tenant"]
    with sessions.connect(postgresql_url, integrity_key=KEY) as public:
        assert texts(public.session("chat_1").get_items()) == ["public"]


def test_check_says_that_a_new_tenant_has_no_tables_of_its_own(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("everybody's"))
        assert "search_path" not in {check.name for check in backend.check()}
    execute_sql(postgresql_url, "CREATE SCHEMA tenant")
    path = quote("-c search_path=tenant,public")
    with sessions.connect(f"{postgresql_url}?options={path}") as backend:
        [check] = [check for check in backend.check() if check.name == "search_path"]
        assert (check.verdict, check.found.partition(",")[0]) == ("warning", "the tables are in public")
        for name in ("create_sessions", "create_messages"):
            execute_sql(postgresql_url, made_in("tenant")[name])
        assert backend.session("chat_1").get_items() == []
        assert "search_path" not in {check.name for check in backend.check()}


def test_check_says_what_stands_apart(tenant_url: str, postgresql_url: str) -> None:
    with sessions.connect(tenant_url) as backend:
        [found] = [check for check in backend.check() if check.name == "schema"]
        assert (found.verdict, "agent_session_leases in public" in found.found) == ("error", True)
    with sessions.connect(postgresql_url) as backend:
        assert "schema" not in {check.name for check in backend.check()}


# --- the pair itself


WORK: dict[str, Callable[[sessions.Backend], object]] = {
    "get": lambda backend: backend.session("chat_1").get_items(),
    "get some": lambda backend: backend.session("chat_1").get_items(5),
    "records": lambda backend: list(backend.session("chat_1").records()),
    "position": lambda backend: backend.session("chat_1").position(),
    "add": lambda backend: backend.session("chat_1").add_items(items("a")),
    "add at": lambda backend: backend.session("chat_1").add_items(items("a"), if_position=1),
    "add to a blank": lambda backend: backend.session("chat_1 ").add_items(items("a")),
    "replace": lambda backend: backend.session("chat_1").replace_items([]),
    "pop": lambda backend: backend.session("chat_1").pop_item(),
    "clear": lambda backend: backend.session("chat_1").clear_session(),
    "delete a record": lambda backend: backend.session("chat_1").delete_record(1),
    "replace a record": lambda backend: backend.session("chat_1").replace_record(1, items("a")[0]),
    "fork": lambda backend: backend.session("chat_1").fork("chat_2"),
    "load": lambda backend: backend.load("chat_2", [Loaded()]),
    "list": lambda backend: backend.list_sessions(),
    "list by id": lambda backend: backend.list_sessions(order="id"),
    "delete": lambda backend: backend.delete_sessions(["chat_1"]),
    "sizes": lambda backend: backend.sizes(["chat_1"]),
    "first": lambda backend: backend.first_messages(["chat_1"]),
    "unlisted": lambda backend: list(backend.unlisted_sessions()),
    "search": lambda backend: list(backend.search("public")),
}


@pytest.fixture
def apart_url(postgresql_url: str) -> str:
    """A URL by which a tenant's sessions are found, and the public messages."""
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("public"))
    execute_sql(postgresql_url, "CREATE SCHEMA tenant")
    execute_sql(postgresql_url, made_in("tenant")["create_sessions"])
    return f"{postgresql_url}?options={quote('-c search_path=tenant,public')}"


@contextmanager
def lent(url: str, lender: str) -> Iterator[sessions.Backend]:
    if lender in ("own", "unprepared"):
        with sessions.connect(url, prepared_statements=lender == "own") as backend:
            yield backend
        return
    with closing(psycopg.connect(url, autocommit=lender == "bound")) as connection:
        yield sessions.bind(connection)


@pytest.mark.parametrize("lender", ["own", "unprepared", "bound", "in a transaction"])
@pytest.mark.parametrize("name", WORK)
def test_messages_of_other_sessions_are_not_taken_for_ours(
    apart_url: str, postgresql_url: str, name: str, lender: str
) -> None:
    with lent(apart_url, lender) as backend, refused(sessions.SchemaError, match="beside others' sessions.*SET SCHEMA"):
        WORK[name](backend)
    with sessions.connect(postgresql_url) as public:
        assert texts(public.session("chat_1").get_items()) == ["public"]
        assert len(public.list_sessions()) == 1


def test_where_no_tables_may_be_made_the_remedy_is_one_schema(apart_url: str) -> None:
    with sessions.connect(apart_url, create_tables=False) as backend:
        with refused(sessions.SchemaError, match="SET SCHEMA"):
            backend.session("chat_1").get_items()
        assert {check.verdict for check in backend.check() if check.name in ("schema", "rights")} == {"error"}


def test_tables_that_come_apart_later_are_noticed(tenant_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_FRESH_SECONDS", 0.0)
    with sessions.connect(tenant_url) as backend:
        assert backend.session("chat_1").get_items() == []
        execute_sql(tenant_url, "DROP TABLE tenant.agent_messages")
        with refused(sessions.SchemaError, match="SET SCHEMA tenant"):
            backend.session("chat_1").get_items()


def test_a_pair_in_two_schemas_that_are_named_is_used_as_it_is(postgresql_url: str) -> None:
    execute_sql(postgresql_url, "CREATE SCHEMA chats")
    names: dict[str, Any] = {"sessions_table": "chats.agent_sessions", "messages_table": "public.agent_messages"}
    with sessions.connect(postgresql_url, **names) as backend:
        use_everything(backend.session("chat_1"))
        assert "schema" not in {check.name for check in backend.check()}
    with closing(psycopg.connect(postgresql_url, autocommit=True)) as connection:
        use_everything(sessions.bind(connection, **names).session("chat_1"))
