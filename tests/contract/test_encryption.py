"""Clause 19: with a key what is stored cannot be read without one, and what does not open is an error, never a gap."""

import asyncio
import contextlib
import json
import logging
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from agents.extensions.memory.encrypt_session import _derive_session_fernet_key, _ensure_fernet_key_bytes
from cryptography.fernet import Fernet

import sessions
from sessions import Backend, ConfigurationError, ConflictError, DecryptionError, LeaseLostError
from sessions._leases import new_lease
from sessions.openai_agents import AgentsSession
from support.claims import use_everything
from support.rivals import connection_of, set_updated_at
from support.samples import batch, in_threads, item, items, plant, stored_texts, texts
from support.servers import connect_raw, execute_sql

KEY = "a key of many random characters, the first"
OTHER = "a key of many random characters, the second"
SECRET = "the lid is cracked"
PLAIN = json.dumps(item("plain"))
# A day and its time before now, by which a row is older than any of these tests lets be read.
DAY = 86_400


@pytest.fixture
def encrypted(url: str) -> Iterator[Backend]:
    """A backend with a key, on each backend."""
    with sessions.connect(url, encryption_key=KEY) as backend:
        yield backend


@pytest.fixture
def secret_url(sql_url: str) -> str:
    """A database in which `chat_1` says the secret, and then something that nobody need know."""
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items(items(SECRET, "b"))
    return sql_url


def fernet(session_id: str, key: str = KEY) -> Fernet:
    """What the SDK has for a conversation."""
    return _derive_session_fernet_key(_ensure_fernet_key_bytes(key), session_id)


def envelope(session_id: str, text: str, *, key: str = KEY, age: float = 0) -> str:
    token = fernet(session_id, key).encrypt_at_time(text.encode(), int(time.time() - age))
    return json.dumps({"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": token.decode()})


def opened(session_id: str, stored: str, key: str = KEY) -> Any:
    found = json.loads(stored)
    assert {name: found[name] for name in ("__enc__", "v", "kid")} == {"__enc__": 1, "v": 1, "kid": "hkdf-v1"}
    return json.loads(fernet(session_id, key).decrypt(found["payload"]))


def everything(url: str) -> list[tuple[Any, ...]]:
    """All that the two tables hold."""
    tables = {"agent_sessions": "session_id", "agent_messages": "id"}
    return [
        row for table, order in tables.items() for row in execute_sql(url, f"SELECT * FROM {table} ORDER BY {order}")
    ]


# --- the contract, with a key


def test_every_operation_is_what_it_is_without_a_key(encrypted: Backend) -> None:
    use_everything(encrypted.session("chat_1"))


@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_an_item_comes_back_as_it_was(url: str, ensure_ascii: bool) -> None:
    odd = {"text": "ä \\ ' \" \n 😀 \u2028", "n": 1e3, "deep": [[{"a": None}]], "payload": "x", "__enc__": 1}
    with sessions.connect(url, encryption_key=KEY, ensure_ascii=ensure_ascii) as backend:
        session = backend.session("chat_ä_1")
        session.add_items([odd, {}])
        assert session.get_items() == [odd, {}]
        [first, _] = session.records()
        assert first.text == json.dumps(odd, ensure_ascii=ensure_ascii, separators=(",", ":"))


def test_a_lone_surrogate_is_kept_as_an_escape(encrypted: Backend) -> None:
    encrypted.session("chat_1").add_items(items("\ud800"))
    assert encrypted.session("chat_1").get_items() == items("\ud800")


def test_a_large_item_comes_back(encrypted: Backend) -> None:
    session = encrypted.session("chat_1")
    session.add_items(items("x" * 3_000_000, "b"))
    assert [len(text) for text in texts(session.get_items())] == [3_000_000, 1]


def test_limits_positions_and_records_are_those_of_the_rows(encrypted: Backend) -> None:
    session = encrypted.session("chat_1")
    session.add_items([{"n": n} for n in range(50)])
    assert session.get_items(limit=3) == [{"n": n} for n in (47, 48, 49)]
    records = list(session.records(limit=30))
    assert [record.item for record in records] == [{"n": n} for n in range(20, 50)]
    assert records[-1].id == session.position()


def test_default_limit_and_whole_turns_apply(url: str) -> None:
    with sessions.connect(url, encryption_key=KEY, default_limit=3, whole_turns=True) as backend:
        session = backend.session("chat_1")
        session.add_items(
            [*items("a"), {"role": "assistant", "content": "b"}, *items("c"), {"role": "assistant", "content": "d"}]
        )
        assert texts(session.get_items()) == ["c", "d"]


