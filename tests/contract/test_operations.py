"""on_operation and the log at level DEBUG: what happened, without content."""

import asyncio
import dataclasses
import json
import logging
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest

import sessions
from sessions import Operation
from sessions._stores import observing
from sessions.openai_agents import AgentsSession
from support.proxy import Proxy
from support.samples import item, items
from support.servers import connect_raw

SECRET = "a secret"  # in every item and in every id


@pytest.fixture
def told() -> list[Operation]:
    return []


@pytest.fixture
def backend(url: str, told: list[Operation]) -> Iterator[sessions.Backend]:
    with sessions.connect(url, on_operation=told.append) as backend:
        yield backend


@pytest.fixture
def session(backend: sessions.Backend) -> sessions.Session:
    return backend.session(f"chat of {SECRET}")


def outcomes(told: list[Operation]) -> list[tuple[str, str]]:
    return [(operation.name, operation.outcome) for operation in told]


def work(backend: sessions.Backend) -> None:
    """Each kind of operation, with the secret wherever it can be."""
    session = backend.session(f"chat of {SECRET}")
    session.add_items(items(SECRET, SECRET))
    session.get_items()
    with pytest.raises(sessions.ConflictError):
        session.add_items(items(SECRET), if_position=10**9)
    with pytest.raises(sessions.InvalidItemError):
        session.add_items([{SECRET: {SECRET}}])
    session.pop_item()
    session.clear_session()
    backend.list_sessions()


Call = Callable[[sessions.Backend, sessions.Session, sessions.Record], object]

# What is asked as one, and what is asked in several transactions or pages.
CALLS: dict[str, Call] = {
    "get_items": lambda _, session, __: session.get_items(),
    "add_items": lambda _, session, __: session.add_items(items("c")),
    "pop_item": lambda _, session, __: session.pop_item(),
    "clear_session": lambda _, session, __: session.clear_session(),
    "position": lambda _, session, __: session.position(),
    "replace_items": lambda _, session, __: session.replace_items(items("c")),
    "records": lambda _, session, __: list(session.records()),
    "fork": lambda _, session, __: session.fork("another"),
    "delete_record": lambda _, session, record: session.delete_record(record.id),
    "replace_record": lambda _, session, record: session.replace_record(record.id, item("c")),
    "list_sessions": lambda backend, _, __: backend.list_sessions(),
    "delete_sessions": lambda backend, session, _: backend.delete_sessions([session.session_id]),
    "sizes": lambda backend, session, _: backend.sizes([session.session_id]),
    "first_messages": lambda backend, session, _: backend.first_messages([session.session_id]),
    "unlisted_sessions": lambda backend, _, __: list(backend.unlisted_sessions()),
    "check": lambda backend, _, __: backend.check(),
}
LONG_CALLS: dict[str, Call] = {
    "search": lambda backend, _, __: list(backend.search("b")),
    "prune": lambda backend, _, __: backend.prune(timedelta(0)),
    "stats": lambda backend, _, __: backend.stats(),
    "load": lambda backend, _, record: backend.load("another", [record]),
    "exclusive": lambda _, session, __: be_alone(session),
}


def be_alone(session: sessions.Session) -> None:
    with session.exclusive():
        pass


@pytest.mark.parametrize("name", [*CALLS, *LONG_CALLS])
def test_a_call_is_told_by_the_name_of_its_method(
    backend: sessions.Backend, session: sessions.Session, told: list[Operation], name: str
) -> None:
    session.add_items(items("a", "b"))
    record = next(session.records())
    told.clear()
    (CALLS | LONG_CALLS)[name](backend, session, record)
    assert set(outcomes(told)) == {(name, "ok")}
    assert len(told) == 1 or name in LONG_CALLS


def test_every_public_operation_is_told() -> None:
    methods = {
        name for cls in (sessions.Session, sessions.Backend) for name, member in vars(cls).items() if callable(member)
    }
    others = {"session", "bind", "close", "rekey", "verify", "seal"}  # the last three do nothing without a key
    assert {name for name in methods if not name.startswith("_")} - others == {*CALLS, *LONG_CALLS}


