"""Sealed histories on tables of every maker: others read what was written, and what they write is told apart."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import sessions
from interop.peers import PEERS, open_peer
from interop.tables import MAKERS, make_tables
from support.claims import each_mysql
from support.rivals import connection_of
from support.servers import execute_sql

SEALED: dict[str, Any] = {"integrity_key": "a key that is long enough for a test"}
OURS: list[Any] = [{"role": "user", "content": "größer, 世界 🙂"}, {"role": "assistant", "content": "kept"}]
THEIRS: list[Any] = [{"role": "user", "content": "of another writer"}]


def _combinations() -> list[Any]:
    return [
        pytest.param(dialect, maker, peer, marks=getattr(pytest.mark, dialect), id=f"{dialect}, {maker}, {peer}")
        for dialect, makers in MAKERS.items()
        for maker in makers
        for peer in PEERS[dialect]
    ]


@pytest.mark.parametrize(("dialect", "maker", "peer"), _combinations())
def test_a_sealed_history_is_shared(make_url: Callable[[str], str], dialect: str, maker: str, peer: str) -> None:
    url = make_url(dialect)
    asyncio.run(make_tables(maker, url))

    async def read() -> list[Any]:
        async with open_peer(peer, url, "chat") as they:
            return await they.get_items()

    async def write() -> None:
        async with open_peer(peer, url, "chat") as they:
            await they.add_items(THEIRS)

    with sessions.connect(url, **SEALED) as backend:
        session = backend.session("chat")
        session.add_items(OURS[:1])
        session.add_items(OURS[1:])
        assert asyncio.run(read()) == OURS == session.get_items()
        assert session.verify().sealed == len(OURS)
        asyncio.run(write())
        with pytest.raises(sessions.SealBrokenError, match="written without the key"):
            session.get_items()
    with sessions.connect(url, unsealed="accept", **SEALED) as backend:
        session = backend.session("chat")
        session.add_items(OURS[:1])
        assert session.get_items() == [*OURS, *THEIRS, *OURS[:1]]
        assert [record.seal for record in session.records()] == ["sealed", "sealed", "unsealed", "sealed"]


@pytest.mark.parametrize("kind", ["TIMESTAMP", "DATETIME", "DATETIME(6)"])
@each_mysql
def test_a_time_is_sealed_in_utc_whatever_its_type_is(server_url: str, kind: str) -> None:
    """What a TIMESTAMP is read as depends on the connection's zone, which is the server's own without a key."""
    with sessions.connect(server_url, **SEALED) as backend:
        session = backend.session("chat")
        session.add_items(OURS)
        execute_sql(server_url, f"ALTER TABLE agent_messages MODIFY created_at {kind} NOT NULL")
        assert session.get_items() == OURS
        session.clear_session()
        session.add_items(OURS)
        with connection_of(session) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@session.time_zone")
            assert cursor.fetchone() in (("+00:00",), (b"+00:00",))
    with sessions.connect(server_url, **SEALED) as backend:
        assert backend.session("chat").get_items() == OURS
