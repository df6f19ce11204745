"""The SDK's sessions that wrap another one, on top of ours: encryption and compaction."""

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from agents.extensions.memory import EncryptedSession
from agents.memory import OpenAIResponsesCompactionSession
from openai import AsyncOpenAI

import sessions
from openai_agents.scripted import SDK_VERSION, agent, run, words
from sessions.openai_agents import AgentsSession
from support.model_api import ModelAPI, serve_model_api
from support.servers import execute_sql

_KEY = "a key that is long enough for a test"
_ITEMS: list[Any] = [{"role": "user", "content": str(number)} for number in range(5)]


# --- EncryptedSession


def _encrypted(session: Any, key: str = _KEY) -> EncryptedSession:
    # Any: the SDK names its own base class there, and asks for no more than the protocol.
    return EncryptedSession(session.session_id, session, key)


async def test_an_encrypted_session_reads_back_what_it_wrote(session: sessions.Session) -> None:
    encrypted = _encrypted(AgentsSession(session))
    await encrypted.add_items(_ITEMS)
    assert await encrypted.get_items() == _ITEMS
    assert await encrypted.get_items(limit=2) == _ITEMS[-2:]
    assert await encrypted.pop_item() == _ITEMS[-1]
    assert await encrypted.get_items() == _ITEMS[:-1]
    await encrypted.clear_session()
    assert await encrypted.get_items() == []


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_runs_remember_through_encryption(session: sessions.Session, how: str) -> None:
    encrypted = _encrypted(AgentsSession(session))
    assistant, model = agent("one", "two")
    await run(how, assistant, "first", session=encrypted)
    await run(how, assistant, "second", session=encrypted)
    assert words(model.inputs[1]) == ["first", "one", "second"]


async def test_another_key_opens_nothing(session: sessions.Session) -> None:
    adapter = AgentsSession(session)
    await _encrypted(adapter).add_items(_ITEMS)
    assert await _encrypted(adapter, _KEY + "?").get_items() == []
    assert len(session.get_items()) == len(_ITEMS)


# --- OpenAIResponsesCompactionSession

replaces_atomically = pytest.mark.skipif(SDK_VERSION < (0, 24), reason="an SDK that clears and appends")


@pytest.fixture
def api() -> Iterator[ModelAPI]:
    with serve_model_api() as api:
        yield api


def _at_four(context: Any) -> bool:
    return len(context["session_items"]) >= 4


@contextlib.asynccontextmanager
async def _compacting(adapter: Any, api: ModelAPI, **options: Any) -> AsyncIterator[Any]:
    async with AsyncOpenAI(base_url=api.url, api_key="none", max_retries=0) as client:
        yield OpenAIResponsesCompactionSession(
            adapter.session_id, adapter, client=client, compaction_mode="input", **options
        )


async def test_compaction_puts_the_summary_in_place_of_the_history(session: sessions.Session, api: ModelAPI) -> None:
    async with _compacting(AgentsSession(session), api) as compacting:
        await compacting.add_items(_ITEMS)
        await compacting.run_compaction({"force": True})
        assert words(api.requests[0]["input"]) == words(_ITEMS)
        assert [item["type"] for item in session.get_items()] == ["compaction"]
        assert await compacting.get_items() == session.get_items()


@replaces_atomically
async def test_a_summary_that_cannot_be_stored_leaves_the_history(session: sessions.Session, api: ModelAPI) -> None:
    api.compact = lambda _: [{"type": "compaction", "encrypted_content": float("nan")}]
    async with _compacting(AgentsSession(session), api) as compacting:
        await compacting.add_items(_ITEMS)
        position = session.position()
        with pytest.raises(sessions.InvalidItemError):
            await compacting.run_compaction({"force": True})
        assert session.get_items() == _ITEMS
        assert session.position() == position  # not cleared and restored, but never touched


@pytest.mark.parametrize("how", ["run", "run_streamed"])
async def test_runs_compact_by_themselves_and_go_on(session: sessions.Session, api: ModelAPI, how: str) -> None:
    async with _compacting(AgentsSession(session), api, should_trigger_compaction=_at_four) as compacting:
        assistant, model = agent("one", "two", "three")
        for text in ("first", "second", "third"):
            await run(how, assistant, text, session=compacting)
        assert len(api.requests) == 1
        assert [item.get("type") for item in model.inputs[2]][:1] == ["compaction"]
        assert words(session.get_items()) == ["compaction", "third", "three"]