def test_an_operation_says_what_was_done(
    backend: sessions.Backend, session: sessions.Session, told: list[Operation]
) -> None:
    session.add_items(items("a", "b"))
    session.get_items()
    session.pop_item()
    length = len(json.dumps(item("a"), separators=(",", ":")))
    dialect = {"PostgresBackend": "postgresql", "MySQLBackend": "mysql", "SQLiteBackend": "sqlite"}
    for operation in told:
        assert operation.dialect == dialect.get(type(backend).__name__, "memory")
        assert (operation.attempts, operation.outcome) == (1, "ok")
        assert operation.milliseconds > 0
    added, read, popped = told
    assert (added.rows, read.rows, popped.rows) == (2, 2, 1)
    assert (added.bytes, popped.bytes) == (2 * length, length)
    assert read.bytes >= added.bytes  # a server's rows have white space of ours


def test_bytes_are_those_of_utf8(url: str, told: list[Operation]) -> None:
    with sessions.connect(url, on_operation=told.append, ensure_ascii=False) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        session.add_items(items("\u8868\U0001f600"))
        session.get_items(1)
    ascii_alone, written, read = told
    assert written.bytes == ascii_alone.bytes - 1 + 3 + 4
    assert read.bytes >= written.bytes


def test_a_page_of_records_is_an_operation(session: sessions.Session, told: list[Operation]) -> None:
    session.add_items(items(*"abc") * 10)
    told.clear()
    records = session.records()
    next(records)
    # The page, where all of it ends, and whether the page still stands before that.
    first = [("records", 20), ("position", 0), ("records", 1)]
    assert [(operation.name, operation.rows) for operation in told] == first
    list(records)
    assert [(operation.name, operation.rows) for operation in told[3:]] == [("records", 10)]


def test_position_reads_no_text(session: sessions.Session, told: list[Operation]) -> None:
    session.add_items(items("a"))
    session.position()
    assert (told[-1].name, told[-1].bytes) == ("position", 0)


def test_what_failed_is_told_with_the_name_of_its_error(session: sessions.Session, told: list[Operation]) -> None:
    session.add_items(items("a"))
    told.clear()
    with pytest.raises(sessions.ConflictError):
        session.add_items(items("b"), if_position=0)
    assert outcomes(told) == [("add_items", "ConflictError")]
    assert (told[0].rows, told[0].bytes, told[0].attempts) == (0, 0, 1)


@pytest.mark.parametrize("name", ["add_items", "replace_items", "replace_record"])
def test_an_item_that_is_refused_is_told_and_nobody_is_asked(
    session: sessions.Session, told: list[Operation], name: str
) -> None:
    refused: list[Any] = [{"a": float("nan")}]
    with pytest.raises(sessions.InvalidItemError):
        session.replace_record(1, refused[0]) if name == "replace_record" else getattr(session, name)(refused)
    assert outcomes(told) == [(name, "InvalidItemError")]
    assert told[0].attempts == 0


def test_further_attempts_are_counted(server_url: str, told: list[Operation]) -> None:
    with (
        Proxy(server_url) as proxy,
        sessions.connect(proxy.url, retry_delay=0.001, on_operation=told.append) as backend,
    ):
        session = backend.session("chat_1")
        session.add_items(items("a"))
        proxy.cut()
        session.get_items()
        session.get_items()
    assert [operation.attempts for operation in told] == [1, 2, 1]
    assert {operation.outcome for operation in told} == {"ok"}