def test_a_record_is_replaced_and_keeps_its_place_and_time(encrypted: Backend) -> None:
    session = encrypted.session("chat_1")
    session.add_items(items("a", "b"))
    before = next(session.records())
    session.replace_record(before.id, item("A"))
    after = next(session.records())
    assert (after.id, after.created_at, after.item) == (before.id, before.created_at, item("A"))


def test_searches_and_first_messages_see_what_was_said(encrypted: Backend) -> None:
    encrypted.session("chat_1").add_items([{"type": "note"}, *items("Grüße", "b")])
    encrypted.session("chat_2").add_items([{"type": "note"}])
    assert [match.session_id for match in encrypted.search("Grüße")] == ["chat_1"]
    assert [match.record.item for match in encrypted.search("GRÜSSE", ignore_case=True)] == items("Grüße")
    assert encrypted.first_messages(["chat_1", "chat_2", "none"]) == {"chat_1": "Grüße"}


def test_sizes_are_those_of_what_is_stored(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        stored = sum(map(len, stored_texts(secret_url)))
        assert backend.sizes(["chat_1"])["chat_1"].bytes == stored
        assert backend.stats().bytes == stored


@pytest.mark.parametrize("on_existing", ["fail", "append", "replace"])
def test_records_of_another_backend_are_loaded_encrypted(sql_url: str, on_existing: Any) -> None:
    with sessions.connect("memory:") as source, sessions.connect(sql_url, encryption_key=KEY) as target:
        source.session("chat_1").add_items(items(*map(str, range(600))))
        records = list(source.session("chat_1").records())
        assert target.load("chat_1", records, on_existing=on_existing) == 600
        assert target.session("chat_1").get_items() == source.session("chat_1").get_items()
        # Gone on with: what is there is compared as it was before.
        assert target.load("chat_1", records) == 0
    assert opened("chat_1", stored_texts(sql_url)[0]) == item("0")


def test_a_lost_lease_keeps_every_write_from_being_done(encrypted: Backend) -> None:
    session, store = encrypted.session("chat_1"), encrypted._store
    with session.exclusive():
        session.add_items(items("a", "b"))
        session.pop_item()
        session.fork("chat_2")
    lost, held = new_lease("chat_1", 60), new_lease("chat_1", 60)
    store.take_lease(lost)
    store.release_lease(lost)
    store.take_lease(held)
    writes: dict[str, Callable[[], object]] = {
        "append": lambda: store.append("chat_1", ["{}"], if_position=None, known=0, lease=lost),
        "pop": lambda: store.pop("chat_1", lease=lost),
        "replace": lambda: store.replace("chat_1", [], if_position=None, known=0, lease=lost),
        "replace_record": lambda: store.replace_record("chat_1", session.position(), "{}", lease=lost),
        "fork": lambda: store.fork("chat_1", "chat_3", upto=None, lease=lost),
        "pop of nothing": lambda: store.pop("chat_1", lease=lost),
    }
    for name, write in writes.items():
        if name == "pop of nothing":
            session.clear_session()
        with pytest.raises(LeaseLostError):
            write()
        assert name == "pop of nothing" or texts(session.get_items()) == ["a"]
    assert encrypted.session("chat_3").position() == 0


def test_hooks_are_told_of_texts_and_not_of_envelopes(url: str) -> None:
    told: list[sessions.Operation] = []
    with sessions.connect(url, encryption_key=KEY, on_operation=told.append) as backend:
        session = backend.session("chat_1")
        session.add_items([{}])
        session.get_items()
        session.pop_item()
        session.add_items(items("a"))
        session.fork("chat_2")
        backend.rekey(["chat_1"])
    names = ["add_items", "get_items", "pop_item", "add_items", "fork", "rekey"]
    assert [operation.name for operation in told] == names
    assert [(operation.rows, operation.bytes) for operation in told[:3]] == [(1, 2)] * 3


# --- what is stored


def test_what_is_stored_is_the_envelope_of_the_sdk(secret_url: str) -> None:
    found = stored_texts(secret_url)
    assert [opened("chat_1", text) for text in found] == items(SECRET, "b")
    # Compact, but for the white space in which the token of a write stands on servers.
    assert all(text.startswith('{"__enc__":1,"v":1,"kid":"hkdf-v1","payload":"gAAAA') for text in found)


@pytest.mark.parametrize("key", ["3mY9lQ5pX0w1cUu7sKq2bZr8tVj4nGh6aEd0fCi1oLk=", "short", "ключ, 鍵", "=" * 44])
def test_a_key_is_what_the_sdk_takes_it_for(sqlite_url: str, key: str) -> None:
    with sessions.connect(sqlite_url, encryption_key=key) as backend:
        backend.session("chat_1").add_items(items("a"))
    [stored] = stored_texts(sqlite_url)
    assert opened("chat_1", stored, key) == item("a")


def test_every_write_stores_nothing_that_can_be_read(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        session = backend.session("chat_1")
        session.replace_items(items(SECRET, SECRET))
        session.replace_record(session.position(), item(SECRET))
        session.fork("chat_2")
        backend.load("chat_3", list(session.records()))
        session.add_items(items(SECRET), if_position=session.position())
    assert len(execute_sql(secret_url, "SELECT id FROM agent_messages")) == 7
    assert "cracked" not in repr(everything(secret_url))
    assert "role" not in repr(everything(secret_url))


def test_equal_items_are_stored_as_different_texts(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items([item("a")] * 20)
    assert len(set(stored_texts(sqlite_url))) == 20


def test_an_envelope_of_another_conversation_does_not_open(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        backend.session("chat_2").replace_items([])
        plant(secret_url, "chat_2", stored_texts(secret_url)[0])
        with pytest.raises(DecryptionError, match="'chat_2'"):
            backend.session("chat_2").get_items()


# --- forks


def test_a_fork_opens_under_its_own_id(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        source = backend.session("chat_1")
        fork = source.fork("chat_2")
        assert fork.get_items() == items(SECRET, "b")
        assert [record.created_at for record in fork.records()] == [record.created_at for record in source.records()]
    assert [opened("chat_2", text) for text in stored_texts(secret_url, "chat_2")] == items(SECRET, "b")


NO_TIME = {"postgresql": "ALTER created_at DROP NOT NULL", "mysql": "MODIFY created_at TIMESTAMP NULL"}


@pytest.mark.parametrize("dialect", ["postgresql", "mysql", "mariadb"])
def test_a_fork_of_rows_without_a_time_is_dated_anew(dialect: str, make_url: Callable[[str], str]) -> None:
    url = make_url(dialect)
    with sessions.connect(url, encryption_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items(SECRET, "b"))
        execute_sql(url, f"ALTER TABLE agent_messages {NO_TIME[dialect.replace('mariadb', 'mysql')]}")
        execute_sql(url, "UPDATE agent_messages SET created_at = NULL")
        fork = session.fork("chat_2")
        assert fork.get_items() == items(SECRET, "b")
        assert None not in [record.created_at for record in fork.records()]


def test_a_fork_ends_at_a_record_and_takes_no_id_that_is_there(encrypted: Backend) -> None:
    session = encrypted.session("chat_1")
    session.add_items(items("a", "b", "c"))
    first = next(session.records()).id
    assert texts(session.fork("chat_2", upto=first).get_items()) == ["a"]
    assert session.fork("chat_3", upto=0).get_items() == []
    with pytest.raises(ConflictError, match="has no record"):
        session.fork("chat_4", upto=session.position() + 1)
    for taken in ("chat_1", "chat_2", "chat_3"):
        with pytest.raises(ConflictError, match="is there already"):
            session.fork(taken)
    assert texts(encrypted.session("chat_2").get_items()) == ["a"]


def test_of_many_forks_to_one_id_one_succeeds(encrypted: Backend) -> None:
    encrypted.session("chat_1").add_items(items("a", "b"))

    def fork(_: int) -> bool:
        with contextlib.suppress(ConflictError):
            encrypted.session("chat_1").fork("chat_2")
            return True
        return False

    assert sum(in_threads(6, fork)) == 1
    assert texts(encrypted.session("chat_2").get_items()) == ["a", "b"]


# --- pops


def test_two_callers_never_get_the_same_item(encrypted: Backend) -> None:
    encrypted.session("chat_1").add_items([{"n": n} for n in range(48)])
    popped = in_threads(6, lambda _: [encrypted.session("chat_1").pop_item() for _ in range(8)])
    assert sorted(found["n"] for part in popped for found in part if found) == list(range(48))
    assert encrypted.session("chat_1").pop_item() is None


def test_writers_and_poppers_lose_nothing(encrypted: Backend) -> None:
    popped: list[Any] = []

    def work(number: int) -> None:
        session = encrypted.session("chat_1")
        for turn in range(10):
            session.add_items(batch(str(number), turn, 2))
            popped.append(session.pop_item())

    in_threads(4, work)
    left = encrypted.session("chat_1").get_items()
    found = sorted((entry["writer"], entry["batch"], entry["part"]) for entry in [*popped, *left])
    assert found == sorted((str(writer), turn, part) for writer in range(4) for turn in range(10) for part in range(2))


# --- what does not open


def reads(backend: Backend) -> dict[str, Callable[[], Any]]:
    session = backend.session("chat_1")
    return {
        "get_items": session.get_items,
        "get_items(limit)": lambda: session.get_items(limit=1),
        "records": lambda: list(session.records()),
        "records(limit)": lambda: list(session.records(limit=1)),
        "pop_item": session.pop_item,
        "fork": lambda: session.fork("chat_2"),
        "search": lambda: list(backend.search("anything")),
        "first_messages": lambda: backend.first_messages(["chat_1"]),
        "load": lambda: backend.load("chat_1", [sessions.Record(1, None, None, "{}")]),
        "rekey": backend.rekey,
    }


_READS = sorted(reads(sessions.connect("memory:")))


@pytest.mark.parametrize("name", _READS)
def test_with_another_key_every_read_is_an_error_and_changes_nothing(secret_url: str, name: str) -> None:
    before = everything(secret_url)
    refusal = pytest.raises(DecryptionError, match="cannot be decrypted: it was written with another key")
    with sessions.connect(secret_url, encryption_key=OTHER) as backend, refusal:
        reads(backend)[name]()
    assert everything(secret_url) == before


@pytest.mark.parametrize("name", [name for name in _READS if name != "first_messages"])
@pytest.mark.parametrize("what", ["plain", "damaged", "no JSON", "no token", "no base64", "no time"])
def test_a_row_that_does_not_open_is_an_error_of_every_read(secret_url: str, what: str, name: str) -> None:
    good = envelope("chat_1", PLAIN)
    row = {
        "plain": PLAIN,
        "damaged": good[:100] + ("A" if good[100] != "A" else "B") + good[101:],
        "no JSON": "CORRUPT",
        "no token": json.dumps({"__enc__": 1, "v": 1, "kid": "hkdf-v1", "payload": "größer"}),
        "no base64": good.replace('"gAAA', '"gA!AA'),
        "no time": good.replace('"gAAA', '"gA!!!!AA'),
    }[what]
    [planted] = plant(secret_url, "chat_1", row)
    before = everything(secret_url)
    with sessions.connect(secret_url, encryption_key=KEY) as backend, pytest.raises(DecryptionError) as caught:
        reads(backend)[name]()
    assert (caught.value.session_id, caught.value.record_id) == ("chat_1", planted)
    assert f"row {planted} of session 'chat_1'" in str(caught.value)
    assert row[:20] not in str(caught.value)
    assert everything(secret_url) == before


def test_an_old_row_that_does_not_open_is_behind_a_limit(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        session = backend.session("chat_2")
        session.replace_items([])
        plant(secret_url, "chat_2", PLAIN)
        session.add_items(items("a", "b"))
        assert texts(session.get_items(limit=2)) == ["a", "b"]
        with pytest.raises(DecryptionError):
            session.get_items(limit=3)


def test_what_does_not_open_can_be_deleted_replaced_and_cleared(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        session = backend.session("chat_1")
        one, other = plant(secret_url, "chat_1", PLAIN, "CORRUPT")
        assert session.delete_record(one)
        session.replace_record(other, item("c"))
        assert texts(session.get_items()) == [SECRET, "b", "c"]
        plant(secret_url, "chat_1", PLAIN)
        session.clear_session()
        assert session.get_items() == []


def test_what_opens_and_is_no_object_is_corrupt_as_ever(secret_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        session = backend.session("chat_1")
        [planted] = plant(secret_url, "chat_1", envelope("chat_1", "[1]"))
        assert texts(session.get_items()) == [SECRET, "b"]
        assert f"row {planted} is no JSON object" in caplog.text
        assert [record.text for record in session.records()][-1] == "[1]"
        assert session.pop_item() == item("b")


def test_an_error_can_be_pickled() -> None:
    error = pickle.loads(pickle.dumps(sessions.errors.decryption_error("chat_1", 17, encrypted=True)))  # noqa: S301
    assert isinstance(error, DecryptionError)
    assert (error.session_id, error.record_id) == ("chat_1", 17)
    assert "row 17 of session 'chat_1'" in str(error)


# --- age


@pytest.fixture
def aged(sql_url: str) -> Iterator[Backend]:
    """A backend that gives what is younger than an hour, and a conversation of 150 older rows and two young ones."""
    with sessions.connect(sql_url, encryption_key=KEY, encryption_ttl=3600) as backend:
        backend.session("chat_1").replace_items([])
        plant(sql_url, "chat_1", *(envelope("chat_1", json.dumps({"n": n}), age=DAY) for n in range(150)))
        backend.session("chat_1").add_items(items("young", "newest"))
        yield backend


def test_what_is_older_is_not_given_and_stays(aged: Backend, sql_url: str, caplog: pytest.LogCaptureFixture) -> None:
    session = aged.session("chat_1")
    assert texts(session.get_items()) == ["young", "newest"]
    assert texts(session.get_items(limit=1)) == ["newest"]
    assert texts(session.get_items(limit=3)) == ["young", "newest"]
    assert [record.item for record in session.records()] == items("young", "newest")
    assert list(aged.search("n")) != []
    assert [match.record.item for match in aged.search("150")] == []
    assert aged.first_messages(["chat_1"]) == {}  # the first rows are old ones
    assert len(stored_texts(sql_url)) == 152
    assert caplog.records == []


def test_a_limit_reaches_over_what_is_older(aged: Backend, sql_url: str) -> None:
    session = aged.session("chat_1")
    plant(sql_url, "chat_1", *(envelope("chat_1", "{}", age=DAY) for _ in range(150)))
    assert texts(session.get_items(limit=2)) == ["young", "newest"]


def test_a_newest_row_that_is_older_is_not_popped(aged: Backend, sql_url: str) -> None:
    session = aged.session("chat_1")
    plant(sql_url, "chat_1", envelope("chat_1", "{}", age=DAY))
    assert session.pop_item() is None
    assert len(stored_texts(sql_url)) == 153
    # Nor is the position that of a row that is given.
    position = session.position()
    session.add_items(items("next"), if_position=position)
    assert session.pop_item() == item("next")


def test_under_a_lost_lease_it_is_told_also_where_nothing_is_popped(aged: Backend, sql_url: str) -> None:
    plant(sql_url, "chat_1", envelope("chat_1", "{}", age=DAY))
    lost, held = new_lease("chat_1", 60), new_lease("chat_1", 60)
    aged._store.take_lease(lost)
    assert aged._store.pop("chat_1", lease=lost)[0] is None
    aged._store.release_lease(lost)
    aged._store.take_lease(held)
    with pytest.raises(LeaseLostError):
        aged._store.pop("chat_1", lease=lost)


def test_a_turn_behind_old_rows_alone_is_written(sql_url: str) -> None:
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").replace_items([])
    plant(sql_url, "chat_1", envelope("chat_1", PLAIN, age=DAY))
    options: dict[str, Any] = {"encryption_key": KEY, "encryption_ttl": 3600, "on_conflict": "raise"}

    async def turn() -> None:
        async with AgentsSession.from_url("chat_1", sql_url, **options) as session:
            assert await session.get_items() == []
            await session.add_items(items("a"))
            assert await session.get_items() == items("a")

    asyncio.run(turn())


def test_what_is_forked_loaded_and_rekeyed_is_as_old_as_it_was(sql_url: str) -> None:
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").replace_items([])
        plant(sql_url, "chat_1", envelope("chat_1", PLAIN, age=DAY))
        backend.session("chat_1").fork("chat_2")
        [record] = backend.session("chat_1").records()
        assert record.created_at is not None
        backend.load("chat_3", [record._replace(created_at=record.created_at - timedelta(days=3))])
    with sessions.connect(sql_url, encryption_key=[OTHER, KEY], encryption_ttl=DAY / 2) as backend:
        backend.rekey()
        assert [backend.session(f"chat_{number}").get_items() for number in (1, 2, 3)] == [[], [], []]


def test_what_is_dated_later_than_now_is_encrypted_now(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, encryption_key=KEY) as backend:
        backend.load("chat_1", [sessions.Record(1, datetime(2199, 1, 1), None, PLAIN)])  # noqa: DTZ001  (as records() have it)
    [stored] = stored_texts(sqlite_url)
    # What is of the future the SDK takes for damaged.
    assert fernet("chat_1").decrypt(json.loads(stored)["payload"], ttl=60)


# --- keys: several of them, other ones


def test_the_first_key_writes_and_each_one_reads(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=[OTHER, KEY]) as backend:
        backend.session("chat_1").add_items(items("c"))
        assert texts(backend.session("chat_1").get_items()) == [SECRET, "b", "c"]
    assert opened("chat_1", stored_texts(secret_url)[-1], OTHER) == item("c")


def test_rekey_brings_all_under_the_newest_key(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=[OTHER, KEY]) as backend:
        backend.session("chat_2").add_items(items("new"))
        backend.session("chat_1").fork("chat_3")
        before = [list(backend.session(name).records()) for name in ("chat_1", "chat_2", "chat_3")]
        listed = backend.list_sessions(order="id")
        assert backend.rekey() == sessions.Rekeyed(3, 2)  # the fork and the new one are under it already
        assert backend.rekey() == sessions.Rekeyed(3, 0)
        assert [list(backend.session(name).records()) for name in ("chat_1", "chat_2", "chat_3")] == before
        # Nobody has written anything new.
        assert [info.updated_at for info in backend.list_sessions(order="id")] == [info.updated_at for info in listed]
    assert [opened("chat_1", text, OTHER) for text in stored_texts(secret_url)] == items(SECRET, "b")
    with sessions.connect(secret_url, encryption_key=OTHER) as backend:
        assert texts(backend.session("chat_1").get_items()) == [SECRET, "b"]


def test_rekey_is_for_the_conversations_that_are_named(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        backend.session("chat_2").add_items(items("a"))
    with sessions.connect(secret_url, encryption_key=[OTHER, KEY]) as backend:
        assert backend.rekey(["chat_2", "none"]) == sessions.Rekeyed(2, 1)
    assert opened("chat_1", stored_texts(secret_url)[0]) == item(SECRET)


def test_rekey_finds_what_no_listing_shows(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items(items("a"))
    execute_sql(sqlite_url, "DELETE FROM agent_sessions")
    with sessions.connect(sqlite_url, encryption_key=[OTHER, KEY]) as backend:
        assert backend.rekey() == sessions.Rekeyed(1, 1)


def test_rekey_goes_on_where_it_was_interrupted(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sessions._stores import encrypted

    monkeypatch.setattr(encrypted, "_REKEYED_ROWS", 10)
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items([{"n": n} for n in range(35)])
    with sessions.connect(sql_url, encryption_key=[OTHER, KEY]) as backend:
        inner: Any = backend._store._store  # type: ignore[attr-defined]
        rewrite, calls = inner.rewrite, iter(range(10))
        with monkeypatch.context() as patch:
            patch.setattr(inner, "rewrite", lambda *rows: _unless_third(calls, rewrite, *rows))
            with pytest.raises(KeyboardInterrupt):
                backend.rekey()
        assert [under(OTHER, text) for text in stored_texts(sql_url)].count(True) == 20
        assert backend.session("chat_1").get_items() == [{"n": n} for n in range(35)]
        assert backend.rekey() == sessions.Rekeyed(1, 15)
    with sessions.connect(sql_url, encryption_key=OTHER) as backend:
        assert backend.session("chat_1").get_items() == [{"n": n} for n in range(35)]


def _unless_third(calls: Iterator[int], rewrite: Callable[..., int], *arguments: Any) -> int:
    if next(calls) == 2:
        raise KeyboardInterrupt
    return rewrite(*arguments)


def under(key: str, stored: str) -> bool:
    with contextlib.suppress(Exception):
        return bool(opened("chat_1", stored, key))
    return False


def test_rekey_leaves_what_others_have_changed_meanwhile(sql_url: str) -> None:
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a", "b"))
        [first, second] = session.records()
        old = stored_texts(sql_url)
        session.replace_record(first.id, item("A"))
        new = [envelope("chat_1", json.dumps(item(text))) for text in ("x", "y")]
        rows = list(zip((first.id, second.id), old, new, strict=True))
        assert backend._store.rewrite("chat_1", rows) == 1
        assert texts(session.get_items()) == ["A", "y"]
        # As after a lost answer: what is done is done.
        assert backend._store.rewrite("chat_1", rows) == 1


def test_rekey_does_not_disturb_writers(sql_url: str) -> None:
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items([{"n": n} for n in range(40)])
    done = threading.Event()
    with sessions.connect(sql_url, encryption_key=[OTHER, KEY]) as backend:

        def write() -> list[Any]:
            session, popped = backend.session("chat_1"), []
            while not done.is_set():
                session.add_items(items("more"))
                popped.append(session.pop_item())
            return popped

        def work(number: int) -> Any:
            if number:
                return write()
            try:
                return [backend.rekey() for _ in range(3)]
            finally:
                done.set()

        rekeyed, popped = in_threads(2, work)
        assert sum(found.records for found in rekeyed) >= 40
        assert set(texts(popped)) == {"more"}
        assert backend.session("chat_1").get_items() == [{"n": n} for n in range(40)]


def test_rekey_goes_on_behind_what_does_not_open_and_says_it_at_the_end(secret_url: str) -> None:
    with sessions.connect(secret_url, encryption_key=KEY) as backend:
        for name in ("chat_0", "chat_2"):
            backend.session(name).add_items(items("a"))
    [planted] = plant(secret_url, "chat_1", PLAIN)
    refusal = pytest.raises(DecryptionError, match=f"row {planted} of session 'chat_1' is not encrypted")
    with sessions.connect(secret_url, encryption_key=[OTHER, KEY]) as backend, refusal:
        backend.rekey()
    assert opened("chat_2", stored_texts(secret_url, "chat_2")[0], OTHER) == item("a")
    assert stored_texts(secret_url)[-1] == PLAIN


def test_adopt_encrypts_what_was_plain(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("a", "b"))
        [planted] = plant(sql_url, "chat_1", "CORRUPT")
        before = list(backend.session("chat_1").records())
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_2").add_items(items("c"))
        assert backend.rekey(adopt=True) == sessions.Rekeyed(2, 3)
        assert list(backend.session("chat_1").records()) == before
        assert before[-1].id == planted
    assert opened("chat_1", stored_texts(sql_url)[0]) == item("a")


def test_adopt_takes_no_envelope_that_does_not_open(secret_url: str) -> None:
    before = everything(secret_url)
    with sessions.connect(secret_url, encryption_key=OTHER) as backend, pytest.raises(DecryptionError):
        backend.rekey(adopt=True)
    assert everything(secret_url) == before


def test_a_write_that_was_rekeyed_before_its_answer_is_found_again(server_url: str) -> None:
    from sessions._stores.settling import Call, settle_append

    with sessions.connect(server_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items(items("a"))
        [written] = stored_texts(server_url)
    with sessions.connect(server_url, encryption_key=[OTHER, KEY]) as backend:
        assert backend.rekey().records == 1
        store = backend._store._store  # type: ignore[attr-defined]
        with connection_of(backend) as connection:
            newest = settle_append(store._dialect, connection, Call("chat_1", [written]))
        assert newest == backend.session("chat_1").position()
        assert texts(backend.session("chat_1").get_items()) == ["a"]


def test_a_key_is_needed_to_rekey(backend: Backend) -> None:
    with pytest.raises(ConfigurationError, match="no key"):
        backend.rekey()


def test_a_bound_connection_is_not_rekeyed(secret_url: str) -> None:
    before = everything(secret_url)
    with contextlib.closing(connect_raw(secret_url)) as connection:
        bound = sessions.bind(connection, encryption_key=[OTHER, KEY])
        with pytest.raises(ConfigurationError, match="use connect"):
            bound.rekey()
    assert everything(secret_url) == before


# --- options


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "encryption_key holds an empty key"),
        (["hunter2", ""], "encryption_key holds an empty key"),
        ([], "encryption_key is a list without a key"),
        (b"hunter2", "encryption_key is a bytes without a key"),
        (["hunter2", b"hunter2"], "encryption_key holds a bytes"),
        ([None], "encryption_key holds a NoneType"),
        (17, "encryption_key is a int without a key"),
        ("hunter2\ud800", "encryption_key holds a lone surrogate"),
    ],
)
def test_what_is_no_key_is_refused_and_not_printed(key: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        sessions.connect("memory:", encryption_key=key)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("ttl", [0, -1, "1", True, float("nan")])
def test_what_is_no_age_is_refused(ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match="encryption_ttl is"):
        sessions.connect("memory:", encryption_key=KEY, encryption_ttl=ttl)
    with pytest.raises(ConfigurationError, match="without encryption_key"):
        sessions.connect("memory:", encryption_ttl=60)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'agent-sql-sessions\[crypto\]'"):
        sessions.connect("memory:", encryption_key=KEY)
    with sessions.connect("memory:") as backend:
        backend.session("chat_1").add_items(items("a"))


def test_a_bound_connection_and_a_pool_take_a_key(sql_url: str) -> None:
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items(items("a"))
        with contextlib.closing(connect_raw(sql_url)) as connection:
            for bound in (sessions.bind(connection, encryption_key=KEY), backend.bind(connection)):
                session = bound.session("chat_1")
                session.add_items(items("b"))
                assert texts(session.get_items()) == ["a", "b"]
                assert session.pop_item() == item("b")
                session.fork("chat_2")
                assert texts(bound.session("chat_2").get_items()) == ["a"]
                bound.session("chat_2").clear_session()
            with pytest.raises(DecryptionError):
                sessions.bind(connection, encryption_key=OTHER).session("chat_1").get_items()
            connection.rollback()

        class Pool:
            @contextlib.contextmanager
            def connection(self) -> Iterator[Any]:
                with contextlib.closing(connect_raw(sql_url)) as lent:
                    yield lent

        with sessions.connect(pool=Pool(), encryption_key=KEY) as pooled:
            pooled.session("chat_1").add_items(items("c"))
        assert texts(backend.session("chat_1").get_items()) == ["a", "c"]


def test_the_sdks_sessions_take_a_key(sql_url: str) -> None:
    async def turn() -> None:
        async with AgentsSession.from_url("chat_1", sql_url, encryption_key=KEY) as session:
            await session.add_items(items(SECRET))
            assert await session.get_items() == items(SECRET)
            assert await session.pop_item() == item(SECRET)
            await session.add_items(items(SECRET))

    asyncio.run(turn())
    assert opened("chat_1", stored_texts(sql_url)[0]) == item(SECRET)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_process_goes_on_with_the_key(sql_url: str) -> None:
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items(items("a"))
        child = os.fork()
        if not child:
            status = 1
            try:
                backend.session("chat_1").add_items(items("child"))
                status = int(texts(backend.session("chat_1").get_items()) != ["a", "child"])
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert texts(backend.session("chat_1").get_items()) == ["a", "child"]


# --- where a key could show


def test_a_key_is_in_no_repr_log_error_or_traceback(secret_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sessions")
    shown: list[str] = []
    with sessions.connect(secret_url, encryption_key=[OTHER]) as backend:
        session = backend.session("chat_1")
        store = backend._store
        shown += map(repr, (backend, session, store, store.options, session.records(), backend.check()))
        for name, read in reads(backend).items():
            with pytest.raises(DecryptionError) as caught:
                read()
            told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            # What the test itself holds is its own.
            told.stack = traceback.StackSummary.from_list(
                [frame for frame in told.stack if "sessions/" in frame.filename]
            )
            shown += [name, *told.format()]
            shown.append(repr(pickle.dumps(caught.value)))
            assert caught.value.__cause__ is None
    shown.append(caplog.text)
    assert OTHER not in "".join(shown)
    assert str(OTHER.encode()) not in "".join(shown)


def test_a_backend_with_a_key_cannot_be_pickled(encrypted: Backend) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(encrypted)


# --- a look at the database


@pytest.mark.parametrize(
    ("keys", "verdict", "found"),
    [
        ([KEY], "ok", "the key opens row"),
        ([OTHER, KEY], "warning", "is under an older key"),
        ([OTHER], "error", "cannot be decrypted"),
    ],
)
def test_check_tries_the_key(secret_url: str, keys: list[str], verdict: str, found: str) -> None:
    before = everything(secret_url)
    with sessions.connect(secret_url, encryption_key=keys) as backend:
        [check] = [check for check in backend.check() if check.name == "encryption"]
    assert (check.verdict, found in check.found) == (verdict, True)
    assert bool(check.remedy) == (verdict != "ok")
    assert everything(secret_url) == before


def test_check_says_that_there_is_a_key_where_nothing_can_be_tried(sql_url: str) -> None:
    with sessions.connect(sql_url, encryption_key=KEY, create_tables=False) as backend:
        assert backend.check()[-1].verdict == "skipped"
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").replace_items([])
        assert backend.check()[-1][:3] == ("encryption", "ok", "a key is given, and there is no row to try it on")
    with sessions.connect(sql_url) as backend:
        assert "encryption" not in [check.name for check in backend.check()]


def test_a_load_of_what_is_too_old_to_be_read_goes_on_where_it_ended(sql_url: str) -> None:
    with sessions.connect("memory:") as source:
        source.session("chat_1").add_items(batch("old", 0, 700))
        old = datetime.now(UTC).replace(microsecond=0, tzinfo=None) - timedelta(days=30)
        records = [record._replace(created_at=old) for record in source.session("chat_1").records()]
    with sessions.connect(sql_url, encryption_key=KEY, encryption_ttl=DAY) as backend:
        with contextlib.suppress(ZeroDivisionError):
            backend.load("chat_1", (record if number < 600 else 1 / 0 for number, record in enumerate(records)))  # type: ignore[misc]
        assert backend.load("chat_1", records) == 200
        assert backend.load("chat_1", records) == 0
        assert backend.session("chat_1").get_items() == []
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        assert len(backend.session("chat_1").get_items()) == 700


# --- beside an integrity key

BOTH: dict[str, Any] = {"encryption_key": KEY, "integrity_key": "the integrity key, of many characters"}


def _encryption_line(url: str, **options: Any) -> tuple[str, str]:
    with sessions.connect(url, **options) as backend:
        [check] = [check for check in backend.check() if check.name == "encryption"]
        assert len(backend.check()) > 3
        return check.verdict, f"{check.found}; {check.remedy}"


@pytest.mark.parametrize("written", [{}, {"integrity_key": "another integrity key, of as many characters"}])
def test_check_says_under_both_keys_what_it_cannot_read(sql_url: str, written: dict[str, Any]) -> None:
    with sessions.connect(sql_url, **BOTH) as backend:
        backend.session("chat_1").add_items(items("with the keys"))
    with sessions.connect(sql_url, **written) as backend:
        backend.session("chat_2").add_items(items("without"))
    with sessions.connect(sql_url) as backend:
        set_updated_at(backend, "chat_1", time.time() - DAY)
    verdict, told = _encryption_line(sql_url, **BOTH)
    assert (verdict, "rekey --adopt" in told) == ("error", True)


def test_check_says_under_both_keys_that_there_are_no_seals_yet(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items(items("before the keys were given"))
    verdict, told = _encryption_line(sql_url, create_tables=False, **BOTH)
    assert verdict == "skipped"
    assert "agent_session_seals" in told
