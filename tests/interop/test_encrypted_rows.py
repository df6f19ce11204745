"""The SDK's EncryptedSession over its own sessions and over ours, and beside ours with the key: the same rows."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from agents.extensions.memory import EncryptedSession
from agents.extensions.memory.encrypt_session import _derive_session_fernet_key, _ensure_fernet_key_bytes

import sessions
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


# --- ours with encryption_key, beside the SDK's EncryptedSession


@contextlib.contextmanager
def _with_key(url: str, **options: Any) -> Iterator[sessions.Session]:
    with sessions.Session.from_url("chat", url, encryption_key=_KEY, **options) as session:
        yield session


def _numbers(first: int, last: int) -> list[Any]:
    return [{"role": "user", "content": str(number)} for number in range(first, last + 1)]


_WRITERS = [
    pytest.param(dialect, peer, marks=getattr(pytest.mark, dialect), id=f"{dialect}-{peer}")
    for dialect, peers in PEERS.items()
    for peer in peers
    if peer != "npm"  # EncryptedSession wants more of a session
]
each_writer = pytest.mark.parametrize(("dialect", "peer"), _WRITERS)


@each_writer
async def test_with_the_key_either_reads_what_the_other_wrote(
    make_url: Callable[[str], str], dialect: str, peer: str
) -> None:
    url = make_url(dialect)
    await make_tables("ours", url)
    async with open_peer(peer, url, "chat") as they:
        theirs = _encrypted(they)
        with _with_key(url) as ours:
            await theirs.add_items(_ITEMS)
            ours.add_items(_numbers(1, 3))
            await theirs.add_items(_numbers(4, 5))
            expected = [*_ITEMS, *_numbers(1, 5)]
            assert ours.get_items() == await theirs.get_items() == expected
            assert ours.get_items(limit=3) == await theirs.get_items(3) == _numbers(3, 5)
            assert [record.item for record in ours.records()] == expected
            assert "secret" not in repr(execute_sql(url, "SELECT message_data FROM agent_messages"))


@each_writer
async def test_either_pops_what_the_other_wrote(make_url: Callable[[str], str], dialect: str, peer: str) -> None:
    url = make_url(dialect)
    await make_tables("ours", url)
    async with open_peer(peer, url, "chat") as they:
        theirs = _encrypted(they)
        with _with_key(url) as ours:
            await theirs.add_items(_numbers(1, 2))
            ours.add_items(_numbers(3, 4))
            assert await theirs.pop_item() == _numbers(4, 4)[0]
            await theirs.add_items(_numbers(5, 5))
            assert ours.pop_item() == _numbers(5, 5)[0]
            assert ours.pop_item() == _numbers(3, 3)[0]
            assert ours.pop_item() == _numbers(2, 2)[0]
            assert await theirs.pop_item() == _numbers(1, 1)[0]
            assert (ours.pop_item(), await theirs.pop_item()) == (None, None)


@pytest.mark.parametrize("dialect", _DIALECTS)
async def test_the_sdk_reads_what_we_forked_replaced_and_rekeyed(make_url: Callable[[str], str], dialect: str) -> None:
    url = make_url(dialect)
    await make_tables("ours", url)
    old = "another key that is long enough for a test"
    with sessions.connect(url, encryption_key=old) as backend:
        backend.session("source").add_items(_numbers(1, 3))
    with sessions.connect(url, encryption_key=[_KEY, old]) as backend:
        assert backend.rekey().records == 3
        fork = backend.session("source").fork("chat")
        fork.replace_record(fork.position(), _ITEMS[0])
    async with open_peer(PEERS[dialect][0], url, "chat") as they:
        assert await _encrypted(they).get_items() == [*_numbers(1, 2), _ITEMS[0]]
    async with open_peer(PEERS[dialect][0], url, "source") as they:
        assert await EncryptedSession("source", they, _KEY).get_items() == _numbers(1, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", _DIALECTS)
async def test_both_leave_out_what_is_older_than_their_ttl(make_url: Callable[[str], str], dialect: str) -> None:
    url = make_url(dialect)
    await make_tables("ours", url)
    fernet = _derive_session_fernet_key(_ensure_fernet_key_bytes(_KEY), "chat")
    token = fernet.encrypt_at_time(b'{"role":"user","content":"old"}', int(time.time()) - 600).decode()
    async with open_peer(PEERS[dialect][0], url, "chat") as they:
        await they.add_items([{"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": token}])
        await _encrypted(they).add_items(_ITEMS)
        young = EncryptedSession("chat", they, _KEY, ttl=300)  # type: ignore[arg-type]
        with _with_key(url, encryption_ttl=300) as ours:
            assert ours.get_items() == await young.get_items() == _ITEMS
            assert ours.get_items(limit=5) == await young.get_items(5) == _ITEMS
        with _with_key(url, encryption_ttl=3600) as ours:
            assert len(ours.get_items()) == 3


@pytest.mark.parametrize("dialect", _DIALECTS)
async def test_what_the_sdk_skips_is_an_error_here_and_stays(make_url: Callable[[str], str], dialect: str) -> None:
    url = make_url(dialect)
    await make_tables("ours", url)
    async with open_peer(PEERS[dialect][0], url, "chat") as they:
        other = EncryptedSession("chat", they, "another key, also long enough")  # type: ignore[arg-type]
        await _encrypted(they).add_items(_ITEMS)
        await they.add_items(_numbers(1, 1))
        # What is plain older ones of the SDK give as it is.
        assert not any(item in _ITEMS for item in await other.get_items())
        with sessions.Session.from_url("chat", url, encryption_key="another key, also long enough") as ours:
            for read in (ours.get_items, ours.pop_item):
                with pytest.raises(sessions.DecryptionError):
                    read()
        assert len(await they.get_items()) == 3
