"""Each call has a thread of its own, whatever the threads of the event loop wait for."""

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import sessions
from embedding.application import connected
from sessions import _awaiting
from sessions.openai_agents import AgentsSession
from support.children import Child
from support.samples import items, texts


async def test_who_waits_for_a_lock_keeps_no_thread_from_who_holds_it(sql_url: str) -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    with (
        sessions.connect(sql_url, max_retries=0, statement_timeout=10) as backend,
        connected(sql_url, check_same_thread=False) as connection,
    ):
        backend.session("chat").add_items(items("a"))
        owner = AgentsSession(sessions.bind(connection).session("chat"))
        await owner.add_items(items("b"))
        others = [asyncio.ensure_future(AgentsSession(backend.session("chat")).add_items(items("d"))) for _ in range(3)]
        await asyncio.sleep(0)  # they have begun
        await owner.add_items(items("c"))
        connection.commit()
        await asyncio.gather(*others)
        assert texts(backend.session("chat").get_items()) == ["a", "b", "c", "d", "d", "d"]


async def test_a_call_sees_the_context_of_who_awaits_it() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen = []

    def hook(operation: sessions.Operation) -> None:
        seen.append((operation.name, variable.get()))

    with sessions.connect("memory:", on_operation=hook) as backend:
        variable.set("of the request")
        session = AgentsSession(backend.session("chat"))
        await session.add_items(items("a"))
        await session.get_items()
    assert seen == [("add_items", "of the request"), ("get_items", "of the request")]


async def test_a_process_without_further_threads_does_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_awaiting, "_executors", {})
    session = AgentsSession(sessions.InMemorySession("chat"))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        await session.add_items(items("a"))
        with pytest.raises(sessions.InvalidItemError):
            await session.add_items([{"bad": float("nan")}])
    # Nor again, now that there are threads.
    assert texts(await session.get_items()) == ["a"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
def test_a_forked_child_has_threads_of_its_own(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        asyncio.run(AgentsSession(backend.session("chat")).add_items(items("of the parent")))
        Child(lambda: asyncio.run(AgentsSession(backend.session("chat")).add_items(items("of the child")))).result()
        assert texts(backend.session("chat").get_items()) == ["of the parent", "of the child"]


def test_it_works_at_the_end_of_the_program(sqlite_url: str) -> None:
    script = f"""
import asyncio, atexit
from sessions import _awaiting
from sessions.openai_agents import AgentsSession

async def save():
    async with AgentsSession.from_url("chat", {sqlite_url!r}) as session:
        await session.add_items([{{"role": "user", "content": "last words"}}])

atexit.register(lambda: asyncio.run(save()))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    with sessions.Session.from_url("chat", sqlite_url) as session:
        assert texts(session.get_items()) == ["last words"]
