"""One database used by us, by the SDK's sessions and by the npm package, whoever made the tables."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

import sessions
from interop.peers import PEERS, open_peer
from interop.tables import MAKERS, make_tables
from support.servers import execute_sql

# On SQLite the npm package writes integers where the default of other tables gives text, and its own
# order puts all integers first: only tables of its own give it the order that everybody else sees.
_DISORDERED = {("sqlite", maker, "npm") for maker in MAKERS["sqlite"] if maker != "npm"}

_ITEMS: list[dict[str, Any]] = [
    {"role": "user", "content": "Grüße, 世界 🙂 \u0000 \\ \" ' % ; --"},
    {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "2\n"},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": None},
    {"role": "assistant", "content": [{"type": "output_text", "text": "", "logprobs": [0.5, -1]}]},
    {"number": 12345678901234567890, "true": True, "nested": {"a": [{"b": []}]}},
]


def _tables(*wanted: str) -> list[Any]:
    return [
        pytest.param(dialect, maker, marks=getattr(pytest.mark, dialect), id=f"{dialect}, tables of {maker}")
        for dialect, makers in MAKERS.items()
        for maker in makers
        if not wanted or maker in wanted
    ]


def _combinations(*, disordered: bool = False) -> list[Any]:
    return [
        pytest.param(*tables.values, peer, marks=tables.marks, id=f"{tables.id}, with {peer}")
        for tables in _tables()
        for peer in PEERS[tables.values[0]]
        if disordered or (*tables.values, peer) not in _DISORDERED
    ]


@pytest.fixture
def url(make_url: Callable[[str], str], dialect: str, maker: str) -> str:
    """A database with the tables of that maker."""
    url = make_url(dialect)
    asyncio.run(make_tables(maker, url))
    return url


def _message(number: int) -> dict[str, Any]:
    return {"role": "user", "content": f"message {number}"}


@pytest.mark.parametrize("ours", ["ours", "ours-async"])
@pytest.mark.parametrize(("dialect", "maker", "peer"), _combinations())
async def test_alternating_writers_are_seen_in_the_same_order_by_both(url: str, peer: str, ours: str) -> None:
    async with open_peer(ours, url, "chat") as we, open_peer(peer, url, "chat") as they:
        written: list[dict[str, Any]] = []
        for turn in range(6):
            batch = [_message(10 * turn + place) for place in range(1 + turn % 3)]
            await (we, they)[turn % 2].add_items(batch)
            written += batch
            assert await we.get_items() == await they.get_items() == written
            assert await we.get_items(limit=2) == await they.get_items(limit=2) == written[-2:]


@pytest.mark.parametrize(("dialect", "maker", "peer"), _combinations(disordered=True))
async def test_items_pass_unchanged_both_ways(url: str, peer: str) -> None:
    async with open_peer("ours", url, "chat") as we, open_peer(peer, url, "chat") as they:
        await we.add_items(_ITEMS)
        assert await they.get_items() == _ITEMS
        await we.clear_session()
        await they.add_items(_ITEMS)
        assert await we.get_items() == _ITEMS
        assert [list(item) for item in await we.get_items()] == [list(item) for item in _ITEMS]


@pytest.mark.parametrize(("dialect", "maker", "peer"), _combinations())
async def test_each_side_pops_what_the_other_wrote(url: str, peer: str) -> None:
    async with open_peer("ours", url, "chat") as we, open_peer(peer, url, "chat") as they:
        await we.add_items([_message(1), _message(2)])
        await they.add_items([_message(3), _message(4)])
        assert await we.pop_item() == _message(4)
        assert await they.pop_item() == _message(3)
        assert await they.pop_item() == _message(2)
        assert await we.pop_item() == _message(1)
        assert await we.pop_item() is None
        assert await they.pop_item() is None


@pytest.mark.parametrize(("dialect", "maker", "peer"), _combinations(disordered=True))
@pytest.mark.parametrize("who", ["we clear", "they clear"])
async def test_either_side_clears_for_both_and_the_session_goes_on(url: str, peer: str, who: str) -> None:
    async with open_peer("ours", url, "chat") as we, open_peer(peer, url, "chat") as they:
        await we.add_items([_message(1)])
        await they.add_items([_message(2)])
        await (we if who == "we clear" else they).clear_session()
        assert await we.get_items() == await they.get_items() == []
        assert execute_sql(url, "SELECT session_id FROM agent_sessions") == []
        assert execute_sql(url, "SELECT id FROM agent_messages") == []
        await they.add_items([_message(3)])
        assert await we.get_items() == await they.get_items() == [_message(3)]


@pytest.mark.parametrize(("dialect", "maker"), _tables())
async def test_all_programs_at_once_see_one_history(url: str, dialect: str, maker: str) -> None:
    names = [name for name in ("ours", "ours-async", *PEERS[dialect]) if (dialect, maker, name) not in _DISORDERED]
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(open_peer(name, url, "chat")) for name in names]
        for number, peer in enumerate(peers * 3):
            await peer.add_items([_message(number)])
        expected = [_message(number) for number in range(3 * len(peers))]
        for peer in peers:
            assert await peer.get_items() == expected
        for number, peer in reversed(list(enumerate(peers * 3))):
            assert await peer.pop_item() == _message(number)


@pytest.mark.parametrize(("dialect", "maker"), _tables())
async def test_other_sessions_in_the_tables_are_left_alone(url: str, dialect: str, maker: str) -> None:
    peer = PEERS[dialect][0]
    async with open_peer("ours", url, "chat 1") as we, open_peer(peer, url, "chat 2") as they:
        await they.add_items([_message(2)])
        await we.add_items([_message(1)])
        assert await we.pop_item() == _message(1)
        assert await we.pop_item() is None
        await we.clear_session()
        assert await they.get_items() == [_message(2)]


@pytest.mark.parametrize(("dialect", "maker"), _tables("ours"))
async def test_concurrent_batches_of_ours_and_the_sdk_stay_whole(url: str, dialect: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        writers = [
            await stack.enter_async_context(open_peer(name, url, "chat")) for name in ("ours-async", PEERS[dialect][0])
        ]

        async def write(writer: int) -> None:
            for batch in range(10):
                items = [{"writer": writer, "batch": batch, "place": place} for place in (0, 1)]
                await writers[writer].add_items(items)

        await asyncio.gather(write(0), write(1))
        async with open_peer("ours", url, "chat") as reader:
            found = [(i["writer"], i["batch"], i["place"]) for i in await reader.get_items()]
    assert len(found) == 40
    # Each batch in one piece, and the batches of each writer in its own order.
    assert found[1::2] == [(writer, batch, 1) for writer, batch, _ in found[::2]]
    for writer in (0, 1):
        assert [b for w, b, place in found if w == writer and place == 0] == list(range(10))


@pytest.mark.parametrize(("dialect", "maker"), [t for t in _tables() if (*t.values, "npm") in _DISORDERED])
async def test_our_order_holds_where_npm_mixes_its_timestamps_into_text(url: str) -> None:
    async with open_peer("ours", url, "chat") as we, open_peer("npm", url, "chat") as they:
        for number in range(4):
            await (we, they)[number % 2].add_items([_message(number)])
        assert await we.get_items() == [_message(number) for number in range(4)]
        # What the README warns of: integers sort before text, so it sees its own first.
        assert await they.get_items() == [_message(number) for number in (1, 3, 0, 2)]


@pytest.mark.parametrize(("dialect", "maker"), _tables("sdk-by-hand"))
def test_an_item_too_long_for_the_sdks_column_is_refused_whole(url: str) -> None:
    with sessions.Session.from_url("chat", url) as session:
        session.add_items([_message(1)])
        with pytest.raises(sessions.SessionsError):
            session.add_items([_message(2), {"role": "user", "content": "x" * 70_000}])
        assert session.get_items() == [_message(1)]
