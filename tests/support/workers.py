"""What child processes run; a module of its own, so that a spawned child can import it."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import sessions
from support.samples import batch


def in_processes(work: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Run work(*a) for each a in a spawned process of its own; their results."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(arguments), mp_context=context) as pool:
        return [future.result() for future in [pool.submit(work, *a) for a in arguments]]


def add_batches(url: str, session_id: str, writer: str, batches: int, size: int, **options: Any) -> None:
    with sessions.Session.from_url(session_id, url, **options) as session:
        for number in range(batches):
            session.add_items(batch(writer, number, size))


def pop_many(url: str, session_id: str, count: int) -> list[Any]:
    with sessions.Session.from_url(session_id, url) as session:
        return [session.pop_item() for _ in range(count)]