_SUMMARY = {"type": "compaction", "encrypted_content": "summary"}


@replaces_atomically
@pytest.mark.parametrize("on_conflict", ["append", "raise"])
async def test_what_others_write_while_a_summary_is_made_stays(
    session: sessions.Session, backend: sessions.Backend, api: ModelAPI, on_conflict: Any
) -> None:
    order = [{"role": "user", "content": "order 17"}, {"role": "assistant", "content": "is placed"}]

    def compact(_: Any) -> list[Any]:
        backend.session(session.session_id).add_items(order)
        return [_SUMMARY]

    api.compact = compact
    adapter = AgentsSession(session, on_conflict=on_conflict)
    async with _compacting(adapter, api, should_trigger_compaction=_at_four) as compacting:
        assistant, _ = agent("one", "two")
        for text in ("first", "second"):
            await run("run", assistant, text, session=compacting)
        assert words(session.get_items()) == ["first", "one", "second", "two", "order 17", "is placed"]


@replaces_atomically
@pytest.mark.parametrize("on_conflict", ["append", "raise"])
async def test_a_part_is_summed_up_and_what_stands_before_it_stays(
    session: sessions.Session, backend: sessions.Backend, api: ModelAPI, on_conflict: Any
) -> None:
    adapter = AgentsSession(session, on_conflict=on_conflict)
    session.add_items([{"role": "user", "content": "before"}, {"role": "assistant", "content": "long ago"}])
    snapshot = await adapter._get_compaction_snapshot(2)
    assert (words(snapshot.items), snapshot.complete) == (["before", "long ago"], True)
    session.add_items(_ITEMS)
    await adapter.get_items()
    snapshot = await adapter._get_compaction_snapshot(len(_ITEMS))
    assert (snapshot.items, snapshot.complete) == (_ITEMS, False)
    assert not await snapshot.replace_suffix(len(_ITEMS), [_SUMMARY])
    assert await snapshot.replace_suffix(1, [_SUMMARY])
    kept = ["before", "long ago", *words(_ITEMS[:1]), "compaction"]
    assert words(session.get_items()) == kept
    assert not await snapshot.replace_suffix(1, [_SUMMARY])
    await adapter.add_items(_ITEMS[:1])  # which follows what was written
    assert words(session.get_items()) == [*kept, *words(_ITEMS[:1])]