def test_nothing_of_an_item_or_an_id_is_told(
    backend: sessions.Backend, told: list[Operation], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sessions")
    work(backend)
    assert len(told) == 7
    assert SECRET not in str(list(map(dataclasses.astuple, told)))
    assert SECRET not in caplog.text


def test_ids_are_told_on_request(url: str, told: list[Operation], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "sessions")
    with sessions.connect(url, on_operation=told.append, operation_ids=True) as backend:
        work(backend)
    assert [operation.session_id for operation in told] == [f"chat of {SECRET}"] * 6 + [None]
    assert [SECRET in line for line in debug_lines(caplog)] == [True] * 6 + [False]


def test_a_hook_that_raises_changes_nothing_and_is_logged_once(
    url: str, told: list[Operation], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Operation) -> None:
        raise OSError("no network")

    with sessions.connect(url, on_operation=[broken, told.append]) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        with pytest.raises(sessions.ConflictError):
            session.add_items(items("b"), if_position=0)
        assert session.get_items() == items("a")
    assert [operation.outcome for operation in told] == ["ok", "ConflictError", "ok"]
    assert [record.levelname for record in caplog.records if "on_operation" in record.message] == ["ERROR"]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
def test_a_time_limit_that_ends_in_a_hook_goes_on(url: str, told: list[Operation]) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        raise RuntimeError("time is up")

    def slow(operation: Operation) -> None:
        if operation.name == "add_items":
            signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        with sessions.connect(url, on_operation=[slow, told.append]) as backend:
            session = backend.session("chat_1")
            with pytest.raises(RuntimeError, match="time is up"):
                session.add_items(items("a"))
            assert session.get_items() == items("a")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [operation.name for operation in told] == ["get_items"]


def test_what_a_hook_does_is_not_told(url: str) -> None:
    def keep(operation: Operation) -> None:
        keeper.session("kept").add_items(items(operation.name))

    with sessions.connect(url, on_operation=keep) as keeper:
        keeper.session("chat_1").get_items()
        assert len(keeper.session("kept").get_items()) == 1


def test_the_sdks_sessions_are_told(url: str, told: list[Operation]) -> None:
    async def converse() -> None:
        async with AgentsSession.from_url("chat_1", url, on_conflict="raise", on_operation=told.append) as session:
            await session.get_items()
            await session.add_items(items("a"))

    asyncio.run(converse())
    assert outcomes(told) == [("get_items", "ok"), ("add_items", "ok")]


def test_a_bound_connection_is_told(sql_url: str, told: list[Operation]) -> None:
    with sessions.connect(sql_url, on_operation=told.append) as backend:
        backend.session("chat_1").add_items(items("a"))
        with closing(connect_raw(sql_url)) as connection:
            backend.bind(connection).session("chat_1").get_items()
            sessions.bind(connection, on_operation=told.append).session("chat_1").position()
    assert [operation.name for operation in told] == ["add_items", "get_items", "position"]


# --- the log


def debug_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]


def test_an_operation_is_a_line_of_the_log_at_level_debug(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with sessions.connect(url) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a", "b"))
        assert debug_lines(caplog) == []
        caplog.set_level(logging.DEBUG, "sessions")
        session.get_items()
        [line] = debug_lines(caplog)
    assert re.search(r": get_items: ok after \d+\.\d{3} ms, rows 2, bytes \d+, attempts 1$", line)


# --- nothing for those who do not ask


def test_without_a_hook_no_clock_is_read_and_nothing_is_counted(
    url: str, told: list[Operation], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(observing, "perf_counter", forbidden)
    monkeypatch.setattr(observing.ObservedStore, "__init__", forbidden)
    with sessions.connect(url) as backend:
        work(backend)
    with sessions.connect(url, on_operation=told.append) as backend, pytest.raises(AssertionError):
        backend.session("chat_1").get_items()


async def _asynchronous(_: Operation) -> None: ...


@pytest.mark.parametrize("hook", ["print", 5, {print}, [print, None], _asynchronous, [_asynchronous]])
def test_what_is_no_function_is_refused(hook: Any) -> None:
    with pytest.raises(sessions.ConfigurationError, match=r"on_operation is .*; pass a"):
        sessions.connect("memory:", on_operation=hook)
