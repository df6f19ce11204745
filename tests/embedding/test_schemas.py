"""Schemas on PostgreSQL: of two tables with one name, those that stand beside the sessions are theirs."""

import os
from collections.abc import Mapping
from urllib.parse import quote

import pytest

import sessions
from sessions._dialects.statements import load_statements
from support.claims import refused
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


def test_check_says_what_stands_apart(tenant_url: str, postgresql_url: str) -> None:
    with sessions.connect(tenant_url) as backend:
        [found] = [check for check in backend.check() if check.name == "schema"]
        assert (found.verdict, "agent_session_leases in public" in found.found) == ("error", True)
    with sessions.connect(postgresql_url) as backend:
        assert "schema" not in {check.name for check in backend.check()}