@pytest.fixture(params=["plain", "sealed", "encrypted", "encrypted and sealed"])
def keys(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a backend."""
    key = "a key of more than thirty-two characters"
    return {name: key for name in ("encryption_key", "integrity_key") if name[:4] in request.param}


@replaces_atomically
async def test_what_stands_before_a_summary_is_not_touched(url: str, keys: dict[str, Any]) -> None:
    with sessions.connect(url, **keys) as backend:
        session = backend.session("chat_1")
        session.add_items(_ITEMS)
        before = list(session.records())
        snapshot = await AgentsSession(session)._get_compaction_snapshot(3)
        redacted = {"role": "user", "content": "[redacted]"}
        session.replace_record(before[0].id, redacted)
        session.delete_record(before[1].id)
        assert await snapshot.replace_suffix(1, [_SUMMARY])
        assert session.get_items() == [redacted, _ITEMS[2], _SUMMARY]
        after = list(session.records())
        assert [record[:2] for record in after[:2]] == [before[0][:2], before[2][:2]]
        assert after[1] == before[2]
        if "integrity_key" in keys:
            assert session.verify().sealed == 3


@replaces_atomically
async def test_who_reads_page_by_page_beside_a_compaction_gets_what_stays_once(session: sessions.Session) -> None:
    many = [{"role": "user", "content": str(number)} for number in range(1_500)]
    session.add_items(many)
    snapshot = await AgentsSession(session)._get_compaction_snapshot(2)
    records = session.records()
    first = [next(records) for _ in range(5)]
    assert await snapshot.replace_suffix(1, [_SUMMARY])
    assert [record.item for record in [*first, *records]][:1_499] == many[:-1]


@replaces_atomically
async def test_a_forged_item_is_not_sealed_by_a_compaction(sql_url: str) -> None:
    key = "a key of more than thirty-two characters"
    with sessions.connect(sql_url, integrity_key=key, on_broken_seal="report") as backend:
        session = backend.session("chat_1")
        session.add_items(_ITEMS)
        first = next(session.records())
        forged = first.text.replace('"0"', '"9"')
        execute_sql(sql_url, "UPDATE agent_messages SET message_data = replace(message_data, %s, %s)", ['"0"', '"9"'])
        assert next(session.records()).text == forged
        for start in (0, 1):
            snapshot = await AgentsSession(session)._get_compaction_snapshot(len(_ITEMS))
            assert not await snapshot.replace_suffix(start, [_SUMMARY])
        with pytest.raises(sessions.SealBrokenError):
            session.verify()


@replaces_atomically
async def test_what_cannot_be_read_and_what_stands_before_it_is_not_summed_up(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(_ITEMS)
        corrupt = list(session.records())[2].id
        execute_sql(sql_url, "UPDATE agent_messages SET message_data = %s WHERE id = %s", ["[]", corrupt])
        snapshot = await AgentsSession(session)._get_compaction_snapshot(100)
        assert (snapshot.items, snapshot.complete) == (_ITEMS[3:], False)
        assert await snapshot.replace_suffix(0, [_SUMMARY])
        assert [record.text for record in session.records()][2] == "[]"
        assert session.get_items() == [*_ITEMS[:2], _SUMMARY]


@replaces_atomically
@pytest.mark.parametrize("how", ["run", "run_streamed"])
@pytest.mark.parametrize("outermost", ["encryption", "compaction"])
async def test_runs_compact_by_themselves_under_encryption(
    session: sessions.Session, api: ModelAPI, how: str, outermost: str
) -> None:
    adapter = AgentsSession(session)
    inner = adapter if outermost == "encryption" else _encrypted(adapter)
    async with _compacting(inner, api, should_trigger_compaction=_at_four) as compacting:
        wrapped = _encrypted(compacting) if outermost == "encryption" else compacting
        assistant, _ = agent("one", "two", "three")
        for text in ("first", "second", "third"):
            await run(how, assistant, text, session=wrapped)
        assert words(await wrapped.get_items()) == ["compaction", "third", "three"]


@replaces_atomically
async def test_a_session_that_changes_items_is_not_bypassed_by_compaction(url: str, api: ModelAPI) -> None:
    class Stamping(sessions.Session):
        def replace_items(self, items: Iterable[Any], *, if_position: int | None = None) -> None:
            super().replace_items([{**item, "stamp": 1} for item in items], if_position=if_position)

    with Stamping.from_url("chat_1", url) as session:
        async with _compacting(AgentsSession(session), api, should_trigger_compaction=_at_four) as compacting:
            assistant, _ = agent("one", "two")
            for text in ("first", "second"):
                await run("run", assistant, text, session=compacting)
        assert [(item["type"], item["stamp"]) for item in session.get_items()] == [("compaction", 1)]


@replaces_atomically
async def test_a_redaction_while_a_summary_is_made_keeps_it_out(session: sessions.Session) -> None:
    adapter = AgentsSession(session)
    await adapter.add_items(_ITEMS)
    snapshot = await adapter._get_compaction_snapshot(100)
    session.replace_record(next(session.records()).id, {"role": "user", "content": "[redacted]"})
    assert not await snapshot.replace_suffix(0, [_SUMMARY])
    assert words(session.get_items()) == ["[redacted]", *words(_ITEMS[1:])]


@replaces_atomically
async def test_encryption_and_compaction_stack(session: sessions.Session, api: ModelAPI) -> None:
    async with _compacting(AgentsSession(session), api) as compacting:
        encrypted = _encrypted(compacting)
        await encrypted.add_items(_ITEMS)
        await encrypted.run_compaction({"force": True})
        assert [item["type"] for item in await encrypted.get_items()] == ["compaction"]
        assert [item["__enc__"] for item in session.get_items()] == [1]


async def test_a_subclass_that_changes_items_is_not_bypassed_by_compaction(
    session: sessions.Session, api: ModelAPI
) -> None:
    class Stamping(AgentsSession):
        async def add_items(self, items: list[Any], *, wrapper: Any = None) -> None:
            await super().add_items([{**item, "stamp": 1} for item in items])

    async with _compacting(Stamping(session), api) as compacting:
        await compacting.add_items(_ITEMS)
        await compacting.run_compaction({"force": True})
        assert [(item["type"], item["stamp"]) for item in session.get_items()] == [("compaction", 1)]
