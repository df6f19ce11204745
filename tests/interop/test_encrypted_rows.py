"""The SDK's EncryptedSession over its own sessions and over ours: the same rows, ours untouched."""

from collections.abc import Callable
from typing import Any

import pytest
from agents.extensions.memory import EncryptedSession

from interop.peers import PEERS, Peer, open_peer
from interop.tables import make_tables
from support.servers import execute_sql

_KEY = "a key that is long enough for a test"
_ITEMS: list[Any] = [{"role": "user", "content": "a secret, größer"}, {"role": "assistant", "content": "kept"}]
_DIALECTS = [pytest.param(dialect, marks=getattr(pytest.mark, dialect)) for dialect in PEERS]


def _encrypted(peer: Peer) -> EncryptedSession:
    return EncryptedSession("chat", peer, _KEY)  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", _DIALECTS)
async def test_rows_of_the_sdk_come_through_us_as_they_are(make_url: Callable[[str], str], dialect: str) -> None:
    url = make_url(dialect)
    await make_tables("ours", url)
    async with (
        open_peer(PEERS[dialect][0], url, "chat") as they,
        open_peer("ours", url, "chat") as we,
    ):
        await _encrypted(they).add_items(_ITEMS)
        envelopes = await we.get_items()
        assert envelopes == await they.get_items()
        assert {envelope["__enc__"] for envelope in envelopes} == {1}
        assert "secret" not in repr(envelopes)
        # Taken out and put back by us, they still open.
        await we.clear_session()
        await we.add_items(envelopes)
        assert await _encrypted(they).get_items() == _ITEMS


@pytest.mark.parametrize("dialect", _DIALECTS)
@pytest.mark.parametrize("writer", ["ours-async", "the SDK's"])
async def test_one_key_opens_the_rows_of_both(make_url: Callable[[str], str], dialect: str, writer: str) -> None:
    url = make_url(dialect)
    await make_tables("ours", url)
    names = ["ours-async", PEERS[dialect][0]]
    if writer != "ours-async":
        names.reverse()
    async with open_peer(names[0], url, "chat") as one, open_peer(names[1], url, "chat") as two:
        await _encrypted(one).add_items(_ITEMS)
        assert await _encrypted(two).get_items() == _ITEMS
        rows = execute_sql(url, "SELECT message_data FROM agent_messages")
        assert "secret" not in repr(rows)
        assert await _encrypted(two).pop_item() == _ITEMS[1]
        assert await _encrypted(one).get_items() == _ITEMS[:1]
